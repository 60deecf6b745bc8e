//! The calls of Flight that arrow-flight's SQL service has no place for, around it.

use std::sync::Arc;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::Command;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PollInfo,
    SchemaResult, Ticket,
};
use futures::{FutureExt, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use super::actions::ACTIONS;
use super::cancel::command;
use super::portable;
use super::service::{Service, schema_bytes};

/// The whole of Flight SQL.
pub struct Outer(pub Arc<Service>);

type Inner = Service;

#[tonic::async_trait]
impl FlightService for Outer {
    type HandshakeStream = <Inner as FlightService>::HandshakeStream;
    type ListFlightsStream = <Inner as FlightService>::ListFlightsStream;
    type DoGetStream = <Inner as FlightService>::DoGetStream;
    type DoPutStream = <Inner as FlightService>::DoPutStream;
    type DoActionStream = <Inner as FlightService>::DoActionStream;
    type ListActionsStream = <Inner as FlightService>::ListActionsStream;
    type DoExchangeStream = <Inner as FlightService>::DoExchangeStream;

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let service = &self.0;
        let user = service.user(&request)?;
        let planned = match command(&request.get_ref().cmd) {
            Some(Command::TicketStatementQuery(ticket)) => {
                return service.polled.next(&ticket.statement_handle, &user).await.map(Response::new);
            }
            Some(Command::CommandStatementQuery(query)) => service.plan(&query.query, &request).boxed().await?,
            Some(Command::CommandPreparedStatementQuery(query)) => {
                service.handles.get(&query.prepared_statement_handle, &user)?
            }
            // What is asked of the metadata is at hand.
            _ => {
                let info = service.get_flight_info(request).await?.into_inner();
                return Ok(Response::new(PollInfo { info: Some(info), progress: Some(1.0), ..PollInfo::default() }));
            }
        };
        service.must_be_bound(&planned)?;
        service.polled.start(planned, service.engine.clone(), service.wire).boxed().await.map(Response::new)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let service = &self.0;
        let schema = match command(&request.get_ref().cmd) {
            Some(Command::CommandStatementQuery(query)) => {
                let planned = service.plan(&query.query, &request).boxed().await?;
                schema_bytes(&portable::schema(&planned.prepared.schema))?
            }
            // Endpoints may run it.
            Some(Command::CommandPreparedStatementQuery(query)) => {
                let planned = service.handles.get(&query.prepared_statement_handle, &service.user(&request)?)?;
                schema_bytes(&portable::schema(&planned.prepared.schema))?
            }
            _ => service.get_flight_info(request).await?.into_inner().schema,
        };
        Ok(Response::new(SchemaResult { schema }))
    }

    /// None: a result is there for whoever asked for it.
    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.0.user(&request)?;
        Ok(Response::new(stream::empty().boxed()))
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        self.0.user(&request)?;
        let actions =
            ACTIONS.map(|(name, what)| Ok(ActionType { r#type: name.to_owned(), description: what.to_owned() }));
        Ok(Response::new(stream::iter(actions).boxed()))
    }

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        self.0.handshake(request).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.0.get_flight_info(request).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.0.do_get(request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        self.0.do_put(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        self.0.do_action(request).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.0.do_exchange(request).await
    }
}
