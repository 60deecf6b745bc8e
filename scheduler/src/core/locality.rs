//! Delay scheduling: a queue waits a little for a better place.
//!
//! Zaharia et al., "Delay Scheduling: A Simple Technique for Achieving Locality and Fairness in
//! Cluster Scheduling", EuroSys 2010, with Spark's levels and its rule that a launch at a level
//! starts that level's wait anew.

use super::Millis;
use super::queue::Reach;

/// How near to its data a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// In the process that has the data.
    Process,
    /// On the machine that has it.
    Host,
    /// In the same rack.
    Rack,
    /// Anywhere.
    Any,
}

impl Level {
    /// How far from its hosts an ask goes whose tasks take that level.
    pub fn reach(self) -> Reach {
        match self {
            Self::Process | Self::Host => Reach::Hosts,
            Self::Rack => Reach::Racks,
            Self::Any => Reach::Anywhere,
        }
    }
}

/// How long a group of tasks waits at each level before it takes the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalityWaits {
    /// At [`Level::Process`].
    pub process_ms: Millis,
    /// At [`Level::Host`].
    pub host_ms: Millis,
    /// At [`Level::Rack`].
    pub rack_ms: Millis,
}

impl LocalityWaits {
    /// For tasks that are over sooner than a wait would be.
    pub const NONE: LocalityWaits = LocalityWaits { process_ms: 0, host_ms: 0, rack_ms: 0 };

    fn at(&self, level: Level) -> Option<Millis> {
        match level {
            Level::Process => Some(self.process_ms),
            Level::Host => Some(self.host_ms),
            Level::Rack => Some(self.rack_ms),
            Level::Any => None,
        }
    }
}

/// What level a group of tasks would take now.
#[derive(Debug, Clone)]
pub struct DelayClock {
    waits: LocalityWaits,
    level: Level,
    since: Millis,
}

impl DelayClock {
    /// Starts to wait at `best`, the nearest level that the tasks have data at.
    pub fn new(waits: LocalityWaits, best: Level, now: Millis) -> Self {
        Self { waits, level: best, since: now }
    }

    /// The farthest level that is acceptable at `now`.
    pub fn level(&mut self, now: Millis) -> Level {
        while let Some(wait) = self.waits.at(self.level) {
            if now.saturating_sub(self.since) < wait {
                break;
            }
            self.since += wait;
            self.level = next(self.level);
        }
        self.level
    }

    /// A task was launched at `level`: that level is waited at again from now.
    pub fn launched(&mut self, level: Level, now: Millis) {
        if level <= self.level {
            self.level = level;
            self.since = now;
        }
    }

    /// When [`Self::level`] changes next, if nothing is launched until then.
    pub fn next_change(&self) -> Option<Millis> {
        self.waits.at(self.level).map(|wait| self.since + wait)
    }
}

fn next(level: Level) -> Level {
    match level {
        Level::Process => Level::Host,
        Level::Host => Level::Rack,
        Level::Rack | Level::Any => Level::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: LocalityWaits = LocalityWaits { process_ms: 10, host_ms: 100, rack_ms: 50 };

    #[test]
    fn waits_at_each_level_in_turn() {
        let mut clock = DelayClock::new(WAITS, Level::Host, 1_000);
        assert_eq!(clock.level(1_099), Level::Host);
        assert_eq!(clock.next_change(), Some(1_100));
        assert_eq!(clock.level(1_100), Level::Rack);
        assert_eq!(clock.level(1_149), Level::Rack);
        assert_eq!(clock.level(1_150), Level::Any);
        assert_eq!(clock.next_change(), None);
    }

    #[test]
    fn a_launch_near_the_data_starts_the_wait_anew() {
        let mut clock = DelayClock::new(WAITS, Level::Host, 0);
        assert_eq!(clock.level(120), Level::Rack);
        clock.launched(Level::Host, 120);
        assert_eq!(clock.level(219), Level::Host);
        clock.launched(Level::Any, 219);
        assert_eq!(clock.level(219), Level::Host, "a launch far away does not make it give up waiting");
    }

    #[test]
    fn tiny_tasks_do_not_wait() {
        assert_eq!(DelayClock::new(LocalityWaits::NONE, Level::Process, 7).level(7), Level::Any);
    }
}
