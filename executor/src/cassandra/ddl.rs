//! Statements that create and drop, in CQL.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::Schema;

use super::cluster::quoted;
use super::declared;
use super::error::CassandraError;
use super::types::cql_type;

/// Options of a table whose value is a number, a text or a word.
const PLAIN_OPTIONS: [&str; 16] = [
    "additional_write_policy",
    "allow_auto_snapshot",
    "bloom_filter_fp_chance",
    "cdc",
    "comment",
    "crc_check_chance",
    "default_time_to_live",
    "gc_grace_seconds",
    "incremental_backups",
    "max_index_interval",
    "memtable",
    "memtable_flush_period_in_ms",
    "min_index_interval",
    "read_repair",
    "speculative_retry",
    "transactional_mode",
];
/// Options of a table whose value is a map.
const MAP_OPTIONS: [&str; 3] = ["caching", "compaction", "compression"];
/// Options of a table that are Sluice's words for parts of the statement.
const OWN_OPTIONS: [&str; 3] = ["primary_key", "static_columns", "cql_types"];

/// `CREATE KEYSPACE`: `replication_factor` (1 if there is none), `class`, `durable_writes`; all else are data centres.
pub fn create_keyspace_cql(name: &str, options: &BTreeMap<String, String>) -> Result<String, CassandraError> {
    let factor = |value: &str, least: u8| {
        let number = value.parse::<u8>().ok().filter(|factor| *factor >= least);
        number.ok_or_else(|| CassandraError::Ddl(format!("a replication_factor of \"{value}\" is no number of nodes")))
    };
    let mut class = "NetworkTopologyStrategy";
    let mut durable_writes = None;
    let mut factors = Vec::new();
    for (key, value) in options {
        match key.as_str() {
            "class" => {
                class = match value.rsplit('.').next().unwrap_or(value) {
                    "SimpleStrategy" => "SimpleStrategy",
                    "NetworkTopologyStrategy" => "NetworkTopologyStrategy",
                    _ => {
                        return Err(CassandraError::Ddl(format!(
                            "\"{value}\" is no class of a keyspace; there are NetworkTopologyStrategy and SimpleStrategy"
                        )));
                    }
                }
            }
            "durable_writes" => {
                durable_writes = Some(match value.to_lowercase().as_str() {
                    "true" | "on" => true,
                    "false" | "off" => false,
                    _ => return Err(CassandraError::Ddl(format!("durable_writes is true or false, not \"{value}\""))),
                });
            }
            "replication_factor" => factors.push(format!("'replication_factor': {}", factor(value, 1)?)),
            data_centre => {
                let factor = factor(value, 0).map_err(|_| {
                    CassandraError::Ddl(format!(
                        "\"{data_centre}\" = \"{value}\" is no option of a keyspace: there are replication_factor, \
                         class, durable_writes, and the number of replicas by the name of a data centre"
                    ))
                })?;
                factors.push(format!("{}: {factor}", text(data_centre)));
            }
        }
    }
    if factors.is_empty() {
        factors.push("'replication_factor': 1".to_owned());
    }
    let durable_writes = durable_writes.map(|on| format!(" AND durable_writes = {on}")).unwrap_or_default();
    let name = quoted(name);
    let factors = factors.join(", ");
    Ok(format!("CREATE KEYSPACE {name} WITH replication = {{'class': '{class}', {factors}}}{durable_writes}"))
}

/// `DROP KEYSPACE` with all its tables.
pub fn drop_keyspace_cql(name: &str) -> String {
    format!("DROP KEYSPACE {}", quoted(name))
}

/// `DROP TABLE`.
pub fn drop_table_cql(keyspace: &str, table: &str) -> String {
    format!("DROP TABLE {}.{}", quoted(keyspace), quoted(table))
}

/// `TRUNCATE`.
pub fn truncate_cql(keyspace: &str, table: &str) -> String {
    format!("TRUNCATE {}.{}", quoted(keyspace), quoted(table))
}

/// An index to be made, in Sluice's words for it.
#[derive(Debug, Clone, Copy)]
pub struct Index<'a> {
    /// The keyspace of the table.
    pub keyspace: &'a str,
    /// The table.
    pub table: &'a str,
    /// Its name; `None` leaves it to Cassandra.
    pub name: Option<&'a str>,
    /// Whether one that is there already will do.
    pub if_not_exists: bool,
    /// The column.
    pub column: &'a str,
    /// `keys`, `values`, `entries` or `full`, for collections.
    pub part: Option<&'a str>,
    /// The kind of index, or the name of its class; `None` is `sai`.
    pub method: Option<&'a str>,
    /// Options of this kind of index.
    pub options: &'a BTreeMap<String, String>,
}

/// `CREATE INDEX`: storage-attached unless said otherwise; `2i` is Cassandra's older, plain one.
pub fn create_index_cql(index: &Index<'_>) -> Result<String, CassandraError> {
    let method = match index.method.unwrap_or("sai") {
        "2i" => "legacy_local_table",
        method => method,
    };
    if !method.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$')) {
        return Err(CassandraError::Ddl(format!("\"{method}\" is no kind of index; there are sai and 2i")));
    }
    // A class of one's own is named in full.
    let custom = if method.contains('.') { "CUSTOM " } else { "" };
    let if_not_exists = if index.if_not_exists { "IF NOT EXISTS " } else { "" };
    let name = index.name.map(|name| format!("{} ", quoted(name))).unwrap_or_default();
    let column = match index.part {
        Some(part) => format!("{}({})", part.to_uppercase(), quoted(index.column)),
        None => quoted(index.column),
    };
    let options: Vec<String> =
        index.options.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
    let options =
        if options.is_empty() { String::new() } else { format!(" WITH OPTIONS = {{{}}}", options.join(", ")) };
    Ok(format!(
        "CREATE {custom}INDEX {if_not_exists}{name}ON {}.{} ({column}) USING '{method}'{options}",
        quoted(index.keyspace),
        quoted(index.table)
    ))
}

/// `DROP INDEX`.
pub fn drop_index_cql(keyspace: &str, index: &str, if_exists: bool) -> String {
    let if_exists = if if_exists { "IF EXISTS " } else { "" };
    format!("DROP INDEX {if_exists}{}.{}", quoted(keyspace), quoted(index))
}

/// `CREATE TABLE` for columns of Arrow types.
///
/// The option `primary_key` is needed: `'id'`, `'customer, day desc'` or `'(customer, year), day'`. `static_columns`
/// names columns that a partition has once, `cql_types` columns whose CQL type is not that of their Arrow type:
/// `'tags set<text>, hits counter'`.
pub fn create_table_cql(
    keyspace: &str,
    table: &str,
    schema: &Schema,
    options: &BTreeMap<String, String>,
) -> Result<String, CassandraError> {
    let key = options.get("primary_key").ok_or_else(|| {
        CassandraError::Ddl(format!("table {keyspace}.{table} needs a primary key: WITH (primary_key = 'column, ...')"))
    })?;
    let key = PrimaryKey::parse(key)?;
    let must_exist = |name: &str, option: &str| match schema.field_with_name(name) {
        Ok(_) => Ok(()),
        Err(_) => {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Err(CassandraError::Ddl(format!(
                "the {option} names a column \"{name}\" that the table does not have; there are: {}",
                names.join(", ")
            )))
        }
    };
    for name in key.partition.iter().chain(key.clustering.iter().map(|(name, _)| name)) {
        must_exist(name, "primary key")?;
    }
    let statics = static_columns(options.get("static_columns").map_or("", String::as_str))?;
    statics.iter().try_for_each(|name| must_exist(name, "option static_columns"))?;
    let types = cql_types(options.get("cql_types").map_or("", String::as_str))?;
    types.keys().try_for_each(|name| must_exist(name, "option cql_types"))?;
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let cql = match types.get(field.name()) {
            Some(cql) => cql.clone(),
            None => cql_type(field.data_type())?,
        };
        let is_static = if statics.contains(field.name()) { " STATIC" } else { "" };
        columns.push(format!("{} {cql}{is_static}", quoted(field.name())));
    }
    let mut with = Vec::new();
    if key.clustering.iter().any(|(_, descending)| *descending) {
        let order = key
            .clustering
            .iter()
            .map(|(name, descending)| format!("{} {}", quoted(name), if *descending { "DESC" } else { "ASC" }));
        with.push(format!("CLUSTERING ORDER BY ({})", order.collect::<Vec<_>>().join(", ")));
    }
    let mut options = options.clone();
    if let Some(declarations) = declared::comment(schema) {
        let comment = options.entry("comment".to_owned()).or_default();
        *comment = format!("{comment} {declarations}").trim_start().to_owned();
    }
    for (name, value) in options.iter().filter(|(name, _)| !OWN_OPTIONS.contains(&name.as_str())) {
        let value = match name.as_str() {
            name if MAP_OPTIONS.contains(&name) => map(name, value)?,
            name if !PLAIN_OPTIONS.contains(&name) => {
                let all = [OWN_OPTIONS.as_slice(), &MAP_OPTIONS, &PLAIN_OPTIONS].concat();
                return Err(CassandraError::Ddl(format!(
                    "unknown option \"{name}\" of a table; there are: {}",
                    all.join(", ")
                )));
            }
            "comment" | "speculative_retry" | "additional_write_policy" | "memtable" | "read_repair" => text(value),
            _ if value.parse::<f64>().is_ok() || matches!(value.as_str(), "true" | "false") => value.clone(),
            _ => text(value),
        };
        with.push(format!("{name} = {value}"));
    }
    let with = if with.is_empty() { String::new() } else { format!(" WITH {}", with.join(" AND ")) };
    Ok(format!(
        "CREATE TABLE {}.{} ({}, PRIMARY KEY ({})){with}",
        quoted(keyspace),
        quoted(table),
        columns.join(", "),
        key.cql()
    ))
}

/// A text in CQL's quotes.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Names with commas between.
fn static_columns(names: &str) -> Result<Vec<String>, CassandraError> {
    let wrong = || CassandraError::Ddl(format!("static_columns = '{names}' is no list of columns: write 'a, b'"));
    names.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| column_name(n).ok_or_else(wrong)).collect()
}

/// `'tags set<text>, hits counter'` by name.
fn cql_types(types: &str) -> Result<BTreeMap<String, String>, CassandraError> {
    let wrong = |part: &str| {
        CassandraError::Ddl(format!(
            "\"{part}\" of cql_types is no column with its type: write 'tags set<text>, hits counter'"
        ))
    };
    let mut found = BTreeMap::new();
    for part in split_outside(types, ',', &[('<', '>')]) {
        let (name, cql) = part.split_once(char::is_whitespace).ok_or_else(|| wrong(part))?;
        let name = column_name(name).ok_or_else(|| wrong(part))?;
        let cql = cql.trim();
        let is_type = cql.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '<' | '>' | ',' | ' ' | '"' | '.'))
            && cql.matches('<').count() == cql.matches('>').count();
        if !is_type {
            return Err(wrong(part));
        }
        found.insert(name, cql.to_owned());
    }
    Ok(found)
}

/// A map as CQL writes it, from one that may leave out braces and quotes: `class: LeveledCompactionStrategy`.
fn map(option: &str, value: &str) -> Result<String, CassandraError> {
    let wrong = || {
        CassandraError::Ddl(format!(
            "{option} = '{value}' is no map: write 'class: LeveledCompactionStrategy, sstable_size_in_mb: 160'"
        ))
    };
    let inner = value.trim();
    let inner = inner.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner);
    let mut entries = Vec::new();
    for entry in split_outside(inner, ',', &[]) {
        let parts = split_outside(entry, ':', &[]);
        let [key, value] = parts.as_slice() else { return Err(wrong()) };
        let bare = |part: &str| match part.strip_prefix('\'').and_then(|part| part.strip_suffix('\'')) {
            Some(inner) => inner.replace("''", "'"),
            None => part.to_owned(),
        };
        entries.push(format!("{}: {}", text(&bare(key)), text(&bare(value))));
    }
    Ok(format!("{{{}}}", entries.join(", ")))
}

/// Parts of a text between separators that are outside of quotes and brackets; empty ones are left out.
fn split_outside<'a>(text: &'a str, separator: char, brackets: &[(char, char)]) -> Vec<&'a str> {
    let (mut parts, mut start, mut depth, mut is_quoted) = (Vec::new(), 0, 0usize, false);
    for (place, c) in text.char_indices() {
        match c {
            '\'' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            _ if brackets.iter().any(|(open, _)| *open == c) => depth += 1,
            _ if brackets.iter().any(|(_, close)| *close == c) => depth = depth.saturating_sub(1),
            _ if c == separator && depth == 0 => {
                parts.push(text.get(start..place).unwrap_or_default());
                start = place + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// A parsed primary key.
#[derive(Debug, PartialEq, Eq)]
struct PrimaryKey {
    partition: Vec<String>,
    /// Names, and whether the order is descending.
    clustering: Vec<(String, bool)>,
}

impl PrimaryKey {
    fn parse(text: &str) -> Result<Self, CassandraError> {
        let wrong = || {
            CassandraError::Ddl(format!(
                "\"{text}\" is no primary key: write 'id', 'customer, day desc' or '(customer, year), day'"
            ))
        };
        let mut text_left = text.trim();
        // '((a, b), c)' is the same as '(a, b), c'.
        if text_left.starts_with("((")
            || (text_left.starts_with('(')
                && text_left.ends_with(')')
                && !text_left[1..].contains('(')
                && text_left.matches(')').count() == 1)
        {
            text_left = text_left.strip_prefix('(').and_then(|t| t.strip_suffix(')')).ok_or_else(wrong)?.trim();
        }
        let (partition, rest) = match text_left.strip_prefix('(') {
            Some(inner) => {
                let (names, rest) = inner.split_once(')').ok_or_else(wrong)?;
                (names.split(',').map(column_name).collect::<Option<Vec<_>>>().ok_or_else(wrong)?, rest.trim())
            }
            None => {
                let (first, rest) = text_left.split_once(',').map_or((text_left, ""), |(first, rest)| (first, rest));
                (vec![column_name(first).ok_or_else(wrong)?], rest)
            }
        };
        let rest = rest.trim().trim_start_matches(',').trim();
        let mut clustering = Vec::new();
        for part in rest.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, descending) = match part.rsplit_once(char::is_whitespace) {
                Some((name, word)) if word.eq_ignore_ascii_case("desc") => (name, true),
                Some((name, word)) if word.eq_ignore_ascii_case("asc") => (name, false),
                _ => (part, false),
            };
            clustering.push((column_name(name).ok_or_else(wrong)?, descending));
        }
        Ok(Self { partition, clustering })
    }

    fn cql(&self) -> String {
        let partition = self.partition.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let clustering = self.clustering.iter().map(|(name, _)| format!(", {}", quoted(name))).collect::<String>();
        format!("({partition}){clustering}")
    }
}

/// A name as SQL folds it: lower case unless quoted.
fn column_name(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return Some(inner.replace("\"\"", "\""));
    }
    let plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    plain.then(|| text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn a_primary_key_has_several_spellings() {
        for (text, cql) in [
            ("id", "(\"id\")"),
            ("(id)", "(\"id\")"),
            ("a, b", "(\"a\"), \"b\""),
            ("(a, b), c", "(\"a\", \"b\"), \"c\""),
            ("((a, b), c desc)", "(\"a\", \"b\"), \"c\""),
            ("(a, b)", "(\"a\"), \"b\""),
            ("\"Id\", day DESC", "(\"Id\"), \"day\""),
        ] {
            assert_eq!(PrimaryKey::parse(text).expect("parses").cql(), cql, "{text}");
        }
        assert!(PrimaryKey::parse("a; DROP TABLE b").is_err());
    }

    #[test]
    fn a_table_gets_columns_key_and_order() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, false), Field::new("b", DataType::Utf8, true)]);
        let options = [("primary_key".to_owned(), "a, b desc".to_owned())].into();
        assert_eq!(
            create_table_cql("ks", "T", &schema, &options).expect("is right"),
            "CREATE TABLE \"ks\".\"T\" (\"a\" int, \"b\" text, PRIMARY KEY ((\"a\"), \"b\")) WITH CLUSTERING ORDER BY (\"b\" DESC)"
        );
    }

    #[test]
    fn a_table_without_a_key_is_told_how_to_name_one() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, false)]);
        let error = create_table_cql("ks", "t", &schema, &BTreeMap::new()).expect_err("has no key");
        assert!(error.to_string().contains("primary_key"), "{error}");
        let options = [("primary_key".to_owned(), "b".to_owned())].into();
        assert!(create_table_cql("ks", "t", &schema, &options).is_err());
    }

    #[test]
    fn a_table_has_static_columns_types_of_cqls_own_and_options() {
        let fields = ["id", "day", "owner", "tags", "hits"].map(|name| Field::new(name, DataType::Utf8, true));
        let options = [
            ("primary_key", "id, day"),
            ("static_columns", "owner"),
            ("cql_types", "tags set<text>, hits map<text, frozen<list<int>>>"),
            ("compaction", "{'class': 'LeveledCompactionStrategy', sstable_size_in_mb: 160}"),
            ("caching", "keys: ALL, rows_per_partition: NONE"),
            ("bloom_filter_fp_chance", "0.05"),
            ("speculative_retry", "99p"),
            ("comment", "it's 1"),
        ];
        let options = options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let cql = create_table_cql("ks", "t", &Schema::new(fields.to_vec()), &options).expect("is right");
        assert_eq!(
            cql,
            "CREATE TABLE \"ks\".\"t\" (\"id\" text, \"day\" text, \"owner\" text STATIC, \"tags\" set<text>, \
             \"hits\" map<text, frozen<list<int>>>, PRIMARY KEY ((\"id\"), \"day\")) WITH \
             bloom_filter_fp_chance = 0.05 AND caching = {'keys': 'ALL', 'rows_per_partition': 'NONE'} AND comment = \
             'it''s 1' AND compaction = {'class': 'LeveledCompactionStrategy', 'sstable_size_in_mb': '160'} AND \
             speculative_retry = '99p'"
        );
    }

    #[test]
    fn what_is_no_type_or_map_does_not_reach_cassandra() {
        assert!(cql_types("a int; DROP TABLE b").is_err());
        assert!(cql_types("a").is_err());
        assert!(map("compaction", "class").is_err());
        assert_eq!(map("caching", "{}").expect("is empty"), "{}");
    }

    #[test]
    fn a_keyspace_has_replicas_by_data_centre() {
        let cql = |pairs: &[(&str, &str)]| {
            create_keyspace_cql("ks", &pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let network = "CREATE KEYSPACE \"ks\" WITH replication = {'class': 'NetworkTopologyStrategy', ";
        assert_eq!(cql(&[]).expect("is right"), format!("{network}'replication_factor': 1}}"));
        assert_eq!(
            cql(&[("DC-1", "3"), ("dc2", "0"), ("durable_writes", "false")]).expect("is right"),
            format!("{network}'DC-1': 3, 'dc2': 0}} AND durable_writes = false")
        );
        assert!(cql(&[("replication_factor", "0")]).is_err());
        assert!(cql(&[("durable", "yes")]).is_err());
        assert!(cql(&[("class", "EverywhereStrategy")]).is_err());
    }

    #[test]
    fn an_index_is_storage_attached_unless_said_otherwise() {
        let options = [("similarity_function".to_owned(), "cosine".to_owned())].into();
        let none = BTreeMap::new();
        let index = Index {
            keyspace: "ks",
            table: "t",
            name: Some("v"),
            if_not_exists: true,
            column: "v",
            part: None,
            method: None,
            options: &options,
        };
        assert_eq!(
            create_index_cql(&index).expect("is right"),
            "CREATE INDEX IF NOT EXISTS \"v\" ON \"ks\".\"t\" (\"v\") USING 'sai' WITH OPTIONS = \
             {'similarity_function': 'cosine'}"
        );
        let plain =
            Index { name: None, if_not_exists: false, part: Some("keys"), method: Some("2i"), options: &none, ..index };
        assert_eq!(
            create_index_cql(&plain).expect("is right"),
            "CREATE INDEX ON \"ks\".\"t\" (KEYS(\"v\")) USING 'legacy_local_table'"
        );
        assert!(create_index_cql(&Index { method: Some("x' --"), ..index }).is_err());
    }
}
