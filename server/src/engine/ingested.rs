//! Files of tables that are created for rows that a client sends.
//!
//! Each such table has a folder of its own, which goes when the table is dropped.

use std::path::{Path, PathBuf};

use datafusion::catalog::CatalogProviderList;
use datafusion::sql::parser::Statement as DfStatement;
use sluice_planner::catalog::{DEFAULT_CATALOG, LocalSchema, TableDefinition};
use sluice_planner::statement::{self, StatementKind};

use super::Engine;
use super::error::EngineError;

/// The folder that has the tables' folders: in the first file root, or else in the data directory.
const FOLDER: &str = "ingested";

impl Engine {
    /// A folder for the files of a new table. It is not there yet.
    ///
    /// # Errors
    ///
    /// When the folder of this process cannot be found out.
    pub fn new_table_folder(&self, schema: &str, table: &str) -> Result<PathBuf, EngineError> {
        let plain = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_");
        let name = format!("{}.{}.{}", plain(schema), plain(table), uuid::Uuid::now_v7());
        Ok(self.ingested()?.join(name))
    }

    /// The folder that was made for a local table; `None` if none was.
    pub(super) fn table_folder(&self, schema: &str, table: &str) -> Option<PathBuf> {
        let location = self.table_location(schema, table)?;
        self.is_ingested(&location).then_some(location)
    }

    /// Whether a local table is of files that a user named.
    pub(super) fn is_of_users_files(&self, schema: &str, table: &str) -> bool {
        self.table_location(schema, table).is_some_and(|location| !self.is_ingested(&location))
    }

    fn is_ingested(&self, location: &Path) -> bool {
        self.ingested().is_ok_and(|folder| location.parent() == Some(folder.as_path()))
    }

    /// The first location of a local table of files.
    fn table_location(&self, schema: &str, table: &str) -> Option<PathBuf> {
        let schema = self.catalogs.list().catalog(DEFAULT_CATALOG)?.schema(schema)?;
        let TableDefinition::External { sql } = schema.downcast_ref::<LocalSchema>()?.definition(table)? else {
            return None;
        };
        let statement = statement::parse(&sql).ok()?.pop()?;
        let StatementKind::Sql(sql) = statement.kind else { return None };
        let DfStatement::CreateExternalTable(create) = *sql else { return None };
        create.locations.first().map(PathBuf::from)
    }

    fn ingested(&self) -> Result<PathBuf, EngineError> {
        let parent = self.file_roots.first().or_else(|| self.work_dir.parent()).unwrap_or(&self.work_dir);
        let parent = std::path::absolute(parent).map_err(|error| super::data_dir_error(parent, &error))?;
        Ok(parent.join(FOLDER))
    }
}

/// Removes the files of a table that was dropped. What cannot be removed is only in the way of nobody.
pub(super) fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "the files of a dropped table are left");
    }
}
