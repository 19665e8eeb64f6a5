//! The time from text to answer, run by run.
//!
//! All runs are measured in turn, slice by slice, so that whatever else the machine does, or a
//! clock that slows down, meets them all alike.

use std::hint::black_box;
use std::time::{Duration, Instant};

use filbert::{Input, Measurement};
use filbert_convert::progress::Progress;

use super::engine::Engine;
use super::processor::Peak;
use super::record::{Operation, Profile, Run, Step, rounded};
use super::statistics::{Estimate, median, median_interval, percentile, sorted};
use super::work;
use crate::Failure;

/// In how many slices a run's time is divided.
const SLICES: u32 = 25;
/// Fewer slices would not tell how sure a median is.
const MIN_SLICES: usize = 10;
const MIN_SAMPLES: usize = 30;
const MIN_SAMPLES_OF_SLICE: usize = 3;
/// Batches of texts that a run goes through in turn.
pub(crate) const BATCHES: usize = 8;

/// One length of text on one number of threads.
pub(crate) struct Task<'a> {
    engine: &'a Engine,
    threads: usize,
    tokens: usize,
    batches: Vec<Vec<Input<'a>>>,
    /// The batch that comes next.
    next: usize,
    /// Milliseconds of each call.
    samples: Vec<f64>,
    /// The median of each slice.
    slices: Vec<f64>,
    spent: Duration,
    profiles: Vec<Vec<Measurement>>,
}

impl<'a> Task<'a> {
    /// Every batch has the same number of texts, and every text as many tokens.
    pub(crate) fn new(
        engine: &'a Engine,
        threads: usize,
        tokens: usize,
        texts: &'a [Vec<String>],
    ) -> Self {
        let inputs = |batch: &'a Vec<String>| batch.iter().map(|text| text.as_str().into());
        Self {
            engine,
            threads,
            tokens,
            batches: texts.iter().map(|batch| inputs(batch).collect()).collect(),
            next: 0,
            samples: Vec::new(),
            slices: Vec::new(),
            spent: Duration::ZERO,
            profiles: Vec::new(),
        }
    }

    fn next_batch(&mut self) -> usize {
        let batch = self.next;
        self.next = (batch + 1) % self.batches.len();
        batch
    }

    /// Calls once, to warm up; then measures calls until the slice is over; then takes a
    /// profile, which also has the tokenizer's time.
    fn run_slice(&mut self, duration: Duration) -> Result<(), Failure> {
        let warm = self.next_batch();
        self.engine.answer(&self.batches[warm])?;
        let first = self.samples.len();
        let slice = Instant::now();
        loop {
            let batch = self.next_batch();
            let inputs = black_box(self.batches[batch].as_slice());
            let start = Instant::now();
            let answers = black_box(self.engine.answer(inputs)?);
            self.samples.push(1e3 * start.elapsed().as_secs_f64());
            drop(answers);
            if slice.elapsed() >= duration && self.samples.len() - first >= MIN_SAMPLES_OF_SLICE {
                break;
            }
        }
        self.spent += slice.elapsed();
        self.slices.push(median(&self.samples[first..]));
        let batch = self.next_batch();
        self.profiles
            .push(self.engine.profile(&self.batches[batch])?);
        Ok(())
    }

    /// How much of the run is done, of 1000.
    fn done(&self, time: Duration) -> u64 {
        let spent = self.spent.as_secs_f64() / time.as_secs_f64();
        let samples = self.samples.len() as f64 / MIN_SAMPLES as f64;
        let slices = self.slices.len() as f64 / MIN_SLICES as f64;
        (1000.0 * spent.min(samples).min(slices).min(1.0)) as u64
    }

    /// What the run came to; `peak` is that of one core.
    pub(crate) fn run(&self, peak_gmacs: f64) -> Run {
        let samples = sorted(&self.samples);
        let p50 = percentile(&samples, 500);
        let (low, high) = median_interval(&sorted(&self.slices));
        let texts = self.batches[0].len();
        let work = work::multiplications(self.engine.model(), self.tokens);
        let gmacs = (work * texts as u64) as f64 / (p50 * 1e6);
        let tokenize: Vec<f64> = self
            .profiles
            .iter()
            .map(|steps| {
                let steps = steps.iter().filter(|step| step.operation == "tokenize");
                1e6 * steps.map(|step| step.time.as_secs_f64()).sum::<f64>()
            })
            .collect();
        let ms = |value| rounded(value, 6);
        Run {
            tokens: self.tokens,
            threads: self.threads,
            texts,
            p50_ms: ms(p50),
            p90_ms: ms(percentile(&samples, 900)),
            p95_ms: ms(percentile(&samples, 950)),
            p99_ms: ms(percentile(&samples, 990)),
            p999_ms: ms(percentile(&samples, 999)),
            gmacs: rounded(gmacs, 3),
            peak_share: rounded(gmacs / (self.threads as f64 * peak_gmacs), 4),
            // The median of all calls may lie a little outside of what the slices say.
            p50_low_ms: ms(low.min(p50)),
            p50_high_ms: ms(high.max(p50)),
            samples: self.samples.len(),
            tokenize_us: rounded(median(&tokenize), 3),
            workspace_bytes: self.engine.workspace_bytes(self.tokens),
            multiplications: work * texts as u64,
        }
    }

    /// Where the time goes.
    pub(crate) fn profile(&self) -> Profile {
        let profiles = self.profiles.iter().map(|steps| gather(steps));
        let profiles: Vec<Vec<Part>> = profiles.collect();
        let mut steps: Vec<Step> = Vec::new();
        for (index, part) in profiles.first().into_iter().flatten().enumerate() {
            let times: Vec<f64> = profiles
                .iter()
                .filter_map(|parts| parts.get(index))
                .map(|part| part.seconds)
                .collect();
            steps.push(Step {
                layer: part.layer,
                operation: part.operation.to_owned(),
                cost: part.cost(median(&times)),
            });
        }
        let total: f64 = steps.iter().map(|step| step.cost.ms).sum();
        let mut operations: Vec<Operation> = Vec::new();
        for step in &mut steps {
            step.cost.share = rounded(step.cost.ms / total, 4);
            let known = operations
                .iter_mut()
                .find(|o| o.operation == step.operation);
            match known {
                Some(operation) => operation.cost.add(&step.cost),
                None => operations.push(Operation {
                    operation: step.operation.clone(),
                    cost: step.cost,
                }),
            }
        }
        for operation in &mut operations {
            operation.cost.share = rounded(operation.cost.ms / total, 4);
        }
        Profile {
            tokens: self.tokens,
            threads: self.threads,
            texts: self.batches[0].len(),
            total_ms: rounded(total, 6),
            operations,
            layers: steps,
        }
    }
}

/// Everything that an operation did in one layer.
struct Part {
    operation: &'static str,
    layer: Option<usize>,
    seconds: f64,
    multiplications: u64,
    bytes: u64,
}

impl Part {
    fn cost(&self, seconds: f64) -> super::record::Cost {
        super::record::Cost::new(1e3 * seconds, self.multiplications, self.bytes)
    }
}

/// A large batch goes through the layers several times: their steps are added.
fn gather(steps: &[Measurement]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for step in steps {
        let known = parts
            .iter_mut()
            .find(|part| part.operation == step.operation && part.layer == step.layer);
        let part = match known {
            Some(part) => part,
            None => parts.push_mut(Part {
                operation: step.operation,
                layer: step.layer,
                seconds: 0.0,
                multiplications: 0,
                bytes: 0,
            }),
        };
        part.seconds += step.time.as_secs_f64();
        part.multiplications += step.multiplications;
        part.bytes += step.bytes;
    }
    parts
}

/// Measures all tasks in turn, and the peak beside them, until each has had its time.
pub(crate) fn measure(
    tasks: &mut [Task<'_>],
    time: Duration,
    peak: &mut Peak,
    progress: &mut dyn Progress,
) -> Result<(), Failure> {
    progress.begin("measuring", 1000 * tasks.len() as u64);
    loop {
        let mut all = true;
        for task in tasks.iter_mut() {
            let before = task.done(time);
            if before >= 1000 {
                continue;
            }
            all = false;
            task.run_slice(time / SLICES)?;
            progress.advance(task.done(time) - before);
        }
        if all {
            break;
        }
        peak.sample(tasks[0].engine);
    }
    progress.finish();
    Ok(())
}

/// A run's median and between what it lies.
pub(crate) fn estimate(run: &Run) -> Estimate {
    Estimate {
        value: run.p50_ms,
        low: run.p50_low_ms,
        high: run.p50_high_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_one_layer_are_gathered() {
        let step = |operation, layer, micros| Measurement {
            operation,
            layer,
            time: Duration::from_micros(micros),
            multiplications: 10,
            bytes: 5,
        };
        let parts = gather(&[
            step("tokenize", None, 1),
            step("attention", Some(0), 2),
            step("attention", Some(1), 3),
            step("tokenize", None, 4),
            step("attention", Some(0), 5),
        ]);
        let found: Vec<_> = parts
            .iter()
            .map(|part| {
                (
                    part.operation,
                    part.layer,
                    (1e6 * part.seconds).round() as u64,
                )
            })
            .collect();
        let expected = [
            ("tokenize", None, 5),
            ("attention", Some(0), 7),
            ("attention", Some(1), 3),
        ];
        assert_eq!(found, expected);
        assert_eq!((parts[1].multiplications, parts[1].bytes), (20, 10));
    }
}
