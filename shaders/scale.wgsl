// scale.wgsl — put in front: the state of a loss's scale, as the kernels bind it that read it.
//
// A loss's gradient is multiplied by `scale`, so that what comes of it keeps clear of the smallest values
// of a 16-bit type; an update multiplies the gradients by `inverse`, or does nothing where that is 0: they
// were not finite. loss_scale.wgsl sets both. Where there is no scale, both are 1.
//
// Tests: loss_scale.rs, mixed_precision.rs.

struct Scale {
    // What the next loss is multiplied by.
    scale: f32,
    // 1/scale of the gradients that were looked at last; 0 where the step is to be skipped.
    inverse: f32,
    // Finite steps in a row, from 0 again when the scale grows or would, were it not for its bound.
    good_steps: u32,
    // Workgroups that have looked at their gradients, and 65,536 times those that found what is not finite.
    arrivals: u32,
    // Steps that were skipped, in all.
    skipped: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}
