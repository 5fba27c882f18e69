//! `activation_gradient.wgsl` against the reference: shapes, places, and more workgroups than one
//! dimension of a dispatch can have. The derivatives themselves are tested in `activation.rs`.

mod common;

use common::reference::{Dense, activate, slope};
use common::{Place, Rig, expect_close, on_every_adapter, once_per_adapter, random};
use tied_linear::kernels::ActivationGradient;
use tied_linear::{Activation, Error, Matrix};

/// Places of gradient, saved and delta.
type Places = [Place; 3];

fn check(rig: &Rig, [rows, columns]: [u32; 2], places: Places, activation: Activation) {
    let what = format!("{rows}x{columns} {places:?} {activation}");
    let [gradient_place, saved_place, delta_place] = places;
    let gradient = random(rows, columns, 1);
    let z = random(rows, columns, 2).map(|z| 4.0 * z);
    let saved = if activation.needs_preactivation() {
        z.clone()
    } else {
        z.map(|z| activate(activation, z))
    };
    let delta = rig.poisoned(rows, columns, delta_place);
    let commands = rig.kernels.activation_gradient(&ActivationGradient {
        gradient: &rig.put(&gradient, gradient_place),
        activation,
        saved: Some(&rig.put(&saved, saved_place)),
        delta: &delta,
    });
    rig.run(&commands.unwrap());
    let want = gradient.zip(&z, |gradient, z| gradient * slope(activation, z));
    // As in activation.rs, for |z| up to 4 and gradients up to 1.
    let tolerance = want.map(|_| 32.0 * f64::from(f32::EPSILON));
    expect_close(&what, &rig.get(&delta), &want, &tolerance);
    rig.expect_surroundings_untouched(&what, &delta);
}

#[test]
fn odd_shapes_in_every_place() {
    on_every_adapter(|rig| {
        for place in Place::ALL {
            for shape in [[1, 1], [3, 5], [7, 4], [64, 68], [1, 1030], [1027, 1], [130, 66]] {
                check(rig, shape, [place; 3], Activation::Tanh);
            }
        }
    });
}

#[test]
fn operands_in_different_places() {
    use Place::{Even, Odd, Tight};
    on_every_adapter(|rig| {
        for places in [[Tight, Even, Odd], [Odd, Tight, Even], [Even, Odd, Tight]] {
            check(rig, [33, 20], places, Activation::Tanh);
        }
        // All of these can be read in words of four.
        for places in [[Tight, Even, Even], [Even, Tight, Even], [Even, Even, Tight]] {
            check(rig, [33, 20], places, Activation::Tanh);
        }
    });
}

#[test]
fn every_activation_in_both_widths() {
    on_every_adapter(|rig| {
        for activation in Activation::ALL {
            check(rig, [37, 12], [Place::Odd; 3], activation);
            check(rig, [37, 12], [Place::Even; 3], activation);
        }
    });
}

#[test]
fn workgroups_spread_over_two_dimensions_cover_all_rows() {
    on_every_adapter(|rig| {
        let rig = rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 6);
        // 7 workgroups as 4 x 2, 31 as 6 x 6, 36 as 6 x 6; the last of them not full.
        for [rows, columns] in [[7 * 256 - 3, 3], [31 * 64 - 1, 16], [36 * 32 - 1, 32]] {
            check(&rig, [rows, columns], [Place::Even; 3], Activation::Relu);
            check(&rig, [rows, columns], [Place::Odd; 3], Activation::Relu);
        }
    });
}

/// 17 million rows of one column are a quad each: 66,407 workgroups, where 65,535 is a usual limit.
#[test]
fn more_workgroups_than_a_dimension_has() {
    on_every_adapter(|rig| {
        let rows = 17_000_000u32;
        let column = |value: fn(u32) -> f32| {
            let values: Vec<f32> = (0..rows).map(value).collect();
            let row = rig.kernels.matrix("test", 1, rows, &values).unwrap();
            (Matrix::new(row.buffer(), rows, 1).unwrap(), values)
        };
        let (gradient, gradient_values) = column(|i| (i % 8_388_593) as f32 + 1.0);
        let (saved, saved_values) = column(|i| (i % 3) as f32 - 1.0);
        let (delta, _) = column(|_| f32::NAN);
        let commands = rig.kernels.activation_gradient(&ActivationGradient {
            gradient: &gradient,
            activation: Activation::Relu,
            saved: Some(&saved),
            delta: &delta,
        });
        rig.run(&commands.unwrap());
        let got = rig.get(&Matrix::new(delta.buffer(), 1, rows).unwrap());
        let values = gradient_values.iter().zip(&saved_values);
        let wrong = got.iter().zip(values).position(|(got, (gradient, saved))| {
            *got != if *saved > 0.0 { *gradient } else { 0.0 }
        });
        assert_eq!(wrong, None, "the first row that is wrong");
    });
}

#[test]
fn identity_copies_and_needs_nothing_saved() {
    on_every_adapter(|rig| {
        for place in Place::ALL {
            let gradient = rig.put(&random(9, 12, 3), place);
            let delta = rig.poisoned(9, 12, place);
            let call = ActivationGradient {
                gradient: &gradient,
                activation: Activation::Identity,
                saved: None,
                delta: &delta,
            };
            rig.run(&rig.kernels.activation_gradient(&call).unwrap());
            assert_eq!(rig.bits(&delta), rig.bits(&gradient), "{place:?}");
            rig.expect_surroundings_untouched("identity", &delta);
        }
    });
}

#[test]
fn saved_is_missed_where_the_derivative_needs_it() {
    once_per_adapter(|rig| {
        let gradient = rig.put(&Dense::zeros(2, 2), Place::Tight);
        let delta = rig.poisoned(2, 2, Place::Tight);
        for activation in Activation::ALL {
            let result = rig.kernels.activation_gradient(&ActivationGradient {
                gradient: &gradient,
                activation,
                saved: None,
                delta: &delta,
            });
            let missing = matches!(result, Err(Error::Missing { operand: "saved", .. }));
            assert_eq!(missing, activation != Activation::Identity, "{activation}");
        }
    });
}

#[test]
fn an_empty_gradient_is_nothing_to_do() {
    once_per_adapter(|rig| {
        for [rows, columns] in [[0, 5], [5, 0], [0, 0]] {
            let empty = || rig.put(&Dense::zeros(rows, columns), Place::Odd);
            let commands = rig.kernels.activation_gradient(&ActivationGradient {
                gradient: &empty(),
                activation: Activation::Tanh,
                saved: Some(&empty()),
                delta: &empty(),
            });
            assert!(commands.unwrap().is_empty(), "{rows}x{columns}");
        }
    });
}
