//! The settings of the traffic log on the command line: what `check` says of them, and what `serve` needs.

use crate::cli::{pointsman, text};

#[test]
fn check_says_where_requests_are_logged_and_logs_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pointsman.toml");
    let check = |sections: &str, expected: &[&str]| {
        std::fs::write(&file, sections).unwrap();
        let output = pointsman(&["check", "--no-bundle", file.to_str().unwrap()], b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout).replace(&folder.path().display().to_string(), ".");
        for expected in expected {
            assert!(shown.lines().any(|line| line == *expected), "{expected:?} is missing in {shown}");
        }
        assert!(!shown.contains("hunter2"), "{shown}");
    };
    check(
        "[traffic]\nstore = \"log.sqlite\"\ntext = \"hash\"\ntenant_text = { acme = \"full\" }\n\
         retention_bytes_max = 0\n[learning]\nenabled = true\nexplore = { rate = 0.05 }\n",
        &[
            "traffic    SQLite ./log.sqlite, text hash, otherwise for 1 tenant, kept 90 days",
            "learning   on, 5 % of requests explore",
            "warning: traffic: without hash_key hashes of likely texts can be found out by trying",
        ],
    );
    assert!(!folder.path().join("log.sqlite").exists(), "checking logs nothing");
    std::fs::write(folder.path().join("url"), "postgres://me:hunter2@db.internal/traffic").unwrap();
    check(
        "[traffic]\npostgres_url = \"file:url\"\nretention_days = 0\n[learning]\nexplore = {}\n",
        &[
            "traffic    PostgreSQL db.internal/traffic, text redacted, kept up to 10.00 GiB",
            "learning   off",
            "warning: learning.explore: nothing is tried out while learning is off",
        ],
    );
    check(
        "[traffic]\npostgres_url = \"env:POINTSMAN_TEST_NO_SUCH_URL\"\n",
        &["warning: traffic.postgres_url: env:POINTSMAN_TEST_NO_SUCH_URL is not set: serve will not start \
           without it"],
    );
    check("[traffic]\nenabled = false\n", &["traffic    off", "learning   off"]);
}

#[test]
fn serve_names_a_secret_of_the_log_that_is_missing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[traffic]\npostgres_url = \"env:POINTSMAN_TEST_NO_SUCH_URL\"\n").unwrap();
    let output = pointsman(&["--config", file.path().to_str().unwrap(), "serve"], b"");
    assert_eq!(output.status.code(), Some(2));
    let problem = text(&output.stderr);
    assert!(problem.contains("traffic.postgres_url: env:POINTSMAN_TEST_NO_SUCH_URL is not set"), "{problem}");
}
