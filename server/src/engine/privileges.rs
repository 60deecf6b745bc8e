//! What a statement needs its user to be allowed.
//!
//! It is found from the statement as the user wrote it, before it is planned: each table by the name that it is looked up
//! by, so that a view is read with the rights of whoever made it, as in PostgreSQL. A kind of statement that is not listed
//! here is for superusers.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::common::TableReference;
use datafusion::sql::parser::{CopyToSource, Statement as DfStatement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    FromTable, ObjectName, ObjectType, Query, Statement as SqlStatement, TableFactor, TableObject, TableWithJoins,
    Visit, Visitor,
};
use sluice_planner::catalog::{DEFAULT_CATALOG, names_files};
use sluice_planner::statement::{CopySource, Relation, RoleOptions, Statement, StatementKind, Transfer};

use super::ddl::{FullName, full_name, keyspace_name, schema_name};
use super::error::{EngineError, SqlState};
use super::policies::TableName;
use super::roles::{CREATE_CATALOGS, MONITOR, Object, Privilege, READ_FILES, WRITE_FILES};
use super::session::Session;

/// Something that a user has to be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Need {
    /// A privilege on an object.
    Privilege(Privilege, Object),
    /// Membership in a role.
    Membership(&'static str, &'static str),
    /// Reading a file or folder of the server.
    ReadFile(String),
    /// Writing a file or folder of the server.
    WriteFile(String),
    /// Seeing all rows and values of a table, or of all tables of a schema.
    Whole { catalog: String, schema: String, table: Option<String> },
    /// Everything: what only a superuser does.
    Superuser(&'static str),
}

/// Refuses a statement that the session's user may not run.
///
/// # Errors
///
/// 42501, with the object or role that it takes, and never with what is in it.
pub(super) fn check(session: &Session, statement: &Statement) -> Result<(), EngineError> {
    let roles = session.engine().roles();
    let is_superuser = roles.is_superuser(session.user());
    let file_roots = session.engine().file_roots();
    if is_superuser && file_roots.is_anywhere() {
        return Ok(());
    }
    let mut needs = Needs { session, found: Vec::new() };
    needs.of_statement(statement)?;
    let may_use = |role: &str, path: &str| {
        let is_member = roles.is_member(session.user(), role);
        if is_member { file_roots.check(path).map(|()| true) } else { Ok(false) }
    };
    for need in needs.found {
        let is_allowed = match &need {
            Need::Privilege(privilege, object) => roles.may(session.user(), *privilege, object),
            Need::Membership(role, _) => roles.is_member(session.user(), role),
            Need::ReadFile(path) => may_use(READ_FILES, path)?,
            Need::WriteFile(path) => may_use(WRITE_FILES, path)?,
            Need::Whole { catalog, schema, table } => sees_whole(session, catalog, schema, table.as_deref()),
            Need::Superuser(_) => is_superuser,
        };
        if !is_allowed {
            return Err(refusal(&need));
        }
    }
    Ok(())
}

fn refusal(need: &Need) -> EngineError {
    let error = |message: String| EngineError::new(SqlState::INSUFFICIENT_PRIVILEGE, message);
    let member = |what: &str, role: &str| {
        error(format!("permission denied to {what}"))
            .with_hint(format!("it takes membership in a role: GRANT {role} TO ..."))
    };
    match need {
        Need::Privilege(privilege, object) => error(format!("permission denied for {object}"))
            .with_hint(format!("it takes {privilege} on it, or on what it is in: GRANT {privilege} ON ... TO ...")),
        Need::Membership(role, what) => member(what, role),
        Need::ReadFile(_) => member("read files of the server", READ_FILES),
        Need::WriteFile(_) => member("write files of the server", WRITE_FILES),
        Need::Whole { catalog, schema, table } => {
            let object = Object::new([catalog, schema].into_iter().chain(table));
            error(format!("permission denied for {object}: policies hide a part of it from the user"))
                .with_hint("who is under a policy or mask of a table only reads it, by queries")
        }
        Need::Superuser(what) => error(format!("permission denied: only a superuser may {what}")),
    }
}

/// Whether no policy or mask hides anything of a table, or of a schema's tables, from the session's user.
fn sees_whole(session: &Session, catalog: &str, schema: &str, table: Option<&str>) -> bool {
    let is_whole = |name: &TableName| session.restriction_of(name).is_none();
    match table {
        Some(table) => is_whole(&TableName::new(catalog, schema, table)),
        None => session.engine().policies.tables_in(catalog, schema).iter().all(is_whole),
    }
}

struct Needs<'a> {
    session: &'a Session,
    found: Vec<Need>,
}

impl Needs<'_> {
    fn of_statement(&mut self, statement: &Statement) -> Result<(), EngineError> {
        match &statement.kind {
            StatementKind::Sql(sql) => self.of_sql(sql)?,
            StatementKind::Explain { statement, .. } | StatementKind::DeclareCursor { query: statement, .. } => {
                self.of_statement(statement)?;
            }
            StatementKind::CreateCatalog { .. }
            | StatementKind::DropCatalog { .. }
            | StatementKind::RefreshCatalog { .. } => {
                self.found.push(Need::Membership(CREATE_CATALOGS, "create, drop or refresh a catalog"));
            }
            StatementKind::CreateKeyspace { name, .. } | StatementKind::DropKeyspace { name, .. } => {
                let (catalog, _) = keyspace_name(self.session, name)?;
                self.privilege(Privilege::Create, Object::new([catalog]));
            }
            StatementKind::CreateIndex(index) => self.create_in(&FullName::of_parts(self.session, &index.table)?),
            StatementKind::CreateQueue { .. }
            | StatementKind::AlterQueue { .. }
            | StatementKind::DropQueue { .. }
            | StatementKind::Reserve { .. } => self.found.push(Need::Superuser("change queues and reservations")),
            StatementKind::AlterRole { name, options } if self.is_own_password(name, options) => {}
            StatementKind::CreateRole { .. }
            | StatementKind::AlterRole { .. }
            | StatementKind::DropRole { .. }
            | StatementKind::Grant { .. } => self.found.push(Need::Superuser("change roles and grants")),
            StatementKind::Policy(_) => self.found.push(Need::Superuser("change policies and masks")),
            StatementKind::Transfer(transfer) => self.of_transfer(transfer)?,
            StatementKind::CopyOut { source, .. } => self.of_source(source)?,
            StatementKind::CopyIn { table, .. } => self.on_table(Privilege::Insert, table)?,
            // What a sample tells is of all rows.
            StatementKind::Analyze { table: Some(table), .. } => {
                self.on_table(Privilege::Select, table)?;
                self.whole(FullName::of_parts(self.session, table)?);
            }
            StatementKind::Analyze { table: None, .. } => self.found.push(Need::Superuser("analyze all tables")),
            StatementKind::Fetch { .. }
            | StatementKind::CloseCursor(_)
            | StatementKind::Show(_)
            | StatementKind::ShowSetting(_)
            | StatementKind::Set { .. }
            | StatementKind::Reset(_)
            | StatementKind::Use { .. }
            | StatementKind::Begin
            | StatementKind::Commit
            | StatementKind::Rollback
            | StatementKind::Savepoint
            | StatementKind::KillQuery(_)
            | StatementKind::DiscardAll
            | StatementKind::Deallocate(_) => {}
        }
        Ok(())
    }

    /// Everybody may change their own password, and nothing else of their role.
    fn is_own_password(&self, name: &str, options: &RoleOptions) -> bool {
        let rest = RoleOptions { password: None, ..options.clone() };
        name == self.session.user() && rest == RoleOptions::default()
    }

    fn privilege(&mut self, privilege: Privilege, object: Object) {
        self.found.push(Need::Privilege(privilege, object));
    }

    fn on(&mut self, privilege: Privilege, name: FullName) {
        match name.schema.as_str() {
            INFORMATION_SCHEMA | crate::pgcatalog::PG_CATALOG => {}
            "system" if name.catalog == DEFAULT_CATALOG => {
                self.found.push(Need::Membership(MONITOR, "see what others run"));
            }
            _ if names_files(&name.table) => self.found.push(Need::ReadFile(name.table)),
            _ => {
                let object = Object::new([&name.catalog, &name.schema, &name.table].map(String::as_str));
                self.privilege(privilege, object);
                if privilege != Privilege::Select {
                    // To make a table of files takes a role that reads them.
                    if name.catalog == DEFAULT_CATALOG
                        && self.session.engine().is_of_users_files(&name.schema, &name.table)
                    {
                        self.found.push(Need::Membership(WRITE_FILES, "write files of the server"));
                    }
                    // A row that is written by its key could be one that is hidden.
                    self.whole(name);
                }
            }
        }
    }

    fn whole(&mut self, name: FullName) {
        self.found.push(Need::Whole { catalog: name.catalog, schema: name.schema, table: Some(name.table) });
    }

    fn on_table(&mut self, privilege: Privilege, parts: &[String]) -> Result<(), EngineError> {
        self.on(privilege, FullName::of_parts(self.session, parts)?);
        Ok(())
    }

    fn on_reference(&mut self, privilege: Privilege, reference: TableReference) {
        let name = reference.resolve(&self.session.database(), &self.session.current_schema());
        let (catalog, schema, table) = (name.catalog.to_string(), name.schema.to_string(), name.table.to_string());
        self.on(privilege, FullName { catalog, schema, table });
    }

    fn on_object(&mut self, privilege: Privilege, name: &ObjectName) -> Result<(), EngineError> {
        self.on(privilege, full_name(self.session, name)?);
        Ok(())
    }

    /// What is created and dropped belongs to the schema that it is in.
    fn create_in(&mut self, name: &FullName) {
        self.privilege(Privilege::Create, Object::new([name.catalog.as_str(), name.schema.as_str()]));
    }

    fn create_object(&mut self, name: &ObjectName) -> Result<(), EngineError> {
        self.create_in(&full_name(self.session, name)?);
        Ok(())
    }

    fn create_schema(&mut self, name: &ObjectName) -> Result<(), EngineError> {
        let (catalog, _) = schema_name(self.session, name)?;
        self.privilege(Privilege::Create, Object::new([catalog]));
        Ok(())
    }

    fn of_source(&mut self, source: &CopySource) -> Result<(), EngineError> {
        match source {
            CopySource::Table(name) => self.on_table(Privilege::Select, name),
            CopySource::Query(query) => self.of_statement(query),
        }
    }

    fn whole_schema(&mut self, keyspace: &[String]) -> Result<(), EngineError> {
        let (catalog, schema) = keyspace_name(self.session, keyspace)?;
        self.found.push(Need::Whole { catalog, schema, table: None });
        Ok(())
    }

    fn of_transfer(&mut self, transfer: &Transfer) -> Result<(), EngineError> {
        let on_schema = |privilege, keyspace: &[String]| {
            let (catalog, schema) = keyspace_name(self.session, keyspace)?;
            Ok::<_, EngineError>(Need::Privilege(privilege, Object::new([catalog, schema])))
        };
        match transfer {
            Transfer::CopyTo { source, path, .. } => {
                self.found.push(Need::WriteFile(path.clone()));
                self.of_source(source)?;
            }
            Transfer::CopyFrom { table, path, .. } => {
                self.found.push(Need::ReadFile(path.clone()));
                self.on_table(Privilege::Insert, table)?;
            }
            Transfer::Backup { keyspace, path, .. } => {
                let select = on_schema(Privilege::Select, keyspace)?;
                self.found.extend([Need::WriteFile(path.clone()), select]);
                self.whole_schema(keyspace)?;
            }
            Transfer::Restore { keyspace, path, .. } => {
                let (create, insert) =
                    (on_schema(Privilege::Create, keyspace)?, on_schema(Privilege::Insert, keyspace)?);
                self.found.extend([Need::ReadFile(path.clone()), create, insert]);
                self.whole_schema(keyspace)?;
            }
            Transfer::Compare(compare) => {
                for side in [&compare.left, &compare.right] {
                    match side {
                        Relation::Table(name) => self.on_table(Privilege::Select, name)?,
                        Relation::Query(sql) => {
                            for statement in self.session.parse(sql)? {
                                self.of_statement(&statement)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn of_sql(&mut self, sql: &DfStatement) -> Result<(), EngineError> {
        match sql {
            DfStatement::Statement(inner) => self.of_sqlparser(sql, inner),
            DfStatement::CreateExternalTable(create) => {
                for location in &create.locations {
                    self.found.push(Need::ReadFile(location.clone()));
                }
                self.create_object(&create.name)
            }
            DfStatement::CopyTo(copy) => {
                self.found.push(Need::WriteFile(copy.target.clone()));
                match &copy.source {
                    CopyToSource::Relation(name) => self.on_object(Privilege::Select, name),
                    CopyToSource::Query(query) => self.of_query(query),
                }
            }
            DfStatement::Explain(explain) => self.of_sql(&explain.statement),
            DfStatement::Reset(_) => Ok(()),
        }
    }

    fn of_query(&mut self, query: &Query) -> Result<(), EngineError> {
        let query = SqlStatement::Query(Box::new(query.clone()));
        self.of_relations(&DfStatement::Statement(Box::new(query)), None)
    }

    /// A view shows whoever reads it what its maker saw, and is not made of what is hidden from its maker.
    fn of_view(&mut self, query: &Query) -> Result<(), EngineError> {
        let first = self.found.len();
        self.of_query(query)?;
        let read =
            |need: &Need| match need {
                Need::Privilege(Privilege::Select, object) => object.table().map(|[catalog, schema, table]| {
                    Need::Whole { catalog: catalog.clone(), schema: schema.clone(), table: Some(table.clone()) }
                }),
                _ => None,
            };
        let wholes: Vec<Need> = self.found.iter().skip(first).filter_map(read).collect();
        self.found.extend(wholes);
        Ok(())
    }

    /// `SELECT` on all that is read, but what is changed.
    fn of_relations(&mut self, sql: &DfStatement, changed: Option<&TableReference>) -> Result<(), EngineError> {
        // Functions that give rows are among the references, and names of common table expressions among the relations.
        let named = named_relations(sql);
        let (references, _) = resolve_table_references(sql, true)?;
        let is_read = |reference: &TableReference| named.contains(reference) && Some(reference) != changed;
        for reference in references.into_iter().filter(is_read) {
            self.on_reference(Privilege::Select, reference);
        }
        Ok(())
    }

    /// A change of a table by what the rest of the statement reads, and of the table itself by a condition: which rows
    /// were changed tells what is in them.
    fn change(
        &mut self,
        privilege: Privilege,
        target: &ObjectName,
        has_condition: bool,
        sql: &DfStatement,
    ) -> Result<(), EngineError> {
        let reference = object_name_to_table_reference(target.clone(), true)?;
        self.on_reference(privilege, reference.clone());
        self.of_relations(sql, (!has_condition).then_some(&reference))
    }

    fn of_sqlparser(&mut self, sql: &DfStatement, inner: &SqlStatement) -> Result<(), EngineError> {
        match inner {
            SqlStatement::Query(_) => self.of_relations(sql, None),
            SqlStatement::Insert(insert) => {
                let TableObject::TableName(target) = &insert.table else {
                    return self.for_superusers();
                };
                self.on_object(Privilege::Insert, target)?;
                insert.source.as_deref().map_or(Ok(()), |query| self.of_query(query))
            }
            SqlStatement::Update(update) => match table_of(&update.table) {
                Some(target) => self.change(Privilege::Update, target, update.selection.is_some(), sql),
                None => self.for_superusers(),
            },
            SqlStatement::Delete(delete) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
                match from.as_slice() {
                    [table] if delete.tables.is_empty() => match table_of(table) {
                        Some(target) => self.change(Privilege::Delete, target, delete.selection.is_some(), sql),
                        None => self.for_superusers(),
                    },
                    _ => self.for_superusers(),
                }
            }
            SqlStatement::Truncate(truncate) => {
                truncate.table_names.iter().try_for_each(|table| self.on_object(Privilege::Truncate, &table.name))
            }
            SqlStatement::CreateTable(create) => {
                self.create_object(&create.name)?;
                create.query.as_deref().map_or(Ok(()), |query| self.of_query(query))
            }
            SqlStatement::CreateView(view) => {
                self.create_object(&view.name)?;
                self.of_view(&view.query)
            }
            SqlStatement::CreateSchema { schema_name: datafusion::sql::sqlparser::ast::SchemaName::Simple(name), .. }
            | SqlStatement::CreateDatabase { db_name: name, .. } => self.create_schema(name),
            SqlStatement::Drop { object_type, names, .. } => names.iter().try_for_each(|name| match object_type {
                ObjectType::Table | ObjectType::View | ObjectType::Index => self.create_object(name),
                ObjectType::Schema | ObjectType::Database => self.create_schema(name),
                _ => self.for_superusers(),
            }),
            SqlStatement::Prepare { statement, .. } => {
                self.of_sqlparser(&DfStatement::Statement(statement.clone()), statement)
            }
            SqlStatement::Explain { statement, .. } => {
                self.of_sqlparser(&DfStatement::Statement(statement.clone()), statement)
            }
            SqlStatement::ExplainTable { table_name, .. } => self.on_object(Privilege::Select, table_name),
            SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowCreate { .. }
            | SqlStatement::ShowFunctions { .. }
            | SqlStatement::ShowVariable { .. }
            // It was checked when it was prepared.
            | SqlStatement::Execute { .. }
            | SqlStatement::Deallocate { .. } => Ok(()),
            _ => self.for_superusers(),
        }
    }

    fn for_superusers(&mut self) -> Result<(), EngineError> {
        self.found.push(Need::Superuser("run this kind of statement"));
        Ok(())
    }
}

fn table_of(table: &TableWithJoins) -> Option<&ObjectName> {
    match &table.relation {
        TableFactor::Table { name, args: None, .. } => Some(name),
        _ => None,
    }
}

/// All names that stand where a table's does, and are not those of functions.
fn named_relations(sql: &DfStatement) -> BTreeSet<TableReference> {
    struct Named(BTreeSet<TableReference>);
    impl Visitor for Named {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, args: None, .. } = factor {
                self.0.extend(object_name_to_table_reference(name.clone(), true));
            }
            ControlFlow::Continue(())
        }
    }
    let mut named = Named(BTreeSet::new());
    if let DfStatement::Statement(statement) = sql {
        let _ = statement.visit(&mut named);
    }
    named.0
}
