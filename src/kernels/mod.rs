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
mod backward_adam;
mod backward_sgd;
mod column_sums;
mod commands;
mod core;
mod cross_entropy;
mod decode;
mod driver;
mod elementwise;
mod encode;
mod linear;
mod loss;
mod loss_scale;
mod noise;
mod operands;
mod parameter_set;
mod product;
mod sgd;
mod squared_error;
mod strategy;
mod weight;
mod weight_gradient;

pub use self::accumulate::Accumulate;
pub use self::activation::Activation;
pub use self::activation_gradient::ActivationGradient;
pub use self::adam::{AdamMoments, AdamSettings, AdamState, AdamUpdate};
pub use self::backward::{Backward, Contributions, GradientParts};
pub use self::backward_adam::BackwardAdam;
pub use self::backward_sgd::BackwardSgd;
pub use self::column_sums::{BiasGradient, ColumnSums, Sum};
pub use self::commands::Commands;
pub use self::core::{KernelOptions, Kernels};
pub(crate) use self::linear::LossProduct;
pub use self::linear::{Gradient, Linear};
pub use self::loss::{Loss, LossGradient, Reduction};
pub use self::loss_scale::{LossScale, LossScaleSettings, LossScaleStatus};
pub use self::noise::{Noise, NoiseState, NoisyCopy};
pub use self::parameter_set::ParameterUpdate;
pub(crate) use self::parameter_set::{GRADIENTS, MOST_PARAMETERS, VALUES};
pub use self::sgd::{SgdSettings, SgdState, SgdUpdate};
pub use self::strategy::{Choice, Pattern, ProductShape, Strategy, StrategyTable};
pub use self::weight::Weight;
pub use self::weight_gradient::Factors;

use crate::shader::Shader;

/// The description of every kernel, for tests and tools.
pub const SHADERS: &[&Shader] = &[
    &encode::SHADER,
    &decode::SHADER,
    &backward::SHADER,
    &backward_sgd::SHADER,
    &backward_adam::SHADER,
    &activation_gradient::SHADER,
    &column_sums::SHADER,
    &noise::SHADER,
    &squared_error::SHADER,
    &cross_entropy::SHADER,
    &loss_scale::SHADER,
    &sgd::SHADER,
    &adam::SHADER,
];
