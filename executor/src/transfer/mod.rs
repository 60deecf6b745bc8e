//! Tables as folders of Parquet files that can be believed.
//!
//! A folder holds data files and a [`manifest`] of what they are: the ranges of the ring, rows, bytes and the SHA-256 of
//! each file. Parquet files have no checksum of their own that their readers check, so nothing here is decoded, or taken
//! for done, before its hash has been compared. JSON that tells of files carries its own hash ([`sealed`]).
//!
//! [`TransferWriteExec`] writes its input's partitions as files and gives a row for each; [`TransferReadExec`] reads files
//! back. Both may run anywhere and more than once: a file comes into its place whole, under its name, or not at all.
//!
//! In reading order: [`error`], [`sealed`], [`manifest`], [`storable`], [`part`], [`whole`], [`write`], [`hive`], [`read`].

pub mod error;
pub mod hive;
pub mod manifest;
pub mod part;
pub mod read;
pub mod sealed;
pub mod storable;
pub mod whole;
pub mod write;

pub use error::TransferError;
pub use read::TransferReadExec;
pub use write::TransferWriteExec;
