//! One value of a column, for which every row's cell has to be decoded.

use anyhow::{Context, Result, bail, ensure};
use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::deserialize::row::{ColumnIterator, RawColumn};
use scylla::deserialize::value::DeserializeValue;
use scylla::response::query_result::QueryRowsResult;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlDecimalBorrowed};

/// CQL counts days from here, so that they need no sign.
const EPOCH_DAY: i64 = 1 << 31;

/// How many rows there were, and an aggregate of each column.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregates {
    pub row_count: usize,
    columns: Vec<Aggregate>,
}

impl Aggregates {
    /// Of no rows yet, for the columns that a statement selects.
    pub fn of(statement: &PreparedStatement) -> Result<Self> {
        let columns = statement.get_current_result_set_col_specs();
        let columns = columns.get().iter().map(|column| Aggregate::of(column.typ())).collect::<Result<_>>()?;
        Ok(Self { row_count: 0, columns })
    }

    pub fn add_page(&mut self, page: &QueryRowsResult) -> Result<()> {
        self.row_count += page.rows_num();
        for row in page.rows::<ColumnIterator<'_, '_>>()? {
            for (aggregate, cell) in self.columns.iter_mut().zip(row?) {
                aggregate.add(cell?)?;
            }
        }
        Ok(())
    }

    pub fn plus(self, other: Self) -> Result<Self> {
        let columns = self.columns.into_iter().zip(other.columns).map(|(one, other)| one.plus(other));
        Ok(Self { row_count: self.row_count + other.row_count, columns: columns.collect::<Result<_>>()? })
    }

    /// As a JSON array of texts, of which none has anything to escape.
    pub fn json(&self) -> String {
        let values: Vec<String> = self.columns.iter().map(|column| format!("\"{}\"", column.text())).collect();
        format!("[{}]", values.join(", "))
    }
}

/// A sum, exact unless the column is not; or what stands in for it where there is none.
#[derive(Debug, Clone, PartialEq)]
enum Aggregate {
    /// `unscaled` / 10^`scale`
    Decimal {
        unscaled: i128,
        scale: u32,
    },
    Bigint(i128),
    Int(i128),
    Double(f64),
    /// The characters of all texts.
    Length(usize),
    /// The latest date, in days since 1970.
    Latest(i64),
}

impl Aggregate {
    fn of(column: &ColumnType<'_>) -> Result<Self> {
        match column {
            ColumnType::Native(NativeType::Decimal) => Ok(Self::Decimal { unscaled: 0, scale: 0 }),
            ColumnType::Native(NativeType::BigInt) => Ok(Self::Bigint(0)),
            ColumnType::Native(NativeType::Int) => Ok(Self::Int(0)),
            ColumnType::Native(NativeType::Double) => Ok(Self::Double(0.0)),
            ColumnType::Native(NativeType::Text | NativeType::Ascii) => Ok(Self::Length(0)),
            ColumnType::Native(NativeType::Date) => Ok(Self::Latest(i64::MIN)),
            other => bail!("a column of {other:?} has no aggregate here"),
        }
    }

    /// Adds a cell; a null adds nothing.
    fn add(&mut self, cell: RawColumn<'_, '_>) -> Result<()> {
        if cell.slice.is_none() {
            return Ok(());
        }
        let (cql, value) = (cell.spec.typ(), cell.slice);
        match self {
            Self::Decimal { unscaled, scale } => {
                let value = CqlDecimalBorrowed::deserialize(cql, value)?;
                let (bytes, value_scale) = value.as_signed_be_bytes_slice_and_exponent();
                let value_scale = u32::try_from(value_scale).context("a negative scale")?;
                (*unscaled, *scale) = add_decimals((*unscaled, *scale), (whole_number(bytes)?, value_scale))?;
            }
            Self::Bigint(total) => *total += i128::from(i64::deserialize(cql, value)?),
            Self::Int(total) => *total += i128::from(i32::deserialize(cql, value)?),
            Self::Double(total) => *total += f64::deserialize(cql, value)?,
            Self::Length(total) => *total += <&str>::deserialize(cql, value)?.chars().count(),
            Self::Latest(day) => *day = (*day).max(i64::from(CqlDate::deserialize(cql, value)?.0) - EPOCH_DAY),
        }
        Ok(())
    }

    fn plus(self, other: Self) -> Result<Self> {
        match (self, other) {
            (Self::Decimal { unscaled, scale }, Self::Decimal { unscaled: other, scale: other_scale }) => {
                let (unscaled, scale) = add_decimals((unscaled, scale), (other, other_scale))?;
                Ok(Self::Decimal { unscaled, scale })
            }
            (Self::Bigint(one), Self::Bigint(other)) => Ok(Self::Bigint(one + other)),
            (Self::Int(one), Self::Int(other)) => Ok(Self::Int(one + other)),
            (Self::Double(one), Self::Double(other)) => Ok(Self::Double(one + other)),
            (Self::Length(one), Self::Length(other)) => Ok(Self::Length(one + other)),
            (Self::Latest(one), Self::Latest(other)) => Ok(Self::Latest(one.max(other))),
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
            Self::Bigint(total) | Self::Int(total) => total.to_string(),
            Self::Double(total) => total.to_string(),
            Self::Length(total) => total.to_string(),
            Self::Latest(day) => day.to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_two_scales_are_added_exactly() {
        let minus_1_5 = Aggregate::Decimal { unscaled: whole_number(&[0xf1]).expect("short"), scale: 1 };
        let quarter = Aggregate::Decimal { unscaled: 25, scale: 2 };
        assert_eq!(minus_1_5.plus(quarter).expect("small").text(), "-1.25");
        assert_eq!(Aggregate::Decimal { unscaled: -5, scale: 2 }.text(), "-0.05");
    }
}
