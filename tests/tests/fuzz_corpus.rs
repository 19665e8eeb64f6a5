//! The fuzzer's kept inputs, run again through the very function that it runs.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use filbert_tests::fuzz::{self, Seed};

/// What an input may take, however slow the machine; most take less than a millisecond.
const LIMIT: Duration = Duration::from_secs(1);

/// Runs an input; whether its section or file was taken.
fn run(what: &str, target: fn(&[u8]) -> bool, input: &[u8]) -> bool {
    let start = Instant::now();
    let taken = catch_unwind(AssertUnwindSafe(|| target(input)));
    let taken = taken.unwrap_or_else(|_| panic!("{what}"));
    let time = start.elapsed();
    assert!(time < LIMIT, "{what}: {time:?}");
    taken
}

fn seeds_are_taken(seeds: Vec<Seed>, target: fn(&[u8]) -> bool) {
    assert!(!seeds.is_empty());
    for (name, input) in seeds {
        assert!(run(&name, target, &input), "{name}");
    }
}

/// Of both folders the inputs of a target. Most stop at one check or another, but where less than
/// a twentieth of the corpus is taken, it is of another version of the format.
fn replay(name: &str, target: fn(&[u8]) -> bool) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let (mut count, mut taken) = (0, 0);
    for kept in ["corpus", "findings"] {
        let folder = fuzz.join(kept).join(name);
        // No findings, no folder.
        let Ok(files) = fs::read_dir(&folder) else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            let what = path.display().to_string();
            let accepted = run(&what, target, &fs::read(&path).unwrap());
            if kept == "corpus" {
                count += 1;
                taken += usize::from(accepted);
            }
        }
    }
    println!("{name}: {taken} of {count} taken");
    assert!(count > 0, "the corpus of {name} is empty");
    assert!(
        20 * taken >= count,
        "only {taken} of {count} inputs of {name} are taken: make the corpus again, as \
         fuzz/README.md says"
    );
}

#[test]
fn vocabulary_seeds_are_taken() {
    seeds_are_taken(fuzz::vocabulary_seeds(), fuzz::vocabulary);
}

#[test]
fn model_seeds_are_taken() {
    seeds_are_taken(fuzz::model_seeds(), fuzz::model);
}

#[test]
fn kept_vocabularies_do_no_harm() {
    replay("vocabulary", fuzz::vocabulary);
}

#[test]
fn kept_models_do_no_harm() {
    replay("model", fuzz::model);
}
