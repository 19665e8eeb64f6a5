//! The memory of one call: grows with the longest text seen, and is used again.

use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

use crate::attention::AttentionScratch;
use crate::kernels::rows::RowScale;
use crate::observation::ObservedInputs;
use crate::profile::Profile;
use crate::tokenizer::{Encoding, Scratch};

/// A cache line.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Values that begin on a cache line.
pub(crate) struct Buffer<T> {
    lines: Vec<Line>,
    values: PhantomData<T>,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            values: PhantomData,
        }
    }
}

impl<T: Pod> Buffer<T> {
    /// The first `count` values, whatever they were; new ones are zero.
    pub(crate) fn first(&mut self, count: usize) -> &mut [T] {
        let lines = (count * size_of::<T>()).div_ceil(size_of::<Line>());
        if lines > self.lines.len() {
            self.lines.resize(lines, Line::zeroed());
        }
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..count]
    }
}

/// All buffers of one call.
#[derive(Default)]
pub(crate) struct Workspace {
    /// The tokens of all texts, one text after another.
    pub(crate) encoding: Encoding,
    pub(crate) scratch: Scratch,
    /// Where each text's tokens begin, and where the last one's end.
    pub(crate) boundaries: Vec<usize>,
    /// `0, 1, 2, …`: the boundaries of one row a text.
    pub(crate) units: Vec<usize>,
    /// The residual stream, `[tokens, hidden]`.
    pub(crate) hidden: Buffer<f32>,
    /// What is to be added to the residual stream, `[tokens, hidden]`, and before that the
    /// attention's context, `[tokens, heads]`.
    pub(crate) update: Buffer<f32>,
    /// The widest activations: `[tokens, 3 heads]` or `[tokens, intermediate]`.
    pub(crate) wide: Buffer<f32>,
    /// The queries of the last layer, `[texts, heads]`.
    pub(crate) queries: Buffer<f32>,
    /// The quantized input of the next product.
    pub(crate) quantized: Buffer<u8>,
    /// A scale for each quantized row.
    pub(crate) scales: Vec<RowScale>,
    /// The rows of `quantized` that begin a text.
    pub(crate) gathered: Buffer<u8>,
    pub(crate) gathered_scales: Vec<RowScale>,
    /// One for each thread.
    pub(crate) attention: Vec<AttentionScratch>,
    /// One row for each thread, `[intermediate]`.
    pub(crate) activated: Vec<Buffer<f32>>,
    /// Set while the inputs of products are observed.
    pub(crate) observed: Option<ObservedInputs>,
    /// Set while the steps are timed.
    pub(crate) profile: Option<Profile>,
    /// `[texts, labels]`, padded.
    pub(crate) logits: Buffer<f32>,
}
