"""Writes DuckDB's answers to the TPC-H queries, one file of tab-separated values a query.

Usage: duckdb_answers.py DATA_DIR QUERY_DIR OUTPUT_DIR
"""

import sys
from pathlib import Path

import duckdb


def main() -> None:
    data, queries, output = (Path(argument) for argument in sys.argv[1:4])
    connection = duckdb.connect()
    for table in sorted(data.glob("*.parquet")):
        connection.execute(f"CREATE VIEW {table.stem} AS SELECT * FROM read_parquet('{table}')")
    for query in sorted(queries.glob("q*.sql")):
        rows = connection.execute(query.read_text()).fetchall()
        with open(output / f"{query.stem}.tsv", "w", encoding="utf-8") as file:
            for row in rows:
                file.write("\t".join("\\N" if cell is None else str(cell) for cell in row) + "\n")


if __name__ == "__main__":
    main()
