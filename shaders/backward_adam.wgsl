// backward_adam.wgsl — Adam's or AdamW's step on the tied weight, straight from its gradient's sums.
//
//   gradient = Hᵀ·dA + dZᵀ·X      value = step(value, gradient)
//
// The product is that of backward.wgsl, the step that of adam.wgsl; the gradient is never written. For
// the parameters that adam.wgsl updates in the same step see there: it also raises the weight's step
// counts, which are only read here.
//
// The weight is the first parameter of its set, so the quad that is `index`-th row by row has its
// moments in unit `index` of the state and of the second moments, and its workgroup's count in unit
// units + index/256 of the state (parameter_set.wgsl).
//
// Needs a width's files, matrix.wgsl, product.wgsl, a strategy's files,
// weight_gradient.wgsl, value.wgsl and adam_rule.wgsl before it.
// Tests: backward_adam.rs, training.rs.

struct Parameters {
    code: View,
    output_delta: View,
    code_delta: View,
    input: View,
    value: View,
    copy: View,
    product: Product,
    units: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<uniform> settings: AdamSettings;
@group(0) @binding(2) var<storage, read> code: array<Word>;
@group(0) @binding(3) var<storage, read> output_delta: array<Word>;
@group(0) @binding(4) var<storage, read> code_delta: array<Word>;
@group(0) @binding(5) var<storage, read> input: array<Word>;
@group(0) @binding(6) var<storage, read_write> value: array<Word>;
@group(0) @binding(7) var<storage, read_write> state: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> scratch: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read_write> second_moments: array<vec4<u32>>;

struct Terms {
    value: View,
    copy: View,
    units: u32,
}

fn terms_of(column: u32) -> Terms {
    return Terms(parameters.value, parameters.copy, parameters.units);
}

fn finish(row: u32, column: u32, sum: vec4<f32>, terms: Terms) {
    let quads_wide = (terms.value.columns + 3u) / 4u;
    let index = row * quads_wide + column / 4u;
    let step = state[terms.units + index / 256u].x + 1u;
    let first_moment = bitcast<vec4<f32>>(state[index]);
    let second_moment = bitcast<vec4<f32>>(second_moments[index]);
    let old = AdamQuad(value_at(terms.value, row, column), first_moment, second_moment);
    let new_quad = adam_step(settings, adam_corrections(settings, step), old, sum);
    state[index] = bitcast<vec4<u32>>(new_quad.first_moment);
    second_moments[index] = bitcast<vec4<u32>>(new_quad.second_moment);
    store_value(terms.value, terms.copy, row, column, new_quad.value);
}

@compute @workgroup_size(INVOCATIONS)
fn backward_adam(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    multiply(group, local);
}
