//! The catalog `sluice`: external tables and views, opened when a statement first names them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider, TableProviderFactory};
use datafusion::datasource::listing::{ListingTableConfig, ListingTableConfigExt, ListingTableUrl};
use datafusion::datasource::listing_table_factory::ListingTableFactory;
use datafusion::datasource::view::ViewTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, TableType};

use super::definition::TableDefinition;
use super::store::CatalogError;

/// The state that statements of the catalog are planned with; set once when the store is built.
pub(super) type PlanningState = Arc<OnceLock<SessionState>>;

/// The catalog of what users created in Sluice itself.
#[derive(Debug)]
pub struct LocalCatalog {
    schemas: RwLock<BTreeMap<String, Arc<dyn SchemaProvider>>>,
}

impl LocalCatalog {
    /// A catalog without schemas.
    pub fn new() -> Self {
        Self { schemas: RwLock::default() }
    }
}

impl Default for LocalCatalog {
    fn default() -> Self {
        Self::new()
    }
}

impl CatalogProvider for LocalCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.schemas.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        Ok(self.schemas.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), schema))
    }

    fn deregister_schema(&self, name: &str, _cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>> {
        Ok(self.schemas.write().unwrap_or_else(PoisonError::into_inner).remove(name))
    }
}

#[derive(Debug, Clone)]
struct Entry {
    definition: TableDefinition,
    provider: Arc<OnceLock<Arc<dyn TableProvider>>>,
}

/// A schema of the catalog `sluice`.
#[derive(Debug)]
pub struct LocalSchema {
    tables: RwLock<BTreeMap<String, Entry>>,
    state: PlanningState,
}

impl LocalSchema {
    pub(super) fn new(state: PlanningState) -> Self {
        Self { tables: RwLock::default(), state }
    }

    /// Adds or replaces a table that will be opened when it is first named.
    pub(super) fn insert(&self, name: String, definition: TableDefinition) {
        let entry = Entry { definition, provider: Arc::default() };
        self.tables.write().unwrap_or_else(PoisonError::into_inner).insert(name, entry);
    }

    /// Takes a table away; tells whether it was there.
    pub(super) fn remove(&self, name: &str) -> bool {
        self.tables.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// What the name was created as.
    pub fn definition(&self, name: &str) -> Option<TableDefinition> {
        self.entry(name).map(|entry| entry.definition)
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

#[async_trait]
impl SchemaProvider for LocalSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let state = self.state.get().ok_or_else(|| DataFusionError::Internal("no planning state".to_owned()))?;
        if let Some(provider) = entry.provider.get() {
            return Ok(Some(provider.clone()));
        }
        // Not under a lock: planning the definition asks for names again, this one among them.
        let mut opening = OPENING.try_with(Clone::clone).unwrap_or_default();
        let this = (std::ptr::from_ref(self).addr(), name.to_owned());
        if opening.contains(&this) {
            return Ok(None);
        }
        opening.push(this);
        let provider = OPENING.scope(opening, Box::pin(open(state, &entry.definition))).await?;
        // Whoever opened it at the same time made the same.
        Ok(Some(entry.provider.get_or_init(|| provider).clone()))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.entry(name).map(|entry| match entry.definition {
            TableDefinition::External { .. } => TableType::Base,
            TableDefinition::View { .. } => TableType::View,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }
}

tokio::task_local! {
    /// The tables that this task is opening: a view that refers to itself finds nothing of its name.
    static OPENING: Vec<(usize, String)>;
}

/// Plans the statement that made a table, and opens its files.
pub(super) async fn open(state: &SessionState, definition: &TableDefinition) -> Result<Arc<dyn TableProvider>> {
    let statement = state.sql_to_statement(definition.sql(), &datafusion::config::Dialect::PostgreSQL)?;
    let plan = state.statement_to_plan(statement).await?;
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(command)) => {
            for location in &command.locations {
                check_location(location)?;
            }
            match ListingTableFactory::new().create(state, &command).await {
                Ok(table) => Ok(table),
                Err(error) => Err(name_unreadable_file(state, &command.locations, error).await),
            }
        }
        LogicalPlan::Ddl(DdlStatement::CreateView(view)) => {
            Ok(Arc::new(ViewTable::new(view.input.as_ref().clone(), view.definition.clone())))
        }
        other => Err(DataFusionError::Internal(format!("{} does not define a table", other.display()))),
    }
}

/// Says which file could not be read, which the readers of files leave out.
pub(super) async fn name_unreadable_file(
    state: &SessionState,
    locations: &[String],
    error: DataFusionError,
) -> DataFusionError {
    if !matches!(error.find_root(), DataFusionError::ParquetError(_) | DataFusionError::ArrowError(..)) {
        return error;
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for location in locations {
        add_files(Path::new(location.strip_prefix("file://").unwrap_or(location)), &mut files);
    }
    for file in files {
        let path = file.to_string_lossy().into_owned();
        let Ok(url) = ListingTableUrl::parse(&path) else { continue };
        let Ok(config) = ListingTableConfig::new(url).infer_options(state).await else { continue };
        if let Err(cause) = config.infer_schema(state).await {
            let reason = cause.find_root().strip_backtrace();
            return DataFusionError::External(Box::new(CatalogError::UnreadableFile { path, reason }));
        }
    }
    error
}

/// The files below a path, in the order of their names; no more than somebody waits for.
fn add_files(path: &Path, files: &mut Vec<PathBuf>) {
    const MOST_FILES: usize = 1_000;
    if path.is_file() && files.len() < MOST_FILES {
        files.push(path.to_owned());
    } else if path.is_dir() {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| add_files(entry, files));
    }
}

/// DataFusion takes a folder that is not there for an empty table; a user wants to know.
pub(super) fn check_location(location: &str) -> Result<()> {
    let path = location.strip_prefix("file://").unwrap_or(location);
    let is_partition_pattern = |segment: &str| segment.contains('=') && segment.contains(['*', '?', '[']);
    if path.split('/').any(is_partition_pattern) {
        let words = format!(
            "the pattern {path}: declare the partitions with PARTITIONED BY (...) and choose among them with WHERE"
        );
        return Err(DataFusionError::NotImplemented(words));
    }
    if path.contains("://") {
        let words = format!("reading from {path} is not supported: files are read from the server's own disks");
        return Err(DataFusionError::NotImplemented(words));
    }
    let is_empty_file = std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0);
    if is_empty_file && path.ends_with(".parquet") {
        // DataFusion would take it for a table without rows and columns.
        let (path, reason) = (path.to_owned(), "the file is empty".to_owned());
        return Err(DataFusionError::External(Box::new(CatalogError::UnreadableFile { path, reason })));
    }
    if path.contains(['*', '?', '[']) || Path::new(path).exists() {
        return Ok(());
    }
    Err(DataFusionError::External(Box::new(CatalogError::NoSuchFile(path.to_owned()))))
}
