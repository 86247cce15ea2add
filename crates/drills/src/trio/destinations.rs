//! How the gateway is told of the drill's destinations: by flags, or by a file where more is to be said of them than flags can.

use std::fmt::Write as _;
use std::path::Path;

use super::{Plan, TrioError};
use crate::client::Api2;

/// The gateway's flags for `apis`, by name.
pub(super) fn flags(apis: &[(String, Api2)], plan: &Plan, folder: &Path) -> Result<Vec<String>, TrioError> {
    let mut flags = Vec::new();
    let mut file = String::new();
    for (name, api) in apis {
        let by_way = plan.by_way_of.iter().find(|(other, _)| other == name);
        let base = by_way.map_or_else(|| api.url().to_owned(), |(_, address)| format!("http://{address}"));
        let url = format!("{base}/api2/simulate");
        if plan.destination_settings.is_empty() {
            flags.extend(["--destination".to_owned(), format!("{name}={url}")]);
        } else {
            writeln!(file, "[destinations.{name}]\nurl = \"{url}\"\n{}\n", plan.destination_settings)
                .expect("a string takes whatever is written to it");
        }
        if plan.health_checks {
            flags.extend(["--health-check".to_owned(), format!("{name}={base}/api2/health")]);
        }
    }
    if !file.is_empty() {
        let path = folder.join("destinations.toml");
        std::fs::write(&path, file).map_err(|source| TrioError::io("write the destinations file", source))?;
        flags.extend(["--config".to_owned(), path.display().to_string()]);
    }
    Ok(flags)
}
