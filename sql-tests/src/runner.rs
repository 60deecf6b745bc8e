//! `.slt` files over the PostgreSQL protocol, with values as a PostgreSQL client prints them.
//!
//! A query is first prepared and described (the extended protocol), which gives the types that the
//! file's type string is checked against, and then run as text (the simple protocol). `I` is a
//! whole number, `R` a float or numeric, `T` anything else. An error reads
//! `SQLSTATE: message (hint: ...)`, so that a file's `statement error` can want any part of it.
//! `${NAME}` in a file stands for a value of the test bed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner, strict_column_validator};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::sluice_process::Service;

/// An error as a file wants it.
#[derive(Debug)]
pub struct SqlError(pub tokio_postgres::Error);

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = self.0.as_db_error() else { return write!(f, "{}", self.0) };
        write!(f, "{}: {}", error.code().code(), error.message())?;
        if let Some(detail) = error.detail() {
            write!(f, " (detail: {detail})")?;
        }
        if let Some(hint) = error.hint() {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

/// Every row that the statements of a text returned, as text; `None` is NULL.
pub fn text_rows(messages: Vec<SimpleQueryMessage>) -> Vec<Vec<Option<String>>> {
    let row = |row: SimpleQueryRow| (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
    messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(values) => Some(row(values)),
            _ => None,
        })
        .collect()
}

/// One client of a file.
struct Connection {
    client: Client,
    engine: &'static str,
}

/// `NULL` for no value and `(empty)` for an empty one, as is the custom of `.slt` files.
fn cell(value: Option<String>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) if text.is_empty() => "(empty)".to_owned(),
        Some(text) => text,
    }
}

fn column_type(of: &Type) -> DefaultColumnType {
    if [Type::INT2, Type::INT4, Type::INT8, Type::OID].contains(of) {
        DefaultColumnType::Integer
    } else if [Type::FLOAT4, Type::FLOAT8, Type::NUMERIC].contains(of) {
        DefaultColumnType::FloatingPoint
    } else {
        DefaultColumnType::Text
    }
}

#[async_trait]
impl AsyncDB for Connection {
    type Error = SqlError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SqlError> {
        let described = self.client.prepare(sql).await.map_err(SqlError)?;
        let types: Vec<_> = described.columns().iter().map(|column| column_type(column.type_())).collect();
        let messages = self.client.simple_query(sql).await.map_err(SqlError)?;
        if types.is_empty() {
            let affected = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::CommandComplete(count) => Some(*count),
                _ => None,
            });
            return Ok(DBOutput::StatementComplete(affected.unwrap_or(0)));
        }
        let rows = text_rows(messages).into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.engine
    }

    async fn sleep(duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }

    fn error_sql_state(error: &SqlError) -> Option<String> {
        error.0.code().map(|code| code.code().to_owned())
    }
}

/// Runs a file against a service.
///
/// In a cluster every query is cut into stages however small it is, so that the small inputs of a
/// test cross exchanges too; embedded, the service chooses, as it does for its users.
pub async fn run_file(service: &Arc<Service>, path: &Path, values: &[(&str, &str)]) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let script = with_values(&text, values)?;
    let (service, layout) = (service.clone(), service.layout());
    let mut runner = Runner::new(move || {
        let service = service.clone();
        async move {
            let client = service.connect().await.expect("the service takes connections");
            if layout == crate::sluice_process::Layout::Cluster {
                client.simple_query("SET sluice.single_task_max_bytes = 0").await.map_err(SqlError)?;
            }
            Ok(Connection { client, engine: layout.name() })
        }
    });
    runner.with_column_validator(strict_column_validator);
    let records = sqllogictest::parse_with_name::<DefaultColumnType>(&script, path.display().to_string().as_str())?;
    if !records
        .iter()
        .any(|record| matches!(record, sqllogictest::Record::Query { .. } | sqllogictest::Record::Statement { .. }))
    {
        bail!("{} has no statement", path.display());
    }
    runner.run_multi_async(records).await.map_err(|error| anyhow::anyhow!("{}", error.display(false)))
}

/// Puts the test bed's values in; an unknown name is an error, because it would be sent as it stands.
fn with_values(text: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut result = text.to_owned();
    for (name, value) in values {
        result = result.replace(&format!("${{{name}}}"), value);
    }
    if let Some((_, rest)) = result.split_once("${") {
        bail!(
            "unknown value ${{{}}}; known are {:?}",
            rest.split('}').next().unwrap_or_default(),
            values.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_test_bed_are_put_in() {
        assert_eq!(with_values("a ${X} b", &[("X", "1")]).expect("is known"), "a 1 b");
        assert!(with_values("a ${Y}", &[("X", "1")]).is_err());
    }
}
