//! Values in binary, as PostgreSQL's send functions write them.

use bytes::{BufMut, BytesMut};
use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;

use super::numeric::Digits;
use super::{Cell, EPOCH_DAYS, EPOCH_MICROS, EncodeOptions, Lists, json, put_value, struct_columns, text, unexpected};
use crate::pg::types::PgType;

/// Writes a normalised array's values in binary.
pub fn cell(array: &ArrayRef, pg_type: PgType, options: EncodeOptions) -> Result<Cell, ArrowError> {
    macro_rules! number {
        ($kind:ty, $put:ident) => {{
            let values = array.as_primitive::<$kind>().clone();
            Box::new(move |row, out: &mut BytesMut| out.$put(values.value(row)))
        }};
    }
    macro_rules! bytes {
        ($values:expr) => {{
            let values = $values.clone();
            Box::new(move |row, out: &mut BytesMut| out.put_slice(values.value(row)))
        }};
    }
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| out.put_u8(values.value(row).into()))
        }
        DataType::Int64 if pg_type == PgType::Oid => {
            let values = array.as_primitive::<Int64Type>().clone();
            Box::new(move |row, out| out.put_u32(values.value(row) as u32))
        }
        DataType::Int16 => number!(Int16Type, put_i16),
        DataType::Int32 => number!(Int32Type, put_i32),
        DataType::Int64 => number!(Int64Type, put_i64),
        DataType::Float32 => number!(Float32Type, put_f32),
        DataType::Float64 => number!(Float64Type, put_f64),
        DataType::Decimal128(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal128Type>().clone(), *scale);
            let data_type = array.data_type().clone();
            Box::new(move |row, out| {
                let digits = Digits::from_unscaled(&values.value(row).to_string(), scale);
                digits.shown_as(&data_type).put_binary(out);
            })
        }
        DataType::Decimal256(_, scale) => {
            let (values, scale) = (array.as_primitive::<Decimal256Type>().clone(), *scale);
            Box::new(move |row, out| Digits::from_unscaled(&values.value(row).to_string(), scale).put_binary(out))
        }
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            text::cell(array, pg_type, options)?
        }
        DataType::Binary => bytes!(array.as_binary::<i32>()),
        DataType::LargeBinary => bytes!(array.as_binary::<i64>()),
        DataType::BinaryView => bytes!(array.as_binary_view()),
        DataType::Date32 => {
            let values = array.as_primitive::<Date32Type>().clone();
            Box::new(move |row, out| out.put_i32(values.value(row).saturating_sub(EPOCH_DAYS)))
        }
        DataType::Time64(TimeUnit::Microsecond) => number!(Time64MicrosecondType, put_i64),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive::<TimestampMicrosecondType>().clone();
            Box::new(move |row, out| {
                out.put_i64(match values.value(row) {
                    i64::MAX => i64::MAX,
                    micros => micros.saturating_sub(EPOCH_MICROS),
                });
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().clone();
            Box::new(move |row, out| {
                let interval = values.value(row);
                out.put_i64(interval.nanoseconds / 1_000);
                out.put_i32(interval.days);
                out.put_i32(interval.months);
            })
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => list(array, pg_type, options)?,
        DataType::Struct(_) => record(array, options)?,
        DataType::Map(_, _) => json::cell(array, options)?,
        _ => return Err(unexpected(array)),
    })
}

/// Dimensions, whether there are nulls, the element type; for the one dimension its size and lower bound.
fn list(array: &ArrayRef, pg_type: PgType, options: EncodeOptions) -> Result<Cell, ArrowError> {
    let (element, first) = match pg_type {
        PgType::Array(element) => (element, 1),
        PgType::Vector(element) => (element, 0),
        _ => return json::cell(array, options),
    };
    let lists = Lists::of(array)?.ok_or_else(|| unexpected(array))?;
    let item = cell(&lists.values, element.pg_type(), options)?;
    Ok(Box::new(move |row, out| {
        let range = (lists.range)(row);
        let has_nulls = range.clone().any(|index| lists.is_null(index));
        out.put_i32(i32::from(!range.is_empty()));
        out.put_i32(has_nulls.into());
        out.put_u32(element.pg_type().oid());
        if range.is_empty() {
            return;
        }
        out.put_i32(i32::try_from(range.len()).unwrap_or(i32::MAX));
        out.put_i32(first);
        for index in range {
            put_value(out, lists.is_null(index), |out| item(index, out));
        }
    }))
}

/// The number of fields; for each its type and value.
fn record(array: &ArrayRef, options: EncodeOptions) -> Result<Cell, ArrowError> {
    let fields = struct_columns(array)?.into_iter().map(|(field, nulls, values)| {
        let pg_type = PgType::of_field(&field);
        let item =
            if pg_type == PgType::Json { json::cell(&values, options)? } else { cell(&values, pg_type, options)? };
        Ok((pg_type.oid(), nulls, item))
    });
    let fields = fields.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Box::new(move |row, out| {
        out.put_i32(i32::try_from(fields.len()).unwrap_or(i32::MAX));
        for (oid, nulls, item) in &fields {
            out.put_u32(*oid);
            let null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            put_value(out, null, |out| item(row, out));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::types::Element;
    use datafusion::arrow::array::{Date32Array, ListArray};
    use std::sync::Arc;

    fn bytes(array: ArrayRef, pg_type: PgType) -> Result<Vec<u8>, ArrowError> {
        let mut out = BytesMut::new();
        cell(&array, pg_type, EncodeOptions::with_time_zone(None))?(0, &mut out);
        Ok(out.to_vec())
    }

    #[test]
    fn dates_count_from_2000() -> Result<(), ArrowError> {
        assert_eq!(bytes(Arc::new(Date32Array::from(vec![EPOCH_DAYS + 1])), PgType::Date)?, [0, 0, 0, 1]);
        Ok(())
    }

    #[test]
    fn an_array_carries_its_element_type() -> Result<(), ArrowError> {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(7), None])]);
        let expected: [u8; 32] = [
            0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff,
        ];
        assert_eq!(bytes(Arc::new(lists), PgType::Array(Element::Int4))?, expected);
        Ok(())
    }
}
