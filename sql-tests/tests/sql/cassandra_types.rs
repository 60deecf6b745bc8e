//! Every CQL type with its extremes: written by the driver, read through Sluice, copied through Sluice.
//!
//! What is read is compared with the text that a PostgreSQL client should see. What is copied is compared
//! byte by byte: the cells of the copy, as the nodes send them, are those of the original.

mod values;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use scylla::client::session::Session;
use scylla::deserialize::row::ColumnIterator;
use scylla::statement::{Consistency, Statement};
use sluice_sql_tests::cassandra::Cassandra;
use sluice_sql_tests::runner::{SqlError, text_rows};
use sluice_sql_tests::sluice_process::{Layout, Service};
use tokio_postgres::types::{FromSql, Type};

use crate::bed::{Bed, trial};
use values::{Column, NATIVE, NESTED, ORDERED};

/// A keyspace in which a test has its tables, and the catalog over it.
struct Place<'a> {
    bed: &'a Bed,
    cassandra: &'a Cassandra,
    service: Arc<Service>,
    keyspace: String,
    session: Session,
}

type Test = fn(&Place) -> Result<()>;

/// A layout with a replication factor: both layouts, and tables with one and with three replicas.
const PLACES: [(Layout, u8); 2] = [(Layout::Embedded, 1), (Layout::Cluster, 3)];

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let tests: [(&str, Test); 8] = [
        ("native_types", |place| every_value(place, "native", NATIVE)),
        ("types_with_parts", |place| every_value(place, "nested", NESTED)),
        ("descending_keys", descending_keys),
        ("empty_values_are_null", empty_values_are_null),
        ("fields_that_are_missing", fields_that_are_missing),
        ("static_columns_and_counters", static_columns_and_counters),
        ("a_static_list_is_written_once", a_static_list_is_written_once),
        ("names_that_need_quotes", names_that_need_quotes),
    ];
    let mut trials = Vec::new();
    for (layout, replicas) in PLACES {
        for (name, test) in tests {
            trials.push(trial(bed, format!("{}::cassandra_types::{name}", layout.name()), move |bed| {
                test(&Place::make(bed, layout, replicas, name)?)
            }));
        }
    }
    trials
}

impl<'a> Place<'a> {
    fn make(bed: &'a Bed, layout: Layout, replicas: u8, name: &str) -> Result<Self> {
        let cassandra = bed.cassandra()?;
        let service = bed.service(layout)?;
        let keyspace = format!("types_{name}_{}", layout.name());
        let place = Self { bed, cassandra, service, keyspace, session: bed.block_on(cassandra.session())? };
        place.cql(&format!(
            "DROP KEYSPACE IF EXISTS KS;
CREATE KEYSPACE KS WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {replicas}}};
CREATE TYPE KS.address (street text, number int, tags frozen<set<text>>)"
        ))?;
        let catalog = format!(
            "CREATE CATALOG {} USING cassandra WITH (contact_points = '{}', consistency = 'LOCAL_QUORUM')",
            place.keyspace,
            cassandra.contact_points()
        );
        place.sql(&catalog)?;
        Ok(place)
    }

    /// Runs CQL statements; `KS` is the keyspace.
    fn cql(&self, statements: &str) -> Result<()> {
        self.bed.block_on(self.cassandra.cql(&statements.replace("KS", &self.keyspace)))
    }

    /// Writes one row for each statement.
    fn write(&self, statements: &[String]) -> Result<()> {
        self.bed.block_on(async {
            for cql in statements {
                let mut statement = Statement::new(cql.replace("KS", &self.keyspace));
                statement.set_consistency(Consistency::Quorum);
                self.session.query_unpaged(statement, ()).await.with_context(|| cql.clone())?;
            }
            Ok(())
        })
    }

    /// The rows of a query through Sluice, as text; `KS` is the keyspace with its catalog.
    fn sql(&self, query: &str) -> Result<Vec<Vec<Option<String>>>> {
        let query = query.replace("KS", &format!("{0}.{0}", self.keyspace));
        self.bed.block_on(async {
            let client = self.connect().await?;
            let messages = client.simple_query(&query).await.map_err(SqlError);
            Ok(text_rows(messages.with_context(|| query.clone())?))
        })
    }

    /// The rows of a query through Sluice in PostgreSQL's binary format.
    fn binary(&self, query: &str) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        let query = query.replace("KS", &format!("{0}.{0}", self.keyspace));
        self.bed.block_on(async {
            let client = self.connect().await?;
            let rows = client.query(&query, &[]).await.map_err(SqlError).with_context(|| query.clone())?;
            let cells = |row: &tokio_postgres::Row| {
                (0..row.len()).map(|i| row.get::<_, Option<Bytes>>(i).map(|bytes| bytes.0)).collect()
            };
            Ok(rows.iter().map(cells).collect())
        })
    }

    async fn connect(&self) -> Result<tokio_postgres::Client> {
        let client = self.service.connect().await?;
        if self.service.layout() == Layout::Cluster {
            // However small the table, it is read and written by the executors.
            client.simple_query("SET sluice.single_task_max_bytes = 0").await.map_err(SqlError)?;
        }
        Ok(client)
    }

    /// Copies a table through Sluice and compares the cells of both.
    fn copy_and_compare(&self, table: &str, copy: &str) -> Result<()> {
        self.sql(&format!("INSERT INTO KS.{copy} SELECT * FROM KS.{table}"))?;
        let (original, copied) = (self.raw_rows(table)?, self.raw_rows(copy)?);
        ensure!(!original.is_empty(), "{table} has no rows");
        ensure!(original.len() == copied.len(), "{} rows were copied of {}", copied.len(), original.len());
        for (row, copied) in original.iter().zip(&copied) {
            for (i, (cell, copied)) in row.iter().zip(copied).enumerate() {
                ensure!(cell == copied, "cell {i} of {table} was {cell:02x?} in {row:02x?} and is {copied:02x?}");
            }
        }
        Ok(())
    }

    /// A table's cells as the nodes send them, in an order of their own.
    fn raw_rows(&self, table: &str) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        let mut statement = Statement::new(format!("SELECT * FROM {}.{table}", self.keyspace));
        statement.set_consistency(Consistency::Quorum);
        let result = self.bed.block_on(self.session.query_unpaged(statement, ()))?.into_rows_result()?;
        let mut rows = Vec::new();
        for row in result.rows::<ColumnIterator<'_, '_>>()? {
            let cells = row?.map(|cell| Ok(cell?.slice.map(|slice| slice.as_slice().to_vec())));
            rows.push(cells.collect::<Result<Vec<_>>>()?);
        }
        rows.sort();
        Ok(rows)
    }
}

/// A value in PostgreSQL's binary format, whatever its type.
struct Bytes(Vec<u8>);

impl<'a> FromSql<'a> for Bytes {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// One column for each type, one row for each value: all other columns of that row are null.
fn every_value(place: &Place, table: &str, columns: &[Column]) -> Result<()> {
    let definitions: Vec<String> = columns.iter().enumerate().map(|(i, (cql, _))| format!("c{i} {cql}")).collect();
    let create = |name: &str| format!("CREATE TABLE KS.{name} (id text PRIMARY KEY, {})", definitions.join(", "));
    place.cql(&[create(table), create("copy")].join(";\n"))?;
    let mut writes = vec![format!("INSERT INTO KS.{table} (id) VALUES ('nothing')")];
    for (i, (_, values)) in columns.iter().enumerate() {
        for (row, (literal, _)) in values.iter().enumerate() {
            writes.push(format!("INSERT INTO KS.{table} (id, c{i}) VALUES ('{i}-{row}', {literal})"));
        }
    }
    place.write(&writes)?;
    let mut wrong = Vec::new();
    for (i, (cql, values)) in columns.iter().enumerate() {
        for (row, (literal, expected)) in values.iter().enumerate() {
            let query = format!("SELECT c{i} FROM KS.{table} WHERE id = '{i}-{row}'");
            let shown = match place.sql(&query) {
                Ok(rows) if rows.len() == 1 && rows[0][0].as_deref() == *expected => continue,
                Ok(rows) => format!("{rows:?}"),
                Err(error) => format!("{error:#}"),
            };
            wrong.push(format!("{cql} {literal} is shown as {shown}, not as {expected:?}"));
        }
        // The whole column at once, in the other format: nothing but its own values.
        let wanted = values.iter().filter(|(_, text)| text.is_some()).count();
        match place.binary(&format!("SELECT c{i} FROM KS.{table}")) {
            Ok(rows) if rows.iter().filter(|row| row[0].is_some()).count() == wanted => {}
            Ok(rows) => wrong.push(format!("{cql} in the binary format: {rows:?} instead of {wanted} values")),
            Err(error) => wrong.push(format!("{cql} in the binary format: {error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    place.copy_and_compare(table, "copy")
}

fn descending_keys(place: &Place) -> Result<()> {
    let definitions: Vec<String> = ORDERED.iter().enumerate().map(|(i, (cql, _))| format!("c{i} {cql}")).collect();
    let names: Vec<String> = (0..ORDERED.len()).map(|i| format!("c{i}")).collect();
    let key = names.join(", ");
    let order = names.join(" DESC, ");
    let create = |name: &str| {
        format!(
            "CREATE TABLE KS.{name} (p int, {}, s text static, v int, PRIMARY KEY (p, {key})) \
             WITH CLUSTERING ORDER BY ({order} DESC)",
            definitions.join(", ")
        )
    };
    place.cql(&[create("ordered"), create("copy")].join(";\n"))?;
    // For each column a row with its largest value in a row of smallest ones, so that each decides the order once.
    let writes: Vec<String> = (0..=ORDERED.len())
        .map(|largest| {
            let value = |i: usize, range: &[&str; 2]| range[usize::from(i == largest)].to_owned();
            let values: Vec<String> = ORDERED.iter().enumerate().map(|(i, (_, range))| value(i, range)).collect();
            format!("INSERT INTO KS.ordered (p, {key}, s, v) VALUES (1, {}, 'shared', {largest})", values.join(", "))
        })
        .collect();
    place.write(&writes)?;
    // The later the column that is large, the later the row; the last row is small throughout.
    let rows = place.sql("SELECT v FROM KS.ordered WHERE p = 1")?;
    let expected: Vec<Vec<Option<String>>> = (0..=ORDERED.len()).map(|i| vec![Some(i.to_string())]).collect();
    ensure!(rows == expected, "the rows of a partition come as {rows:?}");
    place.copy_and_compare("ordered", "copy")
}

/// Cassandra takes no bytes at all for a number or a date, as cells from the days of Thrift may have.
fn empty_values_are_null(place: &Place) -> Result<()> {
    place.cql(
        "CREATE TABLE KS.empty (id int PRIMARY KEY, i int, b bigint, f double, u uuid, a inet, t timestamp, o boolean, \
         v varint, d decimal)",
    )?;
    place.write(&[
        "INSERT INTO KS.empty (id, i, b, f, u, a, t, o, v, d) VALUES (1, blob_as_int(0x), blob_as_bigint(0x), \
         blob_as_double(0x), blob_as_uuid(0x), blob_as_inet(0x), blob_as_timestamp(0x), blob_as_boolean(0x), \
         blob_as_varint(0x), blob_as_decimal(0x))"
            .to_owned(),
    ])?;
    let rows = place.sql("SELECT i, b, f, u, a, t, o, v, d FROM KS.empty")?;
    ensure!(rows == [vec![None; 9]], "empty values are read as {rows:?}");
    Ok(())
}

/// A value may end early: it was written before its type got more fields, or is a tuple with fewer values.
fn fields_that_are_missing(place: &Place) -> Result<()> {
    let create = |name: &str| {
        format!(
            "CREATE TABLE KS.{name} (id int PRIMARY KEY, v frozen<growing>, l list<frozen<growing>>, t tuple<int, text>)"
        )
    };
    place.cql(&["CREATE TYPE KS.growing (a int)".to_owned(), create("grown")].join(";\n"))?;
    place.write(&["INSERT INTO KS.grown (id, v, l, t) VALUES (1, {a: 1}, [{a: 1}], (1))".to_owned()])?;
    place.cql("ALTER TYPE KS.growing ADD b text;\nALTER TYPE KS.growing ADD c frozen<list<int>>")?;
    place.write(&[
        "INSERT INTO KS.grown (id, v, l, t) VALUES (2, {a: 2, b: '', c: [1]}, [{b: 'x'}], (2, 'y'))".to_owned()
    ])?;
    place.sql(&format!("REFRESH CATALOG {}", place.keyspace))?;
    let shown = |table: &str| place.sql(&format!("SELECT id, v, l, t FROM KS.{table} ORDER BY id"));
    let rows = shown("grown")?;
    let expected = [
        ["1", "(1,,)", "[{\"a\":1,\"b\":null,\"c\":null}]", "(1,)"],
        ["2", "(2,\"\",{1})", "[{\"a\":null,\"b\":\"x\",\"c\":null}]", "(2,y)"],
    ];
    ensure!(rows == expected.map(|row| row.map(|cell| Some(cell.to_owned())).to_vec()), "read as {rows:?}");
    // The copy names every field, and has more bytes: the values are equal to Cassandra too.
    place.cql(&create("copy"))?;
    place.sql("INSERT INTO KS.copy SELECT * FROM KS.grown")?;
    let copied = shown("copy")?;
    ensure!(copied == rows, "copied as {copied:?}");
    Ok(())
}

fn static_columns_and_counters(place: &Place) -> Result<()> {
    place.cql(
        "CREATE TABLE KS.shared (p int, c int, s text static, l set<int> static, v int, PRIMARY KEY (p, c));
CREATE TABLE KS.copy (p int, c int, s text static, l set<int> static, v int, PRIMARY KEY (p, c));
CREATE TABLE KS.counted (p int, c int, n counter, m counter static, PRIMARY KEY (p, c))",
    )?;
    place.write(&[
        "INSERT INTO KS.shared (p, c, s, l, v) VALUES (1, 1, 'one', {1, 2}, 10)".to_owned(),
        "INSERT INTO KS.shared (p, c, v) VALUES (1, 2, null)".to_owned(),
        "INSERT INTO KS.shared (p, c, v) VALUES (2, 1, 30)".to_owned(),
    ])?;
    place.copy_and_compare("shared", "copy")?;
    place.write(&[
        "INSERT INTO KS.shared (p, s) VALUES (3, 'alone')".to_owned(),
        "UPDATE KS.counted SET n = n + 9223372036854775807 WHERE p = 1 AND c = 1".to_owned(),
        "UPDATE KS.counted SET n = n - 5, m = m + 7 WHERE p = 1 AND c = 2".to_owned(),
        "UPDATE KS.counted SET m = m - 1 WHERE p = 2".to_owned(),
    ])?;
    let rows = place.sql("SELECT p, c, s, l, v FROM KS.shared ORDER BY p, c")?;
    let expected = [
        [Some("1"), Some("1"), Some("one"), Some("{1,2}"), Some("10")],
        [Some("1"), Some("2"), Some("one"), Some("{1,2}"), None],
        [Some("2"), Some("1"), None, None, Some("30")],
        [Some("3"), None, Some("alone"), None, None],
    ];
    ensure!(rows == expected.map(|row| row.map(|cell| cell.map(str::to_owned)).to_vec()), "read as {rows:?}");
    let rows = place.sql("SELECT p, c, n, m FROM KS.counted ORDER BY p, c")?;
    let expected = [
        [Some("1"), Some("1"), Some("9223372036854775807"), Some("7")],
        [Some("1"), Some("2"), Some("-5"), Some("7")],
        [Some("2"), None, None, Some("-1")],
    ];
    ensure!(rows == expected.map(|row| row.map(|cell| cell.map(str::to_owned)).to_vec()), "read as {rows:?}");
    Ok(())
}

/// Every row of a partition brings the static list along; each write has places of its own for the elements.
fn a_static_list_is_written_once(place: &Place) -> Result<()> {
    let create = |name: &str| format!("CREATE TABLE KS.{name} (p int, c int, l list<int> static, PRIMARY KEY (p, c))");
    place.cql(&[create("shared"), create("copy")].join(";\n"))?;
    place.write(&[
        "INSERT INTO KS.shared (p, c, l) VALUES (1, 1, [1, 2])".to_owned(),
        "INSERT INTO KS.shared (p, c) VALUES (1, 2)".to_owned(),
        "INSERT INTO KS.shared (p, c) VALUES (1, 3)".to_owned(),
    ])?;
    place.copy_and_compare("shared", "copy")
}

/// The type itself has a plain name: the driver cannot read the schema of a cluster where a type's name needs quotes.
fn names_that_need_quotes(place: &Place) -> Result<()> {
    let create = |name: &str| {
        format!(
            "CREATE TABLE KS.\"{name}\" (\"Key\" int, \"order\" int, \"a \"\"b\"\"\" text, \"select\" frozen<parts>, \
             \"ÄÖ\" int, PRIMARY KEY (\"Key\", \"order\"))"
        )
    };
    let parts = "CREATE TYPE KS.parts (\"From\" int, \"x y\" text)".to_owned();
    place.cql(&[parts, create("Table"), create("token")].join(";\n"))?;
    place.write(&["INSERT INTO KS.\"Table\" (\"Key\", \"order\", \"a \"\"b\"\"\", \"select\", \"ÄÖ\") \
                   VALUES (1, 2, 'x', {\"From\": 3, \"x y\": 'z'}, 4)"
        .to_owned()])?;
    let rows = place.sql(
        "SELECT \"Key\", \"order\", \"a \"\"b\"\"\", \"select\", \"ÄÖ\" FROM KS.\"Table\" \
         WHERE \"Key\" = 1 AND \"order\" > 1",
    )?;
    ensure!(rows == [["1", "2", "x", "(3,z)", "4"].map(|cell| Some(cell.to_owned()))], "read as {rows:?}");
    place.copy_and_compare("\"Table\"", "\"token\"")
}
