//! A tensor of a checkpoint: its type, its shape, and where its bytes are.

use std::borrow::Cow;

use half::{bf16, f16};

use super::file::Region;
use super::format::malformed;
use crate::element::ElementType;
use crate::error::{Error, Result};

/// The types that weights and biases may have, in words.
const FLOATS: &str = "f32, f16 or bf16";

/// An element type in the words of safetensors.
fn stored(element: ElementType) -> safetensors::Dtype {
    match element {
        ElementType::F32 => safetensors::Dtype::F32,
        ElementType::F16 => safetensors::Dtype::F16,
        ElementType::Bf16 => safetensors::Dtype::BF16,
    }
}

fn element_of(dtype: safetensors::Dtype) -> Option<ElementType> {
    ElementType::ALL.into_iter().find(|element| stored(*element) == dtype)
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
    pub(super) fn expect_values(&self, key: &str) -> Result<ElementType> {
        element_of(self.dtype).ok_or_else(|| Error::KeyType {
            key: key.into(),
            expected: FLOATS,
            given: self.dtype.to_string(),
        })
    }

    /// The elements, row by row; f16 and bf16 widened, which is exact.
    pub(super) fn values(&self, key: &str) -> Result<Vec<f32>> {
        let element = self.expect_values(key)?;
        let bytes = self.bytes()?;
        Ok(match element {
            ElementType::F32 => each(&bytes, f32::from_le_bytes),
            ElementType::F16 => each(&bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            ElementType::Bf16 => each(&bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
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
    pub(super) fn with_dtype(&self, key: &str, element: ElementType) -> Result<Self> {
        if element_of(self.dtype).is_none_or(|own| own == element) {
            return Ok(self.clone());
        }
        let values = self.values(key)?;
        if let Some(value) = values.iter().find(|value| element.overflows(**value)) {
            let expected = match element {
                ElementType::F16 => "numbers that f16 can hold, up to 65504,",
                _ => "numbers that the type can hold",
            };
            return Err(Error::KeyValue { key: key.into(), expected, given: (*value).into() });
        }
        let values = values.into_iter();
        let bytes = match element {
            ElementType::F32 => values.flat_map(f32::to_le_bytes).collect(),
            ElementType::F16 => values.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
            ElementType::Bf16 => values.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
        };
        Ok(Self::new(stored(element), self.shape.clone(), Data::Memory(bytes)))
    }
}

/// Each `N` bytes as a number.
fn each<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let mut numbers = Vec::with_capacity(bytes.len() / N);
    numbers.extend(bytes.chunks_exact(N).filter_map(|bytes| bytes.try_into().ok()).map(number));
    numbers
}
