"""Calls of Flight that drivers make behind users' backs: sessions by cookie, cancelling, tickets that last, schemas.

Usage: flight_client.py PORT
"""

import sys
import threading
import time

from pyarrow import flight

from flight_messages import entries, field, fields, set_options, statement, wrapped

ENDLESS = (
    "SELECT a.x FROM generate_series(1, 1000000) AS a(x), generate_series(1, 1000000) AS b(y)"
    " WHERE (a.x * 7919 + b.y) % 10 = 1"
)
COOKIE = "arrow_flight_session_id"
INVALID_NAME, INVALID_VALUE, ERROR = 1, 2, 3
CANCELLED, NOT_CANCELLABLE = 1, 3
CLOSED = 1


class Cookies(flight.ClientMiddlewareFactory):
    """Keeps the cookie that the service gives, and sends it."""

    def __init__(self):
        super().__init__()
        self.value = None

    def start_call(self, info):
        return Cookies.Call(self)

    class Call(flight.ClientMiddleware):
        def __init__(self, cookies):
            super().__init__()
            self.cookies = cookies

        def received_headers(self, headers):
            for text in headers.get("set-cookie", []):
                name, value = text.split(";")[0].split("=", 1)
                if name == COOKIE:
                    self.cookies.value = value or None

        def sending_headers(self):
            return {"cookie": f"theme=dark; {COOKIE}={self.cookies.value}"} if self.cookies.value else {}


class Client:
    def __init__(self, port: int, user: str = "ada"):
        self.cookies = Cookies()
        self.flight = flight.connect(f"grpc://127.0.0.1:{port}", middleware=[self.cookies])
        self.options = flight.FlightCallOptions(headers=[self.flight.authenticate_basic_token(user, "x")])

    def query(self, sql: str) -> list:
        info = self.flight.get_flight_info(statement(sql), self.options)
        table = self.flight.do_get(info.endpoints[0].ticket, self.options).read_all()
        return [tuple(row.values()) for row in table.to_pylist()]

    def act(self, name: str, body: bytes = b"") -> bytes:
        results = list(self.flight.do_action(flight.Action(name, body), self.options))
        return results[0].body.to_pybytes()

    def set(self, **options) -> dict[str, int]:
        return {name: fields(error)[0][1] for name, error in entries(self.act("SetSessionOptions", set_options(options))).items()}

    def get(self) -> dict[str, str]:
        return {name: (fields(value)[0][1]).decode() for name, value in entries(self.act("GetSessionOptions")).items()}

    def cancel(self, info: flight.FlightInfo) -> int:
        return fields(self.act("CancelFlightInfo", field(1, info.serialize())))[0][1]


def fails(call) -> str:
    try:
        call()
    except Exception as error:  # pyarrow has its own class for some codes only
        return str(error)
    raise AssertionError("is answered")


def actions_are_listed(port: int) -> None:
    names = {action.type for action in Client(port).flight.list_actions()}
    assert {"SetSessionOptions", "GetSessionOptions", "CloseSession", "CancelFlightInfo", "RenewFlightEndpoint"} <= names
    assert "BeginTransaction" not in names, names
    assert list(Client(port).flight.list_flights()) == []


def a_session_lasts_until_it_is_closed(port: int) -> None:
    client = Client(port)
    assert client.get()["statement_timeout"] == "0" and client.cookies.value is None
    assert client.set(statement_timeout="90s", schema="system") == {}
    cookie = client.cookies.value
    assert cookie
    assert client.query("SHOW statement_timeout") == [("90000",)]
    assert client.query("SELECT count(*) > 0 FROM executors") == [(True,)]
    client.query("SET timezone = 'Asia/Tokyo'")
    options = client.get()
    assert (options["timezone"], options["schema"], options["catalog"]) == ("Asia/Tokyo", "system", "sluice"), options
    assert client.set(timezone=None, progress=True) == {}
    assert client.query("SHOW timezone") == [("UTC",)]
    assert client.query("SHOW progress") == [("on",)]
    assert client.cookies.value == cookie
    assert Client(port).query("SHOW statement_timeout") == [("0",)], "others are untouched"
    assert fields(client.act("CloseSession"))[0][1] == CLOSED
    assert client.cookies.value is None
    client.cookies.value = cookie
    assert "session" in fails(lambda: client.query("SELECT 1"))
    client.cookies.value = None
    assert client.query("SHOW statement_timeout") == [("0",)]
    assert "session" in fails(lambda: client.act("CloseSession"))


def options_that_cannot_be_set_are_told(port: int) -> None:
    client = Client(port)
    errors = client.set(
        no_such_option="x", statement_timeout="soon", catalog="nowhere", queue="nowhere", server_version="16", timezone="UTC"
    )
    assert errors == {
        "no_such_option": INVALID_NAME,
        "statement_timeout": INVALID_VALUE,
        "catalog": INVALID_VALUE,
        "queue": INVALID_VALUE,
        "server_version": ERROR,
    }, errors


def a_session_belongs_to_its_user(port: int) -> None:
    client, thief = Client(port), Client(port, "eve")
    client.set(statement_timeout="90s")
    thief.cookies.value = client.cookies.value
    assert "session" in fails(lambda: thief.query("SHOW statement_timeout"))
    thief.cookies.value = client.cookies.value
    assert "session" in fails(lambda: thief.act("CloseSession"))
    assert client.query("SHOW statement_timeout") == [("90000",)]


def a_running_statement_is_cancelled(port: int) -> None:
    client, other = Client(port), Client(port, "eve")
    info = client.flight.get_flight_info(statement(ENDLESS), client.options)
    outcome = []

    def read():
        # read_all takes a cancellation for Ctrl-C.
        chunks = client.flight.do_get(info.endpoints[0].ticket, client.options)
        outcome.append(fails(lambda: [None for _ in chunks]))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    running = f"SELECT count(*) FROM system.queries WHERE state = 'running' AND sql LIKE '{ENDLESS[:60]}%'"
    while client.query(running) == [(0,)]:
        time.sleep(0.05)
    assert fails(lambda: other.cancel(info))
    assert client.cancel(info) == CANCELLED
    reader.join(20)
    assert outcome and "57014" in outcome[0], outcome
    deadline = time.monotonic() + 20
    while client.query(running) != [(0,)]:
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)
    assert fails(lambda: client.cancel(info)), "it is not known any more"


def a_statement_that_was_not_fetched_is_cancelled(port: int) -> None:
    client = Client(port)
    info = client.flight.get_flight_info(statement("SELECT 1"), client.options)
    request = field(1, info.serialize())
    result = fields(client.act("CancelQuery", wrapped("ActionCancelQueryRequest", request)))
    assert fields(dict(result)[2])[0][1] == CANCELLED, result
    fails(lambda: client.flight.do_get(info.endpoints[0].ticket, client.options).read_all())
    catalogs = flight.FlightDescriptor.for_command(wrapped("CommandGetCatalogs", b""))
    assert client.cancel(client.flight.get_flight_info(catalogs, client.options)) == NOT_CANCELLABLE


def a_ticket_is_kept_for_longer(port: int) -> None:
    client = Client(port)
    endpoint = client.flight.get_flight_info(statement("SELECT 42 AS answer"), client.options).endpoints[0]
    assert endpoint.expiration_time is not None
    time.sleep(0.05)
    renewed = flight.FlightEndpoint.deserialize(client.act("RenewFlightEndpoint", field(1, endpoint.serialize())))
    assert renewed.expiration_time.value > endpoint.expiration_time.value and renewed.ticket == endpoint.ticket, renewed
    assert client.flight.do_get(renewed.ticket, client.options).read_all().to_pydict() == {"answer": [42]}
    fails(lambda: client.act("RenewFlightEndpoint", field(1, endpoint.serialize())))


def a_schema_is_told_without_running(port: int) -> None:
    client = Client(port)
    schema = client.flight.get_schema(statement("SELECT 1::bigint AS n, 'x' AS t"), client.options).schema
    assert schema.names == ["n", "t"], schema
    catalogs = flight.FlightDescriptor.for_command(wrapped("CommandGetCatalogs", b""))
    assert client.flight.get_schema(catalogs, client.options).schema.names == ["catalog_name"]
    assert "no_such_table" in fails(lambda: client.flight.get_schema(statement("SELECT * FROM no_such_table"), client.options))


def main() -> None:
    for check in (
        actions_are_listed,
        a_session_lasts_until_it_is_closed,
        options_that_cannot_be_set_are_told,
        a_session_belongs_to_its_user,
        a_running_statement_is_cancelled,
        a_statement_that_was_not_fetched_is_cancelled,
        a_ticket_is_kept_for_longer,
        a_schema_is_told_without_running,
    ):
        check(int(sys.argv[1]))
        print("ok", check.__name__)


if __name__ == "__main__":
    main()
