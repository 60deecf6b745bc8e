//! Rows grouped for sending: a batch has rows of one partition, and few bytes.

use std::collections::HashMap;

use super::super::encode::EncodedRow;

/// Bytes of a batch, as the nodes reckon them. They warn of batches over 5 KiB, and refuse those over 50 KiB.
const BATCH_BYTES: usize = 4 << 10;
/// Rows of a batch, however small they are.
const MOST_BATCH_ROWS: usize = 200;
/// What a node adds to a row, and to each of its cells: timestamps, expiry, lengths.
const ROW_OVERHEAD_BYTES: usize = 32;
const CELL_OVERHEAD_BYTES: usize = 20;

/// Groups of rows, each of one partition, in the order in which their first rows come.
///
/// `key_cells` are the places of the partition key's cells. A row that is larger than a batch may be is alone.
pub fn by_partition(rows: Vec<EncodedRow>, key_cells: &[usize]) -> Vec<Vec<EncodedRow>> {
    let mut groups: Vec<(usize, Vec<EncodedRow>)> = Vec::new();
    let mut open: HashMap<Vec<u8>, usize> = HashMap::with_capacity(rows.len());
    for row in rows {
        let bytes = ROW_OVERHEAD_BYTES + row.byte_count() + row.cell_count() * CELL_OVERHEAD_BYTES;
        let key = partition_key(&row, key_cells);
        let group = open.get(&key).and_then(|index| groups.get_mut(*index));
        match group {
            Some((sum, group)) if *sum + bytes <= BATCH_BYTES && group.len() < MOST_BATCH_ROWS => {
                *sum += bytes;
                group.push(row);
            }
            _ => {
                open.insert(key, groups.len());
                groups.push((bytes, vec![row]));
            }
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The key's cells, each with its length before it.
fn partition_key(row: &EncodedRow, key_cells: &[usize]) -> Vec<u8> {
    let mut key = Vec::new();
    for cell in key_cells {
        let value = row.value(*cell).unwrap_or_default();
        key.extend_from_slice(&(value.len() as u64).to_be_bytes());
        key.extend_from_slice(value);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, value: &[u8]) -> EncodedRow {
        EncodedRow::of_raw(&[value.to_vec(), key.as_bytes().to_vec()])
    }

    fn keys(groups: &[Vec<EncodedRow>]) -> Vec<Vec<String>> {
        let key = |row: &EncodedRow| String::from_utf8_lossy(row.value(1).unwrap_or_default()).into_owned();
        groups.iter().map(|group| group.iter().map(key).collect()).collect()
    }

    #[test]
    fn a_group_has_rows_of_one_partition() {
        let rows = ["a", "b", "a", "c", "b", "a"].iter().map(|key| row(key, b"x")).collect();
        assert_eq!(keys(&by_partition(rows, &[1])), [vec!["a", "a", "a"], vec!["b", "b"], vec!["c"]]);
    }

    #[test]
    fn a_group_has_bounded_bytes_and_a_large_row_is_alone() {
        let rows = (0..100).map(|_| row("a", &[0; 400])).chain([row("a", &[0; 100_000]), row("a", b"x")]).collect();
        let groups = by_partition(rows, &[1]);
        for group in &groups {
            let bytes: usize = group.iter().map(EncodedRow::byte_count).sum();
            assert!(bytes <= BATCH_BYTES || group.len() == 1, "{bytes} in {}", group.len());
        }
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 102);
        assert!(groups.len() < 20, "{}", groups.len());
        let small = by_partition((0..1_000).map(|_| row("a", b"")).collect(), &[1]);
        assert!(small.iter().all(|group| group.len() <= MOST_BATCH_ROWS));
    }

    #[test]
    fn cells_of_a_key_do_not_run_into_each_other() {
        let of = |a: &str, b: &str| EncodedRow::of_raw(&[a.as_bytes().to_vec(), b.as_bytes().to_vec()]);
        assert_eq!(by_partition(vec![of("ab", "c"), of("a", "bc")], &[0, 1]).len(), 2);
    }
}
