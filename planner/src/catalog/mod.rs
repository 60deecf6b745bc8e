//! Names that all sessions share, and how they outlive the process.
//!
//! A catalog is either `sluice`, whose schemas hold external tables and views, or a connection to
//! a Cassandra cluster, whose keyspaces are its schemas. What a user creates is written down as
//! the statement that created it ([`definition`]) before the statement succeeds, and is read back
//! at start. Nothing is opened at start: a table's files and a catalog's nodes are looked at when
//! a statement first names them, so that a missing file or a node that is down never keeps the
//! service from starting.

pub mod definition;
pub mod files;
pub mod list;
pub mod local;
pub mod store;

pub use definition::{CatalogDefinition, Definitions, TableDefinition};
pub use files::{CatalogsAndFiles, names_files};
pub use list::CatalogList;
pub use local::{LocalCatalog, LocalSchema};
pub use store::{CatalogError, CatalogStore, DEFAULT_CATALOG, DEFAULT_SCHEMA};
