//! Messages to a client, put into the write buffer.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::datatypes::Schema;
use pgwire::error::ErrorInfo;
use pgwire::messages::Message;
use pgwire::messages::data::{FieldDescription, NoData, ParameterDescription, RowDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::{
    CommandComplete, EmptyQueryResponse, ErrorResponse, NoticeResponse, ReadyForQuery, TransactionStatus as WireStatus,
};
use pgwire::messages::startup::ParameterStatus;

use super::types::{PgType, type_modifier};
use crate::engine::{EngineError, Notice, SqlState, TransactionStatus};

/// What an error does to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// Encodes `message` at the end of `out`.
///
/// A message that the crate refuses to encode (a name beyond its limits) becomes an error to the client.
pub fn put(out: &mut BytesMut, message: &impl Message) {
    let start = out.len();
    if let Err(refusal) = message.encode(out) {
        out.truncate(start);
        tracing::warn!(%refusal, "a reply could not be encoded");
        let error = EngineError::new(SqlState::INTERNAL, "a reply could not be encoded");
        let _ = error_response(&error, Severity::Error).encode(out);
    }
}

fn error_response(error: &EngineError, severity: Severity) -> ErrorResponse {
    let mut info = ErrorInfo::new(severity.word().to_owned(), error.state.0.to_owned(), clean(&error.message));
    info.severity_nonlocalized = Some(severity.word().to_owned());
    info.detail = error.detail.as_deref().map(clean);
    info.hint = error.hint.as_deref().map(clean);
    info.position = error.position.map(|position| position.to_string());
    info.into()
}

/// Strings on the wire end at a zero byte.
fn clean(text: &str) -> String {
    text.replace('\0', "")
}

/// `ErrorResponse` with severity, state, message, detail, hint and position.
pub fn put_error(out: &mut BytesMut, error: &EngineError, severity: Severity) {
    put(out, &error_response(error, severity));
}

/// `NoticeResponse`.
pub fn put_notice(out: &mut BytesMut, notice: &Notice) {
    let severity = notice.severity.to_string();
    let mut info = ErrorInfo::new(severity.clone(), notice.state.0.to_owned(), clean(&notice.message));
    info.severity_nonlocalized = Some(severity);
    info.hint = notice.hint.as_deref().map(clean);
    put(out, &NoticeResponse::from(info));
}

/// `ParameterStatus`.
pub fn put_parameter(out: &mut BytesMut, name: &str, value: &str) {
    put(out, &ParameterStatus::new(clean(name), clean(value)));
}

/// `ReadyForQuery`.
pub fn put_ready(out: &mut BytesMut, status: TransactionStatus) {
    let status = match status {
        TransactionStatus::Idle => WireStatus::Idle,
        TransactionStatus::InTransaction => WireStatus::Transaction,
        TransactionStatus::Failed => WireStatus::Error,
    };
    put(out, &ReadyForQuery::new(status));
}

/// `CommandComplete`.
pub fn put_complete(out: &mut BytesMut, tag: &str) {
    put(out, &CommandComplete::new(clean(tag)));
}

/// `EmptyQueryResponse`.
pub fn put_empty_query(out: &mut BytesMut) {
    put(out, &EmptyQueryResponse::new());
}

/// `ParseComplete`.
pub fn put_parse_complete(out: &mut BytesMut) {
    put(out, &ParseComplete::new());
}

/// `BindComplete`.
pub fn put_bind_complete(out: &mut BytesMut) {
    put(out, &BindComplete::new());
}

/// `CloseComplete`.
pub fn put_close_complete(out: &mut BytesMut) {
    put(out, &CloseComplete::new());
}

/// `PortalSuspended`.
pub fn put_suspended(out: &mut BytesMut) {
    put(out, &PortalSuspended::new());
}

/// `NoData`.
pub fn put_no_data(out: &mut BytesMut) {
    put(out, &NoData::new());
}

/// `ParameterDescription`.
pub fn put_parameter_description(out: &mut BytesMut, types: Vec<u32>) {
    put(out, &ParameterDescription::new(types));
}

/// `RowDescription` of `schema`, each column in the format that `format_of` tells for its index.
pub fn put_row_description(out: &mut BytesMut, schema: &Schema, format_of: impl Fn(usize) -> Format) {
    let fields = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let pg_type = PgType::of_field(field);
            FieldDescription::new(
                clean(field.name()),
                0,
                0,
                pg_type.oid(),
                pg_type.size(),
                type_modifier(field.data_type()),
                format_of(index).code(),
            )
        })
        .collect();
    put(out, &RowDescription::new(fields));
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

impl Format {
    /// The format's code on the wire.
    pub fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }

    /// The format of a code; PostgreSQL knows two.
    pub fn from_code(code: i16) -> Result<Self, EngineError> {
        match code {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            other => Err(EngineError::new(SqlState::PROTOCOL_VIOLATION, format!("unsupported format code: {other}"))),
        }
    }
}

/// The formats of `count` values from codes as `Bind` gives them: none is text, one is for all.
pub fn formats(codes: &[i16], count: usize, what: &str) -> Result<Vec<Format>, EngineError> {
    match codes {
        [] => Ok(vec![Format::Text; count]),
        [one] => Ok(vec![Format::from_code(*one)?; count]),
        many if many.len() == count => many.iter().map(|code| Format::from_code(*code)).collect(),
        many => Err(EngineError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("bind message has {} {what} formats but {count} {what}s", many.len()),
        )),
    }
}

/// The single byte that refuses encryption.
pub fn put_refusal(out: &mut BytesMut) {
    out.put_u8(b'N');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_format_code_is_for_all_values() {
        assert_eq!(formats(&[1], 3, "result").map_err(|e| e.message), Ok(vec![Format::Binary; 3]));
        assert_eq!(formats(&[], 2, "result").map_err(|e| e.message), Ok(vec![Format::Text; 2]));
        assert!(formats(&[0, 1], 3, "result").is_err());
        assert!(formats(&[7], 1, "result").is_err());
    }

    #[test]
    fn an_error_carries_its_fields() {
        let mut out = BytesMut::new();
        let error = EngineError::new(SqlState::UNDEFINED_TABLE, "no\0pe").with_hint("look").at(8);
        put_error(&mut out, &error, Severity::Error);
        let text = String::from_utf8_lossy(&out);
        for field in ["SERROR\0", "VERROR\0", "C42P01\0", "Mnope\0", "Hlook\0", "P8\0"] {
            assert!(text.contains(field), "{field:?} in {text:?}");
        }
    }
}
