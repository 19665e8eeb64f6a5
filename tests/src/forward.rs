//! A plain forward pass in f64: the formulas of the papers, one loop each, to judge every
//! other implementation by.

use filbert::format::Activation;
use filbert_convert::Checkpoint;
use filbert_convert::checkpoint::{LayerParameter, Parameter};
use filbert_convert::config::{Architecture, Config};

/// Rows of equal length.
type Matrix = Vec<Vec<f64>>;

/// The logits of one text.
///
/// # Panics
///
/// If a parameter cannot be loaded or an id is out of range.
pub fn logits(checkpoint: &Checkpoint, ids: &[u32], token_types: &[u8]) -> Vec<f64> {
    let load = |parameter| {
        let values = checkpoint.load(parameter).expect("a valid checkpoint");
        values.into_iter().map(f64::from).collect()
    };
    logits_with(checkpoint.config(), &load, ids, token_types)
}

/// As [`logits`], with the parameters that `load` gives.
///
/// # Panics
///
/// If a parameter has not the shape that the config implies, or an id is out of range.
pub fn logits_with(
    config: &Config,
    load: &dyn Fn(Parameter) -> Vec<f64>,
    ids: &[u32],
    token_types: &[u8],
) -> Vec<f64> {
    let model = Model { config, load };
    let mut hidden = model.embeddings(ids, token_types);
    for layer in 0..model.config.layers {
        hidden = model.encoder_layer(layer, &hidden);
    }
    let first = vec![hidden.swap_remove(0)];
    let mut dense = model.linear(&first, Parameter::HeadDenseWeight, Parameter::HeadDenseBias);
    for value in &mut dense[0] {
        *value = match model.config.architecture {
            Architecture::DistilBert => value.max(0.0),
            _ => value.tanh(),
        };
    }
    model
        .linear(
            &dense,
            Parameter::ClassifierWeight,
            Parameter::ClassifierBias,
        )
        .swap_remove(0)
}

struct Model<'a> {
    config: &'a Config,
    load: &'a dyn Fn(Parameter) -> Vec<f64>,
}

impl Model<'_> {
    fn load(&self, parameter: Parameter) -> Vec<f64> {
        (self.load)(parameter)
    }

    fn embeddings(&self, ids: &[u32], token_types: &[u8]) -> Matrix {
        let hidden = self.config.hidden;
        let row = |table: &[f64], row: usize| table[row * hidden..][..hidden].to_vec();
        let words = self.load(Parameter::WordEmbedding);
        let positions = self.load(Parameter::PositionEmbedding);
        let mut sum: Matrix = ids
            .iter()
            .enumerate()
            .map(|(position, &id)| add(&row(&words, id as usize), &row(&positions, position)))
            .collect();
        if self.config.token_types > 0 {
            let types = self.load(Parameter::TokenTypeEmbedding);
            for (sum, &kind) in sum.iter_mut().zip(token_types) {
                *sum = add(sum, &row(&types, kind.into()));
            }
        }
        self.layer_norm(
            &sum,
            Parameter::EmbeddingNormWeight,
            Parameter::EmbeddingNormBias,
        )
    }

    fn encoder_layer(&self, layer: usize, input: &Matrix) -> Matrix {
        use LayerParameter as L;
        let p = |parameter| Parameter::Layer(layer, parameter);
        let query = self.linear(input, p(L::QueryWeight), p(L::QueryBias));
        let key = self.linear(input, p(L::KeyWeight), p(L::KeyBias));
        let value = self.linear(input, p(L::ValueWeight), p(L::ValueBias));
        let context = self.attention(&query, &key, &value);
        let output = self.linear(
            &context,
            p(L::AttentionOutputWeight),
            p(L::AttentionOutputBias),
        );
        let attended = self.layer_norm(
            &add_rows(&output, input),
            p(L::AttentionNormWeight),
            p(L::AttentionNormBias),
        );
        let mut inner = self.linear(
            &attended,
            p(L::FeedForwardInWeight),
            p(L::FeedForwardInBias),
        );
        for value in inner.iter_mut().flatten() {
            *value = activate(self.config.activation, *value);
        }
        let output = self.linear(&inner, p(L::FeedForwardOutWeight), p(L::FeedForwardOutBias));
        self.layer_norm(
            &add_rows(&output, &attended),
            p(L::FeedForwardNormWeight),
            p(L::FeedForwardNormBias),
        )
    }

    fn attention(&self, query: &Matrix, key: &Matrix, value: &Matrix) -> Matrix {
        let size = self.config.hidden / self.config.heads;
        let mut context = vec![vec![0.0; self.config.hidden]; query.len()];
        for head in 0..self.config.heads {
            let columns = head * size..(head + 1) * size;
            for (query, context) in query.iter().zip(&mut context) {
                let scores: Vec<f64> = key
                    .iter()
                    .map(|key| {
                        dot(&query[columns.clone()], &key[columns.clone()]) / (size as f64).sqrt()
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (weight, value) in weights.iter().zip(value) {
                    for column in columns.clone() {
                        context[column] += weight / total * value[column];
                    }
                }
            }
        }
        context
    }

    fn linear(&self, input: &Matrix, weight: Parameter, bias: Parameter) -> Matrix {
        let weight = self.load(weight);
        let bias = self.load(bias);
        input
            .iter()
            .map(|row| {
                let outputs = weight.chunks_exact(row.len()).zip(&bias);
                outputs
                    .map(|(weight, bias)| dot(row, weight) + bias)
                    .collect()
            })
            .collect()
    }

    fn layer_norm(&self, input: &Matrix, weight: Parameter, bias: Parameter) -> Matrix {
        let weight = self.load(weight);
        let bias = self.load(bias);
        let eps = f64::from(self.config.layer_norm_eps);
        input
            .iter()
            .map(|row| {
                let n = row.len() as f64;
                let mean = row.iter().sum::<f64>() / n;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                let parameters = weight.iter().zip(&bias);
                row.iter()
                    .zip(parameters)
                    .map(|(x, (weight, bias))| (x - mean) / (variance + eps).sqrt() * weight + bias)
                    .collect()
            })
            .collect()
    }
}

/// A function of one value.
pub fn activate(function: Activation, x: f64) -> f64 {
    match function {
        Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn add_rows(a: &Matrix, b: &Matrix) -> Matrix {
    a.iter().zip(b).map(|(a, b)| add(a, b)).collect()
}
