//! Statements that a person types into the page, and their results.
//!
//! The answer is one JSON object a line, each as soon as it is known: `running` with a query's id, `result` for each
//! statement, `error` for the one that failed, `done` at the end. A client that closes its connection stops what runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::BytesMut;
use datafusion::arrow::datatypes::Field;
use datafusion::execution::SendableRecordBatchStream;
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Page;
use super::guard::Caller;
use crate::engine::{EngineError, LoginPolicy, Protocol, QueryResult, Session, SessionOptions, SqlState};
use crate::pg::encode::{self, BatchEncoder, EncodeOptions};
use crate::pg::{Format, PgType, type_modifier};
use crate::pgcatalog::format_type;

/// Rows of all results of a text.
const MAX_ROWS: usize = 1_000;
/// Bytes of all values of a text's results.
const MAX_BYTES: usize = 1 << 20;
/// Lines of the answer that wait for the client.
const LINES_IN_FLIGHT: usize = 8;
/// Time between two looks at whether a query has begun to run.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What is to be run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    /// One or more statements.
    sql: String,
    /// Who runs it, where nobody is asked for a password.
    user: Option<String>,
    /// The queue that it runs in, if not the user's own.
    queue: Option<String>,
    /// The catalog that names without one are looked up in.
    database: Option<String>,
}

/// A column of a result.
#[derive(Debug, Serialize)]
struct ColumnHead {
    name: String,
    /// PostgreSQL's name of its type.
    #[serde(rename = "type")]
    type_name: String,
    is_number: bool,
}

impl ColumnHead {
    fn of(field: &Field) -> Self {
        let pg_type = PgType::of_field(field);
        let is_number = matches!(
            pg_type,
            PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Float4 | PgType::Float8 | PgType::Numeric
        );
        let type_name = format_type(pg_type.oid() as i32, Some(type_modifier(field.data_type())));
        Self { name: field.name().clone(), type_name, is_number }
    }
}

/// The first rows of a result, each value as PostgreSQL's text.
#[derive(Debug, Default, Serialize)]
struct Table {
    columns: Vec<ColumnHead>,
    rows: Vec<Vec<Option<String>>>,
    /// Why there are more rows than these, if there are.
    cut: Option<&'static str>,
}

/// Room for rows that is left.
struct Room {
    rows: usize,
    bytes: usize,
}

/// Runs a text in a session of its own and tells its results line by line.
pub async fn run(
    State(page): State<Arc<Page>>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<SqlRequest>,
) -> Response {
    let engine = &page.engine;
    let chosen = request.user.filter(|user| !user.is_empty() && engine.roles().policy() == LoginPolicy::Trust);
    let options = SessionOptions {
        user: chosen.unwrap_or(caller.user),
        database: request.database.filter(|name| !name.is_empty()),
        application_name: Some("web page".to_owned()),
        client_address: Some(caller.address.ip().to_string()),
        protocol: Protocol::Http,
        startup_settings: request
            .queue
            .filter(|q| !q.is_empty())
            .map(|q| ("queue".to_owned(), q))
            .into_iter()
            .collect(),
    };
    let (sender, receiver) = mpsc::channel(LINES_IN_FLIGHT);
    let session = engine.open_session(options);
    let mut running = JoinSet::new();
    running.spawn(async move {
        let started = Instant::now();
        let outcome = match session {
            Ok(session) => run_all(&session, &request.sql, &sender).boxed().await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            tell(&sender, json!({ "error": error_json(&error) })).await;
        }
        tell(&sender, json!({ "done": { "elapsed_ms": started.elapsed().as_millis() as u64 } })).await;
    });
    // With the answer goes what makes it: a client that goes away stops its queries.
    let lines = futures::stream::unfold((receiver, running), |(mut receiver, running)| async move {
        let line: Bytes = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(line), (receiver, running)))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

async fn tell(sender: &mpsc::Sender<Bytes>, line: serde_json::Value) {
    // Nobody reads when the client is gone, and then this task ends too.
    let _ = sender.send(Bytes::from(format!("{line}\n"))).await;
}

fn error_json(error: &EngineError) -> serde_json::Value {
    json!({
        "state": error.state.0,
        "message": error.message,
        "detail": error.detail,
        "hint": error.hint,
        "position": error.position,
    })
}

/// Runs the statements one after another; the first error ends the text. Meanwhile tells which query runs.
async fn run_all(session: &Arc<Session>, sql: &str, sender: &mpsc::Sender<Bytes>) -> Result<(), EngineError> {
    let mut work = run_statements(session, sql, sender).boxed();
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    let mut told = String::new();
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = ticks.tick() => {
                if let Some(id) = session.running_query().filter(|id| *id != told) {
                    tell(sender, json!({ "running": id })).await;
                    told = id;
                }
            }
        }
    }
}

async fn run_statements(session: &Arc<Session>, sql: &str, sender: &mpsc::Sender<Bytes>) -> Result<(), EngineError> {
    let mut room = Room { rows: MAX_ROWS, bytes: MAX_BYTES };
    for statement in session.parse(sql)? {
        let started = Instant::now();
        let tag = statement.tag().to_owned();
        let prepared = session.prepare(statement, &[]).boxed().await?;
        if !prepared.parameter_types.is_empty() {
            return Err(EngineError::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1")
                .with_hint("write the value itself"));
        }
        let handle = session.execute(&prepared, Vec::new()).boxed().await?;
        let (query_id, schema) = (handle.id.clone(), handle.schema.clone());
        let (tag, table) = match handle.into_result() {
            QueryResult::Command { tag, .. } => (tag, None),
            QueryResult::Rows(rows) => {
                let options = EncodeOptions::with_time_zone(session.setting("timezone").as_deref());
                let mut table = Table::default();
                table.columns.extend(schema.fields().iter().map(|field| ColumnHead::of(field)));
                read(rows, &mut table, options, &mut room, || session.has_enough(&query_id)).await?;
                (tag, Some(table))
            }
        };
        let notices: Vec<_> = session.take_notices().into_iter().map(|notice| notice.message).collect();
        let elapsed_ms = started.elapsed().as_millis() as u64;
        let result = json!({
            "query_id": query_id, "tag": tag, "table": table, "notices": notices, "elapsed_ms": elapsed_ms,
        });
        tell(sender, json!({ "result": result })).await;
    }
    Ok(())
}

/// Reads rows while there is room. `has_enough` is told when there are more.
async fn read(
    mut stream: SendableRecordBatchStream,
    table: &mut Table,
    options: EncodeOptions,
    room: &mut Room,
    has_enough: impl FnOnce(),
) -> Result<(), EngineError> {
    let columns = encode::columns(&stream.schema(), |_| Format::Text);
    let mut cell = BytesMut::new();
    'batches: while let Some(batch) = stream.next().await {
        let batch = BatchEncoder::new(&batch.map_err(EngineError::from)?, &columns, options)?;
        for row in 0..batch.row_count() {
            if room.rows == 0 {
                table.cut = Some("rows");
                break 'batches;
            }
            let mut values = Vec::with_capacity(columns.len());
            let mut bytes = 0;
            for column in 0..columns.len() {
                cell.clear();
                let is_there = batch.put_cell(column, row, &mut cell);
                bytes += cell.len() + 1;
                values.push(is_there.then(|| String::from_utf8_lossy(&cell).into_owned()));
            }
            if bytes > room.bytes {
                table.cut = Some("bytes");
                break 'batches;
            }
            room.bytes -= bytes;
            room.rows -= 1;
            table.rows.push(values);
        }
    }
    if table.cut.is_some() {
        has_enough();
    }
    Ok(())
}
