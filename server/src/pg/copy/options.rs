//! The options of a copy, as PostgreSQL checks them.

use crate::engine::{EngineError, SqlState, TransferOptions};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// A line for a row, with backslashes before what could be mistaken.
    Text,
    /// Fields with quotes around what could be mistaken.
    Csv,
    /// The types' binary forms with their lengths.
    Binary,
}

/// The first line of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is a row.
    None,
    /// It has the names of the columns.
    Names,
    /// It has the names of the columns, and is read as such.
    Match,
}

/// Some columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Columns {
    All,
    Named(Vec<String>),
}

impl Columns {
    /// Whether a column is one of them.
    pub fn contains(&self, column: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == column),
        }
    }
}

/// What a `COPY` says about its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub header: Header,
    pub delimiter: u8,
    /// How a null is spelled.
    pub null: String,
    pub quote: u8,
    pub escape: u8,
    /// Columns whose values always have quotes, on the way out.
    pub force_quote: Columns,
    /// Columns whose values without quotes are never null, on the way in.
    pub force_not_null: Columns,
    /// Columns whose values with quotes may be null too, on the way in.
    pub force_null: Columns,
}

impl CopyOptions {
    /// Reads the options of a copy into the server (`is_in`) or out of it.
    ///
    /// # Errors
    /// 42601 for an option that is not known or does not go with the others, 0A000 for what PostgreSQL has and we have not.
    pub fn new(options: &TransferOptions, is_in: bool) -> Result<Self, EngineError> {
        let one = |name: &str| options.get(name).and_then(|values| values.first()).map(String::as_str);
        let format = match one("format").unwrap_or("text") {
            "text" => CopyFormat::Text,
            "csv" => CopyFormat::Csv,
            "binary" => CopyFormat::Binary,
            other => {
                let message = format!("COPY format \"{other}\" not recognized");
                return Err(EngineError::new(SqlState::INVALID_PARAMETER, message)
                    .with_hint("formats of COPY with STDIN and STDOUT are text, csv and binary"));
            }
        };
        let is_csv = format == CopyFormat::Csv;
        let columns = |name: &str| match options.get(name) {
            None => Columns::Named(Vec::new()),
            Some(names) if names.iter().any(|name| name == "*") => Columns::All,
            Some(names) => Columns::Named(names.clone()),
        };
        for name in options.keys() {
            let fits = match name.as_str() {
                "format" | "encoding" | "freeze" => true,
                "delimiter" | "null" | "header" => format != CopyFormat::Binary,
                "quote" | "escape" => is_csv,
                "force_quote" => is_csv && !is_in,
                "force_not_null" | "force_null" => is_csv && is_in,
                "on_error" | "log_verbosity" | "default" | "reject_limit" => {
                    return Err(EngineError::not_supported(format!("option {} of COPY", name.to_uppercase())));
                }
                _ => return Err(syntax(format!("option \"{name}\" not recognized"))),
            };
            if !fits {
                let word = name.to_uppercase();
                let way = if is_in { "COPY FROM" } else { "COPY TO" };
                return Err(syntax(format!("cannot specify {word} in this mode of {way}")));
            }
        }
        if let Some(encoding) = one("encoding")
            && !["utf8", "utf-8", "unicode"].contains(&encoding.to_lowercase().as_str())
        {
            return Err(EngineError::not_supported(format!("encoding {encoding} of COPY")).with_hint("use UTF8"));
        }
        let header = match one("header").map(str::to_lowercase).as_deref() {
            None | Some("false" | "off" | "0") => Header::None,
            Some("true" | "on" | "1") => Header::Names,
            Some("match") if is_in => Header::Match,
            Some(_) => return Err(syntax("header requires a Boolean value or \"match\"".to_owned())),
        };
        let byte = |name: &str, default: u8| match one(name) {
            None => Ok(default),
            Some(value) => match value.as_bytes() {
                [byte] if byte.is_ascii() => Ok(*byte),
                _ => Err(EngineError::not_supported(format!("a COPY {name} that is not a single one-byte character"))),
            },
        };
        let quote = byte("quote", b'"')?;
        let read = Self {
            format,
            header,
            delimiter: byte("delimiter", if is_csv { b',' } else { b'\t' })?,
            null: one("null").unwrap_or(if is_csv { "" } else { "\\N" }).to_owned(),
            quote,
            escape: byte("escape", quote)?,
            force_quote: columns("force_quote"),
            force_not_null: columns("force_not_null"),
            force_null: columns("force_null"),
        };
        read.check()?;
        Ok(read)
    }

    /// What could not be told apart when it is read.
    fn check(&self) -> Result<(), EngineError> {
        let forbidden = b"\\.abcdefghijklmnopqrstuvwxyz0123456789";
        let wrong = |message: &str| Err(EngineError::new(SqlState::INVALID_PARAMETER, message));
        if matches!(self.delimiter, b'\n' | b'\r') {
            return wrong("COPY delimiter cannot be newline or carriage return");
        }
        if self.format == CopyFormat::Text && forbidden.contains(&self.delimiter) {
            return wrong("COPY delimiter cannot be a backslash, a period, a lower-case letter or a digit");
        }
        if self.null.contains(['\n', '\r']) {
            return wrong("COPY null representation cannot use newline or carriage return");
        }
        if self.null.bytes().any(|byte| byte == self.delimiter) && self.format != CopyFormat::Binary {
            return wrong("COPY delimiter character must not appear in the NULL specification");
        }
        if self.format == CopyFormat::Csv {
            if self.delimiter == self.quote {
                return wrong("COPY delimiter and quote must be different");
            }
            if self.null.bytes().any(|byte| byte == self.quote) {
                return wrong("CSV quote character must not appear in the NULL specification");
            }
        }
        Ok(())
    }
}

fn syntax(message: String) -> EngineError {
    EngineError::new(SqlState::SYNTAX_ERROR, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> TransferOptions {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
    }

    #[test]
    fn each_format_has_its_defaults() -> Result<(), EngineError> {
        let text = CopyOptions::new(&options(&[]), true)?;
        assert_eq!((text.delimiter, text.null.as_str()), (b'\t', "\\N"));
        let csv = CopyOptions::new(&options(&[("format", "csv"), ("quote", "'")]), true)?;
        assert_eq!((csv.delimiter, csv.null.as_str(), csv.escape), (b',', "", b'\''));
        Ok(())
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for wrong in [
            &[("format", "parquet")][..],
            &[("quote", "'")],
            &[("format", "binary"), ("header", "true")],
            &[("delimiter", "ab")],
            &[("delimiter", "a")],
            &[("format", "csv"), ("delimiter", "\"")],
            &[("null", "a\tb")],
            &[("nonsense", "1")],
            &[("encoding", "latin1")],
        ] {
            assert!(CopyOptions::new(&options(wrong), true).is_err(), "{wrong:?}");
        }
    }
}
