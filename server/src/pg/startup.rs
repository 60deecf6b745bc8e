//! From the first byte to `ReadyForQuery`, under limits fit for strangers.
//!
//! Every failure here is FATAL and ends the connection: nothing of a half-started connection is ever executed.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::backend::{put, put_parameter, put_ready, put_refusal};
use super::cancel::{CancelRegistry, KeyLength, Registration};
use super::listener::too_many_connections;
use super::wire::{Failure, Wire};
use super::{PgOptions, login};
use crate::engine::{Engine, EngineError, Protocol, Session, SessionOptions, SqlState};
use crate::tls::{Identity, Tls};

/// Bytes of a packet before the start-up is complete, as in PostgreSQL.
const STARTUP_MAX_BYTES: usize = 10_000;

const SSL_REQUEST: i32 = 80_877_103;
const GSS_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// The protocol's newest minor version that we speak.
const NEWEST_MINOR: u16 = 2;

/// What clients that show the server's version show besides PostgreSQL's.
const PRODUCT: &str = concat!(" (Sluice ", env!("CARGO_PKG_VERSION"), ")");

/// What every client is told at the start: a setting, and what it is if the session does not know it.
const REPORTED: [(&str, &str); 13] = [
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "on"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.0"),
    ("session_authorization", ""),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

/// What all connections share.
pub struct Shared {
    pub engine: Arc<Engine>,
    pub options: PgOptions,
    pub tls: Option<Tls>,
    pub sessions: Arc<Semaphore>,
    pub cancels: Arc<CancelRegistry>,
    pub shutdown: CancellationToken,
}

/// A connection that may send statements.
pub struct Started {
    pub session: Arc<Session>,
    _registration: Registration,
    _permit: OwnedSemaphorePermit,
}

/// The error that ends connections at shutdown.
pub fn shutting_down() -> EngineError {
    EngineError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

/// Starts a connection. `None` if there is nothing to go on with: a cancel request, or a client that left.
pub async fn start(wire: &mut Wire, address: SocketAddr, shared: &Shared) -> Result<Option<Started>, Failure> {
    // One certificate from the handshake to the proof that may be bound to it, whatever is read anew meanwhile.
    let identity = shared.tls.as_ref().map(Tls::current);
    let Some(request) = negotiate(wire, shared, identity.as_deref()).await? else { return Ok(None) };
    if identity.is_some() && !wire.is_encrypted() {
        let error = EngineError::new(SqlState("28000"), "this server takes encrypted connections only");
        return Err(Failure::Fatal(error.with_hint("connect with sslmode=require, or better verify-full")));
    }
    let permit =
        Arc::clone(&shared.sessions).try_acquire_owned().map_err(|_| Failure::Fatal(too_many_connections()))?;
    let key_length = request.greet(&mut wire.out);
    login::check(wire, &request.user, address, shared, identity.as_deref()).await?;
    let session = open_session(&request, address, shared).map_err(Failure::Fatal)?;
    let out = &mut wire.out;
    put(out, &Authentication::Ok);
    // What opening the session changed is told below with everything else.
    drop(session.take_reported_settings());
    for (name, fallback) in REPORTED {
        let fallback = if name == "session_authorization" { session.user() } else { fallback };
        let mut value = session.setting(name).unwrap_or_else(|| fallback.to_owned());
        if name == "server_version" && !value.contains(' ') {
            value.push_str(PRODUCT);
        }
        put_parameter(out, name, &value);
    }
    let registration = shared.cancels.register(&session, key_length);
    put(out, &BackendKeyData::new(registration.number, SecretKey::Bytes(registration.secret.clone())));
    put_ready(out, session.transaction_status());
    wire.flush().await?;
    Ok(Some(Started { session, _registration: registration, _permit: permit }))
}

/// Answers encryption and cancel requests until the start-up packet comes.
async fn negotiate(wire: &mut Wire, shared: &Shared, identity: Option<&Identity>) -> Result<Option<Request>, Failure> {
    let (mut asked_ssl, mut asked_gss) = (false, false);
    loop {
        let Some(mut packet) = wire.read_startup(STARTUP_MAX_BYTES).await? else { return Ok(None) };
        let code = packet.get_i32();
        let asked = match code {
            SSL_REQUEST => &mut asked_ssl,
            GSS_REQUEST => &mut asked_gss,
            CANCEL_REQUEST => {
                if packet.len() >= 8 {
                    let number = packet.get_i32();
                    shared.cancels.cancel(number, &packet);
                }
                return Ok(None);
            }
            _ => return Request::parse(code, packet).map(Some).map_err(Failure::Fatal),
        };
        // What came in clear behind the request could pass for something said under encryption.
        if *asked || wire.has_input() || !packet.is_empty() {
            return Err(Failure::Gone);
        }
        *asked = true;
        match identity {
            Some(identity) if code == SSL_REQUEST => {
                wire.out.put_u8(b'S');
                wire.flush().await?;
                // Clients that begin with TLS at once say a name in ALPN; those that ask before say none.
                wire.encrypt(identity.acceptor(None)).await?;
            }
            _ => {
                put_refusal(&mut wire.out);
                wire.flush().await?;
            }
        }
    }
}

fn open_session(request: &Request, address: SocketAddr, shared: &Shared) -> Result<Arc<Session>, EngineError> {
    shared.engine.open_session(SessionOptions {
        user: request.user.clone(),
        database: request.database.clone(),
        application_name: request.application_name.clone(),
        client_address: Some(address.to_string()),
        protocol: Protocol::Postgres,
        startup_settings: request.settings.clone(),
    })
}

/// A start-up packet.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    minor: u16,
    user: String,
    database: Option<String>,
    application_name: Option<String>,
    settings: Vec<(String, String)>,
    unknown_protocol_options: Vec<String>,
}

impl Request {
    pub(super) fn parse(version: i32, packet: Bytes) -> Result<Self, EngineError> {
        let (major, minor) = ((version >> 16) as u16, version as u16);
        if major != 3 {
            return Err(EngineError::new(
                SqlState::NOT_SUPPORTED,
                format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}"),
            ));
        }
        let mut request = Self {
            minor,
            user: String::new(),
            database: None,
            application_name: None,
            settings: Vec::new(),
            unknown_protocol_options: Vec::new(),
        };
        for (name, value) in pairs(&packet)? {
            request.take(name, value)?;
        }
        if request.user.is_empty() {
            return Err(EngineError::new(SqlState("28000"), "no user name specified in startup packet"));
        }
        Ok(request)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), EngineError> {
        match name {
            "user" => value.clone_into(&mut self.user),
            "database" => self.database = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "application_name" => self.application_name = Some(value.to_owned()),
            "replication" if !matches!(value, "false" | "off" | "no" | "0") => {
                return Err(EngineError::not_supported("a replication connection"));
            }
            "replication" => {}
            "client_encoding" => check_encoding(value)?,
            "options" => self.settings.extend(command_line_settings(value)),
            name if name.starts_with("_pq_.") => self.unknown_protocol_options.push(name.to_owned()),
            name => self.settings.push((name.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// Tells the client what of its wishes we do not speak; the secret's length follows from what is left.
    pub(super) fn greet(&self, out: &mut BytesMut) -> KeyLength {
        let agreed = match self.minor {
            0 | 1 => 0,
            _ => NEWEST_MINOR,
        };
        if self.minor != agreed || !self.unknown_protocol_options.is_empty() {
            let version = (3 << 16) | i32::from(agreed);
            put(out, &NegotiateProtocolVersion::new(version, self.unknown_protocol_options.clone()));
        }
        if agreed >= 2 { KeyLength::Long } else { KeyLength::Short }
    }
}

/// Names and values, each ended by a zero byte, the last followed by one more.
fn pairs(packet: &Bytes) -> Result<Vec<(&str, &str)>, EngineError> {
    let malformed = || EngineError::new(SqlState::PROTOCOL_VIOLATION, "invalid startup packet layout");
    let Some(body) = packet.strip_suffix(&[0]) else { return Err(malformed()) };
    let text = std::str::from_utf8(body)
        .map_err(|_| EngineError::new(SqlState::INVALID_ENCODING, "the startup packet is not UTF-8"))?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let strings: Vec<&str> = text.strip_suffix('\0').ok_or_else(malformed)?.split('\0').collect();
    if !strings.len().is_multiple_of(2) {
        return Err(malformed());
    }
    Ok(strings.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect())
}

fn check_encoding(name: &str) -> Result<(), EngineError> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
    match plain.as_str() {
        "UTF8" | "UNICODE" | "SQLASCII" => Ok(()),
        _ => Err(EngineError::new(
            SqlState::INVALID_PARAMETER,
            format!("invalid value for parameter \"client_encoding\": \"{name}\""),
        )
        .with_hint("use UTF8")),
    }
}

/// Settings out of `-c name=value` and `--name=value`, where a backslash keeps a blank.
fn command_line_settings(options: &str) -> Vec<(String, String)> {
    let mut words: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => current.extend(characters.next()),
            c if c.is_whitespace() => words.extend(Some(std::mem::take(&mut current)).filter(|word| !word.is_empty())),
            c => current.push(c),
        }
    }
    words.extend(Some(current).filter(|word| !word.is_empty()));
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(long), _) => Some(long.to_owned()),
            (None, Some("")) => words.next(),
            (None, Some(short)) => Some(short.to_owned()),
            (None, None) => None,
        };
        if let Some((name, value)) = assignment.as_deref().and_then(|text| text.split_once('=')) {
            settings.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION_3_0: i32 = 3 << 16;

    #[test]
    fn a_startup_packet_is_user_database_and_settings() -> Result<(), EngineError> {
        let packet = Bytes::from_static(
            b"user\0ann\0database\0shop\0options\0-c search_path=a\\ b --work-mem=1\0extra_float_digits\x002\0\0",
        );
        let request = Request::parse(VERSION_3_0, packet)?;
        assert_eq!((request.user.as_str(), request.database.as_deref()), ("ann", Some("shop")));
        let settings: Vec<_> = request.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(settings, [("search_path", "a b"), ("work_mem", "1"), ("extra_float_digits", "2")]);
        Ok(())
    }

    #[test]
    fn strange_packets_are_refused() {
        for packet in [&b"user\0"[..], b"user\0ann\0", b"\xff\0\xff\0\0", b"database\0x\0\0", b"", b"\0"] {
            assert!(Request::parse(VERSION_3_0, Bytes::from_static(packet)).is_err(), "{packet:?}");
        }
        assert!(Request::parse(2 << 16, Bytes::from_static(b"user\0ann\0\0")).is_err());
    }

    #[test]
    fn a_newer_client_is_told_what_we_speak() -> Result<(), EngineError> {
        let packet = Bytes::from_static(b"user\0ann\0_pq_.command_tag\0on\0\0");
        let request = Request::parse(VERSION_3_0 | 9_999, packet)?;
        let mut out = BytesMut::new();
        assert_eq!(request.greet(&mut out), KeyLength::Long);
        assert_eq!(&out[..], b"v\0\0\0\x1d\0\x03\0\x02\0\0\0\x01_pq_.command_tag\0");
        Ok(())
    }
}
