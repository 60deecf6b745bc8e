//! Checksums by section of a shuffle file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use ballista_core::execution_plans::sort_shuffle::{ShuffleIndex, get_index_path};

/// Leads every seal; the last byte is the version of the format.
const MAGIC: &[u8; 8] = b"slseal\0\x01";
/// Start, end and checksum of a section.
const SECTION_BYTES: usize = 8 + 8 + 4;
/// Larger reads gain nothing.
const BUFFER_BYTES: usize = 256 << 10;
/// A file has a section for each partition of its exchange, and those are far fewer than this.
const MOST_SECTIONS: usize = 1 << 20;

/// Why a file is not to be read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The bytes are not those that were written.
    #[error("the shuffle file {path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The file or its seal cannot be read.
    #[error("the shuffle file {path} cannot be checked: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Bytes of the file and their checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    range: Range<u64>,
    crc: u32,
}

/// What a file held when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seal {
    /// The checksum of the index beside the file, if there is one.
    index_crc: Option<u32>,
    sections: Vec<Section>,
}

/// Seals a file that has been written to its end.
///
/// A file with an index beside it (one for all partitions of an exchange) gets a checksum for its
/// header and for each partition; any other file gets one for the whole.
pub fn seal(data: &Path) -> io::Result<()> {
    let mut file = File::open(data)?;
    let length = file.metadata()?.len();
    let index_path = get_index_path(data);
    let (index_crc, ranges) = match std::fs::read(&index_path) {
        Ok(bytes) => (Some(crc32fast::hash(&bytes)), ranges_of(&index_path, length)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, std::iter::once(0..length).collect()),
        Err(error) => return Err(error),
    };
    let sections = ranges
        .into_iter()
        .map(|range| Ok(Section { crc: crc_of(&mut file, &range)?, range }))
        .collect::<io::Result<_>>()?;
    File::create(seal_path(data))?.write_all(&Seal { index_crc, sections }.encode())
}

/// Compares a file with its seal: all of it, or what a reader of one partition sees of a file with an index.
pub fn check(data: &Path, partition: Option<usize>) -> Result<(), SealError> {
    let unreadable = |source| SealError::Unreadable { path: data.to_owned(), source };
    let damaged = |what: &str| SealError::Damaged { path: data.to_owned(), what: what.to_owned() };
    let bytes = std::fs::read(seal_path(data)).map_err(unreadable)?;
    let seal = Seal::decode(&bytes).ok_or_else(|| damaged("its seal is broken"))?;
    let mut file = File::open(data).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if seal.sections.iter().map(|section| section.range.end).max().unwrap_or(0) != length {
        return Err(damaged("its length has changed"));
    }
    if let Some(crc) = seal.index_crc
        && crc32fast::hash(&std::fs::read(get_index_path(data)).map_err(unreadable)?) != crc
    {
        return Err(damaged("its index does not match its checksum"));
    }
    // The sections were taken from the index, which has not changed: the header, then each partition.
    let wanted: Vec<&Section> = match (seal.index_crc, partition, seal.sections.split_first()) {
        (Some(_), Some(partition), Some((header, partitions))) => {
            vec![header, partitions.get(partition).ok_or_else(|| damaged("it has no such partition"))?]
        }
        _ => seal.sections.iter().collect(),
    };
    for Section { range, crc } in wanted {
        if !range.is_empty() && crc_of(&mut file, range).map_err(unreadable)? != *crc {
            return Err(damaged(&format!("bytes {} to {} do not match their checksum", range.start, range.end)));
        }
    }
    Ok(())
}

/// Removes a file that is of no more use, and its seal.
pub fn remove(data: &Path) -> io::Result<()> {
    std::fs::remove_file(data)?;
    std::fs::remove_file(seal_path(data))
}

/// `data.arrow` is sealed by `data.arrow.seal`.
fn seal_path(data: &Path) -> PathBuf {
    let mut name = OsString::from(data);
    name.push(".seal");
    name.into()
}

/// The header's range, then each partition's.
fn ranges_of(index_path: &Path, length: u64) -> io::Result<Vec<Range<u64>>> {
    let index = ShuffleIndex::read_from_file(index_path).map_err(|error| io::Error::other(error.to_string()))?;
    let mut ends = vec![index.header_end_offset()];
    ends.extend((0..index.partition_count()).map(|partition| index.get_partition_range(partition).1));
    let mut start = 0;
    ends.into_iter()
        .map(|end| match u64::try_from(end) {
            Ok(end) if end >= start && end <= length => Ok(std::mem::replace(&mut start, end)..end),
            _ => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "an index whose offsets do not ascend within its file"))
            }
        })
        .collect()
}

fn crc_of(file: &mut File, range: &Range<u64>) -> io::Result<u32> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end - range.start;
    let mut buffer = vec![0; BUFFER_BYTES.min(left as usize)];
    let mut hasher = crc32fast::Hasher::new();
    while left > 0 {
        let part = buffer.len().min(left as usize);
        file.read_exact(&mut buffer[..part])?;
        hasher.update(&buffer[..part]);
        left -= part as u64;
    }
    Ok(hasher.finalize())
}

impl Seal {
    /// Little-endian, closed by a checksum of its own.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(u8::from(self.index_crc.is_some()));
        bytes.extend(self.index_crc.unwrap_or(0).to_le_bytes());
        for section in &self.sections {
            bytes.extend(section.range.start.to_le_bytes());
            bytes.extend(section.range.end.to_le_bytes());
            bytes.extend(section.crc.to_le_bytes());
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let body = body.strip_prefix(MAGIC.as_slice())?;
        let (has_index, body) = body.split_first()?;
        let (index_crc, body) = body.split_first_chunk::<4>()?;
        let (sections, rest) = body.as_chunks::<SECTION_BYTES>();
        if !rest.is_empty() || sections.len() > MOST_SECTIONS {
            return None;
        }
        let sections = sections
            .iter()
            .map(|section| {
                let (start, rest) = section.split_first_chunk::<8>()?;
                let (end, crc) = rest.split_first_chunk::<8>()?;
                let range = u64::from_le_bytes(*start)..u64::from_le_bytes(*end);
                Some(Section { range, crc: u32::from_le_bytes(*crc.first_chunk::<4>()?) })
            })
            .collect::<Option<_>>()?;
        Some(Self { index_crc: (*has_index == 1).then(|| u32::from_le_bytes(*index_crc)), sections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of a header of 10 bytes and partitions of 20, 0 and 30.
    fn sorted_file(dir: &Path) -> PathBuf {
        let data = dir.join("data.arrow");
        std::fs::write(&data, (0..60).collect::<Vec<u8>>()).expect("is written");
        let mut index = ShuffleIndex::new(3);
        for (partition, offset) in [10, 30, 30].into_iter().enumerate() {
            index.set_offset(partition, offset);
        }
        index.set_total_length(60);
        index.write_to_file(&get_index_path(&data)).expect("is written");
        seal(&data).expect("is sealed");
        data
    }

    fn flip(path: &Path, byte: usize, bit: u8) {
        let mut bytes = std::fs::read(path).expect("is there");
        bytes[byte] ^= 1 << bit;
        std::fs::write(path, bytes).expect("is written");
    }

    #[test]
    fn what_was_written_is_believed() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = sorted_file(dir.path());
        for partition in [None, Some(0), Some(1), Some(2)] {
            check(&data, partition).expect("is whole");
        }
        assert!(check(&data, Some(3)).is_err());
    }

    #[test]
    fn every_flipped_bit_is_found_by_those_whom_it_concerns() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = sorted_file(dir.path());
        for byte in 0..60 {
            for bit in 0..8 {
                flip(&data, byte, bit);
                assert!(check(&data, None).is_err(), "byte {byte}, bit {bit}");
                assert_eq!(check(&data, Some(0)).is_err(), byte < 30, "byte {byte}, bit {bit}");
                assert_eq!(check(&data, Some(2)).is_err(), !(10..30).contains(&byte), "byte {byte}, bit {bit}");
                flip(&data, byte, bit);
            }
        }
        check(&data, None).expect("is whole again");
    }

    #[test]
    fn a_damaged_index_or_seal_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = sorted_file(dir.path());
        for path in [get_index_path(&data), seal_path(&data)] {
            for byte in 0..std::fs::read(&path).expect("is there").len() {
                flip(&path, byte, 3);
                assert!(check(&data, Some(0)).is_err(), "{} byte {byte}", path.display());
                flip(&path, byte, 3);
            }
        }
    }

    #[test]
    fn a_file_of_one_partition_is_checked_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data-7.arrow");
        std::fs::write(&data, vec![7; 3 * BUFFER_BYTES + 1]).expect("is written");
        assert!(matches!(check(&data, None), Err(SealError::Unreadable { .. })), "there is no seal yet");
        seal(&data).expect("is sealed");
        check(&data, Some(5)).expect("is whole");
        std::fs::write(&data, vec![7; 3 * BUFFER_BYTES]).expect("is written");
        assert!(matches!(check(&data, Some(5)), Err(SealError::Damaged { .. })));
    }
}
