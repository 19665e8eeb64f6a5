//! How long a call takes through JNI beyond the same in Rust: `cargo xtask jvm --overhead`.
//!
//! The JVM waits for a line, calls as often as it says, and answers with the time. It and Rust
//! take turns, so that what else the machine does is shared by both.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use filbert::Classifier;
use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::synthetic::SyntheticCheckpoint;

const ROUNDS: usize = 200;
const CALLS: usize = 1000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [libraries, classpath] = &arguments[..] else {
        return Err("expected the folder of the library and the class path".into());
    };
    let folder = tempfile::tempdir()?;
    let model = &folder.path().join("small.filbert");
    write_model(folder.path(), model)?;
    let mut jvm = Command::new("java")
        .arg(format!("-Djava.library.path={libraries}"))
        .args(["-classpath", classpath, "dev.filbert.OverheadKt"])
        .arg(model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = jvm.stdin.take().expect("a pipe");
    let mut output = BufReader::new(jvm.stdout.take().expect("a pipe")).lines();
    let classifier = Classifier::open(model)?;

    let long = "喜び и радость ".repeat(40);
    for text in [
        "dull",
        "a gorgeous, witty film that nobody should miss 😀",
        &long,
    ] {
        let mut through_jni = || {
            writeln!(input, "{CALLS} {text}").expect("the JVM reads");
            let line = output.next().expect("the JVM answers").expect("in UTF-8");
            line.parse::<f64>().expect("a number") / CALLS as f64
        };
        let in_rust = || {
            let start = Instant::now();
            for _ in 0..CALLS {
                std::hint::black_box(classifier.classify(text).expect("it classifies"));
            }
            start.elapsed().as_nanos() as f64 / CALLS as f64
        };
        // Until the JVM has compiled what it calls.
        for _ in 0..ROUNDS / 4 {
            through_jni();
            in_rust();
        }
        let rounds: Vec<[f64; 2]> = (0..ROUNDS).map(|_| [in_rust(), through_jni()]).collect();
        let rust = median(rounds.iter().map(|round| round[0]));
        let jni = median(rounds.iter().map(|round| round[1]));
        // Of neighbours in time, which a change of the CPU's clock strikes alike.
        let difference = median(rounds.iter().map(|round| round[1] - round[0]));
        println!(
            "{} bytes of text: {:.2} µs in Rust, {:.2} µs through JNI and Kotlin; {:.2} µs more",
            text.len(),
            rust / 1000.0,
            jni / 1000.0,
            difference / 1000.0
        );
        assert!(
            difference < 5000.0,
            "a call through JNI takes 5 µs or more beyond Rust"
        );
    }
    drop(input);
    assert!(jvm.wait()?.success());
    Ok(())
}

/// Writes a model so small that what surrounds it shows.
fn write_model(folder: &Path, file: &Path) -> Result<(), Box<dyn Error>> {
    let checkpoint = folder.join("checkpoint");
    SyntheticCheckpoint {
        layers: 1,
        hidden: 16,
        heads: 1,
        intermediate: 16,
        ..SyntheticCheckpoint::default()
    }
    .write(&checkpoint)?;
    let package = Package::build(&Checkpoint::open(&checkpoint)?, &mut Quiet)?;
    Ok(std::fs::write(file, package.bytes())?)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
