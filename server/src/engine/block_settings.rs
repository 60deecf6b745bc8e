//! What a transaction block can take back, which is its settings: `SET LOCAL` ends with it, and `ROLLBACK` takes back what
//! was `SET` in it. What was written stays, and `ROLLBACK` says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::PoisonError;

use sluice_planner::statement::{Statement, StatementKind};

use super::error::{EngineError, SqlState};
use super::session::{Session, TransactionStatus};

/// First words of the tags of statements that change more than the session.
const WRITING: [&str; 12] = [
    "ALTER", "COPY", "CREATE", "DELETE", "DROP", "GRANT", "INSERT", "MERGE", "RESTORE", "REVOKE", "TRUNCATE", "UPDATE",
];

/// What a session chose, by the settings' names in lower case. What is not in it has its default.
pub(super) type Chosen = BTreeMap<String, String>;

/// A transaction block's way back.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// What the session had chosen when the block began.
    before: Chosen,
    /// What the session has chosen besides the block's `SET LOCAL`, which hides it; none is the default.
    hidden: BTreeMap<String, Option<String>>,
    /// Whether a statement of the block has changed more than settings.
    has_written: bool,
}

impl Session {
    /// Everything that the session chose.
    fn chosen(&self) -> Chosen {
        let mut chosen = self.with_settings(|settings| settings.chosen());
        let overrides: &HashMap<String, String> = &self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.extend(overrides.iter().map(|(name, value)| (name.clone(), value.clone())));
        chosen
    }

    fn with_block<T>(&self, f: impl FnOnce(&mut Option<Block>) -> T) -> T {
        f(&mut self.block.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what is set when a block begins.
    pub(super) fn begin_block_settings(&self) {
        let before = self.chosen();
        self.with_block(|block| *block = Some(Block { before, ..Block::default() }));
    }

    /// Notes that a statement is about to write, if it is one that does.
    pub(super) fn note_write(&self, statement: &Statement) {
        let writes = WRITING.iter().any(|word| statement.tag.starts_with(word))
            && !matches!(statement.kind, StatementKind::CopyOut { .. });
        if writes {
            self.with_block(|block| block.iter_mut().for_each(|block| block.has_written = true));
        }
    }

    /// Takes back what was set for the block only, or all that was set in it.
    pub(super) fn end_block_settings(&self, is_rolled_back: bool) {
        let Some(block) = self.with_block(Option::take) else { return };
        if !is_rolled_back {
            block.hidden.into_iter().for_each(|(name, value)| self.go_back(&name, value));
            return;
        }
        if block.has_written {
            self.warn(
                SqlState("01000"),
                "what the transaction block wrote stays: every statement takes effect at once",
            );
        }
        let now = self.chosen();
        let names: BTreeSet<&String> = now.keys().chain(block.before.keys()).collect();
        for name in names {
            let before = block.before.get(name);
            if now.get(name) != before {
                self.go_back(name, before.cloned());
            }
        }
    }

    /// `SET`, `RESET`: a value for the session, or none for the default.
    ///
    /// # Errors
    /// If there is no such setting, or the value is not for it.
    pub fn set_or_reset(&self, name: &str, value: Option<&str>) -> Result<(), EngineError> {
        match value {
            Some(value) => self.set_setting(name, value)?,
            None => self.reset_setting(name)?,
        }
        self.with_block(|block| block.as_mut().and_then(|block| block.hidden.remove(&name.to_lowercase())));
        Ok(())
    }

    /// `SET LOCAL`: a value until the transaction block ends. Outside of a block it is for nothing, and told so.
    ///
    /// # Errors
    /// Those of [`Session::set_or_reset`].
    pub fn set_local(&self, name: &str, value: Option<&str>) -> Result<(), EngineError> {
        let is_in_block = self.transaction_status() != TransactionStatus::Idle;
        if !is_in_block {
            self.warn(SqlState::NO_TRANSACTION, "SET LOCAL can only be used in transaction blocks");
        }
        self.set_for_block(name, value).map(|_| ())
    }

    /// The same without a word outside of a block; tells the value that was set.
    ///
    /// # Errors
    /// Those of [`Session::set_or_reset`].
    pub fn set_for_block(&self, name: &str, value: Option<&str>) -> Result<Option<String>, EngineError> {
        let name = name.to_lowercase();
        let before = self.chosen().remove(&name);
        let hidden = self.with_block(|block| block.as_mut().and_then(|block| block.hidden.remove(&name)));
        let set = self.set_or_reset(&name, value);
        let now = self.setting(&name).or_else(|| self.chosen().remove(&name));
        let way_back = match hidden {
            Some(hidden) => hidden,
            None if set.is_ok() => before,
            None => return set.map(|()| None),
        };
        let is_in_block = self.with_block(|block| {
            block.as_mut().map(|block| block.hidden.insert(name.clone(), way_back.clone())).is_some()
        });
        if !is_in_block {
            self.go_back(&name, way_back);
        }
        set.map(|()| now)
    }

    /// Back to a value that was in force before, so that it can be set again.
    fn go_back(&self, name: &str, value: Option<String>) {
        if is_of_datafusion(name) {
            let result = match &value {
                Some(value) => self.set_setting(name, value),
                None => self.reset_setting(name),
            };
            if let Err(error) = result {
                tracing::warn!(%error, name, "a setting does not go back to what it was");
            }
            return;
        }
        self.with_settings(|settings| settings.put_back(name, value));
        self.follow_setting(name);
    }
}

/// Whether a setting is kept in DataFusion's configuration.
fn is_of_datafusion(name: &str) -> bool {
    ["datafusion.", "ballista.", "cassandra."].iter().any(|prefix| name.starts_with(prefix))
}
