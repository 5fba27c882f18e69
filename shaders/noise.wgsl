// noise.wgsl — a noisy copy of a matrix, for denoising autoencoders.
//
//   KIND MASKING    output[r][c] = 0 where n < threshold, input[r][c] elsewhere
//   KIND GAUSSIAN   output[r][c] = input[r][c] + deviation·z
//
// The quad of columns q to q + 3 in row r takes the four words of one Philox 4x32-10 block, whose key
// is the seed and whose counter is (r·⌈columns/4⌉ + q/4, 0, step, 0): noise depends on seed, step and
// place alone, not on how the matrix lies in memory. n is a word's upper 24 bits. z is normally
// distributed by the method of Box and Muller, two from two words:
//
//   u = (n₀ + 1)/2²⁴ in (0, 1]     a = 2π·(n₁/2²⁴ − ½) in [−π, π)     z = √(−2·ln u)·(cos a, sin a)
//
// ln u is never of zero, and the root's argument never below zero even where ln is inexact; z is at
// most √(48·ln 2) = 5.77 in size. sin and cos are within WebGPU's bounds only on [−π, π].
//
// The step lives on the GPU, so that recorded commands make new noise each time they run: as in
// adam.wgsl, each workgroup keeps its own copy, which its first invocation alone reads and raises.
// All workgroups of the state are dispatched each time, those behind the end of a smaller matrix to
// count: matrices of several sizes can share one state.
//
// A workgroup of 256 takes a run of 256 quads, counted row by row, an invocation one. Input and output may
// each be f16 or bf16 (mixed.wgsl): the noise is the same, added in f32, and the result is rounded once.
//
// Sources: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), for
// Philox; Box and Muller, "A note on the generation of random normal deviates" (Annals of Mathematical
// Statistics 29, 1958); masking noise: Vincent et al., "Extracting and composing robust features with
// denoising autoencoders" (ICML 2008).
// Needs a width's files and matrix.wgsl before it.
// Tests: noise.rs, elements.rs, autoencoder.rs.

const MASKING: u32 = 0u;
const GAUSSIAN: u32 = 1u;

// One of the two above.
override KIND: u32 = 0u;

// The elements of each matrix: F32, F16 or BF16.
override INPUT_ELEMENT: u32 = 0u;
override OUTPUT_ELEMENT: u32 = 0u;

struct Parameters {
    input: View,
    output: View,
    seed_low: u32,
    seed_high: u32,
    threshold: u32,
    deviation: f32,
    groups: u32,
    groups_wide: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> input: array<Word>;
@group(0) @binding(2) var<storage, read_write> output: array<Word>;
@group(0) @binding(3) var<storage, read_write> state: array<u32>;

// 1/2²⁴ and 2π.
const UNIT: f32 = 5.9604645e-8;
const TURN: f32 = 6.2831853;

var<workgroup> current_step: u32;

// The upper and the lower half of a product.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let left = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let right = (a & 0xffffu) * (b >> 16u) + (left & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (left >> 16u) + (right >> 16u);
    return vec2<u32>(high, a * b);
}

fn philox(start: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var counter = start;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let first_product = wide_product(0xd2511f53u, counter.x);
        let second_product = wide_product(0xcd9e8d57u, counter.z);
        counter = vec4<u32>(
            second_product.x ^ counter.y ^ key.x,
            second_product.y,
            first_product.x ^ counter.w ^ key.y,
            first_product.y,
        );
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter;
}

// Two normally distributed values.
fn normal_pair(n: vec2<u32>) -> vec2<f32> {
    let radius = sqrt(max(-2.0 * log(f32(n.x + 1u) * UNIT), 0.0));
    let angle = TURN * (f32(n.y) * UNIT - 0.5);
    return radius * vec2<f32>(cos(angle), sin(angle));
}

fn input_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.input, row, column);
    if WIDTH == 4u {
        return quad(input[at.x]);
    }
    if INPUT_ELEMENT != F32 {
        return unpacked(input[at.x / 2u], input[at.z / 2u], INPUT_ELEMENT);
    }
    return vec4<f32>(first(input[at.x]), first(input[at.y]), first(input[at.z]), first(input[at.w]));
}

@compute @workgroup_size(256)
fn noise(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.y * parameters.groups_wide + id.x;
    if group >= parameters.groups {
        return;
    }
    if local == 0u {
        current_step = state[group];
        state[group] = current_step + 1u;
    }
    workgroupBarrier();
    let quads_wide = (parameters.output.columns + 3u) / 4u;
    if quads_wide == 0u {
        return;
    }
    let index = group * 256u + local;
    let row = index / quads_wide;
    let column = index % quads_wide * 4u;
    if row >= parameters.output.rows {
        return;
    }
    let seed = vec2<u32>(parameters.seed_low, parameters.seed_high);
    let n = philox(vec4<u32>(index, 0u, current_step, 0u), seed) >> vec4<u32>(8u);
    var values = input_quad(row, column);
    if KIND == MASKING {
        values = select(values, vec4<f32>(), n < vec4<u32>(parameters.threshold));
    } else {
        values += parameters.deviation * vec4<f32>(normal_pair(n.xy), normal_pair(n.zw));
    }
    let at = place(parameters.output, row, column);
    if OUTPUT_ELEMENT != F32 {
        let within = inside(parameters.output, row, column);
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
        let within = inside(parameters.output, row, column);
        if within.y { output[at.y] = word(values.yyyy); }
        if within.z { output[at.z] = word(values.zzzz); }
        if within.w { output[at.w] = word(values.wwww); }
    }
}
