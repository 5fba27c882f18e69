// sum.wgsl — the last pass of a loss: its partial sums, added up and scaled.
//
//   total = scale·Σ_i partials[i]
//
// One workgroup of 256 invocations: invocation `local` adds partials local, local+256, … in order,
// eight to an iteration, then a tree of fixed shape in workgroup memory. With no partial sums the
// total is zero.
//
// Both are one row of plain f32 values, whatever the width: their offsets count f32.
//
// Needs scalar.wgsl or vector.wgsl and matrix.wgsl before it.
// Tests: sum.rs, squared_error.rs, cross_entropy.rs.

struct Parameters {
    partials: View,
    total: View,
    scale: f32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> total: array<f32>;

var<workgroup> partial: array<f32, 256>;

fn partial_at(index: u32) -> f32 {
    let count = parameters.partials.columns;
    let value = partials[parameters.partials.offset + min(index, count - 1u)];
    return select(0.0, value, index < count);
}

@compute @workgroup_size(256)
fn sum(@builtin(local_invocation_index) local: u32) {
    var value = 0.0;
    for (var index = local; index < parameters.partials.columns; index += 2048u) {
        value += partial_at(index);
        value += partial_at(index + 256u);
        value += partial_at(index + 512u);
        value += partial_at(index + 768u);
        value += partial_at(index + 1024u);
        value += partial_at(index + 1280u);
        value += partial_at(index + 1536u);
        value += partial_at(index + 1792u);
    }
    partial[local] = value;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if local < half {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    if local == 0u {
        total[parameters.total.offset] = parameters.scale * partial[0];
    }
}
