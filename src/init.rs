//! Seeded initial values, the same on every platform.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A side of a tied layer, whose fan-in differs: an encoder's is `inputs`, a decoder's `hidden`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Side {
    /// fan_in = inputs.
    #[default]
    Encoder,
    /// fan_in = hidden.
    Decoder,
}

impl Side {
    fn fan_in(self, hidden: u32, inputs: u32) -> f64 {
        f64::from(match self {
            Self::Encoder => inputs,
            Self::Decoder => hidden,
        })
    }
}

/// A distribution of initial values for a layer of `hidden` × `inputs`.
///
/// Values come from a ChaCha stream cipher with eight rounds, so a seed gives the same numbers
/// everywhere. A fan of 0 makes all values 0, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Init {
    /// All zero.
    Zeros,
    /// U(±√(6/(inputs + hidden))): the same for both sides
    /// ([Glorot and Bengio 2010](https://proceedings.mlr.press/v9/glorot10a.html)).
    #[default]
    XavierUniform,
    /// N(0, 2/(inputs + hidden)).
    XavierNormal,
    /// U(±√(6/fan_in)), for ReLU ([He et al.](https://arxiv.org/abs/1502.01852)).
    KaimingUniform(Side),
    /// N(0, 2/fan_in).
    KaimingNormal(Side),
    /// U(±1/√fan_in): what PyTorch's `nn.Linear` gives its weight and its bias.
    FanIn(Side),
}

impl Init {
    /// `count` values for a layer of `hidden` × `inputs`, from this seed and stream. Parameters of
    /// one layer take different streams of one seed.
    pub fn values(
        self,
        hidden: u32,
        inputs: u32,
        count: usize,
        seed: u64,
        stream: u64,
    ) -> Vec<f32> {
        let both = f64::from(hidden) + f64::from(inputs);
        let fan_in = |side: Side| side.fan_in(hidden, inputs);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        match self {
            Self::Zeros => vec![0.0; count],
            Self::XavierUniform => uniform(&mut rng, count, root(6.0, both)),
            Self::XavierNormal => normal(&mut rng, count, root(2.0, both)),
            Self::KaimingUniform(side) => uniform(&mut rng, count, root(6.0, fan_in(side))),
            Self::KaimingNormal(side) => normal(&mut rng, count, root(2.0, fan_in(side))),
            Self::FanIn(side) => uniform(&mut rng, count, root(1.0, fan_in(side))),
        }
    }
}

/// √(numerator/fan), and 0 for a fan of 0.
fn root(numerator: f64, fan: f64) -> f64 {
    if fan == 0.0 { 0.0 } else { (numerator / fan).sqrt() }
}

fn uniform(rng: &mut ChaCha8Rng, count: usize, bound: f64) -> Vec<f32> {
    (0..count).map(|_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32).collect()
}

fn normal(rng: &mut ChaCha8Rng, count: usize, deviation: f64) -> Vec<f32> {
    (0..count)
        .map(|_| {
            let value: f64 = StandardNormal.sample(rng);
            (value * deviation) as f32
        })
        .collect()
}
