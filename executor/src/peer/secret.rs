//! What coordinator and executors know and nobody else does.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hmac::digest::Key;
use hmac::{Hmac, KeyInit, Mac};
use rustls::crypto::aws_lc_rs;
use sha2::{Digest, Sha256};

/// The fewest bytes of a secret: what anybody may ask of a port lets them try secrets as fast as they can compute.
const LEAST_BYTES: usize = 32;
/// Bytes of a file that are read; a longer one is no secret.
const MOST_BYTES: u64 = 4096;
/// Permissions that a file must not give: any to its group and others; if it is root's, its group may read it.
const FORBIDDEN_MODE: u32 = 0o077;
const FORBIDDEN_MODE_OF_ROOT: u32 = 0o037;

/// Why a file is not taken for a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read the cluster secret {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    /// Others on the machine may read it.
    #[error("others may read the cluster secret {path} (mode {mode:03o}): make it its owner's alone with chmod 600")]
    Exposed { path: PathBuf, mode: u32 },
    /// It could be guessed.
    #[error(
        "the cluster secret {path} has {bytes} characters, and takes {LEAST_BYTES} to {MOST_BYTES}: make one with \
         openssl rand -hex 32"
    )]
    Length { path: PathBuf, bytes: usize },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a cluster secret")]
    Random,
}

/// The secret of a cluster. It does not leave the process: what goes over the wire is computed from it.
///
/// Nothing of it is shown by `Debug`.
#[derive(Clone)]
pub struct ClusterSecret {
    keyed: Hmac<Sha256>,
}

impl ClusterSecret {
    /// Reads a file of text, such as `openssl rand -hex 32` prints; white space around it does not count.
    ///
    /// # Errors
    ///
    /// When it cannot be read, when others than its owner may read it, and when it is too short or no secret at all.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let forbidden = if metadata.uid() == 0 { FORBIDDEN_MODE_OF_ROOT } else { FORBIDDEN_MODE };
        if metadata.mode() & forbidden != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o777 });
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let key = bytes.trim_ascii();
        if key.len() < LEAST_BYTES || bytes.len() as u64 > MOST_BYTES {
            return Err(SecretError::Length { path: path.to_owned(), bytes: key.len() });
        }
        Ok(Self::new(key))
    }

    /// A secret that only this process knows, for a cluster within it.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn random() -> Result<Self, SecretError> {
        let mut key = [0; LEAST_BYTES];
        aws_lc_rs::default_provider().secure_random.fill(&mut key).map_err(|_| SecretError::Random)?;
        Ok(Self::new(&key))
    }

    fn new(text: &[u8]) -> Self {
        // A key of a whole block: the text's hash, filled up with zeros.
        let mut key = Key::<Hmac<Sha256>>::default();
        for (byte, hashed) in key.iter_mut().zip(Sha256::digest(text)) {
            *byte = hashed;
        }
        Self { keyed: Hmac::new(&key) }
    }

    /// A code over `bytes` that only those who know the secret can compute: HMAC-SHA-256 (RFC 2104).
    ///
    /// `context` says what the bytes are for, so that a code for one purpose is worth nothing for another.
    pub fn mac(&self, context: &str, bytes: &[u8]) -> [u8; 32] {
        self.hasher(context, bytes).finalize().into_bytes().into()
    }

    /// Whether `mac` is the code over `bytes`; takes as long for a wrong one as for the right one.
    pub fn verify(&self, context: &str, bytes: &[u8], mac: &[u8]) -> bool {
        self.hasher(context, bytes).verify_slice(mac).is_ok()
    }

    fn hasher(&self, context: &str, bytes: &[u8]) -> Hmac<Sha256> {
        let mut hasher = self.keyed.clone();
        // The length keeps a context and the bytes after it apart.
        hasher.update(&(context.len() as u64).to_be_bytes());
        hasher.update(context.as_bytes());
        hasher.update(bytes);
        hasher
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("cluster.secret");
        std::fs::write(&path, text).expect("is written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("is ours");
        (folder, path)
    }

    #[test]
    fn a_code_is_worth_something_for_its_bytes_its_purpose_and_its_cluster_only() {
        let (_folder, path) = file(&"5e".repeat(32), 0o600);
        let secret = ClusterSecret::read(&path).expect("is a secret");
        let mac = secret.mac("ticket", b"7");
        assert!(secret.verify("ticket", b"7", &mac));
        assert!(!secret.verify("ticket", b"8", &mac));
        assert!(!secret.verify("ticket7", b"", &mac));
        assert!(!secret.verify("ticket", b"7", &mac[..31]));
        assert!(!ClusterSecret::random().expect("random numbers").verify("ticket", b"7", &mac));
    }

    #[test]
    fn the_newline_that_an_editor_adds_does_not_count() {
        let (_one, one) = file(&"5e".repeat(32), 0o600);
        let (_other, other) = file(&format!("{}\r\n", "5e".repeat(32)), 0o400);
        let mac = ClusterSecret::read(&one).expect("is a secret").mac("c", b"");
        assert!(ClusterSecret::read(&other).expect("is a secret").verify("c", b"", &mac));
    }

    #[test]
    fn a_file_that_is_no_secret_is_refused() {
        let told = |text: &str, mode| {
            let (_folder, path) = file(text, mode);
            ClusterSecret::read(&path).expect_err("is no secret").to_string()
        };
        assert!(told("short", 0o600).contains("has 5 characters"), "{}", told("short", 0o600));
        assert!(told(&"x".repeat(5000), 0o600).contains("openssl rand -hex 32"));
        assert!(told(&"5e".repeat(32), 0o644).contains("chmod 600"), "{}", told(&"5e".repeat(32), 0o644));
        let missing = ClusterSecret::read(Path::new("/nowhere/cluster.secret")).expect_err("is not there");
        assert!(missing.to_string().contains("/nowhere/cluster.secret"), "{missing}");
    }

    #[test]
    fn it_is_not_shown() {
        let secret = ClusterSecret::random().expect("random numbers");
        assert_eq!(format!("{secret:?}"), "ClusterSecret");
    }
}
