//! Copies that are killed in the middle, nodes that die under them, and files that were changed.
//!
//! Each test has a service of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::sluice_process::{Layout, Service};

use crate::bed::{Bed, trial};
use crate::faults::{error_of, expect_error, run};

type Test = fn(&Bed) -> Result<()>;

/// Rows of the table that is copied.
const ROWS: u64 = 30_000;
/// Files that it is copied to: enough that a kill finds some done and some not.
const FILES: usize = 300;

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let tests: [(&str, Test); 5] = [
        ("a_killed_backup_goes_on", a_killed_backup_goes_on),
        ("a_killed_restore_goes_on", a_killed_restore_goes_on),
        ("a_lost_executor_leaves_a_whole_backup", a_lost_executor_leaves_a_whole_backup),
        ("a_node_dies_under_backup_and_restore", a_node_dies_under_backup_and_restore),
        ("changed_files_are_refused", changed_files_are_refused),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("transfer::{name}"), test)).collect()
}

/// A service with a catalog `cass`, and a keyspace with a table `numbers` that three nodes hold, and `empty` like it.
fn service(bed: &Bed, layout: Layout, keyspace: &str) -> Result<Service> {
    let cassandra = bed.cassandra()?;
    let service = bed.own_service(layout, &[])?;
    bed.block_on(cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {keyspace}")))?;
    let table = |name: &str, rows: u64| {
        format!(
            "CREATE TABLE cass.{keyspace}.{name} WITH (primary_key = 'n') AS \
             SELECT n, n * 2 AS twice, repeat('x', 200) AS filler FROM generate_series(1, {rows}) AS t(n)"
        )
    };
    let catalog = format!(
        "CREATE CATALOG cass USING cassandra WITH (contact_points = '{}', consistency = 'LOCAL_QUORUM')",
        cassandra.contact_points()
    );
    let schema = format!("CREATE SCHEMA cass.{keyspace} WITH (replication_factor = 3)");
    run(bed, &service, &[&catalog, &schema, &table("numbers", ROWS), &table("empty", 0)])?;
    Ok(service)
}

fn copy_to(keyspace: &str, dir: &Path) -> String {
    format!("COPY cass.{keyspace}.numbers TO '{}/' (FORMAT parquet, RANGES {FILES})", dir.display())
}

fn copy_from(keyspace: &str, dir: &Path) -> String {
    format!("COPY cass.{keyspace}.empty FROM '{}/'", dir.display())
}

/// Every row is on both sides, and the same.
fn check_same(bed: &Bed, service: &Service, left: &str, right: &str) -> Result<()> {
    let counts = run(bed, service, &[&format!("COMPARE SUMMARY {left} WITH {right}")])?;
    let rows = ROWS.to_string();
    let expected = [rows.as_str(), &rows, "0", "0", "0", &rows].map(|cell| Some(cell.to_owned()));
    ensure!(counts == [expected], "{left} and {right}: {counts:?}");
    Ok(())
}

/// Units that the last transfer found done, and all of them.
fn kept(bed: &Bed, service: &Service) -> Result<(usize, usize)> {
    let sql = "SELECT units_kept, units_total FROM system.transfers ORDER BY started DESC LIMIT 1";
    let rows = run(bed, service, &[sql])?;
    let number = |index: usize| -> Result<usize> {
        let cell = rows.first().and_then(|row| row.get(index)).cloned().flatten();
        Ok(cell.ok_or_else(|| anyhow!("no transfer is listed"))?.parse()?)
    };
    Ok((number(0)?, number(1)?))
}

/// The files of a kind in a folder, with the times of their last change.
fn files(dir: &Path, extension: &str) -> BTreeMap<PathBuf, SystemTime> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().extension().is_some_and(|found| found == extension))
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?)))
        .collect()
}

/// Runs a statement and kills the service as soon as `is_under_way`.
fn kill_during(bed: &Bed, service: &Service, statement: &str, is_under_way: impl Fn() -> bool) -> Result<()> {
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(bed, service, &[statement]));
        let deadline = Instant::now() + Duration::from_secs(120);
        while !is_under_way() && !running.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        service.kill();
        let ended = running.join().map_err(|_| anyhow!("the client panicked"))?;
        ensure!(ended.is_err(), "the statement had ended before the service was killed");
        Ok(())
    })
}

fn a_killed_backup_goes_on(bed: &Bed) -> Result<()> {
    let keyspace = "transfer_backup";
    let mut service = service(bed, Layout::Embedded, keyspace)?;
    let dir = bed.scratch("killed-backup")?.join("numbers");
    let copy = copy_to(keyspace, &dir);
    kill_during(bed, &service, &copy, || files(&dir, "json").len() > 20)?;
    let before = files(&dir, "json");
    ensure!(before.len() > 20 && before.len() < FILES, "{} files were told of at the kill", before.len());
    bed.block_on(service.start_again())?;
    expect_error(bed, &service, &copy_from(keyspace, &dir), &["55000", "not finished"])?;
    run(bed, &service, &[&copy])?;
    let (kept, total) = kept(bed, &service)?;
    // The manifest is JSON too.
    ensure!(
        kept >= before.len() - 1 && kept < total,
        "{kept} of {total} ranges were kept, {} were there",
        before.len()
    );
    let after = files(&dir, "json");
    let manifest = dir.join("manifest.json");
    let again: Vec<_> = before.iter().filter(|(path, at)| **path != manifest && after.get(*path) != Some(at)).collect();
    ensure!(again.is_empty(), "these were written again: {again:?}");
    check_same(bed, &service, &format!("cass.{keyspace}.numbers"), &format!("'{}/'", dir.display()))?;
    let left: Vec<_> =
        fs::read_dir(&dir)?.flatten().filter(|e| e.file_name().to_string_lossy().ends_with(".tmp")).collect();
    println!("{} temporary files were left by the kill", left.len());
    bed.block_on(service.check_serving())
}

/// How many files the notes of a restore say are done, and the timestamp that they keep.
fn noted(service: &Service) -> Option<(usize, String)> {
    let notes = files(&service.data_dir().join("data/transfers"), "json").into_keys().next()?;
    let text = fs::read_to_string(notes).ok()?;
    let timestamp = text.split("\"timestamp_us\":").nth(1)?.split(',').next()?.trim().to_owned();
    Some((text.matches(".parquet").count(), timestamp))
}

fn a_killed_restore_goes_on(bed: &Bed) -> Result<()> {
    let keyspace = "transfer_restore";
    let mut service = service(bed, Layout::Embedded, keyspace)?;
    let dir = bed.scratch("killed-restore")?.join("numbers");
    run(bed, &service, &[&copy_to(keyspace, &dir)])?;
    let copy = copy_from(keyspace, &dir);
    kill_during(bed, &service, &copy, || noted(&service).is_some_and(|(done, _)| done > 10))?;
    let (done, timestamp) = noted(&service).ok_or_else(|| anyhow!("there are no notes"))?;
    bed.block_on(service.start_again())?;
    run(bed, &service, &[&copy])?;
    let (kept, total) = kept(bed, &service)?;
    ensure!(kept == done && kept < total, "{kept} of {total} files were kept, {done} were noted");
    let (numbers, empty) = (format!("cass.{keyspace}.numbers"), format!("cass.{keyspace}.empty"));
    check_same(bed, &service, &numbers, &empty)?;
    ensure!(noted(&service).is_none(), "the notes of a complete restore are gone");
    // Both halves were written with one timestamp, so that what somebody writes in between is newer than either.
    let session = bed.block_on(bed.cassandra()?.session())?;
    let cql = format!("SELECT writetime(twice) FROM {keyspace}.empty");
    let written = bed.block_on(async {
        let rows = session.query_unpaged(cql, ()).await?.into_rows_result()?;
        Ok::<_, anyhow::Error>(rows.rows::<(i64,)>()?.map(|row| row.map(|(at,)| at)).collect::<Result<Vec<_>, _>>()?)
    })?;
    ensure!(written.len() as u64 == ROWS, "{} rows have a timestamp", written.len());
    ensure!(written.iter().all(|at| at.to_string() == timestamp), "not all rows have the timestamp {timestamp}");
    // A table that was emptied since is filled again, and nothing of it is taken for done.
    kill_during(bed, &service, &copy, || noted(&service).is_some_and(|(done, _)| done > 10))?;
    bed.block_on(service.start_again())?;
    run(bed, &service, &[&format!("TRUNCATE {empty}"), &copy])?;
    check_same(bed, &service, &numbers, &empty)
}

fn a_lost_executor_leaves_a_whole_backup(bed: &Bed) -> Result<()> {
    let keyspace = "transfer_executor";
    let service = service(bed, Layout::Cluster, keyspace)?;
    let dir = bed.scratch("lost-executor")?.join("numbers");
    let copy = copy_to(keyspace, &dir);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(bed, &service, &[&copy]));
        while files(&dir, "json").len() < 20 && !running.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        ensure!(!running.is_finished(), "the backup had ended before an executor was killed");
        service.kill_executor(1);
        running.join().map_err(|_| anyhow!("the client panicked"))?
    })?;
    check_same(bed, &service, &format!("cass.{keyspace}.numbers"), &format!("'{}/'", dir.display()))?;
    run(bed, &service, &[&copy_from(keyspace, &dir)])?;
    check_same(bed, &service, &format!("cass.{keyspace}.numbers"), &format!("cass.{keyspace}.empty"))
}

fn a_node_dies_under_backup_and_restore(bed: &Bed) -> Result<()> {
    let cassandra = bed.cassandra()?;
    if !cassandra.is_ours() {
        println!("skipped: the nodes are not ours to kill");
        return Ok(());
    }
    let keyspace = "transfer_node";
    let service = service(bed, Layout::Embedded, keyspace)?;
    let dir = bed.scratch("dead-node")?.join("numbers");
    let with_a_node_killed = |statement: &str, is_under_way: &dyn Fn() -> bool| -> Result<()> {
        let ended = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(bed, &service, &[statement]));
            while !is_under_way() && !running.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            ensure!(!running.is_finished(), "{statement} had ended before a node was killed");
            let killed = cassandra.kill_node(2);
            killed.and(running.join().map_err(|_| anyhow!("the client panicked"))?.map(|_| ()))
        });
        let again = cassandra.start_node(2);
        ended.and(again)
    };
    with_a_node_killed(&copy_to(keyspace, &dir), &|| files(&dir, "json").len() > 20)?;
    let numbers = format!("cass.{keyspace}.numbers");
    check_same(bed, &service, &numbers, &format!("'{}/'", dir.display()))?;
    with_a_node_killed(&copy_from(keyspace, &dir), &|| noted(&service).is_some_and(|(done, _)| done > 10))?;
    check_same(bed, &service, &numbers, &format!("cass.{keyspace}.empty"))
}

fn changed_files_are_refused(bed: &Bed) -> Result<()> {
    let keyspace = "transfer_damage";
    let service = service(bed, Layout::Embedded, keyspace)?;
    let dir = bed.scratch("damaged-backup")?.join("numbers");
    let copy = format!("COPY cass.{keyspace}.numbers TO '{}/' (RANGES 4)", dir.display());
    run(bed, &service, &[&copy])?;
    let restore = copy_from(keyspace, &dir);
    let path = files(&dir, "parquet").into_keys().next().ok_or_else(|| anyhow!("there are no files"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let good = fs::read(&path)?;
    for place in [4, good.len() / 2, good.len() - 9] {
        let mut changed = good.clone();
        changed[place] ^= 4;
        fs::write(&path, changed)?;
        expect_error(bed, &service, &restore, &["XX001", &name, "damaged"])?;
        expect_error(bed, &service, &copy, &["XX001", &name, "damaged"])?;
    }
    fs::remove_file(&path)?;
    expect_error(bed, &service, &restore, &["55000", &name, "missing"])?;
    std::os::unix::fs::symlink("/etc/hostname", &path)?;
    expect_error(bed, &service, &restore, &["XX001", &name, "link"])?;
    fs::remove_file(&path)?;
    fs::write(&path, good)?;
    let manifest = dir.join("manifest.json");
    let words = fs::read_to_string(&manifest)?;
    for (from, to) in [("\"rows\": ", "\"rows\": 1"), (name.as_str(), "../../x.parquet"), ("\"sha256\"", "\"sha255\"")]
    {
        fs::write(&manifest, words.replacen(from, to, 1))?;
        let error = error_of(bed, &service, &restore)?;
        ensure!(error.starts_with("XX001") && error.contains("manifest.json"), "{from} for {to}: {error}");
    }
    fs::write(&manifest, words)?;
    run(bed, &service, &[&restore])?;
    check_same(bed, &service, &format!("cass.{keyspace}.numbers"), &format!("cass.{keyspace}.empty"))
}
