//! What can go wrong, and the one place where wgpu's own errors are caught.

use std::borrow::Cow;

use futures::FutureExt;

use crate::element::ElementType;

/// Shorthand for a result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that a call of this library can answer instead of doing its work.
///
/// An error is returned before anything is recorded or written: the caller's buffers are as they
/// were. Messages name the operand, what was expected and what was given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A matrix has other dimensions than its place in the formula asks for.
    #[error(
        "`{operand}` must be {}x{} (rows x columns), but {}x{} was given",
        expected[0], expected[1], given[0], given[1]
    )]
    Shape {
        /// The operand's name in the call.
        operand: &'static str,
        /// Rows and columns that the other operands ask for.
        expected: [u32; 2],
        /// Rows and columns that were given.
        given: [u32; 2],
    },

    /// The rows of a view would overlap.
    #[error(
        "a row stride of at least {columns} elements (the columns) is expected, but {row_stride} was given"
    )]
    RowStride {
        /// Elements in a row.
        columns: u32,
        /// Elements from the start of one row to the next.
        row_stride: u32,
    },

    /// A range of rows is reversed or goes beyond the matrix.
    #[error("a range of rows within 0..{rows} is expected, but {start}..{end} was given")]
    RowRange {
        /// Where the range starts.
        start: u32,
        /// Where it ends.
        end: u32,
        /// Rows of the matrix.
        rows: u32,
    },

    /// A view reaches beyond the end of its buffer.
    #[error("`{operand}` needs a buffer of at least {needed} bytes, but the buffer has {given}")]
    DoesNotFit {
        /// The operand's name in the call.
        operand: &'static str,
        /// Bytes from the buffer's start to the view's last element.
        needed: u64,
        /// The buffer's size in bytes.
        given: u64,
    },

    /// A matrix spans more elements than kernels can count, on any device.
    #[error("`{operand}` spans {given} elements, but kernels count to {most}")]
    TooManyElements {
        /// The operand's name in the call.
        operand: &'static str,
        /// Elements from the first to the last, gaps between rows included.
        given: u64,
        /// The most that is allowed.
        most: u64,
    },

    /// A buffer lacks a usage.
    #[error("`{operand}` needs a buffer with usage {needed:?}, but it has {given:?}")]
    Usage {
        /// The operand's name in the call.
        operand: &'static str,
        /// What the call needs.
        needed: wgpu::BufferUsages,
        /// What the buffer was created with.
        given: wgpu::BufferUsages,
    },

    /// A matrix's elements are of a type that cannot be used there, or lie where they cannot be used.
    #[error("`{operand}` holds {given}, which cannot be used: {reason}")]
    ElementType {
        /// The operand's name in the call.
        operand: &'static str,
        /// The operand's element type.
        given: ElementType,
        /// Why not.
        reason: &'static str,
    },

    /// A binding or dispatch exceeds one of the device's limits.
    #[error("`{what}` needs {needed}, but the device's limit {limit} is {available}")]
    Limit {
        /// The operand or kernel.
        what: &'static str,
        /// The name of the limit in [`wgpu::Limits`].
        limit: &'static str,
        /// What the call needs.
        needed: u64,
        /// What the device allows.
        available: u64,
    },

    /// Something belongs to another device than the kernels.
    #[error("`{what}` belongs to another device than these kernels")]
    DeviceMismatch {
        /// The operand's name in the call.
        what: &'static str,
    },

    /// An output lies in the buffer of another operand of the same dispatch.
    ///
    /// wgpu tracks a buffer as a whole within a dispatch, so even ranges that do not overlap are
    /// refused.
    #[error("`{output}` must lie in a buffer of its own, but it shares the buffer of `{other}`")]
    Aliased {
        /// The operand that the kernel writes.
        output: &'static str,
        /// The operand in the same buffer.
        other: &'static str,
    },

    /// An operand that these arguments make necessary was not given.
    #[error("`{operand}` is missing: {reason}")]
    Missing {
        /// The operand's name in the call.
        operand: &'static str,
        /// Why it is needed.
        reason: &'static str,
    },

    /// Two arguments do not go together.
    #[error("`{what}` does not go with the other arguments: {reason}")]
    Incompatible {
        /// The argument's name.
        what: &'static str,
        /// Why not.
        reason: &'static str,
    },

    /// A setting lies outside its range.
    #[error("`{name}` must be {expected}, but {given} was given")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The range in words.
        expected: &'static str,
        /// The value that was given.
        given: f64,
    },

    /// A slice of host data has another length than the matrix has elements.
    #[error("{expected} values are expected, but {given} were given")]
    Length {
        /// Elements of the matrix.
        expected: u64,
        /// Elements of the slice.
        given: u64,
    },

    /// Two halves of a layer do not hold the same weight.
    #[error("the encoder and the decoder hold two different weights: they are not tied")]
    NotTied,

    /// A set of parameters that one dispatch updates has more of them than a dispatch can bind.
    #[error("a set of up to {most} parameters is expected, but {given} were given")]
    TooManyParameters {
        /// Parameters that were given.
        given: usize,
        /// The most that is allowed.
        most: usize,
    },

    /// An optimizer was not given the gradient of one of its parameters.
    #[error("the gradient of the parameter `{parameter}` is expected, but was not given")]
    NoGradient {
        /// The parameter's name.
        parameter: Cow<'static, str>,
    },

    /// An error in one of several layers or parameters, and in which.
    #[error("{place}: {error}")]
    In {
        /// The layer or the parameters, such as `layer 2` or `encoder.2.bias`.
        place: String,
        /// What is wrong there.
        error: Box<Error>,
    },

    /// Two layers of a stack do not fit together.
    #[error(
        "layer {outer} gives codes of {hidden} values, but layer {inner}, which takes them, has inputs of {inputs}"
    )]
    Unfitting {
        /// The layer that gives codes.
        outer: usize,
        /// The layer that takes them.
        inner: usize,
        /// The length of the codes.
        hidden: u32,
        /// The length of an input of the inner layer.
        inputs: u32,
    },

    /// Two weights that were to be tied differ.
    #[error(
        "the encoder's and the decoder's weight cannot be tied: at row {row}, column {column} they are {encoder:?} and {decoder:?}"
    )]
    Unequal {
        /// The row of the first difference.
        row: u32,
        /// Its column.
        column: u32,
        /// The encoder's value there.
        encoder: f32,
        /// The decoder's.
        decoder: f32,
    },

    /// A checkpoint lacks a tensor that is asked for.
    #[error("the checkpoint has no tensor `{key}`")]
    MissingKey {
        /// The tensor's key.
        key: String,
    },

    /// A checkpoint holds a tensor, or ties one, that nothing asks for.
    #[error("the checkpoint holds `{key}`, which nothing asks for")]
    UnknownKey {
        /// The tensor's key.
        key: String,
    },

    /// Two tensors have one key.
    #[error("the key `{key}` is given twice")]
    KeyTwice {
        /// The key.
        key: String,
    },

    /// A parameter of an optimizer is not among those that were given with their keys.
    #[error("a key for the optimizer's parameter `{parameter}` is expected, but none was given")]
    NoKey {
        /// The parameter's name.
        parameter: Cow<'static, str>,
    },

    /// A tensor of a checkpoint has another shape than the matrix that it is for.
    #[error("the tensor `{key}` must have the shape {expected:?}, but {given:?} was given")]
    KeyShape {
        /// The tensor's key.
        key: String,
        /// The shape that is asked for.
        expected: Vec<usize>,
        /// The shape in the checkpoint.
        given: Vec<usize>,
    },

    /// A tensor of a checkpoint holds numbers of a type that cannot be used for it.
    #[error("the tensor `{key}` must hold {expected}, but {given} was given")]
    KeyType {
        /// The tensor's key.
        key: String,
        /// The types that are allowed.
        expected: &'static str,
        /// The type in the checkpoint, in the words of safetensors.
        given: String,
    },

    /// A tensor of a checkpoint holds a number that cannot be used for it.
    #[error("the tensor `{key}` must hold {expected}, but {given} was given")]
    KeyValue {
        /// The tensor's key.
        key: String,
        /// The range in words.
        expected: &'static str,
        /// The number that was given.
        given: f64,
    },

    /// A checkpoint holds both weights of a tie, and they differ.
    #[error(
        "`{key}` is not the transpose of `{of}`: at row {row}, column {column} it is {}, but {} is \
         expected. They are not tied: `Checkpoint::untied_halves` loads them as two weights",
        given[0], given[1]
    )]
    NotTransposed {
        /// The key of the weight that should be the transpose.
        key: String,
        /// The key of the weight that it should be the transpose of.
        of: String,
        /// Row of the first element that differs, in the tensor `key`.
        row: usize,
        /// Its column there.
        column: usize,
        /// The element in `key`, and the one in `of`.
        given: [f32; 2],
    },

    /// A checkpoint ties a weight to another one than is asked for.
    #[error("`{key}` must be tied to `{expected}`, but the checkpoint ties it to `{given}`")]
    OtherTie {
        /// The key of the weight that is not stored.
        key: String,
        /// The key of the weight that it should be the transpose of.
        expected: String,
        /// The key of the weight that it is the transpose of in the checkpoint.
        given: String,
    },

    /// A checkpoint is not what its format asks for: truncated, too long, or contradictory.
    #[error("the checkpoint is malformed at `{part}`: {reason}")]
    Malformed {
        /// The key of a tensor or of the metadata, `header` or `data`.
        part: String,
        /// What was expected and what was found.
        reason: String,
    },

    /// A checkpoint was written by a version of this library whose format is not known here.
    #[error("a checkpoint of format version {known} is expected, but {given:?} was given")]
    CheckpointVersion {
        /// The version of the format that this library reads.
        known: u32,
        /// The version that the file names.
        given: String,
    },

    /// A file could not be opened, read or written.
    #[error("`{}` cannot be {what}: {description}", path.display())]
    File {
        /// The file's path.
        path: std::path::PathBuf,
        /// What was tried, such as `read`.
        what: &'static str,
        /// The kind of the operating system's error.
        kind: std::io::ErrorKind,
        /// Its words.
        description: String,
    },

    /// A readback is asked for its elements while an earlier read of it is under way.
    #[error("an earlier read of this readback has not ended")]
    ReadPending,

    /// The device was lost or destroyed.
    #[error("the device is lost")]
    DeviceLost,

    /// The device is out of memory.
    #[error("out of device memory while creating {what}")]
    OutOfMemory {
        /// What was being created.
        what: &'static str,
    },

    /// wgpu refused something that every check of this library had let pass, such as a buffer that
    /// belongs to another device or was destroyed.
    #[error("wgpu refused {what} (a buffer of another device, or one destroyed?): {description}")]
    Refused {
        /// What was being created.
        what: &'static str,
        /// wgpu's own words.
        description: String,
    },

    /// No adapter, or none that could give a device.
    #[error("no usable GPU adapter: {description}")]
    NoAdapter {
        /// What was looked for, and found instead.
        description: String,
    },
}

impl Error {
    /// The same with operands under their names in the call, where the kernel has others: pairs of
    /// both.
    pub(crate) fn renamed(mut self, names: &[[&'static str; 2]]) -> Self {
        for name in self.operands_mut().into_iter().flatten() {
            if let Some([_, called]) = names.iter().find(|[bound, _]| bound == name) {
                *name = called;
            }
        }
        self
    }

    /// Whether the error is about the operand of this name.
    pub(crate) fn is_about(&mut self, operand: &str) -> bool {
        self.operands_mut().into_iter().flatten().any(|name| *name == operand)
    }

    /// The names of operands in it.
    fn operands_mut(&mut self) -> [Option<&mut &'static str>; 2] {
        match self {
            Self::Shape { operand, .. }
            | Self::DoesNotFit { operand, .. }
            | Self::Usage { operand, .. }
            | Self::ElementType { operand, .. }
            | Self::Missing { operand, .. } => [Some(operand), None],
            Self::Limit { what, .. } => [Some(what), None],
            Self::Aliased { output, other } => [Some(output), Some(other)],
            Self::In { error, .. } => error.operands_mut(),
            _ => [None, None],
        }
    }

    /// The same, saying where; but not of what is wrong with the device as a whole.
    pub(crate) fn within(self, place: String) -> Self {
        match self {
            Self::DeviceLost | Self::OutOfMemory { .. } | Self::NoAdapter { .. } => self,
            error => Self::In { place, error: Box::new(error) },
        }
    }
}

/// Fails on a lost device. wgpu says nothing of it when it makes an object, which is then invalid;
/// but a buffer that should have been mapped is not.
pub(crate) fn expect_alive(device: &wgpu::Device) -> Result<()> {
    let descriptor = wgpu::BufferDescriptor {
        label: Some("probe"),
        size: 4,
        usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: true,
    };
    captured(device, "a probe", || {
        let mapped = device.create_buffer(&descriptor).get_mapped_range(..).map(drop);
        mapped.map_err(|_| Error::DeviceLost)
    })?
}

/// Runs `work`, which creates wgpu objects on `device`, and turns what wgpu would report through
/// its uncaptured-error handler (by default a panic) into an [`Error`].
///
/// On native backends a scope's result is there at once; where it is not (the browser), the error
/// stays captured and the objects are invalid, as WebGPU has it.
pub(crate) fn captured<T>(
    device: &wgpu::Device,
    what: &'static str,
    work: impl FnOnce() -> T,
) -> Result<T> {
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let value = work();
    let refused = validation.pop().now_or_never().flatten();
    let failed = internal.pop().now_or_never().flatten();
    let exhausted = memory.pop().now_or_never().flatten();
    match exhausted.or(failed).or(refused) {
        None => Ok(value),
        Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::OutOfMemory { what }),
        Some(error) => Err(Error::Refused { what, description: error.to_string() }),
    }
}
