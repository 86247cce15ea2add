//! Who may do what: clients create, read and cancel; operators may do that and the rest; workers use the job store.
//!
//! A role without configured keys is open to everybody, so that a first trial needs none. Only hashes of the keys are kept,
//! and all of them are compared, in constant time, so that an answer's delay tells nothing about a key.

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use jobs_core::process::secret::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::{Code, Problem};

/// The principal of requests without a key of ours.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// The configured keys by role.
#[derive(Debug, Default)]
pub struct Keys {
    clients: Vec<Known>,
    workers: Vec<Known>,
    operators: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    digest: [u8; 32],
    /// Names the key's owner without giving the key away.
    principal: String,
}

impl Known {
    fn new(secret: &Secret) -> Self {
        let digest = digest(secret.expose());
        let hex = digest[..16].iter().map(|byte| format!("{byte:02x}"));
        Known { digest, principal: format!("key-{}", hex.collect::<String>()) }
    }
}

impl Keys {
    pub fn new(clients: &[Secret], workers: &[Secret], operators: &[Secret]) -> Self {
        let known = |secrets: &[Secret]| secrets.iter().map(Known::new).collect();
        Keys { clients: known(clients), workers: known(workers), operators: known(operators) }
    }

    /// Roles without keys while others have some: rarely what was meant.
    pub fn left_open(&self) -> Vec<&'static str> {
        let roles = [("client", &self.clients), ("worker", &self.workers), ("operator", &self.operators)];
        let open: Vec<_> = roles.iter().filter(|(_, known)| known.is_empty()).map(|(role, _)| *role).collect();
        if open.len() == roles.len() { Vec::new() } else { open }
    }

    /// The principal that may create, read and cancel with the key `presented`.
    pub(crate) fn client(&self, presented: Option<&str>) -> Result<&str, Problem> {
        self.admit(&[&self.clients, &self.operators], self.clients.is_empty(), presented)
    }

    pub(crate) fn operator(&self, presented: Option<&str>) -> Result<&str, Problem> {
        self.admit(&[&self.operators], self.operators.is_empty(), presented)
    }

    pub(crate) fn worker(&self, presented: Option<&str>) -> Result<&str, Problem> {
        self.admit(&[&self.workers], self.workers.is_empty(), presented)
    }

    fn admit<'a>(&'a self, admitted: &[&'a [Known]], open: bool, presented: Option<&str>) -> Result<&'a str, Problem> {
        let Some(presented) = presented.map(digest) else {
            let missing = || Problem::new(Code::Unauthenticated, "send a key of this gateway");
            return if open { Ok(ANONYMOUS) } else { Err(missing()) };
        };
        if let Some(known) = find(admitted, &presented) {
            return Ok(&known.principal);
        }
        let ours = find(&[&self.clients, &self.workers, &self.operators], &presented);
        match ours {
            _ if open => Ok(ANONYMOUS),
            Some(_) => Err(Problem::new(Code::Forbidden, "this key belongs to another role")),
            None => Err(Problem::new(Code::Unauthenticated, "this key is not known here")),
        }
    }
}

/// Looks at every key, whichever fits.
fn find<'a>(keys: &[&'a [Known]], presented: &[u8; 32]) -> Option<&'a Known> {
    let mut found = None;
    for known in keys.iter().flat_map(|keys| keys.iter()) {
        if bool::from(known.digest.ct_eq(presented)) {
            found = Some(known);
        }
    }
    found
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The key of an `Authorization: Bearer …`.
pub(crate) fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(clients: &[&str], workers: &[&str], operators: &[&str]) -> Keys {
        let secrets = |texts: &[&str]| texts.iter().map(|text| Secret::new((*text).to_owned())).collect::<Vec<_>>();
        Keys::new(&secrets(clients), &secrets(workers), &secrets(operators))
    }

    fn code(answer: Result<&str, Problem>) -> Option<Code> {
        answer.err().map(|problem| problem.code())
    }

    #[test]
    fn a_role_without_keys_is_open_to_everybody() {
        let keys = keys(&[], &["w"], &[]);
        assert_eq!(keys.client(None).unwrap(), ANONYMOUS);
        assert_eq!(keys.client(Some("anything")).unwrap(), ANONYMOUS);
        assert!(keys.operator(None).is_ok());
        assert_eq!(code(keys.worker(None)), Some(Code::Unauthenticated));
        assert_eq!(keys.left_open(), ["client", "operator"]);
        assert!(Keys::default().left_open().is_empty());
    }

    #[test]
    fn an_operator_may_do_what_a_client_may_and_not_the_other_way_round() {
        let keys = keys(&["c"], &["w"], &["o"]);
        assert!(keys.client(Some("c")).is_ok() && keys.client(Some("o")).is_ok());
        assert!(keys.operator(Some("o")).is_ok());
        assert_eq!(code(keys.operator(Some("c"))), Some(Code::Forbidden));
        assert_eq!(code(keys.client(Some("w"))), Some(Code::Forbidden));
        assert_eq!(code(keys.worker(Some("o"))), Some(Code::Forbidden));
        assert_eq!(code(keys.client(Some("C"))), Some(Code::Unauthenticated));
        assert_eq!(code(keys.client(Some(""))), Some(Code::Unauthenticated));
    }

    #[test]
    fn each_client_key_has_a_principal_of_its_own_that_does_not_show_the_key() {
        let keys = keys(&["first-key", "second-key"], &[], &[]);
        let first = keys.client(Some("first-key")).unwrap();
        assert_ne!(first, keys.client(Some("second-key")).unwrap());
        assert_eq!(first, keys.client(Some("first-key")).unwrap());
        assert!(!first.contains("first"));
    }
}
