"""Large results, fetched from the executors that made them or through the coordinator instead.

Usage: endpoints_client.py direct|unreachable PORT CLIENT_PORT LINEITEM_FILE
"""

import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import pyarrow as pa
from pyarrow import flight

from flight_client import CANCELLED, Client, fails
from flight_messages import statement

SAME_CONNECTION = "arrow-flight-reuse-connection://?"
# Stages, however small the table is.
IN_STAGES = {"sluice.single_task_max_bytes": "0"}
KEY = [("l_orderkey", "ascending"), ("l_linenumber", "ascending")]


def rows_of(file: str) -> str:
    return f"SELECT l_orderkey, l_linenumber, l_extendedprice, l_comment FROM '{file}'"


def client(port: int, **options) -> Client:
    connected = Client(port)
    assert connected.set(**(IN_STAGES | options)) == {}
    return connected


def one_endpoint(port: int, file: str) -> pa.Table:
    connected = client(port, flight_endpoints="one")
    info = connected.flight.get_flight_info(statement(rows_of(file)), connected.options)
    assert len(info.endpoints) == 1 and info.endpoints[0].locations == [], info.endpoints
    return connected.flight.do_get(info.endpoints[0].ticket, connected.options).read_all().sort_by(KEY)


def uris(endpoint: flight.FlightEndpoint) -> list[str]:
    return [location.uri.decode() for location in endpoint.locations]


def fetch_all(fetch, endpoints: list) -> list[pa.Table]:
    """All endpoints at the same time, in their order."""
    tables: list = [None] * len(endpoints)

    def read(index: int) -> None:
        tables[index] = fetch(endpoints[index])

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(endpoints))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return tables


def from_executor(endpoint: flight.FlightEndpoint) -> pa.Table:
    """Whoever has the ticket needs nothing else."""
    return flight.connect(uris(endpoint)[0]).do_get(endpoint.ticket).read_all()


def endpoints_name_the_executors(port: int, client_port: int, file: str) -> None:
    connected = client(port)
    info = connected.flight.get_flight_info(statement(rows_of(file)), connected.options)
    hosts = {uris(endpoint)[0] for endpoint in info.endpoints}
    assert len(hosts) > 1 and all(uri.endswith(f":{client_port}") and uri.startswith("grpc://127.0.1.") for uri in hosts), hosts
    assert all(uris(endpoint)[1:] == [SAME_CONNECTION] for endpoint in info.endpoints)
    assert all(endpoint.expiration_time is not None for endpoint in info.endpoints)
    quoted = rows_of(file).replace("'", "''")
    state = connected.query(f"SELECT state, row_count FROM system.queries WHERE sql = '{quoted}' ORDER BY started DESC LIMIT 1")
    assert state == [("finished", info.total_records)], state
    assert connected.cancel(info) == CANCELLED


def rows_are_disjoint_and_complete(port: int, client_port: int, file: str) -> None:
    wanted = one_endpoint(port, file)
    connected = client(port)
    info = connected.flight.get_flight_info(statement(rows_of(file)), connected.options)
    tables = fetch_all(from_executor, info.endpoints)
    assert all(table.schema == info.schema for table in tables), (info.schema, tables[0].schema)
    assert pa.concat_tables(tables).sort_by(KEY) == wanted
    assert info.total_records == wanted.num_rows
    for endpoint in info.endpoints:
        assert "run the statement again" in fails(lambda: from_executor(endpoint)), "what was read is gone"


def the_coordinator_gives_the_same_rows(port: int, client_port: int, file: str) -> None:
    wanted = one_endpoint(port, file)
    connected = client(port)
    info = connected.flight.get_flight_info(statement(rows_of(file)), connected.options)
    here = lambda endpoint: connected.flight.do_get(endpoint.ticket, connected.options).read_all()
    tables = fetch_all(here, info.endpoints)
    assert pa.concat_tables(tables).sort_by(KEY) == wanted
    for endpoint in info.endpoints:
        assert "run the statement again" in fails(lambda: here(endpoint)), "what was read is gone"


def tickets_belong_to_a_user_and_cannot_be_made(port: int, client_port: int, file: str) -> None:
    connected, thief = client(port), Client(port, "eve")
    info = connected.flight.get_flight_info(statement(rows_of(file)), connected.options)
    endpoint = info.endpoints[0]
    assert "another user" in fails(lambda: thief.flight.do_get(endpoint.ticket, thief.options).read_all())
    assert fails(lambda: thief.cancel(info))
    whole = endpoint.ticket.ticket
    executor = flight.connect(uris(endpoint)[0])
    forged = [whole[:-1], whole + b"x", b"", b"x" * 100, whole[:-5] + b"0" + whole[-4:]]
    # The last half of a ticket is what it says, and before it is the code over that.
    forged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole) - 200, len(whole), 20)]
    for ticket in forged:
        error = fails(lambda: executor.do_get(flight.Ticket(ticket)).read_all())
        assert "no ticket of this service" in error, (ticket, error)
        fails(lambda: connected.flight.do_get(flight.Ticket(ticket), connected.options).read_all())
    assert "ask the coordinator" in fails(lambda: list(executor.list_flights()))
    assert "ask the coordinator" in fails(lambda: list(executor.do_action("IO_BLOCK_TRANSPORT")))
    assert from_executor(endpoint).num_rows > 0, "the ticket itself is as good as before"
    assert connected.cancel(info) == CANCELLED


def tickets_expire(port: int, client_port: int, file: str) -> None:
    connected = client(port, flight_ticket_lifetime="1s")
    info = connected.flight.get_flight_info(statement(rows_of(file)), connected.options)
    time.sleep(1.5)
    for endpoint in info.endpoints:
        assert "expired" in fails(lambda: from_executor(endpoint))
        assert "expired" in fails(lambda: connected.flight.do_get(endpoint.ticket, connected.options).read_all())


def a_result_that_is_given_up_is_gone(port: int, client_port: int, file: str) -> None:
    connected = client(port)
    info = connected.flight.get_flight_info(statement(rows_of(file)), connected.options)
    assert connected.cancel(info) == CANCELLED
    assert fails(lambda: connected.cancel(info))
    # Executors are told of it, and do it on the side.
    time.sleep(1)
    for endpoint in info.endpoints:
        assert "run the statement again" in fails(lambda: from_executor(endpoint))


def an_order_is_kept(port: int, client_port: int, file: str) -> None:
    connected = client(port)
    sql = rows_of(file) + " ORDER BY l_orderkey DESC, l_linenumber"
    info = connected.flight.get_flight_info(statement(sql), connected.options)
    assert info.ordered
    table = pa.concat_tables(fetch_all(from_executor, info.endpoints))
    assert table == table.sort_by([("l_orderkey", "descending"), ("l_linenumber", "ascending")])
    assert table.num_rows == info.total_records


def other_statements_have_one_endpoint(port: int, client_port: int, file: str) -> None:
    connected = client(port)
    for sql, rows in [
        ("SELECT 1", 1),
        ("SHOW timezone", 1),
        ("EXPLAIN SELECT 1", None),
        (f"SELECT count(*) FROM '{file}'", 1),
        (rows_of(file) + " WHERE l_orderkey < 0", 0),
    ]:
        info = connected.flight.get_flight_info(statement(sql), connected.options)
        assert len(info.endpoints) == 1 and info.endpoints[0].locations == [], (sql, info.endpoints)
        table = connected.flight.do_get(info.endpoints[0].ticket, connected.options).read_all()
        assert rows is None or table.num_rows == rows, (sql, table.num_rows)


def adbc_fetches_all(port: int, client_port: int, file: str) -> None:
    wanted = one_endpoint(port, file)
    with_cookies = {"adbc.flight.sql.rpc.with_cookie_middleware": "true", "username": "ada", "password": "x"}
    options = {f"adbc.flight.sql.session.option.{name}": value for name, value in IN_STAGES.items()}
    with flightsql.connect(f"grpc://127.0.0.1:{port}", db_kwargs=with_cookies, autocommit=True) as connection:
        connection.adbc_connection.set_options(**options)
        with connection.cursor() as cursor:
            cursor.execute(rows_of(file))
            assert cursor.fetch_arrow_table().sort_by(KEY) == wanted
            cursor.execute(rows_of(file) + " WHERE l_orderkey > $1", (wanted["l_orderkey"][wanted.num_rows // 2].as_py(),))
            part = cursor.fetch_arrow_table().sort_by(KEY)
            assert part == wanted.slice(wanted.num_rows - part.num_rows) and 0 < part.num_rows < wanted.num_rows
            partitions, schema = cursor.adbc_execute_partitions(rows_of(file))
            assert len(partitions) > 1, "it has several endpoints"
        tables = []
        for partition in partitions:
            with connection.cursor() as cursor:
                cursor.adbc_read_partition(partition)
                tables.append(cursor.fetch_arrow_table())
        assert pa.concat_tables(tables).sort_by(KEY) == wanted


def executors_cannot_be_reached(port: int, client_port: int, file: str) -> None:
    """They show a certificate that this client has no reason to trust."""
    connected = client(port)
    info = connected.flight.get_flight_info(statement(rows_of(file)), connected.options)
    assert all(uris(endpoint)[0].startswith("grpc+tls://127.0.1.") for endpoint in info.endpoints), info.endpoints
    fails(lambda: from_executor(info.endpoints[0]))
    assert connected.cancel(info) == CANCELLED


DIRECT = [
    endpoints_name_the_executors,
    rows_are_disjoint_and_complete,
    the_coordinator_gives_the_same_rows,
    tickets_belong_to_a_user_and_cannot_be_made,
    tickets_expire,
    a_result_that_is_given_up_is_gone,
    an_order_is_kept,
    other_statements_have_one_endpoint,
    adbc_fetches_all,
]
UNREACHABLE = [executors_cannot_be_reached, the_coordinator_gives_the_same_rows, adbc_fetches_all]


def main() -> None:
    for check in DIRECT if sys.argv[1] == "direct" else UNREACHABLE:
        check(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
        print("ok", check.__name__)


if __name__ == "__main__":
    main()
