// backward.wgsl — the gradient of the tied weight, both contributions at once.
//
//   gradient[h][i] (+)= Σ_b code[b][h]·output_delta[b][i]      the decoder's, Hᵀ·dA
//                     + Σ_b code_delta[b][h]·input[b][i]       the encoder's, dZᵀ·X
//
// One output tile, two reductions into the same sums, one store: the decoder's contribution first,
// then the encoder's, then (where `add` is not 0) what the gradient held before. A contribution
// that is not asked for has views of no rows, so that the loop skips it.
//
// All four operands are row-major with the batch, which is the reduction, in rows: they are
// contiguous along the output's rows or columns, so all are staged along. One workgroup of 64
// invocations a 64×64 tile of the gradient [hidden, inputs]; see tile.wgsl.
//
// Needs scalar.wgsl or vector.wgsl, matrix.wgsl and tile.wgsl before it.
// Tests: backward.rs, layer.rs, known_answers.rs.

struct Parameters {
    code: View,
    output_delta: View,
    code_delta: View,
    input: View,
    gradient: View,
    add: u32,
    groups_wide: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> code: array<Word>;
@group(0) @binding(2) var<storage, read> output_delta: array<Word>;
@group(0) @binding(3) var<storage, read> code_delta: array<Word>;
@group(0) @binding(4) var<storage, read> input: array<Word>;
@group(0) @binding(5) var<storage, read_write> gradient: array<Word>;

fn code_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.code, row, column);
    if WIDTH == 4u {
        return kept(parameters.code, row, column, quad(code[at.x]));
    }
    let values = vec4<f32>(first(code[at.x]), first(code[at.y]), first(code[at.z]), first(code[at.w]));
    return kept(parameters.code, row, column, values);
}

fn output_delta_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.output_delta, row, column);
    if WIDTH == 4u {
        return kept(parameters.output_delta, row, column, quad(output_delta[at.x]));
    }
    let values = vec4<f32>(
        first(output_delta[at.x]),
        first(output_delta[at.y]),
        first(output_delta[at.z]),
        first(output_delta[at.w]),
    );
    return kept(parameters.output_delta, row, column, values);
}

fn code_delta_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.code_delta, row, column);
    if WIDTH == 4u {
        return kept(parameters.code_delta, row, column, quad(code_delta[at.x]));
    }
    let values = vec4<f32>(
        first(code_delta[at.x]),
        first(code_delta[at.y]),
        first(code_delta[at.z]),
        first(code_delta[at.w]),
    );
    return kept(parameters.code_delta, row, column, values);
}

fn input_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.input, row, column);
    if WIDTH == 4u {
        return kept(parameters.input, row, column, quad(input[at.x]));
    }
    let values = vec4<f32>(first(input[at.x]), first(input[at.y]), first(input[at.z]), first(input[at.w]));
    return kept(parameters.input, row, column, values);
}

fn gradient_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.gradient, row, column);
    if WIDTH == 4u {
        return quad(gradient[at.x]);
    }
    return vec4<f32>(first(gradient[at.x]), first(gradient[at.y]), first(gradient[at.z]), first(gradient[at.w]));
}

fn finish(row: u32, column: u32, sum: vec4<f32>) {
    if row >= parameters.gradient.rows || column >= parameters.gradient.columns {
        return;
    }
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

// Four samples of Hᵀ and of dA, from sample `b` on.
fn stage_decoder(local: u32, row: u32, column: u32, b: u32) {
    stage_along(
        LEFT,
        local,
        code_quad(b, row),
        code_quad(b + 1u, row),
        code_quad(b + 2u, row),
        code_quad(b + 3u, row),
    );
    stage_along(
        RIGHT,
        local,
        output_delta_quad(b, column),
        output_delta_quad(b + 1u, column),
        output_delta_quad(b + 2u, column),
        output_delta_quad(b + 3u, column),
    );
}

// Four samples of dZᵀ and of X, from sample `b` on.
fn stage_encoder(local: u32, row: u32, column: u32, b: u32) {
    stage_along(
        LEFT,
        local,
        code_delta_quad(b, row),
        code_delta_quad(b + 1u, row),
        code_delta_quad(b + 2u, row),
        code_delta_quad(b + 3u, row),
    );
    stage_along(
        RIGHT,
        local,
        input_quad(b, column),
        input_quad(b + 1u, column),
        input_quad(b + 2u, column),
        input_quad(b + 3u, column),
    );
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let corner = tile_corner(group, parameters.groups_wide, parameters.gradient.columns);
    if corner.x >= parameters.gradient.rows {
        return;
    }
    let row = corner.x + along_line(local);
    let column = corner.y + along_line(local);
    // One loop for both contributions, so that the product is compiled once.
    let decoder_batch = parameters.code.rows;
    let decoder_end = (decoder_batch + DEPTH - 1u) / DEPTH * DEPTH;
    for (var k = 0u; k < decoder_end + parameters.code_delta.rows; k += STEP) {
        if k % DEPTH == 0u {
            workgroupBarrier();
            if k < decoder_end {
                stage_decoder(local, row, column, k + along_depth(local));
            } else {
                stage_encoder(local, row, column, k - decoder_end + along_depth(local));
            }
            workgroupBarrier();
        }
        multiply(local, k);
    }
    finish_tile(corner, local);
}
