//! The way out while the database is away and what serves is bad: docs/fleet.md describes it.

use std::fs;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    commands::User,
    world::{Server, World},
};
use crate::support::onnx::TinyBundle;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_a_bad_bundle_can_be_got_rid_of() {
    let mut world = World::new();
    TinyBundle::new("1.0.0").always("complex").write_under(&world.store());
    let manifest = fs::read(world.store().join("1.0.0/manifest.json")).unwrap();
    let sha256: String = Sha256::digest(manifest).iter().map(|byte| format!("{byte:02x}")).collect();
    // Nobody listens there; what the fleet wanted is known from the copy alone.
    fs::write(world.path("url"), "postgres://nobody@127.0.0.1:1/nowhere").unwrap();
    let wanted = json!({"revision": 7, "active": {"name": "1.0.0", "sha256": sha256}, "active_since_ms": 1});
    fs::create_dir(world.path("spool")).unwrap();
    fs::write(world.path("spool/wanted.json"), wanted.to_string()).unwrap();
    world.traffic = "postgres_url = \"file:url\"\nspool = \"spool\"\n".to_owned();
    let mut user = User { server: Server::start(world).await };
    let bad = user.server.decide("code simple").await;
    assert_eq!((bad.bundle.as_str(), bad.tier.as_str()), ("1.0.0", "complex"));
    user.refused(&["bundle", "activate", "default"], 1, &["cannot be written down"]).await;

    // Rules and the default tier, at once.
    let with_it = user.server.world.text();
    let without_it = with_it.replace("[classifier]\n", "[classifier]\nenabled = false\n");
    fs::write(user.server.world.file(), &without_it).unwrap();
    user.refused(&["reload"], 1, &["the configuration was read again here"]).await;
    assert_eq!(user.server.decide("code simple").await.bundle, "");
    fs::write(user.server.world.file(), &with_it).unwrap();
    user.refused(&["reload"], 1, &["the configuration was read again here"]).await;
    assert_eq!(user.server.decide("code simple").await.bundle, "1.0.0");

    // The configured bundle, by a restart that leaves the fleet alone; it changes as it is told.
    let mut world = user.server.stop().await;
    "enabled = false\n".clone_into(&mut world.traffic);
    user = User { server: Server::start(world).await };
    let good = user.server.decide("code simple").await;
    assert_eq!((good.bundle.as_str(), good.tier.as_str()), ("0.1.0", "simple"));
    user.good(&["bundle", "activate", "1.0.0"]).await;
    user.good(&["bundle", "rollback"]).await;
    assert_eq!(user.server.decide("code simple").await.bundle, "0.1.0");
    user.server.stop().await;
}
