//! Connections that are let in before anybody speaks to them.
//!
//! A listener may have a [`Gate`], such as a TLS handshake. What has to be shown there is shown beside the listener, so
//! that strangers who do not get through hold up nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at a time.
const MOST_HANDSHAKES: usize = 256;
/// Wait after an accept failed for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A client's connection.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// Neither: its handshake is under way, or failed.
    Closed,
}

fn closed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Closed => closed(),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Self::Closed => closed(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Closed => closed(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Closed => closed(),
        }
    }
}

impl Connected for Stream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Self::Plain(stream) => stream.connect_info(),
            Self::Tls(stream) => stream.get_ref().0.connect_info(),
            Self::Closed => TcpConnectInfo { local_addr: None, remote_addr: None },
        }
    }
}

/// What a connection has to go through before it is served.
#[async_trait]
pub trait Gate: Send + Sync {
    /// The connection as it is after the gate.
    ///
    /// # Errors
    ///
    /// When it may not be served; it is closed then.
    async fn pass(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Stream>;
}

/// Does the handshake with a client that is about to begin one.
pub async fn encrypt(tls: TlsAcceptor, stream: TcpStream) -> io::Result<Stream> {
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
    Ok(Stream::Tls(Box::new(stream)))
}

/// Connections of a listener, each as soon as it is through the gate.
pub struct Incoming {
    address: SocketAddr,
    connections: mpsc::Receiver<(Stream, SocketAddr)>,
}

impl Incoming {
    /// Accepts connections of `listener` until `stop`; without a gate everybody is let in, in clear.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub fn new(listener: TcpListener, gate: Option<Arc<dyn Gate>>, stop: CancellationToken) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, connections) = mpsc::channel(16);
        tokio::spawn(async move {
            tokio::select! {
                () = accept(listener, gate, sender) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Self { address, connections })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection; `None` when no more come.
    pub async fn next(&mut self) -> Option<(Stream, SocketAddr)> {
        self.connections.recv().await
    }

    /// The connections alone.
    pub fn into_streams(self) -> impl futures::Stream<Item = io::Result<Stream>> {
        futures::stream::unfold(self, |mut incoming| async move {
            let (stream, _) = incoming.next().await?;
            Some((Ok(stream), incoming))
        })
    }
}

async fn accept(listener: TcpListener, gate: Option<Arc<dyn Gate>>, sender: mpsc::Sender<(Stream, SocketAddr)>) {
    let handshakes = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        // Without it the last small packet of each answer waits 40 ms for the client's acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        match gate.clone() {
            None => {
                if sender.send((Stream::Plain(stream), address)).await.is_err() {
                    return;
                }
            }
            Some(gate) => {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let passed = gate.pass(stream, address).await;
                    drop(permit);
                    if let Ok(stream) = passed {
                        let _ = sender.send((stream, address)).await;
                    }
                });
            }
        }
    }
}
