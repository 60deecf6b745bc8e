//! Folders that statements may read and write files in.

use std::path::{Component, Path, PathBuf};

use super::error::{EngineError, SqlState};

/// Folders of the server that statements may use; none are all, and URLs too.
#[derive(Debug, Clone, Default)]
pub struct FileRoots(Vec<PathBuf>);

impl FileRoots {
    /// These folders, which have to be there.
    ///
    /// # Errors
    ///
    /// With the folder that is not there.
    pub fn new(folders: &[PathBuf]) -> Result<Self, EngineError> {
        let resolve = |folder: &PathBuf| {
            std::fs::canonicalize(folder).map_err(|error| {
                EngineError::new(SqlState::UNDEFINED_FILE, format!("file root {}: {error}", folder.display()))
            })
        };
        Ok(Self(folders.iter().map(resolve).collect::<Result<_, _>>()?))
    }

    /// Whether statements may use files anywhere.
    pub fn is_anywhere(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of the folders; `None` if files may be anywhere.
    pub fn first(&self) -> Option<&Path> {
        self.0.first().map(PathBuf::as_path)
    }

    /// Refuses a path that is not below one of the folders, links on the way included.
    pub fn check(&self, location: &str) -> Result<(), EngineError> {
        if self.is_anywhere() {
            return Ok(());
        }
        let refused = || {
            EngineError::new(SqlState::INSUFFICIENT_PRIVILEGE, format!("\"{location}\" is outside of the file roots"))
                .with_hint("the service's setting file_roots names the folders whose files statements may use")
        };
        let path = Path::new(location.strip_prefix("file://").unwrap_or(location));
        let has_parent = path.components().any(|part| part == Component::ParentDir);
        // In a URL %2e%2e is a parent too, and what comes after a host is none of our folders.
        let is_plain = path.is_absolute() && !has_parent && !location.contains('%');
        let resolved = is_plain.then(|| resolved(path)).flatten().ok_or_else(refused)?;
        if self.0.iter().any(|root| resolved.starts_with(root)) { Ok(()) } else { Err(refused()) }
    }
}

/// The path with links resolved as far as it exists; what does not exist yet, or has a wildcard, follows as it is.
fn resolved(path: &Path) -> Option<PathBuf> {
    let has_wildcard = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let fixed: PathBuf = path.components().take_while(|part| !has_wildcard(part)).collect();
    let mut existing = fixed.as_path();
    loop {
        match std::fs::canonicalize(existing) {
            Ok(real) => return Some(real.join(fixed.strip_prefix(existing).ok()?)),
            // A link whose target is not there could lead anywhere by the time that it is.
            Err(_) if existing.is_symlink() => return None,
            Err(_) => existing = existing.parent()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_a_root_is_allowed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).expect("is created");
            std::fs::write(folder.join("a.parquet"), "").expect("is written");
        }
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("is linked");
        std::os::unix::fs::symlink(outside.join("later"), inside.join("dangling")).expect("is linked");
        let roots = FileRoots::new(std::slice::from_ref(&inside)).expect("is there");
        let at = |path: &str| roots.check(&path.replace("IN", &inside.display().to_string()));
        for allowed in ["IN/a.parquet", "IN", "IN/", "IN/new/b.parquet", "IN/*.parquet", "file://IN/a.parquet"] {
            at(allowed).expect(allowed);
        }
        for refused in [
            "IN/../out/a.parquet",
            "IN/link/a.parquet",
            "IN/dangling",
            "IN-other/a.parquet",
            "IN/%2e%2e/out/a.parquet",
            "/etc/passwd",
            "etc/passwd",
            "http://127.0.0.1/a.parquet",
            "s3://bucket/a.parquet",
            "",
        ] {
            let error = at(refused).expect_err(refused);
            assert_eq!(error.state, SqlState::INSUFFICIENT_PRIVILEGE, "{refused}");
        }
        FileRoots::default().check("/etc/passwd").expect("anywhere is allowed without roots");
    }
}
