// column_sums.wgsl — the sums at the end of a backward pass: both biases' gradients and the loss.
//
//   encoder_gradient[c] (+)= Σ_b encoder_delta[b][c]
//   decoder_gradient[c] (+)= Σ_b decoder_delta[b][c]
//   total = scale·Σ_i partials[i]
//   weight_gradient[h][i] (+)= Σ_p parts[p][h][i]      of a split reduction (combine.wgsl)
//
// The four have nothing to do with each other but that they fit in one dispatch. Each is optional:
// one that is not asked for has no workgroups. The first workgroup sums the partials, as it may take
// longest; those from `first_of_encoder` and `first_of_decoder` on take 64 columns of a delta each,
// those from `first_of_weight` on 256 quads of the weight's gradient each, and those from `groups` on
// nothing.
//
// In a workgroup of 256, invocation `local` adds the quad local%16 of every sixteenth row from
// local/16 on, four rows to an iteration. The partials are one row, cut into rows of 64: quad
// 16·row + local%16, with zeros behind the last value. So there are sixteen sums a column, which are
// added in a tree of fixed shape in workgroup memory by one invocation a column; for the total, the
// columns' 64 sums in the same way by four, and these four by one. No partials: zero.
//
// Mesa's software driver up to 22.3 silently leaves a shader's loops after 65,535 iterations in all;
// it enters the other parts' loops once. That is reached at some four million rows or 268 million
// partials, and the library refuses more there.
//
// The biases' gradients and the total are plain f32 values, whatever the width: their offsets count f32.
// The two deltas and the weight's gradient may each be f16 or bf16 (mixed.wgsl); every sum is f32.
//
// Technique: a tree instead of a running sum as in Higham, "The accuracy of floating point
// summation" (SIAM J. Sci. Comput. 14, 1993).
// Needs a width's files and matrix.wgsl before it.
// Tests: column_sums.rs, elements.rs, backward.rs, layer.rs, squared_error.rs, cross_entropy.rs.

// The elements of each matrix: F32, F16 or BF16.
override ENCODER_DELTA_ELEMENT: u32 = 0u;
override DECODER_DELTA_ELEMENT: u32 = 0u;
override WEIGHT_GRADIENT_ELEMENT: u32 = 0u;

struct Parameters {
    encoder_delta: View,
    encoder_gradient: View,
    decoder_delta: View,
    decoder_gradient: View,
    partials: View,
    total: View,
    encoder_add: u32,
    decoder_add: u32,
    first_of_encoder: u32,
    first_of_decoder: u32,
    first_of_weight: u32,
    groups: u32,
    groups_wide: u32,
    scale: f32,
    weight_gradient: View,
    weight_add: u32,
    parts: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> encoder_delta: array<Word>;
@group(0) @binding(2) var<storage, read_write> encoder_gradient: array<f32>;
@group(0) @binding(3) var<storage, read> decoder_delta: array<Word>;
@group(0) @binding(4) var<storage, read_write> decoder_gradient: array<f32>;
@group(0) @binding(5) var<storage, read> partials: array<Word>;
@group(0) @binding(6) var<storage, read_write> total: array<f32>;
@group(0) @binding(7) var<storage, read> weight_parts: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> weight_gradient: array<Word>;

// Sixteen rows of 64 columns.
var<workgroup> sums: array<f32, 1024>;

fn encoder_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.encoder_delta, row, column);
    if WIDTH == 4u {
        return kept(parameters.encoder_delta, row, column, quad(encoder_delta[at.x]));
    }
    if ENCODER_DELTA_ELEMENT != F32 {
        let values = unpacked(encoder_delta[at.x / 2u], encoder_delta[at.z / 2u], ENCODER_DELTA_ELEMENT);
        return kept(parameters.encoder_delta, row, column, values);
    }
    let values = vec4<f32>(
        first(encoder_delta[at.x]),
        first(encoder_delta[at.y]),
        first(encoder_delta[at.z]),
        first(encoder_delta[at.w]),
    );
    return kept(parameters.encoder_delta, row, column, values);
}

fn decoder_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.decoder_delta, row, column);
    if WIDTH == 4u {
        return kept(parameters.decoder_delta, row, column, quad(decoder_delta[at.x]));
    }
    if DECODER_DELTA_ELEMENT != F32 {
        let values = unpacked(decoder_delta[at.x / 2u], decoder_delta[at.z / 2u], DECODER_DELTA_ELEMENT);
        return kept(parameters.decoder_delta, row, column, values);
    }
    let values = vec4<f32>(
        first(decoder_delta[at.x]),
        first(decoder_delta[at.y]),
        first(decoder_delta[at.z]),
        first(decoder_delta[at.w]),
    );
    return kept(parameters.decoder_delta, row, column, values);
}

fn partials_quad(index: u32) -> vec4<f32> {
    let at = place(parameters.partials, 0u, 4u * index);
    if WIDTH == 4u {
        return kept(parameters.partials, 0u, 4u * index, quad(partials[at.x]));
    }
    let values = vec4<f32>(
        first(partials[at.x]),
        first(partials[at.y]),
        first(partials[at.z]),
        first(partials[at.w]),
    );
    return kept(parameters.partials, 0u, 4u * index, values);
}

fn store_encoder(column: u32, value: f32) {
    if column >= parameters.encoder_gradient.columns {
        return;
    }
    let at = parameters.encoder_gradient.offset + column;
    var gradient = value;
    if parameters.encoder_add != 0u {
        gradient += encoder_gradient[at];
    }
    encoder_gradient[at] = gradient;
}

fn store_decoder(column: u32, value: f32) {
    if column >= parameters.decoder_gradient.columns {
        return;
    }
    let at = parameters.decoder_gradient.offset + column;
    var gradient = value;
    if parameters.decoder_add != 0u {
        gradient += decoder_gradient[at];
    }
    decoder_gradient[at] = gradient;
}

fn weight_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.weight_gradient, row, column);
    if WIDTH == 4u {
        return quad(weight_gradient[at.x]);
    }
    if WEIGHT_GRADIENT_ELEMENT != F32 {
        return unpacked(weight_gradient[at.x / 2u], weight_gradient[at.z / 2u], WEIGHT_GRADIENT_ELEMENT);
    }
    return vec4<f32>(
        first(weight_gradient[at.x]),
        first(weight_gradient[at.y]),
        first(weight_gradient[at.z]),
        first(weight_gradient[at.w]),
    );
}

fn store_weight(row: u32, column: u32, values: vec4<f32>) {
    let at = place(parameters.weight_gradient, row, column);
    if WEIGHT_GRADIENT_ELEMENT != F32 {
        let within = inside(parameters.weight_gradient, row, column);
        var pair = packed(values, WEIGHT_GRADIENT_ELEMENT);
        if !within.w {
            pair = ended(pair, weight_gradient[at.w / 2u], within);
        }
        weight_gradient[at.x / 2u] = pair.low;
        weight_gradient[at.z / 2u] = pair.high;
        return;
    }
    weight_gradient[at.x] = word(values);
    if WIDTH == 1u {
        let within = inside(parameters.weight_gradient, row, column);
        if within.y { weight_gradient[at.y] = word(values.yyyy); }
        if within.z { weight_gradient[at.z] = word(values.zzzz); }
        if within.w { weight_gradient[at.w] = word(values.wwww); }
    }
}

// One quad of the weight's gradient, the parts in order.
fn add_parts(index: u32) {
    let view = parameters.weight_gradient;
    let quads_wide = (view.columns + 3u) / 4u;
    let row = index / quads_wide;
    let column = index % quads_wide * 4u;
    if row >= view.rows {
        return;
    }
    var sum = vec4<f32>();
    for (var part = 0u; part < parameters.parts; part++) {
        sum += weight_parts[part * view.rows * quads_wide + index];
    }
    if parameters.weight_add != 0u {
        sum += weight_quad(row, column);
    }
    store_weight(row, column, sum);
}

// Four of the sums from `at` on, at intervals of 4·stride.
fn four(at: u32, stride: u32) -> f32 {
    return (sums[at] + sums[at + 8u * stride]) + (sums[at + 4u * stride] + sums[at + 12u * stride]);
}

// Sixteen of the sums from `at` on, at intervals of `stride`.
fn sixteen(at: u32, stride: u32) -> f32 {
    let even = four(at, stride) + four(at + 2u * stride, stride);
    let odd = four(at + stride, stride) + four(at + 3u * stride, stride);
    return even + odd;
}

@compute @workgroup_size(256)
fn column_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = group.y * parameters.groups_wide + group.x;
    if index >= parameters.groups {
        return;
    }
    if index >= parameters.first_of_weight {
        add_parts((index - parameters.first_of_weight) * 256u + local);
        return;
    }
    let of_total = index < parameters.first_of_encoder;
    let of_encoder = index < parameters.first_of_decoder;
    let start = select(parameters.first_of_decoder, parameters.first_of_encoder, of_encoder);
    let column = (index - start) * 64u + local % 16u * 4u;
    var sum = vec4<f32>();
    if of_total {
        let quads = (parameters.partials.columns + 3u) / 4u;
        for (var at = local; at < quads; at += 1024u) {
            sum += partials_quad(at);
            sum += partials_quad(at + 256u);
            sum += partials_quad(at + 512u);
            sum += partials_quad(at + 768u);
        }
    } else if of_encoder {
        for (var row = local / 16u; row < parameters.encoder_delta.rows; row += 64u) {
            sum += encoder_quad(row, column);
            sum += encoder_quad(row + 16u, column);
            sum += encoder_quad(row + 32u, column);
            sum += encoder_quad(row + 48u, column);
        }
    } else {
        for (var row = local / 16u; row < parameters.decoder_delta.rows; row += 64u) {
            sum += decoder_quad(row, column);
            sum += decoder_quad(row + 16u, column);
            sum += decoder_quad(row + 32u, column);
            sum += decoder_quad(row + 48u, column);
        }
    }
    sums[4u * local] = sum.x;
    sums[4u * local + 1u] = sum.y;
    sums[4u * local + 2u] = sum.z;
    sums[4u * local + 3u] = sum.w;

    // An invocation overwrites one of the sixteen that it alone has read.
    let fewest = select(64u, 4u, of_total);
    for (var left = 64u; left >= fewest; left /= 16u) {
        workgroupBarrier();
        if local < left {
            sums[local] = sixteen(local, left);
        }
    }
    if of_total {
        workgroupBarrier();
        if local == 0u {
            let all = (sums[0] + sums[2]) + (sums[1] + sums[3]);
            total[parameters.total.offset] = parameters.scale * all;
        }
    } else if local < 64u {
        let own_column = (index - start) * 64u + local;
        if of_encoder {
            store_encoder(own_column, sums[local]);
        } else {
            store_decoder(own_column, sums[local]);
        }
    }
}
