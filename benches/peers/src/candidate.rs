//! What is timed.

use burn::tensor::Tensor;

use crate::layer::Training;
use crate::products::Operation;
use crate::shape::Shape;

/// A kernel, by the name that it has in the library's benchmark where it is measured there too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// X·Wᵀ.
    Encode,
    /// relu(X·Wᵀ + b).
    EncodeLayer,
    /// H·W.
    Decode,
    /// H·W + c.
    DecodeLayer,
    /// Hᵀ·dA + dZᵀ·X.
    Backward,
    /// The whole training step.
    Step,
}

impl Kernel {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::EncodeLayer => "encode_bias_relu",
            Self::Decode => "decode",
            Self::DecodeLayer => "decode_bias",
            Self::Backward => "backward",
            Self::Step => "step",
        }
    }

    /// Floating-point operations of the matrix products, a multiply-add being two.
    pub fn flops(self, shape: Shape) -> f64 {
        let products = match self {
            Self::Encode | Self::EncodeLayer | Self::Decode | Self::DecodeLayer => 1,
            Self::Backward => 2,
            // Encode, decode, dA·Wᵀ, and the weight's gradient.
            Self::Step => 5,
        };
        2.0 * f64::from(products) * shape.weights() as f64 * f64::from(shape.batch)
    }
}

/// Something to time.
pub struct Candidate {
    /// What it does.
    pub kernel: Kernel,
    work: Work,
}

enum Work {
    Product(Operation),
    /// Absent only during a step.
    Step(Option<Box<Training>>),
}

/// What a run leaves behind. As long as it lives, fusion cannot leave its computation out.
#[expect(dead_code, reason = "is kept, not read")]
pub enum Output {
    Matrix(Tensor<2>),
    Loss(Tensor<1>),
}

impl Candidate {
    /// A product.
    pub fn product(kernel: Kernel, operation: Operation) -> Self {
        Self { kernel, work: Work::Product(operation) }
    }

    /// Asks for it once more.
    pub fn run(&mut self) -> Output {
        match &mut self.work {
            Work::Product(operation) => Output::Matrix(operation()),
            Work::Step(training) => {
                let before = training.take().expect("the last step put the training back");
                let (after, loss) = before.step();
                *training = Some(Box::new(after));
                Output::Loss(loss)
            }
        }
    }

    /// The bytes of an output.
    pub fn output_bytes(&self, shape: Shape) -> u64 {
        let values = match self.kernel {
            Kernel::Encode | Kernel::EncodeLayer => shape.codes_in_batch(),
            Kernel::Decode | Kernel::DecodeLayer => shape.inputs_in_batch(),
            Kernel::Backward => shape.weights(),
            Kernel::Step => 1,
        };
        4 * values
    }
}

impl From<Training> for Candidate {
    fn from(training: Training) -> Self {
        Self { kernel: Kernel::Step, work: Work::Step(Some(Box::new(training))) }
    }
}
