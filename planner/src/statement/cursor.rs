//! Cursors: `DECLARE`, `FETCH`, `MOVE`, `CLOSE`, as in [PostgreSQL](https://www.postgresql.org/docs/current/sql-declare.html).

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Cursor, Own, ParseError, StatementKind, Word, one_statement};

/// Which rows `FETCH` and `MOVE` are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The next so many rows; `None` is all that are left.
    Forward(Option<u64>),
    /// Rows that were fetched before, which a cursor does not keep.
    Back,
}

/// The statement, if it is one of these.
pub(super) fn cursor(sql: &str, cursor: &mut Cursor<'_>) -> Result<Option<Own>, ParseError> {
    if cursor.accept("DECLARE") {
        return declare(sql, cursor).map(Some);
    }
    if cursor.accept("CLOSE") {
        let is_all = cursor.accept("ALL");
        let tag = if is_all { "CLOSE CURSOR ALL" } else { "CLOSE CURSOR" };
        let name = if is_all { None } else { Some(cursor.expect_name("the name of a cursor")?) };
        return Ok(Some((StatementKind::CloseCursor(name), tag)));
    }
    let (is_move, tag) = if cursor.accept("FETCH") {
        (false, "FETCH")
    } else if cursor.accept("MOVE") {
        (true, "MOVE")
    } else {
        return Ok(None);
    };
    let direction = direction(cursor)?;
    let _ = cursor.accept("FROM") || cursor.accept("IN");
    let name = cursor.expect_name("the name of a cursor")?;
    Ok(Some((StatementKind::Fetch { name, direction, is_move }, tag)))
}

fn declare(sql: &str, cursor: &mut Cursor<'_>) -> Result<Own, ParseError> {
    let name = cursor.expect_name("the name of a cursor")?;
    loop {
        if cursor.accept("CURSOR") {
            break;
        }
        if cursor.is("BINARY") || cursor.is("SCROLL") {
            let what = cursor.peek().map(Word::text).unwrap_or_default().to_uppercase();
            return Err(cursor.error(&format!("CURSOR ({what} cursors are not supported)")));
        }
        let known = cursor.accept("INSENSITIVE") || cursor.accept("ASENSITIVE") || cursor.accept_all(&["NO", "SCROLL"]);
        if !known {
            return Err(cursor.error("CURSOR"));
        }
    }
    let is_holdable = cursor.accept_all(&["WITH", "HOLD"]);
    if !is_holdable {
        cursor.accept_all(&["WITHOUT", "HOLD"]);
    }
    cursor.expect("FOR")?;
    let words = cursor.words.get(cursor.at..).filter(|words| !words.is_empty());
    let query = one_statement(sql, words.ok_or_else(|| cursor.error("a query"))?)?;
    if !matches!(query.kind, StatementKind::Sql(_)) || query.tag != "SELECT" {
        return Err(cursor.error("a query"));
    }
    cursor.skip_rest();
    Ok((StatementKind::DeclareCursor { name, is_holdable, query: Box::new(query) }, "DECLARE CURSOR"))
}

fn direction(cursor: &mut Cursor<'_>) -> Result<Direction, ParseError> {
    for word in ["PRIOR", "FIRST", "LAST"] {
        if cursor.accept(word) {
            return Ok(Direction::Back);
        }
    }
    if cursor.accept("ABSOLUTE") || cursor.accept("RELATIVE") || cursor.accept("BACKWARD") {
        count(cursor)?;
        cursor.accept("ALL");
        return Ok(Direction::Back);
    }
    if cursor.accept("NEXT") {
        return Ok(Direction::Forward(Some(1)));
    }
    cursor.accept("FORWARD");
    if cursor.accept("ALL") {
        return Ok(Direction::Forward(None));
    }
    Ok(match count(cursor)? {
        None => Direction::Forward(Some(1)),
        // No rows, or none that are ahead.
        Some(count) => u64::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .map_or(Direction::Back, |count| Direction::Forward(Some(count))),
    })
}

fn count(cursor: &mut Cursor<'_>) -> Result<Option<i64>, ParseError> {
    let is_negative = cursor.accept_token(&Token::Minus);
    let Some(Token::Number(..)) = cursor.peek().map(|word| &word.token.token) else {
        return if is_negative { Err(cursor.error("a number of rows")) } else { Ok(None) };
    };
    let number = cursor.peek().and_then(|word| word.text().parse::<i64>().ok());
    let number = number.ok_or_else(|| cursor.error("a number of rows"))?;
    cursor.at += 1;
    Ok(Some(if is_negative { -number } else { number }))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn only(sql: &str) -> StatementKind {
        parse(sql).expect("parses").remove(0).kind
    }

    #[test]
    fn cursors_are_declared_for_queries() {
        let sql = "DECLARE \"C\" INSENSITIVE NO SCROLL CURSOR WITH HOLD FOR SELECT 1 FROM t";
        let StatementKind::DeclareCursor { name, is_holdable, query } = only(sql) else { panic!("{sql}") };
        assert_eq!((name.as_str(), is_holdable, query.text.as_str()), ("C", true, "SELECT 1 FROM t"));
        assert_eq!(query.offset, 55);
        for wrong in [
            "DECLARE c CURSOR FOR",
            "DECLARE c CURSOR FOR INSERT INTO t VALUES (1)",
            "DECLARE c BINARY CURSOR FOR SELECT 1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rows_are_fetched_in_all_spellings() {
        for (sql, wanted) in [
            ("FETCH c", Direction::Forward(Some(1))),
            ("FETCH NEXT FROM c", Direction::Forward(Some(1))),
            ("FETCH 10 IN c", Direction::Forward(Some(10))),
            ("FETCH FORWARD 5 FROM c", Direction::Forward(Some(5))),
            ("FETCH FORWARD ALL FROM c", Direction::Forward(None)),
            ("FETCH ALL c", Direction::Forward(None)),
            ("FETCH -1 FROM c", Direction::Back),
            ("FETCH BACKWARD ALL FROM c", Direction::Back),
            ("FETCH ABSOLUTE 3 FROM c", Direction::Back),
        ] {
            let StatementKind::Fetch { name, direction, is_move: false } = only(sql) else { panic!("{sql}") };
            assert_eq!((name.as_str(), direction), ("c", wanted), "{sql}");
        }
        assert!(matches!(only("MOVE 3 c"), StatementKind::Fetch { is_move: true, .. }));
        assert!(matches!(only("CLOSE ALL"), StatementKind::CloseCursor(None)));
        assert!(parse("FETCH").is_err());
    }
}
