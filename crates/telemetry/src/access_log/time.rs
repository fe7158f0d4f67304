//! Times as text: RFC 3339 and strftime patterns, in UTC.
//!
//! - Reads: the argument of `%START_TIME(…)%`.
//! - Rule: a conversion that is not known is an error when the format is compiled.
//! - Limits: UTC only; years 1970 to 9999.

use super::parse::FormatError;
use std::io::Write;
use std::time::Duration;

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Conversion(char),
    /// Digits of the fraction.
    Fraction(u32),
}

/// Conversions understood after a `%`.
const CONVERSIONS: &str = "YmdHMSsFTzZejybBaA";

impl TimeFormat {
    /// Compiles a strftime pattern, extended by `%f` (nanoseconds) and `%1f`…`%9f`.
    ///
    /// # Errors
    /// An unknown conversion.
    pub fn new(pattern: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                literal.push(c);
                continue;
            }
            let piece = match chars.next() {
                Some('%') => {
                    literal.push('%');
                    continue;
                }
                Some('f') => Piece::Fraction(9),
                Some(digit @ '1'..='9') if chars.next_if_eq(&'f').is_some() => Piece::Fraction(digit.to_digit(10).unwrap_or(9)),
                Some(known) if CONVERSIONS.contains(known) => Piece::Conversion(known),
                Some(other) => return Err(FormatError::new(pattern, format!("%{other} is not a known time conversion"))),
                None => return Err(FormatError::new(pattern, "a lone % ends the time format")),
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self(pieces))
    }

    /// Appends `time` (since the Unix epoch).
    pub fn write(&self, time: Duration, out: &mut Vec<u8>) {
        let civil = Civil::of(time);
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Fraction(digits) => {
                    let cut = time.subsec_nanos() / 10u32.pow(9 - digits);
                    let _ = write!(out, "{cut:0width$}", width = *digits as usize);
                }
                Piece::Conversion(c) => civil.write(*c, out),
            }
        }
    }
}

/// Appends `time` (since the Unix epoch) as `2026-11-21T07:33:22.123Z`.
pub fn write_utc(time: Duration, out: &mut Vec<u8>) {
    let c = Civil::of(time);
    let digits = |out: &mut Vec<u8>, value: u64, width: u32| {
        for place in (0..width).rev() {
            let digit = value / 10u64.pow(place) % 10;
            out.push(b"0123456789"[usize::try_from(digit).unwrap_or(0)]);
        }
    };
    for (value, width, after) in [(c.year, 4, b'-'), (c.month, 2, b'-'), (c.day, 2, b'T'), (c.hour, 2, b':'), (c.minute, 2, b':'), (c.second, 2, b'.')] {
        digits(out, value, width);
        out.push(after);
    }
    digits(out, u64::from(time.subsec_millis()), 3);
    out.push(b'Z');
}

/// A time taken apart.
struct Civil {
    unix: u64,
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    /// 0 = Sunday.
    weekday: u64,
    /// From 1.
    year_day: u64,
}

impl Civil {
    fn of(time: Duration) -> Self {
        let unix = time.as_secs();
        let (days, rest) = (unix / 86_400, unix % 86_400);
        // Days are counted from 1 March of year 0, so that a leap day ends its year; an era is 400 years.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let year_day = if month > 2 { day_of_year + 60 + u64::from(leap) } else { day_of_year - 305 };
        Self { unix, year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60, weekday: (days + 4) % 7, year_day }
    }

    fn write(&self, conversion: char, out: &mut Vec<u8>) {
        const MONTHS: [&str; 12] = [
            "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
        ];
        const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
        let name = |list: &[&'static str], at: u64| usize::try_from(at).ok().and_then(|i| list.get(i)).copied().unwrap_or("?");
        let (month, day) = (name(&MONTHS, self.month - 1), name(&DAYS, self.weekday));
        let short = |word: &'static str| word.get(..3).unwrap_or(word);
        let _ = match conversion {
            'Y' => write!(out, "{:04}", self.year),
            'y' => write!(out, "{:02}", self.year % 100),
            'm' => write!(out, "{:02}", self.month),
            'd' => write!(out, "{:02}", self.day),
            'e' => write!(out, "{:2}", self.day),
            'j' => write!(out, "{:03}", self.year_day),
            'H' => write!(out, "{:02}", self.hour),
            'M' => write!(out, "{:02}", self.minute),
            'S' => write!(out, "{:02}", self.second),
            's' => write!(out, "{}", self.unix),
            'F' => write!(out, "{:04}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => write!(out, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
            'z' => write!(out, "+0000"),
            'Z' => write!(out, "UTC"),
            'b' => write!(out, "{}", short(month)),
            'B' => write!(out, "{month}"),
            'a' => write!(out, "{}", short(day)),
            _ => write!(out, "{day}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pattern: &str, time: Duration) -> String {
        let mut out = Vec::new();
        TimeFormat::new(pattern).unwrap().write(time, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_leap_day_is_written_as_itself() {
        let leap = Duration::from_secs(1_709_164_800 + 3_661);
        assert_eq!(text("%F %T %j %a %b", leap), "2024-02-29 01:01:01 060 Thu Feb");
    }

    #[test]
    fn fractions_are_cut_not_rounded() {
        assert_eq!(text("%3f %f", Duration::new(0, 1_999_999)), "001 001999999");
    }

    #[test]
    fn the_default_has_milliseconds() {
        let mut out = Vec::new();
        write_utc(Duration::from_millis(951_782_399_007), &mut out);
        assert_eq!(out, b"2000-02-28T23:59:59.007Z");
    }

    #[test]
    fn the_last_day_of_a_year_has_its_number() {
        assert_eq!(text("%F %j", Duration::from_secs(1_703_980_800)), "2023-12-31 365");
    }

    #[test]
    fn an_unknown_conversion_is_an_error() {
        assert!(TimeFormat::new("%Q").is_err());
    }
}
