//! Each family and each head against PyTorch, on the small random checkpoints of `fixtures/`.
//!
//! Their weights are far wider than those of a trained model, so int8 costs them more.

use std::path::PathBuf;

use filbert::{
    Classifier, Embedder, Input, Model, Options, QuestionAnswerer, Runner, TokenClassifier,
    WordFiller,
};
use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::reference::Reference;
use filbert_tests::shared::repository;
use serde_json::Value;

/// Largest difference of the float32 reference's values from PyTorch's.
const FLOAT32: f32 = 2e-4;

/// A checkpoint, converted, and PyTorch's answers.
struct Fixture {
    name: &'static str,
    checkpoint: Checkpoint,
    bytes: Vec<u8>,
    golden: Vec<Value>,
}

impl Fixture {
    fn open(name: &'static str) -> Self {
        let folder = folder(name);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let package = Package::build(&checkpoint, &mut Quiet).unwrap();
        let golden = std::fs::read_to_string(folder.join("golden.jsonl")).unwrap();
        let golden = golden
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        Self {
            name,
            checkpoint,
            bytes: package.into_bytes(),
            golden: golden.collect(),
        }
    }

    fn model(&self) -> Model {
        Model::from_bytes(&self.bytes).unwrap()
    }

    /// Checks the tokens, the float32 reference and the self-test; returns how far the values of
    /// the runtime lie from PyTorch's on average, which `values` takes from a golden line.
    fn check(&self, values: impl Fn(&Value) -> Vec<f32>) -> f64 {
        let runner = Runner::new(self.model(), &Options::new()).unwrap();
        assert_eq!(runner.self_test().unwrap(), 7, "{}", self.name);
        let reference = Reference::new(&self.checkpoint).unwrap();
        let (mut sum, mut count) = (0.0, 0);
        // A text that is read in windows has no tokens and logits of its own.
        for line in self
            .golden
            .iter()
            .filter(|line| line["input_ids"].is_array())
        {
            let input = input(line);
            let tokens = runner.tokenize(input).unwrap();
            let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
            assert_eq!(
                ids,
                numbers::<u32>(&line["input_ids"]),
                "{}: {line}",
                self.name
            );
            let types: Vec<u8> = tokens.iter().map(|token| token.token_type).collect();
            let expected = values(line);
            let float32 = reference.logits(&ids, &types).unwrap();
            assert_eq!(float32.len(), expected.len(), "{}", self.name);
            for (x, y) in float32.iter().zip(&expected) {
                assert!(
                    (x - y).abs() <= FLOAT32,
                    "{}: {x} and {y}: {line}",
                    self.name
                );
            }
            let output = runner.run(&[input]).unwrap().remove(0);
            assert_eq!(output.values.len(), expected.len(), "{}", self.name);
            for (x, y) in output.values.iter().zip(&expected) {
                sum += f64::from((x - y).abs());
                count += 1;
            }
        }
        let mean = sum / f64::from(count);
        println!("{}: values differ by {mean:.4} on average", self.name);
        mean
    }
}

fn folder(name: &str) -> PathBuf {
    repository().join("tests/fixtures").join(name)
}

/// The text or pair of a golden line.
fn input(line: &Value) -> Input<'_> {
    let text = |names: [&str; 2]| names.into_iter().find_map(|name| line[name].as_str());
    match (text(["text_a", "question"]), text(["text_b", "context"])) {
        (Some(first), Some(second)) => (first, second).into(),
        _ => line["text"].as_str().expect("a text").into(),
    }
}

fn numbers<T: TryFrom<u64, Error: std::fmt::Debug>>(value: &Value) -> Vec<T> {
    let values = value.as_array().unwrap().iter();
    values
        .map(|n| n.as_u64().unwrap().try_into().unwrap())
        .collect()
}

/// The floats of an array, or of an array of arrays.
fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(floats).collect(),
        value => vec![value.as_f64().expect("a number") as f32],
    }
}

#[test]
fn texts_and_pairs_have_pytorchs_logits() {
    for (name, limit) in [
        ("bert-classes", 0.1),
        ("bert-cased-classes", 0.1),
        ("bert-16heads-classes", 0.1),
        ("bert-head26-classes", 0.1),
        ("bert-multilabel", 0.1),
        ("bert-regression", 0.1),
        ("bert-pairs", 0.1),
        ("bert-next", 0.1),
        ("distilbert-classes", 0.1),
        ("roberta-classes", 0.1),
        ("roberta-pairs", 0.1),
    ] {
        let fixture = Fixture::open(name);
        let mean = fixture.check(|line| floats(&line["logits"]));
        assert!(mean <= limit, "{name}: {mean}");
        let classifier = Classifier::new(fixture.model(), &Options::new()).unwrap();
        for line in &fixture.golden {
            let mut results = classifier.classify_batch(&[input(line)]).unwrap();
            let result = results.remove(0);
            let scores = floats(&line["scores"]);
            for category in result.categories() {
                let expected = scores[category.index];
                let close = (category.score - expected).abs() <= 0.2;
                assert!(close, "{name}: {category:?} and {expected}");
            }
        }
    }
}

#[test]
fn next_sentences_are_labelled_in_words() {
    let fixture = Fixture::open("bert-next");
    let model = fixture.model();
    assert_eq!(model.labels().collect::<Vec<_>>(), ["IS_NEXT", "NOT_NEXT"]);
}

#[test]
fn entities_are_those_of_the_pipeline() {
    for name in ["bert-tokens", "distilbert-tokens", "roberta-tokens"] {
        let fixture = Fixture::open(name);
        let mean = fixture.check(|line| floats(&line["logits"]));
        assert!(mean <= 0.15, "{name}: {mean}");
        let classifier = TokenClassifier::new(fixture.model(), &Options::new()).unwrap();
        let labels: Vec<String> = classifier.model().labels().map(str::to_owned).collect();
        let mut compared = 0;
        for line in &fixture.golden {
            let text = line["text"].as_str().unwrap();
            let result = classifier.classify(text).unwrap();
            let found = result.labels().map(|label| labels[label].as_str());
            // A label that int8 has turned makes other entities.
            if !found.eq(line["labels"]
                .as_array()
                .unwrap()
                .iter()
                .map(|l| l.as_str().unwrap()))
            {
                continue;
            }
            compared += 1;
            let entities = classifier.find_entities(text).unwrap();
            let expected = line["entities"].as_array().unwrap();
            assert_eq!(entities.len(), expected.len(), "{name}: {text}");
            for (entity, expected) in entities.iter().zip(expected) {
                assert_eq!(entity.label, expected["entity_group"], "{name}: {text}");
                let range = (entity.characters.start, entity.characters.end);
                let place = |key: &str| expected[key].as_u64().unwrap() as usize;
                assert_eq!(range, (place("start"), place("end")), "{name}: {text}");
                let score = expected["score"].as_f64().unwrap() as f32;
                assert!(
                    (entity.score - score).abs() < 0.2,
                    "{name}: {entity:?}, {score}"
                );
            }
        }
        println!(
            "{name}: entities of {compared} of {} texts",
            fixture.golden.len()
        );
        assert!(2 * compared >= fixture.golden.len(), "{name}: {compared}");
    }
}

#[test]
fn answers_are_those_of_the_pipeline() {
    for name in ["bert-answers", "distilbert-answers", "roberta-answers"] {
        let fixture = Fixture::open(name);
        let logits = |line: &Value| {
            let starts = floats(&line["start_logits"]);
            let ends = floats(&line["end_logits"]);
            starts
                .into_iter()
                .zip(ends)
                .flat_map(|(s, e)| [s, e])
                .collect()
        };
        let mean = fixture.check(logits);
        assert!(mean <= 0.15, "{name}: {mean}");
        let answerer = QuestionAnswerer::new(fixture.model(), &Options::new()).unwrap();
        let mut agreed = 0;
        for line in &fixture.golden {
            let text = |key: &str| line[key].as_str().unwrap();
            let (question, context) = (text("question"), text("context"));
            let answer = answerer.answer(question, context, 1).unwrap().remove(0);
            assert_eq!(&context[answer.bytes.clone()], answer.text);
            let expected = &line["answer"];
            let place = |key: &str| expected[key].as_u64().unwrap() as usize;
            if answer.characters == (place("start")..place("end")) {
                agreed += 1;
                assert_eq!(answer.text, expected["answer"]);
                let score = expected["score"].as_f64().unwrap() as f32;
                assert!(
                    (answer.score / score - 1.0).abs() < 0.5,
                    "{answer:?}, {score}"
                );
            }
            let answers = answerer.answer(question, context, 3).unwrap();
            assert!(answers.len() <= 3 && answers.is_sorted_by(|a, b| a.score >= b.score));
        }
        println!("{name}: {agreed} of {} answers", fixture.golden.len());
        assert!(3 * agreed >= 2 * fixture.golden.len(), "{name}: {agreed}");
    }
}

#[test]
fn vectors_point_where_pytorchs_do() {
    for name in [
        "bert-embeddings",
        "bert-cls-embeddings",
        "bert-encoder",
        "distilbert-embeddings",
        "roberta-embeddings",
    ] {
        let fixture = Fixture::open(name);
        // A plain encoder is pooled by the mean.
        let values = |line: &Value| match &line["embedding"] {
            Value::Null => floats(&line["mean"]),
            embedding => floats(embedding),
        };
        fixture.check(values);
        let embedder = Embedder::new(fixture.model(), &Options::new()).unwrap();
        for line in &fixture.golden {
            let embedding = embedder.embed(line["text"].as_str().unwrap()).unwrap();
            let cosine = cosine(embedding.vector(), &values(line));
            assert!(cosine >= 0.999, "{name}: {cosine}: {line}");
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn masked_words_are_those_of_the_pipeline() {
    for name in ["bert-masked", "distilbert-masked", "roberta-masked"] {
        let fixture = Fixture::open(name);
        let reference = Reference::new(&fixture.checkpoint).unwrap();
        let filler = WordFiller::new(fixture.model(), &Options::new()).unwrap();
        let runner = Runner::new(fixture.model(), &Options::new()).unwrap();
        assert_eq!(runner.self_test().unwrap(), 7, "{name}");
        let vocabulary = filler.model().shape().vocabulary as usize;
        let (mut sum, mut count, mut agreed, mut masks) = (0.0, 0, 0, 0);
        for line in &fixture.golden {
            let text = line["text"].as_str().unwrap();
            let tokens = runner.tokenize(text.into()).unwrap();
            let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
            assert_eq!(ids, numbers::<u32>(&line["input_ids"]), "{name}: {text}");
            let types = vec![0; ids.len()];
            let float32 = reference.logits(&ids, &types).unwrap();
            let filled = filler.fill(text, 5).unwrap();
            let logits = filler.logits(text).unwrap();
            let expected = line["masks"].as_array().unwrap();
            assert_eq!(filled.len(), expected.len(), "{name}: {text}");
            for (number, (mask, expected)) in filled.iter().zip(expected).enumerate() {
                masks += 1;
                assert_eq!(
                    &text[mask.token.start..mask.token.end].trim_start(),
                    &filler.mask()
                );
                let position = expected["position"].as_u64().unwrap() as usize;
                let row = &float32[position * vocabulary..][..vocabulary];
                let int8 = &logits[number * vocabulary..][..vocabulary];
                for (id, value) in floats(&expected["first"]).into_iter().enumerate() {
                    assert!((row[id] - value).abs() <= FLOAT32, "{name}: {text}");
                }
                for pair in expected["top"].as_array().unwrap() {
                    let id = pair[0].as_u64().unwrap() as usize;
                    let value = pair[1].as_f64().unwrap() as f32;
                    assert!((row[id] - value).abs() <= FLOAT32, "{name}: {text}");
                    sum += f64::from((int8[id] - value).abs());
                    count += 1;
                }
                let best = &mask.words[0];
                let fill = &line["fill"][number][0];
                if fill["token"] == best.id {
                    agreed += 1;
                    let score = fill["score"].as_f64().unwrap() as f32;
                    assert!((best.score - score).abs() < 0.1, "{name}: {best:?}, {fill}");
                    let text = fill["token_str"].as_str().unwrap();
                    let same = best.text == text || text.contains('\u{FFFD}');
                    assert!(same, "{name}: {best:?}, {fill}");
                }
            }
        }
        let mean = sum / f64::from(count);
        println!("{name}: logits differ by {mean:.4}, {agreed} of {masks} best words");
        assert!(
            mean <= 0.15 && 4 * agreed >= 3 * masks,
            "{name}: {mean}, {agreed}"
        );
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    for (name, words) in [
        (
            "mobilebert-classes",
            &["config.json", "MobileBertForSequenceClassification"][..],
        ),
        ("xlm-roberta-classes", &["tokenizer.json", "Unigram"]),
    ] {
        let checkpoint = Checkpoint::open(&folder(name));
        let error = match checkpoint {
            Ok(checkpoint) => Package::build(&checkpoint, &mut Quiet).unwrap_err(),
            Err(error) => error,
        };
        let error = error.to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn a_model_is_used_for_what_it_is() {
    let entities = Fixture::open("bert-tokens");
    let error = Classifier::new(entities.model(), &Options::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model is for token classification, and a Classifier needs one for classification: \
         open it as a TokenClassifier"
    );
    let classes = Fixture::open("bert-classes");
    assert!(TokenClassifier::new(classes.model(), &Options::new()).is_err());
    assert!(QuestionAnswerer::new(classes.model(), &Options::new()).is_err());
    assert!(Embedder::new(classes.model(), &Options::new()).is_err());
    assert!(WordFiller::new(classes.model(), &Options::new()).is_err());
}

#[test]
fn threads_and_batches_change_nothing() {
    for name in [
        "roberta-tokens",
        "bert-answers",
        "distilbert-embeddings",
        "bert-masked",
    ] {
        let fixture = Fixture::open(name);
        let inputs: Vec<Input<'_>> = fixture.golden.iter().map(input).collect();
        let alone = Runner::new(fixture.model(), &Options::new()).unwrap();
        let expected: Vec<_> = inputs
            .iter()
            .map(|&input| alone.run(&[input]).unwrap().remove(0))
            .collect();
        for threads in [1, 3] {
            let options = Options::new().threads(threads);
            let runner = Runner::new(fixture.model(), &options).unwrap();
            assert_eq!(
                runner.run(&inputs).unwrap(),
                expected,
                "{name}, {threads} threads"
            );
        }
    }
}
