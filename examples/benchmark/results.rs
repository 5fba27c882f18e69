//! The measurements of the library's kernels, in relation to the ceilings.

use tied_linear::ProductShape;

use crate::ceiling::Ceiling;
use crate::cost::{Cost, Kernel};
use crate::rig::Rig;
use crate::shape::Shape;
use crate::timing::Spread;

/// One kernel at one shape.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Which kernel.
    pub kernel: Kernel,
    /// At which sizes.
    pub shape: Shape,
    /// How it was computed; for the step, how each kind of product was where they differ.
    pub strategy: String,
    /// The seconds it took.
    pub seconds: Spread,
    cost: Cost,
    ceiling: Ceiling,
}

impl Measurement {
    /// A measurement.
    pub fn new(rig: &Rig, kernel: Kernel, shape: Shape, seconds: Spread, ceiling: Ceiling) -> Self {
        let (cost, strategy) = (kernel.cost(shape), strategy(rig, kernel, shape));
        Self { kernel, shape, strategy, seconds, cost, ceiling }
    }

    /// 10⁹ operations a second.
    pub fn gflops(&self) -> f64 {
        self.cost.flops / self.seconds.median / 1e9
    }

    /// 10⁹ bytes a second that the kernel moved at least.
    pub fn gbytes(&self) -> f64 {
        self.cost.bytes / self.seconds.median / 1e9
    }

    /// Operations for each byte that has to be moved.
    pub fn intensity(&self) -> f64 {
        self.cost.intensity()
    }

    /// Which part of what the roofline allows at this intensity was reached. Above 1, a cache was
    /// faster than the memory that the ceiling is measured on.
    pub fn share_of_ceiling(&self) -> f64 {
        self.gflops() / self.ceiling.gflops_at(self.intensity())
    }
}

/// The choices that the library makes for a kernel, each once.
fn strategy(rig: &Rig, kernel: Kernel, shape: Shape) -> String {
    let Shape { batch, inputs, hidden } = shape;
    let [encode, decode, backward] = ProductShape::of_layer(batch, inputs, hidden);
    let products = match kernel {
        Kernel::Encode | Kernel::CodeGradient => vec![encode],
        Kernel::Decode | Kernel::InputGradient => vec![decode],
        Kernel::Backward => vec![backward],
        Kernel::Step => vec![encode, decode, backward],
    };
    let mut names: Vec<_> =
        products.iter().map(|product| rig.kernels.choice(product).to_string()).collect();
    names.dedup();
    names.join(", ")
}
