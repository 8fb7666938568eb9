//! A bundle that must not serve is refused when it is staged and when it is activated, with the reason in the answer,
//! in the event and in the metric; what served serves on.

use std::{fs, path::Path};

use minisign::KeyPair;
use pointsman::server::proto::LiveEventKind;
use tonic::Code;

use super::{
    refusals::{Ask, ask},
    world::{Refused, Server, World, events, wanted},
};
use crate::{
    faults::process::metric,
    support::onnx::{Fault, LEVELS, TinyBundle},
};

pub const UNFIT: &str = "pointsman_bundles_unfit_total";

fn counted(unfit: &str) -> f64 {
    metric(&pointsman::telemetry::init_metrics().render(), UNFIT, &[("reason", unfit)])
}

/// Stages and activates a version that is in the store; `code` and `reason` are what both are refused with.
async fn check(server: &Server, version: &str, expected: (Code, &str, &str), because: &str) {
    let mut client = server.client().await;
    let before = server.decide("code complex").await;
    let (code, reason, unfit) = expected;
    for asked in [Ask::Verify(version), Ask::Stage(version), Ask::Activate(version)] {
        let counted_before = counted(unfit);
        let answer = ask(&mut client, asked).await;
        let refused = Refused::from(answer.expect_err(&format!("{asked:?}: {because}")));
        let got = (refused.code, refused.reason.as_str(), refused.unfit.as_str());
        assert_eq!(got, (code, reason, unfit), "{asked:?}: {refused:?}");
        assert!(refused.message.contains(because), "{asked:?}: {refused:?} does not say {because:?}");
        let named = refused.message.contains(version) || unfit == "labels";
        assert!(named, "{asked:?}: {refused:?}");
        if matches!(asked, Ask::Verify(_)) {
            continue;
        }
        let told = &events(&mut client).await[0];
        assert_eq!(
            (told.kind(), told.to.as_str(), told.from.as_str()),
            (LiveEventKind::Refused, version, "default")
        );
        assert!(told.why.starts_with(&format!("{unfit}: ")) && told.why.contains(because), "{told:?}");
        assert!(counted(unfit) > counted_before, "{asked:?}: {unfit} is not counted");
        assert_eq!(server.decide("code complex").await, before, "{asked:?}: what served goes on");
    }
    assert_eq!(wanted(&mut client).await.revision, 0, "{version}: nothing is wanted");
}

/// Returns what can be wrong with a bundle, each with its reason and what is said of it.
pub fn every_kind() -> Vec<(Fault, &'static str, &'static str)> {
    vec![
        (Fault::Missing("model.onnx"), "unreadable", "model.onnx: "),
        (Fault::Missing("tokenizer.json"), "unreadable", "tokenizer.json: "),
        (Fault::Missing("golden.jsonl"), "unreadable", "golden.jsonl: "),
        (Fault::NotListed("tokenizer.json"), "not_listed", "tokenizer.json: is not listed"),
        (Fault::ManifestBroken, "manifest", "manifest.json: EOF"),
        (Fault::FormatOfTheFuture, "format", "format 2, this version reads format 1"),
        (Fault::HalfCopied("model.onnx"), "length", "copy the bundle again"),
        (Fault::HalfCopied("golden.jsonl"), "length", "copy the bundle again"),
        (Fault::ByteFlipped("model.onnx"), "sha256", "model.onnx: sha256 is"),
        (Fault::ByteFlipped("tokenizer.json"), "sha256", "tokenizer.json: sha256 is"),
        (Fault::ModelTruncated, "graph", "is no ONNX graph, or not all of one"),
        (Fault::OpsetOfTheFuture, "opset", "was written for opset 99"),
        (Fault::WeightsElsewhere, "graph", "lies in another file"),
        (Fault::OutputRenamed, "outputs", "has no output intent_logits"),
        (Fault::OutputTooWide, "outputs", "expected by the manifest"),
        (Fault::OutputOfAnotherRank, "outputs", "expected by the manifest"),
        (Fault::ScoresNotANumber, "not_finite", "holds NaN"),
        (Fault::Huge, "too_large", "68719476736 bytes, at most 2147483648 are read"),
        (
            Fault::LinkOutside("model.onnx"),
            "outside",
            "model.onnx: is a link that leaves the bundle's folder",
        ),
        (Fault::LinkOutside("golden.jsonl"), "outside", "put the file itself there"),
        (Fault::LinkOutside("manifest.json"), "outside", "put the file itself there"),
        (Fault::TokenizerOfAnother, "tokenizer", "it is the tokenizer of another model"),
        (Fault::TokenizerShuffled, "tokenizer", "golden.jsonl line 1"),
        (Fault::TokenizerTooLarge, "tokenizer", "it is the tokenizer of another model"),
        (Fault::TokenizerBroken, "tokenizer", "tokenizer.json: "),
        (Fault::GoldenOfAnother, "golden", "line 3 (golden_2)"),
        (Fault::GoldenEmpty, "golden", "holds no sample"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_refused_and_what_served_goes_on() {
    let server = Server::start(World::new()).await;
    for (at, (fault, unfit, because)) in every_kind().into_iter().enumerate() {
        let version = format!("2.0.{at}");
        TinyBundle::new(&version).fault(fault).write_under(&server.world.store());
        check(&server, &version, (Code::FailedPrecondition, "UNFIT", unfit), because).await;
    }
    // Without a manifest there is no version: it may be half copied.
    TinyBundle::new("3.0.0").fault(Fault::Missing("manifest.json")).write_under(&server.world.store());
    let mut client = server.client().await;
    let told = events(&mut client).await.len();
    for asked in [Ask::Verify("3.0.0"), Ask::Stage("3.0.0"), Ask::Activate("3.0.0")] {
        let refused = Refused::from(ask(&mut client, asked).await.expect_err("there is none"));
        let got = (refused.code, refused.reason.as_str(), refused.unfit.as_str());
        assert_eq!(got, (Code::NotFound, "UNKNOWN_BUNDLE", ""), "{asked:?}: {refused:?}");
    }
    assert_eq!(events(&mut client).await.len(), told, "a slip is an answer, and no event");
    // A folder by another name than its bundle's.
    TinyBundle::new("3.0.1").write(&server.world.store().join("3.0.2"));
    check(&server, "3.0.2", (Code::FailedPrecondition, "UNFIT", "manifest"), "rename the folder").await;
    // Levels that are no tiers of the configuration.
    TinyBundle::new("3.0.3").levels(&["low", "high"]).write_under(&server.world.store());
    check(&server, "3.0.3", (Code::FailedPrecondition, "UNFIT", "labels"), "low").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_an_intent_that_a_rule_names_is_refused() {
    let mut world = World::new();
    world.top =
        "rules = [{ id = \"brackets\", any = [\"^\\\\[\\\\]$\"], intent = \"code\", tier = \"simple\" }]\n"
            .to_owned();
    TinyBundle::new("1.0.0").intents(&["math", "other"]).levels(&LEVELS).write_under(&world.store());
    let server = Server::start(world).await;
    check(&server, "1.0.0", (Code::FailedPrecondition, "UNFIT", "labels"), "code").await;
    server.stop().await;
}

fn sign(folder: &Path, pair: &KeyPair) {
    let manifest = fs::File::open(folder.join("manifest.json")).unwrap();
    let signature = minisign::sign(None, &pair.sk, manifest, None, None).unwrap();
    fs::write(folder.join("manifest.json.minisig"), signature.into_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_known_has_signed_is_refused_where_signatures_are_required() {
    let pair = || KeyPair::generate_unencrypted_keypair().unwrap();
    let (ours, others) = (pair(), pair());
    let mut world = World::with(&["1.0.0", "1.0.1", "1.0.2", "1.0.3"]);
    world.bundles = format!("public_keys = [{:?}]\nrequire_signature = true\n", ours.pk.to_base64());
    sign(&world.store().join("1.0.1"), &others);
    for signed in ["1.0.2", "1.0.3"] {
        sign(&world.store().join(signed), &ours);
    }
    TinyBundle::new("1.0.2").always("complex").write_under(&world.store());
    let server = Server::start(world).await;
    let unfit = (Code::FailedPrecondition, "UNFIT", "signature");
    check(&server, "1.0.0", unfit, "is not signed").await;
    check(&server, "1.0.1", unfit, "is by none of bundles.public_keys").await;
    check(&server, "1.0.2", unfit, "it was changed after it was signed").await;
    ask(&mut server.client().await, Ask::Activate("1.0.3")).await.unwrap();
    assert_eq!(server.decide("code").await.bundle, "1.0.3");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_was_exchanged_after_it_was_staged_is_another_one() {
    let server = Server::start(World::with(&["1.0.0"])).await;
    let mut client = server.client().await;
    ask(&mut client, Ask::Activate("1.0.0")).await.unwrap();
    let before = server.decide("code").await;
    fs::remove_dir_all(server.world.store().join("1.0.0")).unwrap();
    ask(&mut client, Ask::Activate("default")).await.unwrap();
    let refused = Refused::from(ask(&mut client, Ask::Rollback).await.expect_err("it is gone"));
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "UNKNOWN_BUNDLE"), "{refused:?}");
    TinyBundle::new("1.0.0").always("complex").write_under(&server.world.store());
    let refused = Refused::from(ask(&mut client, Ask::Rollback).await.expect_err("another one"));
    let got = (refused.code, refused.reason.as_str(), refused.unfit.as_str());
    assert_eq!(got, (Code::FailedPrecondition, "UNFIT", "sha256"), "{refused:?}");
    assert_eq!(server.decide("code").await.bundle, "0.1.0");
    assert_eq!(before.bundle, "1.0.0");
    // By name, too, it is the one that served; the new one is meant when nothing is known of the other any more.
    let refused = Refused::from(ask(&mut client, Ask::Activate("1.0.0")).await.expect_err("another one"));
    assert_eq!(refused.unfit, "sha256", "{refused:?}");
    ask(&mut client, Ask::Forget("1.0.0")).await.unwrap();
    ask(&mut client, Ask::Activate("1.0.0")).await.unwrap();
    assert_eq!(server.decide("code simple").await.tier, "complex");
    server.stop().await;
}
