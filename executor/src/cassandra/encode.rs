//! Arrow values as cells of the CQL binary protocol.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64NanosecondType, TimestampMillisecondType,
};
use num_bigint::BigInt;
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;

use super::decode::vector_item_bytes;
use super::error::CassandraError;
use super::types::{arrow_type, cql_name};

/// One row's cells in one buffer.
#[derive(Debug, Clone, Default)]
pub struct EncodedRow {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
}

/// A cell of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// The end of its bytes, which begin where those of the cell before end.
    Value { end: usize },
    /// Nothing is written: an existing value stays, and no tombstone is made.
    Unset,
    /// A tombstone is written: an existing value is gone.
    Null,
}

impl EncodedRow {
    /// A row of cells that are already in the protocol's form.
    pub fn of_raw(values: &[Vec<u8>]) -> Self {
        let mut row = Self::default();
        values.iter().for_each(|value| row.push_raw(value));
        row
    }

    /// Adds a cell that is already in the protocol's form.
    pub fn push_raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.cells.push(Cell::Value { end: self.bytes.len() });
    }

    /// Adds a cell that deletes.
    pub fn push_null(&mut self) {
        self.cells.push(Cell::Null);
    }

    /// Adds a cell that leaves its column as it is.
    pub fn push_unset(&mut self) {
        self.cells.push(Cell::Unset);
    }

    /// The bytes of a cell; `None` if it has no value.
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        let Cell::Value { end } = self.cells.get(index)? else { return None };
        let before = self.cells.get(..index)?.iter().rev().find_map(|cell| match cell {
            Cell::Value { end } => Some(*end),
            Cell::Unset | Cell::Null => None,
        });
        self.bytes.get(before.unwrap_or(0)..*end)
    }

    /// Bytes of all values.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// Cells, those without a value among them.
    pub fn cell_count(&self) -> usize {
        self.cells.len()
    }

    /// Adds the value of one row of a column; null is left unset.
    pub fn push(&mut self, column: &dyn Array, row: usize, cql: &ColumnType<'_>) -> Result<(), String> {
        if column.is_null(row) {
            self.cells.push(Cell::Unset);
            return Ok(());
        }
        encode(column, row, cql, &mut self.bytes)?;
        self.cells.push(Cell::Value { end: self.bytes.len() });
        Ok(())
    }
}

impl SerializeRow for EncodedRow {
    fn serialize(
        &self,
        _context: &RowSerializationContext<'_>,
        writer: &mut RowWriter,
    ) -> Result<(), SerializationError> {
        let mut start = 0;
        for cell in &self.cells {
            let writer = writer.make_cell_writer();
            match cell {
                Cell::Unset => {
                    writer.set_unset();
                }
                Cell::Null => {
                    writer.set_null();
                }
                Cell::Value { end } => {
                    let value = self.bytes.get(start..*end).unwrap_or_default();
                    writer.set_value(value).map_err(SerializationError::new)?;
                    start = *end;
                }
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

/// Brings a column to the type in which values of this CQL type are read, so that it can be encoded.
pub fn prepare_column(column: &ArrayRef, cql: &ColumnType<'_>) -> Result<ArrayRef, CassandraError> {
    let wanted = arrow_type(cql)?;
    if *column.data_type() == wanted {
        return Ok(column.clone());
    }
    cast(column, &wanted).map_err(|error| CassandraError::Value { column: cql_name(cql), reason: error.to_string() })
}

/// The bytes of one value, for predicates.
pub fn encode_value(column: &dyn Array, row: usize, cql: &ColumnType<'_>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    encode(column, row, cql, &mut bytes)?;
    Ok(bytes)
}

fn encode(column: &dyn Array, row: usize, cql: &ColumnType<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    match cql {
        ColumnType::Native(native) => encode_native(column, row, native, out),
        ColumnType::Collection { typ: CollectionType::List(item) | CollectionType::Set(item), .. } => {
            let list = column.as_list_opt::<i32>().ok_or_else(|| mismatch(column, cql))?;
            let values = list.value(row);
            put_count(values.len(), out)?;
            (0..values.len()).try_for_each(|i| put_part(values.as_ref(), i, item, out))
        }
        ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => {
            let map = column.as_map_opt().ok_or_else(|| mismatch(column, cql))?;
            let entries = map.value(row);
            put_count(entries.len(), out)?;
            for i in 0..entries.len() {
                put_part(entries.column(0).as_ref(), i, key, out)?;
                put_part(entries.column(1).as_ref(), i, value, out)?;
            }
            Ok(())
        }
        ColumnType::Tuple(types) => {
            let fields = column.as_struct_opt().ok_or_else(|| mismatch(column, cql))?;
            types.iter().enumerate().try_for_each(|(i, typ)| put_part(fields.column(i).as_ref(), row, typ, out))
        }
        ColumnType::UserDefinedType { definition, .. } => {
            let fields = column.as_struct_opt().ok_or_else(|| mismatch(column, cql))?;
            let types = definition.field_types.iter().map(|(_, typ)| typ);
            types.enumerate().try_for_each(|(i, typ)| put_part(fields.column(i).as_ref(), row, typ, out))
        }
        ColumnType::Vector { typ, dimensions } => {
            let list = column.as_fixed_size_list_opt().ok_or_else(|| mismatch(column, cql))?;
            let values = list.value(row);
            if values.len() != usize::from(*dimensions) || values.null_count() > 0 {
                return Err(format!("a vector takes {dimensions} values that are not null"));
            }
            let variable = vector_item_bytes(typ).is_none();
            for i in 0..values.len() {
                if variable {
                    let bytes = encode_value(values.as_ref(), i, typ)?;
                    put_unsigned_vint(bytes.len() as u64, out);
                    out.extend_from_slice(&bytes);
                } else {
                    encode(values.as_ref(), i, typ, out)?;
                }
            }
            Ok(())
        }
        other => Err(format!("values of type {} cannot be written", cql_name(other))),
    }
}

fn mismatch(column: &dyn Array, cql: &ColumnType<'_>) -> String {
    format!("{} cannot be written as {}", column.data_type(), cql_name(cql))
}

fn put_count(count: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let count = i32::try_from(count).map_err(|_| "a collection has too many elements".to_owned())?;
    out.extend_from_slice(&count.to_be_bytes());
    Ok(())
}

/// A value with its length before it; null has the length -1.
fn put_part(column: &dyn Array, row: usize, cql: &ColumnType<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    if column.is_null(row) {
        out.extend_from_slice(&(-1i32).to_be_bytes());
        return Ok(());
    }
    let place = out.len();
    out.extend_from_slice(&[0; 4]);
    encode(column, row, cql, out)?;
    let length = i32::try_from(out.len() - place - 4).map_err(|_| "a value is too long".to_owned())?;
    out[place..place + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn put_unsigned_vint(value: u64, out: &mut Vec<u8>) {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    let extra = (bits.saturating_sub(1) / 7).min(8);
    if extra == 8 {
        out.push(0xff);
        out.extend_from_slice(&value.to_be_bytes());
        return;
    }
    let bytes = value.to_be_bytes();
    let mut tail = bytes[7 - extra..].to_vec();
    let mark = if extra == 0 { 0u8 } else { 0xffu8 << (8 - extra) };
    tail[0] |= mark;
    out.extend_from_slice(&tail);
}

fn put_signed_vint(value: i64, out: &mut Vec<u8>) {
    put_unsigned_vint(((value << 1) ^ (value >> 63)) as u64, out);
}

fn encode_native(column: &dyn Array, row: usize, native: &NativeType, out: &mut Vec<u8>) -> Result<(), String> {
    let wrong = || format!("{} cannot be written as {}", column.data_type(), format!("{native:?}").to_lowercase());
    macro_rules! number {
        ($type:ty) => {{
            let array = column.as_primitive_opt::<$type>().ok_or_else(wrong)?;
            out.extend_from_slice(&array.value(row).to_be_bytes());
        }};
    }
    let text = || column.as_string_opt::<i32>().map(|array| array.value(row)).ok_or_else(wrong);
    match native {
        NativeType::Text => out.extend_from_slice(text()?.as_bytes()),
        NativeType::Ascii => {
            let text = text()?;
            if !text.is_ascii() {
                return Err(format!("\"{text}\" is not ASCII"));
            }
            out.extend_from_slice(text.as_bytes());
        }
        NativeType::Boolean => out.push(u8::from(column.as_boolean_opt().ok_or_else(wrong)?.value(row))),
        NativeType::Blob => out.extend_from_slice(column.as_binary_opt::<i32>().ok_or_else(wrong)?.value(row)),
        NativeType::TinyInt => number!(Int8Type),
        NativeType::SmallInt => number!(Int16Type),
        NativeType::Int => number!(Int32Type),
        NativeType::BigInt => number!(Int64Type),
        NativeType::Float => number!(Float32Type),
        NativeType::Double => number!(Float64Type),
        NativeType::Timestamp => number!(TimestampMillisecondType),
        NativeType::Time => number!(Time64NanosecondType),
        NativeType::Date => {
            let days = column.as_primitive_opt::<Date32Type>().ok_or_else(wrong)?.value(row);
            out.extend_from_slice(&(days as u32 ^ 0x8000_0000).to_be_bytes());
        }
        NativeType::Duration => {
            let value = column.as_primitive_opt::<IntervalMonthDayNanoType>().ok_or_else(wrong)?.value(row);
            put_signed_vint(i64::from(value.months), out);
            put_signed_vint(i64::from(value.days), out);
            put_signed_vint(value.nanoseconds, out);
        }
        NativeType::Uuid | NativeType::Timeuuid => {
            let text = text()?;
            let uuid = uuid::Uuid::parse_str(text).map_err(|_| format!("\"{text}\" is not a UUID"))?;
            out.extend_from_slice(uuid.as_bytes());
        }
        NativeType::Inet => {
            let text = text()?;
            match text.parse::<std::net::IpAddr>().map_err(|_| format!("\"{text}\" is not an IP address"))? {
                std::net::IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                std::net::IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
            }
        }
        NativeType::Varint => {
            let text = text()?;
            let number: BigInt = text.trim().parse().map_err(|_| format!("\"{text}\" is not a whole number"))?;
            out.extend_from_slice(&number.to_signed_bytes_be());
        }
        NativeType::Decimal => {
            let (unscaled, scale) = parse_decimal(text()?)?;
            out.extend_from_slice(&scale.to_be_bytes());
            out.extend_from_slice(&unscaled.to_signed_bytes_be());
        }
        NativeType::Counter => return Err("counters can only be counted up and down".to_owned()),
        other => return Err(format!("values of type {other:?} cannot be written")),
    }
    Ok(())
}

/// Digits with an optional fraction and exponent as unscaled value and scale.
fn parse_decimal(text: &str) -> Result<(BigInt, i32), String> {
    let wrong = || format!("\"{text}\" is not a number");
    let trimmed = text.trim();
    let (mantissa, exponent) = match trimmed.split_once(['e', 'E']) {
        // One more than the scale has: the least scale is the exponent 2147483648.
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().map_err(|_| wrong())?),
        None => (trimmed, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if fraction.starts_with(['+', '-']) || (whole.is_empty() && fraction.is_empty()) {
        return Err(wrong());
    }
    let unscaled: BigInt = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let scale = i64::try_from(fraction.len()).ok().and_then(|digits| digits.checked_sub(exponent));
    let scale = scale.and_then(|scale| i32::try_from(scale).ok()).ok_or_else(wrong)?;
    Ok((unscaled, scale))
}

/// Whether a column of this Arrow type is written without a change of its values.
pub fn is_exact(arrow: &DataType, cql: &ColumnType<'_>) -> bool {
    arrow_type(cql).is_ok_and(|wanted| wanted == *arrow)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{FixedSizeListArray, Int32Array, StringArray};
    use datafusion::arrow::datatypes::Field;

    use super::super::decode::ColumnDecoder;
    use super::*;

    fn round_trip(cql: ColumnType<'_>, texts: &[&str]) -> Vec<String> {
        let array: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let prepared = prepare_column(&array, &cql).expect("casts");
        let mut decoder =
            ColumnDecoder::new("c", &cql, &arrow_type(&cql).expect("is known"), texts.len()).expect("is known");
        for row in 0..texts.len() {
            let bytes = encode_value(prepared.as_ref(), row, &cql).expect("encodes");
            decoder.append(Some(&bytes)).expect("decodes");
        }
        let back = cast(&decoder.finish().expect("finishes"), &DataType::Utf8).expect("casts back");
        back.as_string::<i32>().iter().map(|text| text.unwrap_or("null").to_owned()).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let native = |native| ColumnType::Native(native);
        for (cql, texts) in [
            (native(NativeType::Text), &["", "Grüße"][..]),
            (native(NativeType::BigInt), &["-9223372036854775808", "9223372036854775807"]),
            (native(NativeType::Varint), &["0", "-1", "123456789012345678901234567890123456789012345"]),
            (
                native(NativeType::Decimal),
                &[
                    "0",
                    "0.00",
                    "-0.01",
                    "12345678901234567890.123456789",
                    "100",
                    "1E+2",
                    "-7E+2147483648",
                    "7E-2147483647",
                ],
            ),
            (
                native(NativeType::Uuid),
                &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
            ),
            (native(NativeType::Inet), &["127.0.0.1", "::1"]),
            (native(NativeType::Date), &["1970-01-01", "2026-11-23"]),
            (native(NativeType::Boolean), &["true", "false"]),
        ] {
            assert_eq!(round_trip(cql, texts), texts);
        }
    }

    #[test]
    fn vectors_nest_whatever_the_length_of_their_elements() {
        let pair = |typ| ColumnType::Vector { typ: Box::new(typ), dimensions: 2 };
        for (inner, texts) in [
            (ColumnType::Native(NativeType::Text), StringArray::from(vec!["", "a", "bc", "def"])),
            (ColumnType::Native(NativeType::Varint), StringArray::from(vec!["0", "-1", "128", "-129"])),
        ] {
            let cql = pair(pair(inner));
            let mut column: ArrayRef = Arc::new(texts);
            for length in [2, 1] {
                let item = Arc::new(Field::new("item", column.data_type().clone(), true));
                column = Arc::new(FixedSizeListArray::try_new(item, 2, column, None).expect("is even"));
                assert_eq!(column.len(), length);
            }
            let bytes = encode_value(column.as_ref(), 0, &cql).expect("encodes");
            let mut decoder = ColumnDecoder::new("c", &cql, column.data_type(), 1).expect("is known");
            decoder.append(Some(&bytes)).expect("decodes");
            assert_eq!(&decoder.finish().expect("finishes"), &column);
        }
    }

    #[test]
    fn variable_length_numbers_are_those_of_the_protocol() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX >> 8, u64::MAX] {
            let mut bytes = Vec::new();
            put_unsigned_vint(value, &mut bytes);
            // A vector of text has the length of each element as such a number before it.
            assert_eq!(bytes.len(), bytes[0].leading_ones() as usize + 1, "{value}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error() {
        let array = StringArray::from(vec!["not a uuid"]);
        assert!(encode_value(&array, 0, &ColumnType::Native(NativeType::Uuid)).is_err());
        let array = Int32Array::from(vec![1]);
        assert!(encode_value(&array, 0, &ColumnType::Native(NativeType::Text)).is_err());
    }
}
