use std::{fs, path::PathBuf, time::Duration};

use secrecy::ExposeSecret;

use crate::config::{
    Config, ConfigError, DEFAULT_TOML, ExploreConfig, LearningConfig, LearningWeights, StoreConfig,
    TextPolicy, read_file, read_text, state_folder,
};

#[track_caller]
fn check(text: &str, expected: &str) {
    let error = read_text(text).expect_err(text);
    let got: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    assert_eq!(got, [expected], "{text}");
}

#[track_caller]
fn traffic(key: &str, expected: &str) {
    check(&format!("[traffic]\n{key}"), &format!("line 2: traffic.{expected}"));
}

#[track_caller]
fn learning(key: &str, expected: &str) {
    check(&format!("[learning]\n{key}"), &format!("line 2: learning.{expected}"));
}

/// Reads the text as a file in a folder, beside the given other files.
fn in_folder(text: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Config, ConfigError>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let path = folder.path().join("pointsman.toml");
    fs::write(&path, text).unwrap();
    let config = read_file(&path);
    (folder, config)
}

#[test]
fn without_a_word_the_log_is_in_the_users_folder() {
    let traffic = read_text("").unwrap().traffic;
    assert!(traffic.enabled);
    let StoreConfig::Sqlite { path } = &traffic.store else { panic!("{:?}", traffic.store) };
    assert_eq!(*path, state_folder().join("traffic.sqlite"));
    assert_eq!(traffic.spool.folder, state_folder().join("traffic.sqlite-spool"));
    assert_eq!(traffic.text, TextPolicy::Redacted);
    assert_eq!(traffic.retention.age_max, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(traffic.complete(), Ok(()));
}

#[test]
fn the_compiled_in_text_says_what_the_types_default_to() {
    let without = DEFAULT_TOML.split_once("[traffic]").unwrap().0.to_owned() + "[traffic]\n[learning]\n";
    let (with, without) = (read_text(DEFAULT_TOML).unwrap(), read_text(&without).unwrap());
    assert_eq!(format!("{:?}", with.traffic), format!("{:?}", without.traffic));
    assert_eq!((with.learning, without.learning), (LearningConfig::default(), LearningConfig::default()));
    let examples: Vec<&str> = DEFAULT_TOML.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let learning = read_text(&examples.join("\n")).unwrap().learning;
    let explore = Some(ExploreConfig { rate: 0.02, quality_min: 0.5 });
    assert_eq!(learning, LearningConfig { enabled: true, explore, ..LearningConfig::default() });
}

#[test]
fn what_is_written_holds() {
    let text = r#"
        [traffic]
        store = "data/log.sqlite"
        text = "hash"
        tenant_text = { acme = "full", "strict & co" = "none" }
        text_bytes_max = 2048
        queue_max = 7
        queue_bytes_max = 4096
        flush_ms = 20
        spool_bytes_max = 1_048_576
        retention_days = 0
        retention_bytes_max = 0
        unknown_feedback_max = 0
        [learning]
        enabled = true
        prior_sd = 0.5
        offset_max = 2
        half_life_days = 0.5
        refresh_ms = 100
        tenant_burst = 5
        tenant_per_hour = 0
        weights = { human = 2, weak = 0 }
        [learning.explore]
        rate = 0.1
    "#;
    let (folder, config) = in_folder(text, &[]);
    let Config { traffic, learning, .. } = config.unwrap();
    let StoreConfig::Sqlite { path } = &traffic.store else { panic!("{:?}", traffic.store) };
    assert_eq!(*path, folder.path().join("data/log.sqlite"));
    assert_eq!(traffic.spool.folder, folder.path().join("data/log.sqlite-spool"));
    assert_eq!(traffic.text, TextPolicy::Hash);
    assert_eq!(traffic.tenant_text["acme"], TextPolicy::Full);
    assert_eq!(traffic.tenant_text["strict & co"], TextPolicy::None);
    assert_eq!((traffic.text_bytes_max, traffic.queue_max, traffic.queue_bytes_max), (2048, 7, 4096));
    assert_eq!((traffic.flush, traffic.spool.bytes_max), (Duration::from_millis(20), 1 << 20));
    assert_eq!((traffic.retention.age_max, traffic.retention.bytes_max), (None, None));
    assert_eq!(traffic.unknown_feedback_max, 0);
    assert!(learning.enabled);
    assert_eq!((learning.prior_sd, learning.offset_max), (0.5, 2.0));
    assert_eq!(learning.half_life, Duration::from_secs(43_200));
    assert_eq!(learning.refresh, Duration::from_millis(100));
    assert_eq!((learning.tenant_burst, learning.tenant_per_hour), (5.0, 0.0));
    let weights = LearningWeights { human: 2.0, user: 0.5, automatic: 0.3, accepted: 0.004, weak: 0.0 };
    assert_eq!(learning.weights, weights);
    assert_eq!(learning.explore, Some(ExploreConfig { rate: 0.1, quality_min: 0.5 }));
}

#[test]
fn a_database_and_a_key_come_from_files_or_the_environment() {
    let text = "[traffic]\npostgres_url = \"file:url\"\npostgres_connections_max = 3\nhash_key = \"file:key\"\n\
                spool = \"spool\"\n";
    let url = "postgres://pointsman:hunter2@db.internal:5433/traffic?sslmode=require";
    let (folder, config) = in_folder(text, &[("url", url), ("key", " 0123456789abcdef\n")]);
    let config = config.unwrap().traffic;
    let StoreConfig::Postgres { url: read, connections_max } = &config.store else { panic!("no database") };
    assert_eq!((read.expose_secret(), *connections_max), (url, 3));
    assert_eq!(config.hash_key.as_ref().unwrap().expose_secret(), "0123456789abcdef");
    assert_eq!(config.spool.folder, folder.path().join("spool"));
    assert_eq!(config.complete(), Ok(()));
    assert_eq!(config.store.described(), "PostgreSQL db.internal/traffic");
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn no_two_stores_share_a_spool_unless_told_to() {
    let spool = |url: &str| {
        let url = secrecy::SecretString::from(url.to_owned());
        StoreConfig::Postgres { url, connections_max: 1 }.spool_folder("state".as_ref())
    };
    let one = spool("postgres://anna:a@db.internal/traffic");
    assert_eq!(one.parent(), Some("state/spool".as_ref()));
    for same in
        ["postgres://ben:b@db.internal:5432/traffic", "postgresql://db.internal/traffic?sslmode=require"]
    {
        assert_eq!(one, spool(same), "{same}");
    }
    for other in [
        "postgres://db.internal:5433/traffic",
        "postgres://db.internal/traffic2",
        "postgres://db2.internal/traffic",
        "postgres://db.internal/traffic?host=/run/postgresql",
        "postgres://db.internal/traffic?options=-csearch_path%3Dtenants",
        "postgres://anna@db.internal",
    ] {
        assert_ne!(one, spool(other), "{other}");
    }
    assert_ne!(spool("postgres://anna@db.internal"), spool("postgres://ben@db.internal/"));
    let text = "[traffic]\npostgres_url = \"file:url\"\n";
    let (_folder, config) = in_folder(text, &[("url", "postgres://db.internal/traffic")]);
    assert!(config.unwrap().traffic.spool.folder.starts_with(state_folder().join("spool")));
}

#[test]
fn a_secret_that_is_not_there_is_told_to_who_needs_it() {
    let check = |text: &str, files: &[(&str, &str)], expected: &str| {
        let (folder, config) = in_folder(text, files);
        let config = config.unwrap().traffic;
        let told = config.complete().expect_err(text).to_string();
        assert_eq!(told.replace(&folder.path().display().to_string(), "."), expected);
        let off = super::TrafficConfig { enabled: false, ..config };
        assert_eq!(off.complete(), Ok(()), "what is off needs nothing");
        assert!(off.readable().is_err(), "what was logged before needs it still");
    };
    let url = |source: &str| format!("[traffic]\npostgres_url = \"{source}\"");
    let no_address = "holds no address such as postgres://USER@HOST/DATABASE";
    check(
        &url("env:POINTSMAN_TEST_NOT_SET"),
        &[],
        "traffic.postgres_url: env:POINTSMAN_TEST_NOT_SET is not set",
    );
    check(&url("file:a"), &[], "traffic.postgres_url: file:./a is no file that can be read");
    check(&url("file:a"), &[("a", " \n")], "traffic.postgres_url: file:./a is empty");
    check(&url("file:a"), &[("a", "db.internal")], &format!("traffic.postgres_url: file:./a {no_address}"));
    check(&url("file:a"), &[("a", "mysql://a/b")], &format!("traffic.postgres_url: file:./a {no_address}"));
    check(
        "[traffic]\nhash_key = \"file:a\"",
        &[("a", "short")],
        "traffic.hash_key: file:./a holds fewer than 16 bytes",
    );
}

#[test]
fn secrets_never_stand_in_the_file_nor_in_a_message() {
    let inline = "keys never stand in the configuration: write env:NAME or file:PATH";
    traffic("postgres_url = \"postgres://a:hunter2@b/c\"", &format!("postgres_url: {inline}"));
    traffic("hash_key = \"0123456789abcdef\"", &format!("hash_key: {inline}"));
    traffic(
        "store = \"postgres://a:hunter2@b/c\"",
        "store: is no file: the address of a PostgreSQL database belongs into postgres_url",
    );
    for key in ["queue_max", "postgres_connections_max", "enabled", "tenant_text"] {
        let error = read_text(&format!("[traffic]\n{key} = \"postgres://a:hunter2@b/c\"")).expect_err(key);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn each_mistake_has_its_place() {
    traffic("text_bytes_max = 100", "text_bytes_max: 100 is not within 1024 to 67108864");
    traffic("queue_max = 0", "queue_max: 0 is not within 1 to 10000000");
    traffic("queue_bytes_max = 2048", "queue_bytes_max: 2048 is below text_bytes_max, 32768");
    traffic("flush_ms = 0", "flush_ms: 0 is not within 1 to 60000");
    traffic("spool = \"\"", "spool: is empty");
    traffic("store = \" \"", "store: is empty");
    traffic("spool_bytes_max = 10", "spool_bytes_max: 10 is not within 1048576 to 1125899906842624");
    traffic("retention_days = 40_000", "retention_days: 40000 is not within 0 to 36500");
    traffic(
        "retention_bytes_max = 5",
        "retention_bytes_max: 5 is neither 0, for no limit, nor within 16777216 to 1125899906842624",
    );
    traffic("postgres_connections_max = 4", "postgres_connections_max: is only for postgres_url");
    traffic(
        "tenant_text = { \"\" = \"none\" }",
        "tenant_text: names an empty tenant: `text` is for requests without one",
    );
    check(
        "[traffic]\nstore = \"a\"\nspool = \"a\"",
        "line 3: traffic.spool: is the file of the store: it needs a folder of its own",
    );
    check(
        "[traffic]\nstore = \"a\"\npostgres_url = \"env:A\"",
        "line 2: traffic.store: and postgres_url are both set: give one of them",
    );
    learning("prior_sd = 0", "prior_sd: 0 is not within 0.01 to 10");
    learning("offset_max = nan", "offset_max: NaN is not within 0.01 to 20");
    learning("half_life_days = inf", "half_life_days: inf is not within 0.01 to 3650");
    learning("refresh_ms = 1", "refresh_ms: 1 is not within 50 to 3600000");
    learning("tenant_burst = 0", "tenant_burst: 0 is not within 1 to 1000000000");
    learning("weights = { user = -1 }", "weights.user: -1 is not within 0 to 10");
    learning("explore = { rate = 1.5 }", "explore.rate: 1.5 is not within 0 to 1");
    learning("explore = { quality_min = 2 }", "explore.quality_min: 2 is not within 0 to 1");
    check(
        "[traffic]\nenabled = false\n[learning]\nenabled = true",
        "line 4: learning.enabled: needs the traffic log: set traffic.enabled = true",
    );
}

#[test]
fn unknown_keys_and_policies_name_what_there_is() {
    for (text, expected) in [
        ("[traffic]\nfile = \"a\"", "line 2: traffic.file: unknown field `file`"),
        (
            "[traffic]\ntext = \"plain\"",
            "line 2: traffic.text: unknown variant `plain`, expected one of `full`",
        ),
        (
            "[traffic]\ntenant_text = { a = \"some\" }",
            "line 2: traffic.tenant_text.a: unknown variant `some`",
        ),
        ("[learning]\nrate = 1", "line 2: learning.rate: unknown field `rate`"),
        ("[learning.explore]\nshare = 1", "line 2: learning.explore.share: unknown field `share`"),
    ] {
        let error = read_text(text).expect_err(text);
        let got = error.problems[0].to_string();
        assert!(got.starts_with(expected), "{got}");
        assert_eq!(error.problems.len(), 1, "{error}");
    }
}

#[test]
fn a_file_elsewhere_is_meant_as_it_is_written() {
    let (_folder, config) = in_folder("[traffic]\nstore = \"/var/lib/pointsman/traffic.sqlite\"", &[]);
    let StoreConfig::Sqlite { path } = config.unwrap().traffic.store else { panic!("no file") };
    assert_eq!(path, PathBuf::from("/var/lib/pointsman/traffic.sqlite"));
}
