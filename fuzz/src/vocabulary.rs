//! Any vocabulary section, with any text.

#![no_main]

use filbert_tests::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    fuzz::vocabulary(input);
});
