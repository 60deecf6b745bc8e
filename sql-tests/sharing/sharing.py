"""Tenants that share executors: what each gets while all want everything, and how soon.

Usage: sharing.py PORT --data DIR [--phase NAME ...] [--quick] [--output FILE]

PORT is a running coordinator's, DIR holds TPC-H tables as Parquet. Each phase makes the queues it needs, puts load on
them, prints what it measured beside what it should be, and drops them again. Ends with 1 if a bound is broken.

    first      A floods; the first task of a query of B starts without waiting for A's queries to end
    shares     A and B want everything: their shares are those of their weights
    dominant   A wants memory, B wants cores: their dominant shares are equal
    alone      B has nobody beside it and uses everything
    latency    the tail latency of B's short queries under A's flood, beside that of an idle cluster

Only counts, shares and ratios are judged, never seconds, so that a slow machine gives the same verdict as a fast one.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg

# How far a mean share may be from what the weights say, in points.
SHARE_TOLERANCE = 0.05
# Equal dominant shares can be apart by one task, and the largest task here is 15 points. The mean is nearer.
DOMINANT_TOLERANCE = 0.10
# What is lost of the whole between the end of one task and the start of the next.
IDLE_TOLERANCE = 0.05
# The tail of B's short queries beside a flood, in multiples of the tail on an idle cluster.
LATENCY_BOUND = 3.0
# Clients that keep a queue wanting more than it gets, although each has pauses between its queries.
SATURATING_CLIENTS = 12
# By then tasks have ended that ran at the same time as one that has ended.
SETTLING_S = 5
# Between two looks at system.queues.
SAMPLE_INTERVAL_S = 0.25
# What is waited for comes within seconds; a machine that does much else may take this long.
PATIENCE_S = 300
# The time of a short query, which is one task, and of each of the many tasks of a heavy one, on an idle cluster. Who
# has nothing waits for the next task to end, so that the tail is made of the tasks of others: they have to be shorter
# than the query that waits for them, as they are when heavy queries are cut into many.
SHORT_S = 0.5
TASK_S = 0.15
# The length of a series is not known to the planner, which would keep more memory for it than it needs.
TASK_MEMORY = "32MB"
# A query that is timed to find out how long it has to be takes at least this.
CALIBRATION_S = 0.2
# Rows of region.parquet.
REGIONS = 5


class BrokenBound(Exception):
    """Something was measured that should not be."""


@dataclasses.dataclass
class Size:
    """How much a run does."""

    flood_queries: int
    partitions_per_query: int
    sample_s: float
    latency_queries: int
    # After so long a short query is given up; only FIFO comes near.
    latency_patience_s: int
    # Everything else on the machine can spoil a tail; the bound counts as kept if one of these attempts keeps it.
    latency_attempts: int


FULL = Size(200, 32, sample_s=60, latency_queries=60, latency_patience_s=300, latency_attempts=1)
QUICK = Size(60, 32, sample_s=15, latency_queries=20, latency_patience_s=30, latency_attempts=3)


@dataclasses.dataclass
class Figure:
    """One measured figure, and what was wanted of it."""

    phase: str
    what: str
    measured: str
    wanted: str
    is_kept: bool


class Cluster:
    """The service under test, as its clients see it."""

    def __init__(self, port: int, data: pathlib.Path, size: Size) -> None:
        self.port = port
        self.data = data
        self.size = size
        self.figures: list[Figure] = []
        self.results: dict[str, float] = {}
        # Lengths of series, multiples of seven, and the number of keys; measured by `calibrate`.
        self.short_numbers = 7
        self.heavy_numbers = 7
        self.keys = 0

    def report(self, phase: str, what: str, measured: str, wanted: str = "", is_kept: bool = True) -> None:
        self.figures.append(Figure(phase, what, measured, wanted, is_kept))
        mark = "" if is_kept else "  <-- broken"
        print(f"  {what}: {measured}" + (f" (wanted: {wanted})" if wanted else "") + mark, flush=True)

    async def connect(self, queue: str | None = None, **settings: str | int) -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(
            host="127.0.0.1", port=self.port, dbname="sluice", user="sluice", autocommit=True, connect_timeout=60
        )
        if queue is not None:
            await connection.execute(f"SET queue = '{queue}'")
        for name, value in settings.items():
            await connection.execute(f"SET sluice.{name} = '{value}'")
        return connection

    async def rows(self, sql: str) -> list[tuple]:
        async with await self.connect() as connection:
            return await (await connection.execute(sql)).fetchall()

    async def total(self) -> tuple[int, int, int]:
        """Executors, vcores of all, memory of the one that has least."""
        sql = "SELECT count(*), sum(total_vcores), min(total_memory_bytes) FROM system.executors"
        ((executors, vcores, memory_bytes),) = await self.rows(sql)
        return int(executors), int(vcores), int(memory_bytes)

    async def run(self, connection: psycopg.AsyncConnection, sql: str, wanted: int) -> float:
        """Runs a query; seconds that it took. A wrong answer is an error."""
        begun = time.monotonic()
        row = await (await connection.execute(sql)).fetchone()
        elapsed_s = time.monotonic() - begun
        if row != (wanted,):
            raise BrokenBound(f"a query under load answered {row} instead of {wanted}")
        return elapsed_s

    async def run_short(self, connection: psycopg.AsyncConnection, numbers: int | None = None) -> float:
        """One task of `SHORT_S`, on an executor, because it reads a file, and without memory to speak of."""
        numbers = numbers or self.short_numbers
        sql = f"""
            SELECT count(*) FROM '{self.data}/region.parquet' JOIN generate_series(1, {numbers}) AS t(n)
            ON (n + r_regionkey) % 7 = 3"""
        return await self.run(connection, sql, REGIONS * numbers // 7)

    async def run_heavy(self, connection: psycopg.AsyncConnection, numbers: int | None = None) -> float:
        """As many tasks of `TASK_S` as the exchange has partitions: each pairs a part of the keys with a series."""
        numbers = numbers or self.heavy_numbers
        sql = f"""
            SELECT count(*) FROM generate_series(1, {numbers}) AS t(n)
            JOIN (SELECT DISTINCT o_orderkey AS k FROM '{self.data}/orders.parquet') AS keys ON (n + k) % 7 = 3"""
        return await self.run(connection, sql, self.keys * numbers // 7)

    async def calibrate(self) -> None:
        """Finds how long series have to be for tasks to take as long as wanted on this machine, while it is idle."""
        ((self.keys,),) = await self.rows(f"SELECT count(*) FROM '{self.data}/orders.parquet'")

        async def numbers_for(wanted_s: float, run: Callable[[int], Awaitable[float]]) -> int:
            empty_s = min([await run(7) for _ in range(4)])
            numbers = 7
            while (elapsed_s := min([await run(numbers) for _ in range(2)]) - empty_s) < CALIBRATION_S:
                numbers *= 4
            return 7 * max(1, int(numbers / 7 * wanted_s / elapsed_s))

        _, vcores, _ = await self.total()
        partitions = self.size.partitions_per_query
        # All executors share the cores of this machine.
        heavy_s = TASK_S * partitions / min(vcores, os.cpu_count() or 1)
        async with await self.connect(
            single_task_max_bytes=0, target_partitions=partitions, task_memory=TASK_MEMORY
        ) as connection:
            self.short_numbers = await numbers_for(SHORT_S, lambda numbers: self.run_short(connection, numbers))
            self.heavy_numbers = await numbers_for(heavy_s, lambda numbers: self.run_heavy(connection, numbers))
        print(f"a short query counts {self.short_numbers:,} numbers for {REGIONS} keys in {SHORT_S} s, a heavy one "
              f"{self.heavy_numbers:,} numbers for {self.keys:,} keys in {partitions} x {TASK_S} s")

    @contextlib.asynccontextmanager
    async def queues(self, **options: str) -> AsyncIterator[None]:
        """Queues with these options, which are gone afterwards."""
        async with await self.connect() as connection:
            for name, with_options in options.items():
                await connection.execute(f"DROP QUEUE IF EXISTS {name}")
                await connection.execute(f"CREATE QUEUE {name}" + (f" WITH ({with_options})" if with_options else ""))
        try:
            yield
        finally:
            async with await self.connect() as connection:
                for name in options:
                    await drop_queue(connection, name)

    @contextlib.asynccontextmanager
    async def flood(self, queue: str, clients: int, **settings: str | int) -> AsyncIterator["Flood"]:
        """Clients of `queue` that send heavy queries, one after another, until the end of the block."""
        flood = Flood()
        settings = {"task_memory": TASK_MEMORY} | settings
        settings |= {"single_task_max_bytes": 0, "target_partitions": self.size.partitions_per_query}
        connections = [await self.connect(queue, **settings) for _ in range(clients)]

        async def client(connection: psycopg.AsyncConnection) -> None:
            while True:
                await self.run_heavy(connection)
                flood.ended += 1

        tasks = [asyncio.create_task(client(connection)) for connection in connections]
        try:
            yield flood
            flood.raise_errors(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for connection in connections:
                await connection.close()

    async def wait_until(self, what: str, is_so: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not await is_so():
            if time.monotonic() > deadline:
                raise BrokenBound(f"{what} has not come to be in {PATIENCE_S} s")
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    async def wait_until_saturated(self, *queues: str) -> None:
        """Waits until each of the queues wants more than it has and nothing of the cluster is free."""

        async def is_saturated() -> bool:
            names = ", ".join(f"'root.{queue}'" for queue in queues)
            sql = f"SELECT count(*) FROM system.queues WHERE queue IN ({names}) AND pending_partitions > 0"
            ((wanting,),) = await self.rows(sql)
            return wanting == len(queues)

        await self.wait_until(f"{' and '.join(queues)} want more than they have", is_saturated)

    async def wait_until_sent(self, queue: str, clients: int) -> None:
        """Waits until the scheduler has the queries of nearly all clients; each has pauses between two of them."""

        async def is_sent() -> bool:
            sql = f"""SELECT count(*) FROM system.queries
                      WHERE queue = 'root.{queue}' AND state = 'running' AND job_id IS NOT NULL"""
            ((running,),) = await self.rows(sql)
            return running >= 0.9 * clients

        await self.wait_until(f"nearly all of {clients} queries of {queue} run", is_sent)

    async def mean_shares(self, *queues: str) -> list[float]:
        """The mean dominant share of each queue while time passes."""
        samples: list[list[float]] = [[] for _ in queues]
        end = time.monotonic() + self.size.sample_s
        async with await self.connect() as connection:
            while time.monotonic() < end:
                rows = await (await connection.execute("SELECT queue, share FROM system.queues")).fetchall()
                shares = dict(rows)
                for queue, of_queue in zip(queues, samples):
                    of_queue.append(shares[f"root.{queue}"])
                await asyncio.sleep(SAMPLE_INTERVAL_S)
        return [statistics.mean(of_queue) for of_queue in samples]


@dataclasses.dataclass
class Flood:
    """What has become of a flood so far."""

    ended: int = 0

    @staticmethod
    def raise_errors(tasks: list[asyncio.Task]) -> None:
        for task in tasks:
            if task.done():
                task.result()


async def drop_queue(connection: psycopg.AsyncConnection, name: str) -> None:
    """Drops a queue as soon as its cancelled queries have ended."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            await connection.execute(f"DROP QUEUE {name}")
            return
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(SAMPLE_INTERVAL_S)


def percentile_95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[math.ceil(0.95 * len(ordered)) - 1]


async def first(cluster: Cluster) -> None:
    """B's first task starts without waiting for A's queries to end."""
    _, vcores, _ = await cluster.total()
    size = cluster.size
    async with cluster.queues(a="", b=""):
        async with cluster.flood("a", size.flood_queries) as flood:
            await cluster.wait_until_sent("a", size.flood_queries)
            before = flood.ended
            async with await cluster.connect("b", single_task_max_bytes=0, task_memory=TASK_MEMORY) as connection:
                await cluster.run_short(connection)
            ended = flood.ended - before
            # When a task has started is told when it has ended.
            await asyncio.sleep(SETTLING_S)
            # The queue is new, so that this is the only query.
            sql = "SELECT query_id, started FROM system.queries WHERE queue = 'root.b' ORDER BY started DESC LIMIT 1"
            ((query_id, submitted),) = await cluster.rows(sql)
            tasks = await cluster.rows("SELECT query_id, started, partition_count FROM system.tasks")
        started = min(at for of, at, _ in tasks if of == query_id and at is not None)
        passed = sum(
            count for of, at, count in tasks if of != query_id and at is not None and submitted < at < started
        )
    total = size.flood_queries * size.partitions_per_query
    # The next core that comes free is B's; until its query is planned, A's tasks go on to take each other's places.
    cluster.report(
        "first", f"partitions of A (of {total}) that started between B's query and its first task", f"{passed}",
        f"at most {2 * vcores}, twice the vcores", passed <= 2 * vcores,
    )
    cluster.report(
        "first", f"queries of A (of {size.flood_queries}) that ended while B's ran", f"{ended}",
        f"at most {size.flood_queries // 4}", ended <= size.flood_queries // 4,
    )


async def shares(cluster: Cluster) -> None:
    """With both saturated, shares are those of the weights."""
    async with cluster.queues(a="weight = 2", b="weight = 1"):
        async with cluster.flood("a", SATURATING_CLIENTS), cluster.flood("b", SATURATING_CLIENTS):
            await cluster.wait_until_saturated("a", "b")
            measured = await cluster.mean_shares("a", "b")
    for queue, wanted, share in zip("AB", (2 / 3, 1 / 3), measured):
        cluster.report(
            "shares", f"mean share of {queue}", f"{share:.3f}", f"{wanted:.3f} within {SHARE_TOLERANCE}",
            abs(share - wanted) <= SHARE_TOLERANCE,
        )


async def dominant(cluster: Cluster) -> None:
    """A memory-hungry and a CPU-hungry queue reach equal dominant shares."""
    executors, vcores, memory_bytes = await cluster.total()
    # Two such tasks leave an executor little memory, but its other cores can be used by tasks that need next to none.
    large, small = int(memory_bytes * 0.46), memory_bytes // 32
    async with cluster.queues(a="", b=""):
        async with (
            cluster.flood("a", SATURATING_CLIENTS, task_memory=large),
            cluster.flood("b", SATURATING_CLIENTS, task_memory=small),
        ):
            await cluster.wait_until_saturated("a", "b")
            share_a, share_b = await cluster.mean_shares("a", "b")
            kinds = dict(await cluster.rows("SELECT queue, dominant_resource FROM system.queues"))
    wanted = {"root.a": "memory", "root.b": "cpu"}
    found = {queue: kinds.get(queue) for queue in wanted}
    cluster.report("dominant", "what dominates A and B", f"{found}", f"{wanted}", found == wanted)
    # By cores alone each would have half of them, and A nearly all memory.
    by_cores = min(vcores // 2, 2 * executors) * large / (executors * memory_bytes)
    cluster.report(
        "dominant", "mean dominant shares of A (memory) and B (cpu)", f"{share_a:.3f} and {share_b:.3f}",
        f"equal within {DOMINANT_TOLERANCE} (with equal cores: {by_cores:.2f} and 0.50)",
        abs(share_a - share_b) <= DOMINANT_TOLERANCE,
    )


async def alone(cluster: Cluster) -> None:
    """With A idle, B uses everything."""
    async with cluster.queues(a="weight = 9", b="weight = 1"):
        async with cluster.flood("b", SATURATING_CLIENTS):
            await cluster.wait_until_saturated("b")
            (share,) = await cluster.mean_shares("b")
    cluster.report(
        "alone", "mean share of B with A idle", f"{share:.3f}", f"at least {1 - IDLE_TOLERANCE}",
        share >= 1 - IDLE_TOLERANCE,
    )


async def short_queries(cluster: Cluster, count: int) -> list[float]:
    """Seconds of short queries of B, one after another."""
    async with await cluster.connect("b", single_task_max_bytes=0, task_memory=TASK_MEMORY) as connection:
        await connection.execute(f"SET statement_timeout = '{cluster.size.latency_patience_s}s'")
        times = []
        for _ in range(count):
            begun = time.monotonic()
            try:
                times.append(await cluster.run_short(connection))
            except psycopg.errors.QueryCanceled:
                # At least as long; who waited so long need not wait again for the tail to be known.
                return [*times, time.monotonic() - begun]
        return times


async def latency(cluster: Cluster, policy: str, beside: dict[str, float]) -> None:
    """The tail latency of B's short queries under A's flood."""
    size = cluster.size
    # First come, first served has each of them wait for all that A has sent: one is enough to see it.
    count = size.latency_queries if policy == "drf" else 1
    for attempt in range(1, size.latency_attempts + 1):
        async with cluster.queues(a="", b=""):
            idle = await short_queries(cluster, max(count, 20))
            async with cluster.flood("a", size.flood_queries):
                await cluster.wait_until_sent("a", size.flood_queries)
                busy = await short_queries(cluster, count)
        idle_s, busy_s = percentile_95(idle), percentile_95(busy)
        ratio = busy_s / idle_s
        is_kept = ratio <= LATENCY_BOUND or policy != "drf"
        if is_kept or attempt == size.latency_attempts:
            break
    cluster.results |= {"p95_idle_s": idle_s, "p95_busy_s": busy_s, "ratio": ratio}
    cluster.report("latency", f"p50, p95 of B on an idle cluster, {policy}",
                   f"{statistics.median(idle):.2f} s, {idle_s:.2f} s")
    cluster.report("latency", f"p50, p95 of B under A's flood, {policy}",
                   f"{statistics.median(busy):.2f} s, {busy_s:.2f} s")
    wanted = f"at most {LATENCY_BOUND:.0f} times" if policy == "drf" else ""
    times = ("at least " if busy_s >= size.latency_patience_s else "") + f"{ratio:.1f} times"
    cluster.report("latency", f"p95 in multiples of idle, {policy}", times, wanted, is_kept)
    if beside:
        # If it were not so, the bound would be kept by any scheduler and would show nothing.
        cluster.report("latency", f"the same beside the other policy's {beside['ratio']:.1f}", times,
                       "more with fifo", (ratio > beside["ratio"]) == (policy == "fifo"))


PHASES = ("first", "shares", "dominant", "alone", "latency")


async def run(arguments: argparse.Namespace) -> Cluster:
    cluster = Cluster(arguments.port, arguments.data.resolve(), QUICK if arguments.quick else FULL)
    for name in ("flood_queries", "sample_s", "latency_queries"):
        if (value := getattr(arguments, name)) is not None:
            setattr(cluster.size, name, value)
    executors, vcores, memory_bytes = await cluster.total()
    print(f"{executors} executors, {vcores} vcores, {memory_bytes / (1 << 20):.0f} MB for tasks on the least of them")
    await cluster.calibrate()
    beside = json.loads(arguments.beside.read_text()) if arguments.beside else {}
    for phase in arguments.phase or PHASES:
        print(f"{phase}: {globals()[phase].__doc__}", flush=True)
        if phase == "latency":
            await latency(cluster, arguments.policy, beside)
        else:
            await globals()[phase](cluster)
    return cluster


def print_table(figures: list[Figure]) -> None:
    rows = [(f.phase, f.what, f.measured, f.wanted, "kept" if f.is_kept else "BROKEN") for f in figures]
    rows = [("phase", "figure", "measured", "wanted", ""), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, help="port of a running coordinator for PostgreSQL clients")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with TPC-H tables as Parquet")
    parser.add_argument("--phase", action="append", choices=PHASES, help="phases to run; all without it")
    parser.add_argument("--quick", action="store_true", help="shorter and smaller, for a test")
    parser.add_argument("--policy", choices=("drf", "fifo"), default="drf", help="how the service was started")
    parser.add_argument("--flood-queries", type=int, help="queries that A has sent at a time")
    parser.add_argument("--sample-s", type=float, help="seconds over which shares are averaged")
    parser.add_argument("--latency-queries", type=int, help="short queries of B whose tail is taken")
    parser.add_argument("--output", type=pathlib.Path, help="where the figures of `latency` are kept for --beside")
    parser.add_argument("--beside", type=pathlib.Path, help="figures of `latency` with the other policy")
    arguments = parser.parse_args()
    try:
        cluster = asyncio.run(run(arguments))
    except BrokenBound as error:
        print(f"sharing: error: {error}", file=sys.stderr)
        return 1
    print_table(cluster.figures)
    if arguments.output:
        arguments.output.write_text(json.dumps(cluster.results))
    broken = [figure for figure in cluster.figures if not figure.is_kept]
    for figure in broken:
        print(f"sharing: error: {figure.phase}: {figure.what}: {figure.measured}, not {figure.wanted}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
