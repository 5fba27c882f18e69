//! [`TiedAutoencoder`]: tied layers in a stack, trained together.
//!
//! Layer i, counted from the outside, has the weight Wᵢ \[sᵢ₊₁, sᵢ\], biases bᵢ and cᵢ and activations fᵢ
//! and gᵢ. With n layers, X₀ being the input:
//!
//! ```text
//! encode   Xᵢ₊₁ = fᵢ(Xᵢ·Wᵢᵀ + bᵢ)     i = 0 … n−1      Xₙ is the code, Yₙ = Xₙ
//! decode   Yᵢ = gᵢ(Yᵢ₊₁·Wᵢ + cᵢ)      i = n−1 … 0      Y₀ is the output
//! ```
//!
//! Backward, from dA₀ = ∂loss/∂(Y₁·W₀ + c₀), with slopes f′ and g′ where the forward pass was:
//!
//! ```text
//! dAᵢ₊₁ = (dAᵢ·Wᵢᵀ) ⊙ gᵢ₊₁′           i = 0 … n−2      encode.wgsl with a slope
//! dZₙ₋₁ = (dAₙ₋₁·Wₙ₋₁ᵀ) ⊙ fₙ₋₁′                        the same
//! dZᵢ₋₁ = (dZᵢ·Wᵢ) ⊙ fᵢ₋₁′            i = n−1 … 1      decode.wgsl with a slope
//! dWᵢ = Yᵢ₊₁ᵀ·dAᵢ + dZᵢᵀ·Xᵢ           one dispatch for both uses of the weight
//! dbᵢ = Σ_batch dZᵢ,  dcᵢ = Σ_batch dAᵢ   one dispatch for both
//! ```

mod gradients;
mod plan;
mod program;
mod stack;
mod step;
mod untied;

pub use gradients::{AutoencoderGradients, Frozen};
pub use stack::{TiedAutoencoder, TiedAutoencoderOptions};
pub use step::{AutoencoderStep, AutoencoderStepOptions};
pub use untied::UntiedAutoencoder;
