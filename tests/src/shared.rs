//! Where the real checkpoints and the labelled texts are, if they are here.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}

/// The small model that ships in the repository.
pub fn tiny_model() -> PathBuf {
    repository().join("models/tiny-sst2")
}

/// 200 texts of every script, one a line: the same for every language that runs a model.
pub fn texts_file() -> PathBuf {
    repository().join("tests/texts/every_script.txt")
}

/// The folder of shared models and data: `FILBERT_SHARED`, or `../shared`. `None` where it is
/// absent; tests that need it then report themselves ignored.
///
/// # Panics
/// If it is absent and `FILBERT_REQUIRE` names it.
pub fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("FILBERT_SHARED")
        .map_or_else(|| repository().join("../shared"), PathBuf::from);
    let found = folder.join("models").is_dir() && folder.join("data").is_dir();
    require("shared", found, &folder.display().to_string());
    found.then_some(folder)
}

/// A Python: `FILBERT_PYTHON`, or `python3`. It need not be there.
pub fn python() -> PathBuf {
    PathBuf::from(std::env::var_os("FILBERT_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// A [`python`] that has `onnx` and `onnxruntime`. `None` where there is none; tests that need it
/// then report themselves ignored.
///
/// # Panics
/// If there is none and `FILBERT_REQUIRE` names `onnxruntime`.
pub fn python_with_onnxruntime() -> Option<PathBuf> {
    let python = python();
    let found = std::process::Command::new(&python)
        .args(["-c", "import onnx, onnxruntime, numpy"])
        .output()
        .is_ok_and(|output| output.status.success());
    require("onnxruntime", found, &python.display().to_string());
    found.then_some(python)
}

/// A compiler for C++: `CXX`, or `c++`. `None` where there is none; tests that need it then report
/// themselves ignored.
///
/// # Panics
/// If there is none and `FILBERT_REQUIRE` names `c++`.
pub fn cpp_compiler() -> Option<PathBuf> {
    let compiler = PathBuf::from(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    let found = runs(&compiler);
    require("c++", found, &compiler.display().to_string());
    found.then_some(compiler)
}

/// A program by its name. `None` where there is none; tests that need it then report themselves
/// ignored.
///
/// # Panics
/// If there is none and `FILBERT_REQUIRE` names it.
pub fn tool(name: &str) -> Option<PathBuf> {
    let tool = PathBuf::from(name);
    let found = runs(&tool);
    require(name, found, name);
    found.then_some(tool)
}

fn runs(program: &Path) -> bool {
    std::process::Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn require(name: &str, found: bool, place: &str) {
    let required = std::env::var("FILBERT_REQUIRE").unwrap_or_default();
    assert!(
        found || !required.split_whitespace().any(|required| required == name),
        "FILBERT_REQUIRE names {name}, which is not at {place}"
    );
}
