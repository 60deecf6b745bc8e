//! `sluice simulate`: what the scheduler would do with an invented cluster.

use std::io::Write;
use std::path::{Path, PathBuf};

use sluice_scheduler::core::Policy;
use sluice_scheduler::simulation::{Outcome, Scenario, comparison, plot, simulate};

use super::args::{PolicyName, SimulateArgs};

/// Prints what would happen and draws it.
pub fn run(args: &SimulateArgs) -> Result<(), String> {
    let path = args.scenario.display();
    let text = std::fs::read_to_string(&args.scenario).map_err(|error| format!("cannot read {path}: {error}"))?;
    let mut scenario = Scenario::parse(&text).map_err(|error| format!("{path}: {error}"))?;
    if let Some(seed) = args.seed {
        scenario.seed = seed;
    }
    match args.policy {
        Some(PolicyName::Drf) => scenario.policy = Policy::Drf,
        Some(PolicyName::Fifo) => scenario.policy = Policy::Fifo,
        None => {}
    }
    let svg = args.svg.clone().unwrap_or_else(|| args.scenario.with_extension("svg"));
    if !args.compare {
        let outcome = simulate(&scenario);
        print(&format!("{}\n", outcome.report()))?;
        return draw(&outcome, &svg);
    }
    let outcomes = [Policy::Drf, Policy::Fifo].map(|policy| {
        scenario.policy = policy;
        simulate(&scenario)
    });
    for outcome in &outcomes {
        print(&format!("{}\n", outcome.report()))?;
    }
    print(&format!("The same jobs side by side\n{}\n\n", comparison(&outcomes)))?;
    outcomes.iter().try_for_each(|outcome| draw(outcome, &named(&svg, outcome.policy_name())))
}

fn draw(outcome: &Outcome, path: &Path) -> Result<(), String> {
    let svg = plot::svg(outcome).map_err(|error| error.to_string())?;
    std::fs::write(path, svg).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    print(&format!("The picture is in {}\n", path.display()))
}

/// Writes to standard output; a reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot write: {error}")),
        _ => Ok(()),
    }
}

/// `flood.svg` becomes `flood-fifo.svg`.
fn named(path: &Path, policy: &str) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{stem}-{policy}.svg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: &str = r#"
        duration = "1m"
        [[executors]]
        count = 1
        each = { cpu = 2, memory = "4GB" }
        [[queues]]
        path = "a"
        [[workloads]]
        queue = "a"
        tasks = 4
        task = { cpu = 1, memory = "1GB" }
        time = { fixed = "5s" }
    "#;

    fn args(scenario: PathBuf, compare: bool) -> SimulateArgs {
        SimulateArgs { scenario, svg: None, policy: None, seed: None, compare }
    }

    #[test]
    fn the_picture_is_beside_the_scenario() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("small.toml");
        std::fs::write(&path, SCENARIO).expect("is written");
        run(&args(path.clone(), false)).expect("runs");
        run(&args(path, true)).expect("runs twice");
        for name in ["small.svg", "small-drf.svg", "small-fifo.svg"] {
            let svg = std::fs::read_to_string(directory.path().join(name)).expect(name);
            assert!(svg.starts_with("<svg"), "{name}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_the_file_and_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("wrong.toml");
        let error = run(&args(path.clone(), false)).expect_err("is missing");
        assert!(error.contains("cannot read") && error.contains("wrong.toml"), "{error}");
        std::fs::write(&path, SCENARIO.replace("queue = \"a\"", "queue = \"b\"")).expect("is written");
        let error = run(&args(path, false)).expect_err("is wrong");
        assert!(error.contains("wrong.toml: line 8: queue \"b\" does not exist"), "{error}");
    }
}
