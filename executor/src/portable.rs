//! Results in the types that every Arrow client reads.
//!
//! String views, binary views and dictionaries are good inside an engine; many clients still know
//! none of them. Coordinator and executors send rows to clients in the same form, because clients refuse a stream whose
//! schema is not exactly the one that was announced.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

/// The schema in plain types.
pub fn schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(fields(schema.fields())))
}

/// A batch in the types of `schema`, which [`schema`] made.
pub fn batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn fields(fields: &Fields) -> Fields {
    fields.iter().map(field).collect()
}

fn field(field: &FieldRef) -> FieldRef {
    // A result may hold a null where its plan promised none: promise nothing.
    Arc::new(Field::new(field.name(), data_type(field.data_type()), true))
}

fn data_type(original: &DataType) -> DataType {
    match original {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => data_type(values),
        DataType::List(item) => DataType::List(field(item)),
        DataType::LargeList(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(field(item), *size),
        DataType::Struct(children) => DataType::Struct(fields(children)),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray};

    use super::*;

    #[test]
    fn views_become_plain_strings() {
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None]));
        let original = RecordBatch::try_from_iter([("text", views)]).unwrap();
        let plain = batch(&original, &schema(original.schema_ref())).unwrap();
        assert_eq!(plain.column(0).data_type(), &DataType::Utf8);
        assert_eq!(plain.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), None]);
        assert!(plain.column(0).is_null(1));
    }
}
