//! The answer to a claim, taken apart as it arrives.
//!
//! A gateway writes each lease on a line of its own, so that the first of many large ones are on their way while the last are still
//! being read from the disk. It is JSON all the same, and any other spelling of that JSON is read too, when it has all arrived.

use jobs_core::protocol::{ClaimResponse, LEASES};
use memchr::memchr;

use super::MAX_ANSWER;

/// An answer that is arriving.
#[derive(Debug, Default)]
pub(super) struct Lines {
    shape: Shape,
    /// What has arrived of the present line; of the whole answer, where it does not come in lines.
    begun: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The first line has not arrived yet.
    #[default]
    Unknown,
    /// Before its leases there is one line, and after them one.
    ByLine,
    Other,
}

impl Lines {
    /// What `chunk` completes.
    ///
    /// # Errors
    /// In words, when it cannot be read.
    pub(super) fn take(&mut self, mut chunk: &[u8]) -> Result<ClaimResponse, String> {
        let mut part = ClaimResponse::default();
        while self.shape != Shape::Other
            && let Some(end) = memchr(b'\n', chunk)
        {
            if self.begun.is_empty() {
                self.line(&chunk[..end], &mut part)?;
            } else {
                self.keep(&chunk[..end])?;
                let line = std::mem::take(&mut self.begun);
                self.line(&line, &mut part)?;
            }
            chunk = &chunk[end + 1..];
        }
        self.keep(chunk)?;
        Ok(part)
    }

    /// The answer has ended: what that completes.
    ///
    /// # Errors
    /// In words, when it cannot be read.
    pub(super) fn end(self) -> Result<ClaimResponse, String> {
        match self.shape {
            Shape::Unknown | Shape::Other => parse(&self.begun),
            Shape::ByLine if self.begun == b"]}" => Ok(ClaimResponse::default()),
            Shape::ByLine => Err("it ends in the middle".to_owned()),
        }
    }

    fn line(&mut self, line: &[u8], part: &mut ClaimResponse) -> Result<(), String> {
        match self.shape {
            Shape::Unknown if line.ends_with(LEASES) => {
                self.shape = Shape::ByLine;
                *part = parse(&[line, b"]}"].concat())?;
            }
            Shape::Unknown => {
                self.shape = Shape::Other;
                self.keep(line)?;
            }
            Shape::ByLine => part.leases.push(parse(line.strip_prefix(b",").unwrap_or(line))?),
            Shape::Other => unreachable!("it is not read line by line"),
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.begun.len() + bytes.len() > MAX_ANSWER {
            return Err(format!("more than {MAX_ANSWER} bytes"));
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
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
        let mut parts: Vec<ClaimResponse> =
            answer.as_bytes().chunks(size).map(|chunk| lines.take(chunk)).collect::<Result<_, _>>()?;
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
            let answer = by_line(r#""release":["held","down"],"#, leases);
            let whole: ClaimResponse = serde_json::from_str(&answer).expect("JSON");
            assert_eq!((whole.leases.len(), whole.release.len()), (leases, 2));
            for answer in
                [answer, serde_json::to_string(&whole).unwrap(), serde_json::to_string_pretty(&whole).unwrap()]
            {
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
        let part = lines.take(&answer.as_bytes()[..second]).unwrap();
        assert_eq!((part.leases.len(), part.release.len()), (1, 1));
        let part = lines.take(&answer.as_bytes()[second..]).unwrap();
        assert_eq!((part.leases.len(), part.release.len()), (1, 0));
    }

    #[test]
    fn what_ends_early_or_is_no_lease_is_an_error() {
        let answer = by_line("", 2);
        for cut in 0..answer.len() {
            assert!(read(&answer[..cut], 64).is_err(), "{}", &answer[..cut]);
        }
        assert!(read(&answer.replace("\"epoch\"", "\"epok\""), 64).unwrap_err().contains("epoch"));
        assert!(read("<html>\n</html>", 64).is_err());
    }
}
