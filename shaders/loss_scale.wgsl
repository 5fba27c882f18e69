// loss_scale.wgsl — whether all gradients are finite, and what that makes of the loss's scale.
//
//   finite       inverse = 1/scale     after `interval` such steps   scale = min(growth·scale, maximum)
//   not finite   inverse = 0           at once                       scale = max(backoff·scale, minimum)
//
// Up to three gradients of a check, which may take several dispatches; the one that is last decides. The
// workgroups are dealt out to the gradients in order: those before end_0 belong to gradient 0, and so on.
// A gradient's workgroups of 256 invocations take its quads in turn, by a stride of all of them. What is
// not finite is known by its exponent, in integers: WGSL lets a compiler take floats for finite.
//
// A workgroup reports by adding 1 to `arrivals`, and 65,536 more if it found what is not finite. That is
// one atomic, so the workgroup that makes the count complete, of all dispatches together, knows of all
// others'; it alone goes on to write the state and sets the count back. Which one that is does not matter,
// and no value is added up atomically: the result is the same each time. The updates that follow read
// `inverse`, the next loss `scale`: nothing comes back to the CPU.
//
// Source: Micikevicius et al., "Mixed precision training" (ICLR 2018); the rule is that of PyTorch's
// GradScaler, with bounds.
// Needs a width's files and matrix.wgsl before it.
// Tests: loss_scale.rs, mixed_precision.rs.

// The gradients' elements: F32, F16 or BF16.
override GRADIENT_0_ELEMENT: u32 = 0u;
override GRADIENT_1_ELEMENT: u32 = 0u;
override GRADIENT_2_ELEMENT: u32 = 0u;

struct Parameters {
    gradient_0: View,
    gradient_1: View,
    gradient_2: View,
    // One past each gradient's last workgroup.
    end_0: u32,
    end_1: u32,
    end_2: u32,
    // Workgroups of all dispatches.
    all: u32,
    // Of this one, in a line.
    groups_wide: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

struct LossScaleSettings {
    growth: f32,
    backoff: f32,
    minimum: f32,
    maximum: f32,
    interval: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

// The places in `state`: the fields of scale.wgsl.
const AT_SCALE: u32 = 0u;
const AT_INVERSE: u32 = 1u;
const AT_GOOD_STEPS: u32 = 2u;
const AT_ARRIVALS: u32 = 3u;
const AT_SKIPPED: u32 = 4u;

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<uniform> settings: LossScaleSettings;
@group(0) @binding(2) var<storage, read> gradient_0: array<Word>;
@group(0) @binding(3) var<storage, read> gradient_1: array<Word>;
@group(0) @binding(4) var<storage, read> gradient_2: array<Word>;
@group(0) @binding(5) var<storage, read_write> state: array<atomic<u32>>;

// Whether an invocation found what is not finite.
var<workgroup> found: atomic<u32>;

fn quad_0(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(gradient_0[at.x]);
    }
    if GRADIENT_0_ELEMENT != F32 {
        return unpacked(gradient_0[at.x / 2u], gradient_0[at.z / 2u], GRADIENT_0_ELEMENT);
    }
    return vec4<f32>(first(gradient_0[at.x]), first(gradient_0[at.y]), first(gradient_0[at.z]), first(gradient_0[at.w]));
}

fn quad_1(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(gradient_1[at.x]);
    }
    if GRADIENT_1_ELEMENT != F32 {
        return unpacked(gradient_1[at.x / 2u], gradient_1[at.z / 2u], GRADIENT_1_ELEMENT);
    }
    return vec4<f32>(first(gradient_1[at.x]), first(gradient_1[at.y]), first(gradient_1[at.z]), first(gradient_1[at.w]));
}

fn quad_2(at: vec4<u32>) -> vec4<f32> {
    if WIDTH == 4u {
        return quad(gradient_2[at.x]);
    }
    if GRADIENT_2_ELEMENT != F32 {
        return unpacked(gradient_2[at.x / 2u], gradient_2[at.z / 2u], GRADIENT_2_ELEMENT);
    }
    return vec4<f32>(first(gradient_2[at.x]), first(gradient_2[at.y]), first(gradient_2[at.z]), first(gradient_2[at.w]));
}

// Which of the values are infinite or no numbers.
fn not_finite(values: vec4<f32>) -> vec4<bool> {
    let magnitudes = bitcast<vec4<u32>>(values) & vec4<u32>(0x7fffffffu);
    return magnitudes >= vec4<u32>(0x7f800000u);
}

fn decide(is_finite: bool) {
    let scale = bitcast<f32>(atomicLoad(&state[AT_SCALE]));
    var next = scale;
    var inverse = 0.0;
    var good_steps = 0u;
    if is_finite {
        inverse = 1.0 / scale;
        good_steps = atomicLoad(&state[AT_GOOD_STEPS]) + 1u;
        if good_steps >= settings.interval {
            next = min(settings.growth * scale, settings.maximum);
            good_steps = 0u;
        }
    } else {
        next = max(settings.backoff * scale, settings.minimum);
        atomicAdd(&state[AT_SKIPPED], 1u);
    }
    atomicStore(&state[AT_SCALE], bitcast<u32>(next));
    atomicStore(&state[AT_INVERSE], bitcast<u32>(inverse));
    atomicStore(&state[AT_GOOD_STEPS], good_steps);
    atomicStore(&state[AT_ARRIVALS], 0u);
}

@compute @workgroup_size(256)
fn loss_scale(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let group = id.y * parameters.groups_wide + id.x;
    if group >= parameters.end_2 {
        return;
    }
    if local == 0u {
        atomicStore(&found, 0u);
    }
    workgroupBarrier();

    var view = parameters.gradient_0;
    var begin = 0u;
    var end = parameters.end_0;
    if group >= parameters.end_1 {
        view = parameters.gradient_2;
        begin = parameters.end_1;
        end = parameters.end_2;
    } else if group >= parameters.end_0 {
        view = parameters.gradient_1;
        begin = parameters.end_0;
        end = parameters.end_1;
    }
    let quads_wide = (view.columns + 3u) / 4u;
    let quads = view.rows * quads_wide;
    var bad = vec4<bool>();
    for (var index = (group - begin) * 256u + local; index < quads; index += (end - begin) * 256u) {
        let at = place(view, index / quads_wide, index % quads_wide * 4u);
        var values: vec4<f32>;
        if group < parameters.end_0 {
            values = quad_0(at);
        } else if group < parameters.end_1 {
            values = quad_1(at);
        } else {
            values = quad_2(at);
        }
        // In 16 bits, the last word of an odd row holds an element that is not the matrix's.
        bad = bad | (not_finite(values) & inside(view, index / quads_wide, index % quads_wide * 4u));
    }
    if any(bad) {
        atomicStore(&found, 1u);
    }
    workgroupBarrier();
    if local == 0u {
        let own = select(1u, 0x10001u, atomicLoad(&found) != 0u);
        let arrivals = atomicAdd(&state[AT_ARRIVALS], own) + own;
        if (arrivals & 0xffffu) == parameters.all {
            decide(arrivals < 0x10000u);
        }
    }
}
