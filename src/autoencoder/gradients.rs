//! [`Frozen`], and [`AutoencoderGradients`]: where a stack's gradients go.

use super::stack::TiedAutoencoder;
use crate::element::ElementType;
use crate::error::Result;
use crate::layer::Gradients;
use crate::matrix::Matrix;

/// What of a layer is not trained.
///
/// What is frozen stays bit-identical, and so do its moments and its step counts. Its gradient is not
/// computed, nor is any that only it would have needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Frozen {
    /// The weight, in both of its uses.
    pub weight: bool,
    /// The encoder's bias.
    pub encoder_bias: bool,
    /// The decoder's bias.
    pub decoder_bias: bool,
}

impl Frozen {
    /// Nothing.
    pub const NONE: Self = Self { weight: false, encoder_bias: false, decoder_bias: false };
    /// The whole layer.
    pub const ALL: Self = Self { weight: true, encoder_bias: true, decoder_bias: true };
    /// The weight alone.
    pub const WEIGHT: Self = Self { weight: true, ..Self::NONE };
    /// The encoder's bias alone.
    pub const ENCODER_BIAS: Self = Self { encoder_bias: true, ..Self::NONE };
    /// The decoder's bias alone.
    pub const DECODER_BIAS: Self = Self { decoder_bias: true, ..Self::NONE };
}

/// Where the gradients of a stack go. Steps that run one after the other can share them.
///
/// A parameter that several layers share has one gradient.
#[derive(Debug, Clone)]
pub struct AutoencoderGradients {
    layers: Vec<Gradients>,
}

impl AutoencoderGradients {
    /// Zeroed gradients of all parameters of `autoencoder`, in f32.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`](crate::Kernels::zeros).
    pub fn new(autoencoder: &TiedAutoencoder) -> Result<Self> {
        Self::without(autoencoder, &[])
    }

    /// The same with the weights' gradients in this type. The biases' are f32, as the biases are.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`](crate::Kernels::zeros).
    pub fn new_as(autoencoder: &TiedAutoencoder, element: ElementType) -> Result<Self> {
        Self::without_as(autoencoder, &[], element)
    }

    /// The same without room for those of what is frozen; `frozen` has an entry for each layer, and those
    /// that it lacks are [`Frozen::NONE`].
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`](crate::Kernels::zeros).
    pub fn without(autoencoder: &TiedAutoencoder, frozen: &[Frozen]) -> Result<Self> {
        Self::without_as(autoencoder, frozen, ElementType::F32)
    }

    /// [`AutoencoderGradients::without`] and [`AutoencoderGradients::new_as`] in one.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`](crate::Kernels::zeros).
    pub fn without_as(
        autoencoder: &TiedAutoencoder,
        frozen: &[Frozen],
        element: ElementType,
    ) -> Result<Self> {
        // Of each parameter that has a gradient already.
        let mut known: Vec<(Matrix, Matrix)> = Vec::new();
        let mut layers = Vec::with_capacity(autoencoder.layers().len());
        for (index, layer) in autoencoder.layers().iter().enumerate() {
            let frozen = frozen.get(index).copied().unwrap_or_default();
            let mut gradient = |label, value: &Matrix, element| {
                if let Some((_, gradient)) = known.iter().find(|(other, _)| other == value) {
                    return Ok(gradient.clone());
                }
                let gradient = layer.kernels();
                let gradient = gradient.zeros_as(label, value.rows(), value.columns(), element)?;
                known.push((value.clone(), gradient.clone()));
                Ok(gradient)
            };
            let weight = layer.weight().matrix();
            let weight = if frozen.weight {
                Matrix::new(weight.buffer(), 0, weight.columns())?
            } else {
                gradient("weight gradient", weight, element)?
            };
            let mut bias = |label, bias: Option<&Matrix>, frozen: bool| {
                let bias = bias.filter(|_| !frozen);
                bias.map(|bias| gradient(label, bias, ElementType::F32)).transpose()
            };
            let encoder_bias =
                bias("encoder bias gradient", layer.encoder().bias(), frozen.encoder_bias)?;
            let decoder_bias =
                bias("decoder bias gradient", layer.decoder().bias(), frozen.decoder_bias)?;
            layers.push(Gradients { weight, encoder_bias, decoder_bias });
        }
        Ok(Self { layers })
    }

    /// Those of each layer; the weight's of a frozen one has no rows.
    pub fn layers(&self) -> &[Gradients] {
        &self.layers
    }

    /// Each parameter of `autoencoder` with its gradient, as
    /// [`Optimizer::update`](crate::Optimizer::update) takes them.
    pub fn pairs<'a>(&'a self, autoencoder: &'a TiedAutoencoder) -> Vec<(&'a Matrix, &'a Matrix)> {
        let layers = self.layers.iter().zip(autoencoder.layers());
        layers.flat_map(|(gradients, layer)| gradients.pairs(layer)).collect()
    }
}
