//! Whether a connection is encrypted, and whom it is sure to reach: libpq's
//! [`sslmode`](https://www.postgresql.org/docs/current/libpq-ssl.html).

use std::path::Path;
use std::sync::Arc;

use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::super::args::{SqlArgs, SslModeName};
use crate::tls::certificates;

/// How a connection is encrypted.
#[derive(Clone)]
pub struct ClientTls {
    /// Whether it is.
    pub mode: SslMode,
    /// Does the handshakes, those of cancel requests too.
    pub connect: MakeRustlsConnect,
}

impl ClientTls {
    /// What the flags say.
    ///
    /// Errors: with the file that cannot be used, or the flag that is missing.
    pub fn new(args: &SqlArgs) -> Result<Self, String> {
        // Who names an authority wants to be sure.
        let default = if args.sslrootcert.is_some() { SslModeName::VerifyFull } else { SslModeName::Prefer };
        let name = args.sslmode.unwrap_or(default);
        let mode = match name {
            SslModeName::Disable => SslMode::Disable,
            SslModeName::Prefer => SslMode::Prefer,
            SslModeName::Require | SslModeName::VerifyCa | SslModeName::VerifyFull => SslMode::Require,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let authorities = args.sslrootcert.as_deref().map(authorities).transpose()?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?;
        let builder = match (name, authorities) {
            (SslModeName::VerifyFull, Some(authorities)) => builder.with_root_certificates(authorities),
            (SslModeName::VerifyFull | SslModeName::VerifyCa, None) => {
                return Err("a certificate is checked with those of authorities: --sslrootcert FILE".to_owned());
            }
            (_, authorities) => {
                let verifier = WithoutName::new(authorities, provider)?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let config = match (&args.sslcert, &args.sslkey) {
            (Some(cert), Some(key)) => {
                let told = |path: &Path, error: String| format!("TLS cannot use {}: {error}", path.display());
                let chain = certificates(cert).map_err(|error| told(cert, error))?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| told(key, error.to_string()))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| told(cert, error.to_string()))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err("a client's certificate takes --sslcert and --sslkey".to_owned()),
        };
        Ok(Self { mode, connect: MakeRustlsConnect::new(config) })
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let told = |error: String| format!("TLS cannot use {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for authority in certificates(path).map_err(told)? {
        roots.add(authority).map_err(|error| told(error.to_string()))?;
    }
    Ok(roots)
}

/// Takes a certificate under any name: of the authorities if there are any, else of anybody.
#[derive(Debug)]
struct WithoutName {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl WithoutName {
    fn new(authorities: Option<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let verifier = |roots| WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let authorities =
            authorities.map(verifier).transpose().map_err(|error| format!("TLS cannot be used: {error}"))?;
        Ok(Self { authorities, provider })
    }
}

impl ServerCertVerifier for WithoutName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last, when all else is right.
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::super::args::{Cli, Command};
    use super::*;

    fn tls(flags: &[&str]) -> Result<ClientTls, String> {
        let flags = ["sluice", "sql"].iter().chain(flags);
        let Command::Sql(args) = Cli::try_parse_from(flags).expect("are flags").command else { panic!("is sql") };
        ClientTls::new(&args)
    }

    #[test]
    fn flags_that_need_others_say_so() {
        let told = |flags: &[&str]| tls(flags).err().expect("is refused");
        assert!(told(&["--sslmode", "verify-full"]).contains("--sslrootcert"));
        assert!(told(&["--sslrootcert", "/none.pem"]).contains("/none.pem"));
        assert!(told(&["--sslcert", "client.pem"]).contains("--sslkey"));
        assert_eq!(tls(&[]).expect("is right").mode, SslMode::Prefer);
        assert_eq!(tls(&["--sslmode", "require"]).expect("is right").mode, SslMode::Require);
    }
}
