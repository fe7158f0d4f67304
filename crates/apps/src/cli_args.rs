//! Command lines in Go's `flag` style: `-name=value`, `-name value`, `--name`, booleans without a value.
//!
//! - Reads: the arguments of http-echo, httpbin and fortio.
//! - Rule: parsing stops at the first word that is not a flag, or after `--`; the rest are operands.
//! - Not here: curl's options, which follow another grammar (`curl/options.rs`).

/// What one flag expects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `-flag`, or `-flag=true`.
    Nothing,
    /// `-flag value` or `-flag=value`.
    Value,
}

/// Flags in the order given, then the operands.
pub(crate) struct Parsed {
    /// Name without dashes, and value (empty for a boolean given without one).
    pub(crate) flags: Vec<(String, String)>,
    /// Words after the flags.
    pub(crate) operands: Vec<String>,
}

impl Parsed {
    /// Last value of `name`, if given.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(flag, _)| flag == name).map(|(_, value)| value.as_str())
    }

    /// Whether a boolean flag is on.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.last(name).is_some_and(|value| value != "false" && value != "0")
    }
}

/// Reads `args` against the list of known flags.
///
/// # Errors
/// Go's wording: an undefined flag, or one without its argument.
pub(crate) fn parse(args: &[String], known: &[(&str, Takes)]) -> Result<Parsed, String> {
    let mut parsed = Parsed { flags: Vec::new(), operands: Vec::new() };
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            parsed.operands.push(word.clone());
            break;
        };
        if word == "-" || word == "--" {
            break;
        }
        let (name, inline) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let Some((_, takes)) = known.iter().find(|(known, _)| *known == name) else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        let value = match (takes, inline) {
            (_, Some(value)) => value.to_owned(),
            (Takes::Nothing, None) => String::new(),
            (Takes::Value, None) => words.next().cloned().ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        parsed.flags.push((name.to_owned(), value));
    }
    parsed.operands.extend(words.cloned());
    Ok(parsed)
}

/// A Go duration such as `1h30m`, `1.5s`, `250ms`.
///
/// # Errors
/// Go's wording for text that is no duration.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let invalid = || format!("time: invalid duration \"{text}\"");
    if text == "0" {
        return Ok(std::time::Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0f64;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(invalid()),
            };
        rest = tail;
    }
    std::time::Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_flag_forms_are_read() {
        let args: Vec<String> = ["-text=a b", "--listen", ":1", "-v", "rest"].iter().map(|word| (*word).to_owned()).collect();
        let parsed = parse(&args, &[("text", Takes::Value), ("listen", Takes::Value), ("v", Takes::Nothing)]).expect("valid");
        assert_eq!(parsed.last("text"), Some("a b"));
        assert_eq!(parsed.last("listen"), Some(":1"));
        assert!(parsed.is_set("v"));
        assert_eq!(parsed.operands, ["rest"]);
    }

    #[test]
    fn unknown_flag_is_refused() {
        assert!(parse(&["-nope".to_owned()], &[]).is_err());
    }

    #[test]
    fn go_durations_add_up() {
        assert_eq!(duration("1m1.5s").expect("valid").as_millis(), 61_500);
        assert!(duration("5").is_err());
        assert!(duration("5sec").is_err());
    }
}
