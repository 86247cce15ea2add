//! Which trace a job belongs to, and the span that each of its attempts is (W3C Trace Context, `traceparent`).
//!
//! The caller's trace is passed on; a job whose caller sent none is a trace of its own, named by the job's id. Span ids are not
//! stored: they follow from the job and the attempt's epoch, so that whoever knows an attempt knows its span.

use crate::job::{Epoch, JobId};

/// Not recorded by whoever began the trace, as far as is known.
const NOT_SAMPLED: &str = "00";

/// Whether a text is a `traceparent`: `version-trace-parent-flags` in lower-case hexadecimal, neither id zero.
pub fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths_fit = parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]);
    let is_hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    lengths_fit && parts.iter().all(is_hex) && parts[0] != "ff" && !is_zero(parts[1]) && !is_zero(parts[2])
}

/// The id of a job's trace: 32 hexadecimal digits.
pub fn trace_id(traceparent: Option<&str>, job: JobId) -> String {
    match traceparent.filter(|text| is_traceparent(text)) {
        Some(text) => text[3..35].to_owned(),
        None => job.0.simple().to_string(),
    }
}

/// The id of the span that an attempt is: 16 hexadecimal digits, another one for each epoch.
pub fn span_id(job: JobId, epoch: Epoch) -> String {
    let (high, low) = job.0.as_u64_pair();
    let mut mixed = high ^ low.rotate_left(32) ^ epoch.as_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}", (mixed ^ (mixed >> 31)).max(1))
}

/// The caller's span, of which each attempt is a child: 16 hexadecimal digits. `None` where the trace is the job's own.
pub fn parent_id(traceparent: Option<&str>) -> Option<&str> {
    traceparent.filter(|text| is_traceparent(text)).map(|text| &text[36..52])
}

/// What an attempt sends: its job's trace, with a span of its own.
pub fn of_attempt(traceparent: Option<&str>, job: JobId, epoch: Epoch) -> String {
    let given = traceparent.filter(|text| is_traceparent(text));
    let flags = given.map_or(NOT_SAMPLED, |text| &text[53..]);
    format!("00-{}-{}-{flags}", trace_id(given, job), span_id(job, epoch))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const JOB: JobId = JobId(Uuid::from_u128(0x0199_d1b2_7c3e_7a10_8f00_4f6b_1e2d_3c4b));

    #[test]
    fn only_what_the_standard_allows_is_a_traceparent() {
        assert!(is_traceparent(GIVEN));
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-ä0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_attempt_is_a_span_of_the_callers_trace() {
        let (first, second) = (Epoch::new(1, 1), Epoch::new(1, 2));
        let sent = of_attempt(Some(GIVEN), JOB, first);
        assert!(is_traceparent(&sent) && sent.ends_with("-01"), "{sent}");
        assert_eq!(sent[3..35], GIVEN[3..35]);
        assert_ne!(sent[36..52], GIVEN[36..52]);
        assert_eq!(sent[36..52], span_id(JOB, first));
        assert_ne!(span_id(JOB, first), span_id(JOB, second));
        assert_eq!(parent_id(Some(GIVEN)), Some("b7ad6b7169203331"));
    }

    #[test]
    fn a_job_without_a_trace_is_one_of_its_own() {
        for none in [None, Some("nonsense")] {
            let sent = of_attempt(none, JOB, Epoch::new(1, 1));
            assert!(is_traceparent(&sent) && sent.ends_with("-00"), "{sent}");
            assert_eq!(sent[3..35], JOB.0.simple().to_string());
            assert_eq!(parent_id(none), None);
        }
    }

    #[test]
    fn no_two_attempts_of_many_share_a_span() {
        let jobs = (0..100).map(|n| JobId(Uuid::from_u128(JOB.0.as_u128() + n)));
        let spans: BTreeSet<String> =
            jobs.flat_map(|job| (0..100).map(move |counter| span_id(job, Epoch::new(1, counter)))).collect();
        assert_eq!(spans.len(), 10_000);
    }
}
