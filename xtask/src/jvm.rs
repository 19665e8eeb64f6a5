//! `cargo xtask jvm`: the Kotlin library and its native one, tested on this machine's JVM.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::Stdio;

use crate::process::{self, command, folder, output, root};

const POM: &str = "android/desktop/pom.xml";
const TEXTS: &str = "tests/texts/every_script.txt";

/// What `-Xcheck:jni` prints when native code breaks a rule.
const BROKEN_RULES: &[&str] = &[
    "WARNING in native method",
    "FATAL ERROR in native method",
    "WARNING: JNI local refs",
    "A fatal error has been detected by the Java Runtime Environment",
];

/// What is done with the JVM.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Task {
    Test,
    /// How long a call through JNI takes beyond the same in Rust.
    Overhead,
}

/// What a JVM needs to run the library.
struct Prepared {
    /// The folder of the native library.
    libraries: PathBuf,
    model: PathBuf,
    /// Of the model's logits of the texts, in Rust.
    fingerprint: String,
}

pub(crate) fn run(task: Task, onnx: bool) -> Result<(), String> {
    match task {
        Task::Test => test(&prepare(onnx)?),
        Task::Overhead => measure_overhead(),
    }
}

/// Builds the native library as apps get it, and returns its folder.
fn build_library() -> Result<PathBuf, String> {
    process::run(command("cargo").args([
        "build",
        "--locked",
        "--profile",
        "ship",
        "-p",
        "filbert-jni",
        "--lib",
    ]))?;
    Ok(root().join("target/ship"))
}

fn prepare(onnx: bool) -> Result<Prepared, String> {
    let libraries = build_library()?;
    let mut cargo = command("cargo");
    cargo.args(["build", "--locked", "--release", "-p", "filbert-cli"]);
    if !onnx {
        cargo.args(["--no-default-features", "--features", "convert"]);
    }
    process::run(&mut cargo)?;
    let filbert = root().join("target/release/filbert");
    let model = folder("jvm")?.join("tiny-sst2.filbert");
    process::run(
        command(&filbert)
            .args(["convert", "models/tiny-sst2", "-o"])
            .arg(&model),
    )?;
    let printed = output(
        command(&filbert)
            .arg("selftest")
            .arg(&model)
            .args(["--texts", TEXTS]),
    )?;
    let fingerprint = printed
        .rsplit_once("fingerprint ")
        .and_then(|(_, rest)| rest.get(..16))
        .ok_or(format!("no fingerprint in {printed:?}"))?;
    Ok(Prepared {
        libraries,
        model,
        fingerprint: fingerprint.to_owned(),
    })
}

fn test(prepared: &Prepared) -> Result<(), String> {
    let mut maven = command("mvn");
    maven.args(["--batch-mode", "--no-transfer-progress", "--file", POM]);
    for (name, value) in [
        ("library.path", prepared.libraries.display().to_string()),
        ("model", prepared.model.display().to_string()),
        ("texts", root().join(TEXTS).display().to_string()),
        ("fingerprint", prepared.fingerprint.clone()),
    ] {
        maven.arg(format!("-Dfilbert.{name}={value}"));
    }
    // The number of cycles, where the environment has another.
    if let Ok(cycles) = std::env::var("FILBERT_CYCLES") {
        maven.arg(format!("-Dfilbert.cycles={cycles}"));
    }
    maven.arg("test").stdout(Stdio::piped());
    let mut child = maven
        .spawn()
        .map_err(|error| format!("mvn: {error}; android/README.md says what to install"))?;
    let mut broken = None;
    let mut tests = 0;
    for line in BufReader::new(child.stdout.take().ok_or("mvn: no output")?).lines() {
        let line = line.map_err(|error| format!("mvn: {error}"))?;
        println!("{line}");
        if broken.is_none() && breaks_a_rule(&line) {
            broken = Some(line.clone());
        }
        if line.contains("Tests run:") && !line.contains(" -- in ") {
            tests += 1;
        }
    }
    let status = child.wait().map_err(|error| format!("mvn: {error}"))?;
    if !status.success() {
        return Err(format!("mvn: {status}"));
    }
    if let Some(line) = broken {
        return Err(format!("-Xcheck:jni says: {line}"));
    }
    // One with the checks, one for time and memory.
    if tests != 2 {
        return Err(format!("{tests} test runs instead of 2"));
    }
    println!("the JVM found no rule of JNI broken");
    Ok(())
}

fn breaks_a_rule(line: &str) -> bool {
    BROKEN_RULES.iter().any(|rule| line.contains(rule))
}

/// A program in Rust, which starts a JVM, and takes turns with it.
fn measure_overhead() -> Result<(), String> {
    let libraries = build_library()?;
    process::run(command("mvn").args([
        "--quiet",
        "--batch-mode",
        "--file",
        POM,
        "test-compile",
        "dependency:build-classpath",
        "-Dmdep.outputFile=../../target/jvm/classpath",
    ]))?;
    let mut classpath = String::new();
    let file = root().join("target/jvm/classpath");
    std::fs::File::open(&file)
        .and_then(|mut file| file.read_to_string(&mut classpath))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    let classes = root().join("target/jvm/maven");
    let classpath = format!(
        "{0}/classes:{0}/test-classes:{1}",
        classes.display(),
        classpath.trim()
    );
    process::run(
        command("cargo")
            .args(["run", "--locked", "--profile", "ship", "-p", "filbert-jni"])
            .args(["--example", "overhead", "--"])
            .arg(&libraries)
            .arg(classpath),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_jvm_says_of_native_code_is_seen() {
        assert!(breaks_a_rule(
            "WARNING in native method: JNI call made without checking exceptions"
        ));
        assert!(breaks_a_rule(
            "[INFO] FATAL ERROR in native method: Static field ID passed to JNI"
        ));
        assert!(!breaks_a_rule(
            "OpenJDK 64-Bit Server VM warning: Sharing is only supported for boot loader classes"
        ));
    }
}
