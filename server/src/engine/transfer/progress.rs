//! What a restore has done, kept so that it goes on after a kill.
//!
//! One JSON file in the data directory for each folder and table. It is gone when the restore is complete: restoring
//! again then does everything again, under a new timestamp.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sluice_executor::transfer::{TransferError, sealed};

/// What is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    version: u32,
    /// The copy that is restored, by its manifest.
    copy_id: String,
    /// The table that it is restored to.
    target: String,
    /// What tells the table from one of its name that was dropped or truncated since; `None` if it cannot be told.
    incarnation: Option<String>,
    /// With which all rows are written.
    timestamp_us: i64,
    /// Files whose rows are all written.
    done: BTreeSet<String>,
}

/// The notes of a restore.
#[derive(Debug)]
pub struct RestoreProgress {
    path: PathBuf,
    note: Note,
    written_at: Option<Instant>,
    /// Files that were done when the statement began.
    pub resumed: usize,
}

impl RestoreProgress {
    /// The notes of a restore that was stopped, or new ones; blocks.
    ///
    /// What was done counts only if the table is certainly the one that it was done to. The timestamp stays in any case,
    /// if the user does not choose one.
    pub fn open(
        notes_dir: &Path,
        copy_id: &str,
        target: &str,
        incarnation: Option<String>,
        chosen_timestamp_us: Option<i64>,
        now_us: i64,
    ) -> Result<Self, TransferError> {
        std::fs::create_dir_all(notes_dir).map_err(|error| TransferError::file(notes_dir, &error))?;
        let key = sealed::sha256_of(format!("{copy_id}\n{target}").as_bytes());
        let path = notes_dir.join(format!("restore-{}.json", &key[..32]));
        // Damaged notes are none: everything is done again, which changes nothing.
        let found = sealed::read::<Note>(&path).unwrap_or_default();
        let found = found.filter(|note| note.copy_id == copy_id && note.target == target);
        let timestamp_us = chosen_timestamp_us.or(found.as_ref().map(|note| note.timestamp_us)).unwrap_or(now_us);
        let is_the_same =
            |note: &Note| incarnation.is_some() && note.incarnation == incarnation && note.timestamp_us == timestamp_us;
        let done = found.filter(is_the_same).map(|note| note.done).unwrap_or_default();
        let (copy_id, target) = (copy_id.to_owned(), target.to_owned());
        let resumed = done.len();
        let note = Note { version: 1, copy_id, target, incarnation, timestamp_us, done };
        sealed::write(&path, &note)?;
        Ok(Self { path, note, written_at: None, resumed })
    }

    /// Microseconds since the Unix epoch, with which all rows are written.
    pub fn timestamp_us(&self) -> i64 {
        self.note.timestamp_us
    }

    /// Whether a file's rows are all written.
    pub fn is_done(&self, file: &str) -> bool {
        self.note.done.contains(file)
    }

    /// A file's rows are all written; blocks, for no longer than it takes to write the notes. Notes of many files are
    /// written less often, so that they cost no more than the rows.
    pub fn done(&mut self, file: &str) -> Result<(), TransferError> {
        self.note.done.insert(file.to_owned());
        let pause = Duration::from_millis(self.note.done.len() as u64);
        if self.written_at.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        sealed::write(&self.path, &self.note)?;
        self.written_at = Some(Instant::now());
        Ok(())
    }

    /// The restore is complete.
    pub fn finish(self) -> Result<(), TransferError> {
        std::fs::remove_file(&self.path).map_err(|error| TransferError::file(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, incarnation: Option<&str>, chosen: Option<i64>) -> RestoreProgress {
        let incarnation = incarnation.map(str::to_owned);
        RestoreProgress::open(dir, "copy", "c.ks.t", incarnation, chosen, 100).expect("is opened")
    }

    #[test]
    fn a_restore_goes_on_with_its_timestamp() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut progress = open(dir.path(), Some("a"), None);
        assert_eq!((progress.timestamp_us(), progress.resumed), (100, 0));
        progress.done("x.parquet").expect("is noted");
        drop(progress);
        let incarnation = Some("a".to_owned());
        let later = RestoreProgress::open(dir.path(), "copy", "c.ks.t", incarnation, None, 999).expect("is opened");
        assert_eq!((later.timestamp_us(), later.resumed), (100, 1));
        assert!(later.is_done("x.parquet") && !later.is_done("y.parquet"));
        let other = RestoreProgress::open(dir.path(), "copy", "c.ks.t2", Some("a".to_owned()), None, 999);
        assert_eq!(other.expect("is opened").timestamp_us(), 999);
        later.finish().expect("is removed");
        assert_eq!(open(dir.path(), Some("a"), None).resumed, 0);
    }

    #[test]
    fn what_was_done_to_another_table_of_the_name_does_not_count() {
        for (now, chosen) in [(Some("b"), None), (None, None), (Some("a"), Some(7))] {
            let dir = tempfile::tempdir().expect("a folder");
            open(dir.path(), Some("a"), None).done("x.parquet").expect("is noted");
            let again = open(dir.path(), now, chosen);
            assert_eq!(again.resumed, 0, "{now:?} {chosen:?}");
            assert_eq!(again.timestamp_us(), chosen.unwrap_or(100));
        }
    }

    #[test]
    fn damaged_notes_are_none() {
        let dir = tempfile::tempdir().expect("a folder");
        open(dir.path(), Some("a"), None).done("x.parquet").expect("is noted");
        let path = std::fs::read_dir(dir.path()).expect("a folder").next().expect("a file").expect("a file").path();
        std::fs::write(path, "{}").expect("is written");
        assert_eq!(open(dir.path(), Some("a"), None).resumed, 0);
    }
}
