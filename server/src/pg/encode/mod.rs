//! Arrow batches as `DataRow` messages.
//!
//! Each column of a batch is brought to one of a few Arrow types and downcast once; what remains
//! per cell is one call of a closure that appends the value's bytes.

mod binary;
mod datetime;
mod json;
mod numeric;
mod text;

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Schema,
    TimeUnit, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::array_value_to_string;

pub use numeric::{Digits, decode_numeric};

use super::backend::Format;
use super::types::PgType;
use crate::engine::{EngineError, SqlState};

/// Appends the value at an index, without its length. Never asked for a null.
type Cell = Box<dyn Fn(usize, &mut BytesMut) + Send + Sync>;

/// Days from Unix's to PostgreSQL's epoch (2000-01-01).
pub const EPOCH_DAYS: i32 = 10_957;

/// Microseconds from Unix's to PostgreSQL's epoch.
pub const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// What of the session shows in values.
#[derive(Debug, Clone, Copy)]
pub struct EncodeOptions {
    /// Where `timestamptz` values are shown; `None` is UTC.
    pub time_zone: Option<Tz>,
}

impl EncodeOptions {
    /// The options of a session whose `TimeZone` is `name`; UTC if that is no time zone.
    pub fn with_time_zone(name: Option<&str>) -> Self {
        Self { time_zone: name.and_then(|name| name.parse().ok()) }
    }
}

/// A column as `RowDescription` told it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub pg_type: PgType,
    pub format: Format,
}

/// The columns of `schema`, each in the format that `format_of` tells for its index.
pub fn columns(schema: &Schema, format_of: impl Fn(usize) -> Format) -> Vec<Column> {
    let described = schema.fields().iter().enumerate();
    described.map(|(index, field)| Column { pg_type: PgType::of_field(field), format: format_of(index) }).collect()
}

/// A batch whose rows can be written.
pub struct BatchEncoder {
    columns: Vec<(Option<NullBuffer>, Cell)>,
    row_count: usize,
}

impl std::fmt::Debug for BatchEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BatchEncoder({} rows)", self.row_count)
    }
}

impl BatchEncoder {
    /// Downcasts the columns of `batch` for writing them as `columns` were described.
    ///
    /// # Errors
    /// If a value is out of the range of its PostgreSQL type, or if the batch has other columns than described.
    pub fn new(batch: &RecordBatch, columns: &[Column], options: EncodeOptions) -> Result<Self, EngineError> {
        if batch.num_columns() != columns.len() {
            return Err(EngineError::new(SqlState::INTERNAL, "a result has other columns than described"));
        }
        let encoders = batch.columns().iter().zip(columns).map(|(array, column)| {
            let array = normalise(array).map_err(out_of_range)?;
            let cell = cell(&array, column.pg_type, column.format, options).map_err(out_of_range)?;
            Ok((array.logical_nulls(), cell))
        });
        Ok(Self { columns: encoders.collect::<Result<_, EngineError>>()?, row_count: batch.num_rows() })
    }

    /// Rows of the batch.
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// Columns of the batch.
    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Appends a value without its length; false, and nothing appended, if it is null.
    pub fn put_cell(&self, column: usize, row: usize, out: &mut BytesMut) -> bool {
        let Some((nulls, cell)) = self.columns.get(column) else { return false };
        let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        if !is_null {
            cell(row, out);
        }
        !is_null
    }

    /// Appends the values of a row, each with its length.
    pub fn put_values(&self, row: usize, out: &mut BytesMut) {
        for (nulls, cell) in &self.columns {
            let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            put_value(out, null, |out| cell(row, out));
        }
    }

    /// Appends the `DataRow` of a row.
    ///
    /// # Errors
    /// If the row is longer than a message can be.
    pub fn put_row(&self, row: usize, out: &mut BytesMut) -> Result<(), EngineError> {
        let start = out.len();
        out.put_u8(b'D');
        out.put_i32(0);
        out.put_u16(self.columns.len() as u16);
        self.put_values(row, out);
        let Ok(length) = i32::try_from(out.len() - start - 1) else {
            out.truncate(start);
            return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, "a row is longer than a message can be"));
        };
        set_i32(out, start + 1, length);
        Ok(())
    }
}

/// Appends a length and the bytes that `write` appends, or the length that means null.
fn put_value(out: &mut BytesMut, null: bool, write: impl FnOnce(&mut BytesMut)) {
    if null {
        out.put_i32(-1);
        return;
    }
    let at = out.len();
    out.put_i32(0);
    write(out);
    // A longer value makes a longer row, which is refused.
    let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
    set_i32(out, at, length);
}

/// Writes a length over the place that was kept for it.
pub fn set_i32(out: &mut BytesMut, at: usize, value: i32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

fn out_of_range(error: ArrowError) -> EngineError {
    EngineError::new(SqlState::OUT_OF_RANGE, format!("a result cannot be sent: {error}"))
}

fn cell(array: &ArrayRef, pg_type: PgType, format: Format, options: EncodeOptions) -> Result<Cell, ArrowError> {
    match (pg_type, format) {
        (PgType::Json, _) => json::cell(array, options),
        (_, Format::Text) => text::cell(array, pg_type, options),
        (_, Format::Binary) => binary::cell(array, pg_type, options),
    }
}

/// The array in one of the types that the cells know.
fn normalise(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let to = |data_type: DataType| {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(array, &data_type, &options)
    };
    match array.data_type() {
        DataType::Dictionary(_, value) => normalise(&to(value.as_ref().clone())?),
        DataType::RunEndEncoded(_, values) => normalise(&to(values.data_type().clone())?),
        DataType::Int8 | DataType::UInt8 => to(DataType::Int16),
        DataType::UInt16 => to(DataType::Int32),
        DataType::UInt32 => to(DataType::Int64),
        DataType::UInt64 => to(DataType::Decimal128(20, 0)),
        DataType::Float16 => to(DataType::Float32),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            to(DataType::Decimal128(*precision, *scale))
        }
        DataType::FixedSizeBinary(_) => to(DataType::Binary),
        DataType::Date64 => to(DataType::Date32),
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => to(DataType::Time64(TimeUnit::Microsecond)),
        // Arrow's own cast rounds towards zero, which moves times before 1970 forward.
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let nanos = array.as_primitive::<TimestampNanosecondType>();
            let micros: TimestampMicrosecondArray = nanos.unary(|nanos| nanos.div_euclid(1_000));
            Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
        }
        // Beyond what microseconds reach is infinity, as the largest number of milliseconds mostly means.
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            let millis = array.as_primitive::<TimestampMillisecondType>();
            let micros: TimestampMicrosecondArray = millis.unary(|millis| millis.saturating_mul(1_000));
            Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
        }
        DataType::Timestamp(TimeUnit::Second, zone) => {
            let seconds = array.as_primitive::<TimestampSecondType>();
            let micros: TimestampMicrosecondArray = seconds.unary(|seconds| seconds.saturating_mul(1_000_000));
            Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
        }
        DataType::Duration(TimeUnit::Microsecond) => Ok(durations_as_intervals(array)),
        DataType::Duration(_) => normalise(&to(DataType::Duration(TimeUnit::Microsecond))?),
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime) => {
            to(DataType::Interval(IntervalUnit::MonthDayNano))
        }
        DataType::ListView(item) => to(DataType::List(Arc::clone(item))),
        DataType::LargeListView(item) => to(DataType::LargeList(Arc::clone(item))),
        DataType::Union(_, _) => {
            let values = (0..array.len()).map(|row| array_value_to_string(array, row));
            Ok(Arc::new(StringArray::from(values.collect::<Result<Vec<_>, _>>()?)))
        }
        _ => Ok(Arc::clone(array)),
    }
}

fn durations_as_intervals(array: &ArrayRef) -> ArrayRef {
    let durations = array.as_primitive::<DurationMicrosecondType>();
    let intervals: PrimitiveArray<IntervalMonthDayNanoType> = durations.unary(|micros| {
        let days = i32::try_from(micros / 86_400_000_000).unwrap_or(if micros < 0 { i32::MIN } else { i32::MAX });
        IntervalMonthDayNano::new(0, days, micros % 86_400_000_000 * 1_000)
    });
    Arc::new(intervals)
}

/// The elements of a list array: all values, and which of them a row has.
struct Lists {
    values: ArrayRef,
    nulls: Option<NullBuffer>,
    range: Box<dyn Fn(usize) -> Range<usize> + Send + Sync>,
}

impl Lists {
    /// The parts of a normalised list array, its values normalised too.
    fn of(array: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        let offset = |offset: i64| usize::try_from(offset).unwrap_or_default();
        let (values, range): (_, Box<dyn Fn(usize) -> Range<usize> + Send + Sync>) = match array.data_type() {
            DataType::List(_) => {
                let offsets = array.as_list::<i32>().offsets().clone();
                let range = move |row: usize| offset(offsets[row].into())..offset(offsets[row + 1].into());
                (array.as_list::<i32>().values(), Box::new(range))
            }
            DataType::LargeList(_) => {
                let offsets = array.as_list::<i64>().offsets().clone();
                (array.as_list::<i64>().values(), Box::new(move |row| offset(offsets[row])..offset(offsets[row + 1])))
            }
            DataType::FixedSizeList(_, size) => {
                let size = offset((*size).into());
                (array.as_fixed_size_list().values(), Box::new(move |row| row * size..(row + 1) * size))
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let offsets = map.offsets().clone();
                let entries: ArrayRef = Arc::new(map.entries().clone());
                let range = move |row: usize| offset(offsets[row].into())..offset(offsets[row + 1].into());
                return Ok(Some(Self { nulls: None, values: entries, range: Box::new(range) }));
            }
            _ => return Ok(None),
        };
        let values = normalise(values)?;
        Ok(Some(Self { nulls: values.logical_nulls(), values, range }))
    }

    fn is_null(&self, index: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(index))
    }
}

/// A field of a struct array: its description, its nulls, and its normalised values.
type StructColumn = (Arc<Field>, Option<NullBuffer>, ArrayRef);

/// The fields of a struct array.
fn struct_columns(array: &ArrayRef) -> Result<Vec<StructColumn>, ArrowError> {
    let structs = array.as_struct();
    let columns = structs.fields().iter().zip(structs.columns());
    let columns = columns.map(|(field, values)| {
        let values = normalise(values)?;
        Ok((Arc::clone(field), values.logical_nulls(), values))
    });
    columns.collect()
}

fn unexpected(array: &ArrayRef) -> ArrowError {
    ArrowError::NotYetImplemented(format!("values of type {}", array.data_type()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Decimal128Array, DictionaryArray, Int32Array, NullArray, UInt64Array};
    use datafusion::arrow::datatypes::Int32Type;

    /// The values of a one-column batch, as text or `None`.
    pub fn shown(array: ArrayRef, format: Format) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let schema = Arc::new(Schema::new(vec![Field::new("c", array.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![array]).map_err(out_of_range)?;
        let options = EncodeOptions::with_time_zone(Some("Europe/Berlin"));
        let encoder = BatchEncoder::new(&batch, &columns(&schema, |_| format), options)?;
        (0..encoder.row_count())
            .map(|row| {
                let mut out = BytesMut::new();
                encoder.put_row(row, &mut out)?;
                let null = out[7..11] == [0xff; 4];
                Ok(if null { None } else { Some(out[11..].to_vec()) })
            })
            .collect()
    }

    fn texts(array: ArrayRef) -> Result<Vec<Option<String>>, EngineError> {
        let shown = shown(array, Format::Text)?;
        Ok(shown.into_iter().map(|value| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())).collect())
    }

    fn some(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|value| Some((*value).to_owned())).collect()
    }

    #[test]
    fn nulls_dictionaries_and_unsigned_numbers() -> Result<(), EngineError> {
        assert_eq!(texts(Arc::new(NullArray::new(2)))?, [None, None]);
        let dictionary: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        assert_eq!(texts(Arc::new(dictionary))?, some(&["a", "b", "a"]));
        assert_eq!(texts(Arc::new(UInt64Array::from(vec![u64::MAX])))?, some(&["18446744073709551615"]));
        assert_eq!(texts(Arc::new(Int32Array::from(vec![Some(-5), None])))?, [Some("-5".to_owned()), None]);
        Ok(())
    }

    #[test]
    fn times_before_1970_are_not_moved_forward() -> Result<(), EngineError> {
        use datafusion::arrow::array::TimestampNanosecondArray;
        let array = TimestampNanosecondArray::from(vec![-1]);
        assert_eq!(texts(Arc::new(array))?, some(&["1969-12-31 23:59:59.999999"]));
        Ok(())
    }

    #[test]
    fn times_beyond_postgresql_are_infinite() -> Result<(), EngineError> {
        use datafusion::arrow::array::TimestampMillisecondArray;
        let array: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![i64::MIN, -1, i64::MAX]));
        assert_eq!(texts(Arc::clone(&array))?, some(&["-infinity", "1969-12-31 23:59:59.999", "infinity"]));
        let binary = shown(array, Format::Binary)?;
        assert_eq!(binary[0].as_deref(), Some(&i64::MIN.to_be_bytes()[..]));
        assert_eq!(binary[2].as_deref(), Some(&i64::MAX.to_be_bytes()[..]));
        Ok(())
    }

    #[test]
    fn timestamptz_is_shown_in_the_sessions_zone() -> Result<(), EngineError> {
        let array = TimestampMicrosecondArray::from(vec![1_700_000_000_000_000]).with_timezone("UTC");
        assert_eq!(texts(Arc::new(array))?, some(&["2023-11-14 23:13:20+01"]));
        Ok(())
    }

    #[test]
    fn decimals_keep_their_scale() -> Result<(), EngineError> {
        let array = Decimal128Array::from(vec![5, -1234, 0]).with_precision_and_scale(15, 2).map_err(out_of_range)?;
        assert_eq!(texts(Arc::new(array.clone()))?, some(&["0.05", "-12.34", "0.00"]));
        let binary = shown(Arc::new(array), Format::Binary)?;
        assert_eq!(binary[1].as_deref(), Some(&[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 12, 0x0d, 0x48][..]));
        Ok(())
    }
}
