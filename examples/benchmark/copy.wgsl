// copy.wgsl — the bandwidth ceiling: one buffer copied to another, in 16-byte words.
//
//   target_words[i] = source_words[i]
//
// A workgroup of 256 invocations copies a run of 1,024 words, an invocation every 256th of them.
// The host's buffers are whole runs.

struct Parameters {
    words: u32,
    groups_wide: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read> source_words: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> target_words: array<vec4<f32>>;

@compute @workgroup_size(256)
fn copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = (group.y * parameters.groups_wide + group.x) * 1024u + local;
    if index + 768u < parameters.words {
        let a = source_words[index];
        let b = source_words[index + 256u];
        let c = source_words[index + 512u];
        let d = source_words[index + 768u];
        target_words[index] = a;
        target_words[index + 256u] = b;
        target_words[index + 512u] = c;
        target_words[index + 768u] = d;
    }
}
