//! The exported ONNX, run by tract, against PyTorch's logits and a forward pass in f64.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use filbert::Model;
use filbert::format::{self, Activation, Problem, TensorKind};
use filbert_convert::checkpoint::{LayerParameter, Parameter};
use filbert_convert::config::Architecture;
use filbert_convert::dataset::Dataset;
use filbert_convert::onnx::{self, export_float32};
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::quantization::Quantization;
use filbert_convert::quantize::quantize_rows;
use filbert_convert::reference::Reference;
use filbert_convert::synthetic::SyntheticCheckpoint;
use filbert_convert::{Checkpoint, Error};
use filbert_tests::{forward, shared};
use serde_json::{Value, json};
use tract_onnx::pb::{ModelProto, TensorProto};
use tract_onnx::prelude::*;

/// The tolerance that the project promises for float32.
const TOLERANCE: f64 = 1e-4;

/// Ids and token types of one text.
type Example = (Vec<u32>, Vec<u8>);
/// As float32 is exported: with plain rounding, so that the test needs no tokenizer.
fn export_int8(checkpoint: &Checkpoint, out: &mut dyn Write) -> Result<(), Error> {
    let quantization = Quantization::plain(checkpoint.config());
    onnx::export_int8(checkpoint, &quantization, out)
}

type Export = fn(&Checkpoint, &mut dyn Write) -> Result<(), Error>;

fn open(synthetic: &SyntheticCheckpoint) -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    synthetic.write(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    (folder, checkpoint)
}

/// Some ids and token types of this length.
fn text(synthetic: &SyntheticCheckpoint, length: usize) -> Example {
    let ids = (0..length).map(|i| ((i * 7919 + length) % synthetic.vocabulary) as u32);
    let types = (0..length).map(|i| (i * synthetic.token_types / length) as u8);
    (ids.collect(), types.collect())
}

fn largest_difference(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - b).abs())
        // Not f64::max, which ignores NaN.
        .fold(0.0, |max, d| if d <= max || max.is_nan() { max } else { d })
}

fn check_float32(synthetic: &SyntheticCheckpoint) {
    let (_folder, checkpoint) = open(synthetic);
    let reference = Reference::new(&checkpoint).unwrap();
    let longest = synthetic.positions;
    for length in [1, 2, 7, longest - 1, longest] {
        let (ids, types) = text(synthetic, length.max(1));
        let expected = forward::logits(&checkpoint, &ids, &types);
        let found = reference.logits(&ids, &types).unwrap();
        assert_eq!(found.len(), synthetic.labels);
        let difference = largest_difference(&found, &expected);
        assert!(
            difference <= TOLERANCE,
            "{synthetic:?}, {length} tokens: {found:?} is not {expected:?}"
        );
    }
}

#[test]
fn float32_is_the_forward_pass_for_any_shape() {
    let base = SyntheticCheckpoint::default();
    let shapes = [
        base.clone(),
        // TinyBERT's: heads of 26 columns.
        SyntheticCheckpoint {
            layers: 4,
            hidden: 312,
            heads: 12,
            intermediate: 1200,
            labels: 3,
            ..base.clone()
        },
        SyntheticCheckpoint {
            hidden: 20,
            heads: 5,
            intermediate: 33,
            labels: 1,
            problem: Problem::Regression,
            ..base.clone()
        },
        SyntheticCheckpoint {
            layers: 1,
            hidden: 17,
            heads: 1,
            intermediate: 1,
            vocabulary: 5,
            token_types: 1,
            activation: Activation::GeluTanh,
            ..base.clone()
        },
        SyntheticCheckpoint {
            layers: 12,
            token_types: 4,
            activation: Activation::Relu,
            problem: Problem::MultiLabel,
            labels: 28,
            ..base
        },
    ];
    for shape in shapes {
        for architecture in SyntheticCheckpoint::ARCHITECTURES {
            check_float32(&SyntheticCheckpoint {
                architecture,
                ..shape.clone()
            });
        }
    }
}

/// `input_ids`, `token_type_ids` and `logits` of each example.
fn golden(path: &Path) -> Vec<(Vec<u32>, Vec<u8>, Vec<f64>)> {
    let lines = std::fs::read_to_string(path).unwrap();
    let examples: Vec<_> = lines
        .lines()
        .map(|line| {
            let example: Value = serde_json::from_str(line).unwrap();
            let numbers = |name: &str| -> Vec<f64> {
                let numbers = example[name].as_array().unwrap().iter();
                numbers.map(|number| number.as_f64().unwrap()).collect()
            };
            (
                numbers("input_ids").iter().map(|&id| id as u32).collect(),
                numbers("token_type_ids")
                    .iter()
                    .map(|&id| id as u8)
                    .collect(),
                numbers("logits"),
            )
        })
        .collect();
    assert!(examples.len() > 50, "{}", path.display());
    examples
}

fn tiny_sst2() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-sst2")
}

#[test]
fn float32_of_a_trained_model_is_pytorchs() {
    let checkpoint = Checkpoint::open(&tiny_sst2()).unwrap();
    let reference = Reference::new(&checkpoint).unwrap();
    for (ids, types, logits) in golden(&tiny_sst2().join("golden-own.jsonl")) {
        let found = reference.logits(&ids, &types).unwrap();
        let difference = largest_difference(&found, &logits);
        assert!(difference <= TOLERANCE, "{ids:?}: {found:?} not {logits:?}");
    }
}

#[test]
fn forward_pass_of_a_trained_model_is_pytorchs() {
    let checkpoint = Checkpoint::open(&tiny_sst2()).unwrap();
    for (ids, types, logits) in golden(&tiny_sst2().join("golden-own.jsonl")) {
        if ids.len() > 100 {
            continue; // Slow, and float32_of_a_trained_model_is_pytorchs has them.
        }
        let found = forward::logits(&checkpoint, &ids, &types);
        for (found, expected) in found.iter().zip(&logits) {
            assert!((found - expected).abs() <= 1e-5, "{ids:?}: {found}");
        }
    }
}

/// An exported model in tract, for any batch and length.
fn load(file: &[u8]) -> Arc<TypedRunnableModel> {
    let mut file = file;
    let model = tract_onnx::onnx().model_for_read(&mut file).unwrap();
    model.into_optimized().unwrap().into_runnable().unwrap()
}

/// The logits of a batch, each row padded to the longest with token 1.
fn run_batch(model: &Arc<TypedRunnableModel>, batch: &[Example]) -> Vec<Vec<f32>> {
    let length = batch.iter().map(|(ids, _)| ids.len()).max().unwrap();
    let tensor = |row: fn(&Example) -> Vec<i64>, padding: i64| -> TValue {
        let rows = batch.iter().flat_map(|example| {
            let mut row = row(example);
            row.resize(length, padding);
            row
        });
        let values: Vec<i64> = rows.collect();
        Tensor::from_shape(&[batch.len(), length], &values)
            .unwrap()
            .into()
    };
    let mut inputs = tvec![
        tensor(|(ids, _)| ids.iter().map(|&id| id.into()).collect(), 1),
        tensor(|(ids, _)| vec![1; ids.len()], 0),
        tensor(
            |(_, types)| types.iter().map(|&kind| kind.into()).collect(),
            1
        ),
    ];
    inputs.truncate(model.model().inputs.len());
    let outputs = model.run(inputs).unwrap();
    let logits = outputs[0].view();
    let columns = logits.shape()[1];
    let logits = logits.as_slice::<f32>().unwrap();
    logits.chunks_exact(columns).map(<[f32]>::to_vec).collect()
}

#[test]
fn padding_does_not_change_the_logits() {
    for architecture in SyntheticCheckpoint::ARCHITECTURES {
        let synthetic = SyntheticCheckpoint {
            architecture,
            ..SyntheticCheckpoint::default()
        };
        let (_folder, checkpoint) = open(&synthetic);
        for export in [export_float32 as Export, export_int8] {
            let mut file = Vec::new();
            export(&checkpoint, &mut file).unwrap();
            let model = load(&file);
            let batch = [3, 40, 1, 17].map(|length| text(&synthetic, length));
            let padded = run_batch(&model, &batch);
            for (example, padded) in batch.into_iter().zip(padded) {
                let length = example.0.len();
                let single = run_batch(&model, &[example]).swap_remove(0);
                let single: Vec<f64> = single.into_iter().map(f64::from).collect();
                let difference = largest_difference(&padded, &single);
                assert!(
                    difference <= 1e-5,
                    "{architecture:?}, {length} tokens: {padded:?} is not {single:?}"
                );
            }
        }
    }
}

#[test]
fn int8_is_close_to_pytorch() {
    let checkpoint = Checkpoint::open(&tiny_sst2()).unwrap();
    let mut file = Vec::new();
    export_int8(&checkpoint, &mut file).unwrap();
    let model = load(&file);
    let examples = golden(&tiny_sst2().join("golden-own.jsonl"));
    let (mut sum, mut largest) = (0.0, 0.0f64);
    for (ids, types, logits) in &examples {
        let found = run_batch(&model, &[(ids.clone(), types.clone())]).swap_remove(0);
        let difference = largest_difference(&found, logits);
        sum += difference;
        largest = largest.max(difference);
    }
    let mean = sum / examples.len() as f64;
    // Measured in ONNX Runtime: 0.008 and 0.041.
    assert!(mean < 0.015 && largest < 0.06, "{mean}, {largest}");
}

#[test]
fn int8_of_zeros_is_the_biases() {
    // With every norm's weight and bias zero, all activations are zero rows.
    let synthetic = SyntheticCheckpoint::default();
    let (folder, _) = open(&synthetic);
    let path = folder.path().join("model.safetensors");
    zero_norms(&path);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let mut file = Vec::new();
    export_int8(&checkpoint, &mut file).unwrap();
    let example = text(&synthetic, 9);
    let expected = forward::logits(&checkpoint, &example.0, &example.1);
    let found = run_batch(&load(&file), &[example]).swap_remove(0);
    let difference = largest_difference(&found, &expected);
    assert!(difference <= 0.02, "{found:?} is not {expected:?}");
}

/// Sets the layer norms' bytes in a safetensors file to zero.
fn zero_norms(path: &Path) {
    let mut file = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let mut count = 0;
    for (name, info) in header.as_object().unwrap() {
        if name.contains("LayerNorm") {
            let offset = |i: usize| 8 + length + info["data_offsets"][i].as_u64().unwrap() as usize;
            file[offset(0)..offset(1)].fill(0);
            count += 1;
        }
    }
    assert!(count > 0);
    std::fs::write(path, file).unwrap();
}

#[test]
fn exports_are_reproducible_whatever_form_the_checkpoint_has() {
    let modern = SyntheticCheckpoint::default();
    let forms = [
        modern.clone(),
        SyntheticCheckpoint {
            legacy_names: true,
            ..modern.clone()
        },
        SyntheticCheckpoint {
            shards: 3,
            ..modern
        },
    ];
    for export in [export_float32 as Export, export_int8] {
        let files: Vec<Vec<u8>> = forms
            .iter()
            .map(|form| {
                let (_folder, checkpoint) = open(form);
                let mut file = Vec::new();
                export(&checkpoint, &mut file).unwrap();
                file
            })
            .collect();
        assert!(files[0] == files[1], "old names make a difference");
        assert!(files[0] == files[2], "shards make a difference");
    }
}

fn parse(export: Export, checkpoint: &Checkpoint) -> ModelProto {
    let mut file = Vec::new();
    export(checkpoint, &mut file).unwrap();
    tract_onnx::onnx()
        .proto_model_for_read(&mut file.as_slice())
        .unwrap()
}

#[test]
fn inputs_and_outputs_are_those_of_optimum() {
    for (architecture, inputs) in [
        (
            Architecture::Bert,
            &["input_ids", "attention_mask", "token_type_ids"][..],
        ),
        (
            Architecture::DistilBert,
            &["input_ids", "attention_mask"][..],
        ),
    ] {
        let (_folder, checkpoint) = open(&SyntheticCheckpoint {
            architecture,
            ..SyntheticCheckpoint::default()
        });
        for export in [export_float32 as Export, export_int8] {
            let model = parse(export, &checkpoint);
            assert_eq!(model.producer_name, "filbert");
            let graph = model.graph.unwrap();
            let names: Vec<&str> = graph.input.iter().map(|input| &*input.name).collect();
            assert_eq!(names, inputs);
            for input in &graph.input {
                let described = format!("{input:?}");
                assert!(described.contains("DimParam(\"batch_size\")"));
                assert!(described.contains("DimParam(\"sequence_length\")"));
            }
            assert_eq!(graph.output.len(), 1);
            assert_eq!(graph.output[0].name, "logits");
            let described = format!("{:?}", graph.output);
            assert!(described.contains("DimParam(\"batch_size\")"));
            assert!(described.contains("DimValue(2)"));
        }
    }
}

#[test]
fn initializers_hold_the_weights_under_their_names() {
    let (_folder, checkpoint) = open(&SyntheticCheckpoint::default());
    let config = checkpoint.config();
    let initializers = |export| -> HashMap<String, TensorProto> {
        let graph = parse(export, &checkpoint).graph.unwrap();
        let tensors = graph.initializer.into_iter();
        tensors
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect()
    };
    let float32 = initializers(export_float32);
    let int8 = initializers(export_int8);
    for parameter in Parameter::all(config) {
        let name = parameter.name(config);
        let shape = parameter.shape(config);
        let values = checkpoint.load(parameter).unwrap();
        let embedding = name.contains("_embeddings.");
        let columns = *shape.last().unwrap();
        // The place of a value in the file: products are transposed.
        let place = |index: usize| match *shape {
            [rows, _] if !embedding => (index % columns) * rows + index / columns,
            _ => index,
        };
        let stored = |bytes: &[u8]| -> Vec<f32> {
            let (bytes, _) = bytes.as_chunks();
            bytes.iter().copied().map(f32::from_le_bytes).collect()
        };
        let found = stored(&float32[&name].raw_data);
        assert_eq!(found.len(), values.len(), "{name}");
        for (index, &value) in values.iter().enumerate() {
            assert_eq!(found[place(index)], value, "{name}");
        }
        if shape.len() < 2 || (embedding && parameter != Parameter::WordEmbedding) {
            assert_eq!(stored(&int8[&name].raw_data), values, "{name}");
            continue;
        }
        let rows = quantize_rows(&values, columns);
        let found = &int8[&format!("{name}_quantized")].raw_data;
        assert_eq!(found.len(), rows.values.len(), "{name}");
        for (index, &value) in rows.values.iter().enumerate() {
            assert_eq!(found[place(index)] as i8, value, "{name}");
        }
        let scales = &int8[&format!("{name}_scale")].raw_data;
        assert_eq!(stored(scales), rows.scales, "{name}");
    }
}

/// Quantization in which all products of the layers are fine.
fn choose_fine(checkpoint: &Checkpoint) -> Quantization {
    let mut texts = tempfile::NamedTempFile::new().unwrap();
    texts
        .write_all(b"text\tlabel\nA gorgeous, witty film.\tPOSITIVE\n")
        .unwrap();
    let texts = Dataset::read(texts.path()).unwrap();
    let mut quantization = Quantization::choose(checkpoint, None, &mut Quiet).unwrap();
    quantization
        .refine(checkpoint, &texts, usize::MAX, &mut Quiet)
        .unwrap();
    quantization
}

#[test]
fn int8_with_fine_products_is_closer_to_pytorch() {
    let path = tiny_sst2();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let difference = |quantization: &Quantization| {
        let mut file = Vec::new();
        onnx::export_int8(&checkpoint, quantization, &mut file).unwrap();
        let model = load(&file);
        let (mut sum, mut count) = (0.0, 0.0);
        for (ids, types, expected) in golden(&path.join("golden-own.jsonl")) {
            let logits = run_batch(&model, &[(ids, types)]).swap_remove(0);
            for (logit, expected) in logits.iter().zip(expected) {
                sum += (f64::from(*logit) - expected).abs();
                count += 1.0;
            }
        }
        sum / count
    };
    let plain = difference(&Quantization::choose(&checkpoint, None, &mut Quiet).unwrap());
    let fine = difference(&choose_fine(&checkpoint));
    println!("mean difference of logits {plain:.5}, with fine products {fine:.5}");
    // What remains is of word rows, and of nothing else: here attention is in float32.
    assert!(fine < 0.9 * plain, "{fine} {plain}");
}

#[test]
fn int8_weights_are_those_of_the_filbert_file() {
    let checkpoint = Checkpoint::open(&shared::tiny_model()).unwrap();
    let plain = Quantization::choose(&checkpoint, None, &mut Quiet).unwrap();
    check_int8_weights(&checkpoint, &plain, false);
    check_int8_weights(&checkpoint, &choose_fine(&checkpoint), true);
}

fn check_int8_weights(checkpoint: &Checkpoint, quantization: &Quantization, fine: bool) {
    let config = checkpoint.config();
    let mut onnx = Vec::new();
    onnx::export_int8(checkpoint, quantization, &mut onnx).unwrap();
    let onnx = tract_onnx::onnx()
        .proto_model_for_read(&mut onnx.as_slice())
        .unwrap();
    let initializers: HashMap<_, _> = onnx
        .graph
        .unwrap()
        .initializer
        .into_iter()
        .map(|tensor| (tensor.name, tensor.raw_data))
        .collect();

    let package = Package::build_quantized(checkpoint, quantization, &mut Quiet).unwrap();
    let model = Model::from_bytes(package.bytes()).unwrap();
    let shape = *model.shape();
    let sections = model.sections();
    let weights = sections.last().expect("the weights come last");
    let weights = &package.bytes()[weights.offset as usize..];
    let (table, _) = format::tensor_table(&shape, |_, _| fine).unwrap();

    use LayerParameter as L;
    use TensorKind as K;
    let mut count = 0;
    for layer in 0..config.layers {
        // The heads of this model fill whole panels, so that outputs are not padded.
        assert_eq!(config.head_size() % format::PANEL, 0);
        for (parameter, kind, linear, first_output) in [
            (L::QueryWeight, K::QueryKeyValue, shape.query_key_value(), 0),
            (
                L::KeyWeight,
                K::QueryKeyValue,
                shape.query_key_value(),
                config.hidden,
            ),
            (
                L::ValueWeight,
                K::QueryKeyValue,
                shape.query_key_value(),
                2 * config.hidden,
            ),
            (
                L::AttentionOutputWeight,
                K::AttentionOutput,
                shape.attention_output(),
                0,
            ),
            (
                L::FeedForwardInWeight,
                K::FeedForwardIn,
                shape.feed_forward_in(),
                0,
            ),
            (
                L::FeedForwardOutWeight,
                K::FeedForwardOut,
                shape.feed_forward_out(),
                0,
            ),
        ] {
            let parameter = Parameter::Layer(layer, parameter);
            let tensor = table
                .iter()
                .find(|tensor| tensor.kind == kind as u32 && tensor.layer as usize == layer)
                .unwrap();
            let panels = &weights[tensor.offset as usize..][..tensor.length as usize];
            let dims = parameter.shape(config);
            // The rest of fine weights lies behind them.
            let halves = [("quantized", 0), ("rest_quantized", linear.outputs)];
            for (half, start) in &halves[..1 + usize::from(fine)] {
                let name = format!("{}_{half}", parameter.name(config));
                for (index, &byte) in initializers[&name].iter().enumerate() {
                    let (input, output) = (index / dims[0], index % dims[0]);
                    let place = linear.index(input, start + first_output + output);
                    assert_eq!(panels[place], byte, "{name}");
                    count += 1;
                }
            }
        }
    }
    let of_layer = 4 * 128 * 128 + 2 * 128 * 512;
    assert_eq!(count, (1 + usize::from(fine)) * config.layers * of_layer);
}

#[test]
fn models_beyond_two_gib_are_refused() {
    let synthetic = SyntheticCheckpoint {
        vocabulary: 1 << 24,
        ..SyntheticCheckpoint::default()
    };
    let folder = tempfile::tempdir().unwrap();
    SyntheticCheckpoint::default().write(folder.path()).unwrap();
    let path = folder.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let config = config.replace("\"vocab_size\":100", "\"vocab_size\":16777216");
    std::fs::write(path, config).unwrap();
    // A file of holes: it takes up no space.
    let config = synthetic.config();
    let mut end = 0;
    let header: serde_json::Map<String, Value> = Parameter::all(&config)
        .into_iter()
        .map(|parameter| {
            let shape = parameter.shape(&config);
            let start = end;
            end += 2 * shape.iter().product::<usize>();
            (
                parameter.name(&config),
                json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]}),
            )
        })
        .collect();
    let header = Value::Object(header).to_string();
    let mut file = std::fs::File::create(folder.path().join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();

    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let mut written = Vec::new();
    let error = export_float32(&checkpoint, &mut written).unwrap_err();
    assert!(error.to_string().contains("2 GiB"), "{error}");
    assert!(written.is_empty());
}

#[test]
fn reference_refuses_what_the_model_does_not_take() {
    let synthetic = SyntheticCheckpoint::default();
    let (_folder, checkpoint) = open(&synthetic);
    let reference = Reference::new(&checkpoint).unwrap();
    let fails = |ids: &[u32], types: &[u8]| reference.logits(ids, types).unwrap_err().to_string();
    assert!(fails(&[], &[]).contains("0 tokens"));
    assert!(fails(&[1; 41], &[0; 41]).contains("41 tokens"));
    assert!(fails(&[1, 100], &[0, 0]).contains("token id 100"));
    assert!(fails(&[1, 2], &[0]).contains("1 token types"));
    assert!(fails(&[1, 2], &[0, 2]).contains("token type 2"));
}
