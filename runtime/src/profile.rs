//! Where the time of a call goes, step by step: for benchmarks.

use std::time::{Duration, Instant};

/// One step of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// What was done, such as `feed forward in`.
    pub operation: &'static str,
    /// In which layer of the encoder.
    pub layer: Option<usize>,
    /// How long it took, on all threads together.
    pub time: Duration,
    /// Multiplications of two bytes that the answer needs: without padding.
    pub multiplications: u64,
    /// Bytes of weights and activations that it reads and writes.
    pub bytes: u64,
}

/// The steps of a call so far.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) measurements: Vec<Measurement>,
    /// The end of the last step.
    last: Instant,
}

impl Profile {
    /// Begins the first step.
    pub(crate) fn start() -> Self {
        Self {
            measurements: Vec::new(),
            last: Instant::now(),
        }
    }

    /// Ends a step and begins the next.
    pub(crate) fn end_step(
        &mut self,
        operation: &'static str,
        layer: Option<usize>,
        multiplications: usize,
        bytes: usize,
    ) {
        let now = Instant::now();
        self.measurements.push(Measurement {
            operation,
            layer,
            time: now - self.last,
            multiplications: multiplications as u64,
            bytes: bytes as u64,
        });
        // What the bookkeeping takes belongs to no step.
        self.last = Instant::now();
    }
}
