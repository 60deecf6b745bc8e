//! Statements about queues, what they mean to clients, and where they are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sluice_planner::catalog::definition::replace_file;
use sluice_planner::statement::StatementKind;
use sluice_planner::suggest::nearest;
use sluice_scheduler::cluster::{Allocation, QueueDefinition, QueueDefinitions, QueueingError};
use sluice_scheduler::core::QueueError;

use super::error::{EngineError, SqlState};
use super::session::Session;
use super::settings::parse_number;

/// The options of `CREATE QUEUE` that are not named after a resource.
const OPTIONS: [&str; 9] = [
    "weight",
    "guarantee_cpu",
    "guarantee_memory",
    "limit_cpu",
    "limit_memory",
    "max_running",
    "max_queued",
    "queue_timeout",
    "users",
];

/// Queues that survive a restart.
pub struct QueueStore {
    path: PathBuf,
    allocation: Arc<Allocation>,
    /// One statement about queues at a time, so that the file holds what the last of them left.
    writing: Mutex<()>,
}

impl QueueStore {
    /// Creates the queues of the configuration file, then those of the store, which win.
    pub fn open(
        path: PathBuf,
        configured: &BTreeMap<String, BTreeMap<String, String>>,
        allocation: Arc<Allocation>,
    ) -> Result<Self, EngineError> {
        let mut definitions = QueueDefinitions::default();
        for (name, options) in configured {
            definitions.queues.insert(name.clone(), defined(QueueDefinition::default(), options)?);
        }
        allocation.restore(&definitions);
        match std::fs::read(&path) {
            Ok(text) => {
                let stored = serde_json::from_slice(&text).map_err(|error| {
                    EngineError::new(SqlState::DATA_CORRUPTED, format!("{} cannot be read: {error}", path.display()))
                        .with_hint("repair or remove the file; the queues in it are then gone")
                })?;
                allocation.restore(&stored);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(store_error(&path, &error)),
        }
        Ok(Self { path, allocation, writing: Mutex::default() })
    }

    /// Applies a change and keeps it. What cannot be kept is not applied.
    fn change<E>(&self, change: impl FnOnce(&Allocation) -> Result<(), E>) -> Result<(), EngineError>
    where
        EngineError: From<E>,
    {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        change(&self.allocation)?;
        let text = serde_json::to_vec_pretty(&self.allocation.definitions())
            .map_err(|error| EngineError::new(SqlState::INTERNAL, error.to_string()))?;
        replace_file(&self.path, &text).map_err(|error| store_error(&self.path, &error))
    }
}

fn store_error(path: &std::path::Path, error: &std::io::Error) -> EngineError {
    EngineError::new(SqlState::IO_ERROR, format!("cannot use {}: {error}", path.display()))
}

impl From<QueueingError> for EngineError {
    fn from(error: QueueingError) -> Self {
        let message = error.to_string();
        match error {
            QueueingError::Queue(error) => match error {
                QueueError::NotFound(_) => {
                    Self::new(SqlState::UNDEFINED_OBJECT, message).with_hint("SHOW QUEUES lists every queue")
                }
                QueueError::Exists(_) => Self::new(SqlState::DUPLICATE_OBJECT, message),
                QueueError::Name(_) => Self::new(SqlState("42602"), message),
                QueueError::Weight(_) | QueueError::GuaranteeAboveLimit(_) | QueueError::GuaranteesAboveParent(_) => {
                    Self::new(SqlState::INVALID_PARAMETER, message)
                }
                QueueError::HasChildren(_) => Self::new(SqlState("55000"), message)
                    .with_hint("queries run in queues without children; name one of those below it"),
                QueueError::InUse(_) => {
                    Self::new(SqlState("55006"), message).with_hint("wait until its queries have ended, or cancel them")
                }
                _ => Self::new(SqlState("55000"), message),
            },
            QueueingError::TooManyKinds(_) => Self::new(SqlState::LIMIT_EXCEEDED, message),
            QueueingError::NotForUser { .. } => Self::new(SqlState::INSUFFICIENT_PRIVILEGE, message).with_hint(
                "an administrator can let the user in: GRANT USAGE ON QUEUE ... TO ..., or ALTER QUEUE ... SET (users = '...')",
            ),
            QueueingError::Full { .. } => Self::new(SqlState::TOO_MANY_CONNECTIONS, message)
                .with_hint("try again later, or have max_queued raised: ALTER QUEUE ... SET (max_queued = ...)"),
            QueueingError::TimedOut { .. } => Self::new(SqlState::TOO_MANY_CONNECTIONS, message)
                .with_hint("try again later, or have max_running or queue_timeout raised: ALTER QUEUE ... SET (...)"),
            QueueingError::Reservation(_) => Self::new(SqlState::INSUFFICIENT_RESOURCES, message),
        }
    }
}

/// Runs a statement about queues.
pub(super) fn execute(session: &Session, kind: &StatementKind) -> Result<(), EngineError> {
    let store = &session.engine().queue_store;
    let find = |path: &str| store.allocation.find_queue(path);
    match kind {
        StatementKind::CreateQueue { path, if_not_exists, options } => {
            if *if_not_exists && find(path).is_ok() {
                session.notice(format!("queue \"{path}\" already exists, skipping"));
                return Ok(());
            }
            let definition = defined(QueueDefinition::default(), options)?;
            store.change(|allocation| allocation.create_queue(path, definition))
        }
        StatementKind::AlterQueue { path, options } => {
            let (full, before) = find(path)?;
            let definition = defined(before, options)?;
            store.change(|allocation| allocation.alter_queue(&full, definition))
        }
        StatementKind::DropQueue { path, if_exists } => {
            if *if_exists && find(path).is_err() {
                session.notice(format!("queue \"{path}\" does not exist, skipping"));
                return Ok(());
            }
            store.change(|allocation| allocation.drop_queue(path))
        }
        StatementKind::Reserve { host, queue, amounts } => {
            let amounts = amounts.iter().map(|(name, text)| Ok((name.to_lowercase(), amount(name, name, text)?)));
            let amounts = amounts.collect::<Result<BTreeMap<_, _>, EngineError>>()?;
            store.change(|allocation| allocation.reserve(host, queue, amounts))
        }
        _ => Err(EngineError::new(SqlState::INTERNAL, "not a statement about queues")),
    }
}

/// `GRANT` or `REVOKE` of `USAGE ON QUEUE`, which are another way to write the option `users`.
///
/// # Errors
///
/// 55000 where a `REVOKE` would leave a queue without users, which everybody may enter.
pub(super) fn grant(
    session: &Session,
    privileges: &[String],
    queues: &[Vec<String>],
    roles: &[String],
    is_revoke: bool,
) -> Result<(), EngineError> {
    if let Some(other) = privileges.iter().find(|name| !["USAGE", "ALL"].contains(&name.as_str())) {
        let message = format!("invalid privilege type {other} for queue");
        return Err(EngineError::new(SqlState("0LP01"), message).with_hint("a queue has the privilege USAGE"));
    }
    roles.iter().try_for_each(|role| session.engine().roles().check_exists(role))?;
    session.engine().queue_store.change(|allocation| -> Result<(), EngineError> {
        let mut changed = Vec::new();
        for queue in queues {
            let (path, mut definition) = allocation.find_queue(&queue.join("."))?;
            if is_revoke {
                definition.users.retain(|user| !roles.contains(user));
                if definition.users.is_empty() {
                    return Err(EngineError::new(
                        SqlState("55000"),
                        format!("without these roles queue \"{path}\" would be for everybody"),
                    )
                    .with_hint("grant it to others first, or say so: ALTER QUEUE ... SET (users = none)"));
                }
            } else {
                let added = roles.iter().filter(|role| !definition.users.contains(role)).cloned().collect::<Vec<_>>();
                definition.users.extend(added);
            }
            changed.push((path, definition));
        }
        Ok(changed.into_iter().try_for_each(|(path, definition)| allocation.alter_queue(&path, definition))?)
    })
}

/// The definition that options make of another one. `none` takes an option back.
pub(super) fn defined(
    mut definition: QueueDefinition,
    options: &BTreeMap<String, String>,
) -> Result<QueueDefinition, EngineError> {
    for (name, text) in options {
        let name = name.to_lowercase();
        let is_none = text.eq_ignore_ascii_case("none");
        let count = || -> Result<Option<u32>, EngineError> {
            if is_none {
                Ok(None)
            } else {
                text.parse().map(Some).map_err(|_| bad(&name, text, "a whole number, or none"))
            }
        };
        match name.as_str() {
            "weight" => definition.weight = text.parse().map_err(|_| bad(&name, text, "a number above zero"))?,
            "max_running" => definition.max_running = count()?,
            "max_queued" => definition.max_queued = count()?,
            "queue_timeout" if is_none => definition.queue_timeout_ms = None,
            "queue_timeout" => {
                let ms = parse_number(text).ok_or_else(|| bad(&name, text, "a time such as '30s', or none"))?;
                definition.queue_timeout_ms = Some(ms);
            }
            "users" if is_none => definition.users.clear(),
            "users" => {
                definition.users =
                    text.split(',').map(|user| user.trim().to_owned()).filter(|user| !user.is_empty()).collect();
            }
            _ => match name.split_once('_') {
                Some((which @ ("guarantee" | "limit"), resource)) if !resource.is_empty() => {
                    let amounts = if which == "guarantee" { &mut definition.guarantee } else { &mut definition.limit };
                    if is_none {
                        amounts.remove(resource);
                    } else {
                        amounts.insert(resource.to_owned(), amount(&name, resource, text)?);
                    }
                }
                _ => {
                    let error =
                        EngineError::new(SqlState::INVALID_PARAMETER, format!("a queue has no option \"{name}\""));
                    return Err(match nearest(&name, OPTIONS) {
                        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
                        None => error.with_hint(format!("the options are {}", OPTIONS.join(", "))),
                    });
                }
            },
        }
    }
    Ok(definition)
}

fn bad(name: &str, value: &str, wanted: &str) -> EngineError {
    EngineError::new(SqlState::INVALID_PARAMETER, format!("invalid value for option \"{name}\": \"{value}\""))
        .with_hint(format!("it takes {wanted}"))
}

/// Cores such as `2` or `0.5` in thousandths; of other resources a number that may have a unit such as GB.
fn amount(option: &str, resource: &str, text: &str) -> Result<u64, EngineError> {
    if resource.eq_ignore_ascii_case("cpu") {
        let cores: f64 = text.parse().map_err(|_| bad(option, text, "a number of cores, such as 2 or 0.5"))?;
        if !(cores.is_finite() && (0.0..=1e9).contains(&cores)) {
            return Err(bad(option, text, "a number of cores, such as 2 or 0.5"));
        }
        return Ok((cores * 1_000.0).round() as u64);
    }
    parse_number(text).ok_or_else(|| bad(option, text, "a number, with a unit such as '8GB' for memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_have_units_and_none_takes_them_back() {
        let all = options(&[
            ("weight", "2.5"),
            ("guarantee_cpu", "0.5"),
            ("guarantee_memory", "8GB"),
            ("limit_disk", "100"),
            ("max_running", "3"),
            ("queue_timeout", "30s"),
            ("users", "ann, bob"),
        ]);
        let queue = defined(QueueDefinition::default(), &all).expect("all are right");
        assert_eq!((queue.weight, queue.guarantee["cpu"], queue.guarantee["memory"]), (2.5, 500, 8 << 30));
        assert_eq!((queue.limit["disk"], queue.max_running, queue.queue_timeout_ms), (100, Some(3), Some(30_000)));
        assert_eq!(queue.users, ["ann", "bob"]);
        let queue = defined(queue, &options(&[("guarantee_cpu", "none"), ("max_running", "none")])).expect("is right");
        assert!(!queue.guarantee.contains_key("cpu") && queue.max_running.is_none());
    }

    #[test]
    fn a_wrong_option_is_told_with_the_nearest() {
        let error = defined(QueueDefinition::default(), &options(&[("wieght", "1")])).expect_err("is unknown");
        assert_eq!(error.hint.as_deref(), Some("did you mean \"weight\"?"));
        let error = defined(QueueDefinition::default(), &options(&[("limit_cpu", "many")])).expect_err("is no number");
        assert_eq!(error.state, SqlState::INVALID_PARAMETER);
    }
}
