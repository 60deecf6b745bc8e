//! TLS on the listeners: one certificate for PostgreSQL's clients, Flight SQL and the web page.
//!
//! A listener with a certificate serves nobody in clear: a client that could be talked out of encryption would give its
//! password away. The handshake is done beside the listener, so that strangers who do not finish theirs hold up nobody.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at a time.
const MOST_HANDSHAKES: usize = 256;
/// Wait after an accept failed for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of this service, with those between it and an authority after it.
    pub cert: PathBuf,
    /// Its key: PKCS#8, PKCS#1 or SEC1, without a password.
    pub key: PathBuf,
    /// Authorities; a client has to show a certificate that one of them vouches for.
    pub client_ca: Option<PathBuf>,
}

/// A certificate that was read, for all listeners.
#[derive(Clone)]
pub struct Tls {
    config: ServerConfig,
    /// The certificate file, from which a client's proof that it talks to this service is checked.
    pub certificate_pem: Arc<[u8]>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// With the file that cannot be used, and why. The service does not start without it.
    pub fn read(files: &TlsFiles) -> Result<Self, String> {
        let told = |path: &Path, error: String| format!("TLS cannot use {}: {error}", path.display());
        let certificates = certificates(&files.cert).map_err(|error| told(&files.cert, error))?;
        let certificate_pem = std::fs::read(&files.cert).map_err(|error| told(&files.cert, error.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_file(&files.key).map_err(|error| told(&files.key, format!("no key: {error}")))?;
        // Named here, because a process with two providers has no default one.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?;
        let builder = match &files.client_ca {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for authority in self::certificates(ca).map_err(|error| told(ca, error))? {
                    roots.add(authority).map_err(|error| told(ca, error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| told(ca, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let config =
            builder.with_single_cert(certificates, key).map_err(|error| told(&files.cert, error.to_string()))?;
        Ok(Self { config, certificate_pem: certificate_pem.into() })
    }

    /// Takes handshakes for a protocol, by its name in ALPN; none offers no name.
    pub fn acceptor(&self, protocol: Option<&[u8]>) -> TlsAcceptor {
        let mut config = self.config.clone();
        config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    if all.is_empty() { Err("it holds no certificate in PEM".to_owned()) } else { Ok(all) }
}

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

/// Connections of a listener, each as soon as its handshake is done.
pub struct Incoming {
    address: SocketAddr,
    connections: mpsc::Receiver<(Stream, SocketAddr)>,
}

impl Incoming {
    /// Accepts connections of `listener` until `stop`; with `tls` they are encrypted.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub fn new(listener: TcpListener, tls: Option<TlsAcceptor>, stop: CancellationToken) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, connections) = mpsc::channel(16);
        tokio::spawn(async move {
            tokio::select! {
                () = accept(listener, tls, sender) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Self { address, connections })
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

impl axum::serve::Listener for Incoming {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match self.next().await {
            Some(connection) => connection,
            // The server is told of its end elsewhere.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, sender: mpsc::Sender<(Stream, SocketAddr)>) {
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
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        match tls.clone() {
            None => {
                if sender.send((Stream::Plain(stream), address)).await.is_err() {
                    return;
                }
            }
            Some(tls) => {
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = encrypt(tls, stream).await {
                        let _ = sender.send((stream, address)).await;
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// Does the handshake with a client that is about to begin one.
pub async fn encrypt(tls: TlsAcceptor, stream: TcpStream) -> io::Result<Stream> {
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
    Ok(Stream::Tls(Box::new(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("server.pem");
        let files = TlsFiles { cert: file.clone(), key: file.clone(), client_ca: None };
        let told = || Tls::read(&files).err().expect("cannot be used");
        assert!(told().contains("server.pem"), "{}", told());
        std::fs::write(&file, "no certificate").expect("is written");
        assert!(told().contains("no certificate in PEM"), "{}", told());
    }
}
