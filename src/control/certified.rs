//! Certificates of a configuration: read before it is put in force, refused with it.
//!
//! It exists so that a start and a reload read them the same way. It must never put a plan in force.

use std::path::PathBuf;
use std::sync::Arc;

use super::controller::{Controller, blocking};
use super::load::Loaded;
use super::refusal::Refusal;
use crate::certs::Certificates;
use crate::model::time::UnixMillis;
use crate::model::{Diagnostic, Severity};
use crate::plan::Plan;
use crate::spec::Spec;

/// The certificates that a first configuration names, served as its plan says, and warnings.
///
/// # Errors
/// What cannot be used, or that this machine can have none.
pub(super) fn first(
    spec: &Spec,
    base: PathBuf,
    plan: &Plan,
    now: UnixMillis,
) -> Result<(Arc<Certificates>, Vec<Diagnostic>), Vec<Diagnostic>> {
    let certificates = Certificates::new(base).map_err(|why| vec![Diagnostic::error("no-tls", why)])?;
    let found = certificates.prepare(spec, now.seconds());
    if found.iter().any(|one| one.severity == Severity::Error) {
        return Err(found);
    }
    certificates.follow(plan);
    Ok((Arc::new(certificates), found))
}

impl Controller {
    /// Reads the certificates that a configuration names for the first time. Gives warnings; what
    /// refuses it goes to `refusals`.
    pub(super) async fn certify(
        &self,
        loaded: &Arc<Loaded>,
        refusals: &mut Vec<Diagnostic>,
    ) -> Result<Vec<Diagnostic>, Refusal> {
        let (certificates, loaded) = (Arc::clone(&self.certificates), Arc::clone(loaded));
        let now = self.clock.now().seconds();
        let found = blocking(move || certificates.prepare(&loaded.spec, now)).await?;
        let (errors, warnings) = found.into_iter().partition(|one| one.severity == Severity::Error);
        refusals.extend::<Vec<_>>(errors);
        Ok(warnings)
    }
}
