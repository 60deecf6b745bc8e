//! Statements and their results.

use std::sync::Arc;
use std::time::SystemTime;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, CommandGetCatalogs,
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage,
    SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use prost::Message;
use sluice_planner::statement::numbered_parameters;
use tonic::{Request, Response, Status, Streaming};

use super::cancel::Running;
use super::handles::{Handles, Planned};
use super::poll::Polled;
use super::sessions::Sessions;
use super::sql_info::sql_info;
use super::users::Tokens;
use super::{FlightOptions, endpoints, ingest, metadata, parameters, portable, trace_parent};
use crate::engine::{
    Engine, EngineError, Protocol, QueryResult, Session, SessionOptions, SqlState, StatementKind, Wire,
};

/// Rows on their way to a client.
// Not by way of the trait: the service itself holds results, and whether it can be shared must not depend on that.
pub type DoGet = Response<BoxStream<'static, Result<FlightData, Status>>>;
/// What an action gives.
pub type DoAction = BoxStream<'static, Result<arrow_flight::Result, Status>>;
/// Rows as they come.
type Batches = BoxStream<'static, Result<RecordBatch, Status>>;

/// The Flight SQL service.
pub struct Service {
    pub(super) engine: Arc<Engine>,
    pub(super) handles: Handles,
    pub(super) polled: Polled,
    pub(super) running: Running,
    pub(super) sessions: Sessions,
    tokens: Arc<Tokens>,
    /// Whether rows may travel in clear.
    pub(super) wire: Wire,
}

impl Service {
    /// The service over `engine`.
    pub fn new(engine: Arc<Engine>, tokens: Arc<Tokens>, options: FlightOptions) -> Self {
        let handles = Handles::new(options.max_handles, options.handle_lifetime);
        let sessions = Sessions::new(options.max_sessions, options.handle_lifetime);
        let polled = Polled::new(options.max_handles);
        Self { engine, handles, polled, running: Running::default(), sessions, tokens, wire: options.wire }
    }

    /// Lets go of what no client has used for too long.
    pub fn sweep(&self) {
        self.handles.sweep();
        self.polled.sweep();
        self.sessions.sweep();
    }

    /// The client's session, or else one for a statement.
    pub(super) fn session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Status> {
        let kept = self.sessions.of(request.metadata(), &self.user(request)?)?;
        let Some(session) = kept else { return self.open_session(request) };
        trace_parent::follow(&session, request.metadata());
        Ok(session)
    }

    pub(super) fn open_session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Status> {
        let header = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let options = SessionOptions {
            user: self.user(request)?,
            database: header("database"),
            application_name: header("user-agent"),
            client_address: request.remote_addr().map(|address| address.to_string()),
            protocol: Protocol::FlightSql,
            startup_settings: Vec::new(),
        };
        let session = self.engine.open_session(options).map_err(status)?;
        trace_parent::follow(&session, request.metadata());
        Ok(session)
    }

    /// Whom a call comes from.
    pub(super) fn user<T>(&self, request: &Request<T>) -> Result<String, Status> {
        self.tokens.user(request.metadata(), request.remote_addr())
    }

    pub(super) async fn plan<T>(&self, sql: &str, request: &Request<T>) -> Result<Planned, Status> {
        let session = self.session(request)?;
        let sql = numbered_parameters(sql).map_err(|error| status(error.into()))?;
        let mut statements = session.parse(&sql).map_err(status)?;
        let statement = match (statements.pop(), statements.is_empty()) {
            (Some(statement), true) => statement,
            (None, _) => return Err(Status::invalid_argument("there is no statement in this text")),
            (Some(_), false) => return Err(Status::invalid_argument("send one statement at a time")),
        };
        if matches!(statement.kind, StatementKind::Begin | StatementKind::Commit | StatementKind::Rollback) {
            return Err(status(EngineError::new(SqlState::NOT_SUPPORTED, "there are no transactions over Flight SQL")));
        }
        let prepared = session.prepare(statement, &[]).await.map_err(status)?;
        let runs = if prepared.parameter_types.is_empty() { vec![Vec::new()] } else { Vec::new() };
        Ok(Planned { session, prepared, runs })
    }

    /// Refuses a statement whose parameters have no values yet.
    pub(super) fn must_be_bound(&self, planned: &Planned) -> Result<(), Status> {
        if planned.runs.is_empty() && !planned.prepared.parameter_types.is_empty() {
            return Err(Status::invalid_argument("the statement has parameters: bind them first"));
        }
        Ok(())
    }

    async fn results(&self, planned: Planned) -> Result<DoGet, Status> {
        self.must_be_bound(&planned)?;
        let (schema, rows) = batches(planned).boxed().await?;
        Ok(flight_data(schema, rows))
    }

    /// Runs a statement without rows before its result is fetched, which drivers do not do for what has no rows. What
    /// is given back is run no more.
    async fn run_at_once(&self, planned: Planned) -> Result<Planned, Status> {
        self.update(planned.clone()).boxed().await?;
        Ok(Planned { runs: Vec::new(), ..planned })
    }

    /// A result that is fetched once, from this service.
    fn one_endpoint(&self, planned: Planned, descriptor: FlightDescriptor) -> Result<Response<FlightInfo>, Status> {
        let schema = portable::schema(&planned.prepared.schema);
        let statement_handle = self.handles.add(planned)?;
        let info = flight_info(&schema, TicketStatementQuery { statement_handle }, descriptor)?;
        Ok(info.map(|info| expiring(info, self.handles.expires())))
    }

    /// Runs a statement for its effect; the number of rows that it changed.
    ///
    /// None is 0, although Flight SQL has -1 for what is not known: the JDBC driver (18.3) takes that for the sign of a
    /// query, and runs the statement once more for its rows.
    async fn update(&self, planned: Planned) -> Result<i64, Status> {
        let mut total: i64 = 0;
        for parameters in planned.runs {
            let handle = planned.session.execute(&planned.prepared, parameters).await.map_err(status)?;
            match handle.into_result() {
                QueryResult::Command { rows_affected: Some(rows), .. } => {
                    total = total.saturating_add(i64::try_from(rows).unwrap_or(i64::MAX));
                }
                QueryResult::Command { .. } => {}
                QueryResult::Rows(mut rows) => {
                    while rows.try_next().await.map_err(|error| status(EngineError::from(error)))?.is_some() {}
                }
            }
        }
        Ok(total)
    }
}

/// Runs a statement once for each row of parameters, and sends the rows of one after those of the other.
pub(super) async fn batches(planned: Planned) -> Result<(SchemaRef, Batches), Status> {
    let schema = portable::schema(&planned.prepared.schema);
    let Planned { session, prepared, runs } = planned;
    let mut runs = runs.into_iter();
    // The first run starts here, so that its error is this call's error.
    let first = match runs.next() {
        Some(parameters) => run(&session, &prepared, parameters).await?,
        None => stream::empty().boxed(),
    };
    let rest = {
        let (session, prepared) = (Arc::clone(&session), Arc::clone(&prepared));
        stream::iter(runs)
            .then(move |parameters| {
                let (session, prepared) = (Arc::clone(&session), Arc::clone(&prepared));
                async move { run(&session, &prepared, parameters).await }.boxed()
            })
            .try_flatten()
    };
    let target = Arc::clone(&schema);
    let rows = first.chain(rest).map(move |batch| {
        let _alive = &session;
        portable::batch(&batch?, &target).map_err(|error| Status::internal(error.to_string()))
    });
    Ok((schema, rows.boxed()))
}

async fn run(
    session: &Arc<Session>,
    prepared: &crate::engine::Prepared,
    parameters: Vec<datafusion::scalar::ScalarValue>,
) -> Result<Batches, Status> {
    let handle = session.execute(prepared, parameters).await.map_err(status)?;
    Ok(match handle.into_result() {
        QueryResult::Rows(rows) => rows.map_err(|error| status(EngineError::from(error))).boxed(),
        QueryResult::Command { .. } => stream::empty().boxed(),
    })
}

/// Rows as Flight sends them.
pub(super) fn flight_data(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
) -> DoGet {
    let batches = batches.map_err(|status| FlightError::Tonic(Box::new(status)));
    let data = FlightDataEncoderBuilder::new().with_schema(schema).build(batches);
    Response::new(Box::pin(data.map_err(|error| match error {
        FlightError::Tonic(status) => *status,
        other => Status::internal(other.to_string()),
    })))
}

fn one_batch(batch: Result<RecordBatch, impl std::fmt::Display>) -> Result<DoGet, Status> {
    let batch = batch.map_err(|error| Status::internal(error.to_string()))?;
    Ok(flight_data(batch.schema(), stream::iter([Ok(batch)])))
}

/// A result of one endpoint, this service, whose ticket is `ticket`.
fn flight_info(
    schema: &Schema,
    ticket: impl ProstMessageExt,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = Ticket::new(ticket.as_any().encode_to_vec());
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|error| Status::internal(error.to_string()))?
        .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
        .with_descriptor(descriptor);
    Ok(Response::new(info))
}

/// The same result, whose tickets are good until a time.
fn expiring(mut info: FlightInfo, at: SystemTime) -> FlightInfo {
    for endpoint in &mut info.endpoint {
        endpoint.expiration_time = Some(at.into());
    }
    info
}

/// A schema as Flight sends it.
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let message: Result<IpcMessage, ArrowError> = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into();
    message.map(|IpcMessage(bytes)| bytes).map_err(|error| Status::internal(error.to_string()))
}

/// An error of the engine as gRPC's: its class as the code, its words with SQLSTATE and hint.
pub(super) fn status(error: EngineError) -> Status {
    let state = error.state.0;
    let mut message = format!("{} (SQLSTATE {state})", error.message);
    for (label, text) in [("Detail", &error.detail), ("Hint", &error.hint)] {
        if let Some(text) = text {
            message.push_str(&format!("\n{label}: {text}"));
        }
    }
    let code = match state {
        "42P01" | "3D000" | "3F000" | "58P01" => tonic::Code::NotFound,
        "42P07" | "42710" | "42P06" => tonic::Code::AlreadyExists,
        "42501" => tonic::Code::PermissionDenied,
        "57014" => tonic::Code::Cancelled,
        "0A000" => tonic::Code::Unimplemented,
        _ => match &state[..2] {
            "42" | "22" | "23" => tonic::Code::InvalidArgument,
            "53" | "54" => tonic::Code::ResourceExhausted,
            "08" | "57" => tonic::Code::Unavailable,
            _ => tonic::Code::Internal,
        },
    };
    Status::new(code, message)
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    /// Gives a token to who says who it is.
    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<BoxStream<'static, Result<HandshakeResponse, Status>>>, Status> {
        let token = self.tokens.issue(self.user(&request)?)?;
        let header = token.parse().map_err(|_| Status::internal("a token is no header"))?;
        let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::from(token) };
        let mut response = Response::new(stream::iter([Ok(answer)]).boxed());
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let planned = self.plan(&query.query, &request).await?;
        self.must_be_bound(&planned)?;
        if let Some(info) = endpoints::of(&self.engine, &planned, request.get_ref(), self.wire).await? {
            return Ok(Response::new(info));
        }
        let planned = if planned.prepared.returns_rows { planned } else { self.run_at_once(planned).await? };
        self.one_endpoint(planned, request.into_inner())
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> Result<DoGet, Status> {
        let (handle, user) = (&ticket.statement_handle, self.user(&request)?);
        let results = async {
            if endpoints::is_sealed(handle) {
                let (schema, rows) = endpoints::redeem(&self.engine, handle, &user)?;
                return Ok(flight_data(schema, rows));
            }
            if let Some(results) = self.polled.take(handle, &user).await {
                return results;
            }
            let planned = self.handles.take(handle, &user)?;
            trace_parent::follow(&planned.session, request.metadata());
            let (schema, rows) = batches(planned).boxed().await?;
            Ok(flight_data(schema, rows))
        };
        self.running.start(handle, &user).until_stopped(results.boxed()).await
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        ingest::ingest(&self.session(&request)?, command, request.into_inner()).boxed().await
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(query.info)
            .map_err(|error| Status::invalid_argument(format!("the result to be cancelled: {error}")))?;
        // The older result has the numbers of the newer one.
        let status = self.cancel(&info, &self.user(&request)?)?;
        Ok(ActionCancelQueryResult { result: status as i32 })
    }

    async fn do_action_fallback(&self, request: Request<Action>) -> Result<Response<DoAction>, Status> {
        self.act(&request)
    }

    async fn do_put_statement_update(
        &self,
        command: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let planned = self.plan(&command.query, &request).await?;
        self.update(planned).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let planned = self.plan(&query.query, &request).await?;
        let dataset_schema = match planned.prepared.returns_rows {
            true => schema_bytes(&portable::schema(&planned.prepared.schema))?,
            false => Bytes::new(),
        };
        let types: &[DataType] = &planned.prepared.parameter_types;
        let fields = types
            .iter()
            .enumerate()
            .map(|(index, data_type)| Field::new(format!("${}", index + 1), parameters::asked_for(data_type), true));
        let parameter_schema = schema_bytes(&portable::schema(&Schema::new(fields.collect::<Vec<_>>())))?;
        let prepared_statement_handle = self.handles.add(planned)?;
        Ok(ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        self.handles.take(&query.prepared_statement_handle, &self.user(&request)?).map(|_| ())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let user = self.user(&request)?;
        let runs = parameters::read(request.into_inner()).await?;
        self.handles.bind(&query.prepared_statement_handle, &user, runs)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let planned = self.handles.get(&query.prepared_statement_handle, &self.user(&request)?)?;
        if let Some(info) = endpoints::of(&self.engine, &planned, request.get_ref(), self.wire).await? {
            return Ok(Response::new(info));
        }
        if planned.prepared.returns_rows {
            return flight_info(&portable::schema(&planned.prepared.schema), query, request.into_inner());
        }
        self.must_be_bound(&planned)?;
        trace_parent::follow(&planned.session, request.metadata());
        let planned = self.run_at_once(planned).await?;
        self.one_endpoint(planned, request.into_inner())
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Result<DoGet, Status> {
        let (handle, user) = (&query.prepared_statement_handle, self.user(&request)?);
        let planned = self.handles.get(handle, &user)?;
        trace_parent::follow(&planned.session, request.metadata());
        self.running.start(handle, &user).until_stopped(self.results(planned).boxed()).await
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let mut planned = self.handles.get(&query.prepared_statement_handle, &self.user(&request)?)?;
        trace_parent::follow(&planned.session, request.metadata());
        let runs = parameters::read(request.into_inner()).await?;
        if !runs.is_empty() {
            planned.runs = runs;
        }
        self.update(planned).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        flight_info(&query.into_builder().schema(), query, request.into_inner())
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, request: Request<Ticket>) -> Result<DoGet, Status> {
        one_batch(metadata::catalogs(&*self.session(&request)?, query))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        flight_info(&query.clone().into_builder().schema(), query, request.into_inner())
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> Result<DoGet, Status> {
        one_batch(metadata::schemas(&*self.session(&request)?, query))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        flight_info(&query.clone().into_builder().schema(), query, request.into_inner())
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> Result<DoGet, Status> {
        let session = self.session(&request)?;
        one_batch(metadata::tables(&session, query).await)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let batch = metadata::table_types().map_err(|error| Status::internal(error.to_string()))?;
        flight_info(&batch.schema(), query, request.into_inner())
    }

    async fn do_get_table_types(&self, _: CommandGetTableTypes, _: Request<Ticket>) -> Result<DoGet, Status> {
        one_batch(metadata::table_types())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let info = sql_info().map_err(|error| Status::internal(error.to_string()))?;
        let schema = query.clone().into_builder(&info).schema();
        flight_info(&schema, query, request.into_inner())
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Result<DoGet, Status> {
        let info = sql_info().map_err(|error| Status::internal(error.to_string()))?;
        one_batch(query.into_builder(&info).build())
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let info = metadata::type_info().map_err(|error| Status::internal(error.to_string()))?;
        flight_info(&query.into_builder(&info).schema(), query, request.into_inner())
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, _: Request<Ticket>) -> Result<DoGet, Status> {
        let info = metadata::type_info().map_err(|error| Status::internal(error.to_string()))?;
        one_batch(query.into_builder(&info).build())
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        flight_info(&metadata::PRIMARY_KEYS, query, request.into_inner())
    }

    async fn do_get_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<Ticket>,
    ) -> Result<DoGet, Status> {
        let session = self.session(&request)?;
        let catalog = query.catalog.unwrap_or_else(|| session.database());
        let schema = query.db_schema.unwrap_or_else(|| session.current_schema());
        let info = session.table_info(&catalog, &schema, &query.table).await.map_err(status)?;
        let columns = info.map_or_else(Vec::new, |info| info.primary_key);
        one_batch(metadata::primary_key(&catalog, &schema, &query.table, &columns))
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        flight_info(&metadata::FOREIGN_KEYS, query, request.into_inner())
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, _: Request<Ticket>) -> Result<DoGet, Status> {
        Ok(flight_data(Arc::clone(&metadata::FOREIGN_KEYS), stream::empty()))
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        flight_info(&metadata::FOREIGN_KEYS, query, request.into_inner())
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, _: Request<Ticket>) -> Result<DoGet, Status> {
        Ok(flight_data(Arc::clone(&metadata::FOREIGN_KEYS), stream::empty()))
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        flight_info(&metadata::FOREIGN_KEYS, query, request.into_inner())
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, _: Request<Ticket>) -> Result<DoGet, Status> {
        Ok(flight_data(Arc::clone(&metadata::FOREIGN_KEYS), stream::empty()))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
