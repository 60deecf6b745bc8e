//! A real Cassandra: nodes started by `cassandra/cluster.sh`, or one that is running already.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

/// Contact points of a cluster that is there already; tests then start none and stop none.
pub const CONTACT_POINTS_VARIABLE: &str = "SLUICE_CASSANDRA";
/// Nodes of a cluster that is started here: enough for a replication factor of three.
pub const NODE_COUNT: usize = 3;

/// First three parts of the addresses of the tests' nodes, unless `SLUICE_CASSANDRA_SUBNET` names others.
const SUBNET: &str = "127.0.1";

/// How many lines of what `cluster.sh` said are told again when it fails.
const LAST_WORDS: usize = 25;

/// A running cluster.
#[derive(Debug)]
pub struct Cassandra {
    contact_points: String,
    /// The nodes that were started here; `None` if the cluster belongs to somebody else.
    own: Option<OwnNodes>,
}

/// Nodes that were started here.
#[derive(Debug)]
struct OwnNodes {
    dir: PathBuf,
    subnet: String,
    count: usize,
    /// Variables of `cluster.sh` that make the nodes special.
    variables: Vec<(String, String)>,
}

impl Cassandra {
    /// Uses the cluster that `SLUICE_CASSANDRA` names, else starts three nodes; they stop when this is dropped.
    ///
    /// The nodes keep apart from a cluster that a developer runs in the default folder by having other addresses.
    pub fn start() -> Result<Self> {
        if let Ok(contact_points) = std::env::var(CONTACT_POINTS_VARIABLE) {
            return Ok(Self { contact_points, own: None });
        }
        let subnet = std::env::var("SLUICE_CASSANDRA_SUBNET").unwrap_or_else(|_| SUBNET.to_owned());
        Self::start_own("test-cluster", &subnet, NODE_COUNT, &[])
    }

    /// Starts nodes that are like no other: `variables` of `cluster.sh` say how. They stop when this is dropped.
    pub fn start_own(name: &str, subnet: &str, count: usize, variables: &[(&str, &str)]) -> Result<Self> {
        let own = OwnNodes {
            dir: crate::cache_dir()?.join("cassandra").join(name),
            subnet: subnet.to_owned(),
            count,
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let cluster = Self { contact_points: contact_points(subnet, count), own: Some(own) };
        // Left-overs of a run that was killed would make the first statements fail.
        cluster.script(&["clean"])?;
        cluster.script(&["up", &count.to_string()])?;
        Ok(cluster)
    }

    /// `host:port` of the nodes, separated by commas.
    pub fn contact_points(&self) -> &str {
        &self.contact_points
    }

    /// Whether nodes may be stopped and killed.
    pub fn is_ours(&self) -> bool {
        self.own.is_some()
    }

    /// A file that `cluster.sh` made for clients of these nodes, such as `ca.pem`.
    pub fn tls_file(&self, name: &str) -> Result<String> {
        let own = self.own.as_ref().context("the nodes are not ours")?;
        Ok(own.dir.join("tls").join(name).display().to_string())
    }

    /// Stops node `number` (from 1) in good order.
    pub fn stop_node(&self, number: usize) -> Result<()> {
        self.script(&["stop-node", &number.to_string()])
    }

    /// Kills node `number` (from 1), as a crash would.
    pub fn kill_node(&self, number: usize) -> Result<()> {
        self.script(&["kill-node", &number.to_string()])
    }

    /// Has node `number` (from 1) write what it holds to its files. A node that is killed loses what came
    /// since its commit log last got a marker, which is 100 ms, and more where it gets no time to run.
    pub fn flush_node(&self, number: usize) -> Result<()> {
        self.script(&["nodetool", &number.to_string(), "flush"])
    }

    /// Starts node `number` (from 1) again.
    pub fn start_node(&self, number: usize) -> Result<()> {
        self.script(&["start-node", &number.to_string()])
    }

    /// Lets node `number` (from 1) hang: it holds its connections and answers nothing.
    pub fn pause_node(&self, number: usize) -> Result<()> {
        self.script(&["pause-node", &number.to_string()])
    }

    /// Lets node `number` (from 1) go on.
    pub fn resume_node(&self, number: usize) -> Result<()> {
        self.script(&["resume-node", &number.to_string()])
    }

    /// Starts all nodes that are not up.
    pub fn start_all(&self) -> Result<()> {
        let count = self.own.as_ref().map_or(NODE_COUNT, |own| own.count);
        self.script(&["up", &count.to_string()])
    }

    fn script(&self, arguments: &[&str]) -> Result<()> {
        let Some(own) = &self.own else { bail!("the cluster at {} is not ours to change", self.contact_points) };
        let script = crate::crate_dir().join("cassandra/cluster.sh");
        let mut child = Command::new("bash")
            .arg(&script)
            .args(arguments)
            .env("SLUICE_CASSANDRA_DIR", &own.dir)
            .env("SLUICE_CASSANDRA_SUBNET", &own.subnet)
            .envs(own.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {}", script.display()))?;
        // Its words are shown as they come, and the last of them again where a test fails for them.
        let mut last_words = VecDeque::new();
        for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
            let line = line?;
            eprintln!("{line}");
            last_words.push_back(line);
            if last_words.len() > LAST_WORDS {
                last_words.pop_front();
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("cluster.sh {} ended with {status}:\n{}", arguments.join(" "), Vec::from(last_words).join("\n"));
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

fn contact_points(subnet: &str, count: usize) -> String {
    (1..=count).map(|node| format!("{subnet}.{node}:9042")).collect::<Vec<_>>().join(",")
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        if self.own.is_some()
            && let Err(error) = self.script(&["clean"])
        {
            eprintln!("the tests' Cassandra was left running: {error:#}");
        }
    }
}
