//! A server whose admin listener would be open to others, or whose tokens and certificates are not there, does not
//! start, and `check` says so before.

use std::fs;

use super::{super::cli::text, commands::run, world::World};

/// Starts a server that must not start.
async fn start(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["serve"], arguments].concat();
    let output = run(Some(&world.file()), &arguments).await;
    assert_eq!(text(&output.stdout), "", "nothing is announced");
    (output.status.code(), text(&output.stderr))
}

async fn check(world: &World) -> (Option<i32>, String) {
    let output = run(Some(&world.file()), &["check", "--no-bundle"]).await;
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn with(server: &str, admin: &str) -> World {
    let mut world = World::new();
    server.clone_into(&mut world.server);
    if !admin.is_empty() {
        world.more = format!("[server.admin]\n{admin}\n");
    }
    fs::write(world.path("token"), "0123456789abcdef01234567").unwrap();
    fs::write(world.path("short"), "hunter2").unwrap();
    fs::write(world.path("empty"), " \n").unwrap();
    world.write();
    world
}

const OUTSIDE: &str = "admin_listen = \"0.0.0.0:0\"\n";
const TOKEN: &str = "tokens = [{ name = \"alice\", token = \"file:token\" }]";

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_listener_that_others_reach_asks_and_encrypts() {
    for (admin, because) in [
        ("", "whoever reaches it changes what serves"),
        ("allow_plaintext = true", "whoever reaches it changes what serves"),
        (TOKEN, "whoever listens in between reads the tokens"),
    ] {
        let world = with(OUTSIDE, admin);
        let (code, said) = check(&world).await;
        assert!(code == Some(2) && said.contains("server.admin_listen") && said.contains(because), "{said}");
        let (code, said) = start(&world, &[]).await;
        assert!(code == Some(2) && said.contains("server.admin_listen") && said.contains(because), "{said}");
        // The command line does not get around it.
        let world = with("", admin);
        let (code, said) = start(&world, &["--admin-listen", "0.0.0.0:0"]).await;
        assert!(code == Some(2) && said.contains("server.admin_listen") && said.contains(because), "{said}");
        let (code, said) = start(&world, &["--admin-listen", "0.0.0.0:0", "--allow-unauthenticated"]).await;
        assert!(code == Some(2) && said.contains(because), "that is for the other listeners: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_certificates_that_are_not_there_are_named() {
    let token = |from: &str| format!("tokens = [{{ name = \"alice\", token = \"{from}\" }}]");
    let cases = [
        (token("env:POINTSMAN_TEST_UNSET"), "server.admin.tokens[0] (alice): env:POINTSMAN_TEST_UNSET is not set"),
        (token("file:nowhere"), "nowhere is no file that can be read"),
        (token("file:short"), "short is shorter than 24 bytes"),
        (token("file:empty"), "empty is empty"),
        (
            "tokens = [{ name = \"alice\", token = \"file:token\" }, { name = \"bob\", token = \"file:token\" }]"
                .to_owned(),
            "server.admin.tokens[1] (bob): is the same token as that of alice",
        ),
        ("tls = { cert = \"nowhere.pem\", key = \"token\" }".to_owned(), "server.admin.tls.cert = "),
        ("tls = { cert = \"token\", key = \"token\" }".to_owned(), "server.admin.tls.cert = "),
    ];
    for (admin, because) in cases {
        let world = with("", &admin);
        let (code, said) = check(&world).await;
        assert_eq!(code, Some(0), "a configuration may be checked where its secrets are not: {said}");
        let warning =
            said.lines().find(|line| line.contains(because)).unwrap_or_else(|| panic!("{admin}: {said}"));
        assert!(warning.contains("warning") && warning.contains("serve will not start"), "{warning}");
        let (code, said) = start(&world, &[]).await;
        assert!(code == Some(1) && said.contains(because), "{admin}: {said}");
        assert!(!said.contains("hunter2") && !said.contains("0123456789abcdef01234567"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_every_token_and_only_where_there_is_a_listener() {
    let admin = "tokens = [{ name = \"alice\", token = \"file:nowhere\" }, { name = \"bob\", token = \"file:empty\" }]\n\
                 tls = { cert = \"a.pem\", key = \"a.key\" }";
    let world = with("", admin);
    let (_, said) = check(&world).await;
    assert_eq!(said.matches("serve will not start").count(), 3, "{said}");
    let world = with("admin_listen = \"off\"\n", admin);
    let (code, said) = check(&world).await;
    assert!(code == Some(0) && !said.contains("serve will not start"), "{said}");
    let (_, said) = check(&with("", TOKEN)).await;
    assert!(!said.contains("serve will not start"), "{said}");
}
