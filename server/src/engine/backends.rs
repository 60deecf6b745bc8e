//! Sessions by number, as PostgreSQL knows its backends by their processes: who is there, and how to end what they do.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::Engine;
use super::error::{EngineError, SqlState};
use super::roles::MONITOR;
use super::session::{Protocol, Session, TransactionStatus};

static NEXT_PID: AtomicI32 = AtomicI32::new(1);

/// What a session is to those who look at it from others.
#[derive(Debug)]
pub(super) struct Backend {
    pid: i32,
    started: SystemTime,
    terminated: CancellationToken,
}

impl Default for Backend {
    fn default() -> Self {
        let pid = NEXT_PID.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        Self { pid, started: SystemTime::now(), terminated: CancellationToken::new() }
    }
}

/// A session in a list.
#[derive(Debug, Clone)]
pub struct BackendInfo {
    /// The number that others know it by.
    pub pid: i32,
    /// Its user.
    pub user: String,
    /// The catalog that it is in.
    pub database: String,
    /// Its client's name for itself.
    pub application_name: String,
    /// Where its client is: host and port.
    pub client_address: Option<String>,
    /// When it began.
    pub started: SystemTime,
    /// When its newest statement began.
    pub query_started: Option<SystemTime>,
    /// `active`, `idle`, `idle in transaction` or `idle in transaction (aborted)`.
    pub state: &'static str,
    /// Its newest statement, or that it is for others to see.
    pub query: String,
}

/// What is to be done to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Its statement ends.
    Cancel,
    /// It ends.
    Terminate,
}

impl Session {
    /// The number that other sessions know it by.
    pub fn backend_pid(&self) -> i32 {
        self.backend.pid
    }

    /// Completes when somebody has asked for the session's end.
    pub async fn terminated(&self) {
        self.backend.terminated.cancelled().await;
    }

    /// What a client is told whose session somebody has ended.
    pub fn termination(&self) -> EngineError {
        EngineError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
    }

    fn backend_info(&self, seen_by: &Self) -> BackendInfo {
        let newest = self.running.lock().unwrap_or_else(PoisonError::into_inner).last().and_then(Weak::upgrade);
        let roles = self.engine().roles();
        let may_see = self.user() == seen_by.user()
            || roles.is_superuser(seen_by.user())
            || roles.is_member(seen_by.user(), MONITOR);
        let state = match (newest.as_ref().is_some_and(|record| record.is_running()), self.transaction_status()) {
            (true, _) => "active",
            (false, TransactionStatus::Idle) => "idle",
            (false, TransactionStatus::InTransaction) => "idle in transaction",
            (false, TransactionStatus::Failed) => "idle in transaction (aborted)",
        };
        let query_started =
            newest.as_ref().map(|record| UNIX_EPOCH + Duration::from_millis(record.summary().started_ms));
        let query = match newest {
            _ if !may_see => "<insufficient privilege>".to_owned(),
            Some(record) => record.sql.clone(),
            None => String::new(),
        };
        BackendInfo {
            pid: self.backend.pid,
            user: self.user().to_owned(),
            database: self.database(),
            application_name: self.setting("application_name").unwrap_or_default(),
            client_address: self.client_address().map(str::to_owned).filter(|_| may_see),
            started: self.backend.started,
            query_started,
            state,
            query,
        }
    }
}

impl Engine {
    /// The clients' sessions, as `seen_by` may see them.
    pub fn backends(&self, seen_by: &Session) -> Vec<BackendInfo> {
        let sessions = self.open_sessions().into_iter().filter(|session| session.protocol() != Protocol::Internal);
        sessions.map(|session| session.backend_info(seen_by)).collect()
    }

    /// Ends another session, or its statement; false if there is no such session.
    ///
    /// # Errors
    /// 42501 if the session is another user's, and the asking one is not a superuser's.
    pub fn signal_backend(&self, pid: i32, signal: Signal, by: &Session) -> Result<bool, EngineError> {
        let Some(session) = self.open_sessions().into_iter().find(|session| session.backend_pid() == pid) else {
            by.warn(SqlState("01000"), format!("PID {pid} is not a PostgreSQL server process"));
            return Ok(false);
        };
        if session.user() != by.user() && !self.roles().is_superuser(by.user()) {
            let what = if signal == Signal::Cancel { "cancel the query of" } else { "terminate" };
            return Err(EngineError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to {what} another user's session"),
            )
            .with_hint("only its own user and superusers may"));
        }
        if signal == Signal::Terminate {
            session.backend.terminated.cancel();
        }
        session.cancel();
        Ok(true)
    }

    /// `KILL QUERY 'id'`: ends a running query by the id that `system.queries` has for it.
    pub(super) fn kill_query(&self, id: &str, by: &Session) -> Result<(), EngineError> {
        let Some(record) = self.queries.running().into_iter().find(|record| record.id == id) else {
            return Err(EngineError::new(SqlState::UNDEFINED_OBJECT, format!("no query \"{id}\" is running"))
                .with_hint("system.queries lists them with their query_id"));
        };
        if record.user != by.user() && !self.roles().is_superuser(by.user()) {
            let message = "permission denied to end another user's query";
            return Err(EngineError::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
                .with_hint("only its own user and superusers may"));
        }
        self.cancel_query(id);
        Ok(())
    }
}
