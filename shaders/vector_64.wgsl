// vector_64.wgsl — put in front: matrices are read and written in 16-byte words of two 64-bit integers.
//
// What vector.wgsl is elsewhere, for Vulkan drivers that run shaders on the CPU, where the device has
// SHADER_INT64. Mesa's llvmpipe loads lane by lane, and checks, fetches and inserts each component by itself;
// without AVX-512 an insertion at a variable place goes through memory, where the load that follows the store
// has to wait for it. Two components in place of four cost half as much. The values, their places and all
// arithmetic are those of vector.wgsl.
//
// A component holds two f32, the first in the low half: buffers are little-endian.
//
// Tests: every numeric test, by its shapes that are multiples of four, on a device with SHADER_INT64;
// shaders.rs, host.rs.

alias Word = vec2<u64>;

// f32 values in a word.
const WIDTH: u32 = 4u;

// The first value of a word.
fn first(word: Word) -> f32 {
    return bitcast<f32>(u32(word.x));
}

// The word as a quad.
fn quad(word: Word) -> vec4<f32> {
    let even = bitcast<vec2<f32>>(vec2<u32>(word));
    let odd = bitcast<vec2<f32>>(vec2<u32>(word >> vec2<u32>(32u)));
    return vec4<f32>(even.x, odd.x, even.y, odd.y);
}

// The quad as a word.
fn word(values: vec4<f32>) -> Word {
    let even = vec2<u64>(bitcast<vec2<u32>>(values.xz));
    let odd = vec2<u64>(bitcast<vec2<u32>>(values.yw));
    return even | (odd << vec2<u32>(32u));
}
