"""Sluice and its peers, each with the same few things that the bench asks of it."""

import json
import subprocess
import threading
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path

import datafusion
import duckdb
import psycopg

TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")
# A query that takes longer has failed; the slowest peer needs a tenth of it at scale 1.
QUERY_TIMEOUT_S = 600
SPARK_START_TIMEOUT_S = 180
# Rows that libpq hands over at a time when a result is read and thrown away.
CHUNK_ROWS = 1000


def comparable(rows) -> list[list[str]]:
    """Rows as texts that are equal when the values are: 1.50 from one contestant is 1.5000 from another."""

    def text(cell) -> str:
        try:
            return format(Decimal(str(cell)).normalize(), "f")
        except InvalidOperation:
            return str(cell)

    return [[text(cell) for cell in row] for row in rows]


class Sluice:
    """A client of a running service."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.connect()

    def connect(self) -> None:
        self.connection = psycopg.connect(
            host="127.0.0.1", port=self.port, dbname="sluice", user="bench", autocommit=True
        )
        self.connection.execute(f"SET statement_timeout = '{QUERY_TIMEOUT_S}s'")

    def run(self, sql: str) -> list[tuple]:
        if self.connection.closed:
            self.connect()
        return self.connection.execute(sql).fetchall()

    def command(self, sql: str) -> None:
        self.connection.execute(sql)

    def external_table(self, table: str, data: Path) -> None:
        self.command(f"CREATE EXTERNAL TABLE IF NOT EXISTS {table} STORED AS PARQUET LOCATION '{data / table}.parquet'")

    def point_times_s(self, sql: str, keys: list[int]) -> list[float]:
        times = []
        for key in keys:
            started = time.perf_counter()
            rows = self.connection.execute(sql, (key,)).fetchall()
            times.append(time.perf_counter() - started)
            if len(rows) != 1:
                raise RuntimeError(f"{len(rows)} rows of key {key}")
        return times

    def drain(self, sql: str) -> int:
        """How many rows a query gives. They are thrown away as they come; neither libpq nor Python keeps them."""
        connection, count = self.connection.pgconn, 0
        connection.send_query(sql.encode())
        connection.set_chunked_rows_mode(CHUNK_ROWS)
        while result := connection.get_result():
            if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
                raise RuntimeError(result.error_message.decode())
            count += result.ntuples
        return count


class DataFusion:
    """DataFusion in this process, as it comes."""

    name = "datafusion"
    version = datafusion.__version__

    def __init__(self, data: Path) -> None:
        self.context = datafusion.SessionContext()
        for table in TABLES:
            self.context.register_parquet(table, str(data / f"{table}.parquet"))

    def run(self, sql: str) -> range:
        """Fetches the whole result as Arrow; a sequence as long as it."""
        return range(sum(batch.num_rows for batch in self.context.sql(sql).collect()))


class DuckDb:
    """DuckDB in this process, as it comes."""

    name = "duckdb"
    version = duckdb.__version__

    def __init__(self, data: Path) -> None:
        self.connection = duckdb.connect()
        for table in TABLES:
            self.connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{data / table}.parquet')")

    def run(self, sql: str) -> list[tuple]:
        return self.connection.execute(sql).fetchall()


class PlainDriver:
    """The scylla driver alone: a process for each measure, which says how long its reads took."""

    name = "plain driver"

    def __init__(self, binary: Path, contact_points: str, keyspace: str) -> None:
        self.binary, self.table = binary, [contact_points, keyspace, "orders", "o_orderkey"]

    def ask(self, command: str, argument: str) -> dict:
        words = [self.binary, command, *self.table, argument]
        done = subprocess.run(words, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().split("\n")[0])
        return json.loads(done.stdout)

    def scan(self) -> tuple[float, list]:
        answer = self.ask("scan", "o_totalprice")
        return answer["seconds"], comparable([[answer["rows"], answer["sum"]]])

    def point_median_s(self, count: int) -> float:
        return self.ask("point", str(count))["median_ms"] / 1e3


class Spark:
    """Spark with its Cassandra connector: one process that is asked line by line, so that it stays warm."""

    name = "spark"

    def __init__(self, java: list[str], contact_points: str, keyspace: str, data: Path, scratch: Path) -> None:
        """`java` is the program with its memory and the jars."""
        here = Path(__file__).parent / "spark"
        self.log = scratch / "spark.log"
        words = [*java, f"@{here / 'jdk17.options'}", here / "SparkPeer.java"]
        words += [contact_points, keyspace, data / "customer.parquet", scratch / "spark"]
        pipe = subprocess.PIPE
        with self.log.open("w") as log:
            self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=log, text=True)

    def __enter__(self) -> "Spark":
        try:
            self.version = self.answer(SPARK_START_TIMEOUT_S)["version"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()

    def answer(self, timeout_s: float) -> dict:
        watchdog = threading.Timer(timeout_s, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            errors = [line for line in self.log.read_text().splitlines() if "Exception" in line or "rror:" in line]
            what = errors[-1] if errors else "no error in its log"
            raise RuntimeError(f"it ended, or said nothing for {timeout_s} s: {what}")
        return json.loads(line)

    def ask(self, command: str) -> dict:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer(QUERY_TIMEOUT_S)

    def query(self, name: str) -> tuple[float, list]:
        answer = self.ask(name)
        return answer["seconds"], comparable(answer["rows"])

    def point_times_s(self, keys: list[int]) -> list[float]:
        answer = self.ask("point " + ",".join(map(str, keys)))
        if answer["row_count"] != len(keys):
            raise RuntimeError(f"{answer['row_count']} rows of {len(keys)} keys")
        return answer["times"]
