//! One text on one thread: Filbert from text to scores, against tract's float32 run of the
//! same checkpoint from token ids to logits.
//!
//! On the model in the repository, and on `minilm-sst2` where the shared models are.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use filbert::{Classifier, Options};
use filbert_benches::text;
use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::reference::Reference;
use filbert_tests::shared;

fn classify(criterion: &mut Criterion) {
    let mut models = vec![shared::tiny_model()];
    models.extend(shared::shared().map(|folder| folder.join("models/minilm-sst2")));
    for folder in models {
        let name = folder
            .file_name()
            .expect("a folder")
            .to_string_lossy()
            .into_owned();
        let checkpoint = Checkpoint::open(&folder).expect("the checkpoint opens");
        let package = Package::build(&checkpoint, &mut Quiet).expect("the checkpoint converts");
        let classifier =
            Classifier::from_bytes(package.bytes(), &Options::default()).expect("the model opens");
        let reference = Reference::new(&checkpoint).expect("tract prepares the model");
        let mut group = criterion.benchmark_group(format!("{name} ({})", classifier.kernels()));
        for sentences in [1, 8] {
            let text = text::SENTENCE.repeat(sentences);
            let tokens = classifier.tokenize(text.as_str().into());
            let tokens = tokens.expect("the text is cut");
            let (ids, token_types): (Vec<u32>, Vec<u8>) =
                tokens.iter().map(|t| (t.id, t.token_type)).unzip();
            let tokens = format!("{} tokens", ids.len());
            group.bench_function(
                BenchmarkId::new("filbert int8, text to label", &tokens),
                |bencher| {
                    bencher.iter(|| {
                        classifier
                            .classify(black_box(&text))
                            .expect("the text is classified")
                    });
                },
            );
            group.bench_function(
                BenchmarkId::new("tract float32, ids to logits", &tokens),
                |bencher| {
                    bencher.iter(|| {
                        reference
                            .logits(black_box(&ids), &token_types)
                            .expect("tract runs")
                    });
                },
            );
        }
        group.finish();
    }
}

criterion_group!(benches, classify);
criterion_main!(benches);
