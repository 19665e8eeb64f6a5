//! The runtime for C and for all that calls C.
//!
//! There is no logic here: arguments are checked, the runtime is called, and what it returns is
//! put where C can read it. `include/filbert.h` is the documentation; what it promises and
//! demands is what the code here keeps and relies on.
//!
//! Two rules hold for every function. No panic leaves it: [`error::guard`] makes an error of
//! it. No argument that can be told to be wrong is undefined behaviour: null pointers, wrong
//! lengths and text that is not UTF-8 are errors.
#![expect(
    unsafe_code,
    reason = "C hands over pointers, and calls functions by name"
)]

mod arguments;
mod classification;
mod classifier;
mod error;

use std::ffi::{CStr, c_char};

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };

#[unsafe(no_mangle)]
extern "C" fn filbert_version() -> *const c_char {
    VERSION.as_ptr()
}
