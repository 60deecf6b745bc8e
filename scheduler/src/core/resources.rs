//! Vectors of resources.

use std::fmt;

/// Kinds of resources that one cluster can count. A limit, so that a vector is a plain array.
pub const MAX_KINDS: usize = 6;

/// A kind of resource: the index of its amount in a [`Resources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(u8);

impl Kind {
    /// Processor time, in thousandths of a core.
    pub const CPU: Kind = Kind(0);
    /// Memory, in bytes.
    pub const MEMORY: Kind = Kind(1);

    /// Every kind there can be, named or not.
    pub fn all() -> impl Iterator<Item = Kind> {
        (0..MAX_KINDS as u8).map(Kind)
    }
}

/// The names of the kinds: `cpu`, `memory`, and what a configuration adds (`disk`, `slots`, ...).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds {
    names: Vec<String>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self { names: vec!["cpu".to_owned(), "memory".to_owned()] }
    }
}

impl Kinds {
    /// The kind of that name, added if it is new; `None` if there are [`MAX_KINDS`] already.
    pub fn intern(&mut self, name: &str) -> Option<Kind> {
        if let Some(kind) = self.find(name) {
            return Some(kind);
        }
        if self.names.len() == MAX_KINDS {
            return None;
        }
        self.names.push(name.to_owned());
        Some(Kind((self.names.len() - 1) as u8))
    }

    /// The kind of that name.
    pub fn find(&self, name: &str) -> Option<Kind> {
        self.names.iter().position(|known| known == name).map(|index| Kind(index as u8))
    }

    /// The kinds in order, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.names.iter().enumerate().map(|(index, name)| (Kind(index as u8), name.as_str()))
    }
}

/// An amount of each kind. Arithmetic saturates: there is no amount below zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Resources([u64; MAX_KINDS]);

impl Resources {
    /// Nothing of any kind.
    pub const ZERO: Resources = Resources([0; MAX_KINDS]);
    /// No bound on any kind.
    pub const UNLIMITED: Resources = Resources([u64::MAX; MAX_KINDS]);

    /// Thousandths of a core and bytes.
    pub fn new(cpu_millis: u64, memory_bytes: u64) -> Self {
        Self::ZERO.with(Kind::CPU, cpu_millis).with(Kind::MEMORY, memory_bytes)
    }

    /// The same amount of every kind.
    pub const fn all_of(amount: u64) -> Self {
        Self([amount; MAX_KINDS])
    }

    /// The same vector with another amount of one kind.
    #[must_use]
    pub fn with(mut self, kind: Kind, amount: u64) -> Self {
        self.0[kind.0 as usize] = amount;
        self
    }

    /// The amount of one kind.
    pub fn get(&self, kind: Kind) -> u64 {
        self.0[kind.0 as usize]
    }

    /// Thousandths of a core.
    pub fn cpu_millis(&self) -> u64 {
        self.get(Kind::CPU)
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> u64 {
        self.get(Kind::MEMORY)
    }

    /// Whether there is nothing of any kind.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|amount| *amount == 0)
    }

    /// Whether `room` has at least as much of every kind.
    pub fn fits(&self, room: &Resources) -> bool {
        self.0.iter().zip(&room.0).all(|(need, have)| need <= have)
    }

    /// The sum, by kind.
    #[must_use]
    pub fn plus(&self, other: &Resources) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What is left of `self` without `other`, by kind, zero where `other` is larger.
    #[must_use]
    pub fn minus(&self, other: &Resources) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    /// The larger amount, by kind.
    #[must_use]
    pub fn max(&self, other: &Resources) -> Self {
        self.zip(other, u64::max)
    }

    /// The smaller amount, by kind.
    #[must_use]
    pub fn min(&self, other: &Resources) -> Self {
        self.zip(other, u64::min)
    }

    /// `count` times as much of every kind.
    #[must_use]
    pub fn times(&self, count: u64) -> Self {
        Self(self.0.map(|amount| amount.saturating_mul(count)))
    }

    fn zip(&self, other: &Resources, f: impl Fn(u64, u64) -> u64) -> Self {
        let mut out = *self;
        for (mine, theirs) in out.0.iter_mut().zip(&other.0) {
            *mine = f(*mine, *theirs);
        }
        out
    }

    /// The kind of which `self` is the largest part of `whole`, and that part.
    ///
    /// An amount of a kind that `whole` lacks is an infinite part.
    pub fn dominant_part(&self, whole: &Resources) -> (Kind, f64) {
        let mut best = (Kind::CPU, 0.0);
        for kind in Kind::all() {
            let part = self.part(whole, kind);
            if part > best.1 {
                best = (kind, part);
            }
        }
        best
    }

    /// Which part of `whole` this is, by one kind.
    pub fn part(&self, whole: &Resources, kind: Kind) -> f64 {
        match (self.get(kind), whole.get(kind)) {
            (0, _) => 0.0,
            (_, 0) => f64::INFINITY,
            (amount, of) => amount as f64 / of as f64,
        }
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_needs_only_a_name() {
        let mut kinds = Kinds::default();
        let disk = kinds.intern("disk").expect("there is room for a third kind");
        assert_eq!(kinds.find("disk"), Some(disk));
        let task = Resources::new(1_000, 0).with(disk, 7);
        assert!(!task.fits(&Resources::new(2_000, 0)), "there is no disk");
        for name in ["a", "b", "c"] {
            assert!(kinds.intern(name).is_some());
        }
        assert_eq!(kinds.intern("one too many"), None);
    }

    #[test]
    fn the_dominant_part_is_of_the_scarcest_kind() {
        let whole = Resources::new(9_000, 18);
        assert_eq!(Resources::new(1_000, 4).dominant_part(&whole), (Kind::MEMORY, 4.0 / 18.0));
        assert_eq!(Resources::new(3_000, 1).dominant_part(&whole), (Kind::CPU, 3.0 / 9.0));
        assert_eq!(Resources::ZERO.dominant_part(&whole).1, 0.0);
        assert_eq!(Resources::new(1, 0).dominant_part(&Resources::ZERO).1, f64::INFINITY);
    }
}
