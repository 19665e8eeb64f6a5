//! Calls that end before they are done, because they are cancelled or the classifier closes.

use std::sync::Barrier;
use std::time::Duration;

use filbert::{Cancellation, Classifier, ErrorCode, Input, Model, Options};
use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_tests::shared;

fn open(threads: usize) -> Classifier {
    let checkpoint = Checkpoint::open(&shared::tiny_model()).unwrap();
    let bytes = Package::build(&checkpoint, &mut Quiet)
        .unwrap()
        .into_bytes();
    Classifier::new(
        Model::from_vec(bytes).unwrap(),
        &Options::new().threads(threads),
    )
    .unwrap()
}

const TEXT: &str = "a gorgeous, witty film that nobody should miss, whatever the weather";

/// A batch that takes a thread longer than any test waits.
fn endless() -> Vec<Input<'static>> {
    vec![TEXT.into(); 200_000]
}

fn code<T: std::fmt::Debug>(result: Result<T, filbert::Error>) -> ErrorCode {
    result.unwrap_err().code()
}

#[test]
fn a_cancelled_call_ends_soon_and_leaves_nothing() {
    for threads in [1, 2, 3] {
        let classifier = open(threads);
        let cancellation = Cancellation::new();
        let endless = endless();
        let began = Barrier::new(2);
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let mut results = vec![classifier.classify(TEXT).unwrap()];
                began.wait();
                let code =
                    code(classifier.classify_batch_until(&endless, &cancellation, &mut results));
                assert!(results.iter().all(|result| result.logits().is_empty()));
                code
            });
            began.wait();
            std::thread::sleep(Duration::from_millis(30));
            cancellation.clone().cancel();
            assert_eq!(call.join().unwrap(), ErrorCode::Cancelled);
        });
        // It stays cancelled, for the calls that have it.
        let mut results = Vec::new();
        let inputs = [TEXT.into()];
        let again = classifier.classify_batch_until(&inputs, &cancellation, &mut results);
        assert_eq!(code(again), ErrorCode::Cancelled);
        let other = Cancellation::new();
        classifier
            .classify_batch_until(&inputs, &other, &mut results)
            .unwrap();
        assert_eq!(results[0], classifier.classify(TEXT).unwrap());
        classifier.self_test().unwrap();
    }
}

#[test]
fn a_closed_classifier_ends_its_calls_and_takes_no_more() {
    for threads in [1, 3] {
        let classifier = open(threads);
        let endless = endless();
        let began = Barrier::new(4);
        std::thread::scope(|scope| {
            let call = || {
                began.wait();
                code(classifier.classify_batch(&endless))
            };
            let calls = [scope.spawn(call), scope.spawn(call), scope.spawn(call)];
            began.wait();
            std::thread::sleep(Duration::from_millis(30));
            classifier.close();
            for call in calls {
                assert_eq!(call.join().unwrap(), ErrorCode::Closed);
            }
        });
        classifier.close();
        assert_eq!(code(classifier.classify(TEXT)), ErrorCode::Closed);
        assert_eq!(code(classifier.classify_batch(&[])), ErrorCode::Closed);
        assert_eq!(code(classifier.self_test()), ErrorCode::Closed);
    }
}
