//! Queries from a grammar: predicates as users and tools write them, and the forms that ask for ordering and counts.

use super::random::Random;
use super::tables::{Kind, Table};

/// How deep `AND`, `OR` and `NOT` nest.
const DEPTH: usize = 3;

/// How two answers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The order of the rows is free.
    Set,
    /// The order is total.
    List,
    /// Which rows come is free, how many is not.
    Count,
}

/// A query; `TABLE` is the table, `TOKEN` the token of its partition key.
#[derive(Debug)]
pub struct Query {
    pub sql: String,
    pub answer: Answer,
}

/// What the grammar may use.
#[derive(Debug, Clone, Copy)]
pub struct Grammar<'a> {
    pub table: &'a Table,
}

impl Grammar<'_> {
    /// A query of one of the forms.
    pub fn query(&self, random: &mut Random) -> Query {
        let predicate = self.predicate(random);
        let list = |names: Vec<&str>| names.join(", ");
        let columns = list(self.table.columns.iter().map(|(name, _)| *name).collect());
        let key = list(self.table.key());
        let limit = random.below(12);
        let (sql, answer) = match random.below(10) {
            0..=3 => (format!("SELECT {columns} FROM TABLE WHERE {predicate}"), Answer::Set),
            4 => {
                let some: Vec<&str> =
                    self.table.columns.iter().map(|(name, _)| *name).filter(|_| random.chance(40)).collect();
                let some = if some.is_empty() { "1".to_owned() } else { some.join(", ") };
                (format!("SELECT {some} FROM TABLE WHERE {predicate}"), Answer::Set)
            }
            5 => {
                let (name, kind) = self.column(random);
                let range = match kind {
                    Kind::Boolean | Kind::Blob => String::new(),
                    _ => format!(", min({name}), max({name})"),
                };
                (format!("SELECT count(*), count({name}){range} FROM TABLE WHERE {predicate}"), Answer::Set)
            }
            6 => {
                let order: Vec<String> = self
                    .table
                    .key()
                    .into_iter()
                    .map(|name| format!("{name}{}", random.pick(&["", " ASC", " DESC", " DESC NULLS LAST"])))
                    .collect();
                (
                    format!("SELECT {key} FROM TABLE WHERE {predicate} ORDER BY {} LIMIT {limit}", order.join(", ")),
                    Answer::List,
                )
            }
            7 if !self.table.clustering.is_empty() => {
                // Within a partition, along the clustering key or against it, or neither.
                let against = random.chance(50);
                let order: Vec<String> = self
                    .table
                    .clustering
                    .iter()
                    .map(|(name, descends)| {
                        let descends = (*descends != against) != random.chance(10);
                        format!("{name}{}", if descends { " DESC" } else { "" })
                    })
                    .collect();
                let partition = self.partition(random);
                // A list of keys may name several partitions.
                let order = [order, self.table.partition_key.iter().map(|name| (*name).to_owned()).collect()].concat();
                let with = if random.chance(50) { format!(" AND {predicate}") } else { String::new() };
                let sql = format!(
                    "SELECT {columns} FROM TABLE WHERE {partition}{with} ORDER BY {} LIMIT {limit}",
                    order.join(", ")
                );
                (sql, Answer::List)
            }
            8 => {
                let group = list(self.table.partition_key.to_vec());
                (format!("SELECT {group}, count(*) FROM TABLE WHERE {predicate} GROUP BY {group}"), Answer::Set)
            }
            _ => (format!("SELECT {key} FROM TABLE WHERE {predicate} LIMIT {limit}"), Answer::Count),
        };
        Query { sql, answer }
    }

    /// A predicate, which often names whole partition keys, because that is what is pushed down first.
    fn predicate(&self, random: &mut Random) -> String {
        match random.below(10) {
            0..=2 => {
                let mut parts = vec![self.partition(random)];
                parts.extend(self.clustering_prefix(random));
                if random.chance(40) {
                    parts.push(self.tree(random, 1));
                }
                parts.join(" AND ")
            }
            3 => {
                let parts = [self.token(random), self.token(random), self.tree(random, 1)];
                parts[..1 + random.below(3)].join(" AND ")
            }
            _ => self.tree(random, DEPTH),
        }
    }

    /// Equality or a list on every column of the partition key.
    fn partition(&self, random: &mut Random) -> String {
        let on = |name: &&str, random: &mut Random| {
            let kind = self.kind(name);
            match random.below(4) {
                0 => self.list(name, kind, random),
                1 => format!("{} = {name}", kind.literal(random)),
                _ => format!("{name} = {}", kind.literal(random)),
            }
        };
        let parts: Vec<String> = self.table.partition_key.iter().map(|name| on(name, random)).collect();
        parts.join(" AND ")
    }

    /// Equalities along the clustering key, then a range.
    fn clustering_prefix(&self, random: &mut Random) -> Vec<String> {
        let length = random.below(self.table.clustering.len() + 1);
        let prefix = self.table.clustering.iter().take(length).enumerate();
        prefix
            .map(|(i, (name, _))| {
                let kind = self.kind(name);
                let is_last = i + 1 == length;
                match random.below(5) {
                    0 | 1 if is_last => self.range(name, kind, random),
                    2 if is_last => self.list(name, kind, random),
                    _ => format!("{name} = {}", kind.literal(random)),
                }
            })
            .collect()
    }

    fn tree(&self, random: &mut Random, depth: usize) -> String {
        if depth == 0 || random.chance(40) {
            return self.leaf(random);
        }
        match random.below(5) {
            0 | 1 => format!("({} AND {})", self.tree(random, depth - 1), self.tree(random, depth - 1)),
            2 | 3 => format!("({} OR {})", self.tree(random, depth - 1), self.tree(random, depth - 1)),
            _ => format!("NOT ({})", self.tree(random, depth - 1)),
        }
    }

    fn leaf(&self, random: &mut Random) -> String {
        let (name, kind) = self.column(random);
        match random.below(16) {
            0..=2 => format!("{name} = {}", self.constant(kind, random)),
            3 => format!("{name} <> {}", self.constant(kind, random)),
            4 | 5 => self.range(name, kind, random),
            6 => self.list(name, kind, random),
            7 => format!("{name} NOT IN ({}, {})", self.constant(kind, random), self.constant(kind, random)),
            8 => format!("{name} IS NULL"),
            9 => format!("{name} IS NOT NULL"),
            10 => {
                let alternatives: Vec<String> =
                    (0..2 + random.below(3)).map(|_| format!("{name} = {}", self.constant(kind, random))).collect();
                format!("({})", alternatives.join(" OR "))
            }
            11 => format!("({name} IS NOT DISTINCT FROM {})", kind.literal(random)),
            12 => (*random.pick(&["true", "false", "1 = 1", "NULL::boolean", "1 > 2"])).to_owned(),
            13 => self.token(random),
            _ => self.function(name, kind, random),
        }
    }

    fn range(&self, name: &str, kind: Kind, random: &mut Random) -> String {
        let (low, high) = (self.constant(kind, random), self.constant(kind, random));
        match random.below(4) {
            0 => format!("{name} BETWEEN {low} AND {high}"),
            1 => format!("({name} >= {low} AND {name} < {high})"),
            2 => format!("{low} {} {name}", random.pick(&["<", "<=", ">", ">="])),
            _ => format!("{name} {} {low}", random.pick(&["<", "<=", ">", ">="])),
        }
    }

    fn list(&self, name: &str, kind: Kind, random: &mut Random) -> String {
        let items: Vec<String> = (0..1 + random.below(5)).map(|_| self.constant(kind, random)).collect();
        format!("{name} IN ({})", items.join(", "))
    }

    /// Mostly a value that rows have.
    fn constant(&self, kind: Kind, random: &mut Random) -> String {
        match random.below(20) {
            0 => "NULL".to_owned(),
            1..=3 => kind.stranger(random),
            _ => kind.literal(random),
        }
    }

    /// What is no plain comparison of a column with a constant.
    fn function(&self, name: &str, kind: Kind, random: &mut Random) -> String {
        let value = kind.literal(random);
        let of: Vec<String> = match kind {
            Kind::Text => vec![
                format!("{name} LIKE 'a%'"),
                format!("{name} LIKE 'a\\_%'"),
                format!("{name} NOT LIKE '%b%'"),
                format!("{name} ILIKE 'A%'"),
                format!("starts_with({name}, 'a')"),
                format!("upper({name}) = 'A'"),
                format!("length({name}) > 1"),
                format!("coalesce({name}, 'a') = {value}"),
                format!("{name} || 'x' = 'ax'"),
            ],
            Kind::Smallint | Kind::Int | Kind::Bigint => vec![
                format!("{name} % 2 = 0"),
                format!("CAST({name} AS bigint) = {value}"),
                format!("CAST({name} AS double precision) < {value}"),
                format!("{name}::text = '{value}'"),
                format!("coalesce({name}, 0) = {value}"),
                format!("{name} = 1 + 1"),
                format!("CASE WHEN {name} > 0 THEN {name} END = {value}"),
            ],
            Kind::Double => {
                vec![format!("{name} * 2 > {value}"), format!("isnan({name})"), format!("abs({name}) = {value}")]
            }
            Kind::Boolean => {
                vec![name.to_owned(), format!("NOT {name}"), format!("{name} IS TRUE"), format!("{name} IS NOT FALSE")]
            }
            Kind::Blob => vec![format!("encode({name}, 'hex') = '00'"), format!("coalesce({name}, X'61') = {value}")],
            Kind::Uuid => vec![
                format!("{name} LIKE 'a0%'"),
                format!("upper({name}) = upper({value})"),
                format!("{name} < {value}"),
            ],
            Kind::Date => vec![
                format!("extract(year FROM {name}) = 2024"),
                format!("{name} > date '2024-03-01' - interval '1 day'"),
                format!("{name}::text = {value}"),
            ],
            Kind::Timestamp => vec![
                format!("date_trunc('day', {name}) = {value}"),
                format!("{name}::date = '2024-02-29'"),
                format!("{name} < {value}::timestamptz"),
            ],
        };
        random.pick(&of).clone()
    }

    /// A range of tokens, or a single one.
    fn token(&self, random: &mut Random) -> String {
        let at = match random.below(6) {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => 0,
            _ => random.next() as i64,
        };
        format!("TOKEN {} {at}", random.pick(&["<", "<=", ">", ">=", "="]))
    }

    fn column(&self, random: &mut Random) -> (&'static str, Kind) {
        *random.pick(self.table.columns)
    }

    fn kind(&self, column: &str) -> Kind {
        self.table.columns.iter().find(|(name, _)| *name == column).map_or(Kind::Text, |(_, kind)| *kind)
    }
}
