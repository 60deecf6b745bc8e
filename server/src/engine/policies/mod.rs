//! Policies: which rows and values of a table a user sees.
//!
//! A policy belongs to a table and is for roles. It is kept in `policies.json` beside the roles. Each session looks
//! tables up through [`catalogs`], which give the user of a session what is left for it of a table with policies
//! ([`shown`]): a plan of the table's scan, the policies' predicate, a barrier that keeps the query's own predicates
//! above it (`sluice_planner::barrier`), and the masks in the places of their columns. A plan that was made before a
//! policy was changed is made again before it is run ([`renew`]).
//!
//! Superusers see everything. Who is under a policy of a table does not write it: a row that is written by its key
//! could be one that is hidden.

mod catalogs;
mod definition;
mod renew;
mod shown;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sluice_planner::catalog::definition::replace_file;
use sluice_planner::statement::{PolicyDefinition, PolicyStatement};

pub use definition::{Policy, TableName};
pub use renew::{NamedStatements, prepared_name};

use definition::{Effect, Restriction};

use datafusion::catalog::information_schema::INFORMATION_SCHEMA;

use super::ddl::FullName;
use super::error::{EngineError, SqlState};
use super::session::Session;
use crate::pgcatalog::PG_CATALOG;

/// Policies and masks of one table, each of which every plan that reads it contains.
const MOST_OF_A_TABLE: usize = 100;

/// The policies of a service.
pub struct Policies {
    path: PathBuf,
    /// In the order of tables and names.
    policies: RwLock<Vec<Policy>>,
    /// Grows with each change.
    version: AtomicU64,
}

impl Policies {
    /// The policies of a file, none if it is not there.
    ///
    /// # Errors
    ///
    /// When the file cannot be read: without it, rows would be seen that are hidden.
    pub fn open(path: PathBuf) -> Result<Self, EngineError> {
        let policies = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                EngineError::new(SqlState::DATA_CORRUPTED, format!("{} cannot be read: {error}", path.display()))
                    .with_hint("repair the file from a backup, or remove it: what the policies in it hide is then seen")
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(store_error(&path, &error)),
        };
        Ok(Self { path, policies: RwLock::new(policies), version: AtomicU64::new(0) })
    }

    /// A number that is another one after each change.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn read<T>(&self, read: impl FnOnce(&[Policy]) -> T) -> T {
        read(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies a change and keeps it. What cannot be kept is not applied.
    fn change(&self, change: impl FnOnce(&mut Vec<Policy>) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let mut current = self.policies.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = current.clone();
        change(&mut changed)?;
        if *current == changed {
            return Ok(());
        }
        changed.sort_by(|a, b| (&a.table, &a.name).cmp(&(&b.table, &b.name)));
        let text = serde_json::to_vec_pretty(&changed)
            .map_err(|error| EngineError::new(SqlState::INTERNAL, error.to_string()))?;
        replace_file(&self.path, &text).map_err(|error| store_error(&self.path, &error))?;
        *current = changed;
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// All policies, by table and name.
    pub fn list(&self) -> Vec<Policy> {
        self.read(<[Policy]>::to_vec)
    }

    /// What a user of these roles sees of a table; `None` is everything.
    pub fn restriction(&self, table: &TableName, roles: impl FnOnce() -> BTreeSet<String>) -> Option<Restriction> {
        let own: Vec<Policy> = self.read(|all| all.iter().filter(|policy| policy.table == *table).cloned().collect());
        // Roles have a lock of their own, which is not waited for under this one.
        if own.is_empty() { None } else { Restriction::of(own.iter(), &roles()) }
    }

    /// The tables with policies in a schema.
    pub fn tables_in(&self, catalog: &str, schema: &str) -> BTreeSet<TableName> {
        let in_schema = |policy: &&Policy| policy.table.is_in(catalog, Some(schema), None);
        self.read(|all| all.iter().filter(in_schema).map(|policy| policy.table.clone()).collect())
    }

    /// A policy that is for this role by name.
    pub fn naming(&self, role: &str) -> Option<Policy> {
        self.read(|all| all.iter().find(|policy| policy.roles.contains(role)).cloned())
    }

    /// Forgets the policies of a table, schema or catalog that was dropped.
    pub fn forget(&self, catalog: &str, schema: Option<&str>, table: Option<&str>) -> Result<(), EngineError> {
        self.change(|all| {
            all.retain(|policy| !policy.table.is_in(catalog, schema, table));
            Ok(())
        })
    }
}

fn store_error(path: &std::path::Path, error: &std::io::Error) -> EngineError {
    EngineError::new(SqlState::IO_ERROR, format!("cannot use {}: {error}", path.display()))
}

/// Has a session look tables up through their policies.
pub(super) fn register(session: &Arc<Session>) {
    let context = session.context();
    let inner = Arc::clone(context.state_ref().read().catalog_list());
    context.register_catalog_list(Arc::new(catalogs::PolicedCatalogs { inner, session: Arc::downgrade(session) }));
}

/// Runs a statement about policies, which was found to be allowed.
pub(super) async fn execute(session: &Session, statement: &PolicyStatement) -> Result<(), EngineError> {
    let policies = &session.engine().policies;
    match statement {
        PolicyStatement::Create(definition) => {
            let policy = checked(session, definition).await?;
            policies.change(|all| {
                if place(all, &policy.table, &policy.name, policy.effect.column().is_some()).is_some() {
                    let what = if policy.effect.column().is_some() { "mask" } else { "policy" };
                    let message = format!("{what} \"{}\" for table \"{}\" already exists", policy.name, policy.table);
                    return Err(EngineError::new(SqlState::DUPLICATE_OBJECT, message));
                }
                if all.iter().filter(|other| other.table == policy.table).count() >= MOST_OF_A_TABLE {
                    let message = format!("table \"{}\" has {MOST_OF_A_TABLE} policies and masks", policy.table);
                    return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, message)
                        .with_hint("a predicate can ask in a table what each role may see"));
                }
                all.push(policy);
                Ok(())
            })
        }
        PolicyStatement::Alter { name, table, is_mask, roles, using } => {
            let table = table_name(session, table)?;
            let mut changed = policies
                .read(|all| place(all, &table, name, *is_mask).and_then(|place| all.get(place).cloned()))
                .ok_or_else(|| unknown(&table, name, *is_mask))?;
            if let Some(roles) = roles {
                changed.roles = existing_roles(session, roles)?;
            }
            if let Some(using) = using {
                changed.using.clone_from(using);
                check_expression(session, &changed).await?;
            }
            policies.change(|all| {
                let place = place(all, &table, name, *is_mask).ok_or_else(|| unknown(&table, name, *is_mask))?;
                if let Some(policy) = all.get_mut(place) {
                    *policy = changed;
                }
                Ok(())
            })
        }
        PolicyStatement::Drop { name, table, is_mask, if_exists } => {
            let table = table_name(session, table)?;
            policies.change(|all| match place(all, &table, name, *is_mask) {
                Some(place) => {
                    all.remove(place);
                    Ok(())
                }
                None if *if_exists => {
                    session.notice(format!("{}, skipping", unknown(&table, name, *is_mask)));
                    Ok(())
                }
                None => Err(unknown(&table, name, *is_mask)),
            })
        }
    }
}

fn place(all: &[Policy], table: &TableName, name: &str, is_mask: bool) -> Option<usize> {
    all.iter()
        .position(|policy| policy.table == *table && policy.name == name && policy.effect.column().is_some() == is_mask)
}

fn unknown(table: &TableName, name: &str, is_mask: bool) -> EngineError {
    let what = if is_mask { "mask" } else { "policy" };
    EngineError::new(SqlState::UNDEFINED_OBJECT, format!("{what} \"{name}\" for table \"{table}\" does not exist"))
}

fn table_name(session: &Session, parts: &[String]) -> Result<TableName, EngineError> {
    let FullName { catalog, schema, table } = FullName::of_parts(session, parts)?;
    Ok(TableName::new(catalog, schema, table))
}

fn existing_roles(session: &Session, names: &[String]) -> Result<BTreeSet<String>, EngineError> {
    names.iter().try_for_each(|name| session.engine().roles().check_exists(name))?;
    Ok(names.iter().cloned().collect())
}

/// The policy that a statement tells of, if it can be used.
async fn checked(session: &Session, definition: &PolicyDefinition) -> Result<Policy, EngineError> {
    let policy = Policy {
        name: definition.name.clone(),
        table: table_name(session, &definition.table)?,
        effect: Effect::from(&definition.kind),
        roles: existing_roles(session, &definition.roles)?,
        using: definition.using.clone(),
    };
    check_expression(session, &policy).await?;
    Ok(policy)
}

async fn check_expression(session: &Session, policy: &Policy) -> Result<(), EngineError> {
    let [catalog, schema, table] = &policy.table.0;
    if schema == "system" || [INFORMATION_SCHEMA, PG_CATALOG].contains(&schema.as_str()) {
        return Err(EngineError::not_supported("a policy on a table of the service itself"));
    }
    let name = FullName { catalog: catalog.clone(), schema: schema.clone(), table: table.clone() };
    let found = session.named_table(&name).await?;
    let restriction = match policy.effect.column() {
        Some(column) => Restriction { predicate: None, masks: vec![(column.to_owned(), policy.using.clone())] },
        None => Restriction { predicate: Some(definition::in_parentheses(&policy.using)), masks: Vec::new() },
    };
    shown::check(session, &policy.table, &found, &restriction).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, role: &str) -> Policy {
        Policy {
            name: name.to_owned(),
            table: TableName::new("c", "s", "t"),
            effect: Effect::Permissive,
            roles: BTreeSet::from([role.to_owned()]),
            using: "true".to_owned(),
        }
    }

    fn roles(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn policies_are_there_after_a_restart_and_go_with_their_table() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("policies.json");
        let policies = Policies::open(path.clone()).expect("is empty");
        let push = |policy: Policy| {
            policies.change(|all| {
                all.push(policy);
                Ok(())
            })
        };
        push(policy("b", "sales")).expect("is kept");
        push(policy("a", "sales")).expect("is kept");
        assert_eq!(policies.version(), 2);
        let reopened = Policies::open(path.clone()).expect("is read");
        assert_eq!(reopened.list(), [policy("a", "sales"), policy("b", "sales")]);
        assert_eq!(reopened.naming("sales").map(|policy| policy.name).as_deref(), Some("a"));
        let table = TableName::new("c", "s", "t");
        assert!(reopened.restriction(&table, || roles(&["bob"])).is_some());
        assert!(reopened.restriction(&TableName::new("c", "s", "u"), || roles(&["bob"])).is_none());
        reopened.forget("c", Some("s"), Some("t")).expect("is kept");
        assert!(Policies::open(path).expect("is read").list().is_empty());
    }

    #[test]
    fn a_damaged_file_is_an_error_and_does_not_show_everything() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("policies.json");
        std::fs::write(&path, "[").expect("is written");
        assert_eq!(Policies::open(path).err().map(|error| error.state), Some(SqlState::DATA_CORRUPTED));
    }
}
