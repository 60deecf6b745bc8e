//! The schema `pg_catalog`: what PostgreSQL's clients ask about a database.
//!
//! psql's `\d`, JDBC's metadata and ORMs read these relations with SQL that uses much of
//! PostgreSQL. Three parts answer it: relations made from the session's catalogs when they are read
//! ([`definitions`], [`content`], [`keys`], [`relation`], [`catalogs`]), the functions that go with them
//! ([`functions`]), and a rewrite of what DataFusion does not understand ([`rewrite`]), which
//! touches no statement that does not name the catalog.
//!
//! The crate datafusion-pg-catalog was tried on paper and left: it loads every table of every
//! catalog for each query, numbers tables by the order of asking, matches one client version's
//! texts, can be made to panic by a statement, and draws in a second pgwire.

mod catalogs;
mod column_names;
mod content;
mod definitions;
mod functions;
mod keys;
mod oids;
mod relation;
mod rewrite;
mod sleep;
mod types;

use std::sync::Arc;

use datafusion::logical_expr::async_udf::AsyncScalarUDF;

use crate::engine::Session;

pub use catalogs::PG_CATALOG;
pub use column_names::{name_columns, without_marks};
pub use rewrite::rewrite;
pub use types::format_type;

/// Gives a session `pg_catalog` in every catalog, and the functions that go with it.
pub fn register(session: &Arc<Session>) {
    let context = session.context();
    let catalogs = Arc::clone(context.state_ref().read().catalog_list());
    let source = content::Source { catalogs, session: Arc::downgrade(session) };
    for function in functions::functions(&source) {
        context.register_udf(function);
    }
    context.register_udf(AsyncScalarUDF::new(Arc::new(sleep::Sleep::default())).into_scalar_udf());
    context.register_catalog_list(Arc::new(catalogs::SessionCatalogs::new(source)));
}
