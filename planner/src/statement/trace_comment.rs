//! The trace that a client's statement belongs to, from a comment
//! ([sqlcommenter](https://google.github.io/sqlcommenter/spec/)).

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

/// The key in the comment.
const KEY: &str = "traceparent=";
/// Characters of a value of version `00`; later versions may be longer, up to this many.
const MOST_CHARS: usize = 128;

/// The value of `traceparent` in the first comment that has one, as W3C's
/// [Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header) has it.
pub(super) fn trace_parent(tokens: &[TokenWithSpan]) -> Option<String> {
    tokens.iter().find_map(|token| match &token.token {
        Token::Whitespace(Whitespace::MultiLineComment(text)) => in_comment(text),
        Token::Whitespace(Whitespace::SingleLineComment { comment, .. }) => in_comment(comment),
        _ => None,
    })
}

fn in_comment(text: &str) -> Option<String> {
    let (_, value) = text.split_once(KEY)?;
    let value = value.trim_start().strip_prefix('\'')?;
    let (value, _) = value.split_once('\'')?;
    let is_one = value.len() <= MOST_CHARS && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_one.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_the_trace() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(in_comment(&format!("app='x',traceparent='{parent}'")).as_deref(), Some(parent));
        for other in ["traceparent=00-1", "traceparent='never ended", "traceparent='; DROP TABLE t'", "a comment"] {
            assert_eq!(in_comment(other), None, "{other}");
        }
    }
}
