"""psycopg 3 against a running service, as an application would use it.

Usage: psycopg_client.py PORT
"""

import datetime
import decimal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import dict_row


@contextmanager
def fails_with(wanted: type[psycopg.Error], what: str) -> Iterator[None]:
    """What is done inside must fail so; `what` tells what it means if it does not."""
    try:
        yield
    except wanted:
        return
    raise AssertionError(what)


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
        with fails_with(wanted, f"{query} did not fail"):
            connection.execute(query).fetchall()
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
        with fails_with(psycopg.errors.InFailedSqlTransaction, "a failed block took another statement"):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT 2").fetchone() == (2,)


def rows_are_fetched_through_a_cursor(port: int) -> None:
    """Of a billion rows, of which neither side could hold all, some are fetched, and some passed over."""
    with psycopg.connect(host="127.0.0.1", port=port, dbname="sluice", user="sluice") as connection:
        with connection.cursor(name="many rows") as cursor:
            cursor.execute("SELECT value AS n FROM generate_series(1, 1000000000) AS t(value)")
            assert [column.name for column in cursor.description] == ["n"]
            assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
            open_now = connection.execute("SELECT name, is_holdable FROM pg_cursors").fetchall()
            assert open_now == [("many rows", False)], open_now
            assert connection.execute('MOVE 9997 IN "many rows"').statusmessage == "MOVE 9997"
            assert connection.execute('FETCH "many rows"').fetchall() == [(10001,)]
            with fails_with(psycopg.errors.ObjectNotInPrerequisiteState, "a cursor went back"):
                with connection.transaction():
                    connection.execute('FETCH PRIOR FROM "many rows"')
        connection.execute("DECLARE c CURSOR FOR SELECT * FROM (VALUES (1), (2)) AS t(n) ORDER BY n")
        connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 7")
        assert connection.execute("FETCH ALL FROM c").fetchall() == [(1,), (2,)]
        assert connection.execute("FETCH c").fetchall() == []
        connection.commit()
        assert connection.execute("SELECT name FROM pg_cursors").fetchall() == [("held",)]
        assert connection.execute("FETCH 5 FROM held").fetchall() == [(7,)]
        connection.execute("CLOSE held")
        with fails_with(psycopg.errors.InvalidCursorName, "a cursor was closed twice"):
            connection.execute("CLOSE held")
        connection.rollback()
        connection.autocommit = True
        with fails_with(psycopg.errors.NoActiveSqlTransaction, "a cursor was declared without a block and without HOLD"):
            connection.execute("DECLARE c CURSOR FOR SELECT 1")


VALUES = [(1, "plain"), (2, None), (3, ""), (4, 'a,"b"\t\\c\nd')]


def rows_are_copied_out(connection: psycopg.Connection) -> None:
    connection.execute("CREATE OR REPLACE VIEW copied AS SELECT * FROM (VALUES (1, 'plain'), (2, NULL), (3, ''),"
                       " (4, E'a,\"b\"\\t\\\\c\\nd')) AS t(n, t)")
    query = "SELECT n, t FROM copied ORDER BY n"
    for options, wanted in (
        ("", "1\tplain\n2\t\\N\n3\t\n4\ta,\"b\"\\t\\\\c\\nd\n"),
        ("(FORMAT csv, HEADER)", 'n,t\n1,plain\n2,\n3,""\n4,"a,""b""\t\\c\nd"\n'),
        ("CSV DELIMITER ';' NULL '-' FORCE QUOTE t", '1;"plain"\n2;-\n3;""\n4;"a,""b""\t\\c\nd"\n'),
    ):
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY ({query}) TO STDOUT {options}") as copy:
                text = b"".join(copy).decode()
            assert text == wanted, f"{options}: {text!r} is not {wanted!r}"
            assert cursor.rowcount == 4, cursor.rowcount
    for options in ("", "(FORMAT binary)"):
        with connection.cursor().copy(f"COPY ({query}) TO STDOUT {options}") as copy:
            copy.set_types(["int8", "text"])
            assert list(copy.rows()) == VALUES, options
    with connection.cursor().copy("COPY copied (t) TO STDOUT") as copy:
        assert len(list(copy)) == 4
    with connection.cursor().copy("COPY (SELECT value FROM generate_series(1, 300000) AS t(value)) TO STDOUT") as copy:
        assert sum(int(row[0]) for row in copy.rows()) == 300000 * 300001 // 2
    failing = "SELECT 1 / (value - 50000) FROM generate_series(1, 100000) AS t(value)"
    with fails_with(psycopg.errors.DivisionByZero, "an error in the middle of a copy was not told"):
        with connection.cursor().copy(f"COPY ({failing}) TO STDOUT") as copy:
            list(copy)
    assert connection.execute("SELECT 1").fetchone() == (1,)


def rows_are_copied_in(connection: psycopg.Connection) -> None:
    with tempfile.TemporaryDirectory() as folder:
        connection.execute(f"CREATE EXTERNAL TABLE copied_in (n BIGINT, t VARCHAR) STORED AS PARQUET LOCATION '{folder}/'")
        try:
            for options in ("", "(FORMAT csv, NULL '-')", "(FORMAT binary)"):
                before = connection.execute("SELECT count(*) FROM copied_in").fetchone()[0]
                with connection.cursor() as cursor:
                    with cursor.copy(f"COPY copied_in (n, t) FROM STDIN {options}") as copy:
                        copy.set_types(["int8", "text"])
                        if "csv" in options:
                            # In pieces that end nowhere in particular.
                            text = '1,plain\n2,-\n3,\n4,"a,""b""\t\\c\nd"\n'
                            for start in range(0, len(text), 5):
                                copy.write(text[start : start + 5])
                        else:
                            for row in VALUES:
                                copy.write_row(row)
                    assert cursor.rowcount == 4, cursor.rowcount
                after = connection.execute("SELECT count(*) FROM copied_in").fetchone()[0]
                assert after == before + 4, (options, before, after)
            rows = connection.execute("SELECT DISTINCT n, t FROM copied_in ORDER BY n").fetchall()
            assert rows == VALUES, rows
            with connection.cursor().copy("COPY copied_in FROM STDIN") as copy:
                for number in range(100_000):
                    copy.write_row((number, "many"))
            counted = connection.execute("SELECT count(*), sum(n) FROM copied_in WHERE t = 'many'").fetchone()
            assert counted == (100_000, 99_999 * 100_000 // 2), counted
            for text, wanted, words in (
                ("1\ta\nx\tb\n", psycopg.errors.InvalidTextRepresentation, 'line 2, column "n"'),
                ("1\n", psycopg.errors.BadCopyFileFormat, "line 1"),
            ):
                try:
                    with connection.cursor().copy("COPY copied_in FROM STDIN") as copy:
                        copy.write(text)
                except wanted as error:
                    assert words in error.diag.message_detail, error.diag.message_detail
                else:
                    raise AssertionError(f"{text!r} was taken")
                assert connection.execute("SELECT 1").fetchone() == (1,)
            try:
                with connection.cursor().copy("COPY copied_in FROM STDIN") as copy:
                    copy.write("1\ta\n")
                    raise KeyError("changed my mind")
            except KeyError:
                pass
            except psycopg.errors.QueryCanceled:
                pass
            assert connection.execute("SELECT count(*) FROM copied_in WHERE t = 'a'").fetchone() == (0,)
            for wrong, state in (
                ("COPY copied_in (nope) FROM STDIN", psycopg.errors.UndefinedColumn),
                ("COPY no_such_table FROM STDIN", psycopg.errors.UndefinedTable),
                ("COPY copied_in FROM STDIN (FORMAT parquet)", psycopg.errors.InvalidParameterValue),
            ):
                with fails_with(state, f"{wrong} was taken"), connection.cursor().copy(wrong):
                    pass
        finally:
            connection.execute("DROP TABLE copied_in")


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
            rows_are_copied_out,
            rows_are_copied_in,
        ):
            check(connection)
            print("ok", check.__name__)
    for check in (
        a_query_is_cancelled_from_another_thread,
        a_failed_transaction_wants_its_end,
        rows_are_fetched_through_a_cursor,
    ):
        check(port)
        print("ok", check.__name__)


if __name__ == "__main__":
    main()
