//! What the benchmarks share.

pub mod model;
pub mod text;
