//! Every kernel set against the scalar one, bit for bit, over odd shapes and extremes; and the
//! scalar one against `f64`.

use super::matrix::{Matrix, MatrixMut, PanelsMut};
use super::rows::{Balance, Norm, RowOperation, RowScale};
use super::{Kernels, PanelCheck, Product, available, scalar};
use crate::format::{Activation, BLOCK, Columns, LinearShape, PANEL, padded, rotated_vectors};

/// A small generator: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [-1, 1).
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.float() * scale).collect()
    }

    /// `[rows, padded(columns)]`, zero in the padding.
    fn matrix(&mut self, rows: usize, columns: usize, scale: f32) -> Vec<f32> {
        let mut values = self.floats(rows * padded(columns), scale);
        for row in values.chunks_exact_mut(padded(columns)) {
            row[columns..].fill(0.0);
        }
        values
    }
}

/// The sets to test here: those of this CPU, and the AVX-VNNI tiles in another encoding.
fn sets() -> Vec<&'static Kernels> {
    let sets = available().filter(|kernels| kernels.name != "scalar");
    #[cfg(target_arch = "x86_64")]
    let sets = sets.chain(super::avxvnni_by_avx512vl());
    sets.collect()
}

/// Prints which sets ran, and fails if one that `FILBERT_REQUIRE_ISA` lists did not.
#[test]
fn the_required_sets_are_tested() {
    let names: Vec<_> = sets().iter().map(|kernels| kernels.name).collect();
    println!("kernel sets tested against scalar: {}", names.join(", "));
    for name in std::env::var("FILBERT_REQUIRE_ISA")
        .unwrap_or_default()
        .split_whitespace()
    {
        assert!(
            names.contains(&name),
            "{name} did not run; this CPU ran {names:?}"
        );
    }
}

struct Weights {
    shape: LinearShape,
    weights: Vec<i8>,
    columns: Vec<Columns>,
}

impl Weights {
    /// Weights made by `value` from their input and output.
    fn new(
        inputs: usize,
        outputs: usize,
        random: &mut Random,
        mut value: impl FnMut(&mut Random) -> i8,
    ) -> Self {
        let shape = LinearShape {
            inputs,
            outputs: padded(outputs),
        };
        let mut weights = vec![0; shape.panels() * shape.panel_bytes()];
        let mut columns = vec![bytemuck::Zeroable::zeroed(); shape.panels()];
        for output in 0..outputs {
            let column: &mut Columns = &mut columns[output / PANEL];
            for input in 0..inputs {
                let w = value(random);
                weights[shape.index(input, output)] = w;
                column.sum[output % PANEL] += i32::from(w);
            }
            column.scale[output % PANEL] = random.float() * 0.01;
            column.bias[output % PANEL] = random.float();
        }
        Self {
            shape,
            weights,
            columns,
        }
    }
}

fn multiply(
    kernels: &Kernels,
    rows: &[u8],
    stride: usize,
    scales: &[RowScale],
    weights: &Weights,
) -> Vec<u32> {
    let width = weights.columns.len() * PANEL;
    let mut out = vec![f32::NAN; scales.len() * width];
    let rows: Vec<u8> = rows.iter().map(|q| q ^ kernels.byte_xor).collect();
    let checks: Vec<_> = weights
        .columns
        .iter()
        .map(|_| PanelCheck::default())
        .collect();
    kernels.multiply(
        Product {
            rows: Matrix::new(&rows, stride),
            scales,
            weights: &weights.weights,
            columns: &weights.columns,
            checks: Some(&checks),
            blocks: weights.shape.blocks(),
            // Any bytes: they are fetched, not used.
            upcoming: &weights.weights[weights.weights.len() / 2..],
        },
        PanelsMut::new(MatrixMut::new(&mut out, width)),
    );
    out.into_iter().map(f32::to_bits).collect()
}

#[test]
fn products_have_the_bits_of_scalar() {
    let mut random = Random(1);
    for kernels in sets() {
        for rows in (1..=17).chain([24, 31]) {
            for inputs in [1, 4, 26, 31, 64, 100, 1028, 2100, 4100] {
                for outputs in [1, 16, 17, 48, 64, 80, 127, 144, 208] {
                    let weights =
                        Weights::new(inputs, outputs, &mut random, |r| (r.next() % 255) as i8);
                    let stride = padded(inputs);
                    let activations: Vec<u8> =
                        (0..rows * stride).map(|_| random.next() as u8).collect();
                    let scales: Vec<_> = (0..rows)
                        .map(|_| RowScale {
                            scale: random.float().abs(),
                            zero_point: (random.next() % 256) as i32,
                        })
                        .collect();
                    let expected =
                        multiply(&scalar::KERNELS, &activations, stride, &scales, &weights);
                    let actual = multiply(kernels, &activations, stride, &scales, &weights);
                    assert_eq!(
                        expected, actual,
                        "{} {rows}x{inputs}x{outputs}",
                        kernels.name
                    );
                }
            }
        }
    }
}

#[test]
fn extreme_products_do_not_saturate() {
    let mut random = Random(2);
    for kernels in sets() {
        for w in [-128, -127, 127] {
            for q in [0, 1, 128, 255] {
                for inputs in [64, 3072] {
                    let weights = Weights::new(inputs, 33, &mut random, |_| w);
                    let activations = vec![q; 7 * padded(inputs)];
                    let scales = vec![
                        RowScale {
                            scale: 1.0,
                            zero_point: 0
                        };
                        7
                    ];
                    let expected = multiply(
                        &scalar::KERNELS,
                        &activations,
                        padded(inputs),
                        &scales,
                        &weights,
                    );
                    let actual = multiply(kernels, &activations, padded(inputs), &scales, &weights);
                    assert_eq!(expected, actual, "{} {q} * {w}", kernels.name);
                }
            }
        }
    }
}

#[test]
fn panels_that_no_converter_writes_have_the_bits_of_scalar() {
    let mut random = Random(8);
    for kernels in sets() {
        for rows in [1, 2, 3, 7] {
            let mut weights = Weights::new(36, 100, &mut random, |r| (r.next() % 255) as i8);
            // One with a sum that is not its weights', one with a -128, one with both.
            weights.columns[1].sum[3] ^= 1;
            weights.columns[4].sum[15] = i32::MIN;
            for (input, output) in [(35, 40), (0, 41), (0, 79)] {
                weights.weights[weights.shape.index(input, output)] = -128;
            }
            let rows: Vec<u8> = (0..rows * 48).map(|_| random.next() as u8).collect();
            let scales: Vec<_> = rows
                .chunks_exact(48)
                .map(|row| RowScale {
                    scale: 1.0,
                    zero_point: i32::from(row[0]),
                })
                .collect();
            let expected = multiply(&scalar::KERNELS, &rows, 48, &scales, &weights);
            let actual = multiply(kernels, &rows, 48, &scales, &weights);
            assert_eq!(expected, actual, "{} {}", kernels.name, scales.len());
        }
    }
}

#[test]
fn a_panel_is_checked_once() {
    let (weights, columns) = ([0; BLOCK * PANEL], bytemuck::Zeroable::zeroed());
    for sound in [true, false] {
        let check = PanelCheck::default();
        let is_sound =
            |found: fn(&[i8], &Columns) -> bool| check.is_sound(&weights, &columns, found);
        let find = [|_: &[i8], _: &Columns| false, |_: &[i8], _: &Columns| true];
        assert_eq!(is_sound(find[usize::from(sound)]), sound);
        assert_eq!(is_sound(|_, _| unreachable!("it is known")), sound);
    }
}

/// What a row operation wrote, as bits.
#[derive(Default, PartialEq, Debug)]
struct Written {
    floats: Vec<u32>,
    bytes: Vec<u8>,
    columns: Vec<Columns>,
    scales: Vec<(u32, i32)>,
}

impl Written {
    fn floats(mut self, values: &[f32]) -> Self {
        self.floats.extend(values.iter().map(|x| x.to_bits()));
        self
    }

    fn bytes(mut self, kernels: &Kernels, values: &[u8]) -> Self {
        self.bytes
            .extend(values.iter().map(|q| q ^ kernels.byte_xor));
        self
    }

    fn scales(mut self, values: &[RowScale]) -> Self {
        self.scales
            .extend(values.iter().map(|s| (s.scale.to_bits(), s.zero_point)));
        self
    }
}

/// The operations on `rows` rows of `columns` values like `values`.
fn run_all(
    kernels: &Kernels,
    rows: usize,
    columns: usize,
    values: &[f32],
    other: &[f32],
) -> Vec<Written> {
    let width = padded(columns);
    let mut written = Vec::new();
    let mut bytes = vec![0u8; rows * width];
    let mut scales = vec![RowScale::default(); rows];

    let balance = |rotation| Balance {
        factors: &other[..width],
        rotation,
    };
    let rotation = rotated_vectors(columns);
    let mut scratch = vec![f32::NAN; width];
    for (residual, rotation) in [
        (None, 1),
        (Some(Matrix::new(other, width)), 1),
        (None, rotation),
    ] {
        let mut floats = values.to_vec();
        kernels.run_rows(RowOperation::Normalize {
            values: MatrixMut::new(&mut floats, width),
            residual,
            norm: Norm {
                weight: &other[..width],
                bias: &other[other.len() - width..],
                balance: balance(rotation),
                eps: 1e-12,
                columns,
            },
            scratch: &mut scratch,
            out: MatrixMut::new(&mut bytes, width),
            scales: &mut scales,
        });
        written.push(
            Written::default()
                .floats(&floats)
                .bytes(kernels, &bytes)
                .scales(&scales),
        );
    }
    for (activation, rotation) in [
        (Activation::Gelu, rotation),
        (Activation::GeluTanh, 1),
        (Activation::Relu, 1),
        (Activation::Tanh, rotation),
    ] {
        let mut floats = values.to_vec();
        kernels.run_rows(RowOperation::Map {
            values: MatrixMut::new(&mut floats, width),
            activation,
        });
        for row in floats.chunks_exact(width) {
            assert!(
                row[columns..].iter().all(|&x| x == 0.0),
                "{activation:?} padding"
            );
        }
        let balance = (activation != Activation::Relu).then(|| balance(rotation));
        kernels.run_rows(RowOperation::Activate {
            values: Matrix::new(values, width),
            activation: Some(activation),
            balance,
            scratch: &mut scratch,
            out: MatrixMut::new(&mut bytes, width),
            scales: &mut scales,
        });
        let activated = Written::default().bytes(kernels, &bytes).scales(&scales);
        let (values, out) = (
            Matrix::new(&floats, width),
            MatrixMut::new(&mut bytes, width),
        );
        kernels.run_rows(match balance {
            Some(_) => RowOperation::Activate {
                values,
                activation: None,
                balance,
                scratch: &mut scratch,
                out,
                scales: &mut scales,
            },
            None => RowOperation::Quantize {
                values,
                out,
                scales: &mut scales,
            },
        });
        let quantized = Written::default().bytes(kernels, &bytes).scales(&scales);
        assert_eq!(
            activated, quantized,
            "{activation:?} in one step and in two"
        );
        written.push(quantized.floats(&floats));
    }
    kernels.run_rows(RowOperation::Quantize {
        values: Matrix::new(values, width),
        out: MatrixMut::new(&mut bytes, width),
        scales: &mut scales,
    });
    written.push(Written::default().bytes(kernels, &bytes).scales(&scales));
    let mut floats = values.to_vec();
    for row in floats.chunks_exact_mut(width) {
        kernels.run_rows(RowOperation::TakeQuantized { row });
        // Zeros have either sign, on which nothing depends.
        row.iter_mut().for_each(|x| *x += 0.0);
    }
    written.push(Written::default().floats(&floats));
    let (products, others) = ([values, other].concat(), [other, values].concat());
    let mut sums = vec![0.0; rows * width];
    kernels.run_rows(RowOperation::SumFine {
        products: [&products, &others].map(|products| Matrix::new(products, width)),
        out: MatrixMut::new(&mut sums, width),
    });
    written.push(Written::default().floats(&sums));
    kernels.run_rows(RowOperation::QuantizeQueries {
        values: Matrix::new(values, width),
        factor: 0.125,
        out: MatrixMut::new(&mut bytes, width),
        scales: &mut scales,
    });
    written.push(Written::default().bytes(kernels, &bytes).scales(&scales));
    bytes.fill(kernels.byte_xor);
    kernels.run_rows(RowOperation::Softmax {
        scores: Matrix::new(values, width),
        keys: columns,
        out: MatrixMut::new(&mut bytes, width),
        scales: &mut scales,
    });
    written.push(Written::default().bytes(kernels, &bytes).scales(&scales));

    for keys in [true, false] {
        let shape = if keys {
            LinearShape {
                inputs: width,
                outputs: padded(rows),
            }
        } else {
            LinearShape {
                inputs: rows,
                outputs: width,
            }
        };
        let mut weights = vec![1; shape.panels() * shape.panel_bytes()];
        let mut sums = vec![bytemuck::Zeroable::zeroed(); shape.panels()];
        let values = Matrix::new(values, width);
        kernels.run_rows(if keys {
            RowOperation::PackKeys {
                values,
                weights: &mut weights,
                columns: &mut sums,
            }
        } else {
            RowOperation::PackValues {
                values,
                weights: &mut weights,
                columns: &mut sums,
            }
        });
        written.push(Written {
            bytes: bytemuck::cast_slice(&weights).to_vec(),
            columns: sums,
            ..Written::default()
        });
    }

    let mut floats = values[..columns].to_vec();
    kernels.run_rows(RowOperation::Probabilities {
        values: &mut floats,
    });
    written.push(Written::default().floats(&floats));
    let mut floats = values[..columns].to_vec();
    kernels.run_rows(RowOperation::Sigmoid {
        values: &mut floats,
    });
    written.push(Written::default().floats(&floats));

    let mut floats = vec![0.0; width];
    bytes.iter_mut().for_each(|q| *q ^= kernels.byte_xor);
    let small: Vec<i8> = bytes.iter().map(|&b| b as i8).collect();
    let words: Vec<i16> = bytes.iter().map(|&b| (i16::from(b) - 128) * 255).collect();
    kernels.run_rows(RowOperation::Embed {
        word: (&small[..width], 0.01),
        position: (&words[..width], 0.003),
        token_type: Some((&words[words.len() - width..], 0.7)),
        out: &mut floats,
    });
    written.push(Written::default().floats(&floats));
    written
}

#[test]
fn row_operations_have_the_bits_of_scalar() {
    let mut random = Random(3);
    for kernels in sets() {
        for rows in [1, 2, 3, 4, 5, 15, 16, 17, 33] {
            for columns in [1, 15, 16, 17, 26, 31, 32, 64, 100, 312, 384, 768] {
                for scale in [0.0, 1e-40, 1e-20, 0.1, 1.0, 30.0, 1e9, 1e16, -1e16] {
                    let mut values = random.matrix(rows, columns, scale);
                    if scale < 0.0 {
                        // Every value that counts is far below the padding.
                        values.iter_mut().for_each(|x| *x = -x.abs());
                    }
                    let other = random.matrix(rows.max(2), columns, 1.0);
                    let other = &other[..rows.max(2) * padded(columns)];
                    let other = if rows == 1 {
                        &other[..padded(columns)]
                    } else {
                        other
                    };
                    let expected = run_all(&scalar::KERNELS, rows, columns, &values, other);
                    let actual = run_all(kernels, rows, columns, &values, other);
                    for (i, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
                        assert_eq!(
                            expected, actual,
                            "{} operation {i}, {rows}x{columns}, {scale}",
                            kernels.name
                        );
                    }
                }
            }
        }
    }
}

/// The function of one value, by way of the operation that holds it.
fn activate(kernels: &Kernels, activation: Activation, values: &[f32]) -> Vec<f32> {
    let mut floats = values.to_vec();
    kernels.run_rows(RowOperation::Map {
        values: MatrixMut::new(&mut floats, values.len()),
        activation,
    });
    floats
}

/// `erf` by its Taylor series near zero and its continued fraction elsewhere (DLMF 7.6.1, 7.9.1).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut fraction = 0.0;
        for n in (1..200).rev() {
            fraction = f64::from(n) / 2.0 / (a + fraction);
        }
        1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

#[test]
fn activations_keep_their_stated_bounds() {
    let values: Vec<f32> = (-160_000..160_000).map(|i| i as f32 / 20_000.0).collect();
    let bound = |activation, bound: f64, exact: fn(f64) -> f64| {
        let mut worst: (f64, f32) = (0.0, 0.0);
        for (&x, &y) in values
            .iter()
            .zip(&activate(&scalar::KERNELS, activation, &values))
        {
            let error = (f64::from(y) - exact(f64::from(x))).abs();
            if error > worst.0 {
                worst = (error, x);
            }
        }
        println!("{activation:?}: {:.2e} at {}", worst.0, worst.1);
        assert!(worst.0 <= bound, "{activation:?}: {worst:?}");
    };
    bound(Activation::Gelu, 1e-6, |x| {
        0.5 * x * (1.0 + erf(x / 2f64.sqrt()))
    });
    bound(Activation::GeluTanh, 1e-6, |x| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    });
    bound(Activation::Tanh, 3e-7, f64::tanh);
    bound(Activation::Relu, 0.0, |x| x.max(0.0));
    let mut far = [0.0; 16];
    far[..7].copy_from_slice(&[-1e9, -100.0, -6.0, 6.0, 100.0, 1e9, -0.0]);
    let far = activate(&scalar::KERNELS, Activation::Gelu, &far);
    assert_eq!(far[..6], [0.0, 0.0, 0.0, 6.0, 100.0, 1e9]);
    assert!(far[6..].iter().all(|&x| x == 0.0));
}

#[test]
fn probabilities_keep_their_stated_bound() {
    let mut random = Random(4);
    for _ in 0..1000 {
        let values = random.floats(5, 12.0);
        let mut actual = values.clone();
        scalar::KERNELS.run_rows(RowOperation::Probabilities {
            values: &mut actual,
        });
        let exact: Vec<f64> = values.iter().map(|&x| f64::from(x).exp()).collect();
        let sum: f64 = exact.iter().sum();
        for (exact, actual) in exact.iter().zip(&actual) {
            let exact = exact / sum;
            // The difference to the largest is rounded, at most 24 ulps of 1; then come two
            // exponentials, four sums and one division.
            assert!((f64::from(*actual) - exact).abs() <= 3e-6 * exact);
        }
        let mut actual = values.clone();
        scalar::KERNELS.run_rows(RowOperation::Sigmoid {
            values: &mut actual,
        });
        for (x, actual) in values.iter().zip(&actual) {
            assert!((f64::from(*actual) - 1.0 / (1.0 + f64::from(-x).exp())).abs() <= 2e-7);
        }
    }
}

#[test]
fn attention_probabilities_keep_their_stated_bound() {
    let mut random = Random(7);
    for keys in [1, 2, 15, 16, 17, 100, 512] {
        let width = padded(keys);
        for scale in [0.01, 1.0, 20.0] {
            let scores = random.matrix(1, keys, scale);
            let (mut bytes, mut scales) = (vec![0; width], [RowScale::default()]);
            scalar::KERNELS.run_rows(RowOperation::Softmax {
                scores: Matrix::new(&scores, width),
                keys,
                out: MatrixMut::new(&mut bytes, width),
                scales: &mut scales,
            });
            let largest = scores[..keys].iter().copied().fold(f32::MIN, f32::max);
            for (&score, &q) in scores[..keys].iter().zip(&bytes) {
                let exact = 255.0 * (f64::from(score) - f64::from(largest)).exp2();
                assert!((exact - f64::from(q)).abs() <= 0.52, "{score} {q} {exact}");
            }
            assert!(bytes[..keys].contains(&255));
            assert!(bytes[keys..].iter().all(|&q| q == 0));
            let sum: u32 = bytes.iter().map(|&q| u32::from(q)).sum();
            assert_eq!(scales[0].scale, 1.0 / sum as f32);
        }
    }
}

#[test]
fn layer_norm_and_quantization_are_near_f64() {
    let mut random = Random(5);
    for columns in [1, 20, 312, 384] {
        let width = padded(columns);
        let values = random.matrix(1, columns, 3.0);
        let (weight, bias) = (
            random.matrix(1, columns, 1.0),
            random.matrix(1, columns, 1.0),
        );
        let mut actual = values.clone();
        let (mut bytes, mut scales) = (vec![0; width], [RowScale::default()]);
        scalar::KERNELS.run_rows(RowOperation::Normalize {
            values: MatrixMut::new(&mut actual, width),
            residual: None,
            norm: Norm {
                weight: &weight,
                bias: &bias,
                balance: Balance {
                    factors: &vec![0.5; width],
                    rotation: 1,
                },
                eps: 1e-12,
                columns,
            },
            scratch: &mut vec![f32::NAN; width],
            out: MatrixMut::new(&mut bytes, width),
            scales: &mut scales,
        });
        let exact: Vec<f64> = values[..columns].iter().map(|&x| f64::from(x)).collect();
        let mean = exact.iter().sum::<f64>() / columns as f64;
        let variance = exact.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / columns as f64;
        for i in 0..columns {
            let y = (exact[i] - mean) / (variance + 1e-12).sqrt() * f64::from(weight[i])
                + f64::from(bias[i]);
            assert!(
                (f64::from(actual[i]) - y).abs() < 2e-6,
                "{columns}: {} {y}",
                actual[i]
            );
            let back = scales[0].scale * (f32::from(bytes[i]) - scales[0].zero_point as f32);
            let balanced = actual[i] * 0.5;
            assert!(
                (back - balanced).abs() <= scales[0].scale * 0.501,
                "{back} {balanced}"
            );
        }
    }
}

/// The rotation as its definition has it, against what is quantized.
#[test]
fn a_rotated_row_is_quantized_as_its_definition_says() {
    for (columns, together) in [
        (16, 1),
        (32, 2),
        (64, 4),
        (384, 8),
        (256, 16),
        (768, 16),
        (512, 16),
        (312, 1),
        (40, 1),
    ] {
        assert_eq!(rotated_vectors(columns), together, "{columns}");
        let width = padded(columns);
        let mut random = Random(9);
        let values = random.matrix(1, columns, 1.0);
        let factors = random.matrix(1, columns, 2.0);
        let (mut bytes, mut scales) = (vec![0; width], [RowScale::default()]);
        scalar::KERNELS.run_rows(RowOperation::Activate {
            values: Matrix::new(&values, width),
            activation: None,
            balance: Some(Balance {
                factors: &factors,
                rotation: together,
            }),
            scratch: &mut vec![f32::NAN; width],
            out: MatrixMut::new(&mut bytes, width),
            scales: &mut scales,
        });
        let distance = width / PANEL / together * PANEL;
        for (place, &byte) in bytes.iter().enumerate() {
            let (number, first) = (place / distance, place % distance);
            let exact: f64 = (0..together)
                .map(|j| {
                    let k = first + j * distance;
                    let sign = if (number & j).count_ones() % 2 == 0 {
                        1.0
                    } else {
                        -1.0
                    };
                    sign * f64::from(values[k]) * f64::from(factors[k])
                })
                .sum();
            let scale = f64::from(scales[0].scale);
            let back = scale * f64::from(i32::from(byte) - scales[0].zero_point);
            assert!(
                (back - exact).abs() <= scale * 0.501,
                "{columns}: {place}: {back} {exact}"
            );
        }
    }
}

/// A row quantized twice, as the input of a fine product, against the row that it stands for; and
/// the sum of the four products against the sum in plain words.
#[test]
fn a_row_quantized_twice_has_sixteen_bits() {
    let width = 96;
    let mut row = Random(12).matrix(1, width, 4.0);
    let exact = row.clone();
    let mut back = vec![0.0f64; width];
    let mut steps = [0.0f64; 2];
    for step in &mut steps {
        let (mut bytes, mut scales) = (vec![0; width], [RowScale::default()]);
        scalar::KERNELS.run_rows(RowOperation::Quantize {
            values: Matrix::new(&row, width),
            out: MatrixMut::new(&mut bytes, width),
            scales: &mut scales,
        });
        let [RowScale { scale, zero_point }] = scales;
        *step = f64::from(scale);
        for (sum, &byte) in back.iter_mut().zip(&bytes) {
            *sum += *step * f64::from(i32::from(byte) - zero_point);
        }
        scalar::KERNELS.run_rows(RowOperation::TakeQuantized { row: &mut row });
    }
    // The rest spans one step, which is divided into 255 in turn.
    assert!(steps[1] < 1.01 * steps[0] / 255.0, "{steps:?}");
    // Beside half a step there are roundings of values of at most 255 of the larger steps.
    let bound = 0.501 * steps[1] + 255.0 * f64::from(f32::EPSILON) * steps[0];
    for (back, exact) in back.iter().zip(exact) {
        assert!((back - f64::from(exact)).abs() <= bound, "{back} {exact}");
    }

    let products = [[1.0f32, 2.0], [4.0, 8.0]].map(|rows| rows.map(|x| [x; 16]).concat());
    let mut sum = [0.0; 16];
    scalar::KERNELS.run_rows(RowOperation::SumFine {
        products: [&products[0], &products[1]].map(|rows| Matrix::new(rows, 16)),
        out: MatrixMut::new(&mut sum, 16),
    });
    assert_eq!(sum, [15.0; 16]);
}

#[test]
fn a_row_of_zeros_is_exact() {
    for kernels in sets().into_iter().chain([&scalar::KERNELS]) {
        let mut bytes = vec![7; 32];
        let mut scales = [RowScale::default()];
        kernels.run_rows(RowOperation::Quantize {
            values: Matrix::new(&[0.0; 32], 32),
            out: MatrixMut::new(&mut bytes, 32),
            scales: &mut scales,
        });
        bytes.iter_mut().for_each(|q| *q ^= kernels.byte_xor);
        assert_eq!(bytes, [0; 32]);
        assert_eq!(scales[0], RowScale::default());
        let weights = Weights::new(32, 3, &mut Random(6), |r| r.next() as i8);
        let y = multiply(kernels, &bytes, 32, &scales, &weights);
        let bias: Vec<_> = weights.columns[0]
            .bias
            .iter()
            .map(|b| b.to_bits())
            .collect();
        assert_eq!(y, bias);
    }
}
