//! The whole of training: against scikit-learn, and on texts that try it.

use super::*;
use crate::error::ErrorCode;

/// Features and classes, as `tests/oracle/logistic_regression.py` makes them too.
fn make_samples(rows: usize, width: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
    let mut state = 1u64;
    let mut number = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 48) as f32 / 32768.0 - 1.0
    };
    let (mut features, mut targets) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let values: Vec<f32> = (0..width).map(|_| number()).collect();
        // Unequal scales, and means far from 0.
        let scaled = values.iter().enumerate();
        features.extend(scaled.map(|(c, x)| x * (c + 1) as f32 + 3.0 * c as f32));
        let scores: Vec<f32> = values[..classes].iter().map(|x| x + number()).collect();
        let best = (0..classes).fold(0, |a, b| if scores[b] > scores[a] { b } else { a });
        targets.push(best as u32);
    }
    (features, targets)
}

fn strength(strength: f64) -> TrainingOptions {
    TrainingOptions::new().strength(strength)
}

fn fit_quietly(
    features: &[f32],
    targets: &[u32],
    classes: usize,
    options: &TrainingOptions,
) -> Result<Fit, Error> {
    let width = features.len() / targets.len().max(1);
    let monitor = &mut Monitor::default();
    fit(features, width, targets, classes, options, monitor)
}

fn refusal(features: &[f32], targets: &[u32], classes: usize, options: &TrainingOptions) -> String {
    let error = fit_quietly(features, targets, classes, options).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    error.to_string()
}

/// What `tests/oracle/logistic_regression.py` prints: of each row of weights, these and the
/// intercept.
#[test]
fn weights_are_those_of_scikit_learn() {
    let cases: [(usize, TrainingOptions, &[&[f64]]); 10] = [
        (
            2,
            strength(1.0),
            &[&[
                -1.88279512409,
                0.793311206923,
                0.0418270239852,
                0.0810093925068,
                -3.47955528226,
            ]],
        ),
        (
            2,
            strength(0.01),
            &[&[
                -0.146992252932,
                0.173905725775,
                0.00893763373055,
                0.0151909904469,
                -0.675174352897,
            ]],
        ),
        (
            2,
            strength(100.0),
            &[&[
                -2.26397658803,
                0.888235587742,
                0.0485698222826,
                0.0989993584842,
                -3.99730257632,
            ]],
        ),
        (
            2,
            strength(1.0).balanced(true),
            &[&[
                -1.87446948441,
                0.794779000347,
                0.0404939204304,
                0.0773180103251,
                -3.50514883769,
            ]],
        ),
        (
            2,
            strength(1.0).standardize(true),
            &[&[
                -2.09153194881,
                0.812376809268,
                0.0378777347915,
                0.0847622158119,
                -3.56088630333,
            ]],
        ),
        (
            3,
            strength(1.0),
            &[
                &[
                    1.3522629994,
                    -0.435677341114,
                    -0.285396346402,
                    -0.0340572162843,
                    3.35615373645,
                ],
                &[
                    -0.554421348883,
                    0.846401494468,
                    -0.292662842151,
                    0.0688842914868,
                    -1.41595831108,
                ],
                &[
                    -0.797841650519,
                    -0.410724153353,
                    0.578059188553,
                    -0.0348270752025,
                    -1.94019542537,
                ],
            ],
        ),
        (
            3,
            strength(0.01),
            &[
                &[
                    0.144680316615,
                    -0.111696471081,
                    -0.101880636379,
                    0.00222430029404,
                    0.977667245041,
                ],
                &[
                    -0.0713734596596,
                    0.207577422991,
                    -0.103948610575,
                    0.0352222515774,
                    -0.251750381462,
                ],
                &[
                    -0.0733068569557,
                    -0.0958809519094,
                    0.205829246954,
                    -0.0374465518714,
                    -0.725916863579,
                ],
            ],
        ),
        (
            3,
            strength(100.0),
            &[
                &[
                    1.56613865536,
                    -0.475750492208,
                    -0.311033670756,
                    -0.0424071726723,
                    3.66750762497,
                ],
                &[
                    -0.629608536588,
                    0.907319281045,
                    -0.300076835816,
                    0.0717902746544,
                    -1.56890926892,
                ],
                &[
                    -0.936530118769,
                    -0.431568788838,
                    0.611110506571,
                    -0.0293831019824,
                    -2.09859835605,
                ],
            ],
        ),
        (
            3,
            strength(1.0).balanced(true),
            &[
                &[
                    1.34198588958,
                    -0.445276650855,
                    -0.289898248214,
                    -0.0311148441536,
                    3.3564210896,
                ],
                &[
                    -0.547114292042,
                    0.843546118286,
                    -0.287934296216,
                    0.0693031007197,
                    -1.53666697891,
                ],
                &[
                    -0.794871597537,
                    -0.398269467431,
                    0.57783254443,
                    -0.0381882565661,
                    -1.81975411069,
                ],
            ],
        ),
        (
            3,
            strength(1.0).standardize(true),
            &[
                &[
                    1.4629316291,
                    -0.4427099789,
                    -0.284377367876,
                    -0.0368875956477,
                    3.35885234178,
                ],
                &[
                    -0.598150036027,
                    0.837365982778,
                    -0.278319191249,
                    0.0678482670103,
                    -1.44718064609,
                ],
                &[
                    -0.864781593073,
                    -0.394656003877,
                    0.562696559125,
                    -0.0309606713626,
                    -1.91167169569,
                ],
            ],
        ),
    ];
    for (classes, options, expected) in cases {
        let (features, targets) = make_samples(120, 4, classes);
        let fit = fit_quietly(&features, &targets, classes, &options).unwrap();
        assert!(fit.converged, "{options:?}");
        let row = |class: usize| {
            let weights = &fit.weights[class * 4..][..4];
            weights.iter().chain([&fit.bias[class]])
        };
        for (output, expected) in expected.iter().enumerate() {
            for (place, expected) in expected.iter().enumerate() {
                let value = |class| *row(class).nth(place).unwrap();
                let found = match classes {
                    2 => value(1) - value(0),
                    _ => value(output),
                };
                let error = (found - expected).abs() / expected.abs().max(0.1);
                assert!(error < 1e-6, "{options:?}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn strengths_are_judged_as_by_scikit_learn() {
    let strengths = [10.0, 0.001, 0.1, 0.01, 1.0, 1.0];
    let options = TrainingOptions::new().strengths(strengths);
    for (classes, expected) in [(2, [60, 79, 92, 92, 92]), (3, [49, 66, 79, 79, 79])] {
        let (features, targets) = make_samples(120, 4, classes);
        let fit = fit_quietly(&features, &targets, classes, &options).unwrap();
        let found: Vec<_> = fit
            .validations
            .iter()
            .map(|validation| (validation.strength, validation.accuracy))
            .collect();
        let strengths = [0.001, 0.01, 0.1, 1.0, 10.0];
        let expected: Vec<_> = strengths
            .into_iter()
            .zip(expected.map(|correct: u8| f64::from(correct) / 120.0))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(fit.strength, 0.1);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (features, targets) = make_samples(1501, 37, 5);
    let options = TrainingOptions::new().strengths([0.1, 1.0]).folds(3);
    let one = fit_quietly(&features, &targets, 5, &options).unwrap();
    assert_eq!(one.validations.len(), 2);
    for threads in [2, 3, 8] {
        let many = fit_quietly(&features, &targets, 5, &options.clone().threads(threads)).unwrap();
        assert_eq!(one, many);
    }
}

/// These bits are the same on every CPU.
#[test]
fn bits_are_those_of_the_first_machine() {
    let (features, targets) = make_samples(300, 9, 3);
    let fit = fit_quietly(&features, &targets, 3, &TrainingOptions::new()).unwrap();
    let numbers = fit.weights.iter().chain(&fit.bias);
    let bytes: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(format!("{:08x}", crc32fast::hash(&bytes)), "7ad81b32");
}

#[test]
fn separable_classes_have_finite_weights() {
    let features = [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0];
    let targets = [0, 0, 0, 1, 1, 1];
    let mut last = 0.0;
    for c in [1e-6, 1.0, 1e3, 1e6, 1e12] {
        let fit = fit_quietly(&features, &targets, 2, &strength(c)).unwrap();
        assert!(fit.converged && fit.correct == 6, "{c}: {fit:?}");
        assert!(
            fit.weights[1] > last && fit.weights[1].is_finite(),
            "{c}: {fit:?}"
        );
        assert!(fit.bias[0].abs() < 1e-6, "{c}: {fit:?}");
        last = fit.weights[1];
    }
}

#[test]
fn constant_and_repeated_features_share_a_weight() {
    let (features, targets) = make_samples(90, 3, 3);
    let mut wide = Vec::new();
    for row in features.chunks(3) {
        wide.extend([row[0], 1e6 + 0.25, row[1], row[0], 0.0, row[2], row[0]]);
    }
    for options in [strength(1.0), strength(1.0).standardize(true)] {
        let fit = fit_quietly(&wide, &targets, 3, &options).unwrap();
        assert!(fit.converged);
        for row in fit.weights.chunks(7) {
            assert!(row[1].abs() < 1e-7 && row[4] == 0.0, "{row:?}");
            assert!((row[0] - row[3]).abs() < 1e-6, "{row:?}");
            assert!((row[0] - row[6]).abs() < 1e-6, "{row:?}");
        }
    }
    let nothing = vec![2.5; 90 * 4];
    let fit = fit_quietly(&nothing, &targets, 3, &TrainingOptions::new()).unwrap();
    let counts = [0, 1, 2].map(|class| targets.iter().filter(|&&t| t == class).count());
    assert_eq!(Some(fit.correct), counts.into_iter().max());
}

/// A text twice is a text that counts twice.
#[test]
fn duplicates_are_a_greater_strength() {
    let (features, targets) = make_samples(60, 4, 3);
    let twice = |classes: &[u32]| [classes, classes].concat();
    let doubled = [&features[..], &features[..]].concat();
    let one = fit_quietly(&doubled, &twice(&targets), 3, &strength(0.5)).unwrap();
    let other = fit_quietly(&features, &targets, 3, &strength(1.0)).unwrap();
    for (a, b) in one.weights.iter().zip(&other.weights) {
        assert!((a - b).abs() < 1e-7, "{a} {b}");
    }
}

#[test]
fn features_of_any_scale_are_learned_from() {
    let (features, targets) = make_samples(200, 4, 3);
    let best = fit_quietly(&features, &targets, 3, &strength(1e6)).unwrap();
    for scales in [
        [1e30, 1e30, 1e30, 1e30],
        [1e-12, 1e-12, 1e-12, 1e-12],
        [1e30, 1.0, 1e-6, 1e12],
    ] {
        let rows = features.chunks(4);
        let scaled: Vec<f32> = rows
            .flat_map(|row| [0, 1, 2, 3].map(|column| row[column] * scales[column]))
            .collect();
        let fit = fit_quietly(&scaled, &targets, 3, &strength(1e30)).unwrap();
        assert!(fit.converged, "{scales:?}");
        let difference = fit.correct.abs_diff(best.correct);
        assert!(
            difference <= 1,
            "{scales:?}: {} for {}",
            fit.correct,
            best.correct
        );
        let standardized = strength(1e6).standardize(true);
        let fit = fit_quietly(&scaled, &targets, 3, &standardized).unwrap();
        assert!(
            fit.converged && fit.correct.abs_diff(best.correct) <= 1,
            "{scales:?}"
        );
    }
    let largest = [f32::MAX, -f32::MAX, f32::MAX, -f32::MAX];
    let fit = fit_quietly(&largest, &[0, 1, 0, 1], 2, &TrainingOptions::new().folds(2)).unwrap();
    assert_eq!(fit.correct, 4);
    assert!(fit.weights.iter().all(|weight| weight.is_finite()));
}

#[test]
fn refusals_say_what_is_wrong() {
    let options = strength(1.0);
    let starts = |message: String, expected: &str| {
        assert!(message.starts_with(expected), "{message}");
    };
    let two = [0.5, 1.5];
    starts(
        refusal(&two, &[0, 0], 1, &options),
        "classes: expected at least 2",
    );
    starts(
        refusal(&two, &[0, 0], 2, &options),
        "class 1: expected at least 1 text",
    );
    starts(
        refusal(&two, &[0, 1], 3, &options),
        "classes: expected at most as many as texts",
    );
    starts(
        refusal(&two, &[0, 2], 2, &options),
        "text 1, class: expected less than 2",
    );
    starts(
        refusal(&[], &[], 2, &options),
        "features: expected 0 rows of 0 values",
    );
    starts(
        refusal(&[0.5, 1.0, f32::NAN, 2.0], &[0, 1], 2, &options),
        "text 1, feature 0: expected a finite number, found NaN",
    );
    for unusable in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        starts(
            refusal(&two, &[0, 1], 2, &strength(unusable)),
            "strength: expected a number",
        );
    }
    let none = TrainingOptions::new().strengths([]);
    starts(
        refusal(&two, &[0, 1], 2, &none),
        "strengths: expected at least 1",
    );
    let folds = TrainingOptions::new();
    starts(refusal(&two, &[0, 1], 2, &folds), "folds: expected 2 to");
    starts(
        refusal(&two, &[0, 1], 2, &options.clone().threads(0)),
        "threads: expected 1 to",
    );
    let odd = fit(&[1.0; 5], 2, &[0, 1], 2, &options, &mut Monitor::default());
    starts(
        odd.unwrap_err().to_string(),
        "features: expected 2 rows of 2 values",
    );
}

#[test]
fn training_tells_its_progress_and_can_be_cancelled() {
    let (features, targets) = make_samples(120, 4, 3);
    let options = TrainingOptions::new().strengths([0.1, 1.0]).folds(4);
    let mut steps = Vec::new();
    let mut note = |step| steps.push(step);
    let mut monitor = Monitor {
        cancellation: None,
        progress: Some(&mut note),
    };
    fit(&features, 4, &targets, 3, &options, &mut monitor).unwrap();
    let expected = (0..=8).map(|done| TrainingStep::Validation { done, total: 8 });
    assert_eq!(
        steps,
        expected.chain([TrainingStep::Fit]).collect::<Vec<_>>()
    );

    for end in [
        TrainingStep::Validation { done: 5, total: 8 },
        TrainingStep::Fit,
    ] {
        let cancellation = Cancellation::new();
        let mut last = None;
        let mut cancel = |step| {
            last = Some(step);
            if step == end {
                cancellation.cancel();
            }
        };
        let mut monitor = Monitor {
            cancellation: Some(&cancellation),
            progress: Some(&mut cancel),
        };
        let error = fit(&features, 4, &targets, 3, &options, &mut monitor).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Cancelled);
        assert_eq!(last, Some(end));
    }
}
