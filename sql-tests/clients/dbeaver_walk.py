"""What DBeaver asks of a database while its tree of schemas, tables, columns, keys and indexes is opened.

Usage: dbeaver_walk.py PORT DATABASE SCHEMA TABLE. The last line is "passed N of M".
"""

import sys
import traceback

import psycopg

STATEMENTS = {
    "version": "SELECT version()",
    "session": "SELECT current_schema(),session_user",
    "settings": "select * from pg_catalog.pg_settings where name=%(setting)s",
    "databases": "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate"
    " OR db.datname =%(database)s ORDER BY db.datname",
    "schemas": "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d"
    " ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname",
    "types": "SELECT t.oid,t.*,c.relkind,format_type(nullif(t.typbasetype, 0), t.typtypmod) as base_type_name, d.description"
    " FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid=t.typelem LEFT OUTER JOIN"
    " pg_catalog.pg_class c ON c.oid=t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid=d.objoid WHERE"
    " t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')",
    "tables": "SELECT c.oid,c.*,d.description,pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_expr,"
    " pg_catalog.pg_get_partkeydef(c.oid) as partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN"
    " pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND d.classoid='pg_class'::regclass WHERE"
    " c.relnamespace=%(schema_oid)s AND c.relkind not in ('i','I','c')",
    "sizes": "select c.oid,pg_catalog.pg_total_relation_size(c.oid) as total_rel_size,pg_catalog.pg_relation_size(c.oid) as"
    " rel_size FROM pg_class c WHERE c.relnamespace=%(schema_oid)s",
    "columns": "SELECT c.relname,a.*,pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) as def_value,dsc.description,dep.objid"
    " FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON (a.attrelid=c.oid) LEFT OUTER JOIN"
    " pg_catalog.pg_attrdef ad ON (a.attrelid=ad.adrelid AND a.attnum = ad.adnum) LEFT OUTER JOIN"
    " pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) LEFT OUTER JOIN pg_depend dep on"
    " dep.refobjid = a.attrelid AND dep.deptype = 'i' and dep.refobjsubid = a.attnum and dep.classid = dep.refclassid WHERE"
    " NOT a.attisdropped AND c.relkind not in ('i','I','c') AND c.oid=%(table_oid)s ORDER BY a.attnum",
    "constraints": "SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description, case when"
    " c.contype='c' then \"substring\"(pg_get_constraintdef(c.oid), 7) else null end consrc_copy FROM"
    " pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt"
    " ON rt.oid=c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid AND d.objsubid=0 AND"
    " d.classoid='pg_constraint'::regclass WHERE c.conrelid=%(table_oid)s ORDER BY c.oid",
    "references": "SELECT c.oid,c.*,t.relname as tabrelname,rt.relnamespace as refnamespace,d.description FROM"
    " pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid=c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt"
    " ON rt.oid=c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=c.oid WHERE c.confrelid=%(table_oid)s",
    "indexes": "SELECT i.*,i.indkey as keys,c.relname,c.relnamespace,c.relam,c.reltablespace,tc.relname as"
    " tabrelname,dsc.description,pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr,"
    "pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr,pg_catalog.pg_relation_size(i.indexrelid) as"
    " index_rel_size,pg_catalog.pg_stat_get_numscans(i.indexrelid) as index_num_scans FROM pg_catalog.pg_index i INNER JOIN"
    " pg_catalog.pg_class c ON c.oid=i.indexrelid INNER JOIN pg_catalog.pg_class tc ON tc.oid=i.indrelid LEFT OUTER JOIN"
    " pg_catalog.pg_description dsc ON i.indexrelid=dsc.objoid WHERE i.indrelid=%(table_oid)s ORDER BY tabrelname, c.relname",
    "functions": "SELECT p.oid as poid,p.*, pg_catalog.pg_get_expr(p.proargdefaults, 0) as arg_defaults,d.description FROM"
    " pg_catalog.pg_proc p LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=p.oid AND d.objsubid = 0 WHERE"
    " p.pronamespace=%(schema_oid)s ORDER BY p.proname",
    "inheritance": "SELECT i.*,c.relnamespace FROM pg_catalog.pg_inherits i,pg_catalog.pg_class c WHERE"
    " i.inhrelid=%(table_oid)s AND c.oid=i.inhparent ORDER BY i.inhseqno",
    "triggers": "SELECT x.oid,x.*,p.pronamespace as func_schema_id,d.description FROM pg_catalog.pg_trigger x LEFT OUTER JOIN"
    " pg_catalog.pg_proc p ON p.oid=x.tgfoid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=x.oid WHERE"
    " x.tgrelid=%(table_oid)s AND NOT x.tgisinternal",
    "roles": "SELECT a.oid,a.* FROM pg_catalog.pg_roles a ORDER BY a.rolname",
    "tablespaces": "SELECT t.oid,t.*,pg_tablespace_location(t.oid) loc FROM pg_catalog.pg_tablespace t ORDER BY t.oid",
    "extensions": "SELECT e.oid,e.extname,n.nspname FROM pg_catalog.pg_extension e JOIN pg_namespace n ON n.oid=e.extnamespace",
    "languages": "SELECT l.oid,l.* FROM pg_catalog.pg_language l ORDER BY l.oid",
    "access methods": "SELECT am.oid,am.* FROM pg_catalog.pg_am am ORDER BY am.oid",
    "collations": "SELECT c.oid,c.* FROM pg_catalog.pg_collation c ORDER BY c.oid",
    "sessions": "SELECT sa.* FROM pg_catalog.pg_stat_activity sa",
    "a view's query": "SELECT pg_catalog.pg_get_viewdef(%(table_oid)s, true)",
    "an explained query": "EXPLAIN (FORMAT JSON, COSTS) SELECT 1",
    "a query that is explained and run": "EXPLAIN (FORMAT JSON, ANALYSE, VERBOSE, TIMING) SELECT 1",
    "a database of its own": "SHOW search_path",
}


def main() -> None:
    port, database, schema, table = sys.argv[1:5]
    passed = 0
    with psycopg.connect(host="127.0.0.1", port=int(port), dbname=database, user="sluice", autocommit=True) as connection:
        schema_oid, table_oid = connection.execute(
            "SELECT n.oid, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s",
            (schema, table),
        ).fetchone()
        values = {
            "schema_oid": schema_oid,
            "table_oid": table_oid,
            "database": database,
            "setting": "standard_conforming_strings",
        }
        found = {}
        for name, statement in STATEMENTS.items():
            try:
                given = {key: value for key, value in values.items() if f"%({key})s" in statement}
                cursor = connection.execute(statement, given or None)
                found[name] = cursor.fetchall()
                assert all(column.name for column in cursor.description)
                passed += 1
            except Exception:
                print(f"FAILED {name}:\n{traceback.format_exc()}")
    for name in ("databases", "schemas", "types", "tables", "columns", "sessions", "settings"):
        assert found.get(name), name
    print(f"passed {passed} of {len(STATEMENTS)}")
    sys.exit(passed != len(STATEMENTS))


if __name__ == "__main__":
    main()
