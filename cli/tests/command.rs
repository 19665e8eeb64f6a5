//! The `filbert` command from end to end: what it prints, where, and with which exit code.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use filbert::{Model, Options, Problem, TokenClassifier};
use filbert_convert::config::Architecture;
use filbert_convert::synthetic::SyntheticCheckpoint;
use serde_json::{Value, json};

const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny-sst2");
/// Small models of every task, with random weights.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
const GOOD: &str = "a gorgeous, witty film";
const BAD: &str = "The plot is a mess and the acting is worse.";

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("command-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The path of a file in the folder, as an argument.
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), contents).unwrap();
        self.path(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run left.
#[derive(Debug)]
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl Run {
    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Failed with this code and one line on standard error that has these parts.
    #[track_caller]
    fn failed(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        let line = self.err.lines().last().unwrap_or_default();
        assert!(line.starts_with("filbert: "), "{self:?}");
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in {self:?}");
        }
        self
    }

    /// Each line of standard output as JSON.
    #[track_caller]
    fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.out.lines().map(parse).collect()
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filbert"));
    command
        .args(arguments.iter().map(OsStr::new))
        .env_remove("FILBERT_ISA")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[track_caller]
fn filbert(arguments: &[&str]) -> Run {
    finish(command(arguments).output().unwrap())
}

/// Runs the command with this standard input.
#[track_caller]
fn filbert_reading(arguments: &[&str], input: impl AsRef<[u8]> + Send) -> Run {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // The command may end before it has read everything.
        scope.spawn(move || drop(stdin.write_all(input.as_ref())));
        finish(child.wait_with_output().unwrap())
    })
}

#[track_caller]
fn finish(output: std::process::Output) -> Run {
    Run {
        code: output.status.code().expect("no signal"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The small model, converted once for all tests.
fn model() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| {
        // One name for every run of the tests: it is replaced, and so never left over.
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tiny.filbert");
        let path = path.to_str().unwrap().to_owned();
        filbert(&["convert", CHECKPOINT, "-o", &path]).succeeded();
        path
    })
}

/// A small checkpoint of random weights.
fn synthetic(folder: &Folder, name: &str, checkpoint: &SyntheticCheckpoint) -> String {
    let path = folder.0.join(name);
    checkpoint.write(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

fn labels(answers: &[Value]) -> Vec<&str> {
    answers
        .iter()
        .map(|a| a["label"].as_str().unwrap())
        .collect()
}

// Usage.

#[test]
fn help_teaches_with_examples() {
    for name in [
        "classify", "convert", "eval", "inspect", "verify", "selftest", "bench",
    ] {
        for flag in ["-h", "--help"] {
            let run = filbert(&[name, flag]).succeeded();
            assert!(run.out.contains("Examples:"), "{name}: {}", run.out);
            assert!(run.out.contains(&format!("filbert {name} ")), "{}", run.out);
            assert_eq!(run.err, "");
        }
    }
    let run = filbert(&["--help"]).succeeded();
    assert!(run.out.contains("Exit codes"), "{}", run.out);
    assert!(
        filbert(&["--version"])
            .succeeded()
            .out
            .starts_with("filbert ")
    );
}

#[test]
fn wrong_usage_is_code_2() {
    let file = model();
    let cases: &[&[&str]] = &[
        &[],
        &["translate"],
        &["classify"],
        &["classify", file, "--top-k", "0", "x"],
        &["classify", file, "--threads", "none", "x"],
        &["classify", file, "--threshold", "nan", "x"],
        &[
            "classify", file, "--allow", "POSITIVE", "--deny", "NEGATIVE", "x",
        ],
        &["classify", file, "-1 star"],
        &["classify", file, "--pair", "one text"],
        &["convert", CHECKPOINT],
        &[
            "convert",
            CHECKPOINT,
            "-o",
            "x.filbert",
            "--max-drop",
            "0.5",
        ],
        &[
            "convert",
            CHECKPOINT,
            "-o",
            "x.filbert",
            "--eval",
            "x.tsv",
            "--max-drop",
            "few",
        ],
        &["eval", file],
        &["inspect"],
        &["bench"],
        &["bench", file, "--random", "bert-tiny"],
        &["bench", file, "--tokens", "few"],
        &["bench", file, "--tokens", "1"],
        &["bench", file, "--tokens", "16,513"],
        &["bench", file, "--threads", "0"],
        &["bench", file, "--texts", "0"],
        &["bench", file, "--seconds", "0"],
        &["bench", file, "--cpus", "1023"],
        &["bench", "--random", "gpt-2"],
    ];
    for arguments in cases {
        let run = filbert(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {run:?}");
        assert_eq!(run.out, "", "{arguments:?}");
        assert_ne!(run.err, "", "{arguments:?}");
    }
}

// Classify.

#[test]
fn first_command_of_the_readme_works() {
    let run = filbert(&["classify", CHECKPOINT, GOOD]).succeeded();
    assert_eq!(run.out.lines().count(), 1);
    assert!(run.out.starts_with("POSITIVE "), "{run:?}");
    assert!(
        run.out.contains(" %  ") && run.out.ends_with(&format!("{GOOD}\n")),
        "{run:?}"
    );
    assert!(run.err.contains("converting it in memory"), "{run:?}");
    // The file says the same and has nothing to tell besides.
    let from_file = filbert(&["classify", model(), GOOD]).succeeded();
    assert_eq!((from_file.out, from_file.err.as_str()), (run.out, ""));
}

#[test]
fn json_has_the_shape_of_the_pipeline() {
    let run = filbert(&["classify", model(), "--json", GOOD, BAD]).succeeded();
    let answers = run.json();
    assert_eq!(labels(&answers), ["POSITIVE", "NEGATIVE"]);
    for (answer, line) in answers.iter().zip(run.out.lines()) {
        assert_eq!(answer.as_object().unwrap().len(), 2);
        let score = answer["score"].as_f64().unwrap();
        assert!((0.5..1.0).contains(&score), "{run:?}");
        assert!(line.starts_with("{\"label\":"), "{line}");
        // No digits that an f32 does not have.
        assert!(
            line.len() < "{\"label\":\"POSITIVE\",\"score\":0.1234567890}".len(),
            "{line}"
        );
    }

    let run = filbert(&["classify", model(), "--json", "--top-k", "9", GOOD]).succeeded();
    let answer = &run.json()[0];
    assert_eq!(labels(answer.as_array().unwrap()), ["POSITIVE", "NEGATIVE"]);
    let sum: f64 = (0..2).map(|i| answer[i]["score"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{run:?}");
    let one = filbert(&["classify", model(), "--json", "--top-k", "1", GOOD]).succeeded();
    assert_eq!(one.json()[0], json!([answer[0]]));
}

#[test]
fn every_line_of_standard_input_has_its_answer() {
    let mut input = String::new();
    let mut expected = Vec::new();
    for i in 0..700 {
        match i % 4 {
            0 => input.push_str(&format!("{GOOD}\n")),
            1 => input.push_str(&format!("{BAD}\r\n")),
            2 => input.push('\n'),
            _ => input.push_str("Good. 😀\n"),
        }
        expected.push(["POSITIVE", "NEGATIVE", "POSITIVE", "POSITIVE"][i % 4]);
    }
    // The last line needs no end.
    input.push_str(BAD);
    expected.push("NEGATIVE");
    let run = filbert_reading(&["classify", model(), "--json"], &input).succeeded();
    assert_eq!(labels(&run.json()), expected);

    // Neither the neighbours nor the way a text comes in change its score.
    let alone = filbert(&["classify", model(), "--json", GOOD, BAD, ""]).succeeded();
    let threads = filbert(&[
        "classify",
        model(),
        "--json",
        "--threads",
        "3",
        GOOD,
        BAD,
        "",
    ]);
    assert_eq!(alone.out, threads.succeeded().out);
    assert_eq!(alone.json(), run.json()[..3]);

    let run = filbert_reading(&["classify", model()], "").succeeded();
    assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""));
}

#[test]
fn a_line_is_answered_before_the_next_one_comes() {
    let mut child = command(&["classify", model(), "--json"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for (text, label) in [(GOOD, "POSITIVE"), (BAD, "NEGATIVE")] {
        writeln!(stdin, "{text}").unwrap();
        assert!(answers.next().unwrap().unwrap().contains(label));
    }
    drop(stdin);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn lines_before_a_bad_one_are_answered() {
    let bytes = [GOOD.as_bytes(), b"\nna\xC3ve\n", BAD.as_bytes(), b"\n"].concat();
    let run = filbert_reading(&["classify", model(), "--json"], bytes);
    let run = run.failed(1, &["standard input: line 2, byte 3: not UTF-8"]);
    assert_eq!(labels(&run.json()), ["POSITIVE"]);
}

#[test]
fn pairs_are_two_arguments_or_a_line_with_a_tab() {
    let folder = Folder::new();
    let checkpoint = synthetic(&folder, "pair", &SyntheticCheckpoint::default());
    let arguments = ["classify", &checkpoint, "--pair", "--json", "--top-k", "2"];
    let by_line = filbert_reading(&arguments, "word1 word2\tword3\n\t\n").succeeded();
    let by_argument =
        filbert(&[&arguments[..], &["word1 word2", "word3", "", ""]].concat()).succeeded();
    assert_eq!(by_line.out, by_argument.out);
    assert_eq!(by_line.out.lines().count(), 2);
    // A pair is not its texts in one.
    let joined = filbert(&[
        "classify",
        &checkpoint,
        "--json",
        "--top-k",
        "2",
        "word1 word2 word3",
    ]);
    assert_ne!(joined.succeeded().json()[0], by_line.json()[0]);

    let run = filbert_reading(&arguments, "a\tb\nno tab\n");
    assert_eq!(
        run.failed(1, &["line 2", "found 0 tabs"])
            .out
            .lines()
            .count(),
        1
    );
    let run = filbert(&[
        "classify",
        model(),
        "--pair",
        "It rained.",
        "The weather was wet.",
    ]);
    assert!(
        run.succeeded()
            .out
            .ends_with("It rained. | The weather was wet.\n")
    );
}

#[test]
fn filters_leave_labels_out() {
    let classify =
        |options: &[&str]| filbert(&[&["classify", model()], options, &["--", BAD]].concat());
    let json = |options| classify(options).succeeded().json().remove(0);
    assert_eq!(json(&["--json", "--threshold", "0.5"])["label"], "NEGATIVE");
    assert_eq!(json(&["--json", "--threshold", "1"]), Value::Null);
    assert_eq!(
        json(&["--json", "--threshold", "1", "--top-k", "2"]),
        json!([])
    );
    assert_eq!(
        json(&["--json", "--allow", "POSITIVE"])["label"],
        "POSITIVE"
    );
    assert_eq!(json(&["--json", "--deny", "NEGATIVE"])["label"], "POSITIVE");
    let both = json(&[
        "--json", "--allow", "POSITIVE", "--allow", "NEGATIVE", "--top-k", "5",
    ]);
    assert_eq!(labels(both.as_array().unwrap()), ["NEGATIVE", "POSITIVE"]);
    let readable = classify(&["--threshold", "1"]).succeeded();
    assert!(readable.out.starts_with("(none) "), "{readable:?}");
    let known = &["\"FINE\"", "NEGATIVE, POSITIVE"];
    classify(&["--allow", "FINE"]).failed(1, known);
    classify(&["--deny", "FINE"]).failed(1, known);
}

#[test]
fn texts_of_any_length_have_an_answer() {
    let long = "good ".repeat(200_000);
    let run = filbert_reading(&["classify", model(), "--json"], &long).succeeded();
    assert_eq!(labels(&run.json()), ["POSITIVE"]);
    assert!(
        run.err.contains("1 of 1 texts cut to the 512 tokens"),
        "{run:?}"
    );

    let input = format!("{BAD}\n{long}\n{GOOD}\n");
    let refuse = ["classify", model(), "--json", "--truncation", "refuse"];
    let run = filbert_reading(&refuse, input);
    let run = run.failed(1, &["line 2: has 200002 tokens", "512", "--truncation"]);
    assert_eq!(labels(&run.json()), ["NEGATIVE"]);

    // Exactly as long as the model takes, with its two special tokens, and one token more.
    for (words, code) in [(510, 0), (511, 1)] {
        let text = "good ".repeat(words);
        let run = filbert(&["classify", model(), "--truncation", "refuse", &text]);
        assert_eq!(run.code, code, "{words}");
    }
}

#[test]
fn the_text_that_may_be_cut_is_cut() {
    let long = "good ".repeat(600);
    let classify = |strategy, first, second| {
        let pair = ["classify", model(), "--pair", "--truncation", strategy];
        filbert(&[&pair[..], &[first, second]].concat())
    };
    for strategy in ["longest_first", "only_first"] {
        let run = classify(strategy, &long, GOOD).succeeded();
        assert!(run.err.contains("1 of 1 texts cut"), "{run:?}");
    }
    classify("only_second", GOOD, &long).succeeded();
    let words = |counted| ["text 1: has ", counted, "takes 512", "longest_first"];
    classify("only_second", &long, GOOD).failed(1, &words("first has 600"));
    classify("only_first", GOOD, &long).failed(1, &words("second has 600"));
    classify("refuse", GOOD, &long).failed(1, &words("let it be truncated"));
    let one = ["classify", model(), "--truncation", "only_second", &long];
    filbert(&one).failed(1, &words("no second text"));
    let one = ["classify", model(), "--truncation", "only_first", &long];
    filbert(&one).succeeded();
    let wrong = ["classify", model(), "--truncation", "longest", GOOD];
    let run = filbert(&wrong);
    let names = "longest_first, only_first, only_second, refuse";
    assert!(run.code == 2 && run.err.contains(names), "{run:?}");
}

#[test]
fn readable_answers_are_one_line_each() {
    let text = "first\nsecond\t\u{1b}[31mred";
    let run = filbert(&["classify", model(), "--top-k", "2", text]).succeeded();
    assert_eq!(run.out.lines().count(), 1, "{run:?}");
    assert!(run.out.ends_with("first second [31mred\n"), "{run:?}");
    assert!(
        run.out.contains("POSITIVE") && run.out.contains("NEGATIVE"),
        "{run:?}"
    );
}

#[test]
fn verbose_tells_kernels_tokens_and_time() {
    let run = filbert(&["classify", model(), "-v", "--json", "Good."]).succeeded();
    assert_eq!(run.json().len(), 1);
    for part in [
        " kernels, threads: 1",
        "texts: 1, tokens: 4, ",
        " ms, ",
        " texts/s",
    ] {
        assert!(run.err.contains(part), "{run:?}");
    }
    let scalar = command(&["classify", model(), "-v", "--json", "Good."])
        .env("FILBERT_ISA", "scalar")
        .output()
        .unwrap();
    let scalar = finish(scalar).succeeded();
    assert!(scalar.err.contains("scalar kernels"), "{scalar:?}");
    assert_eq!(scalar.out, run.out);
}

#[test]
fn other_problems_have_their_own_answers() {
    let folder = Folder::new();
    let several = SyntheticCheckpoint {
        problem: Problem::MultiLabel,
        labels: 5,
        ..SyntheticCheckpoint::default()
    };
    let several = synthetic(&folder, "several", &several);
    let classify = |checkpoint: &str, options: &[&str]| {
        let run = filbert(&[&["classify", checkpoint, "--json"], options, &["word1"]].concat());
        run.succeeded().json().remove(0)
    };
    let scores = |answer: &Value| -> Vec<f64> {
        let categories = answer.as_array().unwrap();
        categories
            .iter()
            .map(|c| c["score"].as_f64().unwrap())
            .collect()
    };
    let all = scores(&classify(&several, &["--threshold", "0"]));
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted_by(|a, b| a >= b) && all.iter().all(|s| (0.0..=1.0).contains(s)));
    let likely = scores(&classify(&several, &[]));
    assert_eq!(
        likely,
        all.iter()
            .copied()
            .filter(|&s| s >= 0.5)
            .collect::<Vec<_>>()
    );
    assert_eq!(scores(&classify(&several, &["--top-k", "2"])), all[..2]);

    let number = SyntheticCheckpoint {
        architecture: Architecture::DistilBert,
        problem: Problem::Regression,
        labels: 1,
        ..SyntheticCheckpoint::default()
    };
    let number = synthetic(&folder, "number", &number);
    assert!(classify(&number, &[])["score"].is_f64());
    let run = filbert(&["classify", &number, "word1"]).succeeded();
    assert!(
        !run.out.contains('%') && run.out.starts_with("label 0"),
        "{run:?}"
    );

    // Neither has an accuracy.
    let tsv = folder.write("own.tsv", "text\tlabel\nword1\tlabel 0\n");
    for checkpoint in [several, number] {
        filbert(&["eval", &checkpoint, &tsv]).failed(1, &["exactly one label", "problem_type"]);
        let file = folder.path("none.filbert");
        filbert(&["convert", &checkpoint, "-o", &file, "--eval", &tsv])
            .failed(1, &["problem_type"]);
        assert!(!Path::new(&file).exists());
    }
}

#[cfg(unix)]
#[test]
fn closed_output_ends_quietly() {
    let input = format!("{GOOD}\n").repeat(50_000);
    let mut child = command(&["classify", model()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut first = [0; 8];
    let mut stdout = child.stdout.take().unwrap();
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"POSITIVE");
    drop(stdout);
    let run = finish(child.wait_with_output().unwrap()).succeeded();
    assert_eq!(run.err, "");
    writer.join().unwrap();
}

// Models that cannot be opened.

#[test]
fn unusable_models_are_errors_that_name_them() {
    let folder = Folder::new();
    let whole = fs::read(model()).unwrap();
    let missing = folder.path("missing.filbert");
    let empty = folder.write("empty.filbert", "");
    let text = folder.write("text.filbert", "not a model");
    let half = folder.write("half.filbert", &whole[..whole.len() / 2]);
    let long = folder.write("long.filbert", [&whole[..], b"x"].concat());
    let mut corrupt = whole.clone();
    corrupt[40] ^= 1;
    let corrupt = folder.write("corrupt.filbert", corrupt);
    for path in [&missing, &empty, &text, &half, &long, &corrupt] {
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        for name_of_command in ["inspect", "verify", "selftest"] {
            filbert(&[name_of_command, path]).failed(1, &[name]);
        }
        let run = filbert(&["classify", path, GOOD]).failed(1, &[name]);
        assert_eq!(run.out, "");
    }

    // A folder that is no checkpoint, and a checkpoint where a file is expected.
    let no_config = folder.path("");
    filbert(&["classify", &no_config, GOOD]).failed(1, &["config.json"]);
    filbert(&["convert", &no_config, "-o", &missing]).failed(1, &["config.json"]);
    for name in ["inspect", "verify", "selftest"] {
        filbert(&[name, CHECKPOINT]).failed(1, &["tiny-sst2", "filbert convert"]);
    }
}

#[test]
fn verify_finds_a_flipped_weight() {
    let folder = Folder::new();
    let whole = fs::read(model()).unwrap();
    let run = filbert(&["verify", model()]).succeeded();
    assert!(run.out.contains("all 8 sections match"), "{run:?}");

    let description = filbert(&["inspect", "--json", model()])
        .succeeded()
        .json()
        .remove(0);
    let sections = description["sections"].as_array().unwrap();
    let weights = sections.iter().find(|s| s["name"] == "weights").unwrap();
    let mut flipped = whole;
    flipped[weights["offset"].as_u64().unwrap() as usize + 1000] ^= 4;
    let flipped = folder.write("flipped.filbert", flipped);
    filbert(&["inspect", &flipped]).succeeded();
    filbert(&["verify", &flipped]).failed(1, &["flipped.filbert", "weights"]);
}

#[test]
fn selftest_reproduces_the_logits() {
    let run = filbert(&["selftest", model()]).succeeded();
    assert!(run.out.contains("to the bit"), "{run:?}");
    let unknown = command(&["selftest", model()])
        .env("FILBERT_ISA", "abacus")
        .output()
        .unwrap();
    finish(unknown).failed(1, &["FILBERT_ISA", "abacus", "scalar"]);
}

/// The kernel sets of this CPU, as the refusal of another one lists them.
fn kernel_sets() -> Vec<String> {
    let mut command = command(&["selftest", model()]);
    let run = finish(command.env("FILBERT_ISA", "abacus").output().unwrap());
    let (_, list) = run.err.trim_end().split_once("it has ").unwrap();
    list.split(", ").map(str::to_owned).collect()
}

/// The fingerprint of the logits of a file of texts, and the line that it is on.
#[track_caller]
fn fingerprint(kernels: &str, texts: &str, more: &[&str]) -> (String, String) {
    let mut command = command(&[&["selftest", model(), "--texts", texts], more].concat());
    let run = finish(command.env("FILBERT_ISA", kernels).output().unwrap()).succeeded();
    let line = run.out.lines().nth(1).unwrap_or_default();
    let (_, rest) = line.split_once(" the fingerprint ").unwrap();
    let fingerprint = &rest[..16];
    assert!(fingerprint.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
    (fingerprint.to_owned(), line.to_owned())
}

#[test]
fn selftest_gives_texts_one_fingerprint_on_all_kernels_and_threads() {
    let folder = Folder::new();
    let long = "a film of many words ".repeat(40);
    let texts = folder.write(
        "texts.txt",
        format!("{GOOD}\r\n{BAD}\n\n{GOOD}\t{BAD}\n{long}\nnaïve 映画\nx\ny\nz\n"),
    );
    let (expected, line) = fingerprint("scalar", &texts, &[]);
    let end = ": the scalar kernels give the logits of 9 texts the fingerprint ";
    assert!(line.ends_with(&format!("{end}{expected}")), "{line}");
    let sets = kernel_sets();
    assert!(sets.contains(&"scalar".to_owned()), "{sets:?}");
    for kernels in &sets {
        let (found, line) = fingerprint(kernels, &texts, &["--threads", "1,2,3,8"]);
        assert_eq!(found, expected, "{line}");
        assert!(line.contains(&format!("the {kernels} kernels")), "{line}");
        let end = ", alone, together and in another order, on 1, 2, 3 and 8 threads";
        assert!(line.ends_with(end), "{line}");
    }

    // Other texts, and the same in another order, have others.
    let of = |texts: String| {
        let texts = folder.write("other.txt", texts);
        fingerprint("scalar", &texts, &[]).0
    };
    let two = of(format!("{GOOD}\n{BAD}\n"));
    assert_ne!(two, of(format!("{GOOD}\n{GOOD}\n")));
    assert_ne!(two, of(format!("{BAD}\n{GOOD}\n")));
    assert_eq!(two, of(format!("{GOOD}\n{BAD}")));
    let one = folder.write("one.txt", GOOD);
    let (_, line) = fingerprint("scalar", &one, &["--threads", "1"]);
    assert!(line.contains("of 1 text the"), "{line}");
    assert!(line.ends_with("on 1 thread"), "{line}");
}

#[test]
fn selftest_refuses_texts_that_it_cannot_read() {
    let folder = Folder::new();
    let selftest = |texts: &str, more: &[&str]| {
        filbert(&[&["selftest", model(), "--texts", texts], more].concat())
    };
    let cases: [(&[u8], &[&str]); 3] = [
        (b"", &["bad.txt", "empty", "one text a line"]),
        (b"a\n\xff\n", &["bad.txt", "line 2, byte 1", "UTF-8"]),
        (b"a\nb\tc\nd\te\tf\n", &["bad.txt", "line 3", "2 tabs"]),
    ];
    for (contents, parts) in cases {
        let bad = folder.write("bad.txt", contents);
        let run = selftest(&bad, &[]).failed(1, parts);
        assert_eq!(run.out, "");
    }
    selftest(&folder.path("missing.txt"), &[]).failed(1, &["missing.txt"]);
    let texts = folder.write("texts.txt", GOOD);
    selftest(&texts, &["--threads", "5000"]).failed(1, &["threads", "1024"]);
    for usage in [
        &["selftest", model(), "--threads", "1"][..],
        &["selftest", model(), "--texts", &texts, "--threads", "0"],
    ] {
        assert_eq!(filbert(usage).code, 2);
    }
}

#[test]
fn inspect_describes_the_file() {
    let run = filbert(&["inspect", model()]).succeeded();
    for part in [
        "hidden              128",
        "NEGATIVE",
        "weights",
        "kernels",
        "none in the file",
    ] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    let description = filbert(&["inspect", "--json", model()])
        .succeeded()
        .json()
        .remove(0);
    assert_eq!(description["shape"]["layers"], 3);
    assert_eq!(description["labels"], json!(["NEGATIVE", "POSITIVE"]));
    assert_eq!(description["problem"], "single_label_classification");
    assert_eq!(
        description["file_length"],
        fs::metadata(model()).unwrap().len()
    );
    assert_eq!(
        description["provenance"]["architecture"],
        "BertForSequenceClassification"
    );
    assert_eq!(description["accuracy"], Value::Null);
}

#[test]
fn inspect_has_no_heading_for_labels_that_are_not_there() {
    let folder = Folder::new();
    let file = folder.path("embeddings.filbert");
    let checkpoint = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/bert-embeddings"
    );
    filbert(&["convert", checkpoint, "-o", &file]).succeeded();
    let headings = |file: &str| {
        let out = filbert(&["inspect", file]).succeeded().out;
        out.lines().filter(|line| *line == "labels").count()
    };
    assert_eq!([headings(model()), headings(&file)], [1, 0]);
}

// Convert.

#[test]
fn conversion_writes_the_same_bytes_again() {
    let folder = Folder::new();
    let [file, onnx, int8] = ["a.filbert", "a.onnx", "a-int8.onnx"].map(|n| folder.path(n));
    let arguments = [
        "convert",
        CHECKPOINT,
        "-o",
        &file,
        "--onnx",
        &onnx,
        "--onnx-int8",
        &int8,
    ];
    let run = filbert(&arguments).succeeded();
    assert_eq!(run.out.lines().count(), 3, "{run:?}");
    assert_eq!(run.err, "", "no progress where nobody sees it");
    assert_eq!(folder.names(), ["a-int8.onnx", "a.filbert", "a.onnx"]);
    let first = [&file, &onnx, &int8].map(|path| fs::read(path).unwrap());
    assert!(first[0] == fs::read(model()).unwrap());
    filbert(&arguments).succeeded();
    assert!(first == [&file, &onnx, &int8].map(|path| fs::read(path).unwrap()));
    assert!(first[0].len() < first[1].len() / 3);

    let only = folder.path("only.onnx");
    filbert(&["convert", CHECKPOINT, "--onnx", &only]).succeeded();
    assert!(first[1] == fs::read(&only).unwrap());
}

/// Texts for calibration, of our own.
const CALIBRATION: &str = "text\tlabel
the film is warm and slow\tPOSITIVE
this comedy is dull, but never cold\tPOSITIVE
her acting is flat though the script is clever\tNEGATIVE
the ending is a mess\tNEGATIVE
a gorgeous, witty story\tPOSITIVE
the script is thin while the songs are grand\tPOSITIVE
";

#[test]
fn products_that_move_the_answers_most_are_kept_in_16_bits() {
    let folder = Folder::new();
    let texts = folder.write("texts.tsv", CALIBRATION);
    let files = ["a.filbert", "b.filbert", "none.filbert"].map(|name| folder.path(name));
    let convert = |file: &str, count: &str| {
        let arguments = ["convert", CHECKPOINT, "-o", file, "--calibrate", &texts];
        filbert(&[&arguments[..], &["--fine-products", count]].concat()).succeeded()
    };
    for file in &files[..2] {
        let run = convert(file, "3");
        assert!(run.out.contains("moves the answers"), "{run:?}");
        assert_eq!(run.out.matches(": in 16 bits").count(), 3, "{run:?}");
        assert_eq!(run.err, "");
    }
    let run = convert(&files[2], "0");
    assert!(run.out.contains("moves the answers"), "{run:?}");
    assert!(!run.out.contains("16 bits"), "{run:?}");

    let bytes = files.each_ref().map(|file| fs::read(file).unwrap());
    assert!(bytes[0] == bytes[1]);
    assert!(bytes[0].len() > bytes[2].len());
    filbert(&["verify", &files[0]]).succeeded();
    filbert(&["selftest", &files[0]]).succeeded();
    let inspected = filbert(&["inspect", &files[0], "--json"]).succeeded();
    let inspected: Value = serde_json::from_str(&inspected.out).unwrap();
    let products = inspected["provenance"]["sensitivities"].as_array().unwrap();
    let bits: Vec<_> = products.iter().map(|p| p["bits"].as_u64()).collect();
    assert_eq!(bits.len(), 12);
    assert!(bits[..3].iter().all(|&bits| bits == Some(16)), "{bits:?}");
    assert!(bits[3..].iter().all(|&bits| bits == Some(8)), "{bits:?}");

    let arguments = [
        "convert",
        CHECKPOINT,
        "-o",
        &files[0],
        "--calibrate",
        &texts,
    ];
    filbert(&[&arguments[..], &["--fine-products", "13"]].concat())
        .failed(1, &["13 products in 16 bits", "have 12"]);

    // A model that fills in words answers nothing where there is no word to fill in.
    let masked = format!("{FIXTURES}/bert-masked");
    let arguments = ["convert", &masked, "-o", &files[0], "--calibrate", &texts];
    filbert(&[&arguments[..], &["--fine-products", "1"]].concat())
        .failed(1, &["no mask token", "put one"]);

    let run = filbert(&[
        "convert",
        CHECKPOINT,
        "-o",
        &files[0],
        "--fine-products",
        "3",
    ]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("--calibrate"), "{run:?}");
}

/// Texts on the border, of our own, with the labels that float32 gives them.
const BORDER: &str = "text\tlabel
the film is lively while dull\tNEGATIVE
the story is lively and dull\tNEGATIVE
the story is lively while dull\tNEGATIVE
the script is tender but messy\tNEGATIVE
";

#[cfg(feature = "onnx")]
#[test]
fn a_limit_that_8_bits_pass_is_met_with_16() {
    let folder = Folder::new();
    let texts = folder.write("texts.tsv", CALIBRATION);
    let border = folder.write("border.tsv", BORDER);
    let file = folder.path("model.filbert");
    let convert = |more: &[&str]| {
        let arguments = ["convert", CHECKPOINT, "-o", &file, "--calibrate", &texts];
        filbert(&[&arguments[..], &["--eval", &border], more].concat())
    };
    let without_limit = convert(&[]).succeeded();
    assert!(
        without_limit.out.contains("points lost"),
        "{without_limit:?}"
    );

    let run = convert(&["--max-drop", "0"]).succeeded();
    assert!(run.err.contains("products in 16 bits now: 1\n"), "{run:?}");
    assert!(run.out.contains(": in 16 bits"), "{run:?}");
    assert!(run.out.contains("none lost"), "{run:?}");
    let model = Model::open(&file).unwrap();
    let accuracy = String::from_utf8_lossy(model.accuracy());
    assert!(accuracy.contains("\"accuracy_drop\":0.0"), "{accuracy}");
    filbert(&["selftest", &file]).succeeded();

    // No model wins a hundred points; it is refused once all twelve are in 16 bits.
    fs::remove_file(&file).unwrap();
    let run = convert(&["--max-drop", "-100"]);
    let run = run.failed(3, &["nothing written"]);
    assert!(run.err.contains("products in 16 bits now: 12\n"), "{run:?}");
    assert!(!Path::new(&file).exists());
}

#[test]
fn calibration_writes_another_file_which_is_the_same_each_time() {
    let folder = Folder::new();
    let mut texts = String::from("text\tlabel\n");
    for number in 0..60 {
        let words = [
            "fine",
            "dull",
            "warm and witty",
            "slow",
            "a little too long",
            "grand",
        ];
        let (a, b) = (words[number % 6], words[number / 6 % 6]);
        texts += &format!("the film is {a}, and its end is {b}\tPOSITIVE\n");
    }
    let texts = folder.write("texts.tsv", &texts);
    let files = ["a.filbert", "b.filbert"].map(|name| folder.path(name));
    for file in &files {
        let run = filbert(&["convert", CHECKPOINT, "-o", file, "--calibrate", &texts]).succeeded();
        assert!(run.out.contains("largest errors of products"), "{run:?}");
        assert_eq!(run.out.matches(".weight").count(), 5, "{run:?}");
        assert_eq!(run.err, "");
    }
    let bytes = files.each_ref().map(|file| fs::read(file).unwrap());
    assert!(bytes[0] == bytes[1]);
    assert!(bytes[0] != fs::read(model()).unwrap());
    filbert(&["verify", &files[0]]).succeeded();
    filbert(&["selftest", &files[0]]).succeeded();
    let inspected = filbert(&["inspect", &files[0]]).succeeded();
    assert!(
        inspected.out.contains("calibrated_products"),
        "{inspected:?}"
    );

    let page = folder.path("page.html");
    let measured = ["--eval", &texts, "--report", &page, "--fine-products", "0"];
    let calibrated = [
        "convert",
        CHECKPOINT,
        "-o",
        &files[0],
        "--calibrate",
        &texts,
    ];
    filbert(&[&calibrated[..], &measured[..]].concat()).succeeded();
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("Products that move the answers most"));
    assert_eq!(html.matches("<td>8 bits</td>").count(), 12);
    assert!(
        html.contains("<h2>Products whose outputs suffer most</h2>"),
        "{html}"
    );

    let absent = folder.path("absent.tsv");
    let kept = folder.write("kept.filbert", "as before");
    filbert(&["convert", CHECKPOINT, "-o", &kept, "--calibrate", &absent])
        .failed(1, &["absent.tsv"]);
    assert_eq!(fs::read(&kept).unwrap(), b"as before");
}

#[test]
fn failed_conversion_leaves_the_target_untouched() {
    let folder = Folder::new();
    let checkpoint = synthetic(&folder, "hostile", &SyntheticCheckpoint::default());
    let weights = Path::new(&checkpoint).join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    // The last value of the last tensor: found only after most of the work.
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    let kept = folder.write("kept.filbert", "as before");
    let kept_onnx = folder.write("kept.onnx", "as before");
    filbert(&["convert", &checkpoint, "-o", &kept, "--onnx", &kept_onnx])
        .failed(1, &["model.safetensors", "NaN"]);
    filbert(&["convert", &checkpoint, "--onnx", &kept_onnx]).failed(1, &["NaN"]);
    let absent = folder.path("absent.filbert");
    filbert(&["convert", &checkpoint, "-o", &absent]).failed(1, &["NaN"]);
    assert_eq!(folder.names(), ["hostile", "kept.filbert", "kept.onnx"]);
    assert_eq!(fs::read(&kept).unwrap(), b"as before");
    assert_eq!(fs::read(&kept_onnx).unwrap(), b"as before");
}

#[test]
fn unwritable_targets_are_errors() {
    let folder = Folder::new();
    let inside_nothing = folder.path("missing/model.filbert");
    filbert(&["convert", CHECKPOINT, "-o", &inside_nothing])
        .failed(1, &["missing/model.filbert", "cannot write to its folder"]);
    let file = folder.write("file", "");
    filbert(&[
        "convert",
        CHECKPOINT,
        "-o",
        &format!("{file}/model.filbert"),
    ])
    .failed(1, &["file/model.filbert"]);
    filbert(&["convert", CHECKPOINT, "-o", &folder.path("")]).failed(1, &["is a folder"]);
    let same = folder.path("same");
    filbert(&["convert", CHECKPOINT, "-o", &same, "--onnx", &same]).failed(1, &["two outputs"]);
    if cfg!(unix) {
        filbert(&["convert", CHECKPOINT, "-o", "/dev/null"]).failed(1, &["not a regular file"]);
    }
    assert_eq!(folder.names(), ["file"]);
}

// Evaluation.

const OWN_TSV: &str = "text\tlabel
A gorgeous, witty film that earns every laugh.\tPOSITIVE
The plot is a mess and the acting is worse.\tNEGATIVE
Not bad at all!\tPOSITIVE
not good\tNEGATIVE
Good.\tPOSITIVE
bad\tNEGATIVE
Works exactly as described. Five stars!\tPOSITIVE
I wanted to like it. I really did.\tNEGATIVE
";

#[test]
fn evaluation_measures_the_model_and_the_cost_of_int8() {
    let folder = Folder::new();
    let tsv = folder.write("own.tsv", OWN_TSV);
    let run = filbert(&["eval", model(), &tsv, "--json", "--reference", CHECKPOINT]).succeeded();
    let json = run.json().remove(0);
    // The model takes "Not bad at all!" for a complaint, in float32 too.
    assert_eq!(json["count"], 8);
    assert_eq!(json["accuracy"], 0.875);
    assert_eq!(json["reference_accuracy"], 0.875);
    assert_eq!(json["accuracy_drop"], 0.0);
    assert_eq!(json["agreement"], 1.0);
    let figure = |name: &str| json[name].as_f64().unwrap();
    assert!((1e-5..0.05).contains(&figure("mean_abs_diff")), "{json}");
    assert!(
        (figure("mean_abs_diff")..0.2).contains(&figure("max_abs_diff")),
        "{json}"
    );
    assert!(figure("texts_per_second") > 0.0);
    let negative = &json["per_class"][0];
    assert_eq!(negative["label"], "NEGATIVE");
    assert_eq!(negative["support"], 4);
    assert_eq!(negative["precision"], 0.8);
    assert_eq!(negative["recall"], 1.0);
    assert_eq!(json["per_class"][1]["recall"], 0.75);

    let alone = filbert(&["eval", CHECKPOINT, &tsv, "--json", "--threads", "2"]).succeeded();
    let alone = alone.json().remove(0);
    assert_eq!(alone["accuracy"], 0.875);
    for name in [
        "agreement",
        "max_abs_diff",
        "mean_abs_diff",
        "reference_accuracy",
    ] {
        assert_eq!(alone[name], Value::Null);
    }

    let run = filbert(&["eval", model(), &tsv, "--reference", CHECKPOINT]).succeeded();
    for part in [
        "87.50 % of 8 texts",
        "agreement   100.00 %",
        "texts/s",
        "precision",
        "NEGATIVE",
    ] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
}

#[test]
fn evaluation_takes_pairs() {
    let folder = Folder::new();
    let checkpoint = synthetic(&folder, "pair", &SyntheticCheckpoint::default());
    let tsv = folder.write(
        "pairs.tsv",
        "text_a\ttext_b\tlabel\nword1\tword2 word3\tlabel 0\n\tword1\tlabel 1\n",
    );
    let arguments = [
        "eval",
        &checkpoint,
        &tsv,
        "--json",
        "--reference",
        &checkpoint,
    ];
    let json = filbert(&arguments).succeeded().json().remove(0);
    assert_eq!(json["count"], 2);
    assert!(json["max_abs_diff"].as_f64().unwrap() < 0.2, "{json}");

    let other = SyntheticCheckpoint {
        labels: 3,
        ..SyntheticCheckpoint::default()
    };
    let other = synthetic(&folder, "other", &other);
    filbert(&["eval", &checkpoint, &tsv, "--reference", &other])
        .failed(1, &["other", "label 2", "missing"]);
}

#[test]
fn bad_data_sets_are_errors_that_name_file_and_line() {
    let folder = Folder::new();
    let cases: [(&[u8], &[&str]); 6] = [
        (b"", &["empty", "text<TAB>label"]),
        (b"Good.\tPOSITIVE\n", &["line 1", "text<TAB>label"]),
        (b"text\tlabel\n", &["header"]),
        (
            b"text\tlabel\nGood.\tPOSITIVE\nbad\n",
            &["line 3", "found 1"],
        ),
        (
            b"text\tlabel\nGood.\tFINE\n",
            &["line 2", "\"FINE\"", "NEGATIVE, POSITIVE"],
        ),
        (b"text\tlabel\nGo\xFFd.\tPOSITIVE\n", &["line 2", "UTF-8"]),
    ];
    let target = folder.path("none.filbert");
    for (contents, parts) in cases {
        let tsv = folder.write("own.tsv", contents);
        let parts = [parts, &["own.tsv"]].concat();
        filbert(&["eval", model(), &tsv]).failed(1, &parts);
        filbert(&["convert", CHECKPOINT, "-o", &target, "--eval", &tsv]).failed(1, &parts);
    }
    filbert(&["eval", model(), &folder.path("missing.tsv")]).failed(1, &["missing.tsv"]);
    assert_eq!(folder.names(), ["own.tsv"]);
}

#[test]
fn accuracy_report_travels_in_the_file() {
    let folder = Folder::new();
    let tsv = folder.write("own.tsv", OWN_TSV);
    let file = folder.path("measured.filbert");
    let arguments = [
        "convert",
        CHECKPOINT,
        "-o",
        &file,
        "--eval",
        &tsv,
        "--max-drop",
        "0",
    ];
    let run = filbert(&arguments).succeeded();
    assert!(
        run.out.contains("accuracy on own.tsv: 87.50 % in int8"),
        "{run:?}"
    );
    let first = fs::read(&file).unwrap();
    let description = filbert(&["inspect", "--json", &file])
        .succeeded()
        .json()
        .remove(0);
    let report = &description["accuracy"];
    assert_eq!(report["dataset"], "own.tsv");
    assert_eq!(report["accuracy"], 0.875);
    assert_eq!(report["agreement"], 1.0);
    assert!(report.get("texts_per_second").is_none(), "{report}");
    filbert(&["verify", &file]).succeeded();
    filbert(&["selftest", &file]).succeeded();
    filbert(&arguments).succeeded();
    assert!(first == fs::read(&file).unwrap());
}

#[test]
fn passed_limit_is_code_3_and_writes_nothing() {
    let folder = Folder::new();
    let tsv = folder.write("own.tsv", OWN_TSV);
    let kept = folder.write("kept.filbert", "as before");
    let onnx = folder.path("none.onnx");
    let arguments = [
        "convert", CHECKPOINT, "-o", &kept, "--onnx", &onnx, "--eval", &tsv,
    ];
    // Only a model that gained 100 points would do.
    let run = filbert(&[&arguments[..], &["--max-drop", "-100"]].concat());
    let run = run.failed(
        3,
        &[
            "nothing written",
            "0 points",
            "own.tsv",
            "-100",
            "--max-drop",
        ],
    );
    assert!(run.out.contains("accuracy on own.tsv"), "{run:?}");
    assert_eq!(fs::read(&kept).unwrap(), b"as before");
    assert_eq!(folder.names(), ["kept.filbert", "own.tsv"]);
}

/// A small model that tags words, in a folder, and texts with the tags that it gives them.
fn tagged_texts(folder: &Folder, name: &str) -> (String, Vec<(String, Vec<String>)>) {
    let checkpoint = format!("{FIXTURES}/{name}");
    let file = folder.path("tagger.filbert");
    filbert(&["convert", &checkpoint, "-o", &file]).succeeded();
    let model = Model::open(&file).unwrap();
    let classifier = TokenClassifier::new(model, &Options::new()).unwrap();
    let labels: Vec<&str> = classifier.model().labels().collect();
    let texts = [
        "Marta took the train to Oslo , and missed it .",
        "Nobody at the bank knew who had rung .",
        "Two of us went .",
    ];
    let tag = |text: &str| -> Vec<String> {
        let result = classifier.classify(text).unwrap();
        let found: Vec<usize> = result.labels().collect();
        let mut start = 0;
        text.split(' ')
            .map(|word| {
                let token = result
                    .tokens()
                    .iter()
                    .position(|token| token.start == start && token.end > start)
                    .unwrap();
                start += word.len() + 1;
                labels[found[token]].to_owned()
            })
            .collect()
    };
    let tagged = texts.map(|text| (text.to_owned(), tag(text)));
    (file, tagged.to_vec())
}

fn tagged_tsv(texts: &[(String, Vec<String>)]) -> String {
    let lines = texts
        .iter()
        .map(|(text, tags)| format!("{text}\t{}\n", tags.join(" ")));
    format!("text\tlabel\n{}", lines.collect::<String>())
}

#[test]
fn evaluation_takes_the_tags_of_words() {
    let folder = Folder::new();
    let (file, mut texts) = tagged_texts(&folder, "bert-tokens");
    let words: usize = texts.iter().map(|(_, tags)| tags.len()).sum();
    let tsv = folder.write("tags.tsv", tagged_tsv(&texts));
    let json = filbert(&["eval", &file, &tsv, "--json"]).succeeded();
    let json = json.json().remove(0);
    let spans = &json["spans"];
    assert_eq!(
        (&json["count"], &json["accuracy"]),
        (&json!(3), &json!(1.0))
    );
    assert_eq!(
        (&spans["words"], &spans["unseen"]),
        (&json!(words), &json!(0))
    );
    for figure in ["f1", "precision", "recall"] {
        assert_eq!(spans[figure], 1.0, "{json}");
    }
    let support = spans["support"].as_u64().unwrap();
    let kinds: Vec<&Value> = spans["per_type"].as_array().unwrap().iter().collect();
    let names: Vec<&Value> = kinds.iter().map(|kind| &kind["label"]).collect();
    assert_eq!(names, ["PER", "ORG", "LOC"]);
    let of_kinds = kinds.iter().map(|kind| kind["support"].as_u64().unwrap());
    assert!(support > 0 && of_kinds.sum::<u64>() == support, "{json}");
    assert_eq!(json["agreement"], Value::Null);
    assert_eq!(spans["reference_f1"], Value::Null);

    // If no word of the texts is to be tagged, every span found is wrong.
    for (_, tags) in &mut texts {
        tags.fill("O".to_owned());
    }
    let none = folder.write("none.tsv", tagged_tsv(&texts));
    let json = filbert(&["eval", &file, &none, "--json"]).succeeded();
    let json = json.json().remove(0);
    assert_eq!(json["spans"]["f1"], 0.0);
    assert_eq!(json["spans"]["support"], 0);
    assert!(json["accuracy"].as_f64().unwrap() < 1.0, "{json}");

    let checkpoint = format!("{FIXTURES}/bert-tokens");
    let arguments = ["eval", &file, &tsv, "--reference", &checkpoint];
    let json = filbert(&[&arguments[..], &["--json"]].concat()).succeeded();
    let json = json.json().remove(0);
    let figure = |name: &str| json[name].as_f64().unwrap();
    let flipped = json["flipped"].as_array().unwrap();
    let agreed = words - flipped.len();
    assert!((figure("agreement") - agreed as f64 / words as f64).abs() < 1e-9);
    assert!((1e-5..0.15).contains(&figure("mean_abs_diff")), "{json}");
    assert!(figure("max_abs_diff") > figure("mean_abs_diff"), "{json}");
    // The tags are those of int8, so float32 is right where both agree.
    assert_eq!(json["reference_accuracy"], json["agreement"]);
    let spans = &json["spans"];
    let lost = 100.0 * (spans["reference_f1"].as_f64().unwrap() - 1.0);
    assert!((spans["f1_drop"].as_f64().unwrap() - lost).abs() < 1e-9);
    assert!(flipped.iter().all(|flip| flip["word"].is_u64()), "{json}");

    let run = filbert(&arguments).succeeded();
    let spans = format!("F1 100.00 %, precision 100.00 %, recall 100.00 % of {support}");
    let accuracy = format!("100.00 % of the tags of {words} words");
    for part in [
        &spans,
        &accuracy,
        "float32     F1",
        "texts/s",
        "kind",
        "PER",
    ] {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }

    // Errors name the line and what was expected.
    for (line, parts) in [
        (
            "Oslo is far\tO O",
            &["line 2", "expected 3 tags", "found 2"],
        ),
        ("Oslo is far\tO O B-X", &["line 2", "\"B-X\"", "B-PER"]),
    ] {
        let bad = folder.write("bad.tsv", format!("text\tlabel\n{line}\n"));
        let parts = [&parts[..], &["bad.tsv"]].concat();
        filbert(&["eval", &file, &bad]).failed(1, &parts);
        let target = folder.path("none.filbert");
        filbert(&["convert", &checkpoint, "-o", &target, "--eval", &bad]).failed(1, &parts);
    }
    let pairs = folder.write("pairs.tsv", "text_a\ttext_b\tlabel\na\tb\tO\n");
    filbert(&["eval", &file, &pairs]).failed(1, &["pairs.tsv", "line 1", "text<TAB>label"]);
}

#[test]
fn bytes_of_spaces_belong_to_no_word() {
    let folder = Folder::new();
    let (file, texts) = tagged_texts(&folder, "roberta-tokens");
    let tsv = folder.write("tags.tsv", tagged_tsv(&texts));
    let json = filbert(&["eval", &file, &tsv, "--json"]).succeeded();
    let json = json.json().remove(0);
    assert_eq!(json["accuracy"], 1.0);
    assert_eq!(json["spans"]["unseen"], 0);
}

#[test]
fn words_without_a_token_are_outside_of_every_span() {
    let folder = Folder::new();
    let checkpoint = format!("{FIXTURES}/bert-tokens");
    // The tokenizer drops a zero-width joiner, and the model takes 64 tokens.
    let long = vec!["a"; 100];
    let tags = vec!["B-PER"; 100];
    let lines = format!(
        "text\tlabel\na \u{200D} b\tO B-PER O\n{}\t{}\n",
        long.join(" "),
        tags.join(" ")
    );
    let tsv = folder.write("tags.tsv", lines);
    let run = filbert(&[
        "eval",
        &checkpoint,
        &tsv,
        "--json",
        "--reference",
        &checkpoint,
    ]);
    let run = run.succeeded();
    let json = run.json().remove(0);
    let spans = &json["spans"];
    assert_eq!((&json["count"], &json["truncated"]), (&json!(2), &json!(1)));
    assert_eq!(
        (&spans["words"], &spans["unseen"]),
        (&json!(103), &json!(39))
    );
    // The spans that are not seen are to be found nevertheless.
    assert_eq!(spans["support"], 101);
    let words = json["per_class"].as_array().unwrap().iter();
    assert_eq!(
        words
            .map(|tag| tag["support"].as_u64().unwrap())
            .sum::<u64>(),
        64
    );
    assert!(
        run.err.contains("1 of 2 texts were cut to 64 tokens"),
        "{run:?}"
    );
    let run = filbert(&["eval", &checkpoint, &tsv]).succeeded();
    assert!(run.out.contains("unseen      39 words"), "{run:?}");
}

#[test]
fn conversion_measures_the_tags_of_words() {
    let folder = Folder::new();
    let (_, texts) = tagged_texts(&folder, "bert-tokens");
    let tsv = folder.write("tags.tsv", tagged_tsv(&texts));
    let checkpoint = format!("{FIXTURES}/bert-tokens");
    let (file, page) = (folder.path("measured.filbert"), folder.path("page.html"));
    let arguments = [
        "convert",
        &checkpoint,
        "-o",
        &file,
        "--eval",
        &tsv,
        "--report",
        &page,
        "--max-drop",
    ];
    // Nothing is lost: the tags are those of int8.
    let run = filbert(&[&arguments[..], &["0"]].concat()).succeeded();
    assert!(
        run.out
            .contains("F1 of spans on tags.tsv: 100.00 % in int8"),
        "{run:?}"
    );
    assert!(run.out.contains("words; logits differ"), "{run:?}");
    let description = filbert(&["inspect", "--json", &file]).succeeded().json();
    let report = &description[0]["accuracy"];
    assert_eq!(report["spans"]["f1"], 1.0);
    assert!(report["spans"]["reference_f1"].is_f64(), "{report}");
    let page = fs::read_to_string(&page).unwrap();
    for part in [
        "F1 of spans",
        "Kind by kind",
        "Label by label",
        "Words whose label changed",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // A word is shown in its text.
    let shown = |text: &str| {
        text.split(' ')
            .any(|word| page.contains(&format!("[{word}]")))
    };
    assert!(texts.iter().any(|(text, _)| shown(text)), "{page}");

    let before = fs::read(&file).unwrap();
    let run = filbert(&[&arguments[..], &["-100.5"]].concat());
    run.failed(
        3,
        &["nothing written", "points of F1 on tags.tsv", "-100.5"],
    );
    assert!(before == fs::read(&file).unwrap());
}

// Bench. No test looks at how long anything took: the machine may be busy.

/// A measurement that is short.
fn bench(more: &[&str]) -> Run {
    filbert(&[&["bench", "--seconds", "0.02"], more].concat())
}

/// A short measurement's JSON.
#[track_caller]
fn measured(more: &[&str]) -> Value {
    bench(&[&["--json"], more].concat())
        .succeeded()
        .json()
        .remove(0)
}

#[test]
fn bench_has_the_keys_and_the_order_that_are_promised() {
    let run = bench(&[
        model(),
        "--json",
        "--tokens",
        "24,8",
        "--threads",
        "2,1",
        "--texts",
        "3",
    ])
    .succeeded();
    assert_eq!(run.err, "");
    let keys = [
        "cpu",
        "kernels",
        "peak_gmacs",
        "open_ms",
        "first_ms",
        "private_bytes",
        "runs",
        "tokens",
        "threads",
        "texts",
        "p50_ms",
        "p90_ms",
        "p95_ms",
        "p99_ms",
        "p999_ms",
        "gmacs",
        "peak_share",
    ];
    let places: Vec<_> = keys
        .iter()
        .map(|key| run.out.find(&format!("\"{key}\":")).expect(key))
        .collect();
    assert!(places.is_sorted(), "{}", run.out);

    let record = run.json().remove(0);
    for key in ["peak_gmacs", "open_ms", "first_ms", "process_first_ms"] {
        assert!(record[key].as_f64().is_some_and(|v| v > 0.0), "{key}");
    }
    assert!(record["cpu"].is_string() && record["kernels"].is_string());
    assert_eq!(record["model"]["shape"]["hidden"], 128);
    assert_eq!(record["model"]["name"], "tiny");
    assert!(record.get("profile").is_none() && record.get("comparison").is_none());
    if cfg!(target_os = "linux") {
        assert!(record["private_bytes"].is_u64(), "{record}");
        assert!(record["peak_rss_bytes"].is_u64(), "{record}");
    }
    let runs = record["runs"].as_array().unwrap();
    let order: Vec<_> = runs
        .iter()
        .map(|run| {
            (
                run["tokens"].as_u64().unwrap(),
                run["threads"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(order, [(24, 2), (24, 1), (8, 2), (8, 1)]);
    for run in runs {
        let ms = |key: &str| run[key].as_f64().unwrap();
        assert_eq!(run["texts"], 3);
        assert!(run["samples"].as_u64().unwrap() >= 30);
        assert!(ms("p50_low_ms") > 0.0 && ms("p50_low_ms") <= ms("p50_ms"));
        assert!(ms("p50_ms") <= ms("p50_high_ms"));
        let order = ["p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms"].map(ms);
        assert!(order.is_sorted(), "{run}");
        assert!(ms("gmacs") > 0.0 && ms("peak_share") > 0.0 && ms("tokenize_us") > 0.0);
    }
    let throughput = &record["throughput"];
    assert_eq!(throughput["texts"], 256);
    assert_eq!(throughput["results"].as_array().unwrap().len(), 2);
}

#[test]
fn bench_tells_people_the_same() {
    let folder = Folder::new();
    let corpus = folder.write("own.tsv", OWN_TSV);
    let run = bench(&[
        CHECKPOINT,
        "--tokens",
        "8",
        "--corpus",
        &corpus,
        "--profile",
    ])
    .succeeded();
    for part in [
        "tiny-sst2",
        "layers 3",
        "GMAC/s",
        "open ",
        "p99.9",
        "own.tsv: 8 texts",
        "one by one",
        "profile: 8 tokens, 1 thread",
        "feed forward in",
        "tokenize",
    ] {
        assert!(run.out.contains(part), "{part:?} is not in {}", run.out);
    }
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert!(run.err.contains("converting it in memory"), "{}", run.err);
}

#[test]
fn bench_compares_with_an_earlier_measurement() {
    let folder = Folder::new();
    let arguments = [model(), "--tokens", "8"];
    let record = measured(&arguments);
    let old = folder.write("old.json", record.to_string());
    fn compare(old: &str) -> Vec<&str> {
        vec![model(), "--tokens", "8", "--compare", old]
    }

    let with_itself = measured(&compare(&old));
    let comparison = &with_itself["comparison"];
    assert_eq!(comparison["with"], "old.json");
    assert_eq!(comparison["same_cpu"], true);
    let ratio = |key: &str| comparison["runs"][0][key].as_f64().unwrap();
    assert!(ratio("ratio_low") <= ratio("ratio") && ratio("ratio") <= ratio("ratio_high"));

    // A thousand times is more than any busy machine makes of it.
    for (factor, verdict) in [(1e3, "faster"), (1e-3, "slower")] {
        let mut doctored = record.clone();
        for key in ["p50_ms", "p50_low_ms", "p50_high_ms"] {
            let value = &mut doctored["runs"][0][key];
            *value = json!(value.as_f64().unwrap() * factor);
        }
        let doctored = folder.write("doctored.json", doctored.to_string());
        let run = bench(&compare(&doctored)).succeeded();
        assert!(run.out.contains("against doctored.json"), "{}", run.out);
        assert!(run.out.contains(&format!("  {verdict} ")), "{}", run.out);
    }

    let failed = |name: &str, contents: String, parts: &[&str]| {
        let file = folder.write(name, contents);
        bench(&compare(&file)).failed(1, &[parts, &[name]].concat());
    };
    failed("text.json", "hello".to_owned(), &["filbert bench --json"]);
    failed("other.json", "{\"a\":1}".to_owned(), &["missing field"]);
    let mut other = record.clone();
    other["model"]["shape"]["layers"] = json!(12);
    failed(
        "shape.json",
        other.to_string(),
        &["another model", "layers 12", "layers 3"],
    );
    let mut other = record.clone();
    other["runs"][0]["tokens"] = json!(9);
    failed("runs.json", other.to_string(), &["--tokens"]);
    let mut other = record.clone();
    other["runs"][0]["p50_ms"] = json!(1e9);
    failed("torn.json", other.to_string(), &["p50_low_ms"]);
    bench(&compare(&folder.path("none.json"))).failed(1, &["none.json"]);
}

#[test]
fn bench_reports_on_one_page_that_needs_nothing_else() {
    let folder = Folder::new();
    // Text that would be markup.
    let file = folder.path("<b>&.filbert");
    fs::copy(model(), &file).unwrap();
    let page = folder.path("page.html");
    bench(&[
        &file,
        "--tokens",
        "8,24",
        "--threads",
        "1,2",
        "--report",
        &page,
    ])
    .succeeded();
    let html = fs::read_to_string(&page).unwrap();
    for part in [
        "<!DOCTYPE html>",
        "name=\"viewport\"",
        "prefers-color-scheme",
        "<h1>&lt;b&gt;&amp;</h1>",
        "<polyline",
        "class=\"p99\"",
        "2 threads",
        "feed forward in",
        "</html>",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for part in [
        "http", "src=", "href=", "@import", "url(", "<script", "<b>", "NaN", "inf",
    ] {
        assert!(!html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());

    // A report that cannot be written is refused before anything is measured.
    bench(&[model(), "--report", &folder.path("no/page.html")]).failed(1, &["no/page.html"]);
    // One that fails leaves what was there.
    let before = folder.write("kept.html", "as before");
    bench(&[&folder.path("none.filbert"), "--report", &before]).failed(1, &["none.filbert"]);
    assert_eq!(fs::read(&before).unwrap(), b"as before");
    assert_eq!(folder.names(), ["<b>&.filbert", "kept.html", "page.html"]);
}

#[test]
fn bench_needs_no_model() {
    let record = measured(&["--random", "bert-tiny", "--tokens", "12,512", "--profile"]);
    assert_eq!(record["model"]["shape"]["layers"], 2);
    assert_eq!(record["model"]["shape"]["vocabulary"], 30_522);
    let profiles = record["profile"].as_array().unwrap();
    assert_eq!(profiles.len(), 2);
    let run = &record["runs"][0];
    let sum = |list: &str, key: &str| {
        let parts = profiles[0][list].as_array().unwrap().iter();
        parts.map(|part| part[key].as_f64().unwrap()).sum::<f64>()
    };
    // The runtime and the formula count alike, and the layers add up to the operations.
    assert_eq!(
        sum("layers", "multiplications"),
        run["multiplications"].as_f64().unwrap()
    );
    assert_eq!(
        sum("operations", "multiplications"),
        sum("layers", "multiplications")
    );
    assert!((sum("operations", "share") - 1.0).abs() < 1e-2);

    bench(&["--random", "gpt-2"]).failed(2, &["gpt-2", "bert-base", "minilm-l6"]);
}

#[cfg(target_os = "linux")]
#[test]
fn bench_stays_on_the_cpus_it_is_told() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap()
        .trim();
    let first = allowed.split([',', '-']).next().unwrap();
    let record = measured(&[model(), "--tokens", "8", "--cpus", first]);
    assert_eq!(record["cpus"][0].to_string(), first);
    bench(&[model(), "--cpus", "1023"]).failed(2, &["1023", "it may use"]);
}

#[test]
fn bench_refuses_lengths_and_texts_that_it_cannot_measure() {
    let folder = Folder::new();
    let limit = bench(&[model(), "--tokens", "16,513"]);
    limit.failed(2, &["513", "2 to 512"]);
    let empty = folder.write("empty.txt", "\n\n");
    bench(&[model(), "--corpus", &empty]).failed(1, &["empty.txt", "no text"]);
    let bytes = folder.write("bytes.txt", b"fine\nno\xFF\n");
    bench(&[model(), "--corpus", &bytes]).failed(1, &["bytes.txt", "line 2", "UTF-8"]);
}

#[test]
fn bench_takes_models_of_every_task() {
    let folder = Folder::new();
    for (name, task, answer) in [
        ("bert-tokens", "token classification", "logits"),
        ("bert-answers", "question answering", "logits"),
        ("bert-embeddings", "embedding", "vector"),
        ("bert-masked", "masked words", "last layer"),
    ] {
        let file = folder.path(&format!("{name}.filbert"));
        filbert(&["convert", &format!("{FIXTURES}/{name}"), "-o", &file]).succeeded();
        let run = bench(&[&file, "--tokens", "12", "--profile"]).succeeded();
        let title = format!("from text to {answer}, ms");
        assert!(run.out.contains(&title), "{name}: {}", run.out);

        let json = measured(&[&file, "--tokens", "12", "--threads", "1,2"]);
        assert_eq!(json["model"]["shape"]["task"], task);
        let runs = json["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2, "{json}");
        for run in runs {
            assert!(run["p50_ms"].as_f64().unwrap() > 0.0, "{json}");
            assert!(run["gmacs"].as_f64().unwrap() > 0.0, "{json}");
        }
        assert!(json["first_ms"].as_f64().unwrap() > 0.0, "{json}");
        let rates = &json["throughput"]["results"];
        assert_eq!(rates.as_array().unwrap().len(), 2, "{json}");

        // Another head is another model, whatever the numbers are.
        let earlier = folder.write("earlier.json", json.to_string());
        bench(&[model(), "--tokens", "12", "--compare", &earlier])
            .failed(1, &["measured another model", task, "classification"]);
    }
}
