//! Numbers for catalogs, schemas and tables, which PostgreSQL's clients know objects by.
//!
//! A number is a hash of the name, so that it is the same in every session and after a restart:
//! clients cache them. Two names with one hash are told apart in the order of their coming.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// PostgreSQL keeps numbers below for its own objects.
const FIRST_USER_OID: i32 = 16_384;

/// Numbers that clients know by heart.
const WELL_KNOWN: [(&str, i32); 20] = [
    ("pg_type", 1247),
    ("pg_attribute", 1249),
    ("pg_proc", 1255),
    ("pg_class", 1259),
    ("pg_authid", 1260),
    ("pg_auth_members", 1261),
    ("pg_database", 1262),
    ("pg_tablespace", 1213),
    ("pg_attrdef", 2604),
    ("pg_constraint", 2606),
    ("pg_description", 2609),
    ("pg_index", 2610),
    ("pg_language", 2612),
    ("pg_namespace", 2615),
    ("pg_operator", 2617),
    ("pg_rewrite", 2618),
    ("pg_trigger", 2620),
    ("pg_extension", 3079),
    ("pg_collation", 3456),
    ("pg_enum", 3501),
];

/// The number of the schema `pg_catalog`.
pub const PG_CATALOG_OID: i32 = 11;
/// The number of the schema `public`.
const PUBLIC_OID: i32 = 2200;

/// Something with a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    Catalog(String),
    Schema {
        catalog: String,
        name: String,
    },
    Table {
        catalog: String,
        schema: String,
        name: String,
    },
    /// Index names are unique in their schema.
    Index {
        catalog: String,
        schema: String,
        table: String,
        name: String,
    },
    Constraint {
        catalog: String,
        schema: String,
        table: String,
        name: String,
    },
    Role(String),
}

#[derive(Default)]
struct Oids {
    by_object: HashMap<Object, i32>,
    by_oid: HashMap<i32, Object>,
}

static OIDS: LazyLock<Mutex<Oids>> = LazyLock::new(Mutex::default);

fn oids() -> MutexGuard<'static, Oids> {
    OIDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of an object.
pub fn oid_of(object: &Object) -> i32 {
    match object {
        Object::Schema { name, .. } if name == "pg_catalog" => return PG_CATALOG_OID,
        Object::Schema { name, .. } if name == "public" => return PUBLIC_OID,
        Object::Table { schema, name, .. } if schema == "pg_catalog" => {
            if let Some((_, oid)) = WELL_KNOWN.iter().find(|(known, _)| known == name) {
                return *oid;
            }
        }
        _ => {}
    }
    let mut oids = oids();
    if let Some(oid) = oids.by_object.get(object) {
        return *oid;
    }
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    let span = (i32::MAX - FIRST_USER_OID) as u64;
    let mut oid = FIRST_USER_OID + (hasher.finish() % span) as i32;
    while oids.by_oid.contains_key(&oid) {
        oid = if oid == i32::MAX { FIRST_USER_OID } else { oid + 1 };
    }
    oids.by_object.insert(object.clone(), oid);
    oids.by_oid.insert(oid, object.clone());
    oid
}

/// The object with a number that has been told to a client.
pub fn object_of(oid: i32) -> Option<Object> {
    if let Some((name, _)) = WELL_KNOWN.iter().find(|(_, known)| *known == oid) {
        let (catalog, schema) = (String::new(), "pg_catalog".to_owned());
        return Some(Object::Table { catalog, schema, name: (*name).to_owned() });
    }
    match oid {
        PG_CATALOG_OID => Some(Object::Schema { catalog: String::new(), name: "pg_catalog".to_owned() }),
        PUBLIC_OID => Some(Object::Schema { catalog: String::new(), name: "public".to_owned() }),
        _ => oids().by_oid.get(&oid).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leads_back_to_its_object() {
        let object = Object::Table { catalog: "c".to_owned(), schema: "s".to_owned(), name: "t".to_owned() };
        let oid = oid_of(&object);
        assert!(oid >= FIRST_USER_OID);
        assert_eq!(oid_of(&object), oid);
        assert_eq!(object_of(oid), Some(object));
        assert!(object_of(1259).is_some());
    }
}
