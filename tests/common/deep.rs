//! A stack of tied layers in f64: plain loops, from the formulas.

use tied_linear::{
    Activation, Contributions, Decoder, Encoder, Loss, Reduction, TiedAutoencoder, TiedLinear,
    Weight,
};

use super::reference::{Dense, Layer, activate, slope};
use super::{Place, Rig, random};

/// A stack, the outermost layer first.
#[derive(Clone)]
pub struct Deep {
    pub layers: Vec<Layer>,
}

/// What the parameters' gradients are made of: of a weight, both terms.
pub struct LayerGradients {
    pub weight_from_decoder: Dense,
    pub weight_from_encoder: Dense,
    pub encoder_bias: Dense,
    pub decoder_bias: Dense,
}

impl LayerGradients {
    pub fn weight(&self, contributions: Contributions) -> Dense {
        match contributions {
            Contributions::Encoder => self.weight_from_encoder.clone(),
            Contributions::Decoder => self.weight_from_decoder.clone(),
            Contributions::Both => {
                self.weight_from_decoder.zip(&self.weight_from_encoder, |a, b| a + b)
            }
        }
    }
}

/// Everything a forward pass computes.
pub struct DeepForward {
    /// X₀ … Xₙ.
    pub x: Vec<Dense>,
    /// What f₀ … fₙ₋₁ are applied to.
    z: Vec<Dense>,
    /// Y₀ … Yₙ.
    pub y: Vec<Dense>,
    /// What g₀ … gₙ₋₁ are applied to.
    a: Vec<Dense>,
}

impl Deep {
    /// Random parameters for these sizes, all biases there; layer i has the i-th pair of activations.
    pub fn new(sizes: &[u32], activations: &[[Activation; 2]]) -> Self {
        let layer = |(index, (pair, [f, g])): (u64, (&[u32], &[Activation; 2]))| {
            let &[inputs, hidden] = pair else { unreachable!("a pair") };
            Layer {
                weight: random(hidden, inputs, 10 * index + 1),
                encoder_bias: Some(random(1, hidden, 10 * index + 2)),
                decoder_bias: Some(random(1, inputs, 10 * index + 3)),
                encoder_activation: *f,
                decoder_activation: *g,
            }
        };
        let pairs = sizes.windows(2).zip(activations);
        Self { layers: (0..).zip(pairs).map(layer).collect() }
    }

    /// The same on the GPU.
    pub fn put(&self, rig: &Rig) -> TiedAutoencoder {
        let layer = |layer: &Layer| {
            let put = |values: &Dense| rig.put(values, Place::Odd);
            let weight = Weight::new(&rig.kernels, put(&layer.weight)).unwrap();
            let [b, c] =
                [&layer.encoder_bias, &layer.decoder_bias].map(|bias| bias.as_ref().map(put));
            let [f, g] = [layer.encoder_activation, layer.decoder_activation];
            let encoder = Encoder::new(&rig.kernels, &weight, b, f).unwrap();
            let decoder = Decoder::new(&rig.kernels, &weight, c, g).unwrap();
            TiedLinear::from_halves(encoder, decoder).unwrap()
        };
        TiedAutoencoder::from_layers(self.layers.iter().map(layer).collect()).unwrap()
    }

    pub fn forward(&self, input: &Dense) -> DeepForward {
        let (mut x, mut z) = (vec![input.clone()], Vec::new());
        for (index, layer) in self.layers.iter().enumerate() {
            let sum = x[index].times(&layer.weight.transposed());
            z.push(sum.plus_row(layer.encoder_bias.as_ref()));
            x.push(z[index].map(|z| activate(layer.encoder_activation, z)));
        }
        let (mut y, mut a) = (vec![x[x.len() - 1].clone()], Vec::new());
        for (index, layer) in self.layers.iter().rev().enumerate() {
            let sum = y[index].times(&layer.weight);
            a.push(sum.plus_row(layer.decoder_bias.as_ref()));
            y.push(a[index].map(|a| activate(layer.decoder_activation, a)));
        }
        y.reverse();
        a.reverse();
        DeepForward { x, z, y, a }
    }

    /// The loss, and all gradients.
    pub fn backward(
        &self,
        input: &Dense,
        target: &Dense,
        loss: Loss,
        reduction: Reduction,
    ) -> (f64, Vec<LayerGradients>) {
        let forward = self.forward(input);
        let count = self.layers.len();
        let output = &forward.y[0];
        let scale = match reduction {
            Reduction::Mean => 1.0 / output.values.len() as f64,
            Reduction::Sum => 1.0,
        };
        let value = output.zip(target, |p, t| match loss {
            Loss::SquaredError => (p - t) * (p - t),
            _ => p.max(0.0) - p * t + (-p.abs()).exp().ln_1p(),
        });
        let gradient = output.zip(target, |p, t| match loss {
            Loss::SquaredError => scale * 2.0 * (p - t),
            _ => scale * (1.0 / (1.0 + (-p).exp()) - t),
        });
        let through = |gradient: &Dense, sums: &Dense, activation: Activation| {
            gradient
                .zip(&sums.map(|sum| slope(activation, sum)), |gradient, slope| gradient * slope)
        };
        let mut gradient = gradient;
        let mut output_deltas = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let delta = through(&gradient, &forward.a[index], layer.decoder_activation);
            gradient = delta.times(&layer.weight.transposed());
            output_deltas.push(delta);
        }
        let mut code_deltas = vec![Dense::zeros(0, 0); count];
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let delta = through(&gradient, &forward.z[index], layer.encoder_activation);
            gradient = delta.times(&layer.weight);
            code_deltas[index] = delta;
        }
        let of_layer = |index: usize| LayerGradients {
            weight_from_decoder: forward.y[index + 1].transposed().times(&output_deltas[index]),
            weight_from_encoder: code_deltas[index].transposed().times(&forward.x[index]),
            encoder_bias: code_deltas[index].column_sums(),
            decoder_bias: output_deltas[index].column_sums(),
        };
        (scale * value.values.iter().sum::<f64>(), (0..count).map(of_layer).collect())
    }
}
