//! Plans for people: stages, exchanges, where tasks ran.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use sluice_planner::statement::{ExplainFormat, Statement, StatementKind};
use sluice_scheduler::cluster::{StageSummary, plan_stages};

use super::ddl;
use super::error::EngineError;
use super::query::{Placement, QueryRecord, QueryResult};
use super::run::{self, Placed};
use super::session::{Session, rows_of_text};

/// One text column, as in PostgreSQL.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8, false)]))
}

/// Explains a statement; with `analyze` also runs it.
pub(super) async fn execute(
    session: &Arc<Session>,
    statement: &Statement,
    analyze: bool,
    verbose: bool,
    format: ExplainFormat,
    record: &Arc<QueryRecord>,
) -> Result<QueryResult, EngineError> {
    let StatementKind::Sql(sql) = &statement.kind else {
        return Err(EngineError::not_supported(format!("EXPLAIN {}", statement.tag)));
    };
    if ddl::is_ours(sql) {
        return Err(EngineError::not_supported(format!("EXPLAIN {}", statement.tag)));
    }
    let plan = session.plan(statement, sql).await?;
    let report = if analyze { analyzed(session, &plan, record).await? } else { planned(session, &plan).await? };
    record.ended(None);
    let mut lines = Vec::new();
    match format {
        ExplainFormat::Json => lines.push(report.json(verbose)),
        ExplainFormat::Text => {
            if verbose {
                lines.extend(report.logical.lines().map(|line| format!("Logical: {line}")));
            }
            report.text(&mut lines);
        }
    }
    Ok(QueryResult::Rows(rows_of_text(schema(), vec![lines])?))
}

/// What there is to tell of a plan.
struct Report {
    placement: Placement,
    logical: String,
    stages: Vec<StageSummary>,
    /// Host by executor id, to tell where tasks ran.
    hosts: Vec<(String, String)>,
    /// Rows that came back and milliseconds that passed, if the statement was run.
    ran: Option<(u64, u64)>,
}

async fn planned(session: &Arc<Session>, plan: &LogicalPlan) -> Result<Report, EngineError> {
    let placed = run::place(session, plan).await?;
    let stages = stages_of(&placed)?;
    Ok(Report {
        placement: placed.placement,
        logical: logical_text(session, plan)?,
        stages,
        hosts: Vec::new(),
        ran: None,
    })
}

fn logical_text(session: &Session, plan: &LogicalPlan) -> Result<String, EngineError> {
    Ok(session.context().state().optimize(plan)?.display_indent().to_string())
}

fn stages_of(placed: &Placed) -> Result<Vec<StageSummary>, EngineError> {
    if placed.placement == Placement::Server {
        return Ok(vec![server_stage(placed, false)]);
    }
    Ok(plan_stages(placed.plan.clone(), placed.context.state().config_options())?)
}

fn server_stage(placed: &Placed, with_metrics: bool) -> StageSummary {
    let displayed = if with_metrics {
        DisplayableExecutionPlan::with_metrics(placed.plan.as_ref())
    } else {
        DisplayableExecutionPlan::new(placed.plan.as_ref())
    };
    StageSummary {
        stage_id: 1,
        state: "planned",
        partition_count: placed.plan.properties().output_partitioning().partition_count(),
        plan: displayed.indent(false).to_string().lines().map(str::to_owned).collect(),
        ..StageSummary::default()
    }
}

async fn analyzed(
    session: &Arc<Session>,
    plan: &LogicalPlan,
    record: &Arc<QueryRecord>,
) -> Result<Report, EngineError> {
    let placed = run::place(session, plan).await?;
    let placement = placed.placement;
    let started = std::time::Instant::now();
    let again = Placed { plan: placed.plan.clone(), context: placed.context.clone(), ..placed };
    let rows = run::run_and_discard(session, placed, record).await?;
    let elapsed_ms = started.elapsed().as_millis() as u64;
    let stages = match record.job_id() {
        Some(job_id) => session.engine().stages(&job_id).await,
        None => vec![server_stage(&again, true)],
    };
    let hosts = session.engine().executors().await.into_iter().map(|e| (e.executor_id, e.host)).collect();
    Ok(Report { placement, logical: logical_text(session, plan)?, stages, hosts, ran: Some((rows, elapsed_ms)) })
}

impl Report {
    fn text(&self, lines: &mut Vec<String>) {
        match self.placement {
            Placement::Server => lines.push("One task in the server, without an exchange".to_owned()),
            Placement::OneTask => lines.push("One task on an executor, without an exchange".to_owned()),
            Placement::Stages if self.stages.len() == 1 => lines.push("1 stage on the executors".to_owned()),
            Placement::Stages => lines.push(format!("{} stages on the executors", self.stages.len())),
        }
        let last = self.stages.last().map(|stage| stage.stage_id);
        for stage in self.stages.iter().rev() {
            if self.placement == Placement::Server {
                lines.extend(stage.plan.iter().map(|line| format!("  {line}")));
                continue;
            }
            let role = if Some(stage.stage_id) == last { "result" } else { "exchange" };
            let partitions = if stage.partition_count == 1 { "partition" } else { "partitions" };
            lines.push(format!("Stage {}: {} {partitions} -> {role}", stage.stage_id, stage.partition_count));
            if self.ran.is_some() {
                lines.push(self.stage_facts(stage));
            }
            lines.extend(stage.plan.iter().map(|line| format!("  {line}")));
        }
        if let Some((rows, elapsed_ms)) = self.ran {
            lines.push(format!("Rows: {rows}"));
            lines.push(format!("Execution Time: {elapsed_ms} ms"));
        }
    }

    fn stage_facts(&self, stage: &StageSummary) -> String {
        let mut places: Vec<String> = Vec::new();
        for task in &stage.tasks {
            let host =
                self.hosts.iter().find(|(id, _)| *id == task.executor_id).map_or("lost", |(_, host)| host.as_str());
            let id = task.executor_id.rsplit('-').next().unwrap_or_default();
            places.push(format!("{host}/{id} ({} ms)", task.ended_ms.saturating_sub(task.started_ms)));
        }
        format!(
            "  rows={}, bytes={}, time={} ms, tasks={}: {}",
            stage.output_rows,
            stage.output_bytes,
            stage.elapsed_ms().unwrap_or(0),
            stage.tasks.len(),
            places.join(", ")
        )
    }

    fn json(&self, verbose: bool) -> String {
        let mut document = serde_json::json!({
            "Placement": self.placement.as_str(),
            "Stages": self.stages,
        });
        if verbose {
            document["Logical Plan"] = self.logical.clone().into();
        }
        if let Some((rows, elapsed_ms)) = self.ran {
            document["Rows"] = rows.into();
            document["Execution Time"] = elapsed_ms.into();
        }
        let list = serde_json::Value::Array(vec![document]);
        serde_json::to_string_pretty(&list).unwrap_or_else(|_| list.to_string())
    }
}
