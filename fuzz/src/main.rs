//! The target that `FILBERT_FUZZ_TARGET` names.

#![no_main]

use std::env;
use std::sync::LazyLock;

use filbert_tests::fuzz::{TARGETS, Target, mutate_section};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("FILBERT_FUZZ_TARGET").expect("FILBERT_FUZZ_TARGET names a target");
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("there is no target {name}"))
});

fuzz_target!(|input: &[u8]| {
    (TARGET.run)(input);
});

// Of a model mostly one section, so that the others stay where they are and small ones have
// their turn beside the weights.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let section = seed as usize % 9;
    if TARGET.name != "model" || section == 8 {
        fuzzer_mutate(data, size, max_size)
    } else {
        mutate_section(&mut data[..max_size], size, section, |bytes, size| {
            let room = bytes.len();
            fuzzer_mutate(bytes, size, room)
        })
    }
});
