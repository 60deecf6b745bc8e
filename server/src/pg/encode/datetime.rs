//! Dates, times and intervals as PostgreSQL's ISO style shows them.

use std::fmt::Write;

use bytes::BytesMut;
use chrono::{DateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::IntervalMonthDayNano;

const MICROS_PER_DAY: i64 = 86_400_000_000;

// Writing into a BytesMut fails only when memory does, and that aborts.
macro_rules! put {
    ($out:expr, $($argument:tt)*) => {{ let _ = write!($out, $($argument)*); }};
}

/// Appends a day of the proleptic Gregorian calendar, counted from 1970-01-01.
pub fn put_date(days: i64, out: &mut BytesMut) {
    let (year, month, day) = civil(days);
    // There is no year 0: the year before 1 is 1 BC.
    let shown = if year > 0 { year } else { 1 - year };
    put!(out, "{shown:04}-{month:02}-{day:02}");
    if year <= 0 {
        put!(out, " BC");
    }
}

/// Hinnant, "chrono-Compatible Low-Level Date Algorithms": the civil date of a day count.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Appends a time of day.
pub fn put_time(micros: i64, out: &mut BytesMut) {
    let seconds = micros / 1_000_000;
    put!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    put_fraction(micros % 1_000_000, out);
}

fn put_fraction(micros: i64, out: &mut BytesMut) {
    if micros != 0 {
        let fraction = format!("{micros:06}");
        put!(out, ".{}", fraction.trim_end_matches('0'));
    }
}

/// Appends a moment without a zone.
pub fn put_timestamp(micros: i64, out: &mut BytesMut) {
    match infinity(micros) {
        Some(word) => out.extend_from_slice(word),
        None => put_moment(i128::from(micros), out, |_| {}),
    }
}

/// A moment later or earlier than any other, in PostgreSQL's words.
fn infinity(micros: i64) -> Option<&'static [u8]> {
    match micros {
        i64::MAX => Some(b"infinity"),
        i64::MIN => Some(b"-infinity"),
        _ => None,
    }
}

/// A year BC says so at the very end, behind the time and the zone.
fn put_moment(micros: i128, out: &mut BytesMut, put_zone: impl FnOnce(&mut BytesMut)) {
    let days = micros.div_euclid(i128::from(MICROS_PER_DAY)) as i64;
    let start = out.len();
    put_date(days, out);
    let before_christ = out.get(start..).is_some_and(|date| date.ends_with(b" BC"));
    if before_christ {
        out.truncate(out.len() - 3);
    }
    put!(out, " ");
    put_time(micros.rem_euclid(i128::from(MICROS_PER_DAY)) as i64, out);
    put_zone(out);
    if before_christ {
        put!(out, " BC");
    }
}

/// Appends a moment as clocks in `zone` show it.
pub fn put_timestamptz(micros: i64, zone: Option<Tz>, out: &mut BytesMut) {
    if let Some(word) = infinity(micros) {
        out.extend_from_slice(word);
        return;
    }
    // Beyond chrono's calendar (a quarter of a million years) clocks show UTC.
    let offset_seconds = DateTime::from_timestamp_micros(micros)
        .zip(zone)
        .map_or(0, |(moment, zone)| zone.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc());
    let local = i128::from(micros) + i128::from(offset_seconds) * 1_000_000;
    put_moment(local, out, |out| {
        let sign = if offset_seconds < 0 { '-' } else { '+' };
        let offset = offset_seconds.unsigned_abs();
        put!(out, "{sign}{:02}", offset / 3_600);
        if !offset.is_multiple_of(3_600) {
            put!(out, ":{:02}", offset / 60 % 60);
        }
        if !offset.is_multiple_of(60) {
            put!(out, ":{:02}", offset % 60);
        }
    });
}

/// Appends an interval in the style `postgres`: `1 year 2 mons -3 days +04:05:06.7`.
pub fn put_interval(interval: IntervalMonthDayNano, out: &mut BytesMut) {
    let start = out.len();
    let mut negative_before = false;
    let units = [(interval.months / 12, "year"), (interval.months % 12, "mon"), (interval.days, "day")];
    for (value, unit) in units {
        if value != 0 {
            let blank = if out.len() > start { " " } else { "" };
            let plus = if negative_before && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            put!(out, "{blank}{plus}{value} {unit}{plural}");
            negative_before = value < 0;
        }
    }
    let micros = interval.nanoseconds / 1_000;
    if micros != 0 || out.len() == start {
        let blank = if out.len() > start { " " } else { "" };
        let sign = match (micros < 0, negative_before) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        put!(out, "{blank}{sign}");
        let micros = micros.unsigned_abs();
        let seconds = micros / 1_000_000;
        put!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
        put_fraction((micros % 1_000_000) as i64, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn dates_at_the_edges() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (-719_528, "0001-01-01 BC"),
            (-719_529, "0002-12-31 BC"),
            (2_932_897, "10000-01-01"),
        ] {
            assert_eq!(shown(|out| put_date(days, out)), expected);
        }
    }

    #[test]
    fn a_zone_shows_its_offset_and_bc_comes_last() -> Result<(), Box<dyn std::error::Error>> {
        let kolkata: Tz = "Asia/Kolkata".parse()?;
        assert_eq!(shown(|out| put_timestamptz(0, Some(kolkata), out)), "1970-01-01 05:30:00+05:30");
        assert_eq!(shown(|out| put_timestamp(-62_167_219_200_000_000 - 1, out)), "0002-12-31 23:59:59.999999 BC");
        Ok(())
    }

    #[test]
    fn intervals_as_postgresql_writes_them() {
        let interval = |months, days, micros: i64| {
            shown(|out| put_interval(IntervalMonthDayNano::new(months, days, micros * 1_000), out))
        };
        assert_eq!(interval(0, 0, 0), "00:00:00");
        assert_eq!(interval(14, 3, 14_706_700_000), "1 year 2 mons 3 days 04:05:06.7");
        assert_eq!(interval(-1, 1, 1_000_000), "-1 mons +1 day 00:00:01");
        assert_eq!(interval(0, -1, 1_000_000), "-1 days +00:00:01");
        assert_eq!(interval(0, 0, -90_000_000_000_000), "-25000:00:00");
    }
}
