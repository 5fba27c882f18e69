// component.wgsl — put in front, after scalar.wgsl or vector.wgsl: a word is made of f32.
//
// Needs scalar.wgsl or vector.wgsl before it.
// Tests: every numeric test; shaders.rs.

// What a word is made of.
alias Component = f32;

// The quad, its first value from a load of its own.
fn with_first(values: vec4<f32>, first_value: Component) -> vec4<f32> {
    return vec4<f32>(first_value, values.yzw);
}
