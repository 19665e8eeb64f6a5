//! Text to ids: Filbert's tokenizer beside the `tokenizers` crate, both with the vocabulary of
//! the model in the repository.

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use filbert::Model;
use filbert::benchmark::TokenizerBenchmark;
use filbert_benches::{model, text};
use filbert_tests::shared;
use tokenizers::Tokenizer;

fn tokenize(criterion: &mut Criterion) {
    let folder = shared::tiny_model();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tokenizer.filbert");
    model::convert(&folder, &file).expect("the checkpoint converts");
    let model = Model::open(&file).expect("the model opens");
    let mut ours = TokenizerBenchmark::new(&model);
    let theirs = Tokenizer::from_file(folder.join("tokenizer.json")).expect("the tokenizer opens");

    let mut group = criterion.benchmark_group("tokenizer");
    // 20 tokens with the special ones, and 122.
    for text in [
        format!("{}It works.", text::SENTENCE),
        text::SENTENCE.repeat(8),
    ] {
        // Without offsets, as to classify, and with them.
        let fast = |text: &str| theirs.encode_fast(text, true).expect("the text is encoded");
        let encode = |text: &str| theirs.encode(text, true).expect("the text is encoded");
        let encoding = encode(&text);
        assert_eq!(ours.run(&text), encoding.get_ids());
        let (ids, offsets) = ours.run_with_offsets(&text);
        assert_eq!(ids, encoding.get_ids());
        let ranges = encoding.get_offsets().iter();
        assert!(
            offsets
                .iter()
                .cloned()
                .eq(ranges.map(|&(start, end)| start..end))
        );
        let tokens = encoding.get_ids().len();
        group.throughput(Throughput::Elements(tokens as u64));
        let tokens = format!("{tokens} tokens");
        group.bench_function(BenchmarkId::new("filbert", &tokens), |bencher| {
            bencher.iter(|| ours.run(black_box(&text)).len());
        });
        group.bench_function(BenchmarkId::new("tokenizers", &tokens), |bencher| {
            bencher.iter(|| fast(black_box(&text)));
        });
        group.bench_function(
            BenchmarkId::new("filbert, with offsets", &tokens),
            |bencher| {
                bencher.iter(|| ours.run_with_offsets(black_box(&text)).1.len());
            },
        );
        group.bench_function(
            BenchmarkId::new("tokenizers, with offsets", &tokens),
            |bencher| {
                bencher.iter(|| encode(black_box(&text)));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, tokenize);
criterion_main!(benches);
