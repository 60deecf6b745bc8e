//! A result on its way out: one batch at a time, no faster than the client reads.

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt, poll};
use std::task::Poll;

use super::copy::CopyWriter;
use super::encode::{BatchEncoder, Column, EncodeOptions};
use super::wire::{FLUSH_BYTES, Failure, Wire};
use crate::engine::EngineError;

/// How long rows that are ready wait for company before they leave.
const LINGER: Duration = Duration::from_millis(10);

/// Rows that a client has asked for and not all got.
pub struct Rows {
    stream: SendableRecordBatchStream,
    columns: Vec<Column>,
    options: EncodeOptions,
    /// How rows are written that are copied out; others are messages of their own.
    copy: Option<CopyWriter>,
    batch: Option<BatchEncoder>,
    next_row: usize,
    /// Rows sent so far.
    pub sent: u64,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({} sent)", self.sent)
    }
}

/// How far a round of sending came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The round's limit was reached; there may be more.
    Suspended,
    /// All rows have been sent.
    Complete,
}

impl Rows {
    /// The rows of `stream`, to be written as `columns` were described.
    pub fn new(stream: SendableRecordBatchStream, columns: Vec<Column>, options: EncodeOptions) -> Self {
        Self { stream, columns, options, copy: None, batch: None, next_row: 0, sent: 0 }
    }

    /// The rows of `stream` as `COPY ... TO STDOUT` writes them.
    pub fn copied(stream: SendableRecordBatchStream, copy: CopyWriter, options: EncodeOptions) -> Self {
        let columns = copy.columns().to_vec();
        Self { copy: Some(copy), ..Self::new(stream, columns, options) }
    }

    /// What comes after the last row of a copy.
    pub fn end_copy(&mut self, out: &mut BytesMut) {
        if let Some(copy) = &mut self.copy {
            copy.put_end(out);
        }
    }

    /// Sends rows until the end, or until `limit` have been sent in this round.
    ///
    /// Dropping the future, or an error, leaves a result that cannot be continued.
    pub async fn send(&mut self, wire: &mut Wire, limit: Option<u64>) -> Result<Progress, Failure> {
        let mut left = limit.unwrap_or(u64::MAX);
        loop {
            while let Some(batch) = &self.batch
                && self.next_row < batch.row_count()
            {
                if left == 0 {
                    return Ok(Progress::Suspended);
                }
                match &mut self.copy {
                    None => batch.put_row(self.next_row, &mut wire.out)?,
                    Some(copy) => copy.put_row(batch, self.next_row, &mut wire.out)?,
                }
                self.next_row += 1;
                self.sent += 1;
                left -= 1;
                if wire.out.len() >= FLUSH_BYTES {
                    wire.flush().await?;
                }
            }
            if left == 0 {
                return Ok(Progress::Suspended);
            }
            self.batch = None;
            let Some(batch) = self.next_batch(wire).await? else { return Ok(Progress::Complete) };
            self.batch = Some(BatchEncoder::new(&batch, &self.columns, self.options)?);
            self.next_row = 0;
        }
    }

    /// Passes over rows, `most` at most (none is all), and tells over how many.
    pub async fn pass(&mut self, wire: &mut Wire, most: Option<u64>) -> Result<u64, Failure> {
        let most = most.unwrap_or(u64::MAX);
        let mut passed = 0;
        while passed < most {
            let here = self.batch.as_ref().map_or(0, |batch| batch.row_count() - self.next_row);
            if here > 0 {
                let step = usize::try_from(most - passed).unwrap_or(usize::MAX).min(here);
                self.next_row += step;
                passed += step as u64;
                continue;
            }
            let Some(batch) = self.next_batch(wire).await? else { break };
            self.batch = Some(BatchEncoder::new(&batch, &self.columns, self.options)?);
            self.next_row = 0;
        }
        Ok(passed)
    }

    async fn next_batch(&mut self, wire: &mut Wire) -> Result<Option<datafusion::arrow::array::RecordBatch>, Failure> {
        let mut next = pin!(self.stream.next());
        // Rows that are here should not wait for those that are slow to come.
        let batch = match wire.while_connected(async { poll!(next.as_mut()) }).await? {
            Poll::Ready(batch) => batch,
            Poll::Pending if wire.out.is_empty() => wire.while_connected(next).await?,
            Poll::Pending => match wire.while_connected(tokio::time::timeout(LINGER, next.as_mut())).await? {
                Ok(batch) => batch,
                Err(_elapsed) => {
                    wire.flush().await?;
                    wire.while_connected(next).await?
                }
            },
        };
        Ok(batch.transpose().map_err(EngineError::from)?)
    }
}
