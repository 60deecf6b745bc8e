"""Messages of Flight SQL as protobuf writes them, for calls that pyarrow has no functions for."""

from pyarrow import flight

PREFIX = b"type.googleapis.com/arrow.flight.protocol.sql."


def varint(number: int) -> bytes:
    written = b""
    while number >= 0x80:
        written, number = written + bytes([number & 0x7F | 0x80]), number >> 7
    return written + bytes([number])


def field(number: int, content: bytes) -> bytes:
    """A field that has a length: a text, bytes or a message."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """Numbers and values of a message's fields; of those with a length, the content."""

    def read(at: int) -> tuple[int, int]:
        number, shift = 0, 0
        while True:
            byte = message[at]
            number, shift, at = number | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                return number, at

    found, at = [], 0
    while at < len(message):
        key, at = read(at)
        value, at = read(at)
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        found.append((key >> 3, value))
    return found


def wrapped(name: str, message: bytes) -> bytes:
    """A message of Flight SQL in an Any."""
    return field(1, PREFIX + name.encode()) + field(2, message)


def statement(sql: str) -> flight.FlightDescriptor:
    """CommandStatementQuery."""
    return flight.FlightDescriptor.for_command(wrapped("CommandStatementQuery", field(1, sql.encode())))


def set_options(options: dict[str, str | bool | None]) -> bytes:
    """SetSessionOptionsRequest."""

    def value(option: str | bool | None) -> bytes:
        if option is None:
            return b""
        return bytes([0x10, option]) if isinstance(option, bool) else field(1, option.encode())

    return b"".join(field(1, field(1, name.encode()) + field(2, value(option))) for name, option in options.items())


def entries(result: bytes) -> dict[str, bytes]:
    """The map of texts to messages that GetSessionOptionsResult and SetSessionOptionsResult are."""
    pairs = (dict(fields(entry)) for number, entry in fields(result) if number == 1)
    return {pair[1].decode(): pair.get(2, b"") for pair in pairs}
