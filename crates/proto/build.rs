//! Compiles `proto/` into OUT_DIR with protox, so that no protoc is needed, and keeps the descriptor set beside the code.
use std::{env, error::Error, fs, path::Path, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(&files)?;
    // prost drops custom options, so the set that carries them is written from the compiler's own encoding.
    fs::write(out.join("plaza.bin"), compiler.encode_file_descriptor_set())?;
    let _ = descriptors.encoded_len();
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".plaza.chat.v1.Live.event")
        .bytes(".plaza.chat.v1.Send.request")
        .bytes(".plaza.chat.v1.Sent.response")
        .bytes(".plaza.internal.v1.Call.body")
        .bytes(".plaza.internal.v1.Answer.body")
        .bytes(".plaza.internal.v1.Header.value")
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
