//! Rows as `COPY ... FROM STDIN` reads them.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use pgwire::messages::copy::CopyInResponse;

use super::super::backend::{Format, put};
use super::super::params::Parameter;
use super::options::{Columns, CopyFormat, CopyOptions, Header};
use super::writer::BINARY_START;
use crate::engine::{EngineError, SqlState};

/// A batch ends when it has so many rows, or so many bytes as they came.
const BATCH_ROWS: usize = 8_192;
const BATCH_BYTES: usize = 1 << 20;

const WRITTEN_BEFORE: &str = "rows before it may have been written; to write the same rows again is safe";

/// Takes bytes and gives batches of rows.
#[derive(Debug)]
pub struct CopyReader {
    options: CopyOptions,
    schema: SchemaRef,
    /// The table's name, for errors.
    table: String,
    time_zone: String,
    /// Bytes of a row at most.
    max_row_bytes: usize,
    columns: Vec<ReadColumn>,
    /// What came and is not a row yet.
    input: BytesMut,
    /// How far `input` was searched for the end of a row, and in which state the search stopped.
    searched: usize,
    search: Search,
    /// One-based number of the row or line that is read next.
    line: u64,
    is_started: bool,
    is_ended: bool,
    batch_bytes: usize,
}

#[derive(Debug)]
struct ReadColumn {
    name: String,
    parameter: Parameter,
    values: Vec<ScalarValue>,
    is_never_null: bool,
    is_null_in_quotes: bool,
}

/// The state of a search for the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    Plain,
    Quoted,
    /// The next byte is taken as it is.
    Escaped {
        in_quotes: bool,
    },
}

impl CopyReader {
    /// A reader of rows of these columns for a table.
    ///
    /// # Errors
    /// If the options name a column that is not there.
    pub fn new(
        options: CopyOptions,
        schema: &SchemaRef,
        table: String,
        time_zone: String,
        max_row_bytes: usize,
    ) -> Result<Self, EngineError> {
        for forced in [&options.force_not_null, &options.force_null] {
            if let Columns::Named(names) = forced
                && let Some(unknown) = names.iter().find(|name| schema.column_with_name(name).is_none())
            {
                let message = format!("column \"{unknown}\" is not one of COPY's");
                return Err(EngineError::new(SqlState::UNDEFINED_COLUMN, message));
            }
        }
        let columns = schema.fields().iter().map(|field| ReadColumn {
            name: field.name().clone(),
            parameter: Parameter::new(0, field.data_type().clone()),
            values: Vec::new(),
            is_never_null: options.force_not_null.contains(field.name()),
            is_null_in_quotes: options.force_null.contains(field.name()),
        });
        Ok(Self {
            columns: columns.collect(),
            schema: schema.clone(),
            options,
            table,
            time_zone,
            max_row_bytes,
            input: BytesMut::new(),
            searched: 0,
            search: Search::Plain,
            line: 1,
            is_started: false,
            is_ended: false,
            batch_bytes: 0,
        })
    }

    /// `CopyInResponse`.
    pub fn put_start(&self, out: &mut BytesMut) {
        let code = i8::from(self.options.format == CopyFormat::Binary);
        let count = i16::try_from(self.columns.len()).unwrap_or(i16::MAX);
        put(out, &CopyInResponse::new(code, count, vec![i16::from(code); self.columns.len()]));
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        // What comes after the end is thrown away.
        if !self.is_ended {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next batch if there is a whole one.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, EngineError> {
        while self.row_count() < BATCH_ROWS && self.batch_bytes < BATCH_BYTES {
            if !self.next_row(false)? {
                return Ok(None);
            }
        }
        self.take_batch()
    }

    /// The rows that are left, when no more bytes come.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, EngineError> {
        while self.next_row(true)? {}
        if self.options.format == CopyFormat::Binary && !self.is_ended && (self.is_started || !self.input.is_empty()) {
            return Err(self.bad("unexpected EOF in COPY data", None));
        }
        self.take_batch()
    }

    fn row_count(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }

    fn take_batch(&mut self) -> Result<Option<RecordBatch>, EngineError> {
        if self.row_count() == 0 {
            return Ok(None);
        }
        let arrays =
            self.columns.iter_mut().map(|column| ScalarValue::iter_to_array(std::mem::take(&mut column.values)));
        let arrays = arrays.collect::<Result<Vec<ArrayRef>, DataFusionError>>()?;
        self.batch_bytes = 0;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(DataFusionError::from)?;
        Ok(Some(batch))
    }

    /// Reads a row if a whole one is there; with `is_last` the end of the bytes is the end of a row.
    fn next_row(&mut self, is_last: bool) -> Result<bool, EngineError> {
        if self.is_ended {
            self.input.clear();
            return Ok(false);
        }
        let fields = if self.options.format == CopyFormat::Binary {
            self.binary_row()?
        } else {
            match self.line(is_last)? {
                Some(line) if !self.is_started => {
                    self.is_started = true;
                    self.check_header(&line)?;
                    return Ok(true);
                }
                Some(line) => Some(self.fields(&line)?),
                None => None,
            }
        };
        let Some(fields) = fields else {
            if !self.is_ended && self.input.len() > self.max_row_bytes {
                let message = format!("a row of more than {} bytes", self.max_row_bytes);
                return Err(EngineError { state: SqlState::LIMIT_EXCEEDED, ..self.bad(&message, None) }
                    .with_hint("raise the server's max_message_bytes"));
            }
            return Ok(false);
        };
        self.add(fields)?;
        self.line += 1;
        Ok(true)
    }

    fn add(&mut self, fields: Vec<Option<Bytes>>) -> Result<(), EngineError> {
        if fields.len() > self.columns.len() {
            return Err(self.bad("extra data after last expected column", None));
        }
        if let Some(missing) = self.columns.get(fields.len()) {
            return Err(self.bad(&format!("missing data for column \"{}\"", missing.name), None));
        }
        let format = if self.options.format == CopyFormat::Binary { Format::Binary } else { Format::Text };
        for (index, field) in fields.into_iter().enumerate() {
            let Some(column) = self.columns.get_mut(index) else { break };
            self.batch_bytes += field.as_ref().map_or(0, Bytes::len) + 8;
            match column.parameter.read(field, format, &self.time_zone) {
                Ok(value) => column.values.push(value),
                Err(error) => {
                    let at = self.bad(&error.message, Some(index));
                    return Err(EngineError { state: error.state, ..at });
                }
            }
        }
        Ok(())
    }

    /// An error in the row or column at hand.
    fn bad(&self, message: &str, column: Option<usize>) -> EngineError {
        let column = column.and_then(|index| self.columns.get(index));
        let column = column.map_or_else(String::new, |column| format!(", column \"{}\"", column.name));
        let place = format!("COPY {}, line {}{column}", self.table, self.line);
        EngineError::new(SqlState("22P04"), message).with_detail(place).with_hint(WRITTEN_BEFORE)
    }

    /// A line without its end, if it is there.
    fn line(&mut self, is_last: bool) -> Result<Option<Bytes>, EngineError> {
        if self.options.header == Header::None {
            self.is_started = true;
        }
        let is_csv = self.options.format == CopyFormat::Csv;
        let (quote, escape) = (self.options.quote, self.options.escape);
        let mut end = None;
        for (index, byte) in self.input.iter().enumerate().skip(self.searched) {
            if *byte == b'\n' && self.search == Search::Plain {
                end = Some(index);
                break;
            }
            self.search = match self.search {
                Search::Escaped { in_quotes: true } => Search::Quoted,
                Search::Escaped { in_quotes: false } => Search::Plain,
                Search::Quoted if *byte == escape && escape != quote => Search::Escaped { in_quotes: true },
                Search::Quoted if *byte == quote => Search::Plain,
                Search::Quoted => Search::Quoted,
                Search::Plain if is_csv && *byte == quote => Search::Quoted,
                Search::Plain if !is_csv && *byte == b'\\' => Search::Escaped { in_quotes: false },
                Search::Plain => Search::Plain,
            };
        }
        let mut line = match end {
            Some(end) => {
                let line = self.input.split_to(end);
                self.input.advance(1);
                line
            }
            None if is_last && !self.input.is_empty() => {
                if self.search == Search::Quoted {
                    return Err(self.bad("unterminated CSV quoted field", None));
                }
                self.input.split()
            }
            None => {
                self.searched = self.input.len();
                return Ok(None);
            }
        };
        (self.searched, self.search) = (0, Search::Plain);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.as_ref() == b"\\." {
            self.is_ended = true;
            self.input.clear();
            return Ok(None);
        }
        Ok(Some(line.freeze()))
    }

    fn check_header(&mut self, line: &Bytes) -> Result<(), EngineError> {
        if self.options.header == Header::Match {
            let names = self.fields(line)?;
            let wanted = self.columns.iter().map(|column| Some(column.name.as_bytes()));
            if !wanted.eq(names.iter().map(Option::as_deref)) {
                return Err(self.bad("the header's names are not those of the columns", None));
            }
        }
        self.line += 1;
        Ok(())
    }

    fn fields(&self, line: &Bytes) -> Result<Vec<Option<Bytes>>, EngineError> {
        match self.options.format {
            CopyFormat::Csv => self.csv_fields(line),
            _ => Ok(self.text_fields(line)),
        }
    }

    fn text_fields(&self, line: &Bytes) -> Vec<Option<Bytes>> {
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut start = 0;
        let mut is_escaped = false;
        for (index, byte) in line.iter().enumerate() {
            if is_escaped {
                is_escaped = false;
            } else if *byte == b'\\' {
                is_escaped = true;
            } else if *byte == self.options.delimiter {
                fields.push(self.text_field(line.slice(start..index)));
                start = index + 1;
            }
        }
        fields.push(self.text_field(line.slice(start..)));
        fields
    }

    fn text_field(&self, raw: Bytes) -> Option<Bytes> {
        if raw == self.options.null {
            return None;
        }
        Some(if raw.contains(&b'\\') { unescaped(&raw) } else { raw })
    }

    fn csv_fields(&self, line: &Bytes) -> Result<Vec<Option<Bytes>>, EngineError> {
        let (delimiter, quote, escape) = (self.options.delimiter, self.options.quote, self.options.escape);
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut bytes = line.iter().copied().peekable();
        loop {
            let mut value = BytesMut::new();
            let (mut had_quotes, mut in_quotes, mut at_end) = (false, false, true);
            while let Some(byte) = bytes.next() {
                if in_quotes {
                    match bytes.peek() {
                        Some(next) if byte == escape && (*next == quote || *next == escape) => {
                            value.put_u8(*next);
                            bytes.next();
                        }
                        _ if byte == quote => in_quotes = false,
                        _ => value.put_u8(byte),
                    }
                } else if byte == quote {
                    (in_quotes, had_quotes) = (true, true);
                } else if byte == delimiter {
                    at_end = false;
                    break;
                } else {
                    value.put_u8(byte);
                }
            }
            let column = self.columns.get(fields.len());
            let may_be_null = match had_quotes {
                true => column.is_some_and(|column| column.is_null_in_quotes),
                false => column.is_none_or(|column| !column.is_never_null),
            };
            let is_null = may_be_null && value == self.options.null;
            fields.push((!is_null).then(|| value.freeze()));
            if at_end {
                return Ok(fields);
            }
        }
    }

    /// A row with its lengths, if all of it is there.
    fn binary_row(&mut self) -> Result<Option<Vec<Option<Bytes>>>, EngineError> {
        if !self.is_started {
            let Some(start) = self.input.get(..BINARY_START.len()) else { return Ok(None) };
            let (signature, rest) = start.split_at(11);
            let mut rest = rest;
            let (flags, extension) = (rest.get_u32(), rest.get_u32() as usize);
            if signature != &BINARY_START[..11] {
                return Err(self.bad("COPY file signature not recognized", None));
            }
            if flags >> 16 != 0 {
                return Err(self.bad("unrecognized critical flags in COPY file header", None));
            }
            if extension > self.max_row_bytes {
                return Err(self.bad("invalid COPY file header", None));
            }
            if self.input.len() < BINARY_START.len() + extension {
                return Ok(None);
            }
            self.input.advance(BINARY_START.len() + extension);
            self.is_started = true;
        }
        let mut rest: &[u8] = &self.input;
        let Ok(count) = rest.try_get_i16() else { return Ok(None) };
        if count == -1 {
            self.is_ended = true;
            self.input.clear();
            return Ok(None);
        }
        if usize::try_from(count).ok() != Some(self.columns.len()) {
            return Err(self.bad(&format!("row field count is {count}, expected {}", self.columns.len()), None));
        }
        let mut places = Vec::with_capacity(self.columns.len());
        for _ in 0..self.columns.len() {
            let Ok(length) = rest.try_get_i32() else { return Ok(None) };
            let length = match length {
                -1 => None,
                length => Some(usize::try_from(length).map_err(|_| self.bad("invalid field size", None))?),
            };
            let start = self.input.len() - rest.len();
            if let Some(length) = length {
                if length > rest.len() {
                    return Ok(None);
                }
                rest.advance(length);
            }
            places.push(length.map(|length| start..start + length));
        }
        let row = self.input.split_to(self.input.len() - rest.len()).freeze();
        Ok(Some(places.into_iter().map(|place| place.map(|place| row.slice(place))).collect()))
    }
}

/// A value of the text format as it was meant.
fn unescaped(raw: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        let Some((escaped, tail)) = tail.split_first().filter(|_| *byte == b'\\') else {
            value.put_u8(*byte);
            continue;
        };
        rest = tail;
        match escaped {
            b'b' => value.put_u8(0x08),
            b'f' => value.put_u8(0x0c),
            b'n' => value.put_u8(b'\n'),
            b'r' => value.put_u8(b'\r'),
            b't' => value.put_u8(b'\t'),
            b'v' => value.put_u8(0x0b),
            b'0'..=b'7' => {
                let (number, left) = digits(std::slice::from_ref(escaped), rest, 3, 8);
                value.put_u8(number);
                rest = left;
            }
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
                let (number, left) = digits(&[], rest, 2, 16);
                value.put_u8(number);
                rest = left;
            }
            other => value.put_u8(*other),
        }
    }
    value.freeze()
}

/// The byte of `first` and what follows of up to `most` digits in all, and what comes after them.
fn digits<'a>(first: &[u8], rest: &'a [u8], most: usize, radix: u32) -> (u8, &'a [u8]) {
    let mut number = first.iter().fold(0u32, |number, digit| number * radix + u32::from(digit - b'0'));
    let mut rest = rest;
    for _ in first.len()..most {
        let Some((digit, tail)) = rest.split_first().and_then(|(d, t)| Some((char::from(*d).to_digit(radix)?, t)))
        else {
            break;
        };
        number = number * radix + digit;
        rest = tail;
    }
    // Three octal digits may be too large for a byte; PostgreSQL takes the low bits.
    ((number & 0xff) as u8, rest)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::engine::TransferOptions;

    fn reader(options: &[(&str, &str)]) -> CopyReader {
        let options: TransferOptions =
            options.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
        let options = CopyOptions::new(&options, true).expect("are options");
        let schema = Schema::new(vec![Field::new("n", DataType::Int32, true), Field::new("t", DataType::Utf8, true)]);
        CopyReader::new(options, &Arc::new(schema), "things".to_owned(), "UTC".to_owned(), 1_000).expect("a reader")
    }

    type CopiedRow = (Option<i32>, Option<String>);

    /// The rows, with bytes that come one at a time, because no message ends where a row does.
    fn rows(options: &[(&str, &str)], bytes: &[u8]) -> Result<Vec<CopiedRow>, EngineError> {
        let mut reader = reader(options);
        for byte in bytes {
            reader.push(&[*byte]);
            assert!(reader.next_batch()?.is_none(), "a batch is larger");
        }
        let Some(batch) = reader.finish()? else { return Ok(Vec::new()) };
        let value = |column: usize, row: usize| ScalarValue::try_from_array(batch.column(column), row);
        let rows = (0..batch.num_rows()).map(|row| match (value(0, row)?, value(1, row)?) {
            (ScalarValue::Int32(number), ScalarValue::Utf8(text)) => Ok((number, text)),
            other => panic!("{other:?} in {}", pretty_format_batches(std::slice::from_ref(&batch)).expect("is shown")),
        });
        rows.collect::<Result<_, EngineError>>()
    }

    fn row(number: i32, text: &str) -> CopiedRow {
        (Some(number), Some(text.to_owned()))
    }

    #[test]
    fn text_has_nulls_and_escapes() -> Result<(), EngineError> {
        let text = b"1\ta\\tb\\\\\n\\N\t\\N\r\n3\t\\x41\\102\\q\n4\tends here\\\n or here\n5\t\n\\.\nnot read";
        let wanted = [row(1, "a\tb\\"), (None, None), row(3, "ABq"), row(4, "ends here\n or here"), row(5, "")];
        assert_eq!(rows(&[], text)?, wanted);
        let wanted = [(Some(1), None), (None, Some("x|".to_owned()))];
        assert_eq!(rows(&[("delimiter", "|"), ("null", "-")], b"1|-\n-|x\\|")?, wanted);
        Ok(())
    }

    #[test]
    fn csv_has_quotes() -> Result<(), EngineError> {
        let csv = [("format", "csv")];
        let text = b"1,\"a,\"\"b\"\"\"\r\n2,\n3,\"\"\n4,\"two\nlines\"\n5,x\"y\"z";
        let wanted = [row(1, "a,\"b\""), (Some(2), None), row(3, ""), row(4, "two\nlines"), row(5, "xyz")];
        assert_eq!(rows(&csv, text)?, wanted);
        let options = [("format", "csv"), ("escape", "\\"), ("header", "match"), ("force_null", "t")];
        assert_eq!(rows(&options, b"n,t\n1,\"a\\\"b\"\n2,\"\"\n")?, [row(1, "a\"b"), (Some(2), None)]);
        assert!(rows(&options, b"t,n\n").is_err() && rows(&csv, b"1,\"open\n").is_err());
        Ok(())
    }

    #[test]
    fn binary_has_lengths() -> Result<(), EngineError> {
        let mut bytes = BINARY_START.to_vec();
        bytes.extend(b"\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x02hi\0\x02\xff\xff\xff\xff\xff\xff\xff\xff");
        assert!(rows(&[("format", "binary")], &bytes).is_err(), "it has no end");
        bytes.extend(b"\xff\xff");
        assert_eq!(rows(&[("format", "binary")], &bytes)?, [row(7, "hi"), (None, None)]);
        assert!(rows(&[("format", "binary")], b"PGCOPY\n\xff\r\0\0\0\0\0\0\0\0\0\0").is_err());
        Ok(())
    }

    #[test]
    fn an_error_tells_its_line_and_column() {
        for (bytes, line, words) in [
            (&b"1\ta\nx\tb\n"[..], "line 2, column \"n\"", "invalid input syntax"),
            (b"1\n", "line 1", "missing data for column \"t\""),
            (b"1\ta\tb\n", "line 1", "extra data"),
        ] {
            let error = rows(&[], bytes).expect_err("is wrong");
            let detail = error.detail.unwrap_or_default();
            assert!(detail.contains(line) && error.message.contains(words), "{} {detail}", error.message);
        }
    }

    #[test]
    fn a_row_without_end_is_refused() {
        let mut reader = reader(&[]);
        reader.push(&[b'1'; 2_000]);
        assert_eq!(reader.next_batch().expect_err("is too long").state, SqlState::LIMIT_EXCEEDED);
    }
}
