//! Models in ONNX, as exporters write them: read, or refused by name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use filbert::format::{Header, Section, SectionKind};
use filbert::{Model, Options, Runner};
use filbert_convert::checkpoint::{Checkpoint, LayerParameter, Parameter};
use filbert_convert::dataset::Dataset;
use filbert_convert::onnx::{self, import::Imported};
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::quantization::Quantization;
use filbert_convert::reference::Reference;
use half::f16;
use prost::Message;
use serde_json::{Value, json};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{ModelProto, NodeProto, StringStringEntryProto, TensorProto};

/// The tolerance that the project promises for float32.
const TOLERANCE: f64 = 1e-4;

/// Whether a folder's name has this part.
fn is(folder: &Path, part: &str) -> bool {
    folder.file_name().unwrap().to_str().unwrap().contains(part)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// The folders of ONNX fixtures.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is(path, "onnx-"))
        .collect();
    folders.sort();
    folders
}

/// All numbers of a list, or of lists of them.
fn numbers(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(values) => values.iter().flat_map(numbers).collect(),
        None => value.as_f64().into_iter().collect(),
    }
}

/// What the fixture's golden file says that the model answers: for int8, with the same weights
/// and float32 activations. The two numbers of each token stand side by side.
fn expected(line: &Value) -> Vec<f64> {
    let exact = |name: &str| line.get(format!("float_{name}")).unwrap_or(&line[name]);
    if let Some(embedding) = line.get("embedding") {
        return numbers(embedding);
    }
    if let Some(masks) = line["masks"].as_array() {
        return masks
            .iter()
            .flat_map(|mask| numbers(&mask["first"]))
            .collect();
    }
    match line.get("start_logits") {
        None => numbers(exact("logits")),
        Some(_) => {
            let [starts, ends] = ["start_logits", "end_logits"].map(|name| numbers(exact(name)));
            let pairs = starts.into_iter().zip(ends);
            pairs.flat_map(|(start, end)| [start, end]).collect()
        }
    }
}

/// Of all logits, those that the golden file has: of masked words the first few at each mask.
fn known(line: &Value, logits: Vec<f32>, vocabulary: usize) -> Vec<f32> {
    let Some(masks) = line["masks"].as_array() else {
        return logits;
    };
    let of_mask = |mask: &Value| {
        let position = mask["position"].as_u64().unwrap() as usize;
        let count = mask["first"].as_array().unwrap().len();
        logits[position * vocabulary..][..count].to_vec()
    };
    masks.iter().flat_map(of_mask).collect()
}

fn check_logits(folder: &Path) {
    let checkpoint = Checkpoint::open(folder).unwrap_or_else(|error| panic!("{error}"));
    let reference = Reference::new(&checkpoint).unwrap();
    let golden = fs::read_to_string(folder.join("golden.jsonl")).unwrap();
    for line in golden.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let ids = numbers(&line["input_ids"]);
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let types = match &line["token_type_ids"] {
            Value::Null => vec![0; ids.len()],
            types => numbers(types).iter().map(|&kind| kind as u8).collect(),
        };
        let found = reference.logits(&ids, &types).unwrap();
        let found = known(&line, found, checkpoint.config().vocabulary);
        let expected = expected(&line);
        assert_eq!(found.len(), expected.len(), "{}", folder.display());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() <= TOLERANCE,
                "{}: {found}, not {expected}",
                folder.display()
            );
        }
    }
}

#[test]
fn every_exporters_model_gives_its_logits() {
    let folders = folders();
    let readable = folders.iter().filter(|folder| !is(folder, "fused"));
    let checked = readable.map(|folder| check_logits(folder)).count();
    assert!(checked >= 33, "{checked} of the fixtures' exports");
}

/// The folders of this crate's own exports.
fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/onnx")
        .join(name)
}

#[test]
fn attention_as_one_operator_and_fixed_token_types_are_read() {
    check_logits(&own("opset23"));
    let folder = own("two-inputs");
    assert_eq!(Checkpoint::open(&folder).unwrap().config().token_types, 1);
    check_logits(&folder);
}

/// A copy of a fixture whose model is changed.
fn changed(name: &str, change: impl FnOnce(&mut ModelProto)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixtures().join(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("model.onnx");
    let mut model = ModelProto::decode(fs::read(&path).unwrap().as_slice()).unwrap();
    change(&mut model);
    fs::write(&path, model.encode_to_vec()).unwrap();
    folder
}

/// Checks that a model is refused with a message that has all of these parts.
fn check_refused(path: &Path, parts: &[&str]) {
    let error = Checkpoint::open(path).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

const FLOAT32: &str = "onnx-bert-classes-torchscript";
const INT8: &str = "onnx-bert-classes-torchscript-int8-channels";

fn node<'m>(model: &'m mut ModelProto, operator: &str) -> &'m mut NodeProto {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    nodes
        .iter_mut()
        .find(|node| node.op_type == operator)
        .unwrap()
}

fn external(name: &str) -> StringStringEntryProto {
    StringStringEntryProto {
        key: "location".to_owned(),
        value: name.to_owned(),
    }
}

#[test]
fn what_is_no_plain_encoder_is_refused_by_its_node() {
    let fused = fixtures().join("onnx-bert-classes-fused");
    check_refused(&fused, &["com.microsoft.", "without --optimize"]);
    check_refused(
        &own("refused-static"),
        &["QuantizeLinear", "static", "quantize_dynamic"],
    );
    // The config says so, too.
    let decoder = tempfile::tempdir().unwrap();
    let model = decoder.path().join("decoder.onnx");
    fs::copy(own("refused-decoder").join("model.onnx"), &model).unwrap();
    check_refused(&model, &["mask", "decoders"]);

    let refused = |change: &dyn Fn(&mut ModelProto), parts: &[&str]| {
        check_refused(changed(FLOAT32, change).path(), parts);
    };
    refused(
        &|model| model.opset_import[0].version = 9,
        &["version 9", "opset 17"],
    );
    refused(
        &|model| node(model, "Softmax").op_type = "Sigmoid".to_owned(),
        &["Sigmoid", "Softmax"],
    );
    refused(
        &|model| node(model, "Tanh").op_type = "Sin".to_owned(),
        &["Sin", "Tanh"],
    );
    refused(
        &|model| model.graph.as_mut().unwrap().node.reverse(),
        &["nothing before the node"],
    );
    refused(
        &|model| model.graph.as_mut().unwrap().output[0].name = "nowhere".to_owned(),
        &["no node makes its output \"nowhere\""],
    );
    refused(
        &|model| node(model, "Softmax").domain = "com.microsoft".to_owned(),
        &["com.microsoft.Softmax"],
    );
    refused(
        &|model| {
            let graph = model.graph.as_mut().unwrap();
            let first = graph.initializer[0].clone();
            graph.initializer.push(first);
        },
        &["two values have the name"],
    );
}

#[test]
fn values_are_read_from_the_models_folder_alone() {
    for (location, parts) in [
        ("../model.onnx_data", ["outside", "\"../model.onnx_data\""]),
        ("/etc/hostname", ["outside", "\"/etc/hostname\""]),
        ("missing.onnx_data", ["missing.onnx_data", "copy that file"]),
        ("config.json", ["config.json", "but that file has"]),
    ] {
        let folder = changed(FLOAT32, |model| {
            let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
            tensor.raw_data.clear();
            tensor.data_location = Some(DataLocation::External as i32);
            tensor.external_data = vec![external(location)];
        });
        check_refused(folder.path(), &parts);
    }
}

#[test]
fn values_may_lie_in_a_file_beside_the_model() {
    let folder = changed(FLOAT32, |model| {
        for tensor in &mut model.graph.as_mut().unwrap().initializer {
            tensor.data_location = Some(DataLocation::External as i32);
            tensor.external_data =
                vec![external(&format!("{}.bin", tensor.name.replace("::", "-")))];
        }
    });
    let original = fs::read(fixtures().join(FLOAT32).join("model.onnx")).unwrap();
    let model = ModelProto::decode(original.as_slice()).unwrap();
    for tensor in &model.graph.as_ref().unwrap().initializer {
        let name = format!("{}.bin", tensor.name.replace("::", "-"));
        fs::write(folder.path().join(name), &tensor.raw_data).unwrap();
    }
    check_logits(folder.path());
}

#[test]
fn float16_is_read() {
    // The fixtures' weights are multiples of 1/64.
    let folder = changed(FLOAT32, |model| {
        for tensor in &mut model.graph.as_mut().unwrap().initializer {
            if tensor.data_type() == DataType::Float {
                let values = floats(tensor).into_iter();
                let bytes = values.flat_map(|value| f16::from_f32(value).to_le_bytes());
                tensor.raw_data = bytes.collect();
                tensor.data_type = DataType::Float16 as i32;
            }
        }
    });
    check_logits(folder.path());
}

#[test]
fn a_config_that_differs_is_refused_by_its_field() {
    for (field, value, parts) in [
        (
            "num_hidden_layers",
            json!(3),
            ["num_hidden_layers is 3", "has 2"],
        ),
        (
            "num_attention_heads",
            json!(4),
            ["num_attention_heads is 4", "has 2"],
        ),
        (
            "hidden_act",
            json!("relu"),
            ["hidden_act is relu", "has gelu"],
        ),
        (
            "layer_norm_eps",
            json!(1e-5),
            ["layer_norm_eps is 0.00001", "ONNX"],
        ),
        ("vocab_size", json!(401), ["vocab_size is 401", "has 400"]),
        (
            "id2label",
            json!({"0": "a", "1": "b"}),
            ["labels in id2label is 2", "has 3"],
        ),
    ] {
        let folder = changed(FLOAT32, |_| {});
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[field] = value;
        config.as_object_mut().unwrap().remove("label2id");
        fs::write(&path, config.to_string()).unwrap();
        check_refused(folder.path(), &parts);
    }
    let without = changed(FLOAT32, |_| {});
    fs::remove_file(without.path().join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(without.path()).unwrap();
    assert_eq!(
        checkpoint.config().labels,
        ["LABEL_0", "LABEL_1", "LABEL_2"]
    );
}

/// The integers of a tensor of 8 bits.
fn integers(tensor: &TensorProto) -> Vec<i32> {
    let signed = tensor.data_type() == DataType::Int8;
    let values = tensor.raw_data.iter();
    values
        .map(|&byte| {
            if signed {
                i32::from(byte as i8)
            } else {
                i32::from(byte)
            }
        })
        .chain(tensor.int32_data.iter().copied())
        .collect()
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    let (values, _) = tensor.raw_data.as_chunks();
    let values = values.iter().copied().map(f32::from_le_bytes);
    values.chain(tensor.float_data.iter().copied()).collect()
}

/// The int8 of every product is that of one `…_quantized` of the file, bit for bit, with its
/// scale, except for rows that do not fit.
fn check_taken_over(name: &str) -> usize {
    let folder = fixtures().join(name);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let file = fs::read(folder.join("model.onnx")).unwrap();
    let model = ModelProto::decode(file.as_slice()).unwrap();
    let tensors = &model.graph.as_ref().unwrap().initializer;
    let tensor = |name: String| tensors.iter().find(|tensor| tensor.name == name).unwrap();
    // `[inputs, outputs]`, of products: each output as its integers and its scale.
    let stored: Vec<Vec<(Vec<i32>, f32)>> = tensors
        .iter()
        .filter_map(|matrix| matrix.name.strip_suffix("_quantized"))
        .map(|stem| {
            let matrix = tensor(format!("{stem}_quantized"));
            let scales = floats(tensor(format!("{stem}_scale")));
            let zeros = integers(tensor(format!("{stem}_zero_point")));
            let outputs = matrix.dims[1] as usize;
            let values = integers(matrix);
            (0..outputs)
                .map(|output| {
                    let zero = zeros[output.min(zeros.len() - 1)];
                    let column = values.iter().skip(output).step_by(outputs);
                    let column = column.map(|value| value - zero).collect();
                    (column, scales[output.min(scales.len() - 1)])
                })
                .collect()
        })
        .collect();
    let quantization = Quantization::choose(&checkpoint, None, &mut Quiet).unwrap();
    let mut again = 0;
    for layer in 0..checkpoint.config().layers {
        use LayerParameter as L;
        for (weight, bias) in [
            (L::QueryWeight, L::QueryBias),
            (L::KeyWeight, L::KeyBias),
            (L::ValueWeight, L::ValueBias),
            (L::AttentionOutputWeight, L::AttentionOutputBias),
            (L::FeedForwardInWeight, L::FeedForwardInBias),
            (L::FeedForwardOutWeight, L::FeedForwardOutBias),
        ] {
            let [weight, bias] = [weight, bias].map(|part| Parameter::Layer(layer, part));
            let exact = checkpoint.load(bias).unwrap();
            let product = quantization
                .quantize_product(&checkpoint, weight, bias)
                .unwrap();
            let (rows, bias) = (product.weights, product.bias);
            assert_eq!(bias, exact, "{weight:?}");
            let found = |row: usize, (values, scale): &(Vec<i32>, f32)| {
                let mine = &rows.values[row * rows.columns..][..rows.columns];
                rows.scales[row] == *scale
                    && mine
                        .iter()
                        .map(|&v| i32::from(v))
                        .eq(values.iter().copied())
            };
            let fits = |values: &[i32]| values.iter().all(|value| value.abs() <= 127);
            let of = stored.iter().find(|matrix| {
                matrix.len() == rows.rows
                    && matrix
                        .iter()
                        .enumerate()
                        .all(|(row, stored)| !fits(&stored.0) || found(row, stored))
            });
            let of = of.unwrap_or_else(|| panic!("{name}: {weight:?} is none of the file's"));
            again += of.iter().filter(|(values, _)| !fits(values)).count();
        }
    }
    let note = checkpoint.note().unwrap();
    assert!(note.contains("taken over"), "{note}");
    again
}

#[test]
fn int8_is_taken_over_bit_for_bit() {
    assert_eq!(check_taken_over(INT8), 0);
    assert_eq!(check_taken_over("onnx-bert-classes-optimum-int8"), 0);
    assert_eq!(
        check_taken_over("onnx-distilbert-classes-optimum-int8-channels"),
        0
    );
    // Whose zero points are not in the middle.
    assert!(check_taken_over("onnx-bert-classes-optimum-uint8") > 0);
}

/// The weights are exact as they are, and so is the bias; only the inputs have more bits.
#[test]
fn products_in_int8_may_be_fine() {
    let checkpoint = Checkpoint::open(&fixtures().join(INT8)).unwrap();
    let texts = tempfile::NamedTempFile::new().unwrap();
    fs::write(texts.path(), "text\tlabel\nA gorgeous, witty film.\t0\n").unwrap();
    let texts = Dataset::read(texts.path()).unwrap();
    let mut quantization = Quantization::choose(&checkpoint, None, &mut Quiet).unwrap();
    let logits = |quantization: &Quantization| {
        let package = Package::build_quantized(&checkpoint, quantization, &mut Quiet).unwrap();
        let model = Model::from_vec(package.into_bytes()).unwrap();
        let runner = Runner::new(model, &Options::default()).unwrap();
        runner
            .run(&["An hour too long.".into()])
            .unwrap()
            .remove(0)
            .values
    };
    let plain = logits(&quantization);
    let count = usize::MAX;
    quantization
        .refine(&checkpoint, &texts, count, &mut Quiet)
        .unwrap();
    let fine = logits(&quantization);
    let [weight, bias] = [LayerParameter::QueryWeight, LayerParameter::QueryBias]
        .map(|parameter| Parameter::Layer(0, parameter));
    let product = quantization
        .quantize_product(&checkpoint, weight, bias)
        .unwrap();
    assert_eq!(product.bias, checkpoint.load(bias).unwrap());
    let rest = product.rest.expect("the product is fine");
    assert!(rest.values.iter().all(|&q| q == 0));
    let pairs = plain.iter().zip(&fine);
    let largest = pairs.fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    println!("largest difference {largest:.4} of {plain:?}");
    assert!(largest > 0.0 && largest < 0.1, "{plain:?} {fine:?}");
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-sst2")
}

/// The sections of a file but for where it comes from, and the head that has their places.
fn sections(file: &[u8]) -> Vec<Vec<u8>> {
    let start = size_of::<Header>();
    let table = &file[start..start + SectionKind::ALL.len() * size_of::<Section>()];
    table
        .chunks_exact(size_of::<Section>())
        .map(bytemuck::pod_read_unaligned::<Section>)
        .filter(|section| section.kind != SectionKind::Provenance as u32)
        .map(|section| file[section.offset as usize..][..section.length as usize].to_vec())
        .collect()
}

#[test]
fn an_export_of_ours_gives_the_file_of_its_checkpoint() {
    let checkpoint = Checkpoint::open(&tiny()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(tiny()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some("safetensors".as_ref()) {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let model = folder.path().join("model.onnx");
    onnx::export_float32(&checkpoint, &mut File::create(&model).unwrap()).unwrap();
    let imported = Checkpoint::open(folder.path()).unwrap();
    let [before, after] = [&checkpoint, &imported].map(|checkpoint| {
        let package = Package::build(checkpoint, &mut Quiet).unwrap();
        sections(package.bytes())
    });
    assert!(before == after);

    let quantization = Quantization::plain(checkpoint.config());
    onnx::export_int8(
        &checkpoint,
        &quantization,
        &mut File::create(&model).unwrap(),
    )
    .unwrap();
    check_refused(
        &model,
        &["MatMulInteger", "DynamicQuantizeLinear", "Filbert"],
    );
}

/// Flips, cuts and repeats: nothing panics, and what is taken can be read.
#[test]
fn damaged_models_do_no_harm() {
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (random >> 33) as usize % below
    };
    for name in [FLOAT32, INT8, "onnx-roberta-classes-opset13"] {
        let file = fs::read(fixtures().join(name).join("model.onnx")).unwrap();
        for _ in 0..400 {
            let mut damaged = file.clone();
            match next(4) {
                0 => damaged.truncate(next(file.len())),
                1 => {
                    let (from, to) = (next(file.len()), next(file.len()));
                    let part = damaged[from..file.len().min(from + 40)].to_vec();
                    damaged.splice(to..to, part);
                }
                _ => {
                    for _ in 0..1 + next(6) {
                        damaged[next(file.len())] = next(256) as u8;
                    }
                }
            }
            let Ok(imported) = Imported::from_bytes(damaged) else {
                continue;
            };
            for parameter in Parameter::all(imported.config()) {
                let shape = parameter.shape(imported.config());
                let values = imported.load_rows(parameter, 0..shape[0]).unwrap();
                assert_eq!(values.len(), shape.iter().product::<usize>());
                let _ = imported.quantized_rows(parameter, 0..shape[0]);
            }
        }
    }
}
