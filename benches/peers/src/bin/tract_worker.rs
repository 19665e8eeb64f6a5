//! tract: an ONNX file, optimized for each shape before the clock runs.

use std::sync::Arc;

use filbert_peers::{Engine, Result, Text, pad, serve};
use tract_linalg::multithread::{self, Executor};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

struct Tract {
    proto: ModelProto,
}

struct Feed {
    plan: Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
}

impl Engine for Tract {
    type Feed = Feed;

    fn feed(&self, texts: &[Text]) -> Result<Feed> {
        let mut model = tract_onnx::onnx()
            .model_for_proto_model(&self.proto)
            .map_err(|error| format!("{error:#}"))?;
        let (ids, mask, length) = pad::<i64>(texts);
        let types = vec![0; ids.len()];
        let shape = [texts.len(), length];
        let prepare = || -> TractResult<Feed> {
            let count = model.input_outlets()?.len();
            let mut inputs = TVec::new();
            for (input, values) in [ids, mask, types].into_iter().take(count).enumerate() {
                model.set_input_fact(input, InferenceFact::dt_shape(i64::datum_type(), shape))?;
                inputs.push(Tensor::from_shape(&shape, &values)?.into_tvalue());
            }
            let plan = std::mem::take(&mut model)
                .into_optimized()?
                .into_runnable()?;
            Ok(Feed { plan, inputs })
        };
        prepare().map_err(|error| format!("{error:#}").into())
    }

    fn run(&self, feed: &Feed) -> Result<Vec<f32>> {
        let run = || -> TractResult<Vec<f32>> {
            let outputs = feed.plan.run(feed.inputs.clone())?;
            Ok(outputs[0].view().as_slice::<f32>()?.to_vec())
        };
        run().map_err(|error| format!("{error:#}").into())
    }
}

fn main() {
    serve(|arguments| {
        if arguments.threads > 1 {
            multithread::set_default_executor(Executor::multithread(arguments.threads));
        }
        let proto = tract_onnx::onnx()
            .proto_model_for_path(&arguments.model)
            .map_err(|error| format!("{error:#}"))?;
        let settings = "optimized for each length; built for this CPU".to_owned();
        Ok((Tract { proto }, settings))
    });
}
