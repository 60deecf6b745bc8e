//! Guarantees restored by revoking the youngest tasks of queues above their share.

use std::collections::{BTreeMap, HashMap};

use super::Millis;
use super::allocator::{Allocator, Task, TaskId};
use super::executor::{Executor, ExecutorId, ExecutorState};
use super::queue::QueueId;
use super::resources::{Kind, Resources};

/// A task that must end so that a guarantee can be kept. Its queue runs it again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// The task.
    pub task: TaskId,
    /// Whose it is.
    pub queue: QueueId,
    /// Where it runs.
    pub executor: ExecutorId,
    /// Whose guarantee is restored.
    pub beneficiary: QueueId,
}

/// A task that a guarantee promises to a queue that has waited for it too long.
struct Owed {
    leaf: QueueId,
    /// The index of the ask in the leaf's list.
    ask: usize,
    unit: Resources,
    /// Whose guarantee it is: the leaf or a queue above it.
    guarantor: QueueId,
}

impl Allocator {
    /// The tasks to end, for queues that have been below their guarantee for longer than patience.
    ///
    /// What each task holds stays charged until [`Self::finish_task`] says that it has ended; it is
    /// then offered to the queue it was revoked for, because guarantees come first. For each task that
    /// a queue is owed, the executor is taken where the youngest tasks have to go. Only queues above
    /// their fair share lose tasks, and none that brings it below its guarantee. O(running tasks) for
    /// each task that is owed, at worst.
    pub fn revoke(&mut self, now: Millis) -> Vec<Revocation> {
        self.advance(now);
        self.refresh_all();
        let mut revocations = Vec::new();
        let owing = self.leaves_below(QueueId::ROOT).into_iter().map(|leaf| self.owed_to(leaf));
        let owing: Vec<_> = owing.filter(|owed| !owed.is_empty()).collect();
        if owing.is_empty() {
            return revocations;
        }
        // What is on its way out, by queue, so that nobody loses more than they may in one go.
        let mut leaving: HashMap<QueueId, Resources> = HashMap::new();
        let mut coming: BTreeMap<ExecutorId, Resources> = BTreeMap::new();
        for task in self.revoking.iter().filter_map(|index| self.tasks[*index as usize].as_ref()) {
            add_to(coming.entry(task.executor).or_default(), &self.gain_of(task, QueueId::ROOT));
            for id in self.path_of(task.queue) {
                add_to(leaving.entry(id).or_default(), &task.resources);
            }
        }
        let fair_shares = self.fair_shares();
        for owed in owing.iter() {
            for owed in owed {
                // Room that is there or on its way is not made twice.
                let is_there = self.place(&self.leaf_choice(owed.leaf, owed.ask)).is_some();
                if is_there || self.take_coming(owed, &mut coming) {
                    continue;
                }
                let victims = self.youngest_victims(owed, &leaving, &coming, &fair_shares);
                let Some((executor, victims)) = victims else { break };
                for index in victims {
                    let Some(task) = self.tasks[index as usize].as_mut() else { continue };
                    task.revoked = true;
                    self.revoking.insert(index);
                    let Some(task) = self.tasks[index as usize].as_ref() else { continue };
                    add_to(coming.entry(executor).or_default(), &self.gain_of(task, owed.leaf));
                    for id in self.path_of(task.queue) {
                        add_to(leaving.entry(id).or_default(), &task.resources);
                    }
                    let queue = task.queue;
                    revocations.push(Revocation { task: self.task_id(index), queue, executor, beneficiary: owed.leaf });
                }
                self.take_coming(owed, &mut coming);
                self.keep_clear_for(owed, executor);
            }
        }
        revocations
    }

    /// The tasks that the leaf wants, may have by a guarantee on its path, and has waited for too long.
    fn owed_to(&self, leaf: QueueId) -> Vec<Owed> {
        let queue = self.queue(leaf);
        let is_patient = |id: QueueId| {
            let since = self.queue(id).short_since.unwrap_or(self.now);
            self.now.saturating_sub(since) < self.options.restore_after_ms
        };
        let mut owed = Vec::new();
        if queue.suppressed || self.path_of(leaf).all(is_patient) {
            return owed;
        }
        let mut sum = Resources::ZERO;
        for (ask, pending) in queue.asks.iter().enumerate().filter(|(_, pending)| pending.is_wanted()) {
            let unit = pending.ask.unit;
            for _ in 0..pending.ask.count {
                let with = sum.plus(&unit);
                let mut guarantors = self.path_of(leaf).filter(|id| self.queue(*id).guarantees(&sum, &unit));
                let guarantor = guarantors.find(|id| !is_patient(*id));
                let within = self.path_of(leaf).all(|id| self.queue(id).is_within_limit_with(&with));
                let Some(guarantor) = guarantor.filter(|_| within) else { break };
                sum = with;
                owed.push(Owed { leaf, ask, unit, guarantor });
            }
        }
        owed
    }

    /// Takes the task out of what some executor will have free, if it will.
    fn take_coming(&self, owed: &Owed, coming: &mut BTreeMap<ExecutorId, Resources>) -> bool {
        for (id, room) in coming.iter_mut() {
            let Some(executor) = self.executor(*id).filter(|executor| self.may_run_on(owed, *id, executor)) else {
                continue;
            };
            if owed.unit.fits(&self.room_for(owed.leaf, executor, room)) {
                *room = room.minus(&owed.unit);
                return true;
            }
        }
        false
    }

    fn may_run_on(&self, owed: &Owed, id: ExecutorId, executor: &Executor) -> bool {
        let queue = self.queue(owed.leaf);
        let Some(pending) = queue.asks.get(owed.ask) else { return false };
        let is_free_to = executor.claimed_by.is_none_or(|_| queue.claim == Some((id, pending.ask.id)));
        is_free_to
            && executor.state == ExecutorState::Active
            && owed.unit.fits(&executor.spec.total)
            && pending.reaches(executor, |host| self.rack_of(host))
            && !self.is_filtered(queue, owed.leaf, pending.ask.id, id)
    }

    /// What the leaf will find on the executor when so much more has come free there.
    fn room_for(&self, leaf: QueueId, executor: &Executor, coming: &Resources) -> Resources {
        let others = executor.reservations.iter().filter(|r| self.path_of(leaf).all(|id| id != r.queue));
        let free = executor.spec.total.plus(coming).minus(&executor.used);
        others.fold(free, |free, reservation| free.minus(&reservation.left()))
    }

    /// What a task leaves to the beneficiary when it ends: what it holds by a reservation stays reserved.
    fn gain_of(&self, task: &Task, beneficiary: QueueId) -> Resources {
        match task.reserved.as_deref() {
            Some((of, part)) if self.path_of(beneficiary).all(|id| id != *of) => task.resources.minus(part),
            _ => task.resources,
        }
    }

    /// The executor where revoking makes room for the task and the youngest have to go, and which these are.
    fn youngest_victims(
        &self,
        owed: &Owed,
        leaving: &HashMap<QueueId, Resources>,
        coming: &BTreeMap<ExecutorId, Resources>,
        fair_shares: &[f64],
    ) -> Option<(ExecutorId, Vec<u32>)> {
        let mut best = None;
        // When the oldest of the victims was started, at the best executor so far.
        let mut youngest = 0;
        for (index, executor) in self.executors.iter().enumerate() {
            let id = ExecutorId(index as u32);
            let Some(executor) =
                executor.as_ref().filter(|executor| !executor.spec.is_apart && self.may_run_on(owed, id, executor))
            else {
                continue;
            };
            let mut more = coming.get(&id).copied().unwrap_or_default();
            let (mut victims, mut lost) = (Vec::new(), Vec::new());
            let mut oldest = u64::MAX;
            let mut next = executor.youngest;
            while let Some(index) = next {
                let room = self.room_for(owed.leaf, executor, &more);
                if owed.unit.fits(&room) {
                    break;
                }
                let Some(task) = self.tasks[index as usize].as_ref().filter(|task| task.started > youngest) else {
                    break;
                };
                next = task.on_executor.0;
                let gain = self.gain_of(task, owed.leaf);
                let helps = Kind::all().any(|kind| gain.get(kind) > 0 && owed.unit.get(kind) > room.get(kind));
                if task.revoked || !helps || !self.may_lose(owed, task, leaving, &lost, fair_shares) {
                    continue;
                }
                more = more.plus(&gain);
                oldest = task.started;
                victims.push(index);
                lost.extend(self.path_of(task.queue).map(|id| (id, task.resources)));
            }
            if !victims.is_empty() && owed.unit.fits(&self.room_for(owed.leaf, executor, &more)) {
                youngest = oldest;
                best = Some((id, victims));
            }
        }
        best
    }

    /// Whether all queues that lose by the end of the task, and the guarantor does not, are above their share and
    /// stay at or above their guarantee without it.
    fn may_lose(
        &self,
        owed: &Owed,
        victim: &Task,
        leaving: &HashMap<QueueId, Resources>,
        lost: &[(QueueId, Resources)],
        fair_shares: &[f64],
    ) -> bool {
        if self.path_of(victim.queue).any(|id| id == owed.guarantor) {
            return false;
        }
        let is_shared = |id: QueueId| self.path_of(owed.leaf).any(|shared| shared == id);
        self.path_of(victim.queue).take_while(|id| !is_shared(*id)).all(|id| {
            let queue = self.queue(id);
            let gone = lost.iter().filter(|(of, _)| *of == id).map(|(_, amount)| amount);
            let gone = gone.fold(leaving.get(&id).copied().unwrap_or_default(), |sum, amount| sum.plus(amount));
            let used = queue.used.minus(&gone);
            let left = used.minus(&victim.resources);
            let keeps_guarantee = Kind::all().all(|kind| {
                let guarantee = queue.spec.guarantee.get(kind);
                guarantee == 0 || victim.resources.get(kind) == 0 || left.get(kind) >= guarantee
            });
            let (_, share) = used.dominant_part(&self.total);
            keeps_guarantee && share > fair_shares[id.0 as usize]
        })
    }

    /// Sees to it that what comes free piece by piece is not taken away by others, piece by piece.
    fn keep_clear_for(&mut self, owed: &Owed, id: ExecutorId) {
        let queue = self.queue(owed.leaf);
        let could = queue.claim.is_none()
            && queue.asks.get(owed.ask).zip(self.executor(id)).is_some_and(|(pending, executor)| {
                executor.claimed_by.is_none() && self.could_be_claimed(owed.leaf, pending, executor)
            });
        if could {
            self.claim(owed.leaf, owed.ask, id);
        }
    }
}

fn add_to(sum: &mut Resources, amount: &Resources) {
    *sum = sum.plus(amount);
}
