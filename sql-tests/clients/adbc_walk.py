"""ADBC's Flight SQL driver against a running service: what a tool does with it, each counted.

Usage: adbc_walk.py PORT. The last line is "passed N of 16".
"""

import os
import sys
import tempfile
import threading
import traceback
import warnings

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa

ENDLESS = (
    "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y)"
    " WHERE (x * 7919 + y) % 1000003 = 1"
)
TABLE = f"adbc_walk_{os.getpid()}"


def rows(connection, sql: str, parameters=None) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def a_query(connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT value AS n FROM generate_series(1, 100000) AS t(value)")
        assert sum(cursor.fetch_arrow_table()["n"].to_pylist()) == 100_000 * 100_001 // 2


def types(connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1::int AS i, 1.50::numeric(10, 2) AS d, date '2024-02-29' AS day, NULL::bigint AS nothing")
        table = cursor.fetch_arrow_table()
    assert [str(field.type) for field in table.schema] == ["int32", "decimal128(10, 2)", "date32[day]", "int64"], table.schema


def ddl(connection) -> None:
    connection.folder = tempfile.TemporaryDirectory()
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE EXTERNAL TABLE {TABLE} (n BIGINT, t VARCHAR) STORED AS PARQUET LOCATION '{connection.folder.name}/'"
        )
    assert rows(connection, f"SELECT count(*) FROM {TABLE}") == [(0,)]


def an_update_is_counted(connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {TABLE} VALUES (1, 'a'), (2, 'b')")
        assert cursor.rowcount in (2, -1), cursor.rowcount
    assert rows(connection, f"SELECT n, t FROM {TABLE} ORDER BY n") == [(1, "a"), (2, "b")]


def a_parameter(connection) -> None:
    assert rows(connection, f"SELECT t FROM {TABLE} WHERE n = $1", (2,)) == [("b",)]


def many_rows_of_parameters(connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {TABLE} VALUES ($1, $2)", [(3, "c"), (4, "d"), (5, None)])
    assert rows(connection, f"SELECT count(*), sum(n) FROM {TABLE}") == [(5, 15)]


def ingest(connection) -> None:
    table = pa.table({"n": pa.array([6, 7], pa.int64()), "t": pa.array(["f", None], pa.string())})
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest(TABLE, table, mode="append") == 2
    assert rows(connection, f"SELECT count(*), sum(n) FROM {TABLE}") == [(7, 28)]


def partitions(connection) -> None:
    with connection.cursor() as cursor:
        found, schema = cursor.adbc_execute_partitions("SELECT value AS n FROM generate_series(1, 10) AS t(value)")
        assert schema.names == ["n"] and found
        total = 0
        for partition in found:
            cursor.adbc_read_partition(partition)
            total += sum(row[0] for row in cursor.fetchall())
    assert total == 55, total


def info(connection) -> None:
    found = connection.adbc_get_info()
    assert "sluice" in found["vendor_name"].lower() and found["vendor_version"], found


def objects(connection) -> None:
    found = connection.adbc_get_objects(depth="all", db_schema_filter="system", table_name_filter="queries")
    catalogs = {catalog["catalog_name"]: catalog for catalog in found.read_all().to_pylist()}
    [schema] = [s for s in catalogs["sluice"]["catalog_db_schemas"] if s["db_schema_name"] == "system"]
    [table] = schema["db_schema_tables"]
    assert "query_id" in [column["column_name"] for column in table["table_columns"]], table


def table_types(connection) -> None:
    assert "VIEW" in connection.adbc_get_table_types()


def table_schema(connection) -> None:
    assert connection.adbc_get_table_schema(TABLE).names == ["n", "t"]


def a_schema_without_running(connection) -> None:
    with connection.cursor() as cursor:
        assert cursor.adbc_execute_schema("SELECT 1::bigint AS n, 'x' AS t").names == ["n", "t"]


def an_error(connection) -> None:
    try:
        rows(connection, "SELECT * FROM no_such_table")
    except adbc_driver_manager.Error as error:
        assert "no_such_table" in str(error), error
    else:
        raise AssertionError("an unknown table was no error")
    assert rows(connection, "SELECT 1") == [(1,)]


def cancel(connection) -> None:
    with connection.cursor() as cursor:
        timer = threading.Timer(1.0, cursor.adbc_cancel)
        timer.start()
        try:
            cursor.execute(ENDLESS)
            cursor.fetchall()
        except adbc_driver_manager.Error:
            return
        raise AssertionError("an endless statement ended")


def a_commit(connection) -> None:
    """Without autocommit, which is the driver's default, it warns and goes on; at last the table goes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with flightsql.connect(f"grpc://127.0.0.1:{int(sys.argv[1])}") as other:
            assert rows(other, "SELECT 1") == [(1,)]
            try:
                other.commit()
            except adbc_driver_manager.NotSupportedError:
                pass
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")
    connection.folder.cleanup()


CHECKS = (
    a_query, types, ddl, an_update_is_counted, a_parameter, many_rows_of_parameters, ingest, partitions, info, objects,
    table_types, table_schema, a_schema_without_running, an_error, cancel, a_commit,
)


def main() -> None:
    passed = 0
    with flightsql.connect(f"grpc://127.0.0.1:{int(sys.argv[1])}", autocommit=True) as connection:
        for check in CHECKS:
            try:
                check(connection)
                passed += 1
            except Exception:
                print(f"FAILED {check.__name__}:\n{traceback.format_exc()}")
    print(f"passed {passed} of {len(CHECKS)}")
    sys.exit(passed != len(CHECKS))


if __name__ == "__main__":
    main()
