//! Matrices on the host: random operands, and results read back.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A row-major matrix.
#[derive(Clone)]
pub struct Host {
    shape: [u32; 2],
    values: Vec<f32>,
}

impl Host {
    /// Uniform values in −`bound` … `bound`, the same for each seed.
    pub fn random(rows: u32, columns: u32, bound: f32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = rows as usize * columns as usize;
        let values = (0..count).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)).collect();
        Self { shape: [rows, columns], values }
    }

    /// What a matrix holds now.
    pub fn read(matrix: Tensor<2>) -> Result<Self, String> {
        let shape = matrix.dims().map(|size| size as u32);
        Ok(Self { shape, values: values(matrix)? })
    }

    /// What a vector holds now, as one row.
    pub fn read_row(vector: Tensor<1>) -> Result<Self, String> {
        let values = values(vector)?;
        Ok(Self { shape: [1, values.len() as u32], values })
    }

    /// A matrix on the device.
    pub fn upload(&self, device: &Device) -> Tensor<2> {
        let shape = self.shape.map(|size| size as usize);
        Tensor::from_data(TensorData::new(self.values.clone(), shape), device)
    }

    /// A vector of all values on the device.
    pub fn upload_row(&self, device: &Device) -> Tensor<1> {
        Tensor::from_data(TensorData::new(self.values.clone(), [self.values.len()]), device)
    }

    /// Rows and columns.
    pub fn shape(&self) -> [u32; 2] {
        self.shape
    }

    /// One value.
    pub fn at(&self, row: u32, column: u32) -> f32 {
        self.values[row as usize * self.shape[1] as usize + column as usize]
    }

    /// One row.
    pub fn row(&self, row: u32) -> impl Iterator<Item = f32> {
        (0..self.shape[1]).map(move |column| self.at(row, column))
    }

    /// One column.
    pub fn column(&self, column: u32) -> impl Iterator<Item = f32> {
        (0..self.shape[0]).map(move |row| self.at(row, column))
    }

    /// All values, row by row, in f64.
    pub fn wide(&self) -> Vec<f64> {
        self.values.iter().copied().map(f64::from).collect()
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, String> {
    let read = tensor.try_into_data().map_err(|error| error.to_string());
    let values = read.and_then(|data| data.try_into_vec().map_err(|error| error.to_string()));
    values.map_err(|error| format!("Burn could not read a tensor: {error}"))
}
