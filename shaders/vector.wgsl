// vector.wgsl — put in front: matrices are read and written in 16-byte words.
//
// The width for f32 matrices whose offset, row stride and columns are multiples of four; scalar.wgsl takes
// others. A CPU driver may get vector_64.wgsl instead.
//
// Tests: every numeric test, by its shapes that are multiples of four; shaders.rs.

alias Word = vec4<f32>;

// f32 values in a word.
const WIDTH: u32 = 4u;

// The first value of a word.
fn first(word: Word) -> f32 {
    return word.x;
}

// The word as a quad.
fn quad(word: Word) -> vec4<f32> {
    return word;
}

// The quad as a word.
fn word(values: vec4<f32>) -> Word {
    return values;
}
