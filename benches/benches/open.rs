//! From a file in the page cache to a classifier, and to its first label. Closing is included.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use filbert::Classifier;
use filbert_benches::model::{self, BERT_BASE, MINILM};
use filbert_benches::text;
use filbert_tests::shared;

fn open(criterion: &mut Criterion) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let tiny = folder.join("open.filbert");
    model::convert(&shared::tiny_model(), &tiny).expect("the checkpoint converts");
    let mut models = vec![("tiny-sst2", tiny, text::SENTENCE.to_owned())];
    models.extend([MINILM, BERT_BASE].map(|synthetic| {
        let file = synthetic.file(folder).expect("the model is written");
        (synthetic.name, file, text::of_tokens(20))
    }));
    for (name, file, text) in models {
        // From now on the file is in the page cache.
        Classifier::open(&file)
            .and_then(|classifier| classifier.model().verify())
            .expect("the file is whole");
        let mut group = criterion.benchmark_group(format!("{name}, from a file"));
        group.bench_function("open", |bencher| {
            bencher.iter(|| Classifier::open(black_box(&file)).expect("the model opens"));
        });
        group.bench_function("open and first label", |bencher| {
            bencher.iter(|| {
                let classifier = Classifier::open(black_box(&file)).expect("the model opens");
                let result = classifier.classify(&text).expect("the text is classified");
                result.categories()[0].score
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = open
}
criterion_main!(benches);
