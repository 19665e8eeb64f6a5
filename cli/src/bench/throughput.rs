//! Texts per second, over texts of many lengths.

use std::hint::black_box;
use std::time::{Duration, Instant};

use filbert::Input;
use filbert_convert::progress::Progress;

use super::engine::Engine;
use super::record::{Rate, Throughput, rounded};
use super::statistics::median;
use super::texts::Corpus;
use crate::Failure;

/// Texts that warm an engine up.
const WARM: usize = 16;

/// Goes through the corpus in turn, with each engine, in one batch and text by text, until
/// each way has had its time; at least once.
pub(crate) fn measure(
    engines: &[(usize, Engine)],
    corpus: &Corpus,
    time: Duration,
    progress: &mut dyn Progress,
) -> Result<Throughput, Failure> {
    let inputs = corpus.inputs();
    let lengths: Vec<f64> = match engines.first() {
        Some((_, engine)) => {
            let tokens = engine.answer(&inputs)?.tokens();
            tokens.into_iter().map(|tokens| tokens as f64).collect()
        }
        None => Vec::new(),
    };
    let mut passes: Vec<[Vec<f64>; 2]> = vec![Default::default(); engines.len()];
    progress.begin("measuring throughput", 2 * engines.len() as u64);
    for (_, engine) in engines {
        engine.answer(&inputs[..WARM.min(inputs.len())])?;
    }
    loop {
        let mut all = true;
        for ((_, engine), ways) in engines.iter().zip(&mut passes) {
            for (passes, step) in ways.iter_mut().zip([inputs.len(), 1]) {
                if passes.iter().sum::<f64>() >= time.as_secs_f64() {
                    continue;
                }
                all = false;
                passes.push(pass(engine, &inputs, step)?);
                if passes.iter().sum::<f64>() >= time.as_secs_f64() {
                    progress.advance(1);
                }
            }
        }
        if all {
            break;
        }
    }
    progress.finish();
    let rate = |passes: &[f64]| rounded(inputs.len() as f64 / median(passes), 2);
    Ok(Throughput {
        source: corpus.source.clone(),
        texts: inputs.len(),
        tokens: lengths.iter().sum::<f64>() as usize,
        median_tokens: median(&lengths) as usize,
        longest_tokens: lengths.iter().copied().fold(0.0, f64::max) as usize,
        results: engines
            .iter()
            .zip(&passes)
            .map(|(&(threads, _), [batched, single])| Rate {
                threads,
                batched_texts_per_second: rate(batched),
                single_texts_per_second: rate(single),
            })
            .collect(),
    })
}

/// The seconds that all texts take, so many at a time.
fn pass(engine: &Engine, inputs: &[Input<'_>], step: usize) -> Result<f64, Failure> {
    let start = Instant::now();
    for batch in inputs.chunks(step) {
        black_box(engine.answer(black_box(batch))?);
    }
    Ok(start.elapsed().as_secs_f64().max(1e-9))
}
