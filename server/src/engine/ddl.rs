//! Statements that create and drop: tables, views, schemas, catalogs.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::TableReference;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{
    CreateTable, CreateTableOptions, Expr, Ident, ObjectName, ObjectType, SchemaName, SqlOption,
    Statement as SqlStatement, Value,
};
use sluice_executor::cassandra::{CassandraCatalog, CassandraCluster, ddl as cql};
use sluice_planner::catalog::{CatalogDefinition, TableDefinition};
use sluice_planner::statement::{Statement, StatementKind};

use super::error::{EngineError, SqlState};
use super::query::{QueryRecord, QueryResult};
use super::session::{Session, command};
use super::{ingested, run};

/// Whether Sluice runs the statement itself instead of having DataFusion plan it.
pub(super) fn is_ours(statement: &DfStatement) -> bool {
    match statement {
        DfStatement::CreateExternalTable(_) => true,
        DfStatement::Statement(sql) => matches!(
            sql.as_ref(),
            SqlStatement::CreateTable(_)
                | SqlStatement::CreateView(_)
                | SqlStatement::CreateSchema { .. }
                | SqlStatement::CreateDatabase { .. }
                | SqlStatement::Drop { .. }
                | SqlStatement::Truncate(_)
        ),
        _ => false,
    }
}

/// Creates, drops or refreshes a catalog.
pub(super) async fn execute_catalog(session: &Session, kind: &StatementKind) -> Result<(), EngineError> {
    let catalogs = &session.engine().catalogs;
    match kind {
        StatementKind::CreateCatalog { name, if_not_exists, connector, options } => {
            if *if_not_exists && catalogs.list().catalog(name).is_some() {
                session.notice(format!("catalog \"{name}\" already exists, skipping"));
                return Ok(());
            }
            let definition = CatalogDefinition { connector: connector.clone(), options: options.clone() };
            Ok(catalogs.create_catalog(name, definition).await?)
        }
        StatementKind::DropCatalog { name, if_exists } => {
            if *if_exists && catalogs.list().catalog(name).is_none() {
                session.notice(format!("catalog \"{name}\" does not exist, skipping"));
                return Ok(());
            }
            catalogs.drop_catalog(name).await?;
            session.engine().policies.forget(name, None, None)?;
            session.engine().statistics.forget(name, None)
        }
        StatementKind::RefreshCatalog { name } => Ok(catalogs.refresh_catalog(name).await?),
        _ => Err(EngineError::new(SqlState::INTERNAL, "not a statement about catalogs")),
    }
}

/// Creates and drops keyspaces and indexes.
pub(super) async fn execute_cql(session: &Session, kind: &StatementKind) -> Result<(), EngineError> {
    match kind {
        StatementKind::CreateKeyspace { name, if_not_exists, options } => {
            let (catalog, schema) = keyspace_name(session, name)?;
            create_keyspace(session, &catalog, &schema, *if_not_exists, options).await
        }
        StatementKind::DropKeyspace { name, if_exists, cascade } => {
            let (catalog, schema) = keyspace_name(session, name)?;
            drop_schema(session, &catalog, &schema, *if_exists, *cascade).await
        }
        StatementKind::CreateIndex(index) => {
            let name = FullName::of_parts(session, &index.table)?;
            let cluster = cassandra(session, &name.catalog).await?;
            let cql = cql::create_index_cql(&cql::Index {
                keyspace: &name.schema,
                table: &name.table,
                name: index.name.as_deref(),
                if_not_exists: index.if_not_exists,
                column: &index.column,
                part: index.part.as_deref(),
                method: index.method.as_deref(),
                options: &index.options,
            })?;
            Ok(cluster.execute_ddl(&cql).await?)
        }
        _ => Err(EngineError::new(SqlState::INTERNAL, "not a statement about keyspaces")),
    }
}

/// The catalog and the keyspace of `catalog.keyspace`, or of `keyspace` in the session's catalog.
pub(super) fn keyspace_name(session: &Session, parts: &[String]) -> Result<(String, String), EngineError> {
    schema_of_parts(session, parts).ok_or_else(|| not_a_name(&parts.join("."), "keyspace"))
}

fn schema_of_parts(session: &Session, parts: &[String]) -> Option<(String, String)> {
    match parts {
        [schema] => Some((session.database(), schema.clone())),
        [catalog, schema] => Some((catalog.clone(), schema.clone())),
        _ => None,
    }
}

fn not_a_name(name: &str, kind: &str) -> EngineError {
    EngineError::new(SqlState::SYNTAX_ERROR, format!("\"{name}\" is not the name of a {kind}"))
}

/// A name with all of its parts.
#[derive(Debug, Clone)]
pub(super) struct FullName {
    pub catalog: String,
    pub schema: String,
    pub table: String,
}

impl FullName {
    /// A name by its parts, as the session looks names up.
    pub(super) fn of_parts(session: &Session, parts: &[String]) -> Result<Self, EngineError> {
        let (catalog, schema) = (session.database(), session.current_schema());
        match parts {
            [table] => Ok(Self { catalog, schema, table: table.clone() }),
            [schema, table] => Ok(Self { catalog, schema: schema.clone(), table: table.clone() }),
            [catalog, schema, table] => {
                Ok(Self { catalog: catalog.clone(), schema: schema.clone(), table: table.clone() })
            }
            _ => Err(not_a_name(&parts.join("."), "table")),
        }
    }

    /// For DataFusion.
    pub(super) fn reference(&self) -> TableReference {
        TableReference::full(self.catalog.as_str(), self.schema.as_str(), self.table.as_str())
    }

    /// For messages.
    pub(super) fn text(&self) -> String {
        format!("{}.{}.{}", self.catalog, self.schema, self.table)
    }

    /// For SQL: names come through as they are.
    pub(super) fn quoted(&self) -> String {
        [&self.catalog, &self.schema, &self.table].map(|name| quoted(name)).join(".")
    }
}

/// A name as it is looked up: in lower case unless quoted.
pub(crate) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// A name in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name in a statement, as the session looks names up.
pub(super) fn full_name(session: &Session, name: &ObjectName) -> Result<FullName, EngineError> {
    let reference = object_name_to_table_reference(name.clone(), true)?;
    let resolved = reference.resolve(&session.database(), &session.current_schema());
    Ok(FullName {
        catalog: resolved.catalog.to_string(),
        schema: resolved.schema.to_string(),
        table: resolved.table.to_string(),
    })
}

fn is_cassandra(session: &Session, catalog: &str) -> bool {
    session.engine().catalogs.cassandra(catalog).is_some()
}

/// The cluster of a catalog; an error if the catalog is of another kind.
pub(super) async fn cassandra(session: &Session, catalog: &str) -> Result<Arc<CassandraCluster>, EngineError> {
    let provider = session.engine().catalogs.cassandra(catalog);
    match provider.as_ref().and_then(|provider| provider.downcast_ref::<CassandraCatalog>()) {
        Some(catalog) => Ok(catalog.cluster().await?),
        None => Err(EngineError::not_supported(format!("this statement on catalog \"{catalog}\""))),
    }
}

/// Runs a statement for which [`is_ours`] holds.
pub(super) async fn execute(
    session: &Arc<Session>,
    statement: &Statement,
    sql: &DfStatement,
    record: &Arc<QueryRecord>,
) -> Result<QueryResult, EngineError> {
    match sql {
        DfStatement::CreateExternalTable(create) => {
            let name = full_name(session, &create.name)?;
            let definition = TableDefinition::External { sql: statement.text.clone() };
            create_local(session, &name, definition, create.if_not_exists, create.or_replace).await?;
        }
        DfStatement::Statement(inner) => match inner.as_ref() {
            SqlStatement::CreateView(view) => {
                let name = full_name(session, &view.name)?;
                let definition = TableDefinition::View { sql: statement.text.clone() };
                create_local(session, &name, definition, view.if_not_exists, view.or_replace).await?;
            }
            SqlStatement::CreateTable(create) => return create_table(session, statement, create, record).await,
            SqlStatement::CreateSchema { schema_name, if_not_exists, with, .. } => {
                create_schema(session, schema_name, *if_not_exists, with.as_deref().unwrap_or_default()).await?;
            }
            SqlStatement::Drop { object_type, if_exists, names, cascade, .. } => {
                for name in names {
                    drop_object(session, *object_type, name, *if_exists, *cascade).await?;
                }
            }
            SqlStatement::Truncate(truncate) => {
                for target in &truncate.table_names {
                    let name = full_name(session, &target.name)?;
                    let cluster = cassandra(session, &name.catalog).await?;
                    cluster.execute_ddl(&cql::truncate_cql(&name.schema, &name.table)).await?;
                }
            }
            other => return Err(EngineError::not_supported(first_words(&other.to_string()))),
        },
        _ => return Err(EngineError::not_supported(first_words(&statement.text))),
    }
    Ok(command(statement.tag))
}

fn first_words(sql: &str) -> String {
    sql.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_uppercase()
}

async fn create_local(
    session: &Session,
    name: &FullName,
    definition: TableDefinition,
    if_not_exists: bool,
    replace: bool,
) -> Result<(), EngineError> {
    if is_cassandra(session, &name.catalog) {
        return Err(EngineError::not_supported("an external table or view in a Cassandra catalog")
            .with_hint("create it in catalog sluice: CREATE ... sluice.public.name"));
    }
    if if_not_exists && session.table_names(&name.catalog, &name.schema).contains(&name.table) {
        session.notice(format!("relation \"{}\" already exists, skipping", name.table));
        return Ok(());
    }
    Ok(session.engine().catalogs.create_table(&name.schema, &name.table, definition, replace).await?)
}

fn option_map(options: &[SqlOption]) -> Result<BTreeMap<String, String>, EngineError> {
    options
        .iter()
        .map(|option| match option {
            // The names of data centres have capitals.
            SqlOption::KeyValue { key, value } if key.quote_style.is_some() => {
                Ok((key.value.clone(), option_text(value)))
            }
            SqlOption::KeyValue { key, value } => Ok((key.value.to_lowercase(), option_text(value))),
            other => Err(EngineError::new(
                SqlState::SYNTAX_ERROR,
                format!("\"{other}\" is not an option: write name = 'value'"),
            )),
        })
        .collect()
}

fn option_text(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::DollarQuotedString(text) => text.value.clone(),
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

async fn create_table(
    session: &Arc<Session>,
    statement: &Statement,
    create: &CreateTable,
    record: &Arc<QueryRecord>,
) -> Result<QueryResult, EngineError> {
    let name = full_name(session, &create.name)?;
    if !is_cassandra(session, &name.catalog) {
        return Err(EngineError::not_supported("CREATE TABLE outside of a Cassandra catalog").with_hint(
            "write a query's rows with COPY (...) TO 'file.parquet' STORED AS PARQUET, and read files with CREATE EXTERNAL TABLE",
        ));
    }
    let cluster = cassandra(session, &name.catalog).await?;
    let tag = if create.query.is_some() { "CREATE TABLE AS" } else { "CREATE TABLE" };
    if session.table_names(&name.catalog, &name.schema).contains(&name.table) {
        if create.if_not_exists {
            session.notice(format!("relation \"{}\" already exists, skipping", name.table));
            return Ok(command(tag));
        }
        return Err(EngineError::new(SqlState::DUPLICATE_TABLE, format!("table \"{}\" already exists", name.table)));
    }
    let mut options = match &create.table_options {
        CreateTableOptions::With(options) | CreateTableOptions::Options(options) => option_map(options)?,
        CreateTableOptions::None => BTreeMap::new(),
        other => return Err(EngineError::not_supported(other.to_string())),
    };
    if !options.contains_key("primary_key")
        && let Some(key) = declared_key(create)
    {
        options.insert("primary_key".to_owned(), key);
    }
    let query = match &create.query {
        Some(query) => {
            let query = DfStatement::Statement(Box::new(SqlStatement::Query(query.clone())));
            Some(session.plan(statement, &query).await?)
        }
        None => None,
    };
    let schema = match &query {
        Some(plan) => plan.schema().as_arrow().clone(),
        None => columns_of(session, statement, create).await?,
    };
    let cql = cql::create_table_cql(&name.schema, &name.table, &schema, &options)?;
    cluster.execute_ddl(&cql).await?;
    let Some(query) = query else { return Ok(command(tag)) };
    let written = write_query(session, &name, query, record).await;
    match written {
        Ok(rows) => Ok(QueryResult::Command { tag: format!("SELECT {rows}"), rows_affected: Some(rows) }),
        Err(error) => Err(error.with_hint(format!(
            "the table was created and may hold a part of the rows: DROP TABLE {}.{}.{}, or repeat the rows with INSERT INTO, which is safe",
            name.catalog, name.schema, name.table
        ))),
    }
}

/// `INSERT INTO table query`, by the names of columns, for a query that is already planned.
pub(super) async fn write_query(
    session: &Arc<Session>,
    name: &FullName,
    query: LogicalPlan,
    record: &Arc<QueryRecord>,
) -> Result<u64, EngineError> {
    let provider = session.find_table(name.reference()).await?;
    let wanted = provider.schema();
    let mut projection = Vec::with_capacity(wanted.fields().len());
    for field in wanted.fields() {
        let source = datafusion::prelude::Expr::Column(datafusion::common::Column::from(
            query.schema().qualified_field_with_unqualified_name(field.name())?,
        ));
        let cast = datafusion::prelude::cast(source, field.data_type().clone()).alias(field.name());
        projection.push(cast);
    }
    let source = datafusion::logical_expr::LogicalPlanBuilder::from(query).project(projection)?.build()?;
    let plan = datafusion::logical_expr::LogicalPlanBuilder::insert_into(
        source,
        name.reference(),
        datafusion::datasource::provider_as_source(provider),
        datafusion::logical_expr::dml::InsertOp::Append,
    )?
    .build()?;
    run::run_to_count(session, &plan, record).await
}

/// `PRIMARY KEY (a, b)` or `a int PRIMARY KEY`, in the words of the option `primary_key`.
fn declared_key(create: &CreateTable) -> Option<String> {
    use datafusion::sql::sqlparser::ast::{ColumnOption, TableConstraint};
    for constraint in &create.constraints {
        if let TableConstraint::PrimaryKey(key) = constraint {
            let names: Vec<String> = key.columns.iter().map(|column| column.column.expr.to_string()).collect();
            return Some(names.join(", "));
        }
    }
    create
        .columns
        .iter()
        .find(|column| column.options.iter().any(|option| matches!(option.option, ColumnOption::PrimaryKey(_))))
        .map(|column| column.name.to_string())
}

/// The Arrow types of declared columns, as DataFusion reads SQL types.
async fn columns_of(session: &Session, statement: &Statement, create: &CreateTable) -> Result<Schema, EngineError> {
    let mut bare = create.clone();
    bare.table_options = CreateTableOptions::None;
    bare.constraints.clear();
    for column in &mut bare.columns {
        column.options.clear();
    }
    let bare = DfStatement::Statement(Box::new(SqlStatement::CreateTable(bare)));
    let plan = session.plan(statement, &bare).await?;
    match plan {
        LogicalPlan::Ddl(datafusion::logical_expr::DdlStatement::CreateMemoryTable(table)) => {
            Ok(table.input.schema().as_arrow().clone())
        }
        _ => Err(EngineError::not_supported("this form of CREATE TABLE")),
    }
}

async fn create_schema(
    session: &Session,
    name: &SchemaName,
    if_not_exists: bool,
    with: &[SqlOption],
) -> Result<(), EngineError> {
    let SchemaName::Simple(name) = name else {
        return Err(EngineError::not_supported("CREATE SCHEMA ... AUTHORIZATION"));
    };
    let (catalog, schema) = schema_name(session, name)?;
    create_keyspace(session, &catalog, &schema, if_not_exists, &option_map(with)?).await
}

async fn create_keyspace(
    session: &Session,
    catalog: &str,
    schema: &str,
    if_not_exists: bool,
    options: &BTreeMap<String, String>,
) -> Result<(), EngineError> {
    if if_not_exists && session.schema_names(catalog).iter().any(|name| name == schema) {
        session.notice(format!("schema \"{schema}\" already exists, skipping"));
        return Ok(());
    }
    if is_cassandra(session, catalog) {
        let cluster = cassandra(session, catalog).await?;
        let statement = cql::create_keyspace_cql(schema, options)?;
        return Ok(cluster.execute_ddl(&statement).await?);
    }
    Ok(session.engine().catalogs.create_schema(schema).await?)
}

/// `schema` or `catalog.schema`.
pub(super) fn schema_name(session: &Session, name: &ObjectName) -> Result<(String, String), EngineError> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect();
    schema_of_parts(session, &parts).ok_or_else(|| not_a_name(&name.to_string(), "schema"))
}

async fn drop_object(
    session: &Session,
    object_type: ObjectType,
    name: &ObjectName,
    if_exists: bool,
    cascade: bool,
) -> Result<(), EngineError> {
    match object_type {
        ObjectType::Table | ObjectType::View => {
            let name = full_name(session, name)?;
            if if_exists && !session.table_names(&name.catalog, &name.schema).contains(&name.table) {
                session.notice(format!("relation \"{}\" does not exist, skipping", name.table));
                return Ok(());
            }
            if is_cassandra(session, &name.catalog) {
                let cluster = cassandra(session, &name.catalog).await?;
                cluster.execute_ddl(&cql::drop_table_cql(&name.schema, &name.table)).await?;
                cluster.set_statistics(&name.schema, &name.table, None);
                session.engine().policies.forget(&name.catalog, Some(&name.schema), Some(&name.table))?;
                return session.engine().statistics.forget(&name.catalog, Some((&name.schema, &name.table)));
            }
            let folder = session.engine().table_folder(&name.schema, &name.table);
            session.engine().catalogs.drop_table(&name.schema, &name.table).await?;
            if let Some(folder) = &folder {
                ingested::remove(folder);
            }
            session.engine().policies.forget(&name.catalog, Some(&name.schema), Some(&name.table))
        }
        ObjectType::Schema | ObjectType::Database => {
            let (catalog, schema) = schema_name(session, name)?;
            drop_schema(session, &catalog, &schema, if_exists, cascade).await
        }
        ObjectType::Index => {
            let name = full_name(session, name)?;
            let cluster = cassandra(session, &name.catalog).await?;
            Ok(cluster.execute_ddl(&cql::drop_index_cql(&name.schema, &name.table, if_exists)).await?)
        }
        other => Err(EngineError::not_supported(format!("DROP {other}"))),
    }
}

async fn drop_schema(
    session: &Session,
    catalog: &str,
    schema: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<(), EngineError> {
    if if_exists && !session.schema_names(catalog).iter().any(|name| name == schema) {
        session.notice(format!("schema \"{schema}\" does not exist, skipping"));
        return Ok(());
    }
    if is_cassandra(session, catalog) {
        let tables = session.table_names(catalog, schema);
        if !tables.is_empty() && !cascade {
            return Err(EngineError::new(
                SqlState("2BP01"),
                format!("schema \"{schema}\" is not empty: it holds {} table(s)", tables.len()),
            )
            .with_hint("use DROP SCHEMA ... CASCADE to drop what it holds too"));
        }
        let cluster = cassandra(session, catalog).await?;
        cluster.execute_ddl(&cql::drop_keyspace_cql(schema)).await?;
        for table in &tables {
            cluster.set_statistics(schema, table, None);
            session.engine().statistics.forget(catalog, Some((schema, table)))?;
        }
        return session.engine().policies.forget(catalog, Some(schema), None);
    }
    session.engine().catalogs.drop_schema(schema, cascade).await?;
    session.engine().policies.forget(catalog, Some(schema), None)
}
