//! [`TiedLinear`], and the two halves that share its weight.

use crate::error::{Error, Result};
use crate::init::{Init, Side};
use crate::kernels::{
    Accumulate, Activation, ActivationGradient, Backward, BiasGradient, Commands, Contributions,
    Gradient, Kernels, Linear, Weight,
};
use crate::matrix::{Matrix, expect_shape_if_given};
use crate::parameters::{Parameter, Parameters};

/// The half that encodes: H = f(X·Wᵀ + b).
#[derive(Debug, Clone)]
pub struct Encoder {
    kernels: Kernels,
    weight: Weight,
    bias: Option<Matrix>,
    activation: Activation,
}

impl Encoder {
    /// An encoder with this weight W \[hidden, inputs\] and bias b \[1, hidden\].
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for a bias of another shape.
    pub fn new(
        kernels: &Kernels,
        weight: &Weight,
        bias: Option<Matrix>,
        activation: Activation,
    ) -> Result<Self> {
        expect_shape_if_given("bias", bias.as_ref(), [1, weight.hidden()])?;
        let (kernels, weight) = (kernels.clone(), weight.clone());
        Ok(Self { kernels, weight, bias, activation })
    }

    /// From `input` X \[batch, inputs\] to `code` H \[batch, hidden\]; `preactivation`, in the code's
    /// shape, is where X·Wᵀ + b goes for an activation whose derivative needs it.
    ///
    /// # Errors
    ///
    /// As [`Kernels::encode`].
    pub fn encode(
        &self,
        input: &Matrix,
        code: &Matrix,
        preactivation: Option<&Matrix>,
    ) -> Result<Commands> {
        let call = Linear::new(input, code)
            .with_bias(self.bias.as_ref())
            .with_activation(self.activation)
            .with_preactivation(preactivation);
        self.kernels.encode(&self.weight, &call)
    }

    /// The shared weight.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// b.
    pub fn bias(&self) -> Option<&Matrix> {
        self.bias.as_ref()
    }

    /// f.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The weight, then the bias.
    pub fn parameters(&self) -> Parameters {
        parameters(&self.weight, [("encoder bias", self.bias())])
    }
}

/// The half that decodes: Y = g(H·W + c), with the encoder's weight accessed transposed.
#[derive(Debug, Clone)]
pub struct Decoder {
    kernels: Kernels,
    weight: Weight,
    bias: Option<Matrix>,
    activation: Activation,
}

impl Decoder {
    /// A decoder with this weight W \[hidden, inputs\] and bias c \[1, inputs\].
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] for a bias of another shape.
    pub fn new(
        kernels: &Kernels,
        weight: &Weight,
        bias: Option<Matrix>,
        activation: Activation,
    ) -> Result<Self> {
        expect_shape_if_given("bias", bias.as_ref(), [1, weight.inputs()])?;
        let (kernels, weight) = (kernels.clone(), weight.clone());
        Ok(Self { kernels, weight, bias, activation })
    }

    /// From `code` H \[batch, hidden\] to `output` Y \[batch, inputs\]; `preactivation`, in the
    /// output's shape, is where H·W + c goes for an activation whose derivative needs it.
    ///
    /// # Errors
    ///
    /// As [`Kernels::decode`].
    pub fn decode(
        &self,
        code: &Matrix,
        output: &Matrix,
        preactivation: Option<&Matrix>,
    ) -> Result<Commands> {
        let call = Linear::new(code, output)
            .with_bias(self.bias.as_ref())
            .with_activation(self.activation)
            .with_preactivation(preactivation);
        self.kernels.decode(&self.weight, &call)
    }

    /// The shared weight.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// c.
    pub fn bias(&self) -> Option<&Matrix> {
        self.bias.as_ref()
    }

    /// g.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The weight, then the bias.
    pub fn parameters(&self) -> Parameters {
        parameters(&self.weight, [("decoder bias", self.bias())])
    }
}

fn parameters<const N: usize>(
    weight: &Weight,
    biases: [(&'static str, Option<&Matrix>); N],
) -> Parameters {
    let weight = Parameter { name: "weight", value: weight.matrix().clone() };
    let given = |(name, bias): (_, Option<&Matrix>)| Some(Parameter { name, value: bias?.clone() });
    std::iter::once(weight).chain(biases.into_iter().filter_map(given)).collect()
}

/// What a [`TiedLinear`] is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct TiedLinearOptions {
    /// Length of an input; columns of the weight.
    pub inputs: u32,
    /// Length of a code; rows of the weight.
    pub hidden: u32,
    /// Whether the encoder has a bias. Default: yes.
    pub encoder_bias: bool,
    /// Whether the decoder has a bias. Default: yes.
    pub decoder_bias: bool,
    /// f. Default: identity.
    pub encoder_activation: Activation,
    /// g. Default: identity.
    pub decoder_activation: Activation,
    /// How the weight starts. Default: [`Init::XavierUniform`].
    pub weight_init: Init,
    /// How the encoder's bias starts. Default: zero.
    pub encoder_bias_init: Init,
    /// How the decoder's bias starts. Default: zero.
    pub decoder_bias_init: Init,
    /// The seed of all three. Default: 0.
    pub seed: u64,
}

impl TiedLinearOptions {
    /// A layer from `inputs` to `hidden` values and back, with the defaults of each field.
    pub fn new(inputs: u32, hidden: u32) -> Self {
        Self {
            inputs,
            hidden,
            encoder_bias: true,
            decoder_bias: true,
            encoder_activation: Activation::Identity,
            decoder_activation: Activation::Identity,
            weight_init: Init::XavierUniform,
            encoder_bias_init: Init::Zeros,
            decoder_bias_init: Init::Zeros,
            seed: 0,
        }
    }

    /// Sets [`TiedLinearOptions::encoder_bias`] and [`TiedLinearOptions::decoder_bias`].
    pub fn with_biases(mut self, encoder: bool, decoder: bool) -> Self {
        self.encoder_bias = encoder;
        self.decoder_bias = decoder;
        self
    }

    /// Sets [`TiedLinearOptions::encoder_activation`] and [`TiedLinearOptions::decoder_activation`].
    pub fn with_activations(mut self, encoder: Activation, decoder: Activation) -> Self {
        self.encoder_activation = encoder;
        self.decoder_activation = decoder;
        self
    }

    /// Sets [`TiedLinearOptions::weight_init`].
    pub fn with_weight_init(mut self, init: Init) -> Self {
        self.weight_init = init;
        self
    }

    /// Lets both biases start as PyTorch's `nn.Linear` does: U(±1/√fan_in), fan_in being `inputs` for
    /// the encoder and `hidden` for the decoder.
    pub fn with_fan_in_biases(mut self) -> Self {
        self.encoder_bias_init = Init::FanIn(Side::Encoder);
        self.decoder_bias_init = Init::FanIn(Side::Decoder);
        self
    }

    /// Sets [`TiedLinearOptions::seed`].
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// A tied linear layer: an encoder and a decoder around one weight on the GPU.
#[derive(Debug, Clone)]
pub struct TiedLinear {
    encoder: Encoder,
    decoder: Decoder,
}

impl TiedLinear {
    /// A new layer with buffers of its own, initialised on the CPU.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`], [`Error::OutOfMemory`] and [`Error::DeviceLost`].
    pub fn new(kernels: &Kernels, options: &TiedLinearOptions) -> Result<Self> {
        let &TiedLinearOptions { inputs, hidden, seed, .. } = options;
        let parameter = |name, rows, columns, init: Init, stream| {
            // Before the values are drawn.
            kernels.expect_room(name, rows, columns)?;
            let count = rows as usize * columns as usize;
            let values = init.values(hidden, inputs, count, seed, stream);
            kernels.matrix(name, rows, columns, &values)
        };
        let bias = |name, given: bool, columns, init, stream| {
            given.then(|| parameter(name, 1, columns, init, stream)).transpose()
        };
        let weight = parameter("weight", hidden, inputs, options.weight_init, 0)?;
        let weight = Weight::new(kernels, weight)?;
        let encoder_bias =
            bias("encoder bias", options.encoder_bias, hidden, options.encoder_bias_init, 1)?;
        let decoder_bias =
            bias("decoder bias", options.decoder_bias, inputs, options.decoder_bias_init, 2)?;
        Self::from_halves(
            Encoder::new(kernels, &weight, encoder_bias, options.encoder_activation)?,
            Decoder::new(kernels, &weight, decoder_bias, options.decoder_activation)?,
        )
    }

    /// A layer of two halves that share one weight.
    ///
    /// # Errors
    ///
    /// [`Error::NotTied`] where they hold two, even equal ones.
    pub fn from_halves(encoder: Encoder, decoder: Decoder) -> Result<Self> {
        if !encoder.weight.is_tied_to(&decoder.weight) {
            return Err(Error::NotTied);
        }
        Ok(Self { encoder, decoder })
    }

    /// The half that encodes.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The half that decodes.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The one weight.
    pub fn weight(&self) -> &Weight {
        &self.encoder.weight
    }

    /// The kernels that the layer runs on.
    pub fn kernels(&self) -> &Kernels {
        &self.encoder.kernels
    }

    /// The weight, the encoder's bias and the decoder's, where there are any.
    pub fn parameters(&self) -> Parameters {
        let biases = [("encoder bias", self.encoder.bias()), ("decoder bias", self.decoder.bias())];
        parameters(self.weight(), biases)
    }

    /// Encode and decode `input` X \[batch, inputs\] into the tape's matrices.
    ///
    /// # Errors
    ///
    /// As [`Kernels::encode`] and [`Kernels::decode`].
    pub fn forward(&self, input: &Matrix, tape: &Tape) -> Result<Commands> {
        let preactivation = tape.code_preactivation.as_ref();
        let encode = self.encoder.encode(input, &tape.code, preactivation)?;
        let preactivation = tape.output_preactivation.as_ref();
        Ok(encode.then(self.decoder.decode(&tape.code, &tape.output, preactivation)?))
    }

    /// All gradients, from that of the output; see [`LayerBackward`].
    ///
    /// # Errors
    ///
    /// As the kernels that it runs, and [`Error::Missing`] where the layer has a bias that
    /// `gradients` lacks.
    pub fn backward(&self, call: &LayerBackward<'_>) -> Result<Commands> {
        let kernels = self.kernels();
        let tape = call.tape;
        let mut commands = Commands::default();
        let output_delta = match call.output_gradient {
            Some(gradient) if self.decoder.activation == Activation::Identity => gradient,
            Some(gradient) => {
                commands = commands.then(kernels.activation_gradient(&ActivationGradient {
                    gradient,
                    activation: self.decoder.activation,
                    saved: tape.saved_output(self.decoder.activation),
                    delta: &tape.output_delta,
                })?);
                &tape.output_delta
            }
            None => &tape.output_delta,
        };
        let code_gradient = Gradient::new(output_delta, &tape.code_delta)
            .with_extra(call.code_gradient)
            .through(self.encoder.activation, tape.saved_code(self.encoder.activation));
        commands = commands.then(kernels.code_gradient(self.weight(), &code_gradient)?);
        commands = commands.then(kernels.backward(&Backward {
            code: &tape.code,
            output_delta,
            code_delta: &tape.code_delta,
            input: call.input,
            gradient: &call.gradients.weight,
            contributions: call.contributions,
            accumulate: call.accumulate,
        })?);
        let biases = [
            (self.encoder.bias(), &call.gradients.encoder_bias, &tape.code_delta, "encoder_bias"),
            (self.decoder.bias(), &call.gradients.decoder_bias, output_delta, "decoder_bias"),
        ];
        for (bias, gradient, delta, operand) in biases {
            if bias.is_some() {
                let missing = Error::Missing { operand, reason: "the layer has this bias" };
                let gradient = gradient.as_ref().ok_or(missing)?;
                let accumulate = call.accumulate;
                let sum = BiasGradient { delta, gradient, accumulate };
                commands = commands.then(kernels.bias_gradient(&sum)?);
            }
        }
        if let Some(input_gradient) = call.input_gradient {
            let product = Gradient::new(&tape.code_delta, input_gradient);
            commands = commands.then(kernels.input_gradient(self.weight(), &product)?);
        }
        Ok(commands)
    }
}

/// What a forward pass keeps for the backward pass, for one batch size.
#[derive(Debug, Clone)]
pub struct Tape {
    /// H, \[batch, hidden\].
    pub code: Matrix,
    /// Y, \[batch, inputs\].
    pub output: Matrix,
    /// f's input, \[batch, hidden\], where f′ is computed from it.
    pub code_preactivation: Option<Matrix>,
    /// g's input, \[batch, inputs\], where g′ is computed from it.
    pub output_preactivation: Option<Matrix>,
    /// dZ, \[batch, hidden\].
    pub code_delta: Matrix,
    /// dA, \[batch, inputs\]. Not written where the caller's dY is dA, the decoder's activation being
    /// the identity.
    pub output_delta: Matrix,
}

impl Tape {
    /// Matrices for `layer` and this batch size.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn new(layer: &TiedLinear, batch: u32) -> Result<Self> {
        let kernels = layer.kernels();
        let (hidden, inputs) = (layer.weight().hidden(), layer.weight().inputs());
        let kept = |activation: Activation, name, columns| {
            let keep = activation.needs_preactivation();
            keep.then(|| kernels.zeros(name, batch, columns)).transpose()
        };
        Ok(Self {
            code: kernels.zeros("code", batch, hidden)?,
            output: kernels.zeros("output", batch, inputs)?,
            code_preactivation: kept(layer.encoder.activation, "code preactivation", hidden)?,
            output_preactivation: kept(layer.decoder.activation, "output preactivation", inputs)?,
            code_delta: kernels.zeros("code delta", batch, hidden)?,
            output_delta: kernels.zeros("output delta", batch, inputs)?,
        })
    }

    /// What f′ is computed from, for this f: the code or its pre-activation. `None` where that is
    /// not kept.
    pub fn saved_code(&self, f: Activation) -> Option<&Matrix> {
        saved(f, &self.code, self.code_preactivation.as_ref())
    }

    /// What g′ is computed from, for this g: the output or its pre-activation. `None` where that is
    /// not kept.
    pub fn saved_output(&self, g: Activation) -> Option<&Matrix> {
        saved(g, &self.output, self.output_preactivation.as_ref())
    }
}

fn saved<'a>(
    activation: Activation,
    output: &'a Matrix,
    preactivation: Option<&'a Matrix>,
) -> Option<&'a Matrix> {
    if activation.needs_preactivation() { preactivation } else { Some(output) }
}

/// Where a layer's gradients go.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// dW, \[hidden, inputs\]: both contributions in one.
    pub weight: Matrix,
    /// db, \[1, hidden\].
    pub encoder_bias: Option<Matrix>,
    /// dc, \[1, inputs\].
    pub decoder_bias: Option<Matrix>,
}

impl Gradients {
    /// Zeroed gradients of all parameters of `layer`.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn new(layer: &TiedLinear) -> Result<Self> {
        let like =
            |name, matrix: &Matrix| layer.kernels().zeros(name, matrix.rows(), matrix.columns());
        let bias = |name, bias: Option<&Matrix>| bias.map(|bias| like(name, bias)).transpose();
        Ok(Self {
            weight: like("weight gradient", layer.weight().matrix())?,
            encoder_bias: bias("encoder bias gradient", layer.encoder.bias())?,
            decoder_bias: bias("decoder bias gradient", layer.decoder.bias())?,
        })
    }

    /// Each parameter of `layer` with its gradient, as [`Optimizer::update`](crate::Optimizer::update)
    /// takes them.
    pub fn pairs<'a>(&'a self, layer: &'a TiedLinear) -> Vec<(&'a Matrix, &'a Matrix)> {
        let biases = [
            layer.encoder.bias().zip(self.encoder_bias.as_ref()),
            layer.decoder.bias().zip(self.decoder_bias.as_ref()),
        ];
        let weight = (layer.weight().matrix(), &self.weight);
        std::iter::once(weight).chain(biases.into_iter().flatten()).collect()
    }
}

/// Arguments of [`TiedLinear::backward`].
#[derive(Debug, Clone, Copy)]
pub struct LayerBackward<'a> {
    /// X, \[batch, inputs\], as in the forward pass.
    pub input: &'a Matrix,
    /// The tape of the forward pass.
    pub tape: &'a Tape,
    /// dY, \[batch, inputs\]: the gradient by the output. `None` where [`Tape::output_delta`] holds
    /// dA already, as the library's losses leave it.
    pub output_gradient: Option<&'a Matrix>,
    /// A gradient by H from elsewhere, \[batch, hidden\], such as a sparsity penalty's.
    pub code_gradient: Option<&'a Matrix>,
    /// Where the parameters' gradients go.
    pub gradients: &'a Gradients,
    /// Where dX goes, \[batch, inputs\], if it is wanted.
    pub input_gradient: Option<&'a Matrix>,
    /// Which uses of the weight its gradient counts. The other gradients do not depend on it.
    pub contributions: Contributions,
    /// Whether the parameters' gradients are overwritten or added to; dX is always overwritten.
    pub accumulate: Accumulate,
}

impl<'a> LayerBackward<'a> {
    /// The whole gradient from dA in the tape, overwriting `gradients`; no dX.
    pub fn new(input: &'a Matrix, tape: &'a Tape, gradients: &'a Gradients) -> Self {
        Self {
            input,
            tape,
            output_gradient: None,
            code_gradient: None,
            gradients,
            input_gradient: None,
            contributions: Contributions::Both,
            accumulate: Accumulate::Overwrite,
        }
    }

    /// Sets [`LayerBackward::output_gradient`].
    pub fn with_output_gradient(mut self, gradient: Option<&'a Matrix>) -> Self {
        self.output_gradient = gradient;
        self
    }

    /// Sets [`LayerBackward::code_gradient`].
    pub fn with_code_gradient(mut self, gradient: Option<&'a Matrix>) -> Self {
        self.code_gradient = gradient;
        self
    }

    /// Sets [`LayerBackward::input_gradient`].
    pub fn with_input_gradient(mut self, gradient: Option<&'a Matrix>) -> Self {
        self.input_gradient = gradient;
        self
    }

    /// Sets [`LayerBackward::contributions`].
    pub fn with_contributions(mut self, contributions: Contributions) -> Self {
        self.contributions = contributions;
        self
    }

    /// Sets [`LayerBackward::accumulate`].
    pub fn with_accumulate(mut self, accumulate: Accumulate) -> Self {
        self.accumulate = accumulate;
        self
    }
}
