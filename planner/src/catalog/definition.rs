//! What users created, as it is written down.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Everything that users created, in the order of its names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definitions {
    /// Connections to other systems by name.
    #[serde(default)]
    pub catalogs: BTreeMap<String, CatalogDefinition>,
    /// Schemas of the catalog `sluice`, with their tables and views by name.
    #[serde(default)]
    pub schemas: BTreeMap<String, BTreeMap<String, TableDefinition>>,
}

/// A connection to another system.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogDefinition {
    /// The connector's name: `cassandra`.
    pub connector: String,
    /// The connector's options; may hold a password.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for CatalogDefinition {
    /// Option names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CatalogDefinition")
            .field("connector", &self.connector)
            .field("options", &self.options.keys())
            .finish()
    }
}

/// A table or view of the catalog `sluice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TableDefinition {
    /// `CREATE EXTERNAL TABLE`.
    External { sql: String },
    /// `CREATE VIEW`.
    View { sql: String },
}

impl TableDefinition {
    /// The statement that made it.
    pub fn sql(&self) -> &str {
        match self {
            Self::External { sql } | Self::View { sql } => sql,
        }
    }
}

impl Definitions {
    /// Reads the file; a file that is not there holds nothing.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file in one step, so that a crash leaves the old one or the new one whole.
    ///
    /// Only its owner may read it, because catalog options may hold a password.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        replace_file(path, &serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?)
    }
}

/// Replaces a file in one step, so that a crash leaves the old one or the new one whole. Only its owner may read it.
pub fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let temporary = path.with_extension("json.new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("catalog.json");
        let mut definitions = Definitions::default();
        let table = TableDefinition::View { sql: "CREATE VIEW v AS SELECT 1".to_owned() };
        definitions.schemas.entry("public".to_owned()).or_default().insert("v".to_owned(), table.clone());
        definitions.write(&path).expect("is written");
        let read = Definitions::read(&path).expect("is read");
        assert_eq!(read.schemas["public"]["v"], table);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_catalog() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("catalog.json");
        std::fs::write(&path, b"{\"catalogs\": {").expect("is written");
        assert!(Definitions::read(&path).is_err());
    }

    #[test]
    fn debug_output_has_no_option_values() {
        let options = [("password".to_owned(), "hunter2".to_owned())].into();
        let text = format!("{:?}", CatalogDefinition { connector: "cassandra".to_owned(), options });
        assert!(text.contains("password") && !text.contains("hunter2"), "{text}");
    }
}
