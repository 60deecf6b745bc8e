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
use datafusion::execution::SendableRecordBatchStream;
use tokio::sync::mpsc;

pub use writer::CopyWriter;

use super::backend::put_complete;
use super::connection::Connection;
use super::rows::Rows;
use super::wire::{Body, Failure, Frame};
use crate::engine::{EngineError, Prepared, QueryResult, SqlState, StatementKind, TransferOptions};
use options::CopyOptions;
use reader::CopyReader;

/// Batches between the socket and the table.
const BATCHES_IN_FLIGHT: usize = 1;

fn options_of(prepared: &Prepared) -> Result<CopyOptions, EngineError> {
    let none = TransferOptions::new();
    match &prepared.statement.kind {
        StatementKind::CopyOut { options, .. } => CopyOptions::new(options, false),
        StatementKind::CopyIn { options, .. } => CopyOptions::new(options, true),
        _ => CopyOptions::new(&none, false),
    }
}

impl Connection<'_> {
    /// Sends all rows of a `COPY ... TO STDOUT`.
    pub(super) async fn copy_out(
        &mut self,
        prepared: &Prepared,
        stream: SendableRecordBatchStream,
    ) -> Result<(), Failure> {
        let writer = CopyWriter::new(options_of(prepared)?, &prepared.schema)?;
        writer.put_start(&mut self.wire.out);
        let mut rows = Rows::copied(stream, writer, self.encode_options());
        rows.send(self.wire, None).await?;
        rows.end_copy(&mut self.wire.out);
        self.put_notices();
        put_complete(&mut self.wire.out, &format!("COPY {}", rows.sent));
        Ok(())
    }

    /// Takes the rows of a `COPY ... FROM STDIN`, and writes them as they come.
    pub(super) async fn copy_in(&mut self, prepared: &Prepared) -> Result<(), Failure> {
        let StatementKind::CopyIn { table, .. } = &prepared.statement.kind else {
            return Err(EngineError::new(SqlState::INTERNAL, "not a copy").into());
        };
        let session = self.session;
        let time_zone = session.setting("TimeZone").unwrap_or_else(|| "UTC".to_owned());
        let max_bytes = self.shared.options.max_message_bytes;
        let table = table.last().cloned().unwrap_or_default();
        let mut reader = CopyReader::new(options_of(prepared)?, &prepared.schema, table, time_zone, max_bytes)?;
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
