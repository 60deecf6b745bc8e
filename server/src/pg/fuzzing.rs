//! The protocol's decoders under bytes of any kind, for [`crate::fuzzing`].

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::copy::{CopyOptions, CopyReader};
use super::frontend::{Frontend, decode};
use super::startup::Request;
use crate::engine::TransferOptions;

/// Bytes of a row of [`copy_rows`] at most.
const MOST_ROW_BYTES: usize = 1 << 20;

/// What follows the length of a start-up packet.
pub fn startup_packet(data: &[u8]) {
    let mut packet = Bytes::copy_from_slice(data);
    let Ok(version) = packet.try_get_i32() else { return };
    if let Ok(request) = Request::parse(version, packet) {
        request.greet(&mut BytesMut::new());
    }
}

/// Messages after the start-up, one behind the other. A length that is none ends them, as it ends a connection.
pub fn messages(data: &[u8]) {
    let mut rest = Bytes::copy_from_slice(data);
    while let (Ok(kind), Ok(length)) = (rest.try_get_u8(), rest.try_get_i32()) {
        let Some(length) = usize::try_from(length).ok().and_then(|length| length.checked_sub(4)) else { return };
        let body = rest.split_to(length.min(rest.len()));
        if let Ok(Frontend::Query { sql } | Frontend::Parse { sql, .. }) = decode(kind, body) {
            crate::fuzzing::statements(sql.as_bytes());
        }
    }
}

/// A byte that chooses the format, and the bytes of a copy, in two parts and in one: what comes in pieces is what came whole.
pub fn copy_rows(data: &[u8]) {
    let Some((choice, rows)) = data.split_first() else { return };
    let format = ["text", "csv", "binary"][usize::from(*choice) % 3];
    let options = TransferOptions::from([("format".to_owned(), vec![format.to_owned()])]);
    let read = |parts: &[&[u8]]| -> Option<Vec<usize>> {
        let options = CopyOptions::new(&options, true).ok()?;
        let mut reader = CopyReader::new(options, &columns(), "t".to_owned(), "UTC".to_owned(), MOST_ROW_BYTES).ok()?;
        let mut counts = Vec::new();
        for part in parts {
            reader.push(part);
            while let Some(batch) = reader.next_batch().ok()? {
                counts.push(batch.num_rows());
            }
        }
        counts.extend(reader.finish().ok()?.map(|batch| batch.num_rows()));
        Some(counts)
    };
    let (first, second) = rows.split_at(rows.len() / 2);
    let (whole, in_parts) = (read(&[rows]), read(&[first, second]));
    debug_assert_eq!(whole, in_parts, "rows in one part and in two");
}

/// Columns of all the kinds of types that values are read as.
fn columns() -> SchemaRef {
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    let types = [
        DataType::Int32,
        DataType::Utf8,
        DataType::Boolean,
        DataType::Float64,
        DataType::Decimal128(10, 2),
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Binary,
        list,
    ];
    let fields = types.into_iter().enumerate().map(|(index, kind)| Field::new(format!("c{index}"), kind, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
