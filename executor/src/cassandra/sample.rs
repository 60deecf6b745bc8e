//! `ANALYZE`: a sample of a table.
//!
//! The ring is cut into slices of equal width. Each is read from its beginning until it ends or its share of the
//! sample's rows is there. A key's token is a hash, so that these are partitions by chance; and the part of the ring
//! that they lie in tells how many there are in all, which holds for rows that no node has written to disk yet too.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_plan::metrics::Count;
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use scylla::cluster::metadata::ColumnType;
use scylla::deserialize::row::ColumnIterator;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::prepared::PreparedStatement;

use super::cluster::{CassandraCluster, TableSize, quoted};
use super::decode::ColumnDecoder;
use super::encode::EncodedRow;
use super::error::CassandraError;
use super::page::{Patience, page};
use super::statistics::{ColumnSample, Frequencies, TableStatistics, estimated_distinct};
use super::types::table_schema;

/// Rows of a sample, unless said otherwise.
pub const DEFAULT_SAMPLE_ROWS: u64 = 20_000;
/// The most rows of a sample: a hash of every value is kept while it is taken.
pub const MOST_SAMPLE_ROWS: u64 = 200_000;
/// Parts of the ring that a sample is taken from.
const SLICES: u64 = 32;
/// Slices that are read at a time.
const SLICES_IN_FLIGHT: usize = 4;
/// With fewer whole partitions in the sample, their place on the ring says too little of how many there are.
const LEAST_PARTITIONS: u64 = 100;
/// How long a page of a sample is asked for again.
const PATIENCE: Patience = Patience { attempts: 4, first_backoff: Duration::from_millis(200), least_page_rows: 1 };
/// Characters of a text that are kept of the smallest and the largest.
const TEXT_CHARACTERS: usize = 64;
/// Width of the ring.
const RING: f64 = 18_446_744_073_709_551_616.0;

/// Samples a table and keeps what it tells with the cluster, for the plans that follow.
///
/// `columns` are those to look at, all if there are none; what was known of others is kept. `row_count` rows are
/// read, or a few more.
pub async fn analyze(
    cluster: &CassandraCluster,
    keyspace: &str,
    table: &str,
    columns: &[String],
    row_count: u64,
) -> Result<Arc<TableStatistics>, CassandraError> {
    let what = format!("while sampling {keyspace}.{table}");
    let refused = |reason: String| CassandraError::Refused { what: what.clone(), reason };
    let metadata =
        cluster.find_table(keyspace, table).await?.ok_or_else(|| refused("there is no such table".to_owned()))?;
    let schema = table_schema(&metadata, &cluster.details(keyspace, table).await?.declared)?;
    let fields = schema.fields().iter().filter(|field| columns.is_empty() || columns.contains(field.name()));
    let columns: Vec<Sampled> = fields
        .map(|field| Sampled {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            is_partition_key: metadata.partition_key.contains(field.name()),
        })
        .collect();
    let key = metadata.partition_key.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let names: String = columns.iter().map(|column| format!(", {}", quoted(&column.name))).collect();
    let cql = format!(
        "SELECT token({key}){names} FROM {}.{} WHERE token({key}) > ? AND token({key}) <= ?",
        quoted(keyspace),
        quoted(table)
    );
    let mut statement = cluster.prepare_read(&cql, &what).await?;
    let slice_rows = row_count.min(MOST_SAMPLE_ROWS).div_ceil(SLICES).max(1);
    statement.set_consistency(cluster.options().read_consistency());
    let page_rows = cluster.options().page_size_rows.min(i32::try_from(slice_rows).unwrap_or(i32::MAX));
    statement.set_page_size(cluster.throttle().page_rows(page_rows));
    let nodes: Vec<IpAddr> = cluster.state().get_nodes_info().iter().map(|node| node.address.ip()).collect();
    let reader = Reader { cluster, what: &what, nodes: &nodes, columns: &columns, slice_rows };
    let slices: Vec<Slice> =
        futures::stream::iter(slice_bounds().map(|(start, end)| reader.read(&statement, start, end)))
            .buffer_unordered(SLICES_IN_FLIGHT)
            .try_collect()
            .await?;
    let size = cluster.table_size(keyspace, table).await;
    let mut statistics = summarize(&columns, slices, size, metadata.partition_key.len());
    if let Some(before) = cluster.statistics(keyspace, table) {
        let others = before.columns.iter().filter(|(name, _)| metadata.columns.contains_key(*name));
        for (name, column) in others {
            statistics.columns.entry(name.clone()).or_insert_with(|| column.clone());
        }
    }
    let statistics = Arc::new(statistics);
    cluster.set_statistics(keyspace, table, Some(statistics.clone()));
    Ok(statistics)
}

/// After the first, up to and including the second token.
fn slice_bounds() -> impl Iterator<Item = (i64, i64)> {
    let bound = |index: u64| (i128::from(i64::MIN) + i128::from(index) * (1_i128 << 64) / i128::from(SLICES)) as i64;
    (0..SLICES).map(move |index| (bound(index), if index + 1 == SLICES { i64::MAX } else { bound(index + 1) }))
}

/// A column that is looked at.
struct Sampled {
    name: String,
    data_type: DataType,
    is_partition_key: bool,
}

/// What was read of one slice.
#[derive(Default)]
struct Slice {
    row_count: u64,
    /// Rows and partitions of that part of the ring of which all was read, and its width.
    whole: Part,
    is_complete: bool,
    partition_count: u64,
    tallies: Vec<Tally>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Part {
    row_count: u64,
    partition_count: u64,
    width: f64,
}

/// What was seen of one column.
#[derive(Default)]
struct Tally {
    null_count: u64,
    byte_count: u64,
    /// How often each value occurs, by its hash; a column of the partition key counts once a partition.
    seen: HashMap<u64, u32>,
    min: Option<ScalarValue>,
    max: Option<ScalarValue>,
}

impl Tally {
    fn see(&mut self, cell: Option<&[u8]>, counts: bool) {
        let Some(cell) = cell else {
            self.null_count += 1;
            return;
        };
        self.byte_count += cell.len() as u64;
        if counts {
            let mut hasher = DefaultHasher::new();
            hasher.write(cell);
            *self.seen.entry(hasher.finish()).or_default() += 1;
        }
    }

    fn widen(&mut self, value: ScalarValue) {
        if value.is_null() || is_nan(&value) {
            return;
        }
        if self.min.as_ref().is_none_or(|min| value < *min) {
            self.min = Some(value.clone());
        }
        if self.max.as_ref().is_none_or(|max| value > *max) {
            self.max = Some(value);
        }
    }

    fn merge(&mut self, other: Self) {
        self.null_count += other.null_count;
        self.byte_count += other.byte_count;
        for (hash, count) in other.seen {
            *self.seen.entry(hash).or_default() += count;
        }
        other.min.into_iter().chain(other.max).for_each(|value| self.widen(value));
    }
}

fn is_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float32(Some(value)) => value.is_nan(),
        ScalarValue::Float64(Some(value)) => value.is_nan(),
        _ => false,
    }
}

/// Whether the smallest and the largest value say something of the others.
fn is_ordered(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || data_type.is_temporal() && !matches!(data_type, DataType::Interval(_))
        || *data_type == DataType::Utf8
}

struct Reader<'a> {
    cluster: &'a CassandraCluster,
    what: &'a str,
    nodes: &'a [IpAddr],
    columns: &'a [Sampled],
    slice_rows: u64,
}

impl Reader<'_> {
    async fn read(&self, statement: &PreparedStatement, start: i64, end: i64) -> Result<Slice, CassandraError> {
        let mut statement = statement.clone();
        let mut values = EncodedRow::default();
        values.push_raw(&start.to_be_bytes());
        values.push_raw(&end.to_be_bytes());
        let width = |token: i64| (i128::from(token) - i128::from(start)) as f64;
        let mut slice = Slice::default();
        slice.tallies.resize_with(self.columns.len(), Tally::default);
        let mut last_token = None;
        let mut state = PagingState::start();
        loop {
            let turn = self.cluster.throttle().begin(self.nodes).await;
            let (rows, next) =
                page(self.cluster, &mut statement, &values, &state, self.what, PATIENCE, &Count::new()).await?;
            let debt = turn.end(rows.rows_num());
            self.take(&rows, &mut slice, &mut last_token, width)?;
            self.cluster.throttle().pay(debt).await;
            match next {
                PagingStateResponse::HasMorePages { state: next } if slice.row_count < self.slice_rows => state = next,
                PagingStateResponse::HasMorePages { .. } => return Ok(slice),
                PagingStateResponse::NoMorePages => {
                    slice.is_complete = true;
                    slice.whole =
                        Part { row_count: slice.row_count, partition_count: slice.partition_count, width: width(end) };
                    return Ok(slice);
                }
            }
        }
    }

    fn broken(&self, reason: String) -> CassandraError {
        CassandraError::Refused { what: self.what.to_owned(), reason }
    }

    /// Counts the rows of a page. A partition is whole when the next one begins.
    fn take(
        &self,
        rows: &QueryRowsResult,
        slice: &mut Slice,
        last_token: &mut Option<i64>,
        width: impl Fn(i64) -> f64,
    ) -> Result<(), CassandraError> {
        let types: Vec<ColumnType<'_>> = rows.column_specs().iter().skip(1).map(|spec| spec.typ().clone()).collect();
        let mut decoders = self
            .columns
            .iter()
            .zip(&types)
            .map(|(column, cql)| {
                let decoder = ColumnDecoder::new(&column.name, cql, &column.data_type, rows.rows_num());
                is_ordered(&column.data_type).then_some(decoder).transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        for row in rows.rows::<ColumnIterator<'_, '_>>().map_err(|error| self.broken(error.to_string()))? {
            let mut cells = row.map_err(|error| self.broken(error.to_string()))?;
            let mut next = || match cells.next() {
                Some(Ok(cell)) => Ok(cell.slice.map(|slice| slice.as_slice())),
                Some(Err(error)) => Err(self.broken(error.to_string())),
                None => Err(self.broken("a row with too few columns".to_owned())),
            };
            let token = next()?.and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?)));
            let token = token.ok_or_else(|| self.broken("a row without a token".to_owned()))?;
            let begins_partition = *last_token != Some(token);
            if begins_partition {
                if let Some(before) = *last_token {
                    slice.whole = Part {
                        row_count: slice.row_count,
                        partition_count: slice.partition_count,
                        width: width(before),
                    };
                }
                *last_token = Some(token);
                slice.partition_count += 1;
            }
            slice.row_count += 1;
            for ((column, tally), decoder) in self.columns.iter().zip(&mut slice.tallies).zip(&mut decoders) {
                let cell = next()?;
                tally.see(cell, begins_partition || !column.is_partition_key);
                if let Some(decoder) = decoder {
                    decoder.append(cell)?;
                }
            }
        }
        for (tally, decoder) in slice.tallies.iter_mut().zip(decoders) {
            let Some(mut decoder) = decoder else { continue };
            let array = decoder.finish()?;
            for index in 0..array.len() {
                let value =
                    ScalarValue::try_from_array(&array, index).map_err(|error| self.broken(error.to_string()))?;
                tally.widen(value);
            }
        }
        Ok(())
    }
}

/// Rows and partitions of the table that these slices are of.
fn estimated_counts(slices: &[Slice], size: Option<TableSize>, row_bytes: f64) -> (u64, u64) {
    let rows: u64 = slices.iter().map(|slice| slice.row_count).sum();
    let partitions: u64 = slices.iter().map(|slice| slice.partition_count).sum();
    if slices.iter().all(|slice| slice.is_complete) {
        return (rows, partitions);
    }
    let whole = slices.iter().fold(Part::default(), |sum, slice| Part {
        row_count: sum.row_count + slice.whole.row_count,
        partition_count: sum.partition_count + slice.whole.partition_count,
        width: sum.width + slice.whole.width,
    });
    let all = |count: u64| (count as f64 * (RING / whole.width.max(1.0)).max(1.0)) as u64;
    let (all_rows, all_partitions) = match size {
        Some(size) if whole.partition_count < LEAST_PARTITIONS && row_bytes > 0.0 => {
            ((size.bytes as f64 / row_bytes) as u64, size.partition_count)
        }
        _ => (all(whole.row_count), all(whole.partition_count)),
    };
    (all_rows.max(rows), all_partitions.max(partitions))
}

fn summarize(columns: &[Sampled], slices: Vec<Slice>, size: Option<TableSize>, key_length: usize) -> TableStatistics {
    let sampled_rows: u64 = slices.iter().map(|slice| slice.row_count).sum();
    let rows = sampled_rows.max(1) as f64;
    let bytes: u64 = slices.iter().flat_map(|slice| &slice.tallies).map(|tally| tally.byte_count).sum();
    let (row_count, partition_count) = estimated_counts(&slices, size, bytes as f64 / rows);
    let mut tallies: Vec<Tally> = columns.iter().map(|_| Tally::default()).collect();
    for slice in slices {
        tallies.iter_mut().zip(slice.tallies).for_each(|(sum, tally)| sum.merge(tally));
    }
    let columns = columns.iter().zip(tallies).map(|(column, tally)| {
        let null_fraction = tally.null_count as f64 / rows;
        let frequencies = Frequencies {
            value_count: tally.seen.values().map(|count| u64::from(*count)).sum(),
            distinct_count: tally.seen.len() as u64,
            singleton_count: tally.seen.values().filter(|count| **count == 1).count() as u64,
        };
        let distinct_count = match column.is_partition_key {
            true if key_length == 1 => partition_count,
            true => estimated_distinct(frequencies, partition_count),
            false => estimated_distinct(frequencies, (row_count as f64 * (1.0 - null_fraction)) as u64),
        };
        let text = |value: Option<ScalarValue>| value.map(|value| shown(&value));
        let sample = ColumnSample {
            distinct_count,
            null_fraction,
            min: text(tally.min),
            max: text(tally.max),
            mean_bytes: tally.byte_count as f64 / rows,
        };
        (column.name.clone(), sample)
    });
    TableStatistics {
        row_count,
        partition_count,
        table_bytes: size.map(|size| size.bytes),
        sampled_rows,
        analyzed_at_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        columns: columns.collect(),
    }
}

/// The value as text from which it can be made again; a long text is cut.
fn shown(value: &ScalarValue) -> String {
    let text = match value.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(Some(text))) => text,
        _ => value.to_string(),
    };
    text.chars().take(TEXT_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(row_count: u64, whole: Part, is_complete: bool) -> Slice {
        Slice { row_count, whole, is_complete, partition_count: whole.partition_count + 1, tallies: Vec::new() }
    }

    #[test]
    fn slices_cover_the_ring() {
        let bounds: Vec<(i64, i64)> = slice_bounds().collect();
        assert_eq!(bounds.len(), SLICES as usize);
        assert_eq!((bounds[0].0, bounds[bounds.len() - 1].1), (i64::MIN, i64::MAX));
        assert!(bounds.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }

    #[test]
    fn a_table_that_was_read_to_its_end_is_counted() {
        let part = Part { row_count: 7, partition_count: 6, width: RING / 2.0 };
        assert_eq!(estimated_counts(&[slice(7, part, true), slice(7, part, true)], None, 10.0), (14, 14));
    }

    #[test]
    fn the_part_of_the_ring_tells_of_the_whole() {
        let part = Part { row_count: 1_000, partition_count: 500, width: RING / 100.0 };
        let (rows, partitions) = estimated_counts(&[slice(1_010, part, false)], None, 10.0);
        assert_eq!((rows, partitions), (100_000, 50_000));
    }

    #[test]
    fn with_a_few_wide_partitions_the_bytes_tell() {
        let part = Part { row_count: 0, partition_count: 0, width: 0.0 };
        let size = Some(TableSize { partition_count: 20, bytes: 1_000_000 });
        assert_eq!(estimated_counts(&[slice(600, part, false)], size, 50.0), (20_000, 20));
    }

    #[test]
    fn extremes_leave_out_nulls_and_nan() {
        let mut tally = Tally::default();
        for value in [None, Some(2.0), Some(f64::NAN), Some(-1.0)] {
            tally.widen(ScalarValue::Float64(value));
        }
        assert_eq!(tally.min.as_ref().map(shown).as_deref(), Some("-1.0"));
        assert_eq!(tally.max.as_ref().map(shown).as_deref(), Some("2.0"));
    }
}
