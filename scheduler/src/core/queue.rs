//! The tree of queues.

use std::collections::BTreeSet;

use super::Millis;
use super::admission::AdmissionLimits;
use super::drf::{Choice, Key, Said};
use super::executor::{Executor, ExecutorId};
use super::resources::{Kind, Resources};

/// A queue in one [`super::Allocator`]; not given out again while that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub(super) u32);

impl QueueId {
    /// The queue that all others are below.
    pub const ROOT: QueueId = QueueId(0);
}

/// What an administrator says about a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSpec {
    /// Its part of what its parent gets, relative to its siblings; above 0.
    pub weight: f64,
    /// What it gets first whenever it asks for it. A kind at zero has no guarantee.
    pub guarantee: Resources,
    /// What it never gets more than.
    pub limit: Resources,
    /// How many queries run and wait.
    pub admission: AdmissionLimits,
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self {
            weight: 1.0,
            guarantee: Resources::ZERO,
            limit: Resources::UNLIMITED,
            admission: AdmissionLimits::default(),
        }
    }
}

/// A group of tasks of one shape that a queue wants to run. The number is the queue's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// How far from its hosts an ask may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Reach {
    /// Only by executors on its hosts.
    Hosts,
    /// By executors in the racks of its hosts, too.
    Racks,
    /// By any executor; its hosts come first.
    #[default]
    Anywhere,
}

/// A group of tasks of one shape that a queue wants to run.
///
/// Offers are made in units of the asks, so that no queue sits on resources it cannot use; that is
/// where this differs from Mesos, which offers whatever is free on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The queue's own name for it.
    pub id: AskId,
    /// What one task needs.
    pub unit: Resources,
    /// Tasks still to be placed.
    pub count: u32,
    /// Host names where the tasks' data is.
    pub hosts: Vec<String>,
    /// How far from the hosts the queue would go today.
    pub reach: Reach,
    /// Order of arrival, for the FIFO policy; the order within the queue is that of its list.
    pub arrived: u64,
}

/// More than this is counted as this, by queue and kind, so that sums over all queues do not overflow.
const MOST_WANTED: Resources = Resources::all_of(1 << 53);

#[derive(Debug, Clone)]
pub(super) struct PendingAsk {
    pub ask: Ask,
    /// Whether some executor would have room for it if it were empty.
    pub is_possible: bool,
    /// The cycle in which no executor had room for it.
    pub unplaced_in_cycle: u64,
    /// When it was last served, or began to be asked for.
    pub since: Millis,
}

#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub path: String,
    pub parent: Option<QueueId>,
    pub children: Vec<QueueId>,
    /// The children that have children.
    pub inner: Vec<QueueId>,
    pub spec: QueueSpec,
    /// Held by tasks and by offers, of this queue and those below.
    pub used: Resources,
    /// Asked for and not held, of this queue and those below.
    pub wanted: Resources,
    /// What unmet guarantees of this queue and those below still claim, of what is wanted.
    pub pledged: Resources,
    /// The part of `pledged` that comes from the children.
    pub children_pledged: Resources,
    pub asks: Vec<PendingAsk>,
    pub suppressed: bool,
    pub filter_count: u32,
    /// What executors are being cleared for, for this queue and those below; no need to keep it free elsewhere.
    pub cleared: Resources,
    /// When it was last given anything, or began to want it.
    pub waiting_since: Option<Millis>,
    /// Since when it wants something that a guarantee of its own or below promises.
    pub short_since: Option<Millis>,
    /// The executor that is being cleared for it, and for which of its asks.
    pub claim: Option<(ExecutorId, AskId)>,
    pub youngest: Option<u32>,
    pub oldest: Option<u32>,
    pub task_count: u32,
    /// The number of the decision that served it last.
    pub last_served: u64,
    /// An executor that was found in this cycle for one of its asks, by the index of that.
    pub place_seen: Option<(usize, ExecutorId)>,
    /// Its place in the parent's order, while it is there.
    pub ready_as: Option<Choice>,
    /// Children that run tasks, can be served, in the order in which they are.
    pub ready: BTreeSet<(Key, QueueId)>,
    /// Whom to serve next below; `None` until somebody asks after a change.
    pub next: Option<Option<Choice>>,
    /// What that makes of this queue in the parent's eyes; of no worth while `next` is `None`.
    pub said: Option<Said>,
    pub removed: bool,
}

impl Queue {
    pub fn new(path: String, parent: Option<QueueId>, spec: QueueSpec) -> Self {
        Self {
            path,
            parent,
            children: Vec::new(),
            inner: Vec::new(),
            spec,
            used: Resources::ZERO,
            wanted: Resources::ZERO,
            pledged: Resources::ZERO,
            children_pledged: Resources::ZERO,
            asks: Vec::new(),
            suppressed: false,
            filter_count: 0,
            cleared: Resources::ZERO,
            waiting_since: None,
            short_since: None,
            claim: None,
            youngest: None,
            oldest: None,
            task_count: 0,
            last_served: 0,
            place_seen: None,
            ready_as: None,
            ready: BTreeSet::new(),
            next: None,
            said: None,
            removed: false,
        }
    }

    /// The first ask that can be served, as far as the queue itself is concerned.
    pub fn first_ask(&self, cycle: u64) -> Option<usize> {
        if self.suppressed {
            return None;
        }
        self.asks.iter().position(|pending| {
            pending.is_wanted() && pending.unplaced_in_cycle != cycle && self.is_within_limit_with(&pending.ask.unit)
        })
    }

    /// What a queue that runs tasks may still claim by its guarantee: as many whole tasks as are within it.
    pub fn claimed_by_tasks(&self) -> Resources {
        if self.spec.guarantee.is_zero() || self.suppressed {
            return Resources::ZERO;
        }
        let mut held = self.used;
        for pending in self.asks.iter().filter(|pending| pending.is_wanted()) {
            let unit = &pending.ask.unit;
            let count = self.tasks_within_guarantee(&held, unit).min(u64::from(pending.ask.count));
            held = held.plus(&unit.times(count));
        }
        let claimed = held.minus(&self.used);
        // Kinds that are not guaranteed are not kept for it.
        Kind::all().filter(|kind| self.spec.guarantee.get(*kind) == 0).fold(claimed, |sum, kind| sum.with(kind, 0))
    }

    /// How many tasks of that shape are within the guarantee when so much is held.
    fn tasks_within_guarantee(&self, held: &Resources, unit: &Resources) -> u64 {
        let guaranteed = Kind::all().filter(|kind| self.spec.guarantee.get(*kind) > 0);
        let mut most = None;
        for kind in guaranteed {
            let Some(left) = self.spec.guarantee.get(kind).checked_sub(held.get(kind)) else { return 0 };
            if unit.get(kind) > 0 {
                most = Some(most.unwrap_or(u64::MAX).min(left / unit.get(kind)));
            }
        }
        most.unwrap_or(0)
    }

    /// What a queue with children may still claim, by its own guarantee or theirs, if it holds `used` and wants
    /// `wanted`.
    ///
    /// By its own guarantee that is what it wants, in that mixture, until the first kind is used up: what is left
    /// of the other kinds can then no longer be claimed.
    pub fn claimed_below(&self, used: &Resources, wanted: &Resources, children_pledged: &Resources) -> Resources {
        let guarantee = &self.spec.guarantee;
        let mut claimed = Resources::ZERO;
        if !guarantee.is_zero() {
            let kinds = || Kind::all().filter(|kind| guarantee.get(*kind) > 0 && wanted.get(*kind) > 0);
            let left = guarantee.minus(used);
            let is_exceeded = Kind::all().any(|kind| guarantee.get(kind) > 0 && used.get(kind) > guarantee.get(kind));
            let part = kinds().map(|kind| left.part(wanted, kind)).fold(1.0, f64::min);
            for kind in kinds().filter(|_| !is_exceeded) {
                let amount = (wanted.get(kind) as f64 * part) as u64;
                claimed = claimed.with(kind, amount.min(left.get(kind)));
            }
        }
        // What its limit forbids cannot be claimed, whoever below is guaranteed it.
        claimed.minus(&self.cleared).max(children_pledged).min(&self.spec.limit.minus(used))
    }

    /// What the asks sum up to, as far as any executor could serve them.
    pub fn wanted_by_asks(&self) -> Resources {
        let wanted = self.asks.iter().filter(|pending| pending.is_wanted() && !self.suppressed);
        let sum =
            wanted.fold(Resources::ZERO, |sum, pending| sum.plus(&pending.ask.unit.times(pending.ask.count.into())));
        sum.min(&MOST_WANTED)
    }

    /// Whether it holds or wants anything that counts.
    pub fn is_active(&self) -> bool {
        !self.used.is_zero() || !self.wanted.is_zero()
    }

    /// Whether it has tasks, offers or asks, be they of a kind that can be served now or not.
    pub fn is_in_use(&self) -> bool {
        self.is_active() || self.task_count > 0 || self.asks.iter().any(|pending| pending.ask.count > 0)
    }

    pub fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// Whether one more `unit` keeps within the guarantee, in every kind that has one, and needs one of them.
    pub fn is_below_guarantee_with(&self, unit: &Resources) -> bool {
        !self.spec.guarantee.is_zero() && self.tasks_within_guarantee(&self.used, unit) > 0
    }

    /// Whether one more `unit` keeps within the guarantee when `more` is held, too.
    pub fn guarantees(&self, more: &Resources, unit: &Resources) -> bool {
        !self.spec.guarantee.is_zero() && self.tasks_within_guarantee(&self.used.plus(more), unit) > 0
    }

    /// At most what any of the tasks needs that are asked for: where this has no room, none has.
    pub fn least_wanted(&self) -> Resources {
        let wanted = self.asks.iter().filter(|pending| pending.is_wanted()).map(|pending| pending.ask.unit);
        wanted.reduce(|least, unit| least.min(&unit)).unwrap_or(Resources::UNLIMITED)
    }

    /// Whether one more `unit` keeps within the limit.
    pub fn is_within_limit_with(&self, unit: &Resources) -> bool {
        self.spec.limit == Resources::UNLIMITED || self.used.plus(unit).fits(&self.spec.limit)
    }
}

impl PendingAsk {
    pub fn is_wanted(&self) -> bool {
        self.ask.count > 0 && self.is_possible
    }

    /// Whether the ask may be served by that executor, by its place alone.
    pub fn reaches<'a>(&self, executor: &Executor, rack_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self.ask.reach {
            Reach::Anywhere => true,
            _ if self.prefers(executor) => true,
            Reach::Hosts => false,
            Reach::Racks => {
                !executor.spec.rack.is_empty()
                    && self.ask.hosts.iter().any(|host| rack_of(host).is_some_and(|rack| rack == executor.spec.rack))
            }
        }
    }

    pub fn prefers(&self, executor: &Executor) -> bool {
        self.ask.hosts.contains(&executor.spec.host)
    }
}

/// A queue as a person reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    /// Its id.
    pub id: QueueId,
    /// Its names from the root, joined by dots.
    pub path: String,
    /// Its parent's path; `None` at the root.
    pub parent: Option<String>,
    /// Whether it runs tasks itself.
    pub is_leaf: bool,
    /// What an administrator said.
    pub spec: QueueSpec,
    /// Held by tasks and by offers.
    pub used: Resources,
    /// Asked for and not held, as far as any executor could serve it.
    pub wanted: Resources,
    /// The part of the cluster that it holds of its scarcest resource, 0.0 to 1.0, not divided by the weight.
    pub dominant_share: f64,
    /// The resource which that is.
    pub dominant_kind: Kind,
    /// The part of the cluster that its weight entitles it to among those that want or hold anything.
    pub fair_share: f64,
    /// Tasks that run.
    pub running_tasks: u64,
    /// Tasks that are asked for.
    pub pending_tasks: u64,
    /// How long it has been waiting for anything.
    pub waiting_ms: Option<Millis>,
}
