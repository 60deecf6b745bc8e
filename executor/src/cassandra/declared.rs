//! Precision and scale of `decimal` and `varint` columns, which CQL does not have and SQL wants.
//!
//! They are declared in the table's comment, as `sluice.types: price decimal(12,2); total decimal(38,0)`,
//! which `CREATE TABLE` through Sluice writes for columns of such types and anybody can write with
//! `ALTER TABLE ... WITH comment = ...`. A column that is not declared is read as text, which
//! loses nothing; a value that does not fit its declaration is an error, never a rounded number.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Schema};

const MARKER: &str = "sluice.types:";

/// Declared types by the names of their columns.
pub type DeclaredTypes = BTreeMap<String, DataType>;

/// What a table's comment declares. Words that declare nothing are other people's.
pub fn parse(comment: &str) -> DeclaredTypes {
    let Some((_, declarations)) = comment.split_once(MARKER) else { return DeclaredTypes::new() };
    declarations.split(';').filter_map(declaration).collect()
}

fn declaration(text: &str) -> Option<(String, DataType)> {
    let (name, data_type) = text.trim().rsplit_once(" decimal(")?;
    let (precision, scale) = data_type.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse::<u8>().ok()?, scale.trim().parse::<i8>().ok()?);
    let data_type = match precision {
        1..=DECIMAL128_MAX_PRECISION => DataType::Decimal128(precision, scale),
        _ if precision > 0 && precision <= DECIMAL256_MAX_PRECISION => DataType::Decimal256(precision, scale),
        _ => return None,
    };
    (scale <= i8::try_from(precision).ok()?).then(|| (name.trim().to_owned(), data_type))
}

/// The declarations that a table of these columns needs, for its comment; `None` if none.
pub fn comment(schema: &Schema) -> Option<String> {
    let declarations: Vec<String> = schema
        .fields()
        .iter()
        .filter_map(|field| match field.data_type() {
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => Some(format!("{} decimal({precision},{scale})", field.name())),
            _ => None,
        })
        .collect();
    (!declarations.is_empty()).then(|| format!("{MARKER} {}", declarations.join("; ")))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Field;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int32, false),
            Field::new("price", DataType::Decimal128(12, 2), true),
            Field::new("a total", DataType::Decimal256(60, 10), true),
        ]);
        let comment = comment(&schema).expect("there are decimals");
        assert_eq!(comment, "sluice.types: price decimal(12,2); a total decimal(60,10)");
        let declared = parse(&format!("Orders of all years. {comment}"));
        assert_eq!(declared.get("price"), Some(&DataType::Decimal128(12, 2)));
        assert_eq!(declared.get("a total"), Some(&DataType::Decimal256(60, 10)));
    }

    #[test]
    fn other_comments_declare_nothing() {
        for comment in
            ["", "orders", "sluice.types: x", "sluice.types: x decimal(0,0); y decimal(99,1); z decimal(4,9)"]
        {
            assert!(parse(comment).is_empty(), "{comment}");
        }
    }
}
