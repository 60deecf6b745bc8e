//! Rows between Cassandra and folders of files: `COPY`, `BACKUP`, `RESTORE`; and `COMPARE`.
//!
//! A folder is the server's and every executor's under one path. What is in it is told by its manifest
//! (`sluice_executor::transfer`), which is written before the first file, without hashes, and again after the last, with
//! them. A statement that is repeated after a kill finds the manifest and goes on.
//!
//! In reading order:
//!
//! - [`registry`]: what runs and ran, as `system.transfers` shows it
//! - [`options`], [`folder`]: what a statement says
//! - [`table_to_folder`], [`query_to_folder`], [`to_file`]: `COPY ... TO`
//! - [`progress`], [`folder_to_table`]: `COPY ... FROM`
//! - [`keyspace`]: `BACKUP` and `RESTORE`
//! - [`compare`] is `COMPARE`

pub(super) mod compare;
mod folder;
mod folder_to_table;
mod keyspace;
mod options;
mod progress;
mod query_to_folder;
pub(super) mod registry;
mod table_to_folder;
mod to_file;

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use futures::FutureExt;
use sluice_executor::cassandra::CassandraTable;
use sluice_executor::transfer::TransferError;
use sluice_planner::statement::{CopySource, Statement, StatementKind, Transfer, TransferOptions, parse};

use super::ddl::{FullName, quoted};
use super::error::{EngineError, SqlState};
use super::query::{QueryRecord, QueryResult};
use super::session::Session;
use registry::TransferGuard;

/// Runs any of these statements but `COMPARE`, which is planned as a query.
pub(super) async fn execute(
    session: &Arc<Session>,
    transfer: &Transfer,
    record: &Arc<QueryRecord>,
) -> Result<QueryResult, EngineError> {
    let (tag, rows) = match transfer {
        Transfer::CopyTo { source, path, options } => ("COPY", copy_to(session, source, path, options, record).await?),
        Transfer::CopyFrom { table, path, options } => {
            ("COPY", copy_from(session, table, path, options, record).await?)
        }
        Transfer::Backup { keyspace, path, options } => {
            ("BACKUP", keyspace::backup(session, keyspace, path, options, record).await?)
        }
        Transfer::Restore { keyspace, path, options } => {
            ("RESTORE", keyspace::restore(session, keyspace, path, options, record).await?)
        }
        Transfer::Compare(_) => return Err(EngineError::new(SqlState::INTERNAL, "COMPARE is planned as a query")),
    };
    Ok(QueryResult::Command { tag: format!("{tag} {rows}"), rows_affected: Some(rows) })
}

async fn copy_to(
    session: &Arc<Session>,
    source: &CopySource,
    path: &str,
    options: &TransferOptions,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    if !folder::names_folder(path) {
        return to_file::copy(session, source, path, options, record).await;
    }
    let dir = folder::folder(path)?;
    options::only(options, "COPY ... TO a folder", &["format", "compression", "partition_by", "ranges"])?;
    options::must_be_parquet(options)?;
    let compression = options::compression(options)?;
    let partition_by = options::list(options, "partition_by");
    let query = match source {
        CopySource::Query(query) => query.as_ref().clone(),
        CopySource::Table(parts) => {
            let name = FullName::of_parts(session, parts)?;
            let provider = session.named_table(&name).await?;
            if let (Some(table), true) = (cassandra_table(&provider), partition_by.is_empty()) {
                let transfers = &session.engine().transfers;
                let guard = transfers.begin(session, "COPY TO", &name.text(), &dir.display().to_string(), &dir)?;
                let ranges = options::number(options, "ranges", 1, table_to_folder::MOST_UNITS)?.unwrap_or(1);
                let copy = table_to_folder::TableCopy { session, table, dir: &dir, compression, ranges, record };
                let rows = copy.run(&guard).boxed().await.map(|manifest| manifest.rows());
                return guard.end(rows);
            }
            all_of(&name)?
        }
    };
    if options.contains_key("ranges") {
        return Err(EngineError::new(
            SqlState::INVALID_PARAMETER,
            "only a whole Cassandra table has token ranges to copy",
        )
        .with_hint("leave the option ranges out, or name a table and no PARTITION_BY"));
    }
    let guard = session.engine().transfers.begin(session, "COPY TO", "query", &dir.display().to_string(), &dir)?;
    let copy =
        query_to_folder::QueryCopy { session, query: &query, dir: &dir, compression, partition_by: &partition_by };
    let outcome = copy.run(&guard, record).boxed().await;
    guard.end(outcome)
}

async fn copy_from(
    session: &Arc<Session>,
    table: &[String],
    path: &str,
    options: &TransferOptions,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    options::only(options, "COPY ... FROM", &["format"])?;
    options::must_be_parquet(options)?;
    let dir = folder::folder(path)?;
    let name = FullName::of_parts(session, table)?;
    let provider = session.named_table(&name).await?;
    let Some(table) = cassandra_table(&provider) else {
        return Err(EngineError::not_supported(format!(
            "COPY into {}, which is not a table in Cassandra,",
            name.text()
        ))
        .with_hint("files become a table by CREATE EXTERNAL TABLE"));
    };
    let guard =
        session.engine().transfers.begin(session, "COPY FROM", &dir.display().to_string(), &name.text(), &dir)?;
    let load = folder_to_table::TableLoad { session, table, name: &name, dir: &dir, record };
    let outcome = load.run(&guard).boxed().await;
    guard.end(outcome)
}

fn cassandra_table(provider: &Arc<dyn TableProvider>) -> Option<&CassandraTable> {
    provider.downcast_ref::<CassandraTable>()
}

/// The plan of what `COPY ... TO STDOUT` sends.
pub(super) async fn copied(
    session: &Session,
    source: &CopySource,
    columns: &[String],
) -> Result<LogicalPlan, EngineError> {
    let (statement, is_own_text) = match source {
        CopySource::Query(query) => (query.as_ref().clone(), true),
        CopySource::Table(parts) => (columns_of(&FullName::of_parts(session, parts)?, columns)?, false),
    };
    let StatementKind::Sql(sql) = &statement.kind else {
        return Err(EngineError::new(SqlState::SYNTAX_ERROR, "COPY takes a query in its parentheses"));
    };
    let plan = session.plan(&statement, sql).await.map_err(|error| match is_own_text {
        true => error,
        // A place in a text that the client has not sent.
        false => EngineError { position: None, ..error },
    })?;
    match plan {
        LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_) => {
            Err(EngineError::new(SqlState::SYNTAX_ERROR, "COPY takes a query in its parentheses"))
        }
        plan => Ok(plan),
    }
}

/// `SELECT * FROM name`.
fn all_of(name: &FullName) -> Result<Statement, EngineError> {
    columns_of(name, &[])
}

/// `SELECT columns FROM name`; no columns are all.
fn columns_of(name: &FullName, columns: &[String]) -> Result<Statement, EngineError> {
    let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let columns = if columns.is_empty() { "*".to_owned() } else { columns.join(", ") };
    let sql = format!("SELECT {columns} FROM {}", name.quoted());
    let mut statements = parse(&sql)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) if matches!(statement.kind, StatementKind::Sql(_)) => Ok(statement),
        _ => Err(EngineError::new(SqlState::INTERNAL, format!("not one statement: {sql}"))),
    }
}

/// Runs what waits for a disk away from the threads that serve clients.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, EngineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(EngineError::new(SqlState::INTERNAL, format!("work on files ended early: {error}"))),
    }
}

/// Tells a guard's progress in the log, at its end.
fn log_end(guard: &TransferGuard, dir: &Path) {
    let record = guard.record();
    tracing::info!(
        transfer = %record.id, kind = record.kind, dir = %dir.display(), rows = record.rows(), bytes = record.bytes(),
        "the transfer is complete"
    );
}
