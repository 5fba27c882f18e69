// backward.wgsl — the gradient of the tied weight, both contributions at once.
//
//   gradient[h][i] (+)= Σ_b code[b][h]·output_delta[b][i]      the decoder's, Hᵀ·dA
//                     + Σ_b code_delta[b][h]·input[b][i]       the encoder's, dZᵀ·X
//
// Both contributions in one sum and one store, then (where `add` is not 0) what the gradient held
// before. See weight_gradient.wgsl for the operands, product.wgsl and the strategies' files for how the
// product is computed.
//
// Needs a width's files, matrix.wgsl, product.wgsl, a strategy's files and
// weight_gradient.wgsl before it.
// Tests: backward.rs, layer.rs, known_answers.rs.

// The gradient's elements: F32, F16 or BF16.
override GRADIENT_ELEMENT: u32 = 0u;

struct Parameters {
    code: View,
    output_delta: View,
    code_delta: View,
    input: View,
    gradient: View,
    product: Product,
    add: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> code: array<Word>;
@group(0) @binding(2) var<storage, read> output_delta: array<Word>;
@group(0) @binding(3) var<storage, read> code_delta: array<Word>;
@group(0) @binding(4) var<storage, read> input: array<Word>;
@group(0) @binding(5) var<storage, read_write> gradient: array<Word>;
@group(0) @binding(6) var<storage, read_write> scratch: array<vec4<f32>>;

struct Terms {
    gradient: View,
    add: bool,
}

fn terms_of(column: u32) -> Terms {
    return Terms(parameters.gradient, parameters.add != 0u);
}

fn gradient_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(gradient[at.x]);
    }
    if GRADIENT_ELEMENT != F32 {
        return unpacked(gradient[at.x / 2u], gradient[at.z / 2u], GRADIENT_ELEMENT);
    }
    return vec4<f32>(first(gradient[at.x]), first(gradient[at.y]), first(gradient[at.z]), first(gradient[at.w]));
}

fn finish(row: u32, column: u32, sum: vec4<f32>, terms: Terms) {
    let at = place(terms.gradient, row, column);
    var values = sum;
    if terms.add {
        values += gradient_at(at);
    }
    if GRADIENT_ELEMENT != F32 {
        let within = inside(terms.gradient, row, column);
        var pair = packed(values, GRADIENT_ELEMENT);
        if !within.w {
            pair = ended(pair, gradient[at.w / 2u], within);
        }
        gradient[at.x / 2u] = pair.low;
        gradient[at.z / 2u] = pair.high;
        return;
    }
    gradient[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(terms.gradient, row, column);
        if within.y { gradient[at.y] = word(values.yyyy); }
        if within.z { gradient[at.z] = word(values.zzzz); }
        if within.w { gradient[at.w] = word(values.wwww); }
    }
}

@compute @workgroup_size(INVOCATIONS)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    multiply(group, local);
}
