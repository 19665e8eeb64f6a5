//! Any model file, with some texts.

#![no_main]

use filbert_tests::fuzz;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|input: &[u8]| {
    fuzz::model(input);
});

// Mostly one section, so that the others stay where they are and small ones have their turn
// beside the weights.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let section = seed as usize % 9;
    if section == 8 {
        fuzzer_mutate(data, size, max_size)
    } else {
        fuzz::mutate_section(&mut data[..max_size], size, section, |bytes, size| {
            let room = bytes.len();
            fuzzer_mutate(bytes, size, room)
        })
    }
});
