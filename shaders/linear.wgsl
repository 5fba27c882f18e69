// linear.wgsl — put in front: what the two directions of a tied layer share, all but the access to
// the weight.
//
//   EPILOGUE ACTIVATE   output = f(sum + bias), and sum + bias itself where `preactivation` is given
//   EPILOGUE SLOPE      output = (sum + extra)·f′(saved)
//   EPILOGUE SQUARED_ERROR, CROSS_ENTROPY
//                       y = f(sum + bias); output = scale·ℓ′(y, extra)·f′, and the values ℓ(y, extra)
//                       that an invocation comes by, added up, in scratch[losses + invocation]. `scale` is
//                       the reduction's times the loss's (scale.wgsl)
//
// The first is the forward pass. The second turns the same product into a gradient: with
// encode.wgsl, dZ = (dA·Wᵀ + extra) ⊙ f′; with decode.wgsl and no activation, dX = dZ·W. The others
// are the forward pass of a training step, where nobody needs y but the loss (loss.wgsl): `extra` is
// the target, and the output is dA.
//
// Bindings: group 0 holds the weight alone, so that one bind group serves encode and decode;
// group 1 the rest. Matrices are row-major: input [batch, depth], output, saved, extra and
// preactivation [batch, columns], bias [columns]. Absent operands are bound to a spare buffer and
// have a view of no rows. The bias is f32; each of the others may be f16 or bf16 (mixed.wgsl), and every
// sum is f32.
//
// Needs a width's files, matrix.wgsl, activation.wgsl, loss.wgsl, scale.wgsl,
// product.wgsl and a strategy's files before it.
// Tests: encode.rs, decode.rs, training.rs.

const ACTIVATE: u32 = 0u;
const SLOPE: u32 = 1u;
const SQUARED_ERROR: u32 = 2u;
const CROSS_ENTROPY: u32 = 3u;

// One of the four above.
override EPILOGUE: u32 = 0u;

// Whether the epilogue's optional matrix is given: `preactivation` of ACTIVATE, `extra` of SLOPE.
override GIVEN: u32 = 0u;

// The elements of each matrix: F32, F16 or BF16.
override WEIGHT_ELEMENT: u32 = 0u;
override INPUT_ELEMENT: u32 = 0u;
override SAVED_ELEMENT: u32 = 0u;
override EXTRA_ELEMENT: u32 = 0u;
override OUTPUT_ELEMENT: u32 = 0u;
override PREACTIVATION_ELEMENT: u32 = 0u;

struct Parameters {
    weight: View,
    input: View,
    bias: View,
    saved: View,
    extra: View,
    output: View,
    preactivation: View,
    product: Product,
    scale: f32,
    losses: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<storage, read> weight: array<Word>;
@group(1) @binding(0) var<uniform> parameters: Parameters;
@group(1) @binding(1) var<storage, read> input: array<Word>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read> saved: array<Word>;
@group(1) @binding(4) var<storage, read> extra: array<Word>;
@group(1) @binding(5) var<storage, read_write> output: array<Word>;
@group(1) @binding(6) var<storage, read_write> preactivation: array<Word>;
@group(1) @binding(7) var<storage, read_write> scratch: array<vec4<f32>>;
@group(1) @binding(8) var<uniform> loss_scale: Scale;

// The quad whose words lie at `at`; with 16-byte words all four are the same one.
fn weight_at(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(weight[at.x]);
    }
    if WEIGHT_ELEMENT != F32 {
        return unpacked(weight[at.x / 2u], weight[at.z / 2u], WEIGHT_ELEMENT);
    }
    return vec4<f32>(first(weight[at.x]), first(weight[at.y]), first(weight[at.z]), first(weight[at.w]));
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

fn saved_quad(view: View, row: u32, column: u32) -> vec4<f32> {
    let at = place(view, row, column);
    if WIDTH == 4u {
        return quad(saved[at.x]);
    }
    if SAVED_ELEMENT != F32 {
        return unpacked(saved[at.x / 2u], saved[at.z / 2u], SAVED_ELEMENT);
    }
    return vec4<f32>(first(saved[at.x]), first(saved[at.y]), first(saved[at.z]), first(saved[at.w]));
}

fn extra_quad(view: View, row: u32, column: u32) -> vec4<f32> {
    let at = place(view, row, column);
    if WIDTH == 4u {
        return quad(extra[at.x]);
    }
    if EXTRA_ELEMENT != F32 {
        return unpacked(extra[at.x / 2u], extra[at.z / 2u], EXTRA_ELEMENT);
    }
    return vec4<f32>(first(extra[at.x]), first(extra[at.y]), first(extra[at.z]), first(extra[at.w]));
}

// The bias is one row of plain f32 values, whatever the width: its offset counts f32.
fn bias_quad(column: u32) -> vec4<f32> {
    if !present(parameters.bias) {
        return vec4<f32>();
    }
    let last = parameters.bias.columns - 1u;
    let at = parameters.bias.offset + min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
    return vec4<f32>(bias[at.x], bias[at.y], bias[at.z], bias[at.w]);
}

struct Terms {
    bias: vec4<f32>,
    output: View,
    saved: View,
    extra: View,
    preactivation: View,
    scale: f32,
}

fn terms_of(column: u32) -> Terms {
    return Terms(
        bias_quad(column),
        parameters.output,
        parameters.saved,
        parameters.extra,
        parameters.preactivation,
        parameters.scale,
    );
}

fn store_output(view: View, row: u32, column: u32, values: vec4<f32>) {
    let at = place(view, row, column);
    if OUTPUT_ELEMENT != F32 {
        let within = inside(view, row, column);
        var pair = packed(values, OUTPUT_ELEMENT);
        if !within.w {
            pair = ended(pair, output[at.w / 2u], within);
        }
        output[at.x / 2u] = pair.low;
        output[at.z / 2u] = pair.high;
        return;
    }
    output[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(view, row, column);
        if within.y { output[at.y] = word(values.yyyy); }
        if within.z { output[at.z] = word(values.zzzz); }
        if within.w { output[at.w] = word(values.wwww); }
    }
}

fn store_preactivation(view: View, row: u32, column: u32, values: vec4<f32>) {
    let at = place(view, row, column);
    if PREACTIVATION_ELEMENT != F32 {
        let within = inside(view, row, column);
        var pair = packed(values, PREACTIVATION_ELEMENT);
        if !within.w {
            pair = ended(pair, preactivation[at.w / 2u], within);
        }
        preactivation[at.x / 2u] = pair.low;
        preactivation[at.z / 2u] = pair.high;
        return;
    }
    preactivation[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(view, row, column);
        if within.y { preactivation[at.y] = word(values.yyyy); }
        if within.z { preactivation[at.z] = word(values.zzzz); }
        if within.w { preactivation[at.w] = word(values.wwww); }
    }
}

const REDUCTIONS: u32 = 1u;
const LEFT_ACROSS: bool = true;
// As all columns are where words are quads.
const DEPTH_IN_FOURS: bool = WIDTH == 4u;

struct Line {
    at: vec4<u32>,
}

fn depth_of(which: u32) -> u32 {
    return parameters.input.columns;
}

fn left_line(row: u32) -> Line {
    return Line(across_line(parameters.input, row));
}

fn left_quad(start: u32, k: u32) -> vec4<f32> {
    let values = input_at(vec4<u32>(start) + across_step(parameters.input, k));
    if !MAY_HANG_OVER {
        return values;
    }
    let end = vec4<u32>(parameters.input.columns);
    return select(vec4<f32>(), values, vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) < end);
}

fn left_quads(line: Line, k: u32, which: u32, order: u32) -> Block {
    let step = across_step(parameters.input, k);
    return Block(
        input_at(vec4<u32>(line.at.x) + step),
        input_at(vec4<u32>(line.at.y) + step),
        input_at(vec4<u32>(line.at.z) + step),
        input_at(vec4<u32>(line.at.w) + step),
    );
}

fn left_block(quads: Block, k: u32, which: u32, order: u32) -> Block {
    return turned(quads, k, parameters.input.columns);
}

// The invocation's part of the loss.
var<private> measured: vec4<f32>;

fn finish(row: u32, column: u32, sum: vec4<f32>, terms: Terms) {
    var z = sum;
    if EPILOGUE == SLOPE {
        if GIVEN == 1u {
            z += extra_quad(terms.extra, row, column);
        }
        if ACTIVATION != IDENTITY {
            z *= slope(saved_quad(terms.saved, row, column));
        }
        store_output(terms.output, row, column, z);
        return;
    }
    z += terms.bias;
    if GIVEN == 1u && EPILOGUE == ACTIVATE {
        store_preactivation(terms.preactivation, row, column, z);
    }
    let y = activate(z);
    if EPILOGUE == ACTIVATE {
        store_output(terms.output, row, column, y);
        return;
    }
    let wanted = extra_quad(terms.extra, row, column);
    var value: vec4<f32>;
    var delta: vec4<f32>;
    if EPILOGUE == SQUARED_ERROR {
        value = squared_error_value(y, wanted);
        delta = squared_error_slope(y, wanted);
    } else {
        value = cross_entropy_value(y, wanted);
        delta = cross_entropy_slope(y, wanted);
    }
    measured += kept(terms.output, row, column, value);
    let scale = terms.scale * loss_scale.scale;
    store_output(terms.output, row, column, scale * delta * slope(saved_by(z, y)));
}

fn close(invocation: u32) {
    if EPILOGUE == SQUARED_ERROR || EPILOGUE == CROSS_ENTROPY {
        if PASS == WHOLE {
            scratch[parameters.losses + invocation] = measured;
        }
    }
}
