//! PostgreSQL's built-in types, for `pg_type`, `format_type` and names in casts.

use std::sync::LazyLock;

use super::definitions::Row;

/// A built-in type.
#[derive(Debug)]
pub struct BuiltIn {
    /// Its number.
    pub oid: i32,
    /// Its name in `pg_type`.
    pub name: &'static str,
    /// Its size; -1 is "varies".
    pub length: &'static str,
    /// Whether it fits a machine word.
    pub by_value: &'static str,
    /// The element type of an array.
    pub element: i32,
    line: &'static str,
}

static TYPES: LazyLock<Vec<BuiltIn>> =
    LazyLock::new(|| include_str!("types.tsv").lines().skip(1).filter_map(BuiltIn::parse).collect());

/// Columns of `types.tsv`, in order.
const COLUMNS: [&str; 17] = [
    "oid",
    "typname",
    "typlen",
    "typbyval",
    "typtype",
    "typcategory",
    "typispreferred",
    "typdelim",
    "typelem",
    "typarray",
    "typinput",
    "typoutput",
    "typreceive",
    "typsend",
    "typalign",
    "typstorage",
    "typcollation",
];

/// Names that SQL has for types besides those of `pg_type`.
const SQL_NAMES: [(&str, &str); 16] = [
    ("bool", "boolean"),
    ("char", "\"char\""),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("bpchar", "character"),
    ("varchar", "character varying"),
    ("bit", "bit"),
    ("varbit", "bit varying"),
    ("time", "time without time zone"),
    ("timetz", "time with time zone"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("any", "\"any\""),
];

impl BuiltIn {
    fn parse(line: &'static str) -> Option<Self> {
        let mut cells = line.split('\t');
        let oid = cells.next()?.parse().ok()?;
        let (name, length, by_value) = (cells.next()?, cells.next()?, cells.next()?);
        let element = cells.nth(4)?.parse().ok()?;
        Some(Self { oid, name, length, by_value, element, line })
    }

    /// The type with a number.
    pub fn with_oid(oid: i32) -> Option<&'static Self> {
        TYPES.iter().find(|built_in| built_in.oid == oid)
    }

    /// The type with a name, `pg_type`'s or SQL's, arrays as `name[]` or `_name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = name.trim().trim_start_matches("pg_catalog.").to_lowercase();
        let (element, array) = name.strip_suffix("[]").map_or((name.as_str(), false), |element| (element, true));
        let element = match element.trim_matches('"') {
            "int" => "int4",
            "decimal" => "numeric",
            "character varying" | "string" => "varchar",
            other => SQL_NAMES.iter().find(|(_, sql)| *sql == other).map_or(other, |(name, _)| name),
        };
        let wanted = if array { format!("_{element}") } else { element.to_owned() };
        TYPES.iter().find(|built_in| built_in.name == wanted)
    }

    /// The name that SQL has for the type.
    pub fn sql_name(&self) -> String {
        if self.name.starts_with('_')
            && let Some(element) = Self::with_oid(self.element)
        {
            return format!("{}[]", element.sql_name());
        }
        let named = SQL_NAMES.iter().find(|(name, _)| *name == self.name);
        named.map_or(self.name, |(_, sql)| sql).to_owned()
    }
}

/// The name of a type with its modifier, as PostgreSQL's `format_type`.
pub fn format_type(oid: i32, modifier: Option<i32>) -> String {
    let Some(built_in) = BuiltIn::with_oid(oid) else { return "???".to_owned() };
    let name = built_in.sql_name();
    match (built_in.name, modifier.filter(|modifier| *modifier >= 4)) {
        ("numeric", Some(modifier)) => format!("{name}({},{})", (modifier - 4) >> 16, (modifier - 4) & 0xffff),
        ("varchar" | "bpchar", Some(modifier)) => format!("{name}({})", modifier - 4),
        _ => name,
    }
}

/// The rows of `pg_type`.
pub fn rows() -> Vec<Row> {
    let rows = TYPES.iter().map(|built_in| {
        let cells = COLUMNS.into_iter().zip(built_in.line.split('\t'));
        cells.filter(|(_, value)| *value != "\\N").map(|(name, value)| (name, value.to_owned())).collect()
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_by_their_many_names() {
        for (name, oid) in [("int4", 23), ("integer", 23), ("text[]", 1009), ("_text", 1009), ("pg_catalog.bool", 16)] {
            assert_eq!(BuiltIn::named(name).map(|built_in| built_in.oid), Some(oid), "{name}");
        }
        assert_eq!(format_type(1700, Some((15 << 16 | 2) + 4)), "numeric(15,2)");
        assert_eq!(format_type(1115, None), "timestamp without time zone[]");
    }
}
