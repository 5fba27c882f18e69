//! `cross_entropy.wgsl` and `loss.wgsl` against the reference.

mod common;

use common::losses::{slope_of, value};
use common::{Place, Rig, on_every_adapter};
use tied_linear::Loss;
use tied_linear::kernels::LossGradient;

loss_tests!(
    Loss::BinaryCrossEntropy,
    [
        odd_shapes_in_every_place,
        operands_in_different_places,
        the_gradient_goes_on_through_every_activation,
        more_than_a_million_quads,
        few_workgroups_take_more_rounds,
        without_delta_only_the_loss_is_computed,
        an_empty_batch_has_loss_zero,
        runs_repeat_bit_by_bit,
    ]
);

/// The loss of one logit, and its gradient.
fn single(rig: &Rig, logit: f32, target: f32) -> [f32; 2] {
    let put = |value| rig.put_f32(1, 1, &[value], Place::Tight);
    let (loss, delta) = (put(f32::NAN), put(f32::NAN));
    let (prediction, target) = (put(logit), put(target));
    let call = LossGradient::new(&prediction, &target, &loss).with_delta(Some(&delta));
    rig.run(&rig.kernels.cross_entropy(&call).unwrap());
    [rig.get(&loss)[0], rig.get(&delta)[0]]
}

#[test]
fn no_logit_overflows() {
    on_every_adapter(|rig| {
        for size in [20.0, 88.0, 89.0, 104.0, 1e4, 1e30, f32::MAX] {
            for logit in [size, -size] {
                for target in [0.0, 0.25, 1.0] {
                    let got = single(rig, logit, target).map(f64::from);
                    let [p, t] = [logit, target].map(f64::from);
                    let want = [value, slope_of].map(|f| f(Loss::BinaryCrossEntropy, p, t));
                    for (got, want) in got.into_iter().zip(want) {
                        let tolerance = 8.0 * f64::from(f32::EPSILON) * want.abs().max(1.0);
                        let error = (got - want).abs();
                        let what = format!("logit {logit}, target {target}: {got}, not {want}");
                        assert!(error <= tolerance, "{what}");
                    }
                }
            }
        }
    });
}

/// ln(1 + eᵖ) for very negative p is eᵖ, however small: ln of a rounded 1 + eᵖ would be 0 or a few
/// steps of ε.
#[test]
fn small_losses_keep_their_relative_accuracy() {
    on_every_adapter(|rig| {
        for step in 1..=80 {
            let logit = -step as f32;
            let got = single(rig, logit, 0.0).map(f64::from);
            let p = f64::from(logit);
            let want = [value, slope_of].map(|f| f(Loss::BinaryCrossEntropy, p, 0.0));
            // WGSL allows exp an error of 3 + 2·|p| units in the last place.
            let tolerance = (8.0 - 4.0 * p) * f64::from(f32::EPSILON);
            for (got, want) in got.into_iter().zip(want) {
                let error = (got - want).abs() / want;
                assert!(error <= tolerance, "logit {logit}: {got}, not {want}");
            }
        }
    });
}
