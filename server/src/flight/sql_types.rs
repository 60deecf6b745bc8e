//! Names of types in SQL, for tables that are created for a client's rows.

use datafusion::arrow::datatypes::{DataType, TimeUnit};

/// The SQL type of a column for values of an Arrow type; `None` if no table can have such a column.
///
/// Unsigned numbers get the next wider signed type, because Cassandra and PostgreSQL's clients have no others.
pub fn sql_type(data_type: &DataType) -> Option<String> {
    let name = match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 | DataType::UInt8 => "SMALLINT",
        DataType::Int32 | DataType::UInt16 => "INTEGER",
        DataType::Int64 | DataType::UInt32 => "BIGINT",
        DataType::UInt64 => "DECIMAL(20, 0)",
        DataType::Float16 | DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE PRECISION",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "TEXT",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BYTEA",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Timestamp(unit, zone) => {
            let zone = if zone.is_some() { " WITH TIME ZONE" } else { "" };
            return Some(format!("TIMESTAMP({}){zone}", digits(*unit)));
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if *scale >= 0 =>
        {
            return Some(format!("DECIMAL({precision}, {scale})"));
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _) => {
            return sql_type(item.data_type()).map(|item| format!("{item}[]"));
        }
        DataType::Dictionary(_, values) => return sql_type(values),
        DataType::RunEndEncoded(_, values) => return sql_type(values.data_type()),
        _ => return None,
    };
    Some(name.to_owned())
}

/// Digits of a second's fraction.
fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::Field;

    use super::*;

    #[test]
    fn columns_have_the_type_that_holds_their_values() {
        let item = Arc::new(Field::new("item", DataType::UInt32, true));
        for (arrow, sql) in [
            (DataType::Int64, "BIGINT"),
            (DataType::UInt64, "DECIMAL(20, 0)"),
            (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "TEXT"),
            (DataType::Timestamp(TimeUnit::Microsecond, None), "TIMESTAMP(6)"),
            (DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), "TIMESTAMP(3) WITH TIME ZONE"),
            (DataType::Decimal128(12, 2), "DECIMAL(12, 2)"),
            (DataType::List(item), "BIGINT[]"),
        ] {
            assert_eq!(sql_type(&arrow).as_deref(), Some(sql), "{arrow}");
        }
        assert_eq!(sql_type(&DataType::Null), None);
        assert_eq!(sql_type(&DataType::Decimal128(5, -2)), None);
    }
}
