//! Finding an executor with room among many.

use super::resources::{Kind, Resources};

/// A tree of maxima over the free resources of the executors, by position.
///
/// Each inner node holds, by kind, the most that any executor below it has free. A search goes down
/// only where everything asked for may be found, first where more cpu is free, so that work spreads
/// evenly. O(log n) to change one executor; a search is O(log n) unless different executors are
/// rich in different kinds.
#[derive(Debug, Clone, Default)]
pub struct RoomIndex {
    /// Leaves start at `width`; node `i` has the children `2i` and `2i + 1`; 0 is unused.
    nodes: Vec<Resources>,
    width: usize,
}

impl RoomIndex {
    /// What was last set at `position`.
    pub fn get(&self, position: usize) -> Resources {
        if position < self.width { self.nodes[self.width + position] } else { Resources::ZERO }
    }

    /// The most that any one executor has, by kind.
    pub fn most(&self) -> Resources {
        self.nodes.get(1).copied().unwrap_or_default()
    }

    /// Sets what is free at `position`, growing as needed.
    pub fn set(&mut self, position: usize, free: Resources) {
        if position >= self.width {
            self.grow(position + 1);
        }
        let mut node = self.width + position;
        self.nodes[node] = free;
        while node > 1 {
            node /= 2;
            let most = self.nodes[2 * node].max(&self.nodes[2 * node + 1]);
            if self.nodes[node] == most {
                break;
            }
            self.nodes[node] = most;
        }
    }

    /// A position where `need` fits and that `accepts` takes.
    pub fn find(&self, need: &Resources, mut accepts: impl FnMut(usize) -> bool) -> Option<usize> {
        if self.width == 0 { None } else { self.find_below(1, need, &mut accepts) }
    }

    /// A position where `need` fits, mostly one of those that [`Self::find`] comes upon last.
    pub fn find_last(&self, need: &Resources) -> Option<usize> {
        if self.width == 0 { None } else { self.find_last_below(1, need) }
    }

    fn find_last_below(&self, node: usize, need: &Resources) -> Option<usize> {
        if !need.fits(&self.nodes[node]) {
            return None;
        }
        if node >= self.width {
            return Some(node - self.width);
        }
        self.find_last_below(2 * node + 1, need).or_else(|| self.find_last_below(2 * node, need))
    }

    fn find_below(&self, node: usize, need: &Resources, accepts: &mut impl FnMut(usize) -> bool) -> Option<usize> {
        if !need.fits(&self.nodes[node]) {
            return None;
        }
        if node >= self.width {
            let position = node - self.width;
            return accepts(position).then_some(position);
        }
        let (left, right) = (2 * node, 2 * node + 1);
        let cpu = |node: usize| self.nodes[node].get(Kind::CPU);
        let (first, second) = if cpu(right) > cpu(left) { (right, left) } else { (left, right) };
        self.find_below(first, need, accepts).or_else(|| self.find_below(second, need, accepts))
    }

    fn grow(&mut self, len: usize) {
        let width = len.next_power_of_two();
        let mut nodes = vec![Resources::ZERO; 2 * width];
        nodes[width..width + self.width].copy_from_slice(&self.nodes[self.width..]);
        for node in (1..width).rev() {
            nodes[node] = nodes[2 * node].max(&nodes[2 * node + 1]);
        }
        self.nodes = nodes;
        self.width = width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executor_with_the_most_cpu_free_is_found_first() {
        let mut index = RoomIndex::default();
        for (position, cpu) in [1, 4, 2, 3, 4].into_iter().enumerate() {
            index.set(position, Resources::new(cpu, 10));
        }
        assert_eq!(index.find(&Resources::new(1, 1), |_| true), Some(1));
        assert_eq!(index.find_last(&Resources::new(3, 1)), Some(4));
        assert_eq!(index.find(&Resources::new(1, 1), |position| position == 2), Some(2), "only what is accepted");
        index.set(1, Resources::ZERO);
        index.set(4, Resources::ZERO);
        assert_eq!(index.find(&Resources::new(1, 1), |_| true), Some(3));
    }

    #[test]
    fn rich_in_one_kind_each_is_not_rich_in_both() {
        let mut index = RoomIndex::default();
        index.set(0, Resources::new(8, 1));
        index.set(1, Resources::new(1, 8));
        assert_eq!(index.find(&Resources::new(2, 2), |_| true), None);
        index.set(2, Resources::new(2, 2));
        assert_eq!(index.find(&Resources::new(2, 2), |_| true), Some(2));
        assert_eq!(index.most(), Resources::new(8, 8));
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        assert_eq!(RoomIndex::default().find(&Resources::ZERO, |_| true), None);
    }
}
