//! The plain scylla driver as the bench's limit: what Cassandra gives to a Rust client that does nothing else.
//!
//!     plain_driver scan  CONTACT_POINTS KEYSPACE TABLE KEY COLUMN    the sum of a column over the whole table
//!     plain_driver point CONTACT_POINTS KEYSPACE TABLE KEY COUNT     the median of so many reads by key, in turn
//!
//! CONTACT_POINTS is `host:port,host:port`, KEY the table's one partition key column, COLUMN a `decimal`, `bigint` or
//! `double`. Names are taken as CQL writes them. The answer is one line of JSON; times leave out the connecting and
//! preparing. `PLAIN_DRIVER_PAGE_ROWS` is the page size of a scan (5000).

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::routing::Token;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDecimalBorrowed, CqlValue, Row};

/// What Sluice asks for by default; pages of 10,000 rows were no faster.
const PAGE_SIZE_ROWS: i32 = 5_000;
/// Token ranges read at a time, enough to keep three nodes on one machine busy.
const RANGES_IN_FLIGHT: usize = 8;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["scan", contact_points, keyspace, table, key, column] => {
            scan(Arc::new(connect(contact_points).await?), keyspace, table, key, column).await
        }
        ["point", contact_points, keyspace, table, key, count] => {
            let count = count.parse().context("COUNT is a whole number")?;
            point(&connect(contact_points).await?, keyspace, table, key, count).await
        }
        _ => bail!("usage: plain_driver scan|point CONTACT_POINTS KEYSPACE TABLE KEY COLUMN|COUNT"),
    }
}

async fn connect(contact_points: &str) -> Result<Session> {
    let nodes: Vec<&str> = contact_points.split(',').map(str::trim).collect();
    SessionBuilder::new().known_nodes(nodes).build().await.with_context(|| format!("connecting to {contact_points}"))
}

async fn prepare(session: &Session, cql: String) -> Result<PreparedStatement> {
    let mut statement = session.prepare(cql.as_str()).await.with_context(|| cql.clone())?;
    statement.set_consistency(Consistency::LocalOne);
    Ok(statement)
}

/// One task for each token range of the ring, asked of a replica of it.
async fn scan(session: Arc<Session>, keyspace: &str, table: &str, key: &str, column: &str) -> Result<()> {
    let cql = format!("SELECT {column} FROM {keyspace}.{table} WHERE token({key}) > ? AND token({key}) <= ?");
    let mut statement = prepare(&session, cql).await?;
    let page_rows = std::env::var("PLAIN_DRIVER_PAGE_ROWS").ok();
    let page_rows = page_rows.map(|rows| rows.parse()).transpose().context("PLAIN_DRIVER_PAGE_ROWS")?;
    statement.set_page_size(page_rows.unwrap_or(PAGE_SIZE_ROWS));
    let zero = {
        let columns = statement.get_current_result_set_col_specs();
        let column = columns.get().get_by_index(0).context("a SELECT has a column")?.typ().clone();
        Sum::zero(&column)?
    };

    let state = session.get_cluster_state();
    let mut tokens: Vec<i64> = state.replica_locator().ring().iter().map(|(token, _)| token.value()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    let started = Instant::now();
    let reads = ranges(&tokens).into_iter().map(|(start, end)| {
        let mut statement = statement.clone();
        // A range has no partition key by which the driver could find its replicas.
        let replica = state.get_token_endpoints(keyspace, table, Token::new(end)).into_iter().next();
        statement.set_load_balancing_policy(
            replica.map(|(node, _)| SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node), None)),
        );
        let (session, zero) = (session.clone(), zero.clone());
        let read = tokio::spawn(async move { read_range(&session, &statement, start, end, zero).await });
        async move { read.await.context("a task of the scan")? }
    });
    let parts: Vec<(usize, Sum)> =
        futures::stream::iter(reads).buffer_unordered(RANGES_IN_FLIGHT).try_collect().await?;
    let (mut row_count, mut sum) = (0, zero);
    for (part_row_count, part) in parts {
        row_count += part_row_count;
        sum = sum.plus(part)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{{\"seconds\": {seconds:.4}, \"rows\": {row_count}, \"sum\": \"{}\"}}", sum.text());
    Ok(())
}

/// The ring as ranges, each after its first token up to its second; the one that wraps around becomes two.
fn ranges(tokens: &[i64]) -> Vec<(i64, i64)> {
    let ends = tokens.iter().copied().chain([i64::MAX]);
    let starts = [i64::MIN].into_iter().chain(tokens.iter().copied());
    starts.zip(ends).filter(|(start, end)| start < end).collect()
}

async fn read_range(
    session: &Session,
    statement: &PreparedStatement,
    start: i64,
    end: i64,
    mut sum: Sum,
) -> Result<(usize, Sum)> {
    let (mut row_count, mut state) = (0, PagingState::start());
    loop {
        let (page, next) = session.execute_single_page(statement, (start, end), state).await?;
        let page = page.into_rows_result()?;
        row_count += page.rows_num();
        sum.add_page(&page)?;
        match next {
            PagingStateResponse::HasMorePages { state: next } => state = next,
            PagingStateResponse::NoMorePages => return Ok((row_count, sum)),
        }
    }
}

/// The sum of a column, exact unless the column is not.
#[derive(Debug, Clone, PartialEq)]
enum Sum {
    /// `unscaled` / 10^`scale`
    Decimal {
        unscaled: i128,
        scale: u32,
    },
    Whole(i128),
    Double(f64),
}

impl Sum {
    fn zero(column: &ColumnType<'_>) -> Result<Self> {
        match column {
            ColumnType::Native(NativeType::Decimal) => Ok(Self::Decimal { unscaled: 0, scale: 0 }),
            ColumnType::Native(NativeType::BigInt) => Ok(Self::Whole(0)),
            ColumnType::Native(NativeType::Double) => Ok(Self::Double(0.0)),
            other => bail!("a column of {other:?} is not summed here; decimal, bigint and double are"),
        }
    }

    fn add_page(&mut self, page: &QueryRowsResult) -> Result<()> {
        match self {
            Self::Decimal { unscaled, scale } => {
                for row in page.rows::<(Option<CqlDecimalBorrowed<'_>>,)>()? {
                    let (Some(value),) = row? else { continue };
                    let (bytes, value_scale) = value.as_signed_be_bytes_slice_and_exponent();
                    let value_scale = u32::try_from(value_scale).context("a negative scale")?;
                    (*unscaled, *scale) = add_decimals((*unscaled, *scale), (whole_number(bytes)?, value_scale))?;
                }
            }
            Self::Whole(total) => {
                for row in page.rows::<(Option<i64>,)>()? {
                    *total += i128::from(row?.0.unwrap_or(0));
                }
            }
            Self::Double(total) => {
                for row in page.rows::<(Option<f64>,)>()? {
                    *total += row?.0.unwrap_or(0.0);
                }
            }
        }
        Ok(())
    }

    fn plus(self, other: Self) -> Result<Self> {
        match (self, other) {
            (Self::Decimal { unscaled, scale }, Self::Decimal { unscaled: other, scale: other_scale }) => {
                let (unscaled, scale) = add_decimals((unscaled, scale), (other, other_scale))?;
                Ok(Self::Decimal { unscaled, scale })
            }
            (Self::Whole(one), Self::Whole(other)) => Ok(Self::Whole(one + other)),
            (Self::Double(one), Self::Double(other)) => Ok(Self::Double(one + other)),
            _ => bail!("one column has one type"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Decimal { unscaled, scale } => {
                let sign = if *unscaled < 0 { "-" } else { "" };
                let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = *scale as usize + 1);
                let (whole, fraction) = digits.split_at(digits.len() - *scale as usize);
                let point = if fraction.is_empty() { "" } else { "." };
                format!("{sign}{whole}{point}{fraction}")
            }
            Self::Whole(total) => total.to_string(),
            Self::Double(total) => total.to_string(),
        }
    }
}

/// Adds two decimals, each an unscaled value and its scale, at the larger scale.
fn add_decimals(one: (i128, u32), other: (i128, u32)) -> Result<(i128, u32)> {
    let scale = one.1.max(other.1);
    let at_scale = |(unscaled, own): (i128, u32)| 10_i128.checked_pow(scale - own)?.checked_mul(unscaled);
    let sum = at_scale(one).zip(at_scale(other)).and_then(|(one, other)| one.checked_add(other));
    Ok((sum.context("the sum has more than 38 digits")?, scale))
}

/// A whole number from two's complement bytes, the most significant first.
fn whole_number(bytes: &[u8]) -> Result<i128> {
    ensure!(bytes.len() <= 16, "a number of {} bytes", bytes.len());
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    Ok(bytes.iter().fold(sign, |number, byte| (number << 8) | i128::from(*byte)))
}

/// Reads of whole rows by keys from all over the ring, one after another on one session.
async fn point(session: &Session, keyspace: &str, table: &str, key: &str, count: usize) -> Result<()> {
    let next_key =
        prepare(session, format!("SELECT {key} FROM {keyspace}.{table} WHERE token({key}) > ? LIMIT 1")).await?;
    let mut keys: Vec<CqlValue> = Vec::with_capacity(count);
    for index in 0..count {
        let token = i128::from(i64::MIN) + (1_i128 << 64) * index as i128 / count as i128;
        let found = session.execute_unpaged(&next_key, (token as i64,)).await?.into_rows_result()?;
        keys.extend(found.maybe_first_row::<(CqlValue,)>()?.map(|(key,)| key));
    }
    ensure!(!keys.is_empty(), "{keyspace}.{table} has no rows");

    let read = prepare(session, format!("SELECT * FROM {keyspace}.{table} WHERE {key} = ?")).await?;
    let mut times_ms = Vec::with_capacity(keys.len());
    for key in &keys {
        let started = Instant::now();
        let rows = session.execute_unpaged(&read, (key,)).await?.into_rows_result()?;
        let row: Row = rows.first_row()?;
        times_ms.push(started.elapsed().as_secs_f64() * 1e3);
        ensure!(!row.columns.is_empty(), "a row without columns");
    }
    times_ms.sort_by(f64::total_cmp);
    println!("{{\"median_ms\": {:.4}, \"reads\": {}}}", times_ms[times_ms.len() / 2], times_ms.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_cover_the_ring_once() {
        assert_eq!(ranges(&[-5, 7]), [(i64::MIN, -5), (-5, 7), (7, i64::MAX)]);
        assert_eq!(ranges(&[]), [(i64::MIN, i64::MAX)]);
    }

    #[test]
    fn decimals_of_two_scales_are_added_exactly() {
        let minus_1_5 = Sum::Decimal { unscaled: whole_number(&[0xf1]).expect("short"), scale: 1 };
        let quarter = Sum::Decimal { unscaled: 25, scale: 2 };
        assert_eq!(minus_1_5.plus(quarter).expect("small").text(), "-1.25");
        assert_eq!(Sum::Decimal { unscaled: -5, scale: 2 }.text(), "-0.05");
    }
}
