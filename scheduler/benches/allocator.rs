//! How long the allocator takes to decide.

fn main() {}
