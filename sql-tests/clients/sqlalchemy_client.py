"""SQLAlchemy against a running service, with its questions about what there is.

Usage: sqlalchemy_client.py PORT
"""

import sys

import sqlalchemy as sa
from sqlalchemy import text


def inspect(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    assert "system" in inspector.get_schema_names()
    assert "queries" in inspector.get_table_names(schema="system")
    names = [column["name"] for column in inspector.get_columns("queries", schema="system")]
    assert {"query_id", "sql", "state"} <= set(names), names
    assert inspector.has_table("queries", schema="system") and not inspector.has_table("nothing", schema="system")
    for nothing in (
        inspector.get_foreign_keys,
        inspector.get_indexes,
        inspector.get_unique_constraints,
        inspector.get_check_constraints,
    ):
        assert nothing("queries", schema="system") == [], nothing
    assert inspector.get_pk_constraint("queries", schema="system")["constrained_columns"] == []
    assert inspector.get_enums() == [] and inspector.get_sequence_names() == []
    assert ("system", "executors") in inspector.get_multi_columns(schema="system")
    with engine.begin() as connection:
        connection.execute(text("CREATE OR REPLACE VIEW sqlalchemy_view AS SELECT 1 AS one"))
    assert "sqlalchemy_view" in inspector.get_view_names(schema="public")
    definition = inspector.get_view_definition("sqlalchemy_view", schema="public")
    assert definition and "SELECT 1" in definition, definition


def reflect_and_select(engine: sa.Engine) -> None:
    queries = sa.Table("queries", sa.MetaData(), schema="system", autoload_with=engine)
    newest = sa.select(queries.c.query_id, sa.func.length(queries.c.sql)).where(queries.c.state == "finished")
    with engine.connect() as connection:
        assert len(connection.execute(newest.order_by(queries.c.query_id).limit(2)).all()) == 2


def stream(engine: sa.Engine) -> None:
    with engine.connect().execution_options(stream_results=True, yield_per=1000) as connection:
        rows = connection.execute(text("SELECT value FROM generate_series(1, 5000) AS t(value)"))
        assert sum(row[0] for row in rows) == 5000 * 5001 // 2


def roll_back_to_a_savepoint(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        savepoint = connection.begin_nested()
        try:
            connection.execute(text("SELECT * FROM no_such_table"))
        except sa.exc.ProgrammingError:
            savepoint.rollback()
        assert connection.execute(text("SELECT 2")).scalar() == 2


def main() -> None:
    engine = sa.create_engine(f"postgresql+psycopg://sluice@127.0.0.1:{sys.argv[1]}/sluice")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT :number + 1"), {"number": 41}).scalar() == 42
    for check in (inspect, reflect_and_select, stream, roll_back_to_a_savepoint):
        check(engine)
        print("ok", check.__name__)


if __name__ == "__main__":
    main()
