//! Roles and what they may do: `CREATE ROLE`, `ALTER ROLE`, `DROP ROLE`, `GRANT`, `REVOKE`, as in
//! [PostgreSQL](https://www.postgresql.org/docs/current/sql-createrole.html). `USER` is a `ROLE` that may log in.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Cursor, Own, ParseError, StatementKind, Word};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a statement says of a role; what it does not say stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleOptions {
    /// Whether it may log in.
    pub login: Option<bool>,
    /// Whether it may do everything.
    pub superuser: Option<bool>,
    /// Its password, or none.
    pub password: Option<Option<Secret>>,
    /// Sessions that it may have at a time; `None` are as many as there is room for.
    pub connection_limit: Option<Option<u32>>,
}

/// What is granted or revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// Membership in these roles.
    Roles(Vec<String>),
    /// Privileges on objects.
    Privileges {
        /// In upper case: `SELECT`, `INSERT`, ..., or `ALL`.
        privileges: Vec<String>,
        /// What kind of objects they are.
        kind: ObjectKind,
        /// Their names, each in parts.
        names: Vec<Vec<String>>,
    },
}

/// Kinds of objects that privileges are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A table or view.
    Table,
    /// A schema or keyspace, with all tables in it.
    Schema,
    /// A catalog, with all that is in it.
    Catalog,
    /// A queue.
    Queue,
}

/// The statement, if it is one of these.
pub(super) fn role(cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    let is_about_roles = cursor.is_next("ROLE") || cursor.is_next("USER");
    if cursor.is("GRANT") || cursor.is("REVOKE") {
        return grant(cursor).map(Some);
    }
    if !is_about_roles {
        return Ok(None);
    }
    let verb = cursor.next().and_then(Word::keyword).unwrap_or_default();
    let is_user = cursor.next().and_then(Word::keyword).is_some_and(|word| word == "USER");
    match verb.as_str() {
        "CREATE" => {
            let if_not_exists = cursor.accept_all(&["IF", "NOT", "EXISTS"]);
            let name = cursor.expect_name("the name of a role")?;
            let mut options = role_options(cursor)?;
            options.login = options.login.or(Some(is_user));
            Ok(Some((StatementKind::CreateRole { name, if_not_exists, options }, "CREATE ROLE")))
        }
        "ALTER" => {
            let name = cursor.expect_name("the name of a role")?;
            Ok(Some((StatementKind::AlterRole { name, options: role_options(cursor)? }, "ALTER ROLE")))
        }
        "DROP" => {
            let if_exists = cursor.accept_all(&["IF", "EXISTS"]);
            let names = cursor.expect_names("the name of a role")?;
            Ok(Some((StatementKind::DropRole { names, if_exists }, "DROP ROLE")))
        }
        _ => Ok(None),
    }
}

fn role_options(cursor: &mut Cursor<'_>) -> Result<RoleOptions, ParseError> {
    let mut options = RoleOptions::default();
    cursor.accept("WITH");
    while cursor.peek().is_some() {
        if cursor.accept("LOGIN") {
            options.login = Some(true);
        } else if cursor.accept("NOLOGIN") {
            options.login = Some(false);
        } else if cursor.accept("SUPERUSER") {
            options.superuser = Some(true);
        } else if cursor.accept("NOSUPERUSER") {
            options.superuser = Some(false);
        } else if cursor.is("PASSWORD") || cursor.is("ENCRYPTED") {
            cursor.accept("ENCRYPTED");
            cursor.expect("PASSWORD")?;
            options.password = Some(password(cursor)?);
        } else if cursor.accept_all(&["CONNECTION", "LIMIT"]) {
            options.connection_limit = Some(connection_limit(cursor)?);
        } else if !cursor.accept("INHERIT") {
            let known = "LOGIN, NOLOGIN, SUPERUSER, NOSUPERUSER, PASSWORD 'text' or CONNECTION LIMIT n";
            return Err(cursor.error(known));
        }
    }
    Ok(options)
}

/// A number; -1 is no limit.
fn connection_limit(cursor: &mut Cursor<'_>) -> Result<Option<u32>, ParseError> {
    let is_none = cursor.accept_token(&Token::Minus);
    match (cursor.peek().and_then(|word| word.text().parse().ok()), is_none) {
        (Some(1), true) => {
            cursor.at += 1;
            Ok(None)
        }
        (Some(number), false) => {
            cursor.at += 1;
            Ok(Some(number))
        }
        _ => Err(cursor.error("a number of connections, or -1")),
    }
}

fn password(cursor: &mut Cursor<'_>) -> Result<Option<Secret>, ParseError> {
    if cursor.accept("NULL") {
        return Ok(None);
    }
    let is_text =
        |word: &&Word| matches!(word.token.token, Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_));
    match cursor.peek().filter(is_text).map(Word::text) {
        Some(text) => {
            cursor.at += 1;
            Ok(Some(Secret(text)))
        }
        // What stands there instead may be the password, and is not told.
        None => Err(ParseError::new(
            "syntax error: expected the password in single quotes, or NULL",
            cursor.peek().map(|word| word.start),
        )),
    }
}

fn grant(cursor: &mut Cursor<'_>) -> Result<Own, ParseError> {
    let is_revoke = cursor.next().and_then(Word::keyword).is_some_and(|word| word == "REVOKE");
    if is_revoke && cursor.is("GRANT") || cursor.is("ADMIN") {
        return Err(cursor.error("what is granted (there are no options of grants)"));
    }
    let mut words = Vec::new();
    loop {
        let word = cursor.expect_name("a privilege or a role")?;
        if word == "all" {
            cursor.accept("PRIVILEGES");
        }
        words.push(word);
        if !cursor.accept_token(&Token::Comma) {
            break;
        }
    }
    let granted = if cursor.accept("ON") {
        let kind = object_kind(cursor);
        let mut names = vec![cursor.expect_dotted("the name of an object")?];
        while cursor.accept_token(&Token::Comma) {
            names.push(cursor.expect_dotted("the name of an object")?);
        }
        let privileges = words.into_iter().map(|word| word.to_uppercase()).collect();
        Granted::Privileges { privileges, kind, names }
    } else {
        Granted::Roles(words)
    };
    cursor.expect(if is_revoke { "FROM" } else { "TO" })?;
    let roles = cursor.expect_names("the name of a role")?;
    if is_revoke {
        let _ = cursor.accept("RESTRICT") || cursor.accept("CASCADE");
    }
    let tag = match (&granted, is_revoke) {
        (Granted::Roles(_), false) => "GRANT ROLE",
        (Granted::Roles(_), true) => "REVOKE ROLE",
        (Granted::Privileges { .. }, false) => "GRANT",
        (Granted::Privileges { .. }, true) => "REVOKE",
    };
    Ok((StatementKind::Grant { granted, roles, is_revoke }, tag))
}

fn object_kind(cursor: &mut Cursor<'_>) -> ObjectKind {
    if cursor.accept_all(&["ALL", "TABLES", "IN", "SCHEMA"]) || cursor.accept("SCHEMA") || cursor.accept("KEYSPACE") {
        ObjectKind::Schema
    } else if cursor.accept("CATALOG") || cursor.accept("DATABASE") {
        ObjectKind::Catalog
    } else if cursor.accept("QUEUE") {
        ObjectKind::Queue
    } else {
        cursor.accept("TABLE");
        ObjectKind::Table
    }
}

/// The words of a statement up to the password in it, which nobody else is to read.
pub(super) fn without_password(kind: &StatementKind, words: &[Word]) -> Option<usize> {
    let (StatementKind::CreateRole { options, .. } | StatementKind::AlterRole { options, .. }) = kind else {
        return None;
    };
    options.password.as_ref()?;
    words.iter().find(|word| word.keyword().is_some_and(|word| word == "PASSWORD")).map(|word| word.end)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn kind(sql: &str) -> StatementKind {
        parse(sql).expect(sql).remove(0).kind
    }

    #[test]
    fn a_user_is_a_role_that_may_log_in() {
        let StatementKind::CreateRole { name, options, .. } = kind("CREATE USER \"Ann\" WITH SUPERUSER PASSWORD 'x'")
        else {
            panic!("not read")
        };
        assert_eq!((name.as_str(), options.login, options.superuser), ("Ann", Some(true), Some(true)));
        assert_eq!(options.password, Some(Some(Secret("x".to_owned()))));
        let StatementKind::CreateRole { options, .. } = kind("create role if not exists ann") else {
            panic!("not read")
        };
        assert_eq!(options, RoleOptions { login: Some(false), ..RoleOptions::default() });
        let StatementKind::AlterRole { options, .. } = kind("ALTER ROLE ann NOLOGIN PASSWORD NULL") else {
            panic!("not read")
        };
        assert_eq!((options.login, options.password), (Some(false), Some(None)));
        let StatementKind::AlterRole { options, .. } = kind("ALTER USER ann CONNECTION LIMIT -1") else {
            panic!("not read")
        };
        assert_eq!(options.connection_limit, Some(None));
        assert!(parse("ALTER USER ann CONNECTION LIMIT many").is_err());
        assert!(matches!(kind("DROP USER IF EXISTS a, b"), StatementKind::DropRole { if_exists: true, .. }));
    }

    #[test]
    fn a_password_is_in_no_text_and_no_error() {
        let statement = parse("CREATE ROLE ann LOGIN PASSWORD 'hunter2' SUPERUSER").expect("is read").remove(0);
        assert_eq!(statement.text, "CREATE ROLE ann LOGIN PASSWORD ***");
        assert!(!format!("{statement:?}").contains("hunter2"));
        for wrong in ["CREATE ROLE ann PASSWORD hunter2", "CREATE ROLE ann PASSWORD \"hunter2\""] {
            let error = parse(wrong).expect_err("is wrong");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn grants_are_of_roles_or_of_privileges() {
        let StatementKind::Grant { granted, roles, is_revoke: false } = kind("GRANT analysts, admins TO ann, \"Bob\"")
        else {
            panic!("not read")
        };
        assert_eq!(granted, Granted::Roles(vec!["analysts".to_owned(), "admins".to_owned()]));
        assert_eq!(roles, ["ann", "Bob"]);
        for (sql, wanted) in [
            ("GRANT SELECT, insert ON cass.shop.orders TO ann", ObjectKind::Table),
            ("GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA shop TO PUBLIC", ObjectKind::Schema),
            ("REVOKE select ON CATALOG cass FROM ann CASCADE", ObjectKind::Catalog),
            ("GRANT USAGE ON QUEUE prod.etl TO ann", ObjectKind::Queue),
        ] {
            let StatementKind::Grant { granted: Granted::Privileges { kind, .. }, .. } = kind(sql) else {
                panic!("{sql}")
            };
            assert_eq!(kind, wanted, "{sql}");
        }
        assert!(parse("GRANT SELECT ON t TO ann WITH GRANT OPTION").is_err());
    }
}
