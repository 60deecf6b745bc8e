//! Coordinator and executors that know a secret, and strangers who do not.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use sluice_sql_tests::runner::{SqlError, text_rows};
use sluice_sql_tests::sluice_process::{Layout, Process, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tonic::client::GrpcService;
use tonic::codegen::http;
use tonic::transport::Endpoint;

use crate::bed::{Bed, trial};

const SECRET: &str = "2c1b0f7a5d8e4c3690a1b2c3d4e5f60718293a4b5c6d7e8f9011223344556677";
const OTHER_SECRET: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
/// How long a process of a debug build may take to do what it is about to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// What an empty message is a call of, on each of the ports of coordinator and executors.
const SCHEDULER_CALLS: [&str; 5] = [
    "/ballista.protobuf.SchedulerGrpc/RegisterExecutor",
    "/ballista.protobuf.SchedulerGrpc/HeartBeatFromExecutor",
    "/ballista.protobuf.SchedulerGrpc/PollWork",
    "/ballista.protobuf.SchedulerGrpc/UpdateTaskStatus",
    "/ballista.protobuf.SchedulerGrpc/ExecuteQuery",
];
const EXECUTOR_CALLS: [&str; 8] = [
    "/ballista.protobuf.ExecutorGrpc/LaunchTask",
    "/ballista.protobuf.ExecutorGrpc/LaunchMultiTask",
    "/ballista.protobuf.ExecutorGrpc/CancelTasks",
    "/ballista.protobuf.ExecutorGrpc/StopExecutor",
    "/ballista.protobuf.ExecutorGrpc/RemoveJobData",
    "/arrow.flight.protocol.FlightService/DoGet",
    "/arrow.flight.protocol.FlightService/DoAction",
    "/arrow.flight.protocol.FlightService/Handshake",
];
/// gRPC's code for a call without proof of who makes it.
const UNAUTHENTICATED: &str = "16";

pub fn trials(bed: &Arc<Bed>) -> Vec<Trial> {
    type Test = fn(&Bed) -> Result<()>;
    let tests: [(&str, Test); 4] = [
        ("a_cluster_with_a_secret_answers", a_cluster_with_a_secret_answers),
        ("strangers_are_refused", strangers_are_refused),
        ("an_executor_needs_the_secret", an_executor_needs_the_secret),
        ("what_was_recorded_is_refused", what_was_recorded_is_refused),
    ];
    tests.into_iter().map(|(name, test)| trial(bed, format!("peers::{name}"), test)).collect()
}

fn secret_file(folder: &Path, name: &str, secret: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "{secret}")?;
    Ok(path)
}

/// A coordinator and three executors that know [`SECRET`].
fn cluster(bed: &Bed, name: &str) -> Result<Service> {
    let file = secret_file(&bed.scratch(name)?, "cluster.secret", SECRET)?.display().to_string();
    let flags = ["--cluster-secret-file", file.as_str()];
    bed.own_cluster(&flags, &[&["--vcores", "1"], &flags[..]].concat())
}

/// How many executors have joined.
async fn executor_count(service: &Service) -> Result<usize> {
    Ok(service.rows("SELECT executor_id FROM system.executors").await?.len())
}

fn a_cluster_with_a_secret_answers(bed: &Bed) -> Result<()> {
    let service = cluster(bed, "peers-answer")?;
    let orders = bed.tpch("0.1")?.join("orders.parquet");
    let query = format!(
        "SELECT count(*), sum(n) FROM (SELECT o_custkey, count(*) AS n FROM '{}' GROUP BY o_custkey)",
        orders.display()
    );
    bed.block_on(async {
        let client = service.connect().await?;
        client.simple_query("SET sluice.single_task_max_bytes = 0").await.map_err(SqlError)?;
        let rows = text_rows(client.simple_query(&query).await.map_err(SqlError)?);
        ensure!(rows == [[Some("10000".to_owned()), Some("150000".to_owned())]], "the answer is {rows:?}");
        let where_it_ran = service.rows("SELECT DISTINCT executor_id FROM system.tasks").await?;
        ensure!(where_it_ran.len() > 1, "no shuffle between executors: {where_it_ran:?}");
        Ok(())
    })
}

fn strangers_are_refused(bed: &Bed) -> Result<()> {
    let open = bed.own_service(Layout::Cluster, &[])?;
    let closed = cluster(bed, "peers-strangers")?;
    bed.block_on(async {
        // What the test sends is a call to whom it asks nothing.
        let executor = *open.executor_process_ids().first().context("an executor")?;
        let mut codes = BTreeSet::new();
        for address in listening(executor)? {
            codes.insert(grpc_code(&address, "/ballista.protobuf.ExecutorGrpc/LaunchTask").await?);
        }
        ensure!(codes.contains("0"), "an executor without a secret answers {codes:?}");

        for call in SCHEDULER_CALLS {
            let code = grpc_code(&format!("127.0.0.1:{}", closed.scheduler_port()), call).await?;
            ensure!(code == UNAUTHENTICATED, "{call} of a stranger ends with {code}");
        }
        for process in closed.executor_process_ids() {
            let ports = listening(process)?;
            ensure!(ports.len() >= 2, "an executor listens on {ports:?}");
            for (port, call) in ports.iter().flat_map(|port| EXECUTOR_CALLS.map(|call| (port, call))) {
                let code = grpc_code(port, call).await?;
                ensure!(code == UNAUTHENTICATED, "{call} of a stranger at {port} ends with {code}");
            }
        }
        ensure!(
            executor_count(&closed).await? == Layout::EXECUTOR_COUNT,
            "an executor was stopped, or one was made up"
        );
        let log = closed.all_output();
        let told = log.matches("refused a call of a stranger").count();
        ensure!((1..=4).contains(&told), "the logs tell {told} times of strangers:\n{log}");
        ensure!(!log.contains(SECRET), "the secret is in a log");
        closed.check_serving().await
    })
}

/// The code with which an empty message to a method ends. It is sent in clear, by somebody without any secret.
async fn grpc_code(address: &str, path: &str) -> Result<String> {
    let url = format!("http://{address}");
    let mut channel = Endpoint::from_shared(url.clone())?.timeout(PATIENCE).connect().await?;
    std::future::poll_fn(|cx| GrpcService::<tonic::body::Body>::poll_ready(&mut channel, cx)).await?;
    let empty_message = tonic::body::Body::new("\0\0\0\0\0".to_owned());
    let request = http::Request::post(format!("{url}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(empty_message)?;
    let response = channel.call(request).await.with_context(|| format!("{path} at {address}"))?;
    let code = response.headers().get("grpc-status");
    // Trailers come after a message, which only a call that was carried out has.
    Ok(code.map_or(Ok("0"), |code| code.to_str())?.to_owned())
}

/// The addresses that a process listens on.
fn listening(process: u32) -> Result<Vec<String>> {
    let sockets: BTreeSet<String> = std::fs::read_dir(format!("/proc/{process}/fd"))?
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp"))?;
    let mut addresses = Vec::new();
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = columns.as_slice() else { bail!("{line}") };
        if *state == "0A" && sockets.contains(*inode) {
            let (host, port) = local.split_once(':').context("an address and a port")?;
            let host = std::net::Ipv4Addr::from(u32::from_str_radix(host, 16)?.swap_bytes());
            addresses.push(format!("{host}:{}", u16::from_str_radix(port, 16)?));
        }
    }
    Ok(addresses)
}

fn an_executor_needs_the_secret(bed: &Bed) -> Result<()> {
    let folder = bed.scratch("peers-executors")?;
    let other = secret_file(&folder, "other.secret", OTHER_SECRET)?.display().to_string();
    let right = secret_file(&folder, "right.secret", SECRET)?.display().to_string();
    let closed = cluster(bed, "peers-join")?;
    let open = bed.own_service(Layout::Cluster, &[])?;
    for (service, flags, wanted) in [
        (&closed, &[][..], "the call came without proof"),
        (&closed, &["--cluster-secret-file", other.as_str()], "it has another cluster secret"),
        (&open, &["--cluster-secret-file", right.as_str()], "it has no cluster secret"),
    ] {
        let mut command = Command::new(bed.binary());
        command.args(["executor", "--host", "127.0.1.9", "--coordinator"]);
        command.arg(format!("127.0.0.1:{}", service.scheduler_port())).args(flags);
        command.arg("--data-dir").arg(folder.join("data")).current_dir(&folder).env_remove("SLUICE_CONFIG");
        let mut executor = Process::start("stranger", command, folder.join("log"))?;
        let deadline = Instant::now() + PATIENCE;
        while !executor.output().contains(wanted) {
            executor.check_alive()?;
            ensure!(Instant::now() < deadline, "with {flags:?} the executor says {:?}", executor.output());
            std::thread::sleep(Duration::from_millis(50));
        }
        // It goes on trying, and that changes nothing.
        std::thread::sleep(Duration::from_secs(2));
        executor.check_alive()?;
        let joined = bed.block_on(executor_count(service))?;
        ensure!(joined == Layout::EXECUTOR_COUNT, "{joined} executors with one that has {flags:?}");
        let said = executor.output().matches(wanted).count();
        ensure!(said == 1, "it says so {said} times: {:?}", executor.output());
    }
    Ok(())
}

/// Joins, over a connection that somebody records and later says again.
fn what_was_recorded_is_refused(bed: &Bed) -> Result<()> {
    let folder = bed.scratch("peers-recorded")?;
    let right = secret_file(&folder, "right.secret", SECRET)?;
    let service = cluster(bed, "peers-replay")?;
    bed.block_on(async {
        let between = TcpListener::bind("127.0.0.1:0").await?;
        let address = between.local_addr()?;
        let coordinator = format!("127.0.0.1:{}", service.scheduler_port());
        let onward = coordinator.clone();
        let recording = tokio::spawn(async move { record(between, &onward).await });
        let mut command = Command::new(bed.binary());
        command.args(["executor", "--host", "127.0.1.9", "--coordinator", &address.to_string()]);
        command.arg("--cluster-secret-file").arg(&right).arg("--data-dir").arg(folder.join("data"));
        command.current_dir(&folder).env_remove("SLUICE_CONFIG");
        let mut executor = Process::start("recorded", command, folder.join("log"))?;
        service.wait_for_executors(Layout::EXECUTOR_COUNT + 1).await?;
        executor.terminate(PATIENCE)?;
        let said = recording.await??;
        ensure!(said.len() > 1000, "{} bytes of an executor that joined", said.len());
        let left = executor_count(&service).await?;

        // From an address of its own, because of each the log tells once a minute.
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.99:0".parse()?)?;
        let mut again = socket.connect(coordinator.parse()?).await?;
        again.write_all(&said).await?;
        let mut answer = Vec::new();
        // Whether it ends in good order or is reset, it ends.
        let _ = tokio::time::timeout(PATIENCE, again.read_to_end(&mut answer)).await.context("it is kept open")?;
        // The line may come after the connection's end.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = service.output();
            if log.contains("refused a stranger") && log.contains("127.0.0.99") {
                break;
            }
            ensure!(Instant::now() < deadline, "the log does not tell:\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(executor_count(&service).await? == left, "an executor was let in");
        service.check_serving().await
    })
}

/// What the first connection to `between` says to `onward` until its end.
async fn record(between: TcpListener, onward: &str) -> Result<Vec<u8>> {
    let (client, _) = between.accept().await?;
    let server = TcpStream::connect(onward).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut said = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        said.extend_from_slice(&buffer[..count]);
        to_server.write_all(&buffer[..count]).await?;
    }
    back.abort();
    Ok(said)
}
