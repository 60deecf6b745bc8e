//! The schema `pg_catalog`.
