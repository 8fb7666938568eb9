//! `pointsman traffic` from outside, on a store in a file: files that are exported, bad input, broken rows, other processes
//! that write or read. What holds of either store is in `traffic_commands`.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
};
use parquet::file::reader::{FileReader, SerializedFileReader};
use pointsman::{
    config::{StoreConfig, TextPolicy, TrafficConfig},
    traffic::{record::Record, store::Store, text::TextKeeper},
};
use serde_json::Value;
use sqlx::Connection;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    cli::text,
    support::{
        PATIENCE,
        program::program,
        traffic::{DAY_MS, NEW_YEAR_MS, feedback, record},
    },
};

/// A state folder of its own, with a store where the binary looks for it.
struct World {
    folder: TempDir,
    store: Store,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pointsman/traffic.sqlite");
        let store = Store::open(&StoreConfig::Sqlite { path }).await.unwrap();
        Self { folder, store }
    }

    /// With one record at noon of each of the first days of the year, in turn of two tenants, and feedback.
    async fn of_days(days: i64) -> Self {
        let world = Self::new().await;
        let records: Vec<Record> =
            (0..days).map(|day| record_of(NEW_YEAR_MS + day * DAY_MS + DAY_MS / 2, day as u64)).collect();
        world.store.write(&records).await.unwrap();
        let said = [feedback("f-1", records[0].decision_id)];
        world.store.add_feedback(&said, 10).await.unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(self.folder.path(), arguments)
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        told(&self.command(arguments).output().unwrap())
    }

    /// Runs it and returns what it prints; anything but success fails the test.
    fn good(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        out
    }
}

/// The command with a state folder that nobody else has.
fn command(state: &Path, arguments: &[&str]) -> Command {
    let mut command = program(state);
    command
        .arg("traffic")
        .args(arguments)
        .current_dir(state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn told(output: &Output) -> (i32, String, String) {
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn record_of(at_ms: i64, number: u64) -> Record {
    let mut record = record(at_ms, number);
    record.request.tenant = ["acme", "other"][(number % 2) as usize].to_owned();
    record.request.session = format!("session-{number}");
    record
}

/// Every file below a folder with its folder's name; in order.
fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for day in fs::read_dir(folder).unwrap() {
        let day = day.unwrap().path();
        for file in fs::read_dir(&day).unwrap() {
            found.push((day.file_name().unwrap().to_str().unwrap().to_owned(), file.unwrap().path()));
        }
    }
    found.sort();
    found
}

fn rows(file: &Path) -> i64 {
    let reader = SerializedFileReader::new(fs::File::open(file).unwrap()).unwrap();
    reader.metadata().file_metadata().num_rows()
}

fn days(folder: &Path) -> Vec<String> {
    files(folder).into_iter().map(|(day, _)| day).collect()
}

#[tokio::test]
async fn export_writes_a_folder_a_day() {
    let world = World::of_days(3).await;
    let out = world.good(&["export", "--out", "exports"]);
    assert!(out.starts_with("3 records in 3 files, ") && out.ends_with(", to exports\n"), "{out}");
    assert_eq!(days(&world.path("exports")), ["day=2026-01-01", "day=2026-01-02", "day=2026-01-03"]);
    for (_, file) in files(&world.path("exports")) {
        assert_eq!(rows(&file), 1);
    }
    let (code, _, error) = world.run(&["export", "--out", "exports", "--since", "2026-01-02"]);
    assert!(code == 0 && error.contains("2 days had files of earlier exports"), "{error}");
    assert_eq!(files(&world.path("exports")).len(), 5, "nothing is overwritten");
}

#[tokio::test]
async fn export_takes_the_span_and_the_tenant() {
    let world = World::of_days(4).await;
    let check = |arguments: &[&str], expected: &[&str]| {
        let out = tempfile::tempdir_in(world.folder.path()).unwrap();
        let url = format!("file://{}", out.path().display());
        let all: Vec<&str> = ["export", "--format", "jsonl", "--out", &url]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        world.good(&all);
        assert_eq!(days(out.path()), expected, "{arguments:?}");
    };
    check(&["--since", "2026-01-03"], &["day=2026-01-03", "day=2026-01-04"]);
    check(&["--since", "2026-01-01T12:00:00Z", "--until", "2026-01-02"], &["day=2026-01-01"]);
    check(&["--until", "2026-01-02T13:00:00+01:00"], &["day=2026-01-01"]);
    check(&["--tenant", "acme"], &["day=2026-01-01", "day=2026-01-03"]);
}

#[tokio::test]
async fn jsonl_has_a_record_a_line_with_its_feedback() {
    let world = World::of_days(1).await;
    world.good(&["export", "--format", "jsonl", "--out", "exports"]);
    let lines = fs::read_to_string(&files(&world.path("exports"))[0].1).unwrap();
    let row: Value = serde_json::from_str(lines.trim_end()).unwrap();
    assert_eq!(
        (row["at"].as_str(), row["tenant"].as_str()),
        (Some("2026-01-01T12:00:00.000Z"), Some("acme"))
    );
    assert_eq!((row["prompt"].as_str(), row["day"].as_str()), (Some("question 0"), None));
    assert_eq!(row["feedback"][0]["verdict"], "bad");
}

#[tokio::test]
async fn an_empty_range_is_no_failure() {
    let world = World::of_days(1).await;
    let out = world.good(&["export", "--since", "2025-01-01", "--until", "2025-02-01", "--out", "none"]);
    assert_eq!(
        out,
        "no records from 2025-01-01T00:00:00Z before 2025-02-01T00:00:00Z: wrote a file with columns and no rows \
         to none\n"
    );
    let files = files(&world.path("none"));
    assert_eq!((files.len(), files[0].0.as_str(), rows(&files[0].1)), (1, "day=2025-01-01", 0));
    let out = world.good(&["export", "--tenant", "nobody", "--format", "jsonl", "--out", "none.jsonl"]);
    assert!(out.contains("of tenant \"nobody\": nothing was written"), "{out}");
}

#[tokio::test]
async fn bad_input_is_told() {
    let world = World::of_days(1).await;
    fs::write(world.path("file"), "").unwrap();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let (found, out, error) = world.run(arguments);
        assert_eq!((found, out.as_str()), (code, ""), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    };
    check(&["export"], 2, "--out <DIR|URL>");
    check(&["export", "--out", "x", "--since", "2999-01-01"], 2, "--since 2999-01-01: is in the future");
    check(&["export", "--out", "x", "--since", "1d", "--until", "2d"], 2, "--until: ends at");
    check(&["export", "--out", "x", "--since", "tomorrow"], 2, "--since tomorrow: neither a time ago");
    check(&["export", "--out", "ftp://host/x"], 2, "--out ftp:// is not known; use a folder");
    check(&["export", "--out", "s3://key:secret@bucket/x"], 2, "keys and options come from the environment");
    check(&["export", "--out", "file/below"], 1, "cannot write file/below");
    check(&["export", "--out", "x", "--format", "csv"], 2, "possible values: parquet, jsonl");
    check(&["stats", "--until", "nothing"], 2, "--until nothing");
    check(&["tail", "-n", "10001"], 2, "10001 is not in 0..=10000");
    check(&["delete", "--yes"], 2, "--tenant");
    check(&["delete", "--tenant", "acme"], 2, "say --yes");
    check(&["delete", "--tenant", "acme", "--session", "", "--yes"], 2, "--session: is empty");
    assert!(!world.path("x").exists());
}

#[test]
fn a_missing_store_is_told_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["export", "--out", "x"][..],
        &["stats"],
        &["tail"],
        &["status"],
        &["delete", "--tenant", "acme", "--yes"],
    ] {
        let (code, _, error) = told(&command(folder.path(), arguments).output().unwrap());
        assert!(
            code == 1 && error.contains("traffic.sqlite: there is no such file"),
            "{arguments:?}: {error}"
        );
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn migrate_makes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let migrate = || told(&command(folder.path(), &["migrate"]).output().unwrap());
    let (code, out, error) = migrate();
    assert!(code == 0 && out.starts_with("the schema is up to date: version"), "{out}{error}");
    assert_eq!(migrate().1, "the schema is up to date\n");
    assert!(folder.path().join("pointsman/traffic.sqlite").exists());
}

#[tokio::test]
async fn tail_ends_when_its_reader_has_gone() {
    let world = World::of_days(1).await;
    let mut child = world.command(&["tail", "--follow"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("time (UTC)"));
    drop(lines);
    let started = Instant::now();
    let mut number = 1;
    let status = loop {
        assert!(started.elapsed() < PATIENCE, "it goes on without a reader");
        world.store.write(&[record_of(NEW_YEAR_MS + DAY_MS + number, 1)]).await.unwrap();
        number += 1;
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn delete_finds_hashed_sessions_and_says_what_it_does_not_touch() {
    let world = World::new().await;
    let mut config = TrafficConfig::in_folder(world.path("pointsman"));
    config.text = TextPolicy::None;
    let hashed = |key: Option<&str>| {
        let mut config = config.clone();
        config.hash_key = key.map(|key| key.to_owned().into());
        TextKeeper::new(&config).session("acme", "s-17")
    };
    let (key, names) =
        ("0123456789abcdef", [hashed(Some("0123456789abcdef")), hashed(None), "s-17".to_owned()]);
    let records: Vec<Record> = names
        .iter()
        .chain([&"s-18".to_owned()])
        .zip(0..)
        .map(|(session, number)| {
            let mut record = record_of(NEW_YEAR_MS + number as i64, number);
            (record.request.tenant, record.request.session) = ("acme".to_owned(), session.clone());
            record
        })
        .collect();
    world.store.write(&records).await.unwrap();
    fs::write(world.path("pointsman/traffic.sqlite.corrupt-1700000000"), "broken").unwrap();
    fs::write(world.path("key"), key).unwrap();
    // What was logged before stays to be deleted when nothing is logged any more.
    let text = format!(
        "[traffic]\nenabled = false\nstore = \"{}\"\nhash_key = \"file:key\"\n",
        world.path("pointsman/traffic.sqlite").display()
    );
    fs::write(world.path("pointsman.toml"), text).unwrap();
    let delete = ["delete", "--tenant", "acme", "--session", "s-17", "--yes", "--config", "pointsman.toml"];
    let (code, out, error) = world.run(&delete);
    assert!(code == 0 && out.starts_with("deleted 3 records and 0 pieces"), "{out}{error}");
    assert!(error.contains("traffic.sqlite.corrupt-1700000000 is a broken file"), "{error}");
    assert_eq!(world.good(&["tail", "--json"]).lines().count(), 1);
    fs::remove_file(world.path("key")).unwrap();
    let (code, _, error) = world.run(&delete);
    assert!(code == 2 && error.contains("traffic.hash_key"), "{error}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_ends_nothing() {
    let world = World::of_days(3).await;
    let path = world.path("pointsman/traffic.sqlite");
    let mut connection =
        sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query(
        "UPDATE traffic SET document = '{\"version\": null}' WHERE day = (SELECT MIN(day) FROM traffic)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let (code, out, error) = world.run(&["export", "--out", "exports"]);
    assert!(code == 0 && out.starts_with("2 records"), "{out}{error}");
    assert!(error.contains("1 row of") && error.contains("cannot be read and was passed over"), "{error}");
    assert_eq!(world.good(&["tail"]).lines().count(), 1 + 2);
    let figures: Value =
        serde_json::from_str(&world.good(&["stats", "--since", "2026-01-01", "--json"])).unwrap();
    assert_eq!(figures["all"]["requests"].as_u64(), Some(2));
}

/// Everything that was there before is exported, and exporting holds up no writer.
#[tokio::test]
async fn export_works_while_a_server_writes() {
    let world = World::new().await;
    let before: Vec<Record> =
        (0..2_000).map(|number| record_of(NEW_YEAR_MS + number as i64, number)).collect();
    world.store.write(&before).await.unwrap();
    let mut child = world.command(&["export", "--out", "exports", "--format", "jsonl"]).spawn().unwrap();
    let mut written = 0;
    loop {
        let next = record_of(NEW_YEAR_MS + 10_000 + written, written as u64);
        world.store.write(&[next]).await.unwrap();
        written += 1;
        if child.try_wait().unwrap().is_some() {
            break;
        }
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = fs::read_to_string(&files(&world.path("exports"))[0].1).unwrap();
    let mut ids: Vec<Uuid> = lines
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["decision_id"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    let all = ids.len();
    ids.dedup();
    assert!(all == ids.len() && all >= before.len(), "{all} rows, {written} written meanwhile");
    assert!(before.iter().all(|record| ids.binary_search(&record.decision_id).is_ok()));
}

type Objects = Arc<Mutex<Vec<(String, Bytes)>>>;

/// Keeps what is put, as S3 would.
async fn bucket(answer: StatusCode) -> (String, Objects) {
    let objects = Objects::default();
    let put = move |State(objects): State<Objects>, method: Method, uri: Uri, body: Bytes| async move {
        if method != Method::PUT {
            // Lists what is there: nothing.
            return (StatusCode::OK, [("etag", "\"0\"")], "<ListBucketResult></ListBucketResult>".to_owned());
        }
        objects.lock().unwrap().push((uri.path().to_owned(), body));
        (answer, [("etag", "\"1\"")], String::new())
    };
    let app = Router::new().fallback(put).with_state(Arc::clone(&objects));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, objects)
}

async fn export_to_bucket(world: &World, address: &str) -> (i32, String, String) {
    let mut command = world.command(&["export", "--out", "s3://bucket/some/path"]);
    command
        .env("AWS_ENDPOINT", address)
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "nobody-may-read-this")
        .env("NO_PROXY", "127.0.0.1");
    told(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn export_goes_to_an_object_store() {
    let world = World::of_days(2).await;
    let (address, objects) = bucket(StatusCode::OK).await;
    let (code, out, error) = export_to_bucket(&world, &address).await;
    assert!(code == 0 && out.contains("2 records in 2 files"), "{out}{error}");
    let objects = objects.lock().unwrap();
    assert_eq!(objects.len(), 2);
    for ((path, body), day) in objects.iter().zip(["2026-01-01", "2026-01-02"]) {
        assert!(path.starts_with(&format!("/bucket/some/path/day%3D{day}/pointsman-")), "{path}");
        let reader = SerializedFileReader::new(body.clone()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_refuses_is_told_without_keys() {
    let world = World::of_days(1).await;
    let (address, _) = bucket(StatusCode::FORBIDDEN).await;
    let (code, out, error) = export_to_bucket(&world, &address).await;
    assert_eq!((code, out.as_str()), (1, ""), "{error}");
    assert!(error.contains("cannot write s3://bucket/some/path/day=2026-01-01/pointsman-"), "{error}");
    assert!(error.contains("403") && !error.contains("nobody-may") && !error.contains("AKID"), "{error}");
}
