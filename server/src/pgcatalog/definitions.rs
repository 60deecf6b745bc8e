//! What relations `pg_catalog` has, with their columns.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Float32Builder, Int16Builder, Int32Builder, Int64Builder, ListArray, RecordBatch,
    StringBuilder, TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;

use super::catalogs::PG_CATALOG;
use crate::pg::PG_TYPE_METADATA;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;

/// The types that columns of `pg_catalog` have, by their names in `definitions.txt`.
const TYPES: [(&str, DataType); 10] = [
    ("oid", DataType::Int32),
    ("name", DataType::Utf8),
    ("char", DataType::Utf8),
    ("text", DataType::Utf8),
    ("bool", DataType::Boolean),
    ("int2", DataType::Int16),
    ("int4", DataType::Int32),
    ("int8", DataType::Int64),
    ("float4", DataType::Float32),
    ("timestamptz", DataType::Timestamp(TimeUnit::Microsecond, None)),
];

static DEFINITIONS: LazyLock<BTreeMap<&'static str, Arc<Definition>>> = LazyLock::new(|| {
    let lines = include_str!("definitions.txt").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(Definition::parse).map(|definition| (definition.name, Arc::new(definition))).collect()
});

/// A relation's name and columns.
#[derive(Debug)]
pub struct Definition {
    /// Its name; that of a view of `information_schema` begins with the schema's.
    pub name: &'static str,
    /// Whether it never has rows here.
    pub always_empty: bool,
    /// Its columns.
    pub schema: SchemaRef,
    /// What a column holds in rows that do not tell.
    defaults: Vec<Option<String>>,
}

/// A row, by column name; what it does not tell is the column's default.
pub type Row = Vec<(&'static str, String)>;

impl Definition {
    /// The definition of a relation; `None` if there is no such relation.
    pub fn of(name: &str) -> Option<Arc<Self>> {
        DEFINITIONS.get(name).cloned()
    }

    /// The definition of a view of `information_schema` besides those that DataFusion has.
    pub fn of_information_schema(name: &str) -> Option<Arc<Self>> {
        Self::of(&format!("{INFORMATION_SCHEMA}.{name}"))
    }

    /// The schema that a client finds the relation in, and its name there.
    pub fn schema_and_name(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or((PG_CATALOG, self.name))
    }

    /// Every relation.
    pub fn all() -> impl Iterator<Item = &'static Arc<Self>> {
        DEFINITIONS.values()
    }

    fn parse(line: &'static str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let name = first.trim_end_matches('!');
        let columns: Vec<(Field, Option<String>)> = words.filter_map(column).collect();
        let (fields, defaults): (Vec<Field>, Vec<Option<String>>) = columns.into_iter().unzip();
        Some(Self { name, always_empty: name != first, schema: Arc::new(Schema::new(fields)), defaults })
    }

    /// The rows as a batch.
    ///
    /// # Errors
    /// If a value is not of its column's type, which a test rules out for all that is written here.
    pub fn batch(&self, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
        let columns = self.schema.fields().iter().zip(&self.defaults).map(|(field, default)| {
            let values: Vec<Option<&str>> = rows
                .iter()
                .map(|row| {
                    let told = row.iter().find(|(name, _)| name == field.name());
                    told.map(|(_, value)| value.as_str()).or(default.as_deref())
                })
                .collect();
            array(field.data_type(), &values)
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?)
    }
}

/// `name:type` or `name:type=default`, a blank in the default written as `\x20`.
fn column(text: &str) -> Option<(Field, Option<String>)> {
    let (column, default) = match text.split_once('=') {
        Some((column, default)) => (column, Some(default.replace("\\x20", " "))),
        None => (text, None),
    };
    let (name, type_name) = column.split_once(':')?;
    let element = type_name.trim_end_matches("[]").trim_end_matches("vector");
    let (_, data_type) = TYPES.iter().find(|(known, _)| *known == element)?;
    let mut field = if element == type_name {
        Field::new(name, data_type.clone(), true)
    } else {
        Field::new_list(name, Field::new_list_field(data_type.clone(), true), true)
    };
    if matches!(type_name, "oid" | "name" | "char" | "int2vector" | "oidvector") {
        field = field.with_metadata([(PG_TYPE_METADATA.to_owned(), type_name.to_owned())].into());
    }
    Some((field, default))
}

fn array(data_type: &DataType, values: &[Option<&str>]) -> Result<ArrayRef, ArrowError> {
    macro_rules! parsed {
        ($builder:ty) => {{
            let mut builder = <$builder>::with_capacity(values.len());
            for value in values {
                builder.append_option(value.map(|text| parse(text)).transpose()?);
            }
            Arc::new(builder.finish())
        }};
    }
    Ok(match data_type {
        DataType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(values.len());
            for value in values {
                builder.append_option(value.map(|text| matches!(text, "t" | "true")));
            }
            Arc::new(builder.finish())
        }
        DataType::Int16 => parsed!(Int16Builder),
        DataType::Int32 => parsed!(Int32Builder),
        DataType::Int64 => parsed!(Int64Builder),
        DataType::Float32 => parsed!(Float32Builder),
        DataType::Utf8 => {
            let mut builder = StringBuilder::new();
            for value in values {
                builder.append_option(*value);
            }
            Arc::new(builder.finish())
        }
        DataType::Timestamp(_, _) => {
            let micros = values.iter().map(|value| value.map(parse::<i64>).transpose());
            Arc::new(micros.collect::<Result<TimestampMicrosecondArray, _>>()?)
        }
        DataType::List(item) => Arc::new(list(item, values)?),
        other => new_null_array(other, values.len()),
    })
}

/// Arrays of elements without commas, `{1,2}`.
fn list(item: &FieldRef, values: &[Option<&str>]) -> Result<ListArray, ArrowError> {
    let elements_of = |text: &str| -> Vec<String> {
        let inner = text.trim_start_matches('{').trim_end_matches('}');
        inner.split(',').filter(|element| !element.is_empty()).map(str::to_owned).collect()
    };
    let lists: Vec<Option<Vec<String>>> = values.iter().map(|value| value.map(elements_of)).collect();
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.as_ref().map_or(0, Vec::len)));
    let elements: Vec<Option<&str>> = lists.iter().flatten().flatten().map(|element| Some(element.as_str())).collect();
    let nulls = lists.iter().map(Option::is_some).collect();
    ListArray::try_new(item.clone(), offsets, array(item.data_type(), &elements)?, Some(nulls))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, ArrowError> {
    text.parse().map_err(|_| ArrowError::ParseError(format!("\"{text}\" in pg_catalog")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::Array;

    #[test]
    fn an_array_is_written_as_postgresql_writes_it() -> Result<(), ArrowError> {
        let item = FieldRef::new(Field::new_list_field(DataType::Int16, true));
        let lists = list(&item, &[Some("{1,2}"), None, Some("{}")])?;
        assert_eq!((lists.value_length(0), lists.is_null(1), lists.value_length(2)), (2, true, 0));
        Ok(())
    }

    #[test]
    fn every_line_defines_a_relation_and_every_default_is_of_its_type() -> Result<(), ArrowError> {
        let lines = include_str!("definitions.txt").lines().filter(|line| !line.starts_with('#'));
        let words: usize = lines.clone().map(|line| line.split_whitespace().count() - 1).sum();
        assert_eq!(lines.count(), Definition::all().count());
        assert_eq!(words, Definition::all().map(|definition| definition.schema.fields().len()).sum::<usize>());
        for definition in Definition::all() {
            assert_eq!(definition.batch(&[Vec::new()])?.num_rows(), 1, "{}", definition.name);
        }
        Ok(())
    }
}
