//! The rows of `pg_catalog`, from the session's catalogs.
//!
//! As in PostgreSQL one database is seen at a time, the session's catalog; the others are rows of
//! `pg_database` and are connected to by their names.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::datatypes::Field;
use datafusion::catalog::{CatalogProviderList, SchemaProvider};
use datafusion::logical_expr::TableType;
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;

use super::catalogs::PG_CATALOG;
use super::definitions::{Definition, Row};
use super::keys::{self, Index};
use super::oids::{Object, PG_CATALOG_OID, oid_of};
use super::types::{self, BuiltIn};
use crate::engine::{BackendInfo, PUBLIC, Session};
use crate::pg::{PgType, type_modifier};

/// The number of the role that a session's user is: everything's owner.
pub const OWNER_OID: i32 = 10;

const INFORMATION_SCHEMA: &str = "information_schema";
/// DataFusion answers these without listing them anywhere.
const INFORMATION_SCHEMA_VIEWS: [&str; 7] =
    ["columns", "df_settings", "parameters", "routines", "schemata", "tables", "views"];

/// Where the rows come from.
#[derive(Clone)]
pub struct Source {
    /// Every catalog.
    pub catalogs: Arc<dyn CatalogProviderList>,
    /// The session that looks.
    pub session: Weak<Session>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// What of the rows a query needs.
#[derive(Debug)]
pub struct Scope {
    /// The catalog that the session is in.
    pub database: String,
    /// The only table that matters, if the query asks for one.
    pub relation_oid: Option<i32>,
}

/// A table of the database.
struct Table {
    schema: String,
    name: String,
    oid: i32,
}

impl Source {
    /// The rows of a relation of `pg_catalog`.
    pub async fn rows(&self, relation: &str, scope: &Scope) -> Vec<Row> {
        match relation {
            "pg_class" => self.classes(scope).await,
            "pg_attribute" => self.attributes(scope).await,
            "pg_namespace" => self.namespaces(scope),
            "pg_database" => self.databases(),
            "pg_tables" => self.tables_or_views(scope, TableType::Base, "table").await,
            "pg_views" => self.tables_or_views(scope, TableType::View, "view").await,
            "pg_type" => types::rows(),
            "pg_settings" => self.settings(),
            "pg_roles" | "pg_authid" => self.roles(),
            "pg_user" | "pg_shadow" => vec![vec![text("usesysid", OWNER_OID), text("usename", self.user())]],
            "pg_stat_activity" => self.activity(),
            "pg_get_keywords" => ALL_KEYWORDS.iter().map(|word| vec![("word", word.to_lowercase())]).collect(),
            "pg_cursors" => self.cursors(),
            "pg_index" => keys::index_rows(&self.indexes(scope).await),
            "pg_indexes" => keys::indexes_rows(&self.indexes(scope).await),
            "pg_constraint" => keys::constraint_rows(&scope.database, &self.indexes(scope).await),
            "information_schema.table_constraints" => {
                keys::table_constraint_rows(&scope.database, &self.indexes(scope).await)
            }
            "information_schema.key_column_usage" | "information_schema.constraint_column_usage" => {
                keys::key_column_rows(&scope.database, &self.indexes(scope).await)
            }
            "pg_am" => rows("oid amname amtype amhandler", &["2 heap t heap_tableam_handler", "403 btree i bthandler"]),
            "pg_tablespace" => rows("oid spcname", &["1663 pg_default", "1664 pg_global"]),
            "pg_collation" => rows("oid collname", &["100 default", "950 C", "951 POSIX"]),
            "pg_language" => rows("oid lanname lanpltrusted", &["12 internal f", "13 c f", "14 sql t"]),
            _ => Vec::new(),
        }
    }

    fn user(&self) -> String {
        self.session.upgrade().map_or_else(String::new, |session| session.user().to_owned())
    }

    /// The session's user, to whom all objects belong, and the roles that there are.
    fn roles(&self) -> Vec<Row> {
        let Some(session) = self.session.upgrade() else { return Vec::new() };
        let roles = session.engine().roles();
        let may = |flag: bool| if flag { "t" } else { "f" };
        let row = |oid: i32, name: &str, login: bool, superuser: bool| {
            vec![
                text("oid", oid),
                text("rolname", name),
                text("rolsuper", may(superuser)),
                text("rolcreaterole", may(superuser)),
                text("rolcreatedb", may(superuser)),
                text("rolbypassrls", may(superuser)),
                text("rolcanlogin", may(login)),
            ]
        };
        let user = row(OWNER_OID, session.user(), true, roles.is_superuser(session.user()));
        let others = roles.list().into_iter().filter(|role| role.name != session.user() && role.name != PUBLIC);
        let others =
            others.map(|role| row(oid_of(&Object::Role(role.name.clone())), &role.name, role.login, role.superuser));
        std::iter::once(user).chain(others).collect()
    }

    fn schema_names(&self, database: &str) -> Vec<String> {
        let mut names = self.catalogs.catalog(database).map_or_else(Vec::new, |catalog| catalog.schema_names());
        names.extend([PG_CATALOG.to_owned(), INFORMATION_SCHEMA.to_owned()]);
        names.sort();
        names.dedup();
        names
    }

    fn schema(&self, database: &str, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.catalogs.catalog(database)?.schema(name)
    }

    /// The tables of the database outside of `pg_catalog` and `information_schema`.
    fn tables(&self, scope: &Scope) -> Vec<Table> {
        let mut tables = Vec::new();
        for schema in self.schema_names(&scope.database) {
            if schema == PG_CATALOG || schema == INFORMATION_SCHEMA {
                continue;
            }
            let Some(provider) = self.schema(&scope.database, &schema) else { continue };
            for name in provider.table_names() {
                let oid = table_oid(&scope.database, &schema, &name);
                if scope.relation_oid.is_none_or(|wanted| wanted == oid) {
                    tables.push(Table { schema: schema.clone(), name, oid });
                }
            }
        }
        tables
    }

    async fn table_type(&self, scope: &Scope, table: &Table) -> TableType {
        let Some(schema) = self.schema(&scope.database, &table.schema) else { return TableType::Base };
        // A table that cannot be opened now (its file is gone, its server away) is still a table.
        schema.table_type(&table.name).await.ok().flatten().unwrap_or(TableType::Base)
    }

    async fn classes(&self, scope: &Scope) -> Vec<Row> {
        let mut classes = Vec::new();
        for definition in Definition::all() {
            let columns = definition.schema.fields().len();
            let (schema, name) = definition.schema_and_name();
            let kind = if schema == PG_CATALOG { "r" } else { "v" };
            classes.push(class(&scope.database, schema, name, kind, columns));
        }
        for name in INFORMATION_SCHEMA_VIEWS {
            classes.push(class(&scope.database, INFORMATION_SCHEMA, name, "v", 0));
        }
        let indexes = self.indexes(scope).await;
        let indexed: HashSet<i32> = indexes.iter().map(|index| index.table_oid).collect();
        for table in self.tables(scope) {
            let kind = if self.table_type(scope, &table).await == TableType::View { "v" } else { "r" };
            let mut class = class(&scope.database, &table.schema, &table.name, kind, 0);
            if indexed.contains(&table.oid) {
                class.push(text("relhasindex", "t"));
            }
            classes.push(class);
        }
        classes.extend(keys::classes(&scope.database, &indexes));
        classes
    }

    async fn attributes(&self, scope: &Scope) -> Vec<Row> {
        let mut attributes = Vec::new();
        for definition in Definition::all() {
            let (schema, name) = definition.schema_and_name();
            let oid = table_oid(&scope.database, schema, name);
            if scope.relation_oid.is_none_or(|wanted| wanted == oid) {
                attributes.extend(definition.schema.fields().iter().enumerate().map(|(i, f)| attribute(oid, i, f)));
            }
        }
        if let Some(index) = scope.relation_oid.and_then(|oid| self.known_index(oid)) {
            return self.attributes_of_index(scope, &index).await;
        }
        for table in self.tables(scope) {
            let Some(schema) = self.schema(&scope.database, &table.schema) else { continue };
            let Ok(Some(provider)) = schema.table(&table.name).await else { continue };
            let fields = provider.schema();
            let has_static = fields.fields().iter().any(|field| kind_of_column(field) == Some("static"));
            attributes.extend(fields.fields().iter().enumerate().map(|(index, field)| {
                let mut attribute = attribute(table.oid, index, field);
                // To plans a clustering key may be null: it is in the row of a partition with static columns only.
                if kind_of_column(field) == Some("clustering") && !has_static {
                    attribute.retain(|(name, _)| *name != "attnotnull");
                    attribute.push(text("attnotnull", "t"));
                }
                attribute
            }));
        }
        attributes
    }

    /// The columns of an index, which clients describe like a table.
    async fn attributes_of_index(&self, scope: &Scope, index: &Index) -> Vec<Row> {
        let Some(schema) = self.schema(&scope.database, &index.schema) else { return Vec::new() };
        let Ok(Some(table)) = schema.table(&index.table).await else { return Vec::new() };
        let fields = table.schema();
        let columns = index.columns.iter().enumerate().filter_map(|(place, column)| {
            let field = fields.fields().get(column.number.checked_sub(1)?)?;
            Some(attribute(index.oid, place, field))
        });
        columns.collect()
    }

    fn namespaces(&self, scope: &Scope) -> Vec<Row> {
        let names = self.schema_names(&scope.database).into_iter();
        names.map(|name| vec![text("oid", schema_oid(&scope.database, &name)), ("nspname", name)]).collect()
    }

    fn databases(&self) -> Vec<Row> {
        let names = self.catalogs.catalog_names().into_iter();
        names.map(|name| vec![text("oid", oid_of(&Object::Catalog(name.clone()))), ("datname", name)]).collect()
    }

    async fn tables_or_views(&self, scope: &Scope, wanted: TableType, what: &'static str) -> Vec<Row> {
        let (name_column, owner_column) =
            if what == "view" { ("viewname", "viewowner") } else { ("tablename", "tableowner") };
        let mut found = Vec::new();
        for table in self.tables(scope) {
            let is_view = self.table_type(scope, &table).await == TableType::View;
            if is_view == (wanted == TableType::View) {
                found.push(vec![("schemaname", table.schema), (name_column, table.name), (owner_column, self.user())]);
            }
        }
        found
    }

    fn settings(&self) -> Vec<Row> {
        let Some(session) = self.session.upgrade() else { return Vec::new() };
        let settings = session.settings().into_iter().map(|(name, value, description)| {
            let source = if name.starts_with("max_") || name.starts_with("server_") { "default" } else { "session" };
            vec![
                ("name", name),
                ("setting", value.clone()),
                ("short_desc", description),
                text("source", source),
                ("boot_val", value.clone()),
                ("reset_val", value),
            ]
        });
        settings.collect()
    }

    fn cursors(&self) -> Vec<Row> {
        let Some(session) = self.session.upgrade() else { return Vec::new() };
        let cursors = session.cursors().into_iter().map(|cursor| {
            let declared = cursor.declared.duration_since(UNIX_EPOCH).unwrap_or_default();
            vec![
                ("name", cursor.name),
                ("statement", cursor.statement),
                text("is_holdable", if cursor.is_holdable { "t" } else { "f" }),
                text("creation_time", declared.as_micros()),
            ]
        });
        cursors.collect()
    }

    fn activity(&self) -> Vec<Row> {
        let Some(session) = self.session.upgrade() else { return Vec::new() };
        let micros = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let row = |backend: BackendInfo| {
            let mut row = vec![
                text("datid", oid_of(&Object::Catalog(backend.database.clone()))),
                ("datname", backend.database),
                text("pid", backend.pid),
                ("usename", backend.user),
                ("application_name", backend.application_name),
                text("backend_start", micros(backend.started)),
                text("state", backend.state),
                ("query", backend.query),
            ];
            row.extend(backend.query_started.map(|started| text("query_start", micros(started))));
            if let Some((host, port)) = backend.client_address.as_deref().and_then(|address| address.rsplit_once(':')) {
                row.push(text("client_addr", host.trim_matches(['[', ']'])));
                row.push(text("client_port", port));
            }
            row
        };
        session.engine().backends(&session).into_iter().map(row).collect()
    }
}

/// What part of a Cassandra table's key a column is.
fn kind_of_column(field: &Field) -> Option<&str> {
    field.metadata().get("cassandra.kind").map(String::as_str)
}

/// A cell of a row.
pub fn text(column: &'static str, value: impl ToString) -> (&'static str, String) {
    (column, value.to_string())
}

/// Rows written as words, in the order of the named columns.
fn rows(columns: &'static str, lines: &[&'static str]) -> Vec<Row> {
    let row = |line: &&'static str| columns.split(' ').zip(line.split(' ').map(str::to_owned)).collect();
    lines.iter().map(row).collect()
}

/// The number of a table.
pub fn table_oid(database: &str, schema: &str, name: &str) -> i32 {
    oid_of(&Object::Table { catalog: database.to_owned(), schema: schema.to_owned(), name: name.to_owned() })
}

/// The number of a schema.
pub fn schema_oid(database: &str, name: &str) -> i32 {
    if name == PG_CATALOG {
        return PG_CATALOG_OID;
    }
    oid_of(&Object::Schema { catalog: database.to_owned(), name: name.to_owned() })
}

fn class(database: &str, schema: &str, name: &str, kind: &str, columns: usize) -> Row {
    let mut row = vec![
        text("oid", table_oid(database, schema, name)),
        text("relname", name),
        text("relnamespace", schema_oid(database, schema)),
        text("relkind", kind),
        text("relnatts", columns),
    ];
    if kind == "r" {
        row.push(text("relam", 2));
    }
    row
}

fn attribute(table: i32, index: usize, field: &datafusion::arrow::datatypes::FieldRef) -> Row {
    let pg_type = PgType::of_field(field);
    let oid = pg_type.oid();
    let built_in = i32::try_from(oid).ok().and_then(BuiltIn::with_oid);
    let is_array = matches!(pg_type, PgType::Array(_));
    vec![
        text("attrelid", table),
        text("attname", field.name()),
        text("atttypid", oid),
        text("attlen", built_in.map_or("-1", |built_in| built_in.length)),
        text("attbyval", built_in.map_or("f", |built_in| built_in.by_value)),
        text("attnum", index + 1),
        text("attndims", i32::from(is_array)),
        text("atttypmod", type_modifier(field.data_type())),
        text("attnotnull", if field.is_nullable() { "f" } else { "t" }),
    ]
}
