//! What operators with one input have in common: their properties, and their way between processes.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{ExecutionPlan, PlanProperties};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The properties of an operator whose partitions are those of its input.
pub(crate) fn properties_over(
    input: &Arc<dyn ExecutionPlan>,
    equivalences: EquivalenceProperties,
    emission: EmissionType,
) -> Arc<PlanProperties> {
    let partition_count = input.properties().output_partitioning().partition_count();
    let partitioning = Partitioning::UnknownPartitioning(partition_count);
    Arc::new(PlanProperties::new(equivalences, partitioning, emission, Boundedness::Bounded))
}

/// The input of an operator that takes one. `what` names it, as in "a Cassandra scan".
pub(crate) fn only_input(what: &str, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
    match <[_; 1]>::try_from(inputs) {
        Ok([input]) => Ok(input),
        Err(_) => internal_err!("{what} takes one input"),
    }
}

/// An operator's specification as bytes.
pub(crate) fn encode_spec<S: Serialize>(spec: &S) -> Result<Vec<u8>> {
    serde_json::to_vec(spec).map_err(|error| DataFusionError::External(Box::new(error)))
}

/// What [`encode_spec`] made.
pub(crate) fn decode_spec<S: DeserializeOwned>(bytes: &[u8]) -> Result<S> {
    serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(Box::new(error)))
}

/// An operator's own part in bytes: a specification and a schema.
#[derive(Serialize, Deserialize)]
struct EncodedNode<S> {
    spec: S,
    /// An Arrow IPC stream without batches.
    schema: Vec<u8>,
}

/// An operator's specification and schema as bytes.
pub(crate) fn encode_node<S: Serialize>(spec: &S, schema: &SchemaRef) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, schema)?.finish()?;
    encode_spec(&EncodedNode { spec, schema: bytes })
}

/// What [`encode_node`] made.
pub(crate) fn decode_node<S: DeserializeOwned>(bytes: &[u8]) -> Result<(S, SchemaRef)> {
    let node: EncodedNode<S> = decode_spec(bytes)?;
    let reader = StreamReader::try_new(node.schema.as_slice(), None)?;
    Ok((node.spec, reader.schema()))
}
