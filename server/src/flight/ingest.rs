//! Bulk ingest: rows that a client sends for a table, which may have to be created for them.
//!
//! All of it is what statements do: `DROP TABLE`, `CREATE TABLE` or `CREATE EXTERNAL TABLE`, and `COPY ... FROM STDIN`,
//! with their privileges, their audit and their place in the lists of queries. Rows are written as they come, a batch at
//! a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use sluice_planner::catalog::{DEFAULT_CATALOG, DEFAULT_SCHEMA};
use tokio::sync::mpsc;
use tonic::Status;

use super::service::status;
use super::sql_types::sql_type;
use crate::engine::{EngineError, Prepared, QueryResult, Session, SqlState};

/// Batches between the client and the table.
const BATCHES_IN_FLIGHT: usize = 1;
/// What options begin with in the metadata of the rows' schema, for clients that can send none with the command.
const OPTION_PREFIX: &str = "sluice.";
/// The option that names the folder of a new local table's files.
const LOCATION: &str = "location";
/// The option that a new table in Cassandra needs.
const PRIMARY_KEY: &str = "primary_key";

/// Writes a client's rows, and returns how many there were.
pub async fn ingest(
    session: &Arc<Session>,
    command: CommandStatementIngest,
    data: PeekableFlightDataStream,
) -> Result<i64, Status> {
    let data = data.map_err(|status| FlightError::Tonic(Box::new(status)));
    let mut rows = FlightRecordBatchStream::new_from_flight_data(data);
    let first = rows.try_next().await.map_err(unreadable)?;
    let schema = rows.schema().cloned().ok_or_else(|| Status::invalid_argument("the rows have no schema"))?;
    let target = Target::of(session, &command).map_err(status)?;
    let steps = steps(&command, &target.quoted(), target.exists(session)).map_err(status)?;
    let options = options(&command, &schema);
    if steps.creates {
        target.check(&schema, &options).map_err(status)?;
    }
    if steps.drops {
        run(session, format!("DROP TABLE {}", target.quoted())).await.map_err(status)?;
    }
    if steps.creates {
        target.create(session, &schema, &options).await.map_err(status)?;
    }
    let written = write(session, &target, schema, first, rows).await;
    written.map_err(|error| match error {
        Failure::Client(status) => status,
        Failure::Engine(error) if steps.creates => status(error.with_hint(format!(
            "the table was created and may hold a part of the rows: DROP TABLE {}, or send them in mode replace",
            target.quoted()
        ))),
        Failure::Engine(error) => status(error),
    })
}

enum Failure {
    Client(Status),
    Engine(EngineError),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

async fn write(
    session: &Arc<Session>,
    target: &Target,
    schema: SchemaRef,
    first: Option<RecordBatch>,
    mut rows: FlightRecordBatchStream,
) -> Result<i64, Failure> {
    let columns: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
    let sql = format!("COPY {} ({}) FROM STDIN", target.quoted(), columns.join(", "));
    let prepared = prepare(session, &sql).await?;
    check_types(&schema, &prepared.schema, &target.table)?;
    // The sender outlives the write: rows that end because of an error are not the end of the rows.
    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
    let mut write = session.execute_from(&prepared, Vec::new(), Some(receiver));
    let mut next = first;
    while let Some(batch) = next {
        let batch = cast_batch(&batch, &prepared.schema)?;
        tokio::select! {
            biased;
            ended = &mut write => return Err(ended_early(ended.err()).into()),
            sent = sender.send(batch) => sent.map_err(|_| ended_early(None))?,
        }
        next = tokio::select! {
            biased;
            ended = &mut write => return Err(ended_early(ended.err()).into()),
            batch = rows.try_next() => batch.map_err(|error| Failure::Client(unreadable(error)))?,
        };
    }
    drop(sender);
    match write.await?.into_result() {
        QueryResult::Command { rows_affected: Some(rows), .. } => Ok(i64::try_from(rows).unwrap_or(i64::MAX)),
        _ => Ok(-1),
    }
}

fn ended_early(error: Option<EngineError>) -> EngineError {
    error.unwrap_or_else(|| EngineError::new(SqlState::INTERNAL, "the write ended before its rows did"))
}

fn unreadable(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => Status::invalid_argument(format!("the rows cannot be read: {other}")),
    }
}

/// Refuses rows whose columns cannot be made into those of the table, before any is written.
fn check_types(rows: &Schema, table: &Schema, name: &str) -> Result<(), EngineError> {
    let mut pairs = rows.fields().iter().zip(table.fields());
    let wrong = pairs.find(|(from, to)| !can_cast_types(from.data_type(), to.data_type()));
    match wrong {
        Some((from, to)) => Err(EngineError::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "column \"{}\" of relation \"{name}\" is of type {}, and that of the rows is of type {}",
                to.name(),
                to.data_type(),
                from.data_type()
            ),
        )),
        None => Ok(()),
    }
}

/// The rows in the types of the table, whose columns are in the same order.
fn cast_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, EngineError> {
    // A value that does not fit is an error, and not null.
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        let cast = cast_with_options(column, field.data_type(), &strict);
        cast.map_err(|error| {
            let error = EngineError::from(DataFusionError::from(error));
            EngineError { message: format!("column \"{}\": {}", field.name(), error.message), ..error }
        })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options);
    batch.map_err(|error| EngineError::from(DataFusionError::from(error)))
}

/// What is done before rows are written.
#[derive(Debug, PartialEq, Eq)]
struct Steps {
    drops: bool,
    creates: bool,
}

/// The steps that a command asks for, for a table that is there or not.
fn steps(command: &CommandStatementIngest, table: &str, exists: bool) -> Result<Steps, EngineError> {
    if command.temporary {
        return Err(EngineError::not_supported("a temporary table"));
    }
    if command.transaction_id.is_some() {
        return Err(EngineError::not_supported("a transaction"));
    }
    let unspecified = || {
        EngineError::new(SqlState::INVALID_PARAMETER, "the ingest does not say what to do if the table is there or not")
    };
    let TableDefinitionOptions { if_not_exist, if_exists } =
        command.table_definition_options.ok_or_else(unspecified)?;
    let (if_not_exist, if_exists) =
        (TableNotExistOption::try_from(if_not_exist), TableExistsOption::try_from(if_exists));
    match (exists, if_exists, if_not_exist) {
        (true, Ok(TableExistsOption::Append), _) => Ok(Steps { drops: false, creates: false }),
        (true, Ok(TableExistsOption::Replace), _) => Ok(Steps { drops: true, creates: true }),
        (true, Ok(TableExistsOption::Fail), _) => {
            Err(EngineError::new(SqlState::DUPLICATE_TABLE, format!("table {table} already exists"))
                .with_hint("add to it in mode append, or have it dropped in mode replace"))
        }
        (false, _, Ok(TableNotExistOption::Create)) => Ok(Steps { drops: false, creates: true }),
        (false, _, Ok(TableNotExistOption::Fail)) => {
            Err(EngineError::new(SqlState::UNDEFINED_TABLE, format!("table {table} does not exist"))
                .with_hint("create it, or have it created in mode create or create_append"))
        }
        _ => Err(unspecified()),
    }
}

/// Options of a new table, by name: those of the command, and those in the metadata of the rows' schema.
fn options(command: &CommandStatementIngest, schema: &Schema) -> BTreeMap<String, String> {
    let of_schema =
        schema.metadata().iter().filter_map(|(name, value)| Some((name.strip_prefix(OPTION_PREFIX)?, value)));
    let of_command = command.options.iter().map(|(name, value)| (name.as_str(), value));
    of_schema.chain(of_command).map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
}

/// The table that rows are for.
struct Target {
    catalog: String,
    schema: String,
    table: String,
}

impl Target {
    fn of(session: &Session, command: &CommandStatementIngest) -> Result<Self, EngineError> {
        let given = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let catalog = given(&command.catalog).unwrap_or_else(|| session.database());
        let schema = given(&command.schema).unwrap_or_else(|| match catalog == session.database() {
            true => session.current_schema(),
            false => DEFAULT_SCHEMA.to_owned(),
        });
        if !session.catalog_names().contains(&catalog) {
            let message = format!("catalog \"{catalog}\" does not exist");
            return Err(EngineError::new(SqlState::UNDEFINED_CATALOG, message));
        }
        if !session.schema_names(&catalog).contains(&schema) {
            let message = format!("schema \"{catalog}.{schema}\" does not exist");
            return Err(EngineError::new(SqlState::UNDEFINED_SCHEMA, message));
        }
        Ok(Self { catalog, schema, table: command.table.clone() })
    }

    fn exists(&self, session: &Session) -> bool {
        session.table_names(&self.catalog, &self.schema).contains(&self.table)
    }

    fn quoted(&self) -> String {
        [&self.catalog, &self.schema, &self.table].map(|name| quoted(name)).join(".")
    }

    /// Refuses to create the table for rows that it could not have, before another of its name is dropped.
    fn check(&self, rows: &Schema, options: &BTreeMap<String, String>) -> Result<(), EngineError> {
        columns(rows)?;
        if self.catalog != DEFAULT_CATALOG {
            if options.contains_key(PRIMARY_KEY) {
                return Ok(());
            }
            let what = format!("creating {} without the option primary_key", self.quoted());
            return Err(EngineError::not_supported(what).with_hint(
                "a table in Cassandra needs a key: create it with CREATE TABLE and send rows in mode append, or give the \
                 rows' schema the metadata sluice.primary_key = 'column, ...'",
            ));
        }
        if let Some(unknown) = options.keys().find(|name| *name != LOCATION) {
            let message = format!("unknown option \"{unknown}\" of a local table");
            return Err(EngineError::new(SqlState::INVALID_PARAMETER, message).with_hint("there is: location"));
        }
        match options.get(LOCATION).filter(|location| !Path::new(location).is_absolute()) {
            Some(location) => {
                let message = format!("location \"{location}\" is not the whole path of a folder");
                Err(EngineError::new(SqlState::INVALID_PARAMETER, message))
            }
            None => Ok(()),
        }
    }

    async fn create(
        &self,
        session: &Arc<Session>,
        rows: &Schema,
        options: &BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        let (name, columns) = (self.quoted(), columns(rows)?);
        if self.catalog != DEFAULT_CATALOG {
            let with = options.iter().map(|(name, value)| format!("{} = {}", quoted(name), text(value)));
            let with = with.collect::<Vec<_>>().join(", ");
            return run(session, format!("CREATE TABLE {name} ({columns}) WITH ({with})")).await;
        }
        let folder = match options.get(LOCATION) {
            Some(location) => location.clone(),
            None => session.engine().new_table_folder(&self.schema, &self.table)?.display().to_string(),
        };
        let folder = folder.trim_end_matches('/');
        let location = text(&format!("{folder}/"));
        let sql = format!("CREATE EXTERNAL TABLE {name} ({columns}) STORED AS PARQUET LOCATION {location}");
        // Nothing is made before it is known that the user may.
        let prepared = prepare(session, &sql).await?;
        make_empty_folder(Path::new(folder))?;
        session.execute(&prepared, Vec::new()).await.map(drop)
    }
}

/// The columns of a new table, as SQL declares them.
fn columns(rows: &Schema) -> Result<String, EngineError> {
    let declare = |(name, data_type): (&str, &DataType)| match sql_type(data_type) {
        Some(sql) => Ok(format!("{} {sql}", quoted(name))),
        None => Err(EngineError::not_supported(format!("creating a table with column \"{name}\" of type {data_type}"))
            .with_hint("create the table, and send rows in mode append")),
    };
    let columns = rows.fields().iter().map(|field| declare((field.name(), field.data_type())));
    Ok(columns.collect::<Result<Vec<_>, _>>()?.join(", "))
}

/// Makes a folder, unless one is there that has nothing in it.
fn make_empty_folder(folder: &Path) -> Result<(), EngineError> {
    let failed = |error: std::io::Error| {
        EngineError::new(SqlState::IO_ERROR, format!("cannot make the folder {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    if std::fs::read_dir(folder).map_err(failed)?.next().is_some() {
        let message = format!("folder {} is not empty", folder.display());
        return Err(EngineError::new(SqlState::INVALID_PARAMETER, message).with_hint("choose another location"));
    }
    Ok(())
}

async fn run(session: &Arc<Session>, sql: String) -> Result<(), EngineError> {
    let prepared = prepare(session, &sql).await?;
    session.execute(&prepared, Vec::new()).await.map(drop)
}

/// Plans one statement of our own making.
async fn prepare(session: &Arc<Session>, sql: &str) -> Result<Arc<Prepared>, EngineError> {
    let statement = session.parse(sql)?.pop();
    let statement = statement.ok_or_else(|| EngineError::new(SqlState::INTERNAL, "no statement to ingest by"))?;
    session.prepare(statement, &[]).await
}

/// A name in quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in quotes.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array};
    use datafusion::arrow::datatypes::Field;

    use super::*;

    fn command(if_exists: TableExistsOption, if_not_exist: TableNotExistOption) -> CommandStatementIngest {
        let table_definition_options =
            TableDefinitionOptions { if_exists: if_exists as i32, if_not_exist: if_not_exist as i32 };
        CommandStatementIngest {
            table_definition_options: Some(table_definition_options),
            ..CommandStatementIngest::default()
        }
    }

    #[test]
    fn modes_are_steps() {
        use {TableExistsOption as Exists, TableNotExistOption as Missing};
        let create = command(Exists::Fail, Missing::Create);
        assert_eq!(steps(&create, "t", false).unwrap(), Steps { drops: false, creates: true });
        assert_eq!(steps(&create, "t", true).unwrap_err().state, SqlState::DUPLICATE_TABLE);
        let append = command(Exists::Append, Missing::Fail);
        assert_eq!(steps(&append, "t", true).unwrap(), Steps { drops: false, creates: false });
        assert_eq!(steps(&append, "t", false).unwrap_err().state, SqlState::UNDEFINED_TABLE);
        let replace = command(Exists::Replace, Missing::Create);
        assert_eq!(steps(&replace, "t", true).unwrap(), Steps { drops: true, creates: true });
        let unspecified = command(Exists::Unspecified, Missing::Unspecified);
        assert_eq!(steps(&unspecified, "t", true).unwrap_err().state, SqlState::INVALID_PARAMETER);
        let temporary = CommandStatementIngest { temporary: true, ..create };
        assert_eq!(steps(&temporary, "t", false).unwrap_err().state, SqlState::NOT_SUPPORTED);
    }

    #[test]
    fn options_come_with_the_command_or_with_the_rows() {
        let metadata =
            HashMap::from([("sluice.primary_key".to_owned(), "id".to_owned()), ("pandas".to_owned(), "{}".to_owned())]);
        let schema = Schema::empty().with_metadata(metadata);
        let none = CommandStatementIngest::default();
        assert_eq!(options(&none, &schema), BTreeMap::from([("primary_key".to_owned(), "id".to_owned())]));
        let given = HashMap::from([("primary_key".to_owned(), "a, b".to_owned())]);
        let command = CommandStatementIngest { options: given, ..none };
        assert_eq!(options(&command, &schema)["primary_key"], "a, b");
    }

    #[test]
    fn values_that_do_not_fit_are_errors() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 1 << 40]));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let table = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
        let error = cast_batch(&rows, &table).unwrap_err();
        assert!(error.message.contains("column \"n\""), "{error}");
        let fits = cast_batch(&rows.slice(0, 1), &table).unwrap();
        assert_eq!(fits.column(0).as_ref(), &Int32Array::from(vec![1]) as &dyn datafusion::arrow::array::Array);
    }

    #[test]
    fn names_and_texts_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"; DROP TABLE b"), "\"a\"\"; DROP TABLE b\"");
        assert_eq!(text("a'; DROP TABLE b"), "'a''; DROP TABLE b'");
    }

    #[test]
    fn a_type_without_a_column_is_named() {
        let schema = Schema::new(vec![Field::new("nothing", DataType::Null, true)]);
        let error = columns(&schema).unwrap_err();
        assert_eq!(error.state, SqlState::NOT_SUPPORTED);
        assert!(error.message.contains("\"nothing\""), "{error}");
    }
}
