// backward.wgsl — the gradient of the tied weight, both contributions at once.
//
//   gradient[h][i] (+)= Σ_b code[b][h]·output_delta[b][i]      the decoder's, Hᵀ·dA
//                     + Σ_b code_delta[b][h]·input[b][i]       the encoder's, dZᵀ·X
//
// Two reductions into the same sums, one after the other in one k, and one store: the decoder's
// contribution first, then the encoder's, then (where `add` is not 0) what the gradient held
// before. A contribution that is not asked for has views of no rows and no part of k.
//
// All four operands are row-major with the batch, which is the reduction, in rows: contiguous along
// the rows or columns of the gradient [hidden, inputs], so that no block is turned. See product.wgsl
// and the strategies' files for how the product is computed.
//
// Needs scalar.wgsl or vector.wgsl, matrix.wgsl, product.wgsl and a strategy's files before it.
// Tests: backward.rs, layer.rs, known_answers.rs.

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

// The quad whose words lie at `at`; with 16-byte words all four are the same one.
fn code_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(code[at.x]);
    }
    return vec4<f32>(first(code[at.x]), first(code[at.y]), first(code[at.z]), first(code[at.w]));
}

fn output_delta_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(output_delta[at.x]);
    }
    return vec4<f32>(first(output_delta[at.x]), first(output_delta[at.y]), first(output_delta[at.z]), first(output_delta[at.w]));
}

fn code_delta_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(code_delta[at.x]);
    }
    return vec4<f32>(first(code_delta[at.x]), first(code_delta[at.y]), first(code_delta[at.z]), first(code_delta[at.w]));
}

fn input_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(input[at.x]);
    }
    return vec4<f32>(first(input[at.x]), first(input[at.y]), first(input[at.z]), first(input[at.w]));
}

fn gradient_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.gradient, row, column);
    if WIDTH == 4u {
        return quad(gradient[at.x]);
    }
    return vec4<f32>(first(gradient[at.x]), first(gradient[at.y]), first(gradient[at.z]), first(gradient[at.w]));
}

fn column_terms(column: u32) -> vec4<f32> {
    return vec4<f32>();
}

fn finish(row: u32, column: u32, sum: vec4<f32>, terms: vec4<f32>) {
    var values = sum;
    if parameters.add != 0u {
        values += gradient_quad(row, column);
    }
    let at = place(parameters.gradient, row, column);
    gradient[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(parameters.gradient, row, column);
        if within.y { gradient[at.y] = word(values.yyyy); }
        if within.z { gradient[at.z] = word(values.zzzz); }
        if within.w { gradient[at.w] = word(values.wwww); }
    }
}

// The two reductions: the decoder's contribution and the encoder's.
const REDUCTIONS: u32 = 2u;
const DECODER: u32 = 0u;

const LEFT_ACROSS: bool = false;
const RIGHT_ACROSS: bool = false;

struct Line {
    decoder: vec4<u32>,
    encoder: vec4<u32>,
}

fn depth_of(which: u32) -> u32 {
    return select(parameters.code_delta.rows, parameters.code.rows, which == DECODER);
}

fn left_line(row: u32) -> Line {
    return Line(along_line(parameters.code, row), along_line(parameters.code_delta, row));
}

fn right_line(column: u32) -> Line {
    return Line(along_line(parameters.output_delta, column), along_line(parameters.input, column));
}

// Four samples of Hᵀ, or of dZᵀ.
fn left_quads(line: Line, k: u32, which: u32) -> Block {
    if which == DECODER {
        let step = along_step(parameters.code, k);
        return Block(
            code_at(line.decoder + step.x),
            code_at(line.decoder + step.y),
            code_at(line.decoder + step.z),
            code_at(line.decoder + step.w),
        );
    }
    let step = along_step(parameters.code_delta, k);
    return Block(
        code_delta_at(line.encoder + step.x),
        code_delta_at(line.encoder + step.y),
        code_delta_at(line.encoder + step.z),
        code_delta_at(line.encoder + step.w),
    );
}

fn left_block(quads: Block, k: u32, which: u32) -> Block {
    return unturned(quads, k, depth_of(which));
}

// Four samples of dA, or of X.
fn right_quads(line: Line, k: u32, which: u32) -> Block {
    if which == DECODER {
        let step = along_step(parameters.output_delta, k);
        return Block(
            output_delta_at(line.decoder + step.x),
            output_delta_at(line.decoder + step.y),
            output_delta_at(line.decoder + step.z),
            output_delta_at(line.decoder + step.w),
        );
    }
    let step = along_step(parameters.input, k);
    return Block(
        input_at(line.encoder + step.x),
        input_at(line.encoder + step.y),
        input_at(line.encoder + step.z),
        input_at(line.encoder + step.w),
    );
}

fn right_block(quads: Block, k: u32, which: u32) -> Block {
    return unturned(quads, k, depth_of(which));
}

fn close(invocation: u32) {}

@compute @workgroup_size(INVOCATIONS)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    multiply(group, local);
}
