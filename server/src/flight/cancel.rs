//! Statements that run, and stopping them.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_flight::FlightInfo;
use arrow_flight::sql::{Any, Command};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::service::{DoGet, status};
use crate::engine::EngineError;

/// The statements whose results are being fetched, by the handles in their tickets.
#[derive(Clone, Default)]
pub struct Running(Arc<Mutex<HashMap<Bytes, Vec<Entry>>>>);

struct Entry {
    user: String,
    stop: CancellationToken,
}

impl Running {
    /// Notes that a user's statement starts. It is one of those that run until what is returned is dropped.
    pub fn start(&self, handle: &Bytes, user: &str) -> Cancellable {
        let stop = CancellationToken::new();
        self.with(|entries| {
            let entry = Entry { user: user.to_owned(), stop: stop.clone() };
            entries.entry(handle.clone()).or_default().push(entry);
        });
        Cancellable { running: self.clone(), handle: handle.clone(), stop }
    }

    /// Stops a user's statements of this handle; tells whether there were any.
    pub fn stop(&self, handle: &[u8], user: &str) -> bool {
        self.with(|entries| {
            let found = entries.get(handle).into_iter().flatten().filter(|entry| entry.user == user);
            found.map(|entry| entry.stop.cancel()).count() > 0
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<Bytes, Vec<Entry>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A statement that can be stopped.
pub struct Cancellable {
    running: Running,
    handle: Bytes,
    stop: CancellationToken,
}

impl Cancellable {
    /// The results of the statement until it is stopped: then their reader gets 57014, and it is let go of.
    pub async fn until_stopped(self, results: impl Future<Output = Result<DoGet, Status>>) -> Result<DoGet, Status> {
        let results = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(stopped()),
            results = results => results?,
        };
        Ok(results.map(|data| {
            let read = data.take_until(self.stop.clone().cancelled_owned());
            let end = async move { self.stop.is_cancelled().then(|| Err(stopped())) };
            read.chain(end.into_stream().filter_map(ready)).boxed()
        }))
    }
}

impl Drop for Cancellable {
    fn drop(&mut self) {
        self.running.with(|entries| {
            // Two tokens are equal only if one is the other's clone, which nothing else tells: the stopped ones go too.
            self.stop.cancel();
            if let Some(runs) = entries.get_mut(&self.handle) {
                runs.retain(|entry| !entry.stop.is_cancelled());
                if runs.is_empty() {
                    entries.remove(&self.handle);
                }
            }
        });
    }
}

fn stopped() -> Status {
    status(EngineError::cancelled())
}

/// What the tickets of a result ask for. Those of a statement that is not ready yet stand in its `app_metadata`.
pub fn tickets(info: &FlightInfo) -> Vec<Command> {
    let tickets = info.endpoint.iter().filter_map(|endpoint| Some(&endpoint.ticket.as_ref()?.ticket));
    tickets.chain([&info.app_metadata]).filter_map(|ticket| command(ticket)).collect()
}

/// What a ticket or a descriptor asks for; `None` if it is none of Flight SQL's.
pub fn command(bytes: &[u8]) -> Option<Command> {
    match Command::try_from(Any::decode(bytes).ok()?).ok()? {
        // So does nothing at all decode.
        Command::Unknown(_) => None,
        command => Some(command),
    }
}

#[cfg(test)]
mod tests {
    use futures::{TryStreamExt, stream};
    use tonic::Response;

    use super::*;

    fn endless() -> DoGet {
        Response::new(stream::repeat_with(|| Ok(Default::default())).boxed())
    }

    #[tokio::test]
    async fn a_statement_is_stopped_by_its_user_only() {
        let running = Running::default();
        let handle = Bytes::from_static(b"handle");
        let statement = running.start(&handle, "ada");
        let mut results = statement.until_stopped(async { Ok(endless()) }).await.expect("starts").into_inner();
        assert!(!running.stop(&handle, "eve"));
        assert!(!running.stop(b"another", "ada"));
        results.try_next().await.expect("goes on");
        assert!(running.stop(&handle, "ada"));
        let error = results.try_next().await.expect_err("is stopped");
        assert!(error.message().contains("57014"), "{error}");
        assert!(results.try_next().await.expect("ends").is_none());
    }

    #[tokio::test]
    async fn what_has_ended_is_forgotten() {
        let running = Running::default();
        let handle = Bytes::from_static(b"handle");
        let none = || async { Ok(Response::new(stream::empty().boxed())) };
        let first = running.start(&handle, "ada").until_stopped(none()).await.expect("starts").into_inner();
        let second = running.start(&handle, "ada").until_stopped(none()).await.expect("starts").into_inner();
        assert_eq!(first.try_collect::<Vec<_>>().await.expect("ends").len(), 0);
        assert!(running.stop(&handle, "ada"), "the second still runs");
        drop(second);
        assert!(running.with(|entries| entries.is_empty()));
    }
}
