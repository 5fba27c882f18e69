//! [`UntiedAutoencoder`]: a stack in which every layer has two weights.

use super::stack::{TiedAutoencoder, expect_fitting, in_layer};
use crate::error::Result;
use crate::parameters::Parameters;
use crate::untied::UntiedLinear;

/// A stack of [`UntiedLinear`]s: what [`TiedAutoencoder::untie`] makes. The kernels train it with
/// [`Contributions`](crate::Contributions) of one use for each weight; there is no step for it.
#[derive(Debug, Clone)]
pub struct UntiedAutoencoder {
    layers: Vec<UntiedLinear>,
}

impl TiedAutoencoder {
    /// Every layer as by [`TiedLinear::untie`](crate::TiedLinear::untie): each decoder gets a copy of its
    /// weight, the encoders keep theirs. It costs [`UntiedAutoencoder::extra_bytes`].
    ///
    /// # Errors
    ///
    /// As [`TiedLinear::untie`](crate::TiedLinear::untie), saying in which layer.
    pub fn untie(&self, queue: &wgpu::Queue) -> Result<UntiedAutoencoder> {
        let layers = self.layers().iter().enumerate();
        let layers =
            layers.map(|(index, layer)| layer.untie(queue).map_err(|error| in_layer(error, index)));
        Ok(UntiedAutoencoder { layers: layers.collect::<Result<_>>()? })
    }
}

impl UntiedAutoencoder {
    /// A stack of these layers, the outermost first.
    ///
    /// # Errors
    ///
    /// As [`TiedAutoencoder::from_layers`].
    pub fn from_layers(layers: Vec<UntiedLinear>) -> Result<Self> {
        let weights = layers.iter().map(|layer| layer.encoder().weight());
        expect_fitting(weights.map(|weight| [weight.inputs(), weight.hidden()]))?;
        for (index, layer) in layers.iter().enumerate() {
            let device = layer.encoder().weight().expect_device(&layers[0].encoder().kernels);
            device.map_err(|error| in_layer(error, index))?;
        }
        Ok(Self { layers })
    }

    /// The layers, the outermost first.
    pub fn layers(&self) -> &[UntiedLinear] {
        &self.layers
    }

    /// All parameters, each once: `encoder.{i}.weight`, `encoder.{i}.bias`, `decoder.{i}.weight` and
    /// `decoder.{i}.bias` of the layer with index i, where there are any.
    pub fn parameters(&self) -> Parameters {
        let layers = self.layers.iter().enumerate();
        Parameters::given(layers.flat_map(|(index, layer)| {
            let (encoder, decoder) = (layer.encoder(), layer.decoder());
            [
                (format!("encoder.{index}.weight"), Some(encoder.weight().matrix())),
                (format!("encoder.{index}.bias"), encoder.bias()),
                (format!("decoder.{index}.weight"), Some(decoder.weight().matrix())),
                (format!("decoder.{index}.bias"), decoder.bias()),
            ]
        }))
    }

    /// Bytes of GPU memory that the second weights take.
    pub fn extra_bytes(&self) -> u64 {
        self.layers.iter().map(UntiedLinear::extra_bytes).sum()
    }

    /// One weight for each layer again, where both are equal to the bit, as by [`UntiedLinear::tie`].
    ///
    /// # Errors
    ///
    /// As [`UntiedLinear::tie`], saying in which layer.
    pub async fn tie(&self, queue: &wgpu::Queue) -> Result<TiedAutoencoder> {
        let mut layers = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            layers.push(layer.tie(queue).await.map_err(|error| in_layer(error, index))?);
        }
        TiedAutoencoder::from_layers(layers)
    }

    /// As [`UntiedAutoencoder::tie`], blocking. For native programs.
    ///
    /// # Errors
    ///
    /// As [`UntiedLinear::tie`], saying in which layer.
    pub fn tie_blocking(&self, queue: &wgpu::Queue) -> Result<TiedAutoencoder> {
        let layers = self.layers.iter().enumerate();
        let layers = layers.map(|(index, layer)| {
            layer.tie_blocking(queue).map_err(|error| in_layer(error, index))
        });
        TiedAutoencoder::from_layers(layers.collect::<Result<_>>()?)
    }
}
