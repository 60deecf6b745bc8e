//! The tables: what keys, indexes and values there are for predicates to meet.

use super::random::Random;

/// A column's type, with values few enough that predicates find rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Smallint,
    Int,
    Bigint,
    Double,
    Boolean,
    Text,
    Blob,
    Uuid,
    Date,
    Timestamp,
}

impl Kind {
    /// Values that rows have, as CQL writes them.
    pub fn values(self) -> &'static [&'static str] {
        match self {
            Self::Smallint => &["-32768", "-1", "0", "1", "2", "32767"],
            Self::Int => &["-2147483648", "-2", "-1", "0", "1", "2", "3", "4", "5", "2147483647"],
            Self::Bigint => &["-9223372036854775808", "-3", "0", "1", "2", "7", "4294967296", "9223372036854775807"],
            // Without NaN, which the statistics of a Parquet file leave out: a predicate would not find it there.
            Self::Double => &["-Infinity", "-1.5", "-0.0", "0.0", "0.5", "2.0", "Infinity"],
            Self::Boolean => &["true", "false"],
            Self::Text => &["''", "'a'", "'ab'", "'abc'", "'A'", "'b'", "'a_c'", "'ä'", "'a%'", "'null'", "'🦀'"],
            Self::Blob => &["0x", "0x00", "0x0001", "0x61", "0xff"],
            Self::Uuid => &[
                "00000000-0000-0000-0000-000000000000",
                "123e4567-e89b-12d3-a456-426614174000",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "ffffffff-ffff-4fff-bfff-ffffffffffff",
            ],
            Self::Date => {
                &["'0001-01-01'", "'1969-12-31'", "'1970-01-01'", "'2024-02-29'", "'2024-03-01'", "'9999-12-31'"]
            }
            Self::Timestamp => &[
                "'1969-12-31T23:59:59.999Z'",
                "'1970-01-01T00:00:00.000Z'",
                "'2024-02-29T00:00:00.000Z'",
                "'2024-02-29T12:34:56.789Z'",
                "'2024-02-29T12:34:56.790Z'",
                "'2261-12-31T23:59:59.999Z'",
            ],
        }
    }

    /// One of the values as SQL writes it.
    pub fn literal(self, random: &mut Random) -> String {
        let value = *random.pick(self.values());
        match self {
            Self::Uuid => format!("'{value}'"),
            Self::Blob => format!("X'{}'", value.trim_start_matches("0x")),
            // A literal with a point is a decimal, which no infinity can be compared with.
            Self::Double => format!("'{value}'::double precision"),
            _ => value.to_owned(),
        }
    }

    /// A constant that no row has, some of which the type cannot even hold.
    pub fn stranger(self, random: &mut Random) -> String {
        let of: &[&str] = match self {
            Self::Smallint => &["40000", "-40000", "7", "1.5", "'2'"],
            Self::Int => &["3000000000", "-3000000000", "17", "2.5", "2.0", "'3'", "3::bigint", "1e30"],
            Self::Bigint => &["18446744073709551615", "5", "0.5", "7.0", "'7'", "1e30"],
            Self::Double => &["1", "0", "'1e308'::double precision", "'2'"],
            Self::Boolean => &["NULL"],
            Self::Text => &["'zzz'", "'AB'", "'a '", "'%'"],
            Self::Blob => &["X'ffff'", "X'0061'"],
            Self::Uuid => &["'123E4567-E89B-12D3-A456-426614174000'", "'not a uuid'", "''"],
            Self::Date => &["'2024-02-28'", "date '1900-01-01'", "'2024-02-29T00:00:00'"],
            Self::Timestamp => &["'2024-02-29'", "'2024-02-29T12:34:56.7895Z'", "timestamp '1900-01-01 00:00:00'"],
        };
        (*random.pick(of)).to_owned()
    }
}

/// A table in Cassandra, with a copy in Parquet.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub partition_key: &'static [&'static str],
    /// Clustering columns, and whether they descend.
    pub clustering: &'static [(&'static str, bool)],
    /// Static columns.
    pub shared: &'static [&'static str],
    pub columns: &'static [(&'static str, Kind)],
    /// Statements after `CREATE TABLE`; `KS` is the keyspace.
    pub indexes: &'static [&'static str],
    pub row_count: usize,
}

/// The tables of the test.
pub const TABLES: &[Table] = &[
    Table {
        name: "simple",
        partition_key: &["id"],
        clustering: &[],
        shared: &[],
        columns: &[
            ("id", Kind::Int),
            ("t", Kind::Text),
            ("n", Kind::Int),
            ("b", Kind::Bigint),
            ("city", Kind::Text),
            ("d", Kind::Date),
            ("f", Kind::Double),
        ],
        indexes: &[
            "CREATE INDEX ON KS.simple (t) USING 'sai'",
            "CREATE INDEX ON KS.simple (n) USING 'sai'",
            "CREATE INDEX ON KS.simple (b) USING 'sai'",
            "CREATE INDEX simple_city ON KS.simple (city)",
        ],
        row_count: 10,
    },
    Table {
        name: "readings",
        partition_key: &["tenant", "day"],
        clustering: &[("at", true), ("seq", false)],
        shared: &["owner"],
        columns: &[
            ("tenant", Kind::Text),
            ("day", Kind::Date),
            ("at", Kind::Timestamp),
            ("seq", Kind::Int),
            ("owner", Kind::Text),
            ("ok", Kind::Boolean),
            ("v", Kind::Double),
            ("n", Kind::Bigint),
        ],
        indexes: &["CREATE INDEX ON KS.readings (n) USING 'sai'"],
        row_count: 400,
    },
    Table {
        name: "odd",
        partition_key: &["u"],
        clustering: &[("flag", false), ("bin", true), ("s", false)],
        shared: &[],
        columns: &[
            ("u", Kind::Uuid),
            ("flag", Kind::Boolean),
            ("bin", Kind::Blob),
            ("s", Kind::Smallint),
            ("t", Kind::Text),
            ("at", Kind::Timestamp),
        ],
        indexes: &["CREATE INDEX ON KS.odd (t) USING 'sai'"],
        row_count: 80,
    },
    Table {
        name: "wide",
        partition_key: &["p"],
        clustering: &[("b", true), ("t", true)],
        shared: &[],
        columns: &[("p", Kind::Bigint), ("b", Kind::Bigint), ("t", Kind::Text), ("n", Kind::Int), ("d", Kind::Date)],
        indexes: &["CREATE INDEX ON KS.wide (n) USING 'sai'", "CREATE INDEX ON KS.wide (d) USING 'sai'"],
        row_count: 300,
    },
];

impl Table {
    /// The statement that makes the table.
    pub fn create(&self) -> String {
        let definition = |(name, kind): &(&str, Kind)| {
            let cql = format!("{kind:?}").to_lowercase();
            format!("{name} {cql}{}", if self.shared.contains(name) { " static" } else { "" })
        };
        let columns: Vec<String> = self.columns.iter().map(definition).collect();
        let clustering: String = self.clustering.iter().map(|(name, _)| format!(", {name}")).collect();
        let order: Vec<String> = self
            .clustering
            .iter()
            .map(|(name, descends)| format!("{name} {}", if *descends { "DESC" } else { "ASC" }))
            .collect();
        let order =
            if order.is_empty() { String::new() } else { format!(" WITH CLUSTERING ORDER BY ({})", order.join(", ")) };
        format!(
            "CREATE TABLE KS.{} ({}, PRIMARY KEY (({}){clustering})){order}",
            self.name,
            columns.join(", "),
            self.partition_key.join(", ")
        )
    }

    /// Whether a column is part of the primary key.
    pub fn is_key(&self, column: &str) -> bool {
        self.partition_key.contains(&column) || self.clustering.iter().any(|(name, _)| *name == column)
    }

    /// The names of all columns of the primary key.
    pub fn key(&self) -> Vec<&'static str> {
        self.partition_key.iter().copied().chain(self.clustering.iter().map(|(name, _)| *name)).collect()
    }

    /// The statement that writes a row; every other cell outside the key is null.
    pub fn insert(&self, random: &mut Random) -> String {
        // Some partitions have static columns and no row.
        let only_shared = !self.shared.is_empty() && random.chance(5);
        let mut names = Vec::new();
        let mut values = Vec::new();
        for (name, kind) in self.columns {
            let in_partition = self.partition_key.contains(name) || self.shared.contains(name);
            let is_left_out = if only_shared { !in_partition } else { !self.is_key(name) && random.chance(40) };
            if is_left_out {
                continue;
            }
            // Cassandra does not take an empty partition key.
            let of: Vec<&str> =
                kind.values().iter().copied().filter(|v| !(self.partition_key == [*name] && *v == "''")).collect();
            names.push(*name);
            values.push(*random.pick(&of));
        }
        format!("INSERT INTO KS.{} ({}) VALUES ({})", self.name, names.join(", "), values.join(", "))
    }
}
