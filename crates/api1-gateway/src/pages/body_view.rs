//! Bytes that are not ours, for people: JSON indented, other text as it is, anything else as hexadecimal; never all of a large one.

use super::words::bytes;

/// Shown of a text, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// Shown of what is no text, in bytes.
const MAX_BINARY: usize = 512;
const PER_LINE: usize = 16;
/// JSON nested deeper is not indented further.
const MAX_INDENT: usize = 40;

/// What is shown of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BodyView {
    /// What it is, and how large.
    pub(super) what: String,
    /// To be escaped by the template.
    pub(super) text: String,
    pub(super) is_text: bool,
    /// There is more of it than is shown.
    pub(super) cut: bool,
}

impl BodyView {
    pub(super) fn new(body: &[u8], content_type: Option<&str>) -> Self {
        let kind = content_type.unwrap_or("no content type");
        let what = format!("{kind}, {}", bytes(body.len() as u64));
        let shown = &body[..body.len().min(MAX_TEXT)];
        let text = match std::str::from_utf8(shown) {
            Ok(text) => Some(text),
            // Cut in the middle of a character.
            Err(error) if error.error_len().is_none() && shown.len() < body.len() => {
                std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        let Some(text) = text.filter(|text| !text.contains('\0')) else {
            let shown = &body[..body.len().min(MAX_BINARY)];
            return BodyView {
                what: format!("{what}, not text"),
                text: hex(shown),
                is_text: false,
                cut: shown.len() < body.len(),
            };
        };
        let cut = shown.len() < body.len();
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        let text = if is_json && !cut { indented(text) } else { text.to_owned() };
        BodyView { what, text, is_text: true, cut }
    }
}

/// Valid JSON with line breaks and two blanks a level, and not a character of its values changed.
fn indented(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let mut characters = json.chars().filter(|c| !matches!(c, '\n' | '\r' | '\t')).peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENT)));
    };
    while let Some(c) = characters.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            ' ' => {}
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                while characters.next_if(|next| *next == ' ').is_some() {}
                out.push(c);
                match characters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(close) => out.push(close),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => out.push(other),
        }
    }
    out
}

fn hex(body: &[u8]) -> String {
    let line = |(number, bytes): (usize, &[u8])| {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        format!("{:06x}  {:<47}  {text}", number * PER_LINE, hex.join(" "))
    };
    body.chunks(PER_LINE).enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_indented_without_changing_its_values() {
        let json = r#" {"a":[1,2.50,9007199254740993],"b":{},"c":[ ],"d":"x, {y}: \"z\" \\"} "#;
        let shown = BodyView::new(json.as_bytes(), Some("application/json"));
        let wanted = "{\n  \"a\": [\n    1,\n    2.50,\n    9007199254740993\n  ],\n  \"b\": {},\n  \"c\": [],\n  \"d\": \"x, {y}: \\\"z\\\" \\\\\"\n}";
        assert_eq!(shown.text, wanted);
        assert_eq!(shown.what, format!("application/json, {} bytes", json.len()));
    }

    #[test]
    fn what_is_no_text_is_shown_as_bytes_and_little_of_it() {
        let shown = BodyView::new(&[0xff; 2_000], None);
        assert!(shown.text.starts_with("000000  ff ff ") && shown.cut, "{shown:?}");
        assert_eq!(shown.text.lines().count(), MAX_BINARY / PER_LINE);
    }

    #[test]
    fn of_a_large_text_the_beginning_is_shown_up_to_a_whole_character() {
        let text = "ä".repeat(MAX_TEXT);
        let shown = BodyView::new(&text.as_bytes()[1..], Some("text/plain"));
        assert!(shown.cut, "begins in the middle of a character: no text at all");
        let shown = BodyView::new(format!("x{text}").as_bytes(), Some("text/plain"));
        assert!(shown.cut && shown.text.len() == MAX_TEXT - 1 && shown.text.ends_with('ä'));
    }

    proptest! {
        #[test]
        fn indented_json_is_the_same_value(text in r#"[a-z\\\\"{}\\[\\],: ]{0,20}"#, number: i64) {
            let json = serde_json::json!({"k": [text, number, {"n": null}], "e": {}}).to_string();
            let shown = indented(&json);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), serde_json::from_str::<serde_json::Value>(&json).unwrap());
        }
    }
}
