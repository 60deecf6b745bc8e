//! Cursors: queries whose rows a client fetches piece by piece, by SQL.
//!
//! A cursor's query runs from `DECLARE` on, a few batches ahead of what was fetched and no further, so that a result of
//! any length takes no memory. It has a record of its own among the queries; `FETCH` has another, by which it is
//! cancelled and timed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{FutureExt, StreamExt};
use sluice_planner::statement::{Direction, Statement};

use super::error::{EngineError, SqlState};
use super::observers::Observers;
use super::query::{QueryRecord, QueryResult, QueryStream, WaitedFor};
use super::run;
use super::session::{Session, TransactionStatus};

/// Open cursors of one session, each of which holds a running query.
const MOST_CURSORS: usize = 100;

/// The open cursors of a session, by name.
#[derive(Default)]
pub(super) struct Cursors(Mutex<HashMap<String, Arc<Cursor>>>);

struct Cursor {
    schema: SchemaRef,
    statement: String,
    is_holdable: bool,
    /// Whether it outlives the transaction block that it was declared in being rolled back.
    is_kept: AtomicBool,
    declared: SystemTime,
    rows: Arc<tokio::sync::Mutex<Rows>>,
}

/// What a cursor has not given yet.
struct Rows {
    stream: SendableRecordBatchStream,
    batch: Option<RecordBatch>,
}

/// An open cursor in a list.
#[derive(Debug, Clone)]
pub struct CursorInfo {
    /// Its name.
    pub name: String,
    /// Its `DECLARE`'s query.
    pub statement: String,
    /// Whether it outlives its transaction block.
    pub is_holdable: bool,
    /// When it was declared.
    pub declared: SystemTime,
}

impl Cursors {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<String, Arc<Cursor>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, name: &str) -> Result<Arc<Cursor>, EngineError> {
        self.with(|open| open.get(name).cloned()).ok_or_else(|| no_cursor(name))
    }

    /// The columns of a cursor; an error if there is none of this name.
    pub(super) fn schema(&self, name: &str) -> Result<SchemaRef, EngineError> {
        self.find(name).map(|cursor| cursor.schema.clone())
    }

    /// Closes a cursor, or all of them.
    pub(super) fn close(&self, name: Option<&str>) -> Result<(), EngineError> {
        self.with(|open| match name {
            None => {
                open.clear();
                Ok(())
            }
            Some(name) => open.remove(name).map(|_| ()).ok_or_else(|| no_cursor(name)),
        })
    }

    /// Closes what does not outlive a transaction block that ends.
    pub(super) fn end_block(&self, is_rolled_back: bool) {
        self.with(|open| {
            open.retain(|_, cursor| cursor.is_holdable && (!is_rolled_back || cursor.is_kept.load(Ordering::Relaxed)));
            open.values().for_each(|cursor| cursor.is_kept.store(true, Ordering::Relaxed));
        });
    }

    /// What is open, by name.
    pub(super) fn list(&self) -> Vec<CursorInfo> {
        let mut all: Vec<CursorInfo> = self.with(|open| {
            let infos = open.iter().map(|(name, cursor)| CursorInfo {
                name: name.clone(),
                statement: cursor.statement.clone(),
                is_holdable: cursor.is_holdable,
                declared: cursor.declared,
            });
            infos.collect()
        });
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// `DECLARE`: starts the query.
    pub(super) async fn declare(
        &self,
        session: &Arc<Session>,
        name: &str,
        is_holdable: bool,
        statement: &Statement,
        plan: LogicalPlan,
    ) -> Result<(), EngineError> {
        let in_block = session.transaction_status() != TransactionStatus::Idle;
        if !in_block && !is_holdable {
            return Err(EngineError::new(
                SqlState::NO_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            )
            .with_hint("send BEGIN before it, or declare it WITH HOLD"));
        }
        self.check_free(name)?;
        let record = QueryRecord::new(session.user(), &statement.text, Observers::default());
        session.engine().queries.add(record.clone());
        // Whoever cancels DECLARE drops this future, and the query with it.
        let waited_for = WaitedFor::new(&record);
        let started = run::execute(session, plan, "SELECT", &record).boxed().await;
        waited_for.has_come();
        let stream = match started {
            Ok(QueryResult::Rows(stream)) => stream,
            Ok(QueryResult::Command { .. }) => {
                record.ended(None);
                return Err(EngineError::new(SqlState::SYNTAX_ERROR, "a cursor is for a query"));
            }
            Err(error) => {
                record.ended(Some(&error));
                return Err(error);
            }
        };
        let cursor = Cursor {
            schema: stream.schema(),
            statement: statement.text.clone(),
            is_holdable,
            is_kept: AtomicBool::new(!in_block),
            declared: SystemTime::now(),
            rows: Arc::new(tokio::sync::Mutex::new(Rows { stream, batch: None })),
        };
        self.check_free(name)?;
        self.with(|open| open.insert(name.to_owned(), Arc::new(cursor)));
        Ok(())
    }

    fn check_free(&self, name: &str) -> Result<(), EngineError> {
        let (is_taken, count) = self.with(|open| (open.contains_key(name), open.len()));
        if is_taken {
            return Err(EngineError::new(SqlState("42P03"), format!("cursor \"{name}\" already exists")));
        }
        if count >= MOST_CURSORS {
            return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, format!("more than {MOST_CURSORS} open cursors"))
                .with_hint("close cursors that are no longer used"));
        }
        Ok(())
    }

    /// `FETCH`: the next rows, as they come.
    pub(super) async fn fetch(
        &self,
        name: &str,
        direction: Direction,
        record: &Arc<QueryRecord>,
    ) -> Result<SendableRecordBatchStream, EngineError> {
        let Direction::Forward(count) = direction else {
            return Err(EngineError::new(SqlState("55000"), "cursor can only scan forward")
                .with_hint("rows that were fetched are not kept: declare the cursor again"));
        };
        let cursor = self.find(name)?;
        let rows = cursor.rows.clone().lock_owned().await;
        let stream = futures::stream::try_unfold((rows, count), |(mut rows, left)| async move {
            let batch = rows.next(left).await?;
            Ok(batch.map(|batch| {
                let left = left.map(|left| left - batch.num_rows() as u64);
                (batch, (rows, left))
            }))
        });
        let stream = Box::pin(RecordBatchStreamAdapter::new(cursor.schema.clone(), stream.boxed()));
        Ok(Box::pin(QueryStream::new(stream, record.clone(), None)))
    }

    /// `MOVE`: passes over rows, and says over how many.
    pub(super) async fn pass(
        &self,
        name: &str,
        direction: Direction,
        record: &Arc<QueryRecord>,
    ) -> Result<u64, EngineError> {
        let mut rows = self.fetch(name, direction, record).await?;
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            count += batch?.num_rows() as u64;
        }
        Ok(count)
    }
}

impl Rows {
    /// Some of the next rows, `most` at most; none at the end.
    async fn next(&mut self, most: Option<u64>) -> DataFusionResult<Option<RecordBatch>> {
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(None);
        }
        let batch = loop {
            match self.batch.take() {
                Some(batch) if batch.num_rows() > 0 => break batch,
                _ => match self.stream.next().await {
                    Some(batch) => self.batch = Some(batch?),
                    None => return Ok(None),
                },
            }
        };
        if batch.num_rows() <= most {
            return Ok(Some(batch));
        }
        self.batch = Some(batch.slice(most, batch.num_rows() - most));
        Ok(Some(batch.slice(0, most)))
    }
}

fn no_cursor(name: &str) -> EngineError {
    EngineError::new(SqlState::UNDEFINED_CURSOR, format!("cursor \"{name}\" does not exist"))
}
