//! A checkpoint as one `.filbert` file, in memory.
//!
//! The bytes are a function of the checkpoint, and of the calibration texts where there are any: no
//! time, host or path goes in.

use bytemuck::{Zeroable, bytes_of, cast_slice, cast_slice_mut};
use filbert::format::{
    Columns, Head, Header, Labels, LinearShape, MAGIC, MAJOR_VERSION, MINOR_VERSION, NO_TEXT,
    PANEL, Section, SectionKind, SelfTest, SelfTestCase, Shape, Tensor, TensorKind, features,
    padded, tensor_table,
};
use filbert::{Model, Options, Runner};
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, LayerParameter, Parameter};
use crate::config::Config;
use crate::error::Error;
use crate::progress::Progress;
use crate::quantization::Quantization;
use crate::quantize::quantize_rows_i16;
use crate::task::Task;
use crate::vocabulary::VocabularySource;

/// The texts that travel in every file, with what the head makes of them; a pair where there are
/// two. Those for masked words begin with a mask.
const SELF_TEST: &[(&str, Option<&str>)] = &[
    ("", None),
    ("Good.", None),
    ("A gorgeous, witty film that earns every laugh.", None),
    (
        "The battery died after two days, and support never answered.",
        None,
    ),
    ("naïve café — 映画はとても良かったです 😀 Привет!", None),
    (
        "The kettle boils fast and pours well. The lid sticks, the cord is short, and after a \
         month the light went out; still, for the price, I would buy it again and give the old \
         one to my brother, who breaks everything he owns before the year is over.",
        None,
    ),
    ("The train was late.", Some("It did not arrive on time.")),
];

/// A converted model, ready to be written.
pub struct Package {
    sections: [Vec<u8>; SMALL],
    /// See [`Header::required_features`].
    required_features: u32,
    /// The texts of the self-test.
    texts: Vec<(String, Option<String>)>,
    bytes: Vec<u8>,
}

/// Sections before the weights.
const SMALL: usize = SectionKind::ALL.len() - 1;

impl std::fmt::Debug for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Package")
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Package {
    /// Quantizes a checkpoint, lays it out, and computes the self-test's logits with the
    /// runtime itself.
    ///
    /// # Errors
    /// If a weight is not finite, if the tokenizer is not supported, or if the runtime refuses
    /// the result.
    pub fn build(checkpoint: &Checkpoint, progress: &mut dyn Progress) -> Result<Self, Error> {
        let quantization = Quantization::choose(checkpoint, None, progress)?;
        Self::build_quantized(checkpoint, &quantization, progress)
    }

    /// As [`Package::build`], where the quantization is known.
    ///
    /// # Errors
    /// As for [`Package::build`].
    pub fn build_quantized(
        checkpoint: &Checkpoint,
        quantization: &Quantization,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let provenance = provenance(checkpoint, quantization)?;
        let mut package =
            Self::quantize(checkpoint, quantization, provenance, "quantizing", progress)?;
        package.complete_self_test(progress)?;
        Ok(package)
    }

    /// A package whose self-test has no logits yet; `task` is what the progress shows. A package
    /// that is only run needs no provenance, which takes a checksum of the checkpoint.
    pub(crate) fn quantize(
        checkpoint: &Checkpoint,
        quantization: &Quantization,
        provenance: Vec<u8>,
        task: &str,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let config = checkpoint.config();
        let vocabulary = VocabularySource::read(checkpoint.folder(), config.vocabulary)?;
        let max_tokens = vocabulary
            .max_tokens()
            .unwrap_or(usize::MAX)
            .min(config.max_tokens.unwrap_or(usize::MAX))
            .min(config.positions);
        let least = vocabulary.special_tokens();
        if max_tokens < least {
            return Err(Error::in_file(
                checkpoint.folder(),
                format!(
                    "the model takes {max_tokens} tokens; a pair of texts needs at least {least}"
                ),
            ));
        }
        let mask = match config.task {
            Task::MaskedWords => Some(find_mask(&vocabulary, checkpoint)?),
            _ => None,
        };
        let shape = shape(config, max_tokens, mask.map(|mask| mask.0));
        let is_fine = |kind: TensorKind, layer: u32| {
            use LayerParameter as L;
            let weight = match kind {
                TensorKind::QueryKeyValue => L::QueryWeight,
                TensorKind::AttentionOutput => L::AttentionOutputWeight,
                TensorKind::FeedForwardIn => L::FeedForwardInWeight,
                TensorKind::FeedForwardOut => L::FeedForwardOutWeight,
                _ => return false,
            };
            quantization.is_fine(Parameter::Layer(layer as usize, weight), config)
        };
        let (tensors, length) = tensor_table(&shape, is_fine).ok_or_else(|| {
            Error::in_file(
                checkpoint.folder(),
                "the model's dimensions are too large for a file",
            )
        })?;
        let length = usize::try_from(length).map_err(|_| {
            Error::in_file(
                checkpoint.folder(),
                "the model is too large for this machine",
            )
        })?;

        let mut sections: [Vec<u8>; SMALL] = std::array::from_fn(|_| Vec::new());
        let mut set = |kind: SectionKind, bytes: Vec<u8>| sections[kind as usize - 1] = bytes;
        set(SectionKind::Shape, bytes_of(&shape).to_vec());
        set(SectionKind::Tensors, cast_slice(&tensors).to_vec());
        set(SectionKind::Labels, labels(&config.labels)?);
        set(SectionKind::Vocabulary, vocabulary.section());
        let texts = self_test_texts(mask.map(|mask| mask.1));
        let blank = vec![0.0; texts.len() * shape.self_test_width()];
        set(SectionKind::SelfTest, self_test(&texts, &blank));
        set(SectionKind::Provenance, provenance);

        let heads = match shape.head {
            0 => 0,
            _ => features::HEADS,
        };
        let rotation = match quantization.rotations()[..] {
            [] => 0,
            _ => features::ROTATION,
        };
        let fine = match quantization.has_fine_products() {
            true => features::FINE_PRODUCTS,
            false => 0,
        };
        let mut package = Self {
            sections,
            required_features: heads | rotation | fine | vocabulary.required_features(),
            texts,
            bytes: Vec::new(),
        };
        let start = package.weights_offset();
        package.bytes.resize(start + length, 0);
        WeightWriter {
            checkpoint,
            quantization,
            shape: &shape,
            weights: &mut package.bytes[start..],
            tensors: &tensors,
        }
        .write(task, progress)?;
        package.write_head();
        Ok(package)
    }

    /// Sets the accuracy section: JSON, or nothing.
    pub fn set_accuracy(&mut self, json: &[u8]) {
        self.replace(SectionKind::Accuracy, json.to_vec());
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn complete_self_test(&mut self, progress: &mut dyn Progress) -> Result<(), Error> {
        progress.begin("computing the self-test", self.texts.len() as u64);
        let model = Model::from_vec(std::mem::take(&mut self.bytes))?;
        let runner = Runner::new(model, &Options::default())?;
        let mut values = Vec::new();
        for (first, second) in &self.texts {
            let input = match second {
                Some(second) => (first.as_str(), second.as_str()).into(),
                None => first.as_str().into(),
            };
            values.extend(runner.self_test_values(input)?);
            progress.advance(1);
        }
        progress.finish();
        self.bytes = runner.into_model().into_vec();
        self.replace(SectionKind::SelfTest, self_test(&self.texts, &values));
        Ok(())
    }

    /// Replaces a section, and moves the weights if they must move.
    fn replace(&mut self, kind: SectionKind, section: Vec<u8>) {
        let before = self.weights_offset();
        self.sections[kind as usize - 1] = section;
        let after = self.weights_offset();
        self.bytes.splice(..before, std::iter::repeat_n(0, after));
        self.write_head();
    }

    /// Where each section begins, the weights last.
    fn offsets(&self) -> [usize; SMALL + 1] {
        let mut end = size_of::<Header>() + SectionKind::ALL.len() * size_of::<Section>();
        std::array::from_fn(|index| {
            let start = end.next_multiple_of(SectionKind::align(index) as usize);
            end = start + self.sections.get(index).map_or(0, Vec::len);
            start
        })
    }

    fn weights_offset(&self) -> usize {
        self.offsets()[SMALL]
    }

    /// Writes everything before the weights: the header, the section table and the sections.
    fn write_head(&mut self) {
        let offsets = self.offsets();
        let (head, weights) = self.bytes.split_at_mut(offsets[SMALL]);
        let mut table = [Section::zeroed(); SectionKind::ALL.len()];
        for (index, (record, kind)) in table.iter_mut().zip(SectionKind::ALL).enumerate() {
            let bytes = self.sections.get(index).map_or(&*weights, Vec::as_slice);
            *record = Section {
                kind: kind as u32,
                checksum: crc32fast::hash(bytes),
                offset: offsets[index] as u64,
                length: bytes.len() as u64,
                reserved: 0,
            };
        }
        for (section, offset) in self.sections.iter().zip(offsets) {
            head[offset..offset + section.len()].copy_from_slice(section);
        }
        let mut header = Header {
            magic: MAGIC,
            major: MAJOR_VERSION,
            minor: MINOR_VERSION,
            required_features: self.required_features,
            file_length: (offsets[SMALL] + weights.len()) as u64,
            section_count: SectionKind::ALL.len() as u32,
            checksum: 0,
            reserved: [0; 32],
        };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytes_of(&header));
        hasher.update(cast_slice(&table));
        header.checksum = hasher.finalize();
        let (to, rest) = head.split_at_mut(size_of::<Header>());
        to.copy_from_slice(bytes_of(&header));
        rest[..size_of_val(&table)].copy_from_slice(cast_slice(&table));
    }
}

fn shape(config: &Config, max_tokens: usize, mask: Option<u32>) -> Shape {
    let (head, options) = config.task.head();
    Shape {
        layers: config.layers as u32,
        hidden: config.hidden as u32,
        heads: config.heads as u32,
        head_size: config.head_size() as u32,
        intermediate: config.intermediate as u32,
        vocabulary: config.vocabulary as u32,
        positions: config.positions as u32,
        token_types: config.token_types as u32,
        labels: config.labels.len() as u32,
        max_tokens: max_tokens as u32,
        activation: config.activation as u32,
        head_activation: config
            .task
            .head_activation(config.architecture, config.activation)
            as u32,
        problem: config.problem as u32,
        layer_norm_eps: config.layer_norm_eps,
        head: head as u32,
        head_options: mask.unwrap_or(options),
    }
}

fn find_mask<'a>(
    vocabulary: &'a VocabularySource,
    checkpoint: &Checkpoint,
) -> Result<(u32, &'a str), Error> {
    vocabulary.mask().ok_or_else(|| {
        Error::in_file(
            checkpoint.folder(),
            "the model is for masked words, but its tokenizer names no mask_token; name it in \
             tokenizer_config.json",
        )
    })
}

fn self_test_texts(mask: Option<&str>) -> Vec<(String, Option<String>)> {
    let text = |&(first, second): &(&str, Option<&str>)| {
        let first = match mask {
            Some(mask) => format!("{mask} {first}"),
            None => first.to_owned(),
        };
        (first, second.map(str::to_owned))
    };
    SELF_TEST.iter().map(text).collect()
}

fn labels(labels: &[String]) -> Result<Vec<u8>, Error> {
    let text = labels.concat();
    let too_long = |_| Error::new("config.json: id2label: the labels' text passes 4 GiB");
    let text_length = u32::try_from(text.len()).map_err(too_long)?;
    let mut offsets = vec![0u32];
    for label in labels {
        offsets.push(offsets[offsets.len() - 1] + label.len() as u32);
    }
    let head = Labels {
        count: labels.len() as u32,
        text_length,
    };
    Ok([bytes_of(&head), cast_slice(&offsets), text.as_bytes()].concat())
}

fn self_test(texts: &[(String, Option<String>)], values: &[f32]) -> Vec<u8> {
    let mut text = String::new();
    let mut place = |part: &str| {
        let offset = text.len() as u32;
        text.push_str(part);
        (offset, part.len() as u32)
    };
    let cases: Vec<_> = texts
        .iter()
        .map(|(first, second)| {
            let (first_offset, first_length) = place(first);
            let second = second.as_deref();
            let (second_offset, second_length) = second.map_or((0, NO_TEXT), &mut place);
            SelfTestCase {
                first_offset,
                first_length,
                second_offset,
                second_length,
            }
        })
        .collect();
    let head = SelfTest {
        count: cases.len() as u32,
        text_length: text.len() as u32,
    };
    [
        bytes_of(&head),
        cast_slice(&cases),
        cast_slice(values),
        text.as_bytes(),
    ]
    .concat()
}

fn provenance(checkpoint: &Checkpoint, quantization: &Quantization) -> Result<Vec<u8>, Error> {
    let weights: Vec<_> = checkpoint
        .weight_files()
        .into_iter()
        .map(|(path, bytes)| {
            let digest = Sha256::digest(bytes);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({
                "file": path.file_name().map(|name| name.to_string_lossy()),
                "bytes": bytes.len(),
                "sha256": digest,
            })
        })
        .collect();
    let mut json = serde_json::json!({
        "converter": concat!("filbert-convert ", env!("CARGO_PKG_VERSION")),
        "architecture": checkpoint.config().class(),
        "quantization": "int8 weights, symmetric by output channel",
        "weights": weights,
    });
    if quantization.is_calibrated() {
        let products = quantization.errors();
        let products: Vec<_> = products
            .iter()
            .map(|product| {
                serde_json::json!({
                    "balance": product.balance.name(),
                    "error": round_error(product.relative),
                    "product": product.name,
                    "rounding": product.rounding.name(),
                })
            })
            .collect();
        json["calibrated_products"] = products.into();
    }
    let sensitivities = quantization.sensitivities();
    if !sensitivities.is_empty() {
        let products: Vec<_> = sensitivities
            .iter()
            .map(|product| {
                serde_json::json!({
                    "bits": if product.is_fine { 16 } else { 8 },
                    "difference": round_error(product.difference),
                    "product": product.product,
                })
            })
            .collect();
        json["sensitivities"] = products.into();
    }
    if let Some(origin) = checkpoint.origin() {
        json["hub"] = serde_json::json!({
            "model": origin.repository,
            "commit": origin.commit,
        });
    }
    serde_json::to_vec(&json).map_err(|error| Error::new(error.to_string()))
}

/// To five decimals.
fn round_error(relative: f64) -> f64 {
    (relative * 1e5).round() / 1e5
}

/// Writes the tensors to their places.
struct WeightWriter<'a> {
    checkpoint: &'a Checkpoint,
    quantization: &'a Quantization,
    shape: &'a Shape,
    weights: &'a mut [u8],
    tensors: &'a [Tensor],
}

/// Where a row or column of a checkpoint's matrix lies in the padded one.
type Placement = fn(&Shape, usize) -> usize;

/// In its own place.
fn unpadded(_: &Shape, index: usize) -> usize {
    index
}

/// Heads begin at panels.
fn padded_by_head(shape: &Shape, index: usize) -> usize {
    let size = shape.head_size as usize;
    index / size * shape.head_stride() + index % size
}

impl WeightWriter<'_> {
    fn write(mut self, task: &str, progress: &mut dyn Progress) -> Result<(), Error> {
        use LayerParameter as L;
        use Parameter as P;
        use TensorKind as K;
        progress.begin(task, u64::from(self.shape.layers) + 2);
        self.write_word_embedding()?;
        self.write_embedding(P::PositionEmbedding, K::PositionRows, K::PositionScales)?;
        if self.shape.token_types > 0 {
            self.write_embedding(P::TokenTypeEmbedding, K::TokenTypeRows, K::TokenTypeScales)?;
        }
        self.write_norm(
            (P::EmbeddingNormWeight, P::EmbeddingNormBias),
            Some(P::Layer(0, L::QueryWeight)),
            K::EmbeddingNorm,
            0,
        )?;
        progress.advance(1);

        let shape = *self.shape;
        let heads = shape.attention_width();
        for layer in 0..shape.layers as usize {
            let p = |parameter| P::Layer(layer, parameter);
            let qkv = (
                K::QueryKeyValue,
                K::QueryKeyValueColumns,
                shape.query_key_value(),
            );
            for (part, (weight, bias)) in [
                (L::QueryWeight, L::QueryBias),
                (L::KeyWeight, L::KeyBias),
                (L::ValueWeight, L::ValueBias),
            ]
            .into_iter()
            .enumerate()
            {
                let place = (
                    unpadded as Placement,
                    padded_by_head as Placement,
                    part * heads,
                );
                self.write_linear((p(weight), p(bias)), qkv, layer, place)?;
            }
            self.write_linear(
                (p(L::AttentionOutputWeight), p(L::AttentionOutputBias)),
                (
                    K::AttentionOutput,
                    K::AttentionOutputColumns,
                    shape.attention_output(),
                ),
                layer,
                (padded_by_head, unpadded, 0),
            )?;
            self.write_norm(
                (p(L::AttentionNormWeight), p(L::AttentionNormBias)),
                Some(p(L::FeedForwardInWeight)),
                K::AttentionNorm,
                layer,
            )?;
            self.write_linear(
                (p(L::FeedForwardInWeight), p(L::FeedForwardInBias)),
                (
                    K::FeedForwardIn,
                    K::FeedForwardInColumns,
                    shape.feed_forward_in(),
                ),
                layer,
                (unpadded, unpadded, 0),
            )?;
            let mut balance = self
                .quantization
                .explicit_input(p(L::FeedForwardOutWeight), self.checkpoint.config())
                .unwrap_or_default()
                .to_vec();
            balance.resize(padded(shape.intermediate as usize), 0.0);
            self.write_floats(K::FeedForwardBalance, layer, &balance);
            self.write_linear(
                (p(L::FeedForwardOutWeight), p(L::FeedForwardOutBias)),
                (
                    K::FeedForwardOut,
                    K::FeedForwardOutColumns,
                    shape.feed_forward_out(),
                ),
                layer,
                (unpadded, unpadded, 0),
            )?;
            let next = if layer + 1 < shape.layers as usize {
                Some(P::Layer(layer + 1, L::QueryWeight))
            } else {
                self.checkpoint.config().task.first_weight()
            };
            self.write_norm(
                (p(L::FeedForwardNormWeight), p(L::FeedForwardNormBias)),
                next,
                K::FeedForwardNorm,
                layer,
            )?;
            progress.advance(1);
        }
        self.write_head()?;
        progress.advance(1);
        progress.finish();
        Ok(())
    }

    fn write_head(&mut self) -> Result<(), Error> {
        use Parameter as P;
        use TensorKind as K;
        let shape = *self.shape;
        let (head, _) = self.checkpoint.config().task.head();
        let place = (unpadded as Placement, unpadded as Placement, 0);
        if head.has_dense() {
            let tensors = (K::HeadDense, K::HeadDenseColumns, shape.head_dense());
            self.write_linear((P::HeadDenseWeight, P::HeadDenseBias), tensors, 0, place)?;
        }
        if head.has_norm() {
            let norm = (P::HeadNormWeight, P::HeadNormBias);
            self.write_norm(norm, Some(P::ClassifierWeight), K::HeadNorm, 0)?;
        }
        if head != Head::Embedding {
            let tensors = (K::Classifier, K::ClassifierColumns, shape.classifier());
            self.write_linear((P::ClassifierWeight, P::ClassifierBias), tensors, 0, place)?;
        }
        Ok(())
    }

    /// The bytes of a tensor.
    fn tensor(&mut self, kind: TensorKind, layer: usize) -> &mut [u8] {
        let tensor = self
            .tensors
            .iter()
            .find(|tensor| tensor.kind == kind as u32 && tensor.layer as usize == layer)
            .expect("the shape implies the tensor");
        &mut self.weights[tensor.offset as usize..][..tensor.length as usize]
    }

    /// A tensor's floats. The section lies at a multiple of 16 KiB of a buffer of bytes, which
    /// need not be aligned, so they are written as bytes.
    fn write_floats(&mut self, kind: TensorKind, layer: usize, values: &[f32]) {
        self.tensor(kind, layer).copy_from_slice(cast_slice(values));
    }

    /// Writes the largest table in slices, so that it is never in memory as floats.
    fn write_word_embedding(&mut self) -> Result<(), Error> {
        const ROWS: usize = 1024;
        let hidden = self.shape.hidden as usize;
        let count = self.shape.vocabulary as usize;
        let mut scales = Vec::with_capacity(count);
        for first in (0..count).step_by(ROWS) {
            let rows = first..count.min(first + ROWS);
            let word = Parameter::WordEmbedding;
            let quantized = self.checkpoint.quantized_rows(word, rows)?;
            let to = cast_slice_mut::<u8, i8>(self.tensor(TensorKind::WordRows, 0));
            let to = to.chunks_exact_mut(padded(hidden)).skip(first);
            for (to, from) in to.zip(quantized.values.chunks_exact(hidden)) {
                to[..hidden].copy_from_slice(from);
            }
            scales.extend(quantized.scales);
        }
        self.write_floats(TensorKind::WordScales, 0, &scales);
        Ok(())
    }

    /// Writes a small table, in 16 bits.
    fn write_embedding(
        &mut self,
        parameter: Parameter,
        rows: TensorKind,
        scales: TensorKind,
    ) -> Result<(), Error> {
        let hidden = self.shape.hidden as usize;
        let (values, row_scales) = quantize_rows_i16(&self.checkpoint.load(parameter)?, hidden);
        let to = self.tensor(rows, 0);
        let row_bytes = padded(hidden) * size_of::<i16>();
        for (to, from) in to
            .chunks_exact_mut(row_bytes)
            .zip(values.chunks_exact(hidden))
        {
            to[..size_of_val(from)].copy_from_slice(cast_slice(from));
        }
        self.write_floats(scales, 0, &row_scales);
        Ok(())
    }

    /// Writes a layer norm, and the balance of the products that read it: `next` is the weight
    /// of one of them. Where nothing is balanced, the balance is 1.
    fn write_norm(
        &mut self,
        (weight, bias): (Parameter, Parameter),
        next: Option<Parameter>,
        kind: TensorKind,
        layer: usize,
    ) -> Result<(), Error> {
        let width = padded(self.shape.hidden as usize);
        let mut values = self.checkpoint.load(weight)?;
        values.resize(width, 0.0);
        values.extend(self.checkpoint.load(bias)?);
        values.resize(2 * width, 0.0);
        let balance = next.and_then(|next| {
            self.quantization
                .explicit_input(next, self.checkpoint.config())
        });
        match balance {
            Some(balance) => values.extend_from_slice(balance),
            None => values.resize(2 * width + self.shape.hidden as usize, 1.0),
        }
        values.resize(3 * width, 0.0);
        self.write_floats(kind, layer, &values);
        Ok(())
    }

    /// Writes a product's weights, or those of one of several side by side.
    fn write_linear(
        &mut self,
        (weight, bias): (Parameter, Parameter),
        (kind, columns_kind, shape): (TensorKind, TensorKind, LinearShape),
        layer: usize,
        (place_input, place_output, first_output): (Placement, Placement, usize),
    ) -> Result<(), Error> {
        let product = self
            .quantization
            .quantize_product(self.checkpoint, weight, bias)?;
        let model = *self.shape;
        // Two rows of a fine product's input meet the weights, so each brings half of the bias.
        let part = if product.rest.is_some() { 0.5 } else { 1.0 };
        let bias = product.bias.iter().map(|b| b * part).collect();
        let zeros = vec![0.0; product.bias.len()];
        let halves = [(Some(product.weights), bias), (product.rest, zeros)];
        for (half, (rows, bias)) in halves.into_iter().enumerate() {
            let Some(rows) = rows else { continue };
            let first_output = half * shape.outputs + first_output;
            let bytes = cast_slice_mut::<u8, i8>(self.tensor(kind, layer));
            for (row, values) in rows.values.chunks_exact(rows.columns).enumerate() {
                let output = first_output + place_output(&model, row);
                for (input, &value) in values.iter().enumerate() {
                    bytes[shape.index(place_input(&model, input), output)] = value;
                }
            }

            let record = size_of::<Columns>();
            let columns = self.tensor(columns_kind, layer);
            for (row, sum) in rows.sums().into_iter().enumerate() {
                let output = first_output + place_output(&model, row);
                let to = &mut columns[output / PANEL * record..][..record];
                let mut columns: Columns = bytemuck::pod_read_unaligned(to);
                let lane = output % PANEL;
                columns.scale[lane] = rows.scales[row];
                columns.sum[lane] = sum;
                columns.bias[lane] = bias[row];
                to.copy_from_slice(bytes_of(&columns));
            }
        }
        Ok(())
    }
}
