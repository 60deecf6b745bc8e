"""asyncpg against a running service: the extended protocol in binary, and its questions about types.

Usage: asyncpg_client.py PORT
"""

import asyncio
import datetime
import decimal
import io
import sys

import asyncpg

ENDLESS = """
    SELECT count(*) FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y)
    WHERE (x * 7919 + y) % 1000003 = 1
"""


def where(port: int) -> dict:
    return {"host": "127.0.0.1", "port": port, "user": "sluice", "database": "sluice"}


async def values_come_as_python_objects(connection: asyncpg.Connection) -> None:
    row = await connection.fetchrow(
        "SELECT 1::int AS i, 'x' AS t, 1.50::numeric(10, 2) AS n, date '2024-02-29' AS d, true AS b, NULL AS nothing"
    )
    wanted = {"i": 1, "t": "x", "n": decimal.Decimal("1.50"), "d": datetime.date(2024, 2, 29), "b": True, "nothing": None}
    assert dict(row) == wanted, row
    assert await connection.fetchval("SELECT array[1, 2, 3]") == [1, 2, 3]
    assert await connection.fetchval("SELECT interval '1 day 2 hours'") == datetime.timedelta(days=1, hours=2)


async def parameters_have_the_types_of_their_casts(connection: asyncpg.Connection) -> None:
    assert await connection.fetchval("SELECT $1::int + 1", 41) == 42
    assert await connection.fetchval("SELECT $1::text[]", ["a", None, "b"]) == ["a", None, "b"]
    day = datetime.date(2024, 2, 29)
    assert await connection.fetchval("SELECT $1::date", day) == day
    statement = await connection.prepare("SELECT value FROM generate_series(1, 9) AS t(value) WHERE value > $1::bigint")
    assert [parameter.name for parameter in statement.get_parameters()] == ["int8"]
    assert len(await statement.fetch(7)) == 2


async def a_cursor_reads_as_far_as_it_is_asked(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        cursor = await connection.cursor("SELECT value FROM generate_series(1, 1000000000) AS t(value)")
        assert [row[0] for row in await cursor.fetch(3)] == [1, 2, 3]
        await cursor.forward(10)
        assert (await cursor.fetchrow())[0] == 14


async def rows_are_copied(connection: asyncpg.Connection) -> None:
    query = "SELECT value FROM generate_series(1, 3) AS t(value)"
    for options, wanted in (({"format": "csv", "header": True}, b"value\n1\n2\n3\n"), ({}, b"1\n2\n3\n")):
        out = io.BytesIO()
        assert await connection.copy_from_query(query, output=out, **options) == "COPY 3"
        assert out.getvalue() == wanted, out.getvalue()


async def an_error_has_its_class(connection: asyncpg.Connection) -> None:
    try:
        await connection.fetch("SELECT * FROM no_such_table")
    except asyncpg.UndefinedTableError:
        pass
    else:
        raise AssertionError("a table that is not there was read")
    try:
        await asyncio.wait_for(connection.fetch(ENDLESS), 0.5)
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("an endless query ended")
    assert await connection.fetchval("SELECT 2") == 2


async def main(port: int) -> None:
    connection = await asyncpg.connect(**where(port))
    for check in (
        values_come_as_python_objects,
        parameters_have_the_types_of_their_casts,
        a_cursor_reads_as_far_as_it_is_asked,
        rows_are_copied,
        an_error_has_its_class,
    ):
        await check(connection)
        print("ok", check.__name__)
    await connection.reset()
    await connection.close()
    async with asyncpg.create_pool(**where(port), min_size=2, max_size=4) as pool:
        doubled = await asyncio.gather(*(pool.fetchval("SELECT $1::bigint * 2", number) for number in range(50)))
    assert sum(doubled) == 49 * 50, doubled
    print("ok a pool")


asyncio.run(main(int(sys.argv[1])))
