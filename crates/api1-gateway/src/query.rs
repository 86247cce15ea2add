//! Query parameters. An unknown one is refused: a misspelt filter would quietly answer everything. So is one given twice, of
//! which one would count for nothing.

use std::collections::HashSet;

use actix_web::HttpRequest;

use crate::problem::{Code, Problem};

/// The decoded parameters, in order, each once.
pub(crate) fn pairs(request: &HttpRequest) -> Result<Vec<(String, String)>, Problem> {
    read(request.query_string())
}

fn read(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let (mut pairs, mut names) = (Vec::new(), HashSet::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let not_text = |_| Problem::with(Code::BadQuery, name.to_owned(), "not UTF-8");
        let (decoded, value) = (decode(name).map_err(not_text)?, decode(value).map_err(not_text)?);
        if !names.insert(decoded.clone()) {
            return Err(Problem::with(Code::BadQuery, decoded, "given twice"));
        }
        pairs.push((decoded, value));
    }
    Ok(pairs)
}

/// As forms are encoded: a plus is a blank.
fn decode(text: &str) -> Result<String, std::string::FromUtf8Error> {
    String::from_utf8(percent_decoded(text.replace('+', " ").as_bytes()))
}

/// The bytes that `text` stands for; what is no percent-encoding is taken as it is.
pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, hex(text.get(at + 1)), hex(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// A page's length: from 1 to `most`.
pub(crate) fn limit(value: &str, most: u32) -> Result<u32, Problem> {
    let count = value.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| Problem::with(Code::BadQuery, "limit", format_args!("{value:?} is not from 1 to {most}")))
}

pub(crate) fn unknown(name: String) -> Problem {
    Problem::with(Code::BadQuery, name, "there is no such parameter here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_as_forms_encode_them() {
        let read = read("q=a+b%2B%C3%A4&&state=&x%3d&limit==5&%=%zz").unwrap();
        let pairs: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("q", "a b+ä"), ("state", ""), ("x=", ""), ("limit", "=5"), ("%", "%zz")]);
    }

    #[test]
    fn one_given_twice_or_not_in_utf8_is_refused_by_name() {
        for (query, said) in [
            ("q=a&q=a", "q: given twice"),
            ("q=a&%71=b", "q: given twice"),
            ("q=%ff", "q: not UTF-8"),
            ("q=%C3", "q: not UTF-8"),
            ("%ff=1", "%ff: not UTF-8"),
        ] {
            let problem = read(query).expect_err(query);
            assert_eq!(problem.to_string(), format!("bad_query: {said}"), "{query}");
        }
    }
}
