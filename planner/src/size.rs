//! How many bytes a physical plan will read.

use std::any::Any;
use std::sync::Arc;

use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use sluice_executor::cassandra::{CassandraDirectJoinExec, CassandraScanExec};

/// What a plan reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputSize {
    /// Bytes of files, and of Cassandra tables as their nodes estimate them; `None` where nothing is known.
    pub bytes: Option<u64>,
    /// Whether files are decoded. Files of users are decoded in executors only, because a hostile
    /// one can take its process down.
    pub reads_files: bool,
    /// Whether it reads anything but what this process holds in memory, or makes rows of its own.
    pub is_work: bool,
}

/// Adds up the leaves of `plan`.
///
/// A file counts with the ranges that the plan reads of it, before row groups are pruned. A leaf
/// that tells nothing makes the whole unknown.
pub fn input_size(plan: &Arc<dyn ExecutionPlan>) -> InputSize {
    let mut size = InputSize { bytes: Some(0), reads_files: false, is_work: false };
    add(plan, &mut size);
    size
}

fn add(plan: &Arc<dyn ExecutionPlan>, size: &mut InputSize) {
    if let Some(scan) = plan.downcast_ref::<CassandraScanExec>() {
        size.is_work = true;
        size.bytes = size.bytes.zip(scan.estimated_bytes()).map(|(sum, bytes)| sum.saturating_add(bytes));
        return;
    }
    if let Some(by_key) = plan.downcast_ref::<CassandraDirectJoinExec>().and_then(|join| join.estimated_bytes_by_key())
        && let Some([build, _]) = plan.children().first().and_then(|join| <[_; 2]>::try_from(join.children()).ok())
    {
        size.is_work = true;
        size.bytes = size.bytes.map(|sum| sum.saturating_add(by_key));
        return add(build, size);
    }
    if let Some(source) = plan.downcast_ref::<DataSourceExec>() {
        let source: &dyn Any = source.data_source().as_ref();
        if let Some(files) = source.downcast_ref::<FileScanConfig>() {
            (size.reads_files, size.is_work) = (true, true);
            let bytes = files.file_groups.iter().flat_map(|group| group.iter()).map(|file| match &file.range {
                Some(range) => range.end.saturating_sub(range.start).max(0) as u64,
                None => file.object_meta.size,
            });
            size.bytes = size.bytes.map(|sum| sum.saturating_add(bytes.sum()));
        } else if !source.is::<MemorySourceConfig>() {
            (size.bytes, size.is_work) = (None, true);
        }
        return;
    }
    // Series are made as they are read.
    size.is_work |= plan.name() == "LazyMemoryExec";
    for child in plan.children() {
        add(child, size);
    }
}
