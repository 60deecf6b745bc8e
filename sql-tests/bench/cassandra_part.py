"""The part `cassandra`: what Sluice makes of Cassandra beside its peers and the plain driver.

TPC-H's orders with one column more, so that there are ten, are written from Parquet; what the cluster layout wrote is
what all the others then read.

    write    rows of Parquet into a table, a fifth of orders and all of it
    scan     one column, and ten columns, of a whole table
    keys     join of a table with 10,000 keys in Parquet
    join     join of two tables
    point    reads of a row by key, one after another
    backup   a table to Parquet
"""

import argparse
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import duckdb
import psycopg

from cassandra_contestants import (
    SPARK_DIRECT_JOIN,
    SPARK_TUNED_WRITE,
    Peer,
    PlainDriver,
    SluiceOnCassandra,
    Spark,
    Trino,
    TunedSluice,
)
from contestants import peak_memory_mib
from report import Part, one_line
from turns import Contestant, comparable, take_turns

PEERS = ("spark", SPARK_TUNED_WRITE, SPARK_DIRECT_JOIN, "trino")
MEASURES = ("write", "scan", "keys", "join", "point", "backup")
ORDERS = {
    "o_orderkey": "bigint",
    "o_custkey": "bigint",
    "o_orderstatus": "text",
    "o_totalprice": "decimal(15, 2)",
    "o_orderdate": "date",
    "o_orderpriority": "text",
    "o_clerk": "text",
    "o_shippriority": "int",
    "o_comment": "text",
    "o_orderyear": "int",
}
CUSTOMER = {"c_custkey": "bigint", "c_name": "text", "c_nationkey": "bigint", "c_mktsegment": "text"}
KEYS = {"k_orderkey": "bigint"}
# What needs every cell of a column, and is the same for the plain driver, which has them built in.
AGGREGATE_OF = {"bigint": "sum({})", "int": "sum({})", "decimal(15, 2)": "sum({})", "text": "sum(length({}))"}
SCAN_1 = "SELECT count(*), sum(o_totalprice) FROM {orders}"
SCAN_10 = "SELECT count(*), {} FROM {{orders}}".format(
    ", ".join(AGGREGATE_OF.get(kind, "max({})").format(column) for column, kind in ORDERS.items())
)
JOIN_KEYS = "SELECT count(*), sum(o_totalprice) FROM {keys} JOIN {orders} ON o_orderkey = k_orderkey"
JOIN = """SELECT c_mktsegment, count(*), sum(o_totalprice) FROM {orders} JOIN {customer} ON o_custkey = c_custkey
          GROUP BY c_mktsegment ORDER BY c_mktsegment"""
KEY_COUNT = 10_000
POINT_READS = 200
# A peer takes a hundred milliseconds for each.
PEER_POINT_READS = 50
POINT_WARM_UP_READS = 10
# What the plain driver tries: token ranges, keys, and batches in flight with the rows of each. With 30 rows a batch is
# about as large as a node takes without a warning (5 KiB), with 100 about half as large as it takes at all (50 KiB).
SCAN_CHOICES = [(4,), (8,), (16,)]
KEYS_CHOICES = [(16,), (32,), (64,), (128,), (256,)]
WRITE_CHOICES = [(64, 1), (128, 1), (256, 1), (512, 1), (16, 30), (32, 30), (64, 30), (16, 100), (32, 100)]
# Rows with which it tries a way of writing.
WRITE_TRIAL_ROWS = 100_000
# Runs of a write of a fifth; what it leaves the nodes to do disturbs the next ones.
MOST_WRITE_RUNS = 2
# Sluice's times over the better peer's, and over the plain driver's.
PEER_AIM, DRIVER_SCAN_AIM, DRIVER_WRITE_AIM = 0.5, 1.1, 1.2
# The peak memory with a table over that with one a fifth as large.
MEMORY_AIM = 1.1


def make_sources(data: Path, folder: Path) -> dict[str, Path]:
    """The Parquet that is read, in a folder each: orders, a fifth of them, a few of those, keys, and customers."""
    orders = f"SELECT *, year(o_orderdate)::INTEGER AS o_orderyear FROM '{data}/orders.parquet'"
    # By hash, so that keys come from all over the table.
    sample = f"(SELECT * FROM ({orders}) ORDER BY hash(o_orderkey) LIMIT {KEY_COUNT})"
    customer = f"SELECT {', '.join(CUSTOMER)} FROM '{data}/customer.parquet'"
    queries = {
        "orders": orders,
        "fifth": f"SELECT * FROM ({orders}) WHERE o_custkey % 5 = 0",
        "few": f"SELECT * FROM ({orders}) WHERE o_custkey % 5 = 0 LIMIT {KEY_COUNT}",
        "keys": f"SELECT o_orderkey AS k_orderkey FROM {sample}",
        "customer": customer,
    }
    for name, query in queries.items():
        (folder / name).mkdir(parents=True)
        duckdb.sql(f"COPY ({query}) TO '{folder / name / 'data.parquet'}' (FORMAT parquet)")
    return {name: folder / name for name in queries}


def target(size: str, writer: str) -> str:
    """The table into which one writes orders, or a fifth of them; what the cluster writes is read afterwards."""
    table = "orders" if size == "orders" else "orders_fifth"
    return table if writer == "cluster" else f"{table}_by_{writer.replace(' ', '_')}"


class CassandraBench:
    """One run of the part; `measures` are asked for in the order in which this module lists them."""

    def __init__(self, arguments: argparse.Namespace, part: Part) -> None:
        self.arguments, self.part = arguments, part
        self.keyspace = keyspace_of(arguments.scale)
        self.sources = make_sources(arguments.data, arguments.scratch / "source")
        self.row_count = {name: count_of(folder) for name, folder in self.sources.items()}
        self.sluices = [
            SluiceOnCassandra("embedded", arguments.embedded_port, arguments.contact_points, self.keyspace),
            SluiceOnCassandra("cluster", arguments.cluster_port, arguments.contact_points, self.keyspace),
        ]
        self.cluster = self.sluices[1]
        self.tuned_sluices = [
            TunedSluice("embedded tuned", arguments.embedded_port, arguments.contact_points, self.keyspace),
            TunedSluice("cluster tuned", arguments.cluster_port, arguments.contact_points, self.keyspace),
        ]
        self.plain = None
        if arguments.plain_driver:
            self.plain = PlainDriver(arguments.plain_driver, arguments.contact_points, self.keyspace)
        else:
            part.note("plain driver: skipped, its program is not there")
        self.peers: list[Peer] = []
        self.choices: dict[str, tuple] = {}
        self.backup_count = 0
        keys = [key for (key,) in duckdb.sql(f"FROM '{self.sources['keys']}/data.parquet'").fetchall()]
        self.key_file = arguments.scratch / "keys.txt"
        self.key_file.write_text("".join(f"{key}\n" for key in keys))
        self.warm_up_keys, self.point_keys = keys[:POINT_WARM_UP_READS], keys[POINT_WARM_UP_READS:][:POINT_READS]

    def run(self) -> None:
        with ExitStack() as stack:
            self.make_tables()
            for peer_of in (self.spark, self.trino):
                self.start_peer(stack, peer_of)
            for measure in MEASURES:
                if measure in self.arguments.measures:
                    started = time.perf_counter()
                    getattr(self, measure)()
                    print(f"{measure} took {time.perf_counter() - started:.0f} s in all", flush=True)

    # What is there before anything is measured.

    def make_tables(self) -> None:
        """Makes the tables. A measure of writes brings their rows; without, those are loaded that are not there."""
        self.cluster.command(f"CREATE SCHEMA IF NOT EXISTS cass.{self.keyspace} WITH (replication_factor = 1)")
        if "write" in self.arguments.measures:
            for size in ("fifth", "orders"):
                for writer in self.writers(size):
                    # To Trino a decimal of Cassandra is a double, which it cannot write as a decimal.
                    types = {**ORDERS, "o_totalprice": "double precision"} if writer == "trino" else ORDERS
                    self.make_table(target(size, writer), types)
            self.load("customer", "customer", CUSTOMER)
        else:
            self.load("customer", "customer", CUSTOMER)
            self.load("orders", "orders", ORDERS)
            self.load("orders_fifth", "fifth", ORDERS)
            self.settle()

    def make_table(self, table: str, columns: dict[str, str]) -> None:
        name, (key, *_) = self.cluster.table(table), columns
        self.cluster.command(f"DROP TABLE IF EXISTS {name}")
        types = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        self.cluster.command(f"CREATE TABLE {name} ({types}, PRIMARY KEY ({key}))")

    def load(self, table: str, source: str, columns: dict[str, str]) -> None:
        row_count = self.row_count[source]
        try:
            if self.cluster.run(f"SELECT count(*) FROM {self.cluster.table(table)}")[0][0] == row_count:
                return
        except psycopg.errors.UndefinedTable:
            pass
        self.make_table(table, columns)
        self.cluster.run(insert(self.cluster, table, self.sources[source], columns))
        print(f"loaded {row_count} rows of {table}", flush=True)

    def settle(self) -> None:
        """Has the nodes do what the writes left to do, and Sluice ask for sizes anew."""
        for node in range(1, self.arguments.own_nodes + 1):
            words = [self.arguments.cluster_script, "nodetool", str(node), "compact", self.keyspace]
            subprocess.run([*words, "orders", "orders_fifth", "customer"], check=True)
        for sluice in self.sluices:
            sluice.command("REFRESH CATALOG cass")

    def writers(self, size: str) -> list[str]:
        """The names of those who write a table. Who is slow writes all of orders only if that was asked for."""
        names = [sluice.name for sluice in [*self.sluices, *self.tuned_sluices]] + [SPARK_TUNED_WRITE]
        names += [self.plain.name] if self.plain else []
        if size == "fifth" or self.arguments.peers_write_all:
            names += ["spark", "trino"]
        return names

    def spark(self) -> Peer | None:
        arguments = self.arguments
        if not arguments.spark_jars:
            self.part.note(f"spark: skipped, {arguments.spark_skipped}")
            return None
        of = (arguments.spark_java, arguments.peer_heap, arguments.spark_jars)
        return Spark(*of, arguments.contact_points, self.keyspace, arguments.scratch)

    def trino(self) -> Peer | None:
        arguments = self.arguments
        if not arguments.trino_home:
            self.part.note(f"trino: skipped, {arguments.trino_skipped}")
            return None
        local_dc = self.cluster.run("SELECT data_center FROM cass.system.local")[0][0]
        of = (arguments.trino_java, arguments.peer_heap, arguments.trino_home)
        columns = {name: ORDERS for name in ("orders", "fifth", "few")} | {"keys": KEYS, "customer": CUSTOMER}
        return Trino(*of, arguments.contact_points, self.keyspace, local_dc, columns, arguments.scratch)

    def start_peer(self, stack: ExitStack, peer_of: Callable[[], Peer | None]) -> None:
        name = peer_of.__name__
        try:
            if peer := peer_of():
                stack.enter_context(peer)
                self.part.versions[peer.name] = peer.version
                self.peers.append(peer)
        except Exception as error:
            self.part.fail(f"{name} does not start: {one_line(error)}")

    # The measures.

    def runs(self, contestants: dict[str, Contestant], most: int) -> dict[str, int]:
        return {name: min(most, self.arguments.peer_runs) if name in PEERS else most for name in contestants}

    def turns(self, what: str, contestants: dict[str, Contestant]) -> dict[str, float]:
        """All of them once unmeasured, then in turns."""
        take_turns(self.part, f"{what} (warm-up)", dict.fromkeys(contestants, 1), contestants)
        times = take_turns(self.part, what, self.runs(contestants, self.arguments.runs), contestants)
        self.part.details[what] = times
        return times

    def tuned(self, what: str, contestant_of: Callable[..., Contestant], choices: list[tuple]) -> Contestant:
        """The plain driver as it is fastest; when it is first asked, each choice is tried once."""

        def contestant() -> tuple[float, object]:
            if what not in self.choices:
                seconds, failures = {}, {}
                for choice in choices:
                    try:
                        seconds[choice] = contestant_of(*choice, True)()[0]
                    except Exception as error:
                        failures[choice] = f"failed ({one_line(error)})"
                results = {choice: f"{time:.2f} s" for choice, time in seconds.items()} | failures
                tried = ", ".join(f"{' x '.join(map(str, choice))}: {result}" for choice, result in results.items())
                self.part.note(f"plain driver, {what}, by what is in flight: {tried}")
                self.choices[what] = min(seconds, key=seconds.get, default=())
            if not self.choices[what]:
                raise RuntimeError("no way of asking worked")
            return contestant_of(*self.choices[what], False)()

        return contestant

    def write(self) -> None:
        columns = list(ORDERS)

        def by_driver(size: str) -> Callable[..., Contestant]:
            into = target(size, self.plain.name)
            source = target(size, "cluster")

            def contestant_of(concurrency: int, batch_rows: int, is_trial: bool) -> Contestant:
                rows = min(WRITE_TRIAL_ROWS, self.row_count[size]) if is_trial else "all"
                return lambda: (
                    self.plain.write(source, into, columns, rows, concurrency, batch_rows),
                    None if is_trial else self.written(into),
                )

            return contestant_of

        def by_sql(size: str, source: str) -> dict[str, Contestant]:
            def contestant(engine: SluiceOnCassandra | Peer, name: str, write: Callable) -> Contestant:
                into = target(size, name)
                sql = insert(engine, into, self.sources[source], ORDERS)
                return lambda: (write(sql)[0], self.written(into))

            engines = [*self.sluices, *self.tuned_sluices, *self.peers]
            writers = [(engine, engine.name, engine.query) for engine in engines]
            for peer in self.peers:
                if isinstance(peer, Spark):
                    writers.append((peer, SPARK_TUNED_WRITE, partial(peer.query_as, SPARK_TUNED_WRITE)))
            asked = self.writers(size)
            return {name: contestant(engine, name, write) for engine, name, write in writers if name in asked}

        warm_up = by_sql("fifth", "few")
        take_turns(self.part, "write (warm-up)", dict.fromkeys(warm_up, 1), warm_up)
        for size, most in (("fifth", min(self.arguments.runs, MOST_WRITE_RUNS)), ("orders", 1)):
            writers = by_sql(size, size)
            if self.plain:
                writers[self.plain.name] = self.tuned("write", by_driver(size), WRITE_CHOICES)
            what = f"write of {size}"
            times = take_turns(self.part, what, self.runs(writers, most), writers)
            self.part.details[what] = times
            self.compare(f"write of {self.row_count[size]} rows", "s", times, DRIVER_WRITE_AIM)
            self.drop_all_but_cluster(size)
        self.settle()

    def written(self, table: str) -> list:
        """What is in a table, to be compared with what others wrote."""
        return comparable(self.cluster.run(SCAN_10.format(orders=self.cluster.table(table))))

    def drop_all_but_cluster(self, size: str) -> None:
        for writer in self.writers(size):
            if writer != "cluster":
                self.cluster.command(f"DROP TABLE IF EXISTS {self.cluster.table(target(size, writer))}")

    def asked(self, template: str) -> dict[str, Contestant]:
        """All who take part, but the driver, with a query."""
        engines = [*self.sluices, *self.peers]
        return {engine.name: partial(engine.query, self.sql(engine, template)) for engine in engines}

    def sql(self, engine: SluiceOnCassandra | Peer, template: str) -> str:
        tables = {name: engine.table(name) for name in ("orders", "customer")}
        return template.format(**tables, keys=engine.parquet(self.sources["keys"]))

    def scan(self) -> None:
        for template, columns in ((SCAN_1, ["o_totalprice"]), (SCAN_10, list(ORDERS))):
            what = f"scan of {len(columns)} column{'s' if len(columns) > 1 else ''}"
            contestants = self.asked(template)
            if self.plain:

                def by_driver(concurrency: int, _: bool, columns: list[str] = columns) -> Contestant:
                    return lambda: self.plain.scan(columns, concurrency)

                contestants[self.plain.name] = self.tuned(what, by_driver, SCAN_CHOICES)
            times = self.turns(what, contestants)
            self.compare(f"{what} of {self.row_count['orders']} rows", "s", times, DRIVER_SCAN_AIM)

    def keys(self) -> None:
        what = f"join with {self.row_count['keys']} keys"
        contestants = self.asked(JOIN_KEYS)
        for peer in self.peers:
            if isinstance(peer, Spark):
                direct = partial(peer.query_as, SPARK_DIRECT_JOIN, self.sql(peer, JOIN_KEYS))
                contestants[SPARK_DIRECT_JOIN] = direct
        if self.plain:

            def by_driver(concurrency: int, _: bool) -> Contestant:
                return lambda: self.plain.keys(["o_totalprice"], self.key_file, concurrency)

            contestants[self.plain.name] = self.tuned(what, by_driver, KEYS_CHOICES)
        self.compare(f"{what} in Parquet", "s", self.turns(what, contestants))

    def join(self) -> None:
        what = "join of two tables"
        self.compare(f"{what} in Cassandra", "s", self.turns(what, self.asked(JOIN)))

    def point(self) -> None:
        def contestant(engine: SluiceOnCassandra | Peer, keys: list[int]) -> Contestant:
            sql = f"SELECT * FROM {engine.table('orders')} WHERE o_orderkey = {{key}}"

            def median() -> tuple[float, None]:
                engine.point_times_s(sql, self.warm_up_keys)
                return statistics.median(engine.point_times_s(sql, keys)), None

            return median

        contestants = {sluice.name: contestant(sluice, self.point_keys) for sluice in self.sluices}
        contestants |= {peer.name: contestant(peer, self.point_keys[:PEER_POINT_READS]) for peer in self.peers}
        if self.plain:
            contestants[self.plain.name] = lambda: (self.plain.point_median_s(POINT_READS), None)
        times = {name: seconds * 1e3 for name, seconds in self.turns("point read", contestants).items()}
        self.compare("read of a row by key", "ms", times)

    def backup(self) -> None:
        def contestant(engine: SluiceOnCassandra | Peer) -> Contestant:
            def to_new_folder() -> tuple[float, object]:
                self.backup_count += 1
                folder = self.arguments.scratch / f"backup-{self.backup_count}"
                try:
                    return engine.backup("orders", folder), rows_in(folder)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)

            return to_new_folder

        times = self.turns("backup", {each.name: contestant(each) for each in [*self.sluices, *self.peers]})
        self.compare(f"backup of {self.row_count['orders']} rows to Parquet", "s", times)

    def compare(self, what: str, unit: str, times: dict[str, float], driver_aim: float | None = None) -> None:
        """Lines of the table for both layouts: beside the driver, and beside the peers, of whom the best one counts."""
        peers = {name: times[name] for name in PEERS if name in times}
        best = min(peers, key=peers.get, default=None)
        tuned = [sluice for sluice in self.tuned_sluices if sluice.name in times]
        for sluice in [*self.sluices, *tuned]:
            line, own = f"{what}, {sluice.name}", times.get(sluice.name)
            if self.plain and self.plain.name in times:
                self.part.measure(line, unit, own, "plain driver", times[self.plain.name], driver_aim)
            for name, value in peers.items():
                self.part.measure(line, unit, own, name.capitalize(), value, PEER_AIM if name == best else None)
            if not peers and not (self.plain and self.plain.name in times):
                self.part.measure(line, unit, own)


def keyspace_of(scale: str) -> str:
    return "bench_sf" + scale.replace(".", "_")


def insert(engine: SluiceOnCassandra | Peer, table: str, source: Path, columns: dict[str, str]) -> str:
    names = ", ".join(columns)
    return f"INSERT INTO {engine.table(table)} ({names}) SELECT {names} FROM {engine.parquet(source)}"


def count_of(folder: Path) -> int:
    return duckdb.sql(f"SELECT count(*) FROM '{folder}/data.parquet'").fetchall()[0][0]


def rows_in(folder: Path) -> list:
    """How many rows the Parquet in a folder has, and the sum of a column, to be compared with what others wrote."""
    files = [str(file) for file in folder.rglob("*") if file.is_file() and is_parquet(file)]
    return comparable(duckdb.execute("SELECT count(*), sum(o_totalprice) FROM read_parquet(?)", [files]).fetchall())


def is_parquet(file: Path) -> bool:
    """By its first bytes, because Trino's files have no name of their kind."""
    with file.open("rb") as start:
        return start.read(4) == b"PAR1"


def cassandra(arguments: argparse.Namespace, part: Part) -> None:
    CassandraBench(arguments, part).run()


def cassandra_memory(arguments: argparse.Namespace, part: Part) -> None:
    """Peak memory of executors that read a table, and one five times as large, larger than their budget."""
    keyspace = keyspace_of(arguments.scale)
    sluice = SluiceOnCassandra("cluster", arguments.cluster_port, arguments.contact_points, keyspace)
    if not Path("/proc/self/status").exists():
        part.note("memory of executors: skipped, this system does not tell the peak memory of a process")
        return
    peaks, counts = [], []
    for table in ("orders_fifth", "orders"):
        name, details = sluice.table(table), part.details.setdefault(table, {})
        started = time.perf_counter()
        counts.append(sluice.drain(f"SELECT * FROM {name}"))
        details["all rows to a client"] = peak_memory_mib(arguments.executor_pid)
        sluice.run(SCAN_10.format(orders=name))
        details["scan of 10 columns"] = peak_memory_mib(arguments.executor_pid)
        folder = arguments.scratch / f"backup-{table}"
        try:
            sluice.backup(table, folder)
        except Exception as error:
            part.fail(f"backup of {table}: {one_line(error)}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        details["backup"] = peak_memory_mib(arguments.executor_pid)
        peaks.append(details["backup"])
        seconds = time.perf_counter() - started
        steps = ", ".join(f"{step} {peak:.0f} MiB" for step, peak in details.items())
        print(f"memory, {table}: {counts[-1]} rows in {seconds:.1f} s, peaks: {steps}", flush=True)
    what = f"peak memory of an executor after {counts[1]} rows of Cassandra"
    part.measure(what, "MiB", peaks[1], f"after {counts[0]}:", peaks[0], MEMORY_AIM)
