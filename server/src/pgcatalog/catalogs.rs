//! A session's view of the catalogs: each has the schema `pg_catalog` besides its own.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result;

use super::content::Source;
use super::definitions::Definition;
use super::relation::Relation;

/// The name of PostgreSQL's schema of catalogs.
pub const PG_CATALOG: &str = "pg_catalog";

/// All catalogs, with `pg_catalog` in each.
#[derive(Debug)]
pub struct SessionCatalogs {
    inner: Arc<dyn CatalogProviderList>,
    pg_catalog: Arc<PgCatalog>,
}

impl SessionCatalogs {
    /// The catalogs of `source` with `pg_catalog` in each.
    pub fn new(source: Source) -> Self {
        Self { inner: Arc::clone(&source.catalogs), pg_catalog: Arc::new(PgCatalog { source }) }
    }
}

impl CatalogProviderList for SessionCatalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.inner.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.inner.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let inner = self.inner.catalog(name)?;
        Some(Arc::new(WithPgCatalog { inner, pg_catalog: Arc::clone(&self.pg_catalog) }))
    }
}

#[derive(Debug)]
struct WithPgCatalog {
    inner: Arc<dyn CatalogProvider>,
    pg_catalog: Arc<PgCatalog>,
}

impl CatalogProvider for WithPgCatalog {
    /// Without `pg_catalog`: it is there for those who ask for it by name.
    fn schema_names(&self) -> Vec<String> {
        self.inner.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == PG_CATALOG {
            return Some(Arc::clone(&self.pg_catalog) as Arc<dyn SchemaProvider>);
        }
        self.inner.schema(name)
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.deregister_schema(name, cascade)
    }
}

/// The schema `pg_catalog`.
#[derive(Debug)]
struct PgCatalog {
    source: Source,
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        let all = Definition::all().map(|definition| definition.schema_and_name());
        all.filter(|(schema, _)| *schema == PG_CATALOG).map(|(_, name)| name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let relation = Definition::of(name).map(|definition| Relation::new(definition, self.source.clone()));
        Ok(relation.map(|relation| Arc::new(relation) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        Definition::of(name).is_some()
    }
}
