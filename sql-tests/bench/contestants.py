"""Sluice's client, and the peers that run in this process."""

import time
from pathlib import Path

import datafusion
import duckdb
import psycopg

TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")
# A query that takes longer has failed; the slowest peer needs a tenth of it at scale 1.
QUERY_TIMEOUT_S = 600
# Rows that libpq hands over at a time when a result is read and thrown away.
CHUNK_ROWS = 1000


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
        cursor = self.connection.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def command(self, sql: str) -> None:
        self.connection.execute(sql)

    def external_table(self, table: str, file: Path) -> None:
        self.command(f"CREATE EXTERNAL TABLE IF NOT EXISTS {table} STORED AS PARQUET LOCATION '{file}'")

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


def peak_memory_mib(pid: int) -> float:
    """The most memory that a process has had (resident), where the system tells it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 2**10
