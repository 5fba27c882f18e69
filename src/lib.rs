//! Tied linear layers on the GPU (draft).
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod error;
#[cfg(feature = "headless")]
pub mod headless;
pub mod init;
pub mod kernels;
mod layer;
mod matrix;
mod optimizer;
mod parameters;
pub mod shader;
mod training;
mod transfer;

pub use error::{Error, Result};
pub use kernels::{
    Accumulate, Activation, Commands, Contributions, KernelOptions, Kernels, Reduction, Weight,
};
pub use layer::{Decoder, Encoder, Gradients, LayerBackward, Tape, TiedLinear, TiedLinearOptions};
pub use matrix::{ElementType, Layout, Matrix};
pub use optimizer::{Optimizer, OptimizerSettings, OptimizerState};
pub use parameters::{Parameter, Parameters};
pub use training::{Loss, TrainingOptions, TrainingStep};
pub use transfer::Readback;
pub use wgpu;
