//! Primary keys and indexes of the database's tables, as PostgreSQL tells of them.
//!
//! Tables of Cassandra have them. A primary key is an index there too: partition key, then clustering key.

use std::sync::Arc;

use futures::FutureExt;
use sluice_executor::cassandra::TableKeys;

use super::content::{Scope, Source, schema_oid, table_oid, text};
use super::definitions::Row;
use super::functions::quoted;
use super::oids::{Object, object_of, oid_of};

/// The number of the access method that all indexes are told to have.
pub const BTREE_OID: i32 = 403;

/// An index of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its number.
    pub oid: i32,
    /// Its name.
    pub name: String,
    /// The schema of it and its table.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// The table's number.
    pub table_oid: i32,
    /// What it is of.
    pub columns: Vec<IndexColumn>,
    /// Whether it is the primary key.
    pub is_primary: bool,
}

/// A column of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexColumn {
    /// Its place in the table, from 1; 0 is an expression.
    pub number: usize,
    /// Its name, or the expression, as it is written in SQL.
    pub written: String,
    /// Its name, if it is a column.
    pub name: Option<String>,
}

impl Source {
    /// Every index of the database.
    pub async fn indexes(&self, scope: &Scope) -> Vec<Index> {
        let Some(session) = self.session.upgrade() else { return Vec::new() };
        let Some(catalog) = self.catalogs.catalog(&scope.database) else { return Vec::new() };
        let mut indexes = Vec::new();
        for schema in catalog.schema_names() {
            for keys in session.table_keys(&scope.database, &schema).await.iter() {
                indexes.extend(of_table(&scope.database, &schema, keys));
            }
        }
        indexes
    }

    /// The index with this number, if its table's keys have been read: nothing is waited for.
    pub fn known_index(&self, oid: i32) -> Option<Index> {
        let (Object::Index { catalog, schema, name, .. } | Object::Constraint { catalog, schema, name, .. }) =
            object_of(oid)?
        else {
            return None;
        };
        let keys: Arc<[TableKeys]> = self.session.upgrade()?.table_keys(&catalog, &schema).now_or_never()?;
        keys.iter().flat_map(|keys| of_table(&catalog, &schema, keys)).find(|index| index.name == name)
    }
}

/// The indexes of one table: that of its primary key, and the others.
fn of_table(database: &str, schema: &str, keys: &TableKeys) -> Vec<Index> {
    let index = |name: &str, columns: Vec<IndexColumn>, is_primary: bool| Index {
        oid: oid_of(&Object::Index {
            catalog: database.to_owned(),
            schema: schema.to_owned(),
            table: keys.table.clone(),
            name: name.to_owned(),
        }),
        name: name.to_owned(),
        schema: schema.to_owned(),
        table: keys.table.clone(),
        table_oid: table_oid(database, schema, &keys.table),
        columns,
        is_primary,
    };
    let column = |name: &str, written: &str| IndexColumn {
        number: keys.columns.iter().position(|column| column == name).map_or(0, |place| place + 1),
        written: written.to_owned(),
        name: Some(name.to_owned()),
    };
    let key = keys.columns.iter().take(keys.key_length).map(|name| column(name, &quoted(name)));
    let primary = index(&format!("{}_pkey", keys.table), key.collect(), true);
    let others = keys.indexes.iter().map(|of| {
        let of_what = match &of.column {
            Some(name) => column(name, &quoted(name)),
            None => IndexColumn { number: 0, written: of.target.clone(), name: None },
        };
        index(&of.name, vec![of_what], false)
    });
    std::iter::once(primary).chain(others).collect()
}

impl Index {
    /// The statement that would make it, as PostgreSQL's `pg_get_indexdef`.
    pub fn definition(&self) -> String {
        let unique = if self.is_primary { "UNIQUE " } else { "" };
        let (name, schema, table) = (quoted(&self.name), quoted(&self.schema), quoted(&self.table));
        format!("CREATE {unique}INDEX {name} ON {schema}.{table} USING btree ({})", self.written_columns())
    }

    /// The constraint that it keeps, as PostgreSQL's `pg_get_constraintdef`.
    pub fn constraint_definition(&self) -> String {
        format!("PRIMARY KEY ({})", self.written_columns())
    }

    fn written_columns(&self) -> String {
        self.columns.iter().map(|column| column.written.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn numbers(&self) -> String {
        array(self.columns.iter().map(|column| column.number.to_string()))
    }

    fn zeros(&self) -> String {
        array(self.columns.iter().map(|_| "0".to_owned()))
    }

    fn constraint_oid(&self, database: &str) -> i32 {
        oid_of(&Object::Constraint {
            catalog: database.to_owned(),
            schema: self.schema.clone(),
            table: self.table.clone(),
            name: self.name.clone(),
        })
    }
}

fn array(elements: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", elements.collect::<Vec<_>>().join(","))
}

/// Rows of `pg_class`.
pub fn classes<'a>(database: &'a str, indexes: &'a [Index]) -> impl Iterator<Item = Row> + 'a {
    indexes.iter().map(|index| {
        vec![
            text("oid", index.oid),
            text("relname", &index.name),
            text("relnamespace", schema_oid(database, &index.schema)),
            text("relkind", "i"),
            text("relam", BTREE_OID),
            text("relnatts", index.columns.len()),
        ]
    })
}

/// Rows of `pg_index`.
pub fn index_rows(indexes: &[Index]) -> Vec<Row> {
    let row = |index: &Index| {
        let is_primary = if index.is_primary { "t" } else { "f" };
        vec![
            text("indexrelid", index.oid),
            text("indrelid", index.table_oid),
            text("indnatts", index.columns.len()),
            text("indnkeyatts", index.columns.len()),
            text("indisunique", is_primary),
            text("indisprimary", is_primary),
            ("indkey", index.numbers()),
            ("indcollation", index.zeros()),
            ("indclass", index.zeros()),
            ("indoption", index.zeros()),
        ]
    };
    indexes.iter().map(row).collect()
}

/// Rows of `pg_constraint`: the primary keys.
pub fn constraint_rows(database: &str, indexes: &[Index]) -> Vec<Row> {
    let row = |index: &Index| {
        vec![
            text("oid", index.constraint_oid(database)),
            text("conname", &index.name),
            text("connamespace", schema_oid(database, &index.schema)),
            text("contype", "p"),
            text("conrelid", index.table_oid),
            text("conindid", index.oid),
            ("conkey", index.numbers()),
        ]
    };
    indexes.iter().filter(|index| index.is_primary).map(row).collect()
}

/// Rows of `pg_indexes`.
pub fn indexes_rows(indexes: &[Index]) -> Vec<Row> {
    let row = |index: &Index| {
        vec![
            text("schemaname", &index.schema),
            text("tablename", &index.table),
            text("indexname", &index.name),
            ("indexdef", index.definition()),
        ]
    };
    indexes.iter().map(row).collect()
}

/// Rows of `information_schema.table_constraints`.
pub fn table_constraint_rows(database: &str, indexes: &[Index]) -> Vec<Row> {
    let row = |index: &Index| {
        let mut row = constraint_names(database, index);
        row.push(text("constraint_type", "PRIMARY KEY"));
        row
    };
    indexes.iter().filter(|index| index.is_primary).map(row).collect()
}

/// Rows of `information_schema.key_column_usage`, which are also those of `constraint_column_usage`.
pub fn key_column_rows(database: &str, indexes: &[Index]) -> Vec<Row> {
    let rows = indexes.iter().filter(|index| index.is_primary).flat_map(|index| {
        index.columns.iter().enumerate().map(move |(place, column)| {
            let mut row = constraint_names(database, index);
            row.push(text("column_name", column.name.as_deref().unwrap_or_default()));
            row.push(text("ordinal_position", place + 1));
            row
        })
    });
    rows.collect()
}

fn constraint_names(database: &str, index: &Index) -> Row {
    vec![
        text("constraint_catalog", database),
        text("constraint_schema", &index.schema),
        text("constraint_name", &index.name),
        text("table_catalog", database),
        text("table_schema", &index.schema),
        text("table_name", &index.table),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_executor::cassandra::keys::IndexTarget;

    #[test]
    fn a_table_has_the_index_of_its_key_and_its_others() {
        let target = |name: &str, target: &str, column: Option<&str>| IndexTarget {
            name: name.to_owned(),
            target: target.to_owned(),
            column: column.map(str::to_owned),
        };
        let keys = TableKeys {
            table: "orders".to_owned(),
            columns: ["customer", "Day", "amount", "tags"].map(str::to_owned).to_vec(),
            key_length: 2,
            indexes: vec![target("by_amount", "amount", Some("amount")), target("by_tag", "values(tags)", None)],
        };
        let indexes = of_table("cass", "shop", &keys);
        assert_eq!(
            indexes.iter().map(Index::definition).collect::<Vec<_>>(),
            [
                "CREATE UNIQUE INDEX orders_pkey ON shop.orders USING btree (customer, \"Day\")",
                "CREATE INDEX by_amount ON shop.orders USING btree (amount)",
                "CREATE INDEX by_tag ON shop.orders USING btree (values(tags))",
            ]
        );
        assert_eq!(indexes.iter().map(Index::numbers).collect::<Vec<_>>(), ["{1,2}", "{3}", "{0}"]);
        assert_eq!(constraint_rows("cass", &indexes).len(), 1);
        assert_eq!(key_column_rows("cass", &indexes).len(), 2);
    }
}
