//! `pointsman traffic`, `learning` and `eval --traffic` on either store: what they show, follow, write and delete.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::Receiver,
};

use pointsman::{
    config::{LearningConfig, StoreConfig},
    traffic::{learn::Learner, now_ms, record::Record, store::Store},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::text,
    support::{
        PATIENCE,
        postgres::shared_database,
        program::program,
        traffic::{DAY_MS, NEW_YEAR_MS, both_stores, decision_id, feedback, record},
    },
};

both_stores![
    status_tells_what_the_store_holds,
    status_tells_of_the_spool_while_the_store_is_away,
    migrate_makes_a_schema,
    stats_are_figures_of_the_span,
    what_a_clock_ahead_logged_counts,
    tail_shows_the_newest_in_order,
    tail_follows_until_it_is_interrupted,
    tail_follows_the_present_where_a_clock_is_ahead,
    export_has_every_record_with_its_feedback,
    delete_takes_a_tenant_or_a_session,
    what_was_learned_is_shown_and_forgotten,
    logged_traffic_is_replayed,
];

/// A store that does not exist yet, and a configuration that names it.
struct World {
    folder: TempDir,
    config: StoreConfig,
}

impl World {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/traffic.sqlite");
        Self::of(folder, "", StoreConfig::Sqlite { path })
    }

    async fn postgres() -> Self {
        let config = shared_database().await;
        let StoreConfig::Postgres { url, .. } = &config else { unreachable!("it is PostgreSQL") };
        let url = url.expose_secret().to_owned();
        Self::of(tempfile::tempdir().unwrap(), &url, config)
    }

    fn of(folder: TempDir, url: &str, config: StoreConfig) -> Self {
        fs::write(folder.path().join("url"), url).unwrap();
        let world = Self { folder, config };
        let store = match &world.config {
            StoreConfig::Sqlite { path } => format!("store = {path:?}"),
            StoreConfig::Postgres { .. } => "postgres_url = \"file:url\"".to_owned(),
        };
        world.configure(&store);
        world
    }

    fn configure(&self, store: &str) {
        let text =
            format!("[traffic]\n{store}\nspool = {:?}\n[classifier]\nenabled = false\n", self.path("spool"));
        fs::write(self.path("pointsman.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn store(&self) -> Store {
        Store::open(&self.config).await.unwrap()
    }

    /// Logs one record at noon of each of the first days of the year, in turn of two tenants, and feedback.
    async fn log_days(&self, days: i64) -> Store {
        let store = self.store().await;
        let records: Vec<Record> = (0..days).map(|day| record_of(noon(day), day as u64)).collect();
        store.write(&records).await.unwrap();
        store.add_feedback(&[feedback("f-1", records[0].decision_id)], 10).await.unwrap();
        store
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(self.folder.path());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path("pointsman.toml"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Returns exit code, stdout and stderr.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// Runs it and returns what it prints; anything but success fails the test.
    fn good(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        out
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.good(&all)).unwrap()
    }

    fn follow(&self, arguments: &[&str]) -> Followed {
        let all: Vec<&str> =
            ["traffic", "tail", "--follow", "--json"].iter().chain(arguments).copied().collect();
        let mut child = self.command(&all).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, shown) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        Followed { child, shown }
    }
}

/// A `tail --follow` and its lines.
struct Followed {
    child: Child,
    shown: Receiver<String>,
}

impl Followed {
    /// Returns the prompt of the next record.
    fn next(&self) -> String {
        let line = self.shown.recv_timeout(PATIENCE).expect("a line in time");
        let row: Value = serde_json::from_str(&line).unwrap();
        row["prompt"].as_str().unwrap().to_owned()
    }

    /// Interrupts it, and returns how it ended and what it said.
    fn end(self) -> (Option<i32>, String) {
        let interrupt = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    }
}

fn noon(day: i64) -> i64 {
    NEW_YEAR_MS + day * DAY_MS + DAY_MS / 2
}

fn record_of(at_ms: i64, number: u64) -> Record {
    let mut record = record(at_ms, number);
    record.request.tenant = ["acme", "other"][(number % 2) as usize].to_owned();
    record.request.session = format!("session-{number}");
    record
}

async fn status_tells_what_the_store_holds(world: World) {
    world.log_days(2).await;
    let shown = world.good(&["traffic", "status"]);
    for line in
        ["records   2", "oldest    2026-01-01T12:00:00Z", "newest    2026-01-02T12:00:00Z", "feedback  1"]
    {
        assert!(shown.lines().any(|shown| shown == line), "{line:?} is missing in\n{shown}");
    }
    assert!(shown.contains("spool     empty: nothing waits for the store"), "{shown}");
    let status = world.json(&["traffic", "status"]);
    assert_eq!((status["records"].as_u64(), status["unknown_feedback"].as_u64()), (Some(2), Some(0)));
    assert_eq!((&status["store_problem"], &status["spool"]["records"]), (&Value::Null, &json!(0)));
    assert!(status["store"].as_str().is_some_and(|name| !name.is_empty()), "{status}");
}

async fn status_tells_of_the_spool_while_the_store_is_away(world: World) {
    let refused = "{}\n{}\n";
    fs::create_dir(world.path("spool")).unwrap();
    fs::write(world.path("spool/refused-feedback.jsonl"), refused).unwrap();
    fs::write(world.path("spool/spool-1.sqlite.corrupt-1700000000"), "broken").unwrap();
    match &world.config {
        StoreConfig::Sqlite { path } => {
            // Something that cannot be opened as a file.
            fs::create_dir_all(path).unwrap();
        }
        // Nobody listens there.
        StoreConfig::Postgres { .. } => {
            fs::write(world.path("url"), "postgres://me:secret@127.0.0.1:1/log?sslmode=disable").unwrap();
        }
    }
    let (code, out, error) = world.run(&["traffic", "status"]);
    assert_eq!(code, 3, "{out}{error}");
    assert!(out.starts_with("away      ") && out.contains("spool     empty"), "{out}");
    assert!(out.contains("refused   2 pieces of feedback that the store will never take"), "{out}");
    assert!(out.contains("spool-1.sqlite.corrupt-1700000000 is broken and was moved aside"), "{out}");
    assert!(error.contains("the answer is incomplete: the store is away"), "{error}");
    assert!(!out.contains("secret") && !error.contains("secret"), "{out}{error}");
    let (code, out, _) = world.run(&["traffic", "status", "--json"]);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &status["records"], &status["refused_feedback"]), (3, &Value::Null, &json!(2)));
}

async fn migrate_makes_a_schema(world: World) {
    let (code, _, error) = world.run(&["traffic", "stats"]);
    assert!(code == 1 && error.contains("pointsman"), "it says how to make one: {error}");
    let out = world.good(&["traffic", "migrate"]);
    assert!(out.starts_with("the schema is up to date: version"), "{out}");
    assert_eq!(world.good(&["traffic", "migrate"]), "the schema is up to date\n");
    assert_eq!(world.json(&["traffic", "status"])["records"], 0);
    let (code, out, error) = world.run(&["traffic", "tail"]);
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(error.contains("no records in"), "{error}");
}

async fn stats_are_figures_of_the_span(world: World) {
    world.log_days(4).await;
    let figures = world.json(&["traffic", "stats", "--since", "2026-01-02"]);
    assert_eq!(
        (figures["all"]["requests"].as_u64(), figures["drift"]["before"].as_u64()),
        (Some(3), Some(1))
    );
    let of_tenant = world.json(&["traffic", "stats", "--since", "2026-01-02", "--tenant", "acme"]);
    assert_eq!((&of_tenant["all"]["requests"], &of_tenant["drift"]["before"]), (&json!(1), &json!(1)));
    let shown = world.good(&["traffic", "stats", "--since", "2026-01-01", "--tenant", "acme"]);
    assert!(shown.contains("requests    2: 0 completions, 2 decisions alone"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('█'), "{shown}");
    let (code, shown, hint) = world.run(&["traffic", "stats", "--since", "1h"]);
    assert!(code == 0 && shown.contains("requests    0"), "{shown}");
    assert!(hint.contains("the newest record is of 2026-01-04T12:00:00Z"), "{hint}");
}

/// A clock that was set back, or one that is ahead: such records were left out, while an export had them.
async fn what_a_clock_ahead_logged_counts(world: World) {
    let store = world.store().await;
    let now = now_ms();
    store.write(&[record_of(now - 1_000, 1), record_of(now + 2 * DAY_MS, 2)]).await.unwrap();
    assert_eq!(world.json(&["traffic", "stats"])["all"]["requests"], 2);
    let until = world.json(&["traffic", "stats", "--since", "1d", "--until", "0s"]);
    assert_eq!(until["all"]["requests"], 1);
    assert!(world.good(&["traffic", "export", "--out", "exports"]).starts_with("2 records"));
}

async fn tail_shows_the_newest_in_order(world: World) {
    world.log_days(5).await;
    let shown = world.good(&["traffic", "tail", "-n", "2"]);
    let starts: Vec<&str> = shown.lines().map(|line| &line[..10]).collect();
    assert_eq!(starts, ["time (UTC)", "2026-01-04", "2026-01-05"], "{shown}");
    assert_eq!(world.good(&["traffic", "tail"]).lines().count(), 6);
    assert_eq!(world.run(&["traffic", "tail", "-n", "0"]), (0, String::new(), String::new()));
    let lines = world.good(&["traffic", "tail", "--json", "--tenant", "other"]);
    let ats: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["at"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ats, ["2026-01-02T12:00:00.000Z", "2026-01-04T12:00:00.000Z"]);
}

async fn tail_follows_until_it_is_interrupted(world: World) {
    let store = world.log_days(2).await;
    let followed = world.follow(&["-n", "1"]);
    assert_eq!(followed.next(), "question 1");
    let newest = noon(1);
    store.write(&[record_of(newest + 2_000, 7)]).await.unwrap();
    assert_eq!(followed.next(), "question 7");
    // It was decided before the last one, and landed after it.
    store.write(&[record_of(newest + 1_000, 8)]).await.unwrap();
    assert_eq!(followed.next(), "question 8");
    let (code, error) = followed.end();
    assert_eq!(code, Some(0), "{error}");
}

/// What was logged before a clock was set back by more than a minute, or by a replica that is ahead, hid all else.
async fn tail_follows_the_present_where_a_clock_is_ahead(world: World) {
    let store = world.store().await;
    let ahead = now_ms() + 7_200_000;
    store.write(&[record_of(now_ms() - 5_000, 1), record_of(ahead, 2)]).await.unwrap();
    let followed = world.follow(&["-n", "1"]);
    assert_eq!(followed.next(), "question 2");
    store.write(&[record_of(ahead + 1_000, 3)]).await.unwrap();
    assert_eq!(followed.next(), "question 3", "it reads, and the one of before is not shown");
    store.write(&[record_of(now_ms(), 4)]).await.unwrap();
    assert_eq!(followed.next(), "question 4");
    store.write(&[record_of(ahead + 2_000, 5)]).await.unwrap();
    assert_eq!(followed.next(), "question 5");
    let (code, error) = followed.end();
    assert_eq!(code, Some(0), "{error}");
}

async fn export_has_every_record_with_its_feedback(world: World) {
    world.log_days(3).await;
    let out = world.good(&["traffic", "export", "--format", "jsonl", "--out", "exports"]);
    assert!(out.starts_with("3 records in 3 files, ") && out.ends_with(", to exports\n"), "{out}");
    let mut rows: Vec<Value> = fs::read_dir(world.path("exports"))
        .unwrap()
        .flat_map(|day| fs::read_dir(day.unwrap().path()).unwrap())
        .map(|file| serde_json::from_str(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap())
        .collect();
    rows.sort_by_key(|row: &Value| row["at"].to_string());
    let prompts: Vec<&str> = rows.iter().filter_map(|row| row["prompt"].as_str()).collect();
    assert_eq!(prompts, ["question 0", "question 1", "question 2"]);
    assert_eq!((&rows[0]["feedback"][0]["verdict"], &rows[1]["feedback"]), (&json!("bad"), &json!([])));
}

async fn delete_takes_a_tenant_or_a_session(world: World) {
    world.log_days(6).await;
    let delete = |arguments: &[&str]| {
        let all: Vec<&str> = ["traffic", "delete", "--yes"].iter().chain(arguments).copied().collect();
        let (code, out, error) = world.run(&all);
        assert_eq!(code, 0, "{error}");
        (out, error)
    };
    let (out, told) = delete(&["--tenant", "acme", "--session", "session-2"]);
    assert_eq!(
        out,
        "deleted 1 record and 0 pieces of feedback of session \"session-2\" of tenant \"acme\"; exports and backups \
         are not touched\n"
    );
    let phase = match &world.config {
        StoreConfig::Sqlite { .. } => "1 record and 0 pieces of feedback deleted; writing the file anew",
        StoreConfig::Postgres { .. } => "1 record and 0 pieces of feedback deleted; vacuuming",
    };
    assert!(told.contains(phase), "{told}");
    let (out, _) = delete(&["--tenant", "acme"]);
    assert!(out.starts_with("deleted 2 records and 1 piece of feedback of tenant \"acme\""), "{out}");
    assert_eq!(world.good(&["traffic", "tail"]).lines().count(), 1 + 3);
    let (out, told) = delete(&["--tenant", "nobody"]);
    assert!(out.starts_with("deleted 0 records"), "{out}");
    assert!(told.contains("nothing was found: names of tenants and sessions are compared exactly"), "{told}");
}

async fn what_was_learned_is_shown_and_forgotten(world: World) {
    let store = world.store().await;
    let id = decision_id(NEW_YEAR_MS, 1);
    store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    store.add_feedback(&[feedback("f", id)], 0).await.unwrap();
    let config = LearningConfig { enabled: true, ..LearningConfig::default() };
    Learner::new(store, config, std::sync::Arc::default()).step(NEW_YEAR_MS).await.unwrap();
    let shown = world.good(&["learning", "show"]);
    assert!(shown.contains("code") && shown.contains("small") && !shown.contains('\u{1b}'), "{shown}");
    assert!(shown.contains("learning is off in this configuration"), "{shown}");
    assert_eq!(world.json(&["learning", "show"])["offsets"][0]["observations"], 1);
    let (code, _, error) = world.run(&["learning", "reset", "--intent", "math"]);
    assert!(code == 2 && error.contains("something was learned of code"), "{error}");
    let (code, _, error) = world.run(&["learning", "reset"]);
    assert!(code == 2 && error.contains("say --yes to forget"), "nobody is there to agree: {error}");
    assert_eq!(world.good(&["learning", "reset", "--yes"]), "1 offset forgotten\n");
    assert!(world.good(&["learning", "show"]).contains("nothing was learned yet"));
}

async fn logged_traffic_is_replayed(world: World) {
    world.log_days(4).await;
    let figures = world.json(&["eval", "--traffic", "--quality", "0.3,0.9"]);
    assert_eq!((&figures["requests"], figures["settings"].as_array().unwrap().len()), (&json!(4), 2));
    let figures = world.json(&["eval", "--traffic", "--tenant", "acme", "--since", "2026-01-02"]);
    assert_eq!(figures["requests"], 1);
    let (code, _, error) = world.run(&["eval", "--traffic", "--tenant", "nobody"]);
    assert!(code == 1 && error.contains("nobody"), "{error}");
}
