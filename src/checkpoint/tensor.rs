//! A tensor of a checkpoint: its type, its shape, and where its bytes are.

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};

use super::file::Region;
use super::format::malformed;
use crate::error::{Error, Result};

/// The number format of a checkpoint's weights and biases.
///
/// It says nothing of the matrices on the GPU ([`ElementType`](crate::ElementType)): values pass
/// through f32 on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of binary32.
    Bf16,
}

impl Dtype {
    const FLOATS: &'static str = "f32, f16 or bf16";

    fn stored(self) -> safetensors::Dtype {
        match self {
            Self::F32 => safetensors::Dtype::F32,
            Self::F16 => safetensors::Dtype::F16,
            Self::Bf16 => safetensors::Dtype::BF16,
        }
    }

    fn of(stored: safetensors::Dtype) -> Option<Self> {
        [Self::F32, Self::F16, Self::Bf16].into_iter().find(|dtype| dtype.stored() == stored)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// One tensor.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Debug, Clone)]
pub(super) enum Data {
    Memory(Vec<u8>),
    /// Read when it is asked for.
    File(Region),
}

impl Tensor {
    /// A tensor whose data has as many bytes as its shape takes.
    pub(super) fn new(dtype: safetensors::Dtype, shape: Vec<usize>, data: Data) -> Self {
        Self { dtype, shape, data }
    }

    /// A tensor of f32.
    pub(super) fn of_values(key: &str, shape: &[usize], values: &[f32]) -> Result<Self> {
        let elements = shape.iter().try_fold(1_usize, |count, n| count.checked_mul(*n));
        if elements != Some(values.len()) {
            let reason = format!("its shape is {shape:?}, but {} values are given", values.len());
            return Err(malformed(key, reason));
        }
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(Self::new(safetensors::Dtype::F32, shape.to_vec(), Data::Memory(bytes)))
    }

    /// One whole number.
    pub(super) fn of_count(count: u32) -> Self {
        let bytes = i64::from(count).to_le_bytes().to_vec();
        Self::new(safetensors::Dtype::I64, Vec::new(), Data::Memory(bytes))
    }

    pub(super) fn dtype(&self) -> safetensors::Dtype {
        self.dtype
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes of the data.
    pub(super) fn size(&self) -> usize {
        match &self.data {
            Data::Memory(bytes) => bytes.len(),
            Data::File(region) => region.length(),
        }
    }

    pub(super) fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match &self.data {
            Data::Memory(bytes) => Ok(bytes.into()),
            Data::File(region) => Ok(region.read()?.into()),
        }
    }

    /// Passes if the tensor holds numbers that [`Tensor::values`] gives.
    pub(super) fn expect_values(&self, key: &str) -> Result<Dtype> {
        Dtype::of(self.dtype).ok_or_else(|| Error::KeyType {
            key: key.into(),
            expected: Dtype::FLOATS,
            given: self.dtype.to_string(),
        })
    }

    /// The elements, row by row; f16 and bf16 widened, which is exact.
    pub(super) fn values(&self, key: &str) -> Result<Vec<f32>> {
        let dtype = self.expect_values(key)?;
        let bytes = self.bytes()?;
        Ok(match dtype {
            Dtype::F32 => each(&bytes, f32::from_le_bytes),
            Dtype::F16 => each(&bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::Bf16 => each(&bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        })
    }

    /// Passes if [`Tensor::count`] may find a number.
    pub(super) fn expect_count(&self, key: &str) -> Result<()> {
        if matches!(self.dtype, safetensors::Dtype::I64 | safetensors::Dtype::F32) {
            return Ok(());
        }
        let (key, given) = (key.into(), self.dtype.to_string());
        Err(Error::KeyType { key, expected: "a count as i64 or f32", given })
    }

    /// The one number, which f32 may hold too, as PyTorch's step counts do.
    pub(super) fn count(&self, key: &str) -> Result<u32> {
        self.expect_count(key)?;
        let bytes = self.bytes()?;
        let (exact, rounded) = if self.dtype == safetensors::Dtype::I64 {
            let count = each(&bytes, i64::from_le_bytes).first().copied();
            (count.and_then(|count| u32::try_from(count).ok()), count.map(|count| count as f64))
        } else {
            let count = each(&bytes, f32::from_le_bytes).first().map(|count| f64::from(*count));
            let whole =
                |count: &f64| count.fract() == 0.0 && (0.0..=u32::MAX.into()).contains(count);
            (count.filter(whole).map(|count| count as u32), count)
        };
        exact.ok_or_else(|| Error::KeyValue {
            key: key.into(),
            expected: "a whole number in 0 … 2³² − 1",
            given: rounded.unwrap_or(f64::NAN),
        })
    }

    /// The same tensor in another type, if it holds f32, f16 or bf16: rounded to the nearest, ties to
    /// even.
    pub(super) fn with_dtype(&self, key: &str, dtype: Dtype) -> Result<Self> {
        if Dtype::of(self.dtype).is_none_or(|own| own == dtype) {
            return Ok(self.clone());
        }
        let values = self.values(key)?;
        let narrowed = |value: &f32| match dtype {
            Dtype::F32 => *value,
            Dtype::F16 => f16::from_f32(*value).to_f32(),
            Dtype::Bf16 => bf16::from_f32(*value).to_f32(),
        };
        let lost = |value: &&f32| value.is_finite() && !narrowed(value).is_finite();
        if let Some(value) = values.iter().find(lost) {
            let expected = match dtype {
                Dtype::F16 => "numbers that f16 can hold, up to 65504,",
                _ => "numbers that the type can hold",
            };
            return Err(Error::KeyValue { key: key.into(), expected, given: (*value).into() });
        }
        let bytes = match dtype {
            Dtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Dtype::F16 => {
                values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
            }
            Dtype::Bf16 => {
                values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect()
            }
        };
        Ok(Self::new(dtype.stored(), self.shape.clone(), Data::Memory(bytes)))
    }
}

/// Each `N` bytes as a number.
fn each<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let mut numbers = Vec::with_capacity(bytes.len() / N);
    numbers.extend(bytes.chunks_exact(N).filter_map(|bytes| bytes.try_into().ok()).map(number));
    numbers
}
