"""A Flight SQL client that says which trace its calls belong to.

Usage: trace_client.py PORT TRACEPARENT
"""

import sys

import adbc_driver_flightsql.dbapi as flightsql
from adbc_driver_flightsql import DatabaseOptions

port, parent = sys.argv[1:]
headers = {f"{DatabaseOptions.RPC_CALL_HEADER_PREFIX.value}traceparent": parent}
with flightsql.connect(f"grpc://127.0.0.1:{port}", db_kwargs=headers, autocommit=True) as connection:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 6 * 7 AS answer")
        assert cursor.fetchall() == [(42,)], "the answer"
