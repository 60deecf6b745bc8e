//! The catalogs by name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::catalog::{CatalogProvider, CatalogProviderList};

/// DataFusion's list of catalogs, from which one can also be taken away.
#[derive(Debug, Default)]
pub struct CatalogList {
    catalogs: RwLock<BTreeMap<String, Arc<dyn CatalogProvider>>>,
}

impl CatalogList {
    /// Takes the catalog away. Plans that already name it keep it.
    pub fn deregister(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        self.catalogs.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }
}

impl CatalogProviderList for CatalogList {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.catalogs.write().unwrap_or_else(PoisonError::into_inner).insert(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.catalogs.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        self.catalogs.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
