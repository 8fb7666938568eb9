//! Provides ONNX Runtime's shared library at build time, so that a clean clone runs at once.
//!
//! A library named by `ORT_DYLIB_PATH` or present in the active Python environment wins. Otherwise
//! the pinned wheel is fetched by the ordinary `pip download`, compared with its pinned SHA-256
//! and unpacked once into the target folder. Never fails the build: what is missing is said as a
//! warning here and in full when the program runs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

const VERSION: &str = "1.31.1";

/// `off` keeps the build from downloading anything.
const SWITCH: &str = "POINTSMAN_ORT_DOWNLOAD";

/// pip has timeouts of its own; this one bounds all of its retries together.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);

struct Wheel {
    os: &'static str,
    arch: &'static str,
    /// pip's platform tag.
    platform: &'static str,
    sha256: &'static str,
    /// Path of the library inside the wheel.
    member: &'static str,
}

const WHEELS: [Wheel; 3] = [
    Wheel {
        os: "linux",
        arch: "x86_64",
        platform: "manylinux_2_28_x86_64",
        sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
    },
    Wheel {
        os: "linux",
        arch: "aarch64",
        platform: "manylinux_2_28_aarch64",
        sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
    },
    Wheel {
        os: "macos",
        arch: "aarch64",
        platform: "macosx_14_0_arm64",
        sha256: "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c",
        member: "onnxruntime/capi/libonnxruntime.1.31.1.dylib",
    },
];

/// Sets `POINTSMAN_BUILT_ORT` to the library's path when this build provides one.
pub(crate) fn provide(out: &Path) {
    for variable in ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", SWITCH] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if env::var_os("ORT_DYLIB_PATH").is_some() || active_python_has_one() {
        return;
    }
    if env::var(SWITCH).is_ok_and(|value| value == "off") {
        println!("cargo:warning=ONNX Runtime: not downloaded ({SWITCH}=off)");
        return;
    }
    match unpacked_wheel(out) {
        Ok(library) => {
            println!("cargo:rerun-if-changed={}", library.display());
            println!("cargo:rustc-env=POINTSMAN_BUILT_ORT={}", library.display());
        }
        Err(why) => {
            // A file that is not there makes the next build try again.
            println!("cargo:rerun-if-changed={}", out.join("onnxruntime-is-missing").display());
            println!("cargo:warning=ONNX Runtime: {why}");
            println!("cargo:warning=the program will look for the library again when it runs");
        }
    }
}

/// Whether the active virtual environment has the package; the program looks there when it runs.
fn active_python_has_one() -> bool {
    ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(env::var_os).any(|prefix| {
        let lib = PathBuf::from(prefix).join("lib");
        fs::read_dir(lib).into_iter().flatten().flatten().any(|entry| {
            let capi = entry.path().join("site-packages/onnxruntime/capi");
            fs::read_dir(capi)
                .into_iter()
                .flatten()
                .flatten()
                .any(|file| file.file_name().to_string_lossy().starts_with("libonnxruntime."))
        })
    })
}

/// Returns the library's path below the target folder, downloading the wheel when it is not there.
fn unpacked_wheel(out: &Path) -> Result<PathBuf, String> {
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let wheel = WHEELS
        .iter()
        .find(|wheel| wheel.os == os && wheel.arch == arch)
        .ok_or_else(|| format!("no pinned package for {os} on {arch}"))?;
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target = out.ancestors().nth(4).ok_or("the target folder was not found")?;
    let folder = target.join(format!("onnxruntime-{VERSION}"));
    let name = Path::new(wheel.member).file_name().ok_or("the pinned path names no file")?;
    let library = folder.join(name);
    if library.is_file() {
        return Ok(library);
    }
    let python = ["python3", "python"]
        .into_iter()
        .find(|python| run(Command::new(python).arg("--version"), Duration::from_secs(30)).is_ok())
        .ok_or("neither python3 nor python runs, so its pip cannot fetch the package")?;
    let scratch = out.join("wheel");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    download(python, wheel, &scratch)?;
    let file = single_file(&scratch)?;
    verify(&file, wheel.sha256)?;
    unpack(python, &file, wheel.member, &library)?;
    let _ = fs::remove_dir_all(&scratch);
    Ok(library)
}

fn download(python: &str, wheel: &Wheel, folder: &Path) -> Result<(), String> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--timeout", "30", "--retries", "3", "--no-deps", "--only-binary=:all:"])
        .args(["--implementation", "cp", "--python-version", "3.12", "--abi", "cp312"])
        .args(["--platform", wheel.platform, "--dest"])
        .arg(folder)
        .arg(format!("onnxruntime=={VERSION}"));
    run(&mut pip, DOWNLOAD_TIMEOUT).map_err(|why| format!("pip download failed: {why}"))
}

fn single_file(folder: &Path) -> Result<PathBuf, String> {
    fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| "pip download left no wheel".to_owned())
}

fn verify(file: &Path, sha256: &str) -> Result<(), String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let got: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if got == sha256 {
        Ok(())
    } else {
        Err(format!("{} has sha256 {got}, pinned is {sha256}: not used", file.display()))
    }
}

/// Copies one member of the wheel (a zip archive) to `library`, whole or not at all.
fn unpack(python: &str, file: &Path, member: &str, library: &Path) -> Result<(), String> {
    const SCRIPT: &str = "import sys, zipfile, shutil\n\
        with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as a, open(sys.argv[3], 'wb') as b:\n    \
        shutil.copyfileobj(a, b)\n";
    let folder = library.parent().ok_or("the library has no folder")?;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Debug and release builds may run at once: each writes its own file, the last rename wins.
    let partial = library.with_extension(format!("partial-{}", std::process::id()));
    let mut copy = Command::new(python);
    copy.arg("-c").arg(SCRIPT).arg(file).arg(member).arg(&partial);
    run(&mut copy, Duration::from_secs(120)).map_err(|why| format!("unpacking failed: {why}"))?;
    fs::rename(&partial, library).map_err(|error| format!("{}: {error}", library.display()))
}

/// Runs a command to its end, or kills it at the timeout; its last words become the error.
fn run(command: &mut Command, timeout: Duration) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let mut words = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    let _ = std::io::Read::read_to_string(&mut stderr, &mut words);
                }
                let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                return Err(format!("{name}: {status}: {}", last.trim()));
            }
            Ok(None) if started.elapsed() > timeout => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name}: no end after {} s", timeout.as_secs()));
            }
            Ok(None) => sleep(Duration::from_millis(50)),
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
}
