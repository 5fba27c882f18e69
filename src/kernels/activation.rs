//! The activations of `activation.wgsl`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::matrix::Matrix;
use crate::shader::Override;

/// The function applied to each element after the product and the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// z.
    #[default]
    Identity,
    /// max(z, 0).
    Relu,
    /// 1/(1 + e⁻ᶻ).
    Sigmoid,
    /// tanh z; no input overflows.
    Tanh,
    /// GELU in its tanh form, z/2·(1 + tanh(√(2/π)·(z + 0.044715·z³))): PyTorch's
    /// `approximate="tanh"` ([Hendrycks and Gimpel](https://arxiv.org/abs/1606.08415)).
    GeluTanh,
    /// GELU by the error function, z·Φ(z) = z/2·(1 + erf(z/√2)): PyTorch's default
    /// ([Hendrycks and Gimpel](https://arxiv.org/abs/1606.08415)).
    GeluErf,
    /// SiLU (swish), z/(1 + e⁻ᶻ) ([Hendrycks and Gimpel](https://arxiv.org/abs/1606.08415)).
    Silu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Relu,
        Self::Sigmoid,
        Self::Tanh,
        Self::GeluTanh,
        Self::GeluErf,
        Self::Silu,
    ];

    /// The WGSL constant `ACTIVATION`.
    pub(crate) const OVERRIDE: Override = Override::free("ACTIVATION", &[0, 1, 2, 3, 4, 5, 6]);

    /// The name that [`FromStr`] takes: `identity`, `relu`, `sigmoid`, `tanh`, `gelu-tanh`,
    /// `gelu-erf` or `silu`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::GeluTanh => "gelu-tanh",
            Self::GeluErf => "gelu-erf",
            Self::Silu => "silu",
        }
    }

    /// Whether the derivative needs the pre-activation z. That of the others is a function of the
    /// output, so nothing but the output has to be kept.
    pub const fn needs_preactivation(self) -> bool {
        matches!(self, Self::GeluTanh | Self::GeluErf | Self::Silu)
    }

    /// The value of the WGSL constant `ACTIVATION`.
    pub(crate) fn code(self) -> f64 {
        f64::from(match self {
            Self::Identity => 0u8,
            Self::Relu => 1,
            Self::Sigmoid => 2,
            Self::Tanh => 3,
            Self::GeluTanh => 4,
            Self::GeluErf => 5,
            Self::Silu => 6,
        })
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Activation {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        Self::ALL.into_iter().find(|activation| activation.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("an activation is one of {names}, not \"{name}\"")
        })
    }
}

/// `saved`, where `activation` has a derivative to compute.
pub(super) fn needed_saved(
    activation: Activation,
    saved: Option<&Matrix>,
) -> Result<Option<&Matrix>> {
    match (activation, saved) {
        (Activation::Identity, _) => Ok(None),
        (_, Some(saved)) => Ok(Some(saved)),
        (activation, None) => Err(Error::Missing {
            operand: "saved",
            reason: if activation.needs_preactivation() {
                "this activation's derivative is computed from its input"
            } else {
                "this activation's derivative is computed from its output"
            },
        }),
    }
}
