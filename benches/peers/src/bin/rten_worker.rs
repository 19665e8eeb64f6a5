//! rten: an ONNX file, its weights packed when it is opened.

use std::sync::Arc;

use filbert_peers::{Engine, Result, Text, pad, serve};
use rten::{ModelOptions, NodeId, RunOptions, ThreadPool};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor};

struct Rten {
    model: rten::Model,
    inputs: Vec<NodeId>,
    output: NodeId,
    /// A pool for each stream: calls that share one would wait for each other.
    threads: usize,
}

impl Rten {
    /// This thread's pool.
    fn pool(&self) -> Arc<ThreadPool> {
        thread_local! {
            static POOL: std::cell::OnceCell<Arc<ThreadPool>> = const { std::cell::OnceCell::new() };
        }
        POOL.with(|pool| {
            pool.get_or_init(|| Arc::new(ThreadPool::with_num_threads(self.threads)))
                .clone()
        })
    }
}

impl Engine for Rten {
    /// Ids, mask and, where the model has them, token types.
    type Feed = Vec<NdTensor<i32, 2>>;

    fn feed(&self, texts: &[Text]) -> Result<Self::Feed> {
        let (ids, mask, length) = pad::<i64>(texts);
        let shape = [texts.len(), length];
        let narrow = |values: Vec<i64>| values.into_iter().map(|value| value as i32).collect();
        let types = vec![0; ids.len()];
        let feeds: [Vec<i32>; 3] = [narrow(ids), narrow(mask), types];
        let feeds = feeds.map(|values| NdTensor::from_data(shape, values));
        Ok(feeds.into_iter().take(self.inputs.len()).collect())
    }

    fn run(&self, feed: &Self::Feed) -> Result<Vec<f32>> {
        let inputs = self.inputs.iter().zip(feed);
        let inputs = inputs.map(|(&id, value)| (id, value.view().into()));
        let options = RunOptions::default().with_thread_pool(Some(self.pool()));
        let [logits] = self
            .model
            .run_n(inputs.collect(), [self.output], Some(options))?;
        let logits: Tensor<f32> = logits.try_into()?;
        Ok(logits.to_vec())
    }
}

fn main() {
    serve(|arguments| {
        let model = ModelOptions::with_all_ops()
            .prepack_weights(true)
            .load_file(&arguments.model)?;
        let names = ["input_ids", "attention_mask", "token_type_ids"];
        let inputs = names[..model.input_ids().len()]
            .iter()
            .map(|name| model.node_id(name))
            .collect::<std::result::Result<_, _>>()?;
        let output = model.node_id("logits")?;
        let rten = Rten {
            model,
            inputs,
            output,
            threads: arguments.threads,
        };
        Ok((rten, "prepacked weights; built for this CPU".to_owned()))
    });
}
