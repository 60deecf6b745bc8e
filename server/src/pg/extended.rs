//! The extended protocol: parse, bind, describe, execute; results stream out of portals.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::backend::{
    Format, formats, put_bind_complete, put_close_complete, put_complete, put_empty_query, put_no_data,
    put_parameter_description, put_parse_complete, put_row_description, put_suspended,
};
use super::connection::{Connection, rows_tag};
use super::encode;
use super::frontend::{Bind, Target};
use super::params::Parameter;
use super::rows::{Progress, Rows};
use super::types::PgType;
use super::wire::Failure;
use crate::engine::{EngineError, Prepared, QueryResult, SqlState};

/// What `Parse` made.
#[derive(Clone)]
pub struct PreparedStatement {
    /// `None` for an empty string.
    prepared: Option<Arc<Prepared>>,
    parameters: Arc<[Parameter]>,
}

/// What `Bind` made.
pub struct Portal {
    prepared: Option<Arc<Prepared>>,
    formats: Vec<Format>,
    state: PortalState,
}

enum PortalState {
    /// Bound, not yet executed.
    Ready(Vec<ScalarValue>),
    /// A query whose rows are being fetched.
    Running(Box<Rows>),
    /// All rows are sent, or the command has run.
    Done,
    /// An execution failed or was given up.
    Failed,
}

/// What a portal has left.
enum Left {
    /// The rows that were not sent yet.
    Rows(Box<Rows>),
    /// All was sent before.
    Nothing,
    /// It was a command, which has run to its end and has been told.
    Command,
}

impl Portal {
    fn format_of(&self, index: usize) -> Format {
        self.formats.get(index).copied().unwrap_or(Format::Text)
    }
}

impl Connection<'_> {
    /// `Parse`
    pub(super) async fn parse(&mut self, name: String, sql: &str, types: Vec<u32>) -> Result<(), Failure> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(
                EngineError::new(SqlState("42P05"), format!("prepared statement \"{name}\" already exists")).into()
            );
        }
        let limit = self.shared.options.max_prepared_statements;
        if self.statements.len() >= limit && !self.statements.contains_key(&name) {
            return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, format!("more than {limit} prepared statements"))
                .with_hint("close prepared statements that are no longer used")
                .into());
        }
        let mut statements = self.session.parse(sql)?;
        if statements.len() > 1 {
            return Err(EngineError::new(
                SqlState::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            )
            .into());
        }
        let statement = match statements.pop() {
            None => PreparedStatement { prepared: None, parameters: Arc::from([]) },
            Some(statement) => {
                self.check_transaction(&statement)?;
                let declared: Vec<Option<DataType>> = types.iter().map(|oid| PgType::parameter_type(*oid)).collect();
                let prepared = self.wire.while_connected(self.session.prepare(statement, &declared)).await??;
                let cast_to_oid = oid_parameters(sql);
                let oids = types.into_iter().chain(std::iter::repeat(0)).enumerate();
                let oids = oids.map(|(index, oid)| match oid {
                    0 => cast_to_oid.get(&index).copied().unwrap_or(0),
                    declared => declared,
                });
                let parameters = prepared.parameter_types.iter().zip(oids);
                let parameters = parameters.map(|(data_type, oid)| Parameter::new(oid, data_type.clone())).collect();
                PreparedStatement { prepared: Some(prepared), parameters }
            }
        };
        self.statements.insert(name, statement);
        put_parse_complete(&mut self.wire.out);
        Ok(())
    }

    /// `Bind`
    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let statement = self.statement(&bind.statement)?.clone();
        if let Some(prepared) = &statement.prepared {
            self.check_transaction(&prepared.statement)?;
        }
        let (given, wanted) = (bind.parameters.len(), statement.parameters.len());
        if given != wanted {
            return Err(EngineError::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {given} parameters, but prepared statement \"{}\" requires {wanted}",
                    bind.statement
                ),
            )
            .into());
        }
        let parameter_formats = formats(&bind.parameter_formats, given, "parameter")?;
        let time_zone = self.session.setting("TimeZone").unwrap_or_else(|| "UTC".to_owned());
        let values = statement.parameters.iter().zip(bind.parameters).zip(parameter_formats).enumerate();
        let values =
            values.map(|(index, ((parameter, value), format))| parameter.decode(index + 1, value, format, &time_zone));
        let values = values.collect::<Result<Vec<_>, EngineError>>()?;
        let with_rows = statement.prepared.as_ref().filter(|prepared| prepared.returns_rows);
        let column_count = with_rows.map_or(0, |prepared| prepared.schema.fields().len());
        // A command has no columns, and the codes that clients send along for all are then for none.
        let codes = if column_count == 0 { &[][..] } else { &bind.result_formats };
        let result_formats = formats(codes, column_count, "result")?;
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(
                EngineError::new(SqlState("42P03"), format!("portal \"{}\" already exists", bind.portal)).into()
            );
        }
        let limit = self.shared.options.max_portals;
        if self.portals.len() >= limit && !self.portals.contains_key(&bind.portal) {
            return Err(EngineError::new(SqlState::LIMIT_EXCEEDED, format!("more than {limit} open portals"))
                .with_hint("close portals, or end the transaction")
                .into());
        }
        let state = PortalState::Ready(values);
        self.portals.insert(bind.portal, Portal { prepared: statement.prepared, formats: result_formats, state });
        put_bind_complete(&mut self.wire.out);
        Ok(())
    }

    /// `Describe`
    pub(super) fn describe(&mut self, target: Target, name: &str) -> Result<(), Failure> {
        match target {
            Target::Statement => {
                let statement = self.statement(name)?.clone();
                let oids = statement.parameters.iter().map(|parameter| parameter.oid).collect();
                put_parameter_description(&mut self.wire.out, oids);
                match &statement.prepared {
                    Some(prepared) if prepared.returns_rows => {
                        put_row_description(&mut self.wire.out, &prepared.schema, |_| Format::Text);
                    }
                    _ => put_no_data(&mut self.wire.out),
                }
            }
            Target::Portal => {
                let Some(portal) = self.portals.get(name) else {
                    // Cursors are portals to PostgreSQL, and psycopg describes its own so.
                    let schema = self.session.cursor_schema(name).ok_or_else(|| no_portal(name))?;
                    put_row_description(&mut self.wire.out, &schema, |_| Format::Text);
                    return Ok(());
                };
                match &portal.prepared {
                    Some(prepared) if prepared.returns_rows => {
                        put_row_description(&mut self.wire.out, &prepared.schema, |index| portal.format_of(index));
                    }
                    _ => put_no_data(&mut self.wire.out),
                }
            }
        }
        Ok(())
    }

    /// `Execute`: rows until the limit (none if it is not above 0) or to the end.
    pub(super) async fn execute(&mut self, name: &str, max_rows: i32) -> Result<(), Failure> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        let Some(prepared) = portal.prepared.clone() else {
            put_empty_query(&mut self.wire.out);
            return Ok(());
        };
        let mut rows = match self.take_rows(name, &prepared).await? {
            Left::Rows(rows) => rows,
            Left::Nothing if prepared.returns_rows => {
                self.set_portal(name, PortalState::Done);
                put_complete(&mut self.wire.out, &rows_tag(&prepared.statement, 0));
                return Ok(());
            }
            Left::Nothing => return Err(cannot_run(name).into()),
            Left::Command => {
                self.set_portal(name, PortalState::Done);
                return Ok(());
            }
        };
        let limit = u64::try_from(max_rows).ok().filter(|limit| *limit > 0);
        let before = rows.sent;
        let progress = rows.send(self.wire, limit).await?;
        self.put_notices();
        match progress {
            Progress::Suspended => {
                put_suspended(&mut self.wire.out);
                self.set_portal(name, PortalState::Running(rows));
            }
            Progress::Complete => {
                put_complete(&mut self.wire.out, &rows_tag(&prepared.statement, rows.sent - before));
                self.set_portal(name, PortalState::Done);
            }
        }
        Ok(())
    }

    /// `MOVE` of a portal: to PostgreSQL it is a cursor, and asyncpg moves its own so.
    pub(super) async fn move_portal(&mut self, name: &str, count: Option<u64>) -> Result<(), Failure> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        let Some(prepared) = portal.prepared.clone() else { return Err(no_portal(name).into()) };
        let (passed, state) = match self.take_rows(name, &prepared).await? {
            Left::Rows(mut rows) => (rows.pass(self.wire, count).await?, PortalState::Running(rows)),
            Left::Nothing | Left::Command => (0, PortalState::Done),
        };
        self.set_portal(name, state);
        put_complete(&mut self.wire.out, &format!("MOVE {passed}"));
        Ok(())
    }

    /// Takes out what a portal has left, and starts its statement if that has not been done. Whatever happens until the
    /// portal gets its next state leaves one that cannot be executed again.
    async fn take_rows(&mut self, name: &str, prepared: &Arc<Prepared>) -> Result<Left, Failure> {
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        let state = std::mem::replace(&mut portal.state, PortalState::Failed);
        let formats = portal.formats.clone();
        self.check_transaction(&prepared.statement)?;
        match state {
            PortalState::Ready(parameters) => {
                Ok(self.start(prepared, parameters, &formats).await?.map_or(Left::Command, Left::Rows))
            }
            PortalState::Running(rows) => Ok(Left::Rows(rows)),
            PortalState::Done => Ok(Left::Nothing),
            PortalState::Failed => Err(cannot_run(name).into()),
        }
    }

    /// Starts a portal's statement; `None` if it was a command, which has then run to its end.
    async fn start(
        &mut self,
        prepared: &Arc<Prepared>,
        parameters: Vec<ScalarValue>,
        formats: &[Format],
    ) -> Result<Option<Box<Rows>>, Failure> {
        if self.deallocate_own(&prepared.statement) {
            put_complete(&mut self.wire.out, prepared.statement.tag());
            return Ok(None);
        }
        if prepared.statement.is_copy_with_client() {
            return self.copy(prepared, parameters).await.map(|()| None);
        }
        let session = self.session;
        let handle = self.with_notices(session.execute(prepared, parameters)).await??;
        match handle.into_result() {
            QueryResult::Rows(stream) => {
                let format_of = |index: usize| formats.get(index).copied().unwrap_or(Format::Text);
                let columns = encode::columns(&prepared.schema, format_of);
                Ok(Some(Box::new(Rows::new(stream, columns, self.encode_options()))))
            }
            QueryResult::Command { tag, .. } => {
                self.put_notices();
                put_complete(&mut self.wire.out, &tag);
                self.after_command(&tag);
                Ok(None)
            }
        }
    }

    /// `Close`: what is not there is closed already.
    pub(super) fn close(&mut self, target: Target, name: &str) {
        match target {
            Target::Statement => drop(self.statements.remove(name)),
            Target::Portal if self.portals.remove(name).is_none() => self.session.close_cursor(name),
            Target::Portal => {}
        }
        put_close_complete(&mut self.wire.out);
    }

    fn statement(&self, name: &str) -> Result<&PreparedStatement, EngineError> {
        self.statements.get(name).ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            EngineError::new(SqlState::UNDEFINED_PREPARED_STATEMENT, message)
        })
    }

    fn set_portal(&mut self, name: &str, state: PortalState) {
        if let Some(portal) = self.portals.get_mut(name) {
            portal.state = state;
        }
    }
}

/// The wire types of parameters that a statement casts to `oid` or `oid[]`, by their zero-based places: to the plan they are
/// plain numbers, and asyncpg would ask what an array of those is.
fn oid_parameters(sql: &str) -> HashMap<usize, u32> {
    const OID: u32 = 26;
    const OID_ARRAY: u32 = 1028;
    let mut found = HashMap::new();
    for (place, _) in sql.match_indices("::oid") {
        let (before, after) = (sql.get(..place).unwrap_or_default(), sql.get(place + 5..).unwrap_or_default());
        let is_longer = after.starts_with(|next: char| next.is_alphanumeric() || next == '_');
        let Some((_, number)) = before.rsplit_once('$').filter(|_| !is_longer) else { continue };
        if let Some(index) = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) {
            found.insert(index, if after.starts_with("[]") { OID_ARRAY } else { OID });
        }
    }
    found
}

fn cannot_run(name: &str) -> EngineError {
    EngineError::new(SqlState("55000"), format!("portal \"{name}\" cannot be run"))
}

fn no_portal(name: &str) -> EngineError {
    EngineError::new(SqlState::UNDEFINED_CURSOR, format!("portal \"{name}\" does not exist"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_to_oid_are_seen() {
        let found = oid_parameters("SELECT $1::int, '$x'::oid, $3::oidvector WHERE a = any($2::oid[]) OR b = $4::oid");
        assert_eq!(found, HashMap::from([(1, 1028), (3, 26)]));
    }
}
