//! Why a call got no answer, in a few words for people: `cannot connect: connection refused`.
//!
//! The libraries' own texts are chains of wrappers ("error sending request", "client error (Connect)") around the one thing
//! that matters, and may contain the URL with its secrets; so only the root of the chain is shown.

use std::error::Error;
use std::io;

/// Longest text, in characters: it is kept for every attempt and shown in lists.
const MAX_LEN: usize = 300;

/// What went wrong with a request, as far as it tells where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The name has no address.
    Resolve,
    /// No connection came about.
    Connect,
    /// The other side and we do not agree on TLS: an expired or foreign certificate, or no TLS at all.
    Tls,
    /// The connection broke, or what came is not HTTP.
    Exchange,
}

/// The fault behind an error of the HTTP client.
pub(crate) fn fault(error: &reqwest::Error) -> Fault {
    if chain(error).filter_map(|cause| cause.downcast_ref()).any(is_invalid_data) {
        Fault::Tls
    } else if error.is_dns() {
        Fault::Resolve
    } else if error.is_connect() {
        Fault::Connect
    } else {
        Fault::Exchange
    }
}

/// The TLS library reports everything it refuses, and nothing else does, as invalid data; which may be wrapped once more.
fn is_invalid_data(error: &io::Error) -> bool {
    let within = || error.get_ref()?.downcast_ref::<io::Error>();
    error.kind() == io::ErrorKind::InvalidData || within().is_some_and(is_invalid_data)
}

/// The error in words: what could not be done, and the root of the chain of causes.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let what = match fault(error) {
        Fault::Resolve => "cannot resolve the name",
        Fault::Connect => "cannot connect",
        Fault::Tls => "TLS refused",
        Fault::Exchange => "no answer",
    };
    let root = chain(error).last().map_or_else(|| error.to_string(), in_words);
    format!("{what}: {root}").chars().take(MAX_LEN).collect()
}

/// What lies beneath the client's own error.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// "connection refused" for "Connection refused (os error 111)".
fn in_words(cause: &(dyn Error + 'static)) -> String {
    let text = cause.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}
