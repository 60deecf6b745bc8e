"""psql's meta-commands against a running service: each must end without an error and show what is there.

Usage: psql_walk.py PORT. The last line is "passed N of 52".

They are what a person types who looks around. Many ask for what is not here, such as extensions and publications, and must
say that there is nothing.
"""

import subprocess
import sys

NOTHING = "(0 rows)"
NO_RELATIONS = "Did not find any relations."

# Each command with what must be in its answer.
COMMANDS = {
    r"\l": ["List of databases", "sluice", "UTF8"],
    r"\l+": ["List of databases", "pg_default"],
    r"\dn": ["List of schemas", "psql_walk", "public"],
    r"\dn+": ["List of schemas", "Access privileges"],
    r"\dt": [],
    r"\dt *.*": ["List of relations", "pg_class", "queries"],
    r"\dt+ system.*": ["List of relations", "queries", "Access method", "heap"],
    r"\d": ["List of relations", "psql_walk_view"],
    r"\d system.queries": ['Table "system.queries"', "query_id", "timestamp with time zone"],
    r"\d+ system.queries": ['Table "system.queries"', "Storage", "Access method: heap"],
    r"\d psql_walk.v": ['View "psql_walk.v"', "price", "numeric(10,2)", "timestamp with time zone"],
    r"\d+ psql_walk.v": ['View "psql_walk.v"', "View definition:", "SELECT"],
    r'\d psql_walk."Mixed Case"': ['View "psql_walk.Mixed Case"', "a b"],
    r"\dv": ["psql_walk_view", "view"],
    r"\dm": [NO_RELATIONS],
    r"\di": [NO_RELATIONS],
    r"\ds": [NO_RELATIONS],
    r"\df": ["List of functions", NOTHING],
    r"\df+ f": ["List of functions", NOTHING],
    r"\da": ["List of aggregate functions", NOTHING],
    r"\du": ["List of roles", "sluice"],
    r"\du+": ["List of roles", "Description"],
    r"\dg": ["List of roles", "sluice"],
    r"\dT": ["List of data types", NOTHING],
    r"\dT+": ["List of data types", NOTHING],
    r"\dp": ["Access privileges", "psql_walk_view"],
    r"\z psql_walk.*": ["Access privileges", "Mixed Case"],
    r"\ddp": ["Default access privileges", NOTHING],
    r"\dx": ["List of installed extensions", NOTHING],
    r"\db": ["List of tablespaces", "pg_default"],
    r"\dC": ["List of casts", NOTHING],
    r"\dc": ["List of conversions", NOTHING],
    r"\do": ["List of operators", NOTHING],
    r"\des": ["List of foreign servers", NOTHING],
    r"\det": ["List of foreign tables", NOTHING],
    r"\deu": ["List of user mappings", NOTHING],
    r"\dew": ["List of foreign-data wrappers", NOTHING],
    r"\dL": ["List of languages", NOTHING],
    r"\dO": ["List of collations"],
    r"\dP": ["List of partitioned relations", NOTHING],
    r"\drds": ["Did not find any settings."],
    r"\dRp": ["List of publications", NOTHING],
    r"\dRs": ["List of subscriptions", NOTHING],
    r"\dX": ["List of extended statistics", NOTHING],
    r"\dy": ["List of event triggers", NOTHING],
    r"\dD": ["List of domains", NOTHING],
    r"\dE": [NO_RELATIONS],
    r"\dF": ["List of text search configurations", NOTHING],
    r"\dA": ["List of access methods", "btree"],
    r"\dconfig search_path": ["search_path", "public"],
    r"\sv psql_walk.v": ["CREATE OR REPLACE VIEW psql_walk.v AS", "SELECT"],
    r"SELECT 1::int AS x \gdesc": ["x", "integer"],
}


def psql(port: int, text: str) -> tuple[bool, str]:
    command = ["psql", "-X", "-h", "127.0.0.1", "-p", str(port), "-U", "sluice", "-v", "ON_ERROR_STOP=1", "sluice"]
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    return ended.returncode == 0, ended.stdout + ended.stderr


SCHEMA = """
CREATE SCHEMA IF NOT EXISTS psql_walk;
CREATE OR REPLACE VIEW psql_walk.v AS SELECT 1::bigint AS id, 1.5::numeric(10, 2) AS price, now() AS at;
CREATE OR REPLACE VIEW psql_walk."Mixed Case" AS SELECT 1 AS "a b";
CREATE OR REPLACE VIEW psql_walk_view AS SELECT 1 AS one;
"""


def main() -> None:
    port = int(sys.argv[1])
    is_ready, text = psql(port, SCHEMA)
    assert is_ready, text
    passed = 0
    for command, wanted in COMMANDS.items():
        is_ended, text = psql(port, command + "\n")
        missing = [part for part in wanted if part not in text]
        if is_ended and not missing and "ERROR" not in text:
            passed += 1
        else:
            print(f"FAILED {command}: without {missing}\n{text}")
    psql(port, "DROP VIEW psql_walk_view; DROP SCHEMA psql_walk CASCADE;")
    print(f"passed {passed} of {len(COMMANDS)}")
    sys.exit(passed != len(COMMANDS))


if __name__ == "__main__":
    main()
