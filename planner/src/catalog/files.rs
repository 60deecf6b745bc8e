//! Files named by their paths: `SELECT * FROM '/data/events/'`.
//!
//! Any schema answers to such a name, so that the path needs no catalog before it. Only absolute
//! paths and URLs count: a misspelt table is never looked for in the server's working directory.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableConfigExt, ListingTableUrl,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::TableType;
use sluice_executor::transfer::manifest::MANIFEST;

use super::list::CatalogList;
use super::local::{PlanningState, check_location, name_unreadable_file};

/// Whether a table's name is that of files: an absolute path or a URL.
pub fn names_files(name: &str) -> bool {
    name.starts_with('/') || name.contains("://")
}

/// The catalogs of a store, whose schemas also know files by their paths.
#[derive(Debug)]
pub struct CatalogsAndFiles {
    inner: Arc<CatalogList>,
    state: PlanningState,
}

impl CatalogsAndFiles {
    pub(super) fn new(inner: Arc<CatalogList>, state: PlanningState) -> Self {
        Self { inner, state }
    }
}

impl CatalogProviderList for CatalogsAndFiles {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.inner.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.inner.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let inner = self.inner.catalog(name)?;
        Some(Arc::new(CatalogAndFiles { inner, state: self.state.clone() }))
    }
}

#[derive(Debug)]
struct CatalogAndFiles {
    inner: Arc<dyn CatalogProvider>,
    state: PlanningState,
}

impl CatalogProvider for CatalogAndFiles {
    fn schema_names(&self) -> Vec<String> {
        self.inner.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let inner = self.inner.schema(name)?;
        Some(Arc::new(SchemaAndFiles { inner, state: self.state.clone() }))
    }
}

#[derive(Debug)]
struct SchemaAndFiles {
    inner: Arc<dyn SchemaProvider>,
    state: PlanningState,
}

impl SchemaAndFiles {
    async fn open(&self, path: &str) -> Result<Arc<dyn TableProvider>> {
        check_location(path)?;
        let state = self.state.get().ok_or_else(|| DataFusionError::Internal("no planning state".to_owned()))?;
        let config = ListingTableConfig::new(ListingTableUrl::parse(path)?);
        let config = if Path::new(path).join(MANIFEST).is_file() {
            // A copy: JSON beside its files tells of them and is not of them.
            let parquet = ParquetFormat::default().with_options(state.default_table_options().parquet);
            config.with_listing_options(ListingOptions::new(Arc::new(parquet)))
        } else {
            config.infer_options(state).await?
        };
        let config = config.infer_partitions_from_path(state).await?;
        let config = match config.infer_schema(state).await {
            Ok(config) => config,
            Err(error) => return Err(name_unreadable_file(state, &[path.to_owned()], error).await),
        };
        Ok(Arc::new(ListingTable::try_new(config)?))
    }
}

#[async_trait]
impl SchemaProvider for SchemaAndFiles {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if names_files(name) {
            return self.open(name).await.map(Some);
        }
        self.inner.table(name).await
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        self.inner.table_type(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
    }
}
