//! The binary `sluice`: the whole service, or one role of a cluster.

/// Query execution allocates and frees in many threads at once, where the system's allocator is several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sluice_server::cli::run()
}
