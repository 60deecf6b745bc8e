//! The session configuration that coordinator and executors start from.

use std::any::Any;

use ballista_core::extension::SessionConfigExt;
use datafusion::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionConfig;

use crate::cassandra::CassandraSettings;

/// What the scheduler tells each task; nothing that a user sets.
///
/// Written out, because the entries of `extensions_options!` lack the prefix, without which another process does not
/// know what they are.
#[derive(Debug, Clone, Default)]
pub struct TaskGrant {
    /// Bytes of memory for each vcore that the task holds; 0 is a vcore's part of the executor.
    pub memory_bytes_per_vcore: u64,
}

impl TaskGrant {
    const MEMORY: &'static str = "memory_bytes_per_vcore";
}

impl ConfigExtension for TaskGrant {
    const PREFIX: &'static str = "sluice_task";
}

impl ExtensionOptions for TaskGrant {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let bad = |what: &str| DataFusionError::Configuration(format!("{}.{key}: {what}", Self::PREFIX));
        if key != Self::MEMORY {
            return Err(bad("there is no such setting"));
        }
        self.memory_bytes_per_vcore = value.parse().map_err(|_| bad("it takes a number of bytes"))?;
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![ConfigEntry {
            key: format!("{}.{}", Self::PREFIX, Self::MEMORY),
            value: Some(self.memory_bytes_per_vcore.to_string()),
            description: "Bytes of memory for each vcore that the task holds",
        }]
    }
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
        .with_option_extension(CassandraSettings::default())
        .with_ballista_adaptive_query_planner(false)
        .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES)
        .set_bool("datafusion.optimizer.prefer_hash_join", true)
        .set_usize("datafusion.optimizer.hash_join_single_partition_threshold", BROADCAST_BYTES)
        .set_usize("datafusion.optimizer.hash_join_single_partition_threshold_rows", BROADCAST_ROWS)
        .set_bool("datafusion.execution.parquet.pushdown_filters", false)
        .set_str("ballista.client.io_retries_times", "5")
        .set_str("ballista.client.io_retry_wait_time_ms", "200")
}

#[cfg(test)]
mod tests {
    use ballista_core::extension::SessionConfigHelperExt;

    use super::*;

    #[test]
    fn a_grant_arrives_in_another_process() {
        let mut told = cluster_session_config();
        told.options_mut().set("sluice_task.memory_bytes_per_vcore", "12345").expect("is known");
        let heard = cluster_session_config().update_from_key_value_pair(&told.to_key_value_pairs());
        let grant = heard.options().extensions.get::<TaskGrant>().expect("every executor knows it");
        assert_eq!(grant.memory_bytes_per_vcore, 12345);
    }
}
