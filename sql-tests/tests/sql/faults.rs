//! What breaks, and what a user sees of it: processes killed, nodes down, files that are no files.
//!
//! Each test has a service of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::runner::SqlError;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};

type Test = fn(&Bed) -> Result<()>;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let tests: [(&str, Test); 13] = [
        ("files_that_are_not_parquet", files_that_are_not_parquet),
        ("broken_messages", broken_messages),
        ("a_thousand_connections", a_thousand_connections),
        ("catalogs_survive_a_restart", catalogs_survive_a_restart),
        ("sigterm_drains", sigterm_drains),
        ("bad_configuration_names_its_line", bad_configuration_names_its_line),
        ("an_executor_dies_in_mid_query", an_executor_dies_in_mid_query),
        ("a_damaged_shuffle_file_is_written_again", a_damaged_shuffle_file_is_written_again),
        ("what_does_not_fit_in_memory_runs_in_stages", what_does_not_fit_in_memory_runs_in_stages),
        ("a_large_result_is_streamed", a_large_result_is_streamed),
        ("answers_do_not_depend_on_the_number_of_executors", answers_do_not_depend_on_the_number_of_executors),
        ("a_cassandra_node_dies_in_mid_scan", a_cassandra_node_dies_in_mid_scan),
        ("every_cassandra_node_is_down", every_cassandra_node_is_down),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("fault::{name}"), test)).collect()
}

/// Runs statements on one connection; the rows of the last.
pub fn run(bed: &Bed, service: &Service, statements: &[&str]) -> Result<Vec<Vec<Option<String>>>> {
    bed.block_on(async {
        let client = service.connect().await?;
        let mut rows = Vec::new();
        for statement in statements {
            let messages = client.simple_query(statement).await.map_err(SqlError);
            rows = sluice_sql_tests::runner::text_rows(messages.with_context(|| (*statement).to_owned())?);
        }
        Ok(rows)
    })
}

/// The error of a statement, as `SQLSTATE: message (hint: ...)`.
pub fn error_of(bed: &Bed, service: &Service, statement: &str) -> Result<String> {
    bed.block_on(async {
        let client = service.connect().await?;
        match client.simple_query(statement).await {
            Ok(_) => bail!("{statement} was no error"),
            Err(error) => Ok(SqlError(error).to_string()),
        }
    })
}

pub fn expect_error(bed: &Bed, service: &Service, statement: &str, wanted: &[&str]) -> Result<()> {
    let error = error_of(bed, service, statement)?;
    for part in wanted {
        ensure!(error.contains(part), "{part:?} is not in the error of {statement}: {error}");
    }
    Ok(())
}

fn files_that_are_not_parquet(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Embedded, &[])?;
    let dir = bed.scratch("bad-files")?;
    let path = |name: &str| dir.join(name).display().to_string();
    let good = fs::read(bed.tpch("0.01")?.join("nation.parquet"))?;
    fs::write(path("text.parquet"), "this is text, long enough to hold a footer\n")?;
    fs::write(path("truncated.parquet"), &good[..good.len() / 2])?;
    fs::write(path("empty.parquet"), "")?;
    let create = |name: &str| format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{}'", path(name));
    expect_error(bed, &service, &create("missing.parquet"), &["58P01", "missing.parquet"])?;
    for name in ["text.parquet", "truncated.parquet", "empty.parquet"] {
        expect_error(bed, &service, &create(name), &[name])?;
    }
    // Damage within the data, under a footer that is whole.
    let mut damaged = good.clone();
    damaged[4..40].fill(0xff);
    fs::write(path("damaged.parquet"), damaged)?;
    run(bed, &service, &[&create("damaged.parquet")])?;
    let error = error_of(bed, &service, "SELECT sum(n_nationkey), sum(length(n_name)), sum(length(n_comment)) FROM t")?;
    ensure!(error.starts_with("XX001") || error.starts_with("58030"), "a damaged file gave {error}");
    // A folder whose files disagree.
    let mixed = dir.join("mixed");
    fs::create_dir_all(&mixed)?;
    for table in ["nation", "region"] {
        fs::copy(bed.tpch("0.01")?.join(format!("{table}.parquet")), mixed.join(format!("{table}.parquet")))?;
    }
    run(bed, &service, &[&format!("CREATE EXTERNAL TABLE mixed STORED AS PARQUET LOCATION '{}'", mixed.display())])?;
    let rows = run(bed, &service, &["SELECT count(*), count(n_name), count(r_name) FROM mixed"])?;
    ensure!(
        rows == [["30", "25", "5"].map(|cell| Some(cell.to_owned()))],
        "columns that only some files have: {rows:?}"
    );
    bed.block_on(service.check_serving())
}

/// A client that speaks the protocol by hand: `startup`, then `bytes`; what comes back until the end.
fn raw(service: &Service, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", service.pg_port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let parameters = b"user\0sluice\0database\0sluice\0\0";
    let length = u32::try_from(parameters.len() + 8)?;
    stream.write_all(&[&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), parameters].concat())?;
    stream.write_all(bytes)?;
    stream.write_all(b"X\0\0\0\x04")?;
    let mut answer = Vec::new();
    // The service may hang up before it has read everything.
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

fn broken_messages(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Embedded, &[])?;
    let contains = |answer: &[u8], wanted: &str| answer.windows(wanted.len()).any(|window| window == wanted.as_bytes());
    let query = |text: &[u8]| -> Vec<u8> {
        let length = u32::try_from(text.len() + 5).expect("is short");
        [b"Q", &length.to_be_bytes()[..], text, b"\0"].concat()
    };
    ensure!(contains(&raw(&service, &query(b"SELECT '\xff\xfe'"))?, "22021"), "invalid UTF-8 is not told as 22021");
    let lying = [b"Q".as_slice(), &0x7fff_ffff_u32.to_be_bytes(), b"SELECT"].concat();
    ensure!(contains(&raw(&service, &lying)?, "08P01"), "a message of two gigabytes is not told as 08P01");
    let too_long = raw(&service, &[query(&vec![b' '; 20 << 20]), query(b"SELECT 'and on'")].concat())?;
    ensure!(contains(&too_long, "54000"), "a statement of 20 megabytes is not told as 54000");
    ensure!(contains(&too_long, "and on"), "the session does not go on after a statement that is too long");
    ensure!(contains(&raw(&service, b"\x01\0\0\0\x04")?, "08P01"), "an unknown message is not told as 08P01");
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let error = error_of(bed, &service, &deep)?;
    ensure!(error.starts_with("54001") || error.starts_with("42601"), "deep nesting gave {error}");
    let wide = format!("SELECT {}", vec!["1"; 300_000].join("+"));
    error_of(bed, &service, &wide).or_else(|_| run(bed, &service, &[&wide]).map(|_| String::new()))?;
    bed.block_on(service.check_serving())
}

fn a_thousand_connections(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Embedded, &["--max-connections", "800"])?;
    bed.block_on(async {
        let mut clients = Vec::new();
        let mut refused = 0;
        for _ in 0..1000 {
            match service.connect().await {
                Ok(client) => clients.push(client),
                Err(error) => {
                    let error = error.downcast::<tokio_postgres::Error>().map(SqlError)?.to_string();
                    ensure!(error.starts_with("53300"), "a connection too many was refused with {error}");
                    refused += 1;
                }
            }
        }
        ensure!(clients.len() == 800 && refused == 200, "{} connected, {refused} refused", clients.len());
        let answers = futures::future::join_all(clients.iter().map(|client| client.simple_query("SELECT 1"))).await;
        for answer in answers {
            answer.map_err(SqlError)?;
        }
        drop(clients);
        let deadline = Instant::now() + Duration::from_secs(30);
        while service.check_serving().await.is_err() {
            ensure!(Instant::now() < deadline, "nobody can connect after the others have gone");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    })
}

fn catalogs_survive_a_restart(bed: &Bed) -> Result<()> {
    let mut service = bed.own_service(Layout::Embedded, &[])?;
    let nation = bed.tpch("0.01")?.join("nation.parquet").display().to_string();
    run(
        bed,
        &service,
        &[
            "CREATE SCHEMA kept",
            &format!("CREATE EXTERNAL TABLE kept.nation STORED AS PARQUET LOCATION '{nation}'"),
            "CREATE VIEW kept.names AS SELECT n_name FROM kept.nation WHERE n_regionkey = 3",
            // Nobody has to answer there for the catalog to be kept.
            "CREATE CATALOG far USING cassandra WITH (contact_points = '127.0.9.9:9042', password = 'hush-hush', username = 'u')",
        ],
    )?;
    bed.block_on(service.restart())?;
    let rows = run(bed, &service, &["SELECT count(*) FROM kept.names"])?;
    ensure!(rows == [[Some("5".to_owned())]], "the view holds {rows:?}");
    let catalogs = run(bed, &service, &["SHOW CATALOGS"])?;
    ensure!(catalogs.contains(&vec![Some("far".to_owned())]), "the catalogs are {catalogs:?}");
    let queries = format!("{:?}", run(bed, &service, &["SELECT sql FROM system.queries"])?);
    ensure!(!queries.contains("hush-hush"), "a password is in system.queries: {queries}");
    ensure!(!service.output().contains("hush-hush"), "a password is in the log");
    bed.block_on(service.check_serving())
}

fn sigterm_drains(bed: &Bed) -> Result<()> {
    for layout in Layout::ALL {
        let service = bed.own_service(layout, &["--grace-seconds", "60"])?;
        let slow = "SELECT count(*) FROM generate_series(1, 3000) AS a(x), generate_series(1, 20000) AS b(y) WHERE (x + y) % 3 = 0";
        let (answer, status) = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(bed, &service, &[slow]));
            std::thread::sleep(Duration::from_millis(400));
            let status = service.terminate(Duration::from_secs(100));
            (running.join(), status)
        });
        let answer = answer.map_err(|_| anyhow!("the client panicked"))?;
        ensure!(status?.success(), "the exit code is not 0");
        ensure!(answer?.len() == 1, "a query that was running at SIGTERM did not end well");
    }
    Ok(())
}

fn bad_configuration_names_its_line(bed: &Bed) -> Result<()> {
    let dir = bed.scratch("configuration")?;
    let run = |text: &str, arguments: &[&str]| -> Result<String> {
        let file = dir.join("sluice.toml");
        fs::write(&file, text)?;
        let output = Command::new(bed.binary())
            .args(["serve", "--config"])
            .arg(&file)
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(arguments)
            .output()?;
        ensure!(!output.status.success(), "this was accepted: {text}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let error = run("pg_port = 5433\nflight_prt = 1\n", &[])?;
    ensure!(error.contains("line 2") && error.contains("flight_prt"), "an unknown key: {error}");
    let error = run("\npg_port = \"many\"\n", &[])?;
    ensure!(error.contains("line 2") && error.contains("many"), "a bad value: {error}");
    let error = run("", &["--bind", "0.0.0.0"])?;
    ensure!(error.contains("0.0.0.0") && error.contains("insecure"), "an open address without a password: {error}");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = taken.local_addr()?.port().to_string();
    let error = run("", &["--pg-port", &port, "--flight-port", "0", "--http-port", "0"])?;
    ensure!(error.contains(&port) && error.contains("in use"), "a port in use: {error}");
    Ok(())
}

/// A query that crosses exchanges and takes a while.
fn heavy_query(data: &str) -> String {
    format!(
        "SELECT o_orderpriority, count(*), sum(l_extendedprice * (1 - l_discount)) FROM '{data}/lineitem.parquet' l \
         JOIN '{data}/orders.parquet' o ON l.l_orderkey = o.o_orderkey \
         JOIN '{data}/customer.parquet' c ON o.o_custkey = c.c_custkey GROUP BY 1 ORDER BY 1"
    )
}

fn an_executor_dies_in_mid_query(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Cluster, &[])?;
    let query = heavy_query(&bed.tpch("0.1")?.display().to_string());
    let statements = ["SET sluice.single_task_max_bytes = 0", query.as_str()];
    let expected = run(bed, &service, &statements)?;
    for delay_ms in [100, 300, 600] {
        let answer = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(bed, &service, &statements));
            std::thread::sleep(Duration::from_millis(delay_ms));
            service.kill_executor(1);
            running.join().map_err(|_| anyhow!("the client panicked"))?
        })?;
        ensure!(answer == expected, "after {delay_ms} ms without an executor: {answer:?} instead of {expected:?}");
        service.start_executor(1)?;
        bed.block_on(service.wait_for_executors(Layout::EXECUTOR_COUNT))?;
    }
    bed.block_on(service.check_serving())
}

/// A shuffle file below `dir` that was sealed after `begin`: a file of a stage that others have yet to read.
fn sealed_file(dir: &Path, begin: SystemTime) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return sealed_file(&path, begin);
        }
        let sealed = path.to_str().and_then(|path| path.strip_suffix(".seal")).map(PathBuf::from)?;
        entry.metadata().and_then(|seal| seal.modified()).is_ok_and(|at| at >= begin).then_some(sealed)
    })
}

fn a_damaged_shuffle_file_is_written_again(bed: &Bed) -> Result<()> {
    const ATTEMPTS: usize = 10;
    let query = heavy_query(&bed.tpch("0.1")?.display().to_string());
    let statements = ["SET sluice.single_task_max_bytes = 0", query.as_str()];
    for layout in Layout::ALL {
        let service = bed.own_service(layout, &[])?;
        let expected = run(bed, &service, &statements)?;
        for attempt in 1.. {
            let begin = SystemTime::now();
            let answer = std::thread::scope(|scope| {
                let running = scope.spawn(|| run(bed, &service, &statements));
                while !running.is_finished() {
                    // The stage that reads the file waits for all tasks of the stage that writes it.
                    let Some(path) = sealed_file(service.data_dir(), begin) else { continue };
                    let Ok(mut bytes) = fs::read(&path) else { continue };
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    if fs::write(&path, bytes).is_ok() {
                        break;
                    }
                }
                running.join().map_err(|_| anyhow!("the client panicked"))?
            })?;
            ensure!(answer == expected, "with a flipped bit {}: {answer:?}, not {expected:?}", layout.name());
            if service.all_output().contains("is damaged") {
                break;
            }
            ensure!(attempt < ATTEMPTS, "no damage was ever done in time ({})", layout.name());
        }
        bed.block_on(service.check_serving())?;
    }
    Ok(())
}

fn what_does_not_fit_in_memory_runs_in_stages(bed: &Bed) -> Result<()> {
    let data = bed.tpch("0.1")?.display().to_string();
    let query = format!(
        "SELECT count(*), sum(length(b.l_comment)) FROM '{data}/lineitem.parquet' a JOIN '{data}/lineitem.parquet' b \
         ON a.l_orderkey = b.l_orderkey AND a.l_linenumber = b.l_linenumber AND a.l_comment = b.l_comment"
    );
    let roomy = bed.own_service(Layout::Embedded, &["--memory", "4GB"])?;
    let expected = run(bed, &roomy, &[&query])?;
    let tight = bed.own_service(Layout::Embedded, &["--memory", "70MB", "--executors", "1", "--vcores", "1"])?;
    let answer = run(bed, &tight, &["SET sluice.single_task_max_bytes = '1GB'", &query])?;
    ensure!(answer == expected, "with little memory: {answer:?}, with enough: {expected:?}");
    let placements =
        run(bed, &tight, &["SELECT placement FROM system.queries WHERE sql LIKE 'SELECT count(*), sum(length%'"])?;
    ensure!(placements == [[Some("stages".to_owned())]], "memory was not short, the query ran as {placements:?}");
    bed.block_on(tight.check_serving())
}

/// The most resident memory that a process has had, in bytes.
pub fn resident_bytes(process: u32) -> Result<u64> {
    status_bytes(process, "VmHWM")
}

/// A figure of a process's memory, in bytes, by the name that Linux gives it.
pub fn status_bytes(process: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let mut lines = status.lines();
    let line = lines.find(|line| line.split(':').next() == Some(name)).ok_or_else(|| anyhow!("no {name}"))?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or_else(|| anyhow!("no figure in {line}"))?.parse()?;
    Ok(kib * 1024)
}

fn a_large_result_is_streamed(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Cluster, &[])?;
    let data = bed.tpch("0.1")?.display().to_string();
    let fetch = |copies: usize| -> Result<u64> {
        let query =
            format!("SELECT l.* FROM '{data}/lineitem.parquet' l CROSS JOIN generate_series(1, {copies}) AS g(n)");
        bed.block_on(async {
            let client = service.connect().await?;
            client.simple_query("SET sluice.single_task_max_bytes = 0").await.map_err(SqlError)?;
            let rows = client.query_raw(&query, std::iter::empty::<i32>()).await.map_err(SqlError)?;
            let mut rows = std::pin::pin!(rows);
            let mut count = 0;
            while let Some(row) = futures::StreamExt::next(&mut rows).await {
                row.map_err(SqlError)?;
                count += 1;
            }
            Ok(count)
        })
    };
    ensure!(fetch(1)? == 600_572, "some rows are missing");
    let before = resident_bytes(service.process_id())?;
    ensure!(fetch(5)? == 5 * 600_572, "some rows are missing");
    let after = resident_bytes(service.process_id())?;
    // The larger result is half a gigabyte as text.
    ensure!(after < before + (100 << 20), "the coordinator's memory grew from {before} to {after} bytes");
    Ok(())
}

fn answers_do_not_depend_on_the_number_of_executors(bed: &Bed) -> Result<()> {
    let query = heavy_query(&bed.tpch("0.01")?.display().to_string());
    let mut answers = Vec::new();
    for executors in ["1", "2", "3"] {
        // A flag given later wins over the bed's own.
        let service = bed.own_service(Layout::Embedded, &["--executors", executors])?;
        answers.push(run(bed, &service, &["SET sluice.single_task_max_bytes = 0", &query])?);
    }
    ensure!(answers[0].len() == 5, "the query gives {:?}", answers[0]);
    ensure!(answers.iter().all(|answer| *answer == answers[0]), "the answers differ: {answers:?}");
    Ok(())
}

const KEYSPACE: &str = "faults";

/// A service with a catalog over a table of 30,000 rows that three nodes hold.
fn service_over_cassandra(bed: &Bed) -> Result<Service> {
    let cassandra = bed.cassandra()?;
    let service = bed.own_service(Layout::Embedded, &[])?;
    bed.block_on(cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {KEYSPACE}")))?;
    run(
        bed,
        &service,
        &[
            &format!(
                "CREATE CATALOG cass USING cassandra WITH (contact_points = '{}', page_size_rows = '500', \
                 consistency = 'LOCAL_QUORUM')",
                cassandra.contact_points()
            ),
            &format!("CREATE SCHEMA cass.{KEYSPACE} WITH (replication_factor = 3)"),
            &format!(
                "CREATE TABLE cass.{KEYSPACE}.numbers WITH (primary_key = '(n)') AS \
             SELECT n, n * 2 AS twice, repeat('x', 200) AS filler FROM generate_series(1, 30000) AS t(n)"
            ),
        ],
    )?;
    Ok(service)
}

const SUMS: &str = "SELECT count(*), sum(n), sum(twice), min(filler) FROM cass.faults.numbers";

fn a_cassandra_node_dies_in_mid_scan(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    if !cassandra.is_ours() {
        println!("skipped: the nodes are not ours to kill");
        return Ok(());
    }
    let service = service_over_cassandra(bed)?;
    let expected = run(bed, &service, &[SUMS])?;
    ensure!(expected[0][0].as_deref() == Some("30000"), "the table holds {expected:?}");
    let answers = std::thread::scope(|scope| {
        let running = scope.spawn(|| (0..5).map(|_| run(bed, &service, &[SUMS])).collect::<Result<Vec<_>>>());
        std::thread::sleep(Duration::from_millis(150));
        let killed = cassandra.kill_node(2);
        killed.and(running.join().map_err(|_| anyhow!("the client panicked"))?)
    });
    let again = cassandra.start_node(2);
    let answers = answers?;
    again?;
    ensure!(answers.iter().all(|answer| *answer == expected), "with a node down: {answers:?}, before: {expected:?}");
    Ok(())
}

fn every_cassandra_node_is_down(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    if !cassandra.is_ours() {
        println!("skipped: the nodes are not ours to stop");
        return Ok(());
    }
    let service = service_over_cassandra(bed)?;
    for node in 1..=3 {
        cassandra.kill_node(node)?;
    }
    let begun = Instant::now();
    let error = error_of(bed, &service, SUMS);
    let told_after = begun.elapsed();
    let other = bed.block_on(service.check_serving());
    let again = cassandra.start_all();
    let error = error?;
    ensure!(error.starts_with("08"), "with every node down: {error}");
    ensure!(
        error.contains("faults.numbers") || error.contains("127.0.1."),
        "the error does not say what failed: {error}"
    );
    ensure!(told_after < Duration::from_secs(60), "the error came after {told_after:?}");
    other?;
    again?;
    // The driver finds the nodes again by itself.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match run(bed, &service, &[SUMS]) {
            Ok(rows) => {
                ensure!(rows[0][0].as_deref() == Some("30000"), "after the nodes are back: {rows:?}");
                return Ok(());
            }
            Err(error) if Instant::now() > deadline => return Err(error.context("the nodes are back")),
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}
