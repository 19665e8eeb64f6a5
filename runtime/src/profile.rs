//! Where the time of a call goes, step by step: for benchmarks.

use std::time::{Duration, Instant};

/// One step of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// What was done, such as `feed forward in`.
    pub operation: &'static str,
    /// In which layer of the encoder.
    pub layer: Option<usize>,
    /// How long it took: of steps on several threads at once, its share of the clock's time.
    pub time: Duration,
    /// Multiplications of two bytes that the answer needs: without padding.
    pub multiplications: u64,
    /// Bytes of weights and activations that it reads and writes.
    pub bytes: u64,
}

/// The steps of a call so far, or of one thread in a phase of it.
#[derive(Debug)]
pub(crate) struct Profile {
    measurements: Vec<Measurement>,
    /// Of the steps that end from now on.
    pub(crate) layer: Option<usize>,
    /// The end of the last step.
    last: Instant,
}

impl Profile {
    /// Begins the first step.
    pub(crate) fn start() -> Self {
        Self {
            measurements: Vec::new(),
            layer: None,
            last: Instant::now(),
        }
    }

    /// Begins a step that does not follow another one.
    pub(crate) fn begin_step(&mut self) {
        self.last = Instant::now();
    }

    /// Ends a step and begins the next.
    pub(crate) fn end_step(
        &mut self,
        operation: &'static str,
        multiplications: usize,
        bytes: usize,
    ) {
        let now = Instant::now();
        self.measurements.push(Measurement {
            operation,
            layer: self.layer,
            time: now - self.last,
            multiplications: multiplications as u64,
            bytes: bytes as u64,
        });
        // What the bookkeeping takes belongs to no step.
        self.last = Instant::now();
    }

    /// Ends a phase that several threads worked on at once: its time is divided among their
    /// steps by the time that each took.
    pub(crate) fn end_phase<'a>(&mut self, threads: impl Iterator<Item = &'a mut Self>) {
        let phase = self.last.elapsed();
        let mut steps: Vec<Measurement> = Vec::new();
        for step in threads.flat_map(|thread| thread.measurements.drain(..)) {
            match steps.iter_mut().find(|s| s.operation == step.operation) {
                Some(same) => {
                    same.time += step.time;
                    same.multiplications += step.multiplications;
                    same.bytes += step.bytes;
                }
                None => steps.push(step),
            }
        }
        let total: Duration = steps.iter().map(|step| step.time).sum();
        let share = phase.as_secs_f64() / total.as_secs_f64().max(1e-9);
        self.measurements
            .extend(steps.into_iter().map(|step| Measurement {
                time: step.time.mul_f64(share),
                layer: self.layer,
                ..step
            }));
        self.last = Instant::now();
    }

    /// All steps, in order.
    pub(crate) fn into_measurements(self) -> Vec<Measurement> {
        self.measurements
    }
}
