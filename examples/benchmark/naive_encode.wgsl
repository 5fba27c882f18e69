// naive_encode.wgsl — encode as one would first write it: one invocation an output, nothing shared.
//
//   output[b][h] = Σ_i input[b][i]·weight[h][i]
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
@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(16, 16)
fn naive_encode(@builtin(global_invocation_id) position: vec3<u32>) {
    let h = position.x;
    let b = position.y;
    if h >= parameters.hidden || b >= parameters.batch {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < parameters.inputs; i++) {
        sum += input[b * parameters.inputs + i] * weight[h * parameters.inputs + i];
    }
    output[b * parameters.hidden + h] = sum;
}
