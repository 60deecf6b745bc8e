//! The roles of the service, from start to a drained stop.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sluice_executor::process::{ExecutorError, ExecutorOptions, RunningExecutor};
use sluice_executor::results::ClientPort;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::args::{CoordinatorArgs, ExecutorArgs, ServeArgs};
use super::config::{ExecutorConfig, ServiceConfig, check_peer_bind, cluster_secret};
use crate::engine::{Cluster, Engine, EngineOptions, FileRoots, LoginPolicy, Wire, cores};
use crate::flight::FlightOptions;
use crate::pg::PgOptions;
use crate::tls::{Incoming, Tls};

/// How long an executor waits before it tries to join again.
const REJOIN_DELAY: Duration = Duration::from_millis(500);
/// Executors of an embedded cluster.
const EMBEDDED_EXECUTORS: usize = 3;

/// `sluice serve`.
pub async fn serve(args: ServeArgs) -> Result<(), String> {
    let config = ServiceConfig::resolve(&args.service)?;
    let executor_count = args.executors.or(config.executors).unwrap_or(EMBEDDED_EXECUTORS);
    if executor_count == 0 {
        return Err("a service without executors runs nothing: --executors takes 1 or more".to_owned());
    }
    let vcores = args.vcores.or(config.vcores).unwrap_or_else(|| cores().div_ceil(executor_count)).max(1);
    let cluster = Cluster::Embedded { executor_count, vcores };
    run(config, cluster, &format!("{executor_count} embedded executors with {vcores} vcore(s) each")).await
}

/// `sluice coordinator`.
pub async fn coordinator(args: CoordinatorArgs) -> Result<(), String> {
    let config = ServiceConfig::resolve(&args.service)?;
    let port = args.scheduler_port.unwrap_or(config.scheduler_port);
    let address = SocketAddr::new(config.bind, port);
    let secret = cluster_secret(args.cluster_secret_file.as_deref().or(config.cluster_secret_file.as_deref()))?;
    check_peer_bind(config.bind, config.insecure, secret.is_some())?;
    let external_host =
        args.external_host.or_else(|| config.external_host.clone()).unwrap_or_else(|| config.bind.to_string());
    let proof = if secret.is_some() { "with the cluster's secret" } else { "without proof of who they are" };
    let cluster = Cluster::Remote { address, external_host, secret };
    run(config, cluster, &format!("executors join at {address}, {proof}")).await
}

async fn run(config: ServiceConfig, cluster: Cluster, what: &str) -> Result<(), String> {
    let _lock = lock(&config.data_dir)?;
    // Ports are taken before anything is started, so that one in use is told at once.
    let pg = listen(config.bind, config.pg_port, "PostgreSQL clients", "--pg-port").await?;
    let flight = listen(config.bind, config.flight_port, "Flight SQL", "--flight-port").await?;
    let http = listen(config.bind, config.http_port, "the web page", "--http-port").await?;
    let (pg_at, flight_at, http_at) = (address_of(&pg)?, address_of(&flight)?, address_of(&http)?);
    let tls = config.tls.as_ref().map(Tls::read).transpose()?;
    let file_roots = FileRoots::new(&config.file_roots).map_err(|error| error.to_string())?;
    let engine = Engine::start(EngineOptions {
        data_dir: config.data_dir.clone(),
        cluster,
        memory_bytes: config.memory_bytes,
        catalogs: config.catalogs,
        tables: config.tables,
        max_sessions: config.max_connections,
        queues: config.queues,
        sharing: config.sharing,
        login: config.login,
        file_roots,
        audit: config.audit,
        otlp_endpoint: config.otlp_endpoint,
    })
    .await
    .map_err(|error| error.to_string())?;

    let stop = CancellationToken::new();
    let pg_options = PgOptions { max_connections: config.max_connections, ..PgOptions::default() };
    let incoming = |listener, protocol: &'static [u8]| {
        Incoming::new(listener, tls.as_ref(), protocol, stop.clone()).map_err(|error| error.to_string())
    };
    let (flight, http) = (incoming(flight, b"h2")?, incoming(http, b"http/1.1")?);
    let (pg_engine, pg_tls, pg_stop) = (engine.clone(), tls.clone(), stop.clone());
    let serve_pg = async move { crate::pg::serve(pg, pg_engine, pg_options, pg_tls.as_ref(), pg_stop).await };
    let page_url = crate::http::page_url(http_at, config.http_host.as_deref(), tls.is_some());
    engine.set_page_url(&page_url);
    let (http_engine, http_stop) = (engine.clone(), stop.clone());
    let serve_http = async move { crate::http::serve(http, http_engine, config.http_host.as_deref(), http_stop).await };
    // Who encrypts what clients ask for does not have the answers sent in clear.
    let wire = if tls.is_some() { Wire::Encrypted } else { Wire::MayBeClear };
    let flight_options = FlightOptions { wire, ..FlightOptions::default() };
    let services = [
        tokio::spawn(service("pgwire", serve_pg)),
        tokio::spawn(service("Flight SQL", crate::flight::serve(flight, engine.clone(), flight_options, stop.clone()))),
        tokio::spawn(service("HTTP", serve_http)),
    ];
    reload_on_signal(tls.clone(), stop.clone())?;
    println!("Sluice {} is ready: {what}", env!("CARGO_PKG_VERSION"));
    println!("  psql        psql -h {} -p {} -d sluice", pg_at.ip(), pg_at.port());
    let grpc = if tls.is_some() { "grpc+tls" } else { "grpc" };
    println!("  Flight SQL  {grpc}://{flight_at}");
    println!("  web page    {page_url}");
    println!("  data        {}", config.data_dir.display());
    let asked = match config.login {
        LoginPolicy::Trust => "nobody: every client is who it says it is",
        LoginPolicy::Password => "every client, for a role's password",
    };
    println!("  asked       {asked}");

    stop_signal().await?;
    println!("Shutting down: running queries get {} s", config.grace_seconds);
    let draining = engine.clone();
    let grace = Duration::from_secs(config.grace_seconds);
    tokio::select! {
        () = async { draining.drain(grace).await } => {}
        // A second signal means now.
        _ = stop_signal() => {}
    }
    stop.cancel();
    for handle in services {
        // Connections get a moment to say good-bye.
        let _ = tokio::time::timeout(Duration::from_secs(2), handle).await;
    }
    println!("Stopped");
    Ok(())
}

async fn service<E: std::fmt::Display>(name: &'static str, running: impl Future<Output = Result<(), E>>) {
    if let Err(error) = running.await {
        tracing::error!(%error, "{name} stopped");
    }
}

/// `sluice executor`: joins, and joins again when the coordinator was away.
pub async fn executor(args: ExecutorArgs) -> Result<(), String> {
    let config = ExecutorConfig::resolve(&args)?;
    let (port, files) = config.clients.unzip();
    let tls = files.flatten().as_ref().map(Tls::read).transpose()?;
    let clients = port.map(|port| ClientPort { port, tls: tls.as_ref().map(|tls| tls.gate(b"h2")) });
    reload_on_signal(tls, CancellationToken::new())?;
    let options = ExecutorOptions {
        coordinator: config.coordinator,
        bind: config.bind,
        host: config.host,
        vcores: config.vcores,
        memory_bytes: config.memory_bytes,
        traits: config.traits,
        work_dir: config.data_dir.join(format!("executor-{}", std::process::id())),
        secret: config.secret,
        clients,
    };
    let mut signal = Box::pin(stop_signal());
    let mut told = None;
    loop {
        let started = tokio::select! {
            started = RunningExecutor::start(options.clone()) => started,
            result = &mut signal => { result?; break }
        };
        match started {
            Ok(mut running) => {
                told = None;
                println!("Executor {} with {} vcores joined {}", running.id(), options.vcores, options.coordinator);
                tokio::select! {
                    () = running.stopped() => {
                        eprintln!("sluice: the coordinator at {} went away; joining again", options.coordinator);
                        running.stop(Duration::ZERO).await;
                        // Nobody else would have the files of its jobs removed.
                        let _ = std::fs::remove_dir_all(&options.work_dir);
                    }
                    result = &mut signal => {
                        result?;
                        println!("Shutting down: running tasks get {} s", config.grace_seconds);
                        running.stop(Duration::from_secs(config.grace_seconds)).await;
                        break;
                    }
                }
            }
            Err(error @ (ExecutorError::Coordinator { .. } | ExecutorError::Stranger { .. })) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    eprintln!("sluice: {error}; trying again until it lets this executor join");
                    told = Some(error);
                }
            }
            Err(error) => return Err(error.to_string()),
        }
        tokio::select! {
            () = tokio::time::sleep(REJOIN_DELAY) => {}
            result = &mut signal => { result?; break }
        }
    }
    // Shuffle files are of no use without the process.
    let _ = std::fs::remove_dir_all(&options.work_dir);
    println!("Stopped");
    Ok(())
}

/// Holds a data directory. Two services on one would overwrite each other's catalog.
pub(super) fn lock(data_dir: &Path) -> Result<std::fs::File, String> {
    std::fs::create_dir_all(data_dir).map_err(|error| format!("cannot create {}: {error}", data_dir.display()))?;
    let path = data_dir.join("lock");
    let file = std::fs::File::create(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(format!(
            "the data directory {} is in use by another sluice: stop it, or choose another with --data-dir",
            data_dir.display()
        )),
    }
}

async fn listen(bind: IpAddr, port: u16, what: &str, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind((bind, port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!(
                "port {port} on {bind}, wanted for {what}, is in use: stop what uses it, or choose another with {flag}"
            )
        }
        _ => format!("cannot listen on {bind}:{port} for {what}: {error}"),
    })
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| error.to_string())
}

/// SIGHUP has the files of TLS read anew.
fn reload_on_signal(tls: Option<Tls>, stop: CancellationToken) -> Result<(), String> {
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                received = hangup.recv() => if received.is_none() { return },
                () = stop.cancelled() => return,
            }
            let Some(tls) = &tls else { continue };
            let certificate = tls.certificate_file().display();
            match tls.reload() {
                Ok(()) => tracing::info!(%certificate, "read anew for connections to come"),
                Err(error) => tracing::error!(%error, "the certificate that was read before is kept"),
            }
        }
    });
    Ok(())
}

/// SIGTERM or Ctrl-C.
async fn stop_signal() -> Result<(), String> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => result.map_err(|error| format!("cannot wait for signals: {error}")),
    }
}
