//! What `server/fuzz` runs under bytes of any kind. Nothing here may panic; the tests below run it over the corpus of each
//! target and over changes of it, so that it stays so between longer runs.
//!
//! The functions are for fuzzers and for nobody else.

use datafusion::sql::parser::Statement as DfStatement;
use sluice_planner::statement::{self, StatementKind};

pub use crate::pg::fuzzing::{copy_rows, messages, startup_packet};

/// A client's text: as statements, as the lists of queries and the audit log show it, and with JDBC's parameters.
pub fn statements(data: &[u8]) {
    let Ok(sql) = std::str::from_utf8(data) else { return };
    let _ = statement::without_literals(sql);
    let _ = statement::numbered_parameters(sql);
    let Ok(parsed) = statement::parse(sql) else { return };
    for mut statement in parsed {
        let _ = statement::without_literals(&statement.text);
        if let Some(inner) = statement.inner_mut() {
            let _ = statement::without_literals(&inner.text);
        }
        if let StatementKind::Sql(sql) = &mut statement.kind
            && let DfStatement::Statement(sql) = sql.as_mut()
        {
            crate::pgcatalog::rewrite(sql);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::THREAD_STACK_BYTES;

    /// Changes of each file of a corpus.
    const CHANGES_OF_A_FILE: u64 = 3_000;

    /// The files of a target's corpus.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut paths: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} has no files", folder.display());
        paths.into_iter().map(|path| std::fs::read(path).expect("is read")).collect()
    }

    /// Xorshift: the same bytes in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % limit.max(1) as u64) as usize
        }

        /// One to four changes: a bit, a byte, a cut, a part of another file.
        fn changed(&mut self, bytes: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
            let mut bytes = bytes.to_vec();
            for _ in 0..=self.below(4) {
                let place = self.below(bytes.len() + 1);
                match self.below(5) {
                    0 => bytes.truncate(place),
                    1 => bytes.insert(place, self.below(256) as u8),
                    2 if place < bytes.len() => {
                        bytes.remove(place);
                    }
                    3 => {
                        let other = &others[self.below(others.len())];
                        let start = self.below(other.len() + 1);
                        let end = start + self.below(other.len() - start + 1);
                        bytes.splice(place..place, other[start..end].iter().copied());
                    }
                    _ => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << self.below(8)),
                }
            }
            bytes
        }
    }

    /// Runs a target over its corpus and changes of it; the input that it panicked on is told.
    fn run(target: &str, body: fn(&[u8])) {
        let files = corpus(target);
        let run = move || {
            let mut random = Random(0x9e37_79b9_7f4a_7c15);
            for file in &files {
                body(file);
                for _ in 0..CHANGES_OF_A_FILE {
                    let changed = random.changed(file, &files);
                    if std::panic::catch_unwind(|| body(&changed)).is_err() {
                        panic!("panicked on {:?}", String::from_utf8_lossy(&changed));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK_BYTES).spawn(run).expect("a thread");
        thread.join().expect("does not panic");
    }

    #[test]
    fn startup_packets_of_any_kind_do_not_panic() {
        run("startup_packet", startup_packet);
    }

    #[test]
    fn messages_of_any_kind_do_not_panic() {
        run("messages", messages);
    }

    #[test]
    fn rows_of_any_kind_do_not_panic() {
        run("copy_rows", copy_rows);
    }

    #[test]
    fn statements_of_any_kind_do_not_panic() {
        run("statements", statements);
    }
}
