//! Who ran what, as lines of JSON in a file that is only added to.
//!
//! A statement is written down before it runs, and its end when it has ended. What cannot be written down is not run.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sluice_planner::statement::without_literals;

use super::error::{EngineError, SqlState};

/// Where the audit log is, and how much it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// The file; it is made if it is not there, and only its owner may read it.
    pub file: PathBuf,
    /// Whether texts and numbers in statements are left out.
    pub redact: bool,
}

/// The audit log.
#[derive(Debug)]
pub struct AuditLog {
    options: AuditOptions,
    file: Mutex<File>,
}

/// One line.
#[derive(Debug, Default, Serialize)]
pub struct Event<'a> {
    /// `session`, `login_failed`, `statement`, `refused`, `end`.
    pub event: &'a str,
    /// The user.
    pub user: &'a str,
    /// The client's address; of a failed login the place that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<&'a str>,
    /// The session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'a str>,
    /// The query's id, as `system.queries` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<&'a str>,
    /// The statement's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<&'a str>,
    /// The SQLSTATE that it ended with; `00000` is success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'a str>,
    /// Rows that went to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Milliseconds since the Unix epoch.
    time_ms: u64,
    #[serde(flatten)]
    event: Event<'a>,
}

impl AuditLog {
    /// Opens the file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn open(options: AuditOptions) -> Result<Self, EngineError> {
        let mut open = OpenOptions::new();
        open.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
        let file = open.open(&options.file).map_err(|error| not_written(&options.file, &error))?;
        Ok(Self { options, file: Mutex::new(file) })
    }

    /// Writes one line.
    ///
    /// # Errors
    ///
    /// 58030 when it cannot be written.
    pub fn note(&self, event: Event<'_>) -> Result<(), EngineError> {
        let redacted = event.statement.filter(|_| self.options.redact).map(without_literals);
        let event = Event { statement: redacted.as_deref().or(event.statement), ..event };
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut line = serde_json::to_vec(&Line { time_ms, event })
            .map_err(|error| EngineError::new(SqlState::INTERNAL, error.to_string()))?;
        line.push(b'\n');
        // In one write, so that lines of several processes do not run into each other.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).map_err(|error| not_written(&self.options.file, &error))
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> EngineError {
    tracing::error!(path = %path.display(), %error, "the audit log cannot be written");
    EngineError::new(SqlState::IO_ERROR, "the audit log cannot be written, and what is not in it is not run")
        .with_hint("tell the service's administrator")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_and_literals_are_left_out_if_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("audit.jsonl");
        for redact in [false, true] {
            let log = AuditLog::open(AuditOptions { file: file.clone(), redact }).expect("opens");
            let statement = Some("SELECT 'a\nb', 7");
            log.note(Event { event: "statement", user: "ann", statement, ..Event::default() }).expect("is written");
        }
        let text = std::fs::read_to_string(&file).expect("is there");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
        assert_eq!(lines[0]["statement"], "SELECT 'a\nb', 7");
        assert_eq!(lines[1]["statement"], "SELECT ?, ?");
        assert!(lines[1].get("rows").is_none() && lines[1]["time_ms"].as_u64() > Some(0));
    }
}
