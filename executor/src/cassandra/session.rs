//! What a session may change about reads and writes: settings `cassandra.*` of DataFusion's configuration.
//!
//! A session without this extension has the defaults. Everything that a task needs travels within the plan.

use std::any::Any;

use datafusion::catalog::Session;
use datafusion::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::error::{DataFusionError, Result};

use super::options::checked_consistency;

/// Whether reads by key drive a join.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DirectJoin {
    /// Where fewer keys are read than a scan would cost, which is known when the other side has been read.
    #[default]
    Auto,
    /// Wherever the keys of the other side are whole partition keys.
    On,
    /// Never.
    Off,
}

/// What is written for a null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WriteNulls {
    /// Nothing: an existing value stays, and no tombstone is made.
    #[default]
    Unset,
    /// A tombstone: an existing value is gone.
    Delete,
}

/// The settings, named `cassandra.<field>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CassandraSettings {
    /// Whether predicates are given to the nodes at all; without, all rows are read and compared above the scan.
    pub pushdown: bool,
    /// Whether reads by key drive a join.
    pub direct_join: DirectJoin,
    /// Whether `ORDER BY` a vector's distance with a `LIMIT` is answered by its index, which is approximate.
    pub ann: bool,
    /// Whether predicates that need `ALLOW FILTERING` are given to the nodes.
    pub allow_filtering: bool,
    /// Consistency of reads; `None` is the catalog's.
    pub consistency: Option<String>,
    /// Consistency of writes; `None` is the catalog's.
    pub write_consistency: Option<String>,
    /// What is written for a null.
    pub write_nulls: WriteNulls,
    /// Seconds after which what is written expires; `None` is the table's.
    pub ttl_s: Option<i32>,
    /// Microseconds since the Unix epoch with which cells are written; `None` is the time of planning.
    pub timestamp_us: Option<i64>,
}

impl Default for CassandraSettings {
    fn default() -> Self {
        Self {
            pushdown: true,
            direct_join: DirectJoin::Auto,
            ann: true,
            allow_filtering: false,
            consistency: None,
            write_consistency: None,
            write_nulls: WriteNulls::Unset,
            ttl_s: None,
            timestamp_us: None,
        }
    }
}

impl CassandraSettings {
    /// Those of a session; the defaults if it has none.
    pub fn of(session: &dyn Session) -> Self {
        session.config_options().extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Name, value and meaning of every setting.
    fn list(&self) -> [(&'static str, String, &'static str); 9] {
        let direct_join = match self.direct_join {
            DirectJoin::Auto => "auto",
            DirectJoin::On => "on",
            DirectJoin::Off => "off",
        };
        let nulls = match self.write_nulls {
            WriteNulls::Unset => "unset",
            WriteNulls::Delete => "delete",
        };
        let number = |value: Option<i64>| value.map_or_else(|| DEFAULT.to_owned(), |value| value.to_string());
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| DEFAULT.to_owned());
        let switch = |value: bool| if value { "on" } else { "off" }.to_owned();
        [
            ("pushdown", switch(self.pushdown), "Whether predicates are given to the nodes"),
            ("direct_join", direct_join.to_owned(), "Whether reads by key drive a join: auto, on or off"),
            ("ann", switch(self.ann), "Whether the nearest vectors come from their index, which is approximate"),
            ("allow_filtering", switch(self.allow_filtering), "Whether nodes filter by columns without an index"),
            ("consistency", text(&self.consistency), "Consistency of reads; default is the catalog's"),
            ("write_consistency", text(&self.write_consistency), "Consistency of writes; default is the catalog's"),
            ("write_nulls", nulls.to_owned(), "What a null writes: unset (nothing) or delete (a tombstone)"),
            ("ttl", number(self.ttl_s.map(i64::from)), "Seconds after which what is written expires"),
            ("timestamp", number(self.timestamp_us), "Microseconds since 1970 with which cells are written"),
        ]
    }
}

/// The value of a setting that leaves the choice to the catalog, the table or the clock.
const DEFAULT: &str = "default";
/// Twenty years, the most that Cassandra takes.
const MOST_TTL_S: i32 = 630_720_000;

impl ConfigExtension for CassandraSettings {
    const PREFIX: &'static str = "cassandra";
}

impl ExtensionOptions for CassandraSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let value = value.trim().to_lowercase();
        let bad = |expected: &str| {
            DataFusionError::Configuration(format!("{}.{key} is \"{value}\": it takes {expected}", Self::PREFIX))
        };
        let is_default = value == DEFAULT;
        let switch = || match value.as_str() {
            "on" | "true" | "1" => Ok(true),
            "off" | "false" | "0" => Ok(false),
            _ => Err(bad("on or off")),
        };
        match key {
            "direct_join" => {
                self.direct_join = match value.as_str() {
                    "auto" => DirectJoin::Auto,
                    "on" | "true" => DirectJoin::On,
                    "off" | "false" => DirectJoin::Off,
                    _ => return Err(bad("auto, on or off")),
                }
            }
            "pushdown" => self.pushdown = switch()?,
            "ann" => self.ann = switch()?,
            "allow_filtering" => self.allow_filtering = switch()?,
            "consistency" | "write_consistency" => {
                let level = match is_default {
                    true => None,
                    false => Some(checked_consistency("consistency", &value)?),
                };
                *(if key == "consistency" { &mut self.consistency } else { &mut self.write_consistency }) = level;
            }
            "write_nulls" => {
                self.write_nulls = match value.as_str() {
                    "unset" => WriteNulls::Unset,
                    "delete" => WriteNulls::Delete,
                    _ => return Err(bad("unset or delete")),
                }
            }
            "ttl" => {
                let seconds = || value.parse().ok().filter(|ttl| (0..=MOST_TTL_S).contains(ttl));
                self.ttl_s = match is_default {
                    true => None,
                    false => Some(seconds().ok_or_else(|| bad("seconds, up to twenty years, or default"))?),
                }
            }
            "timestamp" => {
                self.timestamp_us = match is_default {
                    true => None,
                    false => Some(value.parse().map_err(|_| bad("microseconds since 1970, or default"))?),
                }
            }
            _ => return Err(bad("nothing, because there is no such setting")),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        self.list()
            .into_iter()
            .map(|(name, value, description)| ConfigEntry {
                key: format!("{}.{name}", Self::PREFIX),
                value: Some(value),
                description,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_can_be_set() {
        let mut settings = CassandraSettings::default();
        for entry in settings.entries() {
            let name = entry.key.strip_prefix("cassandra.").expect("has its prefix").to_owned();
            settings.set(&name, &entry.value.expect("has a value")).expect("is its own value");
        }
        assert_eq!(settings, CassandraSettings::default());
    }

    #[test]
    fn a_wrong_value_is_told_with_what_is_right() {
        let error = CassandraSettings::default().set("ttl", "soon").expect_err("is no number");
        assert!(error.to_string().contains("seconds"), "{error}");
        assert!(CassandraSettings::default().set("ttl", "630720001").is_err());
    }
}
