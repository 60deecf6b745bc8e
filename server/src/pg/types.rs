//! Arrow types and PostgreSQL's type numbers.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};

/// Metadata key of a field whose PostgreSQL type is not the one of its Arrow type: `oid`, `name`...
pub const PG_TYPE_METADATA: &str = "sluice.pg_type";

/// Fraction digits of a `numeric` whose scale nobody told, as DataFusion has it; values of parameters with more keep theirs.
const NUMERIC_SCALE: i8 = 10;
/// Digits of a `numeric` whose precision nobody told.
const NUMERIC_PRECISION: u8 = 38;

/// A PostgreSQL type, as far as the wire needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PgType {
    Bool,
    Bytea,
    Char,
    Name,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Json,
    Float4,
    Float8,
    Varchar,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Numeric,
    Uuid,
    Record,
    /// A one-dimensional array; never of arrays, records or JSON.
    Array(Element),
    /// `int2vector` or `oidvector`, which the catalog has for keys.
    Vector(Element),
}

/// An element type of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    Bool,
    Bytea,
    Char,
    Name,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Float4,
    Float8,
    Varchar,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Numeric,
    Uuid,
}

/// `(element, its PostgreSQL type, the number of the array type)`.
const ELEMENTS: [(Element, PgType, u32); 19] = [
    (Element::Bool, PgType::Bool, 1000),
    (Element::Bytea, PgType::Bytea, 1001),
    (Element::Char, PgType::Char, 1002),
    (Element::Name, PgType::Name, 1003),
    (Element::Int8, PgType::Int8, 1016),
    (Element::Int2, PgType::Int2, 1005),
    (Element::Int4, PgType::Int4, 1007),
    (Element::Text, PgType::Text, 1009),
    (Element::Oid, PgType::Oid, 1028),
    (Element::Float4, PgType::Float4, 1021),
    (Element::Float8, PgType::Float8, 1022),
    (Element::Varchar, PgType::Varchar, 1015),
    (Element::Date, PgType::Date, 1182),
    (Element::Time, PgType::Time, 1183),
    (Element::Timestamp, PgType::Timestamp, 1115),
    (Element::TimestampTz, PgType::TimestampTz, 1185),
    (Element::Interval, PgType::Interval, 1187),
    (Element::Numeric, PgType::Numeric, 1231),
    (Element::Uuid, PgType::Uuid, 2951),
];

impl Element {
    /// The type of one element.
    pub fn pg_type(self) -> PgType {
        ELEMENTS.iter().find(|(element, _, _)| *element == self).map_or(PgType::Text, |(_, pg_type, _)| *pg_type)
    }

    fn of(pg_type: PgType) -> Option<Self> {
        ELEMENTS.iter().find(|(_, of, _)| *of == pg_type).map(|(element, _, _)| *element)
    }
}

impl PgType {
    /// The type's number in `pg_type`.
    pub fn oid(self) -> u32 {
        match self {
            Self::Bool => 16,
            Self::Bytea => 17,
            Self::Char => 18,
            Self::Name => 19,
            Self::Int8 => 20,
            Self::Int2 => 21,
            Self::Int4 => 23,
            Self::Text => 25,
            Self::Oid => 26,
            Self::Json => 114,
            Self::Float4 => 700,
            Self::Float8 => 701,
            Self::Varchar => 1043,
            Self::Date => 1082,
            Self::Time => 1083,
            Self::Timestamp => 1114,
            Self::TimestampTz => 1184,
            Self::Interval => 1186,
            Self::Numeric => 1700,
            Self::Uuid => 2950,
            Self::Record => 2249,
            Self::Vector(Element::Oid) => 30,
            Self::Vector(_) => 22,
            Self::Array(element) => ELEMENTS.iter().find(|(of, _, _)| *of == element).map_or(1009, |(_, _, oid)| *oid),
        }
    }

    /// The size that `RowDescription` tells; -1 is "varies".
    pub fn size(self) -> i16 {
        match self {
            Self::Bool | Self::Char => 1,
            Self::Int2 => 2,
            Self::Int4 | Self::Float4 | Self::Date | Self::Oid => 4,
            Self::Int8 | Self::Float8 | Self::Time | Self::Timestamp | Self::TimestampTz => 8,
            Self::Interval | Self::Uuid => 16,
            Self::Name => 64,
            _ => -1,
        }
    }

    /// The type that a column of this field has on the wire.
    pub fn of_field(field: &Field) -> Self {
        // A cast keeps the metadata of what it casts: it means something for its own Arrow type only.
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        match field.metadata().get(PG_TYPE_METADATA).map(String::as_str) {
            Some("oid") if matches!(field.data_type(), DataType::Int32 | DataType::Int64) => return Self::Oid,
            Some("name") if is_text => return Self::Name,
            Some("char") if is_text => return Self::Char,
            Some("json") if is_text => return Self::Json,
            Some("int2vector") if matches!(field.data_type(), DataType::List(_)) => return Self::Vector(Element::Int2),
            Some("oidvector") if matches!(field.data_type(), DataType::List(_)) => return Self::Vector(Element::Oid),
            _ => {}
        }
        let is_uuid = field.metadata().get("ARROW:extension:name").is_some_and(|name| name == "arrow.uuid");
        if is_uuid && *field.data_type() == DataType::FixedSizeBinary(16) {
            return Self::Uuid;
        }
        Self::of(field.data_type())
    }

    /// The type that a value of this Arrow type has on the wire.
    pub fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Self::Int2,
            DataType::Int32 | DataType::UInt16 => Self::Int4,
            DataType::Int64 | DataType::UInt32 => Self::Int8,
            DataType::UInt64
            | DataType::Decimal32(_, _)
            | DataType::Decimal64(_, _)
            | DataType::Decimal128(_, _)
            | DataType::Decimal256(_, _) => Self::Numeric,
            DataType::Float16 | DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytea
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz,
            DataType::Interval(_) | DataType::Duration(_) => Self::Interval,
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::FixedSizeList(field, _)
            | DataType::ListView(field)
            | DataType::LargeListView(field) => Element::of(Self::of_field(field)).map_or(Self::Json, Self::Array),
            DataType::Struct(_) => Self::Record,
            DataType::Map(_, _) => Self::Json,
            DataType::Dictionary(_, value) => Self::of(value),
            DataType::RunEndEncoded(_, values) => Self::of_field(values),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null | DataType::Union(_, _) => {
                Self::Text
            }
        }
    }

    /// The Arrow type that a parameter of this PostgreSQL type is read as. `None` leaves it to the planner.
    pub fn parameter_type(oid: u32) -> Option<DataType> {
        if let Some((_, element, _)) = ELEMENTS.iter().find(|(_, _, array)| *array == oid) {
            let element = Self::parameter_type(element.oid())?;
            return Some(DataType::List(FieldRef::new(Field::new_list_field(element, true))));
        }
        Some(match oid {
            16 => DataType::Boolean,
            17 => DataType::Binary,
            18 | 19 | 25 | 114 | 1042 | 1043 | 3802 | 2950 => DataType::Utf8,
            20 | 26 => DataType::Int64,
            21 => DataType::Int16,
            23 => DataType::Int32,
            700 => DataType::Float32,
            701 => DataType::Float64,
            1082 => DataType::Date32,
            1083 => DataType::Time64(TimeUnit::Microsecond),
            1114 => DataType::Timestamp(TimeUnit::Microsecond, None),
            1184 => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            1186 => DataType::Interval(IntervalUnit::MonthDayNano),
            1700 => DataType::Decimal128(NUMERIC_PRECISION, NUMERIC_SCALE),
            _ => return None,
        })
    }
}

/// Whether decimals of this type are those of a `numeric` without precision and scale, or products of such.
///
/// PostgreSQL's keep the digits that each was written with. Here all have the same, and only those that matter are shown.
pub fn is_unconstrained(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(NUMERIC_PRECISION, scale) if *scale > 0 && scale % NUMERIC_SCALE == 0)
}

/// The modifier that `RowDescription` tells: precision and scale of a `numeric` that has them, else -1.
pub fn type_modifier(data_type: &DataType) -> i32 {
    let (precision, scale) = match data_type {
        unconstrained if is_unconstrained(unconstrained) => return -1,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => (*precision, *scale),
        DataType::Dictionary(_, value) => return type_modifier(value),
        _ => return -1,
    };
    if scale < 0 { -1 } else { ((i32::from(precision) << 16) | i32::from(scale)) + 4 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Fields;
    use std::sync::Arc;

    fn list(item: DataType) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(item, true)))
    }

    #[test]
    fn arrays_are_arrays_until_they_nest() {
        assert_eq!(PgType::of(&list(DataType::Int32)).oid(), 1007);
        assert_eq!(PgType::of(&list(list(DataType::Int32))), PgType::Json);
        assert_eq!(PgType::of(&list(DataType::Struct(Fields::empty()))), PgType::Json);
    }

    #[test]
    fn every_array_type_reads_back_as_its_element() {
        for (_, element, array) in ELEMENTS {
            let expected = PgType::parameter_type(element.oid()).map(list);
            assert_eq!(PgType::parameter_type(array), expected);
        }
    }

    #[test]
    fn a_numeric_tells_precision_and_scale() {
        assert_eq!(type_modifier(&DataType::Decimal128(15, 2)), (15 << 16 | 2) + 4);
        assert_eq!(type_modifier(&DataType::Int32), -1);
        assert_eq!(type_modifier(&DataType::Decimal128(38, 10)), -1);
        assert_eq!(type_modifier(&DataType::Decimal128(38, 2)), (38 << 16 | 2) + 4);
    }
}
