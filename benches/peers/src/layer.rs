//! The tied autoencoder as one writes it with Burn, and its training step.

use burn::module::{Module, Param};
use burn::nn::loss::{MseLoss, Reduction};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

use crate::adapter::Rig;
use crate::host::Host;
use crate::shape::Shape;

/// Adam's step size.
pub const LEARNING_RATE: f64 = 1e-3;

/// Adam's ε: the library's and PyTorch's default. (Burn's is larger.)
pub const EPSILON: f32 = 1e-8;

/// What a training starts from.
pub struct Start {
    /// X, which is the target too.
    pub input: Host,
    pub weight: Host,
    pub encoder_bias: Host,
    pub decoder_bias: Host,
}

impl Start {
    /// Random samples and parameters; the weight's spread is that of Xavier's initialisation.
    pub fn new(shape: Shape) -> Self {
        let Shape { batch, inputs, hidden } = shape;
        let bound = (6.0 / (f64::from(inputs) + f64::from(hidden))).sqrt() as f32;
        Self {
            input: Host::random(batch, inputs, 1.0, 1),
            weight: Host::random(hidden, inputs, bound, 2),
            encoder_bias: Host::random(1, hidden, bound, 3),
            decoder_bias: Host::random(1, inputs, bound, 4),
        }
    }
}

/// One weight, \[hidden, inputs\], and two biases.
#[derive(Module, Debug)]
pub struct TiedLayer {
    pub weight: Param<Tensor<2>>,
    pub encoder_bias: Param<Tensor<1>>,
    pub decoder_bias: Param<Tensor<1>>,
}

impl TiedLayer {
    fn new(start: &Start, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(start.weight.upload(device)),
            encoder_bias: Param::from_tensor(start.encoder_bias.upload_row(device)),
            decoder_bias: Param::from_tensor(start.decoder_bias.upload_row(device)),
        }
    }

    /// The output: encoded with the weight's transposed view, decoded with the weight itself.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let code = encode(input, self.weight.val(), self.encoder_bias.val());
        decode(code, self.weight.val(), self.decoder_bias.val())
    }
}

/// relu(X·Wᵀ + b).
pub fn encode(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    relu(linear(input, weight.transpose(), Some(bias)))
}

/// H·W + c.
pub fn decode(code: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    linear(code, weight, Some(bias))
}

/// A layer in training.
pub struct Training {
    pub layer: TiedLayer,
    pub input: Tensor<2>,
    optimizer: ModuleOptimizer,
}

impl Training {
    /// Before its first step.
    pub fn new(rig: &Rig, start: &Start) -> Self {
        let device = rig.device.clone().autodiff();
        Self {
            layer: TiedLayer::new(start, &device),
            input: start.input.upload(&device),
            optimizer: AdamConfig::new().with_epsilon(EPSILON).init(),
        }
    }

    /// The mean squared error, and the gradients of all parameters.
    pub fn gradients(&self) -> (Tensor<1>, GradientsParams) {
        let output = self.layer.forward(self.input.clone());
        let loss = MseLoss::new().forward(output, self.input.clone(), Reduction::Mean);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.layer);
        (loss, gradients)
    }

    /// Forward, loss, backward and Adam; the loss before the update.
    pub fn step(mut self) -> (Self, Tensor<1>) {
        let (loss, gradients) = self.gradients();
        self.layer = self.optimizer.step(LEARNING_RATE, self.layer, gradients);
        (self, loss)
    }
}
