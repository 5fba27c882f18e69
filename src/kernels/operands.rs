//! The checks that every kernel's operands go through, and their views for the shader.

use std::ops::Range;

use crate::element::ElementType;
use crate::error::{Error, Result};
use crate::matrix::{Matrix, expect_usage, expect_whole_words};
use crate::shader::{Access, Binding, Shader, Width};

/// `View` of matrix.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct View {
    offset: u32,
    row_stride: u32,
    rows: u32,
    columns: u32,
}

impl View {
    /// Of a matrix that is not empty, in a binding that starts at this byte of its buffer, counted in words
    /// of so many elements.
    fn of(matrix: &Matrix, binding: u64, words: u32) -> Self {
        let layout = matrix.layout();
        let skipped = (matrix.byte_range().start - binding) / layout.element.size();
        Self {
            offset: (skipped / u64::from(words)) as u32,
            row_stride: layout.row_stride / words,
            rows: layout.rows,
            columns: layout.columns,
        }
    }
}

/// A storage operand, checked: where it is bound and what of it.
#[derive(Debug)]
pub(super) struct Operand<'a> {
    pub(super) binding: &'static Binding,
    pub(super) group: usize,
    pub(super) index: u32,
    /// `None` for an absent or empty operand.
    pub(super) bound: Option<Slice<'a>>,
}

/// A part of a buffer that starts where a binding may start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice<'a> {
    pub(super) buffer: &'a wgpu::Buffer,
    pub(super) offset: u64,
    /// `None` for all that is left.
    pub(super) size: Option<wgpu::BufferSize>,
}

impl<'a> Slice<'a> {
    pub(super) fn whole(buffer: &'a wgpu::Buffer) -> Self {
        Self { buffer, offset: 0, size: None }
    }
}

/// A shader's operands, checked.
#[derive(Debug)]
pub(super) struct Operands<'a, const N: usize> {
    pub(super) width: Width,
    pub(super) bound: Vec<Operand<'a>>,
    /// In the order in which they were given.
    pub(super) views: [View; N],
    /// Of the working copy of the matrix that is updated, in that matrix's slice.
    pub(super) copy: View,
    /// Of [`Width::Mixed`], the codes of the shader's [`elements`](Shader::elements).
    pub(super) elements: Vec<u32>,
}

/// The storage bindings of a shader: group, index, binding.
pub(super) fn storage_bindings(
    shader: &'static Shader,
) -> impl Iterator<Item = (usize, u32, &'static Binding)> {
    shader.groups.iter().enumerate().flat_map(|(group, bindings)| {
        (0..)
            .zip(bindings.iter())
            .filter(|(_, binding)| !matches!(binding.access, Access::Uniform(_)))
            .map(move |(index, binding)| (group, index, binding))
    })
}

/// What of a shader's [`elements`](Shader::elements) is the working copy of the matrix that the shader
/// updates, which is bound together with it.
pub(super) const COPY: &str = "working copy";

/// Checks `operands`, which stand in the order of the shader's storage bindings, against what the
/// shader takes, the device's limits and each other. `vector` is the width of 16-byte words.
///
/// A matrix that is written and has a working copy is bound with it by a shader that updates it; no other
/// shader may write it.
pub(super) fn check<'a, const N: usize>(
    shader: &'static Shader,
    limits: &wgpu::Limits,
    vector: Width,
    operands: [Option<&'a Matrix>; N],
) -> Result<Operands<'a, N>> {
    let given = |matrix: Option<&'a Matrix>| matrix.filter(|matrix| !matrix.is_empty());
    for ((_, _, binding), matrix) in storage_bindings(shader).zip(operands) {
        if let Some(matrix) = matrix {
            expect_usage(binding.name, matrix, wgpu::BufferUsages::STORAGE)?;
            expect_element(shader, binding, matrix)?;
        }
    }
    expect_outputs_apart(shader, operands.map(given))?;

    let mut width = vector;
    let mut elements = vec![ElementType::F32.code(); shader.elements.len()];
    for ((_, _, binding), matrix) in storage_bindings(shader).zip(operands) {
        let in_words = matches!(binding.access, Access::Read | Access::Write);
        if let (true, Some(matrix)) = (in_words, given(matrix)) {
            let layout = matrix.layout();
            let four = u64::from(vector.elements());
            let aligned = layout.offset.is_multiple_of(four)
                && u64::from(layout.row_stride).is_multiple_of(four)
                && u64::from(layout.columns).is_multiple_of(four);
            if !aligned {
                width = Width::Scalar;
            }
        }
        let Some(matrix) = given(matrix) else { continue };
        let place = |name| shader.elements.iter().position(|one| one.binding == name);
        if let Some(index) = place(binding.name) {
            elements[index] = matrix.layout().element.code();
        }
        if let Some((index, copy)) = place(COPY).zip(updated_copy(shader, binding, matrix)) {
            elements[index] = copy.layout().element.code();
        }
    }
    if elements.iter().any(|code| *code != ElementType::F32.code()) {
        width = Width::Mixed;
    } else {
        elements.clear();
    }

    let (mut views, mut copy) = ([View::default(); N], View::default());
    let mut bound = Vec::with_capacity(N);
    for (((group, index, binding), matrix), view) in
        storage_bindings(shader).zip(operands).zip(&mut views)
    {
        let mut slice = None;
        if let Some(matrix) = matrix {
            let layout = matrix.layout();
            // An empty matrix keeps its dimensions, which kernels read as lengths, and no memory.
            *view = View { offset: 0, row_stride: 0, rows: layout.rows, columns: layout.columns };
            if !matrix.is_empty() {
                let with_copy = updated_copy(shader, binding, matrix);
                let own = matrix.byte_range();
                let range = with_copy.as_ref().map_or(own.clone(), |copy| {
                    let other = copy.byte_range();
                    own.start.min(other.start)..own.end.max(other.end)
                });
                let part = slice_of_range(binding.name, matrix.buffer(), range, limits)?;
                if let Some(matrix) = with_copy {
                    copy = View::of(&matrix, part.offset, 1);
                }
                let words = match binding.access {
                    Access::Read | Access::Write => width.elements(),
                    _ => 1,
                };
                *view = View::of(matrix, part.offset, words);
                slice = Some(part);
            }
        }
        bound.push(Operand { binding, group, index, bound: slice });
    }
    Ok(Operands { width, bound, views, copy, elements })
}

/// The working copy that the shader updates together with the matrix at this binding.
fn updated_copy(shader: &Shader, binding: &Binding, matrix: &Matrix) -> Option<Matrix> {
    matrix.working_copy().filter(|_| shader.updates(binding))
}

/// The part of the matrix's buffer to bind: from the last place at or before its first element
/// where a binding may start, to the end of its last element's u32.
pub(super) fn slice_of<'a>(
    name: &'static str,
    matrix: &'a Matrix,
    limits: &wgpu::Limits,
) -> Result<Slice<'a>> {
    slice_of_range(name, matrix.buffer(), matrix.byte_range(), limits)
}

fn slice_of_range<'a>(
    name: &'static str,
    buffer: &'a wgpu::Buffer,
    range: Range<u64>,
    limits: &wgpu::Limits,
) -> Result<Slice<'a>> {
    let alignment = u64::from(limits.min_storage_buffer_offset_alignment).max(16);
    let offset = range.start / alignment * alignment;
    let size = range.end.next_multiple_of(4) - offset;
    let available = limits.max_storage_buffer_binding_size;
    if size > available {
        return Err(Error::Limit {
            what: name,
            limit: "max_storage_buffer_binding_size",
            needed: size,
            available,
        });
    }
    Ok(Slice { buffer, offset, size: wgpu::BufferSize::new(size) })
}

/// Passes if the shader takes elements of the matrix's type at this binding, and they lie where they
/// must.
fn expect_element(shader: &Shader, binding: &'static Binding, matrix: &Matrix) -> Result<()> {
    let (name, given) = (binding.name, matrix.layout().element);
    if let Some(copy) = matrix.working_copy() {
        expect_whole_words(name, &copy)?;
        if binding.access.writes() && !shader.updates(binding) {
            let reason = "its working copy would be left behind: only an optimizer writes both";
            return Err(Error::Incompatible { what: name, reason });
        }
    }
    if given != ElementType::F32 && !shader.takes_any_element(name) {
        let reason = "it must be f32 here";
        return Err(Error::ElementType { operand: name, given, reason });
    }
    expect_whole_words(name, matrix)
}

/// Each output must lie in a buffer that no other operand of the dispatch lies in.
fn expect_outputs_apart<const N: usize>(
    shader: &'static Shader,
    operands: [Option<&Matrix>; N],
) -> Result<()> {
    for (i, (_, _, output)) in storage_bindings(shader).enumerate() {
        for (j, (_, _, other)) in storage_bindings(shader).enumerate() {
            let (Some(a), Some(b)) = (operands[i], operands[j]) else {
                continue;
            };
            if i != j && output.access.writes() && a.buffer() == b.buffer() {
                return Err(Error::Aliased { output: output.name, other: other.name });
            }
        }
    }
    Ok(())
}
