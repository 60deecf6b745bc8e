//! Parameters from a client, text or binary, as scalars of the type that the plan expects.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit, i256};
use datafusion::common::ScalarValue;

use super::backend::Format;
use super::encode::{Digits, EPOCH_DAYS, EPOCH_MICROS, decode_numeric};
use super::types::PgType;
use crate::engine::{EngineError, SqlState};

/// Digits of the longest decimals.
const DECIMAL128_DIGITS: usize = 38;
const DECIMAL256_DIGITS: usize = 76;

/// A parameter of a prepared statement.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// What the client takes the type to be, by its own declaration or by ours.
    pub oid: u32,
    /// What the plan takes it to be.
    pub data_type: DataType,
}

impl Parameter {
    /// A parameter of the plan's type, of which the client may have declared its own view (0: it did not).
    pub fn new(declared_oid: u32, data_type: DataType) -> Self {
        const UNKNOWN: u32 = 705;
        let oid = match declared_oid {
            0 | UNKNOWN => PgType::of(&data_type).oid(),
            declared => declared,
        };
        Self { oid, data_type }
    }

    /// Reads the value of the parameter with this one-based number.
    ///
    /// # Errors
    /// 22P02 or 22P03 if the bytes are no value of the type; the value itself is not repeated.
    pub fn decode(
        &self,
        number: usize,
        value: Option<Bytes>,
        format: Format,
        time_zone: &str,
    ) -> Result<ScalarValue, EngineError> {
        self.read(value, format, time_zone).map_err(|mut error| {
            error.message = format!("parameter ${number}: {}", error.message);
            error
        })
    }

    /// Reads a value; none is null.
    ///
    /// # Errors
    /// 22P02 or 22P03 if the bytes are no value of the type; the value itself is not repeated.
    pub fn read(&self, value: Option<Bytes>, format: Format, time_zone: &str) -> Result<ScalarValue, EngineError> {
        let Some(bytes) = value else {
            return ScalarValue::try_from(&self.data_type).map_err(EngineError::from);
        };
        let decoded = match format {
            Format::Text => text_of(&bytes).and_then(|text| from_text(text, self.oid, &self.data_type, time_zone)),
            Format::Binary => from_binary(bytes, self.oid),
        };
        decoded.and_then(|value| fit(value, &self.data_type))
    }
}

fn text_of(bytes: &Bytes) -> Result<&str, EngineError> {
    std::str::from_utf8(bytes)
        .map_err(|_| EngineError::new(SqlState::INVALID_ENCODING, "invalid byte sequence for encoding \"UTF8\""))
}

fn not_a(data_type: &DataType) -> EngineError {
    let name = type_name(data_type);
    EngineError::new(SqlState::INVALID_TEXT, format!("invalid input syntax for type {name}"))
}

fn type_name(data_type: &DataType) -> String {
    format!("{:?}", PgType::of(data_type)).to_lowercase()
}

fn malformed() -> EngineError {
    EngineError::new(SqlState("22P03"), "incorrect binary data format")
}

/// Reads PostgreSQL's text form of a type; what PostgreSQL and Arrow write alike is left to Arrow.
fn from_text(text: &str, oid: u32, wanted: &DataType, time_zone: &str) -> Result<ScalarValue, EngineError> {
    // A type that we do not know by its number is read as what the plan wants.
    let declared = PgType::parameter_type(oid).unwrap_or_else(|| wanted.clone());
    match &declared {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(ScalarValue::from(text)),
        DataType::Boolean => boolean(text).map(ScalarValue::from).ok_or_else(|| not_a(&declared)),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            bytea(text).map(|bytes| ScalarValue::Binary(Some(bytes))).ok_or_else(|| not_a(&declared))
        }
        DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => {
            Digits::parse(text).as_ref().and_then(decimal).ok_or_else(|| not_a(&declared))
        }
        DataType::List(item) => {
            let elements = array_elements(text).ok_or_else(|| not_a(&declared))?;
            let element_oid = PgType::of_field(item).oid();
            let elements = elements.into_iter().map(|element| match element {
                Some(text) => fit(from_text(&text, element_oid, item.data_type(), time_zone)?, item.data_type()),
                None => Ok(ScalarValue::try_from(item.data_type())?),
            });
            let elements = elements.collect::<Result<Vec<_>, EngineError>>()?;
            Ok(ScalarValue::List(ScalarValue::new_list_nullable(&elements, item.data_type())))
        }
        DataType::Timestamp(unit, Some(_)) => {
            // Without an offset in the text, the session's zone is meant.
            let local = DataType::Timestamp(*unit, Some(Arc::from(time_zone)));
            let text = ScalarValue::from(text.trim());
            text.cast_to(&local).and_then(|moment| moment.cast_to(&declared)).map_err(|_| not_a(&declared))
        }
        DataType::Date32 => {
            // JDBC's driver sends a date with the time zone that it is in, which means nothing for a date.
            let day = text.trim().split_once(" +").map_or(text.trim(), |(day, _)| day);
            let day = day.split_once(" -").map_or(day, |(day, _)| day);
            ScalarValue::from(day).cast_to(&declared).map_err(|_| not_a(&declared))
        }
        other => ScalarValue::from(text.trim()).cast_to(other).map_err(|_| not_a(other)),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// `\x00ff`, or the older form in which a backslash and three octal digits are a byte.
fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let pairs = digits.chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        return pairs.collect();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'\\' {
            bytes.push(*byte);
        } else if let Some(tail) = rest.strip_prefix(b"\\") {
            bytes.push(b'\\');
            rest = tail;
        } else {
            let octal = std::str::from_utf8(rest.get(..3)?).ok()?;
            bytes.push(u8::from_str_radix(octal, 8).ok()?);
            rest = &rest[3..];
        }
    }
    Some(bytes)
}

/// The elements of a one-dimensional array literal: `{1,NULL,"a b"}`. `None` if it is not one.
pub fn array_elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inner.trim().is_empty() {
        return Some(Vec::new());
    }
    let mut elements = Vec::new();
    let mut characters = inner.chars().peekable();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        let mut element = String::new();
        if characters.next_if_eq(&'"').is_some() {
            loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => element.push(characters.next()?),
                    other => element.push(other),
                }
            }
            elements.push(Some(element));
            while characters.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            while let Some(character) = characters.next_if(|c| *c != ',') {
                match character {
                    '{' | '}' | '"' => return None,
                    '\\' => element.push(characters.next()?),
                    other => element.push(other),
                }
            }
            let bare = element.trim_end();
            if bare.is_empty() {
                return None;
            }
            elements.push((!bare.eq_ignore_ascii_case("null")).then(|| bare.to_owned()));
        }
        match characters.next() {
            Some(',') => {}
            None => return Some(elements),
            Some(_) => return None,
        }
    }
}

/// Reads the binary form of the type with this number.
fn from_binary(mut bytes: Bytes, oid: u32) -> Result<ScalarValue, EngineError> {
    let short = |_| malformed();
    let value = match oid {
        16 => ScalarValue::from(bytes.try_get_u8().map_err(short)? != 0),
        17 => return Ok(ScalarValue::Binary(Some(bytes.into()))),
        18 | 19 | 25 | 114 | 1042 | 1043 => return Ok(ScalarValue::from(text_of(&bytes)?)),
        3802 => {
            bytes.try_get_u8().map_err(short)?;
            return Ok(ScalarValue::from(text_of(&bytes)?));
        }
        20 => ScalarValue::from(bytes.try_get_i64().map_err(short)?),
        21 => ScalarValue::from(bytes.try_get_i16().map_err(short)?),
        23 => ScalarValue::from(bytes.try_get_i32().map_err(short)?),
        26 => ScalarValue::from(i64::from(bytes.try_get_u32().map_err(short)?)),
        700 => ScalarValue::from(bytes.try_get_f32().map_err(short)?),
        701 => ScalarValue::from(bytes.try_get_f64().map_err(short)?),
        1082 => ScalarValue::Date32(Some(bytes.try_get_i32().map_err(short)?.saturating_add(EPOCH_DAYS))),
        1083 => ScalarValue::Time64Microsecond(Some(bytes.try_get_i64().map_err(short)?)),
        1114 => ScalarValue::TimestampMicrosecond(Some(moment(&mut bytes)?), None),
        1184 => ScalarValue::TimestampMicrosecond(Some(moment(&mut bytes)?), Some("+00:00".into())),
        1186 => {
            let micros = bytes.try_get_i64().map_err(short)?;
            let days = bytes.try_get_i32().map_err(short)?;
            let months = bytes.try_get_i32().map_err(short)?;
            let nanos = micros
                .checked_mul(1_000)
                .ok_or_else(|| EngineError::new(SqlState::OUT_OF_RANGE, "an interval's time part is too long"))?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanos)))
        }
        1700 => {
            let digits = decode_numeric(bytes)?;
            return decimal(&digits)
                .ok_or_else(|| EngineError::new(SqlState::OUT_OF_RANGE, "a numeric has too many digits"));
        }
        2950 => {
            let uuid = uuid::Uuid::from_slice(&bytes).map_err(|_| malformed())?;
            return Ok(ScalarValue::from(uuid.to_string()));
        }
        other => match PgType::parameter_type(other) {
            Some(DataType::List(item)) => return array(bytes, item.data_type()),
            _ => return Err(EngineError::not_supported(format!("a binary parameter of type {other}"))),
        },
    };
    if bytes.has_remaining() { Err(malformed()) } else { Ok(value) }
}

fn moment(bytes: &mut Bytes) -> Result<i64, EngineError> {
    let micros = bytes.try_get_i64().map_err(|_| malformed())?;
    micros
        .checked_add(EPOCH_MICROS)
        .filter(|_| micros != i64::MIN)
        .ok_or_else(|| EngineError::new(SqlState("22008"), "timestamp out of range (infinity is not supported)"))
}

/// Dimensions, a flag, the element type, size and lower bound of each dimension, the elements.
fn array(mut bytes: Bytes, item: &DataType) -> Result<ScalarValue, EngineError> {
    let short = |_| malformed();
    let dimensions = bytes.try_get_i32().map_err(short)?;
    let _has_nulls = bytes.try_get_i32().map_err(short)?;
    let element_oid = bytes.try_get_u32().map_err(short)?;
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = bytes.try_get_i32().map_err(short)?;
            let _lower_bound = bytes.try_get_i32().map_err(short)?;
            usize::try_from(count).map_err(|_| malformed())?
        }
        _ => return Err(EngineError::not_supported("an array parameter of more than one dimension")),
    };
    if count > bytes.remaining() / 4 {
        return Err(malformed());
    }
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        let length = bytes.try_get_i32().map_err(short)?;
        elements.push(match usize::try_from(length) {
            Err(_) => ScalarValue::try_from(item)?,
            Ok(length) if length <= bytes.remaining() => fit(from_binary(bytes.split_to(length), element_oid)?, item)?,
            Ok(_) => return Err(malformed()),
        });
    }
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&elements, item)))
}

/// A decimal with the digits and the scale that it was written with.
fn decimal(digits: &Digits) -> Option<ScalarValue> {
    let (plain, scale) = digits.plain()?;
    let signed = if digits.negative { format!("-{plain}") } else { plain.clone() };
    let places = plain.len().max(scale);
    let scale = i8::try_from(scale).ok()?;
    if places <= DECIMAL128_DIGITS {
        Some(ScalarValue::Decimal128(signed.parse().ok(), DECIMAL128_DIGITS as u8, scale))
    } else if places <= DECIMAL256_DIGITS {
        Some(ScalarValue::Decimal256(i256::from_string(&signed), DECIMAL256_DIGITS as u8, scale))
    } else {
        None
    }
}

/// The value as the plan wants it, unless that would lose digits.
fn fit(value: ScalarValue, wanted: &DataType) -> Result<ScalarValue, EngineError> {
    if value.data_type() == *wanted || *wanted == DataType::Null {
        return Ok(value);
    }
    let scale = |data_type: &DataType| match data_type {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    };
    if let (Some(has), Some(wants)) = (scale(&value.data_type()), scale(wanted))
        && has > wants
    {
        return Ok(value);
    }
    // A numeric that stands for a whole number must be one.
    if scale(&value.data_type()).is_some_and(|has| has > 0) && wanted.is_integer() {
        return Ok(value);
    }
    if let (DataType::Timestamp(TimeUnit::Microsecond, None), DataType::Timestamp(_, Some(_))) =
        (value.data_type(), wanted)
    {
        return Ok(value);
    }
    value.cast_to(wanted).map_err(|_| {
        EngineError::new(SqlState::OUT_OF_RANGE, format!("the value is out of range for type {}", type_name(wanted)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(oid: u32, data_type: DataType, bytes: &'static [u8], format: Format) -> Result<ScalarValue, EngineError> {
        Parameter::new(oid, data_type).decode(1, Some(Bytes::from_static(bytes)), format, "Europe/Berlin")
    }

    fn text(data_type: DataType, text: &'static str) -> Result<ScalarValue, EngineError> {
        read(0, data_type, text.as_bytes(), Format::Text)
    }

    #[test]
    fn text_is_read_by_the_plans_type_when_the_client_has_none() -> Result<(), EngineError> {
        assert_eq!(text(DataType::Int32, "42")?, ScalarValue::from(42));
        assert_eq!(text(DataType::Boolean, "on")?, ScalarValue::from(true));
        assert_eq!(text(DataType::Binary, "\\x00ff")?, ScalarValue::Binary(Some(vec![0, 255])));
        assert_eq!(text(DataType::Binary, "a\\\\\\001")?, ScalarValue::Binary(Some(b"a\\\x01".to_vec())));
        assert_eq!(text(DataType::Date32, "2024-02-29")?, ScalarValue::Date32(Some(19_782)));
        assert!(text(DataType::Int32, "4x").is_err_and(|error| error.state == SqlState::INVALID_TEXT));
        Ok(())
    }

    #[test]
    fn timestamptz_text_means_the_sessions_zone_unless_it_says_another() -> Result<(), EngineError> {
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        let at = |micros| ScalarValue::TimestampMicrosecond(Some(micros), Some("+00:00".into()));
        assert_eq!(text(zoned.clone(), "2023-11-14 23:13:20")?, at(1_700_000_000_000_000));
        assert_eq!(text(zoned.clone(), "2023-11-14 22:13:20+00")?, at(1_700_000_000_000_000));
        assert_eq!(text(zoned, "2023-11-14T22:13:20.5Z")?, at(1_700_000_000_500_000));
        Ok(())
    }

    #[test]
    fn a_decimal_never_loses_digits() -> Result<(), EngineError> {
        let money = DataType::Decimal128(15, 2);
        assert_eq!(text(money.clone(), "1.5")?, ScalarValue::Decimal128(Some(150), 15, 2));
        assert_eq!(text(money, "1.005")?, ScalarValue::Decimal128(Some(1_005), 38, 3));
        Ok(())
    }

    #[test]
    fn binary_is_read_by_what_the_client_declared() -> Result<(), EngineError> {
        assert_eq!(read(21, DataType::Int64, b"\0\x07", Format::Binary)?, ScalarValue::from(7_i64));
        assert_eq!(read(1082, DataType::Date32, b"\0\0\0\0", Format::Binary)?, ScalarValue::Date32(Some(EPOCH_DAYS)));
        assert!(read(23, DataType::Int32, b"\0\x07", Format::Binary).is_err());
        assert!(read(23, DataType::Int32, b"\0\0\0\0\x07", Format::Binary).is_err());
        Ok(())
    }

    #[test]
    fn arrays_in_both_formats() -> Result<(), EngineError> {
        let Some(ints) = PgType::parameter_type(1007) else { panic!("int4[]") };
        let expected = ScalarValue::List(ScalarValue::new_list_nullable(
            &[ScalarValue::from(1), ScalarValue::Int32(None)],
            &DataType::Int32,
        ));
        assert_eq!(text(ints.clone(), "{1, NULL}")?, expected);
        let binary = b"\0\0\0\x01\0\0\0\x01\0\0\0\x17\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\x01\xff\xff\xff\xff";
        assert_eq!(read(1007, ints.clone(), binary, Format::Binary)?, expected);
        assert!(read(1007, ints, b"\0\0\0\x01\0\0\0\0\0\0\0\x17\x7f\xff\xff\xff\0\0\0\x01", Format::Binary).is_err());
        assert_eq!(
            array_elements(r#"{"a b",null,"null","q\"\\",x y}"#),
            Some(vec![
                Some("a b".to_owned()),
                None,
                Some("null".to_owned()),
                Some("q\"\\".to_owned()),
                Some("x y".to_owned()),
            ])
        );
        assert_eq!(array_elements("{a,}"), None);
        Ok(())
    }
}
