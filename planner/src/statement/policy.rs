//! Which rows and values of a table its readers see: `CREATE POLICY`, `ALTER POLICY`, `DROP POLICY` as in
//! [PostgreSQL](https://www.postgresql.org/docs/current/sql-createpolicy.html), and `CREATE MASK`, `DROP MASK` beside them.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Cursor, Own, ParseError, RECURSION_LIMIT, StatementKind, slice_chars};

/// What a policy does to the rows of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyKind {
    /// Rows are seen that one of these lets through.
    Permissive,
    /// Rows are seen that all of these let through, of those that a permissive one does.
    Restrictive,
    /// The values of a column are replaced.
    Mask {
        /// Its name.
        column: String,
    },
}

/// A policy or mask as its statement tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDefinition {
    /// Its name, of which there is one for each table.
    pub name: String,
    /// The parts of the table's name.
    pub table: Vec<String>,
    /// What it does.
    pub kind: PolicyKind,
    /// Roles that it is for.
    pub roles: Vec<String>,
    /// A predicate, or the expression that stands for the column.
    pub using: String,
}

/// A statement about policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyStatement {
    /// `CREATE POLICY name ON table [AS kind] [FOR SELECT] [TO role, ...] USING (predicate)`,
    /// `CREATE MASK name ON table (column) [TO role, ...] USING (expression)`.
    Create(PolicyDefinition),
    /// `ALTER POLICY name ON table [TO role, ...] [USING (predicate)]`, and `ALTER MASK`; what is not told stays.
    Alter { name: String, table: Vec<String>, is_mask: bool, roles: Option<Vec<String>>, using: Option<String> },
    /// `DROP POLICY name ON table`, `DROP MASK name ON table`.
    Drop { name: String, table: Vec<String>, is_mask: bool, if_exists: bool },
}

/// The statement, if it is one of these.
pub(super) fn policy(sql: &str, cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    let is_mask = cursor.is_next("MASK");
    if !is_mask && !cursor.is_next("POLICY") {
        return Ok(None);
    }
    let what = if is_mask { "the name of a mask" } else { "the name of a policy" };
    let (statement, tag) = if cursor.accept("CREATE") {
        cursor.at += 1;
        let name = cursor.expect_name(what)?;
        let table = table(cursor)?;
        let kind = if is_mask { masked_column(cursor)? } else { row_kind(cursor)? };
        let roles = roles(cursor)?.unwrap_or_else(|| vec![PUBLIC.to_owned()]);
        let using = using(sql, cursor)?.ok_or_else(|| cursor.error("USING (...)"))?;
        let definition = PolicyDefinition { name, table, kind, roles, using };
        (PolicyStatement::Create(definition), if is_mask { "CREATE MASK" } else { "CREATE POLICY" })
    } else if cursor.accept("ALTER") {
        cursor.at += 1;
        let name = cursor.expect_name(what)?;
        let table = table(cursor)?;
        let (roles, using) = (roles(cursor)?, using(sql, cursor)?);
        if roles.is_none() && using.is_none() {
            return Err(cursor.error("TO role, ... or USING (...)"));
        }
        let tag = if is_mask { "ALTER MASK" } else { "ALTER POLICY" };
        (PolicyStatement::Alter { name, table, is_mask, roles, using }, tag)
    } else if cursor.accept("DROP") {
        cursor.at += 1;
        let if_exists = cursor.accept_all(&["IF", "EXISTS"]);
        let name = cursor.expect_name(what)?;
        let table = table(cursor)?;
        let _ = cursor.accept("CASCADE") || cursor.accept("RESTRICT");
        let tag = if is_mask { "DROP MASK" } else { "DROP POLICY" };
        (PolicyStatement::Drop { name, table, is_mask, if_exists }, tag)
    } else {
        return Ok(None);
    };
    Ok(Some((StatementKind::Policy(Box::new(statement)), tag)))
}

/// The role that everybody is a member of.
const PUBLIC: &str = "public";

fn table(cursor: &mut Cursor<'_>) -> Result<Vec<String>, ParseError> {
    cursor.expect("ON")?;
    cursor.expect_dotted("the name of a table")
}

fn masked_column(cursor: &mut Cursor<'_>) -> Result<PolicyKind, ParseError> {
    cursor.expect_token(&Token::LParen)?;
    let column = cursor.expect_name("the name of a column")?;
    cursor.expect_token(&Token::RParen)?;
    Ok(PolicyKind::Mask { column })
}

fn row_kind(cursor: &mut Cursor<'_>) -> Result<PolicyKind, ParseError> {
    let mut kind = PolicyKind::Permissive;
    if cursor.accept("AS") {
        if cursor.accept("RESTRICTIVE") {
            kind = PolicyKind::Restrictive;
        } else if !cursor.accept("PERMISSIVE") {
            return Err(cursor.error("PERMISSIVE or RESTRICTIVE"));
        }
    }
    if cursor.accept("FOR") && !cursor.accept("SELECT") {
        return Err(cursor.error("SELECT (roles that policies are for do not write the table)"));
    }
    Ok(kind)
}

fn roles(cursor: &mut Cursor<'_>) -> Result<Option<Vec<String>>, ParseError> {
    if cursor.accept("TO") { cursor.expect_names("the name of a role").map(Some) } else { Ok(None) }
}

/// The text in `USING (...)`, which is one expression.
fn using(sql: &str, cursor: &mut Cursor<'_>) -> Result<Option<String>, ParseError> {
    if !cursor.accept("USING") {
        return Ok(None);
    }
    cursor.expect_token(&Token::LParen)?;
    let first = cursor.at;
    let mut depth = 1;
    while depth > 0 {
        match cursor.peek().map(|word| &word.token.token) {
            Some(Token::LParen) => depth += 1,
            Some(Token::RParen) => depth -= 1,
            Some(_) => {}
            None => return Err(cursor.error(")")),
        }
        cursor.at += 1;
    }
    let Some([start, .., end]) = cursor.words.get(first - 1..cursor.at) else { return Err(cursor.error("(")) };
    let text = slice_chars(sql, start.end, end.start).trim().to_owned();
    let offset = cursor.words.get(first).map(|word| word.start);
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(RECURSION_LIMIT)
        .try_with_sql(&text)
        .map_err(|error| ParseError::new(format!("syntax error: {error}"), offset))?;
    parser.parse_expr().map_err(|error| ParseError::new(format!("syntax error: {error}"), offset))?;
    // What stands behind it could close the parentheses that it is put into.
    if parser.peek_token().token != Token::EOF {
        return Err(ParseError::new("syntax error: USING takes one expression in parentheses", offset));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn statement(sql: &str) -> PolicyStatement {
        match parse(sql).expect(sql).remove(0).kind {
            StatementKind::Policy(statement) => *statement,
            other => panic!("{sql} is {other:?}"),
        }
    }

    fn created(sql: &str) -> PolicyDefinition {
        let PolicyStatement::Create(definition) = statement(sql) else { panic!("{sql}") };
        definition
    }

    #[test]
    fn policies_are_written_as_in_postgresql() {
        let policy = created(
            "CREATE POLICY own ON cass.shop.orders AS PERMISSIVE FOR SELECT TO sales, \"Ann\" \
             USING (owner = current_user AND (region IN ('a)', 'b')))",
        );
        assert_eq!((policy.name.as_str(), policy.kind), ("own", PolicyKind::Permissive));
        assert_eq!(policy.table, ["cass", "shop", "orders"]);
        assert_eq!(policy.roles, ["sales", "Ann"]);
        assert_eq!(policy.using, "owner = current_user AND (region IN ('a)', 'b'))");
        let policy = created("CREATE POLICY p ON t AS RESTRICTIVE USING (a > 1)");
        assert_eq!((policy.kind, policy.roles), (PolicyKind::Restrictive, vec!["public".to_owned()]));
    }

    #[test]
    fn a_mask_names_its_column() {
        let mask = created("create mask short on t (phone) to support using (substr(phone, 1, 3) || '…')");
        assert_eq!(mask.kind, PolicyKind::Mask { column: "phone".to_owned() });
        assert_eq!(mask.using, "substr(phone, 1, 3) || '…'");
    }

    #[test]
    fn policies_are_changed_and_dropped() {
        let PolicyStatement::Alter { roles: None, using: Some(using), is_mask: false, .. } =
            statement("ALTER POLICY p ON t USING (true)")
        else {
            panic!("not read")
        };
        assert_eq!(using, "true");
        assert!(matches!(statement("DROP MASK IF EXISTS m ON a.t"), PolicyStatement::Drop { is_mask: true, .. }));
        assert!(parse("ALTER POLICY p ON t").is_err());
    }

    #[test]
    fn an_expression_cannot_leave_its_parentheses() {
        for wrong in [
            "CREATE POLICY p ON t USING (a = 1) OR (b = 2)",
            "CREATE POLICY p ON t USING (a = 1, b = 2)",
            "CREATE POLICY p ON t USING ()",
            "CREATE POLICY p ON t USING (a = 1",
            "CREATE POLICY p ON t USING (a = 1 GROUP BY b)",
            "CREATE POLICY p ON t FOR UPDATE USING (true)",
            "CREATE POLICY p ON t USING (true) WITH CHECK (true)",
            "CREATE MASK m ON t USING ('x')",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let policy = created("CREATE POLICY p ON t USING (a = 1 -- one) OR (true\n OR b = 2)");
        assert!(policy.using.ends_with("OR b = 2"), "{}", policy.using);
    }
}
