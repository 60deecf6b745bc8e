//! Statements that run before they are fetched: `PollFlightInfo`.
//!
//! The first poll starts the statement. One whose rows are left on executors is ready when it has ended. Any other is
//! ready when its first batch of rows is there, or its end; that batch is held, and the rest waits behind it until the
//! client fetches the result. A statement that nobody polls or fetches for [`LIFETIME`] is stopped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, PollInfo, Ticket};
use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use futures::{FutureExt, StreamExt, stream};
use prost::Message;
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

use super::handles::{Planned, id_of, unknown};
use super::service::{DoGet, batches, flight_data, status};
use super::{endpoints, portable};
use crate::engine::{Engine, EngineError, JobProgress, Session, Wire};

/// How long a statement waits to be polled or fetched.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How long the first answer waits, so that a short statement is ready at once.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// How long later answers wait for news.
const NEXT_WAIT: Duration = Duration::from_secs(5);
/// Time between two looks at how far a statement is.
const LOOK: Duration = Duration::from_millis(250);

/// Random numbers, and the statements that they stand for.
pub struct Polled {
    capacity: usize,
    entries: Mutex<HashMap<Uuid, Entry>>,
}

struct Entry {
    statement: Arc<Started>,
    used: Instant,
}

/// A statement that was started.
pub struct Started {
    user: String,
    schema: SchemaRef,
    /// What its result is fetched by, and it is polled by.
    ticket: Bytes,
    engine: Arc<Engine>,
    session: Arc<Session>,
    /// The query that ran in the session before, if one did.
    earlier: Option<String>,
    /// The statement's own query, once it is known.
    query: OnceLock<String>,
    state: watch::Receiver<State>,
    /// The result, once it is there and until it is fetched, unless executors have it.
    result: Arc<Mutex<Option<DoGet>>>,
    task: tokio::task::JoinHandle<()>,
}

/// How far a started statement is.
#[derive(Clone)]
enum State {
    Runs,
    /// The rows are there.
    Ready,
    /// The rows are on executors.
    Left(Box<FlightInfo>),
    Failed(Status),
}

impl Drop for Started {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Polled {
    /// At most `capacity` statements.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::default() }
    }

    /// Starts a statement, and answers its first poll.
    pub async fn start(&self, planned: Planned, engine: Arc<Engine>, wire: Wire) -> Result<PollInfo, Status> {
        let id = Uuid::new_v4();
        let started = Arc::new(Started::new(id, planned, engine, wire));
        self.sweep();
        self.with(|entries| {
            if entries.len() >= self.capacity {
                return Err(Status::resource_exhausted(format!(
                    "{} statements run or wait to be fetched, which is the limit: fetch their results",
                    self.capacity
                )));
            }
            entries.insert(id, Entry { statement: Arc::clone(&started), used: Instant::now() });
            Ok(())
        })?;
        started.news(FIRST_WAIT).await;
        self.answer(id, &started).await
    }

    /// Answers a later poll, when there is news or after a while.
    pub async fn next(&self, handle: &[u8], user: &str) -> Result<PollInfo, Status> {
        let started = self.get(handle, user)?;
        started.news(NEXT_WAIT).await;
        self.answer(id_of(handle)?, &started).await
    }

    async fn answer(&self, id: Uuid, started: &Started) -> Result<PollInfo, Status> {
        let result = started.info().inspect_err(|_| drop(self.remove(id)))?;
        let is_ready = result.is_some();
        let info = result.map_or_else(|| started.empty_info(), Ok)?;
        let flight_descriptor = if is_ready { None } else { info.flight_descriptor.clone() };
        let progress = if is_ready { Some(1.0) } else { started.progress().await };
        Ok(PollInfo { info: Some(info), flight_descriptor, progress, expiration_time: Some(expires().into()) })
    }

    /// The result of a statement, which can be fetched once; `None` if the handle is not that of one.
    pub async fn take(&self, handle: &[u8], user: &str) -> Option<Result<DoGet, Status>> {
        let started = self.get(handle, user).ok()?;
        // When the task is stopped, its end of the channel closes.
        let _ = started.state.clone().wait_for(|state| !matches!(state, State::Runs)).await;
        self.remove(id_of(handle).ok()?);
        let result = || started.result.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(unknown);
        Some(started.info().and_then(|_| result()))
    }

    /// Stops a statement that has not been fetched; tells whether there was one.
    pub fn stop(&self, handle: &[u8], user: &str) -> bool {
        let found = self.get(handle, user).and_then(|_| id_of(handle));
        let Some(started) = found.ok().and_then(|id| self.remove(id)) else { return false };
        started.stop();
        true
    }

    fn remove(&self, id: Uuid) -> Option<Arc<Started>> {
        self.with(|entries| entries.remove(&id)).map(|entry| entry.statement)
    }

    /// Keeps a statement for longer; tells whether there is one.
    pub fn renew(&self, handle: &[u8], user: &str) -> bool {
        self.get(handle, user).is_ok()
    }

    /// Forgets, and stops, statements that nobody asks about.
    pub fn sweep(&self) {
        self.with(|entries| entries.retain(|_, entry| entry.used.elapsed() < LIFETIME));
    }

    fn get(&self, handle: &[u8], user: &str) -> Result<Arc<Started>, Status> {
        let id = id_of(handle)?;
        self.with(|entries| {
            let entry = entries.get_mut(&id).filter(|entry| entry.statement.user == user).ok_or_else(unknown)?;
            entry.used = Instant::now();
            Ok(Arc::clone(&entry.statement))
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<Uuid, Entry>) -> T) -> T {
        f(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Started {
    fn new(id: Uuid, planned: Planned, engine: Arc<Engine>, wire: Wire) -> Self {
        let statement_handle = Bytes::copy_from_slice(id.as_bytes());
        let ticket = Bytes::from(TicketStatementQuery { statement_handle }.as_any().encode_to_vec());
        let user = planned.session.user().to_owned();
        let schema = portable::schema(&planned.prepared.schema);
        let session = Arc::clone(&planned.session);
        let earlier = session.running_query();
        let result = Arc::new(Mutex::new(None));
        let (sender, state) = watch::channel(State::Runs);
        let task = {
            let (result, engine) = (Arc::clone(&result), Arc::clone(&engine));
            let descriptor = FlightDescriptor::new_cmd(ticket.clone());
            tokio::spawn(async move {
                let end = match endpoints::of(&engine, &planned, &descriptor, wire).boxed().await {
                    Ok(Some(info)) => State::Left(Box::new(info)),
                    Ok(None) => match run_to_first_batch(planned).boxed().await {
                        Ok(rows) => {
                            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(rows);
                            State::Ready
                        }
                        Err(error) => State::Failed(error),
                    },
                    Err(error) => State::Failed(error),
                };
                // Nobody may be interested any more.
                let _ = sender.send(end);
            })
        };
        Self { user, schema, ticket, engine, session, earlier, query: OnceLock::new(), state, result, task }
    }

    /// Ends the task and lets go of the rows, which ends the statement.
    fn stop(&self) {
        self.task.abort();
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Where the result is; `None` as long as it is not there.
    ///
    /// # Errors
    ///
    /// The statement's own, or 57014 if it was stopped.
    fn info(&self) -> Result<Option<FlightInfo>, Status> {
        let has_ended = self.state.has_changed().is_err();
        match &*self.state.borrow() {
            State::Ready => {
                let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(self.ticket.clone()));
                let info = self.empty_info()?.with_endpoint(endpoint.with_expiration_time(expires().into()));
                Ok(Some(info))
            }
            State::Left(info) => Ok(Some(info.as_ref().clone())),
            State::Failed(error) => Err(error.clone()),
            State::Runs if has_ended => Err(status(EngineError::cancelled())),
            State::Runs => Ok(None),
        }
    }

    /// What is told before the result is there. The ticket stands in `app_metadata`, so that it can be cancelled by it.
    fn empty_info(&self) -> Result<FlightInfo, Status> {
        let info = FlightInfo::new().try_with_schema(&self.schema);
        let info = info.map_err(|error| Status::internal(error.to_string()))?;
        let descriptor = FlightDescriptor::new_cmd(self.ticket.clone());
        Ok(info.with_descriptor(descriptor).with_app_metadata(self.ticket.clone()))
    }

    /// Waits until the statement is ready, has failed, or is further than it was.
    async fn news(&self, at_most: Duration) {
        let mut state = self.state.clone();
        let before = self.progress().await;
        let look = async {
            loop {
                tokio::time::sleep(LOOK).await;
                if self.progress().await != before {
                    return;
                }
            }
        };
        tokio::select! {
            _ = state.wait_for(|state| !matches!(state, State::Runs)) => {}
            () = look => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    /// The share of the statement's work that is done, if that is known.
    async fn progress(&self) -> Option<f64> {
        let is_own = |id: &String| Some(id) != self.earlier.as_ref();
        if let Some(id) = self.session.running_query().filter(is_own) {
            // The first is the statement's.
            let _ = self.query.set(id);
        }
        let stages = self.engine.query_details(self.query.get()?).boxed().await?.stages;
        JobProgress::of(&stages).map(|progress| progress.share())
    }
}

/// When a statement of now is stopped if nobody asks about it.
pub fn expires() -> SystemTime {
    SystemTime::now() + LIFETIME
}

/// Runs a statement until its first batch is there, and gives all of its rows.
async fn run_to_first_batch(planned: Planned) -> Result<DoGet, Status> {
    let (schema, mut rows) = batches(planned).await?;
    let first = rows.next().await.transpose()?;
    Ok(flight_data(schema, stream::iter(first.map(Ok)).chain(rows)))
}
