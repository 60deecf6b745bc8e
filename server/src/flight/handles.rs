//! What tickets and handles stand for. Each is good for the user that it was given to, and nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use tonic::Status;
use uuid::Uuid;

use crate::engine::{Prepared, Session};

/// A planned statement in its session, which lives as long as this.
#[derive(Clone)]
pub struct Planned {
    /// The session.
    pub session: Arc<Session>,
    /// The statement.
    pub prepared: Arc<Prepared>,
    /// The parameters of each run; one empty list for a statement without parameters.
    pub runs: Vec<Vec<ScalarValue>>,
}

/// Random numbers, and the statements that they stand for.
pub struct Handles {
    lifetime: Duration,
    capacity: usize,
    entries: Mutex<HashMap<Uuid, Entry>>,
}

struct Entry {
    planned: Planned,
    used: Instant,
}

impl Handles {
    /// At most `capacity` handles, each forgotten when unused for `lifetime`.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { lifetime, capacity, entries: Mutex::default() }
    }

    /// A new handle. Errors when clients hold too many.
    pub fn add(&self, planned: Planned) -> Result<Bytes, Status> {
        let handle = Uuid::new_v4();
        self.sweep();
        self.with(|entries| {
            if entries.len() >= self.capacity {
                return Err(Status::resource_exhausted(format!(
                    "clients hold {} tickets and prepared statements, which is the limit: close some, or fetch their results",
                    self.capacity
                )));
            }
            entries.insert(handle, Entry { planned, used: Instant::now() });
            Ok(Bytes::copy_from_slice(handle.as_bytes()))
        })
    }

    /// What a handle stands for, which it goes on to do.
    pub fn get(&self, handle: &[u8], user: &str) -> Result<Planned, Status> {
        self.with_entry(handle, user, |entry| entry.planned.clone())
    }

    /// What a handle stood for, which it no longer does.
    pub fn take(&self, handle: &[u8], user: &str) -> Result<Planned, Status> {
        let planned = self.get(handle, user)?;
        let id = id_of(handle)?;
        self.with(|entries| entries.remove(&id)).map(|_| planned).ok_or_else(unknown)
    }

    /// Forgets what nobody uses.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.with(|entries| entries.retain(|_, entry| now.duration_since(entry.used) < self.lifetime));
    }

    /// When what is used now is forgotten.
    pub fn expires(&self) -> SystemTime {
        SystemTime::now() + self.lifetime
    }

    /// Changes the parameters of a prepared statement.
    pub fn bind(&self, handle: &[u8], user: &str, runs: Vec<Vec<ScalarValue>>) -> Result<(), Status> {
        self.with_entry(handle, user, |entry| entry.planned.runs = runs)
    }

    fn with_entry<T>(&self, handle: &[u8], user: &str, f: impl FnOnce(&mut Entry) -> T) -> Result<T, Status> {
        let id = id_of(handle)?;
        self.with(|entries| {
            let entry = entries.get_mut(&id).filter(|entry| entry.planned.session.user() == user);
            let entry = entry.ok_or_else(unknown)?;
            entry.used = Instant::now();
            Ok(f(entry))
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<Uuid, Entry>) -> T) -> T {
        f(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The number of a handle.
pub fn id_of(handle: &[u8]) -> Result<Uuid, Status> {
    Uuid::from_slice(handle).map_err(|_| unknown())
}

/// What is told of a handle that stands for nothing.
pub fn unknown() -> Status {
    Status::not_found(
        "no such ticket or prepared statement: it was used, closed or has expired; run the statement again",
    )
}
