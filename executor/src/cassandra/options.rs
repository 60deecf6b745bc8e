//! A catalog's options.

use std::collections::BTreeMap;

use scylla::frame::types::Consistency;
use serde::{Deserialize, Serialize};

use super::error::CassandraError;

/// The port of CQL where a contact point names none.
const CQL_PORT: u16 = 9042;

/// How to reach a cluster, and how to treat it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CassandraOptions {
    /// `host:port` of the nodes that are asked for the others.
    pub contact_points: Vec<String>,
    /// The data centre whose nodes are preferred.
    pub local_dc: Option<String>,
    /// Consistency of reads: `LOCAL_ONE` unless said otherwise.
    pub consistency: String,
    /// Consistency of writes: `LOCAL_QUORUM` unless said otherwise.
    pub write_consistency: String,
    /// Rows of a page. Larger pages stop paying at about 10,000.
    pub page_size_rows: i32,
    /// How long one request may take.
    pub request_timeout_ms: u64,
    /// Bytes of a table that one split holds, as its nodes estimate them.
    pub split_size_mb: u64,
    /// Token ranges that one task reads at a time.
    pub ranges_in_flight: usize,
    /// Requests that one task has under way when it writes, at most.
    pub write_concurrency: usize,
    /// Rows a second that one process writes to one node; 0 is as many as it takes.
    pub write_rows_per_second: u32,
    /// Who logs in, if the cluster asks.
    pub username: Option<String>,
    /// The password that goes with it.
    pub password: Option<String>,
}

impl std::fmt::Debug for CassandraOptions {
    /// Everything but the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CassandraOptions")
            .field("contact_points", &self.contact_points)
            .field("local_dc", &self.local_dc)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Default for CassandraOptions {
    fn default() -> Self {
        Self {
            contact_points: vec![format!("127.0.0.1:{CQL_PORT}")],
            local_dc: None,
            consistency: "LOCAL_ONE".to_owned(),
            write_consistency: "LOCAL_QUORUM".to_owned(),
            page_size_rows: 5_000,
            request_timeout_ms: 20_000,
            split_size_mb: 64,
            ranges_in_flight: 4,
            write_concurrency: 128,
            write_rows_per_second: 0,
            username: None,
            password: None,
        }
    }
}

const NAMES: [&str; 12] = [
    "contact_points",
    "local_dc",
    "consistency",
    "write_consistency",
    "page_size_rows",
    "request_timeout_ms",
    "split_size_mb",
    "ranges_in_flight",
    "write_concurrency",
    "write_rows_per_second",
    "username",
    "password",
];

impl CassandraOptions {
    /// Options by name. A name that does not exist or a value that cannot be used is an error.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self, CassandraError> {
        let mut options = Self::default();
        for (name, value) in map {
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), CassandraError> {
        match name {
            "contact_points" => {
                let points: Vec<String> =
                    value.split(',').map(str::trim).filter(|p| !p.is_empty()).map(with_port).collect();
                if points.is_empty() {
                    return Err(bad("contact_points", value, "hosts or addresses with commas between them"));
                }
                self.contact_points = points;
            }
            "local_dc" => self.local_dc = Some(value.to_owned()),
            "consistency" => self.consistency = checked_consistency("consistency", value)?,
            "write_consistency" => self.write_consistency = checked_consistency("write_consistency", value)?,
            "page_size_rows" => self.page_size_rows = number("page_size_rows", value, 1, 100_000)? as i32,
            "request_timeout_ms" => self.request_timeout_ms = number("request_timeout_ms", value, 1, 3_600_000)?,
            "split_size_mb" => self.split_size_mb = number("split_size_mb", value, 1, 1 << 20)?,
            "ranges_in_flight" => self.ranges_in_flight = number("ranges_in_flight", value, 1, 64)? as usize,
            "write_concurrency" => self.write_concurrency = number("write_concurrency", value, 1, 4_096)? as usize,
            "write_rows_per_second" => {
                self.write_rows_per_second = number("write_rows_per_second", value, 0, 100_000_000)? as u32;
            }
            "username" => self.username = Some(value.to_owned()),
            "password" => self.password = Some(value.to_owned()),
            _ => {
                let suggestion = NAMES
                    .iter()
                    .map(|known| (strsim::damerau_levenshtein(known, name), known))
                    .filter(|(distance, _)| *distance <= 4)
                    .min()
                    .map(|(_, known)| (*known).to_owned());
                return Err(CassandraError::UnknownOption { name: name.to_owned(), suggestion });
            }
        }
        Ok(())
    }

    /// The contact points as one text.
    pub fn contact_points_text(&self) -> String {
        self.contact_points.join(", ")
    }

    pub(super) fn read_consistency(&self) -> Consistency {
        consistency(&self.consistency).unwrap_or(Consistency::LocalOne)
    }

    pub(super) fn write_consistency(&self) -> Consistency {
        consistency(&self.write_consistency).unwrap_or(Consistency::LocalQuorum)
    }
}

fn with_port(point: &str) -> String {
    // More than one colon is an IPv6 address without a port.
    if point.matches(':').count() == 1 || point.starts_with('[') {
        point.to_owned()
    } else {
        format!("{point}:{CQL_PORT}")
    }
}

fn bad(name: &'static str, value: &str, expected: &'static str) -> CassandraError {
    CassandraError::BadOption { name, value: value.to_owned(), expected }
}

fn number(name: &'static str, value: &str, least: u64, most: u64) -> Result<u64, CassandraError> {
    value
        .trim()
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| bad(name, value, "a whole number within its limits"))
}

pub(super) fn checked_consistency(name: &'static str, value: &str) -> Result<String, CassandraError> {
    let value = value.trim().to_uppercase();
    match consistency(&value) {
        Some(_) => Ok(value),
        None => Err(bad(name, &value, "ONE, TWO, THREE, QUORUM, ALL, LOCAL_ONE, LOCAL_QUORUM or EACH_QUORUM")),
    }
}

pub(super) fn consistency(name: &str) -> Option<Consistency> {
    Some(match name {
        "ANY" => Consistency::Any,
        "ONE" => Consistency::One,
        "TWO" => Consistency::Two,
        "THREE" => Consistency::Three,
        "QUORUM" => Consistency::Quorum,
        "ALL" => Consistency::All,
        "LOCAL_ONE" => Consistency::LocalOne,
        "LOCAL_QUORUM" => Consistency::LocalQuorum,
        "EACH_QUORUM" => Consistency::EachQuorum,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<CassandraOptions, CassandraError> {
        CassandraOptions::from_map(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn contact_points_get_the_port_of_cql() {
        let options = options(&[("contact_points", "10.0.0.1, 10.0.0.2:9043")]).expect("is right");
        assert_eq!(options.contact_points, ["10.0.0.1:9042", "10.0.0.2:9043"]);
    }

    #[test]
    fn a_wrong_name_is_told_with_the_right_one() {
        let error = options(&[("contact_point", "10.0.0.1")]).expect_err("is unknown");
        assert_eq!(error.hint().as_deref(), Some("did you mean \"contact_points\"?"));
    }

    #[test]
    fn a_wrong_value_is_told_with_what_is_right() {
        let error = options(&[("consistency", "SOME")]).expect_err("is no consistency");
        assert!(error.to_string().contains("LOCAL_QUORUM"), "{error}");
        assert!(options(&[("page_size_rows", "0")]).is_err());
    }

    #[test]
    fn the_password_is_not_shown() {
        let options = options(&[("username", "me"), ("password", "hunter2")]).expect("is right");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
