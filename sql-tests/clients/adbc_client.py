"""ADBC's Flight SQL driver against a running service: queries, prepared statements, metadata.

Usage: adbc_client.py PORT
"""

import sys

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa


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


def main() -> None:
    with flightsql.connect(f"grpc://127.0.0.1:{int(sys.argv[1])}", autocommit=True) as connection:
        for check in (
            a_query_gives_an_arrow_table,
            types_are_arrows,
            a_prepared_statement_takes_parameters,
            an_error_says_what_was_wrong,
            metadata_names_catalogs_schemas_and_tables,
        ):
            check(connection)
            print("ok", check.__name__)


if __name__ == "__main__":
    main()
