//! [`Accumulate`]: how the kernels that compute gradients of parameters store them.

/// What happens to what a gradient buffer held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Accumulate {
    /// It is overwritten, even if it was NaN.
    #[default]
    Overwrite,
    /// The new gradient is added to it: gradient accumulation over micro-batches.
    Add,
}

impl Accumulate {
    /// The uniform's `add`.
    pub(super) fn flag(self) -> u32 {
        u32::from(self == Self::Add)
    }
}
