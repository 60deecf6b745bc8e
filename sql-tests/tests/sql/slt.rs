//! Every `.slt` file, on both layouts: the same questions must get the same answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use sluice_sql_tests::runner;
use sluice_sql_tests::sluice_process::Layout;

use crate::bed::{Bed, trial};

/// Scale of the TPC-H tables that files read: large enough for several batches, small enough for a debug build.
const SCALE_FACTOR: &str = "0.01";

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    let files = files().expect("the folder slt is there");
    assert!(!files.is_empty(), "no .slt file was found");
    let mut trials = Vec::new();
    for layout in Layout::ALL {
        for file in &files {
            let topic = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let file = file.clone();
            trials.push(trial(bed, format!("{}::slt::{topic}", layout.name()), move |bed| {
                run(bed, layout, &topic, &file)
            }));
        }
    }
    trials
}

fn files() -> Result<Vec<PathBuf>> {
    let dir = sluice_sql_tests::crate_dir().join("slt");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "slt") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn run(bed: &Bed, layout: Layout, topic: &str, file: &Path) -> Result<()> {
    let needs = |name: &str| std::fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("${{{name}}}")));
    let data = if needs("DATA") { bed.tpch(SCALE_FACTOR)?.display().to_string() } else { String::new() };
    let scratch = bed.scratch(&format!("{}-{topic}", layout.name()))?.display().to_string();
    let keyspace = format!("slt_{topic}_{}", layout.name());
    let mut contact_points = String::new();
    if needs("CASSANDRA") {
        let cassandra = bed.cassandra()?;
        contact_points = cassandra.contact_points().to_owned();
        bed.block_on(async {
            cassandra.cql(&format!("DROP KEYSPACE IF EXISTS {keyspace}")).await?;
            // What a file cannot make through Sluice is made by CQL: every type, tables with odd keys.
            let cql = file.with_extension("cql");
            if cql.is_file() {
                cassandra.cql(&std::fs::read_to_string(&cql)?.replace("${KEYSPACE}", &keyspace)).await?;
            }
            anyhow::Ok(())
        })?;
    }
    let service = bed.service(layout)?;
    let values =
        [("DATA", data.as_str()), ("SCRATCH", &scratch), ("CASSANDRA", &contact_points), ("KEYSPACE", &keyspace)];
    bed.block_on(runner::run_file(&service, file, &values))
}
