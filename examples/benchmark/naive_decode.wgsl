// naive_decode.wgsl — decode as one would first write it: one invocation an output, nothing shared.
//
//   output[b][i] = Σ_h code[b][h]·weight[h][i]
//
// All matrices are row-major without gaps. A workgroup is 16×16 outputs, x along their columns.

struct Parameters {
    batch: u32,
    inputs: u32,
    hidden: u32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> code: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(16, 16)
fn naive_decode(@builtin(global_invocation_id) position: vec3<u32>) {
    let i = position.x;
    let b = position.y;
    if i >= parameters.inputs || b >= parameters.batch {
        return;
    }
    var sum = 0.0;
    for (var h = 0u; h < parameters.hidden; h++) {
        sum += code[b * parameters.hidden + h] * weight[h * parameters.inputs + i];
    }
    output[b * parameters.inputs + i] = sum;
}
