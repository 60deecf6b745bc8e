//! A whole table, read by token range from a replica of each.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use scylla::client::session::Session;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::routing::Token;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

use super::{Table, prepare};

/// What Sluice asks for by default; pages of 10,000 rows were no faster.
const PAGE_SIZE_ROWS: i32 = 5_000;

/// The read of some columns of a table, prepared.
pub struct RingRead {
    session: Arc<Session>,
    pub statement: PreparedStatement,
    ranges: Vec<(TokenRange, PreparedStatement)>,
}

/// Tokens after `start` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRange {
    start: i64,
    end: i64,
}

impl TokenRange {
    /// How much of the ring it is.
    pub fn share(self) -> f64 {
        (self.end as f64 - self.start as f64) / 2_f64.powi(64)
    }
}

impl RingRead {
    /// `columns` is what stands after SELECT.
    pub async fn prepare(session: &Arc<Session>, table: Table<'_>, columns: &str) -> Result<Self> {
        let Table { keyspace, name, key } = table;
        let cql = format!("SELECT {columns} FROM {keyspace}.{name} WHERE token({key}) > ? AND token({key}) <= ?");
        let mut statement = prepare(session, cql, Consistency::LocalOne).await?;
        let page_rows = std::env::var("PLAIN_DRIVER_PAGE_ROWS").ok();
        let page_rows = page_rows.map(|rows| rows.parse()).transpose().context("PLAIN_DRIVER_PAGE_ROWS")?;
        statement.set_page_size(page_rows.unwrap_or(PAGE_SIZE_ROWS));

        let state = session.get_cluster_state();
        let mut tokens: Vec<i64> = state.replica_locator().ring().iter().map(|(token, _)| token.value()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let with_replica = |range: TokenRange| {
            let mut statement = statement.clone();
            // A range has no partition key by which the driver could find its replicas.
            let replica = state.get_token_endpoints(keyspace, name, Token::new(range.end)).into_iter().next();
            statement.set_load_balancing_policy(
                replica.map(|(node, _)| SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node), None)),
            );
            (range, statement)
        };
        let ranges = ranges(&tokens).into_iter().map(with_replica).collect();
        Ok(Self { session: session.clone(), statement, ranges })
    }

    /// Reads all ranges, `ranges_in_flight` at a time, each in a task of its own. `start` makes what a range's pages are
    /// added to, and `add` says whether the range is to be read on.
    pub async fn read<T: Send + 'static>(
        &self,
        ranges_in_flight: usize,
        start: impl Fn(TokenRange) -> T,
        add: impl Fn(&mut T, &QueryRowsResult) -> Result<ControlFlow<()>> + Clone + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        let reads = self.ranges.iter().map(|(range, statement)| {
            let (session, statement, range, add) = (self.session.clone(), statement.clone(), *range, add.clone());
            let mut part = start(range);
            async move {
                let read = tokio::spawn(async move {
                    read_range(&session, &statement, range, |page| add(&mut part, page)).await?;
                    Ok::<_, anyhow::Error>(part)
                });
                read.await.context("a task of the read")?
            }
        });
        futures::stream::iter(reads).buffer_unordered(ranges_in_flight).try_collect().await
    }
}

/// The ring as ranges; the one that wraps around becomes two.
fn ranges(tokens: &[i64]) -> Vec<TokenRange> {
    let ends = tokens.iter().copied().chain([i64::MAX]);
    let starts = [i64::MIN].into_iter().chain(tokens.iter().copied());
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| TokenRange { start, end }).collect()
}

async fn read_range(
    session: &Session,
    statement: &PreparedStatement,
    range: TokenRange,
    mut add: impl FnMut(&QueryRowsResult) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut state = PagingState::start();
    loop {
        let (page, next) = session.execute_single_page(statement, (range.start, range.end), state).await?;
        if add(&page.into_rows_result()?)?.is_break() {
            return Ok(());
        }
        match next {
            PagingStateResponse::HasMorePages { state: next } => state = next,
            PagingStateResponse::NoMorePages => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_cover_the_ring_once() {
        let of = |tokens: &[i64]| ranges(tokens).iter().map(|range| (range.start, range.end)).collect::<Vec<_>>();
        assert_eq!(of(&[-5, 7]), [(i64::MIN, -5), (-5, 7), (7, i64::MAX)]);
        assert_eq!(of(&[]), [(i64::MIN, i64::MAX)]);
        assert_eq!(ranges(&[-5, 7]).into_iter().map(TokenRange::share).sum::<f64>(), 1.0);
    }
}
