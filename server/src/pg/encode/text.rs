//! Values in text, as PostgreSQL's output functions write them.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;

use super::numeric::Digits;
use super::{Cell, EncodeOptions, Lists, datetime, json, struct_columns, unexpected};
use crate::pg::types::PgType;

/// Above this many digits before the point PostgreSQL writes a `float8` with an exponent.
const FLOAT8_FIXED_DIGITS: i32 = 15;

/// The same for a `float4`.
const FLOAT4_FIXED_DIGITS: i32 = 6;

/// Writes a normalised array's values as text.
pub fn cell(array: &ArrayRef, pg_type: PgType, options: EncodeOptions) -> Result<Cell, ArrowError> {
    macro_rules! display {
        ($kind:ty) => {{
            let values = array.as_primitive::<$kind>().clone();
            Box::new(move |row, out: &mut BytesMut| {
                let _ = write!(out, "{}", values.value(row));
            })
        }};
    }
    macro_rules! bytes {
        ($values:expr) => {{
            let values = $values.clone();
            if pg_type == PgType::Uuid {
                Box::new(move |row, out: &mut BytesMut| put_uuid(values.value(row), out))
            } else {
                Box::new(move |row, out: &mut BytesMut| put_hex(values.value(row), out))
            }
        }};
    }
    macro_rules! string {
        ($values:expr) => {{
            let values = $values.clone();
            Box::new(move |row, out: &mut BytesMut| out.put_slice(values.value(row).as_bytes()))
        }};
    }
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| {}),
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| out.put_u8(if values.value(row) { b't' } else { b'f' }))
        }
        DataType::Int16 => display!(Int16Type),
        DataType::Int32 => display!(Int32Type),
        DataType::Int64 => display!(Int64Type),
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().clone();
            Box::new(move |row, out| {
                let value = values.value(row);
                put_float(value.into(), &format!("{value:e}"), FLOAT4_FIXED_DIGITS, out);
            })
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().clone();
            Box::new(move |row, out| {
                let value = values.value(row);
                put_float(value, &format!("{value:e}"), FLOAT8_FIXED_DIGITS, out);
            })
        }
        DataType::Decimal128(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal128Type>().clone(), *scale);
            let data_type = array.data_type().clone();
            Box::new(move |row, out| {
                let digits = Digits::from_unscaled(&values.value(row).to_string(), scale);
                digits.shown_as(&data_type).put_text(out);
            })
        }
        DataType::Decimal256(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal256Type>().clone(), *scale);
            Box::new(move |row, out| Digits::from_unscaled(&values.value(row).to_string(), scale).put_text(out))
        }
        DataType::Utf8 => string!(array.as_string::<i32>()),
        DataType::LargeUtf8 => string!(array.as_string::<i64>()),
        DataType::Utf8View => string!(array.as_string_view()),
        DataType::Binary => bytes!(array.as_binary::<i32>()),
        DataType::LargeBinary => bytes!(array.as_binary::<i64>()),
        DataType::BinaryView => bytes!(array.as_binary_view()),
        DataType::Date32 => {
            let values = array.as_primitive::<Date32Type>().clone();
            Box::new(move |row, out| datetime::put_date(values.value(row).into(), out))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let values = array.as_primitive::<Time64MicrosecondType>().clone();
            Box::new(move |row, out| datetime::put_time(values.value(row), out))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let values = array.as_primitive::<TimestampMicrosecondType>().clone();
            if zone.is_some() {
                Box::new(move |row, out| datetime::put_timestamptz(values.value(row), options.time_zone, out))
            } else {
                Box::new(move |row, out| datetime::put_timestamp(values.value(row), out))
            }
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().clone();
            Box::new(move |row, out| datetime::put_interval(values.value(row), out))
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => list(array, pg_type, options)?,
        DataType::Struct(_) => record(array, options)?,
        DataType::Map(_, _) => json::cell(array, options)?,
        _ => return Err(unexpected(array)),
    })
}

/// `{1,2,NULL}`, and `1 2` of a vector
fn list(array: &ArrayRef, pg_type: PgType, options: EncodeOptions) -> Result<Cell, ArrowError> {
    let (element, [begin, comma, end]) = match pg_type {
        PgType::Array(element) => (element, ["{", ",", "}"]),
        PgType::Vector(element) => (element, ["", " ", ""]),
        _ => return json::cell(array, options),
    };
    let lists = Lists::of(array)?.ok_or_else(|| unexpected(array))?;
    let item = cell(&lists.values, element.pg_type(), options)?;
    Ok(Box::new(move |row, out| {
        out.put_slice(begin.as_bytes());
        for (position, index) in (lists.range)(row).enumerate() {
            if position > 0 {
                out.put_slice(comma.as_bytes());
            }
            if lists.is_null(index) {
                out.put_slice(b"NULL");
            } else {
                put_quoted(out, &item, index, needs_quotes_in_array, put_escaped_in_array);
            }
        }
        out.put_slice(end.as_bytes());
    }))
}

/// `(1,"a b",)`
fn record(array: &ArrayRef, options: EncodeOptions) -> Result<Cell, ArrowError> {
    let fields = struct_columns(array)?.into_iter().map(|(field, nulls, values)| {
        let pg_type = PgType::of_field(&field);
        let item =
            if pg_type == PgType::Json { json::cell(&values, options)? } else { cell(&values, pg_type, options)? };
        Ok((nulls, item))
    });
    let fields = fields.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Box::new(move |row, out| {
        out.put_u8(b'(');
        for (position, (nulls, item)) in fields.iter().enumerate() {
            if position > 0 {
                out.put_u8(b',');
            }
            if !nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                put_quoted(out, item, row, needs_quotes_in_record, put_escaped_in_record);
            }
        }
        out.put_u8(b')');
    }))
}

/// Appends a nested value, in quotes if it would be read differently without.
fn put_quoted(
    out: &mut BytesMut,
    item: &Cell,
    index: usize,
    needs_quotes: fn(&[u8]) -> bool,
    put_escaped: fn(u8, &mut BytesMut),
) {
    let start = out.len();
    item(index, out);
    if needs_quotes(out.get(start..).unwrap_or_default()) {
        let bare = out.split_off(start);
        out.put_u8(b'"');
        for byte in bare {
            put_escaped(byte, out);
        }
        out.put_u8(b'"');
    }
}

fn needs_quotes_in_array(value: &[u8]) -> bool {
    value.is_empty()
        || value.eq_ignore_ascii_case(b"null")
        || value
            .iter()
            .any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\' | 0x0b))
}

fn needs_quotes_in_record(value: &[u8]) -> bool {
    value.is_empty()
        || value
            .iter()
            .any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'(' | b')' | b',' | b'"' | b'\\' | 0x0b))
}

fn put_escaped_in_array(byte: u8, out: &mut BytesMut) {
    if matches!(byte, b'"' | b'\\') {
        out.put_u8(b'\\');
    }
    out.put_u8(byte);
}

fn put_escaped_in_record(byte: u8, out: &mut BytesMut) {
    if matches!(byte, b'"' | b'\\') {
        out.put_u8(byte);
    }
    out.put_u8(byte);
}

/// `\x` and two digits a byte.
pub fn put_hex(value: &[u8], out: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * value.len());
    out.put_slice(b"\\x");
    for byte in value {
        out.put_u8(DIGITS[usize::from(byte >> 4)]);
        out.put_u8(DIGITS[usize::from(byte & 15)]);
    }
}

fn put_uuid(value: &[u8], out: &mut BytesMut) {
    match uuid::Uuid::from_slice(value) {
        Ok(uuid) => {
            let _ = write!(out, "{uuid}");
        }
        Err(_) => put_hex(value, out),
    }
}

/// The shortest digits that read back as the same number, laid out as PostgreSQL does.
///
/// `scientific` is Rust's `{:e}` of the value in its own width: the shortest digits and an exponent.
fn put_float(value: f64, scientific: &str, fixed_digits: i32, out: &mut BytesMut) {
    if value.is_nan() {
        out.put_slice(b"NaN");
        return;
    }
    if value.is_infinite() {
        out.put_slice(if value < 0.0 { b"-Infinity" } else { b"Infinity" });
        return;
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= fixed_digits {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
        return;
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    out.put_slice(sign.as_bytes());
    let digits = mantissa.replace('.', "");
    let scale = i32::try_from(digits.len()).unwrap_or(0) - 1 - exponent;
    Digits { negative: false, digits, scale }.put_text(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::backend::Format;
    use crate::pg::encode::{BatchEncoder, columns};
    use datafusion::arrow::array::{
        BinaryArray, Float32Array, Float64Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
    };
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn texts(array: ArrayRef) -> Vec<String> {
        let schema = Arc::new(Schema::new(vec![Field::new("c", array.data_type().clone(), true)]));
        let Ok(batch) = RecordBatch::try_new(Arc::clone(&schema), vec![array]) else { panic!("a batch") };
        let options = EncodeOptions::with_time_zone(None);
        let Ok(encoder) = BatchEncoder::new(&batch, &columns(&schema, |_| Format::Text), options) else {
            panic!("an encoder")
        };
        let rows = (0..encoder.row_count()).map(|row| {
            let mut out = BytesMut::new();
            assert!(encoder.put_row(row, &mut out).is_ok());
            String::from_utf8_lossy(&out[11..]).into_owned()
        });
        rows.collect()
    }

    #[test]
    fn floats_are_short_and_exact() {
        let values =
            vec![0.1, 1.0, -0.0, 1e14, 1e15, 1.5e-5, 1e-4, 123_456_789.125, f64::NAN, f64::NEG_INFINITY, 1e300];
        assert_eq!(
            texts(Arc::new(Float64Array::from(values))),
            [
                "0.1",
                "1",
                "-0",
                "100000000000000",
                "1e+15",
                "1.5e-05",
                "0.0001",
                "123456789.125",
                "NaN",
                "-Infinity",
                "1e+300"
            ]
        );
        assert_eq!(texts(Arc::new(Float32Array::from(vec![0.1, 1e6, 100_000.0]))), ["0.1", "1e+06", "100000"]);
    }

    #[test]
    fn bytes_are_hexadecimal() {
        assert_eq!(texts(Arc::new(BinaryArray::from_vec(vec![b"\x00\xff", b""]))), ["\\x00ff", "\\x"]);
    }

    #[test]
    fn arrays_quote_what_would_be_misread() {
        let values = StringArray::from(vec![Some("a b"), None, Some("null"), Some(""), Some("q\"\\"), Some("plain")]);
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        let lists = ListArray::new(item, OffsetBuffer::new(vec![0, 6, 6].into()), Arc::new(values), None);
        assert_eq!(texts(Arc::new(lists)), [r#"{"a b",NULL,"null","","q\"\\",plain}"#, "{}"]);
    }

    #[test]
    fn records_and_what_nests_in_them() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]);
        let structs = StructArray::from(vec![
            (Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(Int32Array::from(vec![None])) as ArrayRef),
            (Arc::new(Field::new("b", DataType::Utf8, true)), Arc::new(StringArray::from(vec!["x\"y"])) as ArrayRef),
            (Arc::new(Field::new("c", lists.data_type().clone(), true)), Arc::new(lists) as ArrayRef),
        ]);
        assert_eq!(texts(Arc::new(structs)), [r#"(,"x""y","{1,NULL}")"#]);
    }
}
