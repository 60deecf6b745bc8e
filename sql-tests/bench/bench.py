"""Measures Sluice beside its peers. bench.sh starts what is measured; each command writes the results of one part.

    bench.py tpch              the 22 queries: Sluice embedded and as a cluster, DataFusion, DuckDB
    bench.py cassandra         reads, writes and backups: Sluice twice, the plain driver, Spark, Trino
    bench.py cassandra_memory  peak memory of an executor that reads a table, and one five times as large
    bench.py memory            peak memory of the coordinator after a result, and after one five times as large
    bench.py report            the parts as <date>.json, latest.md and a table on the terminal

Contestants take turns run by run, so that a machine's noise hits all alike, and the best run counts. A run that fails,
and answers that differ between contestants, are told at once, noted in the results, and make the command fail.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from cassandra_part import MEASURES, cassandra, cassandra_memory
from contestants import TABLES, DataFusion, DuckDb, Sluice, peak_memory_mib
from report import Part, one_line, report
from turns import take_turns, timed

LARGER_RESULT = 5


def settings(arguments: argparse.Namespace) -> dict:
    return {
        "scale": arguments.scale,
        "best of": arguments.runs,
        "embedded": arguments.embedded_layout,
        "cluster": arguments.cluster_layout,
    }


def layouts(arguments: argparse.Namespace) -> list[Sluice]:
    return [Sluice("embedded", arguments.embedded_port), Sluice("cluster", arguments.cluster_port)]


def tpch(arguments: argparse.Namespace, part: Part) -> None:
    sluices, peers = layouts(arguments), [DataFusion(arguments.data), DuckDb(arguments.data)]
    for sluice in sluices:
        for name in TABLES:
            sluice.external_table(name, arguments.data / f"{name}.parquet")
    part.versions = {peer.name: peer.version for peer in peers}
    contestants = [*sluices, *peers]
    for query in sorted(arguments.queries.glob("q*.sql")):
        runs = {each.name: timed(each.run, query.read_text(), len) for each in contestants}
        part.details[query.stem] = take_turns(part, query.stem, dict.fromkeys(runs, arguments.runs), runs)
    times = part.details.values()
    # A sum that lacks a query would flatter.
    sums = {each.name: sum(t[each.name] for t in times) for each in contestants if all(each.name in t for t in times)}
    for layout, aim in (("embedded", 1.1), ("cluster", 1.5)):
        what = f"TPC-H at scale {arguments.scale}, {len(times)} queries, {layout}"
        part.measure(what, "s", sums.get(layout), "DataFusion", sums.get("datafusion"), aim)
        part.measure(what, "s", sums.get(layout), "DuckDB", sums.get("duckdb"))


def memory(arguments: argparse.Namespace, part: Part) -> None:
    if not Path("/proc/self/status").exists():
        part.note("memory: skipped, this system does not tell the peak memory of a process")
        return
    pids = {"embedded": arguments.embedded_pid, "cluster": arguments.coordinator_pid}
    names = {"embedded": "the embedded service", "cluster": "the coordinator of a cluster"}
    for sluice in layouts(arguments):
        sluice.external_table("lineitem", arguments.data / "lineitem.parquet")
        row_count = sluice.run("SELECT count(*) FROM lineitem")[0][0]
        peaks, details = [], part.details.setdefault(sluice.name, {})
        try:
            for times in (1, LARGER_RESULT):
                started = time.perf_counter()
                found = sluice.drain(f"SELECT l.* FROM generate_series(1, {times}) CROSS JOIN lineitem l")
                seconds = time.perf_counter() - started
                if found != times * row_count:
                    part.fail(f"{sluice.name}: {found} rows instead of {times * row_count}")
                peaks.append(peak_memory_mib(pids[sluice.name]))
                details[f"{times}x"] = {"rows": found, "seconds": seconds, "peak_mib": peaks[-1]}
                print(f"memory, {sluice.name}: {found} rows in {seconds:.1f} s, peak {peaks[-1]:.0f} MiB", flush=True)
        except Exception as error:
            part.fail(f"{sluice.name}: {one_line(error)}")
        what = f"peak memory of {names[sluice.name]} after {LARGER_RESULT * row_count} rows"
        large, small = (peaks[1], peaks[0]) if len(peaks) == 2 else (None, None)
        # Executors run in the embedded service too, so that only the coordinator of a cluster must stay flat.
        part.measure(what, "MiB", large, f"after {row_count}:", small, 1.1 if sluice.name == "cluster" else None)


def report_parts(arguments: argparse.Namespace) -> None:
    report(arguments.parts, arguments.results, dict(version.split("=", 1) for version in arguments.version))


def main() -> None:
    # bench.sh ends this by SIGTERM; what was started here is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (tpch, cassandra, cassandra_memory, memory):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        command.add_argument("--scale", required=True)
        command.add_argument("--runs", type=int, default=1, help="runs of each query, of which the best counts")
        if run is not cassandra_memory:
            command.add_argument("--data", type=Path, required=True)
        command.add_argument("--output", type=Path, required=True)
        for layout in ("embedded", "cluster"):
            command.add_argument(f"--{layout}-port", type=int, required=True)
            command.add_argument(f"--{layout}-layout", default="")
        if run is tpch:
            command.add_argument("--queries", type=Path, required=True)
        if run is memory:
            command.add_argument("--embedded-pid", type=int, required=True)
            command.add_argument("--coordinator-pid", type=int, required=True)
        if run in (cassandra, cassandra_memory):
            command.add_argument("--contact-points", required=True)
            command.add_argument("--scratch", type=Path, required=True)
        if run is cassandra_memory:
            command.add_argument("--executor-pid", type=int, required=True)
        if run is cassandra:
            command.add_argument("--measures", type=lambda words: words.split(","), default=list(MEASURES))
            command.add_argument("--own-nodes", type=int, default=0)
            command.add_argument("--cluster-script", type=Path)
            command.add_argument("--plain-driver", type=Path)
            command.add_argument("--peer-runs", type=int, default=1, help="the same for Spark and Trino")
            command.add_argument("--peers-write-all", action="store_true")
            command.add_argument("--peer-heap", default="2g")
            command.add_argument("--spark-jars", type=Path)
            command.add_argument("--trino-home", type=Path)
            for peer in ("spark", "trino"):
                command.add_argument(f"--{peer}-java", default="java")
                command.add_argument(f"--{peer}-skipped", default="it was not asked for")
    command = commands.add_parser("report")
    command.add_argument("--results", type=Path, required=True)
    command.add_argument("--version", action="append", default=[], metavar="NAME=VERSION")
    command.add_argument("parts", type=Path, nargs="+")
    command.set_defaults(run=report_parts)
    arguments = parser.parse_args()
    if arguments.run is report_parts:
        return report_parts(arguments)
    with Part(arguments.run.__name__, settings(arguments), arguments.output) as part:
        arguments.run(arguments, part)


if __name__ == "__main__":
    main()
