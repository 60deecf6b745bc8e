"""Who takes part in the bench of Cassandra: Sluice, the plain driver, Spark and Trino.

All but the driver are asked in SQL, which differs in the names of tables and in how a table is written as Parquet. So a
query is a template: {orders} and {customer} are tables in Cassandra, {keys} is Parquet.
"""

import json
import socket
import subprocess
import threading
import time
import urllib.request
from datetime import date, timedelta
from pathlib import Path

from contestants import QUERY_TIMEOUT_S, Sluice
from turns import comparable

SPARK_START_TIMEOUT_S = 180
TRINO_START_TIMEOUT_S = 180
# Spark's connector with settings that somebody who knows it would try, beside how it comes.
SPARK_TUNED_WRITE = "spark tuned"
SPARK_DIRECT_JOIN = "spark direct join"
SPARK_SETTINGS = {
    SPARK_TUNED_WRITE: {
        "spark.cassandra.output.batch.grouping.key": ("replica_set", "partition"),
        "spark.cassandra.output.batch.size.bytes": (8192, 1024),
        "spark.cassandra.output.concurrent.writes": (50, 5),
    },
    # Without the extension that SparkPeer.java loads there would be no such join.
    SPARK_DIRECT_JOIN: {"directJoinSetting": ("auto", "off")},
}
# The classes and the options of `java` that Trino 476 asks for.
TRINO_OPTIONS = """
    -XX:+UseG1GC -XX:+UnlockDiagnosticVMOptions -XX:G1NumCollectionsKeepPinned=10000000 -XX:+ExitOnOutOfMemoryError
    -Djdk.attach.allowAttachSelf=true --add-opens=java.base/java.nio=ALL-UNNAMED --add-modules=jdk.incubator.vector
    --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow
""".split()


class SluiceOnCassandra(Sluice):
    """A layout of Sluice; its catalog of the cluster is `cass`."""

    catalog = "cass"
    options = ""

    def __init__(self, name: str, port: int, contact_points: str, keyspace: str) -> None:
        super().__init__(name, port)
        self.keyspace = keyspace
        options = f"contact_points = '{contact_points}'{self.options}"
        self.command(f"CREATE CATALOG IF NOT EXISTS {self.catalog} USING cassandra WITH ({options})")

    def table(self, name: str) -> str:
        return f"{self.catalog}.{self.keyspace}.{name}"

    def parquet(self, folder: Path) -> str:
        name = f"parquet_{folder.name}"
        self.external_table(name, folder / "data.parquet")
        return name

    def query(self, sql: str) -> tuple[float, list]:
        started = time.perf_counter()
        rows = self.run(sql)
        return time.perf_counter() - started, comparable(rows)

    def backup(self, table: str, folder: Path) -> float:
        return self.query(f"COPY {self.table(table)} TO '{folder}/' (FORMAT parquet)")[0]

    def point_times_s(self, sql: str, keys: list[int]) -> list[float]:
        return super().point_times_s(sql.format(key="%s"), keys)


class TunedSluice(SluiceOnCassandra):
    """The same with batches as large as the peers' when they are tuned: nodes as they come warn of them."""

    catalog = "cass_tuned"
    options = ", write_batch_partitions = 200, write_batch_size_kb = 40"


class PlainDriver:
    """The scylla driver alone: a process for each measure, which says how long its requests took."""

    name = "plain driver"

    def __init__(self, binary: Path, contact_points: str, keyspace: str) -> None:
        self.binary, self.contact_points, self.keyspace = binary, contact_points, keyspace

    def ask(self, command: str, table: str, *arguments: object) -> dict:
        words = [self.binary, command, self.contact_points, self.keyspace, table, "o_orderkey", *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=QUERY_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().split("\n")[0])
        return json.loads(done.stdout)

    def scan(self, columns: list[str], concurrency: int) -> tuple[float, list]:
        """How many rows `orders` has, and an aggregate of each column."""
        return self.aggregates(self.ask("scan", "orders", ",".join(columns), concurrency), columns)

    def keys(self, columns: list[str], file: Path, concurrency: int) -> tuple[float, list]:
        """The same of the rows of the keys in a file."""
        return self.aggregates(self.ask("keys", "orders", ",".join(columns), file, concurrency), columns)

    @staticmethod
    def aggregates(answer: dict, columns: list[str]) -> tuple[float, list]:
        row = [answer["rows"]]
        for column, value in zip(columns, answer["values"], strict=True):
            # The driver knows days; the others know dates.
            row.append(date(1970, 1, 1) + timedelta(int(value)) if column.endswith("date") else value)
        return answer["seconds"], comparable([row])

    def point_median_s(self, count: int) -> float:
        return self.ask("point", "orders", count)["median_ms"] / 1e3

    def write(
        self, source: str, target: str, columns: list[str], rows: int | str, concurrency: int, batch_rows: int
    ) -> float:
        """Writes the rows of a table into another one, or about so many of them."""
        return self.ask("write", source, ",".join(columns), target, rows, concurrency, batch_rows)["seconds"]


class Peer:
    """A Java program that answers SQL, started and ended by a `with`. Its log is kept in `scratch`."""

    name = ""
    start_timeout_s = 0
    answers_in_pipe = False
    version = ""

    def __init__(self, words: list[str | Path], scratch: Path) -> None:
        self.log = scratch / f"{self.name}.log"
        pipe = subprocess.PIPE
        with self.log.open("w") as log:
            answers = pipe if self.answers_in_pipe else log
            self.process = subprocess.Popen(words, stdin=pipe, stdout=answers, stderr=log, text=True, cwd=scratch)

    def __enter__(self) -> "Peer":
        try:
            self.wait_until_started()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()

    def last_error(self) -> str:
        # Java's exceptions and errors; Trino numbers what is wrong with its settings.
        lines = self.log.read_text().splitlines()
        errors = [line for line in lines if "Exception" in line or "rror:" in line or line.startswith("1) ")]
        return errors[-1] if errors else "no error in its log"

    def point_times_s(self, sql: str, keys: list[int]) -> list[float]:
        times = []
        for key in keys:
            seconds, rows = self.query(sql.format(key=key))
            if len(rows) != 1:
                raise RuntimeError(f"{len(rows)} rows of key {key}")
            times.append(seconds)
        return times


class Spark(Peer):
    """Spark with its Cassandra connector: one process that is asked line by line, so that it stays warm."""

    name = "spark"
    start_timeout_s = SPARK_START_TIMEOUT_S
    answers_in_pipe = True

    def __init__(self, java: str, heap: str, jars: Path, contact_points: str, keyspace: str, scratch: Path) -> None:
        self.keyspace = keyspace
        here = Path(__file__).parent / "spark"
        words = [java, f"-Xmx{heap}", "-cp", f"{jars}/*", f"@{here / 'jdk17.options'}", here / "SparkPeer.java"]
        super().__init__([*words, contact_points, scratch / "spark"], scratch)

    def wait_until_started(self) -> None:
        self.version = self.answer(self.start_timeout_s)["version"]
        for kind in SPARK_SETTINGS:
            self.as_it_comes(kind)

    def answer(self, timeout_s: float) -> dict:
        watchdog = threading.Timer(timeout_s, self.process.kill)
        watchdog.start()
        try:
            line = self.process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise RuntimeError(f"it ended, or said nothing for {timeout_s} s: {self.last_error()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def table(self, name: str) -> str:
        return f"cass.{self.keyspace}.{name}"

    def parquet(self, folder: Path) -> str:
        return f"parquet.`{folder}`"

    def query(self, sql: str) -> tuple[float, list]:
        self.process.stdin.write(" ".join(sql.split()) + "\n")
        self.process.stdin.flush()
        answer = self.answer(QUERY_TIMEOUT_S)
        return answer["seconds"], comparable(answer["rows"])

    def query_as(self, kind: str, sql: str) -> tuple[float, list]:
        """The same with the settings of a kind of its own."""
        for name, (value, _) in SPARK_SETTINGS[kind].items():
            self.query(f"SET {name}={value}")
        try:
            return self.query(sql)
        finally:
            self.as_it_comes(kind)

    def as_it_comes(self, kind: str) -> None:
        for name, (_, default) in SPARK_SETTINGS[kind].items():
            self.query(f"SET {name}={default}")

    def backup(self, table: str, folder: Path) -> float:
        return self.query(f"INSERT OVERWRITE DIRECTORY '{folder}' USING parquet SELECT * FROM {self.table(table)}")[0]


class Trino(Peer):
    """Trino as one server with its Cassandra and Hive connectors, asked over HTTP.

    Hive has its metastore and its files in `scratch`, so that Parquet is read and written there.
    """

    name = "trino"
    start_timeout_s = TRINO_START_TIMEOUT_S

    def __init__(
        self,
        java: str,
        heap: str,
        home: Path,
        contact_points: str,
        keyspace: str,
        local_dc: str,
        columns: dict[str, dict[str, str]],
        scratch: Path,
    ) -> None:
        """`columns` has the columns and types of each folder of Parquet, by its name."""
        self.keyspace, self.columns, self.scratch, self.known = keyspace, columns, scratch, set()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        etc = scratch / "trino" / "etc"
        (etc / "catalog").mkdir(parents=True)
        points = [point.strip().partition(":") for point in contact_points.split(",")]
        self.properties(
            etc / "config.properties",
            {
                "node.environment": "bench",
                "node.internal-address": "127.0.0.1",
                "node.bind-ip": "127.0.0.1",
                "coordinator": "true",
                "node-scheduler.include-coordinator": "true",
                "http-server.http.port": self.url.rpartition(":")[2],
                "discovery.uri": self.url,
                "plugin.dir": home / "plugin",
                "catalog.config-dir": etc / "catalog",
            },
        )
        self.properties(
            etc / "catalog" / "cassandra.properties",
            {
                "connector.name": "cassandra",
                "cassandra.contact-points": ",".join(host for host, _, _ in points),
                "cassandra.native-protocol-port": points[0][2] or "9042",
                "cassandra.load-policy.use-dc-aware": "true",
                "cassandra.load-policy.dc-aware.local-dc": local_dc,
            },
        )
        self.properties(
            etc / "catalog" / "hive.properties",
            {
                "connector.name": "hive",
                "hive.metastore": "file",
                "hive.metastore.catalog.dir": "local:///trino/metastore",
                "hive.non-managed-table-writes-enabled": "true",
                "fs.native-local.enabled": "true",
                "local.location": scratch,
            },
        )
        words = [java, f"-Xmx{heap}", *TRINO_OPTIONS, f"-Dconfig={etc / 'config.properties'}"]
        words += [f"-Dnode.data-dir={etc.parent / 'data'}"]
        super().__init__([*words, "-cp", f"{home}/lib/*", "io.trino.server.TrinoServer"], scratch)

    @staticmethod
    def properties(file: Path, values: dict[str, object]) -> None:
        file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def wait_until_started(self) -> None:
        give_up = time.monotonic() + self.start_timeout_s
        while True:
            try:
                self.version = self.query("SELECT version()")[1][0][0]
                self.query("CREATE SCHEMA IF NOT EXISTS hive.bench")
                return
            except (OSError, RuntimeError) as error:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"{error}; {self.last_error()}") from error
                time.sleep(1)

    def table(self, name: str) -> str:
        return f"cassandra.{self.keyspace}.{name}"

    def parquet(self, folder: Path) -> str:
        name = f"hive.bench.{folder.name}"
        if name not in self.known:
            columns = self.columns[folder.name].items()
            columns = ", ".join(f"{column} {'varchar' if kind == 'text' else kind}" for column, kind in columns)
            self.query(f"CREATE TABLE {name} ({columns}) WITH ({self.location(folder)})")
            self.known.add(name)
        return name

    def location(self, folder: Path) -> str:
        return f"external_location = 'local:///{folder.relative_to(self.scratch)}', format = 'PARQUET'"

    def query(self, sql: str) -> tuple[float, list]:
        started, rows = time.perf_counter(), []
        give_up = started + QUERY_TIMEOUT_S
        request = urllib.request.Request(f"{self.url}/v1/statement", sql.encode(), {"X-Trino-User": "bench"})
        while request:
            with urllib.request.urlopen(request, timeout=QUERY_TIMEOUT_S) as response:
                answer = json.load(response)
            if "error" in answer:
                raise RuntimeError(answer["error"]["message"])
            if time.perf_counter() > give_up:
                raise RuntimeError(f"no answer after {QUERY_TIMEOUT_S} s")
            rows += answer.get("data", [])
            request = answer.get("nextUri")
        return time.perf_counter() - started, comparable(rows)

    def backup(self, table: str, folder: Path) -> float:
        name = f"hive.bench.{folder.name.replace('-', '_')}"
        return self.query(f"CREATE TABLE {name} WITH ({self.location(folder)}) AS SELECT * FROM {self.table(table)}")[0]
