//! Numbers with bounds: what f32 arithmetic may make of a formula, whatever the order of its sums.

use std::ops::{Add, Div, Mul, Sub};

use tied_linear::{Activation, AdamSettings, Loss, Reduction, SgdSettings};

use super::losses;
use super::reference::{activate, slope};

/// Half a unit in the last place of 1: a rounding to f32 changes a number by this share of it at most.
pub const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;

/// A value in f64, and how far from it a computation in f32 can end.
///
/// Each operation passes the errors of its operands on and adds its own, which is that of the Vulkan
/// specification ("Precision of core SPIR-V instructions"): half a unit in the last place for a sum or
/// a product, 2.5 units for a quotient. A running error analysis, as in Higham, "Accuracy and Stability
/// of Numerical Algorithms", section 3.3, but with a bound of its own for sums of products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    pub value: f64,
    pub error: f64,
}

impl Near {
    pub const ZERO: Self = Self::exact(0.0);

    pub const fn exact(value: f64) -> Self {
        Self { value, error: 0.0 }
    }

    /// A setting, which is rounded to f32 on its way to the device.
    pub fn setting(value: f64) -> Self {
        Self { value, error: (f64::from(value as f32) - value).abs() }
    }

    /// The largest magnitude that the number can have.
    fn size(self) -> f64 {
        self.value.abs() + self.error
    }

    /// With this many roundings more.
    fn rounded(self, roundings: f64) -> Self {
        self.plus_error(roundings * ROUNDING * self.size())
    }

    fn plus_error(self, error: f64) -> Self {
        Self { error: self.error + error, ..self }
    }

    /// The root. WGSL may compute it as 1/inverseSqrt: two units in the last place and 2.5.
    pub fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        let lowest = (self.value - self.error).max(0.0).sqrt();
        Self { value, error: value - lowest }.rounded(9.0)
    }

    /// Σ a·b in any order, with or without fused multiply-adds: each product takes part in as many
    /// roundings as there are products, at most, or one more where the sum is added to another.
    pub fn sum_of_products(products: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let (mut sum, mut size, mut count) = (Self::ZERO, 0.0, 1.0);
        for (a, b) in products {
            sum.value += a.value * b.value;
            sum.error += a.value.abs() * b.error + b.value.abs() * a.error + a.error * b.error;
            size += a.size() * b.size();
            count += 1.0;
        }
        sum.plus_error(count * ROUNDING * size)
    }

    pub fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        Self::sum_of_products(terms.into_iter().map(|term| (term, Self::exact(1.0))))
    }

    /// f(z). The activation's own error is what `tests/activation.rs` allows it over all of f32.
    pub fn activate(self, activation: Activation) -> Self {
        let value = activate(activation, self.value);
        let passed_on = match activation {
            Activation::Identity => return self,
            Activation::Relu => return Self { value, error: self.error },
            // No second derivative is above 1.
            _ => (slope(activation, self.value).abs() + self.error) * self.error,
        };
        Self { value, error: passed_on }.plus_error(own_error(activation, self, value))
    }

    /// f′(z), computed from what the forward pass saves: z, or y = f(z).
    pub fn slope(activation: Activation, z: Self, y: Self) -> Self {
        let one = Self::exact(1.0);
        match activation {
            Activation::Identity => one,
            Activation::Relu => {
                assert!(z.value.abs() > z.error, "rounding decides what ReLU's derivative is");
                Self::exact(slope(activation, z.value))
            }
            Activation::Sigmoid => y * (one - y),
            Activation::Tanh => one - y * y,
            _ => {
                let value = slope(activation, z.value);
                Self { value, error: z.error }.plus_error(own_error(activation, z, value))
            }
        }
    }

    /// ℓ(p, t), not scaled.
    pub fn loss(loss: Loss, p: Self, t: Self) -> Self {
        match loss {
            Loss::SquaredError => (p - t) * (p - t),
            _ => {
                let value = losses::value(loss, p.value, t.value);
                let slope = losses::slope_of(loss, p.value, t.value).abs();
                // The logarithm of 1 … 2 may be 2⁻²¹ off; the exponential, of an argument −|p|, by
                // 3 + 2·|p| units of itself, 7.5 roundings of 1 at most; then 1 + e, and two sums of
                // p and p·t.
                let size = p.size() * (1.0 + t.size());
                let own = 2f64.powi(-21) + ROUNDING * (10.0 + 3.0 * size);
                Self { value, error: (slope + p.error) * p.error }.plus_error(own)
            }
        }
    }

    /// ∂ℓ/∂p, not scaled.
    pub fn loss_slope(loss: Loss, p: Self, t: Self) -> Self {
        match loss {
            Loss::SquaredError => Self::exact(2.0) * (p - t),
            _ => p.activate(Activation::Sigmoid) - t,
        }
    }

    /// 1, or 1/elements.
    pub fn scale(reduction: Reduction, elements: usize) -> Self {
        match reduction {
            Reduction::Sum => Self::exact(1.0),
            Reduction::Mean => Self::setting(1.0 / elements as f64),
        }
    }
}

/// As `tests/activation.rs` has it.
fn own_error(activation: Activation, z: Near, value: f64) -> f64 {
    let lever = if activation.needs_preactivation() { z.size() } else { 0.0 };
    16.0 * ROUNDING * value.abs().max(lever).max(1.0)
}

impl Add for Near {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let error = self.error + other.error;
        Self { value: self.value + other.value, error }.rounded(1.0)
    }
}

impl Sub for Near {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + Self { value: -other.value, ..other }
    }
}

impl Mul for Near {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let error = self.value.abs() * other.error + other.size() * self.error;
        Self { value: self.value * other.value, error }.rounded(1.0)
    }
}

impl Div for Near {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        let smallest = other.value.abs() - other.error;
        assert!(smallest > 0.0, "a quotient by a number that may be zero");
        let error = (self.error + value.abs() * other.error) / smallest;
        Self { value, error }.rounded(5.0)
    }
}

/// One value that is learned, with what its optimizer keeps of it: `sgd_rule.wgsl` and `adam_rule.wgsl`.
#[derive(Debug, Clone, Copy)]
pub struct Learned {
    pub value: Near,
    pub velocity: Near,
    pub first_moment: Near,
    pub second_moment: Near,
}

impl Learned {
    pub fn new(value: Near) -> Self {
        let zero = Near::ZERO;
        Self { value, velocity: zero, first_moment: zero, second_moment: zero }
    }

    pub fn sgd(&mut self, settings: &SgdSettings, gradient: Near) {
        let momentum = Near::setting(settings.momentum);
        let g = gradient + Near::setting(settings.weight_decay) * self.value;
        self.velocity = momentum * self.velocity + g;
        let ahead = g + momentum * self.velocity;
        let direction = if settings.nesterov { ahead } else { self.velocity };
        self.value = self.value - Near::setting(settings.learning_rate) * direction;
    }

    /// `step` is 1 in the first.
    pub fn adam(&mut self, settings: &AdamSettings, gradient: Near, step: i32) {
        let rate = Near::setting(settings.learning_rate);
        let decay = Near::setting(settings.weight_decay);
        let mut g = gradient;
        if settings.decoupled {
            self.value = self.value - rate * decay * self.value;
        } else {
            g = g + decay * self.value;
        }
        let [m, v] = [
            (settings.betas[0], self.first_moment, g),
            (settings.betas[1], self.second_moment, g * g),
        ]
        .map(|(beta, old, new)| Near::setting(beta) * old + Near::setting(1.0 - beta) * new);
        // 1 − βᵗ as 1 − exp(x). Up to x = −0.25 from a series that cancels nothing; below, the exponential
        // is within 3 + 2·|x| units of itself, which is less than 12 units of the difference.
        let correction = |beta: f64| Near::exact(1.0 - beta.powi(step)).rounded(32.0);
        let [first, second] = settings.betas.map(correction);
        let denominator = (v / second).sqrt() + Near::setting(settings.epsilon);
        self.value = self.value - rate / first * (m / denominator);
        (self.first_moment, self.second_moment) = (m, v);
    }
}
