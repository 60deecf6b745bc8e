//! Metadata calls: what there is, and what the service can do.

use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, Nullable, Searchable, XdbcDataType,
};
use datafusion::arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::compute::like;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use std::sync::{Arc, LazyLock};

use super::portable;
use crate::engine::Session;

/// The catalogs.
pub fn catalogs(session: &Session, query: CommandGetCatalogs) -> arrow_flight::error::Result<RecordBatch> {
    let mut builder = query.into_builder();
    session.catalog_names().into_iter().for_each(|name| builder.append(name));
    builder.build()
}

/// The schemas of the catalogs that `query` asks about; the builder filters by name.
pub fn schemas(session: &Session, query: CommandGetDbSchemas) -> arrow_flight::error::Result<RecordBatch> {
    let wanted = query.catalog.clone();
    let mut builder = query.into_builder();
    for catalog in session.catalog_names().into_iter().filter(|name| is_wanted(wanted.as_deref(), name)) {
        session.schema_names(&catalog).iter().for_each(|schema| builder.append(&catalog, schema));
    }
    builder.build()
}

/// The tables that `query` asks about. Only those whose names match are opened.
pub async fn tables(session: &Session, query: CommandGetTables) -> arrow_flight::error::Result<RecordBatch> {
    let (wanted, schema_pattern) = (query.catalog.clone(), query.db_schema_filter_pattern.clone());
    let table_pattern = query.table_name_filter_pattern.clone();
    let mut builder = query.into_builder();
    for catalog in session.catalog_names().into_iter().filter(|name| is_wanted(wanted.as_deref(), name)) {
        for schema in matching(session.schema_names(&catalog), schema_pattern.as_deref())? {
            for table in matching(session.table_names(&catalog, &schema), table_pattern.as_deref())? {
                // A table that cannot be opened is still listed: its error is for those who read it.
                let (columns, table_type) = match session.table_info(&catalog, &schema, &table).await {
                    Ok(Some(info)) => (portable::schema(&info.schema), info.table_type),
                    Ok(None) => continue,
                    Err(_) => (Arc::new(Schema::empty()), "BASE TABLE"),
                };
                builder.append(&catalog, &schema, &table, table_type, &columns)?;
            }
        }
    }
    builder.build()
}

fn is_wanted(wanted: Option<&str>, name: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == name)
}

/// Names that match a pattern of SQL's LIKE.
fn matching(names: Vec<String>, pattern: Option<&str>) -> Result<Vec<String>, ArrowError> {
    let Some(pattern) = pattern else { return Ok(names) };
    let array = StringArray::from(names);
    let matches = like(&array, &StringArray::new_scalar(pattern))?;
    let kept = datafusion::arrow::compute::filter(&array, &matches)?;
    Ok(kept.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
}

/// The schema of GetPrimaryKeys.
pub static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

/// The columns of a table's primary key, in order.
pub fn primary_key(catalog: &str, schema: &str, table: &str, columns: &[String]) -> Result<RecordBatch, ArrowError> {
    let repeat = |value: &str| Arc::new(StringArray::from(vec![value; columns.len()])) as ArrayRef;
    let sequence: Int32Array = (1..).take(columns.len()).collect();
    let arrays: Vec<ArrayRef> = vec![
        repeat(catalog),
        repeat(schema),
        repeat(table),
        Arc::new(StringArray::from(columns.to_vec())),
        repeat("PRIMARY KEY"),
        Arc::new(sequence),
    ];
    RecordBatch::try_new(Arc::clone(&PRIMARY_KEYS), arrays)
}

/// The schema of the calls about foreign keys, of which there are none.
pub static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// The schema and rows of GetTableTypes.
pub fn table_types() -> Result<RecordBatch, ArrowError> {
    let types: ArrayRef = Arc::new(StringArray::from(vec!["BASE TABLE", "VIEW"]));
    let schema = Arc::new(Schema::new(vec![Field::new("table_type", DataType::Utf8, false)]));
    RecordBatch::try_new(schema, vec![types])
}

/// The types of columns, as ODBC and JDBC want to know them.
pub fn type_info() -> arrow_flight::error::Result<XdbcTypeInfoData> {
    use XdbcDataType as Type;
    let mut builder = XdbcTypeInfoDataBuilder::new();
    let types = [
        ("boolean", Type::XdbcBit, 1, None),
        ("smallint", Type::XdbcSmallint, 16, Some(2)),
        ("integer", Type::XdbcInteger, 32, Some(2)),
        ("bigint", Type::XdbcBigint, 64, Some(2)),
        ("real", Type::XdbcFloat, 24, Some(2)),
        ("double precision", Type::XdbcDouble, 53, Some(2)),
        ("decimal", Type::XdbcDecimal, 76, Some(10)),
        ("varchar", Type::XdbcVarchar, i32::MAX, None),
        ("bytea", Type::XdbcVarbinary, i32::MAX, None),
        ("date", Type::XdbcDate, 10, None),
        ("time", Type::XdbcTime, 18, None),
        ("timestamp", Type::XdbcTimestamp, 29, None),
    ];
    for (name, data_type, column_size, radix) in types {
        let quoted = matches!(
            data_type,
            Type::XdbcVarchar | Type::XdbcVarbinary | Type::XdbcDate | Type::XdbcTime | Type::XdbcTimestamp
        );
        builder.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type,
            column_size: Some(column_size),
            literal_prefix: quoted.then(|| "'".to_owned()),
            literal_suffix: quoted.then(|| "'".to_owned()),
            create_params: None,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: data_type == Type::XdbcVarchar,
            searchable: Searchable::Full,
            unsigned_attribute: radix.map(|_| false),
            fixed_prec_scale: false,
            auto_increment: Some(false),
            local_type_name: Some(name.to_owned()),
            minimum_scale: None,
            maximum_scale: None,
            sql_data_type: data_type,
            datetime_subcode: None,
            num_prec_radix: radix,
            interval_precision: None,
        });
    }
    builder.build()
}
