//! One client's session: from a statement's text to its result.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::information_schema::{INFORMATION_SCHEMA, INFORMATION_SCHEMA_TABLES};
use datafusion::catalog::{CatalogProviderList, TableProvider};
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, TableReference, plan_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::tokenizer::Location;
use futures::FutureExt;
use futures::future::BoxFuture;
use sluice_executor::cassandra::{CassandraCatalog, TableKeys};
use sluice_planner::catalog::{DEFAULT_CATALOG, DEFAULT_SCHEMA};
use sluice_planner::statement::{self, Show, Statement, StatementKind, Transfer};
use sluice_planner::suggest::nearest;
use sluice_scheduler::cluster::{JobTag, LEAST_TASK_MEMORY_BYTES};

use super::audit::Event;
use super::backends::Backend;
use super::block_settings::Block;
use super::copy_in::CopyInput;
use super::cursor::{CursorInfo, Cursors};
use super::error::{EngineError, SqlState};
use super::held::{HeldResult, Wire, executors_serve_clients};
use super::opaque::Opaque;
use super::policies::{self, NamedStatements};
use super::query::{Placement, QueryHandle, QueryRecord, QueryResult, StopReason, WaitedFor};
use super::settings::{Settings, Target};
use super::traces::Planned;
use super::{
    Engine, analyze, context_over, copy_in, ddl, explain, insert, privileges, progress, queues, roles, run, system,
    transfer,
};
use crate::pgcatalog;

/// The longest time that a result is held for a client, whatever its session says.
const MOST_TICKET_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Notices that wait for a client; more are dropped.
const NOTICES_KEPT: usize = 100;

/// The protocol that a session came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The PostgreSQL wire protocol.
    Postgres,
    /// Arrow Flight SQL.
    FlightSql,
    /// The web page.
    Http,
    /// Sluice itself.
    Internal,
}

impl Protocol {
    /// Its name in metrics and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::FlightSql => "flight-sql",
            Self::Http => "http",
            Self::Internal => "internal",
        }
    }
}

/// Who opens a session, and how.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The user's name.
    pub user: String,
    /// The catalog to start in; one that does not exist is ignored unless it was asked for by name.
    pub database: Option<String>,
    /// The client's name for itself.
    pub application_name: Option<String>,
    /// Where the client is.
    pub client_address: Option<String>,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// Settings of the start-up message.
    pub startup_settings: Vec<(String, String)>,
}

/// PostgreSQL's transaction states. Statements take effect at once; a block groups them for clients' sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Outside of a block.
    Idle,
    /// Inside of a block.
    InTransaction,
    /// Inside of a block in which a statement failed.
    Failed,
}

/// Something a client should know that is not an error.
#[derive(Debug, Clone)]
pub struct Notice {
    /// `NOTICE` or `WARNING`.
    pub severity: &'static str,
    /// Its class.
    pub state: SqlState,
    /// What there is to know.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A table for metadata calls.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Its columns.
    pub schema: SchemaRef,
    /// `BASE TABLE` or `VIEW`.
    pub table_type: &'static str,
    /// Names of the primary key's columns; empty if there is none.
    pub primary_key: Vec<String>,
}

/// A statement that has been planned.
pub struct Prepared {
    /// The statement.
    pub statement: Opaque<Statement>,
    /// Columns of its rows; none if it returns no rows.
    pub schema: SchemaRef,
    /// Types of `$1`, `$2`, ...
    pub parameter_types: Vec<DataType>,
    /// Whether it returns rows, if only none.
    pub returns_rows: bool,
    pub(super) plan: Opaque<Option<LogicalPlan>>,
    /// The rights that it was planned under.
    pub(super) rights_version: u64,
    /// When it was planned, for whoever runs it first.
    pub(super) planned: Mutex<Option<Planned>>,
}

impl Prepared {
    /// Whether it does nothing but return rows.
    fn is_query(&self) -> bool {
        self.returns_rows && matches!(&self.statement.kind, StatementKind::Sql(sql) if !ddl::is_ours(sql))
    }

    /// Whether its rows come in an order that the statement asks for.
    pub fn is_ordered(&self) -> bool {
        let mut node = self.plan.as_ref();
        while let Some(plan) = node {
            node = match plan {
                LogicalPlan::Sort(_) => return true,
                LogicalPlan::Limit(_) | LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
                    plan.inputs().first().copied()
                }
                _ => None,
            };
        }
        false
    }
}

/// A client's session.
pub struct Session {
    id: String,
    user: String,
    client_address: Option<String>,
    protocol: Protocol,
    engine: Arc<Engine>,
    context: Opaque<SessionContext>,
    settings: Mutex<Settings>,
    transaction: RwLock<TransactionStatus>,
    notices: Mutex<Vec<Notice>>,
    pub(super) running: Mutex<Vec<Weak<QueryRecord>>>,
    pub(super) backend: Backend,
    database: RwLock<String>,
    requested_database: Option<String>,
    /// DataFusion settings that the client changed, for the plans of both kinds.
    pub(super) overrides: Mutex<HashMap<String, String>>,
    /// The way back from what a transaction block sets.
    pub(super) block: Mutex<Option<Block>>,
    cursors: Cursors,
    named_statements: NamedStatements,
    trace_parent: Mutex<Option<String>>,
}

impl Session {
    pub(super) fn new(engine: Arc<Engine>, options: SessionOptions) -> Self {
        let id = uuid::Uuid::now_v7().to_string();
        let context = context_over(&engine.server_state, &id, engine.server_state.config().clone());
        let mut startup = options.startup_settings;
        if let Some(name) = options.application_name {
            startup.push(("application_name".to_owned(), name));
        }
        Self {
            id,
            settings: Mutex::new(Settings::new(&options.user, &startup)),
            user: options.user,
            client_address: options.client_address,
            protocol: options.protocol,
            engine,
            context: context.into(),
            transaction: RwLock::new(TransactionStatus::Idle),
            notices: Mutex::default(),
            running: Mutex::default(),
            backend: Backend::default(),
            database: RwLock::new(DEFAULT_CATALOG.to_owned()),
            requested_database: options.database,
            overrides: Mutex::default(),
            block: Mutex::default(),
            cursors: Cursors::default(),
            named_statements: NamedStatements::default(),
            trace_parent: Mutex::default(),
        }
    }

    /// Moves to the catalog that the client asked for.
    ///
    /// Clients send their user's name when they have nothing to ask for, so that an unknown name
    /// only means the default.
    pub(super) fn finish_opening(&self) -> Result<(), EngineError> {
        if let Some(name) = &self.requested_database
            && self.engine.catalogs.list().catalog(name).is_some()
        {
            self.use_catalog(name, None)?;
        }
        let allocation = self.engine.scheduler.allocation();
        let queue = match self.setting("queue").filter(|queue| !queue.is_empty()) {
            Some(wanted) => self.enter_queue(&wanted)?,
            None => allocation.queue_of_user(&self.user),
        };
        let is_superuser = if self.engine.roles.is_superuser(&self.user) { "on" } else { "off" };
        self.with_settings(|settings| {
            settings.begin_with("queue", &queue);
            settings.begin_with("is_superuser", is_superuser);
        });
        self.follow_settings();
        Ok(())
    }

    /// The queue of this name, if it is for the user or for a role that the user is a member of.
    fn enter_queue(&self, wanted: &str) -> Result<String, EngineError> {
        let allocation = self.engine.scheduler.allocation();
        let refused = match allocation.enter(wanted, &self.user) {
            Ok(queue) => return Ok(queue),
            Err(error) => error,
        };
        let roles = self.engine.roles.roles_of(&self.user);
        roles.iter().find_map(|role| allocation.enter(wanted, role).ok()).ok_or_else(|| refused.into())
    }

    /// Refuses a query in a queue that has been taken from the user since the session entered it.
    pub(super) fn check_queue(&self) -> Result<(), EngineError> {
        match self.enter_queue(&self.queue()) {
            Err(error) if error.state == SqlState::INSUFFICIENT_PRIVILEGE => Err(error),
            // In the place of a queue that is not there any more there is the default one.
            _ => Ok(()),
        }
    }

    /// The session's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The session's user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The catalog that names without one are looked up in.
    pub fn database(&self) -> String {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the client is, if it came over the network.
    pub fn client_address(&self) -> Option<&str> {
        self.client_address.as_deref()
    }

    /// The protocol that the session came over.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The trace that its statements belong to from now on, by a header `traceparent`.
    pub fn set_trace_parent(&self, value: Option<&str>) {
        *self.trace_parent.lock().unwrap_or_else(PoisonError::into_inner) = value.map(str::to_owned);
    }

    pub(super) fn trace_parent(&self) -> Option<String> {
        self.trace_parent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn named_statements(&self) -> &NamedStatements {
        &self.named_statements
    }

    /// The session's own DataFusion context.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// The table of this name, as statements see it.
    ///
    /// # Errors
    ///
    /// In the planner's words if there is none, so that it is told like a query that asks for it.
    pub(super) async fn find_table(
        &self,
        name: impl Into<TableReference>,
    ) -> datafusion::error::Result<Arc<dyn TableProvider>> {
        let name = name.into().resolve(&self.database(), &self.current_schema());
        let found = match self.context.state().schema_for_ref(name.clone()) {
            Ok(schema) => schema.table(&name.table).await?,
            Err(_) => None,
        };
        found.ok_or_else(|| plan_datafusion_err!("table '{name}' not found"))
    }

    /// The same for a statement of our own, with a hint if a table's name is like the one that does not exist.
    pub(super) async fn named_table(&self, name: &ddl::FullName) -> Result<Arc<dyn TableProvider>, EngineError> {
        let found = self.find_table(name.reference()).await;
        found.map_err(|error| self.suggest_table(EngineError::from(error)))
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The statements of a client's text.
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>, EngineError> {
        let mut statements = self.counted(statement::parse(sql).map_err(EngineError::from))?;
        for statement in &mut statements {
            let has_named_columns = self.protocol == Protocol::Postgres
                && matches!(statement.kind, StatementKind::Sql(_) | StatementKind::DeclareCursor { .. });
            let is_about_another = statement.inner_mut().is_some();
            let queried = if is_about_another { statement.inner_mut() } else { Some(statement) };
            if let Some(StatementKind::Sql(sql)) = queried.map(|statement| &mut statement.kind)
                && let DfStatement::Statement(sql) = sql.as_mut()
            {
                if has_named_columns {
                    pgcatalog::name_columns(sql);
                }
                pgcatalog::rewrite(sql);
            }
        }
        Ok(statements)
    }

    /// Plans a statement without running it. `parameter_types` are what the client declared.
    pub fn prepare<'a>(
        self: &'a Arc<Self>,
        statement: Statement,
        parameter_types: &'a [Option<DataType>],
    ) -> BoxFuture<'a, Result<Arc<Prepared>, EngineError>> {
        async move {
            let prepared = self.plan_statement(statement, parameter_types).await;
            self.counted(prepared).map(Arc::new)
        }
        .boxed()
    }

    async fn plan_statement(
        self: &Arc<Self>,
        statement: Statement,
        parameter_types: &[Option<DataType>],
    ) -> Result<Prepared, EngineError> {
        let started = SystemTime::now();
        let rights_version = self.rights_version();
        self.check_allowed(&statement)?;
        let (plan, schema, returns_rows, types) = match &statement.kind {
            StatementKind::Sql(sql) if !ddl::is_ours(sql) => {
                let mut plan = self.plan(&statement, sql).await?;
                // EXECUTE is the statement that was prepared, with its rows.
                if let LogicalPlan::Statement(datafusion::logical_expr::Statement::Execute(execute)) = &plan {
                    self.renew_named(&execute.name).await?;
                    plan = self.context.execute_logical_plan(plan).boxed().await?.into_unoptimized_plan();
                }
                let types = parameter_types_of(&plan, parameter_types)?;
                let (schema, returns_rows) = result_schema(&plan, &types)?;
                (Some(plan), schema, returns_rows, types)
            }
            StatementKind::Explain { statement: inner, .. } => {
                if let StatementKind::Sql(sql) = &inner.kind
                    && !ddl::is_ours(sql)
                {
                    self.plan(inner, sql).await?;
                }
                (None, explain::schema(), true, Vec::new())
            }
            StatementKind::Transfer(transfer) => match transfer.as_ref() {
                Transfer::Compare(compare) => {
                    let plan = transfer::compare::plan(self, compare).boxed().await?;
                    let (schema, returns_rows) = result_schema(&plan, &[])?;
                    (Some(plan), schema, returns_rows, Vec::new())
                }
                _ => (None, Arc::new(Schema::empty()), false, Vec::new()),
            },
            StatementKind::CopyOut { source, columns, .. } => {
                let plan = transfer::copied(self, source, columns).boxed().await?;
                let types = parameter_types_of(&plan, parameter_types)?;
                let (schema, _) = result_schema(&plan, &types)?;
                (Some(plan), schema, false, types)
            }
            StatementKind::CopyIn { table, columns, .. } => {
                (None, copy_in::columns(self, table, columns).boxed().await?, false, Vec::new())
            }
            StatementKind::DeclareCursor { query, .. } => {
                let StatementKind::Sql(sql) = &query.kind else {
                    return Err(EngineError::new(SqlState::SYNTAX_ERROR, "a cursor is for a query"));
                };
                let plan = self.plan(query, sql).await?;
                let types = parameter_types_of(&plan, parameter_types)?;
                (Some(plan), Arc::new(Schema::empty()), false, types)
            }
            StatementKind::Fetch { name, is_move: false, .. } => (None, self.cursors.schema(name)?, true, Vec::new()),
            StatementKind::Show(show) => (None, show_schema(show), true, Vec::new()),
            StatementKind::ShowSetting(name) => (None, setting_schema(name), true, Vec::new()),
            _ => (None, Arc::new(Schema::empty()), false, Vec::new()),
        };
        let schema = pgcatalog::without_marks(&schema);
        let planned = Mutex::new(Some(Planned { started, ended: SystemTime::now() }));
        Ok(Prepared {
            statement: statement.into(),
            schema,
            parameter_types: types,
            returns_rows,
            plan: plan.into(),
            rights_version,
            planned,
        })
    }

    /// Refuses a statement that the user may not run, and writes down who tried.
    pub(super) fn check_allowed(&self, statement: &Statement) -> Result<(), EngineError> {
        privileges::check(self, statement).inspect_err(|error| {
            if let Some(audit) = self.engine.audit() {
                // It is refused anyway.
                let _ = audit.note(self.event("refused", statement, None, Some(error.state.0)));
            }
        })
    }

    fn event<'a>(
        &'a self,
        event: &'a str,
        statement: &'a Statement,
        query: Option<&'a str>,
        state: Option<&'a str>,
    ) -> Event<'a> {
        Event {
            event,
            user: &self.user,
            address: self.client_address(),
            session: Some(&self.id),
            query,
            statement: Some(&statement.text),
            state,
            rows: None,
        }
    }

    /// Runs a planned statement. A statement without rows has run to its end when this returns.
    pub fn execute<'a>(
        self: &'a Arc<Self>,
        prepared: &'a Prepared,
        parameters: Vec<ScalarValue>,
    ) -> BoxFuture<'a, Result<QueryHandle, EngineError>> {
        self.execute_from(prepared, parameters, None)
    }

    /// The same for a statement that rows are sent for, `COPY ... FROM STDIN`.
    pub fn execute_from<'a>(
        self: &'a Arc<Self>,
        prepared: &'a Prepared,
        parameters: Vec<ScalarValue>,
        input: Option<CopyInput>,
    ) -> BoxFuture<'a, Result<QueryHandle, EngineError>> {
        async move {
            self.counted(self.check_runnable(prepared, parameters.len()))?;
            let renewed = self.renewed(prepared).await?;
            let prepared = renewed.as_deref().unwrap_or(prepared);
            let run = |record: Arc<QueryRecord>| {
                async move { self.execute_kind(prepared, parameters, input, &record).await }.boxed()
            };
            let (record, result) = self.recorded(prepared, run).await?;
            if matches!(result, QueryResult::Command { .. }) {
                record.ended(None);
            }
            let schema = match &result {
                QueryResult::Rows(stream) => stream.schema(),
                QueryResult::Command { .. } => Arc::new(Schema::empty()),
            };
            Ok(QueryHandle { id: record.id.clone(), schema, result })
        }
        .boxed()
    }

    /// Runs a query to its end, if that is in stages on executors, and leaves its rows there for the client to fetch in
    /// parts. `None` is any other statement: nothing has been run then.
    pub fn leave_on_executors<'a>(
        self: &'a Arc<Self>,
        prepared: &'a Prepared,
        parameters: Vec<ScalarValue>,
        wire: Wire,
    ) -> BoxFuture<'a, Result<Option<Arc<HeldResult>>, EngineError>> {
        async move {
            let renewed = self.renewed(prepared).await?;
            let prepared = renewed.as_deref().unwrap_or(prepared);
            let Some(plan) = prepared.plan.clone().filter(|_| prepared.is_query()) else { return Ok(None) };
            let is_wanted = self.setting("flight_endpoints").as_deref() == Some("executors");
            if !is_wanted
                || !self.engine.held.has_room(&self.user)
                || !executors_serve_clients(&self.engine, wire).await
            {
                return Ok(None);
            }
            self.counted(self.check_runnable(prepared, parameters.len()))?;
            let plan = bind(plan, &prepared.parameter_types, parameters)?;
            let placed = run::place(self, &plan).boxed().await?;
            if placed.placement != Placement::Stages {
                return Ok(None);
            }
            let run = |record: Arc<QueryRecord>| {
                self.engine.queries.add(record.clone());
                async move { run::leave_on_executors(self, placed, &record).await }.boxed()
            };
            let (record, job) = self.recorded(prepared, run).await?;
            let lifetime =
                Duration::from_millis(self.setting_number("flight_ticket_lifetime")).min(MOST_TICKET_LIFETIME);
            let held = self.engine.held.add(&record.id, &self.user, prepared.schema.clone(), job, lifetime);
            record.left(held.rows);
            record.ended(None);
            Ok(Some(held))
        }
        .boxed()
    }

    /// Refuses what may not be run now.
    fn check_runnable(&self, prepared: &Prepared, parameter_count: usize) -> Result<(), EngineError> {
        if self.transaction_status() == TransactionStatus::Failed && !prepared.statement.is_transaction_end() {
            return Err(EngineError::new(
                SqlState::FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        // What was granted when it was prepared may have been revoked.
        self.check_allowed(&prepared.statement)?;
        if parameter_count < prepared.parameter_types.len() {
            return Err(EngineError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "the statement takes {} parameters, {parameter_count} were given",
                    prepared.parameter_types.len(),
                ),
            ));
        }
        Ok(())
    }

    /// Runs a statement under a record that others can look at and stop, until its result has come or it has failed.
    async fn recorded<'a, T>(
        self: &'a Arc<Self>,
        prepared: &'a Prepared,
        run: impl FnOnce(Arc<QueryRecord>) -> BoxFuture<'a, Result<T, EngineError>>,
    ) -> Result<(Arc<QueryRecord>, T), EngineError> {
        let record = QueryRecord::new(&self.user, &prepared.statement.text, self.observers(prepared));
        if let Some(audit) = self.engine.audit() {
            let noted = audit.note(self.event("statement", &prepared.statement, Some(&record.id), None));
            noted.inspect_err(|error| record.ended(Some(error)))?;
        }
        self.track(&record);
        if self.with_settings(|settings| settings.get("progress")).as_deref() == Some("on") {
            progress::follow(self, &record);
        }
        let _timeout = self.start_timeout(&record);
        let waited_for = WaitedFor::new(&record);
        let result = tokio::select! {
            biased;
            result = run(record.clone()) => result,
            () = record.control.stopped() => Err(record.control.error()),
        };
        waited_for.has_come();
        match result {
            Ok(result) => Ok((record, result)),
            Err(error) => {
                record.ended(Some(&error));
                Err(error)
            }
        }
    }

    async fn execute_kind(
        self: &Arc<Self>,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        input: Option<CopyInput>,
        record: &Arc<QueryRecord>,
    ) -> Result<QueryResult, EngineError> {
        let statement = &prepared.statement;
        self.note_write(statement);
        let plan = || match prepared.plan.clone() {
            Some(plan) => bind(plan, &prepared.parameter_types, parameters),
            None => Err(EngineError::new(SqlState::INTERNAL, "a statement without a plan")),
        };
        match &statement.kind {
            StatementKind::Sql(sql) => {
                self.engine.queries.add(record.clone());
                if ddl::is_ours(sql) {
                    return ddl::execute(self, statement, sql, record).boxed().await;
                }
                let plan = plan()?;
                let name = policies::prepared_name(&plan);
                let result = run::execute(self, plan, statement.tag, record).boxed().await?;
                if let Some(name) = name {
                    self.named_statements.keep(name, statement, prepared.rights_version);
                }
                Ok(result)
            }
            // Over other protocols rows are sent in other ways than by this statement.
            _ if statement.is_copy_with_client() && self.protocol != Protocol::Postgres && input.is_none() => {
                Err(EngineError::not_supported("COPY between the server and its client over this protocol")
                    .with_hint("run the query itself, or INSERT"))
            }
            StatementKind::CopyOut { .. } => {
                self.engine.queries.add(record.clone());
                run::execute(self, plan()?, statement.tag, record).boxed().await
            }
            StatementKind::CopyIn { table, .. } => {
                self.engine.queries.add(record.clone());
                let input = input.ok_or_else(|| EngineError::new(SqlState::INTERNAL, "COPY without its rows"))?;
                let rows = copy_in::execute(self, table, prepared.schema.clone(), input, record).boxed().await?;
                Ok(QueryResult::Command { tag: format!("COPY {rows}"), rows_affected: Some(rows) })
            }
            StatementKind::DeclareCursor { name, is_holdable, query } => {
                self.cursors.declare(self, name, *is_holdable, query, plan()?).boxed().await?;
                Ok(command(statement.tag))
            }
            StatementKind::Fetch { name, direction, is_move: false } => {
                Ok(QueryResult::Rows(self.cursors.fetch(name, *direction, record).await?))
            }
            StatementKind::Fetch { name, direction, is_move: true } => {
                let rows = self.cursors.pass(name, *direction, record).boxed().await?;
                Ok(QueryResult::Command { tag: format!("MOVE {rows}"), rows_affected: None })
            }
            StatementKind::Explain { analyze, verbose, format, statement: inner } => {
                self.engine.queries.add(record.clone());
                explain::execute(self, inner, *analyze, *verbose, *format, record).boxed().await
            }
            StatementKind::Transfer(transfer) => {
                self.engine.queries.add(record.clone());
                match prepared.plan.clone() {
                    Some(plan) => run::execute(self, plan, statement.tag, record).boxed().await,
                    None => transfer::execute(self, transfer, record).boxed().await,
                }
            }
            StatementKind::Show(show) => self.show(show).await,
            StatementKind::ShowSetting(name) => self.show_setting(name),
            StatementKind::Analyze { table, columns, options } => {
                self.engine.queries.add(record.clone());
                analyze::execute(self, table.as_deref(), columns, options).boxed().await?;
                Ok(command(statement.tag))
            }
            other => self.execute_session_statement(other, statement.tag).await,
        }
    }

    async fn execute_session_statement(&self, kind: &StatementKind, tag: &str) -> Result<QueryResult, EngineError> {
        match kind {
            StatementKind::Set { name, value, is_local: true } => self.set_local(name, value.as_deref())?,
            StatementKind::Set { name, value, is_local: false } => self.set_or_reset(name, value.as_deref())?,
            StatementKind::Reset(Some(name)) => self.set_or_reset(name, None)?,
            StatementKind::Reset(None) => self.reset_all(),
            StatementKind::DiscardAll => {
                if tag == "DISCARD ALL" {
                    self.reset_all();
                    self.cursors.close(None)?;
                }
            }
            StatementKind::CloseCursor(name) => self.cursors.close(name.as_deref())?,
            StatementKind::Deallocate(name) => {
                self.named_statements.forget(name);
                let deallocate = datafusion::logical_expr::Deallocate { name: name.clone() };
                let plan = LogicalPlan::Statement(datafusion::logical_expr::Statement::Deallocate(deallocate));
                self.context.execute_logical_plan(plan).boxed().await.map_err(|_| {
                    EngineError::new(
                        SqlState::UNDEFINED_PREPARED_STATEMENT,
                        format!("prepared statement \"{name}\" does not exist"),
                    )
                })?;
            }
            StatementKind::Use { catalog, schema } => self.use_names(catalog, schema.as_deref())?,
            StatementKind::KillQuery(id) => self.engine.kill_query(id, self)?,
            StatementKind::Begin => {
                if self.transaction_status() == TransactionStatus::Idle {
                    self.begin_block_settings();
                    self.set_transaction(TransactionStatus::InTransaction);
                } else {
                    self.warn(SqlState::ACTIVE_TRANSACTION, "there is already a transaction in progress");
                }
            }
            StatementKind::Commit | StatementKind::Rollback => {
                let failed = self.transaction_status() == TransactionStatus::Failed;
                if self.transaction_status() == TransactionStatus::Idle {
                    self.warn(SqlState::NO_TRANSACTION, "there is no transaction in progress");
                }
                self.set_transaction(TransactionStatus::Idle);
                let is_rolled_back = failed || matches!(kind, StatementKind::Rollback);
                self.end_block_settings(is_rolled_back);
                self.cursors.end_block(is_rolled_back);
                let tag = if failed { "ROLLBACK" } else { tag };
                return Ok(command(tag));
            }
            StatementKind::Savepoint => {
                if self.transaction_status() == TransactionStatus::Failed {
                    self.set_transaction(TransactionStatus::InTransaction);
                }
            }
            StatementKind::CreateCatalog { .. }
            | StatementKind::DropCatalog { .. }
            | StatementKind::RefreshCatalog { .. } => {
                ddl::execute_catalog(self, kind).await?;
            }
            StatementKind::CreateKeyspace { .. }
            | StatementKind::DropKeyspace { .. }
            | StatementKind::CreateIndex(_) => ddl::execute_cql(self, kind).await?,
            StatementKind::CreateQueue { .. }
            | StatementKind::AlterQueue { .. }
            | StatementKind::DropQueue { .. }
            | StatementKind::Reserve { .. } => queues::execute(self, kind)?,
            StatementKind::CreateRole { .. }
            | StatementKind::AlterRole { .. }
            | StatementKind::DropRole { .. }
            | StatementKind::Grant { .. } => roles::execute(self, kind)?,
            StatementKind::Policy(statement) => policies::execute(self, statement).boxed().await?,
            StatementKind::Sql(_)
            | StatementKind::Explain { .. }
            | StatementKind::Transfer(_)
            | StatementKind::Show(_)
            | StatementKind::ShowSetting(_)
            | StatementKind::CopyOut { .. }
            | StatementKind::CopyIn { .. }
            | StatementKind::DeclareCursor { .. }
            | StatementKind::Fetch { .. }
            | StatementKind::Analyze { .. } => {
                return Err(EngineError::new(SqlState::INTERNAL, "not a statement of the session"));
            }
        }
        Ok(command(tag))
    }

    /// A DataFusion plan of a statement, with a hint where a name is not known.
    pub(super) async fn plan(&self, statement: &Statement, sql: &DfStatement) -> Result<LogicalPlan, EngineError> {
        insert::plan(self, sql, &statement.using).boxed().await.map_err(|error| {
            let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
            let position = span.map(|span| {
                let place = Location { line: span.start.line, column: span.start.column };
                statement.offset_of(place) + 1
            });
            let mut error = self.suggest_table(EngineError::from(error));
            if error.position.is_none() {
                error.position = position;
            }
            error
        })
    }

    /// The error with a hint at a table whose name is like the one that does not exist.
    pub(super) fn suggest_table(&self, error: EngineError) -> EngineError {
        if error.state != SqlState::UNDEFINED_TABLE || error.hint.is_some() {
            return error;
        }
        let Some(full) = error.message.split('"').nth(1).map(str::to_owned) else { return error };
        let parts: Vec<&str> = full.split('.').collect();
        let [.., catalog, schema, table] = parts.as_slice() else { return error };
        let list = self.engine.catalogs.list();
        let catalogs = list.catalog_names();
        let Some(provider) = list.catalog(catalog) else {
            return match nearest(catalog, catalogs.iter().map(String::as_str)) {
                Some(near) => error.with_hint(format!("there is no catalog \"{catalog}\"; did you mean \"{near}\"?")),
                None => error,
            };
        };
        let schemas = provider.schema_names();
        let Some(schema_provider) = provider.schema(schema) else {
            return match nearest(schema, schemas.iter().map(String::as_str)) {
                Some(near) => error
                    .with_hint(format!("there is no schema \"{schema}\"; did you mean \"{catalog}.{near}.{table}\"?")),
                None => error.with_hint(format!("catalog \"{catalog}\" has no schema \"{schema}\"")),
            };
        };
        let tables = schema_provider.table_names();
        match nearest(table, tables.iter().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean \"{catalog}.{schema}.{near}\"?")),
            None => error,
        }
    }

    /// The configuration for plans that are cut into stages, with the client's changes.
    pub(super) fn cluster_config(&self) -> Result<SessionConfig, EngineError> {
        let mut config = self.engine.cluster_state.config().clone();
        for (key, value) in self.overrides.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            config.options_mut().set(key, value)?;
        }
        Ok(config)
    }

    /// The state of the transaction block.
    pub fn transaction_status(&self) -> TransactionStatus {
        *self.transaction.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the block as failed, if there is one.
    pub fn fail_transaction(&self) {
        if self.transaction_status() == TransactionStatus::InTransaction {
            self.set_transaction(TransactionStatus::Failed);
        }
    }

    fn set_transaction(&self, status: TransactionStatus) {
        *self.transaction.write().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Notices since the last call.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the client something.
    pub(super) fn notice(&self, message: impl Into<String>) {
        self.push_notice(Notice { severity: "NOTICE", state: SqlState("00000"), message: message.into(), hint: None });
    }

    pub(super) fn warn(&self, state: SqlState, message: impl Into<String>) {
        self.push_notice(Notice { severity: "WARNING", state, message: message.into(), hint: None });
    }

    fn push_notice(&self, notice: Notice) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() < NOTICES_KEPT {
            notices.push(notice);
        }
    }

    pub(super) fn with_settings<T>(&self, f: impl FnOnce(&mut Settings) -> T) -> T {
        f(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A setting's value; `None` if there is no such setting.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.with_settings(|s| s.get(name))
    }

    /// Bytes that a query may read and still run as one task, without an exchange.
    pub(super) fn single_task_max_bytes(&self) -> u64 {
        let chosen = self.with_settings(|settings| settings.bytes("sluice.single_task_max_bytes"));
        chosen.unwrap_or(self.engine.single_task_max_bytes)
    }

    /// Path of the queue whose resources the session's queries use.
    pub(super) fn queue(&self) -> String {
        self.setting("queue").unwrap_or_default()
    }

    /// What the scheduler is told of the session's queries.
    pub(super) fn job_tag(&self, memory_factor: u64) -> JobTag {
        self.with_settings(|settings| JobTag {
            queue: settings.get("queue").unwrap_or_default(),
            arrived: self.engine.jobs_submitted.fetch_add(1, Ordering::Relaxed),
            task_memory_bytes: settings.bytes("sluice.task_memory").filter(|bytes| *bytes > 0),
            least_task_memory_bytes: settings.bytes("sluice.least_task_memory").unwrap_or(LEAST_TASK_MEMORY_BYTES),
            memory_factor,
            locality_wait_ms: settings.number("sluice.locality_wait"),
        })
    }

    /// A numeric setting's value.
    pub fn setting_number(&self, name: &str) -> u64 {
        self.with_settings(|s| s.number(name))
    }

    /// Every setting with its value and description.
    pub fn settings(&self) -> Vec<(String, String, String)> {
        let mut all = self.with_settings(|s| s.all());
        let entries = self.context.state_ref().read().config_options().entries();
        let of_cassandra = entries.into_iter().filter(|entry| entry.key.starts_with("cassandra."));
        all.extend(of_cassandra.map(|e| (e.key, e.value.unwrap_or_default(), e.description.to_owned())));
        all.sort();
        all
    }

    /// Sets a setting for this session.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<(), EngineError> {
        if name.eq_ignore_ascii_case("transaction_characteristics") {
            return Ok(());
        }
        let queue;
        let value = if name.eq_ignore_ascii_case("queue") {
            queue = self.enter_queue(value)?;
            &queue
        } else {
            value
        };
        match self.with_settings(|s| s.set(name, value))? {
            Target::DataFusion => {
                let key = name.to_lowercase();
                let state = self.context.state_ref();
                state.write().config_mut().options_mut().set(&key, value)?;
                self.overrides.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value.to_owned());
            }
            Target::Own => self.follow_setting(name),
        }
        Ok(())
    }

    /// Lets planning follow the settings that it depends on.
    fn follow_settings(&self) {
        ["search_path", "timezone"].into_iter().for_each(|name| self.follow_setting(name));
    }

    /// Lets planning follow one setting, if it depends on it.
    pub(super) fn follow_setting(&self, name: &str) {
        let Some(value) = self.setting(name) else { return };
        if name.eq_ignore_ascii_case("search_path") {
            self.follow_search_path(&value);
        } else if name.eq_ignore_ascii_case("timezone") {
            let state = self.context.state_ref();
            state.write().config_mut().options_mut().execution.time_zone = Some(value);
        }
    }

    /// The first schema of the path that exists becomes the default schema.
    fn follow_search_path(&self, path: &str) {
        let catalog = self.engine.catalogs.list().catalog(&self.database());
        let first = path
            .split(',')
            .map(|part| part.trim().trim_matches('"'))
            .find(|part| catalog.as_ref().is_some_and(|catalog| catalog.schema(part).is_some()));
        let state = self.context.state_ref();
        let schema = first.unwrap_or(DEFAULT_SCHEMA).to_owned();
        state.write().config_mut().options_mut().catalog.default_schema = schema;
    }

    /// Brings a setting back to what the session began with.
    pub fn reset_setting(&self, name: &str) -> Result<(), EngineError> {
        if ["datafusion.", "cassandra."].iter().any(|prefix| name.starts_with(prefix)) {
            return self.reset_override(name);
        }
        self.with_settings(|settings| settings.reset(name))?;
        self.follow_setting(name);
        Ok(())
    }

    fn reset_override(&self, name: &str) -> Result<(), EngineError> {
        let key = name.to_lowercase();
        let default = self.engine.server_state.config_options().entries().into_iter().find(|entry| entry.key == key);
        match default.and_then(|entry| entry.value) {
            Some(value) => self.set_setting(&key, &value)?,
            None => {
                return Err(EngineError::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("unrecognized configuration parameter \"{name}\""),
                ));
            }
        }
        self.overrides.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        Ok(())
    }

    fn reset_all(&self) {
        self.with_settings(Settings::reset_all);
        self.follow_settings();
        let names: Vec<String> =
            self.overrides.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        for name in names {
            // The names were set before, so that they are known.
            let _ = self.reset_override(&name);
        }
    }

    /// Settings that PostgreSQL reports to clients and that changed since the last call.
    pub fn take_reported_settings(&self) -> Vec<(String, String)> {
        self.with_settings(Settings::take_reported)
    }

    /// `USE a.b`, or `USE a` for a catalog, or else for a schema of the current catalog.
    fn use_names(&self, first: &str, second: Option<&str>) -> Result<(), EngineError> {
        let list = self.engine.catalogs.list();
        if second.is_none() && list.catalog(first).is_none() {
            let database = self.database();
            if list.catalog(&database).is_some_and(|catalog| catalog.schema(first).is_some()) {
                return self.use_catalog(&database, Some(first));
            }
        }
        self.use_catalog(first, second)
    }

    /// Looks names up in a catalog, and in its schema `schema` or else its default one.
    ///
    /// # Errors
    ///
    /// 3D000 and 3F000 if there is no such catalog or schema.
    pub fn use_catalog(&self, name: &str, schema: Option<&str>) -> Result<(), EngineError> {
        let list = self.engine.catalogs.list();
        let Some(catalog) = list.catalog(name) else {
            let names = list.catalog_names();
            let error = EngineError::new(SqlState::UNDEFINED_CATALOG, format!("catalog \"{name}\" does not exist"));
            return Err(match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                None => error,
            });
        };
        let named = schema.is_some();
        let schema = match schema {
            Some(schema) if catalog.schema(schema).is_none() => {
                return Err(EngineError::new(
                    SqlState::UNDEFINED_SCHEMA,
                    format!("schema \"{name}.{schema}\" does not exist"),
                ));
            }
            Some(schema) => schema.to_owned(),
            None => DEFAULT_SCHEMA.to_owned(),
        };
        if named {
            // What names are looked up in from now on is what SHOW search_path says.
            self.with_settings(|settings| settings.set("search_path", &schema))?;
        }
        let state = self.context.state_ref();
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        options.catalog.default_catalog = name.to_owned();
        options.catalog.default_schema = schema;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
        Ok(())
    }

    /// The schema that names without one are looked up in.
    pub fn current_schema(&self) -> String {
        self.context.state_ref().read().config_options().catalog.default_schema.clone()
    }

    /// Stops whatever runs in this session.
    pub fn cancel(&self) {
        for record in self.running.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            if record.is_running() {
                record.control.stop(StopReason::User);
            }
        }
    }

    /// The id of the query that runs in this session, as `system.queries` shows it.
    pub fn running_query(&self) -> Option<String> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let records = running.iter().filter_map(Weak::upgrade);
        records.rev().find(|record| record.is_running()).map(|record| record.id.clone())
    }

    /// The client has all that it wants of a query's rows: the query has ended well.
    pub fn has_enough(&self, id: &str) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = running.iter().filter_map(Weak::upgrade).find(|record| record.id == id) {
            record.ended(None);
        }
    }

    fn track(&self, record: &Arc<QueryRecord>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|record| record.upgrade().is_some_and(|record| record.is_running()));
        running.push(Arc::downgrade(record));
    }

    /// Stops the query when `statement_timeout` has passed, its rows' way to the client included.
    fn start_timeout(&self, record: &Arc<QueryRecord>) -> Option<()> {
        let timeout_ms = self.setting_number("statement_timeout");
        if timeout_ms == 0 {
            return None;
        }
        let record = Arc::downgrade(record);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(timeout_ms)).await;
            if let Some(record) = record.upgrade().filter(|record| record.is_running()) {
                record.control.stop(StopReason::Timeout);
            }
        });
        Some(())
    }

    /// Open cursors, by name.
    pub fn cursors(&self) -> Vec<CursorInfo> {
        self.cursors.list()
    }

    /// The columns of an open cursor; `None` if there is none of this name.
    pub fn cursor_schema(&self, name: &str) -> Option<SchemaRef> {
        self.cursors.schema(name).ok().map(|schema| pgcatalog::without_marks(&schema))
    }

    /// Closes a cursor; what is not there is closed already.
    pub fn close_cursor(&self, name: &str) {
        let _ = self.cursors.close(Some(name));
    }

    /// Every catalog's name.
    pub fn catalog_names(&self) -> Vec<String> {
        self.engine.catalogs.list().catalog_names()
    }

    /// The names of a catalog's schemas; none if there is no such catalog.
    pub fn schema_names(&self, catalog: &str) -> Vec<String> {
        let mut names = self.engine.catalogs.list().catalog(catalog).map_or_else(Vec::new, |c| c.schema_names());
        names.sort();
        names
    }

    /// The names of a schema's tables; none if there is no such schema.
    pub fn table_names(&self, catalog: &str, schema: &str) -> Vec<String> {
        if schema == INFORMATION_SCHEMA {
            return INFORMATION_SCHEMA_TABLES.iter().map(|name| (*name).to_owned()).collect();
        }
        let provider = self.engine.catalogs.list().catalog(catalog).and_then(|c| c.schema(schema));
        let mut names = provider.map_or_else(Vec::new, |s| s.table_names());
        names.sort();
        names
    }

    /// A table's columns and key; `None` if there is no such table.
    pub async fn table_info(&self, catalog: &str, schema: &str, table: &str) -> Result<Option<TableInfo>, EngineError> {
        let Some(provider) = self.engine.catalogs.list().catalog(catalog).and_then(|c| c.schema(schema)) else {
            return Ok(None);
        };
        let Some(table) = provider.table(table).await? else { return Ok(None) };
        let schema = table.schema();
        let mut key: Vec<(usize, usize, String)> = schema
            .fields()
            .iter()
            .filter_map(|field| {
                let rank = match field.metadata().get("cassandra.kind").map(String::as_str) {
                    Some("partition_key") => 0,
                    Some("clustering") => 1,
                    _ => return None,
                };
                let position = field.metadata().get("cassandra.position").and_then(|p| p.parse().ok()).unwrap_or(0);
                Some((rank, position, field.name().clone()))
            })
            .collect();
        key.sort();
        let table_type = match table.table_type() {
            TableType::View => "VIEW",
            TableType::Base | TableType::Temporary => "BASE TABLE",
        };
        Ok(Some(TableInfo { schema, table_type, primary_key: key.into_iter().map(|(_, _, name)| name).collect() }))
    }

    /// The keys and indexes of a schema's tables, which those of Cassandra have; none if they cannot be told now.
    pub async fn table_keys(&self, catalog: &str, schema: &str) -> Arc<[TableKeys]> {
        let none = || Arc::from([]);
        let Some(provider) = self.engine.catalogs.cassandra(catalog) else { return none() };
        let Some(cassandra) = provider.downcast_ref::<CassandraCatalog>() else { return none() };
        cassandra.keys(schema).await.unwrap_or_else(|error| {
            tracing::debug!(%error, catalog, "keys cannot be told");
            none()
        })
    }

    async fn show(&self, show: &Show) -> Result<QueryResult, EngineError> {
        let schema = show_schema(show);
        let columns: Vec<Vec<String>> = match show {
            Show::Catalogs => vec![self.catalog_names()],
            Show::Schemas { catalog } => {
                let catalog = catalog.clone().unwrap_or_else(|| self.database());
                self.must_have_catalog(&catalog)?;
                vec![self.schema_names(&catalog)]
            }
            Show::Tables { catalog, schema } => self.list_tables(catalog.as_deref(), schema.as_deref())?,
            // Numbers, and so not a list of texts.
            Show::Queues => return Ok(QueryResult::Rows(system::queue_rows(&self.engine).await?)),
        };
        Ok(QueryResult::Rows(rows_of_text(schema, columns)?))
    }

    fn list_tables(&self, catalog: Option<&str>, schema: Option<&str>) -> Result<Vec<Vec<String>>, EngineError> {
        let database = self.database();
        // SHOW TABLES FROM x: a schema of this catalog, or else a whole catalog.
        let (catalog, schema) = match (catalog, schema) {
            (Some(catalog), schema) => (catalog.to_owned(), schema),
            (None, Some(name))
                if name != INFORMATION_SCHEMA && !self.schema_names(&database).iter().any(|s| s == name) =>
            {
                self.must_have_catalog(name)?;
                (name.to_owned(), None)
            }
            (None, schema) => (database, schema),
        };
        self.must_have_catalog(&catalog)?;
        let schemas = match schema {
            Some(schema) => vec![schema.to_owned()],
            None => self.schema_names(&catalog),
        };
        let hidden = ["information_schema", "pg_catalog", "system"];
        let mut columns = vec![Vec::new(), Vec::new(), Vec::new()];
        for name in schemas.iter().filter(|s| schema.is_some() || !hidden.contains(&s.as_str())) {
            for table in self.table_names(&catalog, name) {
                columns[0].push(catalog.clone());
                columns[1].push(name.clone());
                columns[2].push(table);
            }
        }
        Ok(columns)
    }

    fn must_have_catalog(&self, name: &str) -> Result<(), EngineError> {
        if self.engine.catalogs.list().catalog(name).is_some() {
            return Ok(());
        }
        Err(EngineError::new(SqlState::UNDEFINED_CATALOG, format!("catalog \"{name}\" does not exist")))
    }

    fn show_setting(&self, name: &str) -> Result<QueryResult, EngineError> {
        let schema = setting_schema(name);
        if name.eq_ignore_ascii_case("all") {
            let all = self.settings();
            let columns = vec![
                all.iter().map(|(name, _, _)| name.clone()).collect(),
                all.iter().map(|(_, value, _)| value.clone()).collect(),
                all.iter().map(|(_, _, description)| description.clone()).collect(),
            ];
            return Ok(QueryResult::Rows(rows_of_text(schema, columns)?));
        }
        let value = match self.setting(name) {
            Some(value) => value,
            None => {
                let state = self.context.state_ref();
                let entries = state.read().config_options().entries();
                let found = entries.into_iter().find(|entry| entry.key.eq_ignore_ascii_case(name));
                found
                    .ok_or_else(|| {
                        EngineError::new(
                            SqlState::UNDEFINED_OBJECT,
                            format!("unrecognized configuration parameter \"{name}\""),
                        )
                    })?
                    .value
                    .unwrap_or_default()
            }
        };
        Ok(QueryResult::Rows(rows_of_text(schema, vec![vec![value]])?))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cancel();
        self.engine.session_count.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) fn command(tag: &str) -> QueryResult {
    QueryResult::Command { tag: tag.to_owned(), rows_affected: None }
}

fn text_schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect::<Vec<_>>()))
}

fn show_schema(show: &Show) -> SchemaRef {
    match show {
        Show::Catalogs => text_schema(&["catalog_name"]),
        Show::Schemas { .. } => text_schema(&["schema_name"]),
        Show::Tables { .. } => text_schema(&["table_catalog", "table_schema", "table_name"]),
        Show::Queues => system::shown_queue_schema(),
    }
}

fn setting_schema(name: &str) -> SchemaRef {
    if name.eq_ignore_ascii_case("all") {
        text_schema(&["name", "setting", "description"])
    } else {
        text_schema(&[name])
    }
}

/// Rows of text columns, all of one length.
pub(super) fn rows_of_text(
    schema: SchemaRef,
    columns: Vec<Vec<String>>,
) -> Result<SendableRecordBatchStream, EngineError> {
    let arrays: Vec<ArrayRef> = columns.into_iter().map(|c| Arc::new(StringArray::from(c)) as ArrayRef).collect();
    let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(datafusion::error::DataFusionError::from)?;
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(batch)]))))
}

/// A parameter that is cast, and nothing else is known of, has the type that it is cast to, as in PostgreSQL.
fn add_casts(plan: &LogicalPlan, inferred: &mut HashMap<String, Option<DataType>>) -> Result<(), EngineError> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::Cast(cast) = part
                    && let Expr::Placeholder(parameter) = cast.expr.as_ref()
                    && let Some(unknown @ None) = inferred.get_mut(&parameter.id)
                {
                    *unknown = Some(cast.field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// Types by position: what the client declared, else what the plan tells, else text.
fn parameter_types_of(plan: &LogicalPlan, declared: &[Option<DataType>]) -> Result<Vec<DataType>, EngineError> {
    // The parameters of PREPARE belong to the statement in it.
    if matches!(plan, LogicalPlan::Statement(datafusion::logical_expr::Statement::Prepare(_))) {
        return Ok(Vec::new());
    }
    let mut inferred = plan.get_parameter_types()?;
    add_casts(plan, &mut inferred)?;
    let mut count = declared.len();
    for name in inferred.keys() {
        let index = name.trim_start_matches('$').parse::<usize>().map_err(|_| {
            EngineError::new(SqlState::SYNTAX_ERROR, format!("parameter \"{name}\" has no number: write $1, $2, ..."))
        })?;
        count = count.max(index);
    }
    if count > usize::from(u16::MAX) {
        return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, format!("{count} parameters are more than 65535")));
    }
    Ok((0..count)
        .map(|index| {
            let told = inferred.get(&format!("${}", index + 1)).cloned().flatten();
            declared.get(index).cloned().flatten().or(told).unwrap_or(DataType::Utf8)
        })
        .collect())
}

/// The columns of a plan's rows. DML and DDL return none.
fn result_schema(plan: &LogicalPlan, types: &[DataType]) -> Result<(SchemaRef, bool), EngineError> {
    match plan {
        LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Copy(_) => {
            return Ok((Arc::new(Schema::empty()), false));
        }
        LogicalPlan::Statement(_) => return Ok((Arc::new(Schema::empty()), false)),
        _ => {}
    }
    if types.is_empty() {
        return Ok((Arc::new(plan.schema().as_arrow().clone()), true));
    }
    // Typed nulls in the parameters' places give expressions over them their types.
    let nulls = types.iter().map(ScalarValue::try_new_null).collect::<Result<Vec<_>, _>>()?;
    let bound = plan.clone().replace_params_with_values(&param_values(nulls))?;
    Ok((Arc::new(bound.schema().as_arrow().clone()), true))
}

fn param_values(values: Vec<ScalarValue>) -> ParamValues {
    ParamValues::List(values.into_iter().map(ScalarAndMetadata::from).collect())
}

fn bind(plan: LogicalPlan, types: &[DataType], parameters: Vec<ScalarValue>) -> Result<LogicalPlan, EngineError> {
    if types.is_empty() {
        return Ok(plan);
    }
    let values = parameters
        .into_iter()
        .zip(types)
        .map(|(value, data_type)| if value.data_type() == *data_type { Ok(value) } else { value.cast_to(data_type) })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(plan.replace_params_with_values(&param_values(values))?)
}
