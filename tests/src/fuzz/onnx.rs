//! Models in ONNX.

use filbert_convert::Checkpoint;
use filbert_convert::checkpoint::Parameter;
use filbert_convert::config::Architecture;
use filbert_convert::onnx::export_float32;
use filbert_convert::onnx::import::Imported;
use filbert_convert::synthetic::SyntheticCheckpoint;
use tract_onnx::pb::tensor_proto::DataType;

use super::Seed;
use super::quantize_dynamic::{Steps, quantize_dynamic};
use super::seeds::smallest;

/// The target `onnx`: a model without other files. Whether it is taken.
///
/// # Panics
/// If a parameter that is taken cannot be read.
pub(super) fn model(input: &[u8]) -> bool {
    let Ok(imported) = Imported::from_bytes(input.to_vec()) else {
        return false;
    };
    let config = imported.config();
    for parameter in Parameter::all(config) {
        let shape = parameter.shape(config);
        let values = imported.load_rows(parameter, 0..shape[0]);
        let values = values.expect("every parameter");
        assert_eq!(
            values.len(),
            shape.iter().product::<usize>(),
            "{parameter:?}"
        );
        if let Some(rows) = imported.quantized_rows(parameter, 0..shape[0]) {
            assert_eq!(rows.values.len(), values.len(), "{parameter:?}");
            assert!(!rows.values.contains(&i8::MIN), "{parameter:?}");
        }
    }
    let _ = imported.note();
    true
}

/// The seeds of [`model`]: small exports of our own, and the same in integers.
pub(super) fn seeds() -> Vec<Seed> {
    [
        (Architecture::Bert, DataType::Int8, Steps::OfChannels),
        (Architecture::DistilBert, DataType::Uint8, Steps::OfTensor),
    ]
    .into_iter()
    .flat_map(|(architecture, data_type, steps)| {
        let file = export(architecture);
        let quantized = quantize_dynamic(&file, data_type, steps);
        [
            (format!("{architecture:?}"), file),
            (format!("{architecture:?}-{data_type:?}"), quantized),
        ]
    })
    .collect()
}

/// A small model in float32.
fn export(architecture: Architecture) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let synthetic = SyntheticCheckpoint {
        architecture,
        ..smallest()
    };
    synthetic.write(folder.path()).expect("a checkpoint");
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    let mut file = Vec::new();
    export_float32(&checkpoint, &mut file).expect("a model in memory");
    file
}
