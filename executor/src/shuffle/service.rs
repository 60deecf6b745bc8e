//! Checks what other hosts ask for before it is sent.

use std::path::{Component, Path};

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, PollInfo, SchemaResult, Ticket,
};
use ballista_core::execution_plans::create_shuffle_path;
use ballista_core::serde::decode_protobuf;
use ballista_core::serde::scheduler::{Action as ShuffleAction, ShuffleLayout};
use ballista_executor::flight_service::BallistaFlightService;
use tonic::{Request, Response, Status, Streaming};

use super::seal::check;

/// Ballista's data plane, which sends nothing that its seal does not vouch for.
#[derive(Clone)]
pub struct CheckedFlightService {
    inner: BallistaFlightService,
    work_dir: String,
}

impl CheckedFlightService {
    /// Serves the shuffle files below `work_dir`.
    pub fn new(work_dir: String) -> Self {
        Self { inner: BallistaFlightService::new(work_dir.clone()), work_dir }
    }

    async fn check(&self, action: &[u8]) -> Result<(), Status> {
        let action = decode_protobuf(action).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let ShuffleAction::FetchPartition { job_id, stage_id, partition_id, file_id, layout, byte_ranges, .. } = action;
        // A job's name becomes the name of a folder; it must not lead anywhere else.
        let mut parts = Path::new(job_id.as_str()).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(Status::invalid_argument("that is no job"));
        }
        let is_sorted = matches!(layout, ShuffleLayout::Sort);
        let path = create_shuffle_path(&self.work_dir, &job_id, stage_id, partition_id, file_id, is_sorted)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        // Ranges are the caller's choice, so that the whole file has to be right.
        let partition = byte_ranges.is_empty().then_some(partition_id);
        match tokio::task::spawn_blocking(move || check(&path, partition)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(%error, "it is not sent");
                Err(Status::data_loss(error.to_string()))
            }
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }
}

#[tonic::async_trait]
impl FlightService for CheckedFlightService {
    type DoActionStream = <BallistaFlightService as FlightService>::DoActionStream;
    type DoExchangeStream = <BallistaFlightService as FlightService>::DoExchangeStream;
    type DoGetStream = <BallistaFlightService as FlightService>::DoGetStream;
    type DoPutStream = <BallistaFlightService as FlightService>::DoPutStream;
    type HandshakeStream = <BallistaFlightService as FlightService>::HandshakeStream;
    type ListActionsStream = <BallistaFlightService as FlightService>::ListActionsStream;
    type ListFlightsStream = <BallistaFlightService as FlightService>::ListFlightsStream;

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        self.check(&request.get_ref().ticket).await?;
        self.inner.do_get(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        self.check(&request.get_ref().body).await?;
        self.inner.do_action(request).await
    }

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        self.inner.handshake(request).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        self.inner.list_actions(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.inner.list_flights(request).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        self.inner.get_flight_info(request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        self.inner.poll_flight_info(request).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        self.inner.get_schema(request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        self.inner.do_put(request).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.inner.do_exchange(request).await
    }
}
