// scalar.wgsl — put in front: matrices are read and written one f32 at a time.
//
// This is the width for any shape, offset and row stride. Another, vector.wgsl, moves four f32 at once where
// offset, row stride and columns of every matrix of a dispatch are multiples of four, vector_64.wgsl the same
// as two 64-bit integers, and mixed.wgsl takes matrices of 16-bit elements.
// A kernel is written once, in quads (four neighbouring columns); only these few lines differ.
//
// Tests: every numeric test, by its odd shapes; shaders.rs.

alias Word = f32;

// f32 values in a word.
const WIDTH: u32 = 1u;

// The first value of a word.
fn first(word: Word) -> f32 {
    return word;
}

// The word as a quad.
fn quad(word: Word) -> vec4<f32> {
    return vec4<f32>(word);
}

// The quad's leading values as a word.
fn word(values: vec4<f32>) -> Word {
    return values.x;
}
