//! `COPY ... TO 'file' (FORMAT ...)`: PostgreSQL's words for DataFusion's own `COPY ... TO 'file' STORED AS ...`.

use std::sync::Arc;

use datafusion::sql::parser::{CopyToSource, CopyToStatement, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Statement as SqlStatement, Value};
use sluice_planner::statement::{CopySource, Statement, StatementKind, TransferOptions};

use super::super::error::{EngineError, SqlState};
use super::super::query::QueryRecord;
use super::super::run;
use super::super::session::Session;
use super::options;

/// Writes one file; the number of rows.
pub async fn copy(
    session: &Arc<Session>,
    source: &CopySource,
    path: &str,
    given: &TransferOptions,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    options::only(given, "COPY ... TO a file", &["format", "compression", "header", "delimiter"])?;
    let format = match options::one(given, "format")? {
        Some(format) => format.to_lowercase(),
        None => path.rsplit_once('.').map_or("parquet", |(_, extension)| extension).to_lowercase(),
    };
    let mut settings = Vec::new();
    if let Some(compression) = options::one(given, "compression")? {
        let name = if format == "parquet" { parquet_codec(compression)? } else { compression };
        settings.push(("format.compression", name));
    }
    for (name, setting) in [("header", "format.has_header"), ("delimiter", "format.delimiter")] {
        if let Some(value) = options::one(given, name)? {
            settings.push((setting, value));
        }
    }
    let text = |value: &str| Value::SingleQuotedString(value.to_owned());
    let source_query = match source {
        CopySource::Query(query) => Some(query.as_ref()),
        CopySource::Table(_) => None,
    };
    let source = match source {
        CopySource::Table(parts) => CopyToSource::Relation(ObjectName::from(
            parts.iter().map(|part| Ident::with_quote('"', part)).collect::<Vec<_>>(),
        )),
        CopySource::Query(query) => CopyToSource::Query(query_of(query)?),
    };
    let copy = CopyToStatement {
        source,
        target: path.to_owned(),
        partitioned_by: Vec::new(),
        stored_as: Some(format),
        options: settings.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect(),
    };
    let copy = DfStatement::CopyTo(copy);
    // Places in an error are those of the query; a table's name has none of its own.
    let plan = match source_query {
        Some(query) => session.plan(query, &copy).await?,
        None => session.context().state().statement_to_plan(copy).await?,
    };
    run::run_to_count(session, &plan, record).await
}

fn query_of(statement: &Statement) -> Result<Box<datafusion::sql::sqlparser::ast::Query>, EngineError> {
    if let StatementKind::Sql(sql) = &statement.kind
        && let DfStatement::Statement(sql) = sql.as_ref()
        && let SqlStatement::Query(query) = sql.as_ref()
    {
        return Ok(query.clone());
    }
    Err(EngineError::new(SqlState::SYNTAX_ERROR, "COPY takes a query in its parentheses"))
}

/// DataFusion wants the level of the codecs that have levels.
fn parquet_codec(name: &str) -> Result<&'static str, EngineError> {
    use sluice_executor::transfer::manifest::Compression;
    match Compression::from_name(name) {
        Some(Compression::None) => Ok("uncompressed"),
        Some(Compression::Snappy) => Ok("snappy"),
        Some(Compression::Lz4) => Ok("lz4_raw"),
        Some(Compression::Gzip) => Ok("gzip(6)"),
        Some(Compression::Zstd) => Ok("zstd(3)"),
        None => Err(EngineError::new(
            SqlState::INVALID_PARAMETER,
            "option COMPRESSION takes zstd, snappy, lz4, gzip or none",
        )),
    }
}
