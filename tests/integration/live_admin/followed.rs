//! Files that a server follows, and SIGHUP: whatever way they change, the server reads them once, and a broken one
//! changes nothing. With the built binary.

use std::{fs, os::unix::fs::symlink, path::Path};

use pointsman::server::proto::{LiveEventKind, admin_service_client::AdminServiceClient};
use tonic::transport::Channel;

use super::world::{World, decide, events};
use crate::{
    faults::process::{Process, metric},
    support::{onnx::TinyBundle, until},
};

const RELOADS: &str = "pointsman_config_reloads_total";

/// A server process and the files that it was started with.
struct Followed {
    process: Process,
    text: String,
}

impl Followed {
    /// Starts it and waits for its classifier.
    async fn start(world: World) -> Self {
        world.write();
        Self::start_as_written(world).await
    }

    async fn start_as_written(world: World) -> Self {
        let text = world.text();
        let process = Process::start_as_written(world.folder).await;
        let started = Self { process, text };
        until("the configured bundle", async || started.decide().await.0 == "0.1.0").await;
        started
    }

    /// Returns bundle, tier and generation of a decision.
    async fn decide(&self) -> (String, String, u64) {
        let decided = decide(&self.process.channel, "code simple").await;
        (decided.bundle, decided.tier, decided.generation)
    }

    async fn generation(&self) -> u64 {
        self.decide().await.2
    }

    /// Waits for the generation that follows a change.
    async fn exchanged(&self, what: &str, before: u64) {
        until(what, async || self.generation().await > before).await;
    }

    /// The configuration with another setting; each number makes another one.
    fn variant(&self, number: u32) -> String {
        format!("{}\n[policy]\nquality = 0.{}\n", self.text, 60 + number)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.process.folder().join(name)
    }

    async fn reloads(&self, outcome: &str) -> f64 {
        metric(&self.process.metrics().await, RELOADS, &[("outcome", outcome)])
    }

    async fn client(&self) -> AdminServiceClient<Channel> {
        let address = format!("http://{}", self.process.admin);
        AdminServiceClient::new(Channel::from_shared(address).unwrap().connect().await.unwrap())
    }
}

fn rename_over(file: &Path, text: &str) {
    let aside = file.with_extension("new");
    fs::write(&aside, text).unwrap();
    fs::rename(&aside, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_in_any_way_is_read_again() {
    let server = Followed::start(World::new()).await;
    let file = server.path("pointsman.toml");
    let before = server.generation().await;
    rename_over(&file, &server.variant(1));
    server.exchanged("a file that was renamed over the old one", before).await;
    let before = server.generation().await;
    fs::write(&file, server.variant(2)).unwrap();
    server.exchanged("a file that was written in place", before).await;
    let before = server.generation().await;
    fs::remove_file(&file).unwrap();
    server.process.signal("HUP");
    until("a reload without a file to be refused", async || server.reloads("refused").await >= 1.0).await;
    assert_eq!(server.generation().await, before, "the old one serves on");
    fs::write(&file, server.variant(3)).unwrap();
    server.exchanged("a file that came back", before).await;
    // It serves a moment before that is told.
    let told = async || events(&mut server.client().await).await;
    until("its event", async || told().await[0].who == "file").await;
    let told = told().await;
    let of = |who: &str| told.iter().filter(|event| event.who == who).count();
    assert_eq!((of("file"), of("SIGHUP")), (3, 1), "{told:?}");

    // A setting that needs a restart is named, and the rest applies.
    let before = server.generation().await;
    rename_over(&file, &server.variant(4).replace("drain_ms = 2000", "drain_ms = 1999"));
    server.exchanged("the rest of it", before).await;
    let why = "changed: policy; needs a restart: server.drain_ms";
    until(why, async || events(&mut server.client().await).await[0].why == why).await;
    let left = server.process.stop().await;
    assert!(left.log.contains("server.drain_ms"), "it stands in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_again_what_is_not_followed() {
    let mut world = World::new();
    world.server = "watch = false\n".to_owned();
    let server = Followed::start(world).await;
    let (file, before) = (server.path("pointsman.toml"), server.generation().await);
    rename_over(&file, &server.variant(1));
    // Following would have seen it long before this.
    server.process.signal("HUP");
    server.exchanged("SIGHUP", before).await;
    until("its event", async || !events(&mut server.client().await).await.is_empty()).await;
    let told = events(&mut server.client().await).await;
    let who: Vec<&str> = told.iter().map(|event| event.who.as_str()).collect();
    assert_eq!(who, ["SIGHUP"]);
    // The same once more changes nothing, and is no event.
    let before = server.generation().await;
    server.process.signal("HUP");
    until("a reload that changes nothing", async || server.reloads("unchanged").await >= 1.0).await;
    assert_eq!(server.generation().await, before);
    assert_eq!(events(&mut server.client().await).await.len(), 1);

    // From now on it follows.
    fs::write(&file, server.variant(1).replace("server.watch = false", "server.watch = true")).unwrap();
    server.process.signal("HUP");
    until("following to begin", async || {
        events(&mut server.client().await).await[0].why == "changed: server.watch"
    })
    .await;
    let before = server.generation().await;
    fs::write(&file, server.variant(2).replace("server.watch = false", "server.watch = true")).unwrap();
    server.exchanged("following", before).await;
    // It serves a moment before that is told.
    until("its event", async || events(&mut server.client().await).await[0].who == "file").await;
    // And not any longer.
    let before = server.generation().await;
    fs::write(&file, server.variant(2)).unwrap();
    server.exchanged("following to end", before).await;
    server.process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_refused_with_all_its_problems() {
    let server = Followed::start(World::new()).await;
    let file = server.path("pointsman.toml");
    let before = server.decide().await;
    rename_over(&file, &format!("{}[policy]\nquality = 7\nqality = 1\n", server.text));
    until("the file to be refused", async || server.reloads("refused").await >= 1.0).await;
    assert_eq!(server.decide().await, before);
    let told = events(&mut server.client().await).await;
    assert_eq!((told[0].kind(), told[0].who.as_str()), (LiveEventKind::ConfigRefused, "file"));
    for problem in ["policy.quality", "policy.qality"] {
        assert!(told[0].why.contains(problem), "{told:?}");
        let log = server.process.log();
        assert!(log.contains(problem), "{problem} is not in the log");
    }
    rename_over(&file, &server.variant(1));
    server.exchanged("a file that was mended", before.2).await;
    server.process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_is_followed_when_it_is_exchanged() {
    let world = World::new();
    let text = world.text();
    let at = |name: &str| world.path(name);
    let variant = |number: u32| format!("{text}\n[policy]\nquality = 0.{}\n", 60 + number);
    for (version, content) in
        [("..1", text.clone()), ("..2", variant(2)), ("..3", "broken".to_owned()), ("..4", variant(4))]
    {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("pointsman.toml"), content).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/pointsman.toml", at("pointsman.toml")).unwrap();
    let server = Followed::start_as_written(world).await;
    let exchange = |before: &str, version: &str| {
        symlink(version, server.path("..data_tmp")).unwrap();
        fs::rename(server.path("..data_tmp"), server.path("..data")).unwrap();
        fs::remove_dir_all(server.path(before)).unwrap();
    };
    let before = server.generation().await;
    exchange("..1", "..2");
    server.exchanged("the second one", before).await;
    let before = server.generation().await;
    exchange("..2", "..3");
    until("the broken one to be refused", async || server.reloads("refused").await >= 1.0).await;
    assert_eq!(server.generation().await, before);
    exchange("..3", "..4");
    server.exchanged("the fourth one", before).await;
    server.process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pointer_beside_versions_is_followed() {
    let world = World::new();
    let own = world.path("own");
    fs::remove_dir_all(&own).unwrap();
    TinyBundle::new("0.1.0").write_under(&own);
    TinyBundle::new("0.2.0").always("complex").write_under(&own);
    fs::write(own.join("default"), "0.1.0\n").unwrap();
    let server = Followed::start(world).await;
    let pointer = server.path("own/default");
    rename_over(&pointer, "0.2.0\n");
    until("the second version", async || server.decide().await.0 == "0.2.0").await;
    assert_eq!(server.decide().await.1, "complex");
    let before = server.generation().await;
    for broken in ["0.3.0\n", "../elsewhere\n"] {
        let refused = server.reloads("refused").await;
        rename_over(&pointer, broken);
        until("a pointer to nothing to be refused", async || server.reloads("refused").await > refused).await;
        assert_eq!(server.generation().await, before, "{broken:?}");
    }
    rename_over(&pointer, "0.1.0\n");
    until("the first version again", async || server.decide().await.0 == "0.1.0").await;
    let mut client = server.client().await;
    until("the event of it", async || {
        let told = events(&mut client).await;
        (told[0].why.as_str(), told[0].who.as_str()) == ("changed: classifier.bundle", "file")
    })
    .await;
    server.process.stop().await;
}
