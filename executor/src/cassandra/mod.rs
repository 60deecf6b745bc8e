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
//! In reading order: [`options`], [`session`], [`error`], [`cluster`], [`tls`], [`throttle`], [`traffic`],
//! [`details`], [`keys`], [`catalog`], [`table`], [`columns`],
//! [`functions`], [`pushdown`], [`split`], [`spec`], [`scan`], [`reader`], [`page`], [`replicas`], [`decode`], [`types`], [`declared`],
//! [`probe`], [`direct_join`], [`nearest`], [`partition_limit`], [`extremes`],
//! [`insert`], [`write`], [`encode`], [`ddl`], [`describe`], `moving`,
//! [`statistics`], [`sample`].

pub mod catalog;
pub mod cluster;
pub mod columns;
pub mod ddl;
pub mod declared;
pub mod decode;
pub mod describe;
pub mod details;
pub mod direct_join;
pub mod encode;
pub mod error;
pub mod extremes;
pub mod functions;
pub mod insert;
pub mod keys;
mod moving;
pub mod nearest;
pub(crate) mod node;
pub mod options;
pub mod page;
pub mod partition_limit;
pub mod probe;
pub mod pushdown;
pub mod reader;
pub mod replicas;
pub mod sample;
pub mod scan;
pub mod session;
pub mod spec;
pub mod split;
pub mod statistics;
pub mod table;
pub mod throttle;
pub mod tls;
pub mod traffic;
pub mod types;
pub mod write;

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_optimizer::PhysicalOptimizerRule;

pub use catalog::CassandraCatalog;
pub use cluster::CassandraCluster;
pub use direct_join::CassandraDirectJoinExec;
pub use error::CassandraError;
pub use insert::CassandraInsertExec;
pub use keys::TableKeys;
pub use options::CassandraOptions;
pub use scan::{CassandraScanExec, preferred_hosts};
pub use session::CassandraSettings;
pub use statistics::TableStatistics;
pub use table::CassandraTable;
pub use traffic::{Traffic, traffic};
pub use write::maps::map_functions;
pub use write::mutate::CassandraMutateExec;
pub use write::using::{Using, UsingValue, insert_using_columns, plan_write};

/// What a session needs for everything that this module can do beyond reading and writing tables: its settings, its
/// functions and operators, and the rule that tells tables what is asked of them.
///
/// [`physical_optimizer_rules`] come in addition, because their place is at the end of the others.
pub fn with_cassandra(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    let extensions = &mut builder.config().get_or_insert_default().options_mut().extensions;
    if extensions.get::<CassandraSettings>().is_none() {
        extensions.insert(CassandraSettings::default());
    }
    let mut builder = builder.with_analyzer_rule(Arc::new(functions::AskCassandra));
    let scalar_functions = builder.scalar_functions().get_or_insert_default();
    scalar_functions.extend(functions::functions());
    scalar_functions.extend(map_functions());
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(nearest::VectorOperators));
    builder
}

/// The rules by which joins read by key and indexes give the nearest vectors. They go after all rules that move
/// operators about.
pub fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![
        Arc::new(nearest::NearestVectors),
        Arc::new(partition_limit::PartitionLimits),
        Arc::new(extremes::ExtremesOfPartitions),
        Arc::new(direct_join::DirectJoins),
    ]
}
