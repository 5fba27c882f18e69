// adam_rule.wgsl — put in front: Adam's and AdamW's step on one quad of a parameter.
//
//   w = w·(1 − learning_rate·decoupled_decay)            AdamW
//   g = gradient + weight_decay·w                        Adam with L2 decay
//   m = β₁·m + (1 − β₁)·g      v = β₂·v + (1 − β₂)·g²
//   w = w − learning_rate/(1 − β₁ᵗ) · m / (√(v/(1 − β₂ᵗ)) + ε)
//
// As PyTorch's Adam and AdamW; m and v start at zero, and t is 1 in the first step. 1 − βᵗ is computed
// as −expm1(t·ln β): for β₂ = 0.999 and t = 1, 1 − pow(β, t) would keep four digits. No bindings: a
// kernel that has a quad of the gradient in registers can update the parameter with it.
//
// Sources: Kingma and Ba, arXiv:1412.6980; Loshchilov and Hutter, arXiv:1711.05101.
// Tests: adam.rs, training.rs, known_answers.rs.

struct AdamSettings {
    learning_rate: f32,
    beta1: f32,
    beta2: f32,
    // 1 − β₁, 1 − β₂, ln β₁ and ln β₂, rounded once, from f64.
    one_minus_beta1: f32,
    one_minus_beta2: f32,
    log_beta1: f32,
    log_beta2: f32,
    epsilon: f32,
    weight_decay: f32,
    decoupled_decay: f32,
    padding_0: u32,
    padding_1: u32,
}

struct AdamQuad {
    value: vec4<f32>,
    first_moment: vec4<f32>,
    second_moment: vec4<f32>,
}

// 1 − exp(x) for x ≤ 0; near zero, where it cancels, the Taylor series.
fn one_minus_exp(x: f32) -> f32 {
    if x > -0.25 {
        let inner = 1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0)));
        return -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * inner));
    }
    return 1.0 - exp(x);
}

// 1 − β₁ᵗ and 1 − β₂ᵗ.
fn adam_corrections(settings: AdamSettings, step: u32) -> vec2<f32> {
    let t = f32(step);
    return vec2<f32>(one_minus_exp(t * settings.log_beta1), one_minus_exp(t * settings.log_beta2));
}

fn adam_step(settings: AdamSettings, corrections: vec2<f32>, old: AdamQuad, gradient: vec4<f32>) -> AdamQuad {
    var w = old.value;
    w -= settings.learning_rate * settings.decoupled_decay * w;
    let g = gradient + settings.weight_decay * w;
    let m = settings.beta1 * old.first_moment + settings.one_minus_beta1 * g;
    let v = settings.beta2 * old.second_moment + settings.one_minus_beta2 * g * g;
    let denominator = sqrt(v / corrections.y) + settings.epsilon;
    return AdamQuad(w - settings.learning_rate / corrections.x * (m / denominator), m, v);
}
