"""Measures Sluice beside its peers. bench.sh starts what is measured; each command writes the results of one part.

    bench.py tpch       the 22 queries: Sluice embedded and as a cluster, DataFusion, DuckDB
    bench.py cassandra  scan, join and point read: Sluice twice, the plain driver, Spark
    bench.py memory     peak memory of the coordinator after a result, and after one five times as large
    bench.py report     the parts as <date>.json, latest.md and a table on the terminal

Contestants take turns run by run, so that a machine's noise hits all alike, and the best run counts. A run that fails,
and answers that differ between contestants, are told at once, noted in the results, and make the command fail.
"""

import argparse
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import duckdb
import psycopg

from contestants import TABLES, DataFusion, DuckDb, PlainDriver, Sluice, Spark, comparable
from report import Part, one_line, report

SCAN = "SELECT count(*), sum(o_totalprice) FROM {}"
JOIN = """SELECT c_mktsegment, count(*), sum(o_totalprice) FROM {} JOIN customer ON o_custkey = c_custkey
          GROUP BY c_mktsegment ORDER BY c_mktsegment"""
POINT = "SELECT * FROM {} WHERE o_orderkey = %s"
POINT_READS = 200
# Spark takes hundreds of milliseconds for each.
SPARK_POINT_READS = 50
POINT_WARM_UP_READS = 10
LARGER_RESULT = 5


def take_turns(part: Part, what: str, runs: int, contestants: dict) -> dict[str, float]:
    """The best seconds of each contestant, by name.

    A contestant is a function that returns its seconds and its answer; one that fails is told and left out.
    """
    best, answers, names = {}, {}, list(contestants)
    for run in range(runs):
        first = run % len(names)
        for name in names[first:] + names[:first]:
            if run > 0 and name not in best:
                continue
            try:
                seconds, answer = contestants[name]()
            except Exception as error:  # Whatever goes wrong with one must not hide what the others do.
                part.fail(f"{what}, {name}: {one_line(error)}")
                best.pop(name, None)
                continue
            best[name] = min(seconds, best.get(name, seconds))
            answers.setdefault(repr(answer), set()).add(name)
    if len(answers) > 1:
        part.fail(f"{what}: the answers differ: {answers}")
    times = (f"{name} {best[name]:8.4f} s" if name in best else f"{name} failed" for name in names)
    print(f"{what:15}", *times, sep="  ", flush=True)
    return best


def timed(run, sql: str, answer_of):
    """A contestant that runs a query and fetches all of its result."""

    def contestant() -> tuple[float, object]:
        started = time.perf_counter()
        rows = run(sql)
        return time.perf_counter() - started, answer_of(rows)

    return contestant


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
            sluice.external_table(name, arguments.data)
    part.versions = {peer.name: peer.version for peer in peers}
    contestants = [*sluices, *peers]
    for query in sorted(arguments.queries.glob("q*.sql")):
        runs = {each.name: timed(each.run, query.read_text(), len) for each in contestants}
        part.details[query.stem] = take_turns(part, query.stem, arguments.runs, runs)
    times = part.details.values()
    # A sum that lacks a query would flatter.
    sums = {each.name: sum(t[each.name] for t in times) for each in contestants if all(each.name in t for t in times)}
    for layout, aim in (("embedded", 1.1), ("cluster", 1.5)):
        what = f"TPC-H at scale {arguments.scale}, {len(times)} queries, {layout}"
        part.measure(what, "s", sums.get(layout), "DataFusion", sums.get("datafusion"), aim)
        part.measure(what, "s", sums.get(layout), "DuckDB", sums.get("duckdb"))


def load(part: Part, arguments: argparse.Namespace, sluice: Sluice, keyspace: str, row_count: int) -> None:
    """Puts orders into Cassandra through Sluice, unless all of them are there."""
    sluice.command(f"CREATE SCHEMA IF NOT EXISTS cass.{keyspace} WITH (replication_factor = 1)")
    table = f"cass.{keyspace}.orders"
    try:
        found = sluice.run(f"SELECT count(*) FROM {table}")[0][0]
    except psycopg.errors.UndefinedTable:
        found = 0
    if found == row_count and not arguments.reload:
        part.note(f"load: skipped, {table} has its {row_count} rows")
        return
    sluice.external_table("orders", arguments.data)
    sluice.command(f"DROP TABLE IF EXISTS {table}")
    started = time.perf_counter()
    sluice.command(f"CREATE TABLE {table} WITH (primary_key = '(o_orderkey)') AS SELECT * FROM orders")
    seconds = time.perf_counter() - started
    part.measure(f"load of {row_count} rows of orders into Cassandra", "rows/s", row_count / seconds)
    print(f"loaded {row_count} rows in {seconds:.1f} s", flush=True)
    # What the load leaves the nodes to do must not disturb the reads.
    for node in range(1, arguments.own_nodes + 1):
        subprocess.run([arguments.cluster_script, "nodetool", str(node), "compact", keyspace, "orders"], check=True)


def cassandra(arguments: argparse.Namespace, part: Part) -> None:
    keyspace = "bench_sf" + arguments.scale.replace(".", "_")
    orders = f"cass.{keyspace}.orders"
    of_all = f"SELECT o_orderkey FROM '{arguments.data}/orders.parquet' ORDER BY hash(o_orderkey)"
    keys = [key for (key,) in duckdb.sql(of_all).fetchall()]
    row_count, warm_up, keys = len(keys), keys[:POINT_WARM_UP_READS], keys[POINT_WARM_UP_READS:][:POINT_READS]

    sluices = layouts(arguments)
    for sluice in sluices:
        options = f"contact_points = '{arguments.contact_points}'"
        sluice.command(f"CREATE CATALOG IF NOT EXISTS cass USING cassandra WITH ({options})")
        sluice.external_table("customer", arguments.data)
    load(part, arguments, sluices[0], keyspace, row_count)

    def point_of(sluice: Sluice):
        def contestant() -> tuple[float, None]:
            sluice.point_times_s(POINT.format(orders), warm_up)
            return statistics.median(sluice.point_times_s(POINT.format(orders), keys)), None

        return contestant

    measures = {
        "scan": {each.name: timed(each.run, SCAN.format(orders), comparable) for each in sluices},
        "join": {each.name: timed(each.run, JOIN.format(orders), comparable) for each in sluices},
        "point": {each.name: point_of(each) for each in sluices},
    }
    with ExitStack() as stack:
        if arguments.plain_driver:
            plain = PlainDriver(arguments.plain_driver, arguments.contact_points, keyspace)
            measures["scan"][plain.name] = plain.scan
            measures["point"][plain.name] = lambda: (plain.point_median_s(POINT_READS), None)
        else:
            part.note("plain driver: skipped, its program is not there")
        if arguments.spark_jars:
            try:
                java = [arguments.java, f"-Xmx{arguments.spark_heap}", "-cp", f"{arguments.spark_jars}/*"]
                spark = Spark(java, arguments.contact_points, keyspace, arguments.data, arguments.scratch)
                stack.enter_context(spark)
                part.versions["spark"] = spark.version
                measures["scan"][spark.name] = lambda: spark.query("scan")
                measures["join"][spark.name] = lambda: spark.query("join")
                fewer = keys[:SPARK_POINT_READS]
                measures["point"][spark.name] = lambda: (statistics.median(spark.point_times_s(fewer)), None)
            except Exception as error:
                part.fail(f"spark does not start: {one_line(error)}")
        else:
            part.note(f"spark: skipped, {arguments.spark_skipped}")
        for what, contestants in measures.items():
            take_turns(part, f"{what} (warm-up)", 1, contestants)
            part.details[what] = take_turns(part, what, arguments.runs, contestants)

    scan, join, point = (part.details[what] for what in ("scan", "join", "point"))
    point = {name: seconds * 1e3 for name, seconds in point.items()}
    for layout in ("embedded", "cluster"):
        what = f"sum of a column of {row_count} rows in Cassandra, {layout}"
        part.measure(what, "s", scan.get(layout), "plain driver", scan.get("plain driver"), 1.2)
        part.measure(what, "s", scan.get(layout), "Spark", scan.get("spark"), 0.5)
        what = f"join of those with customers in Parquet, {layout}"
        part.measure(what, "s", join.get(layout), "Spark", join.get("spark"), 0.5)
        what = f"read of one of them by key, {layout}"
        part.measure(what, "ms", point.get(layout), "plain driver", point.get("plain driver"))
        part.measure(what, "ms", point.get(layout), "Spark", point.get("spark"), 0.5)


def peak_memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 2**10


def memory(arguments: argparse.Namespace, part: Part) -> None:
    if not Path("/proc/self/status").exists():
        part.note("memory: skipped, this system does not tell the peak memory of a process")
        return
    pids = {"embedded": arguments.embedded_pid, "cluster": arguments.coordinator_pid}
    names = {"embedded": "the embedded service", "cluster": "the coordinator of a cluster"}
    for sluice in layouts(arguments):
        sluice.external_table("lineitem", arguments.data)
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
    for run in (tpch, cassandra, memory):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        command.add_argument("--scale", required=True)
        command.add_argument("--runs", type=int, default=1, help="runs of each query, of which the best counts")
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
        if run is cassandra:
            command.add_argument("--contact-points", required=True)
            command.add_argument("--own-nodes", type=int, default=0)
            command.add_argument("--cluster-script", type=Path)
            command.add_argument("--reload", action="store_true")
            command.add_argument("--plain-driver", type=Path)
            command.add_argument("--spark-jars", type=Path)
            command.add_argument("--spark-skipped", default="it was not asked for")
            command.add_argument("--spark-heap", default="2g")
            command.add_argument("--java", default="java")
            command.add_argument("--scratch", type=Path, required=True)
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
