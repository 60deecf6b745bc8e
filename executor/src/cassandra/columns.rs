//! What a scan selects: columns, and what Cassandra knows of their cells besides their values.

use datafusion::arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize};

use super::cluster::quoted;

/// One column of a scan's rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScanColumn {
    /// The values of a column.
    Cell(String),
    /// Microseconds since the Unix epoch when each value of a column was written, `writetime(column)`.
    WriteTime(String),
    /// Seconds until each value of a column expires, `ttl(column)`; null if it does not.
    TimeToLive(String),
    /// The token of each row's partition, `token(key, ...)`, of these columns.
    Token(Vec<String>),
}

impl ScanColumn {
    /// The name of the column in the scan's schema, which is what a user would write.
    pub fn name(&self) -> String {
        match self {
            Self::Cell(name) => name.clone(),
            Self::WriteTime(name) => format!("writetime({name})"),
            Self::TimeToLive(name) => format!("ttl({name})"),
            Self::Token(key) => format!("token({})", key.join(", ")),
        }
    }

    /// The selector in CQL.
    pub fn cql(&self) -> String {
        match self {
            Self::Cell(name) => quoted(name),
            Self::WriteTime(name) => format!("writetime({})", quoted(name)),
            Self::TimeToLive(name) => format!("ttl({})", quoted(name)),
            Self::Token(key) => token_cql(key),
        }
    }

    /// The field for what is not a column of the table; `None` for what is.
    pub fn field(&self) -> Option<Field> {
        let (data_type, nullable) = match self {
            Self::Cell(_) => return None,
            Self::WriteTime(_) => (DataType::Int64, true),
            Self::TimeToLive(_) => (DataType::Int32, true),
            Self::Token(_) => (DataType::Int64, false),
        };
        Some(Field::new(self.name(), data_type, nullable))
    }
}

/// `token("a", "b")`.
pub fn token_cql(key: &[String]) -> String {
    format!("token({})", key.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
}
