//! [`ElementType`]: the number formats of matrices.

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};

/// The number format of a matrix's elements.
///
/// Both 16-bit types are stored two to a u32 and widened to f32 when they are read, so that every sum is
/// f32 and no adapter needs a feature for them. They are rounded to nearest, ties to even; what is too
/// large becomes infinite.
///
/// A matrix of a 16-bit type starts at an even element and has an even row stride. With an odd number
/// of columns the last element of a row shares its u32 with the element behind the row, which kernels
/// leave as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ElementType {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16: 11 significant bits, up to 65504.
    F16,
    /// bfloat16, the upper half of a binary32: 8 significant bits, and the range of f32.
    Bf16,
}

impl ElementType {
    /// All.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Elements that share a u32, the least that is copied.
    pub(crate) const fn shared(self) -> u32 {
        match self {
            Self::F32 => 1,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Its number in the WGSL.
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 2,
        }
    }

    /// Whether a finite value becomes infinite in this type.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn overflows(self, value: f32) -> bool {
        let becomes_infinite = match self {
            Self::F32 => false,
            Self::F16 => f16::from_f32(value).is_infinite(),
            Self::Bf16 => bf16::from_f32(value).is_infinite(),
        };
        becomes_infinite && value.is_finite()
    }

    /// Values as elements in memory, up to a whole number of u32, those behind the last being zero.
    pub(crate) fn encode(self, values: &[f32]) -> Cow<'_, [u8]> {
        let bits = |convert: fn(f32) -> u16| {
            let mut bits: Vec<u16> = values.iter().map(|value| convert(*value)).collect();
            bits.resize(values.len().next_multiple_of(2), 0);
            Cow::from(bytemuck::cast_slice(&bits).to_vec())
        };
        match self {
            Self::F32 => Cow::from(bytemuck::cast_slice(values)),
            Self::F16 => bits(|value| f16::from_f32(value).to_bits()),
            Self::Bf16 => bits(|value| bf16::from_f32(value).to_bits()),
        }
    }

    /// As [`ElementType::encode`] for each of the rows of a matrix with rows.
    pub(crate) fn encode_rows(self, values: &[f32], columns: u32) -> Cow<'_, [u8]> {
        if self == Self::F32 {
            return self.encode(values);
        }
        let rows = values.chunks(columns.max(1) as usize);
        rows.flat_map(|row| self.encode(row).into_owned()).collect::<Vec<_>>().into()
    }

    /// The values of whole elements in memory, which may lie anywhere.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let bits = |convert: fn(u16) -> f32| {
            bytes
                .chunks_exact(2)
                .map(|pair| convert(u16::from_ne_bytes([pair[0], pair[1]])))
                .collect()
        };
        match self {
            Self::F32 => bytemuck::pod_collect_to_vec(bytes),
            Self::F16 => bits(|bits| f16::from_bits(bits).to_f32()),
            Self::Bf16 => bits(|bits| bf16::from_bits(bits).to_f32()),
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// The number formats of what a training step keeps between its dispatches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ElementTypes {
    /// Of activations and pre-activations. Default: f32.
    pub activation: ElementType,
    /// Of the gradients by pre-activations. Default: f32.
    pub gradient: ElementType,
}

impl ElementTypes {
    /// The same type for all.
    pub const fn all(element: ElementType) -> Self {
        Self { activation: element, gradient: element }
    }
}
