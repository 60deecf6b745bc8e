//! Accepts connections, bounds them, and ends them at shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::PgOptions;
use super::backend::{Severity, put_error};
use super::cancel::CancelRegistry;
use super::connection::Connection;
use super::startup::{self, Shared};
use super::wire::{Failure, Wire};
use crate::engine::{Engine, EngineError, SqlState};
use crate::tls::{Stream, Tls};

/// Connections beyond `max_connections` that may be in their start-up: cancel requests, and those to refuse.
const STARTUP_SLACK: usize = 128;

/// Wait after an accept failed for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves PostgreSQL clients on `listener` until `shutdown`, then until the last connection has ended. With `tls` all of
/// them have to encrypt.
///
/// At shutdown idle connections end at once (FATAL 57P01) and busy ones after their statement; how
/// long statements get is the engine's business.
///
/// # Errors
/// None at present: what goes wrong while accepting is retried.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    options: PgOptions,
    tls: Option<&Tls>,
    shutdown: CancellationToken,
) -> Result<(), io::Error> {
    let sockets = Arc::new(Semaphore::new(options.max_connections + STARTUP_SLACK));
    let sessions = Arc::new(Semaphore::new(options.max_connections));
    let shared = Arc::new(Shared {
        engine,
        options,
        tls: tls.cloned(),
        sessions,
        cancels: Arc::new(CancelRegistry::default()),
        shutdown: shutdown.clone(),
    });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &sockets) => accepted,
            Some(ended) = connections.join_next() => {
                note_end(ended);
                continue;
            }
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, address, permit)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    serve_connection(stream, address, shared).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note_end(ended);
    }
    Ok(())
}

type Accepted = (TcpStream, SocketAddr, Option<tokio::sync::OwnedSemaphorePermit>);

async fn accept(listener: &TcpListener, sockets: &Arc<Semaphore>) -> Result<Accepted, io::Error> {
    let permit = Arc::clone(sockets).acquire_owned().await.ok();
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, permit))
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a PostgreSQL connection's task panicked");
    }
}

async fn serve_connection(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>) {
    // Replies leave as whole query cycles; holding one back for more would only add the client's delay.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut wire = Wire::new(Stream::Plain(stream), shared.shutdown.clone(), shared.options.drain_write_timeout);
    let started = tokio::select! {
        started = tokio::time::timeout(
            shared.options.startup_timeout,
            startup::start(&mut wire, address, &shared),
        ) => started,
        () = shared.shutdown.cancelled() => Ok(Err(Failure::Fatal(startup::shutting_down()))),
    };
    let failure = match started {
        Ok(Ok(Some(started))) => {
            tracing::debug!(%address, session = started.session.id(), "PostgreSQL session began");
            let ended = Connection::new(&mut wire, &started, &shared).run().await;
            tracing::debug!(%address, session = started.session.id(), "PostgreSQL session ended");
            ended
        }
        Ok(Ok(None)) => return,
        Ok(Err(failure)) => failure,
        // Nobody is told: the stranger may not be a client at all.
        Err(_elapsed) => Failure::Gone,
    };
    match failure {
        Failure::Fatal(error) | Failure::Statement(error) => {
            put_error(&mut wire.out, &error, Severity::Fatal);
            wire.close().await;
        }
        Failure::Gone => {}
    }
}

/// The error of a session too many.
pub fn too_many_connections() -> EngineError {
    EngineError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .with_hint("close idle connections, or raise max_connections")
}
