//! Roles: who may log in, what they may do, and where that is kept.
//!
//! Without roles nobody is asked for a password, and everybody may do everything: that is for one's own machine. With
//! [`LoginPolicy::Password`] a client has to prove that it knows the password of a role that may log in, and may then do
//! what was granted to the role, to a role that it is a member of, or to `public`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use sluice_planner::catalog::definition::replace_file;
use sluice_planner::statement::{Granted, ObjectKind, RoleOptions, StatementKind};

use super::audit::{AuditLog, Event};
use super::ddl::{FullName, keyspace_name};
use super::error::{EngineError, SqlState};
use super::password::Verifier;
use super::queues;
use super::session::Session;

/// The role that everybody is a member of.
pub const PUBLIC: &str = "public";
/// Whose members read files of the server, by the name that PostgreSQL has for it.
pub const READ_FILES: &str = "pg_read_server_files";
/// Whose members write files of the server.
pub const WRITE_FILES: &str = "pg_write_server_files";
/// Whose members see what others run.
pub const MONITOR: &str = "pg_monitor";
/// Whose members create and drop catalogs.
pub const CREATE_CATALOGS: &str = "sluice_create_catalogs";
/// Roles that are always there, and that nobody logs in as.
const PREDEFINED: [&str; 5] = [PUBLIC, READ_FILES, WRITE_FILES, MONITOR, CREATE_CATALOGS];

/// Bytes of a role's name, as in PostgreSQL.
const MOST_NAME_BYTES: usize = 63;
/// Failed logins of one user from one place, after which it has to wait.
const MOST_FAILED_LOGINS: u32 = 10;
/// How long it has to wait.
const FAILED_LOGIN_WAIT: Duration = Duration::from_secs(60);
/// Users and places whose failures are remembered.
const FAILURES_KEPT: usize = 10_000;

/// Whether clients are asked who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginPolicy {
    /// A client is who it says it is.
    Trust,
    /// A client has to know its role's password.
    Password,
}

/// What a role may do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Privilege {
    /// Read rows.
    Select,
    /// Add rows, or write over them.
    Insert,
    /// Change rows.
    Update,
    /// Delete rows.
    Delete,
    /// Delete all rows at once.
    Truncate,
    /// Create and drop what is in a schema or catalog.
    Create,
}

const PRIVILEGES: [(&str, Privilege); 6] = [
    ("SELECT", Privilege::Select),
    ("INSERT", Privilege::Insert),
    ("UPDATE", Privilege::Update),
    ("DELETE", Privilege::Delete),
    ("TRUNCATE", Privilege::Truncate),
    ("CREATE", Privilege::Create),
];

impl std::fmt::Display for Privilege {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = PRIVILEGES.iter().find(|(_, privilege)| privilege == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// A table, a schema or a catalog, by as many parts of its name: what is granted on it is granted on all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(Vec<String>);

impl Object {
    /// An object by the parts of its name, the catalog first.
    pub fn new(parts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(parts.into_iter().map(Into::into).collect())
    }

    fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The parts of its name if it is a table.
    pub fn table(&self) -> Option<&[String; 3]> {
        self.0.as_slice().try_into().ok()
    }

    fn kind(&self) -> &'static str {
        match self.0.len() {
            1 => "catalog",
            2 => "schema",
            _ => "table",
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} \"{}\"", self.kind(), self.0.join("."))
    }
}

/// A role.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    login: bool,
    superuser: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verifier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection_limit: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    member_of: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grants: Vec<(Object, BTreeSet<Privilege>)>,
}

/// All roles by their names, as they are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Definitions {
    roles: BTreeMap<String, Role>,
}

/// A role as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleInfo {
    /// Its name.
    pub name: String,
    /// Whether it may log in.
    pub login: bool,
    /// Whether it may do everything.
    pub superuser: bool,
    /// Roles that it is a member of.
    pub member_of: Vec<String>,
    /// What was granted to it: object and privileges.
    pub grants: Vec<(String, String)>,
}

/// The roles of a service.
pub struct Roles {
    path: PathBuf,
    policy: LoginPolicy,
    definitions: RwLock<Definitions>,
    failures: Mutex<HashMap<(String, String), Failures>>,
    /// What the answers to names without a role are made of.
    decoy: [u8; 16],
    audit: Option<Arc<AuditLog>>,
    failed_logins: Counter,
    /// Grows with each change.
    version: AtomicU64,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Roles {
    /// The roles of a file, none if it is not there.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or when passwords are asked for and nobody could log in to make roles.
    pub fn open(path: PathBuf, policy: LoginPolicy) -> Result<Self, EngineError> {
        let definitions = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                EngineError::new(SqlState::DATA_CORRUPTED, format!("{} cannot be read: {error}", path.display()))
                    .with_hint("repair the file from a backup, or remove it: the roles in it are then gone")
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Definitions::default(),
            Err(error) => return Err(store_error(&path, &error)),
        };
        let roles = Self {
            path,
            policy,
            definitions: RwLock::new(definitions),
            failures: Mutex::default(),
            decoy: *uuid::Uuid::new_v4().as_bytes(),
            audit: None,
            failed_logins: Counter::default(),
            version: AtomicU64::new(0),
        };
        let has_administrator =
            roles.read(|all| all.roles.values().any(|role| role.login && role.superuser && role.verifier.is_some()));
        if policy == LoginPolicy::Password && !has_administrator {
            return Err(EngineError::new(
                SqlState::INVALID_PARAMETER,
                "clients are asked for passwords, and there is no superuser with one: create it with \
                 `sluice create-superuser NAME`",
            ));
        }
        Ok(roles)
    }

    /// The same, which writes down and counts who was not let in.
    pub(super) fn with_observers(self, audit: Option<Arc<AuditLog>>, failed_logins: Counter) -> Self {
        Self { audit, failed_logins, ..self }
    }

    /// Whether clients are asked who they are.
    pub fn policy(&self) -> LoginPolicy {
        self.policy
    }

    /// A number that is another one after each change.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// An error if there is no role of this name.
    pub(super) fn check_exists(&self, name: &str) -> Result<(), EngineError> {
        self.read(|all| all.check_exists(name))
    }

    fn read<T>(&self, read: impl FnOnce(&Definitions) -> T) -> T {
        read(&self.definitions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies a change and keeps it. What cannot be kept is not applied.
    fn change(&self, change: impl FnOnce(&mut Definitions) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let mut current = self.definitions.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = current.clone();
        change(&mut changed)?;
        let text = serde_json::to_vec_pretty(&changed)
            .map_err(|error| EngineError::new(SqlState::INTERNAL, error.to_string()))?;
        replace_file(&self.path, &text).map_err(|error| store_error(&self.path, &error))?;
        *current = changed;
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    // Logging in.

    /// What a client has to prove before it is this user; `None` if it need not. A name without a role gets a riddle too.
    pub fn verifier(&self, user: &str) -> Option<Verifier> {
        if self.policy == LoginPolicy::Trust {
            return None;
        }
        let known = self.read(|all| all.roles.get(user).and_then(|role| role.verifier.as_deref().map(Verifier::parse)));
        Some(known.flatten().unwrap_or_else(|| Verifier::nobody(user, &self.decoy)))
    }

    /// Whether a user whose password was right, or who was not asked, may open sessions.
    pub fn check_login(&self, user: &str) -> Result<(), EngineError> {
        let role = self.read(|all| all.roles.get(user).map(|role| role.login));
        let may = match (role, self.policy) {
            (Some(login), _) => login,
            (None, LoginPolicy::Trust) => !PREDEFINED.contains(&user),
            (None, LoginPolicy::Password) => false,
        };
        if may {
            return Ok(());
        }
        Err(EngineError::new(SqlState("28000"), format!("role \"{user}\" is not permitted to log in")))
    }

    /// Sessions that a user may have at a time; `None` are as many as there is room for.
    pub fn connection_limit(&self, user: &str) -> Option<u32> {
        self.read(|all| all.roles.get(user).and_then(|role| role.connection_limit))
    }

    /// Logs a user in by its password.
    pub fn check_password(&self, user: &str, password: &str, place: &str) -> Result<(), EngineError> {
        if let Some(verifier) = self.verifier(user) {
            self.check_failures(user, place)?;
            if !verifier.is_of(password) {
                return Err(self.login_failed(user, place));
            }
            self.login_succeeded(user, place);
        }
        self.check_login(user)
    }

    /// Whether the user has failed too often from this place, of late.
    pub fn check_failures(&self, user: &str, place: &str) -> Result<(), EngineError> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(&(user.to_owned(), place.to_owned())) {
            Some(failures) if failures.count >= MOST_FAILED_LOGINS && failures.last.elapsed() < FAILED_LOGIN_WAIT => {
                Err(EngineError::new(SqlState("28000"), format!("too many failed logins of user \"{user}\""))
                    .with_hint(format!("try again in {} s", FAILED_LOGIN_WAIT.as_secs())))
            }
            _ => Ok(()),
        }
    }

    /// Notes a wrong password, and gives the error.
    pub fn login_failed(&self, user: &str, place: &str) -> EngineError {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= FAILURES_KEPT {
            failures.retain(|_, failures| failures.last.elapsed() < FAILED_LOGIN_WAIT);
        }
        // Who fills the list under names without end is slowed down by nothing else either.
        if failures.len() < FAILURES_KEPT {
            let entry = failures
                .entry((user.to_owned(), place.to_owned()))
                .or_insert(Failures { count: 0, last: Instant::now() });
            if entry.last.elapsed() >= FAILED_LOGIN_WAIT {
                entry.count = 0;
            }
            (entry.count, entry.last) = (entry.count + 1, Instant::now());
        }
        tracing::warn!(user, place, "a login failed");
        self.failed_logins.inc();
        if let Some(audit) = &self.audit {
            // The login has failed anyway; that it could not be written down is in the service's log.
            let _ = audit.note(Event { event: "login_failed", user, address: Some(place), ..Event::default() });
        }
        EngineError::new(SqlState("28P01"), format!("password authentication failed for user \"{user}\""))
    }

    /// Forgets the wrong passwords before a right one.
    pub fn login_succeeded(&self, user: &str, place: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&(user.to_owned(), place.to_owned()));
    }

    // What a role may do.

    /// Whether the user may do everything. Where nobody is asked for a password, a name without a role may.
    pub fn is_superuser(&self, user: &str) -> bool {
        self.read(|all| match all.roles.get(user) {
            Some(role) => role.superuser,
            None => self.policy == LoginPolicy::Trust,
        })
    }

    /// Whether the user is a member of the role, through other roles too, or a superuser.
    pub fn is_member(&self, user: &str, role: &str) -> bool {
        self.is_superuser(user) || self.read(|all| all.roles_of(user).contains(role))
    }

    /// The user and all roles that it is a member of.
    pub fn roles_of(&self, user: &str) -> BTreeSet<String> {
        self.read(|all| all.roles_of(user))
    }

    /// Whether the user has a privilege on an object, or on something that contains it.
    pub fn may(&self, user: &str, privilege: Privilege, object: &Object) -> bool {
        self.is_superuser(user)
            || self.read(|all| {
                let grants = |role: &String| all.roles.get(role).map(|role| role.grants.as_slice()).unwrap_or_default();
                all.roles_of(user)
                    .iter()
                    .flat_map(grants)
                    .any(|(granted, privileges)| granted.contains(object) && privileges.contains(&privilege))
            })
    }

    /// All roles, the predefined ones first.
    pub fn list(&self) -> Vec<RoleInfo> {
        let info = |name: &str, role: &Role| RoleInfo {
            name: name.to_owned(),
            login: role.login,
            superuser: role.superuser,
            member_of: role.member_of.iter().cloned().collect(),
            grants: role
                .grants
                .iter()
                .map(|(object, privileges)| {
                    let privileges: Vec<String> = privileges.iter().map(Privilege::to_string).collect();
                    (object.to_string(), privileges.join(", "))
                })
                .collect(),
        };
        self.read(|all| {
            let none = Role::default();
            let predefined = PREDEFINED.iter().map(|name| info(name, all.roles.get(*name).unwrap_or(&none)));
            let others = all.roles.iter().filter(|(name, _)| !PREDEFINED.contains(&name.as_str()));
            predefined.chain(others.map(|(name, role)| info(name, role))).collect()
        })
    }

    /// Creates a superuser that may log in, or gives an existing role these rights and this password.
    pub fn create_superuser(&self, name: &str, password: &str) -> Result<(), EngineError> {
        check_name(name)?;
        let verifier = verifier_of(password)?;
        self.change(|all| {
            let role = all.roles.entry(name.to_owned()).or_default();
            (role.login, role.superuser, role.verifier) = (true, true, Some(verifier));
            Ok(())
        })
    }
}

impl Definitions {
    fn roles_of(&self, user: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([user.to_owned(), PUBLIC.to_owned()]);
        let mut open = vec![user.to_owned(), PUBLIC.to_owned()];
        while let Some(name) = open.pop() {
            let parents = self.roles.get(&name).into_iter().flat_map(|role| &role.member_of);
            for parent in parents {
                if found.insert(parent.clone()) {
                    open.push(parent.clone());
                }
            }
        }
        found
    }

    /// The role of this name, to be changed. A predefined one is there as soon as something is granted to it.
    fn role(&mut self, name: &str) -> Result<&mut Role, EngineError> {
        if PREDEFINED.contains(&name) {
            return Ok(self.roles.entry(name.to_owned()).or_default());
        }
        self.roles.get_mut(name).ok_or_else(|| unknown_role(name))
    }

    fn check_exists(&self, name: &str) -> Result<(), EngineError> {
        if PREDEFINED.contains(&name) || self.roles.contains_key(name) { Ok(()) } else { Err(unknown_role(name)) }
    }
}

fn store_error(path: &std::path::Path, error: &std::io::Error) -> EngineError {
    EngineError::new(SqlState::IO_ERROR, format!("cannot use {}: {error}", path.display()))
}

fn unknown_role(name: &str) -> EngineError {
    EngineError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
        .with_hint("SELECT * FROM system.roles lists every role")
}

/// A name that a role can have.
fn check_name(name: &str) -> Result<(), EngineError> {
    let is_reserved = name.starts_with("pg_") || name.starts_with("sluice_") || PREDEFINED.contains(&name);
    if is_reserved || name == "none" {
        return Err(EngineError::new(SqlState("42939"), format!("role name \"{name}\" is reserved")));
    }
    if name.is_empty() || name.len() > MOST_NAME_BYTES || name.contains(char::is_control) {
        return Err(EngineError::new(
            SqlState("42602"),
            format!("a role's name has 1 to {MOST_NAME_BYTES} bytes without control characters"),
        ));
    }
    Ok(())
}

fn verifier_of(password: &str) -> Result<String, EngineError> {
    if password.is_empty() {
        return Err(EngineError::new(SqlState::INVALID_PARAMETER, "the password is empty"));
    }
    Ok(Verifier::parse(password).unwrap_or_else(|| Verifier::of(password)).text())
}

fn apply(role: &mut Role, options: &RoleOptions) -> Result<(), EngineError> {
    role.login = options.login.unwrap_or(role.login);
    role.superuser = options.superuser.unwrap_or(role.superuser);
    role.connection_limit = options.connection_limit.unwrap_or(role.connection_limit);
    match &options.password {
        Some(Some(password)) => role.verifier = Some(verifier_of(password.reveal())?),
        Some(None) => role.verifier = None,
        None => {}
    }
    Ok(())
}

/// Runs a statement about roles, which was found to be allowed.
pub(super) fn execute(session: &Session, kind: &StatementKind) -> Result<(), EngineError> {
    let roles = session.engine().roles();
    match kind {
        StatementKind::CreateRole { name, if_not_exists, options } => {
            check_name(name)?;
            if *if_not_exists && roles.read(|all| all.roles.contains_key(name)) {
                session.notice(format!("role \"{name}\" already exists, skipping"));
                return Ok(());
            }
            roles.change(|all| {
                if all.roles.contains_key(name) {
                    let message = format!("role \"{name}\" already exists");
                    return Err(EngineError::new(SqlState::DUPLICATE_OBJECT, message));
                }
                apply(all.roles.entry(name.clone()).or_default(), options)
            })
        }
        StatementKind::AlterRole { name, options } => {
            check_name(name)?;
            roles.change(|all| {
                apply(all.role(name)?, options)?;
                all.check_administrator(roles.policy)
            })
        }
        StatementKind::DropRole { names, if_exists } => roles.change(|all| {
            for name in names {
                check_name(name)?;
                if name == session.user() {
                    return Err(EngineError::new(SqlState("55006"), "current user cannot be dropped"));
                }
                if let Some(policy) = session.engine().policies.naming(name) {
                    let message = format!("role \"{name}\" cannot be dropped because some objects depend on it");
                    return Err(EngineError::new(SqlState("2BP01"), message)
                        .with_detail(format!("{} names it", policy.description()))
                        .with_hint("drop the policies that name it, or ALTER POLICY ... TO ... others"));
                }
                if all.roles.remove(name).is_none() {
                    if !if_exists {
                        return Err(unknown_role(name));
                    }
                    session.notice(format!("role \"{name}\" does not exist, skipping"));
                }
                all.roles.values_mut().for_each(|role| {
                    role.member_of.remove(name);
                });
            }
            all.check_administrator(roles.policy)
        }),
        StatementKind::Grant { granted: Granted::Roles(granted), roles: to, is_revoke } => roles.change(|all| {
            for (role, member) in granted.iter().flat_map(|role| to.iter().map(move |member| (role, member))) {
                all.check_exists(role)?;
                if !is_revoke && (role == member || role == PUBLIC || all.roles_of(role).contains(member)) {
                    let message = format!("role \"{role}\" is a member of role \"{member}\"");
                    return Err(EngineError::new(SqlState("0LP01"), message));
                }
                let member_of = &mut all.role(member)?.member_of;
                if *is_revoke {
                    member_of.remove(role)
                } else {
                    member_of.insert(role.clone())
                };
            }
            Ok(())
        }),
        StatementKind::Grant {
            granted: Granted::Privileges { privileges, kind: ObjectKind::Queue, names },
            roles: to,
            is_revoke,
        } => queues::grant(session, privileges, names, to, *is_revoke),
        StatementKind::Grant { granted: Granted::Privileges { privileges, kind, names }, roles: to, is_revoke } => {
            let privileges = named_privileges(privileges)?;
            let objects =
                names.iter().map(|name| object(session, *kind, name)).collect::<Result<Vec<_>, EngineError>>()?;
            roles.change(|all| {
                for (role, object) in to.iter().flat_map(|role| objects.iter().map(move |object| (role, object))) {
                    change_grant(&mut all.role(role)?.grants, object, &privileges, *is_revoke);
                }
                Ok(())
            })
        }
        _ => Err(EngineError::new(SqlState::INTERNAL, "not a statement about roles")),
    }
}

impl Definitions {
    /// Whether somebody is left who can log in and make roles.
    fn check_administrator(&self, policy: LoginPolicy) -> Result<(), EngineError> {
        let is_administrator = |role: &Role| role.login && role.superuser && role.verifier.is_some();
        if policy == LoginPolicy::Trust || self.roles.values().any(is_administrator) {
            return Ok(());
        }
        Err(EngineError::new(SqlState("55006"), "the last superuser that can log in has to stay one"))
    }
}

fn change_grant(
    grants: &mut Vec<(Object, BTreeSet<Privilege>)>,
    object: &Object,
    privileges: &BTreeSet<Privilege>,
    is_revoke: bool,
) {
    let place = grants.iter().position(|(granted, _)| granted == object);
    match (place.and_then(|place| grants.get_mut(place)), is_revoke) {
        (Some((_, granted)), false) => granted.extend(privileges),
        (Some((_, granted)), true) => granted.retain(|privilege| !privileges.contains(privilege)),
        (None, false) => grants.push((object.clone(), privileges.clone())),
        (None, true) => {}
    }
    grants.retain(|(_, privileges)| !privileges.is_empty());
}

fn named_privileges(names: &[String]) -> Result<BTreeSet<Privilege>, EngineError> {
    let mut found = BTreeSet::new();
    for name in names {
        match PRIVILEGES.iter().find(|(known, _)| known == name) {
            Some((_, privilege)) => {
                found.insert(*privilege);
            }
            None if name == "ALL" => found.extend(PRIVILEGES.iter().map(|(_, privilege)| *privilege)),
            // What is in a schema is found by whoever may read it.
            None if name == "USAGE" => {}
            None => {
                let known: Vec<&str> = PRIVILEGES.iter().map(|(name, _)| *name).collect();
                return Err(EngineError::new(
                    SqlState::INVALID_PARAMETER,
                    format!("there is no privilege {name}: write {} or ALL", known.join(", ")),
                ));
            }
        }
    }
    Ok(found)
}

fn object(session: &Session, kind: ObjectKind, name: &[String]) -> Result<Object, EngineError> {
    match (kind, name) {
        (ObjectKind::Table, name) => {
            let FullName { catalog, schema, table } = FullName::of_parts(session, name)?;
            Ok(Object::new([catalog, schema, table]))
        }
        (ObjectKind::Schema, name) => {
            let (catalog, schema) = keyspace_name(session, name)?;
            Ok(Object::new([catalog, schema]))
        }
        (ObjectKind::Catalog, [catalog]) => Ok(Object::new([catalog.as_str()])),
        (ObjectKind::Catalog, name) => Err(EngineError::new(
            SqlState::SYNTAX_ERROR,
            format!("\"{}\" is not the name of a catalog", name.join(".")),
        )),
        (ObjectKind::Queue, _) => Err(EngineError::new(SqlState::INTERNAL, "queues keep their own users")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(policy: LoginPolicy) -> (tempfile::TempDir, Roles) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("roles.json");
        let first = Roles::open(path.clone(), LoginPolicy::Trust).expect("opens");
        first.create_superuser("root", "secret").expect("is created");
        (directory, Roles::open(path, policy).expect("opens"))
    }

    fn with(roles: &Roles, name: &str, change: impl FnOnce(&mut Role)) {
        roles
            .change(|all| {
                change(all.roles.entry(name.to_owned()).or_default());
                Ok(())
            })
            .expect("is kept");
    }

    #[test]
    fn without_passwords_a_name_without_a_role_may_do_everything() {
        let (_directory, roles) = roles(LoginPolicy::Trust);
        with(&roles, "ann", |role| role.login = true);
        assert!(roles.is_superuser("anybody") && !roles.is_superuser("ann"));
        assert!(roles.verifier("ann").is_none());
        roles.check_login("anybody").expect("may");
    }

    #[test]
    fn a_password_is_right_or_wrong_and_too_many_wrong_ones_have_to_wait() {
        let (_directory, roles) = roles(LoginPolicy::Password);
        roles.check_password("root", "secret", "here").expect("is right");
        for _ in 0..MOST_FAILED_LOGINS {
            let error = roles.check_password("root", "wrong", "here").expect_err("is wrong");
            assert_eq!(error.state, SqlState("28P01"));
        }
        let error = roles.check_password("root", "secret", "here").expect_err("has to wait");
        assert!(error.message.contains("too many"), "{error}");
        roles.check_password("root", "secret", "there").expect("others need not wait");
        assert_eq!(roles.check_password("eve", "", "here").expect_err("is nobody").state, SqlState("28P01"));
    }

    #[test]
    fn a_service_that_asks_for_passwords_needs_somebody_who_has_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = Roles::open(directory.path().join("roles.json"), LoginPolicy::Password).err().expect("has none");
        assert!(error.message.contains("create-superuser"), "{error}");
    }

    #[test]
    fn privileges_come_from_roles_of_roles_and_from_what_contains_an_object() {
        let (_directory, roles) = roles(LoginPolicy::Password);
        let select = BTreeSet::from([Privilege::Select]);
        with(&roles, "readers", |role| change_grant(&mut role.grants, &Object::new(["cass"]), &select, false));
        with(&roles, "analysts", |role| {
            role.member_of.insert("readers".to_owned());
        });
        with(&roles, "ann", |role| {
            role.member_of.insert("analysts".to_owned());
        });
        let orders = Object::new(["cass", "shop", "orders"]);
        assert!(roles.may("ann", Privilege::Select, &orders) && !roles.may("ann", Privilege::Insert, &orders));
        assert!(!roles.may("ann", Privilege::Select, &Object::new(["sluice", "public", "t"])));
        assert!(!roles.may("bob", Privilege::Select, &orders) && roles.may("root", Privilege::Insert, &orders));
        with(&roles, "readers", |role| change_grant(&mut role.grants, &Object::new(["cass"]), &select, true));
        assert!(!roles.may("ann", Privilege::Select, &orders));
        let reopened = Roles::open(roles.path.clone(), LoginPolicy::Password).expect("opens");
        assert!(reopened.is_member("ann", "readers") && !reopened.is_member("ann", "root"));
    }

    #[test]
    fn names_of_roles_are_bounded_and_some_are_taken() {
        for name in ["public", "pg_monitor", "sluice_x", "", "a\nb", &"x".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        check_name("Robert'); DROP TABLE students;--").expect("is a name like any other");
    }
}
