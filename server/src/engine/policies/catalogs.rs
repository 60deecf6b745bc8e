//! A session's view of the catalogs: tables with policies for its user are what these leave of them.
//!
//! Names are looked up here whatever the statement, so that there is no kind of statement that sees more. Views are not
//! opened here but by the catalog itself, and so see what their makers did.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::plan_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::TableType;

use super::super::session::Session;
use super::definition::TableName;
use super::shown::ShownTable;

/// All catalogs, as one session's user sees them.
pub struct PolicedCatalogs {
    pub(super) inner: Arc<dyn CatalogProviderList>,
    /// Holds the session weakly, because the session holds its catalogs.
    pub(super) session: Weak<Session>,
}

impl std::fmt::Debug for PolicedCatalogs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PolicedCatalogs")
    }
}

impl CatalogProviderList for PolicedCatalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.inner.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.inner.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let inner = self.inner.catalog(name)?;
        Some(Arc::new(PolicedCatalog { inner, name: name.to_owned(), session: self.session.clone() }))
    }
}

struct PolicedCatalog {
    inner: Arc<dyn CatalogProvider>,
    name: String,
    session: Weak<Session>,
}

impl std::fmt::Debug for PolicedCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PolicedCatalog({})", self.name)
    }
}

impl CatalogProvider for PolicedCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.inner.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let inner = self.inner.schema(name)?;
        let (catalog, name) = (self.name.clone(), name.to_owned());
        Some(Arc::new(PolicedSchema { inner, catalog, name, session: self.session.clone() }))
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.deregister_schema(name, cascade)
    }
}

struct PolicedSchema {
    inner: Arc<dyn SchemaProvider>,
    catalog: String,
    name: String,
    session: Weak<Session>,
}

impl std::fmt::Debug for PolicedSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PolicedSchema({}.{})", self.catalog, self.name)
    }
}

#[async_trait]
impl SchemaProvider for PolicedSchema {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let session = self.session.upgrade().ok_or_else(|| plan_datafusion_err!("the session has ended"))?;
        let name = TableName::new(&self.catalog, &self.name, name);
        let [_, _, table] = &name.0;
        let restriction = session.restriction_of(&name);
        let found = self.inner.table(table).await?;
        match (found, restriction) {
            (Some(table), Some(restriction)) => {
                Ok(Some(Arc::new(ShownTable::open(&session, &name, &table, &restriction).await?)))
            }
            (found, _) => Ok(found),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        self.inner.table_type(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
    }
}
