// weight_gradient.wgsl — put in front: the operands of the tied weight's gradient, for every kernel that
// does something with it.
//
//   sum[h][i] = Σ_b code[b][h]·output_delta[b][i]      the decoder's contribution, Hᵀ·dA
//             + Σ_b code_delta[b][h]·input[b][i]       the encoder's, dZᵀ·X
//
// Two reductions into the same sums, one after the other. A contribution that is not asked for has
// views of no rows.
//
// All four operands are row-major with the batch, which is the reduction, in rows: contiguous along
// the rows or columns of the gradient [hidden, inputs], so that no block is turned.
//
// Needs product.wgsl, and a kernel's file with the bindings of the four.
// Tests: backward.rs, backward_sgd.rs, backward_adam.rs, layer.rs, known_answers.rs.

// The elements of each matrix: F32, F16 or BF16.
override CODE_ELEMENT: u32 = 0u;
override OUTPUT_DELTA_ELEMENT: u32 = 0u;
override CODE_DELTA_ELEMENT: u32 = 0u;
override INPUT_ELEMENT: u32 = 0u;

// The quad whose words lie at `at`; with 16-byte words all four are the same one.
fn code_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(code[at.x]);
    }
    if CODE_ELEMENT != F32 {
        return unpacked(code[at.x / 2u], code[at.z / 2u], CODE_ELEMENT);
    }
    return vec4<f32>(first(code[at.x]), first(code[at.y]), first(code[at.z]), first(code[at.w]));
}

fn output_delta_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(output_delta[at.x]);
    }
    if OUTPUT_DELTA_ELEMENT != F32 {
        return unpacked(output_delta[at.x / 2u], output_delta[at.z / 2u], OUTPUT_DELTA_ELEMENT);
    }
    return vec4<f32>(first(output_delta[at.x]), first(output_delta[at.y]), first(output_delta[at.z]), first(output_delta[at.w]));
}

fn code_delta_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(code_delta[at.x]);
    }
    if CODE_DELTA_ELEMENT != F32 {
        return unpacked(code_delta[at.x / 2u], code_delta[at.z / 2u], CODE_DELTA_ELEMENT);
    }
    return vec4<f32>(first(code_delta[at.x]), first(code_delta[at.y]), first(code_delta[at.z]), first(code_delta[at.w]));
}

fn input_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(input[at.x]);
    }
    if INPUT_ELEMENT != F32 {
        return unpacked(input[at.x / 2u], input[at.z / 2u], INPUT_ELEMENT);
    }
    return vec4<f32>(first(input[at.x]), first(input[at.y]), first(input[at.z]), first(input[at.w]));
}

// The two reductions: the decoder's contribution and the encoder's.
const REDUCTIONS: u32 = 2u;
const DECODER: u32 = 0u;

const LEFT_ACROSS: bool = false;
const RIGHT_ACROSS: bool = false;
const DEPTH_IN_FOURS: bool = false;

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
fn left_quads(line: Line, k: u32, which: u32, order: u32) -> Block {
    if which == DECODER {
        let step = along_step(parameters.code, k, order);
        return Block(
            code_at(line.decoder + step.x),
            code_at(line.decoder + step.y),
            code_at(line.decoder + step.z),
            code_at(line.decoder + step.w),
        );
    }
    let step = along_step(parameters.code_delta, k, order);
    return Block(
        code_delta_at(line.encoder + step.x),
        code_delta_at(line.encoder + step.y),
        code_delta_at(line.encoder + step.z),
        code_delta_at(line.encoder + step.w),
    );
}

fn left_block(quads: Block, k: u32, which: u32, order: u32) -> Block {
    return unturned(quads, k, depth_of(which), order);
}

// Four samples of dA, or of X.
fn right_quads(line: Line, k: u32, which: u32, order: u32) -> Block {
    if which == DECODER {
        let step = along_step(parameters.output_delta, k, order);
        return Block(
            output_delta_at(line.decoder + step.x),
            output_delta_at(line.decoder + step.y),
            output_delta_at(line.decoder + step.z),
            output_delta_at(line.decoder + step.w),
        );
    }
    let step = along_step(parameters.input, k, order);
    return Block(
        input_at(line.encoder + step.x),
        input_at(line.encoder + step.y),
        input_at(line.encoder + step.z),
        input_at(line.encoder + step.w),
    );
}

fn right_block(quads: Block, k: u32, which: u32, order: u32) -> Block {
    return unturned(quads, k, depth_of(which), order);
}

fn close(invocation: u32) {}
