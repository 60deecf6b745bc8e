//! Bytes that no client would send: nothing panics, nothing leaks, and others are served.
//!
//! Messages of the PostgreSQL protocol are made from whole ones by changing, cutting and adding bytes, with lengths that
//! lie, most of which end their connection soon. Others have the right length and the wrong content, so that a connection
//! lives through hundreds of them. `SLUICE_MALFORMED_MESSAGES` says how many are sent (a million).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::status_bytes;

/// Messages of one connection whose lengths lie, most of which do not come so far.
const MESSAGES_A_CONNECTION: usize = 40;
/// Messages of one connection whose lengths are right.
const FRAMED_A_CONNECTION: usize = 2_000;
const THREADS: usize = 4;
/// What the process may keep: caches, and memory that the allocator holds on to.
const MOST_GROWTH_KIB: u64 = 96 << 10;
/// Files and sockets that a service may open for itself meanwhile.
const FILES_OF_ITS_OWN: usize = 8;
/// A connection that does nothing for so long is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![trial(bed, "client::malformed_messages_harm_nobody".to_owned(), harm_nobody)]
}

fn harm_nobody(bed: &Bed) -> Result<()> {
    let wanted =
        std::env::var("SLUICE_MALFORMED_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let service = bed.own_service(Layout::Embedded, &[])?;
    // What is allocated once is allocated before memory is looked at.
    send(&service, 1, 2_000)?;
    send_framed(&service, 1)?;
    let before = status_bytes(service.process_id(), "VmRSS")? >> 10;
    let files_before = open_files(&service)?;
    let sent = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (service, sent) = (&service, &sent);
                scope.spawn(move || -> Result<()> {
                    let mut round = 0;
                    while sent.load(Ordering::Relaxed) < wanted {
                        round += 1;
                        let seed = (thread as u64) << 32 | round;
                        let count = send(service, seed, MESSAGES_A_CONNECTION)? + send_framed(service, seed)?;
                        sent.fetch_add(count, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        // Meanwhile others are served.
        while senders.iter().any(|sender| !sender.is_finished()) {
            bed.block_on(service.check_serving()).context("while messages are malformed")?;
            std::thread::sleep(Duration::from_millis(50));
        }
        senders.into_iter().try_for_each(|sender| sender.join().unwrap_or_else(|_| anyhow::bail!("a sender panicked")))
    })?;
    bed.block_on(service.check_serving())?;
    let log = service.all_output();
    ensure!(!log.contains("panicked"), "something panicked:\n{}", service.log_end());
    let after = status_bytes(service.process_id(), "VmRSS")? >> 10;
    println!(
        "{} malformed messages in {:.0?}: {before} KiB of memory before, {after} KiB after",
        sent.load(Ordering::Relaxed),
        started.elapsed()
    );
    ensure!(after <= before + MOST_GROWTH_KIB, "memory grew from {before} KiB to {after} KiB");
    let started = Instant::now();
    while open_files(&service)? > files_before + FILES_OF_ITS_OWN {
        ensure!(started.elapsed() < PATIENCE, "{} files are open, of {files_before}", open_files(&service)?);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Files and sockets of a service.
fn open_files(service: &Service) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", service.process_id()))?.count())
}

/// Sends up to `most` messages over one or more connections; how many were sent.
fn send(service: &Service, seed: u64, most: usize) -> Result<usize> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut stream = TcpStream::connect(("127.0.0.1", service.pg_port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let startup = startup_packet();
    if random.below(4) == 0 {
        let malformed = mutated(&startup, &mut random);
        let _ = stream.write_all(&malformed);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        return drain(&mut stream).map(|()| 1);
    }
    stream.write_all(&startup)?;
    let templates = messages();
    let mut bytes = Vec::new();
    for _ in 0..most {
        let template = &templates[random.below(templates.len())];
        // Some are whole, so that the others are met in the middle of something.
        bytes.extend(if random.below(3) == 0 { template.clone() } else { mutated(template, &mut random) });
    }
    // The service may hang up in the middle.
    let _ = stream.write_all(&bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    drain(&mut stream).map(|()| most)
}

/// Sends messages of the right length and the wrong content, each of which is answered; how many were sent.
fn send_framed(service: &Service, seed: u64) -> Result<usize> {
    let mut random = Random(seed.wrapping_mul(0xd134_2543_de82_ef95) | 1);
    let mut stream = TcpStream::connect(("127.0.0.1", service.pg_port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut bytes = startup_packet();
    for _ in 0..FRAMED_A_CONNECTION {
        let text: Vec<u8> = (0..random.below(24)).map(|_| (random.next() as u8).max(1)).collect();
        let body = |before: &[u8], after: &[u8]| [before, &text, after].concat();
        bytes.extend(match random.below(8) {
            0 => message(b'P', &body(b"", b"\0;\0\0\0")),
            1 => message(b'B', &body(b"\0", b"\0\0\0\0\0\0\0")),
            2 => message(b'B', &body(b"", b"\0nothing\0\0\0\0\0\0\0")),
            3 => message(b'D', &body(b"S", b"\0")),
            4 => message(b'D', &body(b"P", b"\0")),
            5 => message(b'E', &body(b"", b"\0\x80\0\0\0")),
            6 => message(b'C', &body(b"P", b"\0")),
            _ => message(b'd', &text),
        });
        bytes.extend(message(b'S', b""));
    }
    bytes.extend(message(b'X', b""));
    // The answers are read meanwhile, or neither side would come to its end.
    let mut writer = stream.try_clone()?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(&bytes);
        });
        drain(&mut stream)
    })?;
    Ok(FRAMED_A_CONNECTION)
}

/// Reads to the end; only a service that says nothing more and holds on is an error.
fn drain(stream: &mut TcpStream) -> Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                anyhow::bail!("a connection was neither answered nor ended within {PATIENCE:?}");
            }
            Err(_) => return Ok(()),
        }
    }
}

fn startup_packet() -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    body.extend(b"user\0sluice\0database\0sluice\0\0");
    let mut packet = ((body.len() + 4) as u32).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(((body.len() + 4) as u32).to_be_bytes());
    message.extend(body);
    message
}

fn messages() -> Vec<Vec<u8>> {
    vec![
        message(b'Q', b"SELECT 1, 'two', NULL\0"),
        message(b'Q', b"SELECT * FROM (VALUES (1), (2)) AS t(n); SELECT 3\0"),
        message(b'Q', b"BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH ALL FROM c; COMMIT\0"),
        message(b'Q', b"COPY (SELECT 1, 'a') TO STDOUT (FORMAT binary)\0"),
        message(b'P', b"s\0SELECT $1::int + $2::int\0\0\x02\0\0\0\x17\0\0\0\x17"),
        message(b'B', b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x04\0\0\0\x02\0\x01\0\x01"),
        message(b'P', b"\0SELECT $1::text[], $2::numeric\0\0\0"),
        message(b'B', b"\0\0\0\0\0\x02\0\0\0\x05{a,b}\0\0\0\x031.5\0\0"),
        message(b'D', b"Ss\0"),
        message(b'D', b"P\0"),
        message(b'E', b"p\0\0\0\0\x01"),
        message(b'E', b"\0\x7f\xff\xff\xff"),
        message(b'C', b"Ss\0"),
        message(b'H', b""),
        message(b'S', b""),
        message(b'd', b"1\t2\n"),
        message(b'c', b""),
        message(b'f', b"no\0"),
        message(b'F', b"\0\0\0\x01\0\0\0\0\0\0"),
        message(b'p', b"password\0"),
    ]
}

/// A message with one thing wrong, at least.
fn mutated(message: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..=random.below(3) {
        let place = random.below(bytes.len().max(1));
        match random.below(6) {
            0 => bytes.truncate(place),
            1 => bytes.insert(place.min(bytes.len()), random.next() as u8),
            2 => {
                let noise = random.below(64);
                bytes.extend((0..noise).map(|_| random.next() as u8));
            }
            // A length that lies, also one that would be a gigabyte.
            3 if bytes.len() >= 5 => {
                let lengths = [0, 1, 3, 4, 5, 0x7fff_ffff, 0x3fff_ffff, 0xffff_ffff, random.next() as u32 & 0xfff];
                bytes[1..5].copy_from_slice(&lengths[random.below(lengths.len())].to_be_bytes());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

/// Xorshift: the same messages in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}
