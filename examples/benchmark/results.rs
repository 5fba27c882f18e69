//! The measurements of the library's kernels, in relation to the ceilings.

use crate::ceiling::Ceiling;
use crate::cost::{Cost, Kernel};
use crate::shape::Shape;
use crate::timing::Timing;

/// One kernel at one shape.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// Which kernel.
    pub kernel: Kernel,
    /// At which sizes.
    pub shape: Shape,
    /// The time it took.
    pub timing: Timing,
    cost: Cost,
    ceiling: Ceiling,
}

impl Measurement {
    /// A measurement.
    pub fn new(kernel: Kernel, shape: Shape, timing: Timing, ceiling: Ceiling) -> Self {
        Self { kernel, shape, timing, cost: kernel.cost(shape), ceiling }
    }

    /// 10⁹ operations a second.
    pub fn gflops(&self) -> f64 {
        self.cost.flops / self.timing.seconds / 1e9
    }

    /// 10⁹ bytes a second that the kernel moved at least.
    pub fn gbytes(&self) -> f64 {
        self.cost.bytes / self.timing.seconds / 1e9
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
