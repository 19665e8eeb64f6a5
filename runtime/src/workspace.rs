//! The memory of one call: grows with the longest text seen, and is used again.

use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// The residual stream as the next product reads it.
    pub(crate) quantized: Buffer<u8>,
    /// A scale for each quantized row.
    pub(crate) scales: Vec<RowScale>,
    /// The attention's context, `[tokens, heads]`.
    pub(crate) context: Buffer<f32>,
    /// The rows of `quantized` that begin a text.
    pub(crate) gathered: Buffer<u8>,
    pub(crate) gathered_scales: Vec<RowScale>,
    /// What the head's dense layer makes of each text, `[texts, hidden]`.
    pub(crate) pooled: Buffer<f32>,
    /// `[texts, labels]`, padded.
    pub(crate) logits: Buffer<f32>,
    /// One for each thread.
    pub(crate) threads: Vec<ThreadScratch>,
    /// Set while the inputs of products are observed.
    pub(crate) observed: Option<ObservedInputs>,
    /// Set while the steps are timed.
    pub(crate) profile: Option<Profile>,
}

impl Workspace {
    /// For as many threads.
    pub(crate) fn new(threads: usize) -> Self {
        let mut workspace = Self::default();
        workspace.threads.resize_with(threads, Default::default);
        workspace
    }

    /// Ends a phase that the threads worked on at once.
    pub(crate) fn end_phase(&mut self) {
        if let Some(profile) = &mut self.profile {
            let threads = self.threads.iter_mut();
            profile.end_phase(threads.filter_map(|thread| thread.profile.as_mut()));
        }
    }
}

/// Workspaces that no call uses now.
pub(crate) struct Pool {
    /// That a workspace is for.
    threads: usize,
    free: Mutex<Vec<Workspace>>,
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            free: Mutex::new(Vec::new()),
        }
    }

    /// A free workspace, or a new one.
    pub(crate) fn take(&self) -> Workspace {
        let free = self.lock().pop();
        free.unwrap_or_else(|| Workspace::new(self.threads))
    }

    /// Keeps a workspace for the next call.
    pub(crate) fn put_back(&self, workspace: Workspace) {
        self.lock().push(workspace);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buffers of one thread.
#[derive(Default)]
pub(crate) struct ThreadScratch {
    /// Queries, keys and values of some heads: `[heads, tokens, head]` of each.
    pub(crate) projections: Buffer<f32>,
    pub(crate) attention: AttentionScratch,
    pub(crate) layer: LayerScratch,
    /// One row, `[intermediate]`.
    pub(crate) activated: Buffer<f32>,
    /// Set while the steps are timed.
    pub(crate) profile: Option<Profile>,
}

/// The buffers of some rows, from their context to the next layer.
#[derive(Default)]
pub(crate) struct LayerScratch {
    /// The input of the next product, and its scales.
    pub(crate) quantized: Buffer<u8>,
    pub(crate) scales: Vec<RowScale>,
    /// The residual stream between attention and feed-forward, `[rows, hidden]`.
    pub(crate) hidden: Buffer<f32>,
    /// `[rows, intermediate]`.
    pub(crate) intermediate: Buffer<f32>,
}
