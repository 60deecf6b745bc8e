//! The service as its users run it: the binary `sluice`, as one process or as a coordinator with executors.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A debug build on a machine that compiles at the same time takes seconds; a service that hangs takes for ever.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of a process's log that go into an error.
const LOG_LINES_SHOWN: usize = 25;
/// A test that panicked while it held a lock has failed already.
const UNPOISONED: &str = "no test panicked with it";

/// The binary to test: `SLUICE_BIN`, or the one that Cargo built beside this test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SLUICE_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe().context("the path of this executable")?;
    let candidates = test.ancestors().skip(1).take(2).map(|dir| dir.join("sluice"));
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("no binary `sluice` beside {}: build it (cargo build) or name it in SLUICE_BIN", test.display()),
    }
}

/// A process that is killed when nobody needs it any more.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `log`.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let errors = output.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self { child, name: name.to_owned(), log })
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// An error with the end of the log if the process is no longer there.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log_end()),
        }
    }

    /// The last lines of the log.
    pub fn log_end(&self) -> String {
        let text = self.output();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Asks the process to end (SIGTERM) and waits until it has; killed when `patience` is over.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        let sent = Command::new("kill").arg("-TERM").arg(self.id().to_string()).status().context("running kill")?;
        if !sent.success() {
            bail!("{} (process {}) could not be signalled", self.name, self.id());
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        bail!("{} did not end within {patience:?} of SIGTERM:\n{}", self.name, self.log_end())
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        // A process that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How the service is laid out over processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `sluice serve`: everything in one process.
    Embedded,
    /// `sluice coordinator` and three `sluice executor`.
    Cluster,
}

impl Layout {
    /// Both, in the order in which they are tested.
    pub const ALL: [Self; 2] = [Self::Embedded, Self::Cluster];
    /// Executors of either layout.
    pub const EXECUTOR_COUNT: usize = 3;

    /// A name for tests and keyspaces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Cluster => "cluster",
        }
    }
}

/// Creates a superuser of a service that does not run, as `sluice create-superuser` does.
pub fn create_superuser(binary: &Path, data_dir: &Path, name: &str, password: &str) -> Result<()> {
    let output = Command::new(binary)
        .args(["create-superuser", name, "--data-dir"])
        .arg(data_dir)
        .env("SLUICE_PASSWORD", password)
        .env_remove("SLUICE_CONFIG")
        .output()
        .context("running sluice create-superuser")?;
    if !output.status.success() {
        bail!("sluice create-superuser failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Ports that were free a moment ago.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    // All are held at the same time, so that they differ.
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<_>>()?;
    Ok(listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<std::io::Result<_>>()?)
}

/// A running service with a data directory of its own.
#[derive(Debug)]
pub struct Service {
    layout: Layout,
    /// Port for PostgreSQL clients.
    pub pg_port: u16,
    /// Port for Arrow Flight SQL.
    pub flight_port: u16,
    /// Port for the web page.
    pub http_port: u16,
    scheduler_port: u16,
    executor_count: usize,
    flags: Vec<String>,
    executor_flags: Vec<String>,
    password: Option<String>,
    main: Mutex<Option<Process>>,
    executors: Mutex<Vec<Process>>,
    binary: PathBuf,
    // After the processes, because they are dropped in this order.
    data_dir: TempDir,
}

impl Service {
    /// Starts the service and waits until it answers and its executors have joined.
    pub async fn start(binary: &Path, layout: Layout) -> Result<Self> {
        Self::start_with(binary, layout, &[]).await
    }

    /// The same with more flags for `serve` or `coordinator`.
    pub async fn start_with(binary: &Path, layout: Layout, flags: &[&str]) -> Result<Self> {
        Self::start_all(binary, layout, flags, &["--vcores", "1"]).await
    }

    /// A cluster with more flags for `coordinator`, and with flags for its executors.
    pub async fn start_cluster(binary: &Path, flags: &[&str], executor_flags: &[&str]) -> Result<Self> {
        Self::start_all(binary, Layout::Cluster, flags, executor_flags).await
    }

    /// A service that asks for passwords, of which user `sluice` has this one and may do everything.
    pub async fn start_with_password(binary: &Path, layout: Layout, password: &str) -> Result<Self> {
        let mut service = Self::new(binary, layout, &["--auth", "password"], &["--vcores", "1"])?;
        create_superuser(binary, &service.data_dir.path().join("data"), "sluice", password)?;
        service.password = Some(password.to_owned());
        service.launch().await?;
        Ok(service)
    }

    async fn start_all(binary: &Path, layout: Layout, flags: &[&str], executor_flags: &[&str]) -> Result<Self> {
        let mut service = Self::new(binary, layout, flags, executor_flags)?;
        service.launch().await?;
        Ok(service)
    }

    fn new(binary: &Path, layout: Layout, flags: &[&str], executor_flags: &[&str]) -> Result<Self> {
        let ports = free_ports(4)?;
        let data_dir = tempfile::Builder::new().prefix("sluice-test-").tempdir()?;
        let owned = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (flags, executor_flags): (Vec<String>, Vec<String>) = (owned(flags), owned(executor_flags));
        let named = flags.iter().position(|flag| flag == "--executors").and_then(|index| flags.get(index + 1));
        let executor_count = named.map_or(Ok(Layout::EXECUTOR_COUNT), |count| count.parse())?;
        Ok(Self {
            layout,
            pg_port: ports[0],
            flight_port: ports[1],
            http_port: ports[2],
            scheduler_port: ports[3],
            executor_count,
            flags,
            executor_flags,
            password: None,
            main: Mutex::new(None),
            executors: Mutex::default(),
            binary: binary.to_owned(),
            data_dir,
        })
    }

    async fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg(match self.layout {
            Layout::Embedded => "serve",
            Layout::Cluster => "coordinator",
        });
        // A developer's own settings must not leak into a test.
        command.current_dir(self.data_dir.path()).env_remove("SLUICE_CONFIG");
        command.arg("--data-dir").arg(self.data_dir.path().join("data"));
        let ports = [("--pg-port", self.pg_port), ("--flight-port", self.flight_port), ("--http-port", self.http_port)];
        for (flag, port) in ports {
            command.arg(flag).arg(port.to_string());
        }
        match self.layout {
            Layout::Cluster => {
                command.arg("--scheduler-port").arg(self.scheduler_port.to_string());
            }
            Layout::Embedded if self.flags.iter().any(|flag| flag == "--executors") => {}
            Layout::Embedded => {
                command.arg("--executors").arg(self.executor_count.to_string());
            }
        }
        command.args(&self.flags);
        let log = self.data_dir.path().join("service.log");
        *self.main.lock().expect(UNPOISONED) = Some(Process::start(self.layout.name(), command, log)?);
        self.wait_until_ready(1, "SELECT 1").await?;
        if self.layout == Layout::Cluster {
            for index in 0..self.executor_count {
                self.start_executor(index)?;
            }
        }
        self.wait_for_executors(self.executor_count).await
    }

    /// Ends the service in good order and starts it again over the same data.
    pub async fn restart(&mut self) -> Result<()> {
        self.terminate(START_TIMEOUT)?;
        self.executors.lock().expect(UNPOISONED).clear();
        self.launch().await
    }

    /// Ends the service at once, as a crash would; executors of a cluster stay.
    pub fn kill(&self) {
        self.with_main(Process::kill);
    }

    /// Starts the service again over the same data, after [`Self::kill`].
    pub async fn start_again(&mut self) -> Result<()> {
        self.executors.lock().expect(UNPOISONED).clear();
        self.launch().await
    }

    /// Starts executor `index` (from 0) of a cluster, under the address of Cassandra's node of the same place.
    pub fn start_executor(&self, index: usize) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command
            .arg("executor")
            .args(["--coordinator", &format!("127.0.0.1:{}", self.scheduler_port)])
            .arg("--data-dir")
            .arg(self.data_dir.path().join(format!("executor-{index}")))
            .args(["--host", &format!("127.0.1.{}", index + 1)])
            .args(&self.executor_flags)
            .current_dir(self.data_dir.path())
            .env_remove("SLUICE_CONFIG");
        let log = self.data_dir.path().join(format!("executor-{index}.log"));
        let process = Process::start(&format!("executor {index}"), command, log)?;
        let mut executors = self.executors.lock().expect(UNPOISONED);
        if index < executors.len() {
            executors[index] = process;
        } else {
            executors.push(process);
        }
        Ok(())
    }

    /// The ids of the executors' processes of a cluster.
    pub fn executor_process_ids(&self) -> Vec<u32> {
        self.executors.lock().expect(UNPOISONED).iter().map(Process::id).collect()
    }

    /// Kills executor `index` of a cluster, as a crash would.
    pub fn kill_executor(&self, index: usize) {
        self.executors.lock().expect(UNPOISONED)[index].kill();
    }

    /// Waits until as many executors have joined.
    pub async fn wait_for_executors(&self, count: usize) -> Result<()> {
        self.wait_until_ready(count, "SELECT 1 FROM system.executors").await
    }

    async fn wait_until_ready(&self, row_count: usize, sql: &str) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            self.check_alive()?;
            let last = match self.rows(sql).await {
                Ok(rows) if rows.len() >= row_count => return Ok(()),
                Ok(rows) => format!("{} rows", rows.len()),
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() > deadline {
                bail!(
                    "{sql} did not give {row_count} rows within {START_TIMEOUT:?}, last {last}; the log:\n{}",
                    self.log_end()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The port that executors of a cluster join at.
    pub fn scheduler_port(&self) -> u16 {
        self.scheduler_port
    }

    /// How the service is laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The id of the process that clients talk to.
    pub fn process_id(&self) -> u32 {
        self.with_main(|main| main.id())
    }

    /// An error with the log's end if the service's process has ended.
    pub fn check_alive(&self) -> Result<()> {
        self.with_main(Process::check_alive)
    }

    /// Everything that the service has written.
    pub fn output(&self) -> String {
        self.with_main(|main| main.output())
    }

    /// The same with what the executors of a cluster have written.
    pub fn all_output(&self) -> String {
        let executors = self.executors.lock().expect(UNPOISONED);
        executors.iter().map(Process::output).fold(self.output(), |all, output| all + &output)
    }

    /// Everything that the service and its executors keep on disk is below this folder.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// The last lines of the service's log.
    pub fn log_end(&self) -> String {
        self.with_main(|main| main.log_end())
    }

    /// Ends the service in good order; its exit status.
    pub fn terminate(&self, patience: Duration) -> Result<ExitStatus> {
        self.with_main(|main| main.terminate(patience))
    }

    fn with_main<T>(&self, f: impl FnOnce(&mut Process) -> T) -> T {
        let mut main = self.main.lock().expect(UNPOISONED);
        f(main.as_mut().expect("a service has been launched"))
    }

    /// A client's connection.
    pub async fn connect(&self) -> Result<Client> {
        self.connect_as("sluice").await
    }

    /// The same for a user of that name.
    pub async fn connect_as(&self, user: &str) -> Result<Client> {
        Ok(self.log_in(user, self.password.as_deref()).await?)
    }

    /// The same with a password of one's own.
    pub async fn log_in(
        &self,
        user: &str,
        password: Option<&str>,
    ) -> std::result::Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.pg_port).user(user).dbname("sluice").connect_timeout(CONNECT_TIMEOUT);
        if let Some(password) = password {
            config.password(password);
        }
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move {
            // Its end is seen by the client's next statement.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// The rows of a query on a connection of its own, as text.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let client = self.connect().await?;
        Ok(crate::runner::text_rows(client.simple_query(sql).await?))
    }

    /// Whether the service still does what it is for, after something that it should survive.
    pub async fn check_serving(&self) -> Result<()> {
        self.check_alive()?;
        let rows = self.rows("SELECT sum(value) FROM generate_series(1, 100) AS t(value)").await?;
        if rows != [[Some("5050".to_owned())]] {
            bail!("the service answers {rows:?} where it should say 5050");
        }
        Ok(())
    }
}
