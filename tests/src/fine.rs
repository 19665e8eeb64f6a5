//! Models with fine products.

use filbert_convert::Checkpoint;
use filbert_convert::dataset::Dataset;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::quantization::Quantization;

use crate::shared;

/// A few texts of every script, to calibrate by.
///
/// # Panics
/// If they cannot be read.
pub fn calibration() -> Dataset {
    let lines = std::fs::read_to_string(shared::texts_file()).expect("texts");
    let examples = lines.lines().step_by(60).map(|line| format!("{line}\t0\n"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("texts.tsv");
    let header = "text\tlabel\n".to_owned();
    std::fs::write(&path, header + &examples.collect::<String>()).expect("a temporary file");
    Dataset::read(&path).expect("labelled texts")
}

/// A checkpoint's files with each of these numbers of fine products, from the least on: those that
/// move its answers most.
///
/// # Panics
/// If one cannot be made.
pub fn models<const N: usize>(checkpoint: &Checkpoint, counts: [usize; N]) -> [Vec<u8>; N] {
    let texts = calibration();
    let quantization = Quantization::choose(checkpoint, None, &mut Quiet);
    let mut quantization = quantization.expect("a checkpoint");
    counts.map(|count| {
        if count > 0 {
            let refined = quantization.refine(checkpoint, &texts, count, &mut Quiet);
            refined.expect("a checkpoint");
        }
        let package = Package::build_quantized(checkpoint, &quantization, &mut Quiet);
        package.expect("a checkpoint").into_bytes()
    })
}
