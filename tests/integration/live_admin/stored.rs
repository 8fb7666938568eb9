//! The store between operator and server: what is copied and refused, deleted, exchanged behind the server's back, or in
//! another place than the server looks.

use std::{
    fs,
    process::{Command, Stdio},
};

use pointsman::server::proto::{ActivateBundleRequest, ListEventsRequest, NoteDeletedBundleRequest};
use tonic::Code;

use super::{
    super::cli::text,
    commands::{User, run},
    world::World,
};
use crate::support::{
    NOBODY, PATIENCE,
    onnx::{Fault, TinyBundle},
    program::program,
};

/// Makes a bundle's folder outside the store and returns it.
fn made(world: &World, version: &str, fault: Option<Fault>) -> String {
    let folder = world.path(&format!("made-{version}"));
    let _ = fs::remove_dir_all(&folder);
    let bundle = TinyBundle::new(version);
    match fault {
        Some(fault) => bundle.fault(fault).write(&folder),
        None => bundle.write(&folder),
    }
    folder.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_refused_is_free_for_a_better_bundle() {
    let user = User::of(World::new()).await;
    let world = &user.server.world;
    let bad = made(world, "2.0.0", Some(Fault::GoldenOfAnother));
    let taken_out = "its copy was taken out of ";
    user.refused(&["bundle", "stage", &bad], 1, &["golden_2", taken_out, "2.0.0 is free"]).await;
    assert_eq!(fs::read_dir(world.store()).unwrap().count(), 0, "nothing is left of it");
    let good = made(world, "2.0.0", None);
    assert!(user.good(&["bundle", "stage", &good]).await.starts_with("2.0.0 is staged"));

    // What somebody else has put there is not this command's to take away.
    let bad = made(world, "3.0.0", Some(Fault::GoldenOfAnother));
    user.good(&["bundle", "stage", "--copy-only", &bad]).await;
    user.refused(&["bundle", "stage", &bad], 1, &["it had been in ", "stays there"]).await;
    user.refused(&["bundle", "stage", "3.0.0"], 1, &["sufficiency of simple"]).await;
    user.refused(&["bundle", "delete", "3.0.0"], 2, &["no terminal to ask on: say --yes"]).await;
    assert!(world.store().join("3.0.0/model.onnx").exists());
    let deleted = user.good(&["bundle", "delete", "3.0.0", "--yes", "--why", "OPS-18"]).await;
    assert!(deleted.starts_with("bundle 3.0.0 is deleted from /"), "{deleted}");
    let told = user.json(&["bundle", "events", "--limit", "1"]).await;
    let event = |field: &str| told["events"][0][field].as_str().unwrap();
    assert_eq!(["kind", "who", "from", "to", "why"].map(event), ["deleted", "local", "3.0.0", "", "OPS-18"]);
    let mut client = user.server.client().await;
    let there = NoteDeletedBundleRequest { version: "2.0.0".to_owned(), why: String::new() };
    let refused = client.note_deleted_bundle(there).await.unwrap_err();
    assert!(refused.message().contains("is still in the bundle store"), "{refused:?}");
    assert!(!world.store().join("3.0.0").exists());

    // Another configuration would take it.
    let unlike = world.path("unlike");
    TinyBundle::new("4.0.0").levels(&["low", "high"]).write(&unlike);
    let unlike = unlike.to_str().unwrap();
    user.refused(&["bundle", "stage", unlike], 1, &["low", "stays in ", "`pointsman bundle stage 4.0.0`"])
        .await;
    assert!(world.store().join("4.0.0/manifest.json").exists());

    // What is in use stays.
    user.refused(&["bundle", "delete", "2.0.0", "--yes"], 1, &["bundle 2.0.0 is staged, and was not"]).await;
    user.good(&["bundle", "activate", "2.0.0"]).await;
    user.refused(&["bundle", "stage", &good], 1, &["bundle 2.0.0 is in ", "has its role already"]).await;
    user.refused(&["bundle", "delete", "2.0.0", "--yes"], 1, &["bundle 2.0.0 is active, and was not"]).await;
    user.good(&["bundle", "rollback"]).await;
    user.good(&["bundle", "forget", "2.0.0"]).await;
    assert_eq!(user.json(&["bundle", "delete", "2.0.0", "--yes"]).await["deleted"], "2.0.0");
    user.refused(&["bundle", "delete", "2.0.0", "--yes"], 1, &["bundle 2.0.0: not in /"]).await;
    user.refused(&["bundle", "delete", "../own", "--yes"], 2, &["a version begins with"]).await;
    user.refused(&["bundle", "delete", "default", "--yes"], 2, &["is reserved"]).await;
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_copy_that_was_not_staged_is_told() {
    let user = User::of(World::new()).await;
    let world = &user.server.world;
    let bundle = made(world, "2.0.1", None);
    // Another store than the server's.
    let own = world.text();
    let elsewhere = world.path("elsewhere.toml");
    let (ours, theirs) = (world.store(), world.path("versions"));
    fs::write(&elsewhere, own.replace(ours.to_str().unwrap(), theirs.to_str().unwrap())).unwrap();
    let admin = user.server.admin.to_string();
    let said = async |arguments: &[&str]| {
        let output = run(Some(&elsewhere), arguments).await;
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, listed) = said(&["bundle", "list", "--store"]).await;
    assert!(code == 0 && listed.contains("versions is not there: is bundles.store"), "{listed}");
    let (_, checked) = said(&["check", "--no-bundle"]).await;
    assert!(checked.contains("bundles.store: ") && checked.contains("versions is not there"), "{checked}");
    let (code, told) = said(&["bundle", "stage", &bundle, "--admin", &admin]).await;
    assert!(code == 1 && told.contains("bundle 2.0.1: not in "), "{told}");
    for place in [&ours, &theirs] {
        assert!(told.contains(place.to_str().unwrap()), "{told}");
    }
    let put = "this command has put it into ";
    assert!(told.contains("give both the same bundles.store") && told.contains(put), "{told}");
    let (_, told) = said(&["bundle", "stage", &bundle, "--admin", &admin]).await;
    assert!(told.contains("it had been in ") && !told.contains(put), "{told}");
    // No server at all.
    let (code, told) = said(&["bundle", "stage", &bundle, "--admin", NOBODY]).await;
    assert!(code == 1 && told.contains("nobody listens there"), "{told}");
    let copied = format!("bundle 2.0.1 is in {}, and not staged yet", theirs.display());
    assert!(told.contains(&copied) && told.contains("`pointsman bundle stage 2.0.1`"), "{told}");
    let (code, told) = said(&["bundle", "delete", "2.0.1", "--yes", "--admin", NOBODY]).await;
    assert!(code == 1 && told.contains("nothing was deleted") && told.contains("--store"), "{told}");
    assert!(theirs.join("2.0.1").exists());
    let (code, told) = said(&["bundle", "delete", "2.0.1", "--yes", "--store"]).await;
    assert!(code == 0 && !theirs.join("2.0.1").exists(), "{told}");
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_exchanged_or_taken_away_has_a_problem() {
    let user = User::of(World::with(&["1.0.0", "1.1.0"])).await;
    let store = user.server.world.store();
    user.good(&["bundle", "activate", "1.0.0"]).await;
    user.good(&["bundle", "stage", "1.1.0"]).await;
    let problem = async |version: &str| {
        let listed = user.json(&["bundle", "list"]).await;
        let bundles = listed["bundles"].as_array().unwrap().clone();
        let found = bundles.into_iter().find(|bundle| bundle["version"] == version).unwrap();
        (found["state"].clone(), found["problem"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(problem("1.0.0").await, ("active".into(), String::new()));
    fs::remove_dir_all(store.join("1.0.0")).unwrap();
    TinyBundle::new("1.0.0").always("complex").write_under(&store);
    let (state, told) = problem("1.0.0").await;
    assert!(state == "active" && told.contains("is another than the one that is active"), "{state} {told}");
    fs::remove_dir_all(store.join("1.1.0")).unwrap();
    let (state, told) = problem("1.1.0").await;
    assert!(state == "staged" && told.contains("bundle 1.1.0: not in /"), "{state} {told}");
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slip_of_the_operator_is_no_event() {
    let user = User::of(World::with(&["1.0.0"])).await;
    for command in ["activate", "shadow", "stage"] {
        user.refused(&["bundle", command, "1.2.3"], 1, &["not in "]).await;
    }
    let no_version = ActivateBundleRequest { version: "../9.9.9".to_owned(), ..Default::default() };
    let refused = user.server.client().await.activate_bundle(no_version).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    user.refused(&["bundle", "forget", "1.2.3"], 1, &["neither staged nor retired"]).await;
    assert_eq!(user.good(&["bundle", "events"]).await, "nothing happened yet");
    // One that was there and is gone is more than a slip.
    user.good(&["bundle", "stage", "1.0.0"]).await;
    fs::remove_dir_all(user.server.world.store().join("1.0.0")).unwrap();
    user.refused(&["bundle", "activate", "1.0.0"], 1, &["not in "]).await;
    let mut client = user.server.client().await;
    let events = client.list_events(ListEventsRequest { events_max: 9 }).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].why.starts_with("store: bundle 1.0.0: not in "), "{events:?}");
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_becomes_the_shadow_is_told_to_end() {
    let user = User::of(World::with(&["1.0.0"])).await;
    user.good(&["bundle", "canary", "1.0.0", "25%"]).await;
    let ended = "it was the canary at 25 % of requests, and decides nothing any more";
    let told = user.good(&["bundle", "shadow", "1.0.0"]).await;
    assert!(told.contains(ended), "{told}");
    assert!(user.good(&["bundle", "events"]).await.contains(ended));
    // What served before is still there to go back to after it was tried again.
    user.good(&["bundle", "activate", "1.0.0"]).await;
    user.good(&["bundle", "shadow", "default"]).await;
    user.good(&["bundle", "rollback"]).await;
    let told = user.good(&["bundle", "rollback"]).await;
    assert!(told.starts_with("1.0.0 is taken back, default is active"), "{told}");
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_better_version_can_be_staged_where_the_wanted_one_cannot_be_loaded() {
    let mut world = World::with(&["1.0.0"]);
    world.traffic = "store = \"traffic.sqlite\"\n".to_owned();
    let user = User::of(world).await;
    user.good(&["bundle", "activate", "1.0.0"]).await;
    let world = user.server.stop().await;
    fs::remove_dir_all(world.store().join("1.0.0")).unwrap();
    let user = User::of(world).await;
    assert_eq!(user.server.decide("code").await.bundle, "0.1.0");
    let good = made(&user.server.world, "2.0.0", None);
    assert!(user.good(&["bundle", "stage", &good]).await.starts_with("2.0.0 is staged"));
    // That has mended nothing yet.
    let (_, fleet, _) = user.run(&["fleet", "--json"]).await;
    assert!(fleet.contains("bundle 1.0.0: not in "), "{fleet}");
    user.good(&["bundle", "activate", "2.0.0"]).await;
    assert_eq!(user.server.decide("code").await.bundle, "2.0.0");
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_command_that_waits_for_the_server() {
    for signal in ["INT", "TERM"] {
        let world = World::new();
        world.write();
        let bundle = made(&world, "2.0.0", None);
        // One that takes calls and never answers.
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut command = program(&world.path("state"));
        command.arg("--config").arg(world.file()).args(["bundle", "stage", &bundle, "--admin"]);
        command.arg(server.local_addr().unwrap().to_string()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let connection = tokio::time::timeout(PATIENCE, server.accept()).await.expect("it asks").unwrap();
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        let output = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap();
        drop(connection);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.starts_with("interrupted: ")), (Some(1), true), "{said}");
        assert!(world.store().join("2.0.0/manifest.json").exists(), "what the server was asked goes on");
    }
}
