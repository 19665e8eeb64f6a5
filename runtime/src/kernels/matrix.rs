//! Views of row-major matrices, and their division into parts that threads may write at once.

use std::marker::PhantomData;
use std::ops::Range;

use crate::format::PANEL;

/// A matrix to read: `rows` rows of `columns` values, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    /// From the first value of the first row to the last of the last.
    values: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// The rows of `columns` values that fill `values`.
    pub(crate) fn new(values: &'a [T], columns: usize) -> Self {
        Self {
            values,
            rows: values.len() / columns,
            columns,
            stride: columns,
        }
    }

    /// A part of the matrix.
    ///
    /// # Panics
    /// If the ranges leave the matrix.
    pub(crate) fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        assert!(columns.start <= columns.end && columns.end <= self.columns);
        let count = rows.len();
        let values = if count == 0 {
            &[]
        } else {
            let start = rows.start * self.stride + columns.start;
            &self.values[start..start + (count - 1) * self.stride + columns.len()]
        };
        Self {
            values,
            rows: count,
            columns: columns.len(),
            stride: self.stride,
        }
    }

    /// Some rows.
    pub(crate) fn rows_part(&self, rows: Range<usize>) -> Self {
        self.part(rows, 0..self.columns)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.stride..][..self.columns]
    }
}

/// A matrix to write. Several may interleave in memory, but no value belongs to two of them.
pub(crate) struct MatrixMut<'a, T> {
    first: *mut T,
    rows: usize,
    columns: usize,
    stride: usize,
    values: PhantomData<&'a mut [T]>,
}

// SAFETY: a `MatrixMut` is the only way to its values for `'a`, as a `&mut [T]` would be.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}

impl<'a, T> MatrixMut<'a, T> {
    /// The rows of `columns` values that fill `values`.
    pub(crate) fn new(values: &'a mut [T], columns: usize) -> Self {
        Self {
            first: values.as_mut_ptr(),
            rows: values.len() / columns,
            columns,
            stride: columns,
            values: PhantomData,
        }
    }

    /// A part of the matrix that may be written beside other parts.
    ///
    /// # Safety
    /// No other live part of this matrix shares a value with it.
    unsafe fn disjoint_part(&self, rows: Range<usize>, columns: Range<usize>) -> MatrixMut<'a, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        assert!(columns.start <= columns.end && columns.end <= self.columns);
        MatrixMut {
            // `wrapping_add`: an empty part may begin past the end, and is never read.
            first: self
                .first
                .wrapping_add(rows.start * self.stride + columns.start),
            rows: rows.len(),
            columns: columns.len(),
            stride: self.stride,
            values: PhantomData,
        }
    }

    /// A part of the matrix.
    pub(crate) fn part_mut(
        &mut self,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> MatrixMut<'_, T> {
        // SAFETY: the part borrows `self`, so no other part can be made while it lives.
        unsafe { self.disjoint_part(rows, columns) }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The whole matrix, to read.
    ///
    /// # Panics
    /// If its rows are parts of wider ones: what lies between them may belong to others.
    pub(crate) fn as_matrix(&self) -> Matrix<'_, T> {
        assert!(self.columns == self.stride || self.rows <= 1);
        let length = self.rows * self.columns;
        Matrix {
            // SAFETY: the rows lie side by side in the slice that `new` was given, they are this
            // matrix's alone (`disjoint_part`), and it is borrowed.
            values: unsafe { std::slice::from_raw_parts(self.first, length) },
            rows: self.rows,
            columns: self.columns,
            stride: self.columns,
        }
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows);
        // SAFETY: `row` is in range, so these `columns` values lie inside the slice that `new`
        // was given, and they are this matrix's alone (`disjoint_part`).
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }
}

/// What a product writes: panels of 16 columns, side by side in rows or apart by groups, such as
/// the heads of attention. No value belongs to two of them.
pub(crate) struct PanelsMut<'a> {
    matrix: MatrixMut<'a, f32>,
    /// The first panel, counted from the first value.
    start: usize,
    panels: usize,
    /// Panels of a group, which lie side by side.
    group: usize,
    /// Values from one group to the next.
    group_stride: usize,
}

impl<'a> PanelsMut<'a> {
    /// The panels of a matrix.
    ///
    /// # Panics
    /// If its columns are not whole panels.
    pub(crate) fn new(matrix: MatrixMut<'a, f32>) -> Self {
        assert!(matrix.columns.is_multiple_of(PANEL));
        Self {
            start: 0,
            panels: matrix.columns / PANEL,
            group: (matrix.columns / PANEL).max(1),
            group_stride: 0,
            matrix,
        }
    }

    /// Groups of `width` columns that fill `values`, each `[rows, width]`.
    ///
    /// # Panics
    /// If `values` are not whole groups, or groups not whole panels of some rows.
    pub(crate) fn grouped(values: &'a mut [f32], rows: usize, width: usize) -> Self {
        assert!(rows > 0 && width > 0 && width.is_multiple_of(PANEL));
        assert!(values.len().is_multiple_of(rows * width));
        let groups = values.len() / (rows * width);
        let mut matrix = MatrixMut::new(values, width);
        matrix.rows = rows;
        Self {
            start: 0,
            panels: groups * width / PANEL,
            group: width / PANEL,
            group_stride: rows * width,
            matrix,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.matrix.rows
    }

    pub(crate) fn panels(&self) -> usize {
        self.panels
    }

    /// Some rows of some panels that may be written beside others.
    ///
    /// # Safety
    /// No other live part shares a value with it.
    unsafe fn disjoint_part(&self, rows: Range<usize>, panels: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.matrix.rows);
        assert!(panels.start <= panels.end && panels.end <= self.panels);
        Self {
            matrix: MatrixMut {
                // `wrapping_add`: a part without rows may begin past the end, and is never read.
                first: self
                    .matrix
                    .first
                    .wrapping_add(rows.start * self.matrix.stride),
                rows: rows.len(),
                ..self.matrix
            },
            start: self.start + panels.start,
            panels: panels.len(),
            ..*self
        }
    }

    /// Some rows of some panels.
    pub(crate) fn part_mut(&mut self, rows: Range<usize>, panels: Range<usize>) -> PanelsMut<'_> {
        // SAFETY: the part borrows `self`, so no other part can be made while it lives.
        unsafe { self.disjoint_part(rows, panels) }
    }

    /// Each of `P` panels from `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub(crate) fn columns_mut<const P: usize>(&mut self, first: usize) -> [PanelMut<'_>; P] {
        assert!(first + P <= self.panels);
        std::array::from_fn(|p| {
            let panel = self.start + first + p;
            let at = panel / self.group * self.group_stride + panel % self.group * PANEL;
            PanelMut {
                // In the values that `new` or `grouped` was given, if there are rows.
                first: self.matrix.first.wrapping_add(at),
                rows: self.matrix.rows,
                stride: self.matrix.stride,
                values: PhantomData,
            }
        })
    }
}

/// One panel of what a product writes.
pub(crate) struct PanelMut<'a> {
    first: *mut f32,
    rows: usize,
    stride: usize,
    values: PhantomData<&'a mut [f32]>,
}

impl PanelMut<'_> {
    #[inline(always)]
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32; PANEL] {
        assert!(row < self.rows);
        // SAFETY: `row` is in range, so these 16 values lie inside the slice that `PanelsMut`
        // was given, and they are this panel's alone (`columns_mut`, `disjoint_part`).
        unsafe { &mut *self.first.add(row * self.stride).cast() }
    }
}

/// The first row and the height of each tile: at most `most` rows, as even as can be, so that no
/// tile is left with one row.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64", test)),
    expect(dead_code, reason = "the reference has no tiles")
)]
#[inline(always)]
pub(crate) fn row_tiles(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = rows.div_ceil(most);
    let mut first = 0;
    (0..tiles).map(move |tile| {
        let row = first;
        let height = (rows - row).div_ceil(tiles - tile);
        first += height;
        (row, height)
    })
}

/// Something that is written in disjoint parts, one by each task.
///
/// # Safety
/// Parts of different numbers share no memory.
pub(crate) unsafe trait Parts: Sync {
    /// What one task writes.
    type Part;

    /// The part of task `number`.
    ///
    /// # Safety
    /// Each number is asked for at most once.
    unsafe fn part(&self, number: usize) -> Self::Part;
}

/// A slice in chunks of one length, the last perhaps shorter.
pub(crate) struct Chunks<'a, T> {
    matrix: MatrixMut<'a, T>,
    length: usize,
}

impl<'a, T> Chunks<'a, T> {
    pub(crate) fn new(values: &'a mut [T], length: usize) -> Self {
        let columns = values.len();
        let rows = usize::from(columns > 0);
        Self {
            matrix: MatrixMut {
                first: values.as_mut_ptr(),
                rows,
                columns,
                stride: columns,
                values: PhantomData,
            },
            length,
        }
    }
}

// SAFETY: only `part` reaches the values, in disjoint chunks.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

// SAFETY: chunks of different numbers are different ranges of the one row.
unsafe impl<'a, T: Send + 'a> Parts for Chunks<'a, T> {
    type Part = &'a mut [T];

    unsafe fn part(&self, number: usize) -> &'a mut [T] {
        let start = (number * self.length).min(self.matrix.columns);
        let end = (start + self.length).min(self.matrix.columns);
        if start == end {
            return &mut [];
        }
        // SAFETY: the range lies in the slice that `new` was given, and by the caller's promise
        // no other part holds this number, hence these values.
        unsafe { std::slice::from_raw_parts_mut(self.matrix.first.add(start), end - start) }
    }
}

/// A slice in runs of any lengths.
pub(crate) struct Runs<'a, T> {
    chunks: Chunks<'a, T>,
    bounds: &'a [usize],
}

impl<'a, T> Runs<'a, T> {
    /// A run begins at each of `bounds` but the last, where the last run ends.
    ///
    /// # Panics
    /// If the bounds fall, or go beyond the values.
    pub(crate) fn new(values: &'a mut [T], bounds: &'a [usize]) -> Self {
        assert!(bounds.is_sorted() && bounds.last().is_none_or(|&end| end <= values.len()));
        Self {
            chunks: Chunks::new(values, 1),
            bounds,
        }
    }
}

// SAFETY: a run is a range of chunks of one value, and since the bounds ascend (checked in
// `new`), ranges of different numbers are disjoint.
unsafe impl<'a, T: Send + 'a> Parts for Runs<'a, T> {
    type Part = &'a mut [T];

    unsafe fn part(&self, number: usize) -> &'a mut [T] {
        let (start, end) = (self.bounds[number], self.bounds[number + 1]);
        if start == end {
            return &mut [];
        }
        // SAFETY: the range lies in the slice, as `new` checked, and by the caller's promise no
        // other part holds this number, hence these values.
        unsafe { std::slice::from_raw_parts_mut(self.chunks.matrix.first.add(start), end - start) }
    }
}

/// A matrix in blocks of rows.
pub(crate) struct RowBlocks<'a, T> {
    matrix: MatrixMut<'a, T>,
    height: usize,
}

impl<'a, T> RowBlocks<'a, T> {
    pub(crate) fn new(matrix: MatrixMut<'a, T>, height: usize) -> Self {
        Self { matrix, height }
    }
}

// SAFETY: only `part` reaches the values, in disjoint blocks.
unsafe impl<T: Send> Sync for RowBlocks<'_, T> {}

// SAFETY: blocks of different numbers have no row in common.
unsafe impl<'a, T: Send + 'a> Parts for RowBlocks<'a, T> {
    type Part = MatrixMut<'a, T>;

    unsafe fn part(&self, number: usize) -> MatrixMut<'a, T> {
        let first = (number * self.height).min(self.matrix.rows);
        let rows = first..(first + self.height).min(self.matrix.rows);
        // SAFETY: by the caller's promise no other part holds this number, hence these values.
        unsafe { self.matrix.disjoint_part(rows, 0..self.matrix.columns) }
    }
}

/// The output of a product in runs of panels.
pub(crate) struct PanelRuns<'a> {
    panels: PanelsMut<'a>,
    length: usize,
}

impl<'a> PanelRuns<'a> {
    pub(crate) fn new(panels: PanelsMut<'a>, length: usize) -> Self {
        Self { panels, length }
    }
}

// SAFETY: only `part` reaches the values, in disjoint runs of panels.
unsafe impl Sync for PanelRuns<'_> {}

// SAFETY: runs of different numbers have no panel in common.
unsafe impl<'a> Parts for PanelRuns<'a> {
    type Part = PanelsMut<'a>;

    unsafe fn part(&self, number: usize) -> PanelsMut<'a> {
        let first = (number * self.length).min(self.panels.panels);
        let panels = first..(first + self.length).min(self.panels.panels);
        // SAFETY: by the caller's promise no other part holds this number, hence these values.
        unsafe {
            self.panels
                .disjoint_part(0..self.panels.matrix.rows, panels)
        }
    }
}

// SAFETY: parts of the tuple are disjoint because the parts of each member are.
unsafe impl<A: Parts, B: Parts> Parts for (A, B) {
    type Part = (A::Part, B::Part);

    unsafe fn part(&self, number: usize) -> Self::Part {
        // SAFETY: passed on from the caller.
        unsafe { (self.0.part(number), self.1.part(number)) }
    }
}

// SAFETY: as for the pair.
unsafe impl<A: Parts, B: Parts, C: Parts> Parts for (A, B, C) {
    type Part = (A::Part, B::Part, C::Part);

    unsafe fn part(&self, number: usize) -> Self::Part {
        // SAFETY: passed on from the caller.
        unsafe {
            (
                self.0.part(number),
                self.1.part(number),
                self.2.part(number),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_grouped_panels_cover_every_value_once() {
        for (groups, rows, width) in [(3, 5, 32), (2, 1, 16), (1, 7, 48)] {
            let mut values = vec![0.0; groups * rows * width];
            let panels = groups * width / PANEL;
            for length in 1..=panels {
                values.fill(0.0);
                let runs = PanelRuns::new(PanelsMut::grouped(&mut values, rows, width), length);
                for number in 0..panels.div_ceil(length) + 1 {
                    // SAFETY: the loop gives each number once.
                    let mut run = unsafe { runs.part(number) };
                    for row in 0..rows {
                        let of_run = run.panels();
                        let mut one = run.part_mut(row..row + 1, 0..of_run);
                        for panel in 0..of_run {
                            let [mut column] = one.columns_mut(panel);
                            for value in column.row_mut(0) {
                                *value += ((number * length + panel) * 100 + row + 1) as f32;
                            }
                        }
                    }
                }
                for (i, &value) in values.iter().enumerate() {
                    let (group, row) = (i / (rows * width), i / width % rows);
                    let panel = group * width / PANEL + i % width / PANEL;
                    assert_eq!(value, (panel * 100 + row + 1) as f32);
                }
            }
        }
    }

    #[test]
    fn tiles_cover_the_rows_evenly() {
        for rows in 0..100 {
            let mut heights = Vec::new();
            for (first, height) in row_tiles(rows, 6) {
                assert_eq!(first, heights.iter().sum::<usize>());
                heights.push(height);
            }
            assert_eq!(heights.iter().sum::<usize>(), rows);
            assert!(heights.iter().all(|&h| (1..=6).contains(&h)));
            let (least, most) = (heights.iter().min(), heights.iter().max());
            assert!(
                most.zip(least)
                    .is_none_or(|(most, least)| most - least <= 1)
            );
        }
    }
}
