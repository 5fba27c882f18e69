//! A training step of a tied autoencoder in f64, loop by loop.

use crate::layer::Start;
use crate::shape::Shape;

/// Parameters in f64, row by row.
pub struct Parameters {
    pub weight: Vec<f64>,
    pub encoder_bias: Vec<f64>,
    pub decoder_bias: Vec<f64>,
}

impl From<&Start> for Parameters {
    fn from(start: &Start) -> Self {
        Self {
            weight: start.weight.wide(),
            encoder_bias: start.encoder_bias.wide(),
            decoder_bias: start.decoder_bias.wide(),
        }
    }
}

/// Both activations.
pub struct Forward {
    /// H.
    code: Vec<f64>,
    /// Y.
    pub output: Vec<f64>,
}

/// The loss and what it is differentiated by.
pub struct Gradients {
    pub loss: f64,
    /// Hᵀ·dA, from the weight's use in the decoder.
    pub of_decoder: Vec<f64>,
    /// dZᵀ·X, from its use in the encoder.
    pub of_encoder: Vec<f64>,
    pub encoder_bias: Vec<f64>,
    pub decoder_bias: Vec<f64>,
}

impl Gradients {
    /// The tied weight's whole gradient.
    pub fn weight(&self) -> Vec<f64> {
        self.of_decoder.iter().zip(&self.of_encoder).map(|(a, b)| a + b).collect()
    }
}

/// relu(X·Wᵀ + b), and that times W, plus c.
pub fn forward(shape: Shape, input: &[f64], parameters: &Parameters) -> Forward {
    let [batch, inputs, hidden] = sizes(shape);
    let Parameters { weight, encoder_bias, decoder_bias } = parameters;
    let mut code = vec![0.0; batch * hidden];
    let mut output = vec![0.0; batch * inputs];
    for b in 0..batch {
        for h in 0..hidden {
            let dot = (0..inputs).map(|i| input[b * inputs + i] * weight[h * inputs + i]);
            code[b * hidden + h] = (dot.sum::<f64>() + encoder_bias[h]).max(0.0);
        }
        for i in 0..inputs {
            let dot = (0..hidden).map(|h| code[b * hidden + h] * weight[h * inputs + i]);
            output[b * inputs + i] = dot.sum::<f64>() + decoder_bias[i];
        }
    }
    Forward { code, output }
}

/// The mean squared error against the input, and all gradients.
pub fn gradients(shape: Shape, input: &[f64], parameters: &Parameters) -> Gradients {
    let [batch, inputs, hidden] = sizes(shape);
    let Forward { code, output } = forward(shape, input, parameters);
    let weight = &parameters.weight;
    let count = output.len() as f64;
    let mut gradients = Gradients {
        loss: output.iter().zip(input).map(|(y, x)| (y - x).powi(2)).sum::<f64>() / count,
        of_decoder: vec![0.0; hidden * inputs],
        of_encoder: vec![0.0; hidden * inputs],
        encoder_bias: vec![0.0; hidden],
        decoder_bias: vec![0.0; inputs],
    };
    for b in 0..batch {
        let x = &input[b * inputs..][..inputs];
        let delta = |i: usize| 2.0 * (output[b * inputs + i] - x[i]) / count;
        for (i, gradient) in gradients.decoder_bias.iter_mut().enumerate() {
            *gradient += delta(i);
        }
        for h in 0..hidden {
            let active = code[b * hidden + h] > 0.0;
            let back: f64 = (0..inputs).map(|i| delta(i) * weight[h * inputs + i]).sum();
            let code_delta = if active { back } else { 0.0 };
            gradients.encoder_bias[h] += code_delta;
            for (i, x) in x.iter().enumerate() {
                gradients.of_decoder[h * inputs + i] += code[b * hidden + h] * delta(i);
                gradients.of_encoder[h * inputs + i] += code_delta * x;
            }
        }
    }
    gradients
}

fn sizes(shape: Shape) -> [usize; 3] {
    [shape.batch, shape.inputs, shape.hidden].map(|size| size as usize)
}
