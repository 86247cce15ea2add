//! Destinations' URLs, parsed once. Nearly all jobs of a destination have the same, and to parse one takes a twelfth of what a whole
//! call costs this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use reqwest::Url;

/// URLs that are remembered; where every job has one of its own, they are forgotten together now and then.
const MOST: usize = 256;
/// Longer ones are not remembered, so that together they never take more than some hundred KiB.
const LONGEST: usize = 1024;

/// The URLs seen of late.
#[derive(Default)]
pub(crate) struct Urls(Mutex<HashMap<String, Url>>);

impl Urls {
    /// The URL that `text` is.
    ///
    /// # Errors
    /// In words, when it is none.
    pub(crate) fn parse(&self, text: &str) -> Result<Url, String> {
        // Nothing in it can be left half done.
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(url) = known().get(text) {
            return Ok(url.clone());
        }
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if text.len() <= LONGEST {
            let mut known = known();
            if known.len() == MOST {
                known.clear();
            }
            known.insert(text.to_owned(), url.clone());
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_the_same_at_each_call_and_what_is_none_is_refused_at_each() {
        let urls = Urls::default();
        for _ in 0..2 {
            assert_eq!(urls.parse("HTTP://Example.test:80/a?b").expect("a URL").as_str(), "http://example.test/a?b");
            assert!(urls.parse("example").is_err());
        }
    }

    #[test]
    fn never_more_than_so_many_are_remembered_and_no_long_ones() {
        let urls = Urls::default();
        for n in 0..2 * MOST {
            let text = format!("http://example.test/{n}");
            assert_eq!(urls.parse(&text).expect("a URL").as_str(), text);
            assert!(urls.0.lock().expect("not poisoned").len() <= MOST);
        }
        let before = urls.0.lock().expect("not poisoned").len();
        let long = format!("http://example.test/{}", "x".repeat(LONGEST));
        assert_eq!(urls.parse(&long).expect("a URL").as_str(), long);
        assert_eq!(urls.0.lock().expect("not poisoned").len(), before);
    }
}
