//! The statements that make a keyspace, as its cluster tells them.

use serde::{Deserialize, Serialize};

use super::cluster::{CassandraCluster, quoted};
use super::error::CassandraError;

/// A part of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaObject {
    /// `keyspace`, `type`, `function`, `aggregate`, `table`, `index`, `materialized_view`.
    pub kind: String,
    /// Its name; of a function with its parameters.
    pub name: String,
    /// The statement that makes it.
    pub cql: String,
}

impl CassandraCluster {
    /// Everything in a keyspace, in an order in which it can be made. Needs Cassandra 4 or later.
    pub async fn describe_keyspace(&self, keyspace: &str) -> Result<Vec<SchemaObject>, CassandraError> {
        self.describe(&format!("KEYSPACE {}", quoted(keyspace))).await
    }

    /// A table with its indexes.
    pub async fn describe_table(&self, keyspace: &str, table: &str) -> Result<Vec<SchemaObject>, CassandraError> {
        self.describe(&format!("TABLE {}.{}", quoted(keyspace), quoted(table))).await
    }

    async fn describe(&self, what: &str) -> Result<Vec<SchemaObject>, CassandraError> {
        let words = format!("to describe {}", what.to_lowercase());
        let statement = self.schema_statement(format!("DESCRIBE {what}"));
        let result = self.session().query_unpaged(statement, ()).await;
        let refused = |reason: String| CassandraError::Refused { what: words.clone(), reason };
        let result = result.map_err(|error| CassandraError::from_execution(&words, &error))?;
        let rows = result.into_rows_result().map_err(|error| refused(error.to_string()))?;
        let rows =
            rows.rows::<(Option<String>, String, String, String)>().map_err(|error| refused(error.to_string()))?;
        rows.map(|row| {
            let (_, kind, name, cql) = row.map_err(|error| refused(error.to_string()))?;
            Ok(SchemaObject { kind, name, cql: cql.trim().trim_end_matches(';').to_owned() })
        })
        .collect()
    }
}

/// A statement of [`SchemaObject`] for a keyspace of another name; nothing else of it changes.
///
/// The keyspace's name stands after the word KEYSPACE and, with a dot after it, before the name of something in it.
/// Texts, comments and the bodies of functions are left alone.
pub fn for_keyspace(cql: &str, from: &str, to: &str) -> String {
    let chars: Vec<char> = cql.chars().collect();
    let mut result = String::with_capacity(cql.len() + to.len());
    let mut last_word = String::new();
    let mut last_mark = ' ';
    let mut at = 0;
    while let Some(c) = chars.get(at).copied() {
        let start = at;
        match c {
            '\'' => at = end_of_quoted(&chars, at),
            '"' => at = end_of_quoted(&chars, at),
            '$' if chars.get(at + 1) == Some(&'$') => {
                let body = chars[at + 2..].windows(2).position(|pair| pair == ['$', '$']);
                at = body.map_or(chars.len(), |length| at + length + 4);
            }
            c if is_name(c) => at += chars[at..].iter().take_while(|c| is_name(**c)).count(),
            _ => at += 1,
        }
        let token: String = chars[start..at].iter().collect();
        let name = match c {
            '"' => Some(token.trim_matches('"').replace("\"\"", "\"")),
            c if is_name(c) => Some(token.to_lowercase()),
            _ => None,
        };
        let Some(name) = name else {
            if !c.is_whitespace() {
                last_mark = c;
                last_word.clear();
            }
            result.push_str(&token);
            continue;
        };
        let is_qualifier = last_mark != '.' && chars[at..].iter().find(|c| !c.is_whitespace()) == Some(&'.');
        let is_named = is_qualifier || last_word == "keyspace";
        result.push_str(&if is_named && name == from { quoted(to) } else { token });
        last_word = if c == '"' { String::new() } else { name };
        last_mark = ' ';
    }
    result
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a text or name in quotes ends; a quote in it is doubled.
fn end_of_quoted(chars: &[char], start: usize) -> usize {
    let quote = chars.get(start).copied();
    let mut at = start + 1;
    while at < chars.len() {
        if chars.get(at).copied() == quote {
            if chars.get(at + 1).copied() != quote {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_keyspaces_name_changes() {
        for (cql, expected) in [
            (
                "CREATE KEYSPACE shop WITH replication = {'class': 'shop.X', 'dc1': '3'}",
                "CREATE KEYSPACE \"New\" WITH replication = {'class': 'shop.X', 'dc1': '3'}",
            ),
            (
                "CREATE TABLE shop.shop (shop int PRIMARY KEY, a frozen<address>) WITH comment = 'of shop.t, it''s shop.x'",
                "CREATE TABLE \"New\".shop (shop int PRIMARY KEY, a frozen<address>) WITH comment = 'of shop.t, it''s shop.x'",
            ),
            ("CREATE INDEX i ON shop.t (shop)", "CREATE INDEX i ON \"New\".t (shop)"),
            (
                "CREATE MATERIALIZED VIEW shop.v AS SELECT * FROM shop.\"T\" WHERE shop IS NOT NULL",
                "CREATE MATERIALIZED VIEW \"New\".v AS SELECT * FROM \"New\".\"T\" WHERE shop IS NOT NULL",
            ),
            (
                "CREATE FUNCTION shop.f(x int) LANGUAGE java AS $$ return shop.x; $$",
                "CREATE FUNCTION \"New\".f(x int) LANGUAGE java AS $$ return shop.x; $$",
            ),
        ] {
            assert_eq!(for_keyspace(cql, "shop", "New"), expected);
        }
        assert_eq!(for_keyspace("CREATE TYPE \"Shop\".a (b int)", "Shop", "x"), "CREATE TYPE \"x\".a (b int)");
        assert_eq!(for_keyspace("CREATE TYPE shop.a (b int)", "Shop", "x"), "CREATE TYPE shop.a (b int)");
        assert_eq!(for_keyspace("broken 'text", "Shop", "x"), "broken 'text");
    }
}
