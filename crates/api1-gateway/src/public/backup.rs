//! `POST /api1/backup`: a copy of the store while it goes on.
//!
//! The caller chooses neither folder nor name: the operator who started the gateway names the folder, and the time names the
//! file, so that whoever holds a key can neither write elsewhere nor overwrite a copy.

use std::fs;

use actix_web::{HttpRequest, HttpResponse, web};
use jobs_core::steering::Action;
use jobs_core::store::StoreError;
use jobs_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::bearer;
use crate::problem::{Code, Problem};

/// The copy, whole and on the disk.
#[derive(Serialize, ToSchema)]
#[schema(as = Backup)]
struct Copied {
    path: String,
    bytes: u64,
}

/// Copies the store while everything goes on
#[utoipa::path(post, path = "/api1/backup", tag = "Operation",
    responses((status = 200, body = Copied, description = "The copy is whole and on the disk"), (status = 409)))]
pub(crate) async fn backup(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let by = app.keys.operator(bearer(&request))?;
    let no_folder = || Problem::new(Code::NoBackupFolder, "start the gateway with --backup-dir");
    let folder = app.limits.backup_dir.as_ref().ok_or_else(no_folder)?;
    let to = folder.join(name(app.clock.now().wall));
    app.store.backup(to.clone()).await.map_err(|error| match error {
        StoreError::Unusable(reason) => failed(reason),
        known @ (StoreError::Full(_) | StoreError::Busy(_) | StoreError::Broken(_) | StoreError::Closed) => {
            known.into()
        }
    })?;
    let bytes = fs::metadata(&to).map_err(|error| failed(error.to_string()))?.len();
    log::info!(path:% = to.display(), bytes; "backed up the store");
    app.note(by, Action::Backup, to.display(), "").await;
    Ok(HttpResponse::Ok().json(Copied { path: to.display().to_string(), bytes }))
}

fn failed(reason: String) -> Problem {
    log::error!(error = reason.as_str(); "no backup was made");
    Problem::new(Code::BackupFailed, reason)
}

/// Names sort by time, and two copies in the same millisecond are one too many.
fn name(now: Timestamp) -> String {
    format!("jobs-{}.db", now.to_string().replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_named_by_its_time() {
        let at = "2026-11-22T23:59:59.123Z".parse().unwrap();
        assert_eq!(name(at), "jobs-20261122T235959.123Z.db");
    }
}
