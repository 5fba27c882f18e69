// loss.wgsl — put in front: the losses and their derivatives by the prediction, four values at a
// time.
//
//   squared error   ℓ(p, t) = (p − t)²                                  ℓ′(p, t) = 2·(p − t)
//   cross-entropy   ℓ(p, t) = max(p, 0) − p·t + ln(1 + exp(−|p|))       ℓ′(p, t) = σ(p) − t
//
// As PyTorch's MSELoss and BCEWithLogitsLoss: the cross-entropy takes logits, and this form of it
// overflows for none.
//
// Needs activation.wgsl before it.
// Tests: squared_error.rs, cross_entropy.rs, training.rs, known_answers.rs.

fn squared_error_value(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    return (p - t) * (p - t);
}

fn squared_error_slope(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    return 2.0 * (p - t);
}

// ln(1 + e) for 0 ≤ e ≤ 1; where 1 + e would round e away, its Taylor series.
fn log_one_plus(e: vec4<f32>) -> vec4<f32> {
    let series = e * (1.0 - e * (0.5 - e * (1.0 / 3.0 - e * (0.25 - e * 0.2))));
    return select(log(1.0 + e), series, e < vec4<f32>(0.05));
}

fn cross_entropy_value(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    let positive = select(p, vec4<f32>(), p < vec4<f32>());
    return positive - p * t + log_one_plus(exp(-abs(p)));
}

fn cross_entropy_slope(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    return logistic(p) - t;
}
