//! What every page has: its title, the way to the others, who looks, and what the last action came to.

use actix_web::HttpRequest;
use jobs_core::job::StateName;
use jobs_core::store::Stats;

use super::viewer::Viewer;
use super::words::{Moment, count};
use super::{assets, drill};
use crate::app::App;
use crate::query;

/// What a form's action came to, by the word that the address of the page after it carries: no text from an address is shown.
const SAID: [(&str, &str); 9] = [
    ("cancelled", "Cancelled. It can be redriven while it is kept."),
    (
        "cancel-requested",
        "A worker has it in hand: it ends as cancelled when this attempt comes back, unless it succeeded.",
    ),
    ("redriven", "Redriven. It is due now, with everything counted anew."),
    ("tried-now", "It is due now, and goes out as soon as its destination's gate lets it."),
    ("resolved", "Resolved: it stays dead and on record, and nobody is asked about it again."),
    ("edited", "This is the new job; the one it was made from is resolved."),
    ("weather", "Done. The ledger shows what arrives from now on."),
    ("paused", "Paused. Its jobs are accepted and held; nothing is sent until you resume it."),
    ("resumed", "Resumed. It opens up carefully, as after an outage."),
];

/// Entries of the menu for destinations to rehearse with.
const MAX_DRILLS: usize = 3;

/// The frame around a page.
pub(super) struct Shell {
    pub(super) title: String,
    /// Which entry of the menu is this one.
    pub(super) section: &'static str,
    /// What it is about, for the entries of the menu that are of a kind.
    pub(super) place: String,
    pub(super) version: &'static str,
    pub(super) now: Moment,
    /// How many dead jobs are unresolved, if any.
    pub(super) dead: Option<String>,
    pub(super) viewer: Viewer,
    pub(super) notice: Option<&'static str>,
    /// Destinations to rehearse with: name and title.
    pub(super) drills: Vec<(String, String)>,
}

impl Shell {
    pub(super) fn new(
        app: &App,
        request: &HttpRequest,
        viewer: Viewer,
        stats: &Stats,
        (section, title): (&'static str, String),
    ) -> Self {
        let now = app.clock.now().wall;
        let catalog = app.catalog();
        let drills = catalog.all().filter(|settings| drill::is_flaky(settings)).take(MAX_DRILLS);
        let dead = stats.in_state(StateName::Dead).saturating_sub(stats.resolved.values().sum());
        Shell {
            place: title.trim_start_matches("Weather of ").to_owned(),
            title,
            section,
            version: &assets::VERSION,
            now: Moment::new(now, now),
            dead: (dead > 0).then(|| count(dead)),
            viewer,
            notice: notice(request),
            drills: drills.map(|settings| (settings.name.to_string(), settings.title.clone())).collect(),
        }
    }
}

fn notice(request: &HttpRequest) -> Option<&'static str> {
    let pairs = query::pairs(request).ok()?;
    let (_, said) = pairs.iter().find(|(name, _)| name == "said")?;
    SAID.iter().find(|(word, _)| word == said).map(|(_, text)| *text)
}
