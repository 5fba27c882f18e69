// linear.wgsl — put in front: what the two directions of a tied layer share, all but the access to
// the weight.
//
//   EPILOGUE ACTIVATE   output = f(sum + bias), and sum + bias itself where `preactivation` is given
//   EPILOGUE SLOPE      output = (sum + extra)·f′(saved)
//
// The first is the forward pass. The second turns the same product into a gradient: with
// encode.wgsl, dZ = (dA·Wᵀ + extra) ⊙ f′; with decode.wgsl and no activation, dX = dZ·W.
//
// Bindings: group 0 holds the weight alone, so that one bind group serves encode and decode;
// group 1 the rest. Matrices are row-major: input [batch, depth], output, saved, extra and
// preactivation [batch, columns], bias [columns]. Absent operands are bound to a spare buffer and
// have a view of no rows.
//
// Needs scalar.wgsl or vector.wgsl, matrix.wgsl, activation.wgsl and tile.wgsl before it.
// Tests: encode.rs, decode.rs.

const ACTIVATE: u32 = 0u;
const SLOPE: u32 = 1u;

// One of the two above.
override EPILOGUE: u32 = 0u;

struct Parameters {
    weight: View,
    input: View,
    bias: View,
    saved: View,
    extra: View,
    output: View,
    preactivation: View,
    groups_wide: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<storage, read> weight: array<Word>;
@group(1) @binding(0) var<uniform> parameters: Parameters;
@group(1) @binding(1) var<storage, read> input: array<Word>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read> saved: array<Word>;
@group(1) @binding(4) var<storage, read> extra: array<Word>;
@group(1) @binding(5) var<storage, read_write> output: array<Word>;
@group(1) @binding(6) var<storage, read_write> preactivation: array<Word>;

fn weight_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.weight, row, column);
    if WIDTH == 4u {
        return kept(parameters.weight, row, column, quad(weight[at.x]));
    }
    let values = vec4<f32>(first(weight[at.x]), first(weight[at.y]), first(weight[at.z]), first(weight[at.w]));
    return kept(parameters.weight, row, column, values);
}

fn input_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.input, row, column);
    if WIDTH == 4u {
        return kept(parameters.input, row, column, quad(input[at.x]));
    }
    let values = vec4<f32>(first(input[at.x]), first(input[at.y]), first(input[at.z]), first(input[at.w]));
    return kept(parameters.input, row, column, values);
}

fn saved_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.saved, row, column);
    if WIDTH == 4u {
        return quad(saved[at.x]);
    }
    return vec4<f32>(first(saved[at.x]), first(saved[at.y]), first(saved[at.z]), first(saved[at.w]));
}

fn extra_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.extra, row, column);
    if WIDTH == 4u {
        return quad(extra[at.x]);
    }
    return vec4<f32>(first(extra[at.x]), first(extra[at.y]), first(extra[at.z]), first(extra[at.w]));
}

// The bias is one row of plain f32 values, whatever the width: its offset counts f32.
fn bias_quad(column: u32) -> vec4<f32> {
    let last = parameters.bias.columns - 1u;
    let at = parameters.bias.offset + min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    return vec4<f32>(bias[at.x], bias[at.y], bias[at.z], bias[at.w]);
}

fn store_output(row: u32, column: u32, values: vec4<f32>) {
    let at = place(parameters.output, row, column);
    output[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(parameters.output, row, column);
        if within.y { output[at.y] = word(values.yyyy); }
        if within.z { output[at.z] = word(values.zzzz); }
        if within.w { output[at.w] = word(values.wwww); }
    }
}

fn store_preactivation(row: u32, column: u32, values: vec4<f32>) {
    let at = place(parameters.preactivation, row, column);
    preactivation[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(parameters.preactivation, row, column);
        if within.y { preactivation[at.y] = word(values.yyyy); }
        if within.z { preactivation[at.z] = word(values.zzzz); }
        if within.w { preactivation[at.w] = word(values.wwww); }
    }
}

fn stage_input(local: u32, row: u32, k: u32) {
    let line = row + across_line(local);
    let depth = k + across_depth(local);
    stage_across(
        LEFT,
        local,
        input_quad(line, depth),
        input_quad(line + 1u, depth),
        input_quad(line + 2u, depth),
        input_quad(line + 3u, depth),
    );
}

fn finish(row: u32, column: u32, sum: vec4<f32>) {
    if row >= parameters.output.rows || column >= parameters.output.columns {
        return;
    }
    var z = sum;
    if EPILOGUE == SLOPE {
        if present(parameters.extra) {
            z += extra_quad(row, column);
        }
        if ACTIVATION != IDENTITY {
            z *= slope(saved_quad(row, column));
        }
        store_output(row, column, z);
    } else {
        if present(parameters.bias) {
            z += bias_quad(column);
        }
        if present(parameters.preactivation) {
            store_preactivation(row, column, z);
        }
        store_output(row, column, activate(z));
    }
}
