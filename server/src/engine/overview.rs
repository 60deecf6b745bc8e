//! Queries for whoever looks at them: how far each is, and what it waits for.

use std::sync::Arc;

use futures::FutureExt;
use serde::Serialize;
use sluice_scheduler::cluster::StageSummary;

use super::Engine;
use super::query::{QueryRecord, QuerySummary};
use super::waiting::{self, Wait};

/// Running queries whose stages are looked at in a list; the list is for people.
const MOST_LOOKED_INTO: usize = 100;

/// How far a stage is.
#[derive(Debug, Clone, Serialize)]
pub struct StageProgress {
    /// Number of the stage within its job, from 1.
    pub stage_id: usize,
    /// `unresolved`, `resolved`, `running`, `successful`, `failed` or `stopped`.
    pub state: &'static str,
    /// Partitions whose tasks have ended well.
    pub done: usize,
    /// All partitions; 0 before that is known.
    pub total: usize,
}

/// A query in a list.
#[derive(Debug, Clone, Serialize)]
pub struct QueryOverview {
    /// What is known of every query.
    #[serde(flatten)]
    pub summary: QuerySummary,
    /// What it waits for, if it does.
    pub waiting: Option<String>,
    /// How far its stages are, while it runs.
    pub progress: Vec<StageProgress>,
}

/// A query with all that is known of it.
#[derive(Debug, Clone, Serialize)]
pub struct QueryDetails {
    /// What lists have of it.
    #[serde(flatten)]
    pub overview: QueryOverview,
    /// Its stages, or the one task in the server; none before it runs, or when they are no longer known.
    pub stages: Vec<StageSummary>,
}

impl Engine {
    /// Running queries and the last that ran, newest first.
    pub async fn query_overviews(&self) -> Vec<QueryOverview> {
        let records = self.queries.records();
        let mut room = MOST_LOOKED_INTO;
        let mut overviews = Vec::with_capacity(records.len());
        for record in &records {
            let stages = match record.is_running() && room > 0 {
                true => {
                    room -= 1;
                    self.stages_of(record).boxed().await
                }
                false => Vec::new(),
            };
            overviews.push(self.overview(record, &stages, &records).boxed().await);
        }
        overviews
    }

    /// One query; `None` if there is none of this id, or if it is no longer known.
    pub async fn query_details(&self, id: &str) -> Option<QueryDetails> {
        let records = self.queries.records();
        let record = records.iter().find(|record| record.id == id)?;
        let stages = self.stages_of(record).boxed().await;
        Some(QueryDetails { overview: self.overview(record, &stages, &records).boxed().await, stages })
    }

    /// The stages of all queries that are known, newest query first.
    pub async fn all_stages(&self) -> Vec<(QuerySummary, Vec<StageSummary>)> {
        let mut all = Vec::new();
        for record in self.queries.records() {
            let stages = self.stages_of(&record).boxed().await;
            all.push((record.summary(), stages));
        }
        all
    }

    async fn stages_of(&self, record: &QueryRecord) -> Vec<StageSummary> {
        match (record.known_stages(), record.job_id()) {
            (Some(stages), _) => stages,
            (None, Some(job_id)) => {
                let stages = self.stages(&job_id).await;
                if record.is_running() {
                    return stages;
                }
                // Its client went away before its job had ended.
                record.watched().keep(stages);
                record.known_stages().unwrap_or_default()
            }
            (None, None) => Vec::new(),
        }
    }

    async fn overview(&self, record: &QueryRecord, stages: &[StageSummary], all: &[Arc<QueryRecord>]) -> QueryOverview {
        let waiting = match wait_of(record, stages, all) {
            Some(wait) => Some(waiting::describe(wait, record.queue_name(), &self.scheduler.queues().boxed().await)),
            None => None,
        };
        let progress = stages.iter().map(|stage| {
            let (done, total) = stage.progress();
            StageProgress { stage_id: stage.stage_id, state: stage.state, done, total }
        });
        QueryOverview { summary: record.summary(), waiting, progress: progress.collect() }
    }
}

fn wait_of(record: &QueryRecord, stages: &[StageSummary], all: &[Arc<QueryRecord>]) -> Option<Wait> {
    if !record.is_running() {
        return None;
    }
    if record.is_queued() {
        // Ids grow with time.
        let is_ahead = |other: &&Arc<QueryRecord>| {
            other.is_running() && other.is_queued() && other.queue_name() == record.queue_name() && other.id < record.id
        };
        return Some(Wait::Turn { ahead: all.iter().filter(is_ahead).count() });
    }
    if record.waits_for_core() {
        return Some(Wait::ServerCore);
    }
    waiting::of_stages(stages)
}
