//! The sizes that a benchmark runs at.

use std::fmt;
use std::str::FromStr;

/// The largest batch, inputs or hidden.
const LARGEST: u32 = 1_000_000;

/// Batch, inputs and hidden of a tied layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Samples.
    pub batch: u32,
    /// Length of an input; columns of the weight.
    pub inputs: u32,
    /// Length of a code; rows of the weight.
    pub hidden: u32,
}

impl Shape {
    /// What the benchmark measures where nobody says otherwise: two squares, a layer for MNIST, one
    /// sample, a small batch, a narrow code, and a batch of half the layer's width.
    pub const GRID: [Self; 7] = [
        Self::new(512, 512, 512),
        Self::new(1024, 1024, 1024),
        Self::new(256, 784, 256),
        Self::new(1, 4096, 4096),
        Self::new(64, 784, 256),
        Self::new(4096, 64, 10),
        Self::new(512, 1024, 1024),
    ];

    /// A shape.
    pub const fn new(batch: u32, inputs: u32, hidden: u32) -> Self {
        Self { batch, inputs, hidden }
    }

    /// Values in X and Y.
    pub fn inputs_in_batch(self) -> u64 {
        u64::from(self.batch) * u64::from(self.inputs)
    }

    /// Values in H.
    pub fn codes_in_batch(self) -> u64 {
        u64::from(self.batch) * u64::from(self.hidden)
    }

    /// Values in W.
    pub fn weights(self) -> u64 {
        u64::from(self.hidden) * u64::from(self.inputs)
    }

    /// The bytes of the largest matrix.
    pub fn largest_matrix(self) -> u64 {
        4 * self.inputs_in_batch().max(self.codes_in_batch()).max(self.weights())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{}x{}x{}", self.batch, self.inputs, self.hidden))
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Option<Vec<u32>> = text
            .split('x')
            .map(|size| size.parse().ok().filter(|size| (1..=LARGEST).contains(size)))
            .collect();
        match sizes.as_deref() {
            Some(&[batch, inputs, hidden]) => Ok(Self::new(batch, inputs, hidden)),
            _ => Err(format!(
                "batch x inputs x hidden is expected, three numbers from 1 to {LARGEST}, as in 256x784x256"
            )),
        }
    }
}
