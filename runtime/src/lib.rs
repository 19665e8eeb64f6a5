//! Filbert's runtime: from text to label, with int8 arithmetic that gives the same bits on
//! every CPU.
//!
//! ```no_run
//! let classifier = filbert::Classifier::open("sentiment.filbert")?;
//! let result = classifier.classify("a gorgeous, witty film")?;
//! let best = &result.categories()[0];
//! println!("{} {:.1} %", best.label, best.score * 100.0);
//! # Ok::<(), filbert::Error>(())
//! ```

#[doc(hidden)]
pub mod benchmark;
#[doc(hidden)]
pub mod format;

mod attention;
mod cancellation;
mod classifier;
mod embedding;
mod encoder;
mod error;
mod executor;
mod fine;
mod head;
#[expect(unsafe_code, reason = "SIMD, and views of disjoint memory")]
mod kernels;
mod linear;
mod model;
mod observation;
mod profile;
mod runner;
mod session;
mod tokenizer;
pub mod training;
#[expect(unsafe_code, reason = "threads that share a job")]
mod workers;
mod workspace;

pub use cancellation::Cancellation;
pub use classifier::{Category, Classification, Classifier, Options};
pub use error::{Error, ErrorCode};
pub use format::{Head, Problem, Shape};
pub use head::answers::{Answer, QuestionAnswerer};
pub use head::embedding::{Embedder, Embedding, Features};
pub use head::tokens::{Entity, TokenClassification, TokenClassifier};
pub use head::trained::TrainedHead;
pub use head::words::{MaskedWord, Word, WordFiller};
pub use kernels::kernel_sets;
pub use model::{Model, SectionInfo};
#[doc(hidden)]
pub use observation::{ObservedInputs, ObservedLayer, ObservedRows};
#[doc(hidden)]
pub use profile::Measurement;
pub use runner::{RawOutput, Runner};
pub use session::Input;
#[doc(hidden)]
pub use tokenizer::tokenize_section;
pub use tokenizer::{Token, Truncation};
