//! Guarantees restored by revoking the youngest tasks of queues above their share.

use std::collections::HashMap;

use super::Millis;
use super::allocator::{Allocator, TaskId};
use super::executor::{ExecutorId, ExecutorState};
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

impl Allocator {
    /// The tasks to end, for queues that have been below their guarantee for longer than patience.
    ///
    /// What each task holds stays charged until [`Self::finish_task`] says that it has ended; it is
    /// then offered to the queue it was revoked for, because guarantees come first. For each task that
    /// a queue is owed, the executor is taken where the fewest and youngest tasks have to go. No queue
    /// is brought below its guarantee or below its fair share. O(running tasks) for a queue in need.
    pub fn revoke(&mut self, now: Millis) -> Vec<Revocation> {
        self.advance(now);
        let mut revocations = Vec::new();
        // What is on its way out, by queue, so that nobody loses more than they may in one go.
        let mut leaving: HashMap<QueueId, Resources> = HashMap::new();
        let mut coming: HashMap<ExecutorId, Resources> = HashMap::new();
        for task in self.tasks.iter().flatten().filter(|task| task.revoked) {
            add(&mut coming, task.executor, &task.resources);
            for id in self.path_of(task.queue) {
                add(&mut leaving, id, &task.resources);
            }
        }
        let fair_shares = self.fair_shares();
        for leaf in self.leaves_below(QueueId::ROOT) {
            for unit in self.owed_units(leaf, now) {
                // Room that is there or on its way is not made twice.
                if self.take_coming(leaf, &unit, &mut coming) {
                    continue;
                }
                let Some((executor, victims)) = self.cheapest_victims(leaf, &unit, &leaving, &fair_shares) else { break };
                for index in victims {
                    let Some(task) = self.tasks[index as usize].as_mut() else { continue };
                    task.revoked = true;
                    let (queue, resources, generation) = (task.queue, task.resources, task.generation);
                    add(&mut coming, executor, &resources);
                    for id in self.path_of(queue).collect::<Vec<_>>() {
                        add(&mut leaving, id, &resources);
                    }
                    let task = TaskId(u64::from(generation) << 32 | u64::from(index));
                    revocations.push(Revocation { task, queue, executor, beneficiary: leaf });
                }
                self.take_coming(leaf, &unit, &mut coming);
            }
        }
        revocations
    }

    /// The tasks that the leaf wants, may have by a guarantee on its path, and has waited for too long.
    fn owed_units(&self, leaf: QueueId, now: Millis) -> Vec<Resources> {
        let queue = self.queue(leaf);
        let waited = queue.waiting_since.map_or(0, |since| now.saturating_sub(since));
        if queue.suppressed || waited < self.options.restore_after_ms {
            return Vec::new();
        }
        let mut owed = Vec::new();
        let mut sum = Resources::ZERO;
        for pending in queue.asks.iter().filter(|pending| pending.is_wanted()) {
            let unit = pending.ask.unit;
            for _ in 0..pending.ask.count {
                let with = sum.plus(&unit);
                let guaranteed = self.path_of(leaf).any(|id| self.queue(id).is_below_guarantee_with(&with));
                let within = self.path_of(leaf).all(|id| self.queue(id).is_within_limit_with(&with));
                if !guaranteed || !within {
                    return owed;
                }
                sum = with;
                owed.push(unit);
            }
        }
        owed
    }

    /// Takes `unit` out of what some executor will have free, if it will.
    fn take_coming(&self, leaf: QueueId, unit: &Resources, coming: &mut HashMap<ExecutorId, Resources>) -> bool {
        let mut ids: Vec<_> = coming.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let free = self.room_for(leaf, id);
            if let Some(room) = coming.get_mut(&id)
                && unit.fits(&room.plus(&free))
            {
                *room = room.minus(unit);
                return true;
            }
        }
        false
    }

    fn room_for(&self, leaf: QueueId, id: ExecutorId) -> Resources {
        match self.executor(id) {
            Some(executor) if executor.claimed_by.is_none_or(|claimant| claimant == leaf) => executor.unreserved_free(),
            _ => Resources::ZERO,
        }
    }

    /// The executor where revoking makes room for `unit` at the least loss, and the tasks to revoke.
    fn cheapest_victims(
        &self,
        leaf: QueueId,
        unit: &Resources,
        leaving: &HashMap<QueueId, Resources>,
        fair_shares: &[f64],
    ) -> Option<(ExecutorId, Vec<u32>)> {
        let mut best: Option<(u64, ExecutorId, Vec<u32>)> = None;
        for (index, executor) in self.executors.iter().enumerate() {
            let Some(executor) = executor.as_ref().filter(|executor| executor.state == ExecutorState::Active) else {
                continue;
            };
            let id = ExecutorId(index as u32);
            let may_go_here = unit.fits(&executor.spec.total)
                && self.queue(leaf).asks.iter().any(|a| a.ask.unit == *unit && a.reaches(executor, |_| None));
            if !may_go_here {
                continue;
            }
            let mut room = self.room_for(leaf, id);
            let mut leaving = leaving.clone();
            let mut victims = Vec::new();
            let mut oldest = u64::MAX;
            let mut next = executor.youngest;
            while let Some(index) = next.filter(|_| !unit.fits(&room)) {
                let Some(task) = self.tasks[index as usize].as_ref() else { break };
                next = task.on_executor.0;
                let helps = Kind::all()
                    .any(|kind| task.resources.get(kind) > 0 && unit.get(kind) > room.get(kind));
                if task.revoked || !helps || !self.may_lose(leaf, task.queue, &task.resources, &leaving, fair_shares) {
                    continue;
                }
                room = room.plus(&task.resources);
                oldest = task.started;
                victims.push(index);
                for id in self.path_of(task.queue) {
                    add(&mut leaving, id, &task.resources);
                }
            }
            if unit.fits(&room) && !victims.is_empty() && best.as_ref().is_none_or(|best| oldest > best.0) {
                best = Some((oldest, id, victims));
            }
        }
        best.map(|(_, id, victims)| (id, victims))
    }

    /// Whether the victim is above its share with regard to the beneficiary, and stays at or above
    /// every guarantee on its path without that task.
    fn may_lose(
        &self,
        beneficiary: QueueId,
        victim: QueueId,
        amount: &Resources,
        leaving: &HashMap<QueueId, Resources>,
        fair_shares: &[f64],
    ) -> bool {
        let shared: Vec<_> = self.path_of(beneficiary).collect();
        self.path_of(victim).take_while(|id| !shared.contains(id)).all(|id| {
            let queue = self.queue(id);
            let used = queue.used.minus(&leaving.get(&id).copied().unwrap_or_default());
            let left = used.minus(amount);
            let keeps_guarantee = Kind::all().all(|kind| {
                let guarantee = queue.spec.guarantee.get(kind);
                guarantee == 0 || amount.get(kind) == 0 || left.get(kind) >= guarantee
            });
            let (_, share) = used.dominant_part(&self.total);
            keeps_guarantee && share > fair_shares[id.0 as usize]
        }) && victim != beneficiary
    }
}

fn add<K: std::hash::Hash + Eq>(sums: &mut HashMap<K, Resources>, key: K, amount: &Resources) {
    let sum = sums.entry(key).or_default();
    *sum = sum.plus(amount);
}
