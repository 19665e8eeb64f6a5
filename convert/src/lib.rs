//! From a trained checkpoint to ONNX, int8 and one `.filbert` file.

pub mod balance;
pub mod checkpoint;
pub mod config;
pub mod conversion;
pub mod dataset;
pub mod error;
pub mod evaluation;
pub mod onnx;
pub mod output;
pub mod package;
pub mod progress;
pub mod published;
pub mod quantize;
pub mod reference;
pub mod synthetic;
pub mod vocabulary;

pub use checkpoint::Checkpoint;
pub use error::Error;
