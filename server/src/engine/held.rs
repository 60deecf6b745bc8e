//! Results that executors hold for clients that fetch them in parts.
//!
//! Such a query has run to its end, and holds no resources of its queue any more: what is left of it are the files of its
//! last stage. They are there until all of it was read through this process, until the client gives it up, or until the
//! time of its tickets is over, whichever comes first. An executor that has sent files to a client removes them by itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use ballista_core::serde::scheduler::PartitionLocation;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use sluice_executor::results::{Reachable, ResultPart};

use super::Engine;
use super::opaque::Opaque;
use super::result::ResultReader;
use super::run::JobGuard;

/// Results that may be held at a time; each is a few hundred bytes here, and files on executors.
const MOST_RESULTS: usize = 10_000;
/// Results of one user, whose files would otherwise fill the executors' disks for all.
const MOST_RESULTS_OF_USER: usize = 100;

/// A partition of a result.
#[derive(Debug, Clone)]
pub struct HeldPart {
    /// The host name or address of the executor that has it.
    pub host: String,
    /// Where that executor serves clients; `None` if it cannot send it to them.
    pub reachable: Option<Reachable>,
    /// The file.
    pub file: ResultPart,
    /// Bytes of the file.
    pub bytes: u64,
    location: PartitionLocation,
}

/// The rows of a query that has run.
pub struct HeldResult {
    /// The query's id, as `system.queries` shows it.
    pub query_id: String,
    /// Who ran it.
    pub user: String,
    /// The scheduler's job.
    pub job_id: String,
    /// The statement's columns.
    pub schema: SchemaRef,
    /// The same as the executors wrote them.
    pub written: SchemaRef,
    /// How many rows there are, if that is known.
    pub rows: Option<u64>,
    /// When it will be removed.
    pub expires: SystemTime,
    /// The partitions that have rows, in their order.
    pub parts: Vec<HeldPart>,
    reader: Arc<ResultReader>,
    unread: Mutex<HashSet<ResultPart>>,
    registry: Weak<Entries>,
    _job: Opaque<JobGuard>,
}

/// What a finished job left, before it is held.
pub(super) struct FinishedJob {
    pub schema: SchemaRef,
    /// Where the partitions are, and how many rows each has, if that is known, in their order.
    pub parts: Vec<(PartitionLocation, Option<u64>)>,
    pub reader: ResultReader,
    pub guard: JobGuard,
    pub job_id: String,
}

impl HeldResult {
    /// The rows of some parts, one after another, read through this process.
    ///
    /// Parts that are not of this result have no rows.
    pub fn read(self: &Arc<Self>, files: &[ResultPart]) -> SendableRecordBatchStream {
        let wanted = |file: &ResultPart| self.parts.iter().find(|part| part.file == *file);
        let locations = files.iter().filter_map(wanted).map(|part| part.location.clone()).collect();
        let rows = self.reader.clone().read(self.written.clone(), locations);
        let (held, files) = (self.clone(), files.to_vec());
        // The files are there for as long as somebody reads them, although their time may be over by then.
        let rows = futures::stream::unfold((rows, Some((held, files))), |(mut rows, mut held)| async move {
            let next = rows.next().await;
            match (&next, held.take()) {
                (None, Some((result, files))) => result.were_read(&files),
                (_, still_held) => held = still_held,
            }
            Some((next?, (rows, held)))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.written.clone(), rows.boxed()))
    }

    fn were_read(&self, files: &[ResultPart]) {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        unread.retain(|file| !files.contains(file));
        if let Some(entries) = self.registry.upgrade().filter(|_| unread.is_empty()) {
            entries.remove(&self.query_id);
        }
    }
}

/// Results by the ids of their queries.
#[derive(Default)]
struct Entries(Mutex<HashMap<String, Arc<HeldResult>>>);

impl Entries {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<String, Arc<HeldResult>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remove(&self, query_id: &str) -> Option<Arc<HeldResult>> {
        self.with(|entries| entries.remove(query_id))
    }
}

/// Whether rows may travel in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// As they do between the client and this service.
    MayBeClear,
    /// The client's connection is encrypted, and so has to be every other that its rows take.
    Encrypted,
}

/// Whether every executor serves clients, so that a result of several of them can be fetched there.
pub(super) async fn executors_serve_clients(engine: &Engine, wire: Wire) -> bool {
    let executors = engine.scheduler.registrations().await;
    let can_serve =
        |executor| Reachable::told_by(executor).is_some_and(|reachable| reachable.tls || wire == Wire::MayBeClear);
    engine.ticket_secret.is_some() && !executors.is_empty() && executors.iter().all(can_serve)
}

/// The results that are held.
#[derive(Default)]
pub struct HeldResults {
    entries: Arc<Entries>,
}

impl HeldResults {
    /// Whether another result of this user may be held.
    pub(super) fn has_room(&self, user: &str) -> bool {
        self.entries.with(|entries| {
            entries.len() < MOST_RESULTS
                && entries.values().filter(|result| result.user == user).count() < MOST_RESULTS_OF_USER
        })
    }

    /// Holds what a job of a user's query left, for so long.
    pub(super) fn add(
        &self,
        query_id: &str,
        user: &str,
        schema: SchemaRef,
        job: FinishedJob,
        lifetime: Duration,
    ) -> Arc<HeldResult> {
        let rows = job.parts.iter().map(|(_, rows)| *rows).sum();
        let with_rows = job.parts.into_iter().filter(|(_, rows)| *rows != Some(0));
        let parts: Vec<HeldPart> = with_rows.map(|(location, _)| held_part(location)).collect();
        let result = Arc::new(HeldResult {
            query_id: query_id.to_owned(),
            user: user.to_owned(),
            job_id: job.job_id,
            schema,
            written: job.schema,
            rows,
            expires: SystemTime::now() + lifetime,
            unread: Mutex::new(parts.iter().map(|part| part.file).collect()),
            parts,
            reader: Arc::new(job.reader),
            registry: Arc::downgrade(&self.entries),
            _job: job.guard.into(),
        });
        self.entries.with(|entries| entries.insert(query_id.to_owned(), result.clone()));
        let (entries, query_id) = (Arc::downgrade(&self.entries), query_id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(lifetime).await;
            if let Some(entries) = entries.upgrade() {
                drop(entries.remove(&query_id));
            }
        });
        result
    }

    /// A user's result; `None` if it has been read, given up, or has expired.
    pub fn get(&self, query_id: &str, user: &str) -> Option<Arc<HeldResult>> {
        self.entries.with(|entries| entries.get(query_id).filter(|result| result.user == user).cloned())
    }

    /// Removes a user's result before its time is over; tells whether there was one.
    pub fn give_up(&self, query_id: &str, user: &str) -> bool {
        let is_users = self.get(query_id, user).is_some();
        is_users && self.entries.remove(query_id).is_some()
    }

    /// Removes all of them.
    pub(super) fn clear(&self) {
        let all = self.entries.with(std::mem::take);
        drop(all);
    }
}

fn held_part(location: PartitionLocation) -> HeldPart {
    let id = &location.partition_id;
    // A file that holds more than its partition is read through this process.
    let reachable = Reachable::told_by(&location.executor_meta).filter(|_| !location.is_sort_shuffle);
    HeldPart {
        host: location.executor_meta.host.clone(),
        reachable,
        file: ResultPart { stage: id.stage_id, partition: id.partition_id, file: location.file_id },
        bytes: location.partition_stats.num_bytes().unwrap_or(0),
        location,
    }
}
