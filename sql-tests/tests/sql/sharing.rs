//! Tenants that share executors, on real processes: shares, guarantees, limits, places near the data.
//!
//! Each test has a service of its own, because it fills it. Nothing is measured in seconds: what is
//! judged is who was served before whom, how many of them, and shares of the whole.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::python;
use sluice_sql_tests::runner::{SqlError, text_rows};
use sluice_sql_tests::sluice_process::{Layout, Service};
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, NoTls};

use crate::bed::{Bed, trial};
use crate::faults::{expect_error, run};

type Test = fn(&Bed) -> Result<()>;
type Rows = Vec<Vec<Option<String>>>;

/// What is waited for comes within seconds; a machine that does much else may take this long.
const PATIENCE: Duration = Duration::from_secs(120);
/// A series that nobody counts to the end of.
const ENDLESS: u64 = 1 << 50;
/// A cluster for shares: cores are many enough for shares to be fine-grained, and memory for tasks to compete for it.
const FINE: [&str; 4] = ["--vcores", "4", "--memory", "1GB"];
/// A cluster for latencies: tasks must not compete for the machine's cores behind the scheduler's back more than they
/// have to, so that what a query waits for is its turn.
const COARSE: [&str; 4] = ["--vcores", "1", "--memory", "1GB"];

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let tests: [(&str, Test); 10] = [
        ("shares_are_those_of_the_weights", shares_are_those_of_the_weights),
        ("short_queries_pass_a_flood", short_queries_pass_a_flood),
        ("scans_run_beside_their_replicas", scans_run_beside_their_replicas),
        ("a_guarantee_is_restored", a_guarantee_is_restored),
        ("a_task_has_the_memory_it_was_granted", a_task_has_the_memory_it_was_granted),
        ("a_reservation_is_kept_free", a_reservation_is_kept_free),
        ("queries_wait_for_their_turn", queries_wait_for_their_turn),
        ("a_queue_is_for_its_users", a_queue_is_for_its_users),
        ("queues_survive_a_restart", queues_survive_a_restart),
        ("system_tables_answer_in_a_flood", system_tables_answer_in_a_flood),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("sharing::{name}"), test)).collect()
}

/// A query of so many tasks on executors, each of which counts through that series. They hold no memory to speak of.
fn tasks(bed: &Bed, partitions: usize, numbers: u64) -> Result<String> {
    let data = bed.tpch("0.01")?;
    let branch = format!(
        "SELECT n FROM '{}/region.parquet' JOIN generate_series(1, {numbers}) AS t(n) ON (n + r_regionkey) % 7 = 3",
        data.display()
    );
    Ok(format!("SELECT count(*) FROM ({}) AS pairs", vec![branch; partitions].join(" UNION ALL ")))
}

/// The same query under a name by which it is found in the list of queries.
fn named(sql: &str, name: &str) -> String {
    sql.replace("AS pairs", &format!("AS {name}"))
}

/// What that query answers if the series ends at a multiple of seven: five regions have a seventh of it each.
fn answer(partitions: usize, numbers: u64) -> Rows {
    vec![vec![Some((partitions as u64 * 5 * numbers / 7).to_string())]]
}

/// A session in a queue, whose queries all run on executors.
async fn session(service: &Service, queue: &str) -> Result<Client> {
    let client = service.connect().await?;
    client.batch_execute(&format!("SET queue = '{queue}'")).await.map_err(SqlError)?;
    client.batch_execute("SET sluice.single_task_max_bytes = 0").await.map_err(SqlError)?;
    Ok(client)
}

async fn rows(client: &Client, sql: &str) -> Result<Rows, SqlError> {
    client.simple_query(sql).await.map(text_rows).map_err(SqlError)
}

/// A statement that runs while the test goes on.
struct Running {
    outcome: JoinHandle<Result<Rows, SqlError>>,
    cancel: CancelToken,
}

impl Running {
    fn start(client: Client, sql: String) -> Self {
        let cancel = client.cancel_token();
        Self { outcome: tokio::spawn(async move { rows(&client, &sql).await }), cancel }
    }

    /// The same query again and again, until one fails or answers something else than is wanted.
    fn repeat(client: Client, sql: String, wanted: Rows) -> Self {
        let cancel = client.cancel_token();
        Self { outcome: tokio::spawn(repeated(client, sql, wanted)), cancel }
    }

    fn has_ended(&self) -> bool {
        self.outcome.is_finished()
    }

    async fn end(self) -> Result<Rows> {
        Ok(tokio::time::timeout(PATIENCE, self.outcome).await.context("a query does not end")???)
    }

    /// Cancels the statement; the error that it ends with.
    async fn cancelled(self) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        // Again and again, because a request that comes between two statements does nothing.
        while !self.has_ended() {
            ensure!(Instant::now() < deadline, "a query cannot be cancelled");
            self.cancel.cancel_query(NoTls).await.map_err(SqlError)?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        match self.end().await {
            Ok(rows) => bail!("a cancelled query gave {rows:?}"),
            Err(error) => Ok(error.to_string()),
        }
    }
}

async fn repeated(client: Client, sql: String, wanted: Rows) -> Result<Rows, SqlError> {
    loop {
        let found = rows(&client, &sql).await?;
        if found != wanted {
            return Ok(found);
        }
    }
}

/// Waits until a query gives that text in its first cell.
async fn wait_for(service: &Service, sql: &str, wanted: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = service.rows(sql).await?;
        if rows.first().and_then(|row| row.first()).is_some_and(|cell| cell.as_deref() == Some(wanted)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{sql} gives {rows:?} and not {wanted} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs phases of the program that measures, as small as they are of use.
fn measure(bed: &Bed, service: &Service, phases: &[&str], more: &[&str]) -> Result<()> {
    let (port, data) = (service.pg_port.to_string(), bed.tpch("0.01")?.display().to_string());
    let mut arguments = vec![port.as_str(), "--data", &data, "--quick"];
    arguments.extend(phases.iter().flat_map(|phase| ["--phase", phase]));
    arguments.extend(more);
    let said = python::run(bed.python()?, "sharing/sharing.py", &arguments)?;
    println!("{said}");
    bed.block_on(service.check_serving())
}

fn shares_are_those_of_the_weights(bed: &Bed) -> Result<()> {
    let service = bed.own_cluster(&[], &FINE)?;
    measure(bed, &service, &["first", "shares", "dominant", "alone"], &[])
}

fn short_queries_pass_a_flood(bed: &Bed) -> Result<()> {
    let figures = bed.scratch("sharing")?.join("drf.json").display().to_string();
    let fair = bed.own_cluster(&[], &COARSE)?;
    measure(bed, &fair, &["latency"], &["--output", &figures])?;
    drop(fair);
    // First come, first served is what the figures are worth something beside.
    let fifo = bed.own_cluster(&["--scheduler-policy", "fifo"], &COARSE)?;
    measure(bed, &fifo, &["latency"], &["--policy", "fifo", "--beside", &figures])
}

/// How many partitions of the scan under that name ran on a replica, and how many ran.
fn placed(bed: &Bed, service: &Service, marker: &str) -> Result<(u64, u64)> {
    // The first stage scans; what comes after it reads shuffle files.
    let sql = format!(
        "SELECT coalesce(sum(CASE WHEN t.locality = 'host' THEN t.partition_count END), 0), sum(t.partition_count) \
         FROM system.tasks t JOIN system.queries q ON t.query_id = q.query_id \
         WHERE q.sql LIKE '%AS {marker}' AND t.stage_id = 1 AND t.state = 'successful'"
    );
    let rows = run(bed, service, &[&sql])?;
    let count = |index: usize| -> Result<u64> {
        Ok(rows[0][index].as_deref().with_context(|| format!("no task of {marker} is known"))?.parse()?)
    };
    Ok((count(0)?, count(1)?))
}

fn scans_run_beside_their_replicas(bed: &Bed) -> Result<()> {
    const ROWS: u64 = 30_000;
    const SCANS: usize = 5;
    const SHORT: u64 = 1_400_000;
    let cassandra = bed.cassandra()?;
    if !cassandra.is_ours() {
        println!("skipped: the nodes may have other addresses than the executors");
        return Ok(());
    }
    // Executor I registers with the address of node I.
    let service = bed.own_cluster(&[], &COARSE)?;
    bed.block_on(cassandra.cql("DROP KEYSPACE IF EXISTS sharing"))?;
    run(
        bed,
        &service,
        &[
            &format!("CREATE CATALOG cass USING cassandra WITH (contact_points = '{}')", cassandra.contact_points()),
            // A row has one replica, so that there is one good place for each split.
            "CREATE SCHEMA cass.sharing WITH (replication_factor = 1)",
            &format!(
                "CREATE TABLE cass.sharing.numbers WITH (primary_key = '(n)') AS \
                 SELECT n, repeat('x', 200) AS filler FROM generate_series(1, {ROWS}) AS t(n)"
            ),
            "CREATE QUEUE a",
            "CREATE QUEUE b",
        ],
    )?;
    let scans = |marker: &str| -> Result<(u64, u64)> {
        let (mut beside, mut all) = (0, 0);
        for scan in 0..SCANS {
            let marker = format!("scan_{scan}_{marker}");
            let sql = format!("SELECT count(*), sum(n), min(filler) FROM cass.sharing.numbers AS {marker}");
            let found = bed.block_on(async {
                let client = session(&service, "b").await?;
                // Several splits a node, more than there are cores: some have to wait for theirs.
                rows(&client, "SET sluice.target_partitions = 12").await?;
                anyhow::Ok(rows(&client, &sql).await?)
            })?;
            let wanted = [ROWS.to_string(), (ROWS * (ROWS + 1) / 2).to_string(), "x".repeat(200)];
            ensure!(found == [wanted.map(Some)], "the scan {marker} answers {found:?}");
            let (host, partitions) = placed(bed, &service, &marker)?;
            (beside, all) = (beside + host, all + partitions);
        }
        Ok((beside, all))
    };
    let idle = scans("idle")?;
    // A flood of tasks that are short beside the wait for a place, as those of a heavy query are.
    let flood = bed.block_on(async {
        let mut flood = Vec::new();
        for _ in 0..20 {
            flood.push(Running::repeat(session(&service, "a").await?, tasks(bed, 4, SHORT)?, answer(4, SHORT)));
        }
        wait_for(&service, "SELECT pending_partitions > 0 FROM system.queues WHERE queue = 'root.a'", "t").await?;
        anyhow::Ok(flood)
    })?;
    let busy = scans("busy")?;
    bed.block_on(async {
        for query in flood {
            ensure!(!query.has_ended(), "the flood was over before the scans were");
            query.cancelled().await?;
        }
        Ok(())
    })?;
    println!("beside a replica: {} of {} partitions idle, {} of {} busy", idle.0, idle.1, busy.0, busy.1);
    for ((beside, all), when) in [(idle, "idle"), (busy, "busy")] {
        // How many splits there are depends on where the nodes' tokens fell.
        ensure!(all >= 6 * SCANS as u64, "{all} partitions are too few to tell anything");
        ensure!(beside * 10 >= all * 9, "{when}, {beside} of {all} partitions ran beside a replica");
    }
    bed.block_on(service.check_serving())
}

fn a_guarantee_is_restored(bed: &Bed) -> Result<()> {
    // Seconds on three cores; longer than the patience below, and than a query of one short task takes.
    const LONG: u64 = 7 * 60_000_000;
    let config = bed.scratch("guarantee")?.join("sluice.toml");
    fs::write(&config, "[scheduler]\nrestore_after_ms = 2000\n")?;
    let service = bed.own_cluster(&["--config", &config.display().to_string()], &COARSE)?;
    run(bed, &service, &["CREATE QUEUE a", "CREATE QUEUE g WITH (guarantee_cpu = 1)"])?;
    bed.block_on(async {
        let long = Running::start(session(&service, "a").await?, tasks(bed, 3, LONG)?);
        wait_for(&service, "SELECT running_partitions FROM system.queues WHERE queue = 'root.a'", "3").await?;
        let guaranteed = session(&service, "g").await?;
        ensure!(rows(&guaranteed, &tasks(bed, 1, 7)?).await? == answer(1, 7), "the guaranteed query is wrong");
        ensure!(!long.has_ended(), "the guaranteed query only ran when the others' tasks had ended");
        let stopped = service.rows("SELECT count(*) FROM system.tasks WHERE state = 'failed'").await?;
        ensure!(stopped == [[Some("1".to_owned())]], "one task had to make room, and {stopped:?} did");
        let found = long.end().await?;
        ensure!(found == answer(3, LONG), "with a task revoked and run again, the answer is {found:?}");
        wait_for(&service, "SELECT sum(used_cpu) FROM system.queues", "0").await
    })
}

fn a_task_has_the_memory_it_was_granted(bed: &Bed) -> Result<()> {
    const SHORT: u64 = 700_000;
    let service = bed.own_cluster(&[], &["--vcores", "2", "--memory", "512MB"])?;
    let data = bed.tpch("0.1")?.display().to_string();
    // The inputs of this join must be held, and one that only fits a large grant must not take it from others.
    let held = format!(
        "SELECT count(*), sum(length(b.l_comment)) FROM '{data}/lineitem.parquet' a JOIN '{data}/lineitem.parquet' b \
         ON a.l_orderkey = b.l_orderkey AND a.l_linenumber = b.l_linenumber AND a.l_comment = b.l_comment"
    );
    // What is sorted can be written to disk.
    let sorted = format!(
        "SELECT sum(n * l_linenumber % 1000) FROM (SELECT l_linenumber, \
         row_number() OVER (PARTITION BY l_linenumber % 2 ORDER BY l_comment, l_orderkey, l_linenumber) AS n \
         FROM '{data}/lineitem.parquet') AS numbered"
    );
    bed.block_on(async {
        // Somebody else, who is not to notice anything.
        let mut others = Vec::new();
        for _ in 0..2 {
            others.push(Running::repeat(session(&service, "default").await?, tasks(bed, 2, SHORT)?, answer(2, SHORT)));
        }
        let client = session(&service, "default").await?;
        let with = |memory: &str, sql: &str| {
            let (set, sql) = (format!("SET sluice.task_memory = '{memory}'"), sql.to_owned());
            let client = &client;
            async move {
                rows(client, &set).await?;
                rows(client, &sql).await
            }
        };
        let (roomy, tight) = ("150MB", "32MB");
        let expected = with(roomy, &held).await?;
        ensure!(expected[0][0].as_deref() == Some("600572"), "the join gives {expected:?}");
        match with("1MB", &held).await {
            Ok(found) => bail!("a join of far more than its grant gave {found:?}"),
            Err(error) => ensure!(error.to_string().starts_with("53200"), "memory that was too little: {error}"),
        }
        ensure!(with(tight, &sorted).await? == with(roomy, &sorted).await?, "a sort that spills gives something else");
        let granted = "SELECT max(memory_bytes / cpu) <= 150 * 1024 * 1024 FROM system.tasks";
        ensure!(service.rows(granted).await? == [[Some("t".to_owned())]], "a task was granted more than was said");
        for other in others {
            if other.has_ended() {
                bail!("a query of somebody else went wrong: {:?}", other.end().await);
            }
            other.cancelled().await?;
        }
        service.wait_for_executors(Layout::EXECUTOR_COUNT).await?;
        service.check_serving().await
    })
}

fn a_reservation_is_kept_free(bed: &Bed) -> Result<()> {
    let service = bed.own_cluster(&[], &COARSE)?;
    run(bed, &service, &["CREATE QUEUE a", "CREATE QUEUE b", "RESERVE (cpu = 1) ON HOST '127.0.1.2' FOR QUEUE b"])?;
    bed.block_on(async {
        // More than there is room for, for ever: whoever waits for these would never run.
        let endless = Running::start(session(&service, "a").await?, tasks(bed, 6, ENDLESS)?);
        wait_for(&service, "SELECT running_partitions FROM system.queues WHERE queue = 'root.a'", "2").await?;
        let found = rows(&session(&service, "b").await?, &named(&tasks(bed, 2, 7)?, "reserved")).await?;
        ensure!(found == answer(2, 7), "on its reservation the query answers {found:?}");
        let hosts = "SELECT DISTINCT e.host FROM system.tasks t JOIN system.queries q ON t.query_id = q.query_id \
                     JOIN system.executors e ON t.executor_id = e.executor_id WHERE q.sql LIKE '%AS reserved'";
        let hosts = service.rows(hosts).await?;
        ensure!(hosts == [[Some("127.0.1.2".to_owned())]], "the query ran on {hosts:?}");
        service.rows("UNRESERVE ON HOST '127.0.1.2' FOR QUEUE b").await?;
        wait_for(&service, "SELECT running_partitions FROM system.queues WHERE queue = 'root.a'", "3").await?;
        endless.cancelled().await?;
        Ok(())
    })
}

fn queries_wait_for_their_turn(bed: &Bed) -> Result<()> {
    for layout in Layout::ALL {
        let service = bed.own_service(layout, &[])?;
        run(bed, &service, &["CREATE QUEUE narrow WITH (max_running = 1, max_queued = 1)"])?;
        let short = tasks(bed, 1, 7)?;
        let counts = "SELECT running_queries || ' running, ' || queued_queries || ' queued' \
                      FROM system.queues WHERE queue = 'root.narrow'";
        bed.block_on(async {
            let endless = async || -> Result<Running> {
                Ok(Running::start(session(&service, "narrow").await?, tasks(bed, 1, ENDLESS)?))
            };
            let waiting = async || -> Result<Running> {
                let waiting = Running::start(session(&service, "narrow").await?, named(&short, "waits"));
                wait_for(&service, counts, "1 running, 1 queued").await?;
                Ok(waiting)
            };
            let running = endless().await?;
            wait_for(&service, counts, "1 running, 0 queued").await?;
            let waits = waiting().await?;
            let state = "SELECT state FROM system.queries WHERE sql LIKE '%AS waits' AND queue = 'root.narrow'";
            ensure!(service.rows(state).await? == [[Some("queued".to_owned())]], "the one that waits is not queued");

            // One too many is refused at once, although nothing ends here; looking around needs no place.
            let third = session(&service, "narrow").await?;
            let error = rows(&third, &short).await.err().context("one too many was let in")?.to_string();
            ensure!(error.starts_with("53300") && error.contains("max_queued"), "one too many: {error}");
            ensure!(
                !rows(&third, "SELECT * FROM system.queues").await?.is_empty(),
                "nothing can be seen in a full queue"
            );

            // Who is cancelled while it waits leaves its place in the line to others.
            let error = waits.cancelled().await?;
            ensure!(error.starts_with("57014"), "a cancelled query that waited: {error}");
            wait_for(&service, counts, "1 running, 0 queued").await?;
            let waits = waiting().await?;

            let error = service.rows("DROP QUEUE narrow").await.err().context("a queue in use was dropped")?;
            let state = error.downcast_ref::<tokio_postgres::Error>().and_then(|error| error.code());
            ensure!(state.is_some_and(|state| state.code() == "55006"), "a queue in use: {error:#}");

            // When the one that runs has ended, the next is in.
            running.cancelled().await?;
            ensure!(waits.end().await? == answer(1, 7), "the query that waited is wrong");

            // A client that goes away, as when its process is killed, leaves its place, too.
            let parameters = format!("host=127.0.0.1 port={} user=sluice dbname=sluice", service.pg_port);
            let (gone, connection) = tokio_postgres::connect(&parameters, NoTls).await?;
            let connection = tokio::spawn(connection);
            rows(&gone, "SET queue = 'narrow'").await?;
            rows(&gone, "SET sluice.single_task_max_bytes = 0").await?;
            let running = Running::start(gone, tasks(bed, 1, ENDLESS)?);
            wait_for(&service, counts, "1 running, 0 queued").await?;
            connection.abort();
            wait_for(&service, counts, "0 running, 0 queued").await?;
            ensure!(running.end().await.is_err(), "a query whose connection is cut has an answer");

            service.rows("ALTER QUEUE narrow SET (queue_timeout = '500ms')").await?;
            let running = endless().await?;
            wait_for(&service, counts, "1 running, 0 queued").await?;
            let error = rows(&third, &short).await.err().context("nobody left, and it was let in")?.to_string();
            ensure!(error.starts_with("53300") && error.contains("waited"), "one that waited too long: {error}");
            running.cancelled().await?;
            wait_for(&service, counts, "0 running, 0 queued").await?;
            service.rows("DROP QUEUE narrow").await?;
            service.check_serving().await
        })?;
    }
    Ok(())
}

fn a_queue_is_for_its_users(bed: &Bed) -> Result<()> {
    let service = bed.own_service(Layout::Embedded, &[])?;
    run(bed, &service, &["CREATE QUEUE ours WITH (users = 'ann, bob')"])?;
    expect_error(bed, &service, "SET queue = 'ours'", &["42501", "\"sluice\"", "root.ours", "hint: "])?;
    bed.block_on(async {
        for (user, queue) in [("ann", "root.ours"), ("bob", "root.ours"), ("carl", "root.default")] {
            let client = service.connect_as(user).await?;
            let found = rows(&client, "SHOW queue").await?;
            ensure!(found == [[Some(queue.to_owned())]], "the session of {user} begins in {found:?}");
            rows(&client, "SET queue = 'default'").await?;
        }
        let carl = service.connect_as("carl").await?;
        ensure!(rows(&carl, "SET queue = 'ours'").await.is_err(), "carl is no user of the queue");
        service.rows("ALTER QUEUE ours SET (users = 'carl')").await?;
        rows(&carl, "SET queue = 'ours'").await?;
        let sum = rows(&carl, "SELECT sum(n) FROM generate_series(1, 10) AS of_carl(n)").await?;
        ensure!(sum == [[Some("55".to_owned())]], "the sum is {sum:?}");
        let queue = service.rows("SELECT queue FROM system.queries WHERE sql LIKE '%AS of_carl(n)'").await?;
        ensure!(queue == [[Some("root.ours".to_owned())]], "the query ran in {queue:?}");
        Ok(())
    })
}

fn queues_survive_a_restart(bed: &Bed) -> Result<()> {
    let mut service = bed.own_service(Layout::Embedded, &[])?;
    run(
        bed,
        &service,
        &[
            "CREATE QUEUE kept WITH (weight = 3, guarantee_cpu = 0.5, limit_memory = '3GB', users = 'ann')",
            "CREATE QUEUE team",
            "CREATE QUEUE team.night WITH (max_queued = 7, queue_timeout = '30s')",
            "CREATE QUEUE gone",
            "ALTER QUEUE kept SET (weight = 5)",
            "DROP QUEUE gone",
            "RESERVE (cpu = 1) ON HOST '127.0.0.1' FOR QUEUE kept",
        ],
    )?;
    let definitions = [
        "SELECT queue, parent, weight, guarantee_cpu, limit_memory_bytes, max_queued, queue_timeout_ms, users \
         FROM system.queues ORDER BY queue",
        "SELECT DISTINCT reserved FROM system.executors",
    ];
    let defined =
        |service: &Service| definitions.iter().map(|sql| run(bed, service, &[sql])).collect::<Result<Vec<_>>>();
    let before = defined(&service)?;
    let words = format!("{before:?}");
    for wanted in ["root.kept", "\"5\"", "root.team.night", "root.kept: cpu=1000"] {
        ensure!(words.contains(wanted), "{wanted} is not in what was defined: {words}");
    }
    ensure!(!words.contains("gone"), "a dropped queue is there: {words}");
    bed.block_on(service.restart())?;
    let after = defined(&service)?;
    ensure!(after == before, "after a restart: {after:?}, before: {before:?}");
    bed.block_on(async {
        let queue = rows(&service.connect_as("ann").await?, "SHOW queue").await?;
        ensure!(queue == [[Some("root.kept".to_owned())]], "after a restart, ann begins in {queue:?}");
        service.check_serving().await
    })
}

fn system_tables_answer_in_a_flood(bed: &Bed) -> Result<()> {
    const CLIENTS: usize = 40;
    let service = bed.own_cluster(&[], &COARSE)?;
    run(bed, &service, &["CREATE QUEUE a"])?;
    bed.block_on(async {
        let mut flood = Vec::new();
        for _ in 0..CLIENTS {
            flood.push(Running::start(session(&service, "a").await?, tasks(bed, 4, ENDLESS)?));
        }
        let running = "SELECT running_queries FROM system.queues WHERE queue = 'root.a'";
        wait_for(&service, running, &CLIENTS.to_string()).await?;
        wait_for(&service, "SELECT sum(free_vcores) FROM system.executors", "0").await?;
        let client = service.connect().await?;
        rows(&client, "SET statement_timeout = '30s'").await?;
        for table in ["executors", "offers", "queries", "queues", "tasks"] {
            let found = rows(&client, &format!("SELECT * FROM system.{table}")).await?;
            ensure!(!found.is_empty(), "system.{table} is empty while everything runs");
        }
        ensure!(rows(&client, "SHOW QUEUES").await?.len() >= 3, "some queues are missing");
        ensure!(flood.iter().all(|query| !query.has_ended()), "the tables were read when the flood was over");
        for query in flood {
            let error = query.cancelled().await?;
            ensure!(error.starts_with("57014"), "a query of the flood ended with {error}");
        }
        // What was cancelled holds nothing any more.
        wait_for(&service, "SELECT sum(used_cpu) + sum(pending_partitions) FROM system.queues", "0").await?;
        wait_for(&service, "SELECT sum(free_vcores) FROM system.executors", "3").await?;
        service.check_serving().await
    })
}
