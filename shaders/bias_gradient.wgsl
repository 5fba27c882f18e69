// bias_gradient.wgsl — the gradient of a bias: the sum of a delta over the batch.
//
//   gradient[c] (+)= Σ_b delta[b][c]
//
// A workgroup of 256 sums 64 columns: invocation `local` has the quad local%16 and every sixteenth
// row from local/16 on, eight rows to an iteration. Sixteen partial sums a column are then added in
// a tree of fixed shape, in workgroup memory.
//
// Needs scalar.wgsl or vector.wgsl and matrix.wgsl before it.
// Tests: bias_gradient.rs, layer.rs.

struct Parameters {
    delta: View,
    gradient: View,
    add: u32,
    groups_wide: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> delta: array<Word>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;

var<workgroup> partial: array<vec4<f32>, 256>;

fn delta_quad(row: u32, column: u32) -> vec4<f32> {
    let at = place(parameters.delta, row, column);
    if WIDTH == 4u {
        return kept(parameters.delta, row, column, quad(delta[at.x]));
    }
    let values = vec4<f32>(first(delta[at.x]), first(delta[at.y]), first(delta[at.z]), first(delta[at.w]));
    return kept(parameters.delta, row, column, values);
}

// The gradient is one row of plain f32 values, whatever the width: its offset counts f32.
fn store(column: u32, value: f32) {
    if column >= parameters.gradient.columns {
        return;
    }
    let at = parameters.gradient.offset + column;
    if parameters.add != 0u {
        gradient[at] += value;
    } else {
        gradient[at] = value;
    }
}

@compute @workgroup_size(256)
fn bias_gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let column = (group.y * parameters.groups_wide + group.x) * 64u + local % 16u * 4u;
    var sum = vec4<f32>();
    for (var row = local / 16u; row < parameters.delta.rows; row += 128u) {
        sum += delta_quad(row, column);
        sum += delta_quad(row + 16u, column);
        sum += delta_quad(row + 32u, column);
        sum += delta_quad(row + 48u, column);
        sum += delta_quad(row + 64u, column);
        sum += delta_quad(row + 80u, column);
        sum += delta_quad(row + 96u, column);
        sum += delta_quad(row + 112u, column);
    }
    partial[local] = sum;
    workgroupBarrier();
    for (var half = 128u; half >= 16u; half /= 2u) {
        if local < half {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    if local < 16u {
        let total = partial[local];
        store(column, total.x);
        store(column + 1u, total.y);
        store(column + 2u, total.z);
        store(column + 3u, total.w);
    }
}
