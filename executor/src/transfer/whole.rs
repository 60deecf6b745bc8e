//! A unit's file and the JSON beside it, which says that the file is whole.
//!
//! Two attempts at a unit may run at once, or one after another when a task is lost. The first that ends places its file;
//! another that ends later finds it and tells of it instead of its own, so that what was told stays true.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::TransferError;
use super::manifest::{Range, Seal, VERSION};
use super::part::open_checked;
use super::sealed::{self, Temporary};

/// How long another attempt gets between placing its file and saying so, before its file counts as left behind.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the JSON beside a file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// Of this description.
    pub version: u32,
    /// The copy that the file belongs to.
    pub copy_id: String,
    /// What is in the file.
    pub range: Range,
    /// The file.
    pub seal: Seal,
}

/// What the JSON beside a unit's file says, if it is of this copy; the file itself is not looked at.
pub fn told(dir: &Path, copy_id: &str, range: Range) -> Option<Seal> {
    let sidecar = sealed::read::<Sidecar>(&dir.join(range.sidecar())).ok().flatten()?;
    (sidecar.copy_id == copy_id && sidecar.range == range).then_some(sidecar.seal)
}

/// The unit's file, if it is there and every byte is as it was written; blocks.
pub fn find(dir: &Path, copy_id: &str, range: Range) -> Option<Seal> {
    let seal = told(dir, copy_id, range)?;
    open_checked(&dir.join(range.file()), &seal).is_ok().then_some(seal)
}

/// Places a finished file and says so; the file that counts from now on, which may be another attempt's. Blocks.
pub fn place(dir: &Path, copy_id: &str, range: Range, file: Temporary, seal: Seal) -> Result<Seal, TransferError> {
    let path = dir.join(range.file());
    let error = |error: std::io::Error| TransferError::file(&path, &error);
    if !file.place(&path).map_err(error)? {
        if let Some(other) = find(dir, copy_id, range) {
            return Ok(other);
        }
        std::thread::sleep(PATIENCE);
        if let Some(other) = find(dir, copy_id, range) {
            return Ok(other);
        }
        // Nobody vouches for what is there.
        file.replace(&path).map_err(error)?;
    }
    let sidecar = Sidecar { version: VERSION, copy_id: copy_id.to_owned(), range, seal };
    sealed::write(&dir.join(range.sidecar()), &sidecar)?;
    Ok(sidecar.seal)
}

#[cfg(test)]
mod tests {
    use super::super::part::{numbers, written};
    use super::*;

    const RANGE: Range = Range { start: i64::MIN, end: 7 };

    #[test]
    fn a_unit_is_whole_when_its_file_is_what_is_told_of_it() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(find(dir.path(), "one", RANGE).is_none());
        let (file, seal) = written(dir.path(), &numbers(10));
        let placed = place(dir.path(), "one", RANGE, file, seal.clone()).expect("is placed");
        assert_eq!(placed, seal);
        assert_eq!(find(dir.path(), "one", RANGE), Some(seal));
        assert_eq!(find(dir.path(), "another", RANGE), None, "another copy's file is not believed");
        let path = dir.path().join(RANGE.file());
        let mut bytes = std::fs::read(&path).expect("is there");
        bytes[5] ^= 1;
        std::fs::write(&path, bytes).expect("is written");
        assert_eq!(find(dir.path(), "one", RANGE), None, "a damaged file is not believed");
    }

    #[test]
    fn the_attempt_that_ends_first_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let (first, second) = (written(dir.path(), &numbers(10)), written(dir.path(), &numbers(20)));
        let one = place(dir.path(), "one", RANGE, first.0, first.1).expect("is placed");
        let other = place(dir.path(), "one", RANGE, second.0, second.1).expect("is placed");
        assert_eq!((one.rows, &one), (10, &other));
        assert_eq!(find(dir.path(), "one", RANGE), Some(one));
    }

    #[test]
    fn a_file_that_was_left_without_its_words_is_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(RANGE.file()), "half a file").expect("is written");
        let (file, seal) = written(dir.path(), &numbers(10));
        place(dir.path(), "one", RANGE, file, seal.clone()).expect("is placed");
        assert_eq!(find(dir.path(), "one", RANGE), Some(seal));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 2, "no temporary file is left");
    }
}
