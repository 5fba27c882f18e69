//! [`TiedLinear`]: an encoder and a decoder around one weight, with its passes.

use crate::element::{ElementType, ElementTypes};
use crate::error::{Error, Result};
use crate::halves::{Decoder, Encoder};
use crate::init::{Init, Side};
use crate::kernels::{
    Accumulate, Activation, ActivationGradient, Backward, BiasGradient, ColumnSums, Commands,
    Contributions, Gradient, GradientParts, Kernels, Linear, Loss, LossProduct, LossScale,
    Reduction, Sum, Weight,
};
use crate::matrix::Matrix;
use crate::parameters::Parameters;

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
    /// The type of the weight that the products read. With a 16-bit one the weight is an f32 master with a
    /// [working copy](Matrix::with_working_copy). Default: f32.
    pub weight_element: ElementType,
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
            weight_element: ElementType::F32,
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

    /// Sets [`TiedLinearOptions::weight_element`].
    pub fn with_weight_element(mut self, element: ElementType) -> Self {
        self.weight_element = element;
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

/// What an output is measured against, and how.
pub(crate) struct Wanted<'a> {
    pub(crate) target: &'a Matrix,
    pub(crate) loss: Loss,
    pub(crate) reduction: Reduction,
    pub(crate) loss_scale: Option<&'a LossScale>,
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
        let parameter = |name, rows, columns, element, init: Init, stream| {
            // Before the values are drawn.
            kernels.expect_room(name, rows, columns)?;
            let count = rows as usize * columns as usize;
            let values = init.values(hidden, inputs, count, seed, stream);
            kernels.master(name, rows, columns, &values, element)
        };
        let bias = |name, given: bool, columns, init, stream| {
            given.then(|| parameter(name, 1, columns, ElementType::F32, init, stream)).transpose()
        };
        let (element, init) = (options.weight_element, options.weight_init);
        let weight = parameter("weight", hidden, inputs, element, init, 0)?;
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
        if !encoder.weight().is_tied_to(decoder.weight()) {
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
        self.encoder.weight()
    }

    /// The kernels that the layer runs on.
    pub fn kernels(&self) -> &Kernels {
        &self.encoder.kernels
    }

    /// The same layer on other kernels of the same device.
    pub(crate) fn with_kernels(&self, kernels: &Kernels) -> Self {
        let (mut encoder, mut decoder) = (self.encoder.clone(), self.decoder.clone());
        encoder.kernels = kernels.clone();
        decoder.kernels = kernels.clone();
        Self { encoder, decoder }
    }

    /// The weight, the encoder's bias and the decoder's, where there are any.
    pub fn parameters(&self) -> Parameters {
        Parameters::given([
            ("weight", Some(self.weight().matrix())),
            ("encoder bias", self.encoder.bias()),
            ("decoder bias", self.decoder.bias()),
        ])
    }

    /// Encode and decode `input` X \[batch, inputs\] into the tape's matrices.
    ///
    /// # Errors
    ///
    /// As [`Kernels::encode`] and [`Kernels::decode`].
    pub fn forward(&self, input: &Matrix, tape: &Tape) -> Result<Commands> {
        let encode = self
            .encoder
            .encode(input, &tape.code, tape.code_preactivation.as_ref())
            .map_err(|error| error.renamed(TAPE_OF_ENCODE))?;
        let decode = self
            .decoder
            .decode(&tape.code, &tape.output, tape.output_preactivation.as_ref())
            .map_err(|error| error.renamed(TAPE_OF_DECODE))?;
        Ok(encode.then(decode))
    }

    /// Encode `input`, decode, and go on to the loss against `target` and its gradient dA, all into
    /// the tape but the output, which is not kept. Also returns the loss's values, to be added up.
    pub(crate) fn forward_to_loss(
        &self,
        input: &Matrix,
        tape: &Tape,
        wanted: &Wanted<'_>,
    ) -> Result<(Commands, Matrix)> {
        let encode = self
            .encoder
            .encode(input, &tape.code, tape.code_preactivation.as_ref())
            .map_err(|error| error.renamed(TAPE_OF_ENCODE))?;
        let linear = Linear::new(&tape.code, &tape.output_delta)
            .with_bias(self.decoder.bias())
            .with_activation(self.decoder.activation());
        let &Wanted { target, loss, reduction, loss_scale } = wanted;
        let decode = LossProduct { linear, target, loss, reduction, loss_scale };
        let names = [["input", "tape.code"], ["output", "tape.output_delta"]];
        let decode = self.kernels().decode_with_loss(self.weight(), &decode);
        let (decode, values) = decode.map_err(|error| error.renamed(&names))?;
        Ok((encode.then(decode), values))
    }

    /// All gradients, from that of the output; see [`LayerBackward`].
    ///
    /// # Errors
    ///
    /// As the kernels that it runs, and [`Error::Missing`] where the layer has a bias that
    /// `gradients` lacks.
    pub fn backward(&self, call: &LayerBackward<'_>) -> Result<Commands> {
        self.backward_with(call, None, |weight| self.kernels().backward_in_parts(weight))
    }

    /// The same with the last pass of a loss in the dispatch of the biases' gradients, errors having the
    /// names of [`Sum`]'s fields, and `weight` in place of [`Kernels::backward_in_parts`].
    pub(crate) fn backward_with<'a>(
        &self,
        call: &LayerBackward<'a>,
        total: Option<Sum<'_>>,
        weight: impl FnOnce(&Backward<'a>) -> Result<(Commands, Option<GradientParts<'a>>)>,
    ) -> Result<Commands> {
        let (output_delta, commands) = self.output_delta(call)?;
        let commands = commands
            .then(self.code_delta(call, output_delta)?)
            .then(self.gradients_of_parameters(call, output_delta, total, weight)?);
        let Some(input_gradient) = call.input_gradient else { return Ok(commands) };
        let product = Gradient::new(&call.tape.code_delta, input_gradient);
        let product = self.kernels().input_gradient(self.weight(), &product).map_err(|error| {
            error.renamed(&[["delta", "tape.code_delta"], ["output", "input_gradient"]])
        })?;
        Ok(commands.then(product))
    }

    /// dA: the matrix that holds it, and what computes it.
    fn output_delta<'a>(&self, call: &LayerBackward<'a>) -> Result<(&'a Matrix, Commands)> {
        let (tape, activation) = (call.tape, self.decoder.activation());
        match call.output_gradient {
            None => Ok((&tape.output_delta, Commands::default())),
            Some(gradient) if activation == Activation::Identity => {
                Ok((gradient, Commands::default()))
            }
            Some(gradient) => {
                let saved = tape.saved_output(activation);
                let delta = &tape.output_delta;
                let through = ActivationGradient { gradient, activation, saved, delta };
                let names = [
                    ["gradient", "output_gradient"],
                    [
                        "saved",
                        name_of_saved(activation, ["tape.output", "tape.output_preactivation"]),
                    ],
                    ["delta", "tape.output_delta"],
                ];
                let through = self.kernels().activation_gradient(&through);
                Ok((delta, through.map_err(|error| error.renamed(&names))?))
            }
        }
    }

    /// Where the caller knows dA from.
    fn name_of_output_delta(&self, call: &LayerBackward<'_>) -> &'static str {
        let given = call.output_gradient.is_some();
        let is_delta = self.decoder.activation() == Activation::Identity;
        if given && is_delta { "output_gradient" } else { "tape.output_delta" }
    }

    /// dZ, into the tape.
    fn code_delta(&self, call: &LayerBackward<'_>, output_delta: &Matrix) -> Result<Commands> {
        let (tape, activation) = (call.tape, self.encoder.activation());
        let product = Gradient::new(output_delta, &tape.code_delta)
            .with_extra(call.code_gradient)
            .through(activation, tape.saved_code(activation));
        let names = [
            ["delta", self.name_of_output_delta(call)],
            ["extra", "code_gradient"],
            ["saved", name_of_saved(activation, ["tape.code", "tape.code_preactivation"])],
            ["output", "tape.code_delta"],
        ];
        let product = self.kernels().code_gradient(self.weight(), &product);
        product.map_err(|error| error.renamed(&names))
    }

    /// dW, db and dc, and a loss's total.
    fn gradients_of_parameters<'a>(
        &self,
        call: &LayerBackward<'a>,
        output_delta: &'a Matrix,
        total: Option<Sum<'_>>,
        weight: impl FnOnce(&Backward<'a>) -> Result<(Commands, Option<GradientParts<'a>>)>,
    ) -> Result<Commands> {
        let backward = Backward {
            code: &call.tape.code,
            output_delta,
            code_delta: &call.tape.code_delta,
            input: call.input,
            gradient: &call.gradients.weight,
            contributions: call.contributions,
            accumulate: call.accumulate,
        };
        let names = [
            ["code", "tape.code"],
            ["output_delta", self.name_of_output_delta(call)],
            ["code_delta", "tape.code_delta"],
            ["gradient", "gradients.weight"],
            ["value", "weight"],
        ];
        let (weight, parts) = weight(&backward).map_err(|error| error.renamed(&names))?;
        Ok(weight.then(self.column_sums(call, output_delta, total, parts.as_ref())?))
    }

    /// db and dc, where the layer has these biases, a loss's total, and what is left of dW.
    fn column_sums(
        &self,
        call: &LayerBackward<'_>,
        output_delta: &Matrix,
        total: Option<Sum<'_>>,
        weight: Option<&GradientParts<'_>>,
    ) -> Result<Commands> {
        let &LayerBackward { tape, gradients, accumulate, .. } = call;
        let encoder = (
            self.encoder.bias(),
            "gradients.encoder_bias",
            &gradients.encoder_bias,
            &tape.code_delta,
        );
        let decoder =
            (self.decoder.bias(), "gradients.decoder_bias", &gradients.decoder_bias, output_delta);
        let [encoder_bias, decoder_bias] =
            [encoder, decoder].map(|(bias, operand, gradient, delta)| {
                let missing = Error::Missing { operand, reason: "the layer has this bias" };
                let part = |gradient| BiasGradient { delta, gradient, accumulate };
                bias.map(|_| gradient.as_ref().map(part).ok_or(missing)).transpose()
            });
        let (encoder_bias, decoder_bias) = (encoder_bias?, decoder_bias?);
        let sums = ColumnSums { encoder_bias, decoder_bias, total, weight };
        let commands = column_sums(self.kernels(), &sums);
        let names = [
            ["encoder_delta", "tape.code_delta"],
            ["encoder_gradient", "gradients.encoder_bias"],
            ["decoder_delta", self.name_of_output_delta(call)],
            ["decoder_gradient", "gradients.decoder_bias"],
            ["weight_gradient", "gradients.weight"],
        ];
        commands.map_err(|error| error.renamed(&names))
    }
}

/// In one dispatch, or in one for each part: then gradients may share a buffer with each other or the
/// other's delta.
pub(crate) fn column_sums(kernels: &Kernels, sums: &ColumnSums<'_>) -> Result<Commands> {
    match kernels.column_sums(sums) {
        Err(Error::Aliased { .. }) => {}
        result => return result,
    }
    let &ColumnSums { encoder_bias, decoder_bias, total, weight } = sums;
    let parts = [
        ColumnSums { encoder_bias, ..ColumnSums::default() },
        ColumnSums { decoder_bias, ..ColumnSums::default() },
        ColumnSums { total, ..ColumnSums::default() },
        ColumnSums { weight, ..ColumnSums::default() },
    ];
    parts.iter().try_fold(Commands::default(), |commands, part| {
        Ok(commands.then(kernels.column_sums(part)?))
    })
}

/// The tape's names for the operands of the two halves.
const TAPE_OF_ENCODE: &[[&str; 2]] =
    &[["output", "tape.code"], ["preactivation", "tape.code_preactivation"]];
const TAPE_OF_DECODE: &[[&str; 2]] = &[
    ["input", "tape.code"],
    ["output", "tape.output"],
    ["preactivation", "tape.output_preactivation"],
];

/// Which of the output's name and the pre-activation's is that of what the derivative needs.
fn name_of_saved(
    activation: Activation,
    [output, preactivation]: [&'static str; 2],
) -> &'static str {
    if activation.needs_preactivation() { preactivation } else { output }
}

/// What a forward pass keeps for the backward pass, for one batch size.
#[derive(Debug, Clone)]
pub struct Tape {
    /// H, \[batch, hidden\].
    pub code: Matrix,
    /// Y, \[batch, inputs\]; without rows in the tape of a [`TrainingStep`](crate::TrainingStep), which
    /// does not keep it.
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
    /// Matrices for `layer` and this batch size, in f32.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn new(layer: &TiedLinear, batch: u32) -> Result<Self> {
        Self::new_as(layer, batch, ElementTypes::default())
    }

    /// The same of other types.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn new_as(layer: &TiedLinear, batch: u32, elements: ElementTypes) -> Result<Self> {
        let (kernels, inputs) = (layer.kernels(), layer.weight().inputs());
        let keep = layer.decoder.activation().needs_preactivation();
        let activation = |label| kernels.zeros_as(label, batch, inputs, elements.activation);
        let tape = Self::without_output(layer, batch, elements)?;
        Ok(Self {
            output: activation("output")?,
            output_preactivation: keep.then(|| activation("output preactivation")).transpose()?,
            ..tape
        })
    }

    /// The same but for the output, which has no rows, and g's input.
    pub(crate) fn without_output(
        layer: &TiedLinear,
        batch: u32,
        elements: ElementTypes,
    ) -> Result<Self> {
        let kernels = layer.kernels();
        let (hidden, inputs) = (layer.weight().hidden(), layer.weight().inputs());
        let keep = layer.encoder.activation().needs_preactivation();
        let activation = |label| kernels.zeros_as(label, batch, hidden, elements.activation);
        let delta = |label, columns| kernels.zeros_as(label, batch, columns, elements.gradient);
        let code = activation("code")?;
        Ok(Self {
            output: Matrix::new(code.buffer(), 0, inputs)?,
            code,
            code_preactivation: keep.then(|| activation("code preactivation")).transpose()?,
            output_preactivation: None,
            code_delta: delta("code delta", hidden)?,
            output_delta: delta("output delta", inputs)?,
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
    /// Zeroed gradients of all parameters of `layer`, in f32.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn new(layer: &TiedLinear) -> Result<Self> {
        Self::new_as(layer, ElementType::F32)
    }

    /// The same with the weight's gradient in this type. The biases' are f32, as the biases are.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn new_as(layer: &TiedLinear, element: ElementType) -> Result<Self> {
        let (hidden, inputs) = (layer.weight().hidden(), layer.weight().inputs());
        let weight = layer.kernels().zeros_as("weight gradient", hidden, inputs, element)?;
        Ok(Self { weight, ..Self::without_weight(layer)? })
    }

    /// The same without room for the weight's gradient, which has no rows: for a
    /// [`TrainingStep`](crate::TrainingStep) with a fused update, which writes none.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn without_weight(layer: &TiedLinear) -> Result<Self> {
        let (kernels, inputs) = (layer.kernels(), layer.weight().inputs());
        let like = |name, matrix: &Matrix| kernels.zeros(name, matrix.rows(), matrix.columns());
        let bias = |name, bias: Option<&Matrix>| bias.map(|bias| like(name, bias)).transpose();
        Ok(Self {
            weight: Matrix::new(layer.weight().matrix().buffer(), 0, inputs)?,
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
