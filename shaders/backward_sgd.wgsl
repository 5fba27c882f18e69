// backward_sgd.wgsl — a step of stochastic gradient descent on the tied weight, straight from its
// gradient's sums.
//
//   gradient = Hᵀ·dA + dZᵀ·X      value = step(value, gradient)
//
// The product is that of backward.wgsl, the step that of sgd.wgsl; the gradient is never written.
//
// The weight is the first parameter of its set, so the quad that is `index`-th row by row has its
// velocity in unit `index` of the state (parameter_set.wgsl). Without momentum there is no state.
//
// Needs a width's files, matrix.wgsl, product.wgsl, a strategy's files,
// weight_gradient.wgsl, value.wgsl and sgd_rule.wgsl before it.
// Tests: backward_sgd.rs, training.rs.

struct Parameters {
    code: View,
    output_delta: View,
    code_delta: View,
    input: View,
    value: View,
    copy: View,
    product: Product,
    has_momentum: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<uniform> settings: SgdSettings;
@group(0) @binding(2) var<storage, read> code: array<Word>;
@group(0) @binding(3) var<storage, read> output_delta: array<Word>;
@group(0) @binding(4) var<storage, read> code_delta: array<Word>;
@group(0) @binding(5) var<storage, read> input: array<Word>;
@group(0) @binding(6) var<storage, read_write> value: array<Word>;
@group(0) @binding(7) var<storage, read_write> state: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> scratch: array<vec4<f32>>;

struct Terms {
    value: View,
    copy: View,
    has_momentum: bool,
}

fn terms_of(column: u32) -> Terms {
    return Terms(parameters.value, parameters.copy, parameters.has_momentum != 0u);
}

fn finish(row: u32, column: u32, sum: vec4<f32>, terms: Terms) {
    let quads_wide = (terms.value.columns + 3u) / 4u;
    let index = row * quads_wide + column / 4u;
    let has_momentum = terms.has_momentum;
    var velocity = vec4<f32>();
    if has_momentum {
        velocity = bitcast<vec4<f32>>(state[index]);
    }
    let old = SgdQuad(value_at(terms.value, row, column), velocity);
    let new_quad = sgd_step(settings, has_momentum, old, sum);
    if has_momentum {
        state[index] = bitcast<vec4<u32>>(new_quad.velocity);
    }
    store_value(terms.value, terms.copy, row, column, new_quad.value);
}

@compute @workgroup_size(INVOCATIONS)
fn backward_sgd(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    multiply(group, local);
}
