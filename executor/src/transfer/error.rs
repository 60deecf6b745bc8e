//! What can go wrong with folders of files, by what a user can do about it.

use std::path::{Path, PathBuf};

use datafusion::error::DataFusionError;

const DAMAGED: &str = "is damaged";
const NOT_WHOLE: &str = "is not complete";
const OTHER: &str = "holds something else";
const UNFIT: &str = "the columns do not fit";
const FILE_FAILED: &str = "the file could not be used";

/// One variant for each thing that a user can act on.
#[derive(thiserror::Error)]
pub enum TransferError {
    /// The system said no.
    #[error("{}: {FILE_FAILED}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// Bytes that are not those that were written.
    #[error("{} {DAMAGED}: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A copy that was not finished.
    #[error("{} {NOT_WHOLE}: {reason}", path.display())]
    NotWhole { path: PathBuf, reason: String },
    /// A folder that belongs to another copy.
    #[error("{} {OTHER}: {reason}", path.display())]
    Other { path: PathBuf, reason: String },
    /// Columns that are missing, too many or of another type.
    #[error("{UNFIT}: {0}")]
    Columns(String),
}

/// As for users: between processes an error travels as what Ballista's `{:?}` makes of it.
impl std::fmt::Debug for TransferError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl TransferError {
    /// An error of the system about a path.
    pub fn file(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), reason: error.to_string() }
    }

    /// Bytes that are not those that were written.
    pub fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    /// The SQLSTATE of the error's class.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::File { .. } => "58030",
            Self::Damaged { .. } => "XX001",
            Self::NotWhole { .. } | Self::Other { .. } => "55000",
            Self::Columns(_) => "42804",
        }
    }

    /// The SQLSTATE of an error that reached us as text from a task.
    pub fn sqlstate_of_text(text: &str) -> Option<&'static str> {
        [(DAMAGED, "XX001"), (NOT_WHOLE, "55000"), (OTHER, "55000"), (UNFIT, "42804"), (FILE_FAILED, "58030")]
            .into_iter()
            .find(|(words, _)| text.contains(words))
            .map(|(_, state)| state)
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::File { .. } => Some("the coordinator and every executor need the same folder under the same path"),
            Self::Damaged { .. } => Some("take the file from another copy of the folder"),
            Self::NotWhole { .. } => Some("repeat the statement that wrote the folder: it goes on where it stopped"),
            Self::Other { .. } => Some("choose another folder, or empty this one"),
            Self::Columns(_) => None,
        }
    }
}

impl From<TransferError> for DataFusionError {
    fn from(error: TransferError) -> Self {
        Self::External(Box::new(error))
    }
}
