//! `pointsman bundle`, `reload` and `fleet` against a running server: for people, as JSON, and with which exit code.

use std::{fs, path::Path, process::Output};

use serde_json::Value;

use super::{
    super::cli::{pointsman, text},
    world::{Server, World},
};
use crate::support::{
    NOBODY, TestServer, config,
    onnx::{Fault, TinyBundle},
    until,
};

/// Runs the binary off the reactor.
pub async fn run(file: Option<&Path>, arguments: &[&str]) -> Output {
    let file = file.map(|file| file.to_str().unwrap().to_owned());
    let file = file.iter().flat_map(|file| ["--config".to_owned(), file.clone()]);
    let arguments: Vec<String> = file.chain(arguments.iter().map(ToString::to_string)).collect();
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        pointsman(&arguments, b"")
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// A user beside a running server.
pub struct User {
    pub server: Server,
}

impl User {
    pub async fn of(world: World) -> Self {
        Self { server: Server::start(world).await }
    }

    pub async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let admin = self.server.admin.to_string();
        let arguments = [arguments, &["--admin", &admin]].concat();
        let output = run(Some(&self.server.world.file()), &arguments).await;
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// What is printed, each run of spaces as one.
    pub async fn good(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.run(arguments).await;
        assert_eq!((code, error.as_str()), (0, ""), "{arguments:?}: {out}");
        assert!(!out.contains('\u{1b}'), "no colours into a pipe");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        out.lines().map(words).collect::<Vec<_>>().join("\n")
    }

    pub async fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, error) = self.run(&[arguments, &["--json"]].concat()).await;
        assert_eq!(code, 0, "{arguments:?}: {error}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    pub async fn refused(&self, arguments: &[&str], code: i32, because: &[&str]) {
        let (got, out, error) = self.run(arguments).await;
        assert_eq!((got, out.as_str()), (code, ""), "{arguments:?}: {error}");
        for because in because {
            assert!(error.contains(because), "{arguments:?}: {error:?} does not say {because:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_goes_the_whole_way_by_command() {
    let world = World::new();
    TinyBundle::new("1.0.0").always("complex").write(&world.path("made"));
    let made = world.path("made").to_str().unwrap().to_owned();
    let user = User::of(world).await;
    let copied = user.good(&["bundle", "stage", "--copy-only", &made]).await;
    assert!(copied.starts_with("bundle 1.0.0 is in "), "{copied}");
    assert!(user.good(&["bundle", "list"]).await.contains("1.0.0 available tiny"));
    assert_eq!(user.good(&["bundle", "events"]).await, "nothing happened yet");
    let first = user.server.decide("code").await.generation;
    // The folder again: it is there already, and is the same.
    let staged = user.good(&["bundle", "stage", &made]).await;
    assert_eq!(staged, format!("1.0.0 is staged (revision 1, generation {first})"));
    let told = user.good(&["bundle", "shadow", "1.0.0"]).await;
    assert!(
        told.starts_with("1.0.0 scores beside the active bundle, and decides nothing (revision 2"),
        "{told}"
    );
    let told = user.good(&["bundle", "canary", "1.0.0", "25%"]).await;
    assert!(told.starts_with("canary 1.0.0 at 25 % of requests (revision 3"), "{told}");
    assert!(user.good(&["bundle", "list"]).await.contains("1.0.0 canary, 25 % of requests tiny"));
    user.refused(&["bundle", "canary", "1.0.0", "--replicas", "0.5"], 1, &["no other replica"]).await;
    let told = user.json(&["bundle", "activate", "1.0.0"]).await;
    assert_eq!(
        (&told["told"], &told["wanted"]["active"]),
        (&"1.0.0 is active, default was".into(), &"1.0.0".into())
    );
    assert_eq!(told["generation"], user.server.decide("code").await.generation);
    assert_eq!(user.server.decide("code").await.tier, "complex");
    let told = user.good(&["bundle", "rollback"]).await;
    assert!(told.starts_with("1.0.0 is taken back, default is active (revision 5"), "{told}");
    assert_eq!(user.server.decide("code simple").await.tier, "simple");
    let told = user.good(&["bundle", "forget", "1.0.0"]).await;
    assert!(told.starts_with("1.0.0 is forgotten (revision 6"), "{told}");

    let listed = user.json(&["bundle", "list"]).await;
    let bundles = listed["bundles"].as_array().unwrap();
    assert_eq!((&bundles[0]["version"], &bundles[0]["state"]), (&"default".into(), &"active".into()));
    assert_eq!((&bundles[1]["version"], &bundles[1]["state"]), (&"1.0.0".into(), &"available".into()));
    assert_eq!((&bundles[1]["problem"], &bundles[1]["signed_by"]), (&Value::Null, &Value::Null));
    let told = user.json(&["bundle", "events", "--limit", "3"]).await;
    let kinds: Vec<&str> =
        told["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["forgotten", "rolled_back", "promoted"]);
    let table = user.good(&["bundle", "events"]).await;
    assert!(table.starts_with("when what from to who why\n"), "{table}");
    assert_eq!(table.lines().count(), 8, "{table}");
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why_and_fails() {
    let world = World::with(&["1.0.0"]);
    TinyBundle::new("2.0.0").fault(Fault::GoldenOfAnother).write_under(&world.store());
    TinyBundle::new("1.0.0").always("complex").write(&world.path("another"));
    let another = world.path("another").to_str().unwrap().to_owned();
    let user = User::of(world).await;
    let before = user.server.decide("code").await;
    user.refused(&["bundle", "activate", "9.9.9"], 1, &[": bundle 9.9.9: not in", "bundle list --store"])
        .await;
    user.refused(&["bundle", "activate", "2.0.0"], 1, &[": bundle 2.0.0: ", "golden_2"]).await;
    user.refused(&["bundle", "stage", "2.0.0"], 1, &[": bundle 2.0.0: ", "golden_2"]).await;
    user.refused(&["bundle", "stage", &another], 1, &["holds another bundle of this version"]).await;
    user.refused(&["bundle", "stage", "/nowhere"], 1, &["/nowhere"]).await;
    user.refused(&["bundle", "stage", "--copy-only", "1.0.0"], 2, &["--copy-only needs a folder"]).await;
    user.refused(&["bundle", "rollback"], 1, &[": nothing to roll back: "]).await;
    user.refused(&["bundle", "forget", "default"], 1, &["never forgotten"]).await;
    user.refused(&["bundle", "canary", "1.0.0"], 2, &["<SHARE>"]).await;
    user.refused(&["bundle", "activate", ""], 2, &["`pointsman bundle list` shows every version"]).await;
    user.refused(&["bundle", "activate", &another], 2, &["is a folder: `pointsman bundle stage"]).await;
    user.refused(&["bundle", "activate", "1.0.0", "--why", &"x".repeat(501)], 1, &["why", "500 bytes"]).await;
    user.refused(&["bundle", "activate", "1.0.0", "--why", "a\nb"], 1, &["why", "line break"]).await;
    user.refused(&["bundle", "canary", "1.0.0", "5"], 2, &["did you mean per cent"]).await;
    user.refused(&["bundle", "canary", "1.0.0", "100%"], 2, &["is no share"]).await;
    user.refused(&["bundle", "canary", "1.0.0", "5%", "--replicas", "5%"], 2, &["cannot be used with"]).await;
    user.refused(&["bundle", "events", "--limit", "0"], 2, &["--limit"]).await;
    user.refused(&["bundle", "list", "--token", "0123456789abcdef"], 2, &["a token itself is never typed"])
        .await;
    assert_eq!(user.server.decide("code").await, before);
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_read_again_by_command() {
    let mut user = User::of(World::new()).await;
    let before = user.server.decide("code").await.generation;
    assert_eq!(user.good(&["reload"]).await, format!("nothing changed (generation {before})"));
    user.server.world.more = "[policy]\nquality = 0.61\n".to_owned();
    user.server.world.server = "drain_ms = 1999\n".to_owned();
    user.server.world.write();
    let told = user.good(&["reload"]).await;
    let after = user.server.decide("code").await.generation;
    assert_eq!(told, format!("reloaded: policy (generation {after})\nafter a restart: server.drain_ms"));
    user.server.world.more = "[policy]\nquality = 0.62\n".to_owned();
    user.server.world.write();
    let told = user.json(&["reload"]).await;
    assert_eq!(
        (&told["changed"][0], &told["needs_restart"][0]),
        (&"policy".into(), &"server.drain_ms".into())
    );

    // Its own configuration is broken too then: the server is named, and the built-in one says how to ask.
    user.server.world.more = "[policy]\nquality = 7\nqality = 1\n".to_owned();
    user.server.world.write();
    let output = run(None, &["reload", "--admin", &user.server.admin.to_string()]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["2 problems", "policy.quality", "policy.qality"] {
        assert!(said.contains(part), "{said}");
    }
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_shown() {
    let user = User::of(World::with(&["1.0.0"])).await;
    let table = user.good(&["fleet"]).await;
    assert!(
        table.starts_with("wanted what the configuration names: nothing else was ever asked for\n"),
        "{table}"
    );
    assert!(table.ends_with("as wanted"), "{table}");
    user.good(&["bundle", "shadow", "1.0.0"]).await;
    let table = user.good(&["fleet"]).await;
    assert!(table.starts_with("wanted default active, 1.0.0 shadow; revision 1, active since "), "{table}");
    let fleet = user.json(&["fleet"]).await;
    assert_eq!((&fleet["wanted"]["shadow"], &fleet["wanted"]["canary"]), (&"1.0.0".into(), &Value::Null));
    let replica = &fleet["replicas"][0];
    assert_eq!(
        (&replica["shadow"], &replica["ready"], &replica["problem"]),
        (&"1.0.0".into(), &true.into(), &Value::Null)
    );
    assert_eq!(replica["differences"], serde_json::json!([]));
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_or_is_no_admin_listener_is_told_apart() {
    let world = World::new();
    world.write();
    for command in [&["bundle", "list"][..], &["bundle", "rollback"], &["reload"], &["fleet"]] {
        let output = run(Some(&world.file()), &[command, &["--admin", NOBODY]].concat()).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("nobody listens there") && said.contains(NOBODY), "{command:?}: {said}");
        // The test's configuration takes any port: no address.
        let output = run(Some(&world.file()), command).await;
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("--admin"), "{command:?}: {said}");
    }
    // Copying needs no server.
    let made = world.path("made");
    TinyBundle::new("1.0.0").write(&made);
    let output = run(Some(&world.file()), &["bundle", "stage", "--copy-only", made.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(fs::exists(world.store().join("1.0.0/manifest.json")).unwrap());

    let server = TestServer::start(config("[classifier]\nenabled = false"), None).await;
    let output = run(None, &["bundle", "list", "--admin", &server.admin.to_string()]).await;
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("nothing can be changed"), "{said}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_keeps_nobody_from_taking_something_back() {
    let mut user = User::of(World::with(&["1.0.0", "2.0.0"])).await;
    user.good(&["bundle", "activate", "1.0.0"]).await;
    let (file, admin) = (user.server.world.file(), user.server.admin.to_string());
    // Of a file with mistakes elsewhere its [server] says where to ask.
    user.server.world.more = "[policy]\nquality = 7\n".to_owned();
    user.server.world.server = format!("admin_listen = {admin:?}\n");
    user.server.world.write();
    let output = run(Some(&file), &["bundle", "rollback", "--why", "slower in French"]).await;
    let (said, warned) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{warned}");
    assert!(said.starts_with("1.0.0 is taken back"), "{said}");
    assert!(warned.contains("policy.quality") && warned.contains("only its section [server]"), "{warned}");
    let told = user.json(&["bundle", "events", "--limit", "1"]).await;
    assert_eq!(told["events"][0]["why"], "slower in French");

    // Of one that is no TOML, or not there, nothing is known, and nothing has to be where the server is named.
    fs::write(&file, "[server\n").unwrap();
    for file in [file.clone(), user.server.world.path("nowhere.toml")] {
        let stage = ["bundle", "stage", "2.0.0"];
        for command in [&["bundle", "list"][..], &stage, &["fleet"], &["targets"], &["spend"]] {
            let output = run(Some(&file), &[command, &["--admin", &admin]].concat()).await;
            let warned = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{command:?}: {warned}");
            assert!(warned.starts_with("warning: ") && warned.lines().count() == 1, "{warned}");
            let output = run(Some(&file), command).await;
            let said = text(&output.stderr);
            assert!(output.status.code() == Some(2) && said.contains("--admin ADDRESS"), "{said}");
        }
    }
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_gone_from_the_store_still_has_its_row() {
    let user = User::of(World::with(&["1.0.0", "2.0.0", "3.0.9", "3.0.17"])).await;
    user.good(&["bundle", "activate", "1.0.0"]).await;
    user.good(&["bundle", "stage", "2.0.0"]).await;
    for version in ["1.0.0", "2.0.0"] {
        fs::remove_dir_all(user.server.world.store().join(version)).unwrap();
    }
    let table = user.good(&["bundle", "list"]).await;
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert!(rows[0].starts_with("default retired"), "{table}");
    for (row, start) in rows[1..3].iter().zip(["1.0.0 active - - - - ", "2.0.0 staged - - - - "]) {
        assert!(row.starts_with(start) && row.contains("not in "), "{table}");
    }
    assert!(rows[3].starts_with("3.0.17 ") && rows[4].starts_with("3.0.9 "), "{table}");
    let listed = user.json(&["bundle", "list"]).await;
    assert_eq!((&listed["bundles"][1]["name"], &listed["bundles"][1]["bytes"]), (&Value::Null, &Value::Null));
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_can_be_waited_for() {
    let user = User::of(World::with(&["1.0.0"])).await;
    let told = user.good(&["bundle", "activate", "1.0.0", "--wait", "--why", "OPS-17"]).await;
    assert!(told.ends_with("\nfollowed by all live replicas (1)"), "{told}");
    let told = user.json(&["bundle", "rollback", "--wait=60"]).await;
    assert_eq!(told["replicas_following"], 1);
    let told = user.json(&["bundle", "events", "--limit", "2"]).await;
    assert_eq!((&told["events"][1]["why"], &told["events"][0]["why"]), (&"OPS-17".into(), &"".into()));
    let fleet = user.json(&["fleet"]).await;
    assert_eq!(fleet["answered_by"], fleet["replicas"][0]["replica_id"]);
    assert_eq!(fleet["replicas"][0]["configured"], "tiny 0.1.0");
    assert!(user.good(&["fleet"]).await.contains("default (tiny 0.1.0)"));
    user.refused(&["bundle", "activate", "1.0.0", "--wait=0"], 2, &["--wait"]).await;
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_waited_for_is_told_meanwhile() {
    let mut world = World::with(&["1.0.0"]);
    let log = world.path("traffic.sqlite");
    world.traffic = format!("store = {log:?}\n");
    let user = User::of(world).await;
    // Another replica of the same fleet, whose store does not have the version.
    let mut without = World::new();
    without.traffic = format!("store = {log:?}\n");
    let behind = Server::start(without).await;
    until("both to be seen", async || user.json(&["fleet"]).await["replicas"].as_array().unwrap().len() == 2)
        .await;
    let (code, out, error) = user.run(&["bundle", "activate", "1.0.0", "--wait=20", "--json"]).await;
    assert_eq!(code, 1, "{out}{error}");
    let lines: Vec<&str> = error.lines().collect();
    let (last, waited) = lines.split_last().unwrap();
    assert!(last.contains("not all replicas follow after 20 s") && last.contains("not in "), "{error}");
    assert!(waited.iter().all(|line| line.starts_with("waiting  ")), "{error}");
    assert!(
        !waited.is_empty() && waited.windows(2).all(|two| two[0] != two[1]),
        "no news is not told: {error}"
    );
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["replicas_following"], Value::Null);
    behind.stop().await;
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_checks_a_version_as_before_serving_it() {
    let world = World::with(&["1.0.0"]);
    TinyBundle::new("2.0.0").fault(Fault::GoldenOfAnother).write_under(&world.store());
    let user = User::of(world).await;
    let told = user.good(&["bundle", "verify", "1.0.0"]).await;
    assert!(told.starts_with("ok server loaded and tried there, beside what serves; tiny"), "{told}");
    let report = user.json(&["bundle", "verify", "1.0.0"]).await;
    assert_eq!((&report["good"], &report["steps"][0]["step"]), (&true.into(), &"server".into()));
    assert!(user.good(&["bundle", "verify", "default"]).await.starts_with("ok server "));
    for (version, step, because) in [("2.0.0", "server", "golden_2"), ("9.9.9", "found", "not in ")] {
        let (code, out, error) = user.run(&["bundle", "verify", version, "--json"]).await;
        assert_eq!(code, 1, "{out}{error}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&report["good"], &report["steps"][0]["step"]), (&false.into(), &step.into()), "{report}");
        assert!(report["steps"][0]["told"].as_str().unwrap().contains(because), "{report}");
    }
    user.refused(&["bundle", "verify", "./made"], 2, &["--admin", "is no version"]).await;
    assert_eq!(user.good(&["bundle", "events"]).await, "nothing happened yet");
    user.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_bundle_without_an_answer_is_not_claimed() {
    let world = World::new();
    world.write();
    let made = world.path("made");
    TinyBundle::new("1.0.0").write(&made);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = listener.local_addr().unwrap().to_string();
    // Takes the call and dies of it.
    let dies = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut [0; 1024]).await;
    });
    let stage = ["bundle", "stage", made.to_str().unwrap(), "--admin", &admin];
    let output = run(Some(&world.file()), &stage).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the connection broke") && said.contains("it may still happen"), "{said}");
    assert!(said.contains("whether it is staged `pointsman bundle list` tells"), "{said}");
    assert!(!said.contains("not staged yet"), "{said}");
    dies.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_and_is_no_admin_listener_is_told() {
    let server = Server::start(World::new()).await;
    let output = run(None, &["fleet", "--admin", &server.http.to_string()]).await;
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("this is no admin listener"), "{said}");
    server.stop().await;
}
