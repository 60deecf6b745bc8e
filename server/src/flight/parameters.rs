//! A prepared statement's parameters: one row of Arrow columns for each run.

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use tonic::Status;

/// Rows of parameters that one call may bind; each runs the statement.
const MAX_RUNS: usize = 100_000;

/// The type in which a parameter is asked for.
///
/// JDBC's driver (18.3) puts milliseconds into a vector of timestamps of any unit.
pub fn asked_for(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        other => other.clone(),
    }
}

/// The parameters of each run.
pub async fn read(stream: PeekableFlightDataStream) -> Result<Vec<Vec<ScalarValue>>, Status> {
    let data = stream.map_err(|status| FlightError::Tonic(Box::new(status)));
    let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
    let mut runs = Vec::new();
    while let Some(batch) = batches.try_next().await.map_err(|error| Status::invalid_argument(error.to_string()))? {
        if runs.len() + batch.num_rows() > MAX_RUNS {
            return Err(Status::resource_exhausted(format!("more than {MAX_RUNS} rows of parameters")));
        }
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
            let values = values.collect::<Result<Vec<_>, _>>();
            runs.push(values.map_err(|error| Status::invalid_argument(error.to_string()))?);
        }
    }
    Ok(runs)
}
