//! `COPY ... TO STDOUT` and `COPY ... FROM STDIN`: rows as a stream of bytes.
//!
//! As in PostgreSQL's protocol, [section 53.2.6](https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY);
//! the three formats are those of its [COPY](https://www.postgresql.org/docs/current/sql-copy.html). Neither way ever holds
//! more than a batch of rows.
//!
//! - [`options`]: what the statement says
//! - [`writer`]: rows to bytes; [`reader`]: bytes to rows

mod options;
mod reader;
mod writer;

use std::pin::pin;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::ScalarValue;
use tokio::sync::mpsc;

pub use writer::CopyWriter;

use super::backend::put_complete;
use super::connection::Connection;
use super::rows::Rows;
use super::wire::{Body, Failure, Frame};
use crate::engine::{EngineError, Prepared, QueryResult, SqlState, StatementKind};
pub(super) use options::CopyOptions;
pub(super) use reader::CopyReader;

/// Batches between the socket and the table.
const BATCHES_IN_FLIGHT: usize = 1;

impl Connection<'_> {
    /// Runs a `COPY` to or from the client.
    pub(super) async fn copy(&mut self, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<(), Failure> {
        match &prepared.statement.kind {
            StatementKind::CopyOut { options, .. } => {
                self.copy_out(prepared, parameters, CopyOptions::new(options, false)?).await
            }
            StatementKind::CopyIn { table, options, .. } => {
                let table = table.last().cloned().unwrap_or_default();
                self.copy_in(prepared, table, CopyOptions::new(options, true)?).await
            }
            _ => Err(EngineError::new(SqlState::INTERNAL, "not a copy").into()),
        }
    }

    /// Sends all rows.
    async fn copy_out(
        &mut self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
        options: CopyOptions,
    ) -> Result<(), Failure> {
        let writer = CopyWriter::new(options, &prepared.schema)?;
        let session = self.session;
        let handle = self.with_notices(session.execute(prepared, parameters)).await??;
        let QueryResult::Rows(stream) = handle.into_result() else {
            return Err(EngineError::new(SqlState::INTERNAL, "a copy without rows").into());
        };
        writer.put_start(&mut self.wire.out);
        let mut rows = Rows::copied(stream, writer, self.encode_options());
        rows.send(self.wire, None).await?;
        rows.end_copy(&mut self.wire.out);
        self.put_notices();
        put_complete(&mut self.wire.out, &format!("COPY {}", rows.sent));
        Ok(())
    }

    /// Takes rows, and writes them as they come.
    async fn copy_in(&mut self, prepared: &Prepared, table: String, options: CopyOptions) -> Result<(), Failure> {
        let session = self.session;
        let time_zone = session.setting("TimeZone").unwrap_or_else(|| "UTC".to_owned());
        let max_bytes = self.shared.options.max_message_bytes;
        let mut reader = CopyReader::new(options, &prepared.schema, table, time_zone, max_bytes)?;
        reader.put_start(&mut self.wire.out);
        self.put_notices();
        self.wire.flush().await?;
        let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
        let mut write = pin!(session.execute_from(prepared, Vec::new(), Some(receiver)));
        loop {
            let frame = tokio::select! {
                biased;
                ended = &mut write => return Err(ended_early(ended.err())),
                frame = self.wire.read_frame(max_bytes) => frame?,
            };
            match message(frame)? {
                Message::Data(bytes) => {
                    reader.push(&bytes);
                    while let Some(batch) = reader.next_batch()? {
                        tokio::select! {
                            biased;
                            ended = &mut write => return Err(ended_early(ended.err())),
                            sent = sender.send(batch) => sent.map_err(|_| ended_early(None))?,
                        }
                    }
                }
                Message::Done => {
                    let last = reader.finish()?;
                    let finish = async {
                        let send = send_last(sender, last);
                        let (_, written) = futures::join!(send, &mut write);
                        written
                    };
                    let handle = self.with_notices(finish).await??;
                    self.put_notices();
                    if let QueryResult::Command { tag, .. } = handle.into_result() {
                        put_complete(&mut self.wire.out, &tag);
                    }
                    return Ok(());
                }
                Message::Fail(reason) => {
                    let message = format!("COPY from stdin failed: {reason}");
                    return Err(EngineError::new(SqlState::CANCELLED, message).into());
                }
                Message::Ignored => {}
            }
        }
    }
}

/// Sends the last rows, and ends the rows by dropping the sender.
async fn send_last(sender: mpsc::Sender<RecordBatch>, last: Option<RecordBatch>) {
    if let Some(batch) = last {
        // If nobody takes them, the write has an error of its own.
        let _ = sender.send(batch).await;
    }
}

fn ended_early(error: Option<EngineError>) -> Failure {
    let error = error.unwrap_or_else(|| EngineError::new(SqlState::INTERNAL, "the copy ended before its rows did"));
    Failure::Statement(error)
}

/// What a client may send while it copies in.
enum Message {
    Data(Bytes),
    Done,
    Fail(String),
    /// `Flush` and `Sync`, which clients send along.
    Ignored,
}

fn message(frame: Frame) -> Result<Message, Failure> {
    let body = match frame.body {
        Body::Whole(body) => body,
        Body::TooLong { bytes } => {
            let message = format!("message of {bytes} bytes is too long");
            return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, message).into());
        }
    };
    match frame.kind {
        b'd' => Ok(Message::Data(body)),
        b'c' => Ok(Message::Done),
        b'f' => {
            let reason = String::from_utf8_lossy(&body);
            Ok(Message::Fail(reason.trim_end_matches('\0').to_owned()))
        }
        b'H' | b'S' => Ok(Message::Ignored),
        b'X' => Err(Failure::Gone),
        other => {
            let message = format!("unexpected message type 0x{other:02X} during COPY from stdin");
            Err(Failure::Fatal(EngineError::new(SqlState::PROTOCOL_VIOLATION, message)))
        }
    }
}
