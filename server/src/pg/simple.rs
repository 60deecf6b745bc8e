//! The simple protocol: a string of statements, every value in text.

use super::backend::{Format, put_complete, put_empty_query, put_row_description};
use super::connection::{Connection, rows_tag};
use super::encode;
use super::rows::Rows;
use super::wire::Failure;
use crate::engine::{Direction, EngineError, QueryResult, SqlState, Statement, StatementKind};
use crate::pgcatalog::without_marks;

impl Connection<'_> {
    /// Runs the statements of `sql` one after another; the first error ends the string.
    pub(super) async fn simple_query(&mut self, sql: &str) -> Result<(), Failure> {
        // As in PostgreSQL, a simple query ends the life of the unnamed statement and portal.
        self.statements.remove("");
        self.portals.remove("");
        let statements = self.session.parse(sql)?;
        if statements.is_empty() {
            put_empty_query(&mut self.wire.out);
        }
        for statement in statements {
            self.run_statement(statement).await?;
        }
        self.ready().await
    }

    async fn run_statement(&mut self, statement: Statement) -> Result<(), Failure> {
        self.check_transaction(&statement)?;
        if self.deallocate_own(&statement) {
            put_complete(&mut self.wire.out, statement.tag());
            return Ok(());
        }
        if let StatementKind::Fetch { name, direction: Direction::Forward(count), is_move: true } = &statement.kind
            && self.portals.contains_key(name)
        {
            return self.move_portal(name, *count).await;
        }
        let session = self.session;
        let prepare = async {
            let prepared = session.prepare(statement.clone(), &[]).await?;
            if !prepared.parameter_types.is_empty() {
                return Err(EngineError::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1")
                    .with_hint("bind parameters through the extended query protocol"));
            }
            Ok(prepared)
        };
        let prepared = self.with_notices(prepare).await??;
        if statement.is_copy_with_client() {
            return self.copy(&prepared, Vec::new()).await;
        }
        let handle = self.with_notices(session.execute(&prepared, Vec::new())).await??;
        let schema = without_marks(&handle.schema);
        match handle.into_result() {
            QueryResult::Rows(stream) => {
                put_row_description(&mut self.wire.out, &schema, |_| Format::Text);
                let columns = encode::columns(&schema, |_| Format::Text);
                let mut rows = Rows::new(stream, columns, self.encode_options());
                rows.send(self.wire, None).await?;
                self.put_notices();
                put_complete(&mut self.wire.out, &rows_tag(&statement, rows.sent));
            }
            QueryResult::Command { tag, .. } => {
                self.put_notices();
                put_complete(&mut self.wire.out, &tag);
                self.after_command(&tag);
            }
        }
        Ok(())
    }
}
