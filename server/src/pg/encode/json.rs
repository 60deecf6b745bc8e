//! Maps and nested lists, which PostgreSQL has no arrays for, as JSON.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::arrow::error::ArrowError;

use super::{Cell, EncodeOptions, Lists, normalise, struct_columns, text, unexpected};
use crate::pg::types::PgType;

/// Writes a normalised array's values as JSON. A top-level string is taken as JSON already.
pub fn cell(array: &ArrayRef, options: EncodeOptions) -> Result<Cell, ArrowError> {
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => text::cell(array, PgType::Text, options),
        _ => value(array, options),
    }
}

fn value(array: &ArrayRef, options: EncodeOptions) -> Result<Cell, ArrowError> {
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Ok(Box::new(move |row, out| out.put_slice(if values.value(row) { b"true" } else { b"false" })))
        }
        DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => text::cell(array, PgType::of(array.data_type()), options),
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().clone();
            float(array, options, move |row| values.value(row).is_finite())
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().clone();
            float(array, options, move |row| values.value(row).is_finite())
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => list(array, options),
        DataType::Struct(_) => object(array, options),
        DataType::Map(_, _) => map(array, options),
        data_type => {
            let written = text::cell(array, PgType::of(data_type), options)?;
            Ok(Box::new(move |row, out| put_as_string(&written, row, out)))
        }
    }
}

/// JSON has no infinities: they are strings.
fn float(
    array: &ArrayRef,
    options: EncodeOptions,
    is_finite: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> Result<Cell, ArrowError> {
    let written = text::cell(array, PgType::of(array.data_type()), options)?;
    Ok(Box::new(move |row, out| if is_finite(row) { written(row, out) } else { put_as_string(&written, row, out) }))
}

fn put_as_string(written: &Cell, row: usize, out: &mut BytesMut) {
    let start = out.len();
    written(row, out);
    let bare = out.split_off(start);
    put_string(&String::from_utf8_lossy(&bare), out);
}

fn put_string(text: &str, out: &mut BytesMut) {
    // Serialising a string into memory cannot fail.
    let _ = serde_json::to_writer(out.writer(), text);
}

fn list(array: &ArrayRef, options: EncodeOptions) -> Result<Cell, ArrowError> {
    let lists = Lists::of(array)?.ok_or_else(|| unexpected(array))?;
    let item = value(&lists.values, options)?;
    Ok(Box::new(move |row, out| {
        out.put_u8(b'[');
        for (position, index) in (lists.range)(row).enumerate() {
            if position > 0 {
                out.put_u8(b',');
            }
            if lists.is_null(index) {
                out.put_slice(b"null");
            } else {
                item(index, out);
            }
        }
        out.put_u8(b']');
    }))
}

fn object(array: &ArrayRef, options: EncodeOptions) -> Result<Cell, ArrowError> {
    let fields = struct_columns(array)?.into_iter().map(|(field, nulls, values)| {
        let mut name = BytesMut::new();
        put_string(field.name(), &mut name);
        Ok((name.freeze(), nulls, value(&values, options)?))
    });
    let fields = fields.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Box::new(move |row, out| {
        out.put_u8(b'{');
        for (position, (name, nulls, item)) in fields.iter().enumerate() {
            if position > 0 {
                out.put_u8(b',');
            }
            out.put_slice(name);
            out.put_u8(b':');
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                out.put_slice(b"null");
            } else {
                item(row, out);
            }
        }
        out.put_u8(b'}');
    }))
}

/// Keys are written as text whatever their type: JSON's keys are strings.
fn map(array: &ArrayRef, options: EncodeOptions) -> Result<Cell, ArrowError> {
    let entries = Lists::of(array)?.ok_or_else(|| unexpected(array))?;
    let pairs = entries.values.as_struct();
    let (keys, values) = (normalise(pairs.column(0))?, normalise(pairs.column(1))?);
    let key = text::cell(&keys, PgType::of(keys.data_type()), options)?;
    let nulls = values.logical_nulls();
    let item = value(&values, options)?;
    Ok(Box::new(move |row, out| {
        out.put_u8(b'{');
        for (position, index) in (entries.range)(row).enumerate() {
            if position > 0 {
                out.put_u8(b',');
            }
            put_as_string(&key, index, out);
            out.put_u8(b':');
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(index)) {
                out.put_slice(b"null");
            } else {
                item(index, out);
            }
        }
        out.put_u8(b'}');
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int32Builder, ListBuilder, MapBuilder, StringBuilder};
    use std::sync::Arc;

    fn shown(array: ArrayRef) -> Result<String, ArrowError> {
        let cell = cell(&array, EncodeOptions::with_time_zone(None))?;
        let mut out = BytesMut::new();
        cell(0, &mut out);
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn a_map_is_an_object() -> Result<(), ArrowError> {
        let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        builder.keys().append_value("a\"b");
        builder.values().append_value(1);
        builder.keys().append_value("c");
        builder.values().append_null();
        builder.append(true)?;
        assert_eq!(shown(Arc::new(builder.finish()))?, r#"{"a\"b":1,"c":null}"#);
        Ok(())
    }

    #[test]
    fn lists_nest() -> Result<(), ArrowError> {
        let mut builder = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
        builder.values().values().append_value("x");
        builder.values().append(true);
        builder.values().append(false);
        builder.append(true);
        assert_eq!(shown(Arc::new(builder.finish()))?, r#"[["x"],null]"#);
        Ok(())
    }
}
