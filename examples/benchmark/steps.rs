//! A whole training step of an autoencoder, with a tied weight and without: encode with ReLU, decode,
//! squared error, all gradients, Adam.

use std::error::Error;

use tied_linear::kernels::{
    Accumulate, AdamSettings, Backward, BiasGradient, ColumnSums, Contributions, Gradient, Linear,
    LossGradient,
};
use tied_linear::{
    Activation, Commands, Decoder, Encoder, Gradients, LayerBackward, Matrix, Optimizer,
    OptimizerState, Parameter, Parameters, Tape, TiedLinear, TrainingOptions, TrainingStep, Weight,
    wgpu,
};

use crate::host::Host;
use crate::own::{Dispatch, TRANSPOSE};
use crate::rig::Rig;
use crate::shape::Shape;
use crate::step_check::check_step;
use crate::work::Work;

/// Adam's step size.
pub const LEARNING_RATE: f64 = 1e-3;

/// Rows and columns of a tile of transpose.wgsl.
const TRANSPOSE_TILE: u32 = 32;

/// What the decoder's weight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The encoder's, accessed transposed: this library.
    Tied,
    /// Another one, \[inputs, hidden\], as in two layers that have nothing to do with each other.
    Untied,
    /// A copy of the encoder's, transposed anew in every step.
    Copied,
}

impl Variant {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Tied, Self::Untied, Self::Copied];

    /// What the tables call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tied => "tied",
            Self::Untied => "untied",
            Self::Copied => "copied",
        }
    }
}

/// What every variant starts from.
pub struct Start {
    pub shape: Shape,
    /// X, which is the target too.
    pub input: Host,
    /// The same on the GPU.
    batch: Matrix,
    pub weight: Host,
    pub encoder_bias: Host,
    pub decoder_bias: Host,
}

impl Start {
    /// Random samples and parameters; the weight's spread is that of Xavier's initialisation.
    pub fn new(rig: &Rig, shape: Shape) -> Result<Self, tied_linear::Error> {
        let Shape { batch, inputs, hidden } = shape;
        let bound = (6.0 / (f64::from(inputs) + f64::from(hidden))).sqrt() as f32;
        let input = Host::random(batch, inputs, 1.0, 1);
        Ok(Self {
            shape,
            batch: input.upload(rig, "batch")?,
            input,
            weight: Host::random(hidden, inputs, bound, 2),
            encoder_bias: Host::random(1, hidden, bound, 3),
            decoder_bias: Host::random(1, inputs, bound, 4),
        })
    }
}

/// A step, ready to run.
pub struct Step {
    /// All of its dispatches.
    pub work: Work,
    /// H, Y, dZ and dA.
    pub tape: Tape,
    /// The loss.
    pub loss: Matrix,
    /// Each parameter with its gradient.
    pub updates: Vec<(Parameter, Matrix)>,
    /// What else lies in memory: the optimizer's state, the copy.
    others: Vec<Matrix>,
}

impl Step {
    /// A step on random samples, which has been run once and compared with the reference.
    pub fn checked(rig: &Rig, variant: Variant, start: &Start) -> Result<Self, Box<dyn Error>> {
        let step = Self::new(rig, variant, start)?;
        check_step(rig, variant, start, &step)?;
        Ok(step)
    }

    /// The bytes of all its matrices that can be had; the batch is not its own.
    pub fn bytes_of_matrices(&self) -> u64 {
        let Tape { code, output, code_delta, output_delta, .. } = &self.tape;
        let activations = [code, output, code_delta, output_delta, &self.loss];
        let parameters = self.updates.iter().flat_map(|(p, gradient)| [&p.value, gradient]);
        let all = activations.into_iter().chain(parameters).chain(&self.others);
        let mut buffers: Vec<&wgpu::Buffer> = Vec::new();
        for buffer in all.map(Matrix::buffer) {
            if !buffers.contains(&buffer) {
                buffers.push(buffer);
            }
        }
        buffers.into_iter().map(wgpu::Buffer::size).sum()
    }

    fn new(rig: &Rig, variant: Variant, start: &Start) -> Result<Self, tied_linear::Error> {
        let parts = Parts::new(rig, start)?;
        match variant {
            Variant::Tied => parts.tied(),
            Variant::Untied => parts.untied(rig, start),
            Variant::Copied => parts.copied(rig, start.shape),
        }
    }
}

/// What all variants are made of. The layer is tied; an untied decoder ignores its half of it.
struct Parts {
    layer: TiedLinear,
    gradients: Gradients,
    input: Matrix,
}

impl Parts {
    fn new(rig: &Rig, start: &Start) -> Result<Self, tied_linear::Error> {
        let kernels = &rig.kernels;
        let weight = Weight::new(kernels, start.weight.upload(rig, "weight")?)?;
        let encoder_bias = start.encoder_bias.upload(rig, "encoder bias")?;
        let decoder_bias = start.decoder_bias.upload(rig, "decoder bias")?;
        let layer = TiedLinear::from_halves(
            Encoder::new(kernels, &weight, Some(encoder_bias), Activation::Relu)?,
            Decoder::new(kernels, &weight, Some(decoder_bias), Activation::Identity)?,
        )?;
        let gradients = Gradients::new(&layer)?;
        Ok(Self { gradients, input: start.batch.clone(), layer })
    }

    /// The library's own step.
    fn tied(self) -> Result<Step, tied_linear::Error> {
        let Self { layer, gradients, input } = &self;
        let optimizer = adam(&layer.parameters(), layer)?;
        let options = TrainingOptions::default();
        let step = TrainingStep::new(layer, &optimizer, gradients, input, input, options)?;
        let work =
            Work::from(step.gradient_commands().clone()).then(step.update_commands().clone());
        self.finish(work, step.tape().clone(), step.loss().clone(), &optimizer, None)
    }

    /// The same with a copy of the weight, \[inputs, hidden\], made first and encoded with to decode.
    fn copied(self, rig: &Rig, shape: Shape) -> Result<Step, tied_linear::Error> {
        let Self { layer, gradients, input } = &self;
        let Shape { inputs, hidden, .. } = shape;
        let optimizer = adam(&layer.parameters(), layer)?;
        let tape = Tape::new(layer, input.rows())?;
        let copy = rig.kernels.zeros("transposed copy", inputs, hidden)?;
        let workgroups = [inputs, hidden].map(|size| size.div_ceil(TRANSPOSE_TILE));
        let buffers = [layer.weight().matrix().buffer(), copy.buffer()];
        let transpose = Dispatch::new(rig, TRANSPOSE, [hidden, inputs, 0, 0], &buffers, workgroups);
        let loss = rig.kernels.zeros("loss", 1, 1)?;
        let decoder = Weight::new(&rig.kernels, copy.clone())?;
        let decode = Linear::new(&tape.code, &tape.output).with_bias(layer.decoder().bias());
        let work = Work::from(transpose)
            .then(layer.encoder().encode(input, &tape.code, None)?)
            .then(rig.kernels.encode(&decoder, &decode)?)
            .then(measure(rig, &tape, input, &loss)?)
            .then(layer.backward(&LayerBackward::new(input, &tape, gradients))?)
            .then(optimizer.update(&gradients.pairs(layer))?);
        self.finish(work, tape, loss, &optimizer, Some(copy))
    }

    /// Two weights, each the normal one of its own layer, with two gradients and two sets of moments.
    fn untied(self, rig: &Rig, start: &Start) -> Result<Step, tied_linear::Error> {
        let Self { layer, gradients, input } = &self;
        let kernels = &rig.kernels;
        let second = start.weight.transposed().upload(rig, "decoder weight")?;
        let second_gradient =
            kernels.zeros("decoder weight gradient", second.rows(), second.columns())?;
        let mut parameters = layer.parameters();
        parameters.extend([Parameter::new("decoder weight", second.clone())]);
        let optimizer = adam(&parameters, layer)?;
        let tape = Tape::new(layer, input.rows())?;
        let loss = kernels.zeros("loss", 1, 1)?;
        let decoder = Weight::new(kernels, second.clone())?;
        let decode = Linear::new(&tape.code, &tape.output).with_bias(layer.decoder().bias());
        // Back through the decoder: its weight is \[inputs, hidden\], so its code is Y.
        let back = Gradient::new(&tape.output_delta, &tape.code_delta)
            .through(Activation::Relu, Some(&tape.code));
        let of_bias =
            |delta, gradient| BiasGradient { delta, gradient, accumulate: Accumulate::Overwrite };
        let biases = ColumnSums {
            encoder_bias: gradients.encoder_bias.as_ref().map(|b| of_bias(&tape.code_delta, b)),
            decoder_bias: gradients.decoder_bias.as_ref().map(|c| of_bias(&tape.output_delta, c)),
            total: None,
            weight: None,
        };
        let work = Work::from(layer.encoder().encode(input, &tape.code, None)?)
            .then(kernels.encode(&decoder, &decode)?)
            .then(measure(rig, &tape, input, &loss)?)
            .then(kernels.input_gradient(&decoder, &back)?)
            .then(outer(rig, &tape.output_delta, &tape.code, &second_gradient)?)
            .then(outer(rig, &tape.code_delta, input, &gradients.weight)?)
            .then(kernels.column_sums(&biases)?);
        let mut pairs = gradients.pairs(layer);
        pairs.push((&second, &second_gradient));
        let work = work.then(optimizer.update(&pairs)?);
        self.finish(work, tape, loss, &optimizer, None).map(|mut step| {
            let second = Parameter::new("decoder weight", second);
            step.updates.push((second, second_gradient));
            step
        })
    }

    fn finish(
        self,
        work: Work,
        tape: Tape,
        loss: Matrix,
        optimizer: &Optimizer,
        copy: Option<Matrix>,
    ) -> Result<Step, tied_linear::Error> {
        let moments = optimizer.states().flat_map(|(_, state)| match state {
            OptimizerState::Adam(state) => {
                vec![state.first_moment(), state.second_moment(), state.steps()]
            }
            _ => Vec::new(),
        });
        let others = moments.cloned().chain(copy).collect();
        let pairs = self.gradients.pairs(&self.layer);
        let parameters = self.layer.parameters();
        let updates = parameters.iter().filter_map(|parameter| {
            let (_, gradient) = pairs.iter().find(|(value, _)| **value == parameter.value)?;
            Some((parameter.clone(), (*gradient).clone()))
        });
        let updates = updates.collect();
        Ok(Step { work, tape, loss, updates, others })
    }
}

fn adam(parameters: &Parameters, layer: &TiedLinear) -> Result<Optimizer, tied_linear::Error> {
    Optimizer::new(layer.kernels(), parameters, AdamSettings::adam(LEARNING_RATE))
}

/// The squared error and dA.
fn measure(
    rig: &Rig,
    tape: &Tape,
    target: &Matrix,
    loss: &Matrix,
) -> Result<Commands, tied_linear::Error> {
    let measure =
        LossGradient::new(&tape.output, target, loss).with_delta(Some(&tape.output_delta));
    rig.kernels.squared_error(&measure)
}

/// deltaᵀ·input: the gradient of the weight of an ordinary linear layer.
fn outer(
    rig: &Rig,
    delta: &Matrix,
    input: &Matrix,
    gradient: &Matrix,
) -> Result<Commands, tied_linear::Error> {
    rig.kernels.backward(&Backward {
        // Not read.
        code: delta,
        output_delta: input,
        code_delta: delta,
        input,
        gradient,
        contributions: Contributions::Encoder,
        accumulate: Accumulate::Overwrite,
    })
}
