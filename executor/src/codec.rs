//! Plans between processes: our own operators beside Ballista's.

use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};

use crate::barrier::PolicyBarrierExec;
use crate::cassandra::{CassandraDirectJoinExec, CassandraInsertExec, CassandraScanExec};
use crate::transfer::{TransferReadExec, TransferWriteExec};

/// Leads the bytes of an operator of our own. Ballista's messages are protobuf, whose first byte
/// is a field tag and never zero.
const MAGIC: &[u8] = b"\0sluice";
const CASSANDRA_SCAN: u8 = 1;
const CASSANDRA_INSERT: u8 = 2;
const CASSANDRA_DIRECT_JOIN: u8 = 3;
const POLICY_BARRIER: u8 = 10;
const TRANSFER_WRITE: u8 = 20;
const TRANSFER_READ: u8 = 21;

/// Encodes the operators of this crate itself and leaves everything else to Ballista.
#[derive(Debug, Default)]
pub struct SluiceCodec {
    ballista: BallistaPhysicalExtensionCodec,
}

impl PhysicalExtensionCodec for SluiceCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(own) = buf.strip_prefix(MAGIC) else {
            return self.ballista.try_decode(buf, inputs, ctx, proto_converter);
        };
        let Some((kind, body)) = own.split_first() else {
            return internal_err!("a plan node without its kind");
        };
        match *kind {
            CASSANDRA_SCAN => Ok(Arc::new(CassandraScanExec::decode(body, inputs.to_vec())?)),
            CASSANDRA_INSERT => Ok(Arc::new(CassandraInsertExec::decode(body, inputs.to_vec())?)),
            CASSANDRA_DIRECT_JOIN => Ok(Arc::new(CassandraDirectJoinExec::decode(body, inputs.to_vec())?)),
            POLICY_BARRIER => Ok(Arc::new(PolicyBarrierExec::decode(inputs.to_vec())?)),
            TRANSFER_WRITE => Ok(Arc::new(TransferWriteExec::decode(body, inputs.to_vec())?)),
            TRANSFER_READ => Ok(Arc::new(TransferReadExec::decode(body, inputs.to_vec())?)),
            other => internal_err!("a plan node of unknown kind {other}: are all processes of one version?"),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        proto_converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let (kind, body) = if let Some(scan) = node.downcast_ref::<CassandraScanExec>() {
            (CASSANDRA_SCAN, scan.encode().map_err(|e| internal_datafusion_err!("{e}"))?)
        } else if let Some(insert) = node.downcast_ref::<CassandraInsertExec>() {
            (CASSANDRA_INSERT, insert.encode().map_err(|e| internal_datafusion_err!("{e}"))?)
        } else if let Some(join) = node.downcast_ref::<CassandraDirectJoinExec>() {
            (CASSANDRA_DIRECT_JOIN, join.encode()?)
        } else if node.is::<PolicyBarrierExec>() {
            (POLICY_BARRIER, Vec::new())
        } else if let Some(write) = node.downcast_ref::<TransferWriteExec>() {
            (TRANSFER_WRITE, write.encode().map_err(|e| internal_datafusion_err!("{e}"))?)
        } else if let Some(read) = node.downcast_ref::<TransferReadExec>() {
            (TRANSFER_READ, read.encode().map_err(|e| internal_datafusion_err!("{e}"))?)
        } else {
            return self.ballista.try_encode(node, buf, proto_converter);
        };
        buf.extend_from_slice(MAGIC);
        buf.push(kind);
        buf.extend_from_slice(&body);
        Ok(())
    }
}
