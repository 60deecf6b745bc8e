//! Real clients against both layouts: psql, psycopg, asyncpg, SQLAlchemy, node-postgres, pgx, two JDBC drivers, ADBC's
//! Flight SQL driver from Python and Go, `sluice sql`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};
use sluice_sql_tests::{go, java, node, python};

use crate::bed::{Bed, trial};

type Check = fn(&Bed, &Service) -> Result<()>;

const CHECKS: [(&str, Check); 18] = [
    ("psycopg", psycopg),
    ("asyncpg", asyncpg),
    ("sqlalchemy", sqlalchemy),
    ("node_postgres", node_postgres),
    ("pgx", pgx),
    ("jdbc_postgresql", jdbc_postgresql),
    ("jdbc_flight_sql", jdbc_flight_sql),
    ("adbc_flight_sql", adbc_flight_sql),
    ("adbc_in_go", adbc_in_go),
    ("adbc_ingest", adbc_ingest),
    ("pyarrow_flight", pyarrow_flight),
    ("psql_runs_statements", psql_runs_statements),
    ("psql_describes", psql_describes),
    ("psql_shows_where_an_error_is", psql_shows_where_an_error_is),
    ("psql_is_cancelled_by_ctrl_c", psql_is_cancelled_by_ctrl_c),
    ("psql_shows_progress", psql_shows_progress),
    ("sluice_sql", sluice_sql),
    ("web_page", web_page),
];

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for layout in Layout::ALL {
        for (name, check) in CHECKS {
            trials.push(trial(bed, format!("{}::client::{name}", layout.name()), move |bed| {
                let service = bed.service(layout)?;
                check(bed, &service)
            }));
        }
    }
    trials
}

/// What the web server answers to a GET, head and body.
fn get(service: &Service, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", service.http_port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn web_page(bed: &Bed, service: &Service) -> Result<()> {
    expect(
        &get(service, "/")?,
        &["200 OK", "<title>Sluice</title>", "Content-Security-Policy".to_lowercase().as_str()],
    )?;
    expect(&get(service, "/ready")?, &["200 OK", "ready"])?;
    bed.block_on(service.rows("SELECT 'seen on the page'"))?;
    expect(&get(service, "/api/queries")?, &["200 OK", "seen on the page", "finished"])?;
    expect(&get(service, "/api/executors")?, &["200 OK", "executor_id"])?;
    expect(&get(service, "/api/queries/none/stages")?, &["404"])
}

fn psycopg(bed: &Bed, service: &Service) -> Result<()> {
    python::run(bed.python()?, "clients/psycopg_client.py", &[&service.pg_port.to_string()]).map(|_| ())
}

fn asyncpg(bed: &Bed, service: &Service) -> Result<()> {
    python::run(bed.python()?, "clients/asyncpg_client.py", &[&service.pg_port.to_string()]).map(|_| ())
}

fn sqlalchemy(bed: &Bed, service: &Service) -> Result<()> {
    python::run(bed.python()?, "clients/sqlalchemy_client.py", &[&service.pg_port.to_string()]).map(|_| ())
}

fn node_postgres(_: &Bed, service: &Service) -> Result<()> {
    node::run_client(service.pg_port)
}

fn pgx(_: &Bed, service: &Service) -> Result<()> {
    go::run_client("pgx", service.pg_port)
}

fn jdbc_postgresql(_: &Bed, service: &Service) -> Result<()> {
    java::run_jdbc_client("postgresql", service.pg_port)
}

fn jdbc_flight_sql(_: &Bed, service: &Service) -> Result<()> {
    java::run_jdbc_client("flight", service.flight_port)
}

fn adbc_flight_sql(bed: &Bed, service: &Service) -> Result<()> {
    python::run(bed.python()?, "clients/adbc_client.py", &[&service.flight_port.to_string()]).map(|_| ())
}

fn adbc_in_go(_: &Bed, service: &Service) -> Result<()> {
    go::run_client("adbc", service.flight_port)
}

fn adbc_ingest(bed: &Bed, service: &Service) -> Result<()> {
    let (cassandra, keyspace) = (bed.cassandra()?, format!("ingest_{}", service.layout().name()));
    let statements = [
        format!("CREATE CATALOG ingest USING cassandra WITH (contact_points = '{}')", cassandra.contact_points()),
        format!("DROP SCHEMA IF EXISTS ingest.{keyspace} CASCADE"),
        format!("CREATE SCHEMA ingest.{keyspace} WITH (replication_factor = 1)"),
    ];
    statements.iter().try_for_each(|sql| bed.block_on(service.rows(sql)).map(|_| ()))?;
    let port = service.flight_port.to_string();
    let passed = python::run(bed.python()?, "clients/adbc_ingest_client.py", &[&port, "ingest", &keyspace]);
    bed.block_on(service.rows("DROP CATALOG ingest"))?;
    passed.map(|_| ())
}

fn pyarrow_flight(bed: &Bed, service: &Service) -> Result<()> {
    python::run(bed.python()?, "clients/flight_client.py", &[&service.flight_port.to_string()]).map(|_| ())
}

fn psql_command(service: &Service) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["-X", "-h", "127.0.0.1", "-U", "sluice", "-d", "sluice", "-p", &service.pg_port.to_string()])
        .stdin(Stdio::null());
    command
}

/// What psql prints, errors included.
fn psql(service: &Service, arguments: &[&str]) -> Result<String> {
    let output = psql_command(service).args(arguments).output().context("running psql")?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn expect(text: &str, wanted: &[&str]) -> Result<()> {
    for part in wanted {
        ensure!(text.contains(part), "{part:?} is not in what psql printed:\n{text}");
    }
    Ok(())
}

fn psql_runs_statements(_: &Bed, service: &Service) -> Result<()> {
    let text = psql(service, &["-c", "SELECT 1 AS one, 'a' AS letter, NULL AS nothing"])?;
    expect(&text, &[" one | letter | nothing", "   1 | a      | ", "(1 row)"])?;
    let text = psql(service, &["-c", "\\timing on", "-c", "SELECT count(*) FROM generate_series(1, 100000)"])?;
    expect(&text, &["Timing is on.", "100000", "Time: "])?;
    let text = psql(service, &["-At", "-c", "BEGIN; SELECT 1; COMMIT; SELECT 2"])?;
    expect(&text, &["BEGIN\n1\nCOMMIT\n2\n"])?;
    let text = psql(service, &["-c", "SET timezone = 'Asia/Tokyo'; SHOW timezone"])?;
    expect(&text, &["Asia/Tokyo"])
}

fn psql_describes(_: &Bed, service: &Service) -> Result<()> {
    let schema = "psql_describes";
    psql(service, &["-c", &format!("CREATE SCHEMA IF NOT EXISTS {schema}")])?;
    psql(
        service,
        &[
            "-c",
            &format!(
                "CREATE VIEW {schema}.people AS SELECT 1::bigint AS id, 'x' AS name, 1.5::decimal(10, 2) AS height, now() AS born"
            ),
        ],
    )?;
    expect(&psql(service, &["-c", "\\l"])?, &["List of databases", "sluice", "UTF8"])?;
    expect(&psql(service, &["-c", &format!("\\dn {schema}")])?, &["List of schemas", schema])?;
    expect(&psql(service, &["-c", &format!("\\dv {schema}.*")])?, &["people", "view"])?;
    expect(&psql(service, &["-c", "\\dt system.*"])?, &["executors", "table"])?;
    let text = psql(service, &["-c", &format!("\\d {schema}.people")])?;
    expect(
        &text,
        &[
            &format!("View \"{schema}.people\""),
            "id",
            "bigint",
            "name",
            "text",
            "height",
            "numeric(10,2)",
            "born",
            "timestamp with time zone",
        ],
    )?;
    expect(&psql(service, &["-c", "\\d no_such_table"])?, &["Did not find any relation named \"no_such_table\"."])?;
    expect(&psql(service, &["-c", "\\du"])?, &["List of roles", "sluice"])?;
    expect(&psql(service, &["-c", "\\conninfo"])?, &["You are connected to database \"sluice\""])
}

fn psql_shows_where_an_error_is(_: &Bed, service: &Service) -> Result<()> {
    let text = psql(service, &["-v", "VERBOSITY=verbose", "-c", "SELECT * FROM system.querie"])?;
    expect(&text, &["ERROR:  42P01:", "system.querie", "HINT:", "queries"])?;
    let text = psql(service, &["-c", "SELECT 1 +\nFROM x"])?;
    expect(&text, &["ERROR:", "LINE 2: FROM x", "^"])?;
    let text = psql(service, &["-c", "SELECT 1,\n  nosuch\nFROM system.queries"])?;
    expect(&text, &["ERROR:", "LINE 2:   nosuch", "^"])
}

/// Longer than any test takes, and with tasks that have work all the time.
pub const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y) \
                       WHERE (x * 7919 + y) % 1000003 = 1";

fn psql_is_cancelled_by_ctrl_c(bed: &Bed, service: &Service) -> Result<()> {
    let child = psql_command(service)
        .args(["-c", ENDLESS])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running psql")?;
    let running =
        format!("SELECT count(*) FROM system.queries WHERE state = 'running' AND sql LIKE '{}%'", &ENDLESS[..40]);
    let count = || bed.block_on(service.rows(&running));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while count()? == [[Some("0".to_owned())]] {
        ensure!(std::time::Instant::now() < deadline, "the query never began");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(errors.contains("canceling statement due to user request"), "psql said {errors}");
    while count()? != [[Some("0".to_owned())]] {
        ensure!(std::time::Instant::now() < deadline, "the query goes on after its cancellation");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    bed.block_on(service.check_serving())
}

fn psql_shows_progress(_: &Bed, service: &Service) -> Result<()> {
    let timeout = "SET statement_timeout = '9s'";
    let text = psql(service, &["-c", timeout, "-c", "SET progress = on", "-c", ENDLESS])?;
    expect(&text, &["NOTICE:  progress: ", "canceling statement due to statement timeout"])
}

fn sluice_sql(bed: &Bed, service: &Service) -> Result<()> {
    let port = service.pg_port.to_string();
    let run = |arguments: &[&str]| {
        Command::new(bed.binary()).args(["sql", "--port", &port]).args(arguments).output().context("running sluice sql")
    };
    let output = run(&["-c", "SELECT 1 AS one, 'a' AS letter"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && text.contains("one") && text.contains("letter"), "sluice sql printed {text}");
    let output = run(&["--format", "csv", "-c", "SELECT 1 AS one, 'a,b' AS letter"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text == "one,letter\n1,\"a,b\"\n", "as CSV it printed {text:?}");
    let output = run(&["-c", "SELECT * FROM no_such_table"])?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && errors.contains("no_such_table"), "for an error it printed {errors:?}");
    Ok(())
}
