//! Quantities as people write them in a scenario: `"30s"`, `"8GB"`, `{ cpu = 1.5, memory = "4GB", disk = 2 }`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::core::{Kind, Kinds, Millis, Resources};

/// Longer than any cluster runs, and short enough to calculate with.
const MAX_MS: u128 = 100 * 365 * 24 * 3_600_000;

/// A length of time, written with units: `"1h 30m"`, `"30s"`, `"250ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub Millis);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let problem = |what: String| D::Error::custom(format!("\"{text}\" is not a time: {what}"));
        let duration = humantime::parse_duration(&text)
            .map_err(|error| problem(format!("{error}; write a number with a unit, such as \"30s\" or \"5m\"")))?;
        match duration.as_millis() {
            ms if ms <= MAX_MS => Ok(Self(ms as Millis)),
            _ => Err(problem("it is longer than a century".to_owned())),
        }
    }
}

/// Bytes, written with a unit; as everywhere in Sluice, 1 GB is 2^30 of them.
struct Bytes(u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        bytes(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!("\"{text}\" is not a size: write a whole number with MB, GB or TB"))
        })
    }
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "B" => 0,
        "KB" | "K" => 10,
        "MB" | "M" => 20,
        "GB" | "G" => 30,
        "TB" | "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Amounts by the names of the kinds, in the units of [`Resources`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Amounts(BTreeMap<String, u64>);

impl Amounts {
    /// The vector, and zero for kinds that are not named. `None` if that would be one kind too many.
    pub fn resources(&self, kinds: &mut Kinds) -> Option<Resources> {
        self.onto(Resources::ZERO, kinds)
    }

    /// The vector, and no bound on kinds that are not named. `None` if that would be one kind too many.
    pub fn limit(&self, kinds: &mut Kinds) -> Option<Resources> {
        self.onto(Resources::UNLIMITED, kinds)
    }

    fn onto(&self, rest: Resources, kinds: &mut Kinds) -> Option<Resources> {
        self.0.iter().try_fold(rest, |sum, (name, amount)| Some(sum.with(kinds.intern(name)?, *amount)))
    }
}

impl<'de> Deserialize<'de> for Amounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;

        impl<'de> Visitor<'de> for Named {
            type Value = Amounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("amounts such as { cpu = 2, memory = \"8GB\" }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Amounts, A::Error> {
                let mut amounts = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let amount = match name.as_str() {
                        "cpu" => millis_of_cores(map.next_value()?)?,
                        "memory" => map.next_value::<Bytes>()?.0,
                        _ => map.next_value()?,
                    };
                    amounts.insert(name, amount);
                }
                Ok(Amounts(amounts))
            }
        }

        deserializer.deserialize_map(Named)
    }
}

fn millis_of_cores<E: Error>(cores: f64) -> Result<u64, E> {
    // So large that no machine has it, and so small that sums do not overflow.
    const MAX_CORES: f64 = 1e9;
    if (0.0..=MAX_CORES).contains(&cores) {
        Ok((cores * 1_000.0).round() as u64)
    } else {
        Err(E::custom(format!("{cores} is not a number of cores")))
    }
}

/// A time as people read it, to three figures: `250ms`, `12.5s`, `3m 20s`, `2h 5m`.
pub(super) fn words(ms: Millis) -> String {
    let two = |large: Millis, unit: &str, small: Millis, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{small_unit}"),
    };
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => {
            let decimals = if ms < 10_000 { 2 } else { 1 };
            let text = format!("{:.decimals$}", ms as f64 / 1_000.0);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
        60_000..3_600_000 => two(ms / 60_000, "m", ms / 1_000 % 60, "s"),
        _ => two(ms / 3_600_000, "h", ms / 60_000 % 60, "m"),
    }
}

/// The amounts as people read them: `2 cpu, 8 GB memory`.
pub(super) fn amounts(resources: &Resources, kinds: &Kinds) -> String {
    let named = kinds.iter().filter(|(kind, _)| resources.get(*kind) > 0);
    let words: Vec<_> = named
        .map(|(kind, name)| match (kind, resources.get(kind)) {
            (Kind::CPU, millis) => format!("{} cpu", millis as f64 / 1_000.0),
            (Kind::MEMORY, bytes) => format!("{:.4} GB memory", bytes as f64 / (1u64 << 30) as f64)
                .replace(".0000", "")
                .trim_end_matches('0')
                .to_owned(),
            (_, amount) => format!("{amount} {name}"),
        })
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_units_of_their_kinds() {
        let amounts: Amounts = toml::from_str("cpu = 1.5\nmemory = \"2GB\"\ndisk = 3").expect("is right");
        let mut kinds = Kinds::default();
        let resources = amounts.resources(&mut kinds).expect("there is room for a kind");
        let disk = kinds.find("disk").expect("is known now");
        assert_eq!(resources, Resources::new(1_500, 2 << 30).with(disk, 3));
        assert_eq!(super::amounts(&resources, &kinds), "1.5 cpu, 2 GB memory, 3 disk");
    }

    #[test]
    fn a_quantity_without_sense_says_how_to_write_it() {
        for (text, expected) in [
            ("memory = \"much\"", "write a whole number with MB, GB or TB"),
            ("memory = \"99999999999TB\"", "is not a size"),
            ("cpu = -1", "is not a number of cores"),
            ("cpu = nan", "is not a number of cores"),
            ("disk = \"a\"", "expected u64"),
        ] {
            let error = toml::from_str::<Amounts>(text).expect_err(text).to_string();
            assert!(error.contains(expected) && error.contains("line 1"), "{text}: {error}");
        }
    }

    #[test]
    fn times_are_short_to_read() {
        let read: Vec<_> = [7, 1_250, 10_000, 12_340, 60_000, 200_000, 7_500_000].map(words).into();
        assert_eq!(read, ["7ms", "1.25s", "10s", "12.3s", "1m", "3m 20s", "2h 5m"]);
    }
}
