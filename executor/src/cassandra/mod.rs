//! Apache Cassandra as a DataFusion source and sink.
//!
//! Usable by itself: register a [`CassandraCatalog`] with any DataFusion session, and every table
//! is `catalog.keyspace.table`. Nothing here knows of servers, queues or Ballista. The example
//! `join_memtable` of this crate joins a Cassandra table with a `MemTable` so.
//!
//! # How a scan works
//!
//! The ring is cut into token ranges, each within one set of replicas ([`split`]). A scan
//! ([`CassandraScanExec`]) is a unary operator over an in-memory source whose rows describe those
//! ranges, one partition of the source for one partition of the scan; so an engine that shares a
//! plan out by slicing its memory sources shares the ranges out too. A partition asks the replicas
//! for its ranges, several at a time, and decodes the cells of each page straight into Arrow
//! builders ([`decode`]). A query that names whole partition keys reads those and no ranges.
//!
//! # Types
//!
//! | CQL | Arrow |
//! | --- | --- |
//! | `ascii`, `text`, `varchar` | `Utf8`; empty text stays empty |
//! | `boolean` | `Boolean` |
//! | `tinyint`, `smallint`, `int`, `bigint`, `counter` | `Int8`, `Int16`, `Int32`, `Int64`, `Int64` |
//! | `float`, `double` | `Float32`, `Float64` |
//! | `decimal`, `varint` | `Decimal128` or `Decimal256` where declared (see [`declared`]), else `Utf8`, with all digits and the scale (`0.50`, `1E+2`): no Arrow decimal holds every value |
//! | `blob` | `Binary` |
//! | `timestamp` | `Timestamp(Millisecond, "UTC")` |
//! | `date`, `time` | `Date32`, `Time64(Nanosecond)` |
//! | `duration` | `Interval(MonthDayNano)` |
//! | `uuid`, `timeuuid`, `inet` | `Utf8` |
//! | `list`, `set` | `List`; empty only if frozen, because Cassandra keeps no other empty collection |
//! | `map` | `Map`, entries in the order of Cassandra's keys |
//! | tuple | `Struct` of `c0`, `c1`, ...; values that are missing at its end are null |
//! | user-defined type | `Struct`; fields that were added later are null in older values |
//! | `vector<t, n>` | `FixedSizeList` |
//!
//! An empty value of a type of fixed size, which Cassandra allows, is read as null. What is read and
//! written again has the same bytes, but for such empty values and for missing fields, which are written as nulls.
//!
//! In reading order: [`options`], [`session`], [`error`], [`cluster`], [`catalog`], [`table`], [`pushdown`],
//! [`split`], [`scan`], [`decode`], [`types`], [`declared`], [`insert`], [`encode`], [`ddl`].

pub mod catalog;
pub mod cluster;
pub mod ddl;
pub mod declared;
pub mod decode;
pub mod encode;
pub mod error;
pub mod insert;
pub mod options;
pub mod pushdown;
pub mod scan;
pub mod session;
pub mod split;
pub mod table;
pub mod types;

pub use catalog::CassandraCatalog;
pub use cluster::CassandraCluster;
pub use error::CassandraError;
pub use insert::CassandraInsertExec;
pub use options::CassandraOptions;
pub use scan::{CassandraScanExec, preferred_hosts};
pub use session::CassandraSettings;
pub use table::CassandraTable;
