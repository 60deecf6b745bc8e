//! Who a client is: SCRAM-SHA-256 ([RFC 7677](https://www.rfc-editor.org/rfc/rfc7677)), over TLS bound to its certificate.
//!
//! The password never comes here, and nothing that is kept would do in its place. A name without a role is asked and
//! refused like one with a wrong password.

use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use pgwire::api::auth::sasl::scram::ScramServerAuth;
use pgwire::messages::startup::Authentication;

use super::backend::put;
use super::startup::Shared;
use super::wire::{Body, Failure, Frame, Wire};
use crate::engine::{EngineError, SqlState};
use crate::tls::Identity;

/// Bytes of a message of the exchange.
const MESSAGE_MAX_BYTES: usize = 4_096;
const SCRAM: &str = "SCRAM-SHA-256";
/// The same bound to the server's certificate.
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Has the client prove that it is `user`, where clients are asked to.
///
/// # Errors
///
/// All of them end the connection: 28P01 for a wrong password, 28000 for too many of them, 08P01 for what is no exchange.
pub async fn check(
    wire: &mut Wire,
    user: &str,
    address: SocketAddr,
    shared: &Shared,
    identity: Option<&Identity>,
) -> Result<(), Failure> {
    let roles = shared.engine.roles();
    let Some(verifier) = roles.verifier(user) else { return Ok(()) };
    let place = address.ip().to_string();
    roles.check_failures(user, &place).map_err(Failure::Fatal)?;

    let mut scram = ScramServerAuth::new();
    let mut mechanisms = vec![SCRAM.to_owned()];
    if let Some(identity) = identity
        && scram.configure_certificate(&identity.certificate_pem).is_ok()
    {
        mechanisms.insert(0, SCRAM_PLUS.to_owned());
    }
    put(&mut wire.out, &Authentication::SASL(mechanisms.clone()));
    wire.flush().await?;

    let (mechanism, first) = initial_response(next_message(wire).await?)?;
    if !mechanisms.contains(&mechanism) {
        return Err(violation(&format!("the mechanism is none of {}", mechanisms.join(", "))));
    }
    let malformed = |_| violation("malformed SCRAM message");
    let (server_first, exchange) =
        scram.on_client_first_message_with_secret(&first, verifier.secret()).map_err(malformed)?;
    put(&mut wire.out, &Authentication::SASLContinue(server_first.into()));
    wire.flush().await?;

    let last = next_message(wire).await?;
    match exchange.on_client_final_message(&last) {
        Ok(server_final) => {
            roles.login_succeeded(user, &place);
            put(&mut wire.out, &Authentication::SASLFinal(server_final.into()));
            Ok(())
        }
        // A proof that does not fit the exchange is a guess like any other.
        Err(_) => Err(Failure::Fatal(roles.login_failed(user, &place))),
    }
}

async fn next_message(wire: &mut Wire) -> Result<Bytes, Failure> {
    match wire.read_frame(MESSAGE_MAX_BYTES).await? {
        Frame { kind: b'p', body: Body::Whole(body) } => Ok(body),
        Frame { kind: b'p', .. } => Err(violation("the message of the login is too long")),
        _ => Err(violation("expected a message of the login")),
    }
}

/// `SASLInitialResponse`: the mechanism's name, and the client's first message.
fn initial_response(mut body: Bytes) -> Result<(String, Bytes), Failure> {
    let wrong = || violation("malformed SASLInitialResponse");
    let end = body.iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
    let mechanism = String::from_utf8(body.split_to(end).to_vec()).map_err(|_| wrong())?;
    body.advance(1);
    if body.len() < 4 || body.get_i32() != i32::try_from(body.len()).unwrap_or(-1) {
        return Err(wrong());
    }
    Ok((mechanism, body))
}

fn violation(message: &str) -> Failure {
    Failure::Fatal(EngineError::new(SqlState::PROTOCOL_VIOLATION, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initial_response_is_a_mechanism_and_a_message() {
        let body = Bytes::from_static(b"SCRAM-SHA-256\0\0\0\0\x05n,,n=");
        let Ok((mechanism, message)) = initial_response(body) else { panic!("is one") };
        assert_eq!((mechanism.as_str(), &message[..]), (SCRAM, &b"n,,n="[..]));
        for wrong in
            [&b""[..], b"SCRAM", b"SCRAM\0", b"SCRAM\0\0\0\0\x09n", b"SCRAM\0\xff\xff\xff\xff", b"\xff\0\0\0\0\0"]
        {
            assert!(initial_response(Bytes::from_static(wrong)).is_err(), "{wrong:?}");
        }
    }
}
