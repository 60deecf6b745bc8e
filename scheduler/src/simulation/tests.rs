//! What the scenarios of the documentation show, and what holds in every simulation.

use super::run::Simulation;
use super::*;
use crate::core::Policy;

const FLOOD: &str = include_str!("../../../docs/scenarios/flood.toml");
const GUARANTEES: &str = include_str!("../../../docs/scenarios/guarantees.toml");
const REPLICAS: &str = include_str!("../../../docs/scenarios/replicas.toml");

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text).expect("is right")
}

fn queue<'a>(outcome: &'a Outcome, path: &str) -> &'a QueueOutcome {
    outcome.queues.iter().find(|queue| queue.path == path).expect("is in the scenario")
}

#[test]
fn the_same_scenario_gives_the_same_report_and_picture_to_the_last_byte() {
    for text in [FLOOD, GUARANTEES, REPLICAS] {
        let [first, second] = [(); 2].map(|()| simulate(&scenario(text)));
        assert_eq!(first.report(), second.report());
        assert_eq!(plot::svg(&first), plot::svg(&second));
    }
    let mut other = scenario(FLOOD);
    other.seed += 1;
    assert_ne!(simulate(&other).report(), simulate(&scenario(FLOOD)).report());
}

#[test]
fn nothing_is_lost_or_held_twice_at_any_moment() {
    for text in [FLOOD, GUARANTEES, REPLICAS] {
        for policy in [Policy::Drf, Policy::Fifo] {
            let scenario = Scenario { policy, ..scenario(text) };
            let mut simulation = Simulation::new(&scenario);
            simulation.begin();
            let mut steps = 0;
            while simulation.step() {
                steps += 1;
                // The check takes longer than what it checks.
                if steps % 20 == 0 {
                    simulation.check().expect("sums agree");
                }
            }
            simulation.check().expect("sums agree");
        }
    }
}

#[test]
fn every_policy_gets_the_same_jobs() {
    let [drf, fifo] = [Policy::Drf, Policy::Fifo].map(|policy| simulate(&Scenario { policy, ..scenario(FLOOD) }));
    let side_by_side = comparison(&[drf.clone(), fifo.clone()]);
    assert_eq!(side_by_side.lines().count(), 2 + 2 * drf.queues.len(), "{side_by_side}");
    for (drf, fifo) in drf.queues.iter().zip(&fifo.queues) {
        let [drf, fifo] = [drf, fifo].map(|queue| queue.jobs.iter().map(|job| job.arrived_ms).collect::<Vec<_>>());
        assert_eq!(drf, fifo);
    }
}

#[test]
fn a_flood_of_one_queue_does_not_keep_another_waiting() {
    let wait_ms = |policy| {
        let outcome = simulate(&Scenario { policy, ..scenario(FLOOD) });
        queue(&outcome, "dashboards").waits().expect("jobs ran").p95_ms
    };
    let (drf_ms, fifo_ms) = (wait_ms(Policy::Drf), wait_ms(Policy::Fifo));
    assert!(drf_ms < 2_000 && fifo_ms > 60_000, "{drf_ms} ms with drf, {fifo_ms} ms with fifo");
}

#[test]
fn a_guarantee_is_restored_although_the_tasks_in_its_way_are_long() {
    let outcome = simulate(&scenario(GUARANTEES));
    let (trading, research) = (queue(&outcome, "trading"), queue(&outcome, "research"));
    assert!(research.tasks.revoked > 0 && trading.tasks.revoked == 0);
    assert!(research.tasks.again <= research.tasks.revoked, "what was revoked runs again");
    let wait_ms = trading.waits().expect("jobs ran").max_ms;
    assert!(wait_ms <= 7_000, "waited {wait_ms} ms");
}

#[test]
fn most_tasks_run_where_their_data_is_and_a_failure_loses_nothing() {
    let outcome = simulate(&scenario(REPLICAS));
    let scans = queue(&outcome, "scans");
    assert!(scans.locality() > Some(0.9), "{:?}", scans.locality());
    assert!(outcome.failures == 2 && scans.tasks.lost > 0);
    assert_eq!(scans.ended_jobs(), scans.jobs.len(), "every job ended in spite of it");
    let impatient = REPLICAS.replace("host_wait = \"2s\"", "host_wait = \"0s\"").replace("rack_wait", "# rack_wait");
    let impatient = simulate(&scenario(&impatient));
    assert!(queue(&impatient, "scans").locality() < scans.locality(), "waiting pays");
}

/// With one executor and one kind of task all can be told beforehand.
#[test]
fn a_small_run_by_hand() {
    let outcome = simulate(&scenario(
        r#"
        duration = "20s"
        [[executors]]
        count = 1
        each = { cpu = 2, memory = "4GB" }
        [[queues]]
        path = "a"
        max_running = 1
        max_queued = 1
        queue_timeout = "5s"
        [[workloads]]
        queue = "a"
        jobs = 3
        tasks = 4
        task = { cpu = 1, memory = "1GB" }
        time = { fixed = "4s" }
        "#,
    ));
    let a = &outcome.queues[0];
    // Two tasks at a time: the first job takes 8 seconds. The second gives up after 5, the third had no place to wait.
    assert_eq!((a.jobs.len(), a.ended_jobs(), a.expired_jobs, a.refused_jobs), (3, 1, 1, 1));
    assert_eq!(a.times().map(|times| times.max_ms), Some(8_000));
    assert_eq!((a.tasks.started, a.tasks.finished, a.tasks.again), (4, 4, 0));
    let cpu = &outcome.utilisation[0].1;
    let average = cpu.iter().sum::<f64>() / cpu.len() as f64;
    assert!((average - 0.4).abs() < 0.01, "8 of 20 seconds: {average}");
}
