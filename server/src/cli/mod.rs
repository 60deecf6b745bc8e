//! The command line of `sluice`: configuration, roles, client, sample data, simulator.
//!
//! - [`args`]: commands and flags; a flag wins over its environment variable
//! - [`config`]: the TOML file, over which both win
//! - [`serve`]: the roles of the service
//! - [`create_superuser`]: the first role of a service that asks for passwords
//! - [`sql`]: a client to a running service
//! - [`sample_data`]: TPC-H as Parquet
//! - [`simulate`]: an invented cluster, to try queues and waits on

pub mod args;
pub mod config;
pub mod create_superuser;
pub mod sample_data;
pub mod serve;
pub mod simulate;
pub mod sql;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Embedded executors share a folder, so that all but one of them find a job's files removed already.
const DEFAULT_LOG: &str = "warn,sluice_server=info,ballista_scheduler::state::executor_manager=error,scylla=error";

/// Runs the command line; the exit code is 0 on success, 1 on a failure, 2 on wrong usage.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(DEFAULT_LOG)),
        )
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(crate::engine::THREAD_STACK_BYTES)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start: {error}")),
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::serve(args).await,
            Command::Coordinator(args) => serve::coordinator(args).await,
            Command::Executor(args) => serve::executor(args).await,
            Command::CreateSuperuser(args) => create_superuser::run(args),
            Command::Sql(args) => sql::run(args).await,
            Command::SampleData(args) => sample_data::run(&args),
            Command::Simulate(args) => simulate::run(&args),
        }
    });
    // Tasks that are still blocked on a disk or a peer must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => failed(&message),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("sluice: {message}");
    ExitCode::FAILURE
}
