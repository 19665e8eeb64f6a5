//! From a trained checkpoint to ONNX, int8 and one `.filbert` file.
//!
//! Three cargo features leave parts out: without `onnx` there is neither ONNX nor the float32
//! reference; without `hub` checkpoints are folders only; without `convert` there are no
//! checkpoints, only labelled texts and what a `.filbert` file makes of them.

pub mod dataset;
pub mod error;
pub mod evaluation;
pub mod output;
pub mod progress;
pub mod tags;

#[cfg(feature = "convert")]
mod balance;
#[cfg(feature = "convert")]
pub mod checkpoint;
#[cfg(feature = "convert")]
pub mod config;
#[cfg(feature = "convert")]
pub mod conversion;
#[cfg(feature = "convert")]
pub mod hub;
#[cfg(feature = "convert")]
mod input;
#[cfg(feature = "convert")]
pub mod package;
#[cfg(feature = "convert")]
mod parallel;
#[cfg(feature = "convert")]
pub mod published;
#[cfg(feature = "convert")]
pub mod quantization;
#[cfg(feature = "convert")]
pub mod quantize;
#[cfg(feature = "convert")]
mod rotation;
#[cfg(feature = "convert")]
mod rounding;
#[cfg(feature = "convert")]
pub mod sensitivity;
#[cfg(feature = "convert")]
pub mod synthetic;
#[cfg(feature = "convert")]
pub mod task;
#[cfg(feature = "convert")]
pub mod vocabulary;
#[cfg(feature = "convert")]
pub mod weights;

#[cfg(feature = "onnx")]
pub mod comparison;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "onnx")]
pub mod reference;

#[cfg(feature = "convert")]
pub use checkpoint::Checkpoint;
pub use error::Error;
