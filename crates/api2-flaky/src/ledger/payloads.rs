//! The bodies last received, so that a drill can compare them byte for byte. Only the latest are kept, within three limits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use actix_web::web::Bytes;

/// How many keys have their latest body kept.
const MAX_PAYLOADS: usize = 10_000;
/// The longest body kept: what the gateway accepts by default.
const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;
/// All kept bodies together.
const MAX_PAYLOADS_BYTES: usize = 64 * 1024 * 1024;

/// A body as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// The latest bodies by key. The key that was first seen longest ago goes first.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    kept: HashMap<Arc<str>, Payload>,
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Payloads {
    /// Keeps `payload` as the latest of `key`; one too long is not kept, and the one before is forgotten.
    pub(super) fn keep(&mut self, key: &str, payload: Payload) {
        if payload.body.len() > MAX_PAYLOAD_BYTES {
            self.forget(key);
            return;
        }
        // A copy of its own size: the buffer it was received into is usually much larger.
        let payload = Payload { body: Bytes::copy_from_slice(&payload.body), ..payload };
        self.bytes += payload.body.len();
        match self.kept.get_mut(key) {
            Some(kept) => self.bytes -= std::mem::replace(kept, payload).body.len(),
            None => {
                let key: Arc<str> = key.into();
                self.order.push_back(key.clone());
                self.kept.insert(key, payload);
            }
        }
        while self.kept.len() > MAX_PAYLOADS || self.bytes > MAX_PAYLOADS_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.kept.remove(&oldest).map_or(0, |payload| payload.body.len());
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Payload> {
        self.kept.get(key).cloned()
    }

    fn forget(&mut self, key: &str) {
        if let Some(payload) = self.kept.remove(key) {
            self.bytes -= payload.body.len();
            self.order.retain(|kept| &**kept != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: usize) -> Payload {
        Payload { content_type: None, body: Bytes::from(vec![b'x'; bytes]) }
    }

    #[test]
    fn the_latest_body_of_a_key_is_kept_and_a_longer_one_than_allowed_is_not() {
        let mut payloads = Payloads::default();
        payloads.keep("a", payload(1));
        payloads.keep("a", payload(2));
        assert_eq!(payloads.get("a"), Some(payload(2)));
        payloads.keep("a", payload(MAX_PAYLOAD_BYTES + 1));
        assert_eq!((payloads.get("a"), payloads.bytes, payloads.order.len()), (None, 0, 0));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_much() {
        let mut payloads = Payloads::default();
        for number in 0..=MAX_PAYLOADS {
            payloads.keep(&number.to_string(), payload(1));
        }
        assert_eq!((payloads.kept.len(), payloads.bytes), (MAX_PAYLOADS, MAX_PAYLOADS));
        assert!(payloads.get("0").is_none() && payloads.get("1").is_some());
        for number in 0..100 {
            payloads.keep(&format!("big {number}"), payload(MAX_PAYLOAD_BYTES));
        }
        assert_eq!((payloads.kept.len(), payloads.bytes), (64, MAX_PAYLOADS_BYTES));
    }
}
