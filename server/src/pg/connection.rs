//! One connection's loop: a message in, what it asks for, the reply out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::backend::{Severity, put_error, put_notice, put_parameter, put_ready};
use super::encode::EncodeOptions;
use super::extended::{Portal, PreparedStatement};
use super::frontend::{self, DecodeError, Frontend};
use super::startup::{Shared, Started, shutting_down};
use super::wire::{Body, Failure, Frame, Wire};
use crate::engine::{EngineError, Session, SqlState, Statement, TransactionStatus};

/// How long a notice waits at most while its statement runs.
const NOTICE_EVERY: Duration = Duration::from_secs(1);

/// A started connection.
pub struct Connection<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) session: &'a Arc<Session>,
    pub(super) shared: &'a Shared,
    pub(super) statements: HashMap<String, PreparedStatement>,
    pub(super) portals: HashMap<String, Portal>,
    /// After an error in the extended protocol, until `Sync`.
    skipping: bool,
    /// Extended messages have come since the last `Sync`: the client is in the middle of something.
    in_batch: bool,
}

impl<'a> Connection<'a> {
    /// A connection that has just told `ReadyForQuery`.
    pub fn new(wire: &'a mut Wire, started: &'a Started, shared: &'a Shared) -> Self {
        Self {
            wire,
            session: &started.session,
            shared,
            statements: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
            in_batch: false,
        }
    }

    /// Serves the connection to its end, and tells why it ended.
    pub async fn run(mut self) -> Failure {
        loop {
            let frame = match self.next_frame().await {
                Ok(frame) => frame,
                Err(failure) => return failure,
            };
            if let Err(failure) = self.handle(frame).await {
                return failure;
            }
        }
    }

    /// The next message; at shutdown, the end of the connection if nothing is under way.
    async fn next_frame(&mut self) -> Result<Frame, Failure> {
        let shutdown = &self.shared.shutdown;
        if shutdown.is_cancelled() && !self.in_batch {
            return Err(Failure::Fatal(shutting_down()));
        }
        let grace = if self.in_batch { self.shared.options.drain_write_timeout } else { Duration::ZERO };
        let ended = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        let idle_ms = if self.in_batch { 0 } else { self.session.setting_number("idle_session_timeout") };
        let idle = async {
            match idle_ms {
                0 => std::future::pending().await,
                ms => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
            }
        };
        let (session, in_batch) = (self.session, self.in_batch);
        let terminated = async {
            session.terminated().await;
            // What is under way has been cancelled, and its client is told of that first.
            if in_batch {
                tokio::time::sleep(grace).await;
            }
        };
        tokio::select! {
            biased;
            () = terminated => Err(Failure::Fatal(session.termination())),
            frame = self.wire.read_frame(self.shared.options.max_message_bytes) => frame,
            () = idle => Err(Failure::Fatal(EngineError::new(
                SqlState("57P05"),
                "terminating connection due to idle-session timeout",
            ))),
            () = ended => Err(Failure::Fatal(shutting_down())),
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), Failure> {
        let extended = frontend::is_extended(frame.kind);
        if self.skipping && !matches!(frame.kind, b'S' | b'X') {
            return Ok(());
        }
        self.in_batch |= extended;
        let decoded = match frame.body {
            Body::Whole(body) => match frontend::decode(frame.kind, body) {
                Ok(message) => Ok(message),
                Err(DecodeError::Recoverable(error)) => Err(error),
                Err(DecodeError::Fatal(error)) => return Err(Failure::Fatal(error)),
            },
            Body::TooLong { bytes } => Err(self.too_long(bytes)),
        };
        let handled = match decoded {
            Ok(message) => self.dispatch(message).await,
            Err(error) => Err(Failure::Statement(error)),
        };
        match handled {
            Err(Failure::Statement(error)) if extended => self.fail_batch(&error).await,
            Err(Failure::Statement(error)) => {
                self.fail(&error);
                self.ready().await
            }
            other => other,
        }
    }

    async fn dispatch(&mut self, message: Frontend) -> Result<(), Failure> {
        match message {
            Frontend::Query { sql } => self.simple_query(&sql).await,
            Frontend::Parse { name, sql, types } => self.parse(name, &sql, types).await,
            Frontend::Bind(bind) => self.bind(bind),
            Frontend::Describe { target, name } => self.describe(target, &name),
            Frontend::Execute { portal, max_rows } => self.execute(&portal, max_rows).await,
            Frontend::Close { target, name } => {
                self.close(target, &name);
                Ok(())
            }
            Frontend::Flush => self.wire.flush().await,
            Frontend::Sync => self.sync().await,
            Frontend::Terminate => Err(Failure::Gone),
            Frontend::StrayCopy => Ok(()),
            Frontend::FunctionCall => Err(EngineError::not_supported("the function call protocol").into()),
        }
    }

    fn too_long(&self, bytes: usize) -> EngineError {
        let limit = self.shared.options.max_message_bytes;
        EngineError::new(SqlState::LIMIT_EXCEEDED, format!("message of {bytes} bytes is longer than {limit} bytes"))
            .with_hint("send large values in several statements, or raise the server's max_message_bytes")
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        self.skipping = false;
        self.in_batch = false;
        self.ready().await
    }

    /// Tells an error of the extended protocol and skips to `Sync`.
    async fn fail_batch(&mut self, error: &EngineError) -> Result<(), Failure> {
        self.skipping = true;
        self.fail(error);
        self.wire.flush().await
    }

    /// Tells an error; a transaction block that it happened in has failed.
    pub(super) fn fail(&mut self, error: &EngineError) {
        self.put_notices();
        put_error(&mut self.wire.out, error, Severity::Error);
        if self.session.transaction_status() == TransactionStatus::InTransaction {
            self.session.fail_transaction();
        }
    }

    /// Ends a query cycle: everything gathered leaves, with the transaction's state at its end.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let status = self.session.transaction_status();
        if status == TransactionStatus::Idle {
            // Portals live as long as their transaction.
            self.portals.clear();
        }
        for (name, value) in self.session.take_reported_settings() {
            put_parameter(&mut self.wire.out, &name, &value);
        }
        put_ready(&mut self.wire.out, status);
        self.wire.flush().await
    }

    /// Waits for a statement. What it has to say in the meantime leaves now and then, and so do the results of the
    /// statements before it: they are known to the client before the first notice about this one.
    pub(super) async fn with_notices<T>(&mut self, run: impl Future<Output = T>) -> Result<T, Failure> {
        let mut run = std::pin::pin!(run);
        loop {
            match self.wire.while_connected(tokio::time::timeout(NOTICE_EVERY, run.as_mut())).await? {
                Ok(done) => return Ok(done),
                Err(_elapsed) => {
                    self.put_notices();
                    self.wire.flush().await?;
                }
            }
        }
    }

    pub(super) fn put_notices(&mut self) {
        for notice in self.session.take_notices() {
            put_notice(&mut self.wire.out, &notice);
        }
    }

    /// In a failed transaction block only its end is accepted.
    pub(super) fn check_transaction(&self, statement: &Statement) -> Result<(), EngineError> {
        if self.session.transaction_status() == TransactionStatus::Failed && !statement.is_transaction_end() {
            return Err(EngineError::new(
                SqlState::FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    pub(super) fn encode_options(&self) -> EncodeOptions {
        EncodeOptions::with_time_zone(self.session.setting("TimeZone").as_deref())
    }

    /// `DEALLOCATE` of a statement that the protocol's `Parse` made: the engine knows only those of `PREPARE`.
    pub(super) fn deallocate_own(&mut self, statement: &Statement) -> bool {
        statement.tag() == "DEALLOCATE"
            && deallocated_name(&statement.text).is_some_and(|name| self.statements.remove(&name).is_some())
    }

    /// What a completed command means for the protocol's own statements and portals.
    pub(super) fn after_command(&mut self, tag: &str) {
        match tag {
            "DEALLOCATE ALL" => self.statements.clear(),
            "DISCARD ALL" => {
                self.statements.clear();
                self.portals.clear();
            }
            "CLOSE CURSOR ALL" => self.portals.clear(),
            _ => {}
        }
    }
}

/// The tag of a statement that returned rows.
pub(super) fn rows_tag(statement: &Statement, rows: u64) -> String {
    match statement.tag() {
        "INSERT" => format!("INSERT 0 {rows}"),
        tag @ ("SHOW" | "EXPLAIN" | "DESCRIBE") => tag.to_owned(),
        tag @ ("UPDATE" | "DELETE" | "MERGE" | "FETCH" | "COPY") => format!("{tag} {rows}"),
        _ => format!("SELECT {rows}"),
    }
}

/// The name in `DEALLOCATE [PREPARE] name`, folded unless quoted.
fn deallocated_name(text: &str) -> Option<String> {
    let name = text.split_whitespace().next_back()?.trim_end_matches(';');
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => Some(quoted.replace("\"\"", "\"")),
        None => Some(name.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_to_deallocate() {
        assert_eq!(deallocated_name("DEALLOCATE \"_pg3_0\"").as_deref(), Some("_pg3_0"));
        assert_eq!(deallocated_name("deallocate prepare Q;").as_deref(), Some("q"));
    }
}
