//! TLS to the nodes.
//!
//! The files are read anew for every connection to a cluster, in the process that connects.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::error::{CassandraError, UNUSABLE_FILE};
use super::options::CassandraOptions;

/// The driver's TLS configuration; `None` if the options ask for none.
///
/// Errors are of class [`CassandraError::Connect`] and name the file that cannot be used.
pub fn client_config(options: &CassandraOptions) -> Result<Option<Arc<ClientConfig>>, CassandraError> {
    if !options.tls {
        return Ok(None);
    }
    let unusable = |what: &str, file: &str, reason: String| CassandraError::Connect {
        contact_points: options.contact_points_text(),
        reason: format!("{what} {file} {UNUSABLE_FILE}: {reason}"),
    };
    // Named here, because a process with two providers has no default one.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let ca_file = options.tls_ca_file.as_deref().unwrap_or_default();
    let roots = authorities(ca_file).map_err(|reason| unusable("tls_ca_file", ca_file, reason))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| unusable("tls_ca_file", ca_file, error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("tls_ca_file", ca_file, error.to_string()))?;
    let builder = if options.tls_verify_host {
        builder.with_webpki_verifier(verifier)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHost { verifier, provider }))
    };
    let config = match (&options.tls_cert_file, &options.tls_key_file) {
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file).map_err(|reason| unusable("tls_cert_file", cert_file, reason))?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| unusable("tls_key_file", key_file, error.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("tls_key_file", key_file, error.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Some(Arc::new(config)))
}

fn authorities(file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    if all.is_empty() { Err("it holds no certificate in PEM".to_owned()) } else { Ok(all) }
}

/// Trusts a certificate that a known authority vouches for, whatever address it is for.
#[derive(Debug)]
struct AnyHost {
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last: what is told of it is told of a certificate that is otherwise good.
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What is told of a node that ended a connection without saying why.
const ENDED: &str = "the node ended the connection and did not say why";

/// In TLS 1.3 a node refuses a client without a certificate when the client takes the connection for made: what it says
/// then may be lost with the connection.
pub(super) fn explained(error: CassandraError, options: &CassandraOptions) -> CassandraError {
    match error {
        CassandraError::Connect { contact_points, reason }
            if options.tls && options.tls_cert_file.is_none() && is_ended(&reason) =>
        {
            CassandraError::Connect { contact_points, reason: format!("{reason}; {ENDED}") }
        }
        other => other,
    }
}

fn is_ended(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["connection reset", "broken pipe", "eof", "connection aborted"].iter().any(|words| reason.contains(words))
}

/// What to do about a connection that failed for reasons of TLS, by the words of the failure.
pub(super) fn hint(reason: &str) -> Option<&'static str> {
    let reason = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&["unknownissuer", "badsignature"]) {
        Some("the node's certificate is not signed by an authority in tls_ca_file")
    } else if says(&["notvalidforname", "not valid for name"]) {
        Some("the node's certificate is not for its address: have it made so, or set tls_verify_host = 'off'")
    } else if says(&["certificaterequired", "certificateunknown", "badcertificate", "received fatal alert", ENDED]) {
        Some("the node wants a certificate that it trusts: set tls_cert_file and tls_key_file")
    } else if says(&["invalidcontenttype", "corrupt message"]) {
        Some("does the node take TLS at this port? tls = 'off' connects without")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("ca.pem");
        let options = CassandraOptions {
            tls: true,
            tls_ca_file: Some(file.display().to_string()),
            ..CassandraOptions::default()
        };
        let told = || client_config(&options).expect_err("cannot be used").to_string();
        assert!(told().contains("ca.pem"), "{}", told());
        std::fs::write(&file, "no certificate").expect("is written");
        assert!(told().contains("no certificate in PEM"), "{}", told());
    }

    #[test]
    fn an_end_without_a_word_hints_at_the_certificate() {
        let told = |certificate: Option<&str>, reason: &str| {
            let options = CassandraOptions {
                tls: true,
                tls_cert_file: certificate.map(str::to_owned),
                ..CassandraOptions::default()
            };
            let error = CassandraError::Connect { contact_points: "node".to_owned(), reason: reason.to_owned() };
            explained(error, &options).hint().unwrap_or_default()
        };
        let reset = "Failed to write data: Connection reset by peer (os error 104)";
        assert!(told(None, reset).contains("tls_cert_file"));
        assert!(!told(Some("client.pem"), reset).contains("tls_cert_file"));
        assert!(!told(None, "Connection refused (os error 111)").contains("tls_cert_file"));
    }

    #[test]
    fn without_tls_nothing_is_read() {
        assert!(client_config(&CassandraOptions::default()).expect("needs no file").is_none());
    }
}
