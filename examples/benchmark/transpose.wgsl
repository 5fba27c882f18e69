// transpose.wgsl — the copy that a tied weight makes unnecessary.
//
//   transposed[i][h] = weight[h][i]
//
// A workgroup of 256 moves a 32×32 tile through workgroup memory, so that reads and writes both run
// along rows; its rows are padded by one value, so that columns do not fall into one memory bank.
// Invocation `local` has column local%32 and rows local/32, 8 + local/32, … of the tile.
//
// Technique: Ruetsch and Micikevicius, "Optimizing matrix transpose in CUDA" (NVIDIA, 2009).

struct Parameters {
    hidden: u32,
    inputs: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> transposed: array<f32>;

var<workgroup> tile: array<f32, 1056>;

@compute @workgroup_size(256)
fn transpose(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let column = local % 32u;
    let row = local / 32u;
    let input = group.x * 32u;
    let hidden = group.y * 32u;
    for (var step = 0u; step < 32u; step += 8u) {
        let h = hidden + row + step;
        let i = input + column;
        if h < parameters.hidden && i < parameters.inputs {
            tile[(row + step) * 33u + column] = weight[h * parameters.inputs + i];
        }
    }
    workgroupBarrier();
    for (var step = 0u; step < 32u; step += 8u) {
        let i = input + row + step;
        let h = hidden + column;
        if h < parameters.hidden && i < parameters.inputs {
            transposed[i * parameters.hidden + h] = tile[column * 33u + row + step];
        }
    }
}
