//! Types that Parquet has no place for.
//!
//! CQL's `duration` is months, days and nanoseconds; Parquet's INTERVAL has milliseconds, and its writer takes none of
//! Arrow's. So a duration, wherever it is nested, is kept as a struct of its three numbers.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray,
    MapArray, StructArray,
};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Int32Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, Schema, SchemaRef,
};
use datafusion::arrow::error::ArrowError;

type Result<T> = std::result::Result<T, ArrowError>;

const DURATION: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

fn duration_fields() -> Fields {
    Fields::from(vec![
        Field::new("months", DataType::Int32, true),
        Field::new("days", DataType::Int32, true),
        Field::new("nanoseconds", DataType::Int64, true),
    ])
}

fn has_duration(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(field) | DataType::FixedSizeList(field, _) | DataType::Map(field, _) => {
            has_duration(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_duration(field.data_type())),
        other => *other == DURATION,
    }
}

/// The type in which values of a type are kept.
pub fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        _ if !has_duration(data_type) => data_type.clone(),
        DataType::List(field) => DataType::List(stored_field(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(stored_field(field), *size),
        DataType::Map(field, sorted) => DataType::Map(stored_field(field), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(stored_field).collect()),
        _ => DataType::Struct(duration_fields()),
    }
}

fn stored_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(stored_type(field.data_type())))
}

/// The schema of a file that keeps rows of a schema.
pub fn stored_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(stored_field).collect::<Vec<_>>()))
}

/// Values in the type in which they are kept.
pub fn to_stored(array: &ArrayRef) -> Result<ArrayRef> {
    let wanted = stored_type(array.data_type());
    if wanted == *array.data_type() {
        return Ok(array.clone());
    }
    match &wanted {
        DataType::Struct(fields) if *array.data_type() == DURATION => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>();
            let nulls = values.nulls().cloned();
            let numbers: Vec<ArrayRef> = vec![
                Arc::new(Int32Array::from_iter_values(values.values().iter().map(|value| value.months))),
                Arc::new(Int32Array::from_iter_values(values.values().iter().map(|value| value.days))),
                Arc::new(Int64Array::from_iter_values(values.values().iter().map(|value| value.nanoseconds))),
            ];
            Ok(Arc::new(StructArray::try_new(fields.clone(), numbers, nulls)?))
        }
        wanted => rebuild(array, wanted, &|child, _| to_stored(child)),
    }
}

/// Kept values in the type that is wanted: the one that they had, or one that they can be cast to without loss.
pub fn from_stored(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    if *wanted == DURATION
        && let Some(kept) = array.as_struct_opt()
        && *kept.data_type() == stored_type(&DURATION)
    {
        let (months, days) = (kept.column(0).as_primitive::<Int32Type>(), kept.column(1).as_primitive::<Int32Type>());
        let nanoseconds = kept.column(2).as_primitive::<Int64Type>();
        let values = (0..kept.len())
            .map(|i| IntervalMonthDayNano::new(months.value(i), days.value(i), nanoseconds.value(i)))
            .collect::<Vec<_>>();
        return Ok(Arc::new(IntervalMonthDayNanoArray::new(values.into(), kept.nulls().cloned())));
    }
    if has_duration(wanted) && *array.data_type() == stored_type(wanted) {
        return rebuild(array, wanted, &from_stored);
    }
    cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() })
}

type Convert<'a> = &'a dyn Fn(&ArrayRef, &DataType) -> Result<ArrayRef>;

/// A nested array with converted children.
fn rebuild(array: &ArrayRef, wanted: &DataType, convert: Convert<'_>) -> Result<ArrayRef> {
    Ok(match wanted {
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            let values = convert(list.values(), field.data_type())?;
            Arc::new(ListArray::try_new(field.clone(), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        DataType::FixedSizeList(field, size) => {
            let list = array.as_fixed_size_list();
            let values = convert(list.values(), field.data_type())?;
            Arc::new(FixedSizeListArray::try_new(field.clone(), *size, values, list.nulls().cloned())?)
        }
        DataType::Map(field, sorted) => {
            let map = array.as_map();
            let entries = rebuild(&(Arc::new(map.entries().clone()) as ArrayRef), field.data_type(), convert)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(field.clone(), offsets, entries.as_struct().clone(), nulls, *sorted)?)
        }
        DataType::Struct(fields) => {
            let values = array.as_struct();
            let columns = values.columns().iter().zip(fields).map(|(column, field)| convert(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, values.nulls().cloned())?)
        }
        other => return Err(ArrowError::CastError(format!("{} is not kept as {other}", array.data_type()))),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::buffer::OffsetBuffer;

    use super::*;

    fn durations() -> ArrayRef {
        Arc::new(IntervalMonthDayNanoArray::from(vec![
            Some(IntervalMonthDayNano::new(i32::MAX, -3, i64::MIN)),
            None,
            Some(IntervalMonthDayNano::new(0, 0, 0)),
        ]))
    }

    fn there_and_back(array: ArrayRef) {
        let stored = to_stored(&array).expect("is kept");
        assert!(!has_duration(stored.data_type()));
        let back = from_stored(&stored, array.data_type()).expect("comes back");
        assert_eq!(&back, &array);
    }

    #[test]
    fn durations_come_back_wherever_they_are() {
        there_and_back(durations());
        let item = Arc::new(Field::new("item", DURATION, true));
        let offsets = OffsetBuffer::new(vec![0, 2, 2, 3].into());
        let list: ArrayRef = Arc::new(ListArray::new(item, offsets.clone(), durations(), None));
        there_and_back(list.clone());
        let fields = Fields::from(vec![
            Field::new("key", DataType::Int32, false),
            Field::new("value", list.data_type().clone(), true),
        ]);
        let keys: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let entries = StructArray::new(fields.clone(), vec![keys, list], None);
        there_and_back(Arc::new(entries.clone()));
        let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
        there_and_back(Arc::new(MapArray::new(field, offsets, entries, None, false)));
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_no_null() {
        let text: ArrayRef = Arc::new(datafusion::arrow::array::StringArray::from(vec!["12", "twelve"]));
        assert!(from_stored(&text, &DataType::Int32).is_err());
        assert!(from_stored(&text.slice(0, 1), &DataType::Int32).is_ok());
    }
}
