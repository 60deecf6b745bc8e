//! Messages about sessions, which arrow-flight has not.
//!
//! Source: [Flight.proto](https://github.com/apache/arrow/blob/main/format/Flight.proto), from `SessionOptionValue` on.
//! They are the whole body of an action, without an `Any` around them.

use std::collections::HashMap;

use prost::{Enumeration, Message, Oneof};

/// A value of an option; without one, the option goes back to what the session began with.
#[derive(Clone, PartialEq, Message)]
pub struct SessionOptionValue {
    /// The value, if there is one.
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub option_value: Option<OptionValue>,
}

/// A value of any type that options may have.
#[derive(Clone, PartialEq, Oneof)]
pub enum OptionValue {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// On or off.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// A whole number.
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    /// A number.
    #[prost(double, tag = "4")]
    Double(f64),
    /// Several texts.
    #[prost(message, tag = "5")]
    List(StringListValue),
}

/// Several texts.
#[derive(Clone, PartialEq, Message)]
pub struct StringListValue {
    /// The texts.
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

/// Sets options, in a session of the client's or a new one.
#[derive(Clone, PartialEq, Message)]
pub struct SetSessionOptionsRequest {
    /// Values by name.
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// The options that could not be set.
#[derive(Clone, PartialEq, Message)]
pub struct SetSessionOptionsResult {
    /// What was wrong, by name.
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, OptionError>,
}

/// Why an option was not set.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct OptionError {
    /// The reason.
    #[prost(enumeration = "OptionErrorValue", tag = "1")]
    pub value: i32,
}

/// Reasons why an option was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum OptionErrorValue {
    /// Never sent.
    Unspecified = 0,
    /// There is no such option.
    InvalidName = 1,
    /// The option has no such value.
    InvalidValue = 2,
    /// The option cannot be set.
    Error = 3,
}

/// The options of the client's session.
#[derive(Clone, PartialEq, Message)]
pub struct GetSessionOptionsResult {
    /// Values by name.
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// What became of a session that was to be closed.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct CloseSessionResult {
    /// Its state.
    #[prost(enumeration = "CloseStatus", tag = "1")]
    pub status: i32,
}

/// States of a session that was to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum CloseStatus {
    /// Never sent.
    Unspecified = 0,
    /// It is closed.
    Closed = 1,
    /// It is about to be closed.
    Closing = 2,
    /// It cannot be closed.
    NotCloseable = 3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_protobuf_writes_it() {
        // session_options { key: "queue" value { string_value: "etl" } }, by protoc.
        let bytes = b"\x0a\x0e\x0a\x05queue\x12\x05\x0a\x03etl";
        let request = SetSessionOptionsRequest::decode(bytes.as_slice()).expect("is read");
        let value = SessionOptionValue { option_value: Some(OptionValue::Text("etl".to_owned())) };
        assert_eq!(request.session_options, HashMap::from([("queue".to_owned(), value)]));
    }

    #[test]
    fn whole_numbers_have_eight_bytes() {
        let value = SessionOptionValue { option_value: Some(OptionValue::Int64(-2)) };
        assert_eq!(value.encode_to_vec(), [0x19, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }
}
