//! `filbert train`, and what uses the heads that it makes, from end to end.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny-sst2");

/// Of two topics, which the sentiment model's own head does not know.
const TEXTS: &str = "\
text\tlabel
the soup was warm and the bread fresh\tfood
a plate of pasta with cheese\tfood
the waiter brought cold coffee\tfood
fresh fish and a salad\tfood
the cake was sweet\tfood
rice with vegetables and meat\tfood
the team won the match\tsport
a goal in the last minute\tsport
the runner finished first\tsport
the coach praised the players\tsport
a fast serve and a long rally\tsport
they lost the final game\tsport
";

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("training-{}-{name}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), contents).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the command: its exit code, standard output and standard error.
fn filbert(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_filbert"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

#[track_caller]
fn succeeded(arguments: &[&str]) -> String {
    let (code, out, err) = filbert(arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

#[track_caller]
fn failed(arguments: &[&str], code: i32, parts: &[&str]) {
    let (found, out, err) = filbert(arguments);
    assert_eq!(found, code, "{arguments:?}: {out}{err}");
    for part in parts {
        assert!(err.contains(part), "{part:?} is not in {err:?}");
    }
}

/// The model of the repository as a file, converted once.
fn encoder() -> &'static str {
    static ENCODER: OnceLock<String> = OnceLock::new();
    ENCODER.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("training-encoder.filbert");
        let path = path.to_str().unwrap().to_owned();
        succeeded(&["convert", CHECKPOINT, "-o", &path]);
        path
    })
}

#[test]
fn a_head_is_trained_used_measured_and_shown() {
    let folder = Folder::new("whole");
    let (texts, head) = (
        folder.write("topics.tsv", TEXTS),
        folder.path("a.filbert-head"),
    );
    let out = succeeded(&[
        "train",
        encoder(),
        &texts,
        "-o",
        &head,
        "--eval",
        &texts,
        "--folds",
        "3",
    ]);
    assert!(out.contains("accuracy by cross-validation"), "{out}");
    assert!(out.contains("2 labels, 128 features"), "{out}");
    assert!(out.contains("of 12 texts in topics.tsv"), "{out}");
    assert!(out.contains("wrote"), "{out}");

    let answer = succeeded(&[
        "classify",
        encoder(),
        "--head",
        &head,
        "--json",
        "warm bread",
    ]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(["food", "sport"].contains(&answer["label"].as_str().unwrap()));
    let both = succeeded(&[
        "classify",
        encoder(),
        "--head",
        &head,
        "--top-k",
        "2",
        "a goal",
    ]);
    assert!(both.contains("food") && both.contains("sport"), "{both}");

    let measured = succeeded(&["eval", encoder(), &texts, "--head", &head, "--json"]);
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert_eq!(measured["per_class"][0]["label"], "food");

    let shown = succeeded(&["inspect", &head]);
    assert!(shown.contains("features    128 (mean)"), "{shown}");
    let shown: Value = serde_json::from_str(&succeeded(&["inspect", &head, "--json"])).unwrap();
    assert_eq!(shown["labels"], serde_json::json!(["food", "sport"]));
    assert_eq!(shown["training"]["texts"], 12);
    assert_eq!(shown["training"]["dataset"], "topics.tsv");
    let own = 12.0 * shown["training"]["training_accuracy"].as_f64().unwrap();
    assert_eq!(own / 12.0, measured["accuracy"].as_f64().unwrap());
}

#[test]
fn the_same_texts_give_the_same_file() {
    let folder = Folder::new("same");
    let texts = folder.write("topics.tsv", TEXTS);
    let train = |name: &str, encoder: &str, threads: &str| {
        let head = folder.path(name);
        let strength = ["--strength", "1", "--features", "cls", "--threads", threads];
        succeeded(&[&["train", encoder, &texts, "-o", &head][..], &strength].concat());
        fs::read(head).unwrap()
    };
    let one = train("one", encoder(), "1");
    assert!(one.len() < 2048 + 128 * 2 * 4, "{}", one.len());
    assert!(one == train("two", encoder(), "2"));
    // A checkpoint that is converted in memory is the same encoder.
    assert!(one == train("three", CHECKPOINT, "3"));
}

#[test]
fn pairs_are_trained_on_too() {
    let folder = Folder::new("pairs");
    let lines = "text_a\ttext_b\tlabel\na\tb\tX\nc\td\tY\na\tc\tX\nd\tb\tY\n";
    let (texts, head) = (
        folder.write("pairs.tsv", lines),
        folder.path("pairs.filbert-head"),
    );
    succeeded(&[
        "train",
        encoder(),
        &texts,
        "-o",
        &head,
        "--strength",
        "1000",
    ]);
    let out = succeeded(&["classify", encoder(), "--head", &head, "--pair", "a", "b"]);
    assert!(out.contains("a | b"), "{out}");
}

#[test]
fn refusals_name_the_file_and_what_to_do() {
    let folder = Folder::new("refusals");
    let (texts, head) = (
        folder.write("topics.tsv", TEXTS),
        folder.path("a.filbert-head"),
    );
    succeeded(&["train", encoder(), &texts, "-o", &head, "--strength", "1"]);
    let one = folder.write("one.tsv", "text\tlabel\na\tX\nb\tX\n");
    let never = folder.path("never");
    let train = |texts: &str, rest: &[&str], code: i32, parts: &[&str]| {
        let arguments = [&["train", encoder(), texts, "-o", &never][..], rest].concat();
        failed(&arguments, code, parts);
        assert!(!PathBuf::from(&never).exists());
    };
    train(
        &one,
        &[],
        1,
        &["one.tsv: labels: expected at least 2 different ones, found 1"],
    );
    train(
        &texts,
        &["--folds", "7"],
        1,
        &["topics.tsv: folds: expected 2 to 6"],
    );
    train(
        &texts,
        &["--strength", "0"],
        2,
        &["expected auto, or a number above 0"],
    );
    train(
        &texts,
        &["--eval", &one],
        1,
        &["one.tsv: line 2: the model has no label \"X\""],
    );

    // The same weights with another layer norm are another encoder.
    let checkpoint = folder.path("other");
    fs::create_dir(&checkpoint).unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let target = PathBuf::from(&checkpoint).join(name);
        fs::copy(PathBuf::from(CHECKPOINT).join(name), target).unwrap();
    }
    let config = fs::read_to_string(PathBuf::from(&checkpoint).join("config.json")).unwrap();
    let config = config.replace("1e-12", "1e-11");
    fs::write(PathBuf::from(&checkpoint).join("config.json"), config).unwrap();
    let other = folder.path("other.filbert");
    succeeded(&["convert", &checkpoint, "-o", &other]);
    for arguments in [
        &["classify", &other, "--head", &head, "text"][..],
        &["eval", &other, &texts, "--head", &head],
    ] {
        failed(
            arguments,
            1,
            &["a.filbert-head: the head was trained on another encoder"],
        );
    }
    failed(
        &["classify", &head, "text"],
        1,
        &["is a trained head, not an encoder"],
    );
    failed(
        &["classify", encoder(), "--head", encoder(), "a"],
        1,
        &["is not the file of a head"],
    );
    failed(&["inspect", &texts], 1, &["is not a .filbert file"]);
    let mut bytes = fs::read(&head).unwrap();
    bytes[120] ^= 1;
    let damaged = folder.write("damaged.filbert-head", bytes);
    failed(
        &["inspect", &damaged],
        1,
        &["damaged.filbert-head: its checksum is"],
    );
    failed(
        &["classify", encoder(), "--head", &damaged, "a"],
        1,
        &["its checksum is"],
    );
}
