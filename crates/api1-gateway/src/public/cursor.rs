//! Where a list goes on: opaque to callers, bound to the query it came from.
//!
//! A cursor is a `seq` and a hash over it and the filter. The hash is no secret; it finds a cursor that was cut, edited or
//! used with another filter, which would otherwise skip or repeat jobs without anybody noticing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jobs_core::store::Filter;
use sha2::{Digest, Sha256};

use crate::problem::{Code, Problem};

const SEQ: usize = 8;
/// Enough that no typing error passes.
const TAG: usize = 8;

/// `below`: as [`jobs_core::store::Page::next`].
pub(crate) fn encode(filter: &Filter, below: u64) -> String {
    let mut raw = [0; SEQ + TAG];
    raw[..SEQ].copy_from_slice(&below.to_be_bytes());
    raw[SEQ..].copy_from_slice(&tag(filter, below));
    URL_SAFE_NO_PAD.encode(raw)
}

/// The `below` that was encoded for the same filter.
pub(super) fn decode(filter: &Filter, cursor: &str) -> Result<u64, Problem> {
    let refuse =
        || Problem::with(Code::BadCursor, "cursor", "use it as it was given, with the same filter, or start anew");
    let raw: [u8; SEQ + TAG] =
        URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|raw| raw.try_into().ok()).ok_or_else(refuse)?;
    let (seq, given) = raw.split_at(SEQ);
    let below = u64::from_be_bytes(seq.try_into().expect("split at the size of a u64"));
    if given == tag(filter, below) { Ok(below) } else { Err(refuse()) }
}

fn tag(filter: &Filter, below: u64) -> [u8; TAG] {
    let mut hash = Sha256::new();
    hash.update(b"cursor 2");
    hash.update(below.to_be_bytes());
    hash.update(serde_json::to_string(filter).expect("a filter is texts, times and flags"));
    let whole: [u8; 32] = hash.finalize().into();
    whole[..TAG].try_into().expect("the hash is longer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs_core::job::StateName;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_fits_only_the_filter_it_came_from() {
        let dead = Filter { state: Some(StateName::Dead), ..Filter::default() };
        let text = Filter { text: Some("dead".to_owned()), ..Filter::default() };
        let cursor = encode(&dead, 42);
        assert_eq!(decode(&dead, &cursor).unwrap(), 42);
        for other in [&text, &Filter::default()] {
            assert_eq!(decode(other, &cursor).unwrap_err().code(), Code::BadCursor);
        }
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_back_and_any_change_of_it_is_noticed(below: u64, at in 0usize..22, letter in "[A-Za-z0-9_-]") {
            let cursor = encode(&Filter::default(), below);
            prop_assert_eq!(decode(&Filter::default(), &cursor).unwrap(), below);
            let mut edited = cursor.clone();
            edited.replace_range(at..=at, &letter);
            prop_assert_eq!(decode(&Filter::default(), &edited).is_ok(), edited == cursor);
        }

        #[test]
        fn no_text_makes_the_reader_panic(cursor in "\\PC{0,40}") {
            prop_assert!(decode(&Filter::default(), &cursor).is_err());
        }
    }
}
