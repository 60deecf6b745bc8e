//! Plans that were made under other rights are made again before they are run.
//!
//! A plan holds what its user could see of each table when it was made. Roles, grants and policies have versions; a plan
//! of an older one is not run. So what is revoked or hidden is so for statements that are prepared too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::logical_expr::{Deallocate, LogicalPlan, Statement as PlanStatement};
use futures::FutureExt;
use futures::future::BoxFuture;
use sluice_planner::statement::{Statement, StatementKind};

use super::super::error::{EngineError, SqlState};
use super::super::session::{Prepared, Session};
use super::definition::{Restriction, TableName};

/// The statements of a session's `PREPARE`, by name. DataFusion keeps their plans.
#[derive(Default)]
pub struct NamedStatements(Mutex<HashMap<String, Named>>);

struct Named {
    sql: String,
    rights_version: u64,
}

impl NamedStatements {
    fn with<T>(&self, f: impl FnOnce(&mut HashMap<String, Named>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a statement that was planned under rights of this version.
    pub fn keep(&self, name: String, statement: &Statement, rights_version: u64) {
        self.with(|all| all.insert(name, Named { sql: statement.text.clone(), rights_version }));
    }

    /// Forgets a statement.
    pub fn forget(&self, name: &str) {
        self.with(|all| all.remove(name));
    }

    /// The text of the statement of this name if it was planned under rights of another version.
    fn outdated(&self, name: &str, rights_version: u64) -> Option<String> {
        self.with(|all| {
            all.get(name).filter(|named| named.rights_version != rights_version).map(|named| named.sql.clone())
        })
    }
}

/// The name that a plan of `PREPARE` gives its statement.
pub fn prepared_name(plan: &LogicalPlan) -> Option<String> {
    match plan {
        LogicalPlan::Statement(PlanStatement::Prepare(prepare)) => Some(prepare.name.clone()),
        _ => None,
    }
}

impl Session {
    /// A number that is another one after each change of roles, grants and policies.
    pub(in super::super) fn rights_version(&self) -> u64 {
        // Both only grow, and so does their sum.
        self.engine().policies.version() + self.engine().roles().version()
    }

    /// What the user sees of a table; `None` is everything.
    pub(in super::super) fn restriction_of(&self, table: &TableName) -> Option<Restriction> {
        let roles = self.engine().roles();
        let restriction = self.engine().policies.restriction(table, || roles.roles_of(self.user()))?;
        (!roles.is_superuser(self.user())).then_some(restriction)
    }

    /// The statement planned anew, if it was planned under rights of another version.
    ///
    /// # Errors
    ///
    /// 42501 if it may not be run any more, 0A000 if its rows have other columns now.
    pub(in super::super) fn renewed<'a>(
        self: &'a Arc<Self>,
        prepared: &'a Prepared,
    ) -> BoxFuture<'a, Result<Option<Arc<Prepared>>, EngineError>> {
        async move {
            if prepared.plan.is_none() || prepared.rights_version == self.rights_version() {
                return Ok(None);
            }
            self.planned_anew(prepared).await.map(Some)
        }
        .boxed()
    }

    async fn planned_anew(self: &Arc<Self>, prepared: &Prepared) -> Result<Arc<Prepared>, EngineError> {
        let types: Vec<_> = prepared.parameter_types.iter().cloned().map(Some).collect();
        let renewed = self.prepare(prepared.statement.clone(), &types).await?;
        let types_of = |prepared: &Prepared| -> Vec<_> {
            prepared.schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        if types_of(&renewed) != types_of(prepared) {
            return Err(EngineError::new(SqlState::NOT_SUPPORTED, "cached plan must not change result type")
                .with_hint("prepare the statement again"));
        }
        Ok(renewed)
    }

    /// Plans the statement that was given a name by `PREPARE` anew, if it was planned under rights of another version.
    pub(in super::super) fn renew_named<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        self.plan_named_anew(name).boxed()
    }

    async fn plan_named_anew(&self, name: &str) -> Result<(), EngineError> {
        let rights_version = self.rights_version();
        let Some(sql) = self.named_statements().outdated(name, rights_version) else { return Ok(()) };
        let Some(statement) = self.parse(&sql)?.pop() else { return Ok(()) };
        self.check_allowed(&statement)?;
        let StatementKind::Sql(sql) = &statement.kind else { return Ok(()) };
        let plan = self.plan(&statement, sql).await?;
        let deallocate = PlanStatement::Deallocate(Deallocate { name: name.to_owned() });
        for plan in [LogicalPlan::Statement(deallocate), plan] {
            self.context().execute_logical_plan(plan).boxed().await?;
        }
        self.named_statements().keep(name.to_owned(), &statement, rights_version);
        Ok(())
    }
}
