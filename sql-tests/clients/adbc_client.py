"""ADBC's Flight SQL driver against a running service: queries, prepared statements, metadata, sessions, polling.

Usage: adbc_client.py PORT
"""

import json
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa

ENDLESS = (
    "SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y)"
    " WHERE (x * 7919 + y) % 1000003 = 1"
)


def a_query_gives_an_arrow_table(connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT value AS n, value % 2 = 0 AS even FROM generate_series(1, 10000) AS t(value)")
        table = cursor.fetch_arrow_table()
    assert table.num_rows == 10000, table.num_rows
    assert table.column_names == ["n", "even"], table.column_names
    assert pa.types.is_int64(table.schema.field("n").type), table.schema
    assert sum(table["n"].to_pylist()) == 10000 * 10001 // 2


def types_are_arrows(connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1::int AS i, 12.34::numeric(10, 2) AS d, 'x' AS t, date '2024-02-29' AS day, NULL::bigint AS nothing")
        table = cursor.fetch_arrow_table()
    types = [str(field.type) for field in table.schema]
    assert types[0] == "int32" and types[1] == "decimal128(10, 2)" and types[3] == "date32[day]", types
    assert pa.types.is_string(table.schema.field("t").type) or str(table.schema.field("t").type) == "string_view", types
    assert table["nothing"].to_pylist() == [None]


def a_prepared_statement_takes_parameters(connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT value FROM generate_series(1, 10) AS t(value) WHERE value > ? ORDER BY value".replace("?", "$1"), (8,))
        assert cursor.fetchall() == [(9,), (10,)]


def an_error_says_what_was_wrong(connection) -> None:
    with connection.cursor() as cursor:
        try:
            cursor.execute("SELECT * FROM no_such_table")
            cursor.fetchall()
        except adbc_driver_manager.Error as error:
            assert "no_such_table" in str(error), error
        else:
            raise AssertionError("an unknown table was no error")
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def metadata_names_catalogs_schemas_and_tables(connection) -> None:
    objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    catalogs = {catalog["catalog_name"]: catalog for catalog in objects}
    assert "sluice" in catalogs, list(catalogs)
    schemas = {schema["db_schema_name"]: schema for schema in catalogs["sluice"]["catalog_db_schemas"]}
    assert "system" in schemas, list(schemas)
    tables = {table["table_name"] for table in schemas["system"]["db_schema_tables"]}
    assert "executors" in tables, tables
    schema = connection.adbc_get_table_schema("executors", catalog_filter="sluice", db_schema_filter="system")
    assert "host" in schema.names, schema
    info = connection.adbc_get_info()
    assert "sluice" in info["vendor_name"].lower(), info


def a_schema_is_told_without_running(connection) -> None:
    with connection.cursor() as cursor:
        assert cursor.adbc_execute_schema("SELECT 1::bigint AS n, 'x' AS t").names == ["n", "t"]


def options_last_with_cookies(connection) -> None:
    assert connection.adbc_current_catalog == "sluice", connection.adbc_current_catalog
    options = {
        "adbc.flight.sql.session.option.statement_timeout": "90s",
        "adbc.flight.sql.session.optionbool.progress": "true",
        "adbc.flight.sql.session.optionstringlist.search_path": '["system", "public"]',
    }
    connection.adbc_connection.set_options(**options)
    assert query(connection, "SHOW statement_timeout") == [("90000",)]
    assert query(connection, "SELECT count(*) > 0 FROM executors") == [(True,)]
    connection.adbc_current_db_schema = "public"
    assert connection.adbc_current_db_schema == "public"
    query(connection, "SET timezone = 'Asia/Tokyo'")
    all_options = json.loads(connection.adbc_connection.get_option("adbc.flight.sql.session.options"))
    assert all_options["timezone"] == "Asia/Tokyo" and all_options["progress"] == "on", all_options
    connection.adbc_connection.set_options(**{"adbc.flight.sql.session.optionerase.timezone": ""})
    assert query(connection, "SHOW timezone") == [("UTC",)]
    for name, value in (("no_such_option", "1"), ("statement_timeout", "soon"), ("catalog", "nowhere")):
        try:
            connection.adbc_connection.set_options(**{f"adbc.flight.sql.session.option.{name}": value})
        except adbc_driver_manager.Error as error:
            assert name in str(error), error
        else:
            raise AssertionError(f"{name} is set to {value}")


def a_statement_is_cancelled(connection) -> None:
    with connection.cursor() as cursor:
        timer = threading.Timer(1.0, cursor.adbc_cancel)
        timer.start()
        try:
            cursor.execute(ENDLESS)
            cursor.fetchall()
        except adbc_driver_manager.Error:
            pass
        else:
            raise AssertionError("an endless statement ended")
    running = f"SELECT count(*) FROM system.queries WHERE state = 'running' AND sql LIKE '{ENDLESS[:40]}%'"
    deadline = time.monotonic() + 20
    while query(connection, running) != [(0,)]:
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)


def a_statement_is_polled_until_its_result_is_there(connection) -> None:
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        sql = "SELECT count(*) AS n FROM generate_series(1, 30000000) AS t(x) WHERE x % 3 = 0"
        partitions, schema = cursor.adbc_execute_partitions(sql)
        assert schema.names == ["n"] and partitions, (schema, partitions)
        cursor.adbc_read_partition(partitions[0])
        assert cursor.fetchall() == [(10_000_000,)]
        assert cursor.adbc_execute_partitions(sql)[0] == [], "all partitions were told"
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        try:
            cursor.adbc_execute_partitions("SELECT 1 / (x - x) FROM generate_series(1, 3) AS t(x)")
        except adbc_driver_manager.Error as error:
            assert "22012" in str(error), error
        else:
            raise AssertionError("a failing statement did not fail")


def query(connection, sql: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def main() -> None:
    # Without cookies, each statement has a session of its own.
    with_cookies = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    uri = f"grpc://127.0.0.1:{int(sys.argv[1])}"
    with flightsql.connect(uri, db_kwargs=with_cookies, autocommit=True) as connection:
        for check in (
            a_query_gives_an_arrow_table,
            types_are_arrows,
            a_prepared_statement_takes_parameters,
            an_error_says_what_was_wrong,
            metadata_names_catalogs_schemas_and_tables,
            a_schema_is_told_without_running,
            options_last_with_cookies,
            a_statement_is_cancelled,
            a_statement_is_polled_until_its_result_is_there,
        ):
            check(connection)
            print("ok", check.__name__)


if __name__ == "__main__":
    main()
