//! Writing: rows in, acknowledged rows out.
//!
//! A statement is planned to rows of cells for one prepared CQL statement: the rows of a query for an `INSERT`
//! ([`super::insert`]), the keys that its `WHERE` names for an `UPDATE` or a `DELETE` ([`mutate`]). A [`writer`]
//! sends them. It groups the rows at hand by partition, because a batch of rows of one partition costs the nodes
//! little more than a row, and joins a few small groups that the same nodes hold, which saves requests: whichever of
//! these nodes it is sent to writes its own copy itself ([`group`]). It has as many
//! requests under way as the nodes answer without queueing ([`pace`]), and no more rows a second than the catalog
//! allows ([`super::throttle`]).
//!
//! # What is safe to repeat
//!
//! All cells of a statement carry a timestamp that is fixed when it is planned, so a repeated row writes the same
//! cells over themselves. Two things are different in Cassandra. Counting and adding to a list are
//! other changes each time; they are sent once. A whole list that is not frozen is written as elements with keys that
//! the node makes up, after a deletion that is a microsecond older; a repeat with the same timestamp would leave the
//! elements twice. It is sent again with a later timestamp, which deletes what the try before it wrote ([`Repeat`]).
//!
//! In reading order: [`using`], [`keys`], [`assign`], [`maps`], [`mutate`], [`group`], [`pace`], [`writer`].

pub mod assign;
pub mod group;
pub mod keys;
pub mod maps;
pub mod mutate;
pub mod pace;
pub mod using;
pub mod writer;

use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use scylla::statement::Consistency;

use super::options::{CassandraOptions, consistency};

/// Whether a request may be sent again when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It writes the same cells again.
    Same,
    /// With a timestamp of its own, a microsecond later than that of what was sent before.
    Later,
    /// It would be applied twice.
    Never,
}

/// A list whose elements are cells of their own, with keys that the node makes up.
pub(super) fn is_open_list(cql: &ColumnType<'_>) -> bool {
    matches!(cql, ColumnType::Collection { frozen: false, typ: CollectionType::List(_) })
}

pub(super) fn is_counter(cql: &ColumnType<'_>) -> bool {
    matches!(cql, ColumnType::Native(NativeType::Counter))
}

/// The session's level of consistency, or else the catalog's.
pub(super) fn write_consistency(chosen: Option<&str>, options: &CassandraOptions) -> Consistency {
    chosen.and_then(consistency).unwrap_or_else(|| options.write_consistency())
}
