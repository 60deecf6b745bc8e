//! A client's socket with its two buffers.
//!
//! Replies gather in `out` and leave in one write when a query cycle ends or when enough has
//! gathered. While the engine works, the socket is still read, a little way ahead, so that a
//! client's going away is seen at once.

use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::engine::{EngineError, SqlState};
use crate::tls::{Stream, encrypt};

/// Gathered output above this leaves before more is encoded.
pub const FLUSH_BYTES: usize = 64 << 10;

/// Bytes read from a client whose statement still runs: enough for a pipeline of small messages.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// Room made in the input buffer for one read.
const READ_BYTES: usize = 8 << 10;

/// A buffer that a wide row has grown beyond this is given back.
const KEEP_BYTES: usize = 1 << 20;

/// The longest message of the protocol; a longer length means that the two sides are out of step.
const PROTOCOL_MAX_BYTES: usize = (1 << 30) - 1;

/// Why a step of a connection did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// The statement failed; the connection goes on.
    Statement(EngineError),
    /// The connection ends, after telling why.
    Fatal(EngineError),
    /// The client is gone.
    Gone,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Statement(error)
    }
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// One message of a started connection.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub body: Body,
}

/// A message's body.
#[derive(Debug)]
pub enum Body {
    Whole(Bytes),
    /// It was longer than allowed, and was read and thrown away.
    TooLong {
        bytes: usize,
    },
}

/// A client's socket.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    input: BytesMut,
    /// Replies that have not left yet.
    pub out: BytesMut,
    shutdown: CancellationToken,
    drain_write_timeout: Duration,
}

impl Wire {
    /// Takes over an accepted socket.
    pub fn new(stream: Stream, shutdown: CancellationToken, drain_write_timeout: Duration) -> Self {
        Self { stream, input: BytesMut::new(), out: BytesMut::new(), shutdown, drain_write_timeout }
    }

    /// Whether what is sent and received is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Does the handshake of TLS, which the client begins now. Nothing of the client's may be here already.
    pub async fn encrypt(&mut self, tls: TlsAcceptor) -> Result<(), Failure> {
        match std::mem::replace(&mut self.stream, Stream::Closed) {
            Stream::Plain(stream) => {
                self.stream = encrypt(tls, stream).await?;
                Ok(())
            }
            Stream::Tls(_) | Stream::Closed => Err(Failure::Gone),
        }
    }

    /// Whether bytes of the next message are here already.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Reads a start-up packet: a length that includes itself, then that many bytes. `None` at a clean end.
    pub async fn read_startup(&mut self, max_bytes: usize) -> Result<Option<Bytes>, Failure> {
        if !self.fill_to(4).await? {
            return Ok(None);
        }
        let length = self.peek_length(0);
        let Some(length) = length.filter(|length| (8..=max_bytes).contains(length)) else {
            return Err(Failure::Fatal(EngineError::new(
                SqlState::PROTOCOL_VIOLATION,
                "invalid length of startup packet",
            )));
        };
        if !self.fill_to(length).await? {
            return Ok(None);
        }
        let mut packet = self.input.split_to(length).freeze();
        packet.advance(4);
        Ok(Some(packet))
    }

    /// Reads one message whose body has at most `max_bytes`. Cancel-safe until a too long one is met.
    pub async fn read_frame(&mut self, max_bytes: usize) -> Result<Frame, Failure> {
        if !self.fill_to(5).await? {
            return Err(Failure::Gone);
        }
        let kind = self.input.first().copied().unwrap_or_default();
        let length = self.peek_length(1).filter(|length| (4..=PROTOCOL_MAX_BYTES).contains(length));
        let Some(length) = length else {
            return Err(Failure::Fatal(EngineError::new(SqlState::PROTOCOL_VIOLATION, "invalid message length")));
        };
        let body_bytes = length - 4;
        if body_bytes > max_bytes {
            self.input.advance(5);
            self.discard(body_bytes).await?;
            return Ok(Frame { kind, body: Body::TooLong { bytes: body_bytes } });
        }
        if !self.fill_to(1 + length).await? {
            return Err(Failure::Gone);
        }
        self.input.advance(5);
        Ok(Frame { kind, body: Body::Whole(self.input.split_to(body_bytes).freeze()) })
    }

    fn peek_length(&self, offset: usize) -> Option<usize> {
        let bytes = self.input.get(offset..offset + 4)?;
        usize::try_from(i32::from_be_bytes(bytes.try_into().ok()?)).ok()
    }

    /// Reads until `count` bytes are here; false if the client closed before.
    async fn fill_to(&mut self, count: usize) -> Result<bool, Failure> {
        while self.input.len() < count {
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn discard(&mut self, mut count: usize) -> Result<(), Failure> {
        loop {
            let here = self.input.len().min(count);
            self.input.advance(here);
            count -= here;
            if count == 0 {
                return Ok(());
            }
            if !self.fill_to(1).await? {
                return Err(Failure::Gone);
            }
        }
    }

    /// Sends what has gathered.
    ///
    /// At shutdown a client that does not read has [`super::PgOptions::drain_write_timeout`] left.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        let (stream, out, input) = (&mut self.stream, &mut self.out, &mut self.input);
        let write = std::future::poll_fn(|context| match poll_write_all(stream, out, context) {
            Poll::Pending if poll_closed(stream, input, context).is_ready() => Poll::Ready(Err(Failure::Gone)),
            written => written.map_err(Failure::from),
        });
        let drained = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(self.drain_write_timeout).await;
        };
        tokio::select! {
            biased;
            written = write => written?,
            () = drained => return Err(Failure::Gone),
        }
        if self.out.capacity() > KEEP_BYTES {
            self.out = BytesMut::new();
        } else {
            self.out.clear();
        }
        Ok(())
    }

    /// Runs `work` for as long as the client is there. A panic in it is an error of the statement.
    pub async fn while_connected<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let (stream, input) = (&mut self.stream, &mut self.input);
        tokio::select! {
            biased;
            done = AssertUnwindSafe(work).catch_unwind() => done.map_err(|_| Failure::Statement(
                EngineError::new(SqlState::INTERNAL, "internal error: the statement's execution panicked")
                    .with_hint("this is a bug in Sluice: please report the statement"),
            )),
            () = std::future::poll_fn(|context| poll_closed(stream, input, context)) => Err(Failure::Gone),
        }
    }

    /// Sends what has gathered and says goodbye to the client.
    pub async fn close(&mut self) {
        if self.flush().await.is_ok() {
            let _ = self.stream.shutdown().await;
        }
    }
}

/// Sends all of `out`.
fn poll_write_all(stream: &mut Stream, out: &mut BytesMut, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !out.is_empty() {
        let sent = ready!(Pin::new(&mut *stream).poll_write(context, out))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        out.advance(sent);
    }
    Pin::new(stream).poll_flush(context)
}

/// Reads ahead; ready when the client has closed its side.
fn poll_closed(stream: &mut Stream, input: &mut BytesMut, context: &mut Context<'_>) -> Poll<()> {
    while input.len() < READ_AHEAD_BYTES {
        input.reserve(READ_BYTES);
        match ready!(tokio_util::io::poll_read_buf(Pin::new(&mut *stream), context, input)) {
            Ok(0) | Err(_) => return Poll::Ready(()),
            Ok(_) => {}
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> Result<(TcpStream, Wire), io::Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (server, _) = listener.accept().await?;
        Ok((client, Wire::new(Stream::Plain(server), CancellationToken::new(), Duration::from_millis(50))))
    }

    #[tokio::test]
    async fn a_too_long_message_is_skipped_and_the_next_one_read() -> Result<(), io::Error> {
        let (mut client, mut wire) = pair().await?;
        client.write_all(b"Q\0\0\0\x0a123456S\0\0\0\x04").await?;
        let first = wire.read_frame(5).await;
        assert!(matches!(first, Ok(Frame { kind: b'Q', body: Body::TooLong { bytes: 6 } })), "{first:?}");
        assert!(matches!(wire.read_frame(5).await, Ok(Frame { kind: b'S', .. })));
        Ok(())
    }

    #[tokio::test]
    async fn work_ends_when_the_client_goes_away() -> Result<(), io::Error> {
        let (client, mut wire) = pair().await?;
        drop(client);
        let ended = wire.while_connected(std::future::pending::<()>()).await;
        assert!(matches!(ended, Err(Failure::Gone)));
        Ok(())
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_statement() -> Result<(), io::Error> {
        let (_client, mut wire) = pair().await?;
        let ended = wire.while_connected(async { panic!("decoder") }).await;
        assert!(matches!(ended, Err(Failure::Statement(error)) if error.state == SqlState::INTERNAL));
        Ok(())
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_cannot_hold_up_the_shutdown() -> Result<(), io::Error> {
        let (_client, mut wire) = pair().await?;
        wire.shutdown.cancel();
        wire.out.resize(64 << 20, 0);
        assert!(matches!(wire.flush().await, Err(Failure::Gone)));
        Ok(())
    }
}
