//! Writes a random checkpoint of a known shape: `write_checkpoint SHAPE FOLDER`.

use std::path::Path;
use std::process::ExitCode;

use filbert_convert::config::Architecture;
use filbert_convert::synthetic::SyntheticCheckpoint;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shape, folder] = &arguments[..] else {
        eprintln!("usage: write_checkpoint minilm|distilbert|bert-base FOLDER");
        return ExitCode::from(2);
    };
    let (architecture, layers, hidden) = match shape.as_str() {
        "minilm" => (Architecture::Bert, 6, 384),
        "distilbert" => (Architecture::DistilBert, 6, 768),
        "bert-base" => (Architecture::Bert, 12, 768),
        _ => {
            eprintln!("write_checkpoint: no shape is named {shape}");
            return ExitCode::from(2);
        }
    };
    let checkpoint = SyntheticCheckpoint {
        architecture,
        layers,
        hidden,
        heads: 12,
        intermediate: 4 * hidden,
        vocabulary: 30_522,
        positions: 512,
        ..SyntheticCheckpoint::default()
    };
    match checkpoint.write(Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write_checkpoint: {error}");
            ExitCode::FAILURE
        }
    }
}
