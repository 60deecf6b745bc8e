//! `BACKUP KEYSPACE` and `RESTORE KEYSPACE`: every table, in a folder of its own, and the statements that make them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use sluice_executor::cassandra::ddl::create_keyspace_cql;
use sluice_executor::cassandra::describe::{SchemaObject, for_keyspace};
use sluice_executor::cassandra::{CassandraCluster, CassandraTable};
use sluice_executor::transfer::manifest::{Manifest, Source, VERSION};
use sluice_executor::transfer::{TransferError, sealed};
use sluice_planner::statement::TransferOptions;

use super::super::ddl::{self, FullName};
use super::super::error::{EngineError, SqlState};
use super::super::query::QueryRecord;
use super::super::session::Session;
use super::folder_to_table::TableLoad;
use super::registry::TransferGuard;
use super::table_to_folder::{TableCopy, must_be_empty, now_ms};
use super::{blocking, folder, options};

/// The name of the description of a keyspace, in the folder of its tables' folders.
const KEYSPACE: &str = "keyspace.json";
/// The same statements for people and cqlsh.
const SCHEMA: &str = "schema.cql";

/// What a folder of tables' folders holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyspaceManifest {
    version: u32,
    id: String,
    /// Whether every table's copy is complete.
    complete: bool,
    keyspace: String,
    /// In an order in which they can be made.
    objects: Vec<SchemaObject>,
    /// The ids of the tables' copies, by table; a table's folder has its name.
    tables: BTreeMap<String, Option<String>>,
    started_ms: u64,
    finished_ms: Option<u64>,
}

impl KeyspaceManifest {
    fn read(dir: &Path) -> Result<Option<Self>, TransferError> {
        let path = dir.join(KEYSPACE);
        let Some(manifest) = sealed::read::<Self>(&path)? else { return Ok(None) };
        match manifest.tables.keys().find(|name| !is_table_name(name)) {
            None => Ok(Some(manifest)),
            Some(name) => Err(TransferError::damaged(&path, format!("\"{}\" names no table", name.escape_debug()))),
        }
    }

    fn write(&self, dir: &Path) -> Result<(), TransferError> {
        let statements: Vec<String> = self.objects.iter().map(|object| format!("{};\n", object.cql)).collect();
        sealed::write_bytes(&dir.join(SCHEMA), statements.join("\n").as_bytes())?;
        sealed::write(&dir.join(KEYSPACE), self)
    }
}

/// Cassandra's own rule, by which a table's name is also a plain name of a folder.
fn is_table_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Copies a keyspace; the number of rows.
pub async fn backup(
    session: &Arc<Session>,
    keyspace: &[String],
    path: &str,
    given: &TransferOptions,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    options::only(given, "BACKUP KEYSPACE", &["compression", "ranges"])?;
    let (catalog, keyspace) = ddl::keyspace_name(session, keyspace)?;
    let dir = folder::folder(path)?;
    let what = format!("{catalog}.{keyspace}");
    let guard = session.engine().transfers.begin(session, "BACKUP", &what, &dir.display().to_string(), &dir)?;
    let copy = KeyspaceCopy { session, catalog: &catalog, keyspace: &keyspace, dir: &dir, given, record };
    let outcome = copy.back_up(&guard).boxed().await;
    guard.end(outcome)
}

/// A keyspace and the folder that it is copied to or made of.
struct KeyspaceCopy<'a> {
    session: &'a Arc<Session>,
    catalog: &'a str,
    keyspace: &'a str,
    dir: &'a Path,
    given: &'a TransferOptions,
    record: &'a Arc<QueryRecord>,
}

impl KeyspaceCopy<'_> {
    async fn back_up(&self, guard: &TransferGuard) -> Result<u64, EngineError> {
        let cluster = ddl::cassandra(self.session, self.catalog).await?;
        cluster.refresh().await?;
        if cluster.state().get_keyspace(self.keyspace).is_none() {
            return Err(no_keyspace(self.catalog, self.keyspace));
        }
        let mut manifest = self.begin(&cluster).await?;
        let mut rows = 0;
        let tables: Vec<String> = manifest.tables.keys().cloned().collect();
        for name in &tables {
            let table = CassandraTable::open(cluster.clone(), self.keyspace, name).await?;
            let copy = TableCopy {
                session: self.session,
                table: &table,
                dir: &self.dir.join(name),
                compression: options::compression(self.given)?,
                ranges: options::number(self.given, "ranges", 1, super::table_to_folder::MOST_UNITS)?.unwrap_or(1),
                record: self.record,
            };
            let copied = copy.run(guard).await.map_err(|error| of_table(error, name))?;
            rows += copied.rows();
            manifest.tables.insert(name.clone(), Some(copied.id));
        }
        if !manifest.complete {
            (manifest.complete, manifest.finished_ms) = (true, Some(now_ms()));
            let dir = self.dir.to_owned();
            blocking(move || manifest.write(&dir)).await?;
        }
        Ok(rows)
    }

    /// The description of an earlier attempt, or a new one.
    async fn begin(&self, cluster: &CassandraCluster) -> Result<KeyspaceManifest, EngineError> {
        let objects = cluster.describe_keyspace(self.keyspace).await?;
        let dir = self.dir.to_owned();
        let found = blocking(move || {
            std::fs::create_dir_all(&dir).map_err(|error| TransferError::file(&dir, &error))?;
            match KeyspaceManifest::read(&dir)? {
                Some(manifest) => Ok(Some(manifest)),
                None => must_be_empty(&dir).map(|()| None),
            }
        })
        .await?;
        if let Some(manifest) = found {
            let other = |reason: String| TransferError::Other { path: self.dir.to_owned(), reason };
            if manifest.keyspace != self.keyspace {
                return Err(other(format!("a backup of {} and not of {}", manifest.keyspace, self.keyspace)).into());
            }
            if manifest.objects != objects && !manifest.complete {
                return Err(other("the keyspace's schema has changed since its backup was begun".to_owned()).into());
            }
            return Ok(manifest);
        }
        let tables = objects.iter().filter(|object| object.kind == "table");
        let manifest = KeyspaceManifest {
            version: VERSION,
            id: uuid::Uuid::now_v7().to_string(),
            complete: false,
            keyspace: self.keyspace.to_owned(),
            tables: tables.map(|table| (table.name.trim_matches('"').to_owned(), None)).collect(),
            objects,
            started_ms: now_ms(),
            finished_ms: None,
        };
        let (dir, copy) = (self.dir.to_owned(), manifest.clone());
        blocking(move || copy.write(&dir)).await?;
        Ok(manifest)
    }
}

fn no_keyspace(catalog: &str, keyspace: &str) -> EngineError {
    EngineError::new(SqlState::UNDEFINED_SCHEMA, format!("schema \"{catalog}.{keyspace}\" does not exist"))
}

fn of_table(error: EngineError, table: &str) -> EngineError {
    EngineError { message: format!("table {table}: {}", error.message), ..error }
}

/// Makes a keyspace of a backup; the number of rows.
pub async fn restore(
    session: &Arc<Session>,
    keyspace: &[String],
    path: &str,
    given: &TransferOptions,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    options::only(given, "RESTORE KEYSPACE", &["replication_factor", "counters"])?;
    let (catalog, keyspace) = ddl::keyspace_name(session, keyspace)?;
    let dir = folder::folder(path)?;
    let target = format!("{catalog}.{keyspace}");
    let guard = session.engine().transfers.begin(session, "RESTORE", &dir.display().to_string(), &target, &dir)?;
    let copy = KeyspaceCopy { session, catalog: &catalog, keyspace: &keyspace, dir: &dir, given, record };
    let outcome = copy.restore(&guard).boxed().await;
    guard.end(outcome)
}

impl KeyspaceCopy<'_> {
    async fn restore(&self, guard: &TransferGuard) -> Result<u64, EngineError> {
        let skips_counters = match options::one(self.given, "counters")? {
            None => false,
            Some("skip") => true,
            Some(_) => return Err(EngineError::new(SqlState::INVALID_PARAMETER, "option COUNTERS takes skip")),
        };
        let manifest = self.read().await?;
        let copies = self.read_tables(&manifest).await?;
        let cluster = ddl::cassandra(self.session, self.catalog).await?;
        self.create_objects(&cluster, &manifest).await?;
        let mut loads = Vec::new();
        for (name, copy) in &copies {
            let table = CassandraTable::open(cluster.clone(), self.keyspace, name).await?;
            if table.has_counters() {
                if skips_counters {
                    let words =
                        format!("the rows of table {name} are left out: they count, and would count twice if repeated");
                    self.session.notice(words);
                    continue;
                }
                return Err(EngineError::not_supported(format!("restoring counters, which table {name} has,"))
                    .with_hint("the option COUNTERS skip restores the other tables"));
            }
            self.check_key(&table, copy)?;
            loads.push((name, table));
        }
        let mut rows = 0;
        for (name, table) in loads {
            let full =
                FullName { catalog: self.catalog.to_owned(), schema: self.keyspace.to_owned(), table: name.clone() };
            let load = TableLoad {
                session: self.session,
                table: &table,
                name: &full,
                dir: &self.dir.join(name),
                record: self.record,
            };
            rows += load.run(guard).await.map_err(|error| of_table(error, name))?;
        }
        Ok(rows)
    }

    async fn read(&self) -> Result<KeyspaceManifest, EngineError> {
        let dir = self.dir.to_owned();
        let found = blocking(move || KeyspaceManifest::read(&dir)).await?;
        let Some(manifest) = found else {
            let message = format!("there is no {}: it is no backup of a keyspace", self.dir.join(KEYSPACE).display());
            return Err(EngineError::new(SqlState::UNDEFINED_FILE, message)
                .with_hint("a folder of one table is restored with COPY table FROM"));
        };
        if !manifest.complete {
            let reason = "its backup was not finished".to_owned();
            return Err(TransferError::NotWhole { path: self.dir.join(KEYSPACE), reason }.into());
        }
        Ok(manifest)
    }

    /// The tables' manifests, before anything is made.
    async fn read_tables(&self, manifest: &KeyspaceManifest) -> Result<Vec<(String, Manifest)>, EngineError> {
        let (dir, tables) = (self.dir.to_owned(), manifest.tables.clone());
        blocking(move || {
            tables
                .into_iter()
                .map(|(name, id)| {
                    let folder = dir.join(&name);
                    let lost =
                        |reason: &str| TransferError::NotWhole { path: folder.clone(), reason: reason.to_owned() };
                    let copy = Manifest::read(&folder)?.ok_or_else(|| lost("its manifest is missing"))?;
                    let is_its = matches!(&copy.source, Source::Table { table, .. } if *table == name);
                    match copy.complete && is_its && Some(&copy.id) == id.as_ref() {
                        true => Ok((name, copy)),
                        false => Err(lost("it is not the copy that the backup was made of")),
                    }
                })
                .collect()
        })
        .await
    }

    /// Makes what is not there yet.
    async fn create_objects(&self, cluster: &CassandraCluster, manifest: &KeyspaceManifest) -> Result<(), EngineError> {
        cluster.refresh().await?;
        let is_there = cluster.state().get_keyspace(self.keyspace).is_some();
        let there = if is_there { cluster.describe_keyspace(self.keyspace).await? } else { Vec::new() };
        let there: BTreeSet<(String, String)> = there.into_iter().map(|object| (object.kind, object.name)).collect();
        let factor = options::number(self.given, "replication_factor", 1, 255)?;
        for object in &manifest.objects {
            let is_keyspace = object.kind == "keyspace";
            if (is_keyspace && is_there) || there.contains(&(object.kind.clone(), object.name.clone())) {
                continue;
            }
            let cql = match factor.filter(|_| is_keyspace) {
                Some(factor) => {
                    let replication = [("replication_factor".to_owned(), factor.to_string())];
                    create_keyspace_cql(self.keyspace, &BTreeMap::from(replication))?
                }
                None => for_keyspace(&object.cql, &manifest.keyspace, self.keyspace),
            };
            let made = cluster.execute_ddl(&cql).await.map_err(EngineError::from);
            made.map_err(|error| {
                let message = format!("{} {} cannot be made: {}", object.kind, object.name, error.message);
                let error = EngineError { message, ..error };
                match is_keyspace {
                    true => error
                        .with_hint("another cluster may have other data centres: give the option REPLICATION_FACTOR"),
                    false => error,
                }
            })?;
        }
        Ok(())
    }

    /// Under another key, rows would overwrite one another.
    fn check_key(&self, table: &CassandraTable, copy: &Manifest) -> Result<(), EngineError> {
        use datafusion::catalog::TableProvider;
        let kinds = |columns: &[sluice_executor::transfer::manifest::Column]| -> BTreeSet<(String, Option<String>)> {
            columns.iter().map(|column| (column.name.clone(), column.kind.clone())).collect()
        };
        let schema: Arc<Schema> = table.schema();
        if kinds(&Manifest::columns_of(&schema)) == kinds(&copy.columns) {
            return Ok(());
        }
        let reason = format!("{}.{} is there already, with other columns or another key", self.keyspace, table.name());
        Err(TransferError::Columns(reason).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_name_is_a_plain_folder() {
        for name in ["orders", "MixedCase", "a_1"] {
            assert!(is_table_name(name), "{name}");
        }
        for name in ["", "..", "a/b", "a.b", "/etc"] {
            assert!(!is_table_name(name), "{name}");
        }
    }

    #[test]
    fn a_keyspace_whose_tables_lead_elsewhere_is_damaged() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut manifest = KeyspaceManifest {
            version: VERSION,
            id: "one".to_owned(),
            complete: true,
            keyspace: "ks".to_owned(),
            objects: Vec::new(),
            tables: BTreeMap::from([("t".to_owned(), Some("id".to_owned()))]),
            started_ms: 1,
            finished_ms: Some(2),
        };
        manifest.write(dir.path()).expect("is written");
        assert_eq!(KeyspaceManifest::read(dir.path()).expect("is read"), Some(manifest.clone()));
        manifest.tables.insert("../t".to_owned(), None);
        manifest.write(dir.path()).expect("is written");
        assert_eq!(KeyspaceManifest::read(dir.path()).expect_err("leads elsewhere").sqlstate(), "XX001");
    }
}
