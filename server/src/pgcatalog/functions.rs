//! PostgreSQL's catalog functions, as far as clients call them.
//!
//! All take and are computed over text: they are called on a few rows of catalogs, where one plain
//! way of evaluation is worth more than speed.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TableType, TypeSignature, Volatility,
};
use futures::FutureExt;

use super::catalogs::PG_CATALOG;
use super::content::{OWNER_OID, Source, schema_oid, table_oid};
use super::oids::{Object, object_of};
use super::rewrite::like_pattern;
use super::types::{BuiltIn, format_type};
use crate::engine::{EngineError, Session, Signal, SqlState};

/// A function's result for one row.
enum Value {
    Null,
    Text(String),
    Number(i64),
    Truth(bool),
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What a function can ask besides its arguments.
struct Call<'a> {
    source: &'a Source,
    options: &'a ConfigOptions,
    arguments: Vec<Option<&'a str>>,
}

impl Call<'_> {
    fn argument(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).copied().flatten()
    }

    fn number(&self, index: usize) -> Option<i32> {
        self.argument(index)?.trim().parse().ok()
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.source.session.upgrade()
    }

    fn database(&self) -> &str {
        &self.options.catalog.default_catalog
    }

    fn schema(&self) -> &str {
        &self.options.catalog.default_schema
    }
}

type Body = fn(&Call<'_>) -> Result<Value>;

/// Functions that do something, and would do it while a plan is made if they could be computed then.
const ACTING: [&str; 3] = ["set_config", "pg_cancel_backend", "pg_terminate_backend"];

/// `(name, result, body)`
const FUNCTIONS: &[(&str, DataType, Body)] = &[
    ("current_setting", DataType::Utf8, current_setting),
    ("set_config", DataType::Utf8, set_config),
    ("version", DataType::Utf8, |_| Ok(version().as_str().into())),
    ("current_database", DataType::Utf8, |call| Ok(call.database().into())),
    ("current_catalog", DataType::Utf8, |call| Ok(call.database().into())),
    ("current_schema", DataType::Utf8, |call| Ok(call.schema().into())),
    ("current_user", DataType::Utf8, user),
    ("session_user", DataType::Utf8, user),
    ("user", DataType::Utf8, user),
    ("pg_get_userbyid", DataType::Utf8, user_by_id),
    ("pg_backend_pid", DataType::Int32, |call| Ok(call.session().map(|session| session.backend_pid()).into_value())),
    ("pg_cancel_backend", DataType::Boolean, |call| signal(call, Signal::Cancel)),
    ("pg_terminate_backend", DataType::Boolean, |call| signal(call, Signal::Terminate)),
    ("pg_is_in_recovery", DataType::Boolean, |_| Ok(Value::Truth(false))),
    ("pg_my_temp_schema", DataType::Int32, |_| Ok(Value::Number(0))),
    ("pg_is_other_temp_schema", DataType::Boolean, |_| Ok(Value::Truth(false))),
    ("txid_current", DataType::Int64, |_| Ok(Value::Number(1))),
    ("pg_encoding_to_char", DataType::Utf8, |_| Ok("UTF8".into())),
    ("pg_char_to_encoding", DataType::Int32, |_| Ok(Value::Number(6))),
    ("getdatabaseencoding", DataType::Utf8, |_| Ok("UTF8".into())),
    ("pg_client_encoding", DataType::Utf8, |_| Ok("UTF8".into())),
    ("format_type", DataType::Utf8, |call| Ok(call.number(0).map(|oid| format_type(oid, call.number(1))).into())),
    ("pg_table_is_visible", DataType::Boolean, table_is_visible),
    ("pg_type_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_function_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_operator_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_collation_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_conversion_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_opclass_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_opfamily_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_statistics_obj_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_ts_config_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_ts_dict_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_ts_parser_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_ts_template_is_visible", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_table_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_any_column_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_column_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_schema_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_database_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_function_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_sequence_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_tablespace_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("has_type_privilege", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("pg_has_role", DataType::Boolean, |_| Ok(Value::Truth(true))),
    ("obj_description", DataType::Utf8, |_| Ok(Value::Null)),
    ("col_description", DataType::Utf8, |_| Ok(Value::Null)),
    ("shobj_description", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_expr", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_indexdef", DataType::Utf8, |call| Ok(index_definition(call).into())),
    ("pg_get_constraintdef", DataType::Utf8, |call| {
        let index = call.number(0).and_then(|oid| call.source.known_index(oid));
        Ok(index.map(|index| index.constraint_definition()).into())
    }),
    ("pg_get_viewdef", DataType::Utf8, |call| Ok(call.number(0).and_then(|oid| view_definition(call, oid)).into())),
    ("sluice_like_pattern", DataType::Utf8, |call| {
        Ok(call.argument(0).zip(call.argument(1)).map(|(pattern, escape)| like_pattern(pattern, escape)).into())
    }),
    ("pg_get_ruledef", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_triggerdef", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_functiondef", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_function_arguments", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_function_identity_arguments", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_function_result", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_function_sqlbody", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_partkeydef", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_serial_sequence", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_get_statisticsobjdef_columns", DataType::Utf8, |_| Ok(Value::Null)),
    ("pg_partition_ancestors", DataType::Int32, |_| Ok(Value::Null)),
    ("pg_relation_is_publishable", DataType::Boolean, |_| Ok(Value::Truth(false))),
    ("pg_tablespace_location", DataType::Utf8, |_| Ok("".into())),
    ("pg_table_size", DataType::Int64, |_| Ok(Value::Null)),
    ("pg_tablespace_size", DataType::Int64, |_| Ok(Value::Number(0))),
    ("pg_relation_size", DataType::Int64, |_| Ok(Value::Null)),
    ("pg_total_relation_size", DataType::Int64, |_| Ok(Value::Null)),
    ("pg_indexes_size", DataType::Int64, |_| Ok(Value::Null)),
    ("pg_database_size", DataType::Int64, |_| Ok(Value::Null)),
    ("pg_size_pretty", DataType::Utf8, |call| Ok(call.argument(0).and_then(pretty_size).into())),
    ("pg_stat_get_numscans", DataType::Int64, |_| Ok(Value::Number(0))),
    ("pg_advisory_unlock_all", DataType::Utf8, |_| Ok("".into())),
    ("quote_ident", DataType::Utf8, |call| Ok(call.argument(0).map(quoted).into())),
    ("quote_literal", DataType::Utf8, |call| {
        Ok(call.argument(0).map(|text| format!("'{}'", text.replace('\'', "''"))).into())
    }),
    ("format", DataType::Utf8, format_text),
    ("to_regclass", DataType::Int32, |call| Ok(call.argument(0).and_then(|name| find_table(call, name)).into_value())),
    ("to_regtype", DataType::Int32, |call| Ok(call.argument(0).and_then(find_type).into_value())),
    ("to_regnamespace", DataType::Int32, |call| {
        Ok(call.argument(0).and_then(|name| find_schema(call, name)).into_value())
    }),
    ("sluice_regclass_oid", DataType::Int32, |call| must_find(call, "relation", SqlState::UNDEFINED_TABLE, find_table)),
    ("sluice_regtype_oid", DataType::Int32, |call| {
        must_find(call, "type", SqlState::UNDEFINED_OBJECT, |_, name| find_type(name))
    }),
    ("sluice_regnamespace_oid", DataType::Int32, |call| {
        must_find(call, "schema", SqlState::UNDEFINED_SCHEMA, find_schema)
    }),
    ("sluice_regproc_oid", DataType::Int32, |call| {
        must_find(call, "function", SqlState::UNDEFINED_FUNCTION, |_, name| name.parse().ok())
    }),
    ("sluice_regrole_oid", DataType::Int32, |_| Ok(Value::Number(OWNER_OID.into()))),
    ("sluice_regclass_name", DataType::Utf8, |call| Ok(call.number(0).map(|oid| table_name(call, oid)).into())),
    ("sluice_regtype_name", DataType::Utf8, |call| Ok(call.number(0).map(|oid| format_type(oid, None)).into())),
    ("sluice_regnamespace_name", DataType::Utf8, |call| Ok(call.number(0).map(schema_name).into())),
    ("sluice_regproc_name", DataType::Utf8, |call| {
        Ok(call.number(0).map(|oid| if oid == 0 { "-".to_owned() } else { oid.to_string() }).into())
    }),
    ("sluice_regrole_name", DataType::Utf8, user_by_id),
];

trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for Option<i32> {
    fn into_value(self) -> Value {
        self.map_or(Value::Null, |number| Value::Number(number.into()))
    }
}

/// What `version()` answers.
pub fn version() -> String {
    format!("PostgreSQL 15.0 (Sluice {}) on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
}

fn current_setting(call: &Call<'_>) -> Result<Value> {
    let Some(name) = call.argument(0) else { return Ok(Value::Null) };
    match call.session().and_then(|session| session.setting(name)) {
        Some(value) => Ok(Value::Text(value)),
        None if call.argument(1).is_some_and(|missing_ok| matches!(missing_ok, "t" | "true")) => Ok(Value::Null),
        None => Err(failure(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))),
    }
}

/// `set_config(name, value, is_local)`; null is the default.
fn set_config(call: &Call<'_>) -> Result<Value> {
    let (Some(name), Some(session)) = (call.argument(0), call.session()) else { return Ok(Value::Null) };
    let is_local = call.argument(2).is_some_and(|is_local| matches!(is_local, "t" | "true"));
    let set = match call.argument(1) {
        value if is_local => session.set_for_block(name, value),
        value => session.set_or_reset(name, value).map(|()| session.setting(name)),
    };
    Ok(set.map_err(|error| DataFusionError::External(Box::new(error)))?.into())
}

fn signal(call: &Call<'_>, signal: Signal) -> Result<Value> {
    let (Some(pid), Some(session)) = (call.number(0), call.session()) else { return Ok(Value::Null) };
    let done = session.engine().signal_backend(pid, signal, &session);
    Ok(Value::Truth(done.map_err(|error| DataFusionError::External(Box::new(error)))?))
}

fn user(call: &Call<'_>) -> Result<Value> {
    Ok(call.session().map(|session| session.user().to_owned()).into())
}

fn user_by_id(call: &Call<'_>) -> Result<Value> {
    match call.number(0) {
        Some(OWNER_OID) => user(call),
        Some(other) => Ok(Value::Text(format!("unknown (OID={other})"))),
        None => Ok(Value::Null),
    }
}

fn failure(state: SqlState, message: String) -> DataFusionError {
    DataFusionError::External(Box::new(EngineError::new(state, message)))
}

/// The query of a view.
fn view_definition(call: &Call<'_>, oid: i32) -> Option<String> {
    let Some(Object::Table { catalog, schema, name }) = object_of(oid) else { return None };
    let schema = call.source.catalogs.catalog(&catalog)?.schema(&schema)?;
    // Views are kept in memory, so that there is nothing to wait for.
    let view = schema.table(&name).now_or_never()?.ok()??;
    let definition = view.get_table_definition().filter(|_| view.table_type() == TableType::View)?;
    let query = definition.find(" AS ").and_then(|place| definition.get(place + 4..)).unwrap_or(definition);
    Some(query.to_owned())
}

/// An index, or one of its columns by its place from 1.
fn index_definition(call: &Call<'_>) -> Option<String> {
    let index = call.source.known_index(call.number(0)?)?;
    match call.number(1).and_then(|place| usize::try_from(place).ok()).filter(|place| *place > 0) {
        Some(place) => index.columns.get(place - 1).map(|column| column.written.clone()),
        None => Some(index.definition()),
    }
}

/// Tables are visible without their schema's name if it is the session's, or PostgreSQL's own.
fn table_is_visible(call: &Call<'_>) -> Result<Value> {
    let visible = match call.number(0).and_then(object_of) {
        Some(Object::Table { schema, .. } | Object::Index { schema, .. }) => {
            schema == PG_CATALOG || schema == call.schema()
        }
        _ => false,
    };
    Ok(Value::Truth(visible))
}

/// The parts of a name like `a."B c"`.
fn name_parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut characters = name.trim().chars().peekable();
    while let Some(character) = characters.next() {
        let Some(part) = parts.last_mut() else { break };
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => part.push('"'),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            other if quoted => part.push(other),
            other => part.extend(other.to_lowercase()),
        }
    }
    parts
}

fn find_table(call: &Call<'_>, name: &str) -> Option<i32> {
    if let Ok(oid) = name.parse() {
        return Some(oid);
    }
    let parts = name_parts(name);
    let exists = |schema: &str, table: &str| {
        if schema == PG_CATALOG {
            return super::definitions::Definition::of(table).is_some();
        }
        let provider = call.source.catalogs.catalog(call.database()).and_then(|catalog| catalog.schema(schema));
        provider.is_some_and(|provider| provider.table_exist(table))
    };
    let candidates: Vec<(&str, &str)> = match parts.as_slice() {
        [table] => vec![(PG_CATALOG, table), (call.schema(), table)],
        [.., schema, table] => vec![(schema, table)],
        [] => Vec::new(),
    };
    let found = candidates.into_iter().find(|(schema, table)| exists(schema, table));
    found.map(|(schema, table)| table_oid(call.database(), schema, table))
}

fn find_type(name: &str) -> Option<i32> {
    name.parse().ok().or_else(|| BuiltIn::named(name).map(|built_in| built_in.oid))
}

fn find_schema(call: &Call<'_>, name: &str) -> Option<i32> {
    if let Ok(oid) = name.parse() {
        return Some(oid);
    }
    let name = name_parts(name).pop()?;
    let exists = call.source.catalogs.catalog(call.database())?.schema(&name).is_some();
    (exists || name == PG_CATALOG).then(|| schema_oid(call.database(), &name))
}

fn must_find(
    call: &Call<'_>,
    what: &str,
    state: SqlState,
    find: impl Fn(&Call<'_>, &str) -> Option<i32>,
) -> Result<Value> {
    let Some(name) = call.argument(0) else { return Ok(Value::Null) };
    match find(call, name) {
        Some(oid) => Ok(Value::Number(oid.into())),
        None => Err(failure(state, format!("{what} \"{name}\" does not exist"))),
    }
}

fn table_name(call: &Call<'_>, oid: i32) -> String {
    match object_of(oid) {
        Some(Object::Table { schema, name, .. } | Object::Index { schema, name, .. }) => {
            if schema == PG_CATALOG || schema == call.schema() {
                quoted(&name)
            } else {
                format!("{}.{}", quoted(&schema), quoted(&name))
            }
        }
        _ if oid == 0 => "-".to_owned(),
        _ => oid.to_string(),
    }
}

fn schema_name(oid: i32) -> String {
    match object_of(oid) {
        Some(Object::Schema { name, .. }) => quoted(&name),
        _ => oid.to_string(),
    }
}

/// A name as it is written in SQL: in quotes where it needs them.
pub fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn pretty_size(bytes: &str) -> Option<String> {
    let mut size: i64 = bytes.trim().parse().ok()?;
    let mut units = ["bytes", "kB", "MB", "GB", "TB"].into_iter();
    let mut unit = units.next()?;
    for next in units {
        if size.abs() < 10 * 1024 {
            break;
        }
        size /= 1024;
        unit = next;
    }
    Some(format!("{size} {unit}"))
}

/// `format`, with `%s`, `%I`, `%L` and `%%` in the arguments' order.
fn format_text(call: &Call<'_>) -> Result<Value> {
    let Some(pattern) = call.argument(0) else { return Ok(Value::Null) };
    let mut out = String::new();
    let mut next = 1;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let kind = characters.next();
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let argument = call.argument(next);
        next += 1;
        match (kind, argument) {
            (Some('s'), argument) => out.push_str(argument.unwrap_or_default()),
            (Some('I'), Some(argument)) => out.push_str(&quoted(argument)),
            (Some('L'), Some(argument)) => out.push_str(&format!("'{}'", argument.replace('\'', "''"))),
            (Some('L'), None) => out.push_str("NULL"),
            _ => return Err(failure(SqlState::INVALID_PARAMETER, "unrecognized format() type specifier".to_owned())),
        }
    }
    Ok(Value::Text(out))
}

/// A function of [`FUNCTIONS`] for one session.
struct CatalogFunction {
    name: &'static str,
    result: DataType,
    body: Body,
    source: Source,
    signature: Signature,
}

impl fmt::Debug for CatalogFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for CatalogFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Weak::ptr_eq(&self.source.session, &other.source.session)
    }
}

impl Eq for CatalogFunction {}

impl Hash for CatalogFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for CatalogFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let count = if constant { 1 } else { arguments.number_rows };
        let columns = arguments.args.iter().map(|argument| as_text(argument, count)).collect::<Result<Vec<_>>>()?;
        let texts: Vec<&StringArray> = columns.iter().map(|column| column.as_string::<i32>()).collect();
        let values = (0..count).map(|row| {
            let arguments_of_row =
                texts.iter().map(|column| if column.is_null(row) { None } else { Some(column.value(row)) }).collect();
            (self.body)(&Call { source: &self.source, options: &arguments.config_options, arguments: arguments_of_row })
        });
        let values = values.collect::<Result<Vec<_>>>()?;
        let array = self.array(&values);
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

impl CatalogFunction {
    fn array(&self, values: &[Value]) -> ArrayRef {
        let number = |value: &Value| match value {
            Value::Number(number) => Some(*number),
            _ => None,
        };
        match self.result {
            DataType::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
                Value::Truth(truth) => Some(*truth),
                _ => None,
            }))),
            DataType::Int32 => {
                let numbers = values.iter().map(|value| number(value).and_then(|number| i32::try_from(number).ok()));
                Arc::new(Int32Array::from_iter(numbers))
            }
            DataType::Int64 => Arc::new(Int64Array::from_iter(values.iter().map(number))),
            _ => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            }))),
        }
    }
}

/// An argument as text; what has no text form counts as null.
fn as_text(argument: &ColumnarValue, count: usize) -> Result<ArrayRef> {
    let array = argument.to_array(count)?;
    match cast(&array, &DataType::Utf8) {
        Ok(text) => Ok(text),
        Err(_) => Ok(Arc::new(StringArray::new_null(count))),
    }
}

/// All functions, for one session.
pub fn functions(source: &Source) -> impl Iterator<Item = ScalarUDF> {
    let source = source.clone();
    FUNCTIONS.iter().map(move |(name, result, body)| {
        let volatility = if ACTING.contains(name) { Volatility::Volatile } else { Volatility::Stable };
        let signature = Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], volatility);
        ScalarUDF::new_from_impl(CatalogFunction {
            name,
            result: result.clone(),
            body: *body,
            source: source.clone(),
            signature,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        assert_eq!(name_parts(r#"Sales."Mixed ""Case""#), ["sales", "Mixed \"Case"]);
        assert_eq!(quoted("tab le"), "\"tab le\"");
        assert_eq!(quoted("t_1"), "t_1");
    }

    #[test]
    fn sizes() {
        assert_eq!(pretty_size("8192").as_deref(), Some("8192 bytes"));
        assert_eq!(pretty_size("20480").as_deref(), Some("20 kB"));
    }
}
