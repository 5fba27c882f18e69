//! The reference: f64 and plain loops, too simple to be wrong.

use tied_linear::Activation;

/// A row-major matrix of f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    pub rows: u32,
    pub columns: u32,
    pub values: Vec<f64>,
}

impl Dense {
    pub fn new(rows: u32, columns: u32, mut value: impl FnMut(u32, u32) -> f64) -> Self {
        let mut values = Vec::with_capacity(rows as usize * columns as usize);
        for row in 0..rows {
            for column in 0..columns {
                values.push(value(row, column));
            }
        }
        Self { rows, columns, values }
    }

    pub fn zeros(rows: u32, columns: u32) -> Self {
        Self::new(rows, columns, |_, _| 0.0)
    }

    pub fn at(&self, row: u32, column: u32) -> f64 {
        self.values[row as usize * self.columns as usize + column as usize]
    }

    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self::new(self.rows, self.columns, |row, column| f(self.at(row, column)))
    }

    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!([self.rows, self.columns], [other.rows, other.columns]);
        Self::new(self.rows, self.columns, |row, column| {
            f(self.at(row, column), other.at(row, column))
        })
    }

    pub fn transposed(&self) -> Self {
        Self::new(self.columns, self.rows, |row, column| self.at(column, row))
    }

    /// self · other.
    pub fn times(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.rows);
        Self::new(self.rows, other.columns, |row, column| {
            (0..self.columns).map(|k| self.at(row, k) * other.at(k, column)).sum()
        })
    }

    /// Adds a row vector to every row.
    pub fn plus_row(&self, row_vector: Option<&Self>) -> Self {
        Self::new(self.rows, self.columns, |row, column| {
            self.at(row, column) + row_vector.map_or(0.0, |vector| vector.at(0, column))
        })
    }

    /// The sum of the rows.
    pub fn column_sums(&self) -> Self {
        Self::new(1, self.columns, |_, column| (0..self.rows).map(|row| self.at(row, column)).sum())
    }
}

/// The tolerance of a sum of products a·b over a reduction of length `depth`:
/// c·ε·√depth·Σ|a·b|, where `magnitude` is Σ|a·b| (and the size of what else is added).
pub fn tolerance(depth: u32, magnitude: &Dense) -> Dense {
    let factor = 4.0 * f64::from(f32::EPSILON) * f64::from(depth.max(1)).sqrt();
    // The smallest normal number stands for results that underflow.
    magnitude.map(|magnitude| factor * magnitude + f64::from(f32::MIN_POSITIVE))
}

/// f(z).
pub fn activate(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity => z,
        Activation::Relu => z.max(0.0),
        Activation::Sigmoid => 1.0 / (1.0 + (-z).exp()),
        Activation::Tanh => z.tanh(),
        Activation::GeluTanh => 0.5 * z * (1.0 + gelu_argument(z).tanh()),
        Activation::GeluErf => z * normal_below(z),
        Activation::Silu => z / (1.0 + (-z).exp()),
        _ => unreachable!("an activation that the tests do not know"),
    }
}

/// f′(z).
pub fn slope(activation: Activation, z: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-z).exp());
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f64::from(u8::from(z > 0.0)),
        Activation::Sigmoid => sigmoid * (1.0 - sigmoid),
        Activation::Tanh => 1.0 - z.tanh() * z.tanh(),
        Activation::GeluTanh => {
            let t = gelu_argument(z).tanh();
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * z * z);
            0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * inner
        }
        Activation::GeluErf => {
            let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
            normal_below(z) + z * density
        }
        Activation::Silu => sigmoid * (1.0 + z * (1.0 - sigmoid)),
        _ => unreachable!("an activation that the tests do not know"),
    }
}

/// What the forward pass keeps of f at z for the gradient, as an f32.
pub fn saved(activation: Activation, z: f64) -> f64 {
    if activation.needs_preactivation() { z } else { f64::from(activate(activation, z) as f32) }
}

/// A z from which an activation's derivative is what it is from these saved values.
pub fn argument(activation: Activation, saved: f64) -> f64 {
    match activation {
        Activation::Sigmoid => (saved / (1.0 - saved)).ln(),
        Activation::Tanh => saved.atanh(),
        _ => saved,
    }
}

fn gelu_argument(z: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044715 * z * z * z)
}

fn normal_below(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// All that a tied layer computes, from the formulas.
#[derive(Clone)]
pub struct Layer {
    /// W, \[hidden, inputs\].
    pub weight: Dense,
    pub encoder_bias: Option<Dense>,
    pub decoder_bias: Option<Dense>,
    pub encoder_activation: Activation,
    pub decoder_activation: Activation,
}

/// A forward pass: Z, H, A, Y.
pub struct Forward {
    pub code_preactivation: Dense,
    pub code: Dense,
    pub output_preactivation: Dense,
    pub output: Dense,
}

/// A backward pass.
pub struct Backward {
    /// dA.
    pub output_delta: Dense,
    /// dZ.
    pub code_delta: Dense,
    /// Hᵀ·dA.
    pub weight_from_decoder: Dense,
    /// dZᵀ·X.
    pub weight_from_encoder: Dense,
    /// db.
    pub encoder_bias: Dense,
    /// dc.
    pub decoder_bias: Dense,
    /// dX.
    pub input: Dense,
}

impl Layer {
    pub fn forward(&self, input: &Dense) -> Forward {
        let code_preactivation =
            input.times(&self.weight.transposed()).plus_row(self.encoder_bias.as_ref());
        let code = code_preactivation.map(|z| activate(self.encoder_activation, z));
        let output_preactivation = code.times(&self.weight).plus_row(self.decoder_bias.as_ref());
        let output = output_preactivation.map(|z| activate(self.decoder_activation, z));
        Forward { code_preactivation, code, output_preactivation, output }
    }

    /// From the gradient by the output; `extra` is a further gradient by the code.
    pub fn backward(
        &self,
        input: &Dense,
        forward: &Forward,
        output_gradient: &Dense,
        extra: Option<&Dense>,
    ) -> Backward {
        let output_slope = forward.output_preactivation.map(|z| slope(self.decoder_activation, z));
        let output_delta = output_gradient.zip(&output_slope, |gradient, slope| gradient * slope);
        let mut code_gradient = output_delta.times(&self.weight.transposed());
        if let Some(extra) = extra {
            code_gradient = code_gradient.zip(extra, |a, b| a + b);
        }
        let code_slope = forward.code_preactivation.map(|z| slope(self.encoder_activation, z));
        let code_delta = code_gradient.zip(&code_slope, |gradient, slope| gradient * slope);
        Backward {
            weight_from_decoder: forward.code.transposed().times(&output_delta),
            weight_from_encoder: code_delta.transposed().times(input),
            encoder_bias: code_delta.column_sums(),
            decoder_bias: output_delta.column_sums(),
            input: code_delta.times(&self.weight),
            output_delta,
            code_delta,
        }
    }
}
