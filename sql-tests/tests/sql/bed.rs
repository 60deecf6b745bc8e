//! What the tests share: started when the first test needs it, stopped when the last is done.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result, anyhow};
use libtest_mimic::{Failed, Trial};
use sluice_sql_tests::cassandra::Cassandra;
use sluice_sql_tests::sluice_process::{self, Layout, Service};
use sluice_sql_tests::{python, sample_data};

/// A value that is made once, or could not be; the error is told to every test that needs it.
struct Shared<T>(OnceLock<std::result::Result<T, String>>);

impl<T> Shared<T> {
    const fn new() -> Self {
        Self(OnceLock::new())
    }

    fn get_or_try(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        let made = self.0.get_or_init(|| make().map_err(|error| format!("{error:#}")));
        made.as_ref().map_err(|error| anyhow!("{error}"))
    }
}

/// A service, or why there is none.
type Started = std::result::Result<Arc<Service>, String>;

/// The test bed.
pub struct Bed {
    binary: PathBuf,
    runtime: tokio::runtime::Runtime,
    services: [Mutex<Option<Started>>; 2],
    cassandra: Shared<Cassandra>,
    python: Shared<PathBuf>,
    tpch: Mutex<()>,
    scratch: tempfile::TempDir,
    failures: Mutex<Vec<(String, String)>>,
}

impl Bed {
    /// An empty bed; fails if there is no binary to test.
    pub fn new() -> Result<Self> {
        Ok(Self {
            binary: sluice_process::binary()?,
            runtime: tokio::runtime::Runtime::new()?,
            services: [Mutex::new(None), Mutex::new(None)],
            cassandra: Shared::new(),
            python: Shared::new(),
            tpch: Mutex::new(()),
            scratch: tempfile::Builder::new().prefix("sluice-tests-").tempdir()?,
            failures: Mutex::default(),
        })
    }

    /// Tells again which tests failed, and why, where a long output ends.
    pub fn tell_failures(&self) {
        for (name, reason) in self.failures.lock().iter().flat_map(|failures| failures.iter()) {
            println!("failed: {name}: {reason}\n");
        }
    }

    /// The binary under test.
    pub fn binary(&self) -> &PathBuf {
        &self.binary
    }

    /// The service of this layout that tests share.
    pub fn service(&self, layout: Layout) -> Result<Arc<Service>> {
        let mut slot =
            self.services[layout as usize].lock().map_err(|_| anyhow!("a test panicked as it started the service"))?;
        let started = slot.get_or_insert_with(|| {
            let service = self.runtime.block_on(Service::start(&self.binary, layout));
            service.map(Arc::new).map_err(|error| format!("{error:#}"))
        });
        started.clone().map_err(|error| anyhow!("{error}"))
    }

    /// Stops the shared services.
    pub fn stop_services(&self) {
        for slot in &self.services {
            if let Ok(mut slot) = slot.lock() {
                *slot = None;
            }
        }
    }

    /// An example that Cargo built beside this test.
    pub fn example(&self, name: &str) -> Result<PathBuf> {
        let test = std::env::current_exe().context("the path of this executable")?;
        let places = [test.ancestors().nth(2), self.binary.parent()];
        let found = places.into_iter().flatten().map(|dir| dir.join("examples").join(name)).find(|path| path.is_file());
        found.with_context(|| {
            format!(
                "no example `{name}`: build it with cargo build --examples, or name target/debug/sluice in SLUICE_BIN"
            )
        })
    }

    /// A service that the test may break.
    pub fn own_service(&self, layout: Layout, flags: &[&str]) -> Result<Service> {
        self.runtime.block_on(Service::start_with(&self.binary, layout, flags))
    }

    /// A service that asks for passwords, of which user `sluice` has this one.
    pub fn own_service_with_password(&self, layout: Layout, password: &str) -> Result<Service> {
        self.runtime.block_on(Service::start_with_password(&self.binary, layout, password))
    }

    /// A coordinator with three executors, each started with `executor_flags`, that the test has for itself.
    pub fn own_cluster(&self, flags: &[&str], executor_flags: &[&str]) -> Result<Service> {
        self.runtime.block_on(Service::start_cluster(&self.binary, flags, executor_flags))
    }

    /// Three real nodes.
    pub fn cassandra(&self) -> Result<&Cassandra> {
        self.cassandra.get_or_try(Cassandra::start)
    }

    /// The Python with DuckDB and the clients.
    pub fn python(&self) -> Result<&PathBuf> {
        self.python.get_or_try(python::interpreter)
    }

    /// TPC-H tables as Parquet.
    pub fn tpch(&self, scale_factor: &str) -> Result<PathBuf> {
        let _one_at_a_time = self.tpch.lock().map_err(|_| anyhow!("a test panicked as it made sample data"))?;
        sample_data::tpch(&self.binary, scale_factor)
    }

    /// An empty folder that is gone after the tests.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.scratch.path().join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Waits for a future.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// A test of the bed.
pub fn trial(bed: &Arc<Bed>, name: String, test: impl FnOnce(&Bed) -> Result<()> + Send + 'static) -> Trial {
    let bed = bed.clone();
    Trial::test(name.clone(), move || {
        test(&bed).map_err(|error| {
            let reason = format!("{error:#}");
            if let Ok(mut failures) = bed.failures.lock() {
                failures.push((name, reason.clone()));
            }
            Failed::from(reason)
        })
    })
}
