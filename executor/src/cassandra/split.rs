//! Token ranges, each within one set of replicas, dealt out to partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use scylla::cluster::ClusterState;
use scylla::routing::Token;
use scylla::routing::partitioner::{Murmur3Partitioner, Partitioner, PartitionerHasher};

use super::pushdown::TokenBounds;

/// The part of the ring after `start` up to and including `end`, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRange {
    /// Exclusive.
    pub start: i64,
    /// Inclusive.
    pub end: i64,
    /// Addresses of its replicas, sorted.
    pub replicas: Vec<String>,
}

impl TokenRange {
    /// The whole ring, of nobody in particular.
    pub fn whole() -> Self {
        Self { start: i64::MIN, end: i64::MAX, replicas: Vec::new() }
    }

    /// Whether a token is in it.
    pub fn contains(&self, token: i64) -> bool {
        self.start < token && token <= self.end
    }

    /// The part of it within these bounds; `None` if there is none.
    pub fn within(&self, bounds: TokenBounds) -> Option<Self> {
        let (start, end) = (self.start.max(bounds.after), self.end.min(bounds.up_to));
        (start < end).then(|| Self { start, end, replicas: self.replicas.clone() })
    }

    fn width(&self) -> u128 {
        (i128::from(self.end) - i128::from(self.start)).max(0) as u128
    }
}

/// The token of a partition key, by the Murmur3 partitioner: of the value of its only column, or of the values of its
/// columns, each with its length before it and a zero after it.
pub fn token_of(key: &[Vec<u8>]) -> i64 {
    let mut hasher = Murmur3Partitioner.build_hasher();
    match key {
        [value] => hasher.write(value),
        values => {
            for value in values {
                hasher.write(&(value.len() as u16).to_be_bytes());
                hasher.write(value);
                hasher.write(&[0]);
            }
        }
    }
    hasher.finish().value()
}

/// The whole ring of a keyspace, in ranges that lie each within one set of replicas.
///
/// With a local data centre only its replicas count, where a range has any there.
pub fn ring(state: &ClusterState, keyspace: &str, table: &str, local_dc: Option<&str>) -> Vec<TokenRange> {
    let mut tokens: Vec<Token> = state.replica_locator().ring().iter().map(|(token, _)| *token).collect();
    tokens.sort();
    tokens.dedup();
    let replicas_of = |token: Token| {
        let holders = state.get_token_endpoints(keyspace, table, token);
        let is_near = |dc: Option<&str>| local_dc.is_none() || dc == local_dc;
        let any_near = holders.iter().any(|(node, _)| is_near(node.datacenter.as_deref()));
        let mut replicas: Vec<String> = holders
            .into_iter()
            .filter(|(node, _)| !any_near || is_near(node.datacenter.as_deref()))
            .map(|(node, _)| node.address.ip().to_string())
            .collect();
        replicas.sort();
        replicas.dedup();
        replicas
    };
    ranges(&tokens.iter().map(|token| (token.value(), replicas_of(*token))).collect::<Vec<_>>())
}

/// Ranges between sorted tokens; neighbours with the same replicas become one.
///
/// The range of a token ends at it and begins after the token before; that of the first token wraps
/// around the end of the ring and becomes two.
fn ranges(tokens: &[(i64, Vec<String>)]) -> Vec<TokenRange> {
    let (Some((first, first_replicas)), Some((last, _))) = (tokens.first(), tokens.last()) else {
        return vec![TokenRange::whole()];
    };
    let mut all = vec![TokenRange { start: i64::MIN, end: *first, replicas: first_replicas.clone() }];
    for pair in tokens.windows(2) {
        all.push(TokenRange { start: pair[0].0, end: pair[1].0, replicas: pair[1].1.clone() });
    }
    all.push(TokenRange { start: *last, end: i64::MAX, replicas: first_replicas.clone() });
    let mut merged: Vec<TokenRange> = Vec::with_capacity(all.len());
    for range in all.into_iter().filter(|range| range.start < range.end) {
        match merged.last_mut() {
            Some(before) if before.replicas == range.replicas => before.end = range.end,
            _ => merged.push(range),
        }
    }
    merged
}

/// Cuts ranges so that none is wider than its share of `wanted` pieces of the ring.
pub(super) fn cut(ranges: Vec<TokenRange>, wanted: usize) -> Vec<TokenRange> {
    let most = u128::from(u64::MAX).div_ceil(wanted.max(1) as u128);
    let mut pieces = Vec::new();
    for range in ranges {
        let count = range.width().div_ceil(most).max(1);
        let step = range.width() / count;
        let mut start = range.start;
        for i in 0..count {
            let end = if i + 1 == count { range.end } else { (i128::from(start) + step as i128) as i64 };
            pieces.push(TokenRange { start, end, replicas: range.replicas.clone() });
            start = end;
        }
    }
    pieces
}

/// Deals the ring out to partitions: every partition has ranges of one set of replicas only.
///
/// `table_bytes` is what the nodes estimate of the table. A small table becomes one partition, because
/// a task costs more than it does; otherwise there are about `target_partitions`, and no range holds
/// more than `split_bytes`.
pub fn partitions(
    ring: Vec<TokenRange>,
    table_bytes: Option<u64>,
    split_bytes: u64,
    target_partitions: usize,
) -> Vec<Vec<TokenRange>> {
    /// Less than this is read faster than a second task is started.
    const ONE_PARTITION_BYTES: u64 = 1 << 20;
    /// Ranges a partition should have, so that several can be read at a time and a slow one is made up for.
    const RANGES_PER_PARTITION: usize = 4;
    if table_bytes.is_some_and(|bytes| bytes < ONE_PARTITION_BYTES) {
        return vec![ring];
    }
    let by_size = table_bytes.map_or(0, |bytes| bytes.div_ceil(split_bytes.max(1)) as usize);
    let pieces = cut(ring, by_size.max(target_partitions * RANGES_PER_PARTITION));
    let total: u128 = pieces.iter().map(TokenRange::width).sum::<u128>().max(1);
    let mut groups: BTreeMap<Vec<String>, Vec<TokenRange>> = BTreeMap::new();
    for piece in pieces {
        groups.entry(piece.replicas.clone()).or_default().push(piece);
    }
    let mut all = Vec::new();
    for pieces in groups.into_values() {
        let width: u128 = pieces.iter().map(TokenRange::width).sum();
        let share = (width * target_partitions as u128 + total / 2) / total;
        let count = (share as usize).clamp(1, pieces.len().max(1));
        all.extend(deal(pieces, count));
    }
    all
}

/// Widest first to whoever has least.
fn deal(mut pieces: Vec<TokenRange>, count: usize) -> Vec<Vec<TokenRange>> {
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.width()));
    let mut hands: Vec<(u128, Vec<TokenRange>)> = vec![(0, Vec::new()); count];
    for piece in pieces {
        if let Some(least) = hands.iter_mut().min_by_key(|(width, _)| *width) {
            least.0 += piece.width();
            least.1.push(piece);
        }
    }
    hands.into_iter().map(|(_, pieces)| pieces).collect()
}

/// The columns by which a plan carries its ranges.
pub fn descriptor_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("start_token", DataType::Int64, false),
        Field::new("end_token", DataType::Int64, false),
        Field::new("replicas", DataType::Utf8, false),
    ]))
}

/// A source whose partitions describe the ranges of these partitions.
pub fn descriptors(partitions: &[Vec<TokenRange>]) -> Result<Arc<DataSourceExec>> {
    let batches = partitions.iter().map(|ranges| Ok(vec![encode_ranges(ranges)?])).collect::<Result<Vec<_>>>()?;
    let source = MemorySourceConfig::try_new(&batches, descriptor_schema(), None)?;
    Ok(DataSourceExec::from_data_source(source))
}

/// A partition's ranges as rows.
pub fn encode_ranges(ranges: &[TokenRange]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ranges.iter().map(|r| r.start))),
        Arc::new(Int64Array::from_iter_values(ranges.iter().map(|r| r.end))),
        Arc::new(StringArray::from_iter_values(ranges.iter().map(|r| r.replicas.join(",")))),
    ];
    Ok(RecordBatch::try_new(descriptor_schema(), columns)?)
}

/// Rows as ranges.
pub fn decode_ranges(batch: &RecordBatch) -> Result<Vec<TokenRange>> {
    let wrong = || DataFusionError::Internal("rows that describe no token ranges".to_owned());
    let [start, end, replicas] = batch.columns() else { return Err(wrong()) };
    let start = start.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
    let end = end.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
    let replicas = replicas.as_string_opt::<i32>().ok_or_else(wrong)?;
    Ok((0..batch.num_rows())
        .map(|i| TokenRange {
            start: start.value(i),
            end: end.value(i),
            replicas: replicas.value(i).split(',').filter(|r| !r.is_empty()).map(str::to_owned).collect(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(of: &[(i64, &str)]) -> Vec<(i64, Vec<String>)> {
        of.iter().map(|(token, host)| (*token, vec![(*host).to_owned()])).collect()
    }

    fn covered(ranges: impl IntoIterator<Item = TokenRange>) -> Vec<(i64, i64)> {
        let mut all: Vec<(i64, i64)> = ranges.into_iter().map(|r| (r.start, r.end)).collect();
        all.sort_unstable();
        all
    }

    fn is_whole_ring(ranges: &[(i64, i64)]) -> bool {
        ranges.first().is_some_and(|r| r.0 == i64::MIN)
            && ranges.last().is_some_and(|r| r.1 == i64::MAX)
            && ranges.windows(2).all(|pair| pair[0].1 == pair[1].0)
    }

    #[test]
    fn the_range_of_the_first_token_wraps_around() {
        let all = ranges(&tokens(&[(-10, "a"), (10, "b")]));
        assert_eq!(covered(all.clone()), [(i64::MIN, -10), (-10, 10), (10, i64::MAX)]);
        assert_eq!(all[0].replicas, all[2].replicas);
        assert_eq!(all[1].replicas, ["b"]);
    }

    #[test]
    fn neighbours_with_the_same_replicas_become_one() {
        assert_eq!(covered(ranges(&tokens(&[(-10, "a"), (0, "a"), (10, "a")]))), [(i64::MIN, i64::MAX)]);
    }

    #[test]
    fn partitions_cover_the_ring_once_and_keep_replica_sets_apart() {
        let ring = ranges(&tokens(&[(-6_000_000_000_000_000_000, "a"), (0, "b"), (5_000_000_000_000_000_000, "c")]));
        for (bytes, target) in [(None, 3), (None, 7), (Some(1 << 40), 3), (Some(10), 3)] {
            let dealt = partitions(ring.clone(), bytes, 64 << 20, target);
            assert!(is_whole_ring(&covered(dealt.iter().flatten().cloned())), "{bytes:?} {target}");
            if bytes != Some(10) {
                assert!(dealt.iter().all(|p| p.windows(2).all(|pair| pair[0].replicas == pair[1].replicas)));
            }
        }
    }

    #[test]
    fn tokens_are_cassandras() {
        // SELECT token(k) FROM t, and of a key of two columns, as Cassandra 5 answers.
        assert_eq!(token_of(&[1i32.to_be_bytes().to_vec()]), -4_069_959_284_402_364_209);
        assert_eq!(token_of(&[b"a".to_vec()]), -8_839_064_797_231_613_815);
    }

    #[test]
    fn a_small_table_is_one_partition() {
        let ring = ranges(&tokens(&[(-10, "a"), (10, "b")]));
        assert_eq!(partitions(ring, Some(1_000), 64 << 20, 8).len(), 1);
    }

    #[test]
    fn no_range_holds_more_than_its_share() {
        let pieces = cut(ranges(&tokens(&[(0, "a")])), 10);
        assert_eq!(pieces.len(), 10);
        assert!(is_whole_ring(&covered(pieces)));
    }

    #[test]
    fn ranges_survive_being_rows() {
        let ranges = ranges(&tokens(&[(-10, "a"), (10, "b")]));
        assert_eq!(decode_ranges(&encode_ranges(&ranges).expect("rows")).expect("ranges"), ranges);
    }
}
