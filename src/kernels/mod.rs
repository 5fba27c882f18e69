//! The kernels: one file for each shader, with the same name, and [`Kernels`], which holds what
//! they share on one device.
//!
//! Every method checks its arguments on the CPU, makes the bind group and, where it is new, the
//! pipeline, and returns [`Commands`] to record as often as needed. Nothing is submitted, polled or
//! written to the queue.

mod accumulate;
mod activation;
mod activation_gradient;
mod adam;
mod backward;
mod bias_gradient;
mod commands;
mod core;
mod cross_entropy;
mod decode;
mod elementwise;
mod encode;
mod linear;
mod loss;
mod operands;
mod parameter_set;
mod sgd;
mod squared_error;
mod sum;
mod tile;
mod weight;

pub use self::accumulate::Accumulate;
pub use self::activation::Activation;
pub use self::activation_gradient::ActivationGradient;
pub use self::adam::{AdamMoments, AdamSettings, AdamState, AdamUpdate};
pub use self::backward::{Backward, Contributions};
pub use self::bias_gradient::BiasGradient;
pub use self::commands::Commands;
pub use self::core::{KernelOptions, Kernels};
pub use self::linear::{Gradient, Linear};
pub use self::loss::{LossGradient, Reduction};
pub use self::parameter_set::ParameterUpdate;
pub(crate) use self::parameter_set::{GRADIENTS, MOST_PARAMETERS, VALUES};
pub use self::sgd::{SgdSettings, SgdState, SgdUpdate};
pub use self::sum::Sum;
pub use self::weight::Weight;

use crate::shader::Shader;

/// The description of every kernel, for tests and tools.
pub const SHADERS: &[&Shader] = &[
    &encode::SHADER,
    &decode::SHADER,
    &backward::SHADER,
    &activation_gradient::SHADER,
    &bias_gradient::SHADER,
    &squared_error::SHADER,
    &cross_entropy::SHADER,
    &sum::SHADER,
    &sgd::SHADER,
    &adam::SHADER,
];
