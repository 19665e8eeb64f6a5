//! Views of row-major matrices, and their division into parts that threads may write at once.

use std::marker::PhantomData;
use std::ops::Range;

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

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows);
        // SAFETY: `row` is in range, so these `columns` values lie inside the slice that `new`
        // was given, and they are this matrix's alone (`disjoint_part`).
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }
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

/// A matrix in tiles of `rows` by `columns`, numbered along the rows first.
pub(crate) struct Tiles<'a, T> {
    matrix: MatrixMut<'a, T>,
    rows: usize,
    columns: usize,
}

impl<'a, T> Tiles<'a, T> {
    pub(crate) fn new(matrix: MatrixMut<'a, T>, rows: usize, columns: usize) -> Self {
        Self {
            matrix,
            rows,
            columns,
        }
    }

    /// Blocks of rows.
    pub(crate) fn of_rows(matrix: MatrixMut<'a, T>, rows: usize) -> Self {
        let columns = matrix.columns;
        Self::new(matrix, rows, columns)
    }

    /// Blocks of columns.
    pub(crate) fn of_columns(matrix: MatrixMut<'a, T>, columns: usize) -> Self {
        let rows = matrix.rows.max(1);
        Self::new(matrix, rows, columns)
    }
}

// SAFETY: only `part` reaches the values, in disjoint tiles.
unsafe impl<T: Send> Sync for Tiles<'_, T> {}

// SAFETY: tiles of different numbers differ in their range of rows or of columns.
unsafe impl<'a, T: Send + 'a> Parts for Tiles<'a, T> {
    type Part = MatrixMut<'a, T>;

    unsafe fn part(&self, number: usize) -> MatrixMut<'a, T> {
        let across = self.matrix.columns.div_ceil(self.columns);
        let row = ((number / across) * self.rows).min(self.matrix.rows);
        let column = (number % across) * self.columns;
        let rows = row..(row + self.rows).min(self.matrix.rows);
        let columns = column..(column + self.columns).min(self.matrix.columns);
        // SAFETY: by the caller's promise no other part holds this number, hence these values.
        unsafe { self.matrix.disjoint_part(rows, columns) }
    }
}

/// A matrix in bands of rows of differing heights, each band in blocks of columns; numbered
/// along the columns first.
pub(crate) struct Bands<'a, T> {
    matrix: MatrixMut<'a, T>,
    /// Where each band begins, and where the last one ends.
    boundaries: &'a [usize],
    columns: usize,
}

impl<'a, T> Bands<'a, T> {
    /// # Panics
    /// If the boundaries are not in ascending order.
    pub(crate) fn new(matrix: MatrixMut<'a, T>, boundaries: &'a [usize], columns: usize) -> Self {
        assert!(boundaries.is_sorted());
        Self {
            matrix,
            boundaries,
            columns,
        }
    }
}

// SAFETY: only `part` reaches the values, in disjoint bands and blocks.
unsafe impl<T: Send> Sync for Bands<'_, T> {}

// SAFETY: ascending boundaries make bands of different numbers disjoint, and blocks of one band
// differ in their columns.
unsafe impl<'a, T: Send + 'a> Parts for Bands<'a, T> {
    type Part = MatrixMut<'a, T>;

    unsafe fn part(&self, number: usize) -> MatrixMut<'a, T> {
        let across = self.matrix.columns / self.columns;
        let (band, column) = (number / across, (number % across) * self.columns);
        let rows = self.boundaries[band]..self.boundaries[band + 1];
        // SAFETY: by the caller's promise no other part holds this number, hence these values.
        unsafe {
            self.matrix
                .disjoint_part(rows, column..column + self.columns)
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
