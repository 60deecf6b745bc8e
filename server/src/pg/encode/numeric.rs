//! PostgreSQL's `numeric`: decimal digits of any length, in groups of four on the wire.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use datafusion::arrow::datatypes::DataType;

use crate::engine::{EngineError, SqlState};
use crate::pg::types::is_unconstrained;

/// The sign of a value below zero on the wire.
const NEGATIVE: u16 = 0x4000;

/// Digits after the point that a value from the wire may have; Arrow's longest decimal has 76.
const MAX_DIGITS: usize = 1_000;

/// A decimal number: its digits without a point, and where the point is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digits {
    pub negative: bool,
    /// ASCII digits, at least one.
    pub digits: String,
    /// Digits after the point; negative means zeros before it.
    pub scale: i32,
}

impl Digits {
    /// From an unscaled integer as it prints: `-1234` with a scale of 2 is `-12.34`.
    pub fn from_unscaled(unscaled: &str, scale: i8) -> Self {
        let digits = unscaled.strip_prefix('-');
        let (negative, digits) = digits.map_or((false, unscaled), |digits| (true, digits));
        Self { negative, digits: digits.to_owned(), scale: scale.into() }
    }

    /// The same value as a decimal of this type is shown.
    pub fn shown_as(mut self, data_type: &DataType) -> Self {
        if is_unconstrained(data_type) {
            while self.scale > 0 && self.digits.len() > 1 && self.digits.ends_with('0') {
                self.digits.pop();
                self.scale -= 1;
            }
            if self.digits == "0" {
                self.scale = 0;
            }
        }
        self
    }

    /// From text: `-12.34`, `.5`, `1e-3`. `None` if that is no number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        Some(Self { negative, digits, scale })
    }

    /// Without a negative scale and without leading zeros: `(digits, scale)`. `None` beyond [`MAX_DIGITS`].
    pub fn plain(&self) -> Option<(String, usize)> {
        let trimmed = self.digits.trim_start_matches('0');
        if trimmed.is_empty() {
            return Some(("0".to_owned(), usize::try_from(self.scale).unwrap_or(0)));
        }
        match usize::try_from(self.scale) {
            Ok(scale) if scale <= MAX_DIGITS && trimmed.len() <= MAX_DIGITS => Some((trimmed.to_owned(), scale)),
            Ok(_) => None,
            Err(_) => {
                let zeros = usize::try_from(self.scale.unsigned_abs()).ok().filter(|zeros| *zeros <= MAX_DIGITS)?;
                Some((format!("{trimmed}{}", "0".repeat(zeros)), 0))
            }
        }
    }

    /// Appends the number as text.
    pub fn put_text(&self, out: &mut BytesMut) {
        if self.negative {
            out.put_u8(b'-');
        }
        let Ok(scale) = usize::try_from(self.scale) else {
            out.put_slice(self.digits.as_bytes());
            if self.digits != "0" {
                out.put_bytes(b'0', self.scale.unsigned_abs() as usize);
            }
            return;
        };
        let whole_count = self.digits.len().saturating_sub(scale);
        let (whole, fraction) = self.digits.split_at(whole_count);
        out.put_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
        if scale > 0 {
            out.put_u8(b'.');
            out.put_bytes(b'0', scale - fraction.len());
            out.put_slice(fraction.as_bytes());
        }
    }

    /// Appends the number as PostgreSQL's binary `numeric`.
    pub fn put_binary(&self, out: &mut BytesMut) {
        let scale = usize::try_from(self.scale).unwrap_or(0);
        let zeros = usize::try_from(-self.scale).unwrap_or(0);
        let digits = format!("{}{}", self.digits, "0".repeat(zeros));
        let whole_count = digits.len().saturating_sub(scale);
        let (whole, fraction) = digits.split_at(whole_count);
        // Groups of four count from the point: pad the whole part on its left, the fraction on both sides.
        let fraction = format!("{}{fraction}", "0".repeat(scale - fraction.len()));
        let padded = format!(
            "{}{whole}{fraction}{}",
            "0".repeat(whole.len().next_multiple_of(4) - whole.len()),
            "0".repeat(fraction.len().next_multiple_of(4) - fraction.len()),
        );
        let mut groups: Vec<u16> = padded
            .as_bytes()
            .chunks(4)
            .map(|group| group.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0')))
            .collect();
        let mut weight = (whole.len().div_ceil(4) as i16) - 1;
        let leading = groups.iter().take_while(|group| **group == 0).count();
        groups.drain(..leading);
        weight -= leading as i16;
        while groups.last() == Some(&0) {
            groups.pop();
        }
        if groups.is_empty() {
            weight = 0;
        }
        out.put_u16(groups.len() as u16);
        out.put_i16(weight);
        out.put_u16(if self.negative && !groups.is_empty() { NEGATIVE } else { 0 });
        out.put_u16(scale as u16);
        for group in groups {
            out.put_u16(group);
        }
    }
}

/// Reads PostgreSQL's binary `numeric`.
///
/// # Errors
/// If the bytes are not one, or if it is infinite or not a number, which Arrow's decimals cannot hold.
pub fn decode_numeric(mut bytes: Bytes) -> Result<Digits, EngineError> {
    let malformed = || EngineError::new(SqlState("22P03"), "incorrect binary data format: not a numeric");
    if bytes.remaining() < 8 {
        return Err(malformed());
    }
    let group_count = usize::from(bytes.get_u16());
    let weight = i32::from(bytes.get_i16());
    let sign = bytes.get_u16();
    let scale = usize::from(bytes.get_u16());
    if sign != 0 && sign != NEGATIVE {
        return Err(EngineError::new(SqlState::OUT_OF_RANGE, "numeric NaN and infinities are not supported"));
    }
    if bytes.remaining() != group_count * 2 || scale > MAX_DIGITS || group_count > MAX_DIGITS {
        return Err(malformed());
    }
    let mut digits = String::with_capacity(group_count * 4);
    for _ in 0..group_count {
        let group = bytes.get_u16();
        if group > 9_999 {
            return Err(malformed());
        }
        digits.push_str(&format!("{group:04}"));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    // The digits end `4 * (group_count - 1 - weight)` places behind the point; the scale is what is meant to show.
    let count = i32::try_from(group_count).unwrap_or(i32::MAX);
    let mut held = if count == 0 { 0 } else { 4 * (count - 1 - weight) };
    let scale = i32::try_from(scale).unwrap_or(0);
    while held > scale && digits.len() > 1 && digits.ends_with('0') {
        digits.pop();
        held -= 1;
    }
    let missing = usize::try_from(scale - held).unwrap_or(0);
    if missing > MAX_DIGITS {
        return Err(EngineError::new(SqlState::OUT_OF_RANGE, "a numeric has too many digits"));
    }
    digits.extend(std::iter::repeat_n('0', missing));
    held = held.max(scale);
    Ok(Digits { negative: sign == NEGATIVE, digits, scale: held })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(digits: &Digits) -> String {
        let mut out = BytesMut::new();
        digits.put_text(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn text_reads_back() {
        for (unscaled, scale, expected) in [
            ("5", 2, "0.05"),
            ("-1234", 2, "-12.34"),
            ("0", 3, "0.000"),
            ("12", -2, "1200"),
            ("99999999999999999999999999999999999999", 0, "99999999999999999999999999999999999999"),
        ] {
            assert_eq!(text(&Digits::from_unscaled(unscaled, scale)), expected);
        }
        assert_eq!(Digits::parse("1.5e3").map(|d| d.scale), Some(-2));
        assert_eq!(Digits::parse("12x"), None);
        assert_eq!(Digits::parse("."), None);
    }

    #[test]
    fn a_numeric_without_a_scale_shows_the_digits_that_matter() {
        let shown = |unscaled, scale, precision| {
            text(&Digits::from_unscaled(unscaled, scale).shown_as(&DataType::Decimal128(precision, scale)))
        };
        assert_eq!(shown("15000000000", 10, 38), "1.5");
        assert_eq!(shown("-100000000000", 10, 38), "-10");
        assert_eq!(shown("0", 10, 38), "0");
        assert_eq!(shown("150", 2, 10), "1.50");
        assert_eq!(shown("150", 2, 38), "1.50");
    }

    #[test]
    fn binary_reads_back_as_the_same_number() -> Result<(), EngineError> {
        for written in
            ["0", "0.000", "1", "-1", "12.34", "10000", "100000000", "0.0001", "-0.00012345", "123456789.987654321"]
        {
            let Some(digits) = Digits::parse(written) else { panic!("{written}") };
            let mut out = BytesMut::new();
            digits.put_binary(&mut out);
            let read = decode_numeric(out.freeze())?;
            let Some((plain, scale)) = read.plain() else { panic!("{written}") };
            let read = Digits { negative: read.negative, digits: plain, scale: scale as i32 };
            assert_eq!(text(&read), written);
        }
        Ok(())
    }

    #[test]
    fn hostile_numerics_are_refused() {
        for bytes in [&b""[..], b"\0\x01\0\0\0\0\0\0", b"\0\0\0\0\xc0\0\0\0", b"\0\x01\0\0\0\0\0\0\xff\xff"] {
            assert!(decode_numeric(Bytes::from_static(bytes)).is_err());
        }
        let far = decode_numeric(Bytes::from_static(b"\0\x01\x7f\xff\0\0\0\0\0\x01"));
        assert!(far.is_err() || far.is_ok_and(|digits| digits.plain().is_none()));
    }
}
