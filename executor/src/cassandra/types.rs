//! CQL types as Arrow types, and back.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use scylla::cluster::metadata::{CollectionType, Column, ColumnKind, ColumnType, NativeType, Table};

use super::cluster::quoted;
use super::declared::DeclaredTypes;
use super::error::CassandraError;

/// Field metadata: `partition_key`, `clustering`, `static` or `regular`.
pub const KIND: &str = "cassandra.kind";
/// Field metadata: the place within the partition key or the clustering key, from 0.
pub const POSITION: &str = "cassandra.position";

/// The Arrow type in which a column of this CQL type is read.
pub fn arrow_type(cql: &ColumnType<'_>) -> Result<DataType, CassandraError> {
    Ok(match cql {
        ColumnType::Native(native) => native_type(native)?,
        ColumnType::Collection { typ, .. } => match typ {
            CollectionType::List(item) | CollectionType::Set(item) => {
                DataType::List(Arc::new(Field::new("item", arrow_type(item)?, true)))
            }
            CollectionType::Map(key, value) => {
                let entries = DataType::Struct(Fields::from(vec![
                    Field::new("keys", arrow_type(key)?, false),
                    Field::new("values", arrow_type(value)?, true),
                ]));
                DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
            }
            other => return Err(unknown(&format!("{other:?}"))),
        },
        ColumnType::Vector { typ, dimensions } => {
            DataType::FixedSizeList(Arc::new(Field::new("item", arrow_type(typ)?, true)), i32::from(*dimensions))
        }
        ColumnType::UserDefinedType { definition, .. } => {
            let fields =
                definition.field_types.iter().map(|(name, typ)| Ok(Field::new(name.as_ref(), arrow_type(typ)?, true)));
            DataType::Struct(fields.collect::<Result<Fields, CassandraError>>()?)
        }
        ColumnType::Tuple(types) => {
            let fields =
                types.iter().enumerate().map(|(i, typ)| Ok(Field::new(format!("c{i}"), arrow_type(typ)?, true)));
            DataType::Struct(fields.collect::<Result<Fields, CassandraError>>()?)
        }
        other => return Err(unknown(&format!("{other:?}"))),
    })
}

fn unknown(what: &str) -> CassandraError {
    CassandraError::NotSupported(format!("the CQL type {what}"))
}

fn native_type(native: &NativeType) -> Result<DataType, CassandraError> {
    Ok(match native {
        NativeType::Ascii
        | NativeType::Text
        | NativeType::Uuid
        | NativeType::Timeuuid
        | NativeType::Inet
        | NativeType::Decimal
        | NativeType::Varint => DataType::Utf8,
        NativeType::Boolean => DataType::Boolean,
        NativeType::Blob => DataType::Binary,
        NativeType::TinyInt => DataType::Int8,
        NativeType::SmallInt => DataType::Int16,
        NativeType::Int => DataType::Int32,
        NativeType::BigInt | NativeType::Counter => DataType::Int64,
        NativeType::Float => DataType::Float32,
        NativeType::Double => DataType::Float64,
        NativeType::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        NativeType::Date => DataType::Date32,
        NativeType::Time => DataType::Time64(TimeUnit::Nanosecond),
        NativeType::Duration => DataType::Interval(IntervalUnit::MonthDayNano),
        other => return Err(unknown(&format!("{other:?}"))),
    })
}

/// Whether a value of this type has several cells, each written and expiring by itself.
pub fn is_multi_cell(cql: &ColumnType<'_>) -> bool {
    matches!(cql, ColumnType::Collection { frozen: false, .. } | ColumnType::UserDefinedType { frozen: false, .. })
}

/// A table's columns in the order of `DESCRIBE`: partition key, clustering key, the rest by name.
pub fn ordered_columns(table: &Table) -> Vec<(&str, &Column)> {
    let keys = table.partition_key.iter().chain(&table.clustering_key);
    let mut columns: Vec<(&str, &Column)> = keys
        .filter_map(|name| table.columns.get_key_value(name))
        .map(|(name, column)| (name.as_str(), column))
        .collect();
    let mut rest: Vec<(&str, &Column)> = table
        .columns
        .iter()
        .filter(|(_, column)| !matches!(column.kind, ColumnKind::PartitionKey | ColumnKind::Clustering))
        .map(|(name, column)| (name.as_str(), column))
        .collect();
    rest.sort_by_key(|(name, _)| *name);
    columns.append(&mut rest);
    columns
}

/// A table's columns as Arrow fields, decimals as they are `declared`, which say in their metadata what part of the key they are.
pub fn table_schema(table: &Table, declared: &DeclaredTypes) -> Result<SchemaRef, CassandraError> {
    let mut fields = Vec::with_capacity(table.columns.len());
    for (name, column) in ordered_columns(table) {
        let place = |key: &[String]| key.iter().position(|k| k == name).unwrap_or(0).to_string();
        let (kind, position) = match column.kind {
            ColumnKind::PartitionKey => ("partition_key", Some(place(&table.partition_key))),
            ColumnKind::Clustering => ("clustering", Some(place(&table.clustering_key))),
            ColumnKind::Static => ("static", None),
            _ => ("regular", None),
        };
        let mut metadata = std::collections::HashMap::from([(KIND.to_owned(), kind.to_owned())]);
        metadata.extend(position.map(|position| (POSITION.to_owned(), position)));
        // A clustering key is null in the row of a partition that has only static columns.
        let nullable = kind != "partition_key";
        let data_type = match (&column.typ, declared.get(name)) {
            (ColumnType::Native(NativeType::Decimal | NativeType::Varint), Some(declared)) => declared.clone(),
            (cql, _) => arrow_type(cql)?,
        };
        fields.push(Field::new(name, data_type, nullable).with_metadata(metadata));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The CQL type for a column that is to hold values of this Arrow type.
pub fn cql_type(arrow: &DataType) -> Result<String, CassandraError> {
    Ok(match arrow {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "text".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 | DataType::UInt8 => "smallint".to_owned(),
        DataType::Int32 | DataType::UInt16 => "int".to_owned(),
        DataType::Int64 | DataType::UInt32 => "bigint".to_owned(),
        DataType::UInt64 => "varint".to_owned(),
        DataType::Float16 | DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "decimal".to_owned()
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "blob".to_owned()
        }
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Timestamp(_, _) => "timestamp".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "duration".to_owned(),
        DataType::List(item) | DataType::LargeList(item) => format!("frozen<list<{}>>", cql_type(item.data_type())?),
        DataType::FixedSizeList(item, size) => format!("vector<{}, {size}>", cql_type(item.data_type())?),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("frozen<map<{}, {}>>", cql_type(pair[0].data_type())?, cql_type(pair[1].data_type())?)
            }
            _ => return Err(unknown("of a map without keys and values")),
        },
        DataType::Struct(fields) => {
            let types = fields.iter().map(|field| cql_type(field.data_type())).collect::<Result<Vec<_>, _>>()?;
            format!("frozen<tuple<{}>>", types.join(", "))
        }
        DataType::Dictionary(_, value) => cql_type(value)?,
        other => return Err(CassandraError::Ddl(format!("no CQL type holds {other}"))),
    })
}

/// A CQL type in words, for messages.
pub fn cql_name(cql: &ColumnType<'_>) -> String {
    match cql {
        ColumnType::Native(native) => format!("{native:?}").to_lowercase(),
        ColumnType::Collection { typ: CollectionType::List(item), .. } => format!("list<{}>", cql_name(item)),
        ColumnType::Collection { typ: CollectionType::Set(item), .. } => format!("set<{}>", cql_name(item)),
        ColumnType::Collection { typ: CollectionType::Map(k, v), .. } => {
            format!("map<{}, {}>", cql_name(k), cql_name(v))
        }
        ColumnType::Vector { typ, dimensions } => format!("vector<{}, {dimensions}>", cql_name(typ)),
        ColumnType::UserDefinedType { definition, .. } => quoted(&definition.name),
        ColumnType::Tuple(types) => format!("tuple<{}>", types.iter().map(cql_name).collect::<Vec<_>>().join(", ")),
        _ => "value".to_owned(),
    }
}
