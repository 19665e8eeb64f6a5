//! Files as `torch.save` writes them: those in `pytorch/`, which its script made with PyTorch, and
//! whole checkpoints.

use std::fs;
use std::path::{Path, PathBuf};

use filbert::{Classifier, Options};
use filbert_convert::Checkpoint;
use filbert_convert::checkpoint::Parameter;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::synthetic::pytorch::{Container, rewrite};
use filbert_convert::synthetic::{DataType, SyntheticCheckpoint};
use filbert_convert::weights::{Tensors, pytorch};
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pytorch")
        .join(name)
}

fn read(name: &str) -> (Vec<u8>, Tensors) {
    let path = path(name);
    let file = fs::read(&path).unwrap();
    let tensors = pytorch::read(&file, &path).unwrap();
    (file, tensors)
}

fn error_of(name: &str) -> String {
    let path = path(name);
    let file = fs::read(&path).unwrap();
    let message = pytorch::read(&file, &path).unwrap_err().to_string();
    assert!(message.contains(name), "{message}");
    message
}

#[track_caller]
fn assert_mentions(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn every_kind_of_tensor_is_read_from_every_container() {
    let numbers = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0_f32];
    let divided = |by: f32| numbers.map(|x| x / by).to_vec();
    let expected: [(&str, &[usize], Vec<f32>); 10] = [
        ("contiguous", &[2, 3], numbers.to_vec()),
        ("transposed", &[3, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ("row", &[3], vec![3.0, 4.0, 5.0]),
        ("column", &[2], vec![1.0, 4.0]),
        ("parameter", &[2, 3], numbers.map(|x| x + 10.0).to_vec()),
        ("half", &[2, 3], divided(4.0)),
        ("bfloat16", &[2, 3], divided(4.0)),
        ("double", &[2, 3], divided(8.0)),
        ("scalar", &[], vec![7.5]),
        ("empty", &[0, 3], vec![]),
    ];
    for name in ["archive.bin", "legacy.bin", "protocol4.bin"] {
        let (file, tensors) = read(name);
        assert_eq!(tensors.len(), expected.len() + 2, "{name}");
        for (tensor, shape, values) in &expected {
            let what = format!("{tensor} of {name}");
            let tensor = &tensors[*tensor];
            assert_eq!(tensor.shape, *shape, "{what}");
            let stored = tensor.values.as_ref().unwrap();
            assert_eq!(stored.read(&file, 0..values.len()), *values, "{what}");
            if values.len() > 2 {
                assert_eq!(stored.read(&file, 1..2), values[1..2], "{what}");
            }
        }
        assert_eq!(tensors["position_ids"].shape, [1, 4]);
        let unread = |name: &str| tensors[name].values.as_ref().unwrap_err().clone();
        assert_eq!(unread("position_ids"), "I64");
        assert_eq!(unread("mask"), "BOOL");
    }
}

#[test]
fn pickles_that_are_more_than_tensors_are_refused_by_name() {
    for name in ["hostile.bin", "hostile-legacy.bin"] {
        let message = error_of(name);
        // What Python's os.system is called where it is defined.
        let parts = ["asks Python to call posix.system", "nothing in it was run"];
        assert_mentions(&message, &parts);
    }
    let message = error_of("namespace.bin");
    assert_mentions(&message, &["argparse.Namespace", "model.state_dict()"]);
    let message = error_of("training.bin");
    assert_mentions(&message, &["\"epoch\" is an integer", "model.state_dict()"]);
    assert_mentions(&error_of("list.bin"), &["a list", "model.state_dict()"]);
}

#[test]
fn archives_that_pytorch_does_not_write_here_are_refused() {
    assert_mentions(
        &error_of("compressed.bin"),
        &["compressed", "save it again"],
    );
    assert_mentions(&error_of("big-endian.bin"), &["big-endian"]);
    let parts = ["weight of shape [1000, 1000]", "tensor.contiguous()"];
    assert_mentions(&error_of("expanded.bin"), &parts);
}

#[test]
fn damaged_files_are_errors() {
    for name in ["archive.bin", "legacy.bin", "protocol4.bin"] {
        let path = path(name);
        let file = fs::read(&path).unwrap();
        for length in 0..file.len() {
            if let Ok(tensors) = pytorch::read(&file[..length], &path) {
                // What an archive ends with may be left out, not what lies before.
                panic!("{name} cut to {length}: {} tensors", tensors.len());
            }
        }
        let mut damaged = file.clone();
        for at in 0..file.len() {
            damaged[at] ^= 0x55;
            if let Ok(tensors) = pytorch::read(&damaged, &path) {
                read_all(&damaged, &tensors);
            }
            damaged[at] = file[at];
        }
    }
}

/// Reads every value; what they are is not known.
fn read_all(file: &[u8], tensors: &Tensors) {
    for tensor in tensors.values() {
        if let Ok(values) = &tensor.values {
            let count = tensor.shape.iter().product();
            assert_eq!(values.read(file, 0..count).len(), count);
        }
    }
}

/// A pickle of protocol 2 with these instructions.
fn pickle(instructions: &[&[u8]]) -> Vec<u8> {
    [&b"\x80\x02"[..], &instructions.concat()].concat()
}

#[test]
fn hostile_pickles_are_errors() {
    // Behind the magic number, a pickle that is judged before anything else.
    let magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    let error = |instructions: &[&[u8]]| {
        let file = [&magic[..], &pickle(instructions)].concat();
        pytorch::read(&file, Path::new("weights.bin"))
            .unwrap_err()
            .to_string()
    };
    let cases: [(&[&[u8]], &str); 12] = [
        (&[b"."], "never made"),
        (&[b"t"], "never made"),
        (&[b"(N\x85("], "ends too early"),
        (&[b"(\x85"], "never made"),
        (&[b"h\x07"], "object 7"),
        (&[b"NNR"], "calls None"),
        (&[b"NN\x86N}b"], "attributes of None"),
        (&[b"X\xff\xff\xff\xff"], "ends too early"),
        (&[b"X\x01\x00\x00\x00\xff"], "not UTF-8"),
        (&[b"}(Nu"], "without a value"),
        (&[b"\x8a\x11aaaaaaaaaaaaaaaaa"], "17 bytes"),
        (&[b"cbuiltins\neval\n"], "builtins.eval"),
    ];
    for (instructions, expected) in cases {
        assert_mentions(&error(instructions), &["weights.bin", expected]);
    }
    assert_mentions(&error(&[b"\x80\x00"]), &["protocol 0"]);
    assert_mentions(&error(&[b"i"]), &["0x69"]);
    let names = b"\x8c\x05posix\x8c\x06system\x93";
    assert_mentions(&error(&[names]), &["posix.system"]);
    let bomb = vec![b'N'; 3 << 20];
    assert_mentions(&error(&[&bomb]), &["instructions"]);
    let text = [&b"X\x00\x00\x00\x02"[..], &vec![b'a'; 32 << 20]].concat();
    assert_mentions(&error(&[&text]), &["longer than"]);
}

/// A checkpoint with safetensors, and the same with PyTorch's files.
fn twins(synthetic: &SyntheticCheckpoint, container: Container) -> [tempfile::TempDir; 2] {
    [false, true].map(|pytorch| {
        let folder = tempfile::tempdir().unwrap();
        synthetic.write(folder.path()).unwrap();
        if pytorch {
            rewrite(folder.path(), container).unwrap();
        }
        folder
    })
}

#[test]
fn checkpoints_have_the_values_that_safetensors_have() {
    for container in [Container::Archive, Container::Legacy] {
        for (shards, data_type) in [(1, DataType::F32), (3, DataType::BF16), (1, DataType::F16)] {
            let synthetic = SyntheticCheckpoint {
                shards,
                data_type,
                legacy_names: true,
                ..SyntheticCheckpoint::default()
            };
            let folders = twins(&synthetic, container);
            let [left, right] = folders
                .each_ref()
                .map(|folder| Checkpoint::open(folder.path()).unwrap());
            assert_eq!(right.weight_files().len(), shards);
            for parameter in Parameter::all(left.config()) {
                assert_eq!(
                    left.load(parameter).unwrap(),
                    right.load(parameter).unwrap(),
                    "{parameter:?}"
                );
            }
        }
    }
}

#[test]
fn safetensors_are_preferred() {
    let folder = tempfile::tempdir().unwrap();
    SyntheticCheckpoint::default().write(folder.path()).unwrap();
    fs::write(folder.path().join("pytorch_model.bin"), "nonsense").unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let (path, _) = checkpoint.weight_files()[0];
    assert!(path.ends_with("model.safetensors"));
}

#[test]
fn pointers_of_git_lfs_come_with_advice() {
    for name in ["model.safetensors", "pytorch_model.bin"] {
        let folder = tempfile::tempdir().unwrap();
        SyntheticCheckpoint::default().write(folder.path()).unwrap();
        fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        fs::write(folder.path().join(name), pointer).unwrap();
        let message = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert_mentions(&message, &[name, "git lfs pull"]);
    }
}

/// A folder that Hugging Face's libraries wrote; its README says what each is.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

#[test]
fn the_same_model_is_read_from_every_file() {
    let whole = Checkpoint::open(&fixture("bin-zip")).unwrap();
    for name in ["bin-legacy", "bin-shards", "bin-views", "bin-legacy-views"] {
        let other = Checkpoint::open(&fixture(name)).unwrap();
        for parameter in Parameter::all(whole.config()) {
            let [left, right] = [&whole, &other].map(|from| from.load(parameter).unwrap());
            assert!(left == right, "{parameter:?} of {name}");
        }
    }
}

#[test]
fn models_give_the_logits_that_they_give_in_pytorch() {
    for name in ["bin-zip", "bin-views", "bin-legacy-views", "bin-mixed"] {
        let folder = fixture(name);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let file = Package::build(&checkpoint, &mut Quiet)
            .unwrap()
            .into_bytes();
        let classifier = Classifier::from_bytes(file, &Options::new()).unwrap();
        let golden = fs::read_to_string(folder.join("golden.jsonl")).unwrap();
        assert!(golden.lines().count() > 2);
        for line in golden.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = line["text"].as_str().unwrap();
            let answer = classifier.classify(text).unwrap();
            let expected = line["logits"].as_array().unwrap();
            assert_eq!(answer.logits().len(), expected.len());
            for (&found, expected) in answer.logits().iter().zip(expected) {
                let difference = f64::from(found) - expected.as_f64().unwrap();
                // What int8 costs a small model of random weights.
                assert!(difference.abs() < 0.1, "{name}: {difference} for {text:?}");
            }
        }
    }
}

#[test]
fn folders_whose_pickle_is_more_than_tensors_are_refused() {
    for (name, part) in [
        ("bin-hostile-system", "posix.system"),
        ("bin-hostile-eval", "__builtin__.eval"),
        ("bin-object", "argparse.Namespace"),
        ("bin-module", "modeling_bert.BertForSequenceClassification"),
        ("bin-training", "entry \"model\" is a dict"),
        ("bin-plain-pickle", "not one that torch.save wrote"),
    ] {
        let message = Checkpoint::open(&fixture(name)).unwrap_err().to_string();
        let parts = ["pytorch_model.bin", part, "torch.save(model.state_dict()"];
        assert_mentions(&message, &parts);
    }
}
