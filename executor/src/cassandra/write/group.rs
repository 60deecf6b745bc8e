//! Rows grouped for sending: a batch has rows of one partition, or of a few that the same nodes hold, and few bytes.

use std::collections::HashMap;
use std::hash::Hash;

use super::super::encode::EncodedRow;

/// Rows of a batch, however small they are.
const MOST_BATCH_ROWS: usize = 200;
/// What a node adds to a row, and to each of its cells: timestamps, expiry, lengths.
const ROW_OVERHEAD_BYTES: usize = 32;
const CELL_OVERHEAD_BYTES: usize = 20;

/// How large a batch may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes, as the nodes reckon them. Nodes as they come warn of batches over 5 KiB, and refuse those over 50 KiB.
    pub bytes: usize,
    /// Partitions. Nodes as they come warn of more than 10.
    pub partitions: usize,
}

/// Rows that go in one request.
#[derive(Debug, Default)]
pub struct Group {
    /// Its rows, of as many partitions as it counts.
    pub rows: Vec<EncodedRow>,
    partitions: usize,
    bytes: usize,
}

impl Group {
    fn takes(&self, other: &Self, limits: BatchLimits) -> bool {
        self.bytes + other.bytes <= limits.bytes
            && self.rows.len() + other.rows.len() <= MOST_BATCH_ROWS
            && self.partitions + other.partitions <= limits.partitions
    }
}

/// Groups of rows, each of one partition, in the order in which their first rows come.
///
/// `key_cells` are the places of the partition key's cells. A row that is larger than a batch may be is alone.
pub fn by_partition(rows: Vec<EncodedRow>, key_cells: &[usize], limits: BatchLimits) -> Vec<Group> {
    let keyed = rows.into_iter().map(|row| {
        let bytes = ROW_OVERHEAD_BYTES + row.byte_count() + row.cell_count() * CELL_OVERHEAD_BYTES;
        (partition_key(&row, key_cells), Group { rows: vec![row], partitions: 0, bytes })
    });
    let mut groups = joined(keyed, limits);
    groups.iter_mut().for_each(|group| group.partitions = 1);
    groups
}

/// Groups of up to so many partitions that the same nodes hold, of groups of one partition each.
///
/// Any of these nodes that a group is sent to is a replica of all that is in it.
pub fn by_replicas<R: Hash + Eq>(
    groups: Vec<Group>,
    limits: BatchLimits,
    replicas_of: impl Fn(&EncodedRow) -> R,
) -> Vec<Group> {
    if limits.partitions < 2 || groups.len() < 2 {
        return groups;
    }
    joined(groups.into_iter().filter_map(|group| Some((replicas_of(group.rows.first()?), group))), limits)
}

/// Groups of what has the same key, in the order of their first; the last of a key is full before the next is begun.
fn joined<K: Hash + Eq>(keyed: impl Iterator<Item = (K, Group)>, limits: BatchLimits) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut open: HashMap<K, usize> = HashMap::new();
    for (key, next) in keyed {
        match open.get(&key).and_then(|index| groups.get_mut(*index)).filter(|group| group.takes(&next, limits)) {
            Some(group) => {
                group.bytes += next.bytes;
                group.partitions += next.partitions;
                group.rows.extend(next.rows);
            }
            None => {
                open.insert(key, groups.len());
                groups.push(next);
            }
        }
    }
    groups
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

    const LIMITS: BatchLimits = BatchLimits { bytes: 4 << 10, partitions: 10 };

    fn row(key: &str, value: &[u8]) -> EncodedRow {
        EncodedRow::of_raw(&[value.to_vec(), key.as_bytes().to_vec()])
    }

    fn key(row: &EncodedRow) -> String {
        String::from_utf8_lossy(row.value(1).unwrap_or_default()).into_owned()
    }

    fn keys(groups: &[Group]) -> Vec<Vec<String>> {
        groups.iter().map(|group| group.rows.iter().map(key).collect()).collect()
    }

    #[test]
    fn a_group_has_rows_of_one_partition() {
        let rows = ["a", "b", "a", "c", "b", "a"].iter().map(|key| row(key, b"x")).collect();
        assert_eq!(keys(&by_partition(rows, &[1], LIMITS)), [vec!["a", "a", "a"], vec!["b", "b"], vec!["c"]]);
    }

    #[test]
    fn a_group_has_bounded_bytes_and_a_large_row_is_alone() {
        let rows = (0..100).map(|_| row("a", &[0; 400])).chain([row("a", &[0; 100_000]), row("a", b"x")]).collect();
        let groups = by_partition(rows, &[1], LIMITS);
        for group in &groups {
            let bytes: usize = group.rows.iter().map(EncodedRow::byte_count).sum();
            assert!(bytes <= LIMITS.bytes || group.rows.len() == 1, "{bytes} in {}", group.rows.len());
        }
        assert_eq!(groups.iter().map(|group| group.rows.len()).sum::<usize>(), 102);
        assert!(groups.len() < 20, "{}", groups.len());
        let small = by_partition((0..1_000).map(|_| row("a", b"")).collect(), &[1], LIMITS);
        assert!(small.iter().all(|group| group.rows.len() <= MOST_BATCH_ROWS));
    }

    #[test]
    fn partitions_of_the_same_nodes_go_together() {
        let rows = || ["a1", "b1", "a2", "a1", "b2", "a3"].iter().map(|key| row(key, b"x")).collect();
        let node = |row: &EncodedRow| key(row).chars().next();
        let joined = |partitions| {
            let limits = BatchLimits { partitions, ..LIMITS };
            keys(&by_replicas(by_partition(rows(), &[1], limits), limits, node))
        };
        assert_eq!(joined(10), [vec!["a1", "a1", "a2", "a3"], vec!["b1", "b2"]]);
        assert_eq!(joined(2), [vec!["a1", "a1", "a2"], vec!["b1", "b2"], vec!["a3"]]);
        assert_eq!(joined(1), keys(&by_partition(rows(), &[1], LIMITS)));
        let large = by_partition(vec![row("a1", &[0; 3_000]), row("a2", &[0; 3_000]), row("a3", b"")], &[1], LIMITS);
        assert_eq!(keys(&by_replicas(large, LIMITS, node)), [vec!["a1"], vec!["a2", "a3"]]);
    }

    #[test]
    fn cells_of_a_key_do_not_run_into_each_other() {
        let of = |a: &str, b: &str| EncodedRow::of_raw(&[a.as_bytes().to_vec(), b.as_bytes().to_vec()]);
        assert_eq!(by_partition(vec![of("ab", "c"), of("a", "bc")], &[0, 1], LIMITS).len(), 2);
    }
}
