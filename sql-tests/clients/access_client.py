"""Clients that have to say who they are: Flight SQL with passwords, tokens and tickets, the page over TLS.

There is a user mallory with the password mallory-secret beside the user sluice.

Usage: access_client.py flight PORT PASSWORD | tls PORT PASSWORD CA_FILE | http URL CA_FILE
"""

import base64
import ssl
import sys
import urllib.request
from pathlib import Path

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
from pyarrow import flight

TLS_ROOT_CERTS = "adbc.flight.sql.client_option.tls_root_certs"


def answer(uri: str, user: str | None, password: str, options: dict | None = None) -> tuple:
    credentials = {"username": user, "password": password} if user else {}
    with flightsql.connect(uri, db_kwargs=credentials | (options or {}), autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user AS me, 6 * 7 AS answer")
            return cursor.fetchone()


def refused(uri: str, user: str | None, password: str, options: dict | None = None) -> None:
    try:
        answer(uri, user, password, options)
    except adbc_driver_manager.Error as error:
        assert not password or password not in str(error), error
    else:
        raise AssertionError(f"{user} is let in with {password!r}")


def statement_query(sql: str) -> flight.FlightDescriptor:
    """CommandStatementQuery in an Any, as protobuf writes them."""

    def field(number: int, content: bytes) -> bytes:
        length, written = len(content), b""
        while length >= 0x80:
            written, length = written + bytes([length & 0x7F | 0x80]), length >> 7
        return bytes([number << 3 | 2]) + written + bytes([length]) + content

    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return flight.FlightDescriptor.for_command(field(1, name) + field(2, field(1, sql.encode())))


def fails(call) -> str:
    try:
        result = call()
        if hasattr(result, "read_all"):
            result.read_all()
    except flight.FlightError as error:
        return str(error)
    except Exception as error:  # what the transport says of a refusal differs between versions
        return str(error)
    raise AssertionError("is answered")


def tickets_belong_to_their_user(port: str, password: str) -> None:
    client = flight.connect(f"grpc://127.0.0.1:{port}")

    def calling(user: str, secret: str) -> flight.FlightCallOptions:
        basic = base64.b64encode(f"{user}:{secret}".encode())
        return flight.FlightCallOptions(headers=[(b"authorization", b"Basic " + basic)])

    root = calling("sluice", password)
    mallory = calling("mallory", "mallory-secret")
    info = client.get_flight_info(statement_query("SELECT 42 AS answer"), root)
    ticket = info.endpoints[0].ticket
    assert len(ticket.ticket) > 16, ticket
    fails(lambda: client.do_get(ticket))
    fails(lambda: client.do_get(ticket, mallory))
    fails(lambda: client.do_get(ticket, calling("sluice", "wrong")))
    fails(lambda: client.do_get(flight.Ticket(ticket.ticket[:-1] + b"\0"), root))
    assert client.do_get(ticket, root).read_all().to_pydict() == {"answer": [42]}
    fails(lambda: client.do_get(ticket, root))
    token = client.authenticate_basic_token("sluice", password)
    bearer = flight.FlightCallOptions(headers=[token])
    info = client.get_flight_info(statement_query("SELECT current_user AS me"), bearer)
    assert client.do_get(info.endpoints[0].ticket, bearer).read_all().to_pydict() == {"me": ["sluice"]}
    stolen = flight.FlightCallOptions(headers=[(b"authorization", token[1][:-1] + b"?")])
    fails(lambda: client.get_flight_info(statement_query("SELECT 1"), stolen))
    fails(lambda: client.get_flight_info(statement_query("SELECT 1")))


def passwords_and_tickets(port: str, password: str) -> None:
    uri = f"grpc://127.0.0.1:{port}"
    assert answer(uri, "sluice", password) == ("sluice", 42)
    refused(uri, None, "")
    for user, wrong in [("sluice", "wrong-secret"), ("eve", password)]:
        refused(uri, user, wrong)
    assert answer(uri, "mallory", "mallory-secret") == ("mallory", 42)
    tickets_belong_to_their_user(port, password)


def encrypted(port: str, password: str, ca_file: str) -> None:
    roots = {TLS_ROOT_CERTS: Path(ca_file).read_text()}
    assert answer(f"grpc+tls://127.0.0.1:{port}", "sluice", password, roots) == ("sluice", 42)
    refused(f"grpc+tls://127.0.0.1:{port}", "sluice", password)
    refused(f"grpc://127.0.0.1:{port}", "sluice", password)


def page(url: str, ca_file: str) -> None:
    context = ssl.create_default_context(cafile=ca_file) if url.startswith("https") else None
    with urllib.request.urlopen(url, context=context, timeout=20) as response:
        assert response.read() == b"ok\n", url


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    {"flight": passwords_and_tickets, "tls": encrypted, "http": page}[what](*arguments)
    print("access_client: ok")
