//! Statements that move rows: `COPY`, `BACKUP`, `RESTORE`, `COMPARE`.
//!
//! DataFusion's own `COPY ... TO 'file' STORED AS ...` stays DataFusion's. What is parsed here has PostgreSQL's options in
//! parentheses, or names a folder by a slash at its end, or reads (`COPY ... FROM`), or goes between the server and its
//! client (`STDIN`, `STDOUT`), with the options of either of PostgreSQL's two spellings.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Cursor, Own, ParseError, Statement, StatementKind, Word, one_statement, slice_chars};

/// Options by name in lower case; each is a list, because `PARTITION_BY (a, b)` is one.
pub type TransferOptions = BTreeMap<String, Vec<String>>;

/// A statement that moves rows or compares them.
#[derive(Debug, Clone)]
pub enum Transfer {
    /// `COPY (query) | table TO 'path' (option value, ...)`.
    CopyTo { source: CopySource, path: String, options: TransferOptions },
    /// `COPY table FROM 'path' (option value, ...)`.
    CopyFrom { table: Vec<String>, path: String, options: TransferOptions },
    /// `BACKUP KEYSPACE name TO 'path/' (...)`.
    Backup { keyspace: Vec<String>, path: String, options: TransferOptions },
    /// `RESTORE KEYSPACE name FROM 'path/' (...)`.
    Restore { keyspace: Vec<String>, path: String, options: TransferOptions },
    /// `COMPARE [SUMMARY] left WITH right ...`.
    Compare(Compare),
}

/// What `COPY ... TO` reads.
#[derive(Debug, Clone)]
pub enum CopySource {
    /// A table by the parts of its name.
    Table(Vec<String>),
    /// A query in parentheses.
    Query(Box<Statement>),
}

/// `COMPARE [SUMMARY] left WITH right [ON (key, ...)] [COLUMNS (name, ...)] [LIMIT n]`.
#[derive(Debug, Clone)]
pub struct Compare {
    /// One row of counts instead of the rows that differ.
    pub is_summary: bool,
    /// One side.
    pub left: Relation,
    /// The other side.
    pub right: Relation,
    /// Columns that say which rows belong together; none for the primary key.
    pub on: Vec<String>,
    /// Columns that are compared; none for all.
    pub columns: Vec<String>,
    /// How many rows are given at most.
    pub limit: Option<u64>,
}

/// One side of a comparison.
#[derive(Debug, Clone)]
pub enum Relation {
    /// A table by the parts of its name; a path in quotes is a name of one part.
    Table(Vec<String>),
    /// A query's words.
    Query(String),
}

/// The statement, if it is one of these; `None` leaves the cursor anywhere.
pub(super) fn transfer(sql: &str, cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    if cursor.accept("COPY") {
        return copy(sql, cursor);
    }
    let parsed = if cursor.accept_all(&["BACKUP", "KEYSPACE"]) {
        let keyspace = cursor.expect_dotted("the name of a keyspace")?;
        cursor.expect("TO")?;
        let (path, options) = (path(cursor)?, options(cursor)?);
        Some((Transfer::Backup { keyspace, path, options }, "BACKUP"))
    } else if cursor.accept_all(&["RESTORE", "KEYSPACE"]) {
        let keyspace = cursor.expect_dotted("the name of a keyspace")?;
        cursor.expect("FROM")?;
        let (path, options) = (path(cursor)?, options(cursor)?);
        Some((Transfer::Restore { keyspace, path, options }, "RESTORE"))
    } else if cursor.accept("COMPARE") {
        Some((Transfer::Compare(compare(sql, cursor)?), "SELECT"))
    } else if cursor.is("BACKUP") || cursor.is("RESTORE") {
        cursor.at += 1;
        return Err(cursor.error("KEYSPACE"));
    } else {
        None
    };
    Ok(parsed.map(|(transfer, tag)| (StatementKind::Transfer(Box::new(transfer)), tag)))
}

fn copy(sql: &str, cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    let is_query = starts_list(cursor);
    let query = if is_query { Some(in_parentheses(cursor)?) } else { None };
    let table = if is_query { Vec::new() } else { cursor.expect_dotted("a table, or a query in parentheses")? };
    let columns = if !is_query && starts_list(cursor) { names(cursor)? } else { Vec::new() };
    let source = |table: Vec<String>| match query {
        Some(words) => one_statement(sql, words).map(|query| CopySource::Query(Box::new(query))),
        None => Ok(CopySource::Table(table)),
    };
    if !is_query && cursor.accept("FROM") {
        if cursor.accept("STDIN") {
            let kind = StatementKind::CopyIn { table, columns, options: stream_options(cursor)? };
            return Ok(Some((kind, "COPY")));
        }
        if !is_text(cursor) || !columns.is_empty() {
            // FROM PROGRAM has an error of its own.
            return Ok(None);
        }
        let (path, options) = (path(cursor)?, options(cursor)?);
        return Ok(Some(copy_kind(Transfer::CopyFrom { table, path, options })));
    }
    if !cursor.accept("TO") {
        return Ok(None);
    }
    if cursor.accept("STDOUT") {
        let kind = StatementKind::CopyOut { source: source(table)?, columns, options: stream_options(cursor)? };
        return Ok(Some((kind, "COPY")));
    }
    if !is_text(cursor) || !columns.is_empty() {
        return Ok(None);
    }
    let path = path(cursor)?;
    let has_options = starts_list(cursor)
        || cursor.is("WITH") && cursor.words.get(cursor.at + 1).is_some_and(|w| w.token.token == Token::LParen);
    let is_ours = has_options || (cursor.peek().is_none() && path.ends_with('/'));
    if !is_ours {
        return Ok(None);
    }
    let options = options(cursor)?;
    Ok(Some(copy_kind(Transfer::CopyTo { source: source(table)?, path, options })))
}

fn copy_kind(transfer: Transfer) -> Own {
    (StatementKind::Transfer(Box::new(transfer)), "COPY")
}

fn starts_list(cursor: &Cursor<'_>) -> bool {
    cursor.peek().is_some_and(|word| word.token.token == Token::LParen)
}

/// The options of a copy between the server and its client: in parentheses, or in the spelling of PostgreSQL before 9.0,
/// which psql's users still type: `WITH CSV HEADER DELIMITER AS ';'`.
fn stream_options(cursor: &mut Cursor<'_>) -> Result<TransferOptions, ParseError> {
    let has_list = cursor.is("WITH") && cursor.words.get(cursor.at + 1).is_some_and(|w| w.token.token == Token::LParen);
    if has_list || starts_list(cursor) {
        return options(cursor);
    }
    cursor.accept("WITH");
    let mut options = TransferOptions::new();
    while cursor.peek().is_some() {
        let (name, value) = if cursor.accept("BINARY") {
            ("format", vec!["binary".to_owned()])
        } else if cursor.accept("CSV") {
            ("format", vec!["csv".to_owned()])
        } else if cursor.accept("HEADER") {
            ("header", vec!["true".to_owned()])
        } else if cursor.accept("FREEZE") {
            ("freeze", vec!["true".to_owned()])
        } else if cursor.accept_all(&["FORCE", "QUOTE"]) {
            ("force_quote", columns_or_all(cursor)?)
        } else if cursor.accept_all(&["FORCE", "NOT", "NULL"]) {
            ("force_not_null", columns_or_all(cursor)?)
        } else if cursor.accept_all(&["FORCE", "NULL"]) {
            ("force_null", columns_or_all(cursor)?)
        } else {
            let known = ["delimiter", "null", "quote", "escape", "encoding"];
            let Some(name) = known.into_iter().find(|name| cursor.accept(&name.to_uppercase())) else {
                return Err(cursor.error("an option of COPY"));
            };
            cursor.accept("AS");
            if !is_text(cursor) {
                return Err(cursor.error("a text in quotes"));
            }
            (name, vec![cursor.next().map(Word::text).unwrap_or_default()])
        };
        if options.insert(name.to_owned(), value).is_some() {
            return Err(cursor.error(&format!("option {name} only once")));
        }
    }
    Ok(options)
}

/// `*`, or columns without parentheses.
fn columns_or_all(cursor: &mut Cursor<'_>) -> Result<Vec<String>, ParseError> {
    if cursor.accept_token(&Token::Mul) {
        return Ok(vec!["*".to_owned()]);
    }
    cursor.expect_names("a column")
}

fn compare(sql: &str, cursor: &mut Cursor<'_>) -> Result<Compare, ParseError> {
    let is_summary = cursor.accept("SUMMARY");
    let left = relation(sql, cursor)?;
    cursor.expect("WITH")?;
    let right = relation(sql, cursor)?;
    let on = if cursor.accept("ON") { names(cursor)? } else { Vec::new() };
    let columns = if cursor.accept("COLUMNS") { names(cursor)? } else { Vec::new() };
    let limit = match cursor.accept("LIMIT") {
        true => {
            let number = cursor.peek().map(Word::text).and_then(|text| text.parse().ok());
            let number = number.ok_or_else(|| cursor.error("a number of rows"))?;
            cursor.at += 1;
            Some(number)
        }
        false => None,
    };
    Ok(Compare { is_summary, left, right, on, columns, limit })
}

fn relation(sql: &str, cursor: &mut Cursor<'_>) -> Result<Relation, ParseError> {
    if is_text(cursor) {
        return Ok(Relation::Table(vec![path(cursor)?]));
    }
    if cursor.peek().is_some_and(|word| word.token.token == Token::LParen) {
        let words = in_parentheses(cursor)?;
        let (start, end) = (words.first().map_or(0, |word| word.start), words.last().map_or(0, |word| word.end));
        return Ok(Relation::Query(slice_chars(sql, start, end)));
    }
    Ok(Relation::Table(cursor.expect_dotted("a table, a path in quotes, or a query in parentheses")?))
}

/// The words between a parenthesis and the one that closes it.
fn in_parentheses<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [Word], ParseError> {
    let words = cursor.words;
    let start = cursor.at + 1;
    let mut depth = 0usize;
    while let Some(word) = words.get(cursor.at) {
        cursor.at += 1;
        match word.token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return words
                .get(start..cursor.at - 1)
                .filter(|inner| !inner.is_empty())
                .ok_or_else(|| cursor.error("a query"));
        }
    }
    Err(cursor.error("a closing parenthesis"))
}

fn is_text(cursor: &Cursor<'_>) -> bool {
    let token = cursor.peek().map(|word| &word.token.token);
    matches!(token, Some(Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_)))
}

fn path(cursor: &mut Cursor<'_>) -> Result<String, ParseError> {
    if !is_text(cursor) {
        return Err(cursor.error("a path in quotes"));
    }
    let path = cursor.next().map(Word::text).unwrap_or_default();
    if path.is_empty() {
        return Err(cursor.error("a path that is not empty"));
    }
    Ok(path)
}

fn names(cursor: &mut Cursor<'_>) -> Result<Vec<String>, ParseError> {
    cursor.expect_token(&Token::LParen)?;
    let names = cursor.expect_names("a column")?;
    cursor.expect_token(&Token::RParen)?;
    Ok(names)
}

/// `[WITH] (name [=] value, name (a, b), name, ...)`; nothing is no options.
fn options(cursor: &mut Cursor<'_>) -> Result<TransferOptions, ParseError> {
    let mut options = TransferOptions::new();
    let is_needed = cursor.accept("WITH");
    if !cursor.accept_token(&Token::LParen) {
        return if is_needed { Err(cursor.error("options in parentheses")) } else { Ok(options) };
    }
    loop {
        let name = cursor.expect_name("an option")?.to_lowercase();
        cursor.accept_token(&Token::Eq);
        let value = match cursor.peek().map(|word| &word.token.token) {
            Some(Token::LParen) => names(cursor)?,
            Some(Token::Comma | Token::RParen) | None => vec!["true".to_owned()],
            Some(Token::Word(_)) => vec![cursor.expect_name("a value")?],
            Some(_) => vec![cursor.next().map(Word::text).unwrap_or_default()],
        };
        if options.insert(name.clone(), value).is_some() {
            return Err(cursor.error(&format!("option {name} only once")));
        }
        if !cursor.accept_token(&Token::Comma) {
            cursor.expect_token(&Token::RParen)?;
            return Ok(options);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn only(sql: &str) -> Transfer {
        let statement = parse(sql).expect("parses").remove(0);
        let StatementKind::Transfer(transfer) = statement.kind else { panic!("{sql}: {statement:?}") };
        *transfer
    }

    fn is_datafusions(sql: &str) -> bool {
        matches!(parse(sql).expect("parses").remove(0).kind, StatementKind::Sql(_))
    }

    #[test]
    fn copy_takes_postgresqls_options() {
        let sql = "COPY (SELECT a, (b) FROM t) TO '/tmp/d/' (FORMAT parquet, PARTITION_BY (a, \"B\"), COMPRESSION 'zstd', HEADER)";
        let Transfer::CopyTo { source: CopySource::Query(query), path, options } = only(sql) else { panic!() };
        assert_eq!((query.text.as_str(), path.as_str()), ("SELECT a, (b) FROM t", "/tmp/d/"));
        assert_eq!(options["partition_by"], ["a", "B"]);
        assert_eq!(options["format"], ["parquet"]);
        assert_eq!(options["compression"], ["zstd"]);
        assert_eq!(options["header"], ["true"]);
        let Transfer::CopyTo { source: CopySource::Table(table), options, .. } = only("copy cass.ks.\"T\" to 'd/'")
        else {
            panic!()
        };
        assert_eq!(table, ["cass", "ks", "T"]);
        assert!(options.is_empty());
        only("COPY t TO 'x.parquet' WITH (FORMAT parquet)");
    }

    #[test]
    fn rows_go_to_and_come_from_the_client() {
        let kind = |sql: &str| parse(sql).expect("parses").remove(0).kind;
        let StatementKind::CopyOut { source: CopySource::Query(query), options, .. } =
            kind("COPY (SELECT 1, (2)) TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)")
        else {
            panic!()
        };
        assert_eq!(query.text, "SELECT 1, (2)");
        assert_eq!((&options["format"][0], &options["force_quote"][0]), (&"csv".to_owned(), &"*".to_owned()));
        let old =
            "COPY cass.ks.\"T\" (a, \"B\") FROM STDIN WITH CSV HEADER DELIMITER AS ';' NULL '' FORCE NOT NULL a, b";
        let StatementKind::CopyIn { table, columns, options } = kind(old) else { panic!() };
        assert_eq!((table.join("."), columns), ("cass.ks.T".to_owned(), vec!["a".to_owned(), "B".to_owned()]));
        assert_eq!(
            (&options["delimiter"][0], &options["null"][0], &options["force_not_null"][1]),
            (&";".to_owned(), &String::new(), &"b".to_owned())
        );
        assert!(matches!(kind("COPY t TO STDOUT"), StatementKind::CopyOut { .. }));
        assert!(parse("COPY t FROM STDIN WITH NONSENSE").is_err());
    }

    #[test]
    fn datafusions_copy_stays_its_own() {
        for sql in [
            "COPY t TO '/tmp/x.parquet' STORED AS PARQUET",
            "COPY (SELECT 1) TO '/tmp/dir/' STORED AS PARQUET PARTITIONED BY (a)",
            "COPY t TO '/tmp/x.parquet'",
        ] {
            assert!(is_datafusions(sql), "{sql}");
        }
    }

    #[test]
    fn a_keyspace_is_backed_up_and_restored() {
        let Transfer::Backup { keyspace, path, .. } = only("BACKUP KEYSPACE cass.ks TO '/b/'") else { panic!() };
        assert_eq!((keyspace.join("."), path.as_str()), ("cass.ks".to_owned(), "/b/"));
        let sql = "RESTORE KEYSPACE cass.ks2 FROM '/b/' WITH (replication_factor = 1)";
        let Transfer::Restore { options, .. } = only(sql) else { panic!() };
        assert_eq!(options["replication_factor"], ["1"]);
        let error = parse("BACKUP TABLE x TO '/b/'").expect_err("is no keyspace");
        assert!(error.message.contains("KEYSPACE"), "{error}");
    }

    #[test]
    fn compare_names_keys_and_columns() {
        let sql = "COMPARE cass.ks.t WITH '/b/t/' ON (a, b) COLUMNS (c) LIMIT 10";
        let Transfer::Compare(compare) = only(sql) else { panic!() };
        assert!(!compare.is_summary);
        assert_eq!(
            (compare.on, compare.columns, compare.limit),
            (vec!["a".into(), "b".into()], vec!["c".into()], Some(10))
        );
        let Transfer::Compare(compare) = only("COMPARE SUMMARY a WITH (SELECT * FROM b)") else { panic!() };
        assert!(compare.is_summary);
        assert!(matches!(compare.right, Relation::Query(query) if query == "SELECT * FROM b"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let error = parse("COPY t FROM '/d/' (FORMAT").expect_err("is wrong");
        assert!(error.offset.is_some(), "{error}");
        assert!(parse("COPY t TO '/d/' (a 1, a 2)").is_err());
        assert!(parse("COMPARE a").is_err());
        assert!(parse("RESTORE KEYSPACE a FROM b").is_err());
    }
}
