//! A catalog's options.

use std::collections::BTreeMap;

use scylla::frame::types::Consistency;
use serde::{Deserialize, Serialize};

use super::error::CassandraError;
use super::write::group::BatchLimits;

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
    /// Partitions of the same nodes that go in one batch, at most; with 1 a batch has rows of one partition only.
    pub write_batch_partitions: usize,
    /// Bytes of a batch, as the nodes reckon them, at most.
    pub write_batch_size_kb: usize,
    /// Rows a second that one process writes to one node; 0 is as many as it takes.
    pub write_rows_per_second: u32,
    /// Who logs in, if the cluster asks.
    pub username: Option<String>,
    /// The password that goes with it.
    pub password: Option<String>,
    /// Requests a second that this process sends to one node to read; `None` is no limit.
    pub reads_per_second: Option<u32>,
    /// Rows a second that this process reads from one node; `None` is no limit.
    pub rows_per_second: Option<u32>,
    /// Requests that this process has under way at one node to read; `None` is no limit.
    pub requests_in_flight: Option<u32>,
    /// After so long without an answer a read is sent to another node too; `None` is never.
    pub speculative_read_ms: Option<u64>,
    /// How frames are compressed on the way.
    pub compression: FrameCompression,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// PEM file of the authorities that vouch for the nodes' certificates.
    pub tls_ca_file: Option<String>,
    /// PEM file of the certificate that this client shows.
    pub tls_cert_file: Option<String>,
    /// PEM file of its key.
    pub tls_key_file: Option<String>,
    /// Whether a node's certificate must be for the node's address.
    pub tls_verify_host: bool,
}

/// How frames are compressed on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FrameCompression {
    /// Not at all.
    #[default]
    None,
    /// LZ4.
    Lz4,
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
            write_batch_partitions: 10,
            write_batch_size_kb: 4,
            write_rows_per_second: 0,
            username: None,
            password: None,
            reads_per_second: None,
            rows_per_second: None,
            requests_in_flight: None,
            speculative_read_ms: None,
            compression: FrameCompression::None,
            tls: false,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_verify_host: true,
        }
    }
}

const NAMES: [&str; 24] = [
    "contact_points",
    "local_dc",
    "consistency",
    "write_consistency",
    "page_size_rows",
    "request_timeout_ms",
    "split_size_mb",
    "ranges_in_flight",
    "write_concurrency",
    "write_batch_partitions",
    "write_batch_size_kb",
    "write_rows_per_second",
    "username",
    "password",
    "reads_per_second",
    "rows_per_second",
    "requests_in_flight",
    "speculative_read_ms",
    "compression",
    "tls",
    "tls_ca_file",
    "tls_cert_file",
    "tls_key_file",
    "tls_verify_host",
];

impl CassandraOptions {
    /// Options by name. A name that does not exist or a value that cannot be used is an error.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self, CassandraError> {
        let mut options = Self::default();
        for (name, value) in map {
            options.set(name, value)?;
        }
        options.check()?;
        Ok(options)
    }

    /// Whether the options go together.
    fn check(&self) -> Result<(), CassandraError> {
        let files = [
            ("tls_ca_file", &self.tls_ca_file),
            ("tls_cert_file", &self.tls_cert_file),
            ("tls_key_file", &self.tls_key_file),
        ];
        let [(_, ca), (_, cert), (_, key)] = files;
        match files.into_iter().find_map(|(name, file)| Some((name, file.as_deref()?))) {
            Some((name, file)) if !self.tls => Err(bad(name, file, "a file only together with tls = 'on'")),
            _ if self.tls && ca.is_none() => Err(bad("tls", "on", "the option tls_ca_file beside it")),
            _ => match (cert, key) {
                (Some(cert), None) => Err(bad("tls_cert_file", cert, "the option tls_key_file beside it")),
                (None, Some(key)) => Err(bad("tls_key_file", key, "the option tls_cert_file beside it")),
                _ => Ok(()),
            },
        }
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
            "write_batch_partitions" => {
                self.write_batch_partitions = number("write_batch_partitions", value, 1, 200)? as usize;
            }
            "write_batch_size_kb" => {
                self.write_batch_size_kb = number("write_batch_size_kb", value, 1, 1 << 10)? as usize;
            }
            "write_rows_per_second" => {
                self.write_rows_per_second = number("write_rows_per_second", value, 0, 100_000_000)? as u32;
            }
            "username" => self.username = Some(value.to_owned()),
            "password" => self.password = Some(value.to_owned()),
            "reads_per_second" => self.reads_per_second = Some(limit("reads_per_second", value)?),
            "rows_per_second" => self.rows_per_second = Some(limit("rows_per_second", value)?),
            "requests_in_flight" => {
                self.requests_in_flight = Some(number("requests_in_flight", value, 1, 1_024)? as u32);
            }
            "speculative_read_ms" => {
                self.speculative_read_ms = Some(number("speculative_read_ms", value, 1, 3_600_000)?);
            }
            "compression" => {
                self.compression = match value.trim().to_lowercase().as_str() {
                    "none" => FrameCompression::None,
                    "lz4" => FrameCompression::Lz4,
                    _ => return Err(bad("compression", value, "none or lz4")),
                }
            }
            "tls" => self.tls = switch("tls", value)?,
            "tls_ca_file" => self.tls_ca_file = Some(value.to_owned()),
            "tls_cert_file" => self.tls_cert_file = Some(value.to_owned()),
            "tls_key_file" => self.tls_key_file = Some(value.to_owned()),
            "tls_verify_host" => self.tls_verify_host = switch("tls_verify_host", value)?,
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

    pub(super) fn batch_limits(&self) -> BatchLimits {
        BatchLimits { bytes: self.write_batch_size_kb << 10, partitions: self.write_batch_partitions }
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

/// A rate; more than the most is no limit at all.
fn limit(name: &'static str, value: &str) -> Result<u32, CassandraError> {
    Ok(number(name, value, 1, 10_000_000)? as u32)
}

fn switch(name: &'static str, value: &str) -> Result<bool, CassandraError> {
    match value.trim().to_lowercase().as_str() {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(bad(name, value, "on or off")),
    }
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
    fn options_must_go_together() {
        let told = |pairs: &[(&str, &str)]| options(pairs).expect_err("do not go together").to_string();
        assert!(told(&[("tls", "on")]).contains("tls_ca_file"));
        assert!(told(&[("tls_ca_file", "ca.pem")]).contains("tls = 'on'"));
        let ca = [("tls", "on"), ("tls_ca_file", "ca.pem")];
        assert!(told(&[&ca[..], &[("tls_cert_file", "c.pem")]].concat()).contains("tls_key_file"));
        assert!(options(&[&ca[..], &[("tls_cert_file", "c.pem"), ("tls_key_file", "k.pem")]].concat()).is_ok());
    }

    #[test]
    fn limits_and_switches_take_only_what_they_mean() {
        assert_eq!(options(&[("rows_per_second", "20000")]).expect("is right").rows_per_second, Some(20_000));
        for (name, value) in
            [("rows_per_second", "0"), ("reads_per_second", "fast"), ("compression", "zip"), ("tls", "maybe")]
        {
            assert!(options(&[(name, value)]).is_err(), "{name} = {value}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let options = options(&[("username", "me"), ("password", "hunter2")]).expect("is right");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
