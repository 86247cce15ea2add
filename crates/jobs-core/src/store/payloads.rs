//! How much one claim carries.

use crate::job::Request;

/// Most payload bytes that one claim leases. The first job always fits, so one beyond that is claimed alone; without a bound, a claim
/// of some hundred large jobs would be read, kept and sent as one piece, and everybody else would wait behind it.
pub const MAX_CLAIM_BYTES: usize = 8 * 1024 * 1024;

/// The payloads of one claim, counted while jobs are leased: see [`MAX_CLAIM_BYTES`].
#[derive(Debug, Default)]
pub struct Payloads {
    bytes: usize,
    is_full: bool,
}

impl Payloads {
    /// Whether a job with this request is leased too. If not, the claim is over.
    pub fn admit(&mut self, request: &Request) -> bool {
        let bytes = self.bytes + request.body.len();
        self.is_full |= self.bytes > 0 && bytes > MAX_CLAIM_BYTES;
        if !self.is_full {
            self.bytes = bytes;
        }
        !self.is_full
    }

    /// A job was not admitted.
    pub fn is_full(&self) -> bool {
        self.is_full
    }
}
