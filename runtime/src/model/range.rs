//! What the weights of a model can do to a value: the proof, made at open, that NaN and
//! infinity cannot arise.

use std::iter;

use super::{LayerWeights, LinearWeights, Model, NormWeights, malformed};
use crate::error::Error;
use crate::format::{BLOCK, Head, PANEL};

impl Model {
    /// Checks what can be known of a product's columns without its weights: a sum has the size
    /// that as many weights can have, and padded columns give zero.
    pub(super) fn check_columns(&self) -> Result<(), Error> {
        let shape = &self.shape;
        let check = |name: &str,
                     layer: usize,
                     linear: LinearWeights<'_>,
                     counts: &dyn Fn(usize) -> bool| {
            let most = 128 * (linear.shape.blocks() * BLOCK) as u32;
            for (panel, columns) in linear.columns.iter().enumerate() {
                for lane in 0..PANEL {
                    let (scale, sum, bias) =
                        (columns.scale[lane], columns.sum[lane], columns.bias[lane]);
                    let output = panel * PANEL + lane;
                    let is_zero = scale == 0.0 && sum == 0 && bias == 0.0;
                    if sum.unsigned_abs() > most || !(counts(output) || is_zero) {
                        return Err(malformed(
                            format_args!("weights, {name} of layer {layer}, column {output}"),
                            "a sum of int8 weights, and zeros in the padding",
                            format_args!("scale {scale}, sum {sum}, bias {bias}"),
                        ));
                    }
                }
            }
            Ok(())
        };
        let head = |output: usize| output % shape.head_stride() < shape.head_size as usize;
        let hidden = |output: usize| output < shape.hidden as usize;
        let inner = |output: usize| output < shape.intermediate as usize;
        let outputs = |output: usize| output < shape.head_outputs();
        for index in 0..shape.layers as usize {
            let layer = self.layer(index);
            let products: [(_, _, &dyn Fn(usize) -> bool); 4] = [
                ("query, key and value", layer.query_key_value, &head),
                ("attention output", layer.attention_output, &hidden),
                ("feed forward in", layer.feed_forward_in, &inner),
                ("feed forward out", layer.feed_forward_out, &hidden),
            ];
            for (name, product, counts) in products {
                for weights in iter::once(product.weights).chain(product.rest) {
                    check(name, index, weights, counts)?;
                }
            }
        }
        if self.head.has_dense() {
            check("head", 0, self.head_dense(), &hidden)?;
        }
        match self.head {
            Head::Embedding => Ok(()),
            _ => check("classifier", 0, self.classifier(), &outputs),
        }
    }

    /// Checks that layer norms give zero in the padding.
    pub(super) fn check_norms(&self) -> Result<(), Error> {
        let hidden = self.shape.hidden as usize;
        let check = |name: &str, layer: usize, norm: NormWeights<'_>| {
            for values in [norm.weight, norm.bias, norm.balance] {
                if values[hidden..].iter().any(|&x| x != 0.0) {
                    let name = format!("weights, {name} of layer {layer}");
                    return Err(malformed(name, "zeros in the padding", "other values"));
                }
            }
            Ok(())
        };
        check("embedding norm", 0, self.embedding_norm())?;
        for index in 0..self.shape.layers as usize {
            let layer = self.layer(index);
            check("attention norm", index, layer.attention_norm)?;
            check("feed forward norm", index, layer.feed_forward_norm)?;
        }
        if self.head.has_norm() {
            check("head norm", 0, self.head_norm())?;
        }
        Ok(())
    }

    /// Proves by interval arithmetic that no value on the way from tokens to logits can leave
    /// the range of `f32`, whatever the text and whatever the int8 weights: follows the largest
    /// magnitude that the scales, biases and norms allow. So no infinity or NaN arises, on
    /// which CPUs would differ. The limit leaves room for a sum of squares over a row.
    pub(super) fn check_range(&self) -> Result<(), Error> {
        const LIMIT: f64 = (1u64 << 54) as f64;
        let check = |name: &str, layer: usize, magnitude: f64| {
            // Written so that a NaN fails.
            if magnitude <= LIMIT {
                Ok(magnitude)
            } else {
                let name = format!("weights, {name} of layer {layer}");
                Err(malformed(
                    name,
                    "finite scales and biases of a trained model",
                    magnitude,
                ))
            }
        };
        let hidden = f64::from(self.shape.hidden);
        // |y| <= |weight| √n + |bias|: a normalized row of n values has none above √n.
        // Each of n values that are rotated together is a sum of n.
        let norm = |name: &str, layer: usize, norm: NormWeights<'_>, rotation: usize| {
            let (weight, bias) = (largest(norm.weight), largest(norm.bias));
            let output = check(name, layer, weight * hidden.sqrt() + bias)?;
            let balanced = output * largest(norm.balance) * rotation as f64;
            let balanced = check(name, layer, balanced)?;
            Ok::<_, Error>((output, balanced))
        };
        // An activation is at most 255 steps from zero, a step is at most the span of its row,
        // twice the input, over 255; and the zero point may weigh as much again, since the
        // sums of the weights need not be the true ones.
        let linear = |name: &str, layer: usize, linear: LinearWeights<'_>, input: f64| {
            let steps = 4.0 * 128.0 * (linear.shape.blocks() * BLOCK) as f64;
            let mut most = 0.0f64;
            for columns in linear.columns {
                let product = largest(&columns.scale) * steps * input;
                most = most.max(product + largest(&columns.bias));
                if product.is_nan() {
                    most = f64::INFINITY;
                }
            }
            check(name, layer, most)
        };

        // Of a fine product, each half of the weights reads the row and what is left of it, which
        // is less than the row.
        let product = |name: &str, layer: usize, product: LayerWeights<'_>, input: f64| {
            let most = linear(name, layer, product.weights, input)?;
            match product.rest {
                None => Ok(most),
                Some(rest) => {
                    let rest = linear(name, layer, rest, input)?;
                    check(name, layer, 2.0 * (most + rest))
                }
            }
        };

        let token_types = self
            .token_types()
            .map_or(0.0, |table| largest(table.scales));
        for (name, scale, steps) in [
            ("word embedding", largest(self.words().scales), 128.0),
            (
                "position embedding",
                largest(self.positions().scales),
                32_768.0,
            ),
            ("token type embedding", token_types, 32_768.0),
        ] {
            check(name, 0, scale * steps)?;
        }
        let rotation = self.rotation(self.shape.hidden);
        let (mut residual, mut input) = norm("embedding norm", 0, self.embedding_norm(), rotation)?;
        for index in 0..self.shape.layers as usize {
            let layer = self.layer(index);
            let attended = product("query, key and value", index, layer.query_key_value, input)?;
            // A score is a sum of products of a query and a key; only the softmax reads it, so it
            // may be as large as the limit's square.
            check("attention scores", index, attended * attended / LIMIT)?;
            let output = product("attention output", index, layer.attention_output, attended)?;
            check("attention output", index, output + residual)?;
            (residual, input) = norm("attention norm", index, layer.attention_norm, rotation)?;
            let inner = product("feed forward in", index, layer.feed_forward_in, input)?;
            let inner = inner
                * largest(layer.feed_forward_balance)
                * self.rotation(self.shape.intermediate) as f64;
            let inner = check("feed forward balance", index, inner)?;
            let output = product("feed forward out", index, layer.feed_forward_out, inner)?;
            check("feed forward out", index, output + residual)?;
            (residual, input) = norm(
                "feed forward norm",
                index,
                layer.feed_forward_norm,
                rotation,
            )?;
        }
        if self.head.has_dense() {
            // A tanh reaches 1 whatever it is given.
            input = linear("head", 0, self.head_dense(), input)?.max(1.0);
        }
        if self.head.has_norm() {
            (_, input) = norm("head norm", 0, self.head_norm(), 1)?;
        }
        // A sum of logits over all tokens, as in the self-test, stays in range too: there are
        // at most 2^16, and the limit is far below the largest float.
        if self.head != Head::Embedding {
            linear("classifier", 0, self.classifier(), input)?;
        }
        Ok(())
    }
}

/// The largest magnitude, or infinity if a value is not finite.
fn largest(values: &[f32]) -> f64 {
    let mut most = 0.0f32;
    let mut finite = true;
    for &x in values {
        finite &= x.is_finite();
        most = most.max(x.abs());
    }
    if finite {
        f64::from(most)
    } else {
        f64::INFINITY
    }
}
