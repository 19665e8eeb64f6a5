//! Reading checkpoints: every form that is accepted gives the same values, and every one that
//! is refused says why.

use std::fs;
use std::path::Path;

use filbert::format::{Activation, Problem};
use filbert_convert::Checkpoint;
use filbert_convert::checkpoint::{LayerParameter, Parameter};
use filbert_convert::config::{Architecture, Config};
use filbert_convert::synthetic::{DataType, SyntheticCheckpoint};
use serde_json::{Value, json};
use tempfile::TempDir;

fn write(synthetic: &SyntheticCheckpoint) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    synthetic.write(folder.path()).unwrap();
    folder
}

fn distil() -> SyntheticCheckpoint {
    SyntheticCheckpoint {
        architecture: Architecture::DistilBert,
        ..SyntheticCheckpoint::default()
    }
}

#[test]
fn every_form_gives_the_values_it_was_written_with() {
    for base in [SyntheticCheckpoint::default(), distil()] {
        for data_type in [DataType::F32, DataType::F16, DataType::BF16] {
            for (shards, legacy_names) in [(1, false), (3, false), (1, true), (2, true)] {
                let synthetic = SyntheticCheckpoint {
                    data_type,
                    shards,
                    legacy_names,
                    ..base.clone()
                };
                let folder = write(&synthetic);
                let checkpoint = Checkpoint::open(folder.path()).unwrap();
                assert_eq!(checkpoint.config(), &synthetic.config());
                for parameter in Parameter::all(checkpoint.config()) {
                    assert_eq!(
                        checkpoint.load(parameter).unwrap(),
                        synthetic.values(parameter),
                        "{parameter:?} of {synthetic:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn data_types_differ_by_their_rounding_only() {
    let values = |data_type| {
        let synthetic = SyntheticCheckpoint {
            data_type,
            ..SyntheticCheckpoint::default()
        };
        let folder = write(&synthetic);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        checkpoint.load(Parameter::WordEmbedding).unwrap()
    };
    let exact = values(DataType::F32);
    for (data_type, error) in [(DataType::F16, 1.0 / 2048.0), (DataType::BF16, 1.0 / 256.0)] {
        let rounded = values(data_type);
        assert_ne!(exact, rounded);
        for (exact, rounded) in exact.iter().zip(rounded) {
            assert!((exact - rounded).abs() <= exact.abs() * error + 1e-7);
        }
    }
}

/// The error of opening a checkpoint whose config has been edited.
fn error_with(synthetic: &SyntheticCheckpoint, edit: impl FnOnce(&mut Value)) -> String {
    let folder = write(synthetic);
    edit_config(folder.path(), edit);
    Checkpoint::open(folder.path()).unwrap_err().to_string()
}

fn edit_config(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(&path, config.to_string()).unwrap();
}

#[track_caller]
fn assert_mentions(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn unsupported_configs_are_refused_by_field() {
    let bert = SyntheticCheckpoint::default();
    let long_map: Value = (0..70_000).map(|id| (id.to_string(), json!("x"))).collect();
    let cases = [
        (
            "architectures",
            json!(["BertForMultipleChoice"]),
            "BertForMultipleChoice",
        ),
        (
            "architectures",
            json!(["BertForSequenceClassification", "X"]),
            "a list of one name",
        ),
        (
            "architectures",
            json!("BertForSequenceClassification"),
            "a list of one name",
        ),
        ("model_type", json!("roberta"), "roberta"),
        ("model_type", json!(7), "must be a string"),
        ("position_embedding_type", json!("relative_key"), "absolute"),
        ("is_decoder", json!(true), "only encoders"),
        ("add_cross_attention", json!(true), "only encoders"),
        ("pruned_heads", json!({"0": [1]}), "before pruning"),
        (
            "quantization_config",
            json!({"bits": 4}),
            "quantized already",
        ),
        (
            "num_attention_heads",
            json!(5),
            "not a multiple of num_attention_heads, 5",
        ),
        ("num_attention_heads", json!(0), "from 1 to"),
        ("hidden_size", json!(1 << 20), "from 1 to 16384"),
        ("hidden_size", json!(-32), "from 1 to"),
        ("hidden_size", json!(32.0), "whole number"),
        ("hidden_size", json!("32"), "whole number"),
        ("num_hidden_layers", json!(257), "from 1 to 256"),
        ("intermediate_size", json!(65_537), "from 1 to 65536"),
        ("vocab_size", json!(u64::MAX), "from 1 to"),
        ("max_position_embeddings", json!(0), "from 1 to"),
        ("type_vocab_size", json!(257), "from 1 to 256"),
        ("hidden_act", json!("swish"), "gelu_pytorch_tanh"),
        ("hidden_act", json!(["gelu"]), "gelu_pytorch_tanh"),
        ("layer_norm_eps", json!(0), "above 0"),
        ("layer_norm_eps", json!("tiny"), "above 0"),
        (
            "problem_type",
            json!("ranking"),
            "multi_label_classification",
        ),
        ("id2label", json!({"0": "a", "2": "b"}), "without gaps"),
        ("id2label", json!({"0": "a", "00": "b"}), "without gaps"),
        (
            "id2label",
            json!({"0": "a", "1": ["b"]}),
            "must be a string",
        ),
        ("id2label", json!(["a", "b"]), "must be an object"),
        ("id2label", long_map, "at most 65536"),
        (
            "label2id",
            json!({"label 0": 1, "label 1": 0}),
            "not what id2label says",
        ),
        ("label2id", json!({"label 0": -1}), "whole number"),
    ];
    for (field, value, words) in cases {
        let message = error_with(&bert, |config| config[field] = value);
        assert_mentions(&message, &["config.json", field, words]);
    }
    let message = error_with(&distil(), |config| config["hidden_size"] = json!(64));
    assert_mentions(&message, &["dim is 32", "hidden_size"]);
    let message = error_with(&bert, |config| {
        config["architectures"] = json!([]);
        config["model_type"] = json!("electra");
    });
    assert_mentions(&message, &["electra", "DistilBert"]);
}

#[test]
fn configs_that_are_no_config_are_refused() {
    let folder = write(&SyntheticCheckpoint::default());
    for text in ["", "[]", "{", "null", "{\"architectures\": NaN}", "\u{0}"] {
        fs::write(folder.path().join("config.json"), text).unwrap();
        let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert_mentions(&message, &["config.json", "not a JSON object"]);
    }
    let deep = "[".repeat(1 << 20);
    fs::write(folder.path().join("config.json"), deep).unwrap();
    assert!(Checkpoint::open(folder.path()).is_err());
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert_mentions(&message, &["config.json", "Hugging Face"]);
}

fn config_with(edit: impl FnOnce(&mut Value)) -> Config {
    let folder = write(&SyntheticCheckpoint::default());
    edit_config(folder.path(), edit);
    Config::read(folder.path()).unwrap()
}

fn remove(config: &mut Value, fields: &[&str]) {
    for field in fields {
        config.as_object_mut().unwrap().remove(*field).unwrap();
    }
}

#[test]
fn labels_and_problem_follow_transformers() {
    let named = |config: Config| (config.labels.join(","), config.problem);
    // Beyond nine, text order is not number order.
    let twelve: Value = (0..12)
        .map(|id| (id.to_string(), json!(format!("L{id}"))))
        .collect();
    let config = config_with(|config| {
        config["id2label"] = twelve;
        config["problem_type"] = json!(null);
        // Of other names: a leftover.
        config["label2id"] = json!({"LABEL_0": 1, "LABEL_1": 0});
    });
    assert_eq!(
        named(config),
        (
            "L0,L1,L2,L3,L4,L5,L6,L7,L8,L9,L10,L11".into(),
            Problem::SingleLabel
        )
    );
    let config = config_with(|config| {
        config["id2label"] = json!({"0": "score"});
        remove(config, &["label2id", "problem_type"]);
    });
    assert_eq!(named(config), ("score".into(), Problem::Regression));
    let config = config_with(|config| {
        remove(config, &["id2label"]);
        config["label2id"] = json!({"b": 0, "a": 1});
        config["problem_type"] = json!("multi_label_classification");
    });
    assert_eq!(named(config), ("b,a".into(), Problem::MultiLabel));
    let config = config_with(|config| {
        remove(config, &["id2label", "label2id", "problem_type"]);
        config["num_labels"] = json!(3);
    });
    assert_eq!(
        named(config),
        ("LABEL_0,LABEL_1,LABEL_2".into(), Problem::SingleLabel)
    );
    let config = config_with(|config| remove(config, &["id2label", "label2id"]));
    assert_eq!(
        named(config),
        ("LABEL_0,LABEL_1".into(), Problem::SingleLabel)
    );
}

#[test]
fn missing_fields_have_the_defaults_of_transformers() {
    let config = config_with(|config| {
        *config = json!({"architectures": ["BertForSequenceClassification"]});
    });
    assert_eq!((config.layers, config.hidden, config.heads), (12, 768, 12));
    assert_eq!((config.intermediate, config.vocabulary), (3072, 30522));
    assert_eq!((config.positions, config.token_types), (512, 2));
    assert_eq!(config.activation, Activation::Gelu);
    assert_eq!(config.layer_norm_eps, 1e-12);
    let config = config_with(|config| *config = json!({"model_type": "distilbert"}));
    assert_eq!(config.architecture, Architecture::DistilBert);
    assert_eq!((config.layers, config.token_types), (6, 0));
}

#[test]
fn activations_are_read_by_every_name() {
    for (name, activation) in [
        ("gelu", Activation::Gelu),
        ("gelu_new", Activation::GeluTanh),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("relu", Activation::Relu),
    ] {
        let config = config_with(|config| config["hidden_act"] = json!(name));
        assert_eq!(config.activation, activation);
    }
}

#[test]
fn shapes_that_contradict_the_config_are_refused() {
    let bert = SyntheticCheckpoint::default();
    for (field, value, tensor) in [
        ("vocab_size", json!(101), "word_embeddings.weight"),
        (
            "max_position_embeddings",
            json!(39),
            "position_embeddings.weight",
        ),
        ("type_vocab_size", json!(3), "token_type_embeddings.weight"),
        ("intermediate_size", json!(65), "intermediate.dense"),
        ("hidden_size", json!(64), "[64"),
        (
            "id2label",
            json!({"0": "a", "1": "b", "2": "c"}),
            "classifier.",
        ),
        ("num_hidden_layers", json!(1), "layer.1."),
    ] {
        let message = error_with(&bert, |config| config[field] = value);
        assert_mentions(
            &message,
            &["model.safetensors", tensor, "correct the config"],
        );
    }
    let message = error_with(&bert, |config| config["num_hidden_layers"] = json!(3));
    assert_mentions(
        &message,
        &["lack 16", "encoder.layer.2.attention.self.query.weight"],
    );
}

/// A safetensors file: its header, edited, and its data.
fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let file = fs::read(path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&file[8..8 + length]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    let mut edited = (header.len() as u64).to_le_bytes().to_vec();
    edited.extend(header.bytes());
    edited.extend(&file[8 + length..]);
    fs::write(path, edited).unwrap();
}

/// The error of opening a checkpoint whose safetensors header has been edited.
fn error_with_header(edit: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
    let folder = write(&SyntheticCheckpoint::default());
    edit_header(&folder.path().join("model.safetensors"), |header| {
        edit(header.as_object_mut().unwrap());
    });
    Checkpoint::open(folder.path()).unwrap_err().to_string()
}

fn rename(header: &mut serde_json::Map<String, Value>, from: &str, to: &str) {
    let info = header.remove(from).unwrap();
    header.insert(to.to_owned(), info);
}

#[test]
fn missing_doubled_and_unknown_tensors_are_refused() {
    let bias = "bert.pooler.dense.bias";
    let message = error_with_header(|header| rename(header, bias, "something.else"));
    assert_mentions(&message, &["lack 1 ", bias]);
    let message = error_with_header(|header| rename(header, bias, "bert.pooler.dense.biases"));
    assert_mentions(&message, &["bert.pooler.dense.biases", "no part of"]);
    let message = error_with_header(|header| {
        let extra = "bert.encoder.layer.0.attention.self.distance_embedding.weight";
        header.insert(
            extra.to_owned(),
            json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
        );
    });
    assert_mentions(&message, &["distance_embedding", "no part of"]);
    let message = error_with_header(|header| {
        header.insert(
            "embeddings.LayerNorm.beta".to_owned(),
            json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
        );
    });
    assert_mentions(&message, &["embeddings.LayerNorm.beta", "twice"]);
}

#[test]
fn other_data_types_are_refused() {
    for (data_type, size) in [("F64", 8), ("I8", 1), ("F8_E4M3", 1)] {
        let message = error_with_header(|header| {
            // The same bytes as other values: the shape is judged first.
            let info = header["classifier.bias"].as_object_mut().unwrap();
            let offsets = [0, 1].map(|i| info["data_offsets"][i].as_u64().unwrap());
            let bytes = offsets[1] - offsets[0];
            assert_eq!(bytes % size, 0);
            info.insert("dtype".to_owned(), json!(data_type));
            info.insert("shape".to_owned(), json!([bytes / size]));
        });
        assert_mentions(&message, &["classifier.bias"]);
    }
    let message = error_with_header(|header| header["classifier.bias"]["dtype"] = json!("I32"));
    assert_mentions(&message, &["classifier.bias", "I32", "BF16"]);
}

#[test]
fn hostile_safetensors_are_errors() {
    let folder = write(&SyntheticCheckpoint::default());
    let path = folder.path().join("model.safetensors");
    let file = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let try_with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert_mentions(
            &message,
            &["model.safetensors", "download or save it again"],
        );
    };
    for cut in (0..40)
        .chain((40..file.len()).step_by(997))
        .chain([8 + length, file.len() - 1])
    {
        try_with(&file[..cut]);
    }
    try_with(&[&file[..], &[0]].concat());
    for length in [0, 1, 1 << 20, 1 << 40, u64::MAX - 8, u64::MAX] {
        try_with(&[&length.to_le_bytes(), &file[8..]].concat());
    }
    let header = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.bytes());
        bytes
    };
    for text in [
        // Sums and products that overflow.
        r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"X32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":7}"#,
        "[]",
        "\u{feff}{}",
    ] {
        try_with(&header(text));
    }
    try_with(&header(&"[".repeat(1 << 20)));
    try_with(&[&header("  ")[..8], &[0xFF, 0xFE]].concat());
    // No tensors at all is valid safetensors, but no model.
    fs::write(&path, header("{}")).unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert_mentions(&message, &["word_embeddings"]);
}

#[test]
fn values_that_are_not_finite_are_refused_by_place() {
    for (data_type, bytes) in [
        (DataType::F32, f32::NAN.to_le_bytes().to_vec()),
        (DataType::F16, half::f16::INFINITY.to_le_bytes().to_vec()),
        (
            DataType::BF16,
            half::bf16::NEG_INFINITY.to_le_bytes().to_vec(),
        ),
    ] {
        let folder = write(&SyntheticCheckpoint {
            data_type,
            ..SyntheticCheckpoint::default()
        });
        let path = folder.path().join("model.safetensors");
        let name = "bert.encoder.layer.1.output.dense.bias";
        let mut file = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
        let start = 8 + length + header[name]["data_offsets"][0].as_u64().unwrap() as usize;
        file[start + 5 * bytes.len()..][..bytes.len()].copy_from_slice(&bytes);
        fs::write(&path, file).unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let damaged = Parameter::Layer(1, LayerParameter::FeedForwardOutBias);
        for parameter in Parameter::all(checkpoint.config()) {
            let loaded = checkpoint.load(parameter);
            assert_eq!(loaded.is_err(), parameter == damaged);
        }
        let message = checkpoint.load(damaged).unwrap_err().to_string();
        assert_mentions(&message, &["model.safetensors", name, "index 5", "finite"]);
    }
}

#[test]
fn other_weight_formats_come_with_advice() {
    let folder = write(&SyntheticCheckpoint::default());
    let weights = folder.path().join("model.safetensors");
    let other = folder.path().join("tf_model.h5");
    fs::rename(&weights, &other).unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert_mentions(
        &message,
        &["tf_model.h5", "from_tf=True", "save_pretrained"],
    );
    fs::remove_file(other).unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert_mentions(
        &message,
        &["model.safetensors.index.json", "pytorch_model.bin,"],
    );
    fs::create_dir(&weights).unwrap();
    let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert_mentions(&message, &["not a regular file"]);
}

#[test]
fn hostile_indexes_are_errors() {
    let folder = write(&SyntheticCheckpoint {
        shards: 2,
        ..SyntheticCheckpoint::default()
    });
    let path = folder.path().join("model.safetensors.index.json");
    let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let error_of = |index: &str| {
        fs::write(&path, index).unwrap();
        Checkpoint::open(folder.path()).unwrap_err().to_string()
    };
    assert_mentions(&error_of("{"), &["index.json", "not JSON"]);
    assert_mentions(&error_of("{}"), &["weight_map"]);
    for file in [
        json!("../other.safetensors"),
        json!("/etc/passwd"),
        json!(".."),
        json!(1),
    ] {
        let mut index = index.clone();
        index["weight_map"]["classifier.bias"] = file;
        assert_mentions(
            &error_of(&index.to_string()),
            &["classifier.bias", "not a file name"],
        );
    }
    let mut absent = index.clone();
    absent["weight_map"]["classifier.bias"] = json!("absent.safetensors");
    assert_mentions(&error_of(&absent.to_string()), &["absent.safetensors"]);
    let mut unknown = index;
    unknown["weight_map"]["unknown"] = json!("model-00001-of-00002.safetensors");
    assert_mentions(
        &error_of(&unknown.to_string()),
        &["unknown", "does not hold it"],
    );
}

#[test]
fn parameters_that_the_model_lacks_are_errors() {
    let folder = write(&distil());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.load(Parameter::TokenTypeEmbedding).is_err());
    let beyond = Parameter::Layer(2, LayerParameter::QueryBias);
    assert!(checkpoint.load(beyond).is_err());
}
