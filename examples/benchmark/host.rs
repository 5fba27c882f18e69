//! Matrices on the host: random operands, and results read back.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tied_linear::{Error, Matrix};

use crate::rig::Rig;

/// A row-major matrix.
pub struct Host {
    rows: u32,
    columns: u32,
    values: Vec<f32>,
}

impl Host {
    /// A matrix with these values.
    pub fn new(rows: u32, columns: u32, value: impl Fn(u32, u32) -> f32) -> Self {
        let row = |row| (0..columns).map(move |column| (row, column));
        let values = (0..rows).flat_map(row).map(|(row, column)| value(row, column)).collect();
        Self { rows, columns, values }
    }

    /// Uniform values in −`bound` … `bound`, the same for each seed.
    pub fn random(rows: u32, columns: u32, bound: f32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = rows as usize * columns as usize;
        let values = (0..count).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)).collect();
        Self { rows, columns, values }
    }

    /// What `matrix` holds now.
    pub fn read(rig: &Rig, matrix: &Matrix) -> Result<Self, Error> {
        let [rows, columns] = matrix.shape();
        Ok(Self { rows, columns, values: rig.read(matrix)? })
    }

    /// A copy on the GPU.
    pub fn upload(&self, rig: &Rig, label: &'static str) -> Result<Matrix, Error> {
        rig.kernels.matrix(label, self.rows, self.columns, &self.values)
    }

    /// The transpose.
    pub fn transposed(&self) -> Self {
        let columns = (0..self.columns).flat_map(|column| self.column(column));
        Self { rows: self.columns, columns: self.rows, values: columns.collect() }
    }

    /// Rows and columns.
    pub fn shape(&self) -> [u32; 2] {
        [self.rows, self.columns]
    }

    /// One value.
    pub fn at(&self, row: u32, column: u32) -> f32 {
        self.values[row as usize * self.columns as usize + column as usize]
    }

    /// One row.
    pub fn row(&self, row: u32) -> impl Iterator<Item = f32> {
        let start = row as usize * self.columns as usize;
        self.values[start..start + self.columns as usize].iter().copied()
    }

    /// One column.
    pub fn column(&self, column: u32) -> impl Iterator<Item = f32> {
        self.values.iter().copied().skip(column as usize).step_by(self.columns as usize)
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}
