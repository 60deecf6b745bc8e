//! `ANALYZE`: samples of Cassandra tables, and where what they told is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::CatalogProviderList;
use sluice_executor::cassandra::sample::{self, DEFAULT_SAMPLE_ROWS, MOST_SAMPLE_ROWS};
use sluice_executor::cassandra::statistics::ColumnSample;
use sluice_executor::cassandra::{CassandraCatalog, TableStatistics};
use sluice_planner::catalog::CatalogStore;
use sluice_planner::catalog::definition::replace_file;

use super::ddl::FullName;
use super::error::{EngineError, SqlState};
use super::session::Session;

/// The fewest rows of a sample that say anything.
const LEAST_SAMPLE_ROWS: u64 = 100;

/// By catalog, schema and table.
type ByTable = BTreeMap<String, BTreeMap<String, BTreeMap<String, Arc<TableStatistics>>>>;

/// What samples told of tables, over a restart.
pub struct StatisticsStore {
    path: PathBuf,
    kept: Mutex<ByTable>,
}

/// A column of a table that was sampled.
pub struct SampledColumn {
    pub catalog: String,
    pub schema: String,
    pub table: String,
    pub column: String,
    pub of_table: Arc<TableStatistics>,
    pub sample: ColumnSample,
}

impl StatisticsStore {
    /// Reads what was kept before, and gives it to the catalogs, which know nothing of their tables yet.
    pub fn open(path: PathBuf, catalogs: &CatalogStore) -> Result<Self, EngineError> {
        let kept: ByTable = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                EngineError::new(SqlState::DATA_CORRUPTED, format!("{} cannot be read: {error}", path.display()))
                    .with_hint("remove the file, and run ANALYZE again")
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ByTable::new(),
            Err(error) => return Err(store_error(&path, &error)),
        };
        for (catalog, schemas) in &kept {
            let Some(provider) = catalogs.list().catalog(catalog) else { continue };
            let Some(cassandra) = provider.downcast_ref::<CassandraCatalog>() else { continue };
            for (schema, tables) in schemas {
                for (table, statistics) in tables {
                    cassandra.keep_statistics(schema, table, statistics.clone());
                }
            }
        }
        Ok(Self { path, kept: Mutex::new(kept) })
    }

    fn keep(
        &self,
        catalog: &str,
        schema: &str,
        table: &str,
        statistics: Arc<TableStatistics>,
    ) -> Result<(), EngineError> {
        self.change(|kept| {
            let schemas = kept.entry(catalog.to_owned()).or_default();
            schemas.entry(schema.to_owned()).or_default().insert(table.to_owned(), statistics);
            true
        })
    }

    /// Forgets a table, or all of a catalog, that was dropped.
    pub fn forget(&self, catalog: &str, table: Option<(&str, &str)>) -> Result<(), EngineError> {
        self.change(|kept| match table {
            None => kept.remove(catalog).is_some(),
            Some((schema, table)) => {
                kept.get_mut(catalog).and_then(|schemas| schemas.get_mut(schema)?.remove(table)).is_some()
            }
        })
    }

    /// Every column that was sampled.
    pub fn columns(&self) -> Vec<SampledColumn> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for (catalog, schemas) in kept.iter() {
            for (schema, tables) in schemas {
                for (table, statistics) in tables {
                    all.extend(statistics.columns.iter().map(|(column, sample)| SampledColumn {
                        catalog: catalog.clone(),
                        schema: schema.clone(),
                        table: table.clone(),
                        column: column.clone(),
                        of_table: statistics.clone(),
                        sample: sample.clone(),
                    }));
                }
            }
        }
        all
    }

    /// Applies a change and writes it down, if it was one.
    fn change(&self, change: impl FnOnce(&mut ByTable) -> bool) -> Result<(), EngineError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !change(&mut kept) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&*kept)
            .map_err(|error| EngineError::new(SqlState::INTERNAL, error.to_string()))?;
        replace_file(&self.path, &text).map_err(|error| store_error(&self.path, &error))
    }
}

fn store_error(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::new(SqlState::IO_ERROR, format!("cannot use {}: {error}", path.display()))
}

/// Runs `ANALYZE`. What is not in Cassandra is told in a notice: PostgreSQL's clients run it on whatever there is.
pub(super) async fn execute(
    session: &Session,
    table: Option<&[String]>,
    columns: &[String],
    options: &BTreeMap<String, String>,
) -> Result<(), EngineError> {
    let Some(parts) = table else {
        session.notice("ANALYZE without a table does nothing: name a Cassandra table".to_owned());
        return Ok(());
    };
    let row_count = sample_rows(options)?;
    let name = FullName::of_parts(session, parts)?;
    let known = session.named_table(&name).await?.schema();
    let provider = session.engine().catalogs.cassandra(&name.catalog);
    let Some(cassandra) = provider.as_ref().and_then(|provider| provider.downcast_ref::<CassandraCatalog>()) else {
        session.notice(format!("\"{}\" is not in Cassandra: what is known of it comes from its files", name.table));
        return Ok(());
    };
    if let Some(unknown) = columns.iter().find(|column| known.column_with_name(column).is_none()) {
        return Err(EngineError::no_column(unknown, &name.table));
    }
    let cluster = cassandra.cluster().await?;
    let statistics = sample::analyze(&cluster, &name.schema, &name.table, columns, row_count).await?;
    session.notice(format!(
        "{} rows of about {} were sampled: SELECT * FROM {}.system.table_statistics",
        statistics.sampled_rows,
        statistics.row_count,
        sluice_planner::catalog::DEFAULT_CATALOG
    ));
    session.engine().statistics.keep(&name.catalog, &name.schema, &name.table, statistics)
}

fn sample_rows(options: &BTreeMap<String, String>) -> Result<u64, EngineError> {
    let mut row_count = DEFAULT_SAMPLE_ROWS;
    for (name, value) in options {
        if !name.eq_ignore_ascii_case("rows") {
            let message = format!("ANALYZE has no option \"{name}\"");
            return Err(EngineError::new(SqlState::INVALID_PARAMETER, message).with_hint("its option is rows"));
        }
        let in_limits = value.parse().ok().filter(|rows| (LEAST_SAMPLE_ROWS..=MOST_SAMPLE_ROWS).contains(rows));
        row_count = in_limits.ok_or_else(|| {
            let message = format!("rows is \"{value}\": it takes {LEAST_SAMPLE_ROWS} to {MOST_SAMPLE_ROWS}");
            EngineError::new(SqlState::INVALID_PARAMETER, message)
        })?;
    }
    Ok(row_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics() -> Arc<TableStatistics> {
        let sample = ColumnSample {
            distinct_count: 3,
            null_fraction: 0.5,
            min: None,
            max: Some("9".to_owned()),
            mean_bytes: 4.0,
        };
        Arc::new(TableStatistics {
            row_count: 10,
            partition_count: 10,
            table_bytes: None,
            sampled_rows: 10,
            analyzed_at_ms: 1,
            columns: [("n".to_owned(), sample)].into(),
        })
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("statistics.json");
        let catalogs = CatalogStore::open(directory.path().join("catalog.json"), [], []).expect("is empty");
        let store = StatisticsStore::open(path.clone(), &catalogs).expect("is empty");
        store.keep("cass", "ks", "t", statistics()).expect("is kept");
        store.keep("cass", "ks", "u", statistics()).expect("is kept");
        store.forget("cass", Some(("ks", "u"))).expect("is forgotten");
        let again = StatisticsStore::open(path, &catalogs).expect("is read").columns();
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].table.as_str(), &again[0].of_table), ("t", &statistics()));
    }

    #[test]
    fn options_are_checked() {
        let options = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(sample_rows(&options("rows", "500")).expect("is right"), 500);
        assert!(sample_rows(&options("rows", "5")).is_err());
        assert!(sample_rows(&options("size", "500")).is_err());
    }
}
