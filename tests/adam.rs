//! `adam.wgsl` and the optimizer around it, against the reference.

mod common;

use common::optimizers::{Run, expect_settings_refused, gradient_of_step};
use common::{Place, Rig, on_every_adapter, once_per_adapter};
use tied_linear::kernels::AdamSettings;
use tied_linear::{Optimizer, OptimizerState, Parameter, Parameters};

optimizer_tests!(
    AdamSettings::adamw(0.05).with_weight_decay(0.3),
    [
        odd_shapes_in_every_place,
        many_workgroups,
        ten_records_in_one_submission_are_ten_steps,
        a_learning_rate_of_zero_leaves_the_value_alone,
        a_new_learning_rate_holds_for_all_that_is_submitted_later,
        a_bad_learning_rate_is_refused,
        a_matrix_listed_twice_is_updated_once,
        a_missing_gradient_is_an_error,
        an_empty_parameter_is_nothing_to_do,
        each_parameter_of_a_set_gets_what_it_gets_alone,
        a_dispatch_updates_up_to_three_parameters,
        parameters_in_one_buffer_are_updated_one_after_the_other,
        what_is_kept_can_be_written_and_read_for_each_parameter,
    ]
);

#[test]
fn a_hundred_steps_of_every_kind() {
    on_every_adapter(|rig| {
        let (adam, adamw) = (AdamSettings::adam(0.01), AdamSettings::adamw(0.01));
        for settings in [
            adam,
            adamw,
            adam.with_weight_decay(0.1),
            adamw.with_weight_decay(0.5),
            adamw.with_epsilon(0.0),
            adam.with_betas([0.5, 0.9]).with_epsilon(1e-3),
            // 1 − β₂ᵗ has no digits left in f32 if it is calculated in this way.
            adam.with_betas([0.99, 0.999_999]),
            adam.with_betas([0.0, 0.0]),
            adam.with_betas([0.0, 0.999]),
            adam.with_betas([0.9, 0.0]),
        ] {
            let mut run = Run::new(rig, settings, [3, 7], [Place::Odd; 2]);
            run.steps(1);
            run.expect_equal();
            run.steps(99);
            run.expect_equal();
            run.expect_counted();
        }
    });
}

/// Without ε, both corrected moments of an unchanging gradient of 1 are 1 in every step, and so is
/// the step, whatever the betas; these are exact in f32.
#[test]
fn an_unchanging_gradient_makes_steps_of_one_length() {
    on_every_adapter(|rig| {
        for betas in [[0.5, 0.75], [0.75, 0.875], [0.984_375, 0.5], [0.5, 0.984_375]] {
            let settings = AdamSettings::adam(1.0).with_betas(betas).with_epsilon(0.0);
            for (index, step) in step_lengths(rig, settings, 80).into_iter().enumerate() {
                let error = (f64::from(step) - 1.0).abs();
                let few = 16.0 * f64::from(f32::EPSILON);
                assert!(error <= few, "{betas:?}: step {index} has length {step}");
            }
        }
    });
}

/// Lengths of steps from 0 with a gradient of 1.
fn step_lengths(rig: &Rig, settings: AdamSettings, count: u32) -> Vec<f32> {
    let [value, gradient] = [0.0, 1.0].map(|value| rig.put_f32(1, 1, &[value], Place::Tight));
    let parameter = Parameter::new("value", value.clone());
    let parameters = Parameters::from_iter([parameter]);
    let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
    let commands = optimizer.update(&[(&value, &gradient)]).unwrap();
    let step = |_| {
        value.write(&rig.gpu.device, &rig.gpu.queue, &[0.0]).unwrap();
        rig.run(&commands);
        -rig.get(&value)[0]
    };
    (0..count).map(step).collect()
}

#[test]
fn moments_have_the_shape_of_the_parameter() {
    on_every_adapter(|rig| {
        let settings = AdamSettings::adam(0.01).with_betas([0.75, 0.5]);
        let mut run = Run::new(rig, settings, [3, 5], [Place::Odd; 2]);
        run.steps(1);
        let OptimizerState::Adam(moments) = run.state() else {
            panic!("no state of Adam");
        };
        let gradient = gradient_of_step([3, 5], 0);
        let of_gradient = |f: fn(f32) -> f32| -> Vec<f32> {
            gradient.values.iter().map(|g| f(*g as f32)).collect()
        };
        assert_eq!(moments.first_moment().shape(), [3, 5]);
        assert_eq!(rig.get(moments.first_moment()), of_gradient(|g| 0.25 * g));
        assert_eq!(moments.second_moment().shape(), [3, 5]);
        assert_eq!(rig.get(moments.second_moment()), of_gradient(|g| 0.5 * g * g));
    });
}

#[test]
fn settings_outside_their_range_are_refused() {
    once_per_adapter(|rig| {
        let good = AdamSettings::adam(0.01);
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            for (settings, name) in [
                (AdamSettings::adam(bad), "learning_rate"),
                (AdamSettings::adamw(bad), "learning_rate"),
                (good.with_epsilon(bad), "epsilon"),
                (good.with_weight_decay(bad), "weight_decay"),
                (good.with_betas([bad, 0.9]), "betas"),
                (good.with_betas([0.9, bad]), "betas"),
            ] {
                expect_settings_refused(rig, settings.into(), name);
            }
        }
        for betas in [[1.0, 0.9], [0.9, 1.0], [1.5, 0.9]] {
            expect_settings_refused(rig, good.with_betas(betas).into(), "betas");
        }
    });
}
