//! `POST /api1/jobs`: many jobs in one call and one durable commit.
//!
//! One envelope, a JSON array of them, or one a line (NDJSON). An item that is wrong is refused alone; the others are stored.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::job::{DestinationName, JobId, NewJob, StateName};
use jobs_core::time::Timestamp;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::envelope::{Envelope, Envelopes};
use super::process::{check_callback, new_job, outcome};
use crate::app::{App, Catalog};
use crate::auth::bearer;
use crate::body::{self, Bounds};
use crate::options::Options;
use crate::problem::{Code, Problem, ProblemView};

/// Most items in one call: one commit stays short.
pub(crate) const MAX_ITEMS: usize = 1_000;
/// Most bytes of one call.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;

/// An item's place in the answer, with the job where it was accepted.
type Read = Result<NewJob, Problem>;

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = BatchItem)]
enum Item {
    Stored {
        id: JobId,
        state: StateName,
        destination: DestinationName,
        /// The key came before: this is the job it made then.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replayed: bool,
    },
    Refused {
        #[schema(value_type = ProblemView)]
        error: Problem,
    },
}

#[derive(Serialize, ToSchema)]
#[schema(as = BatchResults)]
struct Results<'a> {
    /// One for each item, in order.
    results: &'a [Item],
}

/// Stores up to 1,000 jobs in one commit
///
/// One envelope, an array of them, or one a line (`application/x-ndjson`).
#[utoipa::path(post, path = "/api1/jobs", tag = "Sending",
    request_body(content = Envelopes, description = "One envelope, or an array of them"),
    responses(
        (status = 202, body = Results, description = "All are stored"),
        (status = 207, body = Results, description = "Some are stored"),
        (status = 415), (status = 429),
    ))]
pub(crate) async fn jobs(
    app: web::Data<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let scope = app.keys.client(bearer(&request))?;
    app.check_space()?;
    let now = app.clock.now().wall;
    let of_all = Options::of_a_batch(request.headers(), now)?;
    body::refuse_encoded(&request)?;
    let format = Format::of(body::content_type(&request)?)?;
    let bounds = Bounds { max_bytes: MAX_BYTES, ..app.limits.payload };
    let body = body::read(&request, payload, bounds).await?;
    let catalog = app.catalog();
    let reader = Reader { app: &app, catalog: &catalog, scope, of_all, now };
    let read = reader.all(format, &body)?;
    drop(body);
    app.check_rate(scope, read.iter().filter(|item| item.is_ok()).count())?;
    let results = store(&app, read).await?;
    Ok(answer(&results))
}

enum Format {
    Json,
    Lines,
}

impl Format {
    fn of(content_type: Option<&str>) -> Result<Self, Problem> {
        let Some(content_type) = content_type else { return Ok(Format::Json) };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/x-ndjson" | "application/ndjson" => Ok(Format::Lines),
            _ if body::is_json(content_type) => Ok(Format::Json),
            _ => {
                let detail = format!("{essence:?}; send application/json or application/x-ndjson");
                Err(Problem::with(Code::UnsupportedMediaType, CONTENT_TYPE.as_str(), detail))
            }
        }
    }
}

/// What the items of one call have in common.
struct Reader<'a> {
    app: &'a App,
    catalog: &'a Catalog,
    scope: &'a str,
    of_all: Options,
    now: Timestamp,
}

impl Reader<'_> {
    /// Every item in order; a problem only where the items cannot be told apart, or are too many.
    fn all(&self, format: Format, body: &[u8]) -> Result<Vec<Read>, Problem> {
        let read = match format {
            Format::Lines => self.lines(body)?,
            Format::Json => self.json(body::json_text(body)?)?,
        };
        if read.is_empty() {
            return Err(Problem::new(Code::EmptyBody, "send at least one item"));
        }
        Ok(read)
    }

    fn lines(&self, body: &[u8]) -> Result<Vec<Read>, Problem> {
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace));
        let lines: Vec<&[u8]> = lines.take(MAX_ITEMS + 1).collect();
        check_count(lines.len())?;
        Ok(lines.into_iter().map(|line| self.item(body::json_text(line)?)).collect())
    }

    fn json(&self, text: &str) -> Result<Vec<Read>, Problem> {
        if !text.trim_start().starts_with('[') {
            return Ok(vec![self.item(text)]);
        }
        let Items(items) = serde_json::from_str(text).map_err(|error| body::problem_of(&error))?;
        check_count(items.len())?;
        Ok(items.into_iter().map(|item| self.item(item.get())).collect())
    }

    fn item(&self, text: &str) -> Read {
        let Envelope { destination, content, mut options } =
            Envelope::read(text, self.app.limits.payload.max_bytes, self.now)?;
        let listed = match &destination {
            Some(name) => self.catalog.find(name)?,
            None => self.catalog.find_default()?,
        };
        options.traceparent.clone_from(&self.of_all.traceparent);
        check_callback(self.app, &options, "callback")?;
        new_job(self.app, self.scope, listed, content, options, "expires_after_ms")
    }
}

fn check_count(count: usize) -> Result<(), Problem> {
    if count > MAX_ITEMS {
        return Err(Problem::new(Code::TooManyItems, format!("at most {MAX_ITEMS} items in one call")));
    }
    Ok(())
}

/// Stores the items that can be, in one commit, and says for each what became of it.
async fn store(app: &web::Data<App>, read: Vec<Read>) -> Result<Vec<Item>, Problem> {
    let mut jobs = Vec::with_capacity(read.len());
    let mut places: Vec<Result<DestinationName, Problem>> = Vec::with_capacity(read.len());
    for item in read {
        places.push(item.map(|job| {
            let destination = job.destination.clone();
            jobs.push(job);
            destination
        }));
    }
    let enqueued = if jobs.is_empty() { Vec::new() } else { app.enqueue(jobs).await? };
    let mut enqueued = enqueued.into_iter();
    let item = |place: Result<DestinationName, Problem>| match place {
        Ok(destination) => match outcome(enqueued.next(), "idempotency_key") {
            Ok((id, state, replayed)) => Item::Stored { id, state, destination, replayed },
            Err(error) => Item::Refused { error },
        },
        Err(error) => Item::Refused { error },
    };
    Ok(places.into_iter().map(item).collect())
}

fn answer(results: &[Item]) -> HttpResponse {
    let refused = results.iter().filter(|item| matches!(item, Item::Refused { .. })).count();
    match refused {
        0 => HttpResponse::Accepted().json(Results { results }),
        _ if refused == results.len() => {
            Problem::new(Code::BadBatch, "the reason for each item is in results").with_results(&results)
        }
        _ => HttpResponse::MultiStatus().json(Results { results }),
    }
}

/// The items of a JSON array, unread; one more than allowed at most, so that a flood of them takes no memory.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Items<'de>, A::Error> {
        let mut items = Vec::new();
        while items.len() <= MAX_ITEMS {
            match elements.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(Items(items)),
            }
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Items(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_split_into_its_items_and_a_flood_of_them_is_cut() {
        let Items(items) = serde_json::from_str(r#" [ {"a": 1} , 2,[3]]"#).unwrap();
        assert_eq!(items.iter().map(|item| item.get()).collect::<Vec<_>>(), [r#"{"a": 1}"#, "2", "[3]"]);
        let flood = format!("[{}0]", "0,".repeat(50_000));
        let Items(items) = serde_json::from_str(&flood).unwrap();
        assert_eq!(items.len(), MAX_ITEMS + 1);
        assert!(serde_json::from_str::<Items<'_>>("[1,]").is_err());
    }

    #[test]
    fn the_content_type_tells_lines_from_json() {
        assert!(matches!(Format::of(None), Ok(Format::Json)));
        assert!(matches!(Format::of(Some("application/json; charset=utf-8")), Ok(Format::Json)));
        assert!(matches!(Format::of(Some("Application/X-NDJSON")), Ok(Format::Lines)));
        assert!(Format::of(Some("text/plain")).is_err());
    }
}
