//! Rows as `COPY ... TO STDOUT` writes them.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::datatypes::Schema;
use pgwire::messages::copy::{CopyDone, CopyOutResponse};

use super::super::backend::{Format, put};
use super::super::encode::{self, BatchEncoder, Column, set_i32};
use super::options::{Columns, CopyFormat, CopyOptions, Header};
use crate::engine::{EngineError, SqlState};

/// Starts the binary format; no flags and no more header follow.
pub const BINARY_START: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Writes rows into messages, one for each row as PostgreSQL does.
#[derive(Debug)]
pub struct CopyWriter {
    options: CopyOptions,
    columns: Vec<Column>,
    names: Vec<String>,
    is_quoted: Vec<bool>,
    /// Whether the start of the binary format is out: it comes in one message with the first row, as PostgreSQL sends it.
    is_started: bool,
    /// A value before what needs it is escaped.
    value: BytesMut,
}

impl CopyWriter {
    /// A writer of rows of these columns.
    ///
    /// # Errors
    /// If the options name a column that is not there.
    pub fn new(options: CopyOptions, schema: &Schema) -> Result<Self, EngineError> {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        if let Columns::Named(forced) = &options.force_quote
            && let Some(unknown) = forced.iter().find(|name| !names.contains(name))
        {
            let message = format!("FORCE_QUOTE column \"{unknown}\" is not one of COPY's");
            return Err(EngineError::new(SqlState::UNDEFINED_COLUMN, message));
        }
        let format = if options.format == CopyFormat::Binary { Format::Binary } else { Format::Text };
        let is_quoted = names.iter().map(|name| options.force_quote.contains(name)).collect();
        let columns = encode::columns(schema, |_| format);
        Ok(Self { columns, options, names, is_quoted, is_started: false, value: BytesMut::new() })
    }

    /// How the columns' values are encoded.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// `CopyOutResponse`, and the header.
    pub fn put_start(&self, out: &mut BytesMut) {
        let code = i8::from(self.options.format == CopyFormat::Binary);
        let count = i16::try_from(self.columns.len()).unwrap_or(i16::MAX);
        put(out, &CopyOutResponse::new(code, count, vec![i16::from(code); self.columns.len()]));
        if self.options.header != Header::None {
            put_data(out, |out| {
                for (index, name) in self.names.iter().enumerate() {
                    if index > 0 {
                        out.put_u8(self.options.delimiter);
                    }
                    match self.options.format {
                        CopyFormat::Csv => self.put_csv(name.as_bytes(), false, out),
                        _ => self.put_text(name.as_bytes(), out),
                    }
                }
                out.put_u8(b'\n');
            });
        }
    }

    /// What comes after the last row, and `CopyDone`.
    pub fn put_end(&mut self, out: &mut BytesMut) {
        if self.options.format == CopyFormat::Binary {
            let is_started = std::mem::replace(&mut self.is_started, true);
            put_data(out, |out| {
                if !is_started {
                    out.put_slice(BINARY_START);
                }
                out.put_i16(-1);
            });
        }
        put(out, &CopyDone::new());
    }

    /// One row.
    ///
    /// # Errors
    /// If it is longer than a message can be.
    pub fn put_row(&mut self, batch: &BatchEncoder, row: usize, out: &mut BytesMut) -> Result<(), EngineError> {
        let start = out.len();
        let mut value = std::mem::take(&mut self.value);
        let is_started = std::mem::replace(&mut self.is_started, true);
        put_data(out, |out| {
            if self.options.format == CopyFormat::Binary {
                if !is_started {
                    out.put_slice(BINARY_START);
                }
                out.put_u16(batch.column_count() as u16);
                return batch.put_values(row, out);
            }
            for column in 0..batch.column_count() {
                if column > 0 {
                    out.put_u8(self.options.delimiter);
                }
                value.clear();
                let is_null = !batch.put_cell(column, row, &mut value);
                match self.options.format {
                    _ if is_null => out.put_slice(self.options.null.as_bytes()),
                    CopyFormat::Csv => {
                        let is_quoted = self.is_quoted.get(column).copied().unwrap_or_default();
                        self.put_csv(&value, is_quoted, out);
                    }
                    _ => self.put_text(&value, out),
                }
            }
            out.put_u8(b'\n');
        });
        self.value = value;
        if i32::try_from(out.len() - start).is_err() {
            out.truncate(start);
            return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, "a row is longer than a message can be"));
        }
        Ok(())
    }

    fn put_text(&self, value: &[u8], out: &mut BytesMut) {
        for byte in value {
            let escaped = match byte {
                b'\\' => b'\\',
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                byte if *byte == self.options.delimiter => *byte,
                byte => {
                    out.put_u8(*byte);
                    continue;
                }
            };
            out.put_slice(&[b'\\', escaped]);
        }
    }

    fn put_csv(&self, value: &[u8], is_quoted: bool, out: &mut BytesMut) {
        let CopyOptions { delimiter, quote, escape, null, .. } = &self.options;
        // A lone \. once ended a copy.
        let must = value == null.as_bytes()
            || (value == b"\\." && self.names.len() == 1)
            || value.iter().any(|byte| byte == delimiter || byte == quote || matches!(byte, b'\n' | b'\r'));
        if !is_quoted && !must {
            return out.put_slice(value);
        }
        out.put_u8(*quote);
        for byte in value {
            if byte == quote || byte == escape {
                out.put_u8(*escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(*quote);
    }
}

/// A `CopyData` with what `write` appends.
fn put_data(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(b'd');
    let at = out.len();
    out.put_i32(0);
    write(out);
    // A longer row is refused by who asked for it.
    set_i32(out, at, i32::try_from(out.len() - at).unwrap_or(i32::MAX));
}
