//! What a kernel has to do: operations to compute, and bytes to move at least.

use std::iter::Sum;
use std::ops::Add;

use crate::shape::Shape;

/// A measured kernel of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    Encode,
    Decode,
    CodeGradient,
    Backward,
    InputGradient,
    /// The whole training step.
    Step,
}

impl Kernel {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 6] = [
        Self::Encode,
        Self::Decode,
        Self::CodeGradient,
        Self::Backward,
        Self::InputGradient,
        Self::Step,
    ];

    /// The name of the method of `Kernels`; `step` for the training step.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Decode => "decode",
            Self::CodeGradient => "code_gradient",
            Self::Backward => "backward",
            Self::InputGradient => "input_gradient",
            Self::Step => "step",
        }
    }

    /// What it has to do at this shape.
    pub fn cost(self, shape: Shape) -> Cost {
        let Shape { batch, inputs, hidden } = shape;
        let (x, h, w) = ([batch, inputs], [batch, hidden], [hidden, inputs]);
        match self {
            Self::Encode | Self::CodeGradient => Cost::of(products(shape, 1), &[x, w, h]),
            Self::Decode | Self::InputGradient => Cost::of(products(shape, 1), &[h, w, x]),
            Self::Backward => Cost::of(products(shape, 2), &[h, x, h, x, w]),
            Self::Step => step(shape),
        }
    }
}

/// Operations and bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Floating-point operations of the matrix products, a multiply-add being two.
    pub flops: f64,
    /// Bytes of all operands, each read or written once.
    pub bytes: f64,
}

impl Cost {
    fn of(flops: f64, operands: &[[u32; 2]]) -> Self {
        let values = operands.iter().map(|[rows, columns]| f64::from(*rows) * f64::from(*columns));
        Self { flops, bytes: 4.0 * values.sum::<f64>() }
    }

    /// Operations a byte.
    pub fn intensity(self) -> f64 {
        self.flops / self.bytes
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

fn products(shape: Shape, count: u32) -> f64 {
    2.0 * f64::from(count) * shape.weights() as f64 * f64::from(shape.batch)
}

/// The step's dispatches: each has to move its own operands.
fn step(shape: Shape) -> Cost {
    let Shape { batch, inputs, hidden } = shape;
    let (x, h, w) = ([batch, inputs], [batch, hidden], [hidden, inputs]);
    let (b, c) = ([1, hidden], [1, inputs]);
    let products = [Kernel::Encode, Kernel::Decode, Kernel::CodeGradient, Kernel::Backward];
    let products: Cost = products.into_iter().map(|kernel| kernel.cost(shape)).sum();
    // The two biases in the forward pass, and the code, whose sign is ReLU's derivative.
    let epilogues = Cost::of(0.0, &[b, c, h]);
    // Prediction, target and gradient.
    let loss = Cost::of(0.0, &[x, x, x]);
    let bias_gradients = Cost::of(0.0, &[h, b, x, c]);
    // The gradient is read; value and both moments are read and written.
    let adam = |parameter| Cost::of(0.0, &[parameter; 7]);
    products + epilogues + loss + bias_gradients + adam(w) + adam(b) + adam(c)
}
