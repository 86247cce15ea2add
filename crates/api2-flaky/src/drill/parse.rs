//! Reads a weather from JSON. By hand, because every mistake must name its field and the values that field takes.

use std::time::Duration;

use jobs_core::process::duration;
use serde_json::{Map, Value};

use super::Order;
use super::weather::{Condition, Flapping, Script, Spell, Step, Weather};

/// The most a script may have; a longer one is a mistake of whoever generated it.
const MAX_STEPS: u64 = 1_000;
/// The fastest rate that makes sense: more than any one machine serves.
const MAX_PER_SECOND: u64 = 1_000_000;
/// The slowest answer: ten minutes, longer than any client waits.
const MAX_LATENCY_MS: u64 = 600_000;
/// The shortest spell: below this, timers decide and not the weather.
const MIN_SPELL_MS: u64 = 10;
/// The longest spell: a day.
const MAX_SPELL_MS: u64 = 86_400_000;
/// The longest `Retry-After`: a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);
/// By default a burst of capacity is the rate divided by this.
const DEFAULT_BURST_DIVISOR: u32 = 20;

pub(super) const MODES: &str = "up, down, capacity, latency, error_rate, flapping, reset, hang, refuse or script";

/// Why a text is no weather; names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWeather {
    #[error("the weather must be JSON such as {{\"mode\":\"up\"}}: {0}")]
    NotJson(String),
    #[error("the weather must be a JSON object such as {{\"mode\":\"up\"}}")]
    NotAnObject,
    #[error("{field} is missing: it takes {takes}")]
    Missing { field: String, takes: String },
    #[error("{field} is {got}: it takes {takes}")]
    Wrong { field: String, got: String, takes: String },
    #[error("{field} is not a field of mode {mode:?}")]
    Unknown { field: String, mode: String },
}

/// Reads the JSON of a weather.
///
/// # Errors
/// [`BadWeather`], naming the first wrong field: missing, of the wrong type, out of range, or unknown.
pub fn parse(text: &[u8]) -> Result<Order, BadWeather> {
    let json = serde_json::from_slice(text).map_err(|error| BadWeather::NotJson(error.to_string()))?;
    let Value::Object(object) = json else { return Err(BadWeather::NotAnObject) };
    let mut fields = Fields { object, place: String::new(), mode: String::new() };
    let seed = fields.maybe_whole("seed", 0, u64::MAX)?;
    let weather = match fields.mode()? {
        "script" => Weather::Script(script(&mut fields)?),
        _ => Weather::Spell(spell(&mut fields)?),
    };
    fields.finish()?;
    Ok(Order { weather, seed })
}

fn script(fields: &mut Fields) -> Result<Script, BadWeather> {
    let takes = format!("a list of 1 to {MAX_STEPS} steps such as {{\"for_ms\":5000,\"mode\":\"down\"}}");
    let items = match fields.object.remove("steps") {
        Some(Value::Array(items)) if !items.is_empty() && items.len() as u64 <= MAX_STEPS => items,
        Some(other) => return Err(fields.wrong("steps", &other, &takes)),
        None => return Err(fields.missing("steps", &takes)),
    };
    let last = items.len() - 1;
    let steps = items.into_iter().enumerate().map(|(number, item)| step(number, item, number == last));
    Ok(Script { steps: steps.collect::<Result<_, _>>()? })
}

fn step(number: usize, item: Value, is_last: bool) -> Result<Step, BadWeather> {
    let place = format!("steps[{number}].");
    let Value::Object(object) = item else {
        let field = format!("steps[{number}]");
        return Err(BadWeather::Wrong { field, got: shown(&item), takes: "an object".to_owned() });
    };
    let mut fields = Fields { object, place, mode: String::new() };
    let for_ms = match fields.maybe_whole("for_ms", MIN_SPELL_MS, MAX_SPELL_MS)? {
        None if !is_last => return Err(fields.missing("for_ms", &whole(MIN_SPELL_MS, MAX_SPELL_MS))),
        for_ms => for_ms,
    };
    if fields.mode()? == "script" {
        return Err(fields.wrong("mode", &"script".into(), "any mode but script"));
    }
    let spell = spell(&mut fields)?;
    fields.finish()?;
    Ok(Step { for_ms, spell })
}

fn spell(fields: &mut Fields) -> Result<Spell, BadWeather> {
    let condition = match fields.mode()? {
        "up" => Condition::Up,
        "down" => Condition::Down { status: fields.status(503)?, retry_after: fields.maybe_retry_after()? },
        "capacity" => {
            let per_second = fields.whole("per_second", 1, MAX_PER_SECOND)? as u32;
            let burst = fields.maybe_whole("burst", 1, MAX_PER_SECOND)?.map(|burst| burst as u32);
            let max_in_flight = fields.maybe_whole("max_in_flight", 1, MAX_PER_SECOND)?.map(|max| max as u32);
            let burst = burst.unwrap_or((per_second / DEFAULT_BURST_DIVISOR).max(1));
            Condition::Capacity { per_second, burst, max_in_flight }
        }
        "latency" => Condition::Latency {
            ms: fields.whole("ms", 0, MAX_LATENCY_MS)?,
            jitter_ms: fields.maybe_whole("jitter_ms", 0, MAX_LATENCY_MS)?.unwrap_or(0),
        },
        "error_rate" => Condition::ErrorRate { rate: fields.share("rate")?, status: fields.status(500)? },
        "flapping" => {
            return Ok(Spell::Flapping(Flapping {
                up_ms: fields.whole("up_ms", MIN_SPELL_MS, MAX_SPELL_MS)?,
                down_ms: fields.whole("down_ms", MIN_SPELL_MS, MAX_SPELL_MS)?,
            }));
        }
        "reset" => Condition::Reset,
        "hang" => Condition::Hang,
        "refuse" => Condition::Refuse,
        other => {
            let other = other.into();
            return Err(fields.wrong("mode", &other, MODES));
        }
    };
    Ok(Spell::Steady(condition))
}

/// The fields not yet read of one JSON object. `place` stands before their names in errors.
struct Fields {
    object: Map<String, Value>,
    place: String,
    mode: String,
}

impl Fields {
    fn mode(&mut self) -> Result<&str, BadWeather> {
        if self.mode.is_empty() {
            self.mode = match self.object.remove("mode") {
                Some(Value::String(mode)) if !mode.is_empty() => mode,
                Some(other) => return Err(self.wrong("mode", &other, MODES)),
                None => return Err(self.missing("mode", MODES)),
            };
        }
        Ok(&self.mode)
    }

    fn whole(&mut self, field: &str, least: u64, most: u64) -> Result<u64, BadWeather> {
        let value = self.maybe_whole(field, least, most)?;
        value.ok_or_else(|| self.missing(field, &whole(least, most)))
    }

    fn maybe_whole(&mut self, field: &str, least: u64, most: u64) -> Result<Option<u64>, BadWeather> {
        let Some(value) = self.object.remove(field) else { return Ok(None) };
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| self.wrong(field, &value, &whole(least, most)))
    }

    fn share(&mut self, field: &str) -> Result<f64, BadWeather> {
        let takes = "a number from 0 to 1";
        let value = self.object.remove(field).ok_or_else(|| self.missing(field, takes))?;
        let share = value.as_f64().filter(|share| (0.0..=1.0).contains(share));
        share.ok_or_else(|| self.wrong(field, &value, takes))
    }

    fn status(&mut self, default: u16) -> Result<u16, BadWeather> {
        Ok(self.maybe_whole("status", 300, 599)?.map_or(default, |status| status as u16))
    }

    fn maybe_retry_after(&mut self) -> Result<Option<Duration>, BadWeather> {
        let Some(value) = self.object.remove("retry_after") else { return Ok(None) };
        let parsed = value.as_str().and_then(|text| duration::parse(text).ok());
        let retry_after = parsed.filter(|retry_after| *retry_after <= MAX_RETRY_AFTER);
        let takes = "a text such as \"30s\" or \"5m\", at most a day";
        retry_after.map(Some).ok_or_else(|| self.wrong("retry_after", &value, takes))
    }

    fn finish(self) -> Result<(), BadWeather> {
        match self.object.keys().next() {
            Some(field) => Err(BadWeather::Unknown { field: format!("{}{field}", self.place), mode: self.mode }),
            None => Ok(()),
        }
    }

    fn missing(&self, field: &str, takes: &str) -> BadWeather {
        BadWeather::Missing { field: format!("{}{field}", self.place), takes: takes.to_owned() }
    }

    fn wrong(&self, field: &str, got: &Value, takes: &str) -> BadWeather {
        BadWeather::Wrong { field: format!("{}{field}", self.place), got: shown(got), takes: takes.to_owned() }
    }
}

fn whole(least: u64, most: u64) -> String {
    format!("a whole number from {least} to {most}")
}

/// The value as JSON, cut where it gets long.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}
