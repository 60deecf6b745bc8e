//! Reading what a finished job left on its executors.

use std::sync::Arc;

use ballista_core::client_pool::BallistaClientPool;
use ballista_core::error::BallistaError;
use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::scheduler::PartitionLocation;
use ballista_core::utils::GrpcClientConfig;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use futures::{StreamExt, TryStreamExt};
use sluice_executor::client_pool::ConnectionPool;
use sluice_executor::shuffle::check_if_local;

/// Where results are found and how they are fetched.
pub(super) struct ResultReader {
    /// Where embedded executors leave results, which are read without a connection.
    pub work_dir: String,
    pub connections: Arc<ConnectionPool>,
    pub context: Arc<TaskContext>,
}

impl ResultReader {
    /// The rows: partitions one after another, in order, each as its reader asks for it.
    pub(super) fn read(
        self: Arc<Self>,
        schema: SchemaRef,
        mut locations: Vec<PartitionLocation>,
    ) -> SendableRecordBatchStream {
        locations.sort_by_key(|location| location.partition_id.partition_id);
        let reader = self;
        let rows_schema = schema.clone();
        let rows = futures::stream::iter(locations)
            .then(move |location| {
                let (reader, schema) = (reader.clone(), rows_schema.clone());
                async move { reader.open(schema, location).await }
            })
            .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed()))
    }

    async fn open(&self, schema: SchemaRef, location: PartitionLocation) -> Result<SendableRecordBatchStream> {
        if location.path(&self.work_dir)?.exists() {
            check_if_local(&location, &self.work_dir).await?;
            let stage_id = location.partition_id.stage_id;
            let one = Partitioning::UnknownPartitioning(1);
            let reader = ShuffleReaderExec::try_new(stage_id, vec![vec![location]], schema, one)?;
            return reader.with_work_dir(self.work_dir.clone()).execute(0, self.context.clone());
        }
        // A ShuffleReaderExec would hold all of a remote partition in memory before it gave its first row.
        let external = |error: BallistaError| DataFusionError::External(Box::new(error));
        let config = GrpcClientConfig::from(&self.context.session_config().ballista_config());
        let executor = &location.executor_meta;
        let mut client =
            self.connections.acquire(&executor.host, executor.port, &config, None).await.map_err(external)?;
        let fetched = client
            .fetch_partition(&executor.id, &location.partition_id, location.file_id, location.layout(), false)
            .await;
        if fetched.is_err() {
            client.discard();
        }
        fetched.map_err(external)
    }
}
