//! JSON files that carry their own SHA-256 and come into their place whole.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::TransferError;

/// The longest file that is read: room for the descriptions of 100,000 data files.
const MOST_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    /// Of the content as JSON without spaces.
    sha256: String,
    content: T,
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of some bytes as hexadecimal digits.
pub fn sha256_of(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

fn seal<T: Serialize>(path: &Path, content: &T) -> Result<Vec<u8>, TransferError> {
    let bytes = serde_json::to_vec(content).map_err(|error| TransferError::file(path, &error))?;
    let sealed = Sealed { sha256: sha256_of(&bytes), content };
    let mut text = serde_json::to_vec_pretty(&sealed).map_err(|error| TransferError::file(path, &error))?;
    text.push(b'\n');
    Ok(text)
}

/// Writes `content` in the place of whatever is at `path`.
pub fn write<T: Serialize>(path: &Path, content: &T) -> Result<(), TransferError> {
    write_bytes(path, &seal(path, content)?)
}

/// Writes a file in the place of whatever is at `path`: whole, on disk, or not at all.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), TransferError> {
    let temporary = Temporary::beside(path);
    let error = |error: std::io::Error| TransferError::file(path, &error);
    let mut file = File::create(temporary.path()).map_err(error)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(error)?;
    temporary.replace(path).map_err(error)
}

/// Reads what [`write`] wrote; `None` if there is no file.
pub fn read<T: Serialize + DeserializeOwned>(path: &Path) -> Result<Option<T>, TransferError> {
    let Some(text) = read_bytes(path, MOST_BYTES)? else { return Ok(None) };
    #[derive(Deserialize)]
    struct OfVersion {
        version: u64,
    }
    if let Ok(Sealed { content: OfVersion { version }, .. }) = serde_json::from_slice(&text)
        && version > u64::from(super::manifest::VERSION)
    {
        let reason = format!("it is of version {version}, and this is the reader of version 1");
        return Err(TransferError::Other { path: path.to_owned(), reason });
    }
    let sealed: Sealed<T> =
        serde_json::from_slice(&text).map_err(|error| TransferError::damaged(path, error.to_string()))?;
    let content = serde_json::to_vec(&sealed.content).map_err(|error| TransferError::file(path, &error))?;
    if sha256_of(&content) != sealed.sha256 {
        return Err(TransferError::damaged(path, "its content does not have the hash that it names"));
    }
    Ok(Some(sealed.content))
}

/// A file of bounded length; `None` if there is none.
pub fn read_bytes(path: &Path, most_bytes: u64) -> Result<Option<Vec<u8>>, TransferError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(TransferError::file(path, &error)),
    };
    let mut text = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut text).map_err(|error| TransferError::file(path, &error))?;
    if text.len() as u64 > most_bytes {
        return Err(TransferError::damaged(path, format!("it is longer than {most_bytes} bytes")));
    }
    Ok(Some(text))
}

/// A file under a name of its own, gone when nobody puts it into its place.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    /// A name in the folder of `path`, hidden, and not one that readers of Parquet look at.
    pub fn beside(path: &Path) -> Self {
        Self::in_folder(path.parent().unwrap_or(Path::new(".")))
    }

    /// A name in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.join(format!(".{}.tmp", uuid::Uuid::now_v7())))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves the file where it is.
    pub fn keep(self) -> PathBuf {
        let mut this = std::mem::ManuallyDrop::new(self);
        std::mem::take(&mut this.0)
    }

    /// Puts it in the place of what is at `path`.
    pub fn replace(self, path: &Path) -> std::io::Result<()> {
        fs::rename(&self.0, path)?;
        sync_folder(path)
    }

    /// Puts it at `path` if nothing is there; false if something is.
    pub fn place(&self, path: &Path) -> std::io::Result<bool> {
        match fs::hard_link(&self.0, path) {
            Ok(()) => sync_folder(path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            // A file system without links, where two at a time are not kept apart, but each file is whole.
            Err(_) if !path.exists() => fs::rename(&self.0, path).and_then(|()| sync_folder(path)).map(|()| true),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename nothing is there, which is as it should be.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes the name of a file last as its bytes do.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        version: u32,
        words: String,
    }

    #[test]
    fn what_is_written_is_read_and_a_changed_letter_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("note.json");
        assert!(read::<Note>(&path).expect("nothing is there").is_none());
        let note = Note { version: 1, words: "seven".to_owned() };
        write(&path, &note).expect("is written");
        assert_eq!(read::<Note>(&path).expect("is read"), Some(note));
        let text = fs::read_to_string(&path).expect("is there");
        fs::write(&path, text.replace("seven", "eleven")).expect("is written");
        let error = read::<Note>(&path).expect_err("was changed");
        assert_eq!(error.sqlstate(), "XX001");
        assert!(error.to_string().contains("note.json"), "{error}");
        fs::write(&path, &text[..text.len() / 2]).expect("is written");
        assert_eq!(read::<Note>(&path).expect_err("was cut").sqlstate(), "XX001");
    }

    #[test]
    fn a_later_version_is_no_damage() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("note.json");
        write(&path, &Note { version: 99, words: String::new() }).expect("is written");
        assert_eq!(read::<Note>(&path).expect_err("is newer").sqlstate(), "55000");
    }

    #[test]
    fn the_first_to_place_a_file_wins() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        for (words, wins) in [("first", true), ("second", false)] {
            let temporary = Temporary::beside(&path);
            fs::write(temporary.path(), words).expect("is written");
            assert_eq!(temporary.place(&path).expect("is placed"), wins);
        }
        assert_eq!(fs::read_to_string(&path).expect("is there"), "first");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "no temporary file is left");
    }
}
