//! The fuzzer's kept inputs, run again through the very function that it runs.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use filbert_tests::fuzz::TARGETS;

/// What an input may take, however slow the machine; most take less than a millisecond.
const LIMIT: Duration = Duration::from_secs(1);

/// Runs an input; whether it was taken.
fn run(what: &str, target: fn(&[u8]) -> bool, input: &[u8]) -> bool {
    let start = Instant::now();
    let taken = catch_unwind(AssertUnwindSafe(|| target(input)));
    let taken = taken.unwrap_or_else(|_| panic!("{what}"));
    let time = start.elapsed();
    assert!(time < LIMIT, "{what}: {time:?}");
    taken
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
fn seeds_are_taken() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (name, input) in seeds {
            let what = format!("{name} of {}", target.name);
            assert!(run(&what, target.run, &input), "{what}");
        }
    }
}

#[test]
fn kept_inputs_do_no_harm() {
    for target in TARGETS {
        replay(target.name, target.run);
    }
}
