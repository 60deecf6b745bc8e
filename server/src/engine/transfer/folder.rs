//! Paths of the server.

use std::path::{Component, Path, PathBuf};

use super::super::error::{EngineError, SqlState};

/// Whether a path means a folder: it ends in a slash, or one is there.
pub fn names_folder(path: &str) -> bool {
    path.ends_with('/') || without_scheme(path).is_ok_and(|path| Path::new(path).is_dir())
}

fn without_scheme(path: &str) -> Result<&str, EngineError> {
    let path = path.strip_prefix("file://").unwrap_or(path);
    match path.contains("://") {
        true => Err(EngineError::not_supported(format!("a folder at {path}"))
            .with_hint("paths are of the server's own disks, or of what is mounted there")),
        false => Ok(path),
    }
}

/// The folder of a path; a relative one begins where the server was started.
pub fn folder(path: &str) -> Result<PathBuf, EngineError> {
    let bad = |reason: &str| EngineError::new(SqlState::INVALID_PARAMETER, format!("the path '{path}' {reason}"));
    let plain = without_scheme(path)?;
    if plain.contains('\0') {
        return Err(bad("holds a character that no path has"));
    }
    if Path::new(plain).components().any(|component| component == Component::ParentDir) {
        return Err(bad("has \"..\" in it").with_hint("write the whole path"));
    }
    std::path::absolute(plain).map_err(|error| bad(&format!("cannot be used: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_where_it_says() {
        assert_eq!(folder("/backups/a/").expect("is one"), Path::new("/backups/a/"));
        assert_eq!(folder("file:///backups/a/").expect("is one"), Path::new("/backups/a/"));
        assert!(folder("relative/").expect("is one").is_absolute());
        for path in ["/backups/../etc/", "../x/", "s3://bucket/x/", "/a\0b/"] {
            assert!(folder(path).is_err(), "{path}");
        }
        assert!(names_folder("/nothing/is/here/"));
        assert!(names_folder("/tmp"));
        assert!(!names_folder("/tmp/x.parquet"));
    }
}
