//! Tasks start and end.

use super::Millis;
use super::allocator::{Allocator, Task, TaskId};
use super::executor::ExecutorId;
use super::queue::QueueId;
use super::resources::Resources;

impl Allocator {
    pub(super) fn task_id(&self, index: u32) -> TaskId {
        let generation = self.tasks[index as usize].as_ref().map_or(0, |task| task.generation);
        TaskId(u64::from(generation) << 32 | u64::from(index))
    }

    pub(super) fn start_task(
        &mut self,
        queue: QueueId,
        executor: ExecutorId,
        resources: Resources,
        reserved: Option<Box<(QueueId, Resources)>>,
    ) -> TaskId {
        self.decision += 1;
        let (index, generation) = self.vacant_tasks.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            ((self.tasks.len() - 1) as u32, 0)
        });
        let older_in_queue = self.queue_mut(queue).youngest.replace(index);
        if self.queue(queue).oldest.is_none() {
            self.queue_mut(queue).oldest = Some(index);
        }
        self.queue_mut(queue).task_count += 1;
        let mut older_on_executor = None;
        if let Some(executor) = self.executors[executor.0 as usize].as_mut() {
            older_on_executor = executor.youngest.replace(index);
            executor.task_count += 1;
        }
        if let Some(older) = older_in_queue.and_then(|older| self.tasks[older as usize].as_mut()) {
            older.in_queue.1 = Some(index);
        }
        if let Some(older) = older_on_executor.and_then(|older| self.tasks[older as usize].as_mut()) {
            older.on_executor.1 = Some(index);
        }
        self.tasks[index as usize] = Some(Task {
            queue,
            executor,
            resources,
            reserved,
            started: self.decision,
            generation,
            revoked: false,
            in_queue: (older_in_queue, None),
            on_executor: (older_on_executor, None),
        });
        self.task_id(index)
    }

    /// A task ended, however it did: what it held is free. Unknown tasks are ignored.
    pub fn finish_task(&mut self, id: TaskId, now: Millis) -> Option<ExecutorId> {
        self.now = self.now.max(now);
        let (index, generation) = (id.0 as u32, (id.0 >> 32) as u32);
        if self.tasks.get(index as usize)?.as_ref()?.generation != generation {
            return None;
        }
        let task = self.unlink(index)?;
        self.give_back(task.queue, task.executor, &task.resources, task.reserved.as_deref());
        self.refresh(task.queue);
        Some(task.executor)
    }

    /// Takes a task out of all lists; what it holds stays charged.
    pub(super) fn unlink(&mut self, index: u32) -> Option<Task> {
        let task = self.tasks.get_mut(index as usize)?.take()?;
        if task.revoked {
            self.revoking.remove(&index);
        }
        self.vacant_tasks.push((index, task.generation.wrapping_add(1)));
        let (older, younger) = task.in_queue;
        match younger.and_then(|index| self.tasks[index as usize].as_mut()) {
            Some(younger) => younger.in_queue.0 = older,
            None => self.queue_mut(task.queue).youngest = older,
        }
        match older.and_then(|index| self.tasks[index as usize].as_mut()) {
            Some(older) => older.in_queue.1 = younger,
            None => self.queue_mut(task.queue).oldest = younger,
        }
        self.queue_mut(task.queue).task_count -= 1;
        let (older, younger) = task.on_executor;
        if let Some(older) = older.and_then(|index| self.tasks[index as usize].as_mut()) {
            older.on_executor.1 = younger;
        }
        match younger.and_then(|index| self.tasks[index as usize].as_mut()) {
            Some(younger) => younger.on_executor.0 = older,
            None => {
                if let Some(executor) = self.executors[task.executor.0 as usize].as_mut() {
                    executor.youngest = older;
                }
            }
        }
        if let Some(executor) = self.executors[task.executor.0 as usize].as_mut() {
            executor.task_count -= 1;
        }
        Some(task)
    }
}
