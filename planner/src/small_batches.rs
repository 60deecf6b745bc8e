//! Batches that are too small to be worth their handling.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
#[expect(deprecated, reason = "operators coalesce their own batches now, but a cross join does not")]
use datafusion::physical_plan::coalesce_batches::CoalesceBatchesExec;
use datafusion::physical_plan::joins::CrossJoinExec;

/// Puts the batches of a cross join together.
///
/// It gives one for each row of its left side. Beside a right side of one row, each row of the result would be written,
/// sent and read for itself: 600,000 rows of 16 columns took three times as long.
#[derive(Debug)]
pub(crate) struct CoalesceCrossJoins;

impl PhysicalOptimizerRule for CoalesceCrossJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_up(|node| {
            if !node.is::<CrossJoinExec>() {
                return Ok(Transformed::no(node));
            }
            #[expect(deprecated, reason = "see above")]
            let coalesced = CoalesceBatchesExec::new(node, config.execution.batch_size.get());
            Ok(Transformed::yes(Arc::new(coalesced) as Arc<dyn ExecutionPlan>))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "coalesce_cross_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
