//! One page of rows, asked for until it comes.

use std::time::Duration;

use datafusion::physical_plan::metrics::Count;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::prepared::PreparedStatement;

use super::cluster::CassandraCluster;
use super::encode::EncodedRow;
use super::error::CassandraError;
use super::traffic::{count_page, count_retry};

/// How long a page is asked for again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Tries of one page, each after twice the wait of the one before.
    pub attempts: u32,
    /// The wait before the second try.
    pub first_backoff: Duration,
    /// A page is halved after each failure, down to so many rows.
    pub least_page_rows: i32,
}

/// The page after `state`; after a failure that may pass, a smaller one, later, which the driver also asks other
/// replicas for. The statement keeps the smaller size. `what` completes the sentence of an error.
pub async fn page(
    cluster: &CassandraCluster,
    statement: &mut PreparedStatement,
    values: &EncodedRow,
    state: &PagingState,
    what: &str,
    patience: Patience,
    retries: &Count,
) -> Result<(QueryRowsResult, PagingStateResponse), CassandraError> {
    let mut backoff = patience.first_backoff;
    let mut attempt = 1;
    loop {
        let error = match cluster.session().execute_single_page(statement, values, state.clone()).await {
            Ok((result, next)) => {
                let rows = result.into_rows_result();
                let broken = |reason: String| CassandraError::Refused { what: what.to_owned(), reason };
                let rows = rows.map_err(|error| broken(error.to_string()))?;
                count_page(rows.rows_num(), rows.rows_bytes_size());
                return Ok((rows, next));
            }
            Err(error) => CassandraError::from_execution(what, &error),
        };
        if attempt >= patience.attempts || !error.is_transient() {
            return Err(error);
        }
        tracing::debug!(%error, attempt, "a page is asked for again");
        retries.add(1);
        count_retry();
        let rows = statement.get_page_size();
        statement.set_page_size((rows / 2).max(patience.least_page_rows.min(rows)));
        tokio::time::sleep(backoff).await;
        backoff *= 2;
        attempt += 1;
    }
}
