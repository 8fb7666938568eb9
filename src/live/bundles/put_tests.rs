//! Copies that end early, versions that are taken out again, and what a list can see of a damaged one.

use super::*;

/// Returns the names of all files under a folder, in order.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            names.extend(files(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names.sort();
    names
}

#[tokio::test]
async fn a_copy_that_is_stopped_leaves_nothing() {
    for kind in BOTH {
        // At its first file, and within its last, which comes in more than one part.
        for after_bytes in [0, 3] {
            let world = World::new(kind);
            let folder = world.bundle("1", &vec![1; 9 << 20]);
            let stop = Stop::default();
            let (stopping, copied) = (stop.clone(), AtomicU64::new(0));
            let told: Told = Arc::new(move |bytes| {
                if copied.fetch_add(bytes, Ordering::Relaxed) + bytes >= after_bytes {
                    stopping.now();
                }
            });
            refused(
                world.store().put_telling(&folder, told, stop).await,
                "the copy was stopped before its end",
            );
            assert_eq!(world.store().list().await.unwrap(), []);
            assert_eq!(files(&world.path("store")), [""; 0], "nothing is left behind");
            if kind == Kind::Folder {
                assert_eq!(fs::read_dir(world.path("store")).unwrap().count(), 0);
            }
            let again = world.store().put_telling(&folder, Arc::new(|_| {}), Stop::default()).await;
            assert!(again.unwrap().is_new);
        }
    }
}

#[tokio::test]
async fn a_copy_takes_back_only_what_it_has_put_there() {
    let world = World::new(Kind::Objects);
    let folder = world.bundle("1", b"model");
    let theirs = format!("golden.jsonl.{}", sha256(b"{}"));
    fs::create_dir(world.path("store/1")).unwrap();
    fs::write(world.path("store/1").join(&theirs), "{}").unwrap();
    // The last of its files is another than the manifest says.
    fs::write(folder.join("model.onnx"), "modem").unwrap();
    refused(world.store().put(&folder).await, "model.onnx: ");
    assert_eq!(files(&world.path("store")), [theirs.as_str()]);
    // One of its files is taken back by another copy before the manifest comes.
    let folder = world.bundle("1", b"model");
    let golden = world.path("store/1").join(theirs);
    let told: Told = Arc::new(move |_| {
        let _ = fs::remove_file(&golden);
    });
    refused(world.store().put_telling(&folder, told, Stop::default()).await, "golden.jsonl: is not in ");
    assert_eq!(files(&world.path("store")), [""; 0]);
}

#[tokio::test]
async fn what_another_copy_has_put_beside_a_version_stays_until_it_is_deleted_itself() {
    let world = World::new(Kind::Objects);
    let store = world.store();
    let first = world.put("1", b"one").await;
    let others = format!("model.onnx.{}", sha256(b"two"));
    for name in [&others, "notes.txt"] {
        fs::write(world.path("store/1").join(name), "two").unwrap();
    }
    store.remove(&first).await.unwrap();
    assert_eq!(files(&world.path("store")), [others.as_str(), "notes.txt"]);
    // It has no manifest: by its name alone it can still be deleted, and what no copy has put there is not touched.
    refused(store.describe("1").await, "bundle 1: not in ");
    refused(store.remove(&first).await, "bundle 1: not in ");
    assert!(store.has_leftovers("1").await.unwrap());
    store.remove_leftovers("1").await.unwrap();
    assert_eq!(files(&world.path("store")), ["notes.txt"]);
    assert!(!store.has_leftovers("1").await.unwrap());
    // A copy that comes to its end meanwhile is whole, and stays.
    world.put("1", b"two").await;
    refused(store.remove_leftovers("1").await, "bundle 1 has come there just now");
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_killed_copy_has_left_goes_with_the_next_and_what_is_being_written_stays() {
    let world = World::new(Kind::Folder);
    let part = |name: &str, ago_s: u64| {
        let folder = world.path("store").join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("model.onnx"), "half").unwrap();
        let at = std::time::SystemTime::now() - std::time::Duration::from_secs(ago_s);
        for path in [folder.join("model.onnx"), folder.clone()] {
            fs::File::open(path).unwrap().set_modified(at).unwrap();
        }
        folder
    };
    let (old, new) = (part(".part-old", 4000), part(".part-new", 3000));
    // A large file is written for hours, and the folder is as old as its beginning.
    let slow = part(".part-slow", 4000);
    fs::write(slow.join("model.onnx"), "more").unwrap();
    fs::File::open(&slow)
        .unwrap()
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(4000))
        .unwrap();
    world.put("1", b"model").await;
    assert_eq!([old.exists(), new.exists(), slow.exists()], [false, true, true]);
}

#[tokio::test]
async fn a_version_is_removed_and_its_name_is_free() {
    for kind in BOTH {
        let world = World::new(kind);
        let store = world.store();
        let first = world.put("1", b"one").await;
        world.put("10", b"ten").await;
        let other = BundleRef { sha256: Some("ab".repeat(32).into()), ..first.clone() };
        refused(store.remove(&other).await, "is another than was asked for");
        refused(store.remove(&named("2")).await, "bundle 2: not in ");
        refused(store.remove(&named("../store")).await, "a version begins with");
        store.remove(&first).await.unwrap();
        refused(store.find("1").await, "not in");
        let left: Vec<_> =
            fs::read_dir(world.path("store")).unwrap().map(|one| one.unwrap().path()).collect();
        let is_empty = |path: &PathBuf| fs::read_dir(path).unwrap().count() == 0;
        assert_eq!(left.iter().filter(|path| !is_empty(path)).count(), 1, "{left:?}");
        let second = world.put("1", b"two").await;
        assert_ne!(first, second);
        // One whose manifest nobody can read has a name all the same.
        fs::write(world.path("store/1/manifest.json"), "{").unwrap();
        store.remove(&named("1")).await.unwrap();
        assert_eq!(store.list().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_is_listed_says_what_can_be_seen_without_reading_it() {
    for kind in BOTH {
        let world = World::new(kind);
        world.put("1", b"model").await;
        let stored = |file: &str, content: &[u8]| match kind {
            Kind::Folder => world.path("store/1").join(file),
            Kind::Objects => world.path("store/1").join(format!("{file}.{}", sha256(content))),
        };
        let model = stored("model.onnx", b"model");
        let check = async |expected: &str| {
            let listed = world.store().list().await.unwrap();
            let problem = listed[0].problem.clone().unwrap_or_default();
            assert!(problem.contains(expected) && expected.is_empty() == problem.is_empty(), "{problem}");
            assert_eq!(
                (listed.len(), &*listed[0].name, listed[0].bytes),
                (1, "n", 7),
                "it is still described"
            );
            assert_eq!(world.store().describe("1").await.unwrap(), listed[0]);
        };
        check("").await;
        fs::write(&model, "mod").unwrap();
        check("model.onnx: 3 bytes, the manifest says 5: copy the bundle again").await;
        fs::remove_file(&model).unwrap();
        check("model.onnx: ").await;
        fs::create_dir(&model).unwrap();
        check("model.onnx: ").await;
        fs::remove_dir(&model).unwrap();
        if kind == Kind::Folder {
            fs::write(world.path("outside"), "model").unwrap();
            std::os::unix::fs::symlink(world.path("outside"), &model).unwrap();
            check("is a link that leaves the bundle's folder").await;
            fs::remove_file(&model).unwrap();
        }
        fs::write(&model, "model").unwrap();
        check("").await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_whose_name_is_no_text_is_listed_with_its_problem() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new(Kind::Folder);
    let name = std::ffi::OsStr::from_bytes(b"2026-\xff");
    write_bundle(&world.path("store").join(name), "1", b"x");
    let listed = world.store().list().await.unwrap();
    let [one] = &listed[..] else { panic!("{listed:?}") };
    assert!(one.problem.as_ref().unwrap().contains("only letters"), "{one:?}");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_told_from_an_empty_one() {
    let world = World::new(Kind::Folder);
    assert!(!world.store().is_missing().await);
    fs::remove_dir(world.path("store")).unwrap();
    assert!(world.store().is_missing().await);
    assert_eq!(world.store().list().await.unwrap(), []);
}
