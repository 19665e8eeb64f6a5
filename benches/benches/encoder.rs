//! Text to label in the published shapes, with random weights, by length and threads.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use filbert::{Classifier, Options};
use filbert_benches::model::{BERT_BASE, DISTILBERT, MINILM};
use filbert_benches::text;

const TOKENS: [usize; 6] = [16, 32, 64, 128, 256, 384];

/// Throughput is in tokens.
fn classify(criterion: &mut Criterion) {
    for synthetic in [MINILM, DISTILBERT, BERT_BASE] {
        let file = synthetic
            .file(Path::new(env!("CARGO_TARGET_TMPDIR")))
            .expect("the model is written");
        for threads in [1, 2] {
            let classifier = Classifier::open_with(&file, &Options::new().threads(threads))
                .expect("the model opens");
            let mut group = criterion.benchmark_group(format!(
                "{} ({}), threads: {threads}",
                synthetic.name,
                classifier.kernels()
            ));
            // A call may take a good part of a second.
            group.sampling_mode(SamplingMode::Flat);
            for tokens in TOKENS {
                let text = text::of_tokens(tokens);
                let found = classifier.tokenize(text.as_str().into());
                assert_eq!(found.expect("the text is cut").len(), tokens);
                group.throughput(Throughput::Elements(tokens as u64));
                group.bench_function(
                    BenchmarkId::from_parameter(format!("{tokens} tokens")),
                    |bencher| {
                        bencher.iter(|| {
                            classifier
                                .classify(black_box(&text))
                                .expect("the text is classified")
                        });
                    },
                );
            }
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = classify
}
criterion_main!(benches);
