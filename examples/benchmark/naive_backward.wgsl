// naive_backward.wgsl — the tied weight's gradient as one would first write it: one invocation an
// element, nothing shared.
//
//   gradient[h][i] = Σ_b code[b][h]·output_delta[b][i] + code_delta[b][h]·input[b][i]
//
// All matrices are row-major without gaps. A workgroup is 16×16 elements, x along their columns.

struct Parameters {
    batch: u32,
    inputs: u32,
    hidden: u32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> code: array<f32>;
@group(0) @binding(2) var<storage, read> output_delta: array<f32>;
@group(0) @binding(3) var<storage, read> code_delta: array<f32>;
@group(0) @binding(4) var<storage, read> input: array<f32>;
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;

@compute @workgroup_size(16, 16)
fn naive_backward(@builtin(global_invocation_id) position: vec3<u32>) {
    let i = position.x;
    let h = position.y;
    if i >= parameters.inputs || h >= parameters.hidden {
        return;
    }
    var sum = 0.0;
    for (var b = 0u; b < parameters.batch; b++) {
        let in_code = b * parameters.hidden + h;
        let in_input = b * parameters.inputs + i;
        sum += code[in_code] * output_delta[in_input] + code_delta[in_code] * input[in_input];
    }
    gradient[h * parameters.inputs + i] = sum;
}
