// unmixed.wgsl — put in front, after scalar.wgsl, vector.wgsl or vector_64.wgsl: every element is f32.
//
// Stand-ins for what mixed.wgsl has for 16-bit elements, in branches on constants that are never taken.
//
// Needs scalar.wgsl, vector.wgsl or vector_64.wgsl before it.
// Tests: every numeric test; shaders.rs.

struct Pair {
    low: Word,
    high: Word,
}

fn unpacked(low: Word, high: Word, element: u32) -> vec4<f32> {
    return quad(low);
}

fn half_of(bits: u32, index: u32, element: u32) -> f32 {
    return bitcast<f32>(bits);
}

fn packed(values: vec4<f32>, element: u32) -> Pair {
    return Pair(word(values), word(values));
}

fn ended(pair: Pair, before: Word, within: vec4<bool>) -> Pair {
    return pair;
}
