// value.wgsl — put in front: the matrix that a kernel updates, and its working copy.
//
// `value` is f32. In training with 16-bit weights it is the master, and the products read its working
// copy, whose elements are f16 or bf16: both are written here, in the same dispatch, so the copy is always
// the master, rounded once. They lie in one buffer and are one binding, which is what leaves room for an
// optimizer's state: WebGPU promises eight storage buffers. Without a copy COPY_ELEMENT is F32.
//
// The kernel declares the binding, `value`.
//
// Needs a width's files and matrix.wgsl before it.
// Source of master weights: Micikevicius et al., "Mixed precision training" (ICLR 2018).
// Tests: mixed_precision.rs for the copy; for the value sgd.rs, adam.rs, backward_sgd.rs, backward_adam.rs.

// The elements of the working copy: F16 or BF16; F32 where there is none.
override COPY_ELEMENT: u32 = 0u;

fn value_at(view: View, row: u32, column: u32) -> vec4<f32> {
    let at = place(view, row, column);
    if WIDTH == 4u {
        return quad(value[at.x]);
    }
    return vec4<f32>(first(value[at.x]), first(value[at.y]), first(value[at.z]), first(value[at.w]));
}

fn store_value(view: View, copy: View, row: u32, column: u32, values: vec4<f32>) {
    let at = place(view, row, column);
    let within = inside(view, row, column);
    value[at.x] = word(values);
    if WIDTH == 1u {
        if within.y { value[at.y] = word(values.yyyy); }
        if within.z { value[at.z] = word(values.zzzz); }
        if within.w { value[at.w] = word(values.wwww); }
    }
    if COPY_ELEMENT != F32 {
        let there = place(copy, row, column);
        var pair = packed(values, COPY_ELEMENT);
        if !within.w {
            pair = ended(pair, value[there.w / 2u], within);
        }
        value[there.x / 2u] = pair.low;
        value[there.z / 2u] = pair.high;
    }
}
