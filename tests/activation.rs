//! `activation.wgsl`: every activation and its derivative, over all of f32's range.

mod common;

use common::reference::{Dense, activate, slope};
use common::{Place, Rig, expect_close, on_every_adapter};
use tied_linear::kernels::{ActivationGradient, Linear};
use tied_linear::{Activation, Weight, wgpu};

/// z: evenly from -100 to 100, every power of two of either sign, both zeros, the largest numbers,
/// and the places where activation.wgsl goes from one formula to another.
fn points() -> Vec<f32> {
    let even = (-10_000..=10_000).map(|i| i as f32 / 100.0);
    let powers = (-126..=127).map(|exponent| 2f32.powi(exponent));
    let edges = [0.25f32, 10.0, 20.0].map(|edge| [edge.next_down(), edge, edge.next_up()]);
    let others = [0.0, 1e4, 1e30, f32::MAX];
    let positive = powers.chain(edges.into_iter().flatten()).chain(others);
    even.chain(positive.flat_map(|z| [z, -z])).collect()
}

/// f(z) from encode, whose product with a weight of 1 is z itself.
fn forward(rig: &Rig, activation: Activation, points: &[f32]) -> Vec<f32> {
    let rows = points.len() as u32;
    let weight = rig.put_f32(1, 1, &[1.0], Place::Tight);
    let weight = Weight::new(&rig.kernels, weight).unwrap();
    let input = rig.put_f32(rows, 1, points, Place::Tight);
    let output = rig.poisoned(rows, 1, Place::Tight);
    let call = Linear::new(&input, &output).with_activation(activation);
    rig.run(&rig.kernels.encode(&weight, &call).unwrap());
    rig.get(&output)
}

/// f′(z) from activation_gradient, with a gradient of 1 and what the forward pass saves.
fn derivative(rig: &Rig, activation: Activation, points: &[f32]) -> Vec<f32> {
    let saved = if activation.needs_preactivation() {
        points.to_vec()
    } else {
        forward(rig, activation, points)
    };
    let rows = points.len() as u32;
    let ones = vec![1.0; points.len()];
    let delta = rig.poisoned(rows, 1, Place::Tight);
    let call = ActivationGradient {
        gradient: &rig.put_f32(rows, 1, &ones, Place::Tight),
        activation,
        saved: Some(&rig.put_f32(rows, 1, &saved, Place::Tight)),
        delta: &delta,
    };
    rig.run(&rig.kernels.activation_gradient(&call).unwrap());
    rig.get(&delta)
}

fn column(points: &[f32], f: impl Fn(f64) -> f64) -> Dense {
    Dense::new(points.len() as u32, 1, |row, _| f(f64::from(points[row as usize])))
}

/// 8·ε of the value, or of 1 where the value is smaller. The GELUs and SiLU multiply z with what is
/// left of 1 by a function near 1, whose error so counts |z| times; beyond 20 nothing is left.
fn tolerance(activation: Activation, points: &[f32], values: &Dense) -> Dense {
    let lever = column(points, |z| {
        let counts = activation.needs_preactivation() && z.abs() <= 20.0;
        if counts { z.abs() } else { 0.0 }
    });
    values
        .zip(&lever, |value, lever| 8.0 * f64::from(f32::EPSILON) * value.abs().max(lever).max(1.0))
}

#[test]
fn values_match_and_are_never_nan() {
    on_every_adapter(|rig| {
        let points = points();
        for activation in Activation::ALL {
            let got = forward(rig, activation, &points);
            let want = column(&points, |z| activate(activation, z));
            let tolerance = tolerance(activation, &points, &want);
            expect_close(activation.name(), &got, &want, &tolerance);
        }
    });
}

#[test]
fn derivatives_match_and_are_never_nan() {
    on_every_adapter(|rig| {
        let points = points();
        for activation in Activation::ALL {
            let got = derivative(rig, activation, &points);
            let want = column(&points, |z| slope(activation, z));
            let tolerance = tolerance(activation, &points, &want);
            let what = format!("derivative of {activation}");
            expect_close(&what, &got, &want, &tolerance);
        }
    });
}

#[test]
fn identity_and_relu_are_exact() {
    on_every_adapter(|rig| {
        let points = points();
        assert_eq!(forward(rig, Activation::Identity, &points), points);
        let positive: Vec<f32> = points.iter().map(|z| z.max(0.0)).collect();
        assert_eq!(forward(rig, Activation::Relu, &points), positive);
    });
}

#[test]
fn saturated_values_are_exact() {
    on_every_adapter(|rig| {
        let large = [10.0, 50.0, 88.0, 89.0, 1e4, 1e30, f32::MAX];
        let small = large.map(|z| -z);
        for (activation, below, above) in [
            (Activation::Tanh, [-1.0; 7], [1.0; 7]),
            (Activation::GeluTanh, [0.0; 7], large),
            (Activation::Relu, [0.0; 7], large),
        ] {
            assert_eq!(forward(rig, activation, &small), below, "{activation}");
            assert_eq!(forward(rig, activation, &large), above, "{activation}");
        }
        // The others round to these from a little further out, at the latest.
        for (activation, below, above) in [
            (Activation::Sigmoid, [0.0; 3], [1.0; 3]),
            (Activation::GeluErf, [0.0; 3], [1e4, 1e30, f32::MAX]),
            (Activation::Silu, [0.0; 3], [1e4, 1e30, f32::MAX]),
        ] {
            assert_eq!(forward(rig, activation, &small[4..]), below, "{activation}");
            assert_eq!(forward(rig, activation, &large[4..]), above, "{activation}");
        }
    });
}

/// Where a function is near zero, its error is a few ε of the value itself.
#[test]
fn small_values_keep_their_relative_accuracy() {
    on_every_adapter(|rig| {
        // The range in which it is small, and how far the argument of its exponential goes in it,
        // which WGSL allows an error of 3 + 2·|argument| units in the last place.
        type Small = (Activation, [f32; 2], fn(f64) -> f64);
        let cases: [Small; 4] = [
            (Activation::Tanh, [-1.0, 1.0], |_| 0.0),
            (Activation::Sigmoid, [-80.0, 0.0], f64::abs),
            (Activation::Silu, [-80.0, 0.0], f64::abs),
            (Activation::GeluErf, [-12.0, 0.0], |z| z * z / 2.0),
        ];
        for (activation, [from, to], argument) in cases {
            let points: Vec<f32> =
                points().into_iter().filter(|z| (from..to).contains(z)).collect();
            let want = column(&points, |z| activate(activation, z));
            let steps = column(&points, |z| 8.0 + 3.0 * argument(z));
            let tolerance =
                want.zip(&steps, |value, steps| steps * f64::from(f32::EPSILON) * value.abs());
            let got = forward(rig, activation, &points);
            expect_close(&format!("{activation}, small"), &got, &want, &tolerance);
        }
    });
}

/// WGSL lets a driver assume that there are no NaNs, so a GPU promises nothing of the NaN itself;
/// Mesa's software driver assumes nothing, and shows that the formulas let a NaN through.
#[test]
fn nan_spreads_to_no_neighbour_and_stays_nan_on_a_software_adapter() {
    on_every_adapter(|rig| {
        let software = rig.gpu.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let finite = [1.0, -2.5, 0.0, 20.0, 0.5];
        let points = [f32::NAN, 1.0, -f32::NAN, -2.5, 0.0, f32::NAN, 20.0, 0.5, f32::NAN];
        let ways: [(&str, Evaluate); 3] =
            [("value", forward), ("value in a row", in_a_row), ("derivative", derivative)];
        for activation in Activation::ALL {
            for (what, f) in ways {
                let [got, want] = [&points[..], &finite].map(|points| f(rig, activation, points));
                let kept = points.iter().zip(&got).filter(|(point, _)| !point.is_nan());
                let kept: Vec<u32> = kept.map(|(_, value)| value.to_bits()).collect();
                let want: Vec<u32> = want.into_iter().map(f32::to_bits).collect();
                assert_eq!(kept, want, "{what} of {activation} beside a NaN");
                if software && what != "derivative" {
                    let nan: Vec<bool> = got.into_iter().map(f32::is_nan).collect();
                    assert_eq!(nan, points.map(f32::is_nan), "{activation}");
                }
            }
        }
    });
}

/// As [`forward`], but in one row, where four neighbours are computed together: from decode, of an
/// input of 1.
fn in_a_row(rig: &Rig, activation: Activation, points: &[f32]) -> Vec<f32> {
    let columns = points.len() as u32;
    let weight = rig.put_f32(1, columns, points, Place::Tight);
    let weight = Weight::new(&rig.kernels, weight).unwrap();
    let input = rig.put_f32(1, 1, &[1.0], Place::Tight);
    let output = rig.poisoned(1, columns, Place::Tight);
    let call = Linear::new(&input, &output).with_activation(activation);
    rig.run(&rig.kernels.decode(&weight, &call).unwrap());
    rig.get(&output)
}

type Evaluate = fn(&Rig, Activation, &[f32]) -> Vec<f32>;

#[test]
fn names_go_there_and_back() {
    for activation in Activation::ALL {
        assert_eq!(activation.to_string().parse(), Ok(activation));
    }
    let error = "swish".parse::<Activation>().unwrap_err();
    for activation in Activation::ALL {
        assert!(error.contains(activation.name()), "{error}");
    }
}
