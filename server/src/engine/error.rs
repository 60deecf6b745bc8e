//! What went wrong, in the words and codes that a client can act on.

use std::fmt;

/// A five-character SQLSTATE code, from PostgreSQL's appendix A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    pub const SYNTAX_ERROR: Self = Self("42601");
    pub const UNDEFINED_TABLE: Self = Self("42P01");
    pub const UNDEFINED_COLUMN: Self = Self("42703");
    pub const AMBIGUOUS_COLUMN: Self = Self("42702");
    pub const UNDEFINED_FUNCTION: Self = Self("42883");
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    pub const UNDEFINED_SCHEMA: Self = Self("3F000");
    pub const UNDEFINED_CATALOG: Self = Self("3D000");
    pub const UNDEFINED_PREPARED_STATEMENT: Self = Self("26000");
    pub const UNDEFINED_CURSOR: Self = Self("34000");
    pub const UNDEFINED_PARAMETER: Self = Self("42P02");
    pub const UNDEFINED_FILE: Self = Self("58P01");
    pub const DUPLICATE_OBJECT: Self = Self("42710");
    pub const DUPLICATE_TABLE: Self = Self("42P07");
    pub const DUPLICATE_SCHEMA: Self = Self("42P06");
    pub const DATATYPE_MISMATCH: Self = Self("42804");
    pub const INVALID_TEXT: Self = Self("22P02");
    pub const CANNOT_COERCE: Self = Self("42846");
    pub const DIVISION_BY_ZERO: Self = Self("22012");
    pub const OUT_OF_RANGE: Self = Self("22003");
    pub const INVALID_PARAMETER: Self = Self("22023");
    pub const INVALID_ENCODING: Self = Self("22021");
    pub const NOT_NULL_VIOLATION: Self = Self("23502");
    pub const NOT_SUPPORTED: Self = Self("0A000");
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    pub const FAILED_TRANSACTION: Self = Self("25P02");
    pub const ACTIVE_TRANSACTION: Self = Self("25001");
    pub const NO_TRANSACTION: Self = Self("25P01");
    pub const OUT_OF_MEMORY: Self = Self("53200");
    pub const DISK_FULL: Self = Self("53100");
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    pub const INSUFFICIENT_RESOURCES: Self = Self("53000");
    pub const LIMIT_EXCEEDED: Self = Self("54000");
    pub const TOO_COMPLEX: Self = Self("54001");
    pub const CANCELLED: Self = Self("57014");
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    pub const CANNOT_CONNECT: Self = Self("08001");
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    pub const SYSTEM_ERROR: Self = Self("58000");
    pub const IO_ERROR: Self = Self("58030");
    pub const DATA_CORRUPTED: Self = Self("XX001");
    pub const INTERNAL: Self = Self("XX000");
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// An error as a client sees it: what was wrong, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// The class of the error.
    pub state: SqlState,
    /// One line, lower case, without a trailing stop: what was wrong.
    pub message: String,
    /// More about it, where there is more.
    pub detail: Option<String>,
    /// What the user can do.
    pub hint: Option<String>,
    /// One-based character position in the statement's source text.
    pub position: Option<usize>,
}

impl EngineError {
    /// An error with a code and its message.
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        Self { state, message: message.into(), detail: None, hint: None, position: None }
    }

    /// The same error with more about it.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same error with what to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error at a one-based character position.
    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// A column that a table has not.
    pub fn no_column(column: &str, table: &str) -> Self {
        Self::new(SqlState::UNDEFINED_COLUMN, format!("column \"{column}\" of relation \"{table}\" does not exist"))
    }

    /// Something that Sluice does not do.
    pub fn not_supported(what: impl fmt::Display) -> Self {
        Self::new(SqlState::NOT_SUPPORTED, format!("{what} is not supported"))
    }

    /// The statement was cancelled by its user or by its client going away.
    pub fn cancelled() -> Self {
        Self::new(SqlState::CANCELLED, "canceling statement due to user request")
    }
}
