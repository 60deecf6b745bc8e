//! A client's text as statements.
//!
//! DataFusion's parser with the PostgreSQL dialect does the queries; what Sluice adds (catalogs,
//! session settings, transactions, PostgreSQL's spelling of `EXPLAIN`) is recognised by its first
//! words and parsed here. Text is split at top-level semicolons by sqlparser's tokenizer, so that
//! every statement keeps its own words and its place in the whole, which error positions need.

mod cursor;
mod policy;
mod role;
mod schema;
mod trace_comment;
mod transfer;
mod using;

pub use cursor::Direction;
pub use policy::{PolicyDefinition, PolicyKind, PolicyStatement};
pub use role::{Granted, ObjectKind, RoleOptions, Secret};
pub use schema::IndexDefinition;
pub use transfer::{Compare, CopySource, Relation, Transfer, TransferOptions};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectNamePart, visit_expressions, visit_relations};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use sluice_executor::cassandra::Using;

/// Depth of nested expressions and queries that is still parsed; deeper ones are refused.
pub const RECURSION_LIMIT: usize = 64;

/// Words of one expression or clause between two commas; more may nest deeper than a thread's stack, because
/// `1 + 1 + 1` is a tree of its number of operators.
pub const MOST_WORDS_WITHOUT_COMMA: usize = 20_000;

/// Text that is not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// What was wrong.
    pub message: String,
    /// Zero-based character offset in the text, where it is known.
    pub offset: Option<usize>,
    /// Whether it may be right but is too much.
    pub is_too_complex: bool,
}

impl ParseError {
    fn new(message: impl Into<String>, offset: Option<usize>) -> Self {
        Self { message: message.into(), offset, is_too_complex: false }
    }
}

/// One statement of a client's text.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The statement's own words, without the semicolon.
    pub text: String,
    /// Zero-based character offset of `text` in what the client sent.
    pub offset: usize,
    /// What it asks for.
    pub kind: StatementKind,
    /// PostgreSQL's command tag: `SELECT`, `INSERT`, `CREATE TABLE`...
    pub tag: &'static str,
    /// `USING TTL ... AND TIMESTAMP ...` of a statement that writes to Cassandra.
    pub using: Using,
    /// The trace that it belongs to, by a comment `/* traceparent='00-...' */` in what the client sent.
    pub trace_parent: Option<String>,
}

impl Statement {
    /// PostgreSQL's command tag: `SELECT`, `INSERT`, `CREATE TABLE`...
    pub fn tag(&self) -> &'static str {
        self.tag
    }

    /// Zero-based character offset, in what the client sent, of a place in the statement's own text.
    pub fn offset_of(&self, place: Location) -> usize {
        self.offset + LineOffsets::new(&self.text).offset(place)
    }

    /// The statement that this one is about, if it has one: what is explained, or the query that is copied.
    pub fn inner_mut(&mut self) -> Option<&mut Self> {
        match &mut self.kind {
            StatementKind::Explain { statement, .. } => Some(statement),
            StatementKind::DeclareCursor { query, .. }
            | StatementKind::CopyOut { source: CopySource::Query(query), .. } => Some(query),
            StatementKind::Transfer(transfer) => match transfer.as_mut() {
                Transfer::CopyTo { source: CopySource::Query(query), .. } => Some(query),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is a `COPY` between the server and its client.
    pub fn is_copy_with_client(&self) -> bool {
        matches!(self.kind, StatementKind::CopyOut { .. } | StatementKind::CopyIn { .. })
    }

    /// Whether the statement ends a transaction block, which a failed block still accepts.
    pub fn is_transaction_end(&self) -> bool {
        matches!(self.kind, StatementKind::Commit | StatementKind::Rollback)
            || (matches!(self.kind, StatementKind::Savepoint) && self.tag == "ROLLBACK")
    }
}

/// What a statement asks for.
#[derive(Debug, Clone)]
pub enum StatementKind {
    /// Planned by DataFusion, or by the engine from DataFusion's syntax tree.
    Sql(Box<DfStatement>),
    /// `EXPLAIN [ANALYZE] statement`.
    Explain { analyze: bool, verbose: bool, format: ExplainFormat, statement: Box<Statement> },
    /// `CREATE CATALOG name USING connector WITH (option = 'value', ...)`.
    CreateCatalog { name: String, if_not_exists: bool, connector: String, options: BTreeMap<String, String> },
    /// `DROP CATALOG name`.
    DropCatalog { name: String, if_exists: bool },
    /// `REFRESH CATALOG name`.
    RefreshCatalog { name: String },
    /// `CREATE KEYSPACE name WITH (option = value, ...)`.
    CreateKeyspace { name: Vec<String>, if_not_exists: bool, options: BTreeMap<String, String> },
    /// `DROP KEYSPACE name [CASCADE]`.
    DropKeyspace { name: Vec<String>, if_exists: bool, cascade: bool },
    /// `CREATE INDEX name ON table (column) USING method WITH (option = value, ...)`.
    CreateIndex(IndexDefinition),
    /// `CREATE QUEUE path WITH (option = value, ...)`.
    CreateQueue { path: String, if_not_exists: bool, options: BTreeMap<String, String> },
    /// `ALTER QUEUE path SET (option = value, ...)`.
    AlterQueue { path: String, options: BTreeMap<String, String> },
    /// `DROP QUEUE path`.
    DropQueue { path: String, if_exists: bool },
    /// `RESERVE (resource = amount, ...) ON HOST name FOR QUEUE path`; without amounts it is given back.
    Reserve { host: String, queue: String, amounts: BTreeMap<String, String> },
    /// `CREATE ROLE name [WITH] option ...`; `CREATE USER` may log in.
    CreateRole { name: String, if_not_exists: bool, options: RoleOptions },
    /// `ALTER ROLE name [WITH] option ...`.
    AlterRole { name: String, options: RoleOptions },
    /// `DROP ROLE name, ...`.
    DropRole { names: Vec<String>, if_exists: bool },
    /// `GRANT what TO role, ...`, `REVOKE what FROM role, ...`.
    Grant { granted: Granted, roles: Vec<String>, is_revoke: bool },
    /// `CREATE`, `ALTER` or `DROP` of a `POLICY` or `MASK`.
    Policy(Box<PolicyStatement>),
    /// `COPY`, `BACKUP`, `RESTORE`, `COMPARE`.
    Transfer(Box<Transfer>),
    /// `COPY (query) | table [(columns)] TO STDOUT`: rows go to the client. No columns are all.
    CopyOut { source: CopySource, columns: Vec<String>, options: TransferOptions },
    /// `COPY table [(columns)] FROM STDIN`: rows come from the client. No columns are all.
    CopyIn { table: Vec<String>, columns: Vec<String>, options: TransferOptions },
    /// `DECLARE name CURSOR [WITH HOLD] FOR query`.
    DeclareCursor { name: String, is_holdable: bool, query: Box<Statement> },
    /// `FETCH direction FROM name`, or `MOVE`, which passes over rows.
    Fetch { name: String, direction: Direction, is_move: bool },
    /// `CLOSE name`; `None` is `ALL`.
    CloseCursor(Option<String>),
    /// `SHOW CATALOGS | SCHEMAS | TABLES | COLUMNS ...`.
    Show(Show),
    /// `SHOW name`; `all` shows every setting.
    ShowSetting(String),
    /// `SET [LOCAL] name = value`; `None` is `DEFAULT`. What is local ends with the transaction block.
    Set { name: String, value: Option<String>, is_local: bool },
    /// `RESET name`; `None` is `ALL`.
    Reset(Option<String>),
    /// `USE catalog[.schema]`.
    Use { catalog: String, schema: Option<String> },
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`: accepted inside a transaction block.
    Savepoint,
    /// `DISCARD ALL`, `UNLISTEN *`, `DEALLOCATE ALL`: what pools send between users.
    DiscardAll,
    /// `DEALLOCATE name`.
    Deallocate(String),
    /// `KILL QUERY 'id'`, which `system.queries` lists.
    KillQuery(String),
    /// `ANALYZE [VERBOSE] [table [(columns)] [WITH (rows = n)]]`.
    Analyze { table: Option<Vec<String>>, columns: Vec<String>, options: BTreeMap<String, String> },
}

/// A listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// Every catalog.
    Catalogs,
    /// The schemas of a catalog, by default the session's.
    Schemas { catalog: Option<String> },
    /// The tables of a schema, or of all schemas of a catalog.
    Tables { catalog: Option<String>, schema: Option<String> },
    /// Every queue with its share.
    Queues,
}

/// How a plan is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExplainFormat {
    /// Lines for people.
    Text,
    /// One JSON document.
    Json,
}

/// Splits `sql` into its statements. Comments and empty statements give nothing.
pub fn parse(sql: &str) -> Result<Vec<Statement>, ParseError> {
    let lines = LineOffsets::new(sql);
    let tokens = tokens(sql, &lines)?;
    let trace_parent = trace_comment::trace_parent(&tokens);
    let significant = tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_)));
    let mut statements = Vec::new();
    let mut current: Vec<Word> = Vec::new();
    for token in significant {
        let (start, end) = (lines.offset(token.span.start), lines.offset(token.span.end));
        if token.token == Token::SemiColon {
            if !current.is_empty() {
                statements.push(one_statement(sql, &current)?);
                current.clear();
            }
        } else {
            current.push(Word { token, start, end });
        }
    }
    if !current.is_empty() {
        statements.push(one_statement(sql, &current)?);
    }
    statements.iter_mut().for_each(|statement| statement.trace_parent = trace_parent.clone());
    Ok(statements)
}

fn tokens(sql: &str, lines: &LineOffsets) -> Result<Vec<TokenWithSpan>, ParseError> {
    Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().map_err(|error| {
        ParseError::new(format!("syntax error: {}", error.message), Some(lines.offset(error.location)))
    })
}

/// The text with `$1`, `$2`, ... in the places of the question marks by which JDBC and ODBC write parameters.
///
/// Text that has none is as it was. Where PostgreSQL has operators of question marks, Sluice has none.
pub fn numbered_parameters(sql: &str) -> Result<Cow<'_, str>, ParseError> {
    if !sql.contains('?') {
        return Ok(Cow::Borrowed(sql));
    }
    let lines = LineOffsets::new(sql);
    let tokens = tokens(sql, &lines)?;
    let mut numbered = String::with_capacity(sql.len());
    let (mut characters, mut place, mut count) = (sql.chars(), 0, 0);
    for token in tokens.into_iter().filter(|token| token.token == Token::Question) {
        let start = lines.offset(token.span.start);
        numbered.extend(characters.by_ref().take(start - place));
        characters.next();
        (place, count) = (start + 1, count + 1);
        numbered.push_str(&format!("${count}"));
    }
    numbered.extend(characters);
    Ok(Cow::Owned(numbered))
}

/// The text with question marks in the places of texts and numbers; nothing of a text that cannot be read.
pub fn without_literals(sql: &str) -> String {
    let lines = LineOffsets::new(sql);
    let Ok(tokens) = tokens(sql, &lines) else { return "?".to_owned() };
    let mut shown = String::with_capacity(sql.len());
    for token in tokens {
        match token.token {
            Token::Word(word) => shown.push_str(&word.to_string()),
            // Comments may tell what literals do.
            Token::Whitespace(_) => shown.push(' '),
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DollarQuotedString(_) => shown.push('?'),
            token => shown.push_str(&token.to_string()),
        }
    }
    shown
}

/// A token with its character offsets in the whole text.
#[derive(Debug, Clone)]
struct Word {
    token: TokenWithSpan,
    start: usize,
    end: usize,
}

impl Word {
    /// The word in upper case if it is an unquoted one.
    fn keyword(&self) -> Option<String> {
        match &self.token.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
            _ => None,
        }
    }

    /// The name that the word spells: folded to lower case unless quoted.
    fn name(&self) -> Option<String> {
        match &self.token.token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
            Token::Word(word) => Some(word.value.clone()),
            _ => None,
        }
    }

    /// The text of a literal or name, without its quotes.
    fn text(&self) -> String {
        match &self.token.token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
            Token::Word(word) => word.value.clone(),
            Token::Number(number, _) => number.clone(),
            other => other.to_string(),
        }
    }
}

/// Character offsets of line starts, because sqlparser tells places as line and column.
struct LineOffsets(Vec<usize>);

impl LineOffsets {
    fn new(sql: &str) -> Self {
        let breaks = sql.chars().enumerate().filter(|(_, c)| *c == '\n').map(|(index, _)| index + 1);
        Self(std::iter::once(0).chain(breaks).collect())
    }

    fn offset(&self, location: Location) -> usize {
        let line = (location.line as usize).saturating_sub(1);
        let start = self.0.get(line).or_else(|| self.0.last()).copied().unwrap_or(0);
        start + (location.column as usize).saturating_sub(1)
    }
}

fn slice_chars(sql: &str, start: usize, end: usize) -> String {
    sql.chars().skip(start).take(end.saturating_sub(start)).collect()
}

fn one_statement(sql: &str, words: &[Word]) -> Result<Statement, ParseError> {
    let (Some(first), Some(last)) = (words.first(), words.last()) else {
        return Err(ParseError::new("an empty statement", None));
    };
    let text = slice_chars(sql, first.start, last.end);
    let offset = first.start;
    check_complexity(words)?;
    let mut cursor = Cursor { words, at: 0 };
    let mut using = Using::default();
    let (kind, tag) = match own_statement(sql, &mut cursor)? {
        Some(own) => {
            cursor.expect_end()?;
            own
        }
        None => {
            let statement = match using::clause(words)? {
                Some((clause, places)) => {
                    using = clause;
                    let start = words.get(places.start).map_or(offset, |word| word.start);
                    let end = words.get(..places.end).and_then(<[Word]>::last).map_or(start, |word| word.end);
                    datafusion_statement(&using::blanked(&text, start - offset..end - offset), offset)?
                }
                None => datafusion_statement(&text, offset)?,
            };
            let tag = tag_of(words);
            (StatementKind::Sql(Box::new(statement)), tag)
        }
    };
    let text = match role::without_password(&kind, words) {
        Some(end) => format!("{} ***", slice_chars(sql, offset, end)),
        None => text,
    };
    Ok(Statement { text, offset, kind, tag, using, trace_parent: None })
}

/// Refuses chains of operators that are too deep to be walked.
fn check_complexity(words: &[Word]) -> Result<(), ParseError> {
    let mut levels = vec![0usize];
    for word in words {
        match word.token.token {
            Token::LParen => levels.push(0),
            Token::RParen if levels.len() > 1 => {
                levels.pop();
            }
            Token::Comma => *levels.last_mut().unwrap_or(&mut 0) = 0,
            _ => {}
        }
        if let Some(count) = levels.last_mut() {
            *count += 1;
            if *count > MOST_WORDS_WITHOUT_COMMA {
                let message = format!("more than {MOST_WORDS_WITHOUT_COMMA} words without a comma are too complex");
                return Err(ParseError { message, offset: Some(word.start), is_too_complex: true });
            }
        }
    }
    Ok(())
}

fn datafusion_statement(text: &str, offset: usize) -> Result<DfStatement, ParseError> {
    let at = |message: String| {
        let local = location_in(&message).map(|location| LineOffsets::new(text).offset(location));
        let message = without_location(&message);
        ParseError::new(message, local.map(|local| offset + local))
    };
    let mut parsed = DFParserBuilder::new(text)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(RECURSION_LIMIT)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| at(error.strip_backtrace()))?;
    match (parsed.pop_front(), parsed.pop_front()) {
        (Some(statement), None) => match reserved_name(&statement) {
            None => Ok(statement),
            Some(word) => Err(ParseError::new(
                format!("syntax error at or near \"{}\"", word.value),
                Some(offset + LineOffsets::new(text).offset(word.span.start)),
            )),
        },
        _ => Err(ParseError::new("syntax error: expected one statement", Some(offset))),
    }
}

/// Words that sqlparser takes for a column or table when one is missing before them; in PostgreSQL they are reserved.
const RESERVED: [&str; 13] =
    ["AND", "ELSE", "EXCEPT", "FROM", "GROUP", "HAVING", "INTERSECT", "ON", "OR", "ORDER", "SELECT", "UNION", "WHERE"];

/// The first name that is a reserved word without quotes.
fn reserved_name(statement: &DfStatement) -> Option<Ident> {
    let DfStatement::Statement(statement) = statement else { return None };
    let check =
        |word: &Ident| match word.quote_style.is_none() && RESERVED.contains(&word.value.to_uppercase().as_str()) {
            true => ControlFlow::Break(word.clone()),
            false => ControlFlow::Continue(()),
        };
    let in_expressions = visit_expressions(statement.as_ref(), |expression| match expression {
        Expr::Identifier(word) => check(word),
        Expr::CompoundIdentifier(words) => words.iter().try_for_each(check),
        _ => ControlFlow::Continue(()),
    });
    let in_relations = visit_relations(statement.as_ref(), |relation| {
        relation.0.iter().filter_map(ObjectNamePart::as_ident).try_for_each(check)
    });
    in_expressions.break_value().or_else(|| in_relations.break_value())
}

/// sqlparser ends its messages with `at Line: 1, Column: 8`.
fn location_in(message: &str) -> Option<Location> {
    let (_, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    Some(Location { line: line.trim().parse().ok()?, column: digits.parse().ok()? })
}

fn without_location(message: &str) -> String {
    let message = message.split(" at Line: ").next().unwrap_or(message);
    let message = message.trim_start_matches("SQL error: ").trim_start_matches("ParserError(\"");
    let message = message.trim_end_matches("\")").trim_start_matches("sql parser error: ");
    format!("syntax error: {}", message.trim())
}

struct Cursor<'a> {
    words: &'a [Word],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.at)
    }

    fn next(&mut self) -> Option<&Word> {
        let word = self.words.get(self.at);
        self.at += 1;
        word
    }

    fn is(&self, keyword: &str) -> bool {
        self.peek().and_then(Word::keyword).is_some_and(|k| k == keyword)
    }

    fn is_next(&self, keyword: &str) -> bool {
        self.words.get(self.at + 1).and_then(Word::keyword).is_some_and(|k| k == keyword)
    }

    fn accept(&mut self, keyword: &str) -> bool {
        let found = self.is(keyword);
        if found {
            self.at += 1;
        }
        found
    }

    /// Takes the keywords if all of them come next, in this order.
    fn accept_all(&mut self, keywords: &[&str]) -> bool {
        let found = keywords
            .iter()
            .enumerate()
            .all(|(i, keyword)| self.words.get(self.at + i).and_then(Word::keyword).is_some_and(|k| k == *keyword));
        if found {
            self.at += keywords.len();
        }
        found
    }

    fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.peek().is_some_and(|word| word.token.token == *token);
        if found {
            self.at += 1;
        }
        found
    }

    fn error(&self, expected: &str) -> ParseError {
        match self.peek() {
            Some(word) => ParseError::new(
                format!("syntax error: expected {expected}, found {}", word.token.token),
                Some(word.start),
            ),
            None => ParseError::new(
                format!("syntax error: expected {expected}, found the end of the statement"),
                self.words.last().map(|word| word.end),
            ),
        }
    }

    fn expect(&mut self, keyword: &str) -> Result<(), ParseError> {
        if self.accept(keyword) { Ok(()) } else { Err(self.error(keyword)) }
    }

    fn expect_token(&mut self, token: &Token) -> Result<(), ParseError> {
        if self.accept_token(token) { Ok(()) } else { Err(self.error(&token.to_string())) }
    }

    fn expect_name(&mut self, what: &str) -> Result<String, ParseError> {
        match self.peek().and_then(Word::name) {
            Some(name) => {
                self.at += 1;
                Ok(name)
            }
            None => Err(self.error(what)),
        }
    }

    /// `name` or `first.second...`.
    fn expect_dotted(&mut self, what: &str) -> Result<Vec<String>, ParseError> {
        let mut parts = vec![self.expect_name(what)?];
        while self.accept_token(&Token::Period) {
            parts.push(self.expect_name(what)?);
        }
        Ok(parts)
    }

    /// `name, name, ...`.
    fn expect_names(&mut self, what: &str) -> Result<Vec<String>, ParseError> {
        let mut names = vec![self.expect_name(what)?];
        while self.accept_token(&Token::Comma) {
            names.push(self.expect_name(what)?);
        }
        Ok(names)
    }

    fn expect_end(&self) -> Result<(), ParseError> {
        if self.at >= self.words.len() { Ok(()) } else { Err(self.error("the end of the statement")) }
    }

    fn skip_rest(&mut self) {
        self.at = self.words.len();
    }
}

type Own = (StatementKind, &'static str);

fn own_statement(sql: &str, cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    let Some(first) = cursor.peek().and_then(Word::keyword) else { return Ok(None) };
    let start = cursor.at;
    let own = match first.as_str() {
        "EXPLAIN" => explain(sql, cursor)?,
        "CREATE" if cursor.accept_all(&["CREATE", "QUEUE"]) => {
            let if_not_exists = cursor.accept_all(&["IF", "NOT", "EXISTS"]);
            let path = cursor.expect_dotted("the name of a queue")?.join(".");
            let options = if cursor.accept("WITH") { options(cursor)? } else { BTreeMap::new() };
            Some((StatementKind::CreateQueue { path, if_not_exists, options }, "CREATE QUEUE"))
        }
        "ALTER" if cursor.accept_all(&["ALTER", "QUEUE"]) => {
            let path = cursor.expect_dotted("the name of a queue")?.join(".");
            if !(cursor.accept("SET") || cursor.accept("WITH")) {
                return Err(cursor.error("SET (option = value, ...)"));
            }
            Some((StatementKind::AlterQueue { path, options: options(cursor)? }, "ALTER QUEUE"))
        }
        "DROP" if cursor.accept_all(&["DROP", "QUEUE"]) => {
            let if_exists = cursor.accept_all(&["IF", "EXISTS"]);
            let path = cursor.expect_dotted("the name of a queue")?.join(".");
            Some((StatementKind::DropQueue { path, if_exists }, "DROP QUEUE"))
        }
        "RESERVE" | "UNRESERVE" => reserve(cursor)?,
        "CREATE" | "ALTER" | "DROP" if cursor.is_next("ROLE") || cursor.is_next("USER") => role::role(cursor)?,
        "GRANT" | "REVOKE" => role::role(cursor)?,
        "CREATE" | "ALTER" | "DROP" if cursor.is_next("POLICY") || cursor.is_next("MASK") => {
            policy::policy(sql, cursor)?
        }
        "CREATE" => match schema::create_keyspace(cursor)? {
            Some(own) => Some(own),
            None => match schema::create_index(cursor)? {
                Some(own) => Some(own),
                None => create_catalog(cursor)?,
            },
        },
        "DROP" if cursor.is_next("KEYSPACE") => schema::drop_keyspace(cursor)?,
        "DROP" if cursor.accept_all(&["DROP", "CATALOG"]) => {
            let if_exists = cursor.accept_all(&["IF", "EXISTS"]);
            let name = cursor.expect_name("a catalog name")?;
            Some((StatementKind::DropCatalog { name, if_exists }, "DROP CATALOG"))
        }
        "REFRESH" if cursor.accept_all(&["REFRESH", "CATALOG"]) => {
            let name = cursor.expect_name("a catalog name")?;
            Some((StatementKind::RefreshCatalog { name }, "REFRESH CATALOG"))
        }
        "COPY" | "BACKUP" | "RESTORE" | "COMPARE" => transfer::transfer(sql, cursor)?,
        "SHOW" => show(cursor)?,
        "SET" => set(cursor)?,
        "RESET" => {
            cursor.accept("RESET");
            let name = if cursor.accept("ALL") {
                None
            } else if cursor.accept_all(&["TIME", "ZONE"]) {
                Some("timezone".to_owned())
            } else {
                Some(cursor.expect_dotted("a setting")?.join("."))
            };
            Some((StatementKind::Reset(name), "RESET"))
        }
        "USE" => {
            cursor.accept("USE");
            let mut parts = cursor.expect_dotted("a catalog name")?.into_iter();
            let catalog = parts.next().unwrap_or_default();
            Some((StatementKind::Use { catalog, schema: parts.next() }, "USE"))
        }
        "BEGIN" | "START" => {
            cursor.skip_rest();
            Some((StatementKind::Begin, if first == "BEGIN" { "BEGIN" } else { "START TRANSACTION" }))
        }
        "COMMIT" | "END" => {
            cursor.skip_rest();
            Some((StatementKind::Commit, "COMMIT"))
        }
        "ROLLBACK" | "ABORT" => {
            let to_savepoint = cursor.words.iter().any(|word| word.keyword().is_some_and(|k| k == "TO"));
            cursor.skip_rest();
            let kind = if to_savepoint { StatementKind::Savepoint } else { StatementKind::Rollback };
            Some((kind, "ROLLBACK"))
        }
        "SAVEPOINT" | "RELEASE" => {
            cursor.skip_rest();
            Some((StatementKind::Savepoint, if first == "SAVEPOINT" { "SAVEPOINT" } else { "RELEASE" }))
        }
        "DISCARD" => {
            cursor.skip_rest();
            Some((StatementKind::DiscardAll, "DISCARD ALL"))
        }
        "DECLARE" | "FETCH" | "MOVE" | "CLOSE" => cursor::cursor(sql, cursor)?,
        "UNLISTEN" => {
            cursor.skip_rest();
            Some((StatementKind::DiscardAll, "UNLISTEN"))
        }
        "DEALLOCATE" => {
            cursor.accept("DEALLOCATE");
            cursor.accept("PREPARE");
            if cursor.accept("ALL") {
                Some((StatementKind::DiscardAll, "DEALLOCATE ALL"))
            } else {
                let name = cursor.expect_name("a prepared statement's name")?;
                Some((StatementKind::Deallocate(name), "DEALLOCATE"))
            }
        }
        "KILL" => {
            cursor.accept("KILL");
            cursor.expect("QUERY")?;
            match cursor.next().map(|word| &word.token.token) {
                Some(Token::SingleQuotedString(id)) => Some((StatementKind::KillQuery(id.clone()), "KILL QUERY")),
                _ => return Err(ParseError::new("syntax error: expected a query's id in quotes", None)),
            }
        }
        "ANALYZE" | "ANALYSE" => analyze(cursor)?,
        _ => None,
    };
    if own.is_none() {
        cursor.at = start;
    }
    Ok(own)
}

fn analyze(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    cursor.next();
    cursor.accept("VERBOSE");
    let (mut table, mut columns, mut with) = (None, Vec::new(), BTreeMap::new());
    if cursor.peek().is_some() {
        table = Some(cursor.expect_dotted("the name of a table")?);
        if cursor.accept_token(&Token::LParen) {
            columns = cursor.expect_names("the name of a column")?;
            cursor.expect_token(&Token::RParen)?;
        }
        if cursor.accept("WITH") {
            with = options(cursor)?;
        }
    }
    Ok(Some((StatementKind::Analyze { table, columns, options: with }, "ANALYZE")))
}

fn explain(sql: &str, cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    cursor.expect("EXPLAIN")?;
    let (mut analyze, mut verbose, mut format) = (false, false, ExplainFormat::Text);
    if cursor.accept_token(&Token::LParen) {
        loop {
            let option = cursor.expect_name("an option of EXPLAIN")?;
            let value = match cursor.peek() {
                Some(word) if !matches!(word.token.token, Token::Comma | Token::RParen) => {
                    let value = word.text().to_lowercase();
                    cursor.at += 1;
                    Some(value)
                }
                _ => None,
            };
            let on = !matches!(value.as_deref(), Some("false" | "off" | "0"));
            match option.as_str() {
                "analyze" | "analyse" => analyze = on,
                "verbose" => verbose = on,
                "format" => format = explain_format(value.as_deref().unwrap_or_default(), cursor)?,
                "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" | "memory" | "generic_plan" => {}
                _ => return Err(cursor.error("ANALYZE, VERBOSE or FORMAT")),
            }
            if !cursor.accept_token(&Token::Comma) {
                break;
            }
        }
        cursor.expect_token(&Token::RParen)?;
    } else {
        analyze = cursor.accept("ANALYZE") || cursor.accept("ANALYSE");
        verbose = cursor.accept("VERBOSE");
        if cursor.accept("FORMAT") {
            let word = cursor.next().map(Word::text).unwrap_or_default();
            format = explain_format(&word.to_lowercase(), cursor)?;
        }
    }
    if cursor.peek().is_none() {
        return Err(cursor.error("a statement to explain"));
    }
    let statement = one_statement(sql, &cursor.words[cursor.at..])?;
    cursor.skip_rest();
    let kind = StatementKind::Explain { analyze, verbose, format, statement: Box::new(statement) };
    Ok(Some((kind, "EXPLAIN")))
}

fn explain_format(name: &str, cursor: &Cursor<'_>) -> Result<ExplainFormat, ParseError> {
    match name {
        "text" | "indent" | "tree" => Ok(ExplainFormat::Text),
        "json" | "pgjson" => Ok(ExplainFormat::Json),
        _ => Err(cursor.error("the format TEXT or JSON")),
    }
}

fn create_catalog(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    if !cursor.accept_all(&["CREATE", "CATALOG"]) {
        return Ok(None);
    }
    let if_not_exists = cursor.accept_all(&["IF", "NOT", "EXISTS"]);
    let name = cursor.expect_name("a catalog name")?;
    if !(cursor.accept("USING") || cursor.accept("TYPE")) {
        return Err(cursor.error("USING and a connector, such as USING cassandra"));
    }
    let connector = cursor.expect_name("a connector, such as cassandra")?;
    let options = if cursor.accept("WITH") || cursor.accept("OPTIONS") { options(cursor)? } else { BTreeMap::new() };
    let kind = StatementKind::CreateCatalog { name, if_not_exists, connector, options };
    Ok(Some((kind, "CREATE CATALOG")))
}

/// `RESERVE (cpu = 2, memory = '4GB') ON HOST name FOR QUEUE path`, `UNRESERVE ON HOST name FOR QUEUE path`.
fn reserve(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    let (amounts, tag) = if cursor.accept("UNRESERVE") {
        (BTreeMap::new(), "UNRESERVE")
    } else {
        cursor.expect("RESERVE")?;
        (options(cursor)?, "RESERVE")
    };
    cursor.expect("ON")?;
    cursor.expect("HOST")?;
    let host = match cursor.next() {
        Some(word) => word.text(),
        None => return Err(cursor.error("the name or address of a host")),
    };
    cursor.expect("FOR")?;
    cursor.expect("QUEUE")?;
    let queue = cursor.expect_dotted("the name of a queue")?.join(".");
    Ok(Some((StatementKind::Reserve { host, queue, amounts }, tag)))
}

fn options(cursor: &mut Cursor<'_>) -> Result<BTreeMap<String, String>, ParseError> {
    let mut options = BTreeMap::new();
    cursor.expect_token(&Token::LParen)?;
    while !cursor.accept_token(&Token::RParen) {
        let key = match cursor.peek().map(|word| &word.token.token) {
            Some(Token::SingleQuotedString(key)) => {
                let key = key.clone();
                cursor.at += 1;
                key
            }
            _ => cursor.expect_dotted("an option name")?.join("."),
        };
        cursor.accept_token(&Token::Eq);
        let Some(value) = cursor.next().map(Word::text) else {
            return Err(cursor.error("a value"));
        };
        options.insert(key, value);
        if !cursor.accept_token(&Token::Comma) {
            cursor.expect_token(&Token::RParen)?;
            break;
        }
    }
    Ok(options)
}

fn show(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    cursor.expect("SHOW")?;
    let kind = if cursor.accept("QUEUES") {
        StatementKind::Show(Show::Queues)
    } else if cursor.accept("CATALOGS") || cursor.accept("DATABASES") {
        StatementKind::Show(Show::Catalogs)
    } else if cursor.accept("SCHEMAS") {
        let catalog = if cursor.accept("FROM") || cursor.accept("IN") {
            Some(cursor.expect_name("a catalog name")?)
        } else {
            None
        };
        StatementKind::Show(Show::Schemas { catalog })
    } else if cursor.accept("TABLES") {
        let (mut catalog, mut schema) = (None, None);
        if cursor.accept("FROM") || cursor.accept("IN") {
            let mut parts = cursor.expect_dotted("a schema name")?;
            schema = parts.pop();
            catalog = parts.pop();
        }
        StatementKind::Show(Show::Tables { catalog, schema })
    } else if cursor.is("COLUMNS") || cursor.is("FUNCTIONS") || cursor.is("CREATE") {
        return Ok(None);
    } else if cursor.accept_all(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
        StatementKind::ShowSetting("transaction_isolation".to_owned())
    } else if cursor.accept_all(&["TIME", "ZONE"]) {
        StatementKind::ShowSetting("timezone".to_owned())
    } else {
        StatementKind::ShowSetting(cursor.expect_dotted("a setting")?.join("."))
    };
    Ok(Some((kind, "SHOW")))
}

fn set(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    cursor.expect("SET")?;
    if cursor.accept_all(&["SESSION", "CHARACTERISTICS"]) || cursor.is("TRANSACTION") {
        cursor.skip_rest();
        let name = "transaction_characteristics".to_owned();
        let kind = StatementKind::Set { name, value: None, is_local: false };
        return Ok(Some((kind, "SET")));
    }
    let is_local = !cursor.accept("SESSION") && cursor.accept("LOCAL");
    let name = if cursor.accept_all(&["TIME", "ZONE"]) {
        "timezone".to_owned()
    } else {
        let name = cursor.expect_dotted("a setting")?.join(".");
        if !(cursor.accept_token(&Token::Eq) || cursor.accept("TO")) {
            return Err(cursor.error("= or TO"));
        }
        name
    };
    let mut values = Vec::new();
    let mut sign = "";
    while let Some(word) = cursor.next() {
        match &word.token.token {
            Token::Comma => {}
            Token::Minus => sign = "-",
            _ => {
                values.push(format!("{sign}{}", word.text()));
                sign = "";
            }
        }
    }
    if values.is_empty() {
        return Err(cursor.error("a value"));
    }
    let value = values.join(", ");
    let is_default =
        value.eq_ignore_ascii_case("default") || (name == "timezone" && value.eq_ignore_ascii_case("local"));
    let value = (!is_default).then_some(value);
    Ok(Some((StatementKind::Set { name, value, is_local }, "SET")))
}

/// PostgreSQL's command tag for a statement that DataFusion plans.
fn tag_of(words: &[Word]) -> &'static str {
    let keyword = |index: usize| words.get(index).and_then(Word::keyword).unwrap_or_default();
    match keyword(0).as_str() {
        "INSERT" => "INSERT",
        "UPDATE" => "UPDATE",
        "DELETE" => "DELETE",
        "TRUNCATE" => "TRUNCATE TABLE",
        "COPY" => "COPY",
        "PREPARE" => "PREPARE",
        "EXECUTE" => "EXECUTE",
        "CREATE" => {
            let rest: Vec<String> = (1..5).map(keyword).collect();
            if rest.iter().any(|k| k == "VIEW") {
                "CREATE VIEW"
            } else if rest.iter().any(|k| k == "SCHEMA" || k == "DATABASE") {
                "CREATE SCHEMA"
            } else if rest.iter().any(|k| k == "FUNCTION") {
                "CREATE FUNCTION"
            } else if rest.iter().any(|k| k == "INDEX") {
                "CREATE INDEX"
            } else if words.iter().any(|word| word.keyword().is_some_and(|k| k == "AS"))
                && !rest.iter().any(|k| k == "EXTERNAL")
            {
                "CREATE TABLE AS"
            } else {
                "CREATE TABLE"
            }
        }
        "DROP" => match keyword(1).as_str() {
            "VIEW" => "DROP VIEW",
            "INDEX" => "DROP INDEX",
            "SCHEMA" | "DATABASE" => "DROP SCHEMA",
            _ => "DROP TABLE",
        },
        "ALTER" => "ALTER TABLE",
        _ => "SELECT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(sql: &str) -> Statement {
        let mut statements = parse(sql).expect("parses");
        assert_eq!(statements.len(), 1, "{sql}");
        statements.remove(0)
    }

    #[test]
    fn text_is_split_at_semicolons_outside_of_quotes() {
        let statements = parse("SELECT ';' ; -- a comment;\n SELECT 2;").expect("parses");
        let texts: Vec<_> = statements.iter().map(|s| (s.text.as_str(), s.offset)).collect();
        assert_eq!(texts, [("SELECT ';'", 0), ("SELECT 2", 28)]);
        assert!(parse(" ; -- nothing\n").expect("parses").is_empty());
    }

    #[test]
    fn question_marks_are_numbered() {
        let numbered = numbered_parameters("SELECT '?', ?::int + ? -- ?\nFROM \"?\" WHERE ä = ?").expect("is read");
        assert_eq!(numbered, "SELECT '?', $1::int + $2 -- ?\nFROM \"?\" WHERE ä = $3");
        assert_eq!(numbered_parameters("SELECT 'ä'").expect("is read"), "SELECT 'ä'");
    }

    #[test]
    fn literals_and_comments_are_left_out() {
        let shown = without_literals("SELECT 'x', E'\\n', $$y$$, 1.5e3, \"T\".c, $1 -- z\nFROM t WHERE a = X'00'");
        assert_eq!(shown, "SELECT ?, ?, ?, ?, \"T\".c, $1  FROM t WHERE a = ?");
        assert_eq!(without_literals("SELECT 'never ended"), "?");
    }

    #[test]
    fn a_comment_may_tell_the_trace_of_a_statement() {
        let statement = only("SELECT 1 /*traceparent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'*/;");
        let wanted = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!((statement.text.as_str(), statement.trace_parent.as_deref()), ("SELECT 1", Some(wanted)));
        assert_eq!(only("SELECT 'traceparent=''00-1-2-01'''").trace_parent, None);
    }

    #[test]
    fn an_error_knows_its_place_in_the_whole_text() {
        let error = parse("SELECT 1;\nSELECT 2 +\nFROM x").expect_err("is wrong");
        assert_eq!(error.offset, Some(21), "{error}");
        assert_eq!(error.message, "syntax error at or near \"FROM\"");
        let error = parse("SELECT 2 FROM WHERE").expect_err("is wrong");
        assert_eq!(error.offset, Some(14), "{error}");
        parse("SELECT \"from\" FROM \"where\"").expect("names in quotes may be any word");
    }

    #[test]
    fn a_catalog_is_created_with_options() {
        let statement =
            only("CREATE CATALOG cass USING cassandra WITH (contact_points = '127.0.0.1:9042', page_size_rows = 100)");
        let StatementKind::CreateCatalog { name, connector, options, .. } = statement.kind else {
            panic!("not a catalog: {statement:?}");
        };
        assert_eq!((name.as_str(), connector.as_str()), ("cass", "cassandra"));
        assert_eq!(options["contact_points"], "127.0.0.1:9042");
        assert_eq!(options["page_size_rows"], "100");
    }

    #[test]
    fn a_catalog_without_a_connector_is_told_what_is_missing() {
        let error = parse("CREATE CATALOG cass WITH (a = 'b')").expect_err("is wrong");
        assert!(error.message.contains("USING"), "{error}");
        assert_eq!(error.offset, Some(20));
    }

    #[test]
    fn explain_takes_both_spellings() {
        for sql in
            ["EXPLAIN ANALYZE SELECT 1", "EXPLAIN (ANALYZE, COSTS off) SELECT 1", "explain (analyze true) select 1"]
        {
            let StatementKind::Explain { analyze, statement, .. } = only(sql).kind else { panic!("{sql}") };
            assert!(analyze, "{sql}");
            assert!(statement.text.to_lowercase().starts_with("select"));
        }
        let StatementKind::Explain { format, .. } = only("EXPLAIN (FORMAT JSON) SELECT 1").kind else { panic!() };
        assert_eq!(format, ExplainFormat::Json);
    }

    #[test]
    fn a_table_is_analyzed_with_its_columns_or_whole() {
        let StatementKind::Analyze { table, columns, options } =
            only("ANALYZE VERBOSE cass.\"Shop\".orders (id, \"Key\") WITH (rows = 500)").kind
        else {
            panic!("not read")
        };
        assert_eq!(table.expect("has a name"), ["cass", "Shop", "orders"]);
        assert_eq!((columns, options["rows"].as_str()), (vec!["id".to_owned(), "Key".to_owned()], "500"));
        let StatementKind::Analyze { table: None, .. } = only("analyze").kind else { panic!("not read") };
        assert!(parse("ANALYZE a, b").is_err() && parse("ANALYZE a ()").is_err());
    }

    #[test]
    fn settings_are_read_in_all_spellings() {
        for (sql, wanted_name, wanted_value) in [
            ("SET statement_timeout = 1000", "statement_timeout", Some("1000")),
            ("SET SESSION extra_float_digits TO -3", "extra_float_digits", Some("-3")),
            ("SET TIME ZONE 'UTC'", "timezone", Some("UTC")),
            ("SET sluice.local_max_bytes = DEFAULT", "sluice.local_max_bytes", None),
            ("SET search_path TO a, b", "search_path", Some("a, b")),
        ] {
            let StatementKind::Set { name, value, .. } = only(sql).kind else { panic!("{sql}") };
            assert_eq!((name.as_str(), value.as_deref()), (wanted_name, wanted_value), "{sql}");
        }
    }

    #[test]
    fn tags_are_postgresqls() {
        for (sql, tag) in [
            ("SELECT 1", "SELECT"),
            ("WITH x AS (SELECT 1) SELECT * FROM x", "SELECT"),
            ("INSERT INTO t VALUES (1)", "INSERT"),
            ("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/tmp/t'", "CREATE TABLE"),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE VIEW"),
            ("CREATE TABLE t AS SELECT 1", "CREATE TABLE AS"),
            ("DROP VIEW v", "DROP VIEW"),
            ("BEGIN", "BEGIN"),
        ] {
            assert_eq!(only(sql).tag, tag, "{sql}");
        }
    }

    #[test]
    fn nesting_that_is_too_deep_is_an_error() {
        let sql = format!("SELECT {}1{}", "(".repeat(2_000), ")".repeat(2_000));
        assert!(parse(&sql).is_err());
    }
}
