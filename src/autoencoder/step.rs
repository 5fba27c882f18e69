//! [`AutoencoderStep`]: forward, loss, backward and update of a stack, prepared once.

use super::gradients::{AutoencoderGradients, Frozen};
use super::plan::{Planned, Value};
use super::program::{Operation, Program, Slope, Source, Uses};
use super::stack::{TiedAutoencoder, in_layer};
use crate::element::ElementTypes;
use crate::error::{Error, Result};
use crate::kernels::{
    Accumulate, Activation, Backward, BiasGradient, ColumnSums, Commands, Contributions, Gradient,
    Linear, Loss, LossProduct, LossScale, Noise, NoiseState, NoisyCopy, Reduction, Sum,
};
use crate::layer::{Gradients, TiedLinear, column_sums};
use crate::matrix::{Matrix, expect_shape};
use crate::optimizer::Optimizer;

/// How a stack's step is taken.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct AutoencoderStepOptions {
    /// The loss. Default: squared error.
    pub loss: Loss,
    /// Its reduction. Default: mean.
    pub reduction: Reduction,
    /// Which uses of each weight its gradient counts. Default: both.
    pub contributions: Contributions,
    /// Whether the gradients are overwritten or added to. Default: overwritten.
    pub accumulate: Accumulate,
    /// The types of activations and deltas. Those of the weights and of their gradients are the layers'
    /// ([`TiedLinearOptions`](crate::TiedLinearOptions)) and those of `gradients`. Default: f32.
    pub elements: ElementTypes,
    /// What is not trained, for each layer; layers that it lacks are trained whole. Default: nothing.
    pub frozen: Vec<Frozen>,
    /// The noise that is put on the input, and its seed and step. Default: none.
    pub noise: Option<(Noise, NoiseState)>,
}

impl AutoencoderStepOptions {
    /// Sets [`AutoencoderStepOptions::loss`].
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Sets [`AutoencoderStepOptions::reduction`].
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets [`AutoencoderStepOptions::contributions`].
    pub fn with_contributions(mut self, contributions: Contributions) -> Self {
        self.contributions = contributions;
        self
    }

    /// Sets [`AutoencoderStepOptions::accumulate`].
    pub fn with_accumulate(mut self, accumulate: Accumulate) -> Self {
        self.accumulate = accumulate;
        self
    }

    /// Sets [`AutoencoderStepOptions::elements`].
    pub fn with_elements(mut self, elements: ElementTypes) -> Self {
        self.elements = elements;
        self
    }

    /// Sets what is frozen of the layer with this index in [`AutoencoderStepOptions::frozen`].
    pub fn with_frozen(mut self, layer: usize, frozen: Frozen) -> Self {
        if self.frozen.len() <= layer {
            self.frozen.resize(layer + 1, Frozen::NONE);
        }
        self.frozen[layer] = frozen;
        self
    }

    /// Sets [`AutoencoderStepOptions::noise`]: the stack learns to give the clean target from the noisy
    /// input. Steps on batches of other sizes can share the state.
    pub fn with_noise(mut self, noise: Noise, state: &NoiseState) -> Self {
        self.noise = Some((noise, state.clone()));
        self
    }
}

/// One training step of a stack on one batch, prepared: record it as often as you like.
///
/// With n layers, Wᵢ \[sᵢ₊₁, sᵢ\] and X₀ the input, it computes
///
/// ```text
/// encode   Xᵢ₊₁ = fᵢ(Xᵢ·Wᵢᵀ + bᵢ)     i = 0 … n−1      Xₙ is the code, Yₙ = Xₙ
/// decode   Yᵢ = gᵢ(Yᵢ₊₁·Wᵢ + cᵢ)      i = n−1 … 0      Y₀ goes on to the loss and dA₀
///
/// dAᵢ₊₁ = (dAᵢ·Wᵢᵀ) ⊙ gᵢ₊₁′           i = 0 … n−2
/// dZₙ₋₁ = (dAₙ₋₁·Wₙ₋₁ᵀ) ⊙ fₙ₋₁′
/// dZᵢ₋₁ = (dZᵢ·Wᵢ) ⊙ fᵢ₋₁′            i = n−1 … 1
/// dWᵢ = Yᵢ₊₁ᵀ·dAᵢ + dZᵢᵀ·Xᵢ           both uses of the weight in one dispatch
/// dbᵢ = Σ_batch dZᵢ    dcᵢ = Σ_batch dAᵢ
/// ```
///
/// and then updates every parameter. These are 7·n − 1 dispatches: n each to encode, to decode, for the
/// weights' gradients, for the biases' (with the loss's total, and the last pass of a weight gradient that
/// was split) and for the update of 3·n parameters, and 2·n − 1 for the deltas. Noise takes one more, a
/// [scale of the loss](crate::LossScale) n more; what is frozen, or not there, takes fewer. With one layer it is a [`TrainingStep`](crate::TrainingStep), to
/// the bit; so one layer can be trained with noise or frozen parts, too.
///
/// # Memory
///
/// The buffers of activations are planned when the step is prepared: two that are never needed at once
/// share one. dZᵢ₋₁ takes the place of dAᵢ, which has its shape and is read for the last time just before.
/// Where no size is larger than the one before it, and no activation's derivative needs the
/// pre-activation, they take
///
/// ```text
/// 4·batch·(s₀ + 3·(s₁ + … + sₙ₋₁) + 2·sₙ) bytes
/// ```
///
/// instead of 4·batch·(s₀ + 4·(s₁ + … + sₙ₋₁) + 2·sₙ); noise takes 4·batch·s₀ more, and a
/// pre-activation what its activation does, as long as that is alive. In 16 bits they take half, rows being
/// padded to an even number of elements. [`AutoencoderStep::activation_bytes`]
/// tells what was planned. Parameters, gradients, moments and the small rest are as for a
/// [`TrainingStep`](crate::TrainingStep), for each layer.
///
/// The batch is the contents of `input` and `target` when the commands run. Micro-batches are accumulated
/// as with a [`TrainingStep`](crate::TrainingStep).
#[derive(Debug, Clone)]
pub struct AutoencoderStep {
    loss: Matrix,
    activation_bytes: u64,
    gradient_commands: Commands,
    update_commands: Commands,
}

impl AutoencoderStep {
    /// A step on `input` X₀ \[batch, inputs\] towards `target` in the same shape: for an autoencoder,
    /// `input` itself, with or without noise.
    ///
    /// # Errors
    ///
    /// As the kernels that it runs ([`Kernels`](crate::Kernels)), saying in which layer, and as
    /// [`Optimizer::update`]; [`Error::Incompatible`] for a cross-entropy with an activation of the
    /// outermost decoder, for gradients of another number of layers, for a frozen layer that the stack
    /// does not have, and for a parameter that several layers share and not all of them freeze;
    /// [`Error::Missing`] for gradients that lack a bias which is trained.
    pub fn new(
        autoencoder: &TiedAutoencoder,
        optimizer: &Optimizer,
        gradients: &AutoencoderGradients,
        input: &Matrix,
        target: &Matrix,
        options: &AutoencoderStepOptions,
    ) -> Result<Self> {
        let kernels = autoencoder.kernels();
        let whole = |layer: &TiedLinear| {
            let strategies = layer.kernels().strategies().clone().without_split_products();
            layer.with_kernels(&layer.kernels().with_strategies(strategies))
        };
        let layers: Vec<_> = autoencoder.layers().iter().map(whole).collect();
        let shape = [input.rows(), autoencoder.inputs()];
        expect_shape("input", input, shape)?;
        expect_shape("target", target, shape)?;
        if gradients.layers().len() != layers.len() {
            return Err(Error::Incompatible {
                what: "gradients",
                reason: "they are those of another number of layers",
            });
        }
        let logits = options.loss.expect_decoder_activation(layers[0].decoder().activation());
        logits.map_err(|error| in_layer(error, 0))?;
        let frozen = frozen_of_each(&layers, &options.frozen)?;
        let frozen_values = frozen_values(&layers, &frozen)?;

        let loss = kernels.zeros("loss", 1, 1)?;
        let program = Program::new(&layers, &frozen, options.noise.is_some(), options.elements);
        let planned = program.plan.allocate(kernels, input.rows())?;
        let mut recorder = Recorder {
            layers: &layers,
            gradients: gradients.layers(),
            planned: &planned,
            input,
            target,
            options,
            total: &loss,
            loss_scale: optimizer.loss_scale(),
            values: None,
            seen: Vec::new(),
            commands: Commands::default(),
        };
        for operation in &program.operations {
            recorder.prepare(operation)?;
        }
        let pairs = gradients.pairs(autoencoder);
        let update_commands = optimizer.update_without(&frozen_values, &pairs)?;
        let gradient_commands = recorder.commands;
        Ok(Self { loss, activation_bytes: planned.bytes(), gradient_commands, update_commands })
    }

    /// Records the whole step: forward, loss, backward, update.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.gradient_commands.record(pass);
        self.update_commands.record(pass);
    }

    /// Noise, forward, loss and backward alone.
    pub fn gradient_commands(&self) -> &Commands {
        &self.gradient_commands
    }

    /// The update alone.
    pub fn update_commands(&self) -> &Commands {
        &self.update_commands
    }

    /// The loss of the step that ran last, before its update; \[1, 1\], on the GPU until it is read.
    pub fn loss(&self) -> &Matrix {
        &self.loss
    }

    /// Bytes of the buffers for activations and deltas.
    pub fn activation_bytes(&self) -> u64 {
        self.activation_bytes
    }
}

/// One entry for each layer.
fn frozen_of_each(layers: &[TiedLinear], given: &[Frozen]) -> Result<Vec<Frozen>> {
    let beyond = given.iter().skip(layers.len());
    if beyond.into_iter().any(|frozen| *frozen != Frozen::NONE) {
        return Err(Error::Incompatible {
            what: "frozen",
            reason: "it freezes a layer that the stack does not have",
        });
    }
    Ok((0..layers.len()).map(|index| given.get(index).copied().unwrap_or_default()).collect())
}

/// The parameters that are not trained.
fn frozen_values<'a>(layers: &'a [TiedLinear], frozen: &[Frozen]) -> Result<Vec<&'a Matrix>> {
    let of_layer = |(index, (layer, frozen)): (usize, (&'a TiedLinear, &Frozen))| {
        let all = [
            (Some(layer.weight().matrix()), frozen.weight),
            (layer.encoder().bias(), frozen.encoder_bias),
            (layer.decoder().bias(), frozen.decoder_bias),
        ];
        all.into_iter().filter_map(move |(value, frozen)| Some((index, value?, frozen)))
    };
    let all: Vec<_> = layers.iter().zip(frozen).enumerate().flat_map(of_layer).collect();
    for (index, value, frozen) in &all {
        let differs = |(_, other, other_frozen): &&(usize, &Matrix, bool)| {
            other == value && other_frozen != frozen
        };
        if all.iter().any(|other| differs(&other)) {
            let error = Error::Incompatible {
                what: "frozen",
                reason: "a parameter is frozen in one of its places and trained in another",
            };
            return Err(in_layer(error, *index));
        }
    }
    Ok(all.into_iter().filter_map(|(_, value, frozen)| frozen.then_some(value)).collect())
}

/// Prepares the operations of a program, one after the other.
struct Recorder<'a> {
    layers: &'a [TiedLinear],
    gradients: &'a [Gradients],
    planned: &'a Planned,
    input: &'a Matrix,
    target: &'a Matrix,
    options: &'a AutoencoderStepOptions,
    total: &'a Matrix,
    loss_scale: Option<&'a LossScale>,
    /// What the loss is the sum of, from its dispatch to the next with column sums.
    values: Option<Matrix>,
    /// Gradients that have been written: what comes to them further is added.
    seen: Vec<&'a Matrix>,
    commands: Commands,
}

impl<'a> Recorder<'a> {
    fn prepare(&mut self, operation: &Operation) -> Result<()> {
        let commands = match *operation {
            Operation::Noise { output } => self.noise(output)?,
            Operation::Encode { layer, input, forward } => {
                let half = self.layers[layer].encoder();
                let (input, output) = (self.source(input), self.value(forward.output));
                half.encode(input, output, self.given(forward.preactivation))
                    .map_err(|error| in_layer(error, layer))?
            }
            Operation::Decode { layer, code, forward } => {
                let half = self.layers[layer].decoder();
                let (code, output) = (self.value(code), self.value(forward.output));
                half.decode(code, output, self.given(forward.preactivation))
                    .map_err(|error| in_layer(error, layer))?
            }
            Operation::Loss { code, delta } => {
                let loss = self.loss(code, delta);
                loss.map_err(|error| in_layer(error, 0))?
            }
            Operation::Outward { layer, delta, slope, output } => {
                let (own, call) = (&self.layers[layer], self.gradient(delta, slope, output));
                let commands = own.kernels().code_gradient(own.weight(), &call);
                commands.map_err(|error| in_layer(error, layer))?
            }
            Operation::Inward { layer, delta, slope, output } => {
                let (own, call) = (&self.layers[layer], self.gradient(delta, slope, output));
                let commands = own.kernels().input_gradient(own.weight(), &call);
                commands.map_err(|error| in_layer(error, layer))?
            }
            Operation::Parameters(uses) => {
                let parameters = self.parameters(&uses);
                parameters.map_err(|error| in_layer(error, uses.layer))?
            }
        };
        self.commands = std::mem::take(&mut self.commands).then(commands);
        Ok(())
    }

    fn value(&self, value: Value) -> &'a Matrix {
        self.planned.matrix(value)
    }

    fn given(&self, value: Option<Value>) -> Option<&'a Matrix> {
        value.map(|value| self.value(value))
    }

    fn source(&self, source: Source) -> &'a Matrix {
        match source {
            Source::Input => self.input,
            Source::Planned(value) => self.value(value),
        }
    }

    fn noise(&self, output: Value) -> Result<Commands> {
        let Some((noise, state)) = &self.options.noise else { return Ok(Commands::default()) };
        let output = self.value(output);
        let copy = NoisyCopy { input: self.input, noise: *noise, state, output };
        let commands = self.layers[0].kernels().noise(&copy);
        commands.map_err(|error| error.renamed(&[["state", "noise state"]]))
    }

    fn gradient(&self, delta: Value, slope: Slope, output: Value) -> Gradient<'a> {
        let call = Gradient::new(self.value(delta), self.value(output));
        match slope.activation {
            Activation::Identity => call,
            activation => call.through(activation, Some(self.value(slope.saved))),
        }
    }

    fn loss(&mut self, code: Value, delta: Value) -> Result<Commands> {
        let (layer, options) = (&self.layers[0], self.options);
        let linear = Linear::new(self.value(code), self.value(delta))
            .with_bias(layer.decoder().bias())
            .with_activation(layer.decoder().activation());
        let &AutoencoderStepOptions { loss, reduction, .. } = options;
        let (target, loss_scale) = (self.target, self.loss_scale);
        let product = LossProduct { linear, target, loss, reduction, loss_scale };
        let (commands, values) = layer.kernels().decode_with_loss(layer.weight(), &product)?;
        self.values = Some(values);
        Ok(commands)
    }

    /// How a gradient is stored, at its first use in the step and at further ones.
    fn accumulate(&mut self, gradient: &'a Matrix) -> Accumulate {
        if self.seen.contains(&gradient) {
            return Accumulate::Add;
        }
        self.seen.push(gradient);
        self.options.accumulate
    }

    fn parameters(&mut self, uses: &Uses) -> Result<Commands> {
        let kernels = self.layers[uses.layer].kernels();
        let gradients = &self.gradients[uses.layer];
        let mut commands = Commands::default();
        let mut parts = None;
        if let Some((code, output_delta, code_delta, input)) = uses.weight {
            let backward = Backward {
                code: self.value(code),
                output_delta: self.value(output_delta),
                code_delta: self.value(code_delta),
                input: self.source(input),
                gradient: &gradients.weight,
                contributions: self.options.contributions,
                accumulate: self.accumulate(&gradients.weight),
            };
            let product = kernels.backward_in_parts(&backward);
            (commands, parts) =
                product.map_err(|error| error.renamed(&[["gradient", "gradients.weight"]]))?;
        }
        let biases = [
            (uses.encoder_bias, &gradients.encoder_bias, "gradients.encoder_bias"),
            (uses.decoder_bias, &gradients.decoder_bias, "gradients.decoder_bias"),
        ];
        let [encoder_bias, decoder_bias] = biases.map(|(delta, gradient, operand)| {
            let Some(delta) = delta else { return Ok(None) };
            let reason = "this bias is trained";
            let gradient = gradient.as_ref().ok_or(Error::Missing { operand, reason })?;
            let accumulate = self.accumulate(gradient);
            Ok(Some(BiasGradient { delta: self.value(delta), gradient, accumulate }))
        });
        let values = self.values.take();
        let scale = self.options.reduction.scale(self.target.len());
        let total =
            values.as_ref().map(|values| Sum { partials: values, scale, total: self.total });
        let sums = ColumnSums {
            encoder_bias: encoder_bias?,
            decoder_bias: decoder_bias?,
            total,
            weight: parts.as_ref(),
        };
        let names = [
            ["encoder_gradient", "gradients.encoder_bias"],
            ["decoder_gradient", "gradients.decoder_bias"],
            ["weight_gradient", "gradients.weight"],
        ];
        let sums = column_sums(kernels, &sums).map_err(|error| error.renamed(&names))?;
        Ok(commands.then(sums))
    }
}
