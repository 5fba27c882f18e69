// activation.wgsl — put in front: the activations and their derivatives, four values at a time.
//
//   activate(z)   f(z)
//   slope(s)      f′, from what was saved in the forward pass: the output f(z) for identity, ReLU,
//                 sigmoid and tanh, whose derivative the output determines; the pre-activation z
//                 for the GELUs and SiLU.
//
// Every exponential takes an argument that is never positive, so none can overflow: a driver's own
// tanh may compute exp(2x) and return NaN for large x.
//
// Sources: GELU, its tanh form and SiLU: Hendrycks and Gimpel, arXiv:1606.08415. The series of tanh:
// DLMF 4.33.3. The coefficients of `upper_tail` were fitted for this file, against 50-digit values
// of erfc, by reweighted least squares on 4,000 Chebyshev points.
// Tests: activation.rs, and every gradient test.

const IDENTITY: u32 = 0u;
const RELU: u32 = 1u;
const SIGMOID: u32 = 2u;
const TANH: u32 = 3u;
const GELU_TANH: u32 = 4u;
const GELU_ERF: u32 = 5u;
const SILU: u32 = 6u;

// One of the seven above.
override ACTIVATION: u32 = 0u;

// √(2/π) and the cubic's coefficient in GELU's tanh form; 1/√(2π).
const GELU_SCALE: f32 = 0.7978845608;
const GELU_CUBIC: f32 = 0.044715;
const NORMAL_PEAK: f32 = 0.3989422804;

fn logistic(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return select(vec4<f32>(1.0), e, x < vec4<f32>()) / (1.0 + e);
}

// sign(x)·(1 − e)/(1 + e) with e = exp(−2|x|); near zero, where 1 − e cancels, the Taylor series.
fn hyperbolic_tangent(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-2.0 * abs(x));
    let far = (1.0 - e) / (1.0 + e);
    let q = x * x;
    let series = 1.0 + q * (-1.0 / 3.0 + q * (2.0 / 15.0 + q * (-17.0 / 315.0 + q * (62.0 / 2835.0))));
    return select(select(far, -far, x < vec4<f32>()), x * series, abs(x) < vec4<f32>(0.25));
}

// The standard normal distribution's upper tail, erfc(x/√2)/2, for x ≥ 0:
// t·exp(−x²/2)·P(t) with t = 1/(1 + x/√8); relative error of P below 5e-8.
fn upper_tail(x: vec4<f32>) -> vec4<f32> {
    let t = 1.0 / (1.0 + 0.3535533906 * x);
    var p = vec4<f32>(-0.0591933322);
    p = p * t + 0.285182835;
    p = p * t - 0.488460899;
    p = p * t + 0.279512622;
    p = p * t - 0.0276234553;
    p = p * t + 0.203109933;
    p = p * t + 0.242996611;
    p = p * t + 0.282390068;
    p = p * t + 0.282085575;
    return 0.5 * t * exp(-0.5 * x * x) * p;
}

// The standard normal distribution function Φ.
fn normal_below(x: vec4<f32>) -> vec4<f32> {
    let tail = upper_tail(abs(x));
    return select(1.0 - tail, tail, x < vec4<f32>());
}

// The argument of tanh in GELU's tanh form. Beyond ±10 the tanh is ±1 exactly; the clamp keeps the
// cube finite.
fn gelu_argument(c: vec4<f32>) -> vec4<f32> {
    return GELU_SCALE * c * (1.0 + GELU_CUBIC * c * c);
}

fn activate(z: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case RELU: {
            return select(z, vec4<f32>(), z < vec4<f32>());
        }
        case SIGMOID: {
            return logistic(z);
        }
        case TANH: {
            return hyperbolic_tangent(z);
        }
        case GELU_TANH: {
            let c = clamp(z, vec4<f32>(-10.0), vec4<f32>(10.0));
            return 0.5 * z * (1.0 + hyperbolic_tangent(gelu_argument(c)));
        }
        case GELU_ERF: {
            return z * normal_below(z);
        }
        case SILU: {
            return z * logistic(z);
        }
        default: {
            return z;
        }
    }
}

fn slope(saved: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case RELU: {
            return select(vec4<f32>(), vec4<f32>(1.0), saved > vec4<f32>());
        }
        case SIGMOID: {
            return saved * (1.0 - saved);
        }
        case TANH: {
            return 1.0 - saved * saved;
        }
        case GELU_TANH: {
            let c = clamp(saved, vec4<f32>(-10.0), vec4<f32>(10.0));
            let t = hyperbolic_tangent(gelu_argument(c));
            let inner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * c * c);
            return 0.5 * (1.0 + t) + 0.5 * c * (1.0 - t * t) * inner;
        }
        case GELU_ERF: {
            let c = clamp(saved, vec4<f32>(-20.0), vec4<f32>(20.0));
            return normal_below(saved) + c * NORMAL_PEAK * exp(-0.5 * c * c);
        }
        case SILU: {
            let s = logistic(saved);
            return s * (1.0 + saved * (1.0 - s));
        }
        default: {
            return vec4<f32>(1.0);
        }
    }
}

// What `slope` takes, of the activation's input and output.
fn saved_by(z: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    if ACTIVATION == GELU_TANH || ACTIVATION == GELU_ERF || ACTIVATION == SILU {
        return z;
    }
    return y;
}
