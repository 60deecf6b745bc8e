//! What Prometheus gets: every line of it, what moves when queries run, and who may scrape.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};

/// `sluice:secret`, `ann:ann-secret`, `bob:bob-secret` as HTTP's Basic writes them.
const ROOT: &str = "c2x1aWNlOnNlY3JldA==";
const ANN: &str = "YW5uOmFubi1zZWNyZXQ=";
const BOB: &str = "Ym9iOmJvYi1zZWNyZXQ=";

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Layout::ALL
        .into_iter()
        .map(|layout| {
            let name = format!("metrics::counters_move::{}", layout.name());
            trial(bed, name, move |bed| counters_move(bed, layout))
        })
        .collect();
    trials.push(trial(bed, "metrics::monitors_may_scrape".to_owned(), monitors_may_scrape));
    trials
}

/// What the service answers to a scrape, head and body.
fn scrape(service: &Service, basic: Option<&str>) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", service.http_port))?;
    let login = basic.map(|basic| format!("Authorization: Basic {basic}\r\n")).unwrap_or_default();
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n{login}Connection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// The samples of an exposition by name and labels, each line looked at.
fn samples(text: &str) -> Result<BTreeMap<String, f64>> {
    let mut samples = BTreeMap::new();
    let mut families = HashSet::new();
    let mut lines = text.lines();
    ensure!(lines.next_back() == Some("# EOF"), "the end is missing:\n{text}");
    for line in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next(), words.next(), words.next());
            let known = match (kind, rest) {
                (Some("TYPE"), Some(of)) => ["counter", "gauge", "histogram", "info"].contains(&of),
                (Some("HELP" | "UNIT"), Some(text)) => !text.is_empty(),
                _ => false,
            };
            ensure!(known, "no comment of OpenMetrics: {line}");
            families.insert(name.context("a comment without a name")?.to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
        let name = series.split('{').next().unwrap_or_default();
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        ensure!(is_name(name), "no name of Prometheus: {line}");
        let of_family = ["_total", "_bucket", "_sum", "_count", "_info", ""].iter().any(|suffix| {
            let family = name.strip_suffix(suffix);
            family.is_some_and(|family| families.contains(family))
        });
        ensure!(of_family, "nothing tells what {name} is");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let inner = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            for label in inner.with_context(|| format!("no labels: {line}"))?.split(',') {
                let value = label.split_once('=').and_then(|(_, value)| value.strip_prefix('"')?.strip_suffix('"'));
                ensure!(value.is_some(), "no label: {line}");
            }
        }
        let value = value.parse().with_context(|| format!("no number: {line}"))?;
        ensure!(samples.insert(series.to_owned(), value).is_none(), "twice the same: {line}");
    }
    Ok(samples)
}

/// The sum of the series whose text begins and continues so.
fn sum(samples: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let of_it = samples.iter().filter(|(series, _)| {
        series
            .strip_prefix(name)
            .is_some_and(|labels| (labels.is_empty() || labels.starts_with('{')) && labels.contains(label))
    });
    of_it.map(|(_, value)| value).sum()
}

fn counters_move(bed: &Bed, layout: Layout) -> Result<()> {
    let service = bed.own_service(layout, &[])?;
    let look = || -> Result<BTreeMap<String, f64>> {
        let (head, body) = scrape(&service, None)?;
        ensure!(head.contains("200 OK") && head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
        ensure!(!body.contains("secret word"), "a user's text is in the metrics");
        samples(&body)
    };
    let before = look()?;
    bed.block_on(async {
        let client = service.connect().await?;
        client.simple_query("CREATE QUEUE watched; SET queue = watched").await?;
        client.simple_query("SELECT value, 'secret word' FROM generate_series(1, 1000) AS t(value)").await?;
        for (sql, wanted) in [
            ("SELECT * FROM no_such_table", "42P01"),
            ("SELECT 1 / (value - 1) FROM generate_series(1, 3) AS t(value)", "22012"),
        ] {
            let error = client.simple_query(sql).await.err().context("it runs")?;
            ensure!(error.code().is_some_and(|code| code.code() == wanted), "{sql} gives {error}");
        }
        client.simple_query("SET sluice.single_task_max_bytes = 0").await?;
        client.simple_query("SELECT value % 7, count(*) FROM generate_series(1, 1000) AS t(value) GROUP BY 1").await?;
        let slow = client.cancel_token();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            slow.cancel_query(tokio_postgres::NoTls).await
        });
        ensure!(client.simple_query("SELECT pg_sleep(60)").await.is_err(), "it is not cancelled");
        let during = look()?;
        ensure!(sum(&during, "sluice_sessions", "postgresql") >= 1.0, "no session is open");
        anyhow::Ok(())
    })?;
    let after = look()?;
    let moved = |name: &str, label: &str| sum(&after, name, label) - sum(&before, name, label);
    for (name, label, least) in [
        ("sluice_queries_total", "state=\"finished\"", 4.0),
        ("sluice_queries_total", "queue=\"root.watched\"", 2.0),
        ("sluice_queries_total", "state=\"failed\"", 1.0),
        ("sluice_queries_total", "state=\"cancelled\"", 1.0),
        ("sluice_query_duration_seconds_count", "root.watched", 2.0),
        ("sluice_query_duration_seconds_bucket", "le=\"+Inf\"", 6.0),
        ("sluice_returned_rows_total", "", 1_007.0),
        ("sluice_returned_bytes_total", "", 8_000.0),
        ("sluice_errors_total", "class=\"42\"", 1.0),
        ("sluice_errors_total", "class=\"22\"", 1.0),
        ("sluice_errors_total", "class=\"57\"", 1.0),
        ("sluice_sessions_opened_total", "postgresql", 1.0),
    ] {
        ensure!(moved(name, label) >= least, "{name} {label} moved by {}, not by {least}", moved(name, label));
    }
    for (name, label, value) in [
        ("sluice_executors", "", Layout::EXECUTOR_COUNT as f64),
        ("sluice_executor_vcores", "", Layout::EXECUTOR_COUNT as f64),
        ("sluice_queue_running_queries", "root.watched", 0.0),
        ("sluice_queue_waiting_queries", "root.watched", 0.0),
        ("sluice_failed_logins_total", "", 0.0),
        ("sluice_build_info", "version", 1.0),
    ] {
        ensure!(sum(&after, name, label) == value, "{name} {label} is {}, not {value}", sum(&after, name, label));
    }
    for name in ["sluice_executor_memory_bytes", "process_resident_memory_bytes", "process_open_fds"] {
        ensure!(sum(&after, name, "") > 0.0, "{name} is not told");
    }
    Ok(())
}

fn monitors_may_scrape(bed: &Bed) -> Result<()> {
    let service = bed.own_service_with_password(Layout::Embedded, "secret")?;
    bed.block_on(async {
        let root = service.connect().await?;
        root.simple_query(
            "CREATE USER ann PASSWORD 'ann-secret'; CREATE USER bob PASSWORD 'bob-secret'; GRANT pg_monitor TO ann",
        )
        .await?;
        ensure!(service.log_in("ann", Some("wrong")).await.is_err(), "a wrong password lets in");
        anyhow::Ok(())
    })?;
    for (basic, wanted) in [(None, " 401 "), (Some(BOB), " 403 "), (Some(ROOT), " 200 "), (Some(ANN), " 200 ")] {
        let (head, body) = scrape(&service, basic)?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(wanted), "a scrape as {basic:?} gives {status}");
        match wanted {
            " 200 " => {
                let failed = sum(&samples(&body)?, "sluice_failed_logins_total", "");
                ensure!(failed == 1.0, "{failed} failed logins");
            }
            _ if body.contains("sluice_") => bail!("who may not scrape is told {body}"),
            _ => {}
        }
    }
    Ok(())
}
