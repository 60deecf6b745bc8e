//! Everything that a user does, against real processes and a real Cassandra.
//!
//!     cargo build && cargo test -p sluice-sql-tests --test sql [-- FILTER]
//!
//! Tests are named `layout::topic::name`. First the `.slt` files, TPC-H and clients, several at a
//! time against one embedded service and one cluster; then the faults and the sharing between
//! tenants, one after another, each against a service of its own, because they break or fill what
//! the others need.
//!
//! `SLUICE_BIN` names the binary; `SLUICE_CASSANDRA=host:port` uses a cluster that is running
//! already (`sql-tests/cassandra/cluster.sh up`), which saves its start but leaves out the tests
//! that stop nodes.

mod access;
mod attacks;
mod bed;
mod cassandra_faults;
mod cassandra_load;
mod cassandra_login;
mod cassandra_memory;
mod cassandra_pushdown;
mod cassandra_statistics;
mod cassandra_trouble;
mod cassandra_types;
mod certificates;
mod clients;
mod endpoints;
mod faults;
mod frameworks;
mod keys;
mod library;
mod malformed;
mod metrics;
mod page;
mod peers;
mod plans;
mod policies;
mod sharing;
mod slt;
mod sluice_sql;
mod tokio_postgres_client;
mod tpch;
mod traces;
mod transfer;
mod walks;

use std::process::ExitCode;
use std::sync::Arc;

use bed::Bed;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let bed = match Bed::new() {
        Ok(bed) => Arc::new(bed),
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut together = slt::trials(&bed);
    together.extend(tpch::trials(&bed));
    together.extend(clients::trials(&bed));
    together.extend(tokio_postgres_client::trials(&bed));
    together.extend(walks::trials(&bed));
    together.extend(keys::trials(&bed));
    together.extend(plans::trials(&bed));
    together.extend(cassandra_types::trials(&bed));
    together.extend(cassandra_pushdown::trials(&bed));
    together.extend(library::trials(&bed));
    let shared = libtest_mimic::run(&arguments, together);
    // Services that nobody needs any more make room for those that will be broken or filled.
    bed.stop_services();

    let alone = Arguments { test_threads: Some(1), ..arguments };
    let mut apart = faults::trials(&bed);
    apart.extend(cassandra_faults::trials(&bed));
    apart.extend(cassandra_memory::trials(&bed));
    apart.extend(transfer::trials(&bed));
    apart.extend(sharing::trials(&bed));
    apart.extend(frameworks::trials(&bed));
    apart.extend(cassandra_statistics::trials(&bed));
    apart.extend(cassandra_login::trials(&bed));
    apart.extend(cassandra_trouble::trials(&bed));
    apart.extend(cassandra_load::trials(&bed));
    apart.extend(malformed::trials(&bed));
    apart.extend(tokio_postgres_client::measured(&bed));
    apart.extend(access::trials(&bed));
    apart.extend(attacks::trials(&bed));
    apart.extend(policies::trials(&bed));
    apart.extend(endpoints::trials(&bed));
    apart.extend(peers::trials(&bed));
    apart.extend(certificates::trials(&bed));
    apart.extend(metrics::trials(&bed));
    apart.extend(traces::trials(&bed));
    apart.extend(sluice_sql::trials(&bed));
    apart.extend(page::trials(&bed));
    let apart = libtest_mimic::run(&alone, apart);
    bed.tell_failures();
    drop(bed);
    if shared.has_failed() || apart.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
