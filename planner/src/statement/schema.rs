//! Statements that create and drop in CQL's words: keyspaces and indexes.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Cursor, Own, ParseError, StatementKind, options};

/// An index to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDefinition {
    /// Its name; `None` leaves it to Cassandra.
    pub name: Option<String>,
    /// Whether one that is there already will do.
    pub if_not_exists: bool,
    /// The table's name, in its parts.
    pub table: Vec<String>,
    /// The column.
    pub column: String,
    /// `keys`, `values`, `entries` or `full`, for collections.
    pub part: Option<String>,
    /// The kind of index, such as `sai`.
    pub method: Option<String>,
    /// Options of this kind of index.
    pub options: BTreeMap<String, String>,
}

/// `CREATE KEYSPACE [IF NOT EXISTS] name [WITH (option = value, ...)]`.
pub(super) fn create_keyspace(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    if !cursor.accept_all(&["CREATE", "KEYSPACE"]) {
        return Ok(None);
    }
    let if_not_exists = cursor.accept_all(&["IF", "NOT", "EXISTS"]);
    let name = cursor.expect_dotted("the name of a keyspace")?;
    let options = if cursor.accept("WITH") { options(cursor)? } else { BTreeMap::new() };
    Ok(Some((StatementKind::CreateKeyspace { name, if_not_exists, options }, "CREATE KEYSPACE")))
}

/// `DROP KEYSPACE [IF EXISTS] name [CASCADE]`.
pub(super) fn drop_keyspace(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    if !cursor.accept_all(&["DROP", "KEYSPACE"]) {
        return Ok(None);
    }
    let if_exists = cursor.accept_all(&["IF", "EXISTS"]);
    let name = cursor.expect_dotted("the name of a keyspace")?;
    let cascade = cursor.accept("CASCADE");
    if !cascade {
        cursor.accept("RESTRICT");
    }
    Ok(Some((StatementKind::DropKeyspace { name, if_exists, cascade }, "DROP KEYSPACE")))
}

/// `CREATE INDEX [IF NOT EXISTS] [name] ON table (column) [USING method] [WITH (option = value, ...)]`, with the
/// method before the column, too, as PostgreSQL has it.
pub(super) fn create_index(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    if !(cursor.accept_all(&["CREATE", "INDEX"]) || cursor.accept_all(&["CREATE", "CUSTOM", "INDEX"])) {
        return Ok(None);
    }
    let if_not_exists = cursor.accept_all(&["IF", "NOT", "EXISTS"]);
    let name = if cursor.is("ON") { None } else { Some(cursor.expect_name("the name of an index")?) };
    cursor.expect("ON")?;
    let table = cursor.expect_dotted("the name of a table")?;
    let before = method(cursor)?;
    cursor.expect_token(&Token::LParen)?;
    let mut column = cursor.expect_name("the name of a column")?;
    let mut part = None;
    if cursor.accept_token(&Token::LParen) {
        if !["keys", "values", "entries", "full"].contains(&column.as_str()) {
            return Err(cursor.error("keys, values, entries or full before a column in parentheses"));
        }
        part = Some(std::mem::replace(&mut column, cursor.expect_name("the name of a column")?));
        cursor.expect_token(&Token::RParen)?;
    }
    cursor.expect_token(&Token::RParen)?;
    let method = method(cursor)?.or(before);
    let options = if cursor.accept("WITH") { options(cursor)? } else { BTreeMap::new() };
    let index = IndexDefinition { name, if_not_exists, table, column, part, method, options };
    Ok(Some((StatementKind::CreateIndex(index), "CREATE INDEX")))
}

fn method(cursor: &mut Cursor<'_>) -> Result<Option<String>, ParseError> {
    if !cursor.accept("USING") {
        return Ok(None);
    }
    match cursor.next().map(super::Word::text) {
        Some(method) => Ok(Some(method)),
        None => Err(cursor.error("a kind of index, such as sai")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn kind(sql: &str) -> StatementKind {
        parse(sql).expect(sql).remove(0).kind
    }

    #[test]
    fn a_keyspace_is_made_with_factors_of_data_centres() {
        let StatementKind::CreateKeyspace { name, if_not_exists, options } =
            kind("CREATE KEYSPACE IF NOT EXISTS cass.ks WITH (\"DC-1\" = 3, durable_writes = false)")
        else {
            panic!("is no keyspace");
        };
        assert_eq!((name.join("."), if_not_exists), ("cass.ks".to_owned(), true));
        assert_eq!(options["DC-1"], "3");
        assert_eq!(options["durable_writes"], "false");
    }

    #[test]
    fn an_index_takes_its_method_before_or_after_its_column() {
        let StatementKind::CreateIndex(index) =
            kind("CREATE INDEX v ON cass.ks.t (v) USING 'sai' WITH (similarity_function = 'cosine')")
        else {
            panic!("is no index");
        };
        assert_eq!((index.method.as_deref(), index.column.as_str()), (Some("sai"), "v"));
        assert_eq!(index.options["similarity_function"], "cosine");
        let StatementKind::CreateIndex(index) = kind("CREATE INDEX ON t USING sai (keys(m))") else {
            panic!("is no index");
        };
        assert_eq!((index.method.as_deref(), index.part.as_deref(), index.name), (Some("sai"), Some("keys"), None));
    }

    #[test]
    fn a_keyspace_is_dropped_with_its_tables() {
        let StatementKind::DropKeyspace { cascade, if_exists, .. } = kind("DROP KEYSPACE IF EXISTS cass.ks CASCADE")
        else {
            panic!("is no keyspace");
        };
        assert!(cascade && if_exists);
    }
}
