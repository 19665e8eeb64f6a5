//! The float32 answer of a checkpoint: the exported ONNX, run by tract.
//!
//! A second implementation by other people, so that the export and our own runtime are not
//! judged by themselves.

use std::sync::Arc;

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use crate::{Checkpoint, Error, onnx};

/// A checkpoint's float32 model, ready to run.
pub struct Reference {
    model: Arc<TypedRunnableModel>,
    positions: usize,
    vocabulary: usize,
    token_types: usize,
}

impl Reference {
    /// Exports the checkpoint in memory and prepares it. Takes about four times the size of
    /// its float32 weights while it does, and less than twice afterwards.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self, Error> {
        let mut file = Vec::new();
        onnx::export_float32(checkpoint, &mut file)?;
        let model = prepare(file).map_err(|error| {
            Error::in_file(
                checkpoint.folder(),
                format!("tract cannot prepare the float32 ONNX: {error:#}"),
            )
        })?;
        let config = checkpoint.config();
        Ok(Self {
            model,
            positions: config.positions,
            vocabulary: config.vocabulary,
            token_types: config.token_types,
        })
    }

    /// What the model answers to one text of this very length: `[labels]` logits, or as many for
    /// each token; the logits `[tokens, 2]` of the beginning and the end of an answer; a vector
    /// `[hidden]`; or the logits `[tokens, vocabulary]` of words.
    ///
    /// `token_types` are ignored where the model has none.
    pub fn logits(&self, ids: &[u32], token_types: &[u8]) -> Result<Vec<f32>, Error> {
        if ids.is_empty() || ids.len() > self.positions {
            return Err(Error::new(format!(
                "a text of {} tokens; the model takes 1 to {}",
                ids.len(),
                self.positions
            )));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocabulary) {
            return Err(Error::new(format!(
                "the token id {id}; the model has {} tokens",
                self.vocabulary
            )));
        }
        let values: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let mut inputs = vec![values, vec![1; ids.len()]];
        if self.token_types > 0 {
            if token_types.len() != ids.len() {
                return Err(Error::new(format!(
                    "{} token types for {} tokens",
                    token_types.len(),
                    ids.len()
                )));
            }
            if let Some(kind) = token_types
                .iter()
                .find(|&&kind| usize::from(kind) >= self.token_types)
            {
                return Err(Error::new(format!(
                    "the token type {kind}; the model has {}",
                    self.token_types
                )));
            }
            inputs.push(token_types.iter().map(|&kind| i64::from(kind)).collect());
        }
        self.run(inputs)
            .map_err(|error| Error::new(format!("tract cannot run the float32 ONNX: {error:#}")))
    }

    fn run(&self, inputs: Vec<Vec<i64>>) -> TractResult<Vec<f32>> {
        let inputs = inputs
            .iter()
            .map(|values| Ok(Tensor::from_shape(&[1, values.len()], values)?.into_tvalue()))
            .collect::<TractResult<TVec<TValue>>>()?;
        let outputs = self.model.run(inputs)?;
        let values = |output: &TValue| Ok(output.view().as_slice::<f32>()?.to_vec());
        let outputs = outputs
            .iter()
            .map(values)
            .collect::<TractResult<Vec<Vec<f32>>>>()?;
        // Outputs side by side: those of a question have one value for each token.
        Ok(match outputs.as_slice() {
            [starts, ends] => {
                let pairs = starts.iter().zip(ends);
                pairs.flat_map(|(&start, &end)| [start, end]).collect()
            }
            _ => outputs.into_iter().flatten().collect(),
        })
    }
}

/// Each form of the model is dropped as soon as the next one exists.
fn prepare(file: Vec<u8>) -> TractResult<Arc<TypedRunnableModel>> {
    let proto: ModelProto = onnx_framework().proto_model_for_read(&mut file.as_slice())?;
    drop(file);
    let mut model = onnx_framework().model_for_proto_model(&proto)?;
    drop(proto);
    let length = model.symbols.sym("sequence_length");
    for input in 0..model.input_outlets()?.len() {
        let shape = [1.to_dim(), length.to_dim()];
        model.set_input_fact(input, InferenceFact::dt_shape(i64::datum_type(), shape))?;
    }
    model.into_optimized()?.into_runnable()
}

fn onnx_framework() -> tract_onnx::Onnx {
    tract_onnx::onnx()
}
