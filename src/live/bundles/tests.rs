//! Stores of both kinds with bundles of a few bytes: what is copied, what is refused, and what happens at once.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use minisign::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use super::*;
use crate::config::default_config;

#[path = "put_tests.rs"]
mod put_tests;

/// A folder with a store, a cache, and bundles that are to be put into it.
struct World {
    folder: TempDir,
    config: BundlesConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    Objects,
}

const BOTH: [Kind; 2] = [Kind::Folder, Kind::Objects];

impl World {
    fn new(kind: Kind) -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("store");
        fs::create_dir(&root).unwrap();
        let store = match kind {
            Kind::Folder => BundleStoreConfig::Folder(root),
            Kind::Objects => BundleStoreConfig::Url(Url::from_directory_path(root).unwrap()),
        };
        let cache = folder.path().join("cache");
        let config = BundlesConfig { store, cache, ..default_config().bundles };
        Self { folder, config }
    }

    fn store(&self) -> BundleStore {
        BundleStore::open(&self.config).unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Makes a bundle's folder and returns it.
    fn bundle(&self, version: &str, model: &[u8]) -> PathBuf {
        let folder = self.path(&format!("made-{version}"));
        write_bundle(&folder, version, model);
        folder
    }

    async fn put(&self, version: &str, model: &[u8]) -> BundleRef {
        self.store().put(&self.bundle(version, model)).await.unwrap()
    }

    /// Signs the manifest in a folder.
    fn sign(folder: &Path, pair: &KeyPair) {
        let manifest = fs::File::open(folder.join("manifest.json")).unwrap();
        let signature = minisign::sign(None, &pair.sk, manifest, Some("for tests"), None).unwrap();
        fs::write(folder.join("manifest.json.minisig"), signature.into_string()).unwrap();
    }

    fn require(&mut self, pair: &KeyPair) {
        self.config.public_keys = vec![pair.pk.to_base64()];
        self.config.require_signature = true;
    }
}

fn pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn write_bundle(folder: &Path, version: &str, model: &[u8]) {
    // What is left of another one, links among it.
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    let mut files = json!({});
    for (name, content) in [("model.onnx", model), ("golden.jsonl", b"{}"), ("empty", b"")] {
        fs::write(folder.join(name), content).unwrap();
        files[name] = json!({"sha256": sha256(content), "bytes": content.len()});
    }
    let manifest = json!({"format": 1, "name": "n", "version": version, "created": format!("2026-{version}"), "files": files});
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

fn edit(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

fn named(version: &str) -> BundleRef {
    BundleRef { name: version.into(), sha256: None }
}

/// Says that something is refused, and why.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, BundleStoreError>, because: &str) {
    let error = result.expect_err(because).to_string();
    assert!(error.contains(because), "{error:?} does not say {because:?}");
}

#[tokio::test]
async fn what_is_put_is_listed_found_and_fetched() {
    for kind in BOTH {
        let world = World::new(kind);
        let store = world.store();
        assert_eq!(store.list().await.unwrap(), []);
        // More than one range of an object store.
        let model = vec![7; (8 << 20) + 5];
        let put = world.put("1.0", &model).await;
        world.put("1.1", b"other").await;
        let told = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&told);
        let found = store.find("1.0").await.unwrap();
        assert_eq!(found, put);
        let telling: Told = Arc::new(move |bytes| {
            counted.fetch_add(bytes, Ordering::Relaxed);
        });
        let fetched = store.fetch_telling(&found, telling).await.unwrap();
        assert_eq!(told.load(Ordering::Relaxed), model.len() as u64 + 2);
        assert_eq!(fs::read(fetched.folder.join("model.onnx")).unwrap(), model);
        assert_eq!(sha256(&fs::read(fetched.folder.join("manifest.json")).unwrap()), *found.sha256.unwrap());
        assert_eq!(fetched.folder.starts_with(world.path("cache")), kind == Kind::Objects);
        let listed = store.list().await.unwrap();
        let names: Vec<&str> = listed.iter().map(|one| &*one.bundle.name).collect();
        assert_eq!(names, ["1.1", "1.0"], "the latest first");
        assert_eq!((listed[1].bytes, listed[1].signed_by.as_ref()), (model.len() as u64 + 2, None));
        refused(store.find("2.0").await, "bundle 2.0: not in ");
        refused(store.find("../cache").await, "a version begins with");
        refused(store.fetch(&named("default")).await, "is reserved");
        assert_eq!(store.describe("1.0").await.unwrap(), listed[1]);
        refused(store.describe("2.0").await, "bundle 2.0: not in ");
        refused(store.describe("..").await, "a version begins with");
    }
}

#[tokio::test]
async fn a_version_is_one_bundle_for_ever() {
    for kind in BOTH {
        let world = World::new(kind);
        let store = world.store();
        let folder = world.bundle("1", b"one");
        let first = store.put(&folder).await.unwrap();
        assert_eq!(store.put(&folder).await.unwrap(), first, "the same again");
        write_bundle(&folder, "1", b"two");
        refused(store.put(&folder).await, "holds another bundle of this version: give yours another one");
        assert_eq!(store.find("1").await.unwrap(), first);
        // Whoever staged the one does not get the other.
        fs::remove_dir_all(world.path("store/1")).unwrap();
        store.put(&folder).await.unwrap();
        refused(store.fetch(&first).await, "is another than was asked for");
    }
}

#[tokio::test]
async fn what_does_not_agree_with_its_manifest_is_not_put() {
    for kind in BOTH {
        let world = World::new(kind);
        let store = world.store();
        let check = async |change: &dyn Fn(&Path), because: &str| {
            let folder = world.bundle("1", b"model");
            change(&folder);
            refused(store.put(&folder).await, because);
            assert_eq!(store.list().await.unwrap(), [], "nothing of it is seen");
        };
        let write = |file: &'static str, content: &'static str| {
            move |folder: &Path| fs::write(folder.join(file), content).unwrap()
        };
        check(&write("model.onnx", "modem"), "model.onnx: sha256 is").await;
        check(&write("model.onnx", "mod"), "model.onnx: 3 bytes, the manifest says 5").await;
        check(&write("manifest.json", "{"), "manifest.json: EOF").await;
        check(&|folder| fs::remove_file(folder.join("empty")).unwrap(), "empty: ").await;
        check(&|folder| fs::remove_file(folder.join("manifest.json")).unwrap(), "no bundle's folder").await;
        check(&|folder| edit(folder, |manifest| manifest["version"] = json!("a/b")), "only letters").await;
        #[cfg(unix)]
        check(
            &|folder| {
                fs::remove_file(folder.join("model.onnx")).unwrap();
                fs::write(folder.with_extension("outside"), "model").unwrap();
                std::os::unix::fs::symlink(folder.with_extension("outside"), folder.join("model.onnx"))
                    .unwrap();
            },
            "is a link that leaves the bundle's folder",
        )
        .await;
        // What was half copied does not stand in the way.
        world.put("1", b"model").await;
    }
}

#[tokio::test]
async fn a_half_copied_version_is_not_seen_and_a_damaged_one_not_taken() {
    for kind in BOTH {
        let world = World::new(kind);
        let store = world.store();
        let there = world.path("store/1");
        fs::create_dir_all(&there).unwrap();
        fs::write(there.join("model.onnx"), "half").unwrap();
        assert_eq!(store.list().await.unwrap(), []);
        refused(store.find("1").await, "not in");
        fs::remove_dir_all(&there).unwrap();
        let bundle = world.put("1", b"model").await;
        let model = there.join(match kind {
            Kind::Folder => "model.onnx".to_owned(),
            Kind::Objects => format!("model.onnx.{}", sha256(b"model")),
        });
        assert!(model.exists());
        fs::write(&model, "modem").unwrap();
        refused(store.fetch(&bundle).await, "model.onnx: sha256 is");
        fs::write(&model, "longer model").unwrap();
        refused(store.fetch(&bundle).await, "model.onnx: 12 bytes, the manifest says 5");
        fs::remove_file(&model).unwrap();
        refused(store.fetch(&bundle).await, "model.onnx: ");
        assert!(!world.path("cache").exists() || in_cache(&world) == 0, "nothing half is kept");
        // As other programs name it.
        fs::write(there.join("model.onnx"), "model").unwrap();
        store.fetch(&bundle).await.unwrap();
    }
}

/// Folders in the cache.
fn in_cache(world: &World) -> usize {
    let entries = fs::read_dir(world.path("cache")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
}

#[tokio::test]
async fn what_is_no_version_is_listed_with_its_problem() {
    for kind in BOTH {
        let world = World::new(kind);
        world.put("1", b"model").await;
        let add = |name: &str| {
            let folder = world.path("store").join(name);
            write_bundle(&folder, "2", b"x");
            folder
        };
        add("renamed");
        fs::write(add("broken").join("manifest.json"), "not json").unwrap();
        fs::write(add("huge").join("manifest.json"), vec![b' '; (1 << 20) + 1]).unwrap();
        add("a version");
        add("default");
        add(".part-x");
        fs::create_dir(world.path("store/notes")).unwrap();
        let listed = world.store().list().await.unwrap();
        let problem = |name: &str| {
            let one = listed.iter().find(|one| &*one.bundle.name == name).unwrap_or_else(|| panic!("{name}"));
            one.problem.clone().unwrap_or_default()
        };
        for (name, expected) in [
            ("1", ""),
            ("renamed", "says version \"2\", and its folder is called \"renamed\""),
            ("broken", "manifest.json: expected"),
            ("huge", "manifest.json: "),
            ("a version", "only letters"),
            ("default", "reserved"),
        ] {
            assert!(problem(name).contains(expected), "{name}: {}", problem(name));
        }
        assert_eq!(listed.len(), 6, "{listed:?}");
    }
}

#[tokio::test]
async fn a_version_in_the_cache_needs_no_store_and_is_mended() {
    let world = World::new(Kind::Objects);
    let store = world.store();
    let bundle = world.put("1", b"model").await;
    let fetched = store.fetch(&bundle).await.unwrap();
    let aside = world.path("aside");
    fs::rename(world.path("store"), &aside).unwrap();
    assert_eq!(store.fetch(&bundle).await.unwrap().folder, fetched.folder);
    refused(store.fetch(&named("1")).await, "not in");
    fs::write(fetched.folder.join("model.onnx"), "modem").unwrap();
    refused(store.fetch(&bundle).await, "not in");
    assert_eq!(
        fs::read(fetched.folder.join("model.onnx")).unwrap(),
        b"modem",
        "it stays until there is a better one"
    );
    fs::rename(aside, world.path("store")).unwrap();
    let mended = store.fetch(&bundle).await.unwrap();
    assert_eq!(fs::read_to_string(mended.folder.join("model.onnx")).unwrap(), "model");
}

#[tokio::test]
async fn fetches_at_once_give_one_folder() {
    let world = World::new(Kind::Objects);
    let bundle = world.put("1", &vec![1; 1 << 20]).await;
    // Two processes, each with two callers.
    let stores = [world.store(), world.store()];
    let fetches = (0..4).map(|at| {
        let (store, bundle) = (stores[at % 2].clone(), bundle.clone());
        tokio::spawn(async move { store.fetch(&bundle).await.unwrap() })
    });
    let fetched = futures::future::join_all(fetches).await;
    for one in &fetched {
        assert_eq!(one.as_ref().unwrap().folder, fetched[0].as_ref().unwrap().folder);
    }
    assert_eq!(in_cache(&world), 1);
}

#[tokio::test]
async fn a_version_in_use_is_not_dropped_for_another() {
    let mut world = World::new(Kind::Objects);
    world.config.cache_bytes_max = 2500;
    let store = world.store();
    let (one, two, three) = (
        world.put("1", &[1; 1000]).await,
        world.put("2", &[2; 1000]).await,
        world.put("3", &[3; 9000]).await,
    );
    let used = store.fetch(&one).await.unwrap();
    refused(store.fetch(&two).await, "bytes in use: raise bundles.cache_bytes_max, now 2500");
    refused(store.fetch(&three).await, "do not fit into the cache");
    assert!(used.folder.join("model.onnx").exists());
    drop(used);
    store.fetch(&two).await.unwrap();
    assert_eq!(in_cache(&world), 1);
}

#[tokio::test]
async fn where_a_signature_is_required_nothing_goes_without() {
    for kind in BOTH {
        let mut world = World::new(kind);
        let unsigned = world.put("0", b"unsigned").await;
        let (ours, other) = (pair(), pair());
        world.require(&ours);
        let store = world.store();
        refused(store.fetch(&unsigned).await, "is not signed, and bundles.require_signature is set");
        let folder = world.bundle("1", b"model");
        refused(store.put(&folder).await, "minisign -Sm manifest.json");
        World::sign(&folder, &other);
        refused(store.put(&folder).await, "by none of bundles.public_keys");
        World::sign(&folder, &ours);
        edit(&folder, |manifest| manifest["name"] = json!("m"));
        refused(store.put(&folder).await, "it was changed after it was signed");
        World::sign(&folder, &ours);
        let bundle = store.put(&folder).await.unwrap();
        store.fetch(&bundle).await.unwrap();
        let signer = store.examine(&folder).await.unwrap().signer.unwrap();
        assert_eq!(signer.comment, "for tests");
        let listed = store.list().await.unwrap();
        let of = |version: &str| listed.iter().find(|one| &*one.bundle.name == version).unwrap();
        assert_eq!(of("1").signed_by, Some(signer.key));
        assert!(of("0").problem.as_ref().unwrap().contains("is not signed"));
        // Somebody exchanges the model and its SHA-256 in the store.
        edit(&world.path("store/1"), |manifest| {
            manifest["files"]["model.onnx"]["sha256"] = json!(sha256(b"x"));
        });
        refused(store.fetch(&named("1")).await, "it was changed after it was signed");
    }
}

#[tokio::test]
async fn a_signature_may_come_later() {
    for kind in BOTH {
        let mut world = World::new(kind);
        let folder = world.bundle("1", b"model");
        let bundle = world.store().put(&folder).await.unwrap();
        world.store().fetch(&bundle).await.unwrap();
        let ours = pair();
        world.require(&ours);
        let store = world.store();
        refused(store.fetch(&bundle).await, "is not signed");
        World::sign(&folder, &ours);
        assert_eq!(store.put(&folder).await.unwrap(), bundle, "the same bundle, now signed");
        store.fetch(&bundle).await.unwrap();
        // From the cache, too.
        let aside = world.path("aside");
        fs::rename(world.path("store"), &aside).unwrap();
        assert_eq!(store.fetch(&bundle).await.is_ok(), kind == Kind::Objects);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_so() {
    let world = World::new(Kind::Folder);
    fs::remove_dir(world.path("store")).unwrap();
    fs::write(world.path("store"), "a file").unwrap();
    let folder = world.bundle("1", b"model");
    refused(world.store().put(&folder).await, "store: ");
    refused(world.store().list().await, "store: ");
}

#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_damaged() {
    let world = World::new(Kind::Objects);
    let store = world.store();
    let bundle = world.put("1", b"model").await;
    let fetched = store.fetch(&bundle).await.unwrap();
    let model = fetched.folder.join("model.onnx");
    // A link to itself stands for a disk that fails: neither says what the file holds.
    fs::remove_file(&model).unwrap();
    std::os::unix::fs::symlink(&model, &model).unwrap();
    refused(store.fetch(&bundle).await, "model.onnx: ");
    assert!(model.is_symlink() && fetched.folder.join("golden.jsonl").exists());
    fs::remove_file(&model).unwrap();
    fs::write(&model, "model").unwrap();
    assert_eq!(store.fetch(&bundle).await.unwrap().folder, fetched.folder);
}

#[tokio::test]
async fn nothing_outside_the_cache_is_touched_whatever_a_bundle_is_called() {
    let world = World::new(Kind::Objects);
    world.put("1", b"model").await;
    let precious = world.bundle("2", b"precious");
    let asked = BundleRef { name: "1".into(), sha256: Some("../made-2".into()) };
    refused(world.store().fetch(&asked).await, "no SHA-256");
    let asked = BundleRef { name: "../../made-2".into(), sha256: None };
    refused(world.store().fetch(&asked).await, "a version begins with");
    assert!(precious.join("model.onnx").exists());
}

#[tokio::test]
async fn a_folder_without_a_manifest_in_the_way_is_told_of() {
    let world = World::new(Kind::Folder);
    let there = world.path("store/1");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("model.onnx"), "half").unwrap();
    let folder = world.bundle("1", b"model");
    refused(
        world.store().put(&folder).await,
        "without a manifest.json, so the bundle was not copied: remove the folder",
    );
    fs::remove_dir_all(&there).unwrap();
    world.store().put(&folder).await.unwrap();
}

#[tokio::test]
async fn of_two_that_are_put_at_once_one_stays_whole() {
    for kind in BOTH {
        let world = World::new(kind);
        let pair = pair();
        let folders = [b"one", b"two"].map(|model| {
            let folder = world.path(&format!("made-{}", model[0]));
            write_bundle(&folder, "1", &[&model[..], &vec![model[0]; 9 << 20]].concat());
            World::sign(&folder, &pair);
            folder
        });
        let mut signed = World { folder: TempDir::new().unwrap(), config: world.config.clone() };
        signed.require(&pair);
        let stores = [signed.store(), signed.store()];
        let (one, two) = tokio::join!(stores[0].put(&folders[0]), stores[1].put(&folders[1]));
        let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
        refused(lost, "holds another bundle of this version");
        signed.store().fetch(&won.unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn of_too_many_versions_the_last_are_listed() {
    for kind in BOTH {
        let world = World::new(kind);
        for number in 0..VERSIONS_MAX + 5 {
            let folder = world.path(&format!("store/{number:05}"));
            fs::create_dir(&folder).unwrap();
            // Objects are what makes a folder of an object store.
            fs::write(folder.join("manifest.json"), "{}").unwrap();
        }
        let listed = world.store().list().await.unwrap();
        assert_eq!(listed.len(), VERSIONS_MAX);
        let names: Vec<&str> = listed.iter().map(|one| &*one.bundle.name).collect();
        assert!(
            names.contains(&"01004") && names.contains(&"00005") && !names.contains(&"00004"),
            "{names:?}"
        );
    }
}
