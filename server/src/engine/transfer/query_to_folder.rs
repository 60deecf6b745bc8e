//! `COPY (query) TO 'folder/'`: a query's rows as files, in folders by columns' values if that is wanted.
//!
//! The files wait under names of their own until all are there, and come into their places when the query has ended:
//! a task that is repeated leaves nothing that anybody reads.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt;
use sluice_executor::transfer::hive::{hive_folder, waiting_folder};
use sluice_executor::transfer::manifest::{Compression, Manifest, Source, Unit, VERSION};
use sluice_executor::transfer::write::{Files, WriteSpec, Written, decode_written};
use sluice_executor::transfer::{TransferError, TransferWriteExec};
use sluice_planner::statement::{Statement, StatementKind};

use super::super::error::{EngineError, SqlState};
use super::super::query::QueryRecord;
use super::super::run::{self, Placed};
use super::super::session::Session;
use super::registry::TransferGuard;
use super::table_to_folder::{MOST_UNITS, must_be_empty, now_ms};
use super::{blocking, log_end};

/// A copy of a query's rows.
pub struct QueryCopy<'a> {
    pub session: &'a Arc<Session>,
    pub query: &'a Statement,
    pub dir: &'a Path,
    pub compression: Compression,
    /// Columns whose values make folders.
    pub partition_by: &'a [String],
}

impl QueryCopy<'_> {
    /// Runs the query and writes its rows; their number.
    pub async fn run(&self, guard: &TransferGuard, record: &Arc<QueryRecord>) -> Result<u64, EngineError> {
        let StatementKind::Sql(sql) = &self.query.kind else {
            return Err(EngineError::new(SqlState::SYNTAX_ERROR, "COPY takes a query in its parentheses"));
        };
        let started_ms = now_ms();
        let plan = self.session.plan(self.query, sql).await?;
        if plan.schema().fields().len() <= self.partition_by.len() {
            return Err(EngineError::new(SqlState::INVALID_PARAMETER, "PARTITION_BY leaves no column for the files"));
        }
        let columns = Manifest::columns_of(plan.schema().as_arrow());
        let dir = self.dir.to_owned();
        blocking(move || {
            std::fs::create_dir_all(&dir).map_err(|error| TransferError::file(&dir, &error))?;
            must_be_empty(&dir)?;
            remove_left_overs(&dir)
        })
        .await?;
        let id = uuid::Uuid::now_v7().to_string();
        let _cleaning = Cleaning(self.dir.join(waiting_folder(&id)));
        let spec = WriteSpec {
            copy_id: id.clone(),
            dir: self.dir.to_owned(),
            compression: self.compression,
            files: Files::Hive { partition_by: self.partition_by.to_vec() },
        };
        let placed = run::place(self.session, &plan).await?;
        let plan = Arc::new(TransferWriteExec::new(spec, placed.plan.clone()));
        let mut rows = run::start(self.session, Placed { plan, ..placed }, record).await?;
        let mut written: Vec<Written> = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            written.extend(decode_written(&batch)?);
            if written.len() > MOST_UNITS {
                let message = format!("the query makes more than {MOST_UNITS} files");
                return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, message)
                    .with_hint("partition by columns with fewer values, or sort by them"));
            }
        }
        let manifest = Manifest {
            version: VERSION,
            id,
            complete: true,
            source: Source::Query { sql: self.query.text.clone() },
            columns,
            cql: None,
            consistency: None,
            compression: self.compression,
            started_ms,
            finished_ms: None,
            units: Vec::new(),
        };
        let dir = self.dir.to_owned();
        let manifest = blocking(move || put_in_place(&dir, manifest, written)).await?;
        guard.record().expect(manifest.units.len());
        for seal in manifest.units.iter().filter_map(|unit| unit.seal.as_ref()) {
            guard.record().done(seal.rows, seal.bytes);
        }
        log_end(guard, self.dir);
        Ok(manifest.rows())
    }
}

/// Gives files their names, and then says that they are there; blocks.
fn put_in_place(dir: &Path, mut manifest: Manifest, written: Vec<Written>) -> Result<Manifest, TransferError> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for file in written {
        let folder = hive_folder(&file.partition);
        let number = numbers.entry(folder.clone()).or_default();
        let name = format!("part-{number:05}.parquet");
        *number += 1;
        let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let (from, to) = (dir.join(&file.file), dir.join(&name));
        let error = |error: std::io::Error| TransferError::file(&to, &error);
        std::fs::create_dir_all(dir.join(&folder)).map_err(error)?;
        std::fs::rename(&from, &to).map_err(error)?;
        manifest.units.push(Unit { file: name, range: None, partition: file.partition, seal: Some(file.seal) });
    }
    for folder in numbers.keys() {
        let folder = dir.join(folder);
        let synced = std::fs::File::open(&folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| TransferError::file(&folder, &error))?;
    }
    manifest.finished_ms = Some(now_ms());
    manifest.write(dir)?;
    Ok(manifest)
}

/// What killed copies left, in a folder that holds nothing else.
fn remove_left_overs(dir: &Path) -> Result<(), TransferError> {
    let error = |error: std::io::Error| TransferError::file(dir, &error);
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }.map_err(error)?;
    }
    Ok(())
}

/// Removes the files that did not come into their places.
struct Cleaning(std::path::PathBuf);

impl Drop for Cleaning {
    fn drop(&mut self) {
        // It is not there when no row was written, or when executors see another folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
