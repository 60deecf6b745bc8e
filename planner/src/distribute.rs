//! Rules that keep plans right when they are cut into stages whose tasks share nothing.
//!
//! A join that collects its left side in every task may do no more with it than look rows up: what
//! it says on behalf of the left side (an unmatched row of a LEFT JOIN, a row of NOT EXISTS) would
//! be said by every task. In one process DataFusion shares the marks of matched rows between
//! partitions; between processes nothing does. Ballista's planner turns such hash joins into
//! partitioned ones, but after the operators above have been planned for the partitions that there
//! were ("demote_collect_left_to_partitioned" in `ballista_scheduler::planner`), which gives an
//! aggregate without groups a row for each partition; nested loop joins it leaves as they are. So
//! both are settled here, while the plan is still being made.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::JoinType;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::ensure_requirements::EnsureRequirements;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::statistics::StatisticsContext;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs};

use crate::small_batches::CoalesceCrossJoins;

/// DataFusion's rules and those of Cassandra's source, for plans that run as they are.
pub fn rules_for_one_process() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let before_checks = before_checks(&rules);
    let coalesce = Arc::new(CoalesceCrossJoins) as Arc<dyn PhysicalOptimizerRule + Send + Sync>;
    let own = sluice_executor::cassandra::physical_optimizer_rules().into_iter().chain([coalesce]);
    rules.splice(before_checks..before_checks, own);
    rules
}

/// The place before the rule that only checks.
fn before_checks(rules: &[Arc<dyn PhysicalOptimizerRule + Send + Sync>]) -> usize {
    rules.iter().rposition(|rule| rule.name() != "SanityCheckPlan").map_or(0, |index| index + 1)
}

/// The same with those of this module in their places, for plans that are cut into stages.
pub fn rules_for_stages() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = Vec::new();
    for rule in rules_for_one_process() {
        let is_join_selection = rule.name() == "join_selection";
        rules.push(rule);
        if is_join_selection {
            // Before exchanges are put in, so that they fit.
            rules.push(Arc::new(PartitionJoins) as Arc<dyn PhysicalOptimizerRule + Send + Sync>);
        }
    }
    // After exchanges were put in, which would take a gathering of partitions for one to be undone.
    let own: [Arc<dyn PhysicalOptimizerRule + Send + Sync>; 3] =
        [Arc::new(AgreeOnBroadcasts), Arc::new(KeepColumnsOfSeries), Arc::new(GatherProbeSides)];
    let before_cassandra = rules.iter().position(|rule| rule.name().starts_with("cassandra_"));
    let place = before_cassandra.unwrap_or_else(|| before_checks(&rules));
    rules.splice(place..place, own);
    rules
}

/// Whether a join of this type only looks up rows of its left side.
fn only_looks_up(join_type: JoinType) -> bool {
    matches!(
        join_type,
        JoinType::Inner | JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
    )
}

/// Hash joins that may not, or should not, have their left side sent to every task are partitioned.
#[derive(Debug)]
struct PartitionJoins;

impl PhysicalOptimizerRule for PartitionJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.execution.target_partitions < 2 {
            return Ok(plan);
        }
        let rewritten = plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            let is_broadcast = *join.partition_mode() == PartitionMode::CollectLeft;
            let most_bytes = config.optimizer.hash_join_single_partition_threshold;
            let is_small = || is_smaller(join.left(), most_bytes);
            if !is_broadcast || join.null_aware || (only_looks_up(*join.join_type()) && is_small()) {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(join.builder().with_partition_mode(PartitionMode::Partitioned).build_exec()?))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "partition_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Partitions, in the finished plan, the hash joins that Ballista would not broadcast.
///
/// Ballista looks at sizes once more when it cuts the plan, and a join that is too large by then gets an
/// exchange of its own on either side, also where the rows already are where they belong.
#[derive(Debug)]
struct AgreeOnBroadcasts;

impl PhysicalOptimizerRule for AgreeOnBroadcasts {
    fn optimize(&self, mut plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        /// Each round partitions a join or is the last; what one changes may change the sizes above it.
        const MOST_ROUNDS: usize = 8;
        for _ in 0..MOST_ROUNDS {
            let partitioned = PartitionJoins.optimize(plan.clone(), config)?;
            if Arc::ptr_eq(&partitioned, &plan) {
                break;
            }
            plan = EnsureRequirements::new().optimize(partitioned, config)?;
        }
        Ok(plan)
    }

    fn name(&self) -> &str {
        "agree_on_broadcasts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether a plan contains a `NOT IN` that has to see all rows of both sides in one place.
pub fn has_null_aware_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<HashJoinExec>().is_some_and(|join| join.null_aware)
        || plan.children().into_iter().any(has_null_aware_join)
}

/// Bytes that a value of a type without a fixed width is taken to have; as in Ballista's planner.
const VARIABLE_WIDTH_BYTES: usize = 32;

/// Whether a plan is known to give fewer bytes, or so few rows that they have fewer bytes.
fn is_smaller(plan: &Arc<dyn ExecutionPlan>, most_bytes: usize) -> bool {
    let Ok(statistics) = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()) else { return false };
    let bytes = statistics.total_byte_size.get_value().copied().filter(|bytes| *bytes > 0);
    let row_bytes: usize = plan
        .schema()
        .fields()
        .iter()
        .map(|field| field.data_type().primitive_width().unwrap_or(VARIABLE_WIDTH_BYTES))
        .sum();
    let rows = statistics.num_rows.get_value().copied().filter(|rows| *rows > 0);
    bytes.or_else(|| rows.map(|rows| rows.saturating_mul(row_bytes))).is_some_and(|bytes| bytes < most_bytes)
}

/// Nested loop joins that speak for their left side run as one task.
#[derive(Debug)]
struct GatherProbeSides;

impl PhysicalOptimizerRule for GatherProbeSides {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten =
            plan.transform_up(|node| {
                let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(Transformed::no(node)) };
                let right = join.right();
                if only_looks_up(*join.join_type()) || right.properties().output_partitioning().partition_count() < 2 {
                    return Ok(Transformed::no(node));
                }
                let gathered = Arc::new(CoalescePartitionsExec::new(Arc::clone(right)));
                // A limit that limits nothing, but asks for one partition: Ballista's planner takes a gathering
                // away that nothing above it asks for.
                let (left, right) = (Arc::clone(join.left()), Arc::new(GlobalLimitExec::new(gathered, 0, None)));
                Ok(Transformed::yes(node.replace_children(
                    vec![left, right],
                    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
                )?))
            })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "gather_probe_sides"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A series of which only the number of rows is wanted still crosses to executors with its column.
///
/// "try_from_lazy_memory_exec" of datafusion-proto 55 sends what makes the rows and not which columns are read
/// of them, so that a series read without columns would come back with one that nobody expects.
#[derive(Debug)]
struct KeepColumnsOfSeries;

impl PhysicalOptimizerRule for KeepColumnsOfSeries {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_up(|node| {
            let Some(series) = node.downcast_ref::<LazyMemoryExec>() else { return Ok(Transformed::no(node)) };
            let [generator] = series.generators().as_slice() else { return Ok(Transformed::no(node)) };
            if !series.schema().fields().is_empty() {
                return Ok(Transformed::no(node));
            }
            let fresh = generator.read().reset_state();
            let first = fresh.write().generate_next_batch()?;
            let Some(first) = first else {
                return Ok(Transformed::yes(Arc::new(EmptyExec::new(series.schema())) as Arc<dyn ExecutionPlan>));
            };
            let whole = LazyMemoryExec::try_new(first.schema(), vec![generator.read().reset_state()])?;
            let none: Vec<ProjectionExpr> = Vec::new();
            Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(none, Arc::new(whole))?)))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "keep_columns_of_series"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn plan_of(sql: &str) -> String {
        let state = datafusion::execution::SessionStateBuilder::new()
            .with_default_features()
            .with_config(datafusion::prelude::SessionConfig::new().with_target_partitions(3))
            .with_physical_optimizer_rules(rules_for_stages())
            .build();
        let plan = datafusion::prelude::SessionContext::new_with_state(state).sql(sql).await.expect("is planned");
        let plan = plan.create_physical_plan().await.expect("is planned");
        datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string()
    }

    #[tokio::test]
    async fn a_nested_loop_join_that_speaks_for_its_left_side_is_one_task() {
        let numbers = "SELECT value AS n FROM generate_series(1, 100) GROUP BY value";
        let plan = plan_of(&format!("SELECT count(*) FROM ({numbers}) a LEFT JOIN ({numbers}) b ON a.n > b.n")).await;
        let below = plan.split("NestedLoopJoinExec: join_type=Left").nth(1).expect("a left join");
        assert_eq!(below.matches("CoalescePartitionsExec").count(), 2, "{plan}");
    }

    #[tokio::test]
    async fn a_join_that_speaks_for_its_left_side_is_partitioned() {
        let plan = plan_of(
            "SELECT count(*) FROM generate_series(1, 100) a(n) WHERE NOT EXISTS (SELECT 1 FROM generate_series(1, 5) b(n) WHERE a.n = b.n)",
        )
        .await;
        assert!(
            plan.contains("mode=Partitioned, join_type=LeftAnti") || plan.contains("join_type=RightAnti"),
            "{plan}"
        );
    }

    #[test]
    fn rules_of_our_own_are_in_their_places() {
        let rules = rules_for_stages();
        let place = |name: &str| rules.iter().position(|rule| rule.name() == name);
        assert_eq!(place("partition_joins"), place("join_selection").map(|index| index + 1));
        assert!(place("gather_probe_sides") > place("ProjectionPushdown"), "{rules:?}");
        assert!(place("gather_probe_sides") < place("cassandra_direct_joins"), "{rules:?}");
        assert_eq!(rules.len(), rules_for_one_process().len() + 4);
    }
}
