//! What a stranger, or a client that means harm, can do to others: nothing.
//!
//! Passwords, roles and paths are in `access`, tickets in `endpoints`, executors in `peers`, pages of other sites in
//! `page`, and messages that are none in `malformed`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::resident_bytes;

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may take to log in, as in PostgreSQL.
const LOGIN_TIME: Duration = Duration::from_secs(60);

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    type Test = fn(&Bed) -> Result<()>;
    let tests: [(&str, Test); 3] = [
        ("a_cancel_key_that_is_guessed_stops_nothing", a_cancel_key_that_is_guessed_stops_nothing),
        ("half_open_connections_keep_nobody_out", half_open_connections_keep_nobody_out),
        ("a_client_that_does_not_read_costs_no_memory", a_client_that_does_not_read_costs_no_memory),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("attacks::{name}"), test)).collect()
}

/// A session over a bare socket.
struct Raw {
    stream: TcpStream,
    process_id: [u8; 4],
    secret: Vec<u8>,
}

impl Raw {
    fn log_in(service: &Service) -> Result<Self> {
        let mut stream = connect(service)?;
        stream.write_all(&startup_packet())?;
        let (mut process_id, mut secret) = ([0; 4], Vec::new());
        loop {
            let (kind, body) = message(&mut stream)?;
            match kind {
                b'K' => {
                    process_id.copy_from_slice(body.get(..4).context("a key without a process")?);
                    secret = body[4..].to_vec();
                }
                b'Z' => return Ok(Self { stream, process_id, secret }),
                b'E' => anyhow::bail!("refused: {}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    fn send(&mut self, sql: &str) -> Result<()> {
        let length = u32::try_from(sql.len() + 5)?.to_be_bytes();
        Ok(self.stream.write_all(&[b"Q".as_slice(), &length, sql.as_bytes(), b"\0"].concat())?)
    }

    /// The kinds of the messages until the session is ready again, and the text of an error.
    fn answer(&mut self) -> Result<(Vec<u8>, String)> {
        let (mut kinds, mut error) = (Vec::new(), String::new());
        loop {
            let (kind, body) = message(&mut self.stream)?;
            kinds.push(kind);
            match kind {
                b'E' => error = String::from_utf8_lossy(&body).into_owned(),
                b'Z' => return Ok((kinds, error)),
                _ => {}
            }
        }
    }
}

fn connect(service: &Service) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", service.pg_port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn startup_packet() -> Vec<u8> {
    let body = [&196_608_u32.to_be_bytes(), b"user\0sluice\0database\0sluice\0\0".as_slice()].concat();
    [(body.len() as u32 + 4).to_be_bytes().as_slice(), &body].concat()
}

fn message(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}

/// Asks for a session's statement to be stopped, which is answered by the connection's end, whatever comes of it.
fn cancel(service: &Service, process_id: [u8; 4], secret: &[u8]) -> Result<()> {
    let mut stream = connect(service)?;
    let length = (12 + secret.len() as u32).to_be_bytes();
    stream.write_all(&[length.as_slice(), &80_877_102_u32.to_be_bytes(), &process_id, secret].concat())?;
    let mut told = Vec::new();
    // A connection may be reset that was closed before all of it was read.
    match stream.read_to_end(&mut told) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => return Err(error.into()),
        _ => ensure!(told.is_empty(), "a request to cancel is answered: {told:?}"),
    }
    Ok(())
}

fn a_cancel_key_that_is_guessed_stops_nothing(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Embedded, &[])?;
    let (mut victim, other) = (Raw::log_in(&service)?, Raw::log_in(&service)?);
    ensure!(victim.secret.len() >= 4 && victim.secret != other.secret, "keys are not random");
    victim.send("SELECT pg_sleep(2)")?;
    std::thread::sleep(Duration::from_millis(300));
    let mut near = victim.secret.clone();
    near[0] ^= 1;
    for guess in [near, vec![0; victim.secret.len()], other.secret.clone(), Vec::new(), vec![7; 300]] {
        cancel(&service, victim.process_id, &guess)?;
    }
    // The right key of another session.
    cancel(&service, other.process_id, &victim.secret)?;
    let (kinds, error) = victim.answer()?;
    ensure!(kinds.contains(&b'D') && error.is_empty(), "a guessed key stopped a statement: {error}");

    victim.send("SELECT pg_sleep(100)")?;
    std::thread::sleep(Duration::from_millis(300));
    cancel(&service, victim.process_id, &victim.secret)?;
    let (_, error) = victim.answer()?;
    ensure!(error.contains("57014"), "the right key stops nothing: {error:?}");
    bed.block_on(service.check_serving())
}

fn half_open_connections_keep_nobody_out(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Embedded, &["--max-connections", "10"])?;
    let opened = Instant::now();
    let packet = startup_packet();
    let mut open = Vec::new();
    // Nothing, a length, half a packet, a question about TLS without what follows the answer.
    for sent in [&packet[..0], &packet[..4], &packet[..packet.len() / 2], b"\0\0\0\x08\x04\xd2\x16\x2f"] {
        for _ in 0..25 {
            let mut stream = connect(&service)?;
            stream.write_all(sent)?;
            open.push(stream);
        }
    }
    for port in [service.flight_port, service.http_port] {
        for _ in 0..100 {
            open.push(TcpStream::connect(("127.0.0.1", port))?);
        }
    }
    let asked = Instant::now();
    bed.block_on(service.check_serving())?;
    ensure!(asked.elapsed() < PATIENCE, "others wait {:?}", asked.elapsed());
    // They have the time of a login, and are gone after it.
    for stream in &mut open[..100] {
        stream.set_read_timeout(Some((LOGIN_TIME + PATIENCE).saturating_sub(opened.elapsed())))?;
        let mut told = Vec::new();
        stream.read_to_end(&mut told).context("a connection that does not log in stays open")?;
        ensure!(told.is_empty() || told == b"N", "it is told {told:?}");
    }
    ensure!(opened.elapsed() > LOGIN_TIME / 2, "who is slow to log in has {:?}", opened.elapsed());
    bed.block_on(service.check_serving())
}

fn a_client_that_does_not_read_costs_no_memory(bed: &Bed) -> Result<()> {
    const MOST_GROWTH: u64 = 100 << 20;
    let service = bed.own_service(Layout::Embedded, &[])?;
    let endless = "SELECT n, repeat('x', 1000) FROM generate_series(1, 1000000000) AS t(n)";
    bed.block_on(service.check_serving())?;
    let before = resident_bytes(service.process_id())?;
    let mut slow = Raw::log_in(&service)?;
    slow.send(endless)?;
    std::thread::sleep(Duration::from_secs(5));
    let after = resident_bytes(service.process_id())?;
    ensure!(after < before + MOST_GROWTH, "the memory grew from {before} to {after} bytes");
    bed.block_on(service.check_serving())?;

    // Its statement can be stopped although nobody takes its rows, and ends when the client goes.
    let state = || bed.block_on(service.rows(&format!("SELECT state FROM system.queries WHERE sql = $${endless}$$")));
    let ended = |count: usize| -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let states = state()?;
            if states.len() == count && states.iter().all(|row| row[0].as_deref() == Some("failed")) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the statement goes on: {states:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    ensure!(state()? == [[Some("running".to_owned())]], "it does not run: {:?}", state()?);
    cancel(&service, slow.process_id, &slow.secret)?;
    ended(1)?;
    let mut gone = Raw::log_in(&service)?;
    gone.send(endless)?;
    std::thread::sleep(Duration::from_secs(1));
    drop(gone);
    ended(2)?;
    bed.block_on(service.check_serving())
}
