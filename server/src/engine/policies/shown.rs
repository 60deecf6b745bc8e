//! A table as a user sees it: its rows and columns through its policies.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::{Session as DataFusionSession, TableProvider};
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::Dialect;
use datafusion::datasource::view::ViewTable;
use datafusion::error::Result;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, cast};
use datafusion::physical_plan::ExecutionPlan;
use futures::FutureExt;
use sluice_planner::barrier::PolicyBarrier;

use super::super::ddl::quoted;
use super::super::error::{EngineError, SqlState};
use super::super::session::Session;
use super::definition::{Restriction, TableName, in_parentheses};

/// A table through its policies. Whoever scans it scans the plan that they make of it, as with a view.
#[derive(Debug)]
pub struct ShownTable {
    view: ViewTable,
    table_type: TableType,
}

impl ShownTable {
    /// The part of `table` that a restriction leaves the session's user to see.
    ///
    /// The expressions of policies are looked up as their makers would: names of other tables in them are those that
    /// everybody means, wherever the session is, and are read whole.
    pub async fn open(
        session: &Session,
        name: &TableName,
        table: &Arc<dyn TableProvider>,
        restriction: &Restriction,
    ) -> Result<Self> {
        let plan = plan(session, name, &table.schema(), restriction).await?;
        Ok(Self { view: ViewTable::new(plan, None), table_type: table.table_type() })
    }
}

#[async_trait]
impl TableProvider for ShownTable {
    fn schema(&self) -> SchemaRef {
        self.view.schema()
    }

    fn table_type(&self) -> TableType {
        self.table_type
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.view.get_logical_plan()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.view.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn DataFusionSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.view.scan(state, projection, filters, limit).await
    }
}

async fn plan(
    session: &Session,
    name: &TableName,
    schema: &SchemaRef,
    restriction: &Restriction,
) -> Result<LogicalPlan> {
    let state = makers_state(session, name);
    let statement = state.sql_to_statement(&query(name, schema, restriction), &Dialect::PostgreSQL)?;
    let plan = state.statement_to_plan(statement).boxed().await?;
    let columns = plan.schema().columns();
    let shown = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
        if !restriction.masks.iter().any(|(masked, _)| masked == field.name()) {
            return Expr::Column(column);
        }
        // A column has one type, and is told as one kind of thing, whoever reads it.
        cast(Expr::Column(column), field.data_type().clone())
            .alias_with_metadata(field.name(), Some(FieldMetadata::from(field.as_ref())))
    });
    let shown = match restriction.masks.is_empty() {
        true => plan,
        false => LogicalPlanBuilder::from(plan).project(shown.collect::<Vec<_>>())?.build()?,
    };
    // A mask alone hides no rows.
    Ok(if restriction.predicate.is_some() { PolicyBarrier::over(shown) } else { shown })
}

/// What plans of policies are made in: every table as it is, the session's functions, and a time zone that is no user's.
fn makers_state(session: &Session, name: &TableName) -> SessionState {
    let base = session.engine().server_state.clone();
    let functions = session.context().state_ref().read().scalar_functions().values().cloned().collect();
    let mut config = base.config().clone();
    let [catalog, schema, _] = &name.0;
    config.options_mut().catalog.default_catalog.clone_from(catalog);
    config.options_mut().catalog.default_schema.clone_from(schema);
    SessionStateBuilder::new_from_existing(base).with_config(config).with_scalar_functions(functions).build()
}

fn query(name: &TableName, schema: &SchemaRef, restriction: &Restriction) -> String {
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| {
            let column = quoted(field.name());
            match restriction.masks.iter().find(|(masked, _)| masked == field.name()) {
                Some((_, expression)) => format!("{} AS {column}", in_parentheses(expression)),
                None => column,
            }
        })
        .collect();
    let table = name.0.each_ref().map(|part| quoted(part)).join(".");
    let rows = restriction.predicate.as_ref().map(|predicate| format!(" WHERE {predicate}")).unwrap_or_default();
    format!("SELECT {} FROM {table}{rows}", columns.join(", "))
}

/// Refuses a policy whose expression cannot be used, before it hides its table from everybody.
pub async fn check(
    session: &Session,
    name: &TableName,
    table: &Arc<dyn TableProvider>,
    restriction: &Restriction,
) -> Result<(), EngineError> {
    let wrong = |message: String| EngineError::new(SqlState::DATATYPE_MISMATCH, message);
    let schema = table.schema();
    if let Some((column, _)) = restriction.masks.iter().find(|(column, _)| schema.column_with_name(column).is_none()) {
        return Err(EngineError::no_column(column, &name.to_string()));
    }
    let state = makers_state(session, name);
    let statement = state.sql_to_statement(&query(name, &schema, restriction), &Dialect::PostgreSQL)?;
    // Places in the text are those of our own.
    let planned = state.statement_to_plan(statement).boxed().await.map_err(|error| {
        let error = EngineError::from(error);
        EngineError { position: None, ..error }
    })?;
    check_shape(&planned)?;
    for (column, _) in &restriction.masks {
        let (Ok(wanted), Ok(given)) =
            (schema.field_with_name(column), planned.schema().field_with_unqualified_name(column))
        else {
            continue;
        };
        if !is_like(given.data_type(), wanted.data_type()) {
            let (wanted, given) = (wanted.data_type(), given.data_type());
            return Err(wrong(format!("column \"{column}\" is of type {wanted} but the mask is of type {given}"))
                .with_hint("a masked column keeps its type: CAST(... AS ...) the expression, or use NULL"));
        }
    }
    // Types are compared and values cast when a plan is optimized.
    let shown = plan(session, name, &schema, restriction).await?;
    session.context().state().optimize(&shown)?;
    Ok(())
}

/// One row for each of the table's, and no parameters.
fn check_shape(plan: &LogicalPlan) -> Result<(), EngineError> {
    let refused = |what: &str| Err(EngineError::not_supported(format!("{what} in a policy")));
    let mut below = plan;
    while let LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) = below {
        match below.inputs().first() {
            Some(input) => below = input,
            None => break,
        }
    }
    match below {
        LogicalPlan::Aggregate(_) => return refused("an aggregate function"),
        LogicalPlan::Window(_) => return refused("a window function"),
        LogicalPlan::Unnest(_) => return refused("a function that gives several rows"),
        _ => {}
    }
    let mut has_parameters = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                has_parameters |= matches!(part, Expr::Placeholder(_));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if has_parameters { refused("a parameter") } else { Ok(()) }
}

/// Whether values of one type are written for the other without more words.
fn is_like(given: &DataType, wanted: &DataType) -> bool {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    given == wanted
        || given.is_null()
        || (given.is_numeric() && wanted.is_numeric())
        || (is_text(given) && is_text(wanted))
        || (matches!(given, DataType::Timestamp(..) | DataType::Date32)
            && matches!(wanted, DataType::Timestamp(..) | DataType::Date32))
}
