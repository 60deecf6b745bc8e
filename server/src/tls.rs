//! TLS on the listeners: one certificate for PostgreSQL's clients, Flight SQL and the web page.
//!
//! A listener with a certificate serves nobody in clear: a client that could be talked out of encryption would give its
//! password away. The files may be read anew while the service runs; connections that are open keep what they began with.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use sluice_executor::listener::{self, Gate};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

pub use sluice_executor::listener::{Stream, encrypt};

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

/// The certificate for all listeners. Clones are of one certificate: what one reads anew, all have.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    current: Arc<RwLock<Arc<Identity>>>,
}

/// A certificate that was read, for the connections that begin with it.
pub struct Identity {
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
        let current = Arc::new(RwLock::new(Arc::new(Identity::read(files)?)));
        Ok(Self { files: files.clone(), current })
    }

    /// Reads the files anew, for connections that are still to come.
    ///
    /// # Errors
    ///
    /// As [`Self::read`]; then all stays as it was.
    pub fn reload(&self) -> Result<(), String> {
        let read = Arc::new(Identity::read(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// What a connection that begins now is to use.
    pub fn current(&self) -> Arc<Identity> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets in those who finish a handshake for `protocol`, which is its name in ALPN.
    pub fn gate(&self, protocol: &'static [u8]) -> Arc<dyn Gate> {
        Arc::new(TlsGate { tls: self.clone(), protocol })
    }

    /// The certificate's file.
    pub fn certificate_file(&self) -> &Path {
        &self.files.cert
    }
}

impl Identity {
    fn read(files: &TlsFiles) -> Result<Self, String> {
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

/// The certificates of a file in PEM, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    if all.is_empty() { Err("it holds no certificate in PEM".to_owned()) } else { Ok(all) }
}

/// Lets in those who finish a handshake for one protocol.
struct TlsGate {
    tls: Tls,
    protocol: &'static [u8],
}

#[async_trait]
impl Gate for TlsGate {
    async fn pass(&self, stream: TcpStream, _: SocketAddr) -> io::Result<Stream> {
        encrypt(self.tls.current().acceptor(Some(self.protocol)), stream).await
    }
}

/// Connections of a listener, each as soon as its handshake is done.
pub struct Incoming(listener::Incoming);

impl Incoming {
    /// Accepts connections of `listener` until `stop`; with `tls` they are encrypted and speak `protocol`, which is its
    /// name in ALPN.
    ///
    /// # Errors
    ///
    /// When the listener has no address.
    pub fn new(
        listener: TcpListener,
        tls: Option<&Tls>,
        protocol: &'static [u8],
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let gate = tls.map(|tls| tls.gate(protocol));
        listener::Incoming::new(listener, gate, stop).map(Self)
    }

    /// The connections alone.
    pub fn into_streams(self) -> impl futures::Stream<Item = io::Result<Stream>> {
        self.0.into_streams()
    }
}

impl axum::serve::Listener for Incoming {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match self.0.next().await {
            Some(connection) => connection,
            // The server is told of its end elsewhere.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.address())
    }
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
