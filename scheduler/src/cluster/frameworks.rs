//! External frameworks: programs other than SQL that take offers, over gRPC.
//!
//! `proto/frameworks.proto` is the documentation of the protocol. A framework's demands stand beside the
//! asks of its queue's jobs in every round; what it is offered is held until it answers. It runs its
//! tasks itself, on the hosts it was offered, and says when they have ended.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::allocation::{Allocation, Inner};
use super::queues::QueueingError;
use super::service::Scheduler;
use crate::core::{
    Ask, AskId, Filter, Millis, Offer as CoreOffer, OfferError, OfferId, QueueError, QueueId, Reach, Resources, TaskId,
};
use crate::frameworks_proto as proto;
use proto::frameworks_server::{Frameworks, FrameworksServer};

/// Frameworks at a time.
const MOST_FRAMEWORKS: usize = 1_000;
/// Demands of one framework.
const MOST_DEMANDS: usize = 1_000;
/// Events that wait for a framework to read them; when it does not, offers are declined for it.
const EVENTS_IN_FLIGHT: usize = 1_024;
/// How long a framework may be registered without reading its events.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the allocator waits with the next offer to a framework that does not read its events.
const UNREAD_PAUSE_MS: Millis = 1_000;
/// How long a revoked task may take to stop.
const STOP_PATIENCE_MS: Millis = 10_000;

/// A registered framework.
pub(super) struct Framework {
    queue: QueueId,
    demands: Vec<Demand>,
    is_suppressed: bool,
    events: Option<mpsc::Sender<Result<proto::Event, Status>>>,
    offers: HashSet<OfferId>,
    tasks: HashMap<String, TaskId>,
    /// When tasks were told to stop.
    revoked: HashMap<String, Millis>,
}

struct Demand {
    id: u64,
    ask: AskId,
    unit: Resources,
    count: u32,
    hosts: Vec<String>,
    only_hosts: bool,
}

impl Inner {
    pub(super) fn framework_queues(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.frameworks.values().map(|framework| framework.queue)
    }

    /// What the frameworks of a queue want, without what they are offered already.
    pub(super) fn framework_asks(&self, queue: QueueId) -> Vec<Ask> {
        let open = self.allocator.offers();
        let mut asks = Vec::new();
        for framework in self.frameworks.values().filter(|framework| framework.queue == queue) {
            if framework.is_suppressed || framework.events.is_none() {
                continue;
            }
            for demand in &framework.demands {
                let offered = open.iter().filter(|offer| offer.ask == demand.ask).count() as u32;
                let count = demand.count.saturating_sub(offered);
                if count > 0 {
                    asks.push(Ask {
                        id: demand.ask,
                        unit: demand.unit,
                        count,
                        hosts: demand.hosts.clone(),
                        reach: if demand.only_hosts { Reach::Hosts } else { Reach::Anywhere },
                        arrived: demand.ask.0,
                    });
                }
            }
        }
        asks
    }

    pub(super) fn frameworks_want(&self) -> bool {
        self.frameworks.values().any(|framework| {
            framework.events.is_some() && !framework.is_suppressed && framework.demands.iter().any(|d| d.count > 0)
        })
    }

    /// Tells a framework of an offer. Tells whether it is a framework's.
    pub(super) fn deliver(&mut self, offer: &CoreOffer, now: Millis) -> bool {
        let kinds = self.kind_names();
        let Some(spec) = self.allocator.executor_spec(offer.executor) else { return false };
        let found = self.frameworks.values_mut().find_map(|framework| {
            let demand_id = framework.demands.iter().find(|demand| demand.ask == offer.ask)?.id;
            Some((framework, demand_id))
        });
        let Some((framework, demand_id)) = found else { return false };
        let amounts = kinds.iter().map(|(kind, name)| (name.clone(), offer.resources.get(*kind)));
        let event = proto::event::Event::Offer(proto::Offer {
            offer_id: offer.id.0,
            demand_id,
            executor_id: spec.name.clone(),
            host: spec.host.clone(),
            rack: spec.rack.clone(),
            resources: Some(proto::Resources { amounts: amounts.filter(|(_, amount)| *amount > 0).collect() }),
            expires_in_ms: offer.expires_at.saturating_sub(now),
        });
        if framework.tell(event) {
            framework.offers.insert(offer.id);
        } else {
            let filter = Filter { until: now + UNREAD_PAUSE_MS };
            // It was made a moment ago and stands.
            let _ = self.allocator.decline(offer.id, Some(filter), now);
        }
        true
    }

    /// Tells frameworks what no longer stands, and ends what they were to stop and did not.
    pub(super) fn look_after_frameworks(&mut self, now: Millis) {
        let mut overdue = Vec::new();
        for framework in self.frameworks.values_mut() {
            let stands = |id: &OfferId| self.allocator.find_offer(*id).is_some();
            let gone: Vec<OfferId> = framework.offers.iter().filter(|id| !stands(id)).copied().collect();
            for id in gone {
                framework.offers.remove(&id);
                framework.tell(proto::event::Event::Rescinded(proto::Rescinded { offer_id: id.0 }));
            }
            let is_overdue = |told: &Millis| now.saturating_sub(*told) >= STOP_PATIENCE_MS;
            let late: Vec<String> =
                framework.revoked.iter().filter(|(_, told)| is_overdue(told)).map(|(name, _)| name.clone()).collect();
            for name in late {
                framework.revoked.remove(&name);
                overdue.extend(framework.tasks.remove(&name));
            }
        }
        for task in overdue {
            self.allocator.finish_task(task, now);
        }
    }

    /// Tells frameworks that tasks of theirs have to stop, because they are revoked or their executor is lost.
    pub(super) fn stop_framework_tasks(&mut self, tasks: &HashSet<TaskId>, now: Millis) {
        for framework in self.frameworks.values_mut() {
            let names: Vec<String> =
                framework.tasks.iter().filter(|(_, id)| tasks.contains(id)).map(|(name, _)| name.clone()).collect();
            for task_id in names {
                framework.revoked.entry(task_id.clone()).or_insert(now);
                framework.tell(proto::event::Event::Revoked(proto::Revoked { task_id }));
            }
        }
    }

    fn remove_framework(&mut self, id: &str, now: Millis) {
        let Some(framework) = self.frameworks.remove(id) else { return };
        for offer in framework.offers {
            self.allocator.rescind(offer);
        }
        for task in framework.tasks.into_values() {
            self.allocator.finish_task(task, now);
        }
        self.has_changed = true;
    }
}

impl Framework {
    fn tell(&self, event: proto::event::Event) -> bool {
        let event = proto::Event { event: Some(event) };
        self.events.as_ref().is_some_and(|events| events.try_send(Ok(event)).is_ok())
    }
}

/// The service, to be mounted beside others on a listener.
pub struct FrameworksService {
    scheduler: Arc<Scheduler>,
}

impl FrameworksService {
    /// The service over a scheduler.
    pub fn server(scheduler: Arc<Scheduler>) -> FrameworksServer<Self> {
        FrameworksServer::new(Self { scheduler })
    }

    fn allocation(&self) -> &Arc<Allocation> {
        self.scheduler.allocation()
    }

    /// Does something to a framework, after which there may be something to offer.
    fn with_framework<T>(
        &self,
        id: &str,
        act: impl FnOnce(&mut Inner, Millis) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let now = self.allocation().now();
        let mut inner = self.allocation().lock();
        if !inner.frameworks.contains_key(id) {
            return Err(Status::not_found(format!("no framework \"{id}\" is registered")));
        }
        let outcome = act(&mut inner, now);
        inner.has_changed = true;
        drop(inner);
        self.allocation().wake();
        outcome
    }
}

fn queueing_status(error: &QueueingError) -> Status {
    let text = error.to_string();
    match error {
        QueueingError::Queue(QueueError::NotFound(_)) => Status::not_found(text),
        QueueingError::NotForUser { .. } => Status::permission_denied(text),
        _ => Status::failed_precondition(text),
    }
}

fn offer_status(error: &OfferError) -> Status {
    match error {
        OfferError::Gone(_) => Status::not_found(error.to_string()),
        OfferError::TooLarge { .. } | OfferError::Reservation(_) => Status::invalid_argument(error.to_string()),
    }
}

impl Inner {
    fn named_amounts(&mut self, resources: Option<&proto::Resources>) -> Result<Resources, Status> {
        let amounts: BTreeMap<String, u64> =
            resources.iter().flat_map(|r| &r.amounts).map(|(name, amount)| (name.clone(), *amount)).collect();
        match amounts.keys().find(|name| self.kinds.find(name).is_none()) {
            Some(unknown) => Err(Status::invalid_argument(format!("no executor has a resource \"{unknown}\""))),
            None => Ok(self.amounts(&amounts)),
        }
    }

    fn offered_to(&self, framework_id: &str, offer_id: u64) -> Result<OfferId, Status> {
        let id = OfferId(offer_id);
        match self.frameworks.get(framework_id) {
            Some(framework) if framework.offers.contains(&id) => Ok(id),
            _ => Err(offer_status(&OfferError::Gone(id))),
        }
    }
}

#[tonic::async_trait]
impl Frameworks for FrameworksService {
    type EventsStream = FrameworkEvents;

    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterResponse>, Status> {
        let request = request.into_inner();
        let path = self.allocation().enter(&request.queue, &request.user).map_err(|error| queueing_status(&error))?;
        let framework_id = {
            let mut inner = self.allocation().lock();
            if inner.frameworks.len() >= MOST_FRAMEWORKS {
                return Err(Status::resource_exhausted(format!("there are {MOST_FRAMEWORKS} frameworks already")));
            }
            let Some(queue) = inner.allocator.find_queue(&path) else {
                return Err(Status::not_found(format!("queue \"{path}\" does not exist")));
            };
            inner.next_ask += 1;
            let id = format!("{}-{}", request.name, inner.next_ask);
            let framework = Framework {
                queue,
                demands: Vec::new(),
                is_suppressed: false,
                events: None,
                offers: HashSet::new(),
                tasks: HashMap::new(),
                revoked: HashMap::new(),
            };
            inner.frameworks.insert(id.clone(), framework);
            id
        };
        tokio::spawn(forget_if_silent(Arc::downgrade(self.allocation()), framework_id.clone()));
        Ok(Response::new(proto::RegisterResponse { framework_id }))
    }

    async fn events(&self, request: Request<proto::EventsRequest>) -> Result<Response<FrameworkEvents>, Status> {
        let framework_id = request.into_inner().framework_id;
        let (sender, receiver) = mpsc::channel(EVENTS_IN_FLIGHT);
        self.with_framework(&framework_id, |inner, _| match inner.frameworks.get_mut(&framework_id) {
            Some(framework) if framework.events.is_none() => {
                framework.events = Some(sender);
                Ok(())
            }
            _ => Err(Status::already_exists("the framework's events are being read already")),
        })?;
        Ok(Response::new(FrameworkEvents { receiver, framework_id, allocation: self.allocation().clone() }))
    }

    async fn set_demand(
        &self,
        request: Request<proto::SetDemandRequest>,
    ) -> Result<Response<proto::SetDemandResponse>, Status> {
        let request = request.into_inner();
        if request.demands.len() > MOST_DEMANDS {
            return Err(Status::invalid_argument(format!("more than {MOST_DEMANDS} demands")));
        }
        self.with_framework(&request.framework_id, |inner, _| {
            let mut demands = Vec::with_capacity(request.demands.len());
            for demand in &request.demands {
                let unit = inner.named_amounts(demand.unit.as_ref())?;
                if unit.is_zero() {
                    return Err(Status::invalid_argument(
                        "a demand for nothing: say how much cpu or memory a task needs",
                    ));
                }
                let known = inner.frameworks.get(&request.framework_id).and_then(|framework| {
                    framework.demands.iter().find(|d| d.id == demand.demand_id && d.unit == unit).map(|d| d.ask)
                });
                let ask = known.unwrap_or_else(|| inner.new_ask());
                demands.push(Demand {
                    id: demand.demand_id,
                    ask,
                    unit,
                    count: demand.count,
                    hosts: demand.hosts.clone(),
                    only_hosts: demand.only_hosts,
                });
            }
            if let Some(framework) = inner.frameworks.get_mut(&request.framework_id) {
                framework.demands = demands;
            }
            Ok(())
        })?;
        Ok(Response::new(proto::SetDemandResponse {}))
    }

    async fn accept(&self, request: Request<proto::AcceptRequest>) -> Result<Response<proto::AcceptResponse>, Status> {
        let request = request.into_inner();
        self.with_framework(&request.framework_id, |inner, now| {
            let id = inner.offered_to(&request.framework_id, request.offer_id)?;
            let mut needs = Vec::with_capacity(request.tasks.len());
            for task in &request.tasks {
                needs.push(inner.named_amounts(task.resources.as_ref())?);
            }
            if let Some(framework) = inner.frameworks.get(&request.framework_id)
                && let Some(twice) = request.tasks.iter().find(|task| framework.tasks.contains_key(&task.task_id))
            {
                return Err(Status::already_exists(format!("task \"{}\" runs already", twice.task_id)));
            }
            let offer = inner.allocator.find_offer(id).cloned();
            let started = inner.allocator.accept(id, &needs, now).map_err(|error| offer_status(&error))?;
            if let Some(offer) = &offer {
                inner.remember(offer, "accepted", now);
            }
            if let Some(framework) = inner.frameworks.get_mut(&request.framework_id) {
                framework.offers.remove(&id);
                if let Some(demand) =
                    offer.and_then(|offer| framework.demands.iter_mut().find(|demand| demand.ask == offer.ask))
                {
                    demand.count = demand.count.saturating_sub(1);
                }
                framework.tasks.extend(request.tasks.iter().map(|task| task.task_id.clone()).zip(started));
            }
            Ok(())
        })?;
        Ok(Response::new(proto::AcceptResponse {}))
    }

    async fn decline(
        &self,
        request: Request<proto::DeclineRequest>,
    ) -> Result<Response<proto::DeclineResponse>, Status> {
        let request = request.into_inner();
        self.with_framework(&request.framework_id, |inner, now| {
            let id = inner.offered_to(&request.framework_id, request.offer_id)?;
            let offer = inner.allocator.find_offer(id).cloned();
            let filter = Filter { until: now.saturating_add(request.refuse_ms) };
            inner.allocator.decline(id, Some(filter), now).map_err(|error| offer_status(&error))?;
            if let Some(offer) = &offer {
                inner.remember(offer, "declined", now);
            }
            if let Some(framework) = inner.frameworks.get_mut(&request.framework_id) {
                framework.offers.remove(&id);
            }
            Ok(())
        })?;
        Ok(Response::new(proto::DeclineResponse {}))
    }

    async fn update_status(
        &self,
        request: Request<proto::UpdateStatusRequest>,
    ) -> Result<Response<proto::UpdateStatusResponse>, Status> {
        let request = request.into_inner();
        self.with_framework(&request.framework_id, |inner, now| {
            let mut ended = Vec::new();
            if let Some(framework) = inner.frameworks.get_mut(&request.framework_id) {
                for name in &request.ended_task_ids {
                    framework.revoked.remove(name);
                    ended.extend(framework.tasks.remove(name));
                }
            }
            for task in ended {
                inner.allocator.finish_task(task, now);
            }
            Ok(())
        })?;
        Ok(Response::new(proto::UpdateStatusResponse {}))
    }

    async fn suppress(
        &self,
        request: Request<proto::SuppressRequest>,
    ) -> Result<Response<proto::SuppressResponse>, Status> {
        let framework_id = request.into_inner().framework_id;
        self.with_framework(&framework_id, |inner, _| {
            if let Some(framework) = inner.frameworks.get_mut(&framework_id) {
                framework.is_suppressed = true;
            }
            Ok(())
        })?;
        Ok(Response::new(proto::SuppressResponse {}))
    }

    async fn revive(&self, request: Request<proto::ReviveRequest>) -> Result<Response<proto::ReviveResponse>, Status> {
        let framework_id = request.into_inner().framework_id;
        self.with_framework(&framework_id, |inner, _| {
            if let Some(framework) = inner.frameworks.get_mut(&framework_id) {
                framework.is_suppressed = false;
                let queue = framework.queue;
                inner.allocator.revive(queue);
            }
            Ok(())
        })?;
        Ok(Response::new(proto::ReviveResponse {}))
    }
}

/// Forgets a framework that never came for its events.
async fn forget_if_silent(allocation: Weak<Allocation>, framework_id: String) {
    tokio::time::sleep(SILENCE).await;
    let Some(allocation) = allocation.upgrade() else { return };
    let now = allocation.now();
    let mut inner = allocation.lock();
    if inner.frameworks.get(&framework_id).is_some_and(|framework| framework.events.is_none()) {
        inner.remove_framework(&framework_id, now);
    }
}

/// A framework's events. When the stream is dropped, because the client went away, so is the framework.
pub struct FrameworkEvents {
    receiver: mpsc::Receiver<Result<proto::Event, Status>>,
    framework_id: String,
    allocation: Arc<Allocation>,
}

impl Stream for FrameworkEvents {
    type Item = Result<proto::Event, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(context)
    }
}

impl Drop for FrameworkEvents {
    fn drop(&mut self) {
        let now = self.allocation.now();
        self.allocation.lock().remove_framework(&self.framework_id, now);
        self.allocation.wake();
    }
}
