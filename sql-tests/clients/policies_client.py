"""What Flight SQL shows ann of a table with a policy and a mask: only what PostgreSQL's protocol shows her.

Usage: policies_client.py PORT
"""

import sys

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager


def main(port: str) -> None:
    credentials = {"username": "ann", "password": ""}
    with flightsql.connect(f"grpc://127.0.0.1:{port}", db_kwargs=credentials, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            assert cursor.fetchone() == ("ann",)
            # The policies are gone by now; the mask is there.
            cursor.execute("SELECT id, phone FROM people WHERE phone LIKE '%…' ORDER BY id")
            assert cursor.fetchall() == [(1, "555…"), (2, "555…"), (3, "555…"), (4, "444…")]
            cursor.execute("SELECT count(*) FROM people WHERE phone = ?", ("555-1111",))
            assert cursor.fetchone() == (0,)
            cursor.execute("SELECT min(phone), max(phone) FROM people")
            assert cursor.fetchone() == ("444…", "555…")
            cursor.execute("SELECT * FROM people")
            rows = cursor.fetch_arrow_table()
            try:
                cursor.adbc_ingest("people", rows, mode="append")
            except adbc_driver_manager.Error as error:
                assert "permission" in str(error).lower() or "policies" in str(error), error
            else:
                raise AssertionError("rows are added to a table that is only read")
        schema = connection.adbc_get_table_schema("people")
        assert [field.name for field in schema] == ["id", "name", "phone", "salary", "owner"], schema


main(*sys.argv[1:])
