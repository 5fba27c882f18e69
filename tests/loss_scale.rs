//! `loss_scale`: whether gradients are finite, what that makes of the loss's scale, and the steps that it
//! skips.

mod common;

use common::optimizers::{buffers_of, state_of};
use common::{
    Place, Rig, expect_same_bits, mixed_elements, on_every_adapter, once_per_adapter, random,
};
use tied_linear::kernels::{AdamState, AdamUpdate, ParameterUpdate, SgdUpdate};
use tied_linear::{
    Activation, AdamSettings, ElementType, Error, Gradients, LossScale, LossScaleSettings,
    LossScaleStatus, Matrix, Optimizer, OptimizerSettings, Parameter, Parameters, SgdSettings,
    TiedLinear, TiedLinearOptions, TrainingOptions, TrainingStep, wgpu,
};

use ElementType::{Bf16, F16, F32};

fn status(rig: &Rig, scale: &LossScale) -> LossScaleStatus {
    scale.read_blocking(&rig.gpu.device, &rig.gpu.queue).unwrap()
}

fn check(rig: &Rig, scale: &LossScale, gradients: &[&Matrix]) -> LossScaleStatus {
    rig.run(&rig.kernels.loss_scale(scale, gradients).unwrap());
    status(rig, scale)
}

fn new_scale(rig: &Rig, settings: LossScaleSettings) -> LossScale {
    LossScale::new(&rig.kernels, settings).unwrap()
}

// The scale.

#[test]
fn it_grows_after_an_interval_and_shrinks_at_once() {
    once_per_adapter(|rig| {
        let settings =
            LossScaleSettings::dynamic().with_initial(8.0).with_interval(2).with_range([4.0, 16.0]);
        let scale = new_scale(rig, settings);
        let finite = rig.kernels.matrix("finite", 1, 3, &[1.0, f32::MAX, -f32::MAX]).unwrap();
        let infinite = rig.kernels.matrix("infinite", 1, 3, &[1.0, 2.0, f32::INFINITY]).unwrap();
        let mut skipped = 0;
        for (gradient, scale_after, good_steps) in [
            (&finite, 8.0, 1),
            (&finite, 16.0, 0),
            (&finite, 16.0, 1),
            (&finite, 16.0, 0),
            (&finite, 16.0, 1),
            (&infinite, 8.0, 0),
            (&infinite, 4.0, 0),
            (&infinite, 4.0, 0),
            (&finite, 4.0, 1),
            (&finite, 8.0, 0),
        ] {
            skipped += u32::from(std::ptr::eq(gradient, &infinite));
            let want = LossScaleStatus { scale: scale_after, good_steps, skipped };
            assert_eq!(check(rig, &scale, &[gradient]), want);
        }
        let words = [scale.scale(), scale.good_steps(), scale.skipped()];
        let words = words.map(|word| rig.bits(&word.unwrap())[0]);
        assert_eq!(words, [8f32.to_bits(), 0, 3]);
    });
}

/// Factors other than two, and steps that were finite before one that is not are not counted.
#[test]
fn its_factors_are_those_of_the_settings() {
    once_per_adapter(|rig| {
        let settings = LossScaleSettings::dynamic()
            .with_initial(1.5)
            .with_factors(4.0, 0.125)
            .with_interval(3)
            .with_range([0.1, 1000.0]);
        let scale = new_scale(rig, settings);
        assert_eq!(scale.settings(), settings);
        let start = LossScaleStatus { scale: 1.5, good_steps: 0, skipped: 0 };
        assert_eq!(status(rig, &scale), start);
        let finite = rig.kernels.matrix("finite", 1, 1, &[0.0]).unwrap();
        let nan = rig.kernels.matrix("nan", 1, 1, &[f32::NAN]).unwrap();
        for (gradient, scale_after, good_steps, skipped) in [
            (&finite, 1.5, 1, 0),
            (&finite, 1.5, 2, 0),
            (&nan, 0.1875, 0, 1),
            (&finite, 0.1875, 1, 1),
            (&finite, 0.1875, 2, 1),
            (&finite, 0.75, 0, 1),
            (&nan, 0.1, 0, 2),
        ] {
            let want = LossScaleStatus { scale: scale_after, good_steps, skipped };
            assert_eq!(check(rig, &scale, &[gradient]), want);
        }
    });
}

#[test]
fn a_fixed_scale_stays_and_counts_what_is_skipped() {
    once_per_adapter(|rig| {
        let finite = rig.kernels.matrix("finite", 2, 2, &[1.0; 4]).unwrap();
        let nan = rig.kernels.matrix("nan", 2, 2, &[1.0, f32::NAN, 1.0, 1.0]).unwrap();
        for fixed in [1.0, 3.0, 2f64.powi(126), 2f64.powi(-126)] {
            let scale = new_scale(rig, LossScaleSettings::fixed(fixed));
            let mut want = 0;
            for gradient in [&finite, &nan, &finite, &nan, &nan, &finite] {
                want += u32::from(std::ptr::eq(gradient, &nan));
                let got = check(rig, &scale, &[gradient]);
                assert_eq!([got.scale, got.skipped as f32], [fixed as f32, want as f32]);
            }
        }
    });
}

// What it sees.

/// Fails unless exactly these elements of each gradient, one at a time, are seen when they are not finite.
fn check_places(rig: &Rig, shapes: &[[u32; 2]], elements: &[ElementType], place: Place) {
    let gradients: Vec<_> = std::iter::zip(shapes, elements)
        .map(|([rows, columns], element)| rig.put_as(&random(*rows, *columns, 7), place, *element))
        .collect();
    let all: Vec<_> = gradients.iter().collect();
    let scale = new_scale(rig, LossScaleSettings::fixed(1.0));
    let commands = rig.kernels.loss_scale(&scale, &all).unwrap();
    assert_eq!(commands.len(), all.len().div_ceil(3));
    let skipped = || {
        rig.run(&commands);
        status(rig, &scale).skipped
    };
    assert_eq!(skipped(), 0, "{elements:?} {place:?}: surroundings are seen");
    let mut want = 0;
    for (index, gradient) in gradients.iter().enumerate() {
        let [rows, columns] = gradient.shape();
        let places = [
            [0, 0],
            [0, columns - 1],
            [rows / 2, columns / 2],
            [rows - 1, 0],
            [rows - 1, columns - 1],
        ];
        // By turns, so that each of them stands in each place of some gradient.
        let bad = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN].into_iter().cycle().skip(index);
        for ([row, column], bad) in places.into_iter().zip(bad) {
            let before = rig.replace(gradient, [row, column], bad);
            want += 1;
            let what = format!("{elements:?} {place:?}, gradient {index}, {row}, {column}: {bad}");
            assert_eq!(skipped(), want, "{what} on {}", rig.name);
            rig.replace(gradient, [row, column], before);
        }
        assert_eq!(skipped(), want, "{elements:?} {place:?}, gradient {index}: all finite again");
    }
}

/// Each of up to seven gradients, which take three dispatches, in surroundings of NaN; odd ends of rows in
/// 16 bits, whose last word holds one of these.
#[test]
fn each_element_of_each_gradient_is_seen_and_nothing_else() {
    on_every_adapter(|rig| {
        let shapes = [[5, 7], [1, 1], [3, 9], [1, 10], [4, 3], [300, 5], [2, 2]];
        for place in Place::ALL {
            for element in ElementType::ALL {
                check_places(rig, &shapes, &[element; 7], place);
            }
        }
        for elements in
            [[F32, F16, Bf16, F32, Bf16, F16, F16], [Bf16, F32, F16, F16, F16, F32, F32]]
        {
            check_places(rig, &shapes, &elements, Place::Odd);
        }
    });
}

/// The three gradients of a dispatch, each type in each place; one and two gradients; in words of four.
#[test]
fn the_gradients_of_a_dispatch_are_of_any_types() {
    on_every_adapter(|rig| {
        for elements in mixed_elements::<3>() {
            check_places(rig, &[[3, 5], [2, 7], [1, 9]], &elements, Place::Odd);
        }
        for place in [Place::Tight, Place::Even] {
            check_places(rig, &[[3, 8]], &[F32], place);
            check_places(rig, &[[3, 8], [70, 36]], &[F32; 2], place);
        }
    });
}

/// More than the 1,048,576 values that the most workgroups of a gradient take in their first round; only the
/// last is bad. On a device with few workgroups in a line, too.
#[test]
fn workgroups_go_on_to_the_end_of_a_large_gradient() {
    on_every_adapter(|rig| {
        let narrow = rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 40);
        for rig in [rig, &narrow] {
            for (rows, columns, element) in [
                (1, 1_048_577, F32),
                (1, 1_048_580, F32),
                (2, 1_048_579, F16),
                (262_145, 1, Bf16),
                (530_000, 1, F32),
            ] {
                let large = rig.kernels.zeros_as("large", rows, columns, element).unwrap();
                let small = rig.kernels.matrix("small", 1, 3, &[1.0; 3]).unwrap();
                let scale = new_scale(rig, LossScaleSettings::dynamic());
                let what = format!("{rows}x{columns} {element} on {}", rig.name);
                for gradients in [[&large, &small], [&small, &large]] {
                    let before = status(rig, &scale);
                    let good_steps = before.good_steps + 1;
                    let good = check(rig, &scale, &gradients);
                    assert_eq!(good, LossScaleStatus { good_steps, ..before }, "{what}");
                    rig.replace(&large, [rows - 1, columns - 1], f32::NAN);
                    let bad = check(rig, &scale, &gradients);
                    let (scale, skipped) = (before.scale / 2.0, before.skipped + 1);
                    let want = LossScaleStatus { scale, good_steps: 0, skipped };
                    assert_eq!(bad, want, "{what}");
                    rig.replace(&large, [rows - 1, columns - 1], 0.0);
                }
            }
        }
    });
}

/// So many that each has fewer workgroups than it would have alone; the last one's last value is bad.
#[test]
fn a_check_of_many_gradients_counts_all_of_their_workgroups() {
    once_per_adapter(|rig| {
        let large = rig.kernels.zeros("large", 1, 1_048_576).unwrap();
        let bad = rig.kernels.matrix("bad", 1, 2, &[1.0, f32::NAN]).unwrap();
        let scale = new_scale(rig, LossScaleSettings::dynamic());
        for (gradients, good_steps, skipped) in [
            (vec![&large; 70], 1, 0),
            ([vec![&large; 69], vec![&bad]].concat(), 0, 1),
            (vec![&large; 70], 1, 1),
        ] {
            let got = check(rig, &scale, &gradients);
            assert_eq!([got.good_steps, got.skipped], [good_steps, skipped]);
        }
        let refused = rig.kernels.loss_scale(&scale, &vec![&bad; 65_536]).map(|_| ());
        assert!(matches!(refused, Err(Error::Limit { needed: 65_536, .. })), "{refused:?}");
    });
}

#[test]
fn empty_gradients_and_none_are_nothing_to_do() {
    once_per_adapter(|rig| {
        let scale = new_scale(rig, LossScaleSettings::dynamic());
        let nan = rig.kernels.matrix("nan", 1, 1, &[f32::NAN]).unwrap();
        let empty = Matrix::new(nan.buffer(), 0, 3).unwrap();
        let narrow = Matrix::new(nan.buffer(), 3, 0).unwrap();
        for gradients in [&[][..], &[&empty], &[&narrow, &empty, &empty, &empty]] {
            assert!(rig.kernels.loss_scale(&scale, gradients).unwrap().is_empty());
        }
        // They take no place among others.
        let all = [&empty, &narrow, &empty, &nan];
        let commands = rig.kernels.loss_scale(&scale, &all).unwrap();
        assert_eq!(commands.len(), 1);
        assert_eq!(check(rig, &scale, &all).skipped, 1);
    });
}

// What is skipped.

fn all_settings() -> [OptimizerSettings; 4] {
    let sgd = SgdSettings::new(0.1);
    [
        sgd.into(),
        sgd.with_momentum(0.9).with_nesterov(true).into(),
        AdamSettings::adam(0.01).into(),
        AdamSettings::adamw(0.01).into(),
    ]
}

/// Four parameters, two of which have a working copy, with an optimizer.
struct Learner<'a> {
    rig: &'a Rig,
    values: Vec<Matrix>,
    optimizer: Optimizer,
}

const SHAPES: [[u32; 2]; 4] = [[30, 37], [1, 37], [5, 4], [1, 30]];

impl<'a> Learner<'a> {
    fn new(rig: &'a Rig, settings: OptimizerSettings, scale: Option<LossScaleSettings>) -> Self {
        let elements = [F16, F32, Bf16, F32];
        let values = std::iter::zip(SHAPES, elements).map(|([rows, columns], element)| {
            let values: Vec<_> =
                random(rows, columns, 1).values.iter().map(|value| *value as f32).collect();
            rig.kernels.master("value", rows, columns, &values, element).unwrap()
        });
        let values: Vec<_> = values.collect();
        let names = ["first", "second", "third", "fourth"];
        let parameters =
            std::iter::zip(names, &values).map(|(name, value)| Parameter::new(name, value.clone()));
        let parameters: Parameters = parameters.collect();
        let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
        let optimizer = match scale {
            Some(settings) => optimizer.with_loss_scale(new_scale(rig, settings)),
            None => optimizer,
        };
        Self { rig, values, optimizer }
    }

    /// The commands of an update with random gradients times `factor`, of which one may be bad.
    fn update(&self, step: u64, factor: f64, bad: Option<usize>) -> tied_linear::Commands {
        let gradients = (0..).zip(SHAPES).map(|(index, [rows, columns])| {
            let gradient = random(rows, columns, 10 * step + index as u64).map(|g| factor * g);
            let gradient = self.rig.put(&gradient, Place::Tight);
            if bad == Some(index) {
                self.rig.replace(&gradient, [rows - 1, columns - 1], f32::INFINITY);
            }
            gradient
        });
        let gradients: Vec<_> = gradients.collect();
        let pairs: Vec<_> = self.values.iter().zip(&gradients).collect();
        self.optimizer.update(&pairs).unwrap()
    }

    /// All bits of all buffers: values, copies and what the optimizer keeps.
    fn state(&self) -> Vec<u32> {
        let buffers = buffers_of(&self.optimizer);
        buffers.iter().flat_map(|buffer| self.rig.bits(buffer)).collect()
    }
}

/// Whichever gradient is bad, nothing of any parameter changes, and the next step is as if the skipped one
/// had not been.
#[test]
fn a_skipped_step_leaves_no_trace() {
    on_every_adapter(|rig| {
        for settings in all_settings() {
            let scale = LossScaleSettings::fixed(8.0);
            let (skipping, without) = (
                Learner::new(rig, settings, Some(scale)),
                Learner::new(rig, settings, Some(scale)),
            );
            for step in 0..4 {
                let before = skipping.state();
                rig.run(&skipping.update(90, 8.0, Some(step as usize)));
                let what = format!("{settings:?}, step {step}, on {}", rig.name);
                expect_same_bits(&format!("{what}: skipped"), &skipping.state(), &before);
                for learner in [&skipping, &without] {
                    rig.run(&learner.update(step, 8.0, None));
                }
                assert_ne!(skipping.state(), before, "{what}: a step is taken");
                expect_same_bits(&what, &skipping.state(), &without.state());
            }
            assert_eq!(status(rig, skipping.optimizer.loss_scale().unwrap()).skipped, 4);
        }
    });
}

/// Updates with gradients times a power of two give the bits of updates without.
#[test]
fn a_power_of_two_is_taken_out_to_the_bit() {
    on_every_adapter(|rig| {
        for settings in all_settings() {
            for fixed in [2f64.powi(-10), 65536.0] {
                let plain = Learner::new(rig, settings, None);
                let scaled = Learner::new(rig, settings, Some(LossScaleSettings::fixed(fixed)));
                for step in 0..3 {
                    rig.run(&plain.update(step, 1.0, None));
                    rig.run(&scaled.update(step, fixed, None));
                }
                let what = format!("{settings:?}, scale {fixed}, on {}", rig.name);
                expect_same_bits(&what, &scaled.state(), &plain.state());
            }
        }
    });
}

/// And so do whole steps, in which the loss is multiplied: the loss that is told is that without a scale.
#[test]
fn a_training_step_with_a_power_of_two_gives_the_same_bits() {
    on_every_adapter(|rig| {
        let train = |scale: Option<f64>| {
            let options = TiedLinearOptions::new(19, 8)
                .with_activations(Activation::GeluErf, Activation::Sigmoid)
                .with_seed(4);
            let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
            let settings = AdamSettings::adam(0.01);
            let mut optimizer =
                Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
            if let Some(scale) = scale {
                optimizer =
                    optimizer.with_loss_scale(new_scale(rig, LossScaleSettings::fixed(scale)));
            }
            let gradients = Gradients::new(&layer).unwrap();
            let input = rig.put(&random(23, 19, 1), Place::Odd);
            let options = TrainingOptions::default();
            let step =
                TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options).unwrap();
            let mut bits = Vec::new();
            for _ in 0..3 {
                rig.run(&step.gradient_commands().clone().then(step.update_commands().clone()));
                bits.extend(rig.bits(step.loss()));
            }
            bits.extend(state_of(rig, &optimizer));
            (bits, rig.get(&gradients.weight))
        };
        let (want, gradient) = train(None);
        for scale in [0.25, 1024.0] {
            let (got, scaled) = train(Some(scale));
            expect_same_bits(&format!("scale {scale} on {}", rig.name), &got, &want);
            let gradient = gradient.iter().map(|value| scale as f32 * value);
            assert!(scaled.into_iter().eq(gradient), "the gradient is that of the scaled loss");
        }
    });
}

/// A scale that is no power of two costs a few roundings.
#[test]
fn any_scale_is_taken_out() {
    on_every_adapter(|rig| {
        let plain = Learner::new(rig, SgdSettings::new(0.1).into(), None);
        let scale = LossScaleSettings::fixed(1000.0);
        let scaled = Learner::new(rig, SgdSettings::new(0.1).into(), Some(scale));
        rig.run(&plain.update(0, 1.0, None));
        rig.run(&scaled.update(0, 1000.0, None));
        for (got, want) in scaled.values.iter().zip(&plain.values) {
            for (got, want) in rig.get(got).into_iter().zip(rig.get(want)) {
                assert!((got - want).abs() <= 1e-6, "{got}, want {want}");
            }
        }
    });
}

/// Steps of which some are skipped, as the scale changes on the way: recorded in one pass, in one submission,
/// and run one by one.
#[test]
fn steps_in_one_submission_end_as_steps_one_by_one() {
    on_every_adapter(|rig| {
        for settings in all_settings() {
            let scale = LossScaleSettings::dynamic().with_initial(8.0).with_interval(2);
            let learners: Vec<_> =
                (0..3).map(|_| Learner::new(rig, settings, Some(scale))).collect();
            let updates = |learner: &Learner<'_>| {
                let bad = [None, Some(3), None, None, Some(0), Some(2), None, None];
                let updates = (0..).zip(bad).map(|(step, bad)| learner.update(step, 8.0, bad));
                updates.collect::<Vec<_>>()
            };
            for update in updates(&learners[0]) {
                rig.run(&update);
            }
            let [in_a_pass, in_passes] = [1, 2].map(|index| updates(&learners[index]));
            let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for update in &in_a_pass {
                update.record(&mut pass);
            }
            drop(pass);
            for update in &in_passes {
                update.record(&mut encoder.begin_compute_pass(&Default::default()));
            }
            rig.gpu.queue.submit([encoder.finish()]);
            let of = |learner: &Learner<'_>| status(rig, learner.optimizer.loss_scale().unwrap());
            // 8, then 4, 8, 4, 2 and 4.
            let want = LossScaleStatus { scale: 4.0, good_steps: 0, skipped: 3 };
            for learner in &learners {
                assert_eq!(of(learner), want, "{settings:?} on {}", rig.name);
                let what = format!("{settings:?} on {}", rig.name);
                expect_same_bits(&what, &learner.state(), &learners[0].state());
            }
        }
    });
}

// What is refused.

#[test]
fn settings_outside_their_range_are_refused() {
    once_per_adapter(|rig| {
        let good = LossScaleSettings::dynamic();
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        let mut cases = vec![
            (good.with_interval(0), "interval"),
            (good.with_range([4.0, 2.0]), "range"),
            // What is left of it in f32 is subnormal, or its inverse is.
            (good.with_range([1e-39, 65536.0]), "range"),
            (good.with_range([1.0, 2f64.powi(127)]), "range"),
            (LossScaleSettings::fixed(2f64.powi(127)), "range"),
            (good.with_initial(2f64.powi(25)), "initial"),
            (good.with_initial(2f64.powi(-25)), "initial"),
            (good.with_factors(0.99, 0.5), "growth"),
            (good.with_factors(1e35, 0.5), "growth"),
            (good.with_factors(2.0, 1.01), "backoff"),
            (good.with_factors(2.0, 1e-40), "backoff"),
        ];
        for bad in [nan, infinity, -infinity, 0.0, -1.0] {
            cases.push((good.with_initial(bad), "initial"));
            cases.push((good.with_factors(bad, 0.5), "growth"));
            cases.push((good.with_factors(2.0, bad), "backoff"));
            cases.push((good.with_range([bad, 65536.0]), "range"));
            cases.push((good.with_range([1.0, bad]), "range"));
            cases.push((LossScaleSettings::fixed(bad), "range"));
        }
        for (settings, setting) in cases {
            let result = LossScale::new(&rig.kernels, settings).map(|_| ());
            let named = matches!(&result, Err(Error::Setting { name, .. }) if *name == setting);
            assert!(named, "{settings:?}: {setting} must be refused, but: {result:?}");
        }
        for settings in [
            good,
            good.with_initial(2f64.powi(24)),
            good.with_factors(1.0, 1.0),
            good.with_range([2f64.powi(-126), 2f64.powi(126)]),
            good.with_interval(u32::MAX),
        ] {
            new_scale(rig, settings);
        }
    });
}

#[test]
fn a_scale_or_a_gradient_of_another_device_is_refused() {
    once_per_adapter(|rig| {
        let other = rig.with_limits(|_| {});
        let gradient = |rig: &Rig| rig.kernels.matrix("gradient", 1, 4, &[1.0; 4]).unwrap();
        let [own, foreign] = [rig, &other].map(|rig| new_scale(rig, LossScaleSettings::dynamic()));
        for (scale, gradient) in [(&foreign, gradient(rig)), (&own, gradient(&other))] {
            let result = rig.kernels.loss_scale(scale, &[&gradient]).map(|_| ());
            assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
        }
        let value = gradient(rig);
        let parameters = Parameters::from_iter([Parameter::new("value", value.clone())]);
        let settings = SgdSettings::new(0.1);
        let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
        let update = optimizer.with_loss_scale(foreign).update(&[(&value, &gradient(rig))]);
        let update = update.map(|_| ());
        assert!(matches!(update, Err(Error::Refused { .. })), "{update:?}");
    });
}

/// Gradients that no kernel could read, and those that share a buffer with the scale.
#[test]
fn gradients_that_cannot_be_read_are_refused() {
    once_per_adapter(|rig| {
        let scale = new_scale(rig, LossScaleSettings::dynamic());
        let result = rig.kernels.loss_scale(&scale, &[&scale.scale().unwrap()]).map(|_| ());
        assert!(matches!(result, Err(Error::Aliased { .. })), "{result:?}");
        let usage = wgpu::BufferUsages::COPY_DST;
        let unusable = Matrix::new(&common::buffer(&rig.gpu.device, 64, usage), 2, 3).unwrap();
        let result = rig.kernels.loss_scale(&scale, &[&unusable]).map(|_| ());
        assert!(matches!(result, Err(Error::Usage { operand: "gradient_0", .. })), "{result:?}");
        let layout = Place::At { offset: 1, gap: 1 }.layout_of(2, 3, F32);
        let layout = tied_linear::Layout { element: F16, ..layout };
        let buffer = common::buffer(&rig.gpu.device, 64, common::USAGES);
        let odd = Matrix::view(&buffer, layout).unwrap();
        let result = rig.kernels.loss_scale(&scale, &[&odd]).map(|_| ());
        assert!(matches!(result, Err(Error::ElementType { .. })), "{result:?}");
    });
}

/// The first parameter has been updated by then, from sums that nobody had looked at.
#[test]
fn the_rest_of_a_fused_update_takes_no_scale() {
    once_per_adapter(|rig| {
        let scale = new_scale(rig, LossScaleSettings::dynamic());
        let matrix = || rig.kernels.zeros("matrix", 2, 3).unwrap();
        let (value, gradient) = (matrix(), matrix());
        let parameters = &[ParameterUpdate { value: &value, gradient: &gradient }];
        let settings = &common::buffer(&rig.gpu.device, 64, wgpu::BufferUsages::UNIFORM);
        let loss_scale = Some(&scale);
        let state = &AdamState::new(&rig.kernels, &[&value]).unwrap();
        let adam = AdamUpdate { parameters, state, settings, loss_scale };
        let sgd = SgdUpdate { parameters, state: None, settings, loss_scale };
        for result in [rig.kernels.adam_rest(&adam), rig.kernels.sgd_rest(&sgd)] {
            let result = result.map(|_| ());
            let what = "loss_scale";
            assert!(
                matches!(result, Err(Error::Incompatible { what: given, .. }) if given == what),
                "{result:?}"
            );
        }
        let [adam, sgd] = [rig.kernels.adam(&adam), rig.kernels.sgd(&sgd)].map(|r| r.is_ok());
        assert!(adam && sgd);
    });
}
