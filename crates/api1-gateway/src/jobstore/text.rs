//! Text as a JSON string, for payloads of megabytes.
//!
//! `serde_json` looks for what is to be escaped byte by byte, which takes longer than to read the payload from the disk.

/// Bytes that are looked at together.
const STRIDE: usize = 64;

/// Adds `text` with its quotes.
pub(super) fn write(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for stride in text.as_bytes().chunks(STRIDE) {
        // Looking at all of them, rather than up to the first, is what the compiler makes vector instructions of.
        if stride.iter().fold(false, |any, byte| any | is_escaped(*byte)) {
            escape(out, stride);
        } else {
            out.extend_from_slice(stride);
        }
    }
    out.push(b'"');
}

fn is_escaped(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

fn escape(out: &mut Vec<u8>, stride: &[u8]) {
    let mut written = 0;
    for (at, byte) in stride.iter().enumerate().filter(|(_, byte)| is_escaped(**byte)) {
        out.extend_from_slice(&stride[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            other => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(other >> 4), hex(other & 15)]);
            }
        }
    }
    out.extend_from_slice(&stride[written..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_read_back(text: &str) {
        let mut out = b"before".to_vec();
        write(&mut out, text);
        let json = std::str::from_utf8(&out).unwrap().strip_prefix("before").unwrap();
        assert!(!json.contains(|character: char| character < ' '), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(json).unwrap(), text);
    }

    #[test]
    fn every_character_is_read_back_wherever_it_stands() {
        let characters = ('\0'..='\u{ff}').chain(['\u{2028}', '\u{ffff}', '\u{10ffff}']);
        for character in characters {
            for before in [0, 1, STRIDE - 1, STRIDE, 2 * STRIDE - 2] {
                assert_read_back(&format!("{}{character}{}", "a".repeat(before), "\u{e4}".repeat(STRIDE)));
            }
        }
        assert_read_back("");
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in any::<String>(), filler in 0..3 * STRIDE) {
            assert_read_back(&(text.clone() + &"x".repeat(filler) + &text));
        }
    }
}
