//! Creating and dropping what all sessions share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use datafusion::catalog::{CatalogProvider, CatalogProviderList};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use sluice_executor::cassandra::{CassandraCatalog, CassandraError, CassandraOptions};
use tokio::sync::Mutex;

use super::definition::{CatalogDefinition, Definitions, TableDefinition};
use super::files::CatalogsAndFiles;
use super::list::CatalogList;
use super::local::{LocalCatalog, LocalSchema, PlanningState, open};
use crate::suggest::nearest;

/// The catalog that sessions start in.
pub const DEFAULT_CATALOG: &str = "sluice";
/// The schema that sessions start in.
pub const DEFAULT_SCHEMA: &str = "public";
/// Schemas that belong to Sluice itself.
const RESERVED_SCHEMAS: [&str; 3] = ["information_schema", "pg_catalog", "system"];

/// What can go wrong with catalogs, schemas and tables.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The name is taken.
    #[error("{kind} \"{name}\" already exists")]
    Exists { kind: &'static str, name: String },
    /// Nothing has the name.
    #[error("{kind} \"{name}\" does not exist")]
    NotFound { kind: &'static str, name: String, suggestion: Option<String> },
    /// The name may not be used or dropped.
    #[error("{kind} \"{name}\" belongs to Sluice itself")]
    Reserved { kind: &'static str, name: String },
    /// A schema that still holds tables.
    #[error("schema \"{name}\" is not empty: it holds {table_count} table(s)")]
    NotEmpty { name: String, table_count: usize },
    /// `USING` something else.
    #[error("there is no connector \"{0}\"; there is: cassandra")]
    UnknownConnector(String),
    /// The location of a table.
    #[error("no file or folder at \"{0}\"")]
    NoSuchFile(String),
    /// A file that is not of the table's format, or damaged.
    #[error("cannot read \"{path}\": {reason}")]
    UnreadableFile { path: String, reason: String },
    /// The other system.
    #[error(transparent)]
    Cassandra(#[from] CassandraError),
    /// The table's files or its statement.
    #[error(transparent)]
    Open(#[from] DataFusionError),
    /// The file of definitions.
    #[error("cannot keep the catalog in {path}: {source}")]
    Store { path: PathBuf, source: std::io::Error },
}

/// All catalogs, and the file that keeps them.
pub struct CatalogStore {
    list: Arc<CatalogList>,
    local: Arc<LocalCatalog>,
    state: PlanningState,
    path: PathBuf,
    /// Held over each change, so that file and memory change together.
    definitions: Mutex<Definitions>,
}

impl CatalogStore {
    /// Reads what was created before. `configured` catalogs and tables come from the configuration file,
    /// are not written down, and win over created ones of the same name.
    pub fn open(
        path: PathBuf,
        configured: impl IntoIterator<Item = (String, CatalogDefinition)>,
        configured_tables: impl IntoIterator<Item = (String, TableDefinition)>,
    ) -> Result<Self, CatalogError> {
        let definitions =
            Definitions::read(&path).map_err(|source| CatalogError::Store { path: path.clone(), source })?;
        let list = Arc::new(CatalogList::default());
        let local = Arc::new(LocalCatalog::new());
        let state: PlanningState = Arc::new(OnceLock::new());
        list.register_catalog(DEFAULT_CATALOG.to_owned(), local.clone());
        let public = add_schema(&local, DEFAULT_SCHEMA, &state)?;
        for (schema_name, tables) in &definitions.schemas {
            let schema =
                if schema_name == DEFAULT_SCHEMA { public.clone() } else { add_schema(&local, schema_name, &state)? };
            for (name, table) in tables {
                schema.insert(name.clone(), table.clone());
            }
        }
        for (name, table) in configured_tables {
            public.insert(name, table);
        }
        for (name, definition) in definitions.catalogs.clone().into_iter().chain(configured) {
            list.register_catalog(name, connect(&definition)?);
        }
        Ok(Self { list, local, state, path, definitions: Mutex::new(definitions) })
    }

    /// Gives the store the state that views and external tables are planned with. Call it once.
    pub fn set_planning_state(&self, state: SessionState) {
        // A second call would be a second engine on one store, which keeps the first state.
        let _ = self.state.set(state);
    }

    /// What sessions resolve names in: the catalogs, and files by their paths.
    pub fn names(&self) -> Arc<CatalogsAndFiles> {
        Arc::new(CatalogsAndFiles::new(self.list.clone(), self.state.clone()))
    }

    /// The catalogs.
    pub fn list(&self) -> Arc<CatalogList> {
        self.list.clone()
    }

    /// The catalog `sluice`.
    pub fn local(&self) -> Arc<LocalCatalog> {
        self.local.clone()
    }

    /// Connects another system under a name. The connection itself is made when it is first needed.
    pub async fn create_catalog(&self, name: &str, definition: CatalogDefinition) -> Result<(), CatalogError> {
        let mut definitions = self.definitions.lock().await;
        if self.list.catalog(name).is_some() {
            return Err(CatalogError::Exists { kind: "catalog", name: name.to_owned() });
        }
        let provider = connect(&definition)?;
        let mut changed = definitions.clone();
        changed.catalogs.insert(name.to_owned(), definition);
        self.save(&changed)?;
        *definitions = changed;
        self.list.register_catalog(name.to_owned(), provider);
        Ok(())
    }

    /// Forgets a connection; nothing is dropped in the other system.
    pub async fn drop_catalog(&self, name: &str) -> Result<(), CatalogError> {
        let mut definitions = self.definitions.lock().await;
        if name == DEFAULT_CATALOG {
            return Err(CatalogError::Reserved { kind: "catalog", name: name.to_owned() });
        }
        if self.list.catalog(name).is_none() {
            return Err(self.no_catalog(name));
        }
        let mut changed = definitions.clone();
        changed.catalogs.remove(name);
        self.save(&changed)?;
        *definitions = changed;
        self.list.deregister(name);
        Ok(())
    }

    /// Drops what is cached of the other system's tables.
    pub async fn refresh_catalog(&self, name: &str) -> Result<(), CatalogError> {
        match self.list.catalog(name) {
            None => Err(self.no_catalog(name)),
            Some(catalog) => match catalog.downcast_ref::<CassandraCatalog>() {
                Some(cassandra) => Ok(cassandra.refresh().await?),
                None => self.forget_opened().await,
            },
        }
    }

    /// The Cassandra behind a catalog; `None` if the catalog is something else.
    pub fn cassandra(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        self.list.catalog(name).filter(|catalog| catalog.is::<CassandraCatalog>())
    }

    /// Creates a schema in the catalog `sluice`.
    pub async fn create_schema(&self, name: &str) -> Result<(), CatalogError> {
        let mut definitions = self.definitions.lock().await;
        if self.local.schema(name).is_some() || RESERVED_SCHEMAS.contains(&name) {
            return Err(CatalogError::Exists { kind: "schema", name: name.to_owned() });
        }
        let mut changed = definitions.clone();
        changed.schemas.entry(name.to_owned()).or_default();
        self.save(&changed)?;
        *definitions = changed;
        add_schema(&self.local, name, &self.state)?;
        Ok(())
    }

    /// Drops a schema of the catalog `sluice`; with `cascade` also what it holds.
    pub async fn drop_schema(&self, name: &str, cascade: bool) -> Result<(), CatalogError> {
        let mut definitions = self.definitions.lock().await;
        if name == DEFAULT_SCHEMA || RESERVED_SCHEMAS.contains(&name) {
            return Err(CatalogError::Reserved { kind: "schema", name: name.to_owned() });
        }
        let schema = self.local.schema(name).ok_or_else(|| self.no_schema(name))?;
        let table_count = schema.table_names().len();
        if table_count > 0 && !cascade {
            return Err(CatalogError::NotEmpty { name: name.to_owned(), table_count });
        }
        let mut changed = definitions.clone();
        changed.schemas.remove(name);
        self.save(&changed)?;
        *definitions = changed;
        self.local.deregister_schema(name, cascade)?;
        Ok(())
    }

    /// Creates an external table or a view, after looking whether it can be opened.
    pub async fn create_table(
        &self,
        schema_name: &str,
        name: &str,
        definition: TableDefinition,
        replace: bool,
    ) -> Result<(), CatalogError> {
        let mut definitions = self.definitions.lock().await;
        let provider = self.local.schema(schema_name).ok_or_else(|| self.no_schema(schema_name))?;
        let Some(schema) = provider.downcast_ref::<LocalSchema>() else {
            return Err(CatalogError::Reserved { kind: "schema", name: schema_name.to_owned() });
        };
        if !replace && schema.definition(name).is_some() {
            return Err(CatalogError::Exists { kind: "table", name: name.to_owned() });
        }
        let state = self.state.get().ok_or_else(|| DataFusionError::Internal("no planning state".to_owned()))?;
        open(state, &definition).await?;
        let mut changed = definitions.clone();
        changed.schemas.entry(schema_name.to_owned()).or_default().insert(name.to_owned(), definition.clone());
        self.save(&changed)?;
        *definitions = changed;
        schema.insert(name.to_owned(), definition);
        Ok(())
    }

    /// Drops an external table or a view; the files stay.
    pub async fn drop_table(&self, schema_name: &str, name: &str) -> Result<(), CatalogError> {
        let mut definitions = self.definitions.lock().await;
        let provider = self.local.schema(schema_name).ok_or_else(|| self.no_schema(schema_name))?;
        let Some(schema) = provider.downcast_ref::<LocalSchema>() else {
            return Err(CatalogError::Reserved { kind: "schema", name: schema_name.to_owned() });
        };
        if schema.definition(name).is_none() {
            let suggestion = nearest(name, provider.table_names().iter().map(String::as_str)).map(str::to_owned);
            return Err(CatalogError::NotFound { kind: "table", name: name.to_owned(), suggestion });
        }
        let mut changed = definitions.clone();
        if let Some(tables) = changed.schemas.get_mut(schema_name) {
            tables.remove(name);
        }
        self.save(&changed)?;
        *definitions = changed;
        schema.remove(name);
        Ok(())
    }

    /// Opens every external table and view anew when it is next named.
    async fn forget_opened(&self) -> Result<(), CatalogError> {
        let definitions = self.definitions.lock().await;
        for (schema_name, tables) in &definitions.schemas {
            let Some(provider) = self.local.schema(schema_name) else { continue };
            if let Some(schema) = provider.downcast_ref::<LocalSchema>() {
                for (name, table) in tables {
                    schema.insert(name.clone(), table.clone());
                }
            }
        }
        Ok(())
    }

    fn save(&self, definitions: &Definitions) -> Result<(), CatalogError> {
        definitions.write(&self.path).map_err(|source| CatalogError::Store { path: self.path.clone(), source })
    }

    fn no_catalog(&self, name: &str) -> CatalogError {
        let names = self.list.catalog_names();
        let suggestion = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        CatalogError::NotFound { kind: "catalog", name: name.to_owned(), suggestion }
    }

    fn no_schema(&self, name: &str) -> CatalogError {
        let names = self.local.schema_names();
        let suggestion = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        CatalogError::NotFound { kind: "schema", name: name.to_owned(), suggestion }
    }
}

fn add_schema(local: &LocalCatalog, name: &str, state: &PlanningState) -> Result<Arc<LocalSchema>, CatalogError> {
    let schema = Arc::new(LocalSchema::new(state.clone()));
    local.register_schema(name, schema.clone())?;
    Ok(schema)
}

fn connect(definition: &CatalogDefinition) -> Result<Arc<dyn CatalogProvider>, CatalogError> {
    match definition.connector.as_str() {
        "cassandra" => Ok(Arc::new(CassandraCatalog::new(CassandraOptions::from_map(&definition.options)?))),
        other => Err(CatalogError::UnknownConnector(other.to_owned())),
    }
}
