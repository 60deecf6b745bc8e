//! The Rust client tokio-postgres: what its own tests ask of a server, as far as Sluice is to have it.
//!
//! Its own tests make temporary tables with serial columns, enumerations, domains and extensions, and listen for
//! notifications, none of which are here; what they are about is asked for with what there is.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use futures::{SinkExt, StreamExt, TryStreamExt};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_postgres::types::{Kind, Type};
use tokio_postgres::{AsyncMessage, Client, Error, NoTls, SimpleQueryMessage};

use crate::bed::{Bed, trial};
use crate::faults::status_bytes;

type Check = fn(&Bed, &Service) -> Result<()>;

const CHECKS: [(&str, Check); 11] = [
    ("parameters_are_typed", |bed, service| bed.block_on(parameters_are_typed(service))),
    ("types_have_names_and_parts", |bed, service| bed.block_on(types_have_names_and_parts(service))),
    ("rows_are_streamed", |bed, service| bed.block_on(rows_are_streamed(service))),
    ("portals_are_read_in_pieces", |bed, service| bed.block_on(portals_are_read_in_pieces(service))),
    ("statements_are_pipelined", |bed, service| bed.block_on(statements_are_pipelined(service))),
    ("simple_queries_are_several", |bed, service| bed.block_on(simple_queries_are_several(service))),
    ("rows_are_copied", |bed, service| bed.block_on(rows_are_copied(service))),
    ("errors_have_fields", |bed, service| bed.block_on(errors_have_fields(service))),
    ("statements_are_stopped", |bed, service| bed.block_on(statements_are_stopped(service))),
    ("blocks_are_honest", |bed, service| bed.block_on(blocks_are_honest(service))),
    ("sessions_see_and_end_each_other", |bed, service| bed.block_on(sessions_see_and_end_each_other(service))),
];

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for layout in Layout::ALL {
        for (name, check) in CHECKS {
            trials.push(trial(bed, format!("{}::client::tokio_postgres::{name}", layout.name()), move |bed| {
                let service = bed.service(layout)?;
                check(bed, &service)
            }));
        }
    }
    trials
}

/// Trials that measure memory, and so have a service of their own.
pub fn measured(bed: &Arc<Bed>) -> Vec<Trial> {
    let name = "embedded::client::a_cursor_keeps_memory_flat".to_owned();
    vec![trial(bed, name, |bed| {
        let service = bed.own_service(Layout::Embedded, &[])?;
        bed.block_on(a_cursor_keeps_memory_flat(&service))
    })]
}

fn db_error(error: &Error) -> Result<&DbError> {
    error.as_db_error().with_context(|| format!("{error} is not the server's"))
}

/// The state of the error that a statement must end with.
fn state<T>(outcome: Result<T, Error>) -> Result<String> {
    match outcome {
        Ok(_) => bail!("a statement succeeded that should fail"),
        Err(error) => Ok(db_error(&error)?.code().code().to_owned()),
    }
}

async fn parameters_are_typed(service: &Service) -> Result<()> {
    let client = service.connect().await?;
    let statement = client
        .prepare(
            "SELECT $1::bool, $2::smallint, $3::int, $4::bigint, $5::real, $6::double precision, $7::text, $8::bytea, \
             $9::timestamptz, $10::int[], $11::text[]",
        )
        .await?;
    let types = [
        Type::BOOL,
        Type::INT2,
        Type::INT4,
        Type::INT8,
        Type::FLOAT4,
        Type::FLOAT8,
        Type::TEXT,
        Type::BYTEA,
        Type::TIMESTAMPTZ,
        Type::INT4_ARRAY,
        Type::TEXT_ARRAY,
    ];
    ensure!(statement.params() == types, "the parameters are {:?}", statement.params());
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_709_168_523_004_005);
    let (numbers, texts) = (vec![Some(1), None, Some(i32::MIN)], vec!["", "a,\"b\"", "NULL"]);
    let row = client
        .query_one(
            &statement,
            &[
                &true,
                &i16::MIN,
                &i32::MAX,
                &i64::MIN,
                &1.5_f32,
                &f64::NEG_INFINITY,
                &"ü",
                &&b"\0\xff"[..],
                &at,
                &numbers,
                &texts,
            ],
        )
        .await?;
    ensure!(row.get::<_, bool>(0) && row.get::<_, i16>(1) == i16::MIN && row.get::<_, i32>(2) == i32::MAX);
    ensure!(
        row.get::<_, i64>(3) == i64::MIN && row.get::<_, f32>(4) == 1.5 && row.get::<_, f64>(5) == f64::NEG_INFINITY
    );
    ensure!(row.get::<_, &str>(6) == "ü" && row.get::<_, &[u8]>(7) == b"\0\xff" && row.get::<_, SystemTime>(8) == at);
    ensure!(row.get::<_, Vec<Option<i32>>>(9) == numbers && row.get::<_, Vec<&str>>(10) == texts);

    let nothing = client.query_one("SELECT $1::bigint, $2::text", &[&None::<i64>, &None::<&str>]).await?;
    ensure!(nothing.get::<_, Option<i64>>(0).is_none() && nothing.get::<_, Option<&str>>(1).is_none());
    let nan = client.query_one("SELECT $1::double precision", &[&f64::NAN]).await?;
    ensure!(nan.get::<_, f64>(0).is_nan());
    let typed = client.query_typed("SELECT $1 + 1, $2", &[(&41_i64, Type::INT8), (&"x", Type::TEXT)]).await?;
    ensure!(typed.len() == 1 && typed[0].get::<_, i64>(0) == 42 && typed[0].get::<_, &str>(1) == "x");
    ensure!(client.query_opt("SELECT 1 WHERE false", &[]).await?.is_none());
    ensure!(client.query_one("SELECT 1 WHERE false", &[]).await.is_err());
    Ok(())
}

async fn types_have_names_and_parts(service: &Service) -> Result<()> {
    let client = service.connect().await?;
    let statement = client
        .prepare(
            "SELECT 1::int AS n, [1::int] AS list, named_struct('a', 1::int, 'b', 'x') AS pair, date '2024-02-29' AS day, \
             1.50::numeric(10, 2) AS price, interval '1 day' AS span",
        )
        .await?;
    let columns: Vec<_> = statement.columns().iter().map(|column| (column.name(), column.type_().clone())).collect();
    let wanted = [
        ("n", Type::INT4),
        ("list", Type::INT4_ARRAY),
        ("pair", Type::RECORD),
        ("day", Type::DATE),
        ("price", Type::NUMERIC),
        ("span", Type::INTERVAL),
    ];
    ensure!(columns == wanted, "the columns are {columns:?}");
    ensure!(matches!(statement.columns()[1].type_().kind(), Kind::Array(element) if *element == Type::INT4));
    ensure!(statement.columns()[4].type_modifier() == (10 << 16 | 2) + 4, "the price lost its scale");
    // A statement that nobody holds any more is closed, and its name is free.
    drop(statement);
    for _ in 0..3 {
        let again = client.prepare("SELECT 1").await?;
        ensure!(client.query(&again, &[]).await?.len() == 1);
    }
    Ok(())
}

async fn rows_are_streamed(service: &Service) -> Result<()> {
    let client = service.connect().await?;
    let query = "SELECT value FROM generate_series(1, 1000000) AS t(value) WHERE value >= $1::bigint";
    let rows = client.query_raw(query, &[1_i64]).await?;
    let mut rows = std::pin::pin!(rows);
    let (mut count, mut sum) = (0_i64, 0);
    while let Some(row) = rows.try_next().await? {
        count += 1;
        sum += row.get::<_, i64>(0);
    }
    ensure!((count, sum) == (1_000_000, 1_000_000 * 1_000_001 / 2), "{count} rows with the sum {sum}");
    ensure!(rows.rows_affected() == Some(1_000_000), "the tag tells {:?} rows", rows.rows_affected());
    Ok(())
}

async fn portals_are_read_in_pieces(service: &Service) -> Result<()> {
    let mut client = service.connect().await?;
    let query = "SELECT value FROM generate_series(1, 3) AS t(value) ORDER BY value";
    let statement = client.prepare(query).await?;
    let transaction = client.transaction().await?;
    let portal = transaction.bind(&statement, &[]).await?;
    let other = transaction.bind(&statement, &[]).await?;
    let mut seen = Vec::new();
    for wanted in [2, 1, 0] {
        let rows = transaction.query_portal(&portal, 2).await?;
        ensure!(rows.len() == wanted, "{} rows where {wanted} were wanted", rows.len());
        seen.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    ensure!(seen == [1, 2, 3], "the portal gave {seen:?}");
    // A limit of nothing is none.
    ensure!(transaction.query_portal(&other, 0).await?.len() == 3);
    let endless = transaction.bind("SELECT value FROM generate_series(1, 1000000000) AS t(value)", &[]).await?;
    for _ in 0..3 {
        ensure!(transaction.query_portal(&endless, 1_000).await?.len() == 1_000);
    }
    transaction.commit().await?;
    ensure!(client.query_one("SELECT 1", &[]).await?.get::<_, i64>(0) == 1);
    Ok(())
}

async fn statements_are_pipelined(service: &Service) -> Result<()> {
    let client = service.connect().await?;
    let (one, two) = tokio::try_join!(client.prepare("SELECT $1::text"), client.prepare("SELECT $1::bigint"))?;
    ensure!(one.params() == [Type::TEXT] && two.params() == [Type::INT8]);
    let numbers: Vec<i64> = (0..50).collect();
    let queries = numbers.iter().map(|number| {
        let (client, two) = (&client, &two);
        async move { Ok::<_, Error>(client.query_one(two, &[number]).await?.get::<_, i64>(0)) }
    });
    ensure!(futures::future::try_join_all(queries).await? == numbers);
    // One that fails does not take its neighbours with it.
    let (before, wrong, after) = tokio::join!(
        client.query_one("SELECT 'a'", &[]),
        client.query_one("SELECT * FROM no_such_table", &[]),
        client.query_one("SELECT 'b'", &[]),
    );
    ensure!(before?.get::<_, &str>(0) == "a" && after?.get::<_, &str>(0) == "b");
    ensure!(state(wrong)? == "42P01");
    Ok(())
}

async fn simple_queries_are_several(service: &Service) -> Result<()> {
    let client = service.connect().await?;
    let messages =
        client.simple_query("SET application_name = 'several'; SELECT 1 AS n, NULL AS t; SELECT 'x' AS x").await?;
    let seen: Vec<String> = messages
        .iter()
        .map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => format!("complete {rows}"),
            SimpleQueryMessage::RowDescription(columns) => format!("columns {}", columns.len()),
            SimpleQueryMessage::Row(row) => format!("row {:?}", row.get(0)),
            _ => "other".to_owned(),
        })
        .collect();
    let wanted =
        ["complete 0", "columns 2", "row Some(\"1\")", "complete 1", "columns 1", "row Some(\"x\")", "complete 1"];
    ensure!(seen == wanted, "the messages are {seen:?}");
    ensure!(state(client.simple_query("SELECT 1; SELECT * FROM no_such_table; SELECT 2").await)? == "42P01");
    ensure!(client.simple_query("").await?.len() <= 1);
    Ok(())
}

async fn rows_are_copied(service: &Service) -> Result<()> {
    let client = service.connect().await?;
    let folder = tempfile::tempdir()?;
    let table = format!("tokio_copied_{}", service.layout().name());
    let create = format!(
        "CREATE EXTERNAL TABLE {table} (n INT, t VARCHAR) STORED AS PARQUET LOCATION '{}/'",
        folder.path().display()
    );
    client.batch_execute(&create).await?;
    let copied = copy(&client, &table).await;
    client.batch_execute(&format!("DROP TABLE {table}")).await?;
    copied
}

async fn copy(client: &Client, table: &str) -> Result<()> {
    let sink = client.copy_in::<_, &'static [u8]>(format!("COPY {table} FROM STDIN").as_str()).await?;
    let mut sink = std::pin::pin!(sink);
    let mut pieces = futures::stream::iter(["1\tste", "ven\n2\t\\N\n"].map(|piece| Ok(piece.as_bytes())));
    sink.send_all(&mut pieces).await?;
    ensure!(sink.finish().await? == 2, "two rows were copied in");

    let sink = client.copy_in(format!("COPY {table} FROM STDIN (FORMAT binary)").as_str()).await?;
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
    for number in 3..10_000_i32 {
        writer.as_mut().write(&[&number, &format!("number {number}")]).await?;
    }
    ensure!(writer.finish().await? == 9_997, "9997 rows were copied in");

    let stream =
        client.copy_out(format!("COPY (SELECT n, t FROM {table} WHERE n < 3 ORDER BY n) TO STDOUT").as_str()).await?;
    let text = stream.try_fold(Vec::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    ensure!(text.await? == b"1\tsteven\n2\t\\N\n");
    let stream = client.copy_out(format!("COPY {table} TO STDOUT (FORMAT binary)").as_str()).await?;
    let rows = std::pin::pin!(BinaryCopyOutStream::new(stream, &[Type::INT4, Type::TEXT]));
    let sum = rows.try_fold(0_i64, |sum, row| async move { Ok(sum + i64::from(row.get::<i32>(0))) });
    ensure!(sum.await? == 9_999 * 10_000 / 2);

    // A copy that its client gives up, and one whose rows are wrong, leave nothing and end nothing.
    let sink = client.copy_in::<_, &'static [u8]>(format!("COPY {table} FROM STDIN").as_str()).await?;
    drop(sink);
    let sink = client.copy_in::<_, &'static [u8]>(format!("COPY {table} FROM STDIN").as_str()).await?;
    let mut sink = std::pin::pin!(sink);
    let wrong = match sink.send(b"no number\tx\n").await {
        Ok(()) => sink.finish().await.map(|_| ()),
        Err(error) => Err(error),
    };
    ensure!(state(wrong)? == "22P02");
    let count = client.query_one(format!("SELECT count(*) FROM {table}").as_str(), &[]).await?;
    ensure!(count.get::<_, i64>(0) == 9_999, "{} rows are there", count.get::<_, i64>(0));
    Ok(())
}

async fn errors_have_fields(service: &Service) -> Result<()> {
    let client = service.connect().await?;
    let Err(error) = client.query("SELECT 1,\n  querie FROM system.queries", &[]).await else {
        bail!("an unknown column")
    };
    let error = db_error(&error)?;
    ensure!(error.code().code() == "42703" && error.severity() == "ERROR", "{error:?}");
    ensure!(error.position() == Some(&ErrorPosition::Original(13)), "{error:?}");
    ensure!(error.hint().is_some_and(|hint| hint.contains("queue")), "{error:?}");
    for (wrong, wanted) in [
        ("SELECT * FROM no_such_table", "42P01"),
        ("SELEC 1", "42601"),
        ("SELECT no_such_function(1)", "42883"),
        ("SELECT 1 / 0", "22012"),
        ("SELECT 'x'::int", "22P02"),
        ("SELECT 1; SELECT 2", "42601"),
        ("SHOW no_such_setting", "42704"),
    ] {
        ensure!(state(client.query(wrong, &[]).await)? == wanted, "{wrong}");
    }
    ensure!(client.query_one("SELECT 1", &[]).await?.get::<_, i64>(0) == 1);
    Ok(())
}

async fn statements_are_stopped(service: &Service) -> Result<()> {
    let client = service.connect().await?;
    let started = Instant::now();
    let cancel = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel_query(NoTls).await
    };
    let (slept, cancelled) = tokio::join!(client.batch_execute("SELECT pg_sleep(100)"), cancel);
    cancelled?;
    ensure!(state(slept)? == "57014");
    client.batch_execute("SET statement_timeout = '200ms'").await?;
    ensure!(state(client.query("SELECT pg_sleep(100)", &[]).await)? == "57014");
    ensure!(state(client.batch_execute("SELECT pg_sleep(100)").await)? == "57014");
    let copied = client.copy_out("COPY (SELECT pg_sleep(100)) TO STDOUT").await;
    let copied = match copied {
        Ok(stream) => stream.try_for_each(|_| async { Ok(()) }).await,
        Err(error) => Err(error),
    };
    ensure!(state(copied)? == "57014");
    client.batch_execute("RESET statement_timeout").await?;
    client.batch_execute("SELECT pg_sleep(0.01)").await?;
    ensure!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    Ok(())
}

async fn setting(client: &Client, name: &str) -> Result<String> {
    Ok(client.query_one("SELECT current_setting($1)", &[&name]).await?.get(0))
}

/// A connection with what the server says besides its answers.
async fn connect_and_listen(service: &Service) -> Result<(Client, tokio::sync::mpsc::UnboundedReceiver<DbError>)> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(service.pg_port).user("sluice").dbname("sluice");
    let (client, mut connection) = config.connect(NoTls).await?;
    let (sender, notices) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message
                && sender.send(notice).is_err()
            {
                break;
            }
        }
    });
    Ok((client, notices))
}

/// Settings go back at the end of a block as in PostgreSQL; what was written stays, and the server says so.
async fn blocks_are_honest(service: &Service) -> Result<()> {
    let (mut client, mut notices) = connect_and_listen(service).await?;
    let view = format!("tokio_view_{}", service.layout().name());
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL statement_timeout = '7s'; SET application_name = 'kept'").await?;
    ensure!(setting(transaction.client(), "statement_timeout").await? == "7000");
    transaction.commit().await?;
    ensure!(setting(&client, "statement_timeout").await? == "0", "SET LOCAL outlived its block");
    ensure!(setting(&client, "application_name").await? == "kept", "SET did not outlive its block");

    let transaction = client.transaction().await?;
    transaction.batch_execute("SET application_name = 'lost'; SET LOCAL timezone = 'Asia/Tokyo'").await?;
    transaction.query_one("SELECT set_config('statement_timeout', '9s', true)", &[]).await?;
    transaction.batch_execute(&format!("CREATE OR REPLACE VIEW {view} AS SELECT 1 AS one")).await?;
    transaction.rollback().await?;
    for (name, wanted) in [("application_name", "kept"), ("timezone", "UTC"), ("statement_timeout", "0")] {
        let found = setting(&client, name).await?;
        ensure!(found == wanted, "after ROLLBACK {name} is {found}");
    }
    let warning = notices.recv().await.context("nobody said that a view stays")?;
    ensure!(warning.severity() == "WARNING" && warning.message().contains("stays"), "{warning:?}");
    ensure!(client.query(format!("SELECT one FROM {view}").as_str(), &[]).await?.len() == 1);
    client.batch_execute(&format!("DROP VIEW {view}; SET LOCAL statement_timeout = 1")).await?;
    let warning = notices.recv().await.context("SET LOCAL was for nothing, and nobody said so")?;
    ensure!(warning.code().code() == "25P01", "{warning:?}");
    ensure!(setting(&client, "statement_timeout").await? == "0");

    let mut transaction = client.transaction().await?;
    let savepoint = transaction.savepoint("here").await?;
    ensure!(state(savepoint.query("SELECT * FROM no_such_table", &[]).await)? == "42P01");
    ensure!(state(savepoint.query("SELECT 1", &[]).await)? == "25P02");
    savepoint.rollback().await?;
    ensure!(transaction.query("SELECT 1", &[]).await?.len() == 1);
    drop(transaction);
    ensure!(client.query_one("SELECT 1", &[]).await?.get::<_, i64>(0) == 1);
    Ok(())
}

async fn sessions_see_and_end_each_other(service: &Service) -> Result<()> {
    let (one, other) = (service.connect().await?, service.connect().await?);
    other.batch_execute("SET application_name = 'the other'").await?;
    let pid: i32 = other.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let seen = "SELECT state FROM pg_stat_activity WHERE pid = $1 AND application_name = 'the other'";
    ensure!(one.query_one(seen, &[&pid]).await?.get::<_, &str>(0) == "idle");
    let end = async |function: &str| -> Result<bool> {
        while one.query_one(seen, &[&pid]).await?.get::<_, &str>(0) != "active" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(one.query_one(format!("SELECT {function}($1::int)").as_str(), &[&pid]).await?.get(0))
    };
    let (slept, was_there) = tokio::join!(other.batch_execute("SELECT pg_sleep(100)"), end("pg_cancel_backend"));
    ensure!(was_there? && state(slept)? == "57014");
    let (slept, killed) = tokio::join!(other.batch_execute("SELECT pg_sleep(101)"), async {
        let running = "SELECT query_id FROM system.queries WHERE state = 'running' AND sql LIKE 'SELECT pg_sleep(101%'";
        loop {
            if let Some(row) = one.query_opt(running, &[]).await? {
                let kill = format!("KILL QUERY '{}'", row.get::<_, &str>(0));
                break anyhow::Ok(one.batch_execute(&kill).await?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    killed?;
    ensure!(state(slept)? == "57014");
    ensure!(state(one.batch_execute("KILL QUERY 'none'").await)? == "42704");
    let (slept, was_there) = tokio::join!(other.batch_execute("SELECT pg_sleep(100)"), end("pg_terminate_backend"));
    ensure!(was_there? && slept.is_err());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !other.is_closed() {
        ensure!(Instant::now() < deadline, "a session that was ended goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(!one.query_one("SELECT pg_cancel_backend($1::int)", &[&pid]).await?.get::<_, bool>(0));
    Ok(())
}

/// Rows that go through the cursor, in a debug build in about ten seconds.
const CURSOR_ROWS: u64 = 20_000_000;
const ROWS_A_FETCH: u64 = 100_000;
/// What the process may grow by: caches, and memory that the allocator holds on to.
const MOST_GROWTH_BYTES: u64 = 96 << 20;

async fn a_cursor_keeps_memory_flat(service: &Service) -> Result<()> {
    let rows = std::env::var("SLUICE_CURSOR_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(CURSOR_ROWS);
    let client = service.connect().await?;
    client
        .batch_execute(&format!("BEGIN; DECLARE c CURSOR FOR SELECT value FROM generate_series(1, {rows}) AS t(value)"))
        .await?;
    let fetch = client.prepare(&format!("FETCH {ROWS_A_FETCH} FROM c")).await?;
    let memory = || status_bytes(service.process_id(), "VmRSS");
    let (mut before, mut most, mut fetched) = (0, 0, 0);
    let started = Instant::now();
    loop {
        let parameters: [i64; 0] = [];
        let batch = std::pin::pin!(client.query_raw(&fetch, parameters).await?);
        let count = batch.try_fold(0, |count, _| async move { Ok(count + 1) }).await?;
        fetched += count;
        if fetched == ROWS_A_FETCH {
            before = memory()?;
        }
        most = most.max(memory()?);
        if count == 0 {
            break;
        }
    }
    println!(
        "{fetched} rows in {:.1?}: {} MiB of memory after the first {ROWS_A_FETCH}, {} MiB at most",
        started.elapsed(),
        before >> 20,
        most >> 20
    );
    ensure!(fetched == rows, "{fetched} rows of {rows} came");
    ensure!(most <= before + MOST_GROWTH_BYTES, "memory grew from {before} bytes to {most}");
    ensure!(
        started.elapsed() < Duration::from_secs(30 * rows.div_ceil(CURSOR_ROWS)),
        "it took {:?}",
        started.elapsed()
    );
    Ok(())
}
