//! Rows dealt out to files by the values of some of their columns.

use std::collections::HashMap;
use std::path::PathBuf;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{cast, take_record_batch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};

use super::error::TransferError;
use super::manifest::{Compression, Seal};
use super::part::{Part, ROW_GROUP_BYTES};
use super::sealed::Temporary;
use super::write::{WriteSpec, Written};

/// Files that one task has open. With more values than that, the file that was left longest is ended, and a later
/// row of its value begins another.
const OPEN_FILES: usize = 64;

/// The values of the columns that make a file.
type Key = Vec<Option<String>>;

/// Writes one partition of a plan.
pub struct HiveWriter {
    folder: PathBuf,
    /// The folder's name in the folder that it is in.
    folder_name: String,
    compression: Compression,
    names: Vec<String>,
    /// Places of the columns that make a file, and of the others.
    key_columns: Vec<usize>,
    kept_columns: Vec<usize>,
    schema: SchemaRef,
    open: HashMap<Key, OpenFile>,
    written: Vec<Written>,
    clock: u64,
}

struct OpenFile {
    part: Part,
    last_used: u64,
}

/// The folder in which the files of a copy are until all of them are there.
pub fn waiting_folder(copy_id: &str) -> String {
    format!(".copy-{copy_id}")
}

impl HiveWriter {
    /// A writer for rows of `schema`.
    pub fn new(spec: &WriteSpec, schema: &SchemaRef, partition_by: &[String]) -> Result<Self, TransferError> {
        let unknown = |name: &String| TransferError::Columns(format!("there is no column \"{name}\" to partition by"));
        let key_columns = partition_by
            .iter()
            .map(|name| schema.index_of(name).map_err(|_| unknown(name)))
            .collect::<Result<Vec<_>, _>>()?;
        let kept_columns: Vec<usize> = (0..schema.fields().len()).filter(|i| !key_columns.contains(i)).collect();
        if kept_columns.is_empty() {
            let reason = "PARTITION_BY leaves no column for the files: one at least must be in them".to_owned();
            return Err(TransferError::Columns(reason));
        }
        let projected = schema.project(&kept_columns).map_err(|error| TransferError::Columns(error.to_string()))?;
        let folder_name = waiting_folder(&spec.copy_id);
        let folder = spec.dir.join(&folder_name);
        std::fs::create_dir_all(&folder).map_err(|error| TransferError::file(&folder, &error))?;
        Ok(Self {
            folder,
            folder_name,
            compression: spec.compression,
            names: partition_by.to_vec(),
            key_columns,
            kept_columns,
            schema: projected.into(),
            open: HashMap::new(),
            written: Vec::new(),
            clock: 0,
        })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), TransferError> {
        let failed = |error: &dyn std::fmt::Display| TransferError::Columns(error.to_string());
        let rows = batch.project(&self.kept_columns).map_err(|error| failed(&error))?;
        if self.key_columns.is_empty() {
            return self.write_to(Vec::new(), &rows);
        }
        let columns = self.key_columns.iter().map(|index| batch.columns().get(*index));
        let columns = columns.collect::<Option<Vec<_>>>().ok_or_else(|| failed(&"a column is missing"))?;
        let texts: Vec<ArrayRef> = columns
            .into_iter()
            .map(|column| cast(column, &DataType::Utf8))
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))?;
        let mut groups: HashMap<Key, Vec<u32>> = HashMap::new();
        for row in 0..batch.num_rows() {
            let value = |text: &ArrayRef| text.is_valid(row).then(|| text.as_string::<i32>().value(row).to_owned());
            groups.entry(texts.iter().map(value).collect()).or_default().push(row as u32);
        }
        for (key, indices) in groups {
            let taken = take_record_batch(&rows, &UInt32Array::from(indices)).map_err(|error| failed(&error))?;
            self.write_to(key, &taken)?;
        }
        Ok(())
    }

    fn write_to(&mut self, key: Key, rows: &RecordBatch) -> Result<(), TransferError> {
        self.clock += 1;
        if !self.open.contains_key(&key) {
            if self.open.len() >= OPEN_FILES
                && let Some(oldest) =
                    self.open.iter().min_by_key(|(_, file)| file.last_used).map(|(key, _)| key.clone())
            {
                self.end(oldest)?;
            }
            let part = Part::create(&self.folder, &self.schema, self.compression)?;
            self.open.insert(key.clone(), OpenFile { part, last_used: 0 });
        }
        if let Some(file) = self.open.get_mut(&key) {
            file.last_used = self.clock;
            file.part.write(rows)?;
        }
        if self.memory_bytes() > 2 * ROW_GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.open.values().map(|file| file.part.memory_bytes()).sum()
    }

    /// Brings what is in memory to disk.
    pub fn flush(&mut self) -> Result<(), TransferError> {
        self.open.values_mut().try_for_each(|file| file.part.flush())
    }

    fn end(&mut self, key: Key) -> Result<(), TransferError> {
        let Some(file) = self.open.remove(&key) else { return Ok(()) };
        let (temporary, seal) = file.part.finish()?;
        self.keep(key, temporary, seal);
        Ok(())
    }

    fn keep(&mut self, key: Key, temporary: Temporary, seal: Seal) {
        let path = temporary.keep();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.written.push(Written {
            file: format!("{}/{name}", self.folder_name),
            seal,
            range: None,
            is_kept: false,
            partition: self.names.iter().cloned().zip(key).collect(),
        });
    }

    /// Ends all files; blocks.
    pub fn finish(mut self) -> Result<Vec<Written>, TransferError> {
        let keys: Vec<Key> = self.open.keys().cloned().collect();
        for key in keys {
            self.end(key)?;
        }
        Ok(self.written)
    }
}

/// The folder of a file by the values that its rows share: `a=1/b=x`, as Hive names them; empty without any.
pub fn hive_folder(partition: &[(String, Option<String>)]) -> String {
    let folder = |(name, value): &(String, Option<String>)| {
        format!("{}={}", escaped(name), value.as_deref().map_or_else(|| NULL.to_owned(), escaped))
    };
    partition.iter().map(folder).collect::<Vec<_>>().join("/")
}

/// What stands for a null in the name of a folder.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A text without what means something in paths.
fn escaped(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '/' | '\\' | '%' | '=' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '[' | ']' => {
                name.push_str(&format!("%{:02X}", c as u32));
            }
            c if c.is_control() => c.to_string().bytes().for_each(|byte| name.push_str(&format!("%{byte:02X}"))),
            c => name.push(c),
        }
    }
    if name == "." || name == ".." { name.replace('.', "%2E") } else { name }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Int32Array, StringArray};

    use super::super::write::Files;
    use super::*;

    #[test]
    fn rows_go_to_the_files_of_their_values() {
        let dir = tempfile::tempdir().expect("a folder");
        let batch = RecordBatch::try_from_iter([
            ("k", Arc::new(StringArray::from(vec![Some("x"), None, Some("x"), Some("y")])) as ArrayRef),
            ("n", Arc::new(Int32Array::from(vec![1, 2, 3, 4])) as ArrayRef),
        ])
        .expect("rows");
        let spec = WriteSpec {
            copy_id: "one".to_owned(),
            dir: dir.path().to_owned(),
            compression: Compression::Zstd,
            files: Files::Hive { partition_by: vec!["k".to_owned()] },
        };
        let mut writer = HiveWriter::new(&spec, &batch.schema(), &["k".to_owned()]).expect("is made");
        writer.write(&batch).expect("is written");
        let mut written = writer.finish().expect("is ended");
        written.sort_by(|a, b| a.partition.cmp(&b.partition));
        let rows: Vec<(String, u64)> = written.iter().map(|w| (hive_folder(&w.partition), w.seal.rows)).collect();
        let expected = [("k=__HIVE_DEFAULT_PARTITION__", 1), ("k=x", 2), ("k=y", 1)];
        assert_eq!(rows, expected.map(|(folder, rows)| (folder.to_owned(), rows)));
        assert!(written.iter().all(|w| dir.path().join(&w.file).is_file()));
        assert!(HiveWriter::new(&spec, &batch.schema(), &["z".to_owned()]).is_err());
    }

    #[test]
    fn more_values_than_open_files_make_more_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let keys = Int32Array::from_iter_values((0..3).flat_map(|_| 0..(OPEN_FILES as i32 + 10)));
        let numbers = Int32Array::from_iter_values(0..keys.len() as i32);
        let batch =
            RecordBatch::try_from_iter([("k", Arc::new(keys) as ArrayRef), ("n", Arc::new(numbers) as ArrayRef)])
                .expect("rows");
        let spec = WriteSpec {
            copy_id: "one".to_owned(),
            dir: dir.path().to_owned(),
            compression: Compression::None,
            files: Files::Hive { partition_by: vec!["k".to_owned()] },
        };
        let mut writer = HiveWriter::new(&spec, &batch.schema(), &["k".to_owned()]).expect("is made");
        for _ in 0..2 {
            writer.write(&batch).expect("is written");
            assert!(writer.open.len() <= OPEN_FILES);
        }
        let written = writer.finish().expect("is ended");
        assert_eq!(written.iter().map(|w| w.seal.rows).sum::<u64>(), 2 * batch.num_rows() as u64);
    }

    #[test]
    fn a_value_cannot_leave_its_folder() {
        let folder =
            hive_folder(&[("a".to_owned(), Some("../../etc".to_owned())), ("b".to_owned(), Some("..".to_owned()))]);
        assert_eq!(folder, "a=..%2F..%2Fetc/b=%2E%2E");
    }
}
