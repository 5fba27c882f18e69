// add.wgsl — two matrices added, as one must who computes the two contributions to a tied weight's
// gradient into two buffers.
//
//   sum_words[i] += other_words[i]
//
// In 16-byte words; the host's buffers are padded to whole ones. A workgroup of 256 invocations
// takes a run of 1,024 words, an invocation every 256th of them.

struct Parameters {
    words: u32,
    groups_wide: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> other_words: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> sum_words: array<vec4<f32>>;

fn add_word(index: u32) {
    if index < parameters.words {
        sum_words[index] += other_words[index];
    }
}

@compute @workgroup_size(256)
fn add(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = (group.y * parameters.groups_wide + group.x) * 1024u + local;
    add_word(index);
    add_word(index + 256u);
    add_word(index + 512u);
    add_word(index + 768u);
}
