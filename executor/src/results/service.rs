//! The port on which an executor serves clients.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use ballista_core::serde::scheduler::ExecutorMetadata;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::rows::ResultFiles;
use super::ticket::unwrap;
use crate::listener::{Gate, Incoming};
use crate::peer::ClusterSecret;

/// Bytes of a message from a client, which is a ticket.
const MOST_MESSAGE_BYTES: usize = 128 << 10;
/// A client that says nothing for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How an executor serves clients.
#[derive(Clone)]
pub struct ClientPort {
    /// The port.
    pub port: u16,
    /// The handshake of its connections; none if they are in clear.
    pub tls: Option<Arc<dyn Gate>>,
}

impl ClientPort {
    /// What the coordinator is told of it.
    pub fn reachable(&self) -> Reachable {
        Reachable { port: self.port, tls: self.tls.is_some() }
    }
}

impl fmt::Debug for ClientPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPort").field("port", &self.port).field("tls", &self.tls.is_some()).finish()
    }
}

/// What an executor tells the coordinator of its port for clients, among its traits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachable {
    /// The port.
    pub port: u16,
    /// Whether connections are encrypted.
    pub tls: bool,
}

impl Reachable {
    /// What an executor told when it registered; `None` if it serves no clients.
    pub fn told_by(executor: &ExecutorMetadata) -> Option<Self> {
        #[derive(Deserialize)]
        struct Told {
            clients: Option<Reachable>,
        }
        serde_json::from_str::<Told>(&executor.os_info.os_ver_long).ok()?.clients
    }
}

/// Sends clients the rows that they have tickets for, and does nothing else.
pub struct ResultService {
    files: ResultFiles,
}

impl ResultService {
    /// Files below `work_dir`, for tickets that were made with `secret`.
    pub fn new(work_dir: String, secret: ClusterSecret) -> Self {
        Self { files: ResultFiles::new(work_dir, secret) }
    }

    /// Serves clients of `listener` until `stop`.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub fn serve(self, listener: TcpListener, tls: Option<Arc<dyn Gate>>, stop: CancellationToken) -> io::Result<()> {
        let incoming = Incoming::new(listener, tls, stop.clone())?;
        let service = FlightServiceServer::new(self).max_decoding_message_size(MOST_MESSAGE_BYTES);
        tokio::spawn(async move {
            let server = Server::builder()
                .http2_keepalive_interval(Some(KEEPALIVE))
                .add_service(service)
                .serve_with_incoming_shutdown(incoming.into_streams(), stop.cancelled_owned());
            if let Err(error) = server.await {
                tracing::error!(%error, "clients are no longer served");
            }
        });
        Ok(())
    }
}

fn elsewhere<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("an executor only sends the rows that a ticket is for: ask the coordinator"))
}

#[tonic::async_trait]
impl FlightService for ResultService {
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        // What is no ticket of Flight SQL is not one that the coordinator made.
        let sealed = unwrap(&request.get_ref().ticket).unwrap_or_default();
        Ok(Response::new(self.files.read(&sealed).await?))
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        elsewhere()
    }

    /// Some drivers log in to each host that they fetch from. Nothing is checked, because nothing is given for it.
    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let mut response = Response::new(stream::iter([Ok(HandshakeResponse::default())]).boxed());
        response.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer none"));
        Ok(response)
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        elsewhere()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        elsewhere()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        elsewhere()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        elsewhere()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        elsewhere()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        elsewhere()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        elsewhere()
    }
}
