//! The operator that keeps a query's own predicates above the rows that a policy lets through.
//!
//! Operators push predicates down as far as they get, and a filter takes in what comes from above it. A predicate that
//! fails on some rows (`1 / (salary - 5000) = 0`, `CAST(note AS int) = 0`) would then be tried on rows that are hidden
//! from whoever asks, and its error would tell of them. PostgreSQL calls this a security barrier.

use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::cassandra::node::only_input;

/// Gives its input's rows as they are, and lets no predicate pass below itself, which is what an operator does that does
/// not say otherwise.
#[derive(Debug)]
pub struct PolicyBarrierExec {
    input: Arc<dyn ExecutionPlan>,
}

impl PolicyBarrierExec {
    /// A barrier over rows that were chosen already.
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input }
    }

    /// The operator of a plan that crossed processes, from its input.
    pub fn decode(inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        Ok(Self::new(only_input("a policy's barrier", inputs)?))
    }
}

impl DisplayAs for PolicyBarrierExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PolicyBarrierExec")
    }
}

impl ExecutionPlan for PolicyBarrierExec {
    fn name(&self) -> &'static str {
        "PolicyBarrierExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::decode(children)?))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(inputs.first().cloned().unwrap_or_else(|| Arc::new(Statistics::new_unknown(&self.schema()))))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Schema;
    use datafusion::physical_plan::empty::EmptyExec;
    use datafusion_proto::physical_plan::{DefaultPhysicalProtoConverter, PhysicalExtensionCodec};

    use super::*;
    use crate::codec::SluiceCodec;

    #[test]
    fn a_barrier_is_a_barrier_on_the_executors_too() {
        let input: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
        let barrier = Arc::new(PolicyBarrierExec::new(input.clone()));
        let (codec, mut bytes) = (SluiceCodec::default(), Vec::new());
        let converter = DefaultPhysicalProtoConverter {};
        codec.try_encode(barrier, &mut bytes, &converter).expect("is encoded");
        let decoded = codec.try_decode(&bytes, &[input], &TaskContext::default(), &converter).expect("is decoded");
        assert!(decoded.downcast_ref::<PolicyBarrierExec>().is_some());
    }
}
