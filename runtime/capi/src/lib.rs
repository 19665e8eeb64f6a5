//! The runtime for C and for all that calls C.
//!
//! There is no logic here: arguments are checked, the runtime is called, and what it returns is
//! put where C can read it. `include/filbert.h` is generated from the public items of this
//! crate, their documentation included, by `cargo xtask header`; what follows `# Safety` is for
//! readers of this code only.
//!
//! Two rules hold for every function. No panic leaves it: [`error::guard`] makes an error of
//! it. No argument that can be told to be wrong is undefined behaviour: null pointers, wrong
//! lengths and text that is not UTF-8 are errors.
#![expect(
    unsafe_code,
    reason = "C hands over pointers, and calls functions by name"
)]
#![expect(unreachable_pub, reason = "what is public is what the header has")]

mod arguments;
mod cancellation;
mod classifier;
mod error;
mod options;
mod results;

use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };

/// The version of the library, such as "0.1.0"; it ends with a NUL and lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn filbert_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The kernel sets that this CPU can run, best first, with spaces between, such as "avx2
/// scalar"; it ends with a NUL and lives for ever. A classifier uses the first one, unless the
/// environment variable FILBERT_ISA names another: every set gives the same bits.
#[unsafe(no_mangle)]
pub extern "C" fn filbert_kernel_sets() -> *const c_char {
    static NAMES: OnceLock<CString> = OnceLock::new();
    let names = error::guard_value(c"", || {
        NAMES.get_or_init(|| {
            let names: Vec<_> = runtime::kernel_sets().collect();
            CString::new(names.join(" ")).unwrap_or_default()
        })
    });
    names.as_ptr()
}
