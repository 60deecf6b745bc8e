//! The session configuration that coordinator and executors start from.

use ballista_core::extension::SessionConfigExt;
use datafusion::common::extensions_options;
use datafusion::config::ConfigExtension;
use datafusion::prelude::SessionConfig;

extensions_options! {
    /// What the scheduler tells each task; nothing that a user sets.
    pub struct TaskGrant {
        /// Bytes of memory for each vcore that the task holds; 0 is a vcore's part of the executor.
        pub memory_bytes_per_vcore: u64, default = 0
    }
}

impl ConfigExtension for TaskGrant {
    const PREFIX: &'static str = "sluice_task";
}

/// Bytes of one message of the data plane.
const MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// A join's build side that is known to have fewer bytes is sent to every task, which spares the probe side an exchange.
const BROADCAST_BYTES: usize = 16 << 20;
/// The same in rows, where bytes are not known.
const BROADCAST_ROWS: usize = 1 << 20;

/// The configuration for plans that are cut into stages.
///
/// On top of Ballista's restrictions (no dynamic filters or scalar-subquery operators across
/// stages): hash joins instead of sort-merge joins, because they are several times faster when the
/// build side fits, and the static planner, which recovers the lost output of a finished stage.
pub fn cluster_session_config() -> SessionConfig {
    SessionConfig::new_with_ballista()
        .with_option_extension(TaskGrant::default())
        .with_ballista_adaptive_query_planner(false)
        .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES)
        .set_bool("datafusion.optimizer.prefer_hash_join", true)
        .set_usize("datafusion.optimizer.hash_join_single_partition_threshold", BROADCAST_BYTES)
        .set_usize("datafusion.optimizer.hash_join_single_partition_threshold_rows", BROADCAST_ROWS)
        .set_bool("datafusion.execution.parquet.pushdown_filters", false)
        .set_str("ballista.client.io_retries_times", "5")
        .set_str("ballista.client.io_retry_wait_time_ms", "200")
}
