//! `squared_error.wgsl` and `loss.wgsl` against the reference.

mod common;

use common::{Place, on_every_adapter};
use tied_linear::kernels::LossGradient;
use tied_linear::{Loss, Reduction};

loss_tests!(
    Loss::SquaredError,
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

/// With errors of 0 and 1 the sum counts the ones exactly, so that one element left out or taken
/// twice among millions shows.
#[test]
fn every_element_counts_once() {
    on_every_adapter(|rig| {
        for columns in [3, 4] {
            let rows = 1_200_003;
            let put = |values: &[f32]| rig.put_f32(rows, columns, values, Place::Tight);
            let errors: Vec<f32> =
                (0..rows * columns).map(|i| f32::from(u8::from(i % 7 < 3))).collect();
            let (prediction, target) = (put(&errors), put(&vec![0.0; errors.len()]));
            let loss = rig.poisoned(1, 1, Place::Tight);
            let call =
                LossGradient::new(&prediction, &target, &loss).with_reduction(Reduction::Sum);
            rig.run(&rig.kernels.squared_error(&call).unwrap());
            let ones = errors.iter().filter(|error| **error == 1.0).count();
            assert_eq!(rig.get(&loss), [ones as f32], "{rows}x{columns}");
        }
    });
}
