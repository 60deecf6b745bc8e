//! Options of a session: its catalog, its schema, and all that `SET` takes.

use std::collections::HashMap;

use super::session_messages::{OptionError, OptionErrorValue, OptionValue, SessionOptionValue};
use crate::engine::{EngineError, Session, SqlState};

/// The option that names the session's catalog, by which drivers know it.
const CATALOG: &str = "catalog";
/// The option that names the session's schema.
const SCHEMA: &str = "schema";

/// Every option as text, as `SHOW` tells it.
pub fn get(session: &Session) -> HashMap<String, SessionOptionValue> {
    let settings = session.settings().into_iter().map(|(name, value, _)| (name, value));
    let names = [(CATALOG.to_owned(), session.database()), (SCHEMA.to_owned(), session.current_schema())];
    let text = |(name, value)| (name, SessionOptionValue { option_value: Some(OptionValue::Text(value)) });
    settings.chain(names).map(text).collect()
}

/// Sets options, and tells which it could not set.
///
/// The catalog goes first and the schema next, so that a schema is one of the new catalog.
pub fn set(session: &Session, options: HashMap<String, SessionOptionValue>) -> HashMap<String, OptionError> {
    let mut options: Vec<_> = options.into_iter().collect();
    options.sort_by_key(|(name, _)| (name != CATALOG, name != SCHEMA, name.clone()));
    let set_one = |(name, value): (String, SessionOptionValue)| {
        let outcome = match value.option_value.map(text) {
            Some(value) => set_to(session, &name, &value),
            None => reset(session, &name),
        };
        let error = outcome.err()?;
        tracing::debug!(option = name, error = error.message, "a session's option was not set");
        let is_known = is_known(session, &name);
        Some((name, OptionError { value: reason(&error, is_known) as i32 }))
    };
    options.into_iter().filter_map(set_one).collect()
}

fn set_to(session: &Session, name: &str, value: &str) -> Result<(), EngineError> {
    match name {
        CATALOG => session.use_catalog(value, None),
        SCHEMA => session.use_catalog(&session.database(), Some(value)),
        _ => session.set_setting(name, value),
    }
}

fn reset(session: &Session, name: &str) -> Result<(), EngineError> {
    match name {
        CATALOG => session.use_catalog(sluice_planner::catalog::DEFAULT_CATALOG, None),
        SCHEMA => session.use_catalog(&session.database(), None),
        _ => session.reset_setting(name),
    }
}

fn is_known(session: &Session, name: &str) -> bool {
    [CATALOG, SCHEMA].contains(&name)
        || name.starts_with("datafusion.")
        || session.settings().iter().any(|(known, _, _)| known.eq_ignore_ascii_case(name))
}

/// A value as `SET` takes it.
fn text(value: OptionValue) -> String {
    match value {
        OptionValue::Text(text) => text,
        OptionValue::Bool(true) => "on".to_owned(),
        OptionValue::Bool(false) => "off".to_owned(),
        OptionValue::Int64(number) => number.to_string(),
        OptionValue::Double(number) => number.to_string(),
        OptionValue::List(list) => list.values.join(", "),
    }
}

fn reason(error: &EngineError, is_known: bool) -> OptionErrorValue {
    match error.state {
        _ if !is_known => OptionErrorValue::InvalidName,
        SqlState::INSUFFICIENT_PRIVILEGE | SqlState("55P02") => OptionErrorValue::Error,
        _ => OptionErrorValue::InvalidValue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::session_messages::StringListValue;

    #[test]
    fn values_of_all_types_are_told_as_set_takes_them() {
        let list = StringListValue { values: vec!["a".to_owned(), "public".to_owned()] };
        for (value, wanted) in [
            (OptionValue::Text("30s".to_owned()), "30s"),
            (OptionValue::Bool(true), "on"),
            (OptionValue::Int64(-1), "-1"),
            (OptionValue::Double(0.5), "0.5"),
            (OptionValue::List(list), "a, public"),
        ] {
            assert_eq!(text(value), wanted);
        }
    }

    #[test]
    fn a_wrong_name_a_wrong_value_and_what_cannot_be_set_are_told_apart() {
        let error = |state| EngineError::new(state, "");
        assert_eq!(reason(&error(SqlState::UNDEFINED_OBJECT), false), OptionErrorValue::InvalidName);
        // A queue that does not exist.
        assert_eq!(reason(&error(SqlState::UNDEFINED_OBJECT), true), OptionErrorValue::InvalidValue);
        assert_eq!(reason(&error(SqlState::INVALID_PARAMETER), true), OptionErrorValue::InvalidValue);
        assert_eq!(reason(&error(SqlState::UNDEFINED_CATALOG), true), OptionErrorValue::InvalidValue);
        assert_eq!(reason(&error(SqlState("55P02")), true), OptionErrorValue::Error);
    }
}
