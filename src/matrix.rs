//! [`Matrix`]: a checked view of a GPU buffer.

use std::ops::Range;

use crate::element::ElementType;
use crate::error::{Error, Result};

/// Where the elements of a [`Matrix`] lie in its buffer: row-major, counted in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The first element's position, in elements from the buffer's start.
    pub offset: u64,
    /// Number of rows.
    pub rows: u32,
    /// Number of columns.
    pub columns: u32,
    /// Elements from the start of one row to the start of the next; at least `columns`.
    pub row_stride: u32,
    /// The number format.
    pub element: ElementType,
}

impl Layout {
    /// `rows` × `columns` f32 values without gaps, from the start of the buffer.
    pub const fn contiguous(rows: u32, columns: u32) -> Self {
        Self { offset: 0, rows, columns, row_stride: columns, element: ElementType::F32 }
    }

    /// `rows` × `columns` values from the start of the buffer, each row as long as a whole number of u32.
    pub const fn padded(rows: u32, columns: u32, element: ElementType) -> Self {
        // No columns as many as 2³² - 1 in any matrix, so that this is an error of its own.
        let row_stride = match columns.checked_next_multiple_of(element.shared()) {
            Some(row_stride) => row_stride,
            None => u32::MAX,
        };
        Self { offset: 0, rows, columns, row_stride, element }
    }

    /// Elements from the first to one past the last; gaps between rows counted, the one behind the
    /// last row not.
    const fn extent(&self) -> u64 {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows as u64 - 1) * self.row_stride as u64 + self.columns as u64
    }
}

/// A view of a GPU buffer as a row-major matrix: a cheap handle, like the buffer itself.
///
/// Any offset, row stride and size is allowed; nothing has to be a multiple of anything, but for the even
/// offset and row stride of 16-bit elements ([`ElementType`]). A matrix with no rows or no columns is
/// empty and touches no memory. A bias is a matrix of one row.
///
/// An f32 matrix may have a [working copy](Matrix::with_working_copy) of a 16-bit type in the same buffer:
/// the master weight of mixed-precision training, with what the products read in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    buffer: wgpu::Buffer,
    layout: Layout,
    /// Of the same shape, in the same buffer.
    working_copy: Option<Layout>,
}

impl Matrix {
    /// The first `rows` × `columns` f32 values of `buffer`.
    ///
    /// # Errors
    ///
    /// As [`Matrix::view`].
    pub fn new(buffer: &wgpu::Buffer, rows: u32, columns: u32) -> Result<Self> {
        Self::view(buffer, Layout::contiguous(rows, columns))
    }

    /// The part of `buffer` that `layout` describes.
    ///
    /// # Errors
    ///
    /// [`Error::RowStride`] where rows would overlap, [`Error::DoesNotFit`] where the view reaches
    /// beyond the buffer, [`Error::TooManyElements`] where it spans 2³¹ elements or more (kernels
    /// count in 32 bits).
    pub fn view(buffer: &wgpu::Buffer, layout: Layout) -> Result<Self> {
        if layout.row_stride < layout.columns {
            return Err(Error::RowStride {
                columns: layout.columns,
                row_stride: layout.row_stride,
            });
        }
        let extent = layout.extent();
        expect_countable("matrix", extent)?;
        let needed = layout.offset.saturating_add(extent).saturating_mul(layout.element.size());
        if needed > buffer.size() {
            return Err(Error::DoesNotFit { operand: "matrix", needed, given: buffer.size() });
        }
        Ok(Self { buffer: buffer.clone(), layout, working_copy: None })
    }

    /// The same f32 matrix, as the master of a copy of its values in a 16-bit type, which lies in the same
    /// buffer where `layout` says: the copy is what a [`Weight`](crate::Weight) is bound as, and the
    /// optimizers' kernels and [`Matrix::write`] keep it up to date, rounded to nearest, ties to even. See
    /// [`Kernels::master`](crate::Kernels::master), which makes both. What is written to the matrix by other
    /// ways, or through another view of it, does not reach the copy.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for a copy of another shape, [`Error::ElementType`] for a matrix that is not f32, or
    /// a copy that is, or starts at an odd element or has an odd row stride, [`Error::Incompatible`] for one
    /// that overlaps the matrix, [`Error::TooManyElements`] where from the first of both to the last there are
    /// 2³¹ elements of the copy's type or more, and as [`Matrix::view`].
    pub fn with_working_copy(self, layout: Layout) -> Result<Self> {
        let copy = Self::view(&self.buffer, layout)?;
        expect_shape("working copy", &copy, self.shape())?;
        let (own, other) = (self.layout.element, layout.element);
        if own != ElementType::F32 {
            let reason = "a matrix with a working copy is f32";
            return Err(Error::ElementType { operand: "matrix", given: own, reason });
        }
        if other == ElementType::F32 {
            let reason = "a working copy is of a 16-bit type";
            return Err(Error::ElementType { operand: "working copy", given: other, reason });
        }
        expect_whole_words("working copy", &copy)?;
        let (own, other) = (self.byte_range(), copy.byte_range());
        if !self.is_empty() && own.start < other.end && other.start < own.end {
            let reason = "it overlaps the matrix whose values it takes";
            return Err(Error::Incompatible { what: "working copy", reason });
        }
        // They are bound together, and places are counted from where the first begins.
        let together = own.end.max(other.end) - own.start.min(other.start);
        expect_countable("working copy", together / layout.element.size())?;
        Ok(Self { working_copy: Some(layout), ..self })
    }

    /// The copy of this matrix's values in a 16-bit type, if it has one.
    pub fn working_copy(&self) -> Option<Self> {
        let layout = self.working_copy?;
        Some(Self { buffer: self.buffer.clone(), layout, working_copy: None })
    }

    /// What products read: the working copy if there is one, else the matrix.
    pub(crate) fn working(&self) -> Self {
        self.working_copy().unwrap_or_else(|| self.clone())
    }

    /// A view of some of this matrix's rows, such as one batch of a data set; without a working copy.
    ///
    /// # Errors
    ///
    /// [`Error::RowRange`] where the range goes beyond the rows or is reversed.
    pub fn row_range(&self, rows: Range<u32>) -> Result<Self> {
        if rows.start > rows.end || rows.end > self.layout.rows {
            let (start, end) = (rows.start, rows.end);
            return Err(Error::RowRange { start, end, rows: self.layout.rows });
        }
        // Without columns the row stride stands for nothing, and may be anything.
        let skipped = if self.layout.columns == 0 { 0 } else { rows.start };
        let layout = Layout {
            offset: self.layout.offset + u64::from(skipped) * u64::from(self.layout.row_stride),
            rows: rows.end - rows.start,
            ..self.layout
        };
        Ok(Self { buffer: self.buffer.clone(), layout, working_copy: None })
    }

    /// The buffer that holds the elements.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// Where the elements lie.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.layout.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> u32 {
        self.layout.columns
    }

    /// Rows and columns.
    pub fn shape(&self) -> [u32; 2] {
        [self.layout.rows, self.layout.columns]
    }

    /// Number of elements.
    pub fn len(&self) -> u64 {
        u64::from(self.layout.rows) * u64::from(self.layout.columns)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the buffer from the first element to the last, gaps between rows included.
    pub fn byte_range(&self) -> Range<u64> {
        let size = self.layout.element.size();
        let start = self.layout.offset * size;
        start..start + self.layout.extent() * size
    }
}

/// Passes if kernels can count to `elements`, in 32 bits with room to spare.
pub(crate) fn expect_countable(operand: &'static str, elements: u64) -> Result<()> {
    const MOST: u64 = (1 << 31) - 1;
    if elements <= MOST {
        Ok(())
    } else {
        Err(Error::TooManyElements { operand, given: elements, most: MOST })
    }
}

/// Passes if there are as many values as elements.
pub(crate) fn expect_length(expected: u64, values: &[f32]) -> Result<()> {
    let given = values.len() as u64;
    if given == expected { Ok(()) } else { Err(Error::Length { expected, given }) }
}

/// Passes if every row of the matrix begins with a u32 of the buffer, and the last one's end is in it.
pub(crate) fn expect_whole_words(operand: &'static str, matrix: &Matrix) -> Result<()> {
    let layout = matrix.layout;
    let shared = u64::from(layout.element.shared());
    let has_one_row = layout.rows <= 1;
    let begins = layout.offset.is_multiple_of(shared)
        && (has_one_row || u64::from(layout.row_stride).is_multiple_of(shared));
    if matrix.is_empty() || shared == 1 {
        Ok(())
    } else if !begins {
        let reason = "its offset and row stride must be even";
        Err(Error::ElementType { operand, given: layout.element, reason })
    } else if matrix.byte_range().end.next_multiple_of(4) > matrix.buffer.size() {
        let (needed, given) = (matrix.byte_range().end.next_multiple_of(4), matrix.buffer.size());
        Err(Error::DoesNotFit { operand, needed, given })
    } else {
        Ok(())
    }
}

/// Passes if `matrix` is `rows` × `columns`.
pub(crate) fn expect_shape(
    operand: &'static str,
    matrix: &Matrix,
    expected: [u32; 2],
) -> Result<()> {
    let given = matrix.shape();
    if given == expected { Ok(()) } else { Err(Error::Shape { operand, expected, given }) }
}

/// Passes if an optional `matrix` is absent or `rows` × `columns`.
pub(crate) fn expect_shape_if_given(
    operand: &'static str,
    matrix: Option<&Matrix>,
    expected: [u32; 2],
) -> Result<()> {
    matrix.map_or(Ok(()), |matrix| expect_shape(operand, matrix, expected))
}

/// Passes if the buffer of `matrix` has all of `needed`.
pub(crate) fn expect_usage(
    operand: &'static str,
    matrix: &Matrix,
    needed: wgpu::BufferUsages,
) -> Result<()> {
    let given = matrix.buffer.usage();
    if given.contains(needed) { Ok(()) } else { Err(Error::Usage { operand, needed, given }) }
}
