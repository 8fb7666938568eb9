//! What the store holds, held against what is wanted: a version that was exchanged or taken away since it got its role is
//! a problem of the next replica that has to fetch it. Changes nothing but the list of events.

use super::{Cause, DeployError, Deployer};
use crate::live::{
    bundles::{BundleStoreError, Listed},
    fleet::EventKind,
    rollout::{BundleRef, Desired, Told},
};

impl Deployer {
    /// Tells in an event that somebody took a version out of the store; `false`, and nothing told, where it is there.
    pub async fn tell_deleted(&self, version: &str, cause: &Cause) -> Result<bool, DeployError> {
        match self.bundles.describe(version).await {
            Err(BundleStoreError::Unknown { .. }) => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        tracing::info!(who = %cause.who, version, "taken out of the bundle store");
        let told = Told { kind: EventKind::Deleted, from: version.to_owned(), to: String::new() };
        self.tell_for_sure(&told, cause).await?;
        Ok(true)
    }

    /// Returns the bundle that the configuration names, every version in the store, and those with a role that are not
    /// there.
    pub(super) async fn all_listed(&self, desired: &Desired) -> Result<Vec<Listed>, DeployError> {
        let mut all = vec![self.configured()];
        // What has a role is what is asked about: it stands before what is merely there.
        let mut absent_at = all.len();
        all.extend(self.bundles.list().await?);
        for bundle in desired.bundles().filter(|bundle| !bundle.is_configured()) {
            let at = match all.iter().position(|listed| listed.bundle.name == bundle.name) {
                Some(at) => at,
                // Of very many versions not all are listed.
                None => {
                    let there = self.bundles.describe(&bundle.name).await;
                    all.insert(
                        absent_at,
                        there.unwrap_or_else(|error| Listed::missing(bundle.clone(), error.to_string())),
                    );
                    absent_at += 1;
                    absent_at - 1
                }
            };
            let listed = &mut all[at];
            if is_another(&listed.bundle, bundle) {
                listed.problem = Some(exchanged(bundle, desired, &self.bundles.name()));
            }
        }
        Ok(all)
    }
}

/// What has a problem already has no hash.
fn is_another(there: &BundleRef, wanted: &BundleRef) -> bool {
    there.sha256.is_some() && wanted.sha256.is_some() && there.sha256 != wanted.sha256
}

fn exchanged(bundle: &BundleRef, desired: &Desired, store: &str) -> String {
    let role = desired.role_of(&bundle.name).as_str();
    let sha256 = bundle.sha256.as_deref().unwrap_or_default();
    format!(
        "the one in {store} is another than the one that is {role}, whose manifest.json has SHA-256 {sha256}: put that \
         one back, and give this one a version of its own"
    )
}
