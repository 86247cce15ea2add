//! The answer to a claim, taken apart as it arrives.
//!
//! A gateway writes each lease on a line of its own, so that the first of many large ones are on their way while the last are still
//! being read from the disk: see [`ClaimResponse`]. JSON that does not begin so is read, too, when it has all arrived.

use jobs_core::protocol::{ClaimResponse, LEASES};
use memchr::memchr;

use super::MAX_ANSWER;

/// An answer that is arriving.
#[derive(Debug, Default)]
pub(super) struct Lines {
    stage: Stage,
    /// What has arrived of the present line; of the rest of the answer, where no more lines are expected.
    begun: Vec<u8>,
    /// What of it could not be read, first.
    error: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first line has not arrived yet.
    #[default]
    First,
    /// Each line is a lease.
    Leases,
    /// The closing bracket of the leases has arrived.
    Rest,
    /// It does not come in lines.
    Whole,
    /// Too much of it came at once.
    Spoiled,
}

impl Lines {
    /// What `chunk` completes. What cannot be read is told at the end, so that the rest is not lost with it.
    pub(super) fn take(&mut self, mut chunk: &[u8]) -> ClaimResponse {
        let mut part = ClaimResponse::default();
        while matches!(self.stage, Stage::First | Stage::Leases)
            && let Some(end) = memchr(b'\n', chunk)
        {
            if self.begun.is_empty() {
                self.line(&chunk[..=end], &mut part);
            } else {
                self.keep(&chunk[..=end]);
                let mut line = std::mem::take(&mut self.begun);
                self.line(&line, &mut part);
                if self.begun.is_empty() {
                    line.clear();
                    self.begun = line;
                }
            }
            chunk = &chunk[end + 1..];
        }
        self.keep(chunk);
        part
    }

    /// The answer has ended: what that completes.
    ///
    /// # Errors
    /// In words, when not all of it could be read.
    pub(super) fn end(self) -> Result<ClaimResponse, String> {
        match (self.error, self.stage) {
            (Some(error), _) => Err(error),
            (None, Stage::First | Stage::Whole) => parse(&self.begun),
            (None, Stage::Leases | Stage::Rest) => parse(&[b"{", LEASES, &self.begun].concat()),
            (None, Stage::Spoiled) => unreachable!("that is an error"),
        }
    }

    fn line(&mut self, line: &[u8], part: &mut ClaimResponse) {
        let text = line.trim_ascii();
        match self.stage {
            Stage::First if text.ends_with(LEASES) => {
                self.stage = Stage::Leases;
                self.read(&[text, b"]}"].concat(), |head| *part = head);
            }
            Stage::Leases if text.starts_with(b"]") => {
                self.stage = Stage::Rest;
                self.keep(line);
            }
            Stage::Leases => {
                let lease = text.strip_prefix(b",").or_else(|| text.strip_suffix(b",")).unwrap_or(text);
                if !lease.is_empty() {
                    self.read(lease, |lease| part.leases.push(lease));
                }
            }
            Stage::First => {
                self.stage = Stage::Whole;
                self.keep(line);
            }
            Stage::Rest | Stage::Whole | Stage::Spoiled => {}
        }
    }

    fn read<'a, T: serde::Deserialize<'a>>(&mut self, text: &'a [u8], take: impl FnOnce(T)) {
        match parse(text) {
            Ok(value) => take(value),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.begun.len() + bytes.len() > MAX_ANSWER {
            self.error.get_or_insert(format!("more than {MAX_ANSWER} bytes"));
            (self.stage, self.begun) = (Stage::Spoiled, Vec::new());
        }
        if self.stage != Stage::Spoiled {
            self.begun.extend_from_slice(bytes);
        }
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: &str = r#"{"job_id":"00000000-0000-0000-0000-000000000001","epoch":1,"lease_ms":5000,"destination":"a",
        "attempt":1,"request":{"method":"POST","url":"http://127.0.0.1","timeout_ms":1},"payload":"a\nb"}"#;

    /// As a gateway writes it: `head` stands before its leases.
    fn by_line(head: &str, leases: usize) -> String {
        let lease = LEASE.replace('\n', "") + "\n";
        format!("{{{head}\"leases\":[\n{}]}}", vec![lease; leases].join(","))
    }

    /// What has been read after each chunk of at most `size` bytes.
    fn read(answer: &str, size: usize) -> Result<Vec<ClaimResponse>, String> {
        let mut lines = Lines::default();
        let mut parts: Vec<ClaimResponse> = answer.as_bytes().chunks(size).map(|chunk| lines.take(chunk)).collect();
        parts.push(lines.end()?);
        Ok(parts)
    }

    fn joined(parts: &[ClaimResponse]) -> ClaimResponse {
        ClaimResponse {
            leases: parts.iter().flat_map(|part| part.leases.clone()).collect(),
            probes: parts.iter().flat_map(|part| part.probes.clone()).collect(),
            release: parts.iter().flat_map(|part| part.release.clone()).collect(),
        }
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut_and_however_it_is_written() {
        for leases in [0, 1, 3] {
            let lines = by_line(r#""release":["held","down"],"#, leases);
            let whole: ClaimResponse = serde_json::from_str(&lines).expect("JSON");
            assert_eq!((whole.leases.len(), whole.release.len()), (leases, 2));
            let commas_after = lines.replace("\n,", ",\r\n\n");
            let (further, ended) = (lines.replace("]}", "],\n\"further\":\n[1]\n}"), format!("{lines}\n"));
            let (compact, pretty) =
                (serde_json::to_string(&whole).unwrap(), serde_json::to_string_pretty(&whole).unwrap());
            for answer in [lines, commas_after, further, ended, compact, pretty] {
                for size in [1, 7, 300, answer.len()] {
                    assert_eq!(joined(&read(&answer, size).unwrap()), whole, "{answer} in pieces of {size}");
                }
            }
        }
    }

    #[test]
    fn a_lease_can_be_begun_as_soon_as_its_line_has_arrived() {
        let answer = by_line(r#""release":["held"],"#, 2);
        let second = answer.rfind("{\"job_id").unwrap();
        let mut lines = Lines::default();
        let part = lines.take(&answer.as_bytes()[..second]);
        assert_eq!((part.leases.len(), part.release.len()), (1, 1));
        let part = lines.take(&answer.as_bytes()[second..]);
        assert_eq!((part.leases.len(), part.release.len()), (1, 0));
    }

    #[test]
    fn what_ends_early_or_is_something_else_is_an_error() {
        let answer = by_line("", 2);
        for cut in 0..answer.len() {
            assert!(read(&answer[..cut], 64).is_err(), "{}", &answer[..cut]);
        }
        assert!(read("<html>\n</html>", 64).is_err());
    }

    #[test]
    fn a_lease_that_cannot_be_read_takes_no_other_with_it() {
        let answer = by_line("", 3).replacen(",{\"job_id\"", ",{\"job\"", 1);
        let mut lines = Lines::default();
        assert_eq!(lines.take(answer.as_bytes()).leases.len(), 2);
        assert!(lines.end().unwrap_err().contains("job_id"));
    }

    #[test]
    fn what_never_ends_a_line_is_not_kept_for_ever() {
        let (mut lines, chunk) = (Lines::default(), vec![b'x'; MAX_ANSWER / 4]);
        for _ in 0..5 {
            lines.take(&chunk);
        }
        assert!(lines.begun.is_empty());
        lines.take(b"\n");
        assert!(lines.end().unwrap_err().contains("bytes"));
    }
}
