//! Scans of table functions that are told apart.
//!
//! Two scans are the same to DataFusion if their tables have the same name (`PartialEq` of `TableScan` in
//! `datafusion_expr`), and all calls of `generate_series` are scans of `generate_series()`. So of the two subqueries in
//! `SELECT (SELECT max(value) FROM generate_series(1, 3)), (SELECT max(value) FROM generate_series(1, 5))` it would run
//! one.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::{LogicalPlan, SubqueryAlias};
use datafusion::optimizer::AnalyzerRule;

/// How DataFusion names the tables that functions give.
const NAME_END: &str = "()";

/// Numbers the scans of table functions of a statement.
#[derive(Debug)]
pub struct TellTableFunctionsApart;

impl AnalyzerRule for TellTableFunctionsApart {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut count = 0;
        let numbered = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::TableScan(scan) if scan.table_name.table().ends_with(NAME_END) => {
                count += 1;
                let name = scan.table_name.clone();
                let number = TableReference::bare(format!("{} {count}", name.table()));
                let numbered = SubqueryAlias::try_new(Arc::new(LogicalPlan::TableScan(scan)), number)?;
                // Whoever has named its columns finds them still.
                let named = SubqueryAlias::try_new(Arc::new(LogicalPlan::SubqueryAlias(numbered)), name)?;
                Ok(Transformed::yes(LogicalPlan::SubqueryAlias(named)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(numbered.data)
    }

    fn name(&self) -> &str {
        "tell_table_functions_apart"
    }
}
