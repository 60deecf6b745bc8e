//! The certificate that is computed from the cluster's secret.

use std::error::Error;
use std::sync::Arc;

use ballista_core::extension::{BallistaConfigGrpcEndpoint, EndpointOverrideFn};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::gate::PeerGate;
use super::secret::ClusterSecret;
use crate::config::cluster_session_config;
use crate::listener::Gate;

/// The name in the certificate; peers are told apart by nothing else than whether they have it.
const NAME: &str = "peer.sluice.internal";
/// What the secret's code is for, from which the key is made.
const KEY_CONTEXT: &str = "sluice peer key, Ed25519";
/// A key of Ed25519 in PKCS#8 before its 32 bytes (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why no certificate could be computed from a secret; none of it depends on the secret.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The certificate could not be written.
    #[error("no certificate could be made of the cluster secret: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take it.
    #[error("the certificate that was made of the cluster secret cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// Clients could not be made to show it.
    #[error("the certificate that was made of the cluster secret cannot be used: {0}")]
    Client(#[from] rustls::server::VerifierBuilderError),
}

/// How coordinator and executors know each other. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Peers {
    proof: Option<Arc<Proof>>,
}

/// Both ends of a connection between peers.
struct Proof {
    gate: Arc<PeerGate>,
    client: ClientTlsConfig,
}

impl Peers {
    /// Those that know the secret; without one, everybody.
    ///
    /// # Errors
    ///
    /// When the cryptographic library refuses what it is given, which no secret makes it do.
    pub fn new(secret: Option<&ClusterSecret>) -> Result<Self, PeerError> {
        Ok(Self { proof: secret.map(Proof::new).transpose()?.map(Arc::new) })
    }

    /// Whether peers prove that they are.
    pub fn are_proven(&self) -> bool {
        self.proof.is_some()
    }

    /// What connections to a listener for peers have to go through.
    pub fn gate(&self) -> Option<Arc<dyn Gate>> {
        let proof = self.proof.as_ref()?;
        Some(proof.gate.clone())
    }

    /// How to connect to the peer at `address`, which is `host:port`.
    ///
    /// # Errors
    ///
    /// When the address is none.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint, tonic::transport::Error> {
        let config = GrpcClientConfig::from(&ballista_config());
        match &self.proof {
            None => create_grpc_client_endpoint(format!("http://{address}"), Some(&config)),
            Some(proof) => create_grpc_client_endpoint(format!("https://{address}"), Some(&config))?
                .tls_config(proof.client.clone()),
        }
    }

    /// How Ballista's scheduler connects to executors, whose addresses it writes as `http://host:port`.
    pub fn connect_executors(&self) -> Option<EndpointOverrideFn> {
        self.proof.as_ref()?;
        let peers = self.clone();
        Some(Arc::new(move |endpoint: Endpoint| {
            let address = endpoint.uri().authority().map(ToString::to_string).unwrap_or_default();
            Ok(peers.endpoint(&address)?)
        }))
    }

    /// What clients of the data plane show; they are told by a flag of their own to use TLS.
    pub(crate) fn customize_fetches(&self) -> Option<Arc<BallistaConfigGrpcEndpoint>> {
        let client = self.proof.as_ref()?.client.clone();
        let customize = move |endpoint: Endpoint| Ok(endpoint.tls_config(client.clone())?);
        Some(Arc::new(BallistaConfigGrpcEndpoint::new(Arc::new(customize))))
    }
}

fn ballista_config() -> ballista_core::config::BallistaConfig {
    use ballista_core::extension::SessionConfigExt;
    cluster_session_config().ballista_config()
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("proven", &self.are_proven()).finish()
    }
}

impl Proof {
    fn new(secret: &ClusterSecret) -> Result<Self, PeerError> {
        let mut key = PKCS8_ED25519.to_vec();
        key.extend(secret.mac(KEY_CONTEXT, b""));
        let key = PrivatePkcs8KeyDer::from(key);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&pair)?;

        // Named here, because a process with two providers has no default one.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::from(key))?;
        server.alpn_protocols = vec![b"h2".to_vec()];

        let client = ClientTlsConfig::new()
            .domain_name(NAME)
            .ca_certificate(Certificate::from_pem(certificate.pem()))
            .identity(Identity::from_pem(certificate.pem(), pair.serialize_pem()));
        Ok(Self { gate: Arc::new(PeerGate::new(TlsAcceptor::from(Arc::new(server)))), client })
    }
}

/// What a failed connection or call to a peer comes from, if it is that one of the two has another secret or none.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(status) = error.downcast_ref::<tonic::Status>()
            && status.code() == tonic::Code::Unauthenticated
        {
            return Some(status.message().to_owned());
        }
        // An I/O error is asked for what it holds, because its source is what that one comes from.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = held.and_then(|held| held.downcast_ref()).or_else(|| error.downcast_ref());
        match tls {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
                return Some("it has another cluster secret: give both the same --cluster-secret-file".to_owned());
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                return Some(
                    "it has no cluster secret, and this process does: start both with --cluster-secret-file".to_owned(),
                );
            }
            _ => next = error.source(),
        }
    }
    None
}
