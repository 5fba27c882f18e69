//! Tied linear layers on the GPU: one weight buffer, used to encode and, transposed, to decode.
//!
//! ```text
//! encode   H = f(X·Wᵀ + b)      W: [hidden, inputs], row-major (PyTorch's nn.Linear layout)
//! decode   Y = g(H·W  + c)      X, Y: [batch, inputs]   H: [batch, hidden]
//! ```
//!
//! Hand-written WGSL compute shaders over [wgpu] (re-exported as [`wgpu`]), for a host that owns its
//! device. There is one weight buffer; a normal product and one with transposed access are bound to
//! it, and no transposed copy ever exists.
//!
//! # How it is used
//!
//! [`Kernels`] belong to a device, a [`Matrix`] is a view of a buffer, and [`Commands`] are prepared
//! dispatches. Preparing checks everything and makes bind groups and pipelines; recording does
//! neither, and goes into the host's own [`wgpu::ComputePass`]:
//!
//! ```
//! use tied_linear::kernels::Linear;
//! use tied_linear::{KernelOptions, Kernels, Weight, wgpu};
//!
//! # fn main() -> Result<(), tied_linear::Error> {
//! # let gpu = tied_linear::headless::Gpu::request_blocking()?;
//! # let (device, queue) = (gpu.device, gpu.queue);
//! let kernels = Kernels::new(&device, KernelOptions::default())?;
//! let weight = kernels.matrix("weight", 2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! let weight = Weight::new(&kernels, weight)?;
//! let x = kernels.matrix("x", 1, 3, &[1.0, 0.0, -1.0])?;
//! let h = kernels.zeros("h", 1, 2)?;
//! let y = kernels.zeros("y", 1, 3)?;
//!
//! let encode = kernels.encode(&weight, &Linear::new(&x, &h))?;
//! let decode = kernels.decode(&weight, &Linear::new(&h, &y))?;
//! let forward = encode.then(decode);
//!
//! let mut encoder = device.create_command_encoder(&Default::default());
//! forward.record(&mut encoder.begin_compute_pass(&Default::default()));
//! queue.submit([encoder.finish()]);
//! assert_eq!(h.read_blocking(&device, &queue)?, [-2.0, -2.0]);
//! assert_eq!(y.read_blocking(&device, &queue)?, [-10.0, -14.0, -18.0]);
//! # Ok(())
//! # }
//! ```
//!
//! The same kernels, with bit-identical results, can be had in three ways: the methods of [`Kernels`]
//! over the caller's buffers; an [`Encoder`] and a [`Decoder`] that share a [`Weight`]; and
//! [`TiedLinear`], which owns both. [`TrainingStep`] puts forward, loss, backward and update together.
//!
//! # The gradient
//!
//! From dY, the gradient of the loss by Y:
//!
//! ```text
//! dA = dY ⊙ g′        dc = Σ_batch dA
//! dH = dA·Wᵀ          (plus a gradient for H that the caller may give)
//! dZ = dH ⊙ f′        db = Σ_batch dZ, in one dispatch with dc
//! dW = Hᵀ·dA + dZᵀ·X  one dispatch: both reductions into the same sums, one store
//! dX = dZ·W           on request
//! ```
//!
//! Both terms of dW count by default, as they must for a weight that is used twice;
//! [`Contributions`] chooses one of them instead, [`Accumulate`] adds to what the buffer holds.
//! The formulas are the chain rule; the tests hold each against f64 loops and central differences.
//!
//! # Deep stacks
//!
//! [`TiedAutoencoder`] is a stack of layers, mirrored: 784→256→64 and back, each weight used twice.
//! [`AutoencoderStep`] is its whole training step in one pass, with buffers for activations that are planned
//! once and shared; it can put [`Noise`] on the input, which a generator on the GPU makes anew each time,
//! and keep what is [`Frozen`] as it is.
//!
//! ```
//! use tied_linear::{
//!     Activation, AdamSettings, AutoencoderGradients, AutoencoderStep, AutoencoderStepOptions,
//!     Frozen, Noise, NoiseState, Optimizer, TiedAutoencoder, TiedAutoencoderOptions,
//! };
//!
//! # fn main() -> Result<(), tied_linear::Error> {
//! # let gpu = tied_linear::headless::Gpu::request_blocking()?;
//! # let (device, queue) = (gpu.device, gpu.queue);
//! # let kernels = tied_linear::Kernels::new(&device, Default::default())?;
//! let options = TiedAutoencoderOptions::new(&[20, 8, 3])
//!     .with_activations(Activation::Tanh, Activation::Tanh)
//!     .with_output_activation(Activation::Identity);
//! let stack = TiedAutoencoder::new(&kernels, &options)?;
//! let optimizer = Optimizer::new(&kernels, &stack.parameters(), AdamSettings::adam(0.01))?;
//! let gradients = AutoencoderGradients::new(&stack)?;
//!
//! let batch = kernels.zeros("batch", 5, 20)?;
//! let noise = NoiseState::new(&kernels, 5, 20, 1)?;
//! let options = AutoencoderStepOptions::default()
//!     .with_noise(Noise::Masking { probability: 0.3 }, &noise)
//!     .with_frozen(1, Frozen::ENCODER_BIAS);
//! let step = AutoencoderStep::new(&stack, &optimizer, &gradients, &batch, &batch, &options)?;
//!
//! let mut encoder = device.create_command_encoder(&Default::default());
//! step.record(&mut encoder.begin_compute_pass(&Default::default()));
//! queue.submit([encoder.finish()]);
//! assert!(step.loss().read_blocking(&device, &queue)?[0].is_finite());
//!
//! let untied = stack.untie(&queue)?;
//! println!("untied, the stack takes {} bytes more", untied.extra_bytes());
//! # Ok(())
//! # }
//! ```
//!
//! # 16 bits
//!
//! A layer with [`TiedLinearOptions::with_weight_element`] has an f32 master with a
//! [working copy](Matrix::with_working_copy) in f16 or bf16, which the products read and every update writes;
//! [`TrainingOptions::with_elements`], [`AutoencoderStepOptions::with_elements`] and [`Gradients::new_as`]
//! choose the types of activations and gradients. [`Optimizer::with_loss_scale`] gives the loss a
//! [`LossScale`], which skips steps whose gradients are not finite, all on the GPU.
//!
//! # What is promised
//!
//! * **Numbers.** Arithmetic is f32. So is storage, unless [`ElementType`] says otherwise: every matrix but
//!   biases, their gradients and what an optimizer keeps may be f16 or bf16, and then an operand and a result
//!   have one rounding each. The order of every sum is fixed by the shapes, and there are no float atomics:
//!   one adapter gives the same bits each time.
//! * **Sizes.** Any rows, columns, offset and row stride, up to 2³¹ − 1 elements a matrix. Sizes of zero
//!   are defined: an empty batch writes no output and adds nothing to a gradient. Mesa's software driver
//!   up to 22.3 cuts long loops short; there long reductions are split.
//! * **Errors.** What fails returns an [`Error`] before anything is recorded or written. Nothing
//!   panics, and wgpu's own errors are caught, not left to the uncaptured-error handler. One mix-up
//!   is past seeing, since wgpu does not say which device a queue or a pass belongs to: a queue or
//!   pass of one device together with objects of another. wgpu reports that itself.
//! * **Guests.** No global state, no threads. Nothing submits, polls or writes to the queue but the
//!   functions for just that: [`Matrix::write`], [`Optimizer::set_learning_rate`] and
//!   [`NoiseState::set_step`] write, [`Matrix::read`], [`TiedLinear::untie`] and [`UntiedLinear::tie`] submit,
//!   [`Matrix::read_blocking`] and [`UntiedLinear::tie_blocking`] submit and poll,
//!   [`Readback::read_blocking`] polls, and so do [`tune()`] and [`Kernels::warm_up`]; and those of a
//!   [checkpoint](#features): `Checkpoint::read` submits, `Checkpoint::read_blocking` submits and polls, and
//!   `Checkpoint::restore`, `tied_layer`, `untied_halves` and their `_as` write and submit.
//!
//! # Features
//!
//! `headless` (default) adds [`headless`] and wgpu's native backends, for programs that have no device.
//! A host that has one can switch the default features off. `checkpoint` (default) adds the module
//! of that name, which saves and loads files, and the crates that it needs.
//!
//! [wgpu]: https://wgpu.rs

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod autoencoder;
#[cfg(feature = "checkpoint")]
pub mod checkpoint;
mod element;
mod error;
mod halves;
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
mod tune;
mod untied;
mod warm_up;

pub use autoencoder::{
    AutoencoderGradients, AutoencoderStep, AutoencoderStepOptions, Frozen, TiedAutoencoder,
    TiedAutoencoderOptions, UntiedAutoencoder,
};
pub use element::{ElementType, ElementTypes};
pub use error::{Error, Result};
pub use halves::{Decoder, Encoder};
pub use init::{Init, Side};
pub use kernels::{
    Accumulate, Activation, AdamSettings, Choice, Commands, Contributions, KernelOptions, Kernels,
    Loss, LossScale, LossScaleSettings, LossScaleStatus, Noise, NoiseState, Pattern, ProductShape,
    Reduction, SgdSettings, Strategy, StrategyTable, Weight,
};
pub use layer::{Gradients, LayerBackward, Tape, TiedLinear, TiedLinearOptions};
pub use matrix::{Layout, Matrix};
pub use optimizer::{Optimizer, OptimizerSettings, OptimizerState};
pub use parameters::{Parameter, Parameters};
pub use training::{TrainingOptions, TrainingStep};
pub use transfer::Readback;
pub use tune::tune;
pub use untied::UntiedLinear;
pub use warm_up::{WarmUp, WarmUpTraining};
pub use wgpu;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
