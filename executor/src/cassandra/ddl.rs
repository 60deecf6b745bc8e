//! Statements that create and drop, in CQL.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::Schema;

use super::cluster::quoted;
use super::declared;
use super::error::CassandraError;
use super::types::cql_type;

/// Table options that are passed on; a number or a text.
const TABLE_OPTIONS: [&str; 3] = ["comment", "default_time_to_live", "gc_grace_seconds"];

/// `CREATE KEYSPACE` with `replication_factor` (1 if it is not given).
pub fn create_keyspace_cql(name: &str, options: &BTreeMap<String, String>) -> Result<String, CassandraError> {
    let mut factor = 1;
    for (key, value) in options {
        match key.as_str() {
            "replication_factor" => {
                factor = value.parse::<u8>().ok().filter(|factor| *factor > 0).ok_or_else(|| {
                    CassandraError::Ddl(format!("a replication_factor of \"{value}\" is no number of nodes"))
                })?;
            }
            _ => {
                return Err(CassandraError::Ddl(format!(
                    "unknown option \"{key}\" of a keyspace; there is replication_factor"
                )));
            }
        }
    }
    Ok(format!(
        "CREATE KEYSPACE {} WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': {factor}}}",
        quoted(name)
    ))
}

/// `DROP KEYSPACE` with all its tables.
pub fn drop_keyspace_cql(name: &str) -> String {
    format!("DROP KEYSPACE {}", quoted(name))
}

/// `DROP TABLE`.
pub fn drop_table_cql(keyspace: &str, table: &str) -> String {
    format!("DROP TABLE {}.{}", quoted(keyspace), quoted(table))
}

/// `TRUNCATE`.
pub fn truncate_cql(keyspace: &str, table: &str) -> String {
    format!("TRUNCATE {}.{}", quoted(keyspace), quoted(table))
}

/// `CREATE TABLE` for columns of Arrow types.
///
/// The option `primary_key` is needed: `'id'`, `'customer, day desc'` or `'(customer, year), day'`.
pub fn create_table_cql(
    keyspace: &str,
    table: &str,
    schema: &Schema,
    options: &BTreeMap<String, String>,
) -> Result<String, CassandraError> {
    let key = options.get("primary_key").ok_or_else(|| {
        CassandraError::Ddl(format!("table {keyspace}.{table} needs a primary key: WITH (primary_key = 'column, ...')"))
    })?;
    let key = PrimaryKey::parse(key)?;
    for name in key.partition.iter().chain(key.clustering.iter().map(|(name, _)| name)) {
        if schema.field_with_name(name).is_err() {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(CassandraError::Ddl(format!(
                "the primary key names a column \"{name}\" that the table does not have; there are: {}",
                names.join(", ")
            )));
        }
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(format!("{} {}", quoted(field.name()), cql_type(field.data_type())?));
    }
    let mut with = Vec::new();
    if key.clustering.iter().any(|(_, descending)| *descending) {
        let order = key
            .clustering
            .iter()
            .map(|(name, descending)| format!("{} {}", quoted(name), if *descending { "DESC" } else { "ASC" }));
        with.push(format!("CLUSTERING ORDER BY ({})", order.collect::<Vec<_>>().join(", ")));
    }
    let mut options = options.clone();
    if let Some(declarations) = declared::comment(schema) {
        let comment = options.entry("comment".to_owned()).or_default();
        *comment = format!("{comment} {declarations}").trim_start().to_owned();
    }
    for (name, value) in options.iter().filter(|(name, _)| name.as_str() != "primary_key") {
        if !TABLE_OPTIONS.contains(&name.as_str()) {
            return Err(CassandraError::Ddl(format!(
                "unknown option \"{name}\" of a table; there are: primary_key, {}",
                TABLE_OPTIONS.join(", ")
            )));
        }
        let value =
            if value.parse::<i64>().is_ok() { value.clone() } else { format!("'{}'", value.replace('\'', "''")) };
        with.push(format!("{name} = {value}"));
    }
    let with = if with.is_empty() { String::new() } else { format!(" WITH {}", with.join(" AND ")) };
    Ok(format!(
        "CREATE TABLE {}.{} ({}, PRIMARY KEY ({})){with}",
        quoted(keyspace),
        quoted(table),
        columns.join(", "),
        key.cql()
    ))
}

/// A parsed primary key.
#[derive(Debug, PartialEq, Eq)]
struct PrimaryKey {
    partition: Vec<String>,
    /// Names, and whether the order is descending.
    clustering: Vec<(String, bool)>,
}

impl PrimaryKey {
    fn parse(text: &str) -> Result<Self, CassandraError> {
        let wrong = || {
            CassandraError::Ddl(format!(
                "\"{text}\" is no primary key: write 'id', 'customer, day desc' or '(customer, year), day'"
            ))
        };
        let mut text_left = text.trim();
        // '((a, b), c)' is the same as '(a, b), c'.
        if text_left.starts_with("((")
            || (text_left.starts_with('(')
                && text_left.ends_with(')')
                && !text_left[1..].contains('(')
                && text_left.matches(')').count() == 1)
        {
            text_left = text_left.strip_prefix('(').and_then(|t| t.strip_suffix(')')).ok_or_else(wrong)?.trim();
        }
        let (partition, rest) = match text_left.strip_prefix('(') {
            Some(inner) => {
                let (names, rest) = inner.split_once(')').ok_or_else(wrong)?;
                (names.split(',').map(column_name).collect::<Option<Vec<_>>>().ok_or_else(wrong)?, rest.trim())
            }
            None => {
                let (first, rest) = text_left.split_once(',').map_or((text_left, ""), |(first, rest)| (first, rest));
                (vec![column_name(first).ok_or_else(wrong)?], rest)
            }
        };
        let rest = rest.trim().trim_start_matches(',').trim();
        let mut clustering = Vec::new();
        for part in rest.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, descending) = match part.rsplit_once(char::is_whitespace) {
                Some((name, word)) if word.eq_ignore_ascii_case("desc") => (name, true),
                Some((name, word)) if word.eq_ignore_ascii_case("asc") => (name, false),
                _ => (part, false),
            };
            clustering.push((column_name(name).ok_or_else(wrong)?, descending));
        }
        Ok(Self { partition, clustering })
    }

    fn cql(&self) -> String {
        let partition = self.partition.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let clustering = self.clustering.iter().map(|(name, _)| format!(", {}", quoted(name))).collect::<String>();
        format!("({partition}){clustering}")
    }
}

/// A name as SQL folds it: lower case unless quoted.
fn column_name(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return Some(inner.replace("\"\"", "\""));
    }
    let plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    plain.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn a_primary_key_has_several_spellings() {
        for (text, cql) in [
            ("id", "(\"id\")"),
            ("(id)", "(\"id\")"),
            ("a, b", "(\"a\"), \"b\""),
            ("(a, b), c", "(\"a\", \"b\"), \"c\""),
            ("((a, b), c desc)", "(\"a\", \"b\"), \"c\""),
            ("(a, b)", "(\"a\"), \"b\""),
            ("\"Id\", day DESC", "(\"Id\"), \"day\""),
        ] {
            assert_eq!(PrimaryKey::parse(text).expect("parses").cql(), cql, "{text}");
        }
        assert!(PrimaryKey::parse("a; DROP TABLE b").is_err());
    }

    #[test]
    fn a_table_gets_columns_key_and_order() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, false), Field::new("b", DataType::Utf8, true)]);
        let options = [("primary_key".to_owned(), "a, b desc".to_owned())].into();
        assert_eq!(
            create_table_cql("ks", "T", &schema, &options).expect("is right"),
            "CREATE TABLE \"ks\".\"T\" (\"a\" int, \"b\" text, PRIMARY KEY ((\"a\"), \"b\")) WITH CLUSTERING ORDER BY (\"b\" DESC)"
        );
    }

    #[test]
    fn a_table_without_a_key_is_told_how_to_name_one() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, false)]);
        let error = create_table_cql("ks", "t", &schema, &BTreeMap::new()).expect_err("has no key");
        assert!(error.to_string().contains("primary_key"), "{error}");
        let options = [("primary_key".to_owned(), "b".to_owned())].into();
        assert!(create_table_cql("ks", "t", &schema, &options).is_err());
    }
}
