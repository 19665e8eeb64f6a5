//! The memory of one call: grows with the longest text seen, and is used again.
//!
//! A call whose like came before allocates nothing. Which thread needed what varies from call to
//! call, so after each the threads' buffers are made equal.

use std::collections::BinaryHeap;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::{Pod, Zeroable};

use crate::attention::AttentionScratch;
use crate::error::Error;
use crate::fine::FineScratch;
use crate::kernels::rows::RowScale;
use crate::observation::ObservedInputs;
use crate::profile::Profile;
use crate::tokenizer::{Alignment, Encoded, Encoding, Scratch, Word};

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
    /// The first `count` values, whatever they are.
    pub(crate) fn first(&mut self, count: usize) -> &mut [T] {
        self.grow(count * size_of::<T>());
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..count]
    }
}

/// Memory that grows and is used again.
trait Reusable {
    /// Bytes of it.
    fn bytes(&self) -> usize;

    /// Makes room for as many bytes at least. What is in it may be lost.
    fn grow(&mut self, bytes: usize);
}

impl<T: Pod> Reusable for Buffer<T> {
    fn bytes(&self) -> usize {
        size_of_val(&self.lines[..])
    }

    fn grow(&mut self, bytes: usize) {
        let lines = bytes.div_ceil(size_of::<Line>());
        if lines > self.lines.len() {
            // Not both at once; and fresh zeros are pages that nobody has touched.
            self.lines = Vec::new();
            self.lines = bytemuck::zeroed_vec(lines);
        }
    }
}

impl<T> Reusable for Vec<T> {
    fn bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }

    fn grow(&mut self, bytes: usize) {
        let count = bytes.div_ceil(size_of::<T>());
        self.reserve_exact(count.saturating_sub(self.len()));
    }
}

impl<T: Ord> Reusable for BinaryHeap<T> {
    fn bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }

    fn grow(&mut self, bytes: usize) {
        let count = bytes.div_ceil(size_of::<T>());
        self.reserve_exact(count.saturating_sub(self.len()));
    }
}

impl Reusable for String {
    fn bytes(&self) -> usize {
        self.capacity()
    }

    fn grow(&mut self, bytes: usize) {
        self.reserve_exact(bytes.saturating_sub(self.len()));
    }
}

/// Gives each of several owners of the same buffers as much of each as any of them has.
fn make_equal<'a, T: 'a, const N: usize>(
    owners: &'a mut [T],
    buffers: impl Fn(&mut T) -> [&mut dyn Reusable; N],
) {
    let mut most = [0; N];
    let mut all_equal = true;
    for (number, owner) in owners.iter_mut().enumerate() {
        for (most, buffer) in most.iter_mut().zip(buffers(owner)) {
            let bytes = buffer.bytes();
            all_equal &= number == 0 || bytes == *most;
            *most = bytes.max(*most);
        }
    }
    if all_equal {
        return;
    }
    for owner in owners {
        for (most, buffer) in most.iter().zip(buffers(owner)) {
            buffer.grow(*most);
        }
    }
}

fn total_bytes<const N: usize>(buffers: [&mut dyn Reusable; N]) -> usize {
    buffers.iter().map(|buffer| buffer.bytes()).sum()
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
    /// The residual stream as a fine product reads it, and its rows that begin a text.
    pub(crate) fine: [FineScratch; 2],
    /// What the head's dense layer makes of each text, `[texts, hidden]`.
    pub(crate) pooled: Buffer<f32>,
    /// What the head makes of the texts, `[rows, output width]`.
    pub(crate) outputs: Buffer<f32>,
    /// Where the rows of each text begin in `outputs`, and where those of the last one end.
    pub(crate) output_boundaries: Vec<usize>,
    /// How each text was encoded.
    pub(crate) encoded: Vec<Encoded>,
    /// The scores of one row, `[labels]`.
    pub(crate) scores: Vec<f32>,
    /// Where each run of a divided batch begins, and where the last one ends.
    pub(crate) runs: Vec<usize>,
    /// How each run ended.
    pub(crate) outcomes: Vec<Result<(), Error>>,
    /// One for each thread, where a batch is divided by texts; each for one thread alone.
    pub(crate) parts: Vec<Self>,
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

    /// Makes ready for other texts.
    pub(crate) fn clear_texts(&mut self) {
        self.encoding.clear();
        self.encoded.clear();
        self.boundaries.clear();
        self.boundaries.push(0);
    }

    /// The buffers of all threads together.
    fn buffers(&mut self) -> [&mut dyn Reusable; 29] {
        let Encoding {
            ids,
            token_types,
            offsets,
            texts,
        } = &mut self.encoding;
        let Scratch {
            text,
            alignment,
            marks,
            word: Word { symbols, queue },
        } = &mut self.scratch;
        let Alignment {
            starts, waiting, ..
        } = alignment;
        let [all, first] = &mut self.fine;
        [
            ids,
            token_types,
            offsets,
            texts,
            text,
            starts,
            waiting,
            marks,
            symbols,
            queue,
            &mut self.boundaries,
            &mut self.units,
            &mut self.hidden,
            &mut self.quantized,
            &mut self.scales,
            &mut self.context,
            &mut self.gathered,
            &mut self.gathered_scales,
            &mut self.pooled,
            &mut self.outputs,
            &mut self.output_boundaries,
            &mut self.encoded,
            &mut self.scores,
            &mut self.runs,
            &mut self.outcomes,
            &mut all.quantized,
            &mut all.scales,
            &mut first.quantized,
            &mut first.scales,
        ]
    }

    /// Bytes of all buffers.
    pub(crate) fn bytes(&mut self) -> usize {
        let threads = self.threads.iter_mut();
        let of_threads: usize = threads.map(|thread| total_bytes(thread.buffers())).sum();
        let of_parts: usize = self.parts.iter_mut().map(Self::bytes).sum();
        total_bytes(self.buffers()) + of_threads + of_parts
    }

    /// Makes the threads' buffers equal, so that it does not matter to the next call which
    /// thread does what.
    pub(crate) fn make_threads_equal(&mut self) {
        make_equal(&mut self.threads, ThreadScratch::buffers);
        make_equal(&mut self.parts, Self::buffers);
        // A part is for one thread.
        make_equal(&mut self.parts, |part| part.threads[0].buffers());
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
    pub(crate) fn put_back(&self, mut workspace: Workspace) {
        workspace.scratch.shrink();
        for part in &mut workspace.parts {
            part.scratch.shrink();
        }
        workspace.make_threads_equal();
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
    pub(crate) fine: FineScratch,
    /// One row as it is quantized, of any product.
    pub(crate) balanced: Buffer<f32>,
    /// Set while the steps are timed.
    pub(crate) profile: Option<Profile>,
}

impl ThreadScratch {
    fn buffers(&mut self) -> [&mut dyn Reusable; 17] {
        let AttentionScratch {
            keys,
            key_columns,
            values,
            value_columns,
            queries,
            scores,
            probabilities,
            scales,
        } = &mut self.attention;
        let LayerScratch {
            quantized,
            scales: row_scales,
            hidden,
            intermediate,
        } = &mut self.layer;
        let FineScratch {
            quantized: fine,
            scales: fine_scales,
            products,
        } = &mut self.fine;
        [
            &mut self.projections,
            &mut self.balanced,
            keys,
            key_columns,
            values,
            value_columns,
            queries,
            scores,
            probabilities,
            scales,
            quantized,
            row_scales,
            hidden,
            intermediate,
            fine,
            fine_scales,
            products,
        ]
    }
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

impl LayerScratch {
    /// Makes room for as many rows of these widths.
    pub(crate) fn make_ready(&mut self, rows: usize, hidden: usize, heads: usize, wide: usize) {
        self.quantized.first(rows * hidden.max(heads).max(wide));
        self.scales
            .reserve_exact(rows.saturating_sub(self.scales.len()));
        self.hidden.first(rows * hidden);
        self.intermediate.first(rows * wide);
    }
}
