//! A cluster in a file: what the allocator would do with it, in seconds instead of days.
