//! Cells of the CQL binary protocol into Arrow arrays, by column, without a value in between.
//!
//! Formats are those of the native protocol v4/v5, section 6; vectors as Cassandra 5 writes them.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder, FixedSizeListArray,
    Float32Builder, Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder,
    ListArray, MapArray, NullBufferBuilder, StringBuilder, StructArray, Time64NanosecondBuilder,
    TimestampMillisecondBuilder,
};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DECIMAL256_MAX_PRECISION, DataType, Field, Fields, IntervalMonthDayNano, i256};
use num_bigint::BigInt;
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};

use super::error::CassandraError;
use super::types::{arrow_type, cql_name};

/// Bytes that are not what their type says.
type Malformed = String;

/// Grows one column.
pub struct ColumnDecoder {
    name: String,
    cql_type: String,
    cells: Cells,
}

enum Cells {
    Utf8(StringBuilder),
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Binary(BinaryBuilder),
    Timestamp(TimestampMillisecondBuilder),
    Date(Date32Builder),
    Time(Time64NanosecondBuilder),
    Duration(IntervalMonthDayNanoBuilder),
    Uuid(StringBuilder),
    Inet(StringBuilder),
    Varint(StringBuilder),
    Decimal(StringBuilder),
    /// A decimal (`has_scale`) or varint whose precision is declared.
    Decimal128 {
        builder: Decimal128Builder,
        has_scale: bool,
        precision: u8,
        scale: i8,
    },
    Decimal256 {
        builder: Decimal256Builder,
        has_scale: bool,
        precision: u8,
        scale: i8,
    },
    List {
        item: Box<Cells>,
        field: Arc<Field>,
        offsets: Vec<i32>,
        nulls: NullBufferBuilder,
    },
    Map {
        key: Box<Cells>,
        value: Box<Cells>,
        entries: Arc<Field>,
        offsets: Vec<i32>,
        nulls: NullBufferBuilder,
    },
    Struct {
        fields: Fields,
        children: Vec<Cells>,
        nulls: NullBufferBuilder,
    },
    Vector {
        item: Box<Cells>,
        item_bytes: Option<usize>,
        field: Arc<Field>,
        size: usize,
        nulls: NullBufferBuilder,
    },
}

impl ColumnDecoder {
    /// An empty column, with room for `capacity` rows, which reads `cql` as `arrow`.
    pub fn new(name: &str, cql: &ColumnType<'_>, arrow: &DataType, capacity: usize) -> Result<Self, CassandraError> {
        let is_number = matches!(cql, ColumnType::Native(NativeType::Decimal | NativeType::Varint));
        let has_scale = matches!(cql, ColumnType::Native(NativeType::Decimal));
        let cells = match arrow {
            DataType::Decimal128(precision, scale) if is_number => {
                let builder = Decimal128Builder::with_capacity(capacity).with_data_type(arrow.clone());
                Cells::Decimal128 { builder, has_scale, precision: *precision, scale: *scale }
            }
            DataType::Decimal256(precision, scale) if is_number => {
                let builder = Decimal256Builder::with_capacity(capacity).with_data_type(arrow.clone());
                Cells::Decimal256 { builder, has_scale, precision: *precision, scale: *scale }
            }
            _ => Cells::new(cql, capacity)?,
        };
        Ok(Self { name: name.to_owned(), cql_type: cql_name(cql), cells })
    }

    /// Adds a cell; `None` is null.
    pub fn append(&mut self, cell: Option<&[u8]>) -> Result<(), CassandraError> {
        self.cells.append(cell).map_err(|reason| CassandraError::Decode {
            column: self.name.clone(),
            cql_type: self.cql_type.clone(),
            reason,
        })
    }

    /// The column so far; the decoder starts anew.
    pub fn finish(&mut self) -> Result<ArrayRef, CassandraError> {
        self.cells.finish().map_err(|reason| CassandraError::Decode {
            column: self.name.clone(),
            cql_type: self.cql_type.clone(),
            reason,
        })
    }
}

/// Reads length-prefixed parts of a cell.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.0.len() {
            return Err(format!("{count} bytes are wanted, {} are left", self.0.len()));
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(fixed(self.take(4)?)?))
    }

    /// A part with its length before it; a negative length is null.
    fn part(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let length = self.int()?;
        usize::try_from(length).ok().map(|length| self.take(length)).transpose()
    }

    /// A count of parts, each of which takes at least four bytes.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.int()?;
        let most = self.0.len() / 4;
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or_else(|| format!("{count} elements do not fit"))
    }

    /// An unsigned variable-length integer: leading ones of the first byte count the bytes after it.
    fn unsigned_vint(&mut self) -> Result<u64, Malformed> {
        let first = self.take(1)?[0];
        let more = first.leading_ones() as usize;
        let mut value = if more >= 8 { 0 } else { u64::from(first) & (0xff >> more) };
        for byte in self.take(more)? {
            value = value << 8 | u64::from(*byte);
        }
        Ok(value)
    }

    fn signed_vint(&mut self) -> Result<i64, Malformed> {
        let value = self.unsigned_vint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| format!("{} bytes instead of {N}", bytes.len()))
}

impl Cells {
    fn new(cql: &ColumnType<'_>, capacity: usize) -> Result<Self, CassandraError> {
        let nulls = || NullBufferBuilder::new(capacity);
        let data_type = arrow_type(cql)?;
        Ok(match (cql, &data_type) {
            (ColumnType::Native(native), _) => Self::native(native, capacity)?,
            (
                ColumnType::Collection { typ: CollectionType::List(item) | CollectionType::Set(item), .. },
                DataType::List(field),
            ) => Self::List {
                item: Box::new(Self::new(item, capacity)?),
                field: field.clone(),
                offsets: vec![0],
                nulls: nulls(),
            },
            (ColumnType::Collection { typ: CollectionType::Map(key, value), .. }, DataType::Map(entries, _)) => {
                Self::Map {
                    key: Box::new(Self::new(key, capacity)?),
                    value: Box::new(Self::new(value, capacity)?),
                    entries: entries.clone(),
                    offsets: vec![0],
                    nulls: nulls(),
                }
            }
            (ColumnType::Vector { typ, dimensions }, DataType::FixedSizeList(field, _)) => Self::Vector {
                item: Box::new(Self::new(typ, capacity)?),
                item_bytes: vector_item_bytes(typ),
                field: field.clone(),
                size: usize::from(*dimensions),
                nulls: nulls(),
            },
            (ColumnType::UserDefinedType { definition, .. }, DataType::Struct(fields)) => {
                let children = definition.field_types.iter().map(|(_, typ)| Self::new(typ, capacity));
                Self::Struct { fields: fields.clone(), children: children.collect::<Result<_, _>>()?, nulls: nulls() }
            }
            (ColumnType::Tuple(types), DataType::Struct(fields)) => {
                let children = types.iter().map(|typ| Self::new(typ, capacity));
                Self::Struct { fields: fields.clone(), children: children.collect::<Result<_, _>>()?, nulls: nulls() }
            }
            _ => return Err(CassandraError::NotSupported(format!("the CQL type {}", cql_name(cql)))),
        })
    }

    fn native(native: &NativeType, capacity: usize) -> Result<Self, CassandraError> {
        let text = || StringBuilder::with_capacity(capacity, capacity * 16);
        Ok(match native {
            NativeType::Ascii | NativeType::Text => Self::Utf8(text()),
            NativeType::Uuid | NativeType::Timeuuid => Self::Uuid(text()),
            NativeType::Inet => Self::Inet(text()),
            NativeType::Varint => Self::Varint(text()),
            NativeType::Decimal => Self::Decimal(text()),
            NativeType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(capacity)),
            NativeType::Blob => Self::Binary(BinaryBuilder::with_capacity(capacity, capacity * 16)),
            NativeType::TinyInt => Self::Int8(Int8Builder::with_capacity(capacity)),
            NativeType::SmallInt => Self::Int16(Int16Builder::with_capacity(capacity)),
            NativeType::Int => Self::Int32(Int32Builder::with_capacity(capacity)),
            NativeType::BigInt | NativeType::Counter => Self::Int64(Int64Builder::with_capacity(capacity)),
            NativeType::Float => Self::Float32(Float32Builder::with_capacity(capacity)),
            NativeType::Double => Self::Float64(Float64Builder::with_capacity(capacity)),
            NativeType::Timestamp => {
                Self::Timestamp(TimestampMillisecondBuilder::with_capacity(capacity).with_timezone("UTC"))
            }
            NativeType::Date => Self::Date(Date32Builder::with_capacity(capacity)),
            NativeType::Time => Self::Time(Time64NanosecondBuilder::with_capacity(capacity)),
            NativeType::Duration => Self::Duration(IntervalMonthDayNanoBuilder::with_capacity(capacity)),
            other => return Err(CassandraError::NotSupported(format!("the CQL type {other:?}"))),
        })
    }

    fn append(&mut self, cell: Option<&[u8]>) -> Result<(), Malformed> {
        // Cassandra allows an empty value in place of any fixed-size one; only for text and blobs is it not null.
        let cell = match self {
            Self::Utf8(_) | Self::Binary(_) => cell,
            _ => cell.filter(|bytes| !bytes.is_empty()),
        };
        macro_rules! number {
            ($builder:expr, $type:ty) => {
                match cell {
                    Some(bytes) => $builder.append_value(<$type>::from_be_bytes(fixed(bytes)?)),
                    None => $builder.append_null(),
                }
            };
        }
        match self {
            Self::Utf8(builder) => match cell {
                Some(bytes) => builder.append_value(std::str::from_utf8(bytes).map_err(|error| error.to_string())?),
                None => builder.append_null(),
            },
            Self::Binary(builder) => builder.append_option(cell),
            Self::Boolean(builder) => builder.append_option(match cell {
                Some(bytes) => Some(fixed::<1>(bytes)?[0] != 0),
                None => None,
            }),
            Self::Int8(builder) => number!(builder, i8),
            Self::Int16(builder) => number!(builder, i16),
            Self::Int32(builder) => number!(builder, i32),
            Self::Int64(builder) => number!(builder, i64),
            Self::Float32(builder) => number!(builder, f32),
            Self::Float64(builder) => number!(builder, f64),
            Self::Timestamp(builder) => number!(builder, i64),
            Self::Time(builder) => number!(builder, i64),
            Self::Date(builder) => match cell {
                // Days since 1970-01-01, which is 2^31.
                Some(bytes) => builder.append_value((u32::from_be_bytes(fixed(bytes)?) ^ 0x8000_0000) as i32),
                None => builder.append_null(),
            },
            Self::Duration(builder) => match cell {
                Some(bytes) => {
                    let mut parts = Parts(bytes);
                    let narrow = |value: i64| i32::try_from(value).map_err(|_| format!("{value} is out of range"));
                    let (months, days) = (narrow(parts.signed_vint()?)?, narrow(parts.signed_vint()?)?);
                    builder.append_value(IntervalMonthDayNano::new(months, days, parts.signed_vint()?));
                }
                None => builder.append_null(),
            },
            Self::Uuid(builder) => match cell {
                Some(bytes) => {
                    let uuid = uuid::Uuid::from_bytes(fixed(bytes)?);
                    builder.append_value(uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
                }
                None => builder.append_null(),
            },
            Self::Inet(builder) => match cell {
                Some(bytes) if bytes.len() == 4 => {
                    builder.append_value(std::net::Ipv4Addr::from(fixed::<4>(bytes)?).to_string())
                }
                Some(bytes) => builder.append_value(std::net::Ipv6Addr::from(fixed::<16>(bytes)?).to_string()),
                None => builder.append_null(),
            },
            Self::Varint(builder) => {
                builder.append_option(cell.map(|bytes| BigInt::from_signed_bytes_be(bytes).to_string()))
            }
            Self::Decimal(builder) => match cell {
                Some(bytes) => {
                    let mut parts = Parts(bytes);
                    let scale = parts.int()?;
                    builder.append_value(decimal_text(&BigInt::from_signed_bytes_be(parts.0), scale));
                }
                None => builder.append_null(),
            },
            Self::Decimal128 { builder, has_scale, precision, scale } => match cell {
                Some(bytes) => {
                    let value = rescaled(bytes, *has_scale, *precision, *scale)?;
                    builder.append_value(i128::try_from(value).map_err(|error| error.to_string())?);
                }
                None => builder.append_null(),
            },
            Self::Decimal256 { builder, has_scale, precision, scale } => match cell {
                Some(bytes) => {
                    let value = rescaled(bytes, *has_scale, *precision, *scale)?.to_signed_bytes_le();
                    let mut wide = [if value.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 }; 32];
                    wide.get_mut(..value.len()).ok_or("more than 256 bits")?.copy_from_slice(&value);
                    builder.append_value(i256::from_le_bytes(wide));
                }
                None => builder.append_null(),
            },
            Self::List { item, offsets, nulls, .. } => {
                let mut length = *offsets.last().unwrap_or(&0);
                if let Some(bytes) = cell {
                    let mut parts = Parts(bytes);
                    for _ in 0..parts.count()? {
                        item.append(parts.part()?)?;
                        length = length.checked_add(1).ok_or("too many elements")?;
                    }
                }
                offsets.push(length);
                nulls.append(cell.is_some());
            }
            Self::Map { key, value, offsets, nulls, .. } => {
                let mut length = *offsets.last().unwrap_or(&0);
                if let Some(bytes) = cell {
                    let mut parts = Parts(bytes);
                    for _ in 0..parts.count()? {
                        key.append(parts.part()?)?;
                        value.append(parts.part()?)?;
                        length = length.checked_add(1).ok_or("too many entries")?;
                    }
                }
                offsets.push(length);
                nulls.append(cell.is_some());
            }
            Self::Struct { children, nulls, .. } => {
                let mut parts = Parts(cell.unwrap_or_default());
                for child in children {
                    // Fields that were added to the type later are missing at the end.
                    let part = if parts.0.is_empty() { None } else { parts.part()? };
                    child.append(part)?;
                }
                nulls.append(cell.is_some());
            }
            Self::Vector { item, item_bytes, size, nulls, .. } => {
                let mut parts = Parts(cell.unwrap_or_default());
                for _ in 0..*size {
                    let part = match (cell, &item_bytes) {
                        (None, _) => None,
                        (Some(_), Some(bytes)) => Some(parts.take(*bytes)?),
                        (Some(_), None) => {
                            let length = usize::try_from(parts.unsigned_vint()?).map_err(|error| error.to_string())?;
                            Some(parts.take(length)?)
                        }
                    };
                    item.append(part)?;
                }
                nulls.append(cell.is_some());
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Malformed> {
        let words = |error: datafusion::arrow::error::ArrowError| error.to_string();
        Ok(match self {
            Self::Utf8(b) | Self::Uuid(b) | Self::Inet(b) | Self::Varint(b) | Self::Decimal(b) => Arc::new(b.finish()),
            Self::Decimal128 { builder, .. } => Arc::new(builder.finish()),
            Self::Decimal256 { builder, .. } => Arc::new(builder.finish()),
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Int8(b) => Arc::new(b.finish()),
            Self::Int16(b) => Arc::new(b.finish()),
            Self::Int32(b) => Arc::new(b.finish()),
            Self::Int64(b) => Arc::new(b.finish()),
            Self::Float32(b) => Arc::new(b.finish()),
            Self::Float64(b) => Arc::new(b.finish()),
            Self::Binary(b) => Arc::new(b.finish()),
            Self::Timestamp(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Duration(b) => Arc::new(b.finish()),
            Self::List { item, field, offsets, nulls } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])));
                Arc::new(ListArray::try_new(field.clone(), offsets, item.finish()?, nulls.finish()).map_err(words)?)
            }
            Self::Map { key, value, entries, offsets, nulls } => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(offsets, vec![0])));
                let pairs =
                    StructArray::try_new(fields.clone(), vec![key.finish()?, value.finish()?], None).map_err(words)?;
                Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, nulls.finish(), false).map_err(words)?)
            }
            Self::Struct { fields, children, nulls } => {
                let arrays = children.iter_mut().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new(fields.clone(), arrays, nulls.finish()).map_err(words)?)
            }
            Self::Vector { item, field, size, nulls, .. } => {
                let array = FixedSizeListArray::try_new(field.clone(), *size as i32, item.finish()?, nulls.finish());
                Arc::new(array.map_err(words)?)
            }
        })
    }
}

/// Bytes of an element in a vector; `None` if each has its length before it.
pub(super) fn vector_item_bytes(item: &ColumnType<'_>) -> Option<usize> {
    match item {
        ColumnType::Native(native) => match native {
            NativeType::Boolean => Some(1),
            NativeType::Int | NativeType::Float => Some(4),
            NativeType::BigInt | NativeType::Double | NativeType::Timestamp => Some(8),
            NativeType::Uuid | NativeType::Timeuuid => Some(16),
            _ => None,
        },
        ColumnType::Vector { typ, dimensions } => Some(vector_item_bytes(typ)? * usize::from(*dimensions)),
        _ => None,
    }
}

/// Digits after the point up to which a decimal is written in full; a million zeros are somebody's attack.
const DECIMAL_DIGITS: i32 = 10_000;

/// A number in units of `10^-scale`; an error if it is not a whole number of them or has too many digits.
fn rescaled(bytes: &[u8], has_scale: bool, precision: u8, scale: i8) -> Result<BigInt, Malformed> {
    let mut parts = Parts(bytes);
    let own_scale = if has_scale { parts.int()? } else { 0 };
    let unscaled = BigInt::from_signed_bytes_be(parts.0);
    let does_not_fit = || {
        let text = decimal_text(&unscaled, own_scale);
        let shown: String = text.chars().take(100).collect();
        format!(
            "{shown} does not fit the declared decimal({precision},{scale}); declare a wider one in the table's comment"
        )
    };
    if unscaled.sign() == num_bigint::Sign::NoSign {
        return Ok(unscaled);
    }
    let shift = i64::from(scale) - i64::from(own_scale);
    if shift.unsigned_abs() > u64::from(DECIMAL256_MAX_PRECISION) {
        return Err(does_not_fit());
    }
    let power = BigInt::from(10).pow(shift.unsigned_abs() as u32);
    let value = if shift >= 0 {
        &unscaled * power
    } else if (&unscaled % &power).sign() == num_bigint::Sign::NoSign {
        &unscaled / power
    } else {
        return Err(does_not_fit());
    };
    if value.magnitude() >= BigInt::from(10).pow(u32::from(precision)).magnitude() {
        Err(does_not_fit())
    } else {
        Ok(value)
    }
}

/// An unscaled value and its scale as digits, with an exponent where the scale is negative or very large.
///
/// Text has to keep the scale: `100` and `1E+2` are equal numbers, but other bytes, and so other partition keys.
fn decimal_text(unscaled: &BigInt, scale: i32) -> String {
    let exponent = -i64::from(scale);
    if !(0..=DECIMAL_DIGITS).contains(&scale) {
        return format!("{unscaled}E{exponent:+}");
    }
    if scale == 0 {
        return unscaled.to_string();
    }
    let sign = if unscaled.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.magnitude().to_string(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray};
    use datafusion::arrow::datatypes::{Date32Type, Float32Type, Int32Type};

    use super::*;

    fn decode(cql: ColumnType<'_>, cells: &[Option<&[u8]>]) -> Result<ArrayRef, CassandraError> {
        let arrow = arrow_type(&cql)?;
        decode_as(cql, &arrow, cells)
    }

    fn decode_as(cql: ColumnType<'_>, arrow: &DataType, cells: &[Option<&[u8]>]) -> Result<ArrayRef, CassandraError> {
        let mut decoder = ColumnDecoder::new("c", &cql, arrow, cells.len())?;
        for cell in cells {
            decoder.append(*cell)?;
        }
        decoder.finish()
    }

    fn list_of_int() -> ColumnType<'static> {
        ColumnType::Collection {
            frozen: false,
            typ: CollectionType::List(Box::new(ColumnType::Native(NativeType::Int))),
        }
    }

    #[test]
    fn empty_text_is_not_null() {
        let array = decode(ColumnType::Native(NativeType::Text), &[Some(b""), None, Some(b"a")]).expect("decodes");
        let array = array.as_string::<i32>();
        assert_eq!((array.value(0), array.is_null(1), array.value(2)), ("", true, "a"));
    }

    #[test]
    fn a_date_counts_from_the_middle_of_its_range() {
        let array = decode(ColumnType::Native(NativeType::Date), &[Some(&[0x80, 0, 0, 1]), Some(&[0, 0, 0, 0])])
            .expect("decodes");
        assert_eq!(array.as_primitive::<Date32Type>().values(), &[1, i32::MIN]);
    }

    #[test]
    fn decimals_and_varints_keep_every_digit() {
        let array = decode(
            ColumnType::Native(NativeType::Decimal),
            &[Some(&[0, 0, 0, 2, 0xff]), Some(&[0xff, 0xff, 0xff, 0xfe, 7]), Some(&[0x80, 0, 0, 0, 7])],
        )
        .expect("decodes");
        let texts: Vec<_> = array.as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, ["-0.01", "7E+2", "7E+2147483648"]);
        let array = decode(ColumnType::Native(NativeType::Varint), &[Some(&[0x7f; 20])]).expect("decodes");
        assert_eq!(array.as_string::<i32>().value(0).len(), 48);
    }

    #[test]
    fn declared_decimals_are_exact_or_an_error() {
        let decimal = || ColumnType::Native(NativeType::Decimal);
        let (one_half, thousand) = (Some(&[0, 0, 0, 1, 5][..]), Some(&[0xff, 0xff, 0xff, 0xfd, 1][..]));
        let array = decode_as(decimal(), &DataType::Decimal128(6, 2), &[one_half, None, thousand]).expect("fits");
        let array = array.as_primitive::<datafusion::arrow::datatypes::Decimal128Type>();
        assert_eq!((array.value(0), array.is_null(1), array.value(2)), (50, true, 100_000));
        let array = decode_as(decimal(), &DataType::Decimal256(76, 2), &[Some(&[0, 0, 0, 2, 0xff])]).expect("fits");
        assert_eq!(array.as_primitive::<datafusion::arrow::datatypes::Decimal256Type>().value_as_string(0), "-0.01");
        let error = decode_as(decimal(), &DataType::Decimal128(6, 0), &[one_half]).expect_err("would be rounded");
        assert!(error.to_string().contains("0.5 does not fit the declared decimal(6,0)"), "{error}");
        assert!(decode_as(decimal(), &DataType::Decimal128(5, 2), &[thousand]).is_err(), "six digits in five");
        let varint = ColumnType::Native(NativeType::Varint);
        let array = decode_as(varint, &DataType::Decimal128(38, 0), &[Some(&[1, 0])]).expect("fits");
        assert_eq!(array.as_primitive::<datafusion::arrow::datatypes::Decimal128Type>().value(0), 256);
    }

    #[test]
    fn nested_values_keep_their_nulls() {
        let two: &[u8] = &[0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff];
        let array = decode(list_of_int(), &[Some(two), None, Some(&[0, 0, 0, 0])]).expect("decodes");
        let list = array.as_list::<i32>();
        assert!(list.is_null(1) && list.value(2).is_empty());
        let first = list.value(0);
        assert_eq!(first.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(7), None]);
    }

    #[test]
    fn a_vector_has_its_elements_side_by_side() {
        let cql = ColumnType::Vector { typ: Box::new(ColumnType::Native(NativeType::Float)), dimensions: 2 };
        let array = decode(cql, &[Some(&[0x3f, 0x80, 0, 0, 0x40, 0, 0, 0]), None]).expect("decodes");
        let list = array.as_fixed_size_list();
        assert_eq!(list.value(0).as_primitive::<Float32Type>().values(), &[1.0, 2.0]);
        assert!(list.is_null(1));
    }

    #[test]
    fn a_duration_is_three_variable_length_numbers() {
        let array = decode(ColumnType::Native(NativeType::Duration), &[Some(&[2, 4, 6])]).expect("decodes");
        let value = array.as_primitive::<datafusion::arrow::datatypes::IntervalMonthDayNanoType>().value(0);
        assert_eq!((value.months, value.days, value.nanoseconds), (1, 2, 3));
    }

    #[test]
    fn damaged_bytes_are_an_error_that_names_the_column() {
        let error = decode(ColumnType::Native(NativeType::Int), &[Some(&[1, 2])]).expect_err("is damaged");
        assert!(error.to_string().contains("\"c\"") && error.to_string().contains("int"), "{error}");
        assert!(decode(list_of_int(), &[Some(&[0x7f, 0xff, 0xff, 0xff])]).is_err());
    }
}
