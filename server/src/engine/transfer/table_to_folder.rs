//! `COPY table TO 'folder/'`: a Cassandra table by its token ranges.

use std::collections::HashMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use futures::TryStreamExt;
use sluice_executor::cassandra::CassandraTable;
use sluice_executor::transfer::manifest::{
    Compression, MANIFEST, Manifest, Range, Seal, Source, Unit, VERSION, file_in,
};
use sluice_executor::transfer::part::open_checked;
use sluice_executor::transfer::write::{Files, WriteSpec, Written, decode_written};
use sluice_executor::transfer::{TransferError, TransferWriteExec, whole};

use super::super::error::{EngineError, SqlState};
use super::super::query::{Placement, QueryRecord};
use super::super::run::{self, Placed};
use super::super::session::Session;
use super::registry::{TransferGuard, TransferRecord};
use super::{blocking, log_end};

/// Files of one copy. A larger table has larger ranges.
pub const MOST_UNITS: usize = 100_000;
/// Ranges of one job: enough to keep executors busy, few enough that plans and results stay small.
const UNITS_PER_JOB: usize = 256;
/// How often the folder is looked at for files that have come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A copy of a table.
pub struct TableCopy<'a> {
    pub session: &'a Arc<Session>,
    pub table: &'a CassandraTable,
    pub dir: &'a Path,
    pub compression: Compression,
    /// Least number of token ranges.
    pub ranges: usize,
    pub record: &'a Arc<QueryRecord>,
}

impl TableCopy<'_> {
    /// Makes the copy, or what is missing of it.
    pub async fn run(&self, guard: &TransferGuard) -> Result<Manifest, EngineError> {
        let allocation = self.session.engine().scheduler.allocation();
        self.record.admitted(allocation, &self.session.queue()).await?;
        let progress = guard.record();
        let found = self.find().await?;
        if let Some(manifest) = found.as_ref().filter(|manifest| manifest.complete) {
            return self.check(manifest.clone(), progress).await;
        }
        let mut manifest = match found {
            Some(manifest) => manifest,
            None => self.begin().await?,
        };
        progress.expect(manifest.units.len());
        let mut kept = 0;
        let mut seals: HashMap<Range, Seal> = HashMap::with_capacity(manifest.units.len());
        let ranges: Vec<Range> = manifest.units.iter().filter_map(|unit| unit.range).collect();
        for ranges in ranges.chunks(UNITS_PER_JOB) {
            for file in self.write_wave(&manifest, ranges, progress).await? {
                kept += usize::from(file.is_kept);
                seals.extend(file.range.map(|range| (range, file.seal)));
            }
        }
        for unit in &mut manifest.units {
            unit.seal = unit.range.and_then(|range| seals.remove(&range));
        }
        progress.kept(kept);
        if kept > 0 {
            let (kept, all) = (kept, manifest.units.len());
            self.session.notice(format!("{kept} of {all} token ranges were there already, and were not read again"));
        }
        let manifest = self.complete(manifest).await?;
        log_end(guard, self.dir);
        Ok(manifest)
    }

    fn source(&self) -> Source {
        Source::Table { keyspace: self.table.keyspace().to_owned(), table: self.table.name().to_owned() }
    }

    /// The manifest of an earlier attempt, if it is of this table.
    async fn find(&self) -> Result<Option<Manifest>, EngineError> {
        let dir = self.dir.to_owned();
        let found = blocking(move || {
            std::fs::create_dir_all(&dir).map_err(|error| TransferError::file(&dir, &error))?;
            match Manifest::read(&dir)? {
                Some(manifest) => Ok(Some(manifest)),
                None => must_be_empty(&dir).map(|()| None),
            }
        })
        .await?;
        let Some(manifest) = found else { return Ok(None) };
        let other = |reason: String| TransferError::Other { path: self.dir.to_owned(), reason };
        if manifest.source != self.source() {
            let held = match &manifest.source {
                Source::Table { keyspace, table } => format!("a copy of {keyspace}.{table}"),
                Source::Query { .. } => "the copy of a query".to_owned(),
            };
            return Err(other(format!("{held} and not of {}.{}", self.table.keyspace(), self.table.name())).into());
        }
        if manifest.columns != Manifest::columns_of(&self.table.schema()) {
            let reason = "the table had other columns when the copy was begun";
            return Err(other(reason.to_owned()).into());
        }
        Ok(Some(manifest))
    }

    /// A new copy: what is to be written is noted before it is.
    async fn begin(&self) -> Result<Manifest, EngineError> {
        let (keyspace, name) = (self.table.keyspace(), self.table.name());
        let least_if_unknown = run::target_partitions(self.session).await * 4;
        let ranges = self.table.unit_ranges(self.ranges, least_if_unknown).await;
        if ranges.len() > MOST_UNITS {
            let message = format!("{} token ranges are more than {MOST_UNITS}", ranges.len());
            return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, message)
                .with_hint("raise the catalog's split_size_mb, or lower the option RANGES"));
        }
        // Materialized views, and clusters before Cassandra 4, do not describe themselves.
        let described = self.table.cluster().describe_table(keyspace, name).await.unwrap_or_default();
        let cql = described.into_iter().find(|object| object.kind == "table").map(|object| object.cql);
        let manifest = Manifest {
            version: VERSION,
            id: uuid::Uuid::now_v7().to_string(),
            complete: false,
            source: self.source(),
            columns: Manifest::columns_of(&self.table.schema()),
            cql,
            consistency: Some(self.table.read_consistency(&self.session.context().state())),
            compression: self.compression,
            started_ms: now_ms(),
            finished_ms: None,
            units: ranges.iter().map(|r| Unit::of_range(Range { start: r.start, end: r.end })).collect(),
        };
        let (dir, copy) = (self.dir.to_owned(), manifest.clone());
        blocking(move || copy.write(&dir)).await?;
        Ok(manifest)
    }

    /// Has the executors write the files of some ranges.
    async fn write_wave(
        &self,
        manifest: &Manifest,
        ranges: &[Range],
        progress: &TransferRecord,
    ) -> Result<Vec<Written>, EngineError> {
        let context = run::executor_context(self.session, ranges.len().max(1))?;
        let spans: Vec<(i64, i64)> = ranges.iter().map(|range| (range.start, range.end)).collect();
        let partitions: Vec<_> = self.table.with_replicas(&spans).into_iter().map(|range| vec![range]).collect();
        let scan = self.table.scan_ranges(&context.state(), &partitions).await?;
        let spec = WriteSpec {
            copy_id: manifest.id.clone(),
            dir: self.dir.to_owned(),
            compression: manifest.compression,
            files: Files::Ranges,
        };
        let plan = Arc::new(TransferWriteExec::new(spec, scan));
        let placed = Placed { placement: Placement::Stages, plan, context, may_exhaust_memory: false, is_work: true };
        let part = self.record.part();
        let mut work = pin!(async {
            let batches: Vec<_> = run::start(self.session, placed, &part).await?.try_collect().await?;
            let written: Result<Vec<_>, _> = batches.iter().map(decode_written).collect();
            Ok::<_, EngineError>(written?.into_iter().flatten().collect::<Vec<_>>())
        });
        // Executors in other processes tell of a file by the JSON beside it.
        let mut waited_for: Vec<Range> = ranges.to_vec();
        let written: Vec<Written> = loop {
            tokio::select! {
                biased;
                written = &mut work => break written?,
                () = tokio::time::sleep(LOOK_EVERY) => waited_for = self.look(manifest, waited_for, progress).await?,
            }
        };
        for file in &written {
            if file.range.is_some_and(|range| waited_for.contains(&range)) {
                progress.done(file.seal.rows, file.seal.bytes);
            }
        }
        progress.tell(self.session);
        Ok(written)
    }

    /// Counts the files that have come; the ranges of the others.
    async fn look(
        &self,
        manifest: &Manifest,
        waited_for: Vec<Range>,
        progress: &TransferRecord,
    ) -> Result<Vec<Range>, EngineError> {
        let (dir, id) = (self.dir.to_owned(), manifest.id.clone());
        let look = move || Ok(waited_for.into_iter().map(|range| (range, whole::told(&dir, &id, range))).collect());
        let looked: Vec<(Range, Option<_>)> = blocking(look).await?;
        let mut left = Vec::with_capacity(looked.len());
        for (range, seal) in looked {
            match seal {
                Some(seal) => progress.done(seal.rows, seal.bytes),
                None => left.push(range),
            }
        }
        progress.tell(self.session);
        Ok(left)
    }

    /// Notes that every file is there, once they are where the manifest says.
    async fn complete(&self, mut manifest: Manifest) -> Result<Manifest, EngineError> {
        let dir = self.dir.to_owned();
        blocking(move || {
            for unit in &manifest.units {
                let path = file_in(&dir, &unit.file)?;
                let length = std::fs::metadata(&path).map_err(|error| TransferError::file(&path, &error))?.len();
                if unit.seal.as_ref().is_none_or(|seal| seal.bytes != length) {
                    return Err(TransferError::damaged(
                        &path,
                        format!("it has {length} bytes, not those that were written"),
                    ));
                }
            }
            manifest.complete = true;
            manifest.finished_ms = Some(now_ms());
            manifest.write(&dir)?;
            Ok(manifest)
        })
        .await
    }

    /// A copy that is complete already is compared with its hashes, and nothing is read from Cassandra.
    async fn check(&self, manifest: Manifest, progress: &TransferRecord) -> Result<Manifest, EngineError> {
        progress.expect(manifest.units.len());
        for unit in &manifest.units {
            let Some(seal) = unit.seal.clone() else { continue };
            let (path, compared) = (file_in(self.dir, &unit.file)?, seal.clone());
            blocking(move || open_checked(&path, &compared)).await?;
            progress.done(seal.rows, seal.bytes);
            progress.tell(self.session);
        }
        progress.kept(manifest.units.len());
        self.session.notice(format!(
            "{} is complete already, and its files are whole: nothing was read again; another folder takes a new copy",
            self.dir.join(MANIFEST).display()
        ));
        Ok(manifest)
    }
}

/// The present in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A new copy shares its folder with nothing.
pub fn must_be_empty(dir: &Path) -> Result<(), TransferError> {
    let error = |error: std::io::Error| TransferError::file(dir, &error);
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let name = entry.map_err(error)?.file_name().to_string_lossy().into_owned();
        if !is_left_over(&name) {
            let reason = format!("it has no manifest of a copy, and is not empty: there is {name}");
            return Err(TransferError::Other { path: dir.to_owned(), reason });
        }
    }
    Ok(())
}

/// Whether a name is one of what a copy leaves when it is killed.
fn is_left_over(name: &str) -> bool {
    name.starts_with('.') && (name.ends_with(".tmp") || name.starts_with(".copy-"))
}
