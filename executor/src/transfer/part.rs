//! One Parquet file as it is written, and its hash.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};

use super::error::TransferError;
use super::manifest::{Compression, Seal};
use super::sealed::{Temporary, hex};
use super::storable::{stored_schema, to_stored};

/// Bytes of a row group before it is written; memory for it is held until then.
pub const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Bytes read at a time for a hash.
const HASH_BYTES: usize = 1 << 20;

/// A file under way, under a name of its own.
pub struct Part {
    writer: ArrowWriter<Hashed>,
    schema: SchemaRef,
    temporary: Temporary,
    rows: u64,
}

impl Part {
    /// A new file in `folder` for rows of `schema`.
    pub fn create(folder: &Path, schema: &SchemaRef, compression: Compression) -> Result<Self, TransferError> {
        let temporary = Temporary::in_folder(folder);
        let file = File::create_new(temporary.path()).map_err(|error| TransferError::file(temporary.path(), &error))?;
        let properties = WriterProperties::builder()
            .set_compression(codec(compression))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let schema = stored_schema(schema);
        let hashed = Hashed { file, hash: Sha256::new(), bytes: 0 };
        let writer = ArrowWriter::try_new(hashed, schema.clone(), Some(properties))
            .map_err(|error| TransferError::file(temporary.path(), &error))?;
        Ok(Self { writer, schema, temporary, rows: 0 })
    }

    /// Adds rows. A row group that has grown large enough leaves memory.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), TransferError> {
        let failed = |error: &dyn std::fmt::Display| TransferError::file(self.temporary.path(), error);
        let columns = batch.columns().iter().map(to_stored).collect::<Result<Vec<_>, _>>().map_err(|e| failed(&e))?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let stored =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|e| failed(&e))?;
        self.rows += batch.num_rows() as u64;
        self.writer.write(&stored).map_err(|error| TransferError::file(self.temporary.path(), &error))?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the row group that is in memory.
    pub fn flush(&mut self) -> Result<(), TransferError> {
        self.writer.flush().map_err(|error| TransferError::file(self.temporary.path(), &error))
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    /// Ends the file and brings it to disk; blocks.
    pub fn finish(self) -> Result<(Temporary, Seal), TransferError> {
        let path: PathBuf = self.temporary.path().to_owned();
        let hashed = self.writer.into_inner().map_err(|error| TransferError::file(&path, &error))?;
        hashed.file.sync_all().map_err(|error| TransferError::file(&path, &error))?;
        let seal = Seal { rows: self.rows, bytes: hashed.bytes, sha256: hex(hashed.hash.finalize()) };
        Ok((self.temporary, seal))
    }
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Snappy => Codec::SNAPPY,
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
    }
}

/// A file whose hash is made of the bytes on their way to it.
struct Hashed {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// A file whose every byte has been compared with what was written; blocks for as long as reading it takes.
pub fn open_checked(path: &Path, seal: &Seal) -> Result<File, TransferError> {
    let error = |error: std::io::Error| TransferError::file(path, &error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(TransferError::NotWhole { path: path.to_owned(), reason: "the file is missing".to_owned() });
        }
        Err(other) => return Err(error(other)),
    };
    let length = file.metadata().map_err(error)?.len();
    if length != seal.bytes {
        return Err(TransferError::damaged(path, format!("it has {length} bytes instead of {}", seal.bytes)));
    }
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; HASH_BYTES]);
    loop {
        match file.read(&mut buffer).map_err(error)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    if hex(hash.finalize()) != seal.sha256 {
        return Err(TransferError::damaged(path, "it does not have the SHA-256 with which it was written"));
    }
    file.rewind().map_err(error)?;
    Ok(file)
}

/// A file for tests.
#[cfg(test)]
pub(super) fn written(folder: &Path, batch: &RecordBatch) -> (Temporary, Seal) {
    let mut part = Part::create(folder, &batch.schema(), Compression::Zstd).expect("is created");
    part.write(batch).expect("is written");
    part.finish().expect("is ended")
}

/// Rows for tests: one column `a` of so many numbers.
#[cfg(test)]
pub(super) fn numbers(count: i32) -> RecordBatch {
    use datafusion::arrow::array::{ArrayRef, Int32Array};
    RecordBatch::try_from_iter([("a", std::sync::Arc::new(Int32Array::from_iter_values(0..count)) as ArrayRef)])
        .expect("rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_seen_before_anything_is_decoded() {
        let dir = tempfile::tempdir().expect("a folder");
        let (temporary, seal) = written(dir.path(), &numbers(1_000));
        assert_eq!(seal.rows, 1_000);
        open_checked(temporary.path(), &seal).expect("is whole");
        let mut bytes = std::fs::read(temporary.path()).expect("is there");
        assert_eq!(bytes.len() as u64, seal.bytes);
        for place in [0, bytes.len() / 2, bytes.len() - 1] {
            bytes[place] ^= 1;
            std::fs::write(temporary.path(), &bytes).expect("is written");
            let error = open_checked(temporary.path(), &seal).expect_err("a bit was flipped");
            assert_eq!(error.sqlstate(), "XX001", "{error}");
            bytes[place] ^= 1;
        }
        std::fs::write(temporary.path(), &bytes[1..]).expect("is written");
        assert_eq!(open_checked(temporary.path(), &seal).expect_err("was cut").sqlstate(), "XX001");
    }

    #[test]
    fn a_file_that_is_not_ended_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(Part::create(dir.path(), &numbers(1).schema(), Compression::None).expect("is created"));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
    }
}
