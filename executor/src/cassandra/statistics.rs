//! What a sample told of a table, and what the optimizer is told of it.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};

use super::cluster::TableSize;

/// A table as [`super::sample::analyze`] found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableStatistics {
    /// Rows, estimated unless the sample was the whole table.
    pub row_count: u64,
    /// Partitions, estimated in the same way.
    pub partition_count: u64,
    /// Bytes that the nodes estimated at that time.
    pub table_bytes: Option<u64>,
    /// Rows of the sample.
    pub sampled_rows: u64,
    /// When the sample was taken, in milliseconds since the Unix epoch.
    pub analyzed_at_ms: u64,
    /// The columns that were looked at, by name.
    pub columns: BTreeMap<String, ColumnSample>,
}

/// A column of a table's sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSample {
    /// Distinct values of the whole table, estimated unless the sample was the whole table.
    pub distinct_count: u64,
    /// The share of rows in which the column is null.
    pub null_fraction: f64,
    /// The smallest value of the sample as text, where the type has an order.
    pub min: Option<String>,
    /// The largest value of the sample as text, where the type has an order.
    pub max: Option<String>,
    /// Bytes of the column in a row, as Cassandra sends them; a null has none.
    pub mean_bytes: f64,
}

impl TableStatistics {
    /// Rows that the table has by now, if it grew or shrank as the nodes' estimates of its size did.
    pub fn rows_now(&self, size: Option<TableSize>) -> u64 {
        match (self.table_bytes, size) {
            (Some(then), Some(now)) if then > 0 => (self.row_count as f64 * now.bytes as f64 / then as f64) as u64,
            // A sample of a few wide partitions tells of no more rows than it has; the nodes' bytes may tell more.
            (None, Some(now)) if self.row_bytes() > 0.0 => {
                self.row_count.max((now.bytes as f64 / self.row_bytes()) as u64)
            }
            _ => self.row_count,
        }
    }

    fn row_bytes(&self) -> f64 {
        self.columns.values().map(|column| column.mean_bytes).sum()
    }

    /// Bytes that its rows take, where the nodes have no estimate.
    pub fn bytes(&self) -> u64 {
        (self.row_count as f64 * self.row_bytes()) as u64
    }

    /// Rows of a partition.
    pub fn rows_per_partition(&self) -> u64 {
        self.row_count.div_ceil(self.partition_count.max(1)).max(1)
    }

    /// The same with these columns only: plans carry no more than they need.
    pub fn of_columns(&self, names: &[String]) -> Self {
        let columns = names.iter().filter_map(|name| Some((name.clone(), self.columns.get(name)?.clone())));
        Self { columns: columns.collect(), ..*self }
    }

    /// Adds what is known of the columns of `schema` to `statistics`, whose number of rows is told.
    ///
    /// Nothing is exact: the table goes on changing.
    pub fn add_to(&self, statistics: &mut Statistics, schema: &Schema) {
        let Some(rows) = statistics.num_rows.get_value().copied() else { return };
        let mut row_bytes = Some(0.0);
        for (field, column) in schema.fields().iter().zip(&mut statistics.column_statistics) {
            let sample = self.columns.get(field.name());
            row_bytes = row_bytes.zip(sample).map(|(sum, sample)| sum + sample.mean_bytes);
            if let Some(sample) = sample {
                *column = sample.describe(rows, field.data_type());
            }
        }
        if let Some(row_bytes) = row_bytes.filter(|bytes| *bytes > 0.0) {
            statistics.total_byte_size = Precision::Inexact((row_bytes * rows as f64) as usize);
        }
    }
}

impl ColumnSample {
    fn describe(&self, rows: usize, data_type: &DataType) -> ColumnStatistics {
        let nulls = ((self.null_fraction * rows as f64).round() as usize).min(rows);
        let value = |text: &Option<String>| {
            let value = text.clone().and_then(|text| ScalarValue::try_from_string(text, data_type).ok());
            value.filter(|value| !value.is_null()).map_or(Precision::Absent, Precision::Inexact)
        };
        let distinct = usize::try_from(self.distinct_count).unwrap_or(usize::MAX).min(rows - nulls);
        ColumnStatistics {
            null_count: Precision::Inexact(nulls),
            distinct_count: Precision::Inexact(distinct),
            min_value: value(&self.min),
            max_value: value(&self.max),
            byte_size: Precision::Inexact((self.mean_bytes * rows as f64) as usize),
            ..ColumnStatistics::new_unknown()
        }
    }
}

/// How often the values of a sample occur in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frequencies {
    /// Values in the sample.
    pub value_count: u64,
    /// Different ones among them.
    pub distinct_count: u64,
    /// Those that occur once.
    pub singleton_count: u64,
}

/// Distinct values of a population of which this is a sample.
///
/// Haas and Stokes, "Estimating the Number of Classes in a Finite Population", JASA 1998: their Duj1, which PostgreSQL
/// uses too. A column without a repeated value is taken for unique; one whose values all repeat has no others.
pub fn estimated_distinct(sample: Frequencies, population: u64) -> u64 {
    let Frequencies { value_count, distinct_count, singleton_count } = sample;
    if population <= value_count || value_count == 0 {
        return distinct_count;
    }
    let (n, d, f1) = (value_count as f64, distinct_count as f64, singleton_count as f64);
    let estimate = n * d / (n - f1 + f1 * n / population as f64);
    (estimate as u64).clamp(distinct_count, population)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::Field;

    use super::*;

    fn frequencies(value_count: u64, distinct_count: u64, singleton_count: u64) -> Frequencies {
        Frequencies { value_count, distinct_count, singleton_count }
    }

    fn statistics() -> TableStatistics {
        let number = ColumnSample {
            distinct_count: 500,
            null_fraction: 0.25,
            min: Some("-3".to_owned()),
            max: Some("12".to_owned()),
            mean_bytes: 4.0,
        };
        let text = ColumnSample { distinct_count: 2, null_fraction: 0.0, min: None, max: None, mean_bytes: 6.0 };
        TableStatistics {
            row_count: 1_000,
            partition_count: 10,
            table_bytes: Some(50_000),
            sampled_rows: 100,
            analyzed_at_ms: 1,
            columns: [("n".to_owned(), number), ("t".to_owned(), text)].into(),
        }
    }

    #[test]
    fn a_sample_without_repetition_is_unique() {
        assert_eq!(estimated_distinct(frequencies(100, 100, 100), 10_000), 10_000);
    }

    #[test]
    fn values_that_all_repeat_are_all_that_there_are() {
        assert_eq!(estimated_distinct(frequencies(100, 5, 0), 10_000), 5);
    }

    #[test]
    fn a_whole_table_is_counted() {
        assert_eq!(estimated_distinct(frequencies(100, 60, 40), 100), 60);
        assert_eq!(estimated_distinct(frequencies(0, 0, 0), 100), 0);
    }

    #[test]
    fn in_between_more_are_expected_than_were_seen() {
        let estimate = estimated_distinct(frequencies(1_000, 800, 650), 100_000);
        assert!((1_000..20_000).contains(&estimate), "{estimate}");
    }

    #[test]
    fn rows_grow_with_the_bytes() {
        let size = |bytes| Some(TableSize { partition_count: 10, bytes });
        assert_eq!(statistics().rows_now(size(100_000)), 2_000);
        assert_eq!(statistics().rows_now(None), 1_000);
        let without_bytes = TableStatistics { table_bytes: None, ..statistics() };
        assert_eq!(without_bytes.rows_now(size(100_000)), 10_000);
        assert_eq!(without_bytes.rows_now(size(1_000)), 1_000);
        assert_eq!(statistics().rows_per_partition(), 100);
        assert_eq!(statistics().bytes(), 10_000);
    }

    #[test]
    fn the_optimizer_is_told_of_the_columns_that_are_read() {
        let schema =
            Schema::new(vec![Field::new("n", DataType::Int32, true), Field::new("other", DataType::Utf8, true)]);
        let mut told = Statistics::new_unknown(&schema);
        told.num_rows = Precision::Inexact(200);
        statistics().of_columns(&["n".to_owned()]).add_to(&mut told, &schema);
        let number = &told.column_statistics[0];
        assert_eq!(number.null_count, Precision::Inexact(50));
        assert_eq!(number.distinct_count, Precision::Inexact(150), "no more than there are values");
        assert_eq!(number.min_value, Precision::Inexact(ScalarValue::Int32(Some(-3))));
        assert_eq!(told.column_statistics[1], ColumnStatistics::new_unknown());
        assert_eq!(told.total_byte_size, Precision::Absent, "one column's width is not known");
    }

    #[test]
    fn statistics_survive_being_text() {
        let text = serde_json::to_string(&statistics()).expect("is written");
        assert_eq!(serde_json::from_str::<TableStatistics>(&text).expect("is read"), statistics());
    }
}
