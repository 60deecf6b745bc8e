//! Queues as administrators define them and as people look at them; places in them for queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::allocation::{Allocation, HostReservation, Inner, OfferRecord};
use super::tag::DEFAULT_QUEUE;
use crate::core::tree::full_path;
use crate::core::{
    AdmissionLimits, Arrival, ExecutorView, Kind, Millis, QueueError, QueueId, QueueSpec, QueueView, Resources,
};

/// A queue as an administrator defines it; amounts by the name of the resource, `cpu` in thousandths of
/// a core, `memory` in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueDefinition {
    /// Its part of what its parent gets, relative to its siblings.
    pub weight: f64,
    /// What it gets first whenever it asks for it.
    pub guarantee: BTreeMap<String, u64>,
    /// What it never gets more than.
    pub limit: BTreeMap<String, u64>,
    /// Queries that run at a time.
    pub max_running: Option<u32>,
    /// Queries that wait at a time.
    pub max_queued: Option<u32>,
    /// Milliseconds after which a waiting query is refused.
    pub queue_timeout_ms: Option<Millis>,
    /// Users whose sessions begin in it. If there are any, no other user may enter it.
    pub users: Vec<String>,
}

impl Default for QueueDefinition {
    fn default() -> Self {
        Self {
            weight: 1.0,
            guarantee: BTreeMap::new(),
            limit: BTreeMap::new(),
            max_running: None,
            max_queued: None,
            queue_timeout_ms: None,
            users: Vec::new(),
        }
    }
}

/// All that is defined, in an order in which it can be created again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueDefinitions {
    /// Definitions by path.
    pub queues: BTreeMap<String, QueueDefinition>,
    /// What is reserved on hosts.
    pub reservations: Vec<HostReservation>,
}

/// Why a queue, a reservation or a place for a query is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueingError {
    /// The queue cannot be as asked.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// There are too many kinds of resources.
    #[error("\"{0}\" would be one kind of resource too many")]
    TooManyKinds(String),
    /// Users of other queues may not enter it.
    #[error("user \"{user}\" may not use queue \"{queue}\"")]
    NotForUser { user: String, queue: String },
    /// As many queries wait as may.
    #[error("queue \"{queue}\" has {max_queued} queries waiting, which is its limit")]
    Full { queue: String, max_queued: u32 },
    /// The query has waited as long as it may.
    #[error("the query waited for {waited_ms} ms in queue \"{queue}\" without getting its turn")]
    TimedOut { queue: String, waited_ms: Millis },
    /// The executors of that host have not that much, or there is none.
    #[error("{0}")]
    Reservation(String),
}

/// A queue in a list.
#[derive(Debug, Clone)]
pub struct QueueSummary {
    /// What the allocator knows.
    pub view: QueueView,
    /// Name of the resource that dominates.
    pub dominant_resource: String,
    /// What was defined.
    pub definition: QueueDefinition,
    /// Queries that run, in it and below it.
    pub running_queries: u32,
    /// Queries that wait, in it and below it.
    pub queued_queries: u32,
}

/// A query's place among those that run. Dropping it lets the next one in.
pub struct Admitted {
    allocation: Arc<Allocation>,
    query: u64,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut inner = self.allocation.lock();
        inner.waiting.remove(&self.query);
        let admitted = {
            let Inner { allocator, admission, .. } = &mut *inner;
            admission.leave(allocator, self.query)
        };
        inner.wake(&admitted);
    }
}

impl Inner {
    fn wake(&mut self, admitted: &[u64]) {
        for query in admitted {
            if let Some(waiter) = self.waiting.remove(query) {
                // One that has stopped waiting gives its place back when it is dropped.
                let _ = waiter.send(());
            }
        }
    }

    /// Lets in who waits, after limits were changed.
    fn admit_more(&mut self) {
        let Inner { allocator, admission, .. } = self;
        let admitted = admission.admit(allocator);
        self.wake(&admitted);
    }

    fn spec(&mut self, definition: &QueueDefinition) -> Result<QueueSpec, QueueingError> {
        for name in definition.guarantee.keys().chain(definition.limit.keys()) {
            self.kinds.intern(name).ok_or_else(|| QueueingError::TooManyKinds(name.clone()))?;
        }
        let limit = definition.limit.iter().fold(Resources::UNLIMITED, |limit, (name, amount)| {
            self.kinds.find(name).map_or(limit, |kind| limit.with(kind, *amount))
        });
        Ok(QueueSpec {
            weight: definition.weight,
            guarantee: self.amounts(&definition.guarantee),
            limit,
            admission: AdmissionLimits {
                max_running: definition.max_running,
                max_queued: definition.max_queued,
                queue_timeout_ms: definition.queue_timeout_ms,
            },
        })
    }
}

impl Allocation {
    /// Creates what was defined before; what cannot be is told in the log and left out.
    pub fn restore(&self, definitions: &QueueDefinitions) {
        for (path, definition) in &definitions.queues {
            let known = self.lock().allocator.find_queue(path).is_some();
            let outcome = match known {
                true => self.alter_queue(path, definition.clone()),
                false => self.create_queue(path, definition.clone()),
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, queue = %path, "a queue is not as it was defined");
            }
        }
        let mut inner = self.lock();
        inner.reservations.clone_from(&definitions.reservations);
        inner.apply_reservations();
    }

    /// All that is defined.
    pub fn definitions(&self) -> QueueDefinitions {
        let inner = self.lock();
        QueueDefinitions { queues: inner.definitions.clone(), reservations: inner.reservations.clone() }
    }

    /// Creates a queue.
    pub fn create_queue(&self, path: &str, definition: QueueDefinition) -> Result<(), QueueingError> {
        let mut inner = self.lock();
        let spec = inner.spec(&definition)?;
        let parent = full_path(path).rsplit_once('.').map(|(parent, _)| parent.to_owned()).unwrap_or_default();
        if let Some(parent) = inner.allocator.find_queue(&parent)
            && inner.allocator.runs_tasks(parent)
            && inner.admission.counts(parent) != (0, 0)
        {
            return Err(QueueError::InUse(inner.allocator.queue_path(parent).to_owned()).into());
        }
        let id = inner.allocator.create_queue(path, spec)?;
        let path = inner.allocator.queue_path(id).to_owned();
        inner.definitions.insert(path, definition);
        Ok(())
    }

    /// Defines a queue anew. It counts from the next offer on.
    pub fn alter_queue(&self, path: &str, definition: QueueDefinition) -> Result<(), QueueingError> {
        let mut inner = self.lock();
        let id = inner.allocator.find_queue(path).ok_or_else(|| QueueError::NotFound(path.to_owned()))?;
        let spec = inner.spec(&definition)?;
        inner.allocator.alter_queue(id, spec)?;
        let path = inner.allocator.queue_path(id).to_owned();
        inner.definitions.insert(path, definition);
        inner.admit_more();
        Ok(())
    }

    /// Drops a queue that nothing runs or waits in, with its reservations.
    pub fn drop_queue(&self, path: &str) -> Result<(), QueueingError> {
        let mut inner = self.lock();
        let id = inner.allocator.find_queue(path).ok_or_else(|| QueueError::NotFound(path.to_owned()))?;
        let path = inner.allocator.queue_path(id).to_owned();
        if id == QueueId::ROOT || path == DEFAULT_QUEUE {
            return Err(QueueError::Permanent(path).into());
        }
        if inner.admission.counts(id) != (0, 0) {
            return Err(QueueError::InUse(path).into());
        }
        inner.allocator.drop_queue(id)?;
        inner.definitions.remove(&path);
        inner.reservations.retain(|reservation| reservation.queue != path);
        Ok(())
    }

    /// What was defined for the queue of that path, which is returned in full.
    pub fn find_queue(&self, path: &str) -> Result<(String, QueueDefinition), QueueingError> {
        let inner = self.lock();
        let id = inner.allocator.find_queue(path).ok_or_else(|| QueueError::NotFound(path.to_owned()))?;
        let path = inner.allocator.queue_path(id).to_owned();
        let definition = inner.definitions.get(&path).cloned().unwrap_or_default();
        Ok((path, definition))
    }

    /// Keeps a part of the executors of a host for a queue; empty amounts give it back.
    pub fn reserve(&self, host: &str, queue: &str, amounts: BTreeMap<String, u64>) -> Result<(), QueueingError> {
        let mut inner = self.lock();
        let id = inner.allocator.find_queue(queue).ok_or_else(|| QueueError::NotFound(queue.to_owned()))?;
        for name in amounts.keys() {
            inner.kinds.intern(name).ok_or_else(|| QueueingError::TooManyKinds(name.clone()))?;
        }
        let wanted = inner.amounts(&amounts);
        let executors: Vec<_> = inner.allocator.executors().into_iter().filter(|view| view.spec.host == host).collect();
        if executors.is_empty() && !wanted.is_zero() {
            return Err(QueueingError::Reservation(format!("no executor runs on host \"{host}\"")));
        }
        for view in &executors {
            inner
                .allocator
                .reserve(view.id, id, wanted)
                .map_err(|error| QueueingError::Reservation(error.to_string()))?;
        }
        let queue = inner.allocator.queue_path(id).to_owned();
        inner.reservations.retain(|known| known.host != host || known.queue != queue);
        if !wanted.is_zero() {
            inner.reservations.push(HostReservation { host: host.to_owned(), queue, amounts });
        }
        Ok(())
    }

    /// The queue that a user's sessions begin in.
    pub fn queue_of_user(&self, user: &str) -> String {
        let inner = self.lock();
        let theirs = inner.definitions.iter().find(|(_, definition)| definition.users.iter().any(|name| name == user));
        theirs.map_or_else(|| DEFAULT_QUEUE.to_owned(), |(path, _)| path.clone())
    }

    /// The full path of a queue that the user may run queries in.
    pub fn enter(&self, path: &str, user: &str) -> Result<String, QueueingError> {
        let inner = self.lock();
        let id = inner.allocator.find_queue(path).ok_or_else(|| QueueError::NotFound(path.to_owned()))?;
        let path = inner.allocator.queue_path(id).to_owned();
        if !inner.allocator.runs_tasks(id) {
            return Err(QueueError::HasChildren(path).into());
        }
        let users = inner.definitions.get(&path).map(|definition| definition.users.as_slice()).unwrap_or_default();
        if !users.is_empty() && !users.iter().any(|name| name == user) {
            return Err(QueueingError::NotForUser { user: user.to_owned(), queue: path });
        }
        Ok(path)
    }

    /// Waits for a place in the queue. Dropping the future gives up.
    pub async fn admit(self: &Arc<Self>, queue: &str) -> Result<Admitted, QueueingError> {
        let (place, path, arrival, woken) = {
            let now = self.now();
            let mut inner = self.lock();
            let id = inner.queue_or_default(queue).ok_or_else(|| QueueError::NotFound(queue.to_owned()))?;
            let path = inner.allocator.queue_path(id).to_owned();
            inner.next_query += 1;
            let query = inner.next_query;
            let Inner { allocator, admission, .. } = &mut *inner;
            let arrival = admission.arrive(allocator, query, id, now);
            let (waiter, woken) = oneshot::channel();
            if matches!(arrival, Arrival::Wait { .. }) {
                inner.waiting.insert(query, waiter);
            }
            (Admitted { allocation: self.clone(), query }, path, arrival, woken)
        };
        match arrival {
            Arrival::Run => Ok(place),
            Arrival::Refuse { queue, max_queued } => Err(QueueingError::Full { queue, max_queued }),
            Arrival::Wait { until: None, .. } => {
                // The sender goes with the place, which is here.
                let _ = woken.await;
                Ok(place)
            }
            Arrival::Wait { until: Some(until), .. } => {
                let waited_ms = until.saturating_sub(self.now());
                match tokio::time::timeout(Duration::from_millis(waited_ms), woken).await {
                    Ok(_) => Ok(place),
                    Err(_) => Err(QueueingError::TimedOut { queue: path, waited_ms }),
                }
            }
        }
    }

    /// Every queue, in the order of a walk down the tree.
    pub fn queues(&self) -> Vec<QueueSummary> {
        let inner = self.lock();
        let names = inner.kind_names();
        let name_of = |kind: Kind| names.iter().find(|(known, _)| *known == kind).map(|(_, name)| name.clone());
        let views = inner.allocator.queues();
        views
            .into_iter()
            .map(|view| {
                let (running_queries, queued_queries) = inner.admission.counts(view.id);
                QueueSummary {
                    dominant_resource: name_of(view.dominant_kind).unwrap_or_default(),
                    definition: inner.definitions.get(&view.path).cloned().unwrap_or_default(),
                    running_queries,
                    queued_queries,
                    view,
                }
            })
            .collect()
    }

    /// Offers that stand and the last that were answered, oldest first.
    pub fn offers(&self) -> Vec<OfferRecord> {
        let now = self.now();
        let inner = self.lock();
        let open = inner.allocator.offers();
        let open = open.iter().map(|offer| inner.offer_record(offer, "open", now));
        inner.answered.iter().cloned().chain(open).collect()
    }

    /// The executors as the allocator sees them, and the names of all kinds of resources.
    pub fn executors(&self) -> (Vec<ExecutorView>, Vec<(Kind, String)>) {
        let inner = self.lock();
        (inner.allocator.executors(), inner.kind_names())
    }
}
