//! Whether two answers to one query are the same.

use anyhow::{Result, bail};

/// A row's cells as text; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Engines may differ in the last place of a mean (`numeric` of six decimals here, a double there), not more.
const TOLERANCE: f64 = 1e-6;

/// Compares two answers. Rows that are equal in the columns `order_by` (from 0) may come in any order among themselves.
pub fn check_same(expected: &[Row], actual: &[Row], order_by: &[usize]) -> Result<()> {
    if expected.len() != actual.len() {
        bail!(
            "{} rows expected, {} found; first expected {:?}, first found {:?}",
            expected.len(),
            actual.len(),
            expected.first(),
            actual.first()
        );
    }
    for (index, (wanted, found)) in expected.iter().zip(actual).enumerate() {
        if wanted.len() != found.len() {
            bail!("row {index}: {} columns expected, {} found", wanted.len(), found.len());
        }
        if let Some(column) = order_by.iter().find(|column| !same_cell(&wanted[**column], &found[**column])) {
            bail!("row {index} is out of order in column {column}: expected {wanted:?}, found {found:?}");
        }
    }
    // Rows near their own place are tried first, so that the search is short where the order agrees.
    let mut taken = vec![false; actual.len()];
    for (index, wanted) in expected.iter().enumerate() {
        let places = (index..actual.len()).chain(0..index);
        match places.into_iter().find(|place| !taken[*place] && same_row(wanted, &actual[*place])) {
            Some(place) => taken[place] = true,
            None => bail!("row {index} is missing: expected {wanted:?}, found there {:?}", actual[index]),
        }
    }
    Ok(())
}

fn same_row(left: &Row, right: &Row) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_cell(left, right))
}

fn same_cell(left: &Option<String>, right: &Option<String>) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return left == right };
    // Integers beyond 2^53 and identifiers must not be compared as floats.
    if left == right {
        return true;
    }
    if !left.contains('.') && !right.contains('.') {
        return false;
    }
    match (left.parse::<f64>(), right.parse::<f64>()) {
        (Ok(left), Ok(right)) => (left - right).abs() <= TOLERANCE + TOLERANCE * left.abs(),
        _ => false,
    }
}

/// Reads rows of tab-separated cells, where `\N` is NULL.
pub fn read_tsv(text: &str) -> Vec<Row> {
    text.lines().map(|line| line.split('\t').map(|cell| (cell != "\\N").then(|| cell.to_owned())).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Row> {
        read_tsv(text)
    }

    #[test]
    fn ties_may_come_in_any_order() {
        assert!(check_same(&rows("1\ta\n1\tb\n2\tc"), &rows("1\tb\n1\ta\n2\tc"), &[0]).is_ok());
        assert!(check_same(&rows("1\ta\n2\tb"), &rows("2\tb\n1\ta"), &[0]).is_err());
    }

    #[test]
    fn a_row_that_is_there_twice_is_wanted_twice() {
        assert!(check_same(&rows("1\n1\n2"), &rows("1\n2\n2"), &[]).is_err());
    }

    #[test]
    fn floats_are_the_same_within_their_precision_and_whole_numbers_only_if_equal() {
        assert!(check_same(&rows("0.3000001"), &rows("0.3"), &[]).is_ok());
        assert!(check_same(&rows("0.31"), &rows("0.3"), &[]).is_err());
        assert!(check_same(&rows("9007199254740993"), &rows("9007199254740992"), &[]).is_err());
    }

    #[test]
    fn null_is_not_an_empty_text() {
        assert!(check_same(&rows("\\N"), &rows(""), &[]).is_err());
    }
}
