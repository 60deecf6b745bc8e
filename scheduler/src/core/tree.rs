//! Queues are created, altered and dropped.

use super::allocator::{Allocator, QueueError};
use super::queue::{Queue, QueueId, QueueSpec};
use super::resources::{Kind, Resources};

impl Allocator {
    /// A new queue; `path` is its names from the top, joined by dots, with or without `root.` before.
    pub fn create_queue(&mut self, path: &str, spec: QueueSpec) -> Result<QueueId, QueueError> {
        let path = full_path(path);
        if self.by_path.contains_key(&path) {
            return Err(QueueError::Exists(path));
        }
        let (parent_path, name) = path.rsplit_once('.').unwrap_or(("", &path));
        let is_allowed = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_allowed) {
            return Err(QueueError::Name(name.to_owned()));
        }
        let parent = self.find_queue(parent_path).ok_or_else(|| QueueError::NotFound(parent_path.to_owned()))?;
        if self.queue(parent).is_leaf() && self.queue(parent).is_in_use() {
            return Err(QueueError::InUse(parent_path.to_owned()));
        }
        self.check_spec(&path, parent, None, &spec)?;
        let id = QueueId(self.queues.len() as u32);
        if self.queue(parent).is_leaf() {
            self.leave_order(parent);
            let queue = self.queue_mut(parent);
            queue.asks.clear();
            (queue.suppressed, queue.waiting_since) = (false, None);
            if let Some(grandparent) = self.queue(parent).parent {
                self.queue_mut(grandparent).inner.push(parent);
            }
        }
        self.queue_mut(parent).children.push(id);
        self.by_path.insert(path.clone(), id);
        self.queues.push(Queue::new(path.clone(), Some(parent), spec));
        self.least_wanted.push(Resources::UNLIMITED);
        self.stale = true;
        Ok(id)
    }

    /// Gives a queue other properties. They count from the next decision on.
    pub fn alter_queue(&mut self, id: QueueId, spec: QueueSpec) -> Result<(), QueueError> {
        let path = self.queue(id).path.clone();
        if let Some(parent) = self.queue(id).parent {
            self.check_spec(&path, parent, Some(id), &spec)?;
        }
        let below = self.queue(id).children.iter();
        let guaranteed = below.fold(Resources::ZERO, |sum, child| sum.plus(&self.queue(*child).spec.guarantee));
        if exceeds_where_given(&guaranteed, &spec.guarantee) {
            return Err(QueueError::GuaranteesAboveParent(path));
        }
        self.queue_mut(id).spec = spec;
        // Another limit or guarantee may mean that a large task need not, or cannot, be waited for.
        for leaf in self.leaves_below(id) {
            self.release_claim_of(leaf);
        }
        self.stale = true;
        Ok(())
    }

    /// Removes a queue that nothing runs in and nothing waits in. Its reservations end.
    pub fn drop_queue(&mut self, id: QueueId) -> Result<(), QueueError> {
        let queue = self.queue(id);
        let path = queue.path.clone();
        let Some(parent) = queue.parent else { return Err(QueueError::Permanent(path)) };
        if !queue.is_leaf() {
            return Err(QueueError::HasChildren(path));
        }
        if queue.is_in_use() {
            return Err(QueueError::InUse(path));
        }
        for executor in self.reserving.clone() {
            // A reservation can always be given back.
            let _ = self.reserve(executor, id, Resources::ZERO);
        }
        self.leave_order(id);
        self.by_path.remove(&path);
        self.queue_mut(id).removed = true;
        self.queue_mut(parent).children.retain(|child| *child != id);
        if let Some(grandparent) = self.queue(parent).parent.filter(|_| self.queue(parent).is_leaf()) {
            self.queue_mut(grandparent).inner.retain(|inner| *inner != parent);
        }
        self.stale = true;
        Ok(())
    }

    fn check_spec(
        &self,
        path: &str,
        parent: QueueId,
        itself: Option<QueueId>,
        spec: &QueueSpec,
    ) -> Result<(), QueueError> {
        if !(spec.weight.is_finite() && spec.weight > 0.0) {
            return Err(QueueError::Weight(spec.weight.to_string()));
        }
        if !spec.guarantee.fits(&spec.limit) {
            return Err(QueueError::GuaranteeAboveLimit(path.to_owned()));
        }
        let siblings = self.queue(parent).children.iter().filter(|child| Some(**child) != itself);
        let guaranteed = siblings.fold(spec.guarantee, |sum, child| sum.plus(&self.queue(*child).spec.guarantee));
        if exceeds_where_given(&guaranteed, &self.queue(parent).spec.guarantee) {
            return Err(QueueError::GuaranteesAboveParent(self.queue(parent).path.clone()));
        }
        Ok(())
    }

    /// The queue of that path, with or without `root.` before.
    pub fn find_queue(&self, path: &str) -> Option<QueueId> {
        self.by_path.get(&full_path(path)).copied()
    }

    /// Whether tasks can run in the queue itself; only queues without children run tasks.
    pub fn runs_tasks(&self, id: QueueId) -> bool {
        id != QueueId::ROOT && self.queue(id).is_leaf() && !self.queue(id).removed
    }
}

/// The path with `root.` before it, whether or not it was written.
pub(crate) fn full_path(path: &str) -> String {
    if path == "root" || path.starts_with("root.") { path.to_owned() } else { format!("root.{path}") }
}

/// Whether the children's guarantees are above the parent's, in a kind that the parent guarantees.
fn exceeds_where_given(children: &Resources, parent: &Resources) -> bool {
    Kind::all().any(|kind| parent.get(kind) > 0 && children.get(kind) > parent.get(kind))
}
