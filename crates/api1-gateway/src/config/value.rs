//! What a single value may be: readers of TOML values into checked ones, and the bounds of every number and duration.
//!
//! A reader answers the value, or what is wrong with it in words that say what to write. The text itself is repeated only where
//! it can hold no secret.

use crate::headers::is_token;
use std::time::Duration;

use jobs_core::process::duration;
use toml::de::DeValue;

use super::http_url;

/// A duration beyond ten years is mistyped.
pub(super) const MAX_SPAN: Duration = Duration::from_secs(3_650 * 24 * 3_600);
/// Beyond a million, a count (of attempts, of leases) is mistyped.
pub(super) const MAX_COUNT: u32 = 1_000_000;
/// A title stands in messages and tables.
const MAX_TITLE: usize = 100;
/// Longest name or value of a header: servers refuse more.
pub(super) const MAX_HEADER: usize = 8_000;
/// Of a wrong text this many characters are repeated in the mistake.
const MAX_SHOWN: usize = 40;

/// What a reader makes of a value: the checked value, or what is wrong.
pub(super) type Read<T> = Result<T, String>;

pub(super) fn text<'t>(value: &'t DeValue<'_>) -> Read<&'t str> {
    value.as_str().ok_or_else(|| unlike("a string", value))
}

pub(super) fn boolean(value: &DeValue<'_>) -> Read<bool> {
    value.as_bool().ok_or_else(|| unlike("true or false", value))
}

/// 1 to [`MAX_COUNT`].
pub(super) fn count(value: &DeValue<'_>) -> Read<u32> {
    let number = integer(value)?;
    let count = u32::try_from(number).ok().filter(|count| (1..=MAX_COUNT).contains(count));
    count.ok_or_else(|| format!("must be 1 to {MAX_COUNT}"))
}

/// An HTTP status.
pub(super) fn status(value: &DeValue<'_>) -> Read<u16> {
    let number = integer(value)?;
    let status = u16::try_from(number).ok().filter(|status| (100..=599).contains(status));
    status.ok_or_else(|| "must be an HTTP status, 100 to 599".to_owned())
}

/// A number of `least` to `most`, whole or not.
pub(super) fn number(least: f64, most: f64) -> impl Fn(&DeValue<'_>) -> Read<f64> {
    move |value| {
        let digits = value.as_float().map(|float| float.as_str().to_owned());
        let digits = digits.or_else(|| value.as_integer().map(|_| integer(value).unwrap_or(i64::MAX).to_string()));
        let digits = digits.ok_or_else(|| unlike("a number", value))?;
        let number = digits.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("must be {least} to {most}"))
    }
}

/// A duration such as `30s`, above zero and at most `most`.
pub(super) fn duration_up_to(most: Duration) -> impl Fn(&DeValue<'_>) -> Read<Duration> {
    move |value| {
        let text = value.as_str().ok_or_else(|| unlike("a duration such as \"30s\"", value))?;
        let duration = duration::parse(text).map_err(|error| format!("{}: {error}", shown(text)))?;
        if duration.is_zero() {
            return Err("must be longer than zero".to_owned());
        }
        if duration > most {
            return Err(format!("must be at most {}", duration::show(most)));
        }
        Ok(duration)
    }
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let found = text(value)?;
        let choice = words.iter().find(|(word, _)| *word == found);
        choice.map(|(_, choice)| *choice).ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("must be {}, not {}", known.join(" or "), shown(found))
        })
    }
}

pub(super) fn url(value: &DeValue<'_>) -> Read<String> {
    http_url::parse(text(value)?).map_err(|error| error.to_string())
}

/// For people: one line of 1 to [`MAX_TITLE`] characters.
pub(super) fn title(value: &DeValue<'_>) -> Read<String> {
    let title = text(value)?;
    let good = !title.trim().is_empty() && title.chars().count() <= MAX_TITLE && !title.contains(char::is_control);
    if good { Ok(title.to_owned()) } else { Err(format!("must be one line of 1 to {MAX_TITLE} characters")) }
}

/// An HTTP method. In capitals, since methods are told apart by case and no server knows `post`.
pub(super) fn method(value: &DeValue<'_>) -> Read<String> {
    let method = text(value)?;
    let good = is_token(method) && method.len() <= 32 && !method.bytes().any(|byte| byte.is_ascii_lowercase());
    match method {
        "CONNECT" | "TRACE" => Err(format!("{method} carries no job: use POST, PUT, PATCH, GET or DELETE")),
        _ if good => Ok(method.to_owned()),
        _ => Err(format!("{} is not an HTTP method in capitals, such as POST", shown(method))),
    }
}

/// The name of a header, in any case.
pub(super) fn header_name(name: &str) -> Read<&str> {
    if is_token(name) && name.len() <= MAX_HEADER {
        Ok(name)
    } else {
        Err(format!("{} cannot name a header: use letters, digits and '-'", shown(name)))
    }
}

/// The value of a header. What is wrong with it is told without repeating it: it may be a secret.
pub(super) fn header_value(value: &str) -> Read<&str> {
    if value.len() > MAX_HEADER {
        return Err(format!("a header value must have at most {MAX_HEADER} bytes"));
    }
    if value.contains(['\r', '\n']) {
        return Err("a header value must not have a line break in it".to_owned());
    }
    if value.bytes().any(|byte| byte != b'\t' && !(b' '..=b'~').contains(&byte)) {
        return Err("a header value may have only visible ASCII characters, blanks and tabs".to_owned());
    }
    Ok(value)
}

/// A JSON pointer: empty for the whole document, or parts that each begin with `/`, where `~0` is `~` and `~1` is `/`.
pub(super) fn pointer(value: &DeValue<'_>) -> Read<String> {
    let pointer = text(value)?;
    let mut escapes = pointer.split('~').skip(1);
    let good = (pointer.is_empty() || pointer.starts_with('/')) && escapes.all(|after| after.starts_with(['0', '1']));
    if good {
        Ok(pointer.to_owned())
    } else {
        Err(format!("{} is not a JSON pointer such as \"/error/code\"", shown(pointer)))
    }
}

/// That `value` is not of the wanted type.
pub(super) fn unlike(wanted: &str, value: &DeValue<'_>) -> String {
    let article = if value.is_integer() || value.is_array() { "an" } else { "a" };
    format!("expected {wanted}, found {article} {}", value.type_str())
}

/// A text as a mistake repeats it: quoted, cut where it is long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A number too large for 64 bits is out of every range we have, and is answered as the largest.
fn integer(value: &DeValue<'_>) -> Read<i64> {
    let digits = value.as_integer().ok_or_else(|| unlike("a whole number", value))?;
    Ok(i64::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i64::MAX))
}
