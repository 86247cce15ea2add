//! One item of `POST /api1/jobs`: a job's payload and options as the fields of a JSON object.
//!
//! The fields are read one by one, so that a mistake names its field, and the payload is kept as the text it is.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jobs_core::job::{DestinationName, Priority, Request};
use jobs_core::time::Timestamp;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::body;
use crate::headers;
use crate::options::{self, Options, Start};
use crate::problem::{Code, Problem};

/// What a payload given as JSON is sent as, where nothing else is said.
const JSON: &str = "application/json";

/// An item as it is written, for the API's description; [`Envelope::read`] reads it.
#[derive(ToSchema)]
#[schema(as = Envelope, example = json!({"destination": "api2", "payload": {"name": "hello"}, "priority": 5}))]
#[expect(dead_code, reason = "only described")]
pub(super) struct Written {
    /// The default destination unless given.
    destination: Option<DestinationName>,
    /// Any JSON, kept as it is written.
    #[schema(value_type = Option<Value>)]
    payload: Option<()>,
    /// Or any bytes.
    payload_base64: Option<String>,
    content_type: Option<String>,
    #[schema(min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
    /// Not before then; or `run_at`.
    delay_ms: Option<u64>,
    run_at: Option<Timestamp>,
    expires_after_ms: Option<u64>,
    priority: Option<Priority>,
    #[schema(min_length = 1, max_length = 255)]
    ordering_key: Option<String>,
    #[schema(minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
    headers: Option<BTreeMap<String, String>>,
    /// The destination that is told of the job's end.
    callback: Option<DestinationName>,
}

/// What one call takes.
#[derive(ToSchema)]
#[schema(as = Envelopes)]
#[serde(untagged)]
#[expect(dead_code, reason = "only described")]
pub(super) enum Envelopes {
    One(Written),
    Many(Vec<Written>),
}

/// The fields there are; the README explains each.
const FIELDS: [&str; 13] = [
    "destination",
    "payload",
    "payload_base64",
    "content_type",
    "idempotency_key",
    "delay_ms",
    "run_at",
    "expires_after_ms",
    "priority",
    "ordering_key",
    "max_attempts",
    "headers",
    "callback",
];

/// Most members kept of a JSON object: one more than an envelope or its headers may have, so that a flood is known as one.
const MAX_MEMBERS: usize = headers::MAX_COUNT + 1;
const _: () = assert!(FIELDS.len() < MAX_MEMBERS);

/// An item, checked as far as that is possible without knowing its destination.
#[derive(Debug)]
pub(super) struct Envelope {
    /// `None`: the default destination.
    pub(super) destination: Option<String>,
    pub(super) content: Request,
    pub(super) options: Options,
}

impl Envelope {
    /// Reads one JSON object. `max_payload`: in bytes.
    pub(super) fn read(text: &str, max_payload: usize, now: Timestamp) -> Result<Self, Problem> {
        let Pairs::<&RawValue>(fields) = serde_json::from_str(text).map_err(|error| body::problem_of(&error))?;
        let mut options = Options::default();
        let mut content = Request::default();
        let mut destination = None;
        let (mut payload, mut payload_base64) = (None, None);
        for (index, (name, raw)) in fields.iter().enumerate() {
            if !FIELDS.contains(&name.as_str()) {
                return Err(no_such_field(name));
            }
            // All before this one are fields there are, each once: a few.
            if fields[..index].iter().any(|(earlier, _)| earlier == name) {
                return Err(wrong(name, "given twice"));
            }
            match name.as_str() {
                "payload" => payload = Some(raw.get()),
                // A null says no more than leaving the field out.
                _ if raw.get() == "null" => {}
                "destination" => destination = Some(value::<String>(name, raw)?),
                "payload_base64" => payload_base64 = Some(value::<String>(name, raw)?),
                "content_type" => content.content_type = Some(content_type(name, value(name, raw)?)?),
                "headers" => content.headers = headers::enveloped(header_pairs(name, raw)?)?,
                _ => set_option(&mut options, name, raw, now)?,
            }
        }
        content.body = match (payload, payload_base64) {
            (Some(json), None) => Bytes::copy_from_slice(json.as_bytes()),
            (None, Some(encoded)) => decode(&encoded)?,
            (Some(_), Some(_)) => return Err(wrong("payload_base64", "give payload or payload_base64, not both")),
            (None, None) => return Err(wrong("payload", "missing; give payload or payload_base64")),
        };
        if content.content_type.is_none() && payload.is_some() {
            content.content_type = Some(JSON.to_owned());
        }
        check_payload(&content, payload.is_some(), max_payload)?;
        Ok(Envelope { destination, content, options })
    }
}

fn set_option(options: &mut Options, name: &str, raw: &RawValue, now: Timestamp) -> Result<(), Problem> {
    match name {
        "idempotency_key" => {
            options.idempotency_key = Some(options::idempotency_key(name, &value::<String>(name, raw)?)?)
        }
        "ordering_key" => options.ordering_key = Some(options::ordering_key(name, &value::<String>(name, raw)?)?),
        "callback" => options.callback = Some(options::callback(name, &value::<String>(name, raw)?)?),
        "priority" => options.priority = Some(options::priority(name, value(name, raw)?)?),
        "max_attempts" => options.max_attempts = Some(options::max_attempts(name, value(name, raw)?)?),
        "expires_after_ms" => options.expires_after = Some(options::expiry(name, millis(name, raw)?)?),
        "delay_ms" | "run_at" if options.start != Start::Now => {
            return Err(Problem::with(Code::BadOption, name.to_owned(), "give one of delay_ms and run_at"));
        }
        "delay_ms" => options.start = Start::After(options::within_a_year(name, millis(name, raw)?)?),
        "run_at" => options.start = options::at(name, value(name, raw)?, now)?,
        _ => return Err(no_such_field(name)),
    }
    Ok(())
}

fn no_such_field(name: &str) -> Problem {
    Problem::with(Code::BadOption, name.to_owned(), "there is no such field")
}

fn wrong(name: &str, detail: impl fmt::Display) -> Problem {
    Problem::with(Code::BadMessage, name.to_owned(), detail)
}

fn value<T: DeserializeOwned>(name: &str, raw: &RawValue) -> Result<T, Problem> {
    serde_json::from_str(raw.get()).map_err(|error| Problem::with(Code::BadOption, name.to_owned(), reason(&error)))
}

/// Without the position, which would be one within the field.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

fn millis(name: &str, raw: &RawValue) -> Result<Duration, Problem> {
    value(name, raw).map(Duration::from_millis)
}

fn content_type(name: &str, value: String) -> Result<String, Problem> {
    headers::check_value(&value).map_err(|detail| Problem::with(Code::BadHeader, name.to_owned(), detail))?;
    Ok(value)
}

fn header_pairs(name: &str, raw: &RawValue) -> Result<Vec<(String, String)>, Problem> {
    let Pairs(pairs) = serde_json::from_str(raw.get()).map_err(|error| wrong(name, reason(&error)))?;
    Ok(pairs)
}

fn decode(encoded: &str) -> Result<Bytes, Problem> {
    let decoded = STANDARD.decode(encoded);
    let decoded = decoded.map_err(|error| wrong("payload_base64", format_args!("not base64: {error}")))?;
    if decoded.is_empty() {
        let detail = "send a payload; /forward also keeps requests without one";
        return Err(Problem::with(Code::EmptyBody, "payload_base64", detail));
    }
    Ok(Bytes::from(decoded))
}

/// `known_json`: the payload was given as JSON, so it is.
fn check_payload(content: &Request, known_json: bool, max_payload: usize) -> Result<(), Problem> {
    if content.body.len() > max_payload {
        return Err(body::too_large(max_payload));
    }
    match &content.content_type {
        Some(kind) if !known_json && body::is_json(kind) => body::check_json(&content.body),
        Some(_) | None => Ok(()),
    }
}

/// A JSON object's members, in order; [`MAX_MEMBERS`] of them at most.
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData))
    }
}

struct Members<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
    type Value = Pairs<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while pairs.len() < MAX_MEMBERS {
            match map.next_entry()? {
                Some(pair) => pairs.push(pair),
                None => return Ok(Pairs(pairs)),
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Pairs(pairs))
    }
}

#[cfg(test)]
mod tests;
