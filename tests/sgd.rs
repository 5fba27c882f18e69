//! `sgd.wgsl` and the optimizer around it, against the reference.

mod common;

use common::optimizers::{Run, expect_settings_refused, gradient_of_step};
use common::{Place, on_every_adapter, once_per_adapter};
use tied_linear::kernels::{ParameterUpdate, SgdSettings, SgdUpdate};
use tied_linear::{Matrix, OptimizerState, wgpu};
use wgpu::util::DeviceExt;

optimizer_tests!(
    SgdSettings::new(0.05).with_momentum(0.8).with_nesterov(true).with_weight_decay(0.3),
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
        let plain = SgdSettings::new(0.01);
        let momentum = plain.with_momentum(0.9);
        for settings in [
            plain,
            momentum,
            plain.with_momentum(1.0),
            momentum.with_nesterov(true),
            plain.with_weight_decay(0.1),
            momentum.with_weight_decay(0.1),
            momentum.with_nesterov(true).with_weight_decay(0.1),
        ] {
            let mut run = Run::new(rig, settings, [3, 7], [Place::Odd; 2]);
            run.steps(1);
            run.expect_equal();
            run.steps(99);
            run.expect_equal();
        }
    });
}

#[test]
fn the_velocity_has_the_shape_of_the_parameter_and_exists_with_momentum_alone() {
    on_every_adapter(|rig| {
        let settings = SgdSettings::new(0.01);
        let plain = Run::new(rig, settings, [3, 5], [Place::Odd; 2]);
        assert!(matches!(plain.state(), OptimizerState::Sgd(None)));
        let mut run = Run::new(rig, settings.with_momentum(0.9), [3, 5], [Place::Odd; 2]);
        run.steps(1);
        let OptimizerState::Sgd(Some(velocity)) = run.state() else {
            panic!("no velocity");
        };
        assert_eq!(velocity.shape(), [3, 5]);
        let gradient = gradient_of_step([3, 5], 0);
        let gradient: Vec<_> = gradient.values.iter().map(|value| *value as f32).collect();
        assert_eq!(rig.get(velocity), gradient);
    });
}

/// 17 million rows of one column are a quad each: 66,407 workgroups, where 65,535 is a usual limit.
#[test]
fn more_workgroups_than_a_dimension_has() {
    on_every_adapter(|rig| {
        let rows = 17_000_000u32;
        let values: Vec<f32> = (0..rows).map(|i| (i % 4_194_301) as f32).collect();
        let column = |values: &[f32]| {
            let row = rig.kernels.matrix("test", 1, rows, values).unwrap();
            Matrix::new(row.buffer(), rows, 1).unwrap()
        };
        let value = column(&values);
        let settings = wgpu::util::BufferInitDescriptor {
            label: Some("settings"),
            contents: &SgdSettings::new(0.25).to_uniform().unwrap(),
            usage: wgpu::BufferUsages::UNIFORM,
        };
        let gradient = column(&values);
        let commands = rig.kernels.sgd(&SgdUpdate {
            parameters: &[ParameterUpdate { value: &value, gradient: &gradient }],
            state: None,
            settings: &rig.gpu.device.create_buffer_init(&settings),
            loss_scale: None,
        });
        rig.run(&commands.unwrap());
        let got = rig.get(&Matrix::new(value.buffer(), 1, rows).unwrap());
        let wrong = got.iter().zip(&values).position(|(got, old)| *got != 0.75 * old);
        assert_eq!(wrong, None, "the first row that is wrong");
    });
}

#[test]
fn settings_outside_their_range_are_refused() {
    once_per_adapter(|rig| {
        let good = SgdSettings::new(0.01);
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            for (settings, name) in [
                (SgdSettings::new(bad), "learning_rate"),
                (good.with_momentum(bad), "momentum"),
                (good.with_weight_decay(bad), "weight_decay"),
            ] {
                expect_settings_refused(rig, settings.into(), name);
            }
        }
        expect_settings_refused(rig, good.with_nesterov(true).into(), "momentum");
    });
}
