//! Build script: protos to Rust by protox (no protoc needed), the default bundle's place, and
//! ONNX Runtime's shared library where the machine has none.

#[path = "build/onnxruntime.rs"]
mod onnxruntime;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    compile_protos(&out)?;
    point_to_default_bundle(&root, &out)?;
    onnxruntime::provide(&out);
    Ok(())
}

fn compile_protos(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(["pointsman/v1/router.proto", "pointsman/v1/admin.proto"])?;
    let descriptors = compiler.file_descriptor_set();
    fs::write(out.join("pointsman_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

/// Names the folder of the bundle that `onnx/default` points to; its files go into the binary.
fn point_to_default_bundle(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=onnx");
    let pointer = root.join("onnx/default");
    let version = fs::read_to_string(&pointer)
        .map_err(|error| format!("{}: {error}; it names the default bundle", pointer.display()))?;
    let folder = root.join("onnx").join(version.trim());
    for file in ["manifest.json", "model.onnx", "tokenizer.json", "golden.jsonl"] {
        let path = folder.join(file);
        if !path.is_file() {
            return Err(format!("{}: missing; onnx/default names this bundle", path.display()).into());
        }
    }
    println!("cargo:rustc-env=POINTSMAN_DEFAULT_BUNDLE={}", folder.display());
    // A bundle may have no baseline and no background: an empty file says so.
    for optional in ["baseline.json", "background.f32"] {
        let file = folder.join(optional);
        let content = if file.is_file() { fs::read(&file)? } else { Vec::new() };
        fs::write(out.join(optional), content)?;
    }
    Ok(())
}
