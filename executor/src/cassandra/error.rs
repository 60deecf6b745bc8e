//! What can go wrong with Cassandra, by what a user can do about it.

use datafusion::error::DataFusionError;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError,
    NewSessionError, PrepareError, RequestAttemptError,
};

use super::tls;

/// Starts the words of every connection failure; a task's error is recognised by it.
const CANNOT_CONNECT: &str = "cannot connect to Cassandra";
const NOT_LET_IN: &str = "Cassandra did not let the catalog's user in";
const TIMED_OUT: &str = "Cassandra timed out";
const FAILED: &str = "Cassandra failed";
const NOT_ENOUGH: &str = "not enough Cassandra replicas";
const REFUSED: &str = "Cassandra refused";
const NULL_KEY: &str = "null in primary key column";
const BAD_VALUE: &str = "a value cannot be written to Cassandra's column";
const UNDECODABLE: &str = "holds bytes that are no";
const ACKNOWLEDGED: &str = "rows of this task were acknowledged";
/// How a node calls a read that met too many deleted cells.
const TOMBSTONES: &str = "TOMBSTONES";
const MANY_DELETED: &str =
    "too many deleted rows lie in a row: compact the table, or raise the nodes' tombstone_failure_threshold";
const CHECK_LOGIN: &str = "check the catalog's options username and password";
/// Ends the name of a file that TLS needs.
pub(super) const UNUSABLE_FILE: &str = "cannot be used to connect";
const FILE_EVERYWHERE: &str = "the file must be there for the coordinator and for every executor";
const SAFE_TO_REPEAT: &str = "running the statement again is safe: the same rows are written over themselves";

/// One variant for each thing that a user can act on.
#[derive(thiserror::Error)]
pub enum CassandraError {
    /// An option that does not exist.
    #[error("unknown option \"{name}\" of a Cassandra catalog")]
    UnknownOption { name: String, suggestion: Option<String> },
    /// An option whose value cannot be used.
    #[error("option \"{name}\" of a Cassandra catalog is \"{value}\": it takes {expected}")]
    BadOption { name: &'static str, value: String, expected: &'static str },
    /// No node answered, or none let us in.
    #[error("{CANNOT_CONNECT} at {contact_points}: {reason}")]
    Connect { contact_points: String, reason: String },
    /// The cluster wants to know who connects, and does not know this one.
    #[error("{NOT_LET_IN} at {contact_points}: {reason}")]
    Login { contact_points: String, reason: String },
    /// Nodes took too long, after all retries.
    #[error("{TIMED_OUT} {what}: {reason}")]
    Timeout { what: String, reason: String },
    /// Nodes had an error of their own or broke off, after all retries.
    #[error("{FAILED} {what}: {reason}")]
    Failed { what: String, reason: String },
    /// Too few replicas were alive, after all retries.
    #[error("{NOT_ENOUGH} are alive {what}: {reason}")]
    Unavailable { what: String, reason: String },
    /// The cluster understood and said no.
    #[error("{REFUSED} {what}: {reason}")]
    Refused { what: String, reason: String },
    /// Rows that could not be written, with what is known of the others.
    #[error("writing to {table} failed after {acknowledged_rows} {ACKNOWLEDGED}: {source}")]
    Write { table: String, acknowledged_rows: u64, source: Box<CassandraError> },
    /// Changes that would be applied twice if they were sent again, of which some were, or may have been.
    #[error("changing {table} failed after {acknowledged_keys} keys were changed{}: {source}", unknown(*.is_unknown))]
    Once { table: String, acknowledged_keys: u64, is_unknown: bool, source: Box<CassandraError> },
    /// An `UPDATE` or `DELETE` whose conditions do not name keys.
    #[error("{statement} {table} {reason}")]
    NotByKey { statement: &'static str, table: String, reason: String },
    /// A key that is not there.
    #[error("{NULL_KEY} \"{column}\" of {table}, row {row}")]
    NullKey { table: String, column: String, row: u64 },
    /// A value that does not fit.
    #[error("{BAD_VALUE} \"{column}\": {reason}")]
    Value { column: String, reason: String },
    /// Bytes from a node that are not what their type says.
    #[error("column \"{column}\" {UNDECODABLE} {cql_type}: {reason}")]
    Decode { column: String, cql_type: String, reason: String },
    /// A statement that cannot be expressed in CQL.
    #[error("{0}")]
    Ddl(String),
    /// Something that this source does not do.
    #[error("{0} is not supported for Cassandra tables")]
    NotSupported(String),
}

/// As for users: between processes an error travels as what Ballista's `{:?}` makes of it.
impl std::fmt::Debug for CassandraError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl CassandraError {
    /// The SQLSTATE of the error's class.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::UnknownOption { .. } | Self::BadOption { .. } => "22023",
            Self::Connect { .. } => "08001",
            Self::Login { .. } => "28P01",
            Self::Timeout { .. } => "57014",
            Self::Failed { .. } => "58000",
            Self::Unavailable { .. } => "53000",
            Self::Refused { .. } | Self::Ddl(_) => "42000",
            Self::Write { source, .. } => source.sqlstate(),
            Self::Once { is_unknown: true, .. } => "40003",
            Self::Once { source, .. } => source.sqlstate(),
            Self::NullKey { .. } => "23502",
            Self::Value { .. } => "22000",
            Self::Decode { .. } => "XX001",
            Self::NotSupported(_) | Self::NotByKey { .. } => "0A000",
        }
    }

    /// The SQLSTATE of an error that reached us as text from a task.
    pub fn sqlstate_of_text(text: &str) -> Option<&'static str> {
        [
            (NULL_KEY, "23502"),
            (CANNOT_CONNECT, "08001"),
            (NOT_LET_IN, "28P01"),
            (TIMED_OUT, "57014"),
            (FAILED, "58000"),
            (NOT_ENOUGH, "53000"),
            (REFUSED, "42000"),
            (BAD_VALUE, "22000"),
            (UNDECODABLE, "XX001"),
        ]
        .into_iter()
        .find(|(words, _)| text.contains(words))
        .map(|(_, state)| state)
    }

    /// What the user can do about an error that reached us as text from a task.
    pub fn hint_of_text(text: &str) -> Option<&'static str> {
        let hints = [
            (ACKNOWLEDGED, SAFE_TO_REPEAT),
            (TOMBSTONES, MANY_DELETED),
            (NOT_LET_IN, CHECK_LOGIN),
            (UNUSABLE_FILE, FILE_EVERYWHERE),
        ];
        hints.into_iter().find(|(words, _)| text.contains(words)).map(|(_, hint)| hint)
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownOption { suggestion: Some(name), .. } => Some(format!("did you mean \"{name}\"?")),
            Self::Connect { reason, .. } if reason.starts_with("local_dc") => None,
            Self::Connect { reason, .. } if reason.contains(UNUSABLE_FILE) => Some(FILE_EVERYWHERE.to_owned()),
            Self::Connect { reason, .. } if tls::hint(reason).is_some() => tls::hint(reason).map(str::to_owned),
            Self::Login { .. } => Some(CHECK_LOGIN.to_owned()),
            Self::Failed { reason, .. } if reason.contains(TOMBSTONES) => Some(MANY_DELETED.to_owned()),
            Self::Connect { .. } => Some(
                "are the nodes up, is the port the one for CQL (9042), and does it take what the option tls says?"
                    .to_owned(),
            ),
            Self::Timeout { .. } => {
                Some("the nodes may be overloaded; a longer request_timeout_ms may help".to_owned())
            }
            Self::Unavailable { .. } => Some("start the nodes that are down, or choose a lower consistency".to_owned()),
            Self::Write { .. } => Some(SAFE_TO_REPEAT.to_owned()),
            Self::Once { .. } => Some(
                "counting and adding to a list are never sent twice: read what is there before running it again"
                    .to_owned(),
            ),
            Self::NotByKey { statement: "UPDATE", .. } => Some(
                "to change many rows, write them over: INSERT INTO table (its key, changed columns) SELECT ..."
                    .to_owned(),
            ),
            Self::NotByKey { .. } => {
                Some("read the keys first, and delete them with = or IN; TRUNCATE deletes all rows".to_owned())
            }
            _ => None,
        }
    }

    /// Whether another try, later or at another replica, may succeed.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Failed { .. } | Self::Unavailable { .. } | Self::Connect { .. })
    }

    /// Whether what was asked for may have been done nevertheless.
    pub(super) fn leaves_open_what_happened(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Failed { .. })
    }

    pub(super) fn from_session(contact_points: String, error: &NewSessionError) -> Self {
        let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error: last,
        })) = error
        else {
            return Self::Connect { contact_points, reason: shortest(error) };
        };
        let ConnectionError::ConnectionSetupRequestError(setup) = last else {
            return Self::Connect { contact_points, reason: shortest(last) };
        };
        match &setup.error {
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, words) => {
                Self::Login { contact_points, reason: words.clone() }
            }
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                let reason = "it asks for a user and a password, and the catalog has none".to_owned();
                Self::Login { contact_points, reason }
            }
            other => Self::Connect { contact_points, reason: shortest(other) },
        }
    }

    /// `what` completes the sentence, such as `while reading shop.orders`.
    pub(super) fn from_execution(what: &str, error: &ExecutionError) -> Self {
        let what = what.to_owned();
        match error {
            ExecutionError::RequestTimeout(after) => {
                Self::Timeout { what, reason: format!("no answer within {} ms", after.as_millis()) }
            }
            ExecutionError::LastAttemptError(attempt) => Self::from_attempt(what, attempt),
            ExecutionError::PrepareError(error) => Self::from_prepare(&what, error),
            ExecutionError::ConnectionPoolError(_) | ExecutionError::EmptyPlan => {
                Self::Connect { contact_points: what, reason: shortest(error) }
            }
            ExecutionError::BadQuery(_) => Self::Refused { what, reason: shortest(error) },
            _ => Self::Failed { what, reason: shortest(error) },
        }
    }

    pub(super) fn from_prepare(what: &str, error: &PrepareError) -> Self {
        match error {
            PrepareError::AllAttemptsFailed { first_attempt } => Self::from_attempt(what.to_owned(), first_attempt),
            _ => Self::Connect { contact_points: what.to_owned(), reason: shortest(error) },
        }
    }

    fn from_attempt(what: String, error: &RequestAttemptError) -> Self {
        match error {
            RequestAttemptError::DbError(db, words) => {
                let reason = if words.is_empty() { db.to_string() } else { words.clone() };
                match db {
                    DbError::Unavailable { .. } => Self::Unavailable { what, reason },
                    DbError::ReadTimeout { .. } | DbError::WriteTimeout { .. } => Self::Timeout { what, reason },
                    DbError::Overloaded
                    | DbError::IsBootstrapping
                    | DbError::ReadFailure { .. }
                    | DbError::WriteFailure { .. }
                    | DbError::ServerError => Self::Failed { what, reason },
                    _ => Self::Refused { what, reason },
                }
            }
            RequestAttemptError::SerializationError(_) => Self::Refused { what, reason: shortest(error) },
            _ => Self::Failed { what, reason: shortest(error) },
        }
    }
}

fn unknown(is_unknown: bool) -> &'static str {
    if is_unknown { "; it is not known whether the next one was" } else { "" }
}

/// The words of the innermost cause: the driver's outer ones say where in the driver it happened.
fn shortest(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl From<CassandraError> for DataFusionError {
    fn from(error: CassandraError) -> Self {
        Self::External(Box::new(error))
    }
}
