//! `pointsman bundle delete`: a version out of the store, for good.

use clap::Args;
use serde_json::json;

use super::{
    super::{
        admin::{AdminArguments, ChangeArguments, Client, Patience},
        agree::agreed,
        show::{RESET, WARN},
    },
    CliError, print, runtime,
};
use crate::{
    config::{BundleStoreConfig, Config},
    live::{
        bundles::{BundleStore, BundleStoreError, version_problem},
        resolved,
        rollout::BundleRef,
    },
    server::proto::{GetFleetRequest, GetFleetResponse, NoteDeletedBundleRequest, WantedState},
};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DeleteArguments {
    /// A version in the bundle store.
    version: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Ask no running server whether the version is in use.
    #[arg(long, conflicts_with = "admin")]
    store: bool,
    #[command(flatten)]
    change: ChangeArguments,
}

const HELP: &str = "\
A version that is active, a canary, the shadow, staged or kept for rollback is not deleted: `pointsman bundle
forget` or `rollback` comes first. The server that is asked speaks for all that share its traffic log. Where others
use the same bundle store, ask them too: `pointsman bundle list --admin ADDRESS`.

While that log's database is away nothing is deleted: it cannot be told who uses what. In an object store, what a copy
without its end has left is deleted in the same way; see that nobody is copying it just then.

The server that was asked notes the deletion among its events, with who and --why; with --store nobody does.

Copies in caches stay until they have to make room.";

pub fn run(arguments: &DeleteArguments, config: &Config) -> Result<(), CliError> {
    let DeleteArguments { version, yes, store: unasked, change } = arguments;
    let ChangeArguments { why, admin } = change;
    if *unasked && !why.is_empty() {
        return Err(CliError::Usage("--why is for the event, and with --store there is none".to_owned()));
    }
    if let Some(problem) = version_problem(version) {
        return Err(CliError::Usage(format!("{version:?}: {problem}")));
    }
    let store = BundleStore::open(&config.bundles)?;
    let described = match runtime()?.block_on(store.describe(version)) {
        Err(BundleStoreError::Unknown { .. }) if runtime()?.block_on(store.has_leftovers(version))? => None,
        described => Some(described?),
    };
    if is_default(version, config) {
        return Err(CliError::Usage(format!(
            "bundle {version} is the one that the configuration names (classifier.bundle): name another one there first"
        )));
    }
    let refuse_used = || if *unasked { Ok(()) } else { refused_if_used(version, admin, config) };
    refuse_used()?;
    if !yes {
        let what = match described {
            Some(_) => "",
            None => "what a copy without its end has left of ",
        };
        if !agreed(&format!("Delete {what}bundle {version} from {}?", store.name()), "to delete")? {
            return print("nothing was deleted");
        }
        // Somebody may have given it a role while a person thought about it.
        refuse_used()?;
    }
    match described {
        Some(listed) => {
            // Exactly what was looked at; of one that cannot be read no more than its name is known.
            let bundle = BundleRef { name: version.as_str().into(), ..listed.bundle };
            runtime()?.block_on(store.remove(&bundle))?;
        }
        None => runtime()?.block_on(store.remove_leftovers(version))?,
    }
    if !unasked {
        noted(version, why, admin, config);
    }
    if admin.json {
        return print(&format!("{:#}", json!({"deleted": version, "store": store.name()})));
    }
    print(&format!("bundle {version} is deleted from {}", store.name()))
}

/// Has the server that was asked note it among its events. What is deleted is deleted, also where that cannot be.
fn noted(version: &str, why: &str, admin: &AdminArguments, config: &Config) {
    let asked = NoteDeletedBundleRequest { version: version.to_owned(), why: why.to_owned() };
    let ask = async |mut client: Client| client.note_deleted_bundle(asked).await;
    if let Err(error) = admin.wait_for(&config.server, Patience::Store, "noting it", ask) {
        anstream::eprintln!("{WARN}warning:{RESET} no event says that bundle {version} was deleted: {error}");
    }
}

fn refused_if_used(version: &str, admin: &AdminArguments, config: &Config) -> Result<(), CliError> {
    let Some(role) = role(version, admin, config)? else { return Ok(()) };
    Err(CliError::Admin(format!(
        "bundle {version} is {role}, and was not deleted: `pointsman bundle forget` makes a staged or retired version \
         free, `pointsman bundle rollback` takes others back"
    )))
}

/// Returns what a version is to the fleet; `None`: it is in the store and nothing else.
pub fn role(
    version: &str,
    admin: &AdminArguments,
    config: &Config,
) -> Result<Option<&'static str>, CliError> {
    let ask = async |mut client: Client| client.get_fleet(GetFleetRequest {}).await;
    let fleet = admin.ask(&config.server, ask).map_err(|error| {
        CliError::Admin(format!(
            "{error}\nnothing was deleted: where no server runs that could use the version, say --store"
        ))
    })?;
    role_in(&fleet, version)
}

/// Returns what is wanted of a version. What one replica knows by itself may be old, and decides nothing.
fn role_in(fleet: &GetFleetResponse, version: &str) -> Result<Option<&'static str>, CliError> {
    if let Some(away) = &fleet.store_away {
        return Err(CliError::Admin(format!(
            "it cannot be told whether somebody uses bundle {version}: the store that replicas share does not say \
             what is wanted: {}\nnothing was deleted: try again when it does",
            away.why
        )));
    }
    // Nothing was ever asked for.
    let Some(wanted) = &fleet.wanted else { return Ok(None) };
    let WantedState { active, canary, shadow, staged, retired, .. } = wanted;
    let is_one_of = |versions: &[String]| versions.iter().any(|one| one == version);
    let roles = [
        (active == version, "active"),
        (canary == version, "the canary"),
        (shadow == version, "the shadow"),
        (is_one_of(staged), "staged"),
        (is_one_of(retired), "kept for rollback"),
    ];
    Ok(roles.into_iter().find_map(|(is_it, role)| is_it.then_some(role)))
}

/// Returns whether the configuration's own bundle lies in this version's folder. A configuration that leads nowhere
/// leads to no version.
fn is_default(version: &str, config: &Config) -> bool {
    let BundleStoreConfig::Folder(root) = &config.bundles.store else { return false };
    let named = resolved(&config.classifier).ok().and_then(|classifier| classifier.bundle);
    let (named, folder) =
        (named.and_then(|named| named.canonicalize().ok()), root.join(version).canonicalize());
    named.is_some_and(|named| folder.is_ok_and(|folder| folder == named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::proto::StoreAway;

    #[test]
    fn a_version_has_the_role_that_is_wanted_of_it() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let wanted = WantedState {
            active: "a".to_owned(),
            canary: "c".to_owned(),
            shadow: "s".to_owned(),
            staged: names(&["g1", "g2"]),
            // One that is tried again keeps its place.
            retired: names(&["r", "c"]),
            ..WantedState::default()
        };
        let fleet = GetFleetResponse { wanted: Some(wanted), ..GetFleetResponse::default() };
        for (version, expected) in [
            ("a", Some("active")),
            ("c", Some("the canary")),
            ("s", Some("the shadow")),
            ("g2", Some("staged")),
            ("r", Some("kept for rollback")),
            ("g", None),
        ] {
            assert_eq!(role_in(&fleet, version).unwrap(), expected, "{version}");
        }
        assert_eq!(role_in(&GetFleetResponse::default(), "a").unwrap(), None);
    }

    #[test]
    fn while_the_database_is_away_nobody_knows_what_is_free() {
        let away = StoreAway { why: "PostgreSQL is gone".to_owned(), ..StoreAway::default() };
        let fleet = GetFleetResponse { store_away: Some(away), ..GetFleetResponse::default() };
        let told = role_in(&fleet, "a").unwrap_err().to_string();
        for part in
            ["cannot be told whether somebody uses bundle a", "PostgreSQL is gone", "nothing was deleted"]
        {
            assert!(told.contains(part), "{told}");
        }
    }
}
