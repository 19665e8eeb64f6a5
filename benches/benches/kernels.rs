//! Every kernel set of this CPU, kernel by kernel, on memory that is in the cache.
//!
//! `cargo bench -p filbert-benches --bench kernels`; a part of a name, such as
//! `avx2 product/768x3072`, selects some.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use filbert::benchmark::{ProductBenchmark, RowBenchmark, RowKernel, sets};

/// Inputs and outputs of the products with weights. The projections of queries, keys and values
/// are done a few heads at a time: 64 columns in both models.
const WEIGHTS: [(usize, usize); 8] = [
    // BERT-base and DistilBERT.
    (768, 64),
    (768, 768),
    (768, 3_072),
    (3_072, 768),
    // MiniLM.
    (384, 64),
    (384, 384),
    (384, 1_536),
    (1_536, 384),
];

/// Tokens of a product with weights.
const TOKENS: [usize; 6] = [1, 2, 4, 16, 32, 128];

/// The width of a head in BERT-base and DistilBERT, and in MiniLM.
const HEADS: [usize; 2] = [64, 32];

/// Keys of a head.
const KEYS: [usize; 3] = [16, 128, 384];

/// Queries of one block of attention.
const QUERIES: usize = 32;

/// The row kernels, with the rows and columns that BERT-base gives them at 128 tokens.
const ROW_KERNELS: [(&str, RowKernel, usize, usize); 8] = [
    ("embed", RowKernel::Embed, 32, 768),
    ("gelu", RowKernel::Gelu, 32, 3_072),
    ("normalize", RowKernel::Normalize, 32, 768),
    ("quantize", RowKernel::Quantize, 32, 768),
    ("quantize queries", RowKernel::QuantizeQueries, QUERIES, 64),
    ("pack keys", RowKernel::PackKeys, 128, 64),
    ("pack values", RowKernel::PackValues, 128, 64),
    ("softmax", RowKernel::Softmax, QUERIES, 128),
];

/// Throughput is in multiplications.
fn products(criterion: &mut Criterion) {
    for set in sets() {
        let mut group = criterion.benchmark_group(format!("{set} product"));
        let mut measure = |id: BenchmarkId, rows, inputs, outputs| {
            let mut product = ProductBenchmark::new(set, rows, inputs, outputs);
            group.throughput(Throughput::Elements(product.multiplications()));
            group.bench_function(id, |bencher| bencher.iter(|| product.run()));
        };
        for (inputs, outputs) in WEIGHTS {
            for rows in TOKENS {
                let id = BenchmarkId::new(format!("{inputs}x{outputs}"), format!("{rows} rows"));
                measure(id, rows, inputs, outputs);
            }
        }
        for head in HEADS {
            for keys in KEYS {
                let id = |name: &str| {
                    BenchmarkId::new(
                        format!("{name} of a head of {head}"),
                        format!("{keys} keys"),
                    )
                };
                measure(id("scores"), QUERIES, head, keys);
                measure(id("context"), QUERIES, keys, head);
            }
        }
        group.finish();
    }
}

/// Throughput is in values.
fn rows(criterion: &mut Criterion) {
    for set in sets() {
        let mut group = criterion.benchmark_group(format!("{set} rows"));
        for (name, kernel, rows, columns) in ROW_KERNELS {
            let mut benchmark = RowBenchmark::new(set, rows, columns);
            group.throughput(Throughput::Elements(benchmark.values()));
            group.bench_function(
                BenchmarkId::new(name, format!("{rows}x{columns}")),
                |bencher| bencher.iter(|| benchmark.run(kernel)),
            );
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    // There are hundreds of them, and each is steady.
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = products, rows
}
criterion_main!(benches);
