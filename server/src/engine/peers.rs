//! The port that executors join at.

use std::net::SocketAddr;

use ballista_core::utils::{GrpcServerConfig, create_grpc_server};
use sluice_executor::listener::Incoming;
use sluice_executor::peer::{ClusterSecret, Peers};
use sluice_scheduler::cluster::Scheduler;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{EngineError, SqlState};

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::new(SqlState::SYSTEM_ERROR, error.to_string())
}

/// A secret that this process shares with its own executors.
pub(super) fn secret_of_process() -> Result<ClusterSecret, EngineError> {
    ClusterSecret::random().map_err(failed)
}

/// Those that know the secret.
pub(super) fn known_by(secret: Option<&ClusterSecret>) -> Result<Peers, EngineError> {
    Peers::new(secret).map_err(failed)
}

/// Takes the port; returns the address with it.
pub(super) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), EngineError> {
    let failed = |error| failed(format!("cannot listen on {address} for executors: {error}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Lets executors join as long as the process runs, if they are peers.
pub(super) fn serve(listener: TcpListener, peers: &Peers, scheduler: &Scheduler) -> Result<(), EngineError> {
    let incoming = Incoming::new(listener, peers.gate(), CancellationToken::new()).map_err(failed)?;
    let service = scheduler.executors_service();
    tokio::spawn(async move {
        let served = create_grpc_server(&GrpcServerConfig::default())
            .add_service(service)
            .serve_with_incoming(incoming.into_streams());
        if let Err(error) = served.await {
            tracing::error!(%error, "executors cannot join any more");
        }
    });
    Ok(())
}
