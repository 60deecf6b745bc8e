//! Tasks that run as one.

use super::allocator::{Allocator, Task, TaskId};
use super::executor::ExecutorId;

impl Allocator {
    /// Makes one task of several of the same queue on the same executor, because they start and end
    /// together. The first lives on with all that they hold; others of another queue or executor stay.
    pub fn combine_tasks(&mut self, ids: &[TaskId]) -> Option<TaskId> {
        let (first, rest) = ids.split_first()?;
        let (queue, executor) = self.task(*first).map(|task| (task.queue, task.executor))?;
        for id in rest.iter().filter(|id| *id != first) {
            let are_alike = self.task(*id).is_some_and(|task| (task.queue, task.executor) == (queue, executor));
            // Nothing is given back and taken again, so that it is nobody else's for a moment.
            let Some(other) = are_alike.then(|| self.unlink(id.0 as u32)).flatten() else { continue };
            let Some(task) = self.tasks[first.0 as u32 as usize].as_mut() else { continue };
            task.resources = task.resources.plus(&other.resources);
            if other.revoked {
                task.revoked = true;
                self.revoking.insert(first.0 as u32);
            }
            match (task.reserved.as_deref_mut(), other.reserved) {
                (None, theirs) => task.reserved = theirs,
                (Some(mine), Some(theirs)) if mine.0 == theirs.0 => mine.1 = mine.1.plus(&theirs.1),
                // A task uses one reservation: the other has its part back as soon as the task ends.
                (Some(_), Some(theirs)) => self.give_back_reserved(executor, &theirs),
                (Some(_), None) => {}
            }
        }
        Some(*first)
    }

    fn task(&self, id: TaskId) -> Option<&Task> {
        let task = self.tasks.get(id.0 as u32 as usize)?.as_ref()?;
        (task.generation == (id.0 >> 32) as u32).then_some(task)
    }

    /// Where a task runs; `None` if it has ended.
    pub fn executor_of(&self, id: TaskId) -> Option<ExecutorId> {
        Some(self.task(id)?.executor)
    }
}
