//! What a folder holds, said in one file.

use std::path::{Component, Path, PathBuf};

use datafusion::arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::error::TransferError;
use super::sealed;

/// The name of a manifest in its folder.
pub const MANIFEST: &str = "manifest.json";
/// The version that is written, and the last that is read.
pub const VERSION: u32 = 1;

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of this description.
    pub version: u32,
    /// Of this copy; the folder's other JSON files name it too.
    pub id: String,
    /// Whether every file is there. While it is false, a copy is being made or was stopped.
    pub complete: bool,
    /// What was copied.
    pub source: Source,
    /// Its columns.
    pub columns: Vec<Column>,
    /// The statement that makes the table, for a Cassandra table.
    pub cql: Option<String>,
    /// The consistency of the reads, for a Cassandra table.
    pub consistency: Option<String>,
    /// How pages of the files are compressed.
    pub compression: Compression,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub finished_ms: Option<u64>,
    /// The files, in the order of their ranges.
    pub units: Vec<Unit>,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A whole table of Cassandra.
    Table { keyspace: String, table: String },
    /// A query's rows.
    Query { sql: String },
}

/// A column, in words: the files have their own schemas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in Arrow's words.
    pub arrow: String,
    /// Its place in a Cassandra table: `partition_key`, `clustering`, `static` or `regular`.
    pub kind: Option<String>,
}

/// A part of the copy that is written, checked and read as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The file, relative to the folder, with `/` between its parts.
    pub file: String,
    /// The part of the ring, for a Cassandra table.
    pub range: Option<Range>,
    /// Values of columns that the file's rows share and the file leaves out, by `PARTITION_BY`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<(String, Option<String>)>,
    /// The file as it was written; `None` in a copy that is not complete.
    pub seal: Option<Seal>,
}

/// The part of the ring after `start` up to and including `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Range {
    /// Exclusive.
    pub start: i64,
    /// Inclusive.
    pub end: i64,
}

/// What a file is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Rows in it.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// Of all its bytes.
    pub sha256: String,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// Fast, and not very small.
    Snappy,
    /// Fast.
    Lz4,
    /// For readers that know nothing newer.
    Gzip,
    /// Small, and fast enough.
    #[default]
    Zstd,
}

impl Compression {
    /// By its name in SQL; `None` if there is none of it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_lowercase().as_str() {
            "none" | "uncompressed" => Self::None,
            "snappy" => Self::Snappy,
            "lz4" | "lz4_raw" => Self::Lz4,
            "gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

impl Unit {
    /// A unit of a range, under the name that its range gives it.
    pub fn of_range(range: Range) -> Self {
        Self { file: range.file(), range: Some(range), partition: Vec::new(), seal: None }
    }
}

impl Range {
    /// The name of its file.
    pub fn file(&self) -> String {
        format!("part-{}_{}.parquet", self.start, self.end)
    }

    /// The name of the JSON file beside it.
    pub fn sidecar(&self) -> String {
        format!("part-{}_{}.json", self.start, self.end)
    }
}

impl Manifest {
    /// Columns as they are told of in a manifest.
    pub fn columns_of(schema: &Schema) -> Vec<Column> {
        schema
            .fields()
            .iter()
            .map(|field| Column {
                name: field.name().clone(),
                arrow: field.data_type().to_string(),
                kind: field.metadata().get("cassandra.kind").cloned(),
            })
            .collect()
    }

    /// The manifest of a folder; `None` if there is none. Its words are checked, its files are not.
    pub fn read(dir: &Path) -> Result<Option<Self>, TransferError> {
        let path = dir.join(MANIFEST);
        let Some(manifest) = sealed::read::<Self>(&path)? else { return Ok(None) };
        manifest.check().map_err(|reason| TransferError::damaged(&path, reason))?;
        Ok(Some(manifest))
    }

    /// Writes it in the place of the folder's last.
    pub fn write(&self, dir: &Path) -> Result<(), TransferError> {
        sealed::write(&dir.join(MANIFEST), self)
    }

    /// Rows of all its files.
    pub fn rows(&self) -> u64 {
        self.units.iter().filter_map(|unit| unit.seal.as_ref()).map(|seal| seal.rows).sum()
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.units.iter().filter_map(|unit| unit.seal.as_ref()).map(|seal| seal.bytes).sum()
    }

    /// Whoever wrote the file may have meant harm: names lead nowhere else, and ranges leave nothing out.
    fn check(&self) -> Result<(), String> {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        for unit in &self.units {
            check_file_name(&unit.file)?;
            if let Some(seal) = &unit.seal {
                let is_hash = seal.sha256.len() == 64 && seal.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !is_hash {
                    return Err(format!("the hash of {} is none", unit.file));
                }
            } else if self.complete {
                return Err(format!("it says that it is complete, and not what {} is", unit.file));
            }
            if let Some((name, _)) = unit.partition.iter().find(|(name, _)| !names.contains(&name.as_str())) {
                return Err(format!("a file is partitioned by \"{name}\", which is no column"));
            }
        }
        let mut files: Vec<&str> = self.units.iter().map(|unit| unit.file.as_str()).collect();
        files.sort_unstable();
        if files.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("it names a file twice".to_owned());
        }
        if matches!(self.source, Source::Table { .. }) {
            check_ring(&self.units)?;
        }
        Ok(())
    }
}

/// The ranges follow one another from one end of the ring to the other.
fn check_ring(units: &[Unit]) -> Result<(), String> {
    let mut next = i64::MIN;
    for unit in units {
        let range = unit.range.ok_or_else(|| format!("{} has no range", unit.file))?;
        if range.start != next || range.start >= range.end {
            return Err(format!("the ring from {next} on is not in it once: the next range begins at {}", range.start));
        }
        if unit.file != range.file() {
            return Err(format!("{} is not the name of its range", unit.file));
        }
        next = range.end;
    }
    if next == i64::MAX { Ok(()) } else { Err(format!("the ring after {next} is not in it")) }
}

/// A relative path below its folder, of a Parquet file.
fn check_file_name(name: &str) -> Result<(), String> {
    let is_below = Path::new(name).components().all(|component| matches!(component, Component::Normal(_)));
    let is_plain = !name.is_empty() && !name.contains(['\\', '\0']) && name.ends_with(".parquet");
    if is_below && is_plain {
        Ok(())
    } else {
        Err(format!("\"{}\" is not the name of one of its files", name.escape_debug()))
    }
}

/// Where a file of a folder is. A link is not followed: it may lead anywhere.
pub fn file_in(dir: &Path, file: &str) -> Result<PathBuf, TransferError> {
    check_file_name(file).map_err(|reason| TransferError::damaged(&dir.join(MANIFEST), reason))?;
    let mut path = dir.to_owned();
    for part in file.split('/') {
        path.push(part);
        let is_link = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_symlink());
        if is_link {
            return Err(TransferError::damaged(&path, "it is a link and not a file"));
        }
    }
    Ok(path)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn manifest(ranges: &[(i64, i64)]) -> Manifest {
        Manifest {
            version: VERSION,
            id: "one".to_owned(),
            complete: false,
            source: Source::Table { keyspace: "ks".to_owned(), table: "t".to_owned() },
            columns: vec![Column { name: "a".to_owned(), arrow: "Int32".to_owned(), kind: None }],
            cql: None,
            consistency: Some("LOCAL_ONE".to_owned()),
            compression: Compression::Zstd,
            started_ms: 1,
            finished_ms: None,
            units: ranges.iter().map(|(start, end)| Unit::of_range(Range { start: *start, end: *end })).collect(),
        }
    }

    #[test]
    fn a_manifest_comes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(Manifest::read(dir.path()).expect("is empty").is_none());
        let mut written = manifest(&[(i64::MIN, 0), (0, i64::MAX)]);
        written.write(dir.path()).expect("is written");
        assert_eq!(Manifest::read(dir.path()).expect("is read"), Some(written.clone()));
        written.complete = true;
        written.write(dir.path()).expect("is written");
        let error = Manifest::read(dir.path()).expect_err("names no hashes");
        assert_eq!(error.sqlstate(), "XX001");
    }

    #[test]
    fn the_ring_is_there_once() {
        for ranges in [
            vec![(i64::MIN, 0)],
            vec![(0, i64::MAX)],
            vec![(i64::MIN, 0), (1, i64::MAX)],
            vec![(i64::MIN, 5), (0, i64::MAX)],
            vec![],
        ] {
            assert!(manifest(&ranges).check().is_err(), "{ranges:?}");
        }
        manifest(&[(i64::MIN, i64::MAX)]).check().expect("is whole");
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["/etc/passwd.parquet", "../x.parquet", "a/../../x.parquet", "", "x.txt", "a\\b.parquet", "./.."] {
            assert!(check_file_name(name).is_err(), "{name}");
        }
        check_file_name("a=1/b=x/part-00000.parquet").expect("is below");
        let dir = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("x.parquet")).expect("a link");
        assert!(file_in(dir.path(), "x.parquet").is_err());
        assert!(file_in(dir.path(), "y.parquet").is_ok());
    }
}
