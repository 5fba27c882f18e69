// cross_entropy.wgsl — the binary cross-entropy of logits, and its gradient by the logits.
//
//   ℓ(p, t) = max(p, 0) − p·t + ln(1 + exp(−|p|))      ℓ′(p, t) = σ(p) − t
//
// Summed or averaged over all elements, as PyTorch's BCEWithLogitsLoss; this form of ℓ overflows
// for no logit. See loss.wgsl, which goes before it with what that file needs, for bindings and
// the reduction.
//
// Tests: cross_entropy.rs, training.rs.

// ln(1 + e) for 0 ≤ e ≤ 1; where 1 + e would round e away, its Taylor series.
fn log_one_plus(e: vec4<f32>) -> vec4<f32> {
    let series = e * (1.0 - e * (0.5 - e * (1.0 / 3.0 - e * (0.25 - e * 0.2))));
    return select(log(1.0 + e), series, e < vec4<f32>(0.05));
}

fn loss_value(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    let positive = select(p, vec4<f32>(), p < vec4<f32>());
    return positive - p * t + log_one_plus(exp(-abs(p)));
}

fn loss_slope(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    return logistic(p) - t;
}

@compute @workgroup_size(256)
fn cross_entropy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    measure(group.x, local);
}
