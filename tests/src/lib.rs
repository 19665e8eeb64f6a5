//! What the tests share.

pub mod byte_level;
pub mod fine;
pub mod forward;
pub mod fuzz;
pub mod golden;
pub mod kernel_sets;
pub mod model_file;
pub mod random;
pub mod shared;

/// The README's Rust compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
