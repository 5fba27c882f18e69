// mixed.wgsl — put in front: matrices whose elements are f32, f16 or bf16, each operand's chosen by a
// constant of its own.
//
// The width for dispatches with a 16-bit operand. Every matrix is bound
// as u32: an f32 has one, two 16-bit values share one, the first in the low half. Views count elements,
// so places are those of scalar.wgsl; offset and row stride of a 16-bit matrix are even, so a quad is
// two whole u32, at at.x / 2 and at.z / 2, and only a row's last element can share one with what is not
// the matrix's: `ended` keeps that. It needs no feature: bf16 is widened by shifts, f16 by integer code
// too, since unpack2x16float may take subnormal values for zero, and some drivers lack it. Values are
// rounded to nearest, ties to even, likewise: what pack2x16float makes of 65520 and more is up to the
// driver. An overflow gives infinity, NaN stays NaN.
//
// Needs matrix.wgsl after it.
// Source of the formats: IEEE 754 binary16; bfloat16, the upper half of binary32. The conversion of
// subnormal values: Giesen, "Half to float done quick" (2010).
// Tests: elements.rs; shaders.rs.

alias Word = u32;

// Places of elements are counted one by one.
const WIDTH: u32 = 1u;

// The f32 in a word.
fn first(word: Word) -> f32 {
    return bitcast<f32>(word);
}

// The word as a quad.
fn quad(word: Word) -> vec4<f32> {
    return vec4<f32>(first(word));
}

// The quad's leading f32 as a word.
fn word(values: vec4<f32>) -> Word {
    return bitcast<u32>(values.x);
}

// Two words of 16-bit elements: a quad.
struct Pair {
    low: Word,
    high: Word,
}

// The values that have these bits in f16. A subnormal one is put behind the point of 2⁻¹⁴, which is then
// taken away.
fn half_values(bits: vec4<u32>) -> vec4<f32> {
    let magnitude = (bits & vec4<u32>(0x7fffu)) << vec4<u32>(13u);
    let normal = magnitude + vec4<u32>(0x38000000u);
    let special = magnitude + vec4<u32>(0x70000000u);
    let behind_the_point = bitcast<vec4<f32>>(magnitude + vec4<u32>(0x38800000u));
    let subnormal = bitcast<vec4<u32>>(behind_the_point - vec4<f32>(0x1p-14));
    let numbers = select(normal, subnormal, magnitude < vec4<u32>(0x800000u));
    let all = select(numbers, special, magnitude >= vec4<u32>(0xf800000u));
    return bitcast<vec4<f32>>(all | ((bits & vec4<u32>(0x8000u)) << vec4<u32>(16u)));
}

// The four values of a quad of 16-bit elements, from its two words.
fn unpacked(low: Word, high: Word, element: u32) -> vec4<f32> {
    if element == BF16 {
        return bitcast<vec4<f32>>(vec4<u32>(
            low << 16u,
            low & 0xffff0000u,
            high << 16u,
            high & 0xffff0000u,
        ));
    }
    return half_values(vec4<u32>(low & 0xffffu, low >> 16u, high & 0xffffu, high >> 16u));
}

// Of the two values in a u32, the one with this index.
fn half_of(bits: u32, index: u32, element: u32) -> f32 {
    let pair = unpacked(bits, bits, element);
    return select(pair.x, pair.y, index != 0u);
}

// The bits of f16, from those of a magnitude in f32. Below 2⁻¹⁴ a value is a number of 2⁻²⁴.
fn half_bits(magnitude: vec4<u32>) -> vec4<u32> {
    let odd = (magnitude >> vec4<u32>(13u)) & vec4<u32>(1u);
    let normal = (magnitude - vec4<u32>(0x38000000u) + vec4<u32>(0xfffu) + odd) >> vec4<u32>(13u);

    let exponent = min(magnitude >> vec4<u32>(23u), vec4<u32>(112u));
    let shift = min(vec4<u32>(126u) - exponent, vec4<u32>(25u));
    let significand = (magnitude & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u);
    let last = (significand >> shift) & vec4<u32>(1u);
    let almost_half = (vec4<u32>(1u) << (shift - vec4<u32>(1u))) - vec4<u32>(1u);
    let subnormal = (significand + almost_half + last) >> shift;

    let finite = select(normal, subnormal, magnitude < vec4<u32>(0x38800000u));
    let bounded = select(finite, vec4<u32>(0x7c00u), magnitude >= vec4<u32>(0x47800000u));
    return select(bounded, vec4<u32>(0x7e00u), magnitude > vec4<u32>(0x7f800000u));
}

// The bits of bf16, likewise.
fn brain_bits(magnitude: vec4<u32>) -> vec4<u32> {
    let odd = (magnitude >> vec4<u32>(16u)) & vec4<u32>(1u);
    let rounded = (magnitude + vec4<u32>(0x7fffu) + odd) >> vec4<u32>(16u);
    return select(rounded, vec4<u32>(0x7fc0u), magnitude > vec4<u32>(0x7f800000u));
}

// The quad as 16-bit elements.
fn packed(values: vec4<f32>, element: u32) -> Pair {
    let bits = bitcast<vec4<u32>>(values);
    let magnitude = bits & vec4<u32>(0x7fffffffu);
    let sign = (bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u);
    var sixteen: vec4<u32>;
    if element == BF16 {
        sixteen = sign | brain_bits(magnitude);
    } else {
        sixteen = sign | half_bits(magnitude);
    }
    return Pair(sixteen.x | (sixteen.y << 16u), sixteen.z | (sixteen.w << 16u));
}

// The first element of the word after, and the second of the one before.
fn merged(before: Word, after: Word) -> Word {
    return (before & 0xffff0000u) | (after & 0xffffu);
}

// The pair of a quad that a row's end cuts, whose word with the row's last element holds `before`. Of one
// or two elements the quad has but one word, which both are.
fn ended(pair: Pair, before: Word, within: vec4<bool>) -> Pair {
    if within.z {
        return Pair(pair.low, merged(before, pair.high));
    }
    let only = select(merged(before, pair.low), pair.low, within.y);
    return Pair(only, only);
}
