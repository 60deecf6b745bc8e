//! What a listener does with those who do not know the cluster's secret.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tonic::Status;

use crate::listener::{Gate, Stream, encrypt};

/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// How long a connection may take for its first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections in clear at a time that are told why they are refused; further ones are closed.
const MOST_REFUSALS: usize = 32;
/// How long such a connection is kept.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing more is said of an address.
const QUIET: Duration = Duration::from_secs(60);
/// Addresses that are remembered as having been told of.
const MOST_ADDRESSES: usize = 1024;
/// What callers in clear are told.
const NO_PROOF: &str = "this port is for peers that know the cluster's secret, and the call came without proof: start the \
                        process that made it with --cluster-secret-file";

/// Lets in those who prove that they know the cluster's secret.
pub struct PeerGate {
    tls: TlsAcceptor,
    refusals: Semaphore,
    strangers: Arc<Strangers>,
}

impl PeerGate {
    /// Lets in those whose handshake with `tls` succeeds.
    pub fn new(tls: TlsAcceptor) -> Self {
        Self { tls, refusals: Semaphore::new(MOST_REFUSALS), strangers: Arc::default() }
    }

    /// Answers calls in clear with the reason why none is served, without reading what they carry.
    async fn refuse(&self, stream: TcpStream, address: SocketAddr) {
        let Ok(_permit) = self.refusals.try_acquire() else { return };
        let strangers = self.strangers.clone();
        let answer = service_fn(move |call: hyper::Request<hyper::body::Incoming>| {
            if strangers.are_news(address.ip(), Instant::now()) {
                let path = call.uri().path();
                tracing::warn!(%address, path, "refused a call of a stranger, who did not know the cluster's secret");
            }
            let refused = Status::unauthenticated(NO_PROOF).into_http::<tonic::body::Body>();
            async move { Ok::<_, Infallible>(refused) }
        });
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
        // Whatever it ends with, there was nothing to lose.
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, connection).await;
    }
}

#[async_trait]
impl Gate for PeerGate {
    async fn pass(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Stream> {
        let mut first = [0];
        tokio::time::timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await??;
        if first != [TLS_HANDSHAKE] {
            self.refuse(stream, address).await;
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        encrypt(self.tls.clone(), stream).await.inspect_err(|error| {
            if self.strangers.are_news(address.ip(), Instant::now()) {
                tracing::warn!(%address, %error, "refused a stranger, who did not know the cluster's secret");
            }
        })
    }
}

/// Who was told of in the log, so that nobody can fill it.
#[derive(Default)]
struct Strangers {
    told: Mutex<HashMap<IpAddr, Instant>>,
}

impl Strangers {
    /// Whether to tell of `address` now, which counts as having done so.
    fn are_news(&self, address: IpAddr, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&address).is_some_and(|at| now.saturating_duration_since(*at) < QUIET) {
            return false;
        }
        if told.len() >= MOST_ADDRESSES {
            told.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        }
        if told.len() >= MOST_ADDRESSES {
            return false;
        }
        told.insert(address, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_told_of_once_a_minute_and_many_do_not_fill_the_memory() {
        let strangers = Strangers::default();
        let start = Instant::now();
        let address = |last: u32| IpAddr::from(last.to_be_bytes());
        assert!(strangers.are_news(address(1), start));
        assert!(!strangers.are_news(address(1), start + Duration::from_secs(59)));
        assert!(strangers.are_news(address(2), start));
        assert!(strangers.are_news(address(1), start + Duration::from_secs(60)));
        for last in 0..5_000 {
            strangers.are_news(address(last), start + Duration::from_secs(61));
        }
        assert_eq!(strangers.told.lock().expect("is whole").len(), MOST_ADDRESSES);
        assert!(strangers.are_news(address(9_999), start + Duration::from_secs(122)));
    }
}
