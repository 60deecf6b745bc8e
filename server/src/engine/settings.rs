//! A session's settings, by PostgreSQL's names where it has one.

use std::collections::BTreeMap;

use sluice_planner::suggest::nearest;

use super::error::{EngineError, SqlState};

/// A setting: its name in lower case, its default, and what it is for.
struct Known {
    name: &'static str,
    default: &'static str,
    /// Whether PostgreSQL tells clients of a change (`ParameterStatus`), and under which spelling.
    reported_as: Option<&'static str>,
    kind: Kind,
    description: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Any text.
    Text,
    /// `on` or `off`.
    Switch,
    /// A whole number, in milliseconds unless a unit follows.
    Milliseconds,
    /// A number of bytes, after which kB, MB and GB may follow, or `auto`.
    Bytes,
    /// A whole number.
    Number,
    /// Cannot be set.
    ReadOnly,
}

/// A value that the service chooses.
const AUTO: &str = "auto";

const KNOWN: &[Known] = &[
    known("application_name", "", Some("application_name"), Kind::Text, "The client's name for itself"),
    known("bytea_output", "hex", None, Kind::Text, "How binary columns are written in text format"),
    known("client_encoding", "UTF8", Some("client_encoding"), Kind::Text, "The client's character set; only UTF8"),
    known("client_min_messages", "notice", None, Kind::Text, "The least severity of messages that are sent"),
    known("datestyle", "ISO, MDY", Some("DateStyle"), Kind::Text, "How dates are written"),
    known("default_table_access_method", "heap", None, Kind::Text, "Accepted for clients' sake"),
    known("default_transaction_isolation", "read committed", None, Kind::Text, "Accepted for clients' sake"),
    known(
        "default_transaction_read_only",
        "off",
        Some("default_transaction_read_only"),
        Kind::Switch,
        "Accepted for clients' sake",
    ),
    known("extra_float_digits", "1", None, Kind::Number, "Accepted for clients' sake; floats are written in full"),
    known(
        "flight_endpoints",
        "executors",
        None,
        Kind::Text,
        "Where Flight SQL clients fetch large results: executors, where these serve clients, or one",
    ),
    known(
        "flight_ticket_lifetime",
        "600000",
        None,
        Kind::Milliseconds,
        "How long a result that executors hold can be fetched, a day at most",
    ),
    known(
        "idle_session_timeout",
        "0",
        None,
        Kind::Milliseconds,
        "Closes a session that has been idle for so long; 0 never",
    ),
    known("in_hot_standby", "off", Some("in_hot_standby"), Kind::ReadOnly, "Whether this is a standby"),
    known("integer_datetimes", "on", Some("integer_datetimes"), Kind::ReadOnly, "Times are whole numbers on the wire"),
    known("intervalstyle", "postgres", Some("IntervalStyle"), Kind::Text, "How intervals are written"),
    known("is_superuser", "on", Some("is_superuser"), Kind::ReadOnly, "Whether the session may do everything"),
    known("lock_timeout", "0", None, Kind::Milliseconds, "Accepted for clients' sake; there are no locks"),
    known("max_identifier_length", "63", None, Kind::ReadOnly, "Told to clients that ask"),
    known("max_index_keys", "32", None, Kind::ReadOnly, "Told to clients that ask"),
    known("progress", "off", None, Kind::Switch, "Whether notices tell every two seconds how far a query is"),
    known("row_security", "on", None, Kind::Switch, "Accepted for clients' sake"),
    known("search_path", "public", Some("search_path"), Kind::Text, "Schemas that names without one are looked up in"),
    known("server_encoding", "UTF8", Some("server_encoding"), Kind::ReadOnly, "The character set of everything"),
    known(
        "server_version",
        "15.0",
        Some("server_version"),
        Kind::ReadOnly,
        "The PostgreSQL version that Sluice speaks like",
    ),
    known("server_version_num", "150000", None, Kind::ReadOnly, "The same as a number"),
    known("session_authorization", "", Some("session_authorization"), Kind::ReadOnly, "The session's user"),
    known(
        "standard_conforming_strings",
        "on",
        Some("standard_conforming_strings"),
        Kind::Switch,
        "Backslashes in '...' are plain characters",
    ),
    known("statement_timeout", "0", None, Kind::Milliseconds, "Cancels a statement that has run for so long; 0 never"),
    known("idle_in_transaction_session_timeout", "0", None, Kind::Milliseconds, "Accepted for clients' sake"),
    known("synchronous_commit", "on", None, Kind::Text, "Accepted for clients' sake"),
    known("timezone", "UTC", Some("TimeZone"), Kind::Text, "The time zone in which times are written"),
    known("transaction_isolation", "read committed", None, Kind::Text, "Accepted for clients' sake"),
    known("transaction_read_only", "off", None, Kind::Switch, "Accepted for clients' sake"),
    known("transaction_characteristics", "", None, Kind::Text, "Accepted for clients' sake"),
    known("xmloption", "content", None, Kind::Text, "Accepted for clients' sake"),
    known("jit", "off", None, Kind::Switch, "Accepted for clients' sake"),
    known("geqo", "on", None, Kind::Switch, "Accepted for clients' sake"),
    known("queue", "", None, Kind::Text, "The queue whose resources the session's queries use"),
    known(
        "sluice.locality_wait",
        "500",
        None,
        Kind::Milliseconds,
        "How long a task of a scan waits for an executor beside its data",
    ),
    known(
        "sluice.least_task_memory",
        "67108864",
        None,
        Kind::Bytes,
        "The least memory that is granted to each partition of a stage that runs",
    ),
    known(
        "sluice.task_memory",
        AUTO,
        None,
        Kind::Bytes,
        "Memory granted to each partition of a stage that runs; auto is what its plan needs",
    ),
    known(
        "sluice.single_task_max_bytes",
        AUTO,
        None,
        Kind::Bytes,
        "A query that reads at most so much runs as one task, without an exchange; auto is a share of the memory of an \
         embedded cluster, and 32MB of others",
    ),
    known(
        "sluice.target_partitions",
        "0",
        None,
        Kind::Number,
        "Partitions of an exchange; 0 is the vcores of the cluster",
    ),
];

const fn known(
    name: &'static str,
    default: &'static str,
    reported_as: Option<&'static str>,
    kind: Kind,
    description: &'static str,
) -> Known {
    Known { name, default, reported_as, kind, description }
}

/// DataFusion settings that a session may change: those that shape its own plans only.
///
/// `datafusion.runtime.*` would replace the memory pool and the spill folder that all share.
const PASSED_ON: [&str; 3] = ["datafusion.optimizer.", "datafusion.execution.parquet.", "datafusion.sql_parser."];
const PASSED_ON_NAMES: [&str; 4] = [
    "datafusion.execution.batch_size",
    "datafusion.execution.target_partitions",
    "datafusion.execution.collect_statistics",
    "datafusion.explain.show_statistics",
];

/// Of those, one that would have planning look other names up than those whose privileges are asked for.
const NEVER_PASSED_ON: &str = "datafusion.sql_parser.enable_ident_normalization";

/// Where a setting's value goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// Kept here.
    Own,
    /// To be set in the session's DataFusion configuration.
    DataFusion,
}

/// One session's values.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
    /// Values at the session's start, to which `RESET` goes back.
    initial: BTreeMap<&'static str, String>,
    reported: Vec<(String, String)>,
}

impl Settings {
    /// Makes a value the one that the session began with.
    pub fn begin_with(&mut self, name: &'static str, value: &str) {
        self.values.insert(name, value.to_owned());
        self.initial.insert(name, value.to_owned());
    }

    /// Settings with what the client asked for at its start; unknown names are left to it.
    pub fn new(user: &str, startup: &[(String, String)]) -> Self {
        let mut settings = Self::default();
        settings.values.insert("session_authorization", user.to_owned());
        for (name, value) in startup {
            // PostgreSQL would refuse; clients send settings of extensions that are not here.
            if let Err(error) = settings.set(name, value) {
                tracing::debug!(%error, "a setting of the start-up message is not taken");
            }
        }
        settings.initial = settings.values.clone();
        settings.reported.clear();
        settings
    }

    /// The value in force; `None` if there is no such setting.
    pub fn get(&self, name: &str) -> Option<String> {
        let known = find(name)?;
        Some(self.values.get(known.name).cloned().unwrap_or_else(|| known.default.to_owned()))
    }

    /// A number of bytes; `None` if the service chooses.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        parse_number(&self.get(name)?)
    }

    /// A whole number: milliseconds or a count. Zero if there is no such setting.
    pub fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(|value| parse_number(&value)).unwrap_or(0)
    }

    /// Sets a value after checking it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Target, EngineError> {
        let lower = name.to_lowercase();
        if lower.starts_with("cassandra.") {
            return Ok(Target::DataFusion);
        }
        if lower.starts_with("datafusion.") || lower.starts_with("ballista.") {
            let allowed =
                PASSED_ON.iter().any(|prefix| lower.starts_with(prefix)) || PASSED_ON_NAMES.contains(&lower.as_str());
            return if allowed && lower != NEVER_PASSED_ON {
                Ok(Target::DataFusion)
            } else {
                Err(EngineError::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("setting \"{lower}\" cannot be changed in a session"),
                )
                .with_hint("it would change what other sessions share"))
            };
        }
        let Some(known) = find(&lower) else { return Err(unknown(&lower)) };
        let value = checked(known, value)?;
        if let Some(reported_as) = known.reported_as {
            self.reported.push((reported_as.to_owned(), value.clone()));
        }
        self.values.insert(known.name, value);
        Ok(Target::Own)
    }

    /// The values that differ from the defaults.
    pub fn chosen(&self) -> BTreeMap<String, String> {
        self.values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    /// Puts a value back that was in force before; `None` is the default.
    pub fn put_back(&mut self, name: &str, value: Option<String>) {
        let Some(known) = find(name) else { return };
        if let Some(reported_as) = known.reported_as {
            let told = value.clone().unwrap_or_else(|| known.default.to_owned());
            self.reported.push((reported_as.to_owned(), told));
        }
        match value {
            Some(value) => self.values.insert(known.name, value),
            None => self.values.remove(known.name),
        };
    }

    /// Goes back to the value at the session's start.
    pub fn reset(&mut self, name: &str) -> Result<(), EngineError> {
        let known = find(name).ok_or_else(|| unknown(name))?;
        let initial = self.initial.get(known.name).cloned();
        match &initial {
            Some(value) => self.values.insert(known.name, value.clone()),
            None => self.values.remove(known.name),
        };
        if let Some(reported_as) = known.reported_as {
            self.reported.push((reported_as.to_owned(), initial.unwrap_or_else(|| known.default.to_owned())));
        }
        Ok(())
    }

    /// Goes back to the session's start.
    pub fn reset_all(&mut self) {
        let names: Vec<&str> = self.values.keys().copied().collect();
        for name in names {
            // The names come from the table of known settings.
            let _ = self.reset(name);
        }
    }

    /// Settings that PostgreSQL reports and that changed since the last call.
    pub fn take_reported(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.reported)
    }

    /// Every setting with its value and description.
    pub fn all(&self) -> Vec<(String, String, String)> {
        let mut all: Vec<_> = KNOWN
            .iter()
            .filter_map(|k| Some((k.name.to_owned(), self.get(k.name)?, k.description.to_owned())))
            .collect();
        all.sort();
        all
    }
}

fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

fn unknown(name: &str) -> EngineError {
    let error =
        EngineError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""));
    match nearest(name, KNOWN.iter().map(|known| known.name)) {
        Some(name) => error.with_hint(format!("did you mean \"{name}\"?")),
        None => error.with_hint("SHOW ALL lists every setting"),
    }
}

fn checked(known: &Known, value: &str) -> Result<String, EngineError> {
    let bad = |wanted: &str| {
        Err(EngineError::new(
            SqlState::INVALID_PARAMETER,
            format!("invalid value for parameter \"{}\": \"{value}\"", known.name),
        )
        .with_hint(format!("it takes {wanted}")))
    };
    match known.kind {
        Kind::ReadOnly => {
            Err(EngineError::new(SqlState("55P02"), format!("parameter \"{}\" cannot be changed", known.name)))
        }
        Kind::Text if known.name == "client_encoding" => match value.to_uppercase().as_str() {
            "UTF8" | "UTF-8" | "UNICODE" => Ok("UTF8".to_owned()),
            _ => bad("UTF8"),
        },
        Kind::Text if known.name == "timezone" => {
            let valid = value.parse::<datafusion::arrow::array::timezone::Tz>().is_ok();
            if valid { Ok(value.to_owned()) } else { bad("a time zone's name, such as UTC or Europe/Berlin") }
        }
        Kind::Text if known.name == "flight_endpoints" => match value.to_lowercase().as_str() {
            endpoints @ ("executors" | "one") => Ok(endpoints.to_owned()),
            _ => bad("executors or one"),
        },
        Kind::Text => Ok(value.to_owned()),
        Kind::Switch => match value.to_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok("on".to_owned()),
            "off" | "false" | "no" | "0" => Ok("off".to_owned()),
            _ => bad("on or off"),
        },
        Kind::Number if value.parse::<i64>().is_ok() => Ok(value.to_owned()),
        Kind::Number => bad("a whole number"),
        Kind::Milliseconds => match parse_number(value) {
            Some(ms) => Ok(ms.to_string()),
            None => bad("milliseconds, or a number with a unit such as 30s"),
        },
        Kind::Bytes if value.eq_ignore_ascii_case(AUTO) => Ok(AUTO.to_owned()),
        Kind::Bytes => match parse_number(value) {
            Some(bytes) => Ok(bytes.to_string()),
            None => bad("bytes, a number with a unit such as 64MB, or auto"),
        },
    }
}

/// A number with an optional unit of PostgreSQL's: ms, s, min, h; B, kB, MB, GB.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "" | "ms" | "B" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_postgresqls() {
        let mut settings = Settings::new("me", &[]);
        settings.set("statement_timeout", "30s").expect("is a time");
        assert_eq!(settings.number("statement_timeout"), 30_000);
        settings.set("sluice.single_task_max_bytes", "64MB").expect("is a size");
        assert_eq!(settings.number("sluice.single_task_max_bytes"), 64 << 20);
        assert!(settings.set("statement_timeout", "soon").is_err());
    }

    #[test]
    fn what_others_share_cannot_be_changed() {
        let mut settings = Settings::new("me", &[]);
        let error = settings.set("datafusion.runtime.memory_limit", "100G").expect_err("is refused");
        assert_eq!(error.state, SqlState::INSUFFICIENT_PRIVILEGE);
        assert!(settings.set("DataFusion.sql_parser.enable_ident_normalization", "false").is_err());
        let target = settings.set("datafusion.execution.batch_size", "1024").expect("is one's own");
        assert_eq!(target, Target::DataFusion);
    }

    #[test]
    fn reset_goes_back_to_what_the_client_started_with() {
        let mut settings = Settings::new("me", &[("application_name".to_owned(), "psql".to_owned())]);
        settings.set("application_name", "other").expect("is set");
        settings.reset("application_name").expect("is known");
        assert_eq!(settings.get("application_name").as_deref(), Some("psql"));
        assert_eq!(settings.take_reported().len(), 2);
    }

    #[test]
    fn an_unknown_setting_is_told_with_the_nearest_name() {
        let error = Settings::new("me", &[]).set("statement_timeuot", "1").expect_err("is unknown");
        assert_eq!(error.hint.as_deref(), Some("did you mean \"statement_timeout\"?"));
    }
}
