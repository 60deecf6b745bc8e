//! A real Cassandra: nodes started by `cassandra/cluster.sh`, or one that is running already.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

/// Contact points of a cluster that is there already; tests then start none and stop none.
pub const CONTACT_POINTS_VARIABLE: &str = "SLUICE_CASSANDRA";
/// Nodes of a cluster that is started here: enough for a replication factor of three.
pub const NODE_COUNT: usize = 3;

/// A running cluster.
#[derive(Debug)]
pub struct Cassandra {
    contact_points: String,
    /// Folder of the nodes that were started here; `None` if the cluster belongs to somebody else.
    own_dir: Option<PathBuf>,
}

impl Cassandra {
    /// Uses the cluster that `SLUICE_CASSANDRA` names, else starts three nodes; they stop when this is dropped.
    ///
    /// The nodes keep apart from a cluster that a developer runs in the default folder by having other addresses.
    pub fn start() -> Result<Self> {
        if let Ok(contact_points) = std::env::var(CONTACT_POINTS_VARIABLE) {
            return Ok(Self { contact_points, own_dir: None });
        }
        let dir = crate::cache_dir()?.join("cassandra/test-cluster");
        let cluster = Self { contact_points: contact_points(SUBNET), own_dir: Some(dir) };
        // Left-overs of a run that was killed would make the first statements fail.
        cluster.script(&["clean"])?;
        cluster.script(&["up", &NODE_COUNT.to_string()])?;
        Ok(cluster)
    }

    /// `host:port` of the nodes, separated by commas.
    pub fn contact_points(&self) -> &str {
        &self.contact_points
    }

    /// Whether nodes may be stopped and killed.
    pub fn is_ours(&self) -> bool {
        self.own_dir.is_some()
    }

    /// Stops node `number` (from 1) in good order.
    pub fn stop_node(&self, number: usize) -> Result<()> {
        self.script(&["stop-node", &number.to_string()])
    }

    /// Kills node `number` (from 1), as a crash would.
    pub fn kill_node(&self, number: usize) -> Result<()> {
        self.script(&["kill-node", &number.to_string()])
    }

    /// Starts node `number` (from 1) again.
    pub fn start_node(&self, number: usize) -> Result<()> {
        self.script(&["start-node", &number.to_string()])
    }

    /// Starts all nodes that are not up.
    pub fn start_all(&self) -> Result<()> {
        self.script(&["up", &NODE_COUNT.to_string()])
    }

    fn script(&self, arguments: &[&str]) -> Result<()> {
        let Some(dir) = &self.own_dir else { bail!("the cluster at {} is not ours to change", self.contact_points) };
        let script = crate::crate_dir().join("cassandra/cluster.sh");
        let status = Command::new("bash")
            .arg(&script)
            .args(arguments)
            .env("SLUICE_CASSANDRA_DIR", dir)
            .env("SLUICE_CASSANDRA_SUBNET", SUBNET)
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("running {}", script.display()))?;
        if !status.success() {
            bail!("cluster.sh {} ended with {status}; its words are above", arguments.join(" "));
        }
        Ok(())
    }

    /// A session that speaks CQL to the cluster without Sluice in between.
    pub async fn session(&self) -> Result<Session> {
        let nodes: Vec<&str> = self.contact_points.split(',').map(str::trim).collect();
        Ok(SessionBuilder::new().known_nodes(nodes).build().await?)
    }

    /// Runs CQL statements, one after another, separated by semicolons at the ends of lines.
    pub async fn cql(&self, statements: &str) -> Result<()> {
        let session = self.session().await?;
        for statement in statements.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
            session.query_unpaged(statement, ()).await.with_context(|| statement.to_owned())?;
            session.await_schema_agreement().await?;
        }
        Ok(())
    }
}

/// First three parts of the addresses of the tests' nodes.
const SUBNET: &str = "127.0.1";

fn contact_points(subnet: &str) -> String {
    (1..=NODE_COUNT).map(|node| format!("{subnet}.{node}:9042")).collect::<Vec<_>>().join(",")
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        if self.own_dir.is_some()
            && let Err(error) = self.script(&["clean"])
        {
            eprintln!("the tests' Cassandra was left running: {error:#}");
        }
    }
}
