//! Who is a peer: coordinator and executors that know the cluster's secret.
//!
//! From the secret each of them computes the same key of Ed25519 and a certificate for it. Between them runs TLS 1.3 in
//! which both sides show this certificate and take no other. So the secret stays where it is, what was recorded can
//! neither be read nor sent again, and no clock needs to be right. A call from anybody else is answered with
//! `UNAUTHENTICATED` before a byte of its message is read.
//!
//! Without a secret, which only loopback or `--insecure` allows, everybody is a peer.
//!
//! - [`secret`]: the secret, where it comes from, and what else it vouches for
//! - [`proof`]: the certificate that is computed from it, and connections that use it
//! - [`gate`]: what a listener does with those who have none

pub mod gate;
pub mod proof;
pub mod secret;

pub use proof::{PeerError, Peers, refusal};
pub use secret::{ClusterSecret, SecretError};
