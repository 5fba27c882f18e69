// unmixed.wgsl — put in front, after scalar.wgsl or vector.wgsl: every element is f32.
//
// What those two have alike, where mixed.wgsl has its own, and stand-ins for what it has for 16-bit elements,
// in branches on constants that are never taken.
//
// Needs scalar.wgsl or vector.wgsl before it.
// Tests: every numeric test; shaders.rs.

// What a word is made of.
alias Component = f32;

// The quad, its first value from a load of its own.
fn with_first(values: vec4<f32>, first_value: Component) -> vec4<f32> {
    return vec4<f32>(first_value, values.yzw);
}

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
