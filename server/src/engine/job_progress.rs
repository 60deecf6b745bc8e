//! How far a query's stages are, in words that people and clients read.

use std::fmt;
use std::str::FromStr;

use sluice_scheduler::cluster::StageSummary;

/// The stages of a query that runs: `1 of 3 stages ended; stage 2: 3 of 8 partitions, 30 rows`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobProgress {
    /// Stages that have ended.
    pub ended: usize,
    /// All its stages.
    pub count: usize,
    /// Those that run now, at least one.
    pub running: Vec<RunningStage>,
}

/// A stage that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningStage {
    /// Its number within its job.
    pub stage_id: usize,
    /// Partitions whose tasks have ended well.
    pub partitions_ended: usize,
    /// All its partitions.
    pub partition_count: usize,
    /// Rows that its ended tasks have written.
    pub rows: u64,
}

impl JobProgress {
    /// What the scheduler's summaries tell; `None` if no stage runs.
    pub fn of(stages: &[StageSummary]) -> Option<Self> {
        let running: Vec<RunningStage> = stages
            .iter()
            .filter(|stage| stage.state == "running")
            .map(|stage| {
                let (partitions_ended, partition_count) = stage.progress();
                let rows = stage.output_rows;
                RunningStage { stage_id: stage.stage_id, partitions_ended, partition_count, rows }
            })
            .collect();
        let ended = stages.iter().filter(|stage| stage.state == "successful").count();
        (!running.is_empty()).then_some(Self { ended, count: stages.len(), running })
    }

    /// The part of the work that is done, from 0 to 1, with all stages taken for equally much.
    pub fn share(&self) -> f64 {
        let parts =
            self.running.iter().map(|stage| stage.partitions_ended as f64 / stage.partition_count.max(1) as f64);
        ((self.ended as f64 + parts.sum::<f64>()) / self.count.max(1) as f64).clamp(0.0, 1.0)
    }
}

impl fmt::Display for JobProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} stages ended", self.ended, self.count)?;
        self.running.iter().try_for_each(|stage| write!(f, "; {stage}"))
    }
}

impl fmt::Display for RunningStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage_id, partitions_ended, partition_count, rows } = self;
        write!(f, "stage {stage_id}: {partitions_ended} of {partition_count} partitions, {rows} rows")
    }
}

/// A text that tells of no stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotJobProgress;

impl FromStr for JobProgress {
    type Err = NotJobProgress;

    fn from_str(text: &str) -> Result<Self, NotJobProgress> {
        let mut parts = text.split("; ");
        let whole = parts.next().and_then(|part| part.strip_suffix(" stages ended")).ok_or(NotJobProgress)?;
        let (ended, count) = part_of(whole)?;
        let running = parts.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { ended, count, running })
    }
}

impl FromStr for RunningStage {
    type Err = NotJobProgress;

    fn from_str(text: &str) -> Result<Self, NotJobProgress> {
        let (stage_id, rest) =
            text.strip_prefix("stage ").and_then(|rest| rest.split_once(": ")).ok_or(NotJobProgress)?;
        let (partitions, rows) = rest.split_once(" partitions, ").ok_or(NotJobProgress)?;
        let (partitions_ended, partition_count) = part_of(partitions)?;
        let rows = rows.strip_suffix(" rows").ok_or(NotJobProgress)?;
        Ok(Self { stage_id: number(stage_id)?, partitions_ended, partition_count, rows: number(rows)? })
    }
}

fn part_of(text: &str) -> Result<(usize, usize), NotJobProgress> {
    let (part, whole) = text.split_once(" of ").ok_or(NotJobProgress)?;
    Ok((number(part)?, number(whole)?))
}

fn number<T: FromStr>(text: &str) -> Result<T, NotJobProgress> {
    text.parse().map_err(|_| NotJobProgress)
}

#[cfg(test)]
mod tests {
    use sluice_scheduler::cluster::TaskSummary;

    use super::*;

    fn stage(stage_id: usize, state: &'static str, ended: usize) -> StageSummary {
        let task = TaskSummary { state: "successful", partitions: (0..ended).collect(), ..TaskSummary::default() };
        StageSummary {
            stage_id,
            state,
            partition_count: 8,
            output_rows: 30,
            tasks: vec![task],
            ..StageSummary::default()
        }
    }

    #[test]
    fn running_stages_are_told_with_their_partitions() {
        let stages = [stage(1, "successful", 8), stage(2, "running", 4), stage(3, "unresolved", 0)];
        let progress = JobProgress::of(&stages).expect("one runs");
        let text = "1 of 3 stages ended; stage 2: 4 of 8 partitions, 30 rows";
        assert_eq!((progress.to_string().as_str(), progress.share()), (text, 0.5));
        assert_eq!(JobProgress::of(&stages[..1]), None);
    }

    #[test]
    fn what_is_told_can_be_read() {
        let stages = [stage(1, "running", 1), stage(2, "running", 8), stage(3, "unresolved", 0)];
        let progress = JobProgress::of(&stages).expect("two run");
        assert_eq!(progress.to_string().parse(), Ok(progress));
        for other in ["", "runs for 4 s", "1 of 3 stages ended; stage x", "see http://127.0.0.1/"] {
            assert_eq!(other.parse::<JobProgress>(), Err(NotJobProgress), "{other}");
        }
    }
}
