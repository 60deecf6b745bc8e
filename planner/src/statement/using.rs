//! CQL's `USING TTL seconds AND TIMESTAMP microseconds`, which DataFusion's parser does not know.
//!
//! It stands where CQL has it: at the end of an `INSERT`, before the `SET` of an `UPDATE`, before the `WHERE` of a
//! `DELETE`. The rest of the statement is parsed with blanks in its place, so that all else keeps its position.

use std::ops::Range;

use datafusion::sql::sqlparser::tokenizer::Token;
use sluice_executor::cassandra::{Using, UsingValue};

use super::{Cursor, ParseError, Word};

/// Twenty years, the most that Cassandra takes.
const MOST_TTL_S: i64 = 630_720_000;

/// The clause, and the places of its words, if the statement has one.
pub(super) fn clause(words: &[Word]) -> Result<Option<(Using, Range<usize>)>, ParseError> {
    let statement = words.first().and_then(Word::keyword).unwrap_or_default();
    if !matches!(statement.as_str(), "INSERT" | "UPDATE" | "DELETE") {
        return Ok(None);
    }
    let is = |place: usize, keyword: &str| words.get(place).and_then(Word::keyword).is_some_and(|k| k == keyword);
    let starts = |place: &usize| is(*place, "USING") && (is(*place + 1, "TTL") || is(*place + 1, "TIMESTAMP"));
    let Some(start) = (0..words.len()).find(starts) else { return Ok(None) };
    let mut cursor = Cursor { words, at: start + 1 };
    let mut using = Using::default();
    loop {
        if using.ttl.is_none() && cursor.accept("TTL") {
            let place = cursor.peek().map(|word| word.start);
            let value = value(&mut cursor, "seconds, or the name of a column")?;
            if matches!(value, UsingValue::Number(seconds) if !(0..=MOST_TTL_S).contains(&seconds)) {
                let message = format!("a TTL has 0 to {MOST_TTL_S} seconds, which are twenty years");
                return Err(ParseError::new(message, place));
            }
            using.ttl = Some(value);
        } else if using.timestamp.is_none() && cursor.accept("TIMESTAMP") {
            using.timestamp = Some(value(&mut cursor, "microseconds since 1970, or the name of a column")?);
        } else {
            return Err(cursor.error("TTL or TIMESTAMP, each once"));
        }
        if !cursor.accept("AND") {
            break;
        }
    }
    let is_in_place = match statement.as_str() {
        "INSERT" => cursor.peek().is_none(),
        "UPDATE" => cursor.is("SET"),
        _ => cursor.peek().is_none() || cursor.is("WHERE"),
    };
    if !is_in_place {
        let place = match statement.as_str() {
            "INSERT" => "the end of the INSERT after USING",
            "UPDATE" => "SET after USING",
            _ => "WHERE after USING",
        };
        return Err(cursor.error(place));
    }
    Ok(Some((using, start..cursor.at)))
}

fn value(cursor: &mut Cursor<'_>, expected: &str) -> Result<UsingValue, ParseError> {
    let sign = if cursor.accept_token(&Token::Minus) { "-" } else { "" };
    if let Some(Token::Number(digits, _)) = cursor.peek().map(|word| &word.token.token) {
        let number = format!("{sign}{digits}").parse().map_err(|_| cursor.error(expected))?;
        cursor.at += 1;
        return Ok(UsingValue::Number(number));
    }
    match sign {
        "" => Ok(UsingValue::Column(cursor.expect_name(expected)?)),
        _ => Err(cursor.error(expected)),
    }
}

/// The text with blanks in place of the characters of a range.
pub(super) fn blanked(text: &str, range: Range<usize>) -> String {
    let blank = |(place, c): (usize, char)| if range.contains(&place) && c != '\n' { ' ' } else { c };
    text.chars().enumerate().map(blank).collect()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn using(sql: &str) -> Result<Using, ParseError> {
        Ok(parse(sql)?.remove(0).using)
    }

    fn numbers(ttl: Option<i64>, timestamp: Option<i64>) -> Using {
        Using { ttl: ttl.map(UsingValue::Number), timestamp: timestamp.map(UsingValue::Number) }
    }

    #[test]
    fn it_stands_where_cql_has_it() {
        for (sql, wanted) in [
            ("INSERT INTO t (a) SELECT 1 USING TTL 3600 AND TIMESTAMP 17", numbers(Some(3_600), Some(17))),
            ("INSERT INTO t VALUES (1) using timestamp -5", numbers(None, Some(-5))),
            ("UPDATE t USING TTL 60 SET a = 1 WHERE b = 2", numbers(Some(60), None)),
            ("DELETE FROM t USING TIMESTAMP 123 WHERE a = 1", numbers(None, Some(123))),
            ("INSERT INTO t SELECT * FROM a JOIN b USING (ttl)", Using::default()),
            ("SELECT 1", Using::default()),
        ] {
            assert_eq!(using(sql).expect(sql), wanted, "{sql}");
        }
    }

    #[test]
    fn a_column_may_give_the_value() {
        let wanted = Using {
            ttl: Some(UsingValue::Column("s".to_owned())),
            timestamp: Some(UsingValue::Column("At".to_owned())),
        };
        assert_eq!(using("INSERT INTO t SELECT a, s, \"At\" FROM u USING TTL S AND TIMESTAMP \"At\""), Ok(wanted));
    }

    #[test]
    fn elsewhere_it_is_an_error_in_its_place() {
        let error = using("INSERT INTO t USING TTL 5 SELECT 1").expect_err("is misplaced");
        assert_eq!(error.offset, Some(26), "{error}");
        assert!(using("UPDATE t SET a = 1 USING TTL 5 WHERE b = 2").is_err());
        assert!(using("INSERT INTO t SELECT 1 USING TTL 5 AND TTL 6").is_err());
        assert!(using("INSERT INTO t SELECT 1 USING TTL 630720001").is_err());
        let error = using("UPDATE t USING TTL 60\nSET a = 1 WHEREE b = 2").expect_err("is wrong");
        assert_eq!(error.offset, Some(32), "{error}");
    }
}
