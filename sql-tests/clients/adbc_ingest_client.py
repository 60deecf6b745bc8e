"""ADBC's bulk ingest into local tables and tables of Cassandra.

Usage: adbc_ingest_client.py PORT CASSANDRA_CATALOG KEYSPACE
"""

import datetime
import decimal
import sys

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow as pa

PORT, CASSANDRA, KEYSPACE = int(sys.argv[1]), sys.argv[2], sys.argv[3]
IN_CASSANDRA = {"catalog_name": CASSANDRA, "db_schema_name": KEYSPACE}
ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "Name": pa.array(["a", None, "c"], pa.string()),
        "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")], pa.decimal128(10, 2)),
        "day": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1969, 12, 31)], pa.date32()),
        "seen": pa.array([datetime.datetime(2024, 2, 29, 12, 30, 0, 123000), None, None], pa.timestamp("ms")),
        "tags": pa.array([["x", "y"], [], None], pa.list_(pa.string())),
    }
)


def query(connection, sql: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def ingest(connection, table: str, rows, mode: str, **where) -> int:
    with connection.cursor() as cursor:
        return cursor.adbc_ingest(table, rows, mode=mode, **where)


def refused(connection, table: str, rows, mode: str, *words: str, **where) -> None:
    try:
        ingest(connection, table, rows, mode, **where)
    except adbc_driver_manager.Error as error:
        for word in words:
            assert word in str(error), error
    else:
        raise AssertionError(f"{mode} into {table} is taken")


def every_mode_does_what_it_says(connection) -> None:
    table = f"modes_{KEYSPACE}"
    assert ingest(connection, table, ROWS, "create") == 3
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table} ORDER BY id")
        assert cursor.fetch_arrow_table().to_pylist() == ROWS.to_pylist()
    refused(connection, table, ROWS, "create", "42P07", "append")
    assert ingest(connection, table, ROWS.slice(0, 1), "append") == 1
    assert query(connection, f"SELECT count(*), sum(id) FROM {table}") == [(4, 7)]
    assert ingest(connection, table, ROWS.slice(1), "create_append") == 2
    assert query(connection, f"SELECT count(*) FROM {table}") == [(6,)]
    assert ingest(connection, table, ROWS.select(["id"]), "replace") == 3
    assert query(connection, f"SELECT * FROM {table} ORDER BY 1") == [(1,), (2,), (3,)]
    refused(connection, f"{table}_none", ROWS, "append", "42P01")
    query(connection, f"DROP TABLE {table}")
    assert ingest(connection, table, ROWS.select(["id"]), "create_append") == 3
    query(connection, f"DROP TABLE {table}")


def columns_go_by_name(connection) -> None:
    table = f"names_{KEYSPACE}"
    ingest(connection, table, ROWS.select(["id", "Name", "price"]), "create")
    # In another order, one fewer, and of types that are cast.
    rows = pa.table({"price": pa.array([7], pa.int32()), "id": pa.array([4], pa.int16())})
    assert ingest(connection, table, rows, "append") == 1
    assert query(connection, f'SELECT id, "Name", price FROM {table} WHERE id = 4') == [(4, None, decimal.Decimal("7.00"))]
    refused(connection, table, pa.table({"id": [5], "nam": ["x"]}), "append", "42703", '"nam"')
    refused(connection, table, pa.table({"id": [["a list"]]}), "append", "42804", '"id"')
    refused(connection, table, pa.table({"id": ["no number"]}), "append", '"id"', "no number")
    refused(connection, table, pa.table({"x": pa.nulls(1)}), "replace", "0A000", '"x"')
    assert query(connection, f"SELECT count(*) FROM {table}") == [(4,)], "a refused replace drops nothing"
    query(connection, f"DROP TABLE {table}")


def a_reader_is_streamed(connection) -> None:
    table, batches, size = f"streamed_{KEYSPACE}", 50, 10_000

    def read():
        for batch in range(batches):
            yield pa.record_batch({"n": pa.array(range(batch * size, (batch + 1) * size), pa.int64())})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), read())
    assert ingest(connection, table, reader, "create") == batches * size
    total = batches * size
    assert query(connection, f"SELECT count(*), sum(n) FROM {table}") == [(total, total * (total - 1) // 2)]
    # Of no batch at all the driver sends nothing, not even which table it is for.
    none = pa.record_batch({"n": pa.array([], pa.int64())})
    assert ingest(connection, table, pa.RecordBatchReader.from_batches(none.schema, [none]), "append") == 0

    def broken():
        yield pa.record_batch({"n": pa.array([1], pa.int64())})
        raise ValueError("the client's own trouble")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), broken())
    refused(connection, table, reader, "append")
    assert query(connection, f"SELECT count(*) FROM {table}") == [(total,)], "rows that ended early are not in the table"
    query(connection, f"DROP TABLE {table}")


def into_cassandra(connection) -> None:
    name = f"{CASSANDRA}.{KEYSPACE}.people"
    refused(connection, "people", ROWS, "create", "0A000", "primary_key", **IN_CASSANDRA)
    with_key = ROWS.replace_schema_metadata({"sluice.primary_key": "id"})
    assert ingest(connection, "people", with_key, "create", **IN_CASSANDRA) == 3
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT id, "Name", price, day, seen FROM {name} ORDER BY id')
        rows = cursor.fetchall()
    assert [row[:4] for row in rows] == [tuple(row.values())[:4] for row in ROWS.to_pylist()], rows
    more = pa.table({"Name": ["d"], "id": pa.array([4], pa.int32())})
    assert ingest(connection, "people", more, "append", **IN_CASSANDRA) == 1
    assert query(connection, f'SELECT "Name" FROM {name} WHERE id = 4') == [("d",)]
    refused(connection, "people", pa.table({"id": [5], "age": [1]}), "append", "42703", '"age"', **IN_CASSANDRA)
    assert ingest(connection, "people", with_key.slice(0, 1), "replace", **IN_CASSANDRA) == 1
    assert query(connection, f"SELECT count(*) FROM {name}") == [(1,)]


def what_is_not_there_is_refused(connection) -> None:
    refused(connection, "t", ROWS, "create", "0A000", "temporary", temporary=True)
    refused(connection, "t", ROWS, "create", "3D000", "nowhere", catalog_name="nowhere")
    refused(connection, "t", ROWS, "create", "3F000", "nowhere", db_schema_name="nowhere")
    refused(connection, "executors", ROWS, "append", db_schema_name="system")
    bad_option = ROWS.replace_schema_metadata({"sluice.colour": "red"})
    refused(connection, f"optioned_{KEYSPACE}", bad_option, "create", "22023", "colour")


def main() -> None:
    with flightsql.connect(f"grpc://127.0.0.1:{PORT}", autocommit=True) as connection:
        for check in (
            every_mode_does_what_it_says,
            columns_go_by_name,
            a_reader_is_streamed,
            into_cassandra,
            what_is_not_there_is_refused,
        ):
            check(connection)
            print("ok", check.__name__)


if __name__ == "__main__":
    main()
