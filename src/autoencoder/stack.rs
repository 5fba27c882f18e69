//! [`TiedAutoencoder`] and its forward passes.

use super::plan::Plan;
use crate::element::ElementType;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::kernels::{Activation, Commands, Kernels};
use crate::layer::{TiedLinear, TiedLinearOptions};
use crate::matrix::{Matrix, expect_shape};
use crate::parameters::Parameters;

/// What a [`TiedAutoencoder`] is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TiedAutoencoderOptions {
    /// The layers, from the outermost, which takes the input, to the innermost, which gives the code.
    pub layers: Vec<TiedLinearOptions>,
}

impl TiedAutoencoderOptions {
    /// A layer between each two neighbours of `sizes`, such as 784→256 and 256→64 of `[784, 256, 64]`, with
    /// the defaults of [`TiedLinearOptions`].
    pub fn new(sizes: &[u32]) -> Self {
        let layers = sizes.windows(2).map(|pair| TiedLinearOptions::new(pair[0], pair[1]));
        Self { layers: layers.collect() }.with_seed(0)
    }

    /// Lets `change` set the options of each layer, by its index: whatever differs from layer to layer.
    pub fn with_each(
        mut self,
        mut change: impl FnMut(usize, TiedLinearOptions) -> TiedLinearOptions,
    ) -> Self {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            *layer = change(index, *layer);
        }
        self
    }

    /// Sets the activations of all encoders and of all decoders.
    pub fn with_activations(self, encoder: Activation, decoder: Activation) -> Self {
        self.with_each(|_, layer| layer.with_activations(encoder, decoder))
    }

    /// Sets the activation of the code: that of the innermost encoder.
    pub fn with_code_activation(mut self, activation: Activation) -> Self {
        if let Some(layer) = self.layers.last_mut() {
            layer.encoder_activation = activation;
        }
        self
    }

    /// Sets the activation of the output: that of the outermost decoder.
    pub fn with_output_activation(mut self, activation: Activation) -> Self {
        if let Some(layer) = self.layers.first_mut() {
            layer.decoder_activation = activation;
        }
        self
    }

    /// Sets whether all encoders and all decoders have biases.
    pub fn with_biases(self, encoder: bool, decoder: bool) -> Self {
        self.with_each(|_, layer| layer.with_biases(encoder, decoder))
    }

    /// Sets the type of all weights that the products read.
    pub fn with_weight_element(self, element: ElementType) -> Self {
        self.with_each(|_, layer| layer.with_weight_element(element))
    }

    /// Sets how all weights start.
    pub fn with_weight_init(self, init: Init) -> Self {
        self.with_each(|_, layer| layer.with_weight_init(init))
    }

    /// Lets all biases start as [`TiedLinearOptions::with_fan_in_biases`] does.
    pub fn with_fan_in_biases(self) -> Self {
        self.with_each(|_, layer| layer.with_fan_in_biases())
    }

    /// Sets the seeds: the outermost layer's is this one, the others' are far from it and each other.
    pub fn with_seed(self, seed: u64) -> Self {
        // 2⁶⁴ divided by the golden ratio.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        self.with_each(|index, layer| {
            layer.with_seed(seed.wrapping_add(STEP.wrapping_mul(index as u64)))
        })
    }
}

/// Tied layers in a stack, mirrored: each encodes what the one before it gives, and decodes, in reverse
/// order and with the same weights transposed, for the one before it.
///
/// The layer whose weight is \[s₁, s₀\] comes first. See the module's formulas in [`AutoencoderStep`].
///
/// The same layer, weight or bias may stand in the stack more than once, where sizes allow it: it is then
/// one parameter, whose gradient counts every use and which gets one update.
///
/// [`AutoencoderStep`]: crate::AutoencoderStep
#[derive(Debug, Clone)]
pub struct TiedAutoencoder {
    /// One at least.
    layers: Vec<TiedLinear>,
}

impl TiedAutoencoder {
    /// New layers with buffers of their own, initialised on the CPU.
    ///
    /// # Errors
    ///
    /// As [`TiedAutoencoder::from_layers`], and as [`TiedLinear::new`], saying which layer.
    pub fn new(kernels: &Kernels, options: &TiedAutoencoderOptions) -> Result<Self> {
        // Before anything is made.
        expect_fitting(options.layers.iter().map(|layer| [layer.inputs, layer.hidden]))?;
        let layers = options.layers.iter().enumerate();
        let layers = layers.map(|(index, layer)| {
            TiedLinear::new(kernels, layer).map_err(|error| in_layer(error, index))
        });
        Self::from_layers(layers.collect::<Result<_>>()?)
    }

    /// A stack of these layers, the outermost first. Nothing is copied.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] for no layers, [`Error::Unfitting`] where a layer's code is not as long as
    /// the next one's input, [`Error::DeviceMismatch`] for layers of several devices.
    pub fn from_layers(layers: Vec<TiedLinear>) -> Result<Self> {
        let sizes = layers.iter().map(|layer| [layer.weight().inputs(), layer.weight().hidden()]);
        expect_fitting(sizes)?;
        for (index, layer) in layers.iter().enumerate() {
            let device = layer.weight().expect_device(layers[0].kernels());
            device.map_err(|error| in_layer(error, index))?;
        }
        Ok(Self { layers })
    }

    /// The layers, the outermost first.
    pub fn layers(&self) -> &[TiedLinear] {
        &self.layers
    }

    /// The kernels that the outermost layer runs on.
    pub fn kernels(&self) -> &Kernels {
        self.layers[0].kernels()
    }

    /// Length of an input.
    pub fn inputs(&self) -> u32 {
        self.layers[0].weight().inputs()
    }

    /// Length of a code.
    pub fn hidden(&self) -> u32 {
        self.layers[self.layers.len() - 1].weight().hidden()
    }

    /// All parameters, each once: `encoder.{i}.weight`, `encoder.{i}.bias` and `decoder.{i}.bias` of the
    /// layer with index i, where there are any.
    pub fn parameters(&self) -> Parameters {
        let layers = self.layers.iter().enumerate();
        Parameters::given(layers.flat_map(|(index, layer)| {
            [
                (format!("encoder.{index}.weight"), Some(layer.weight().matrix())),
                (format!("encoder.{index}.bias"), layer.encoder().bias()),
                (format!("decoder.{index}.bias"), layer.decoder().bias()),
            ]
        }))
    }

    /// From `input` X₀ \[batch, inputs\] to `code` Xₙ \[batch, hidden\]. What lies between them is kept in
    /// buffers of the commands' own.
    ///
    /// # Errors
    ///
    /// As [`Kernels::encode`], saying in which layer, and as [`Kernels::zeros`].
    pub fn encode(&self, input: &Matrix, code: &Matrix) -> Result<Commands> {
        let batch = input.rows();
        expect_shape("input", input, [batch, self.inputs()])?;
        expect_shape("code", code, [batch, self.hidden()])?;
        let order: Vec<_> = (0..self.layers.len()).collect();
        let columns = |index: usize| self.layers[index].weight().hidden();
        self.chain(["input", "code"], [input, code], &order, columns, |index, from, to| {
            self.layers[index].encoder().encode(from, to, None)
        })
    }

    /// From `code` Yₙ \[batch, hidden\] to `output` Y₀ \[batch, inputs\], as [`TiedAutoencoder::encode`].
    ///
    /// # Errors
    ///
    /// As [`Kernels::decode`], saying in which layer, and as [`Kernels::zeros`].
    pub fn decode(&self, code: &Matrix, output: &Matrix) -> Result<Commands> {
        let batch = code.rows();
        expect_shape("code", code, [batch, self.hidden()])?;
        expect_shape("output", output, [batch, self.inputs()])?;
        let order: Vec<_> = (0..self.layers.len()).rev().collect();
        let columns = |index: usize| self.layers[index].weight().inputs();
        self.chain(["code", "output"], [code, output], &order, columns, |index, from, to| {
            self.layers[index].decoder().decode(from, to, None)
        })
    }

    /// [`TiedAutoencoder::encode`], then [`TiedAutoencoder::decode`].
    ///
    /// # Errors
    ///
    /// As the two.
    pub fn forward(&self, input: &Matrix, code: &Matrix, output: &Matrix) -> Result<Commands> {
        Ok(self.encode(input, code)?.then(self.decode(code, output)?))
    }

    /// Halves of the layers in this order, from the first matrix to the last, whose names these are.
    fn chain(
        &self,
        [first, last]: [&'static str; 2],
        [from, to]: [&Matrix; 2],
        order: &[usize],
        columns: impl Fn(usize) -> u32,
        half: impl Fn(usize, &Matrix, &Matrix) -> Result<Commands>,
    ) -> Result<Commands> {
        let mut plan = Plan::default();
        let mut between = Vec::new();
        for index in &order[..order.len() - 1] {
            if let Some(value) = between.last() {
                plan.read(*value);
            }
            between.push(plan.written(columns(*index), ElementType::F32));
            plan.next();
        }
        if let Some(value) = between.last() {
            plan.read(*value);
        }
        let planned = plan.allocate(self.kernels(), from.rows())?;
        let between: Vec<_> = between.iter().map(|value| planned.matrix(*value)).collect();
        let sources = std::iter::once(from).chain(between.iter().copied());
        let targets = between.iter().copied().chain([to]);
        let mut commands = Commands::default();
        for ((place, index), (from, to)) in order.iter().enumerate().zip(sources.zip(targets)) {
            let mut names = Vec::new();
            if place == 0 {
                names.push(["input", first]);
            }
            if place == order.len() - 1 {
                names.push(["output", last]);
            }
            let more =
                half(*index, from, to).map_err(|error| in_layer(error.renamed(&names), *index))?;
            commands = commands.then(more);
        }
        Ok(commands)
    }
}

/// The error, saying in which layer.
pub(super) fn in_layer(error: Error, index: usize) -> Error {
    error.within(format!("layer {index}"))
}

/// Passes if each layer, by its inputs and hidden, takes what the one before it gives.
pub(super) fn expect_fitting(sizes: impl Iterator<Item = [u32; 2]>) -> Result<()> {
    let mut before = None;
    for (inner, [inputs, hidden]) in sizes.enumerate() {
        if let Some(given) = before.filter(|given| *given != inputs) {
            let outer = inner - 1;
            return Err(Error::Unfitting { outer, inner, hidden: given, inputs });
        }
        before = Some(hidden);
    }
    match before {
        Some(_) => Ok(()),
        None => Err(Error::Incompatible {
            what: "layers",
            reason: "a stack has one at least, so two sizes",
        }),
    }
}
