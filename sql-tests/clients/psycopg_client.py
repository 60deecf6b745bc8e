"""psycopg 3 against a running service, as an application would use it.

Usage: psycopg_client.py PORT
"""

import datetime
import decimal
import sys
import threading
import time
import uuid

import psycopg
from psycopg.rows import dict_row


def connect(port: int, **options) -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=port, dbname="sluice", user="sluice", autocommit=True, **options)


def values_come_as_python_objects(connection: psycopg.Connection) -> None:
    query = """
        SELECT true, 1::smallint, 2::int, 3::bigint, 1.5::real, 2.5::double precision, 12.34::numeric(10, 2),
               'text', date '2024-02-29', timestamp '2024-02-29 12:34:56.789', NULL
    """
    wanted = (
        True, 1, 2, 3, 1.5, 2.5, decimal.Decimal("12.34"), "text", datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 34, 56, 789000), None,
    )
    for binary in (False, True):
        row = connection.execute(query, binary=binary).fetchone()
        assert row == wanted, f"binary={binary}: {row} is not {wanted}"


def parameters_are_bound(connection: psycopg.Connection) -> None:
    row = connection.execute("SELECT %s + 1, upper(%s)", (41, "quoted ' text")).fetchone()
    assert row == (42, "QUOTED ' TEXT"), row
    rows = connection.execute(
        "SELECT value FROM generate_series(1, 10) AS t(value) WHERE value > %s ORDER BY value", (8,)
    ).fetchall()
    assert rows == [(9,), (10,)], rows


def a_statement_is_prepared_once_and_run_often(connection: psycopg.Connection) -> None:
    for number in range(20):
        row = connection.execute("SELECT %s * 2", (number,), prepare=True).fetchone()
        assert row == (number * 2,), row


def columns_have_names_and_types(connection: psycopg.Connection) -> None:
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SELECT 1 AS one, 'x' AS letter")
        assert [column.name for column in cursor.description] == ["one", "letter"]
        assert cursor.fetchone() == {"one": 1, "letter": "x"}


def an_error_has_its_class_and_leaves_the_session_usable(connection: psycopg.Connection) -> None:
    for query, wanted in (
        ("SELECT * FROM no_such_table", psycopg.errors.UndefinedTable),
        ("SELECT no_such_column FROM information_schema.tables", psycopg.errors.UndefinedColumn),
        ("SELEKT 1", psycopg.errors.SyntaxError),
        ("SELECT 1 / 0", psycopg.errors.DivisionByZero),
    ):
        try:
            connection.execute(query).fetchall()
        except wanted:
            pass
        else:
            raise AssertionError(f"{query} did not fail")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def a_large_result_is_streamed(connection: psycopg.Connection) -> None:
    count = 0
    total = 0
    with connection.cursor() as cursor:
        for (value,) in cursor.stream("SELECT value FROM generate_series(1, 200000) AS t(value)"):
            count += 1
            total += value
    assert (count, total) == (200000, 200000 * 200001 // 2), (count, total)


def a_query_is_cancelled_from_another_thread(port: int) -> None:
    endless = """
        SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y)
        WHERE (x * 7919 + y) % 1000003 = 1
    """
    with connect(port) as connection:
        failure: list[BaseException] = []

        def run() -> None:
            try:
                connection.execute(endless).fetchall()
            except psycopg.Error as error:
                failure.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        # Cancelled again and again, because a cancel that comes before the query begins does nothing.
        while thread.is_alive():
            time.sleep(0.5)
            connection.cancel_safe(timeout=10)
        thread.join()
        assert failure and isinstance(failure[0], psycopg.errors.QueryCanceled), failure
        assert connection.execute("SELECT 1").fetchone() == (1,)


def a_failed_transaction_wants_its_end(port: int) -> None:
    with psycopg.connect(host="127.0.0.1", port=port, dbname="sluice", user="sluice") as connection:
        connection.execute("SELECT 1")
        try:
            connection.execute("SELECT * FROM no_such_table")
        except psycopg.errors.UndefinedTable:
            pass
        try:
            connection.execute("SELECT 1")
        except psycopg.errors.InFailedSqlTransaction:
            pass
        else:
            raise AssertionError("a failed block took another statement")
        connection.rollback()
        assert connection.execute("SELECT 2").fetchone() == (2,)


def a_query_can_be_named_for_a_reader(connection: psycopg.Connection) -> None:
    """A marker in the text is found in the list of queries, so that one sees what ran."""
    marker = uuid.uuid4().hex
    connection.execute(f"SELECT '{marker}'")
    rows = connection.execute(
        "SELECT sql FROM system.queries WHERE sql LIKE %s AND sql NOT LIKE '%%system%%'", (f"%{marker}%",)
    ).fetchall()
    assert len(rows) == 1, rows


def main() -> None:
    port = int(sys.argv[1])
    with connect(port) as connection:
        for check in (
            values_come_as_python_objects,
            parameters_are_bound,
            a_statement_is_prepared_once_and_run_often,
            columns_have_names_and_types,
            an_error_has_its_class_and_leaves_the_session_usable,
            a_large_result_is_streamed,
            a_query_can_be_named_for_a_reader,
        ):
            check(connection)
            print("ok", check.__name__)
    for check in (a_query_is_cancelled_from_another_thread, a_failed_transaction_wants_its_end):
        check(port)
        print("ok", check.__name__)


if __name__ == "__main__":
    main()
