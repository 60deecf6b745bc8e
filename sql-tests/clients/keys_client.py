"""Keys and indexes of a Cassandra table through SQLAlchemy and psycopg.

Usage: keys_client.py PORT CATALOG, whose keyspace has the same name.
"""

import sys

import sqlalchemy as sa


def main() -> None:
    port, name = sys.argv[1:3]
    key = ["customer", "region", "day", "number"]
    engine = sa.create_engine(f"postgresql+psycopg://sluice@127.0.0.1:{port}/{name}")
    inspector = sa.inspect(engine)
    found = inspector.get_pk_constraint("orders", schema=name)
    assert (found["constrained_columns"], found["name"]) == (key, "orders_pkey"), found
    indexes = inspector.get_indexes("orders", schema=name)
    assert [(index["name"], index["column_names"], index["unique"]) for index in indexes] == [
        ("orders_amount", ["amount"], False)
    ], indexes
    assert inspector.get_foreign_keys("orders", schema=name) == []
    nullable = {column["name"]: column["nullable"] for column in inspector.get_columns("orders", schema=name)}
    assert nullable == {"customer": False, "region": False, "day": False, "number": False, "amount": True, "tags": True}
    orders = sa.Table("orders", sa.MetaData(), schema=name, autoload_with=engine)
    assert [column.name for column in orders.primary_key] == key, orders.primary_key
    with engine.connect() as connection:
        usage = sa.text(
            "SELECT k.column_name FROM information_schema.table_constraints t JOIN information_schema.key_column_usage k"
            " USING (constraint_schema, constraint_name) WHERE t.table_schema = :schema AND t.table_name = 'orders'"
            " AND t.constraint_type = 'PRIMARY KEY' ORDER BY k.ordinal_position"
        )
        assert [row[0] for row in connection.execute(usage, {"schema": name})] == key
    print("ok")


if __name__ == "__main__":
    main()
