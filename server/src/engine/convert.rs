//! From the errors of the crates below to SQLSTATE and words.

use std::error::Error;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use sluice_executor::cassandra::CassandraError;
use sluice_executor::transfer::TransferError;
use sluice_planner::catalog::CatalogError;
use sluice_planner::statement::ParseError;
use sluice_planner::suggest::nearest;
use sluice_scheduler::cluster::ClusterError;

use super::error::{EngineError, SqlState};

impl From<ParseError> for EngineError {
    fn from(error: ParseError) -> Self {
        let state = if error.is_too_complex { SqlState::TOO_COMPLEX } else { SqlState::SYNTAX_ERROR };
        let converted = Self::new(state, error.message);
        match error.offset {
            Some(offset) => converted.at(offset + 1),
            None => converted,
        }
    }
}

impl From<CatalogError> for EngineError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Open(error) => error.into(),
            CatalogError::Cassandra(error) => error.into(),
            other => catalog_error(&other),
        }
    }
}

fn catalog_error(error: &CatalogError) -> EngineError {
    let state = match error {
        CatalogError::Exists { kind: "table", .. } => SqlState::DUPLICATE_TABLE,
        CatalogError::Exists { kind: "schema", .. } => SqlState::DUPLICATE_SCHEMA,
        CatalogError::Exists { .. } => SqlState::DUPLICATE_OBJECT,
        CatalogError::NotFound { kind: "table", .. } => SqlState::UNDEFINED_TABLE,
        CatalogError::NotFound { kind: "schema", .. } => SqlState::UNDEFINED_SCHEMA,
        CatalogError::NotFound { .. } => SqlState::UNDEFINED_CATALOG,
        CatalogError::Reserved { .. } => SqlState::INSUFFICIENT_PRIVILEGE,
        CatalogError::NotEmpty { .. } => SqlState("2BP01"),
        CatalogError::UnknownConnector(_) => SqlState::INVALID_PARAMETER,
        CatalogError::NoSuchFile(_) => SqlState::UNDEFINED_FILE,
        CatalogError::UnreadableFile { .. } => SqlState::DATA_CORRUPTED,
        CatalogError::Cassandra(error) => return cassandra_error(error),
        CatalogError::Open(error) => return datafusion_error(error),
        CatalogError::Store { .. } => SqlState::IO_ERROR,
    };
    let converted = EngineError::new(state, error.to_string());
    match error {
        CatalogError::NotFound { suggestion: Some(name), .. } => {
            converted.with_hint(format!("did you mean \"{name}\"?"))
        }
        CatalogError::NotEmpty { .. } => converted.with_hint("use DROP SCHEMA ... CASCADE to drop what it holds too"),
        CatalogError::NoSuchFile(_) => converted.with_hint("the path is one on the server; a folder, a file or a glob"),
        _ => converted,
    }
}

impl From<CassandraError> for EngineError {
    fn from(error: CassandraError) -> Self {
        cassandra_error(&error)
    }
}

impl From<TransferError> for EngineError {
    fn from(error: TransferError) -> Self {
        transfer_error(&error)
    }
}

fn transfer_error(error: &TransferError) -> EngineError {
    let converted = EngineError::new(SqlState(error.sqlstate()), error.to_string());
    match error.hint() {
        Some(hint) => converted.with_hint(hint),
        None => converted,
    }
}

fn cassandra_error(error: &CassandraError) -> EngineError {
    let converted = EngineError::new(SqlState(error.sqlstate()), error.to_string());
    match error.hint() {
        Some(hint) => converted.with_hint(hint),
        None => converted,
    }
}

impl From<ClusterError> for EngineError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Plan(error) => error.into(),
            ClusterError::Cancelled => Self::cancelled(),
            ClusterError::JobFailed(reason) => job_failure(&reason),
            other @ (ClusterError::Scheduler(_) | ClusterError::MustStartAgain) => {
                Self::new(SqlState::SYSTEM_ERROR, other.to_string())
            }
            ClusterError::Stopped => {
                Self::new(SqlState::ADMIN_SHUTDOWN, "the query ended because the coordinator is shutting down")
            }
        }
    }
}

/// A task's failure reaches the coordinator as text.
///
/// The text keeps the words of the error at its core; its class is found by them.
fn job_failure(reason: &str) -> EngineError {
    let core = core_of(reason);
    let lower = core.to_lowercase();
    let own = CassandraError::sqlstate_of_text(&core).or_else(|| TransferError::sqlstate_of_text(&core));
    let state = if let Some(state) = own {
        SqlState(state)
    } else if lower.contains("divide by zero") || lower.contains("dividebyzero") || lower.contains("division by zero") {
        SqlState::DIVISION_BY_ZERO
    } else if lower.contains("non-nullable but contains null") {
        SqlState::NOT_NULL_VIOLATION
    } else if ["overflow", "can't cast value", "too large to store"].iter().any(|words| lower.contains(words)) {
        SqlState::OUT_OF_RANGE
    } else if lower.contains("casterror(")
        || lower.contains("cast error")
        || lower.contains("cannot cast")
        || lower.contains("parser error")
    {
        SqlState::INVALID_TEXT
    } else if lower.contains("resources exhausted") || lower.contains("failed to allocate") {
        SqlState::OUT_OF_MEMORY
    } else if lower.contains("no such file") || lower.contains("not found") {
        SqlState::UNDEFINED_FILE
    } else if lower.contains("parquet") {
        SqlState::DATA_CORRUPTED
    } else if lower.contains("no space left") {
        SqlState::DISK_FULL
    } else {
        SqlState::SYSTEM_ERROR
    };
    let error = EngineError::new(state, core);
    if let Some(hint) = CassandraError::hint_of_text(&error.message) {
        return error.with_hint(hint);
    }
    if state == SqlState::OUT_OF_MEMORY {
        return error.with_hint("give executors more memory, or make the query's hash tables smaller");
    }
    error
}

/// Strips the wrappers that name Ballista's and DataFusion's types.
fn core_of(reason: &str) -> String {
    let mut text = reason.trim();
    loop {
        let before = text;
        for prefix in [
            "Task failed due to runtime execution error: ",
            "Execution error: ",
            "External error: ",
            "DataFusion error: ",
            "Arrow error: ",
            "General error: ",
            "Ballista error: ",
            "Error during planning: ",
            "Parquet error: ",
            "Internal error: ",
        ] {
            text = text.strip_prefix(prefix).unwrap_or(text).trim();
        }
        if let Some((head, tail)) = text.split_once(" failed: ")
            && (head.starts_with("Job failed due to stage") || head.starts_with("Stage "))
        {
            text = tail.trim();
        }
        for wrapper in [
            "DataFusionError(",
            "Shared(",
            "External(",
            "Context(",
            "Collection(",
            "ArrowError(",
            "Execution(",
            "Plan(",
            "Internal(",
        ] {
            if let Some(inner) = text.strip_prefix(wrapper).and_then(|t| t.strip_suffix(')')) {
                text = inner.trim();
            }
        }
        // The backtrace of an Arrow error, of which there is none.
        for ending in [", Some(\"\")", ", None"] {
            text = text.strip_suffix(ending).unwrap_or(text);
        }
        if let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
            text = inner;
        }
        if text == before {
            return text.to_owned();
        }
    }
}

impl From<DataFusionError> for EngineError {
    fn from(error: DataFusionError) -> Self {
        datafusion_error(&error)
    }
}

fn datafusion_error(error: &DataFusionError) -> EngineError {
    if let Some(own) = find_in_chain::<EngineError>(error) {
        return own.clone();
    }
    if let Some(cassandra) = find_in_chain::<CassandraError>(error) {
        return cassandra_error(cassandra);
    }
    if let Some(transfer) = find_in_chain::<TransferError>(error) {
        return transfer_error(transfer);
    }
    if let Some(catalog) = find_in_chain::<CatalogError>(error) {
        return catalog_error(catalog);
    }
    if let Some(ballista) = find_in_chain::<ballista_core::error::BallistaError>(error) {
        return job_failure(&ballista.to_string());
    }
    if let Some(parquet) = find_in_chain::<ParquetError>(error) {
        return unreadable_parquet(&parquet.to_string());
    }
    let root = error.find_root();
    let text = message_of(root);
    let mut converted = match root {
        DataFusionError::SQL(_, _) => EngineError::new(SqlState::SYNTAX_ERROR, text),
        DataFusionError::SchemaError(schema_error, _) => return schema_error_of(schema_error),
        DataFusionError::NotImplemented(_) => EngineError::new(SqlState::NOT_SUPPORTED, text),
        DataFusionError::ResourcesExhausted(_) => EngineError::new(SqlState::OUT_OF_MEMORY, text)
            .with_hint("give the executors more memory, or make the query's hash tables and sorts smaller"),
        DataFusionError::ArrowError(arrow, _) => arrow_error(arrow, text),
        DataFusionError::ObjectStore(_) if text.contains("not found") => {
            EngineError::new(SqlState::UNDEFINED_FILE, text)
        }
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => EngineError::new(SqlState::IO_ERROR, text),
        DataFusionError::Plan(_) | DataFusionError::Configuration(_) => plan_error(text),
        DataFusionError::Execution(_) => execution_error(text),
        DataFusionError::ExecutionJoin(_) => EngineError::new(SqlState::INTERNAL, format!("a task panicked: {text}")),
        _ if text.contains("No suitable object store found") => no_object_store(),
        _ => EngineError::new(SqlState::INTERNAL, text),
    };
    if let Some(help) = error.diagnostic().and_then(|diagnostic| diagnostic.helps.first()) {
        converted.hint.get_or_insert_with(|| help.message.clone());
    }
    converted
}

fn unreadable_parquet(words: &str) -> EngineError {
    let words = words.trim_start_matches("Parquet argument error: ").trim_start_matches("Parquet error: ");
    EngineError::new(SqlState::DATA_CORRUPTED, format!("cannot read Parquet: {words}"))
}

/// Names of files that only a store of objects could hold.
fn no_object_store() -> EngineError {
    EngineError::not_supported("reading from s3://, https:// and other stores")
        .with_hint("files are read from the server's own disks")
}

fn find_in_chain<E: Error + 'static>(error: &DataFusionError) -> Option<&E> {
    fn walk<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        if let Some(DataFusionError::External(inner)) = error.downcast_ref::<DataFusionError>() {
            return walk::<E>(inner.as_ref());
        }
        if let Some(ArrowError::ExternalError(inner)) = error.downcast_ref::<ArrowError>() {
            return walk::<E>(inner.as_ref());
        }
        error.source().and_then(|source| walk::<E>(source))
    }
    walk(error)
}

/// DataFusion's words without the name of its error type and without a backtrace.
fn message_of(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let prefix = match error {
        DataFusionError::Plan(_) => "Error during planning: ",
        DataFusionError::Execution(_) => "Execution error: ",
        DataFusionError::ArrowError(_, _) => "Arrow error: ",
        DataFusionError::SQL(_, _) => "SQL error: ",
        DataFusionError::ParquetError(_) => "Parquet error: ",
        DataFusionError::NotImplemented(_) => "This feature is not implemented: ",
        DataFusionError::ObjectStore(_) => "Object Store error: ",
        DataFusionError::Configuration(_) => "Invalid or Unsupported Configuration: ",
        DataFusionError::ResourcesExhausted(_) => "Resources exhausted: ",
        DataFusionError::External(_) => "External error: ",
        _ => "",
    };
    text.strip_prefix(prefix).unwrap_or(&text).trim().to_owned()
}

fn schema_error_of(error: &SchemaError) -> EngineError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<&str> = valid_fields.iter().map(|column| column.name.as_str()).collect();
            let converted =
                EngineError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{}\" does not exist", field.name));
            match nearest(&field.name, names.iter().copied()) {
                Some(name) => converted.with_hint(format!("did you mean \"{name}\"?")),
                None if names.is_empty() => converted,
                None => converted.with_hint(format!("there are: {}", names.join(", "))),
            }
        }
        SchemaError::AmbiguousReference { field } => {
            EngineError::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{}\" is ambiguous", field.name))
                .with_hint("write the table's name or alias before it")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            EngineError::new(SqlState("42701"), format!("column \"{name}\" is named twice"))
        }
    }
}

fn arrow_error(error: &ArrowError, text: String) -> EngineError {
    match error {
        ArrowError::ParquetError(words) => unreadable_parquet(words),
        ArrowError::DivideByZero => EngineError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => EngineError::new(SqlState::OUT_OF_RANGE, text),
        ArrowError::CastError(_) if text.contains("Can't cast value") => EngineError::new(SqlState::OUT_OF_RANGE, text),
        ArrowError::CastError(_) | ArrowError::ParseError(_) => {
            let text = text.trim_start_matches("Cast error: ").trim_start_matches("Parser error: ").to_owned();
            EngineError::new(SqlState::INVALID_TEXT, text)
        }
        ArrowError::InvalidArgumentError(text_of) if text_of.contains("non-nullable but contains null") => {
            EngineError::new(
                SqlState::NOT_NULL_VIOLATION,
                text.trim_start_matches("Invalid argument error: ").to_owned(),
            )
        }
        ArrowError::InvalidArgumentError(_) => EngineError::new(SqlState::INVALID_PARAMETER, text),
        _ => EngineError::new(SqlState::INTERNAL, text),
    }
}

fn plan_error(text: String) -> EngineError {
    let lower = text.to_lowercase();
    if let Some(name) = text.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
        return EngineError::new(SqlState::UNDEFINED_TABLE, format!("table \"{name}\" does not exist"));
    }
    let state = if lower.starts_with("invalid function")
        || lower.contains("failed to coerce arguments")
        || lower.contains("no function matches")
    {
        SqlState::UNDEFINED_FUNCTION
    } else if lower.contains("failed to resolve catalog") || lower.contains("failed to resolve schema") {
        SqlState::UNDEFINED_SCHEMA
    } else if lower.contains("cannot coerce")
        || lower.contains("cannot infer common")
        || lower.contains("can't be evaluated because there isn't a common type")
    {
        SqlState::DATATYPE_MISMATCH
    } else if lower.contains("must appear in the group by")
        || lower.contains("must be in the group by")
        || lower.contains("group by")
    {
        SqlState("42803")
    } else if lower.contains("fail to merge schema") {
        SqlState::DATATYPE_MISMATCH
    } else if lower.contains("unsupported") || lower.contains("not supported") {
        SqlState::NOT_SUPPORTED
    } else {
        SqlState("42000")
    };
    let (message, hint) = match text.split_once("\nDid you mean") {
        Some((message, rest)) => (message.trim_end_matches('.').to_owned(), Some(format!("did you mean{rest}"))),
        None => (text, None),
    };
    let converted = EngineError::new(state, message);
    match hint {
        Some(hint) => converted.with_hint(hint),
        None => converted,
    }
}

fn execution_error(text: String) -> EngineError {
    let lower = text.to_lowercase();
    let state = if lower.contains("divide by zero") {
        SqlState::DIVISION_BY_ZERO
    } else if lower.contains("overflow") {
        SqlState::OUT_OF_RANGE
    } else if lower.contains("invalid input") || lower.contains("parsing") {
        SqlState::INVALID_TEXT
    } else if lower.contains("prepared statement") {
        SqlState::UNDEFINED_PREPARED_STATEMENT
    } else {
        SqlState("38000")
    };
    EngineError::new(state, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_column_is_told_with_the_nearest_name() {
        use datafusion::common::Column;
        let error = SchemaError::FieldNotFound {
            field: Box::new(Column::from_name("o_orderkye")),
            valid_fields: vec![Column::from_name("o_orderkey"), Column::from_name("o_custkey")],
        };
        let converted = schema_error_of(&error);
        assert_eq!(converted.state, SqlState::UNDEFINED_COLUMN);
        assert_eq!(converted.hint.as_deref(), Some("did you mean \"o_orderkey\"?"));
    }

    #[test]
    fn the_core_of_a_tasks_failure_is_what_the_user_reads() {
        let reason = "Job failed due to stage 1 failed: Task failed due to runtime execution error: DataFusionError(Arrow error: Divide by zero error)";
        let converted = job_failure(reason);
        assert_eq!(converted.state, SqlState::DIVISION_BY_ZERO);
        assert_eq!(converted.message, "Divide by zero error");
    }
}
