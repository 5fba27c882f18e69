//! The optimizers in f64, as PyTorch's documentation writes them, and what holds for all of them.
//! `optimizer_tests!` turns functions of this file into tests of one of them.

use tied_linear::kernels::{AdamSettings, SgdSettings};
use tied_linear::{
    Commands, Error, Matrix, Optimizer, OptimizerSettings, OptimizerState, Parameter, Parameters,
};

use super::reference::Dense;
use super::{
    Place, Rig, expect_close, expect_same_bits, on_every_adapter, once_per_adapter, random,
};

/// One value that is learned: f64 and plain formulas.
#[derive(Debug, Clone, Default)]
struct Element {
    value: f64,
    /// b of SGD.
    velocity: f64,
    /// m and v of Adam.
    first_moment: f64,
    second_moment: f64,
    /// As b or m, but of absolute values.
    momentum_size: f64,
    /// The absolute values of all that was added to the value.
    travelled: f64,
}

impl Element {
    /// https://pytorch.org/docs/stable/generated/torch.optim.SGD.html, with dampening 0. There b
    /// begins as g, as it does here, from 0.
    fn sgd(&mut self, settings: &SgdSettings, gradient: f64) {
        let (rate, momentum) = (settings.learning_rate, settings.momentum);
        let g = gradient + settings.weight_decay * self.value;
        let size = gradient.abs() + settings.weight_decay * self.value.abs();
        self.velocity = momentum * self.velocity + g;
        self.momentum_size = momentum * self.momentum_size + size;
        let direction =
            if settings.nesterov { g + momentum * self.velocity } else { self.velocity };
        self.value -= rate * direction;
        self.travelled += rate * (self.momentum_size + size);
    }

    /// https://pytorch.org/docs/stable/generated/torch.optim.Adam.html and AdamW.html; t is 1 in
    /// the first step.
    fn adam(&mut self, settings: &AdamSettings, gradient: f64, t: u32) {
        let (rate, decay) = (settings.learning_rate, settings.weight_decay);
        let [beta1, beta2] = settings.betas;
        let mut g = gradient;
        if settings.decoupled {
            self.travelled += rate * decay * self.value.abs();
            self.value -= rate * decay * self.value;
        } else {
            g += decay * self.value;
        }
        self.first_moment = beta1 * self.first_moment + (1.0 - beta1) * g;
        self.second_moment = beta2 * self.second_moment + (1.0 - beta2) * g * g;
        self.momentum_size = beta1 * self.momentum_size + (1.0 - beta1) * g.abs();
        let correction1 = 1.0 - beta1.powi(t as i32);
        let correction2 = 1.0 - beta2.powi(t as i32);
        let denominator = (self.second_moment / correction2).sqrt() + settings.epsilon;
        self.value -= rate * (self.first_moment / correction1) / denominator;
        self.travelled += rate * (self.momentum_size / correction1) / denominator;
    }
}

/// The values that a run begins with.
fn initial([rows, columns]: [u32; 2]) -> Dense {
    random(rows, columns, 1)
}

/// The gradient that a run uses for a step, counted from 0.
pub fn gradient_of_step([rows, columns]: [u32; 2], step: u32) -> Dense {
    random(rows, columns, 100 + u64::from(step))
}

fn parameter(name: &'static str, value: &Matrix) -> Parameter {
    let value = value.clone();
    Parameter { name, value }
}

/// A parameter on the device with an optimizer, and the reference beside it.
pub struct Run<'a> {
    what: String,
    rig: &'a Rig,
    value: Matrix,
    gradient: Matrix,
    optimizer: Optimizer,
    commands: Commands,
    elements: Vec<Element>,
    steps: u32,
}

impl<'a> Run<'a> {
    pub fn new(
        rig: &'a Rig,
        settings: impl Into<OptimizerSettings>,
        [rows, columns]: [u32; 2],
        [value_place, gradient_place]: [Place; 2],
    ) -> Self {
        let settings = settings.into();
        let values = initial([rows, columns]);
        let value = rig.put(&values, value_place);
        let gradient = rig.poisoned(rows, columns, gradient_place);
        let parameters = Parameters::from_iter([parameter("value", &value)]);
        let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
        let commands = optimizer.update(&[(&value, &gradient)]).unwrap();
        let element = |value: &f64| Element { value: *value, ..Default::default() };
        Self {
            what: format!(
                "{rows}x{columns}, value {value_place:?}, gradient {gradient_place:?}, {settings:?}"
            ),
            rig,
            value,
            gradient,
            optimizer,
            commands,
            elements: values.values.iter().map(element).collect(),
            steps: 0,
        }
    }

    /// Steps of the device and of the reference, each with a gradient of its own.
    pub fn steps(&mut self, steps: u32) {
        for _ in 0..steps {
            let gradient = self.next_gradient();
            self.rig.run(&self.commands);
            self.reference_step(&gradient);
        }
    }

    /// Writes the next step's gradient.
    fn next_gradient(&self) -> Dense {
        let gradient = gradient_of_step(self.value.shape(), self.steps);
        let values: Vec<f32> = gradient.values.iter().map(|value| *value as f32).collect();
        let gpu = &self.rig.gpu;
        self.gradient.write(&gpu.device, &gpu.queue, &values).unwrap();
        gradient
    }

    /// A step of the reference alone, with the settings in force.
    fn reference_step(&mut self, gradient: &Dense) {
        self.steps += 1;
        let settings = self.optimizer.settings();
        for (element, gradient) in self.elements.iter_mut().zip(&gradient.values) {
            match &settings {
                OptimizerSettings::Sgd(settings) => element.sgd(settings, *gradient),
                OptimizerSettings::Adam(settings) => element.adam(settings, *gradient, self.steps),
                _ => unreachable!("an optimizer that the tests do not know"),
            }
        }
    }

    /// Fails where the parameter is not what the reference says, or anything around it was written.
    pub fn expect_equal(&self) {
        let what = format!("{}, after {} steps", self.what, self.steps);
        let [rows, columns] = self.value.shape();
        let all = |f: fn(&Element) -> f64| Dense {
            rows,
            columns,
            values: self.elements.iter().map(f).collect(),
        };
        // Every step rounds the value; what is added to it has a few roundings behind it.
        let roundings = 2.0 * f64::from(self.steps).sqrt();
        let sizes = all(|element| element.value.abs().max(1.0));
        let tolerance = sizes.zip(&all(|element| element.travelled), |size, travelled| {
            f64::from(f32::EPSILON) * (roundings * size + 8.0 * travelled)
        });
        let got = self.rig.get(&self.value);
        expect_close(&what, &got, &all(|element| element.value), &tolerance);
        self.rig.expect_surroundings_untouched(&what, &self.value);
        self.rig.expect_surroundings_untouched(&what, &self.gradient);
    }

    /// What the optimizer keeps.
    pub fn state(&self) -> &OptimizerState {
        self.optimizer.states().next().expect("a state").1
    }

    /// Fails where a copy of Adam's count of steps is another number. SGD counts none.
    pub fn expect_counted(&self) {
        if let OptimizerState::Adam(state) = self.state() {
            let quads = self.value.rows() * self.value.columns().div_ceil(4);
            let want = vec![self.steps; quads.div_ceil(256) as usize];
            assert_eq!(self.rig.bits(state.steps()), want, "{}", self.what);
        }
    }

    fn set_learning_rate(&mut self, learning_rate: f64) -> tied_linear::Result<()> {
        let gpu = &self.rig.gpu;
        self.optimizer.set_learning_rate(&gpu.device, &gpu.queue, learning_rate)
    }
}

/// Makes tests of functions of this file, for one optimizer.
// Exported so that a test crate without such tests has no unused macro.
#[macro_export]
macro_rules! optimizer_tests {
    ($settings:expr, [$($test:ident,)*]) => {
        $(
            #[test]
            fn $test() {
                $crate::common::optimizers::$test($settings.into());
            }
        )*
    };
}

/// Odd columns, several workgroups; value and gradient each in every place.
pub fn odd_shapes_in_every_place(settings: OptimizerSettings) {
    on_every_adapter(|rig| {
        for shape in [[1, 1], [1, 5], [7, 3], [300, 2], [20, 68]] {
            for value_place in Place::ALL {
                for gradient_place in Place::ALL {
                    let mut run = Run::new(rig, settings, shape, [value_place, gradient_place]);
                    run.steps(3);
                    run.expect_equal();
                    run.expect_counted();
                }
            }
        }
    });
}

/// 293 workgroups; and the same in 15 lines of 20, which leave the last seven nothing to do.
pub fn many_workgroups(settings: OptimizerSettings) {
    on_every_adapter(|rig| {
        let narrow = rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 20);
        for rig in [rig, &narrow] {
            for place in [Place::Odd, Place::Even] {
                let mut run = Run::new(rig, settings, [300, 1000], [place; 2]);
                run.steps(3);
                run.expect_equal();
                run.expect_counted();
            }
        }
    });
}

/// The same commands again and again, in one pass, and in one pass each.
pub fn ten_records_in_one_submission_are_ten_steps(settings: OptimizerSettings) {
    on_every_adapter(|rig| {
        for [passes, records] in [[1, 10], [10, 1]] {
            let mut run = Run::new(rig, settings, [40, 67], [Place::Odd; 2]);
            let gradient = run.next_gradient();
            let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
            for _ in 0..passes {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for _ in 0..records {
                    run.commands.record(&mut pass);
                }
            }
            rig.gpu.queue.submit([encoder.finish()]);
            for _ in 0..10 {
                run.reference_step(&gradient);
            }
            run.expect_equal();
            run.expect_counted();
        }
    });
}

/// Only the moments and the count go on, and are right once there is a rate.
pub fn a_learning_rate_of_zero_leaves_the_value_alone(settings: OptimizerSettings) {
    on_every_adapter(|rig| {
        let at_rest = settings.with_learning_rate(0.0);
        let mut run = Run::new(rig, at_rest, [5, 7], [Place::Odd; 2]);
        let before = rig.bits(&run.value);
        run.steps(3);
        expect_same_bits("value", &rig.bits(&run.value), &before);
        run.set_learning_rate(0.1).unwrap();
        run.steps(3);
        run.expect_equal();
        run.expect_counted();
    });
}

/// Commands that were recorded before are submitted later, too.
pub fn a_new_learning_rate_holds_for_all_that_is_submitted_later(settings: OptimizerSettings) {
    on_every_adapter(|rig| {
        let mut run = Run::new(rig, settings, [5, 7], [Place::Odd; 2]);
        run.steps(2);
        let gradient = run.next_gradient();
        let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
        run.commands.record(&mut encoder.begin_compute_pass(&Default::default()));
        let recorded = encoder.finish();
        run.set_learning_rate(0.7).unwrap();
        rig.gpu.queue.submit([recorded]);
        run.reference_step(&gradient);
        run.steps(2);
        run.expect_equal();
        assert_eq!(run.optimizer.settings(), settings.with_learning_rate(0.7));
    });
}

/// The error says what is wrong, and the rate in force stays.
pub fn a_bad_learning_rate_is_refused(settings: OptimizerSettings) {
    once_per_adapter(|rig| {
        let mut run = Run::new(rig, settings, [2, 3], [Place::Tight; 2]);
        for rate in [-1.0, -f64::MIN_POSITIVE, f64::NAN, f64::INFINITY] {
            expect_refused(run.set_learning_rate(rate), "learning_rate");
            expect_settings_refused(rig, settings.with_learning_rate(rate), "learning_rate");
        }
        let other = rig.with_limits(|_| {}).gpu;
        let result = run.optimizer.set_learning_rate(&other.device, &other.queue, 0.1);
        let mismatch = matches!(result, Err(Error::DeviceMismatch { what: "optimizer" }));
        assert!(mismatch, "{result:?}");
        assert_eq!(run.optimizer.settings(), settings);
        run.steps(1);
        run.expect_equal();
    });
}

/// Fails where an optimizer accepts these settings, or refuses them for another than `setting`.
pub fn expect_settings_refused(rig: &Rig, settings: OptimizerSettings, setting: &str) {
    let value = rig.put(&initial([2, 3]), Place::Tight);
    let parameters = Parameters::from_iter([parameter("value", &value)]);
    let optimizer = Optimizer::new(&rig.kernels, &parameters, settings);
    expect_refused(optimizer, setting);
}

fn expect_refused<T: std::fmt::Debug>(result: tied_linear::Result<T>, setting: &str) {
    let named = matches!(&result, Err(Error::Setting { name, .. }) if *name == setting);
    assert!(named, "{setting} must be refused, but the result is {result:?}");
}

/// As a tied weight is by encoder and decoder: one state, one update, whatever the order of the
/// gradients. What belongs to no parameter is left alone.
pub fn a_matrix_listed_twice_is_updated_once(settings: OptimizerSettings) {
    on_every_adapter(|rig| {
        let (weight_shape, bias_shape) = ([6, 10], [1, 10]);
        let put = |values: &Dense| rig.put(values, Place::Odd);
        let (weight, bias) = (put(&initial(weight_shape)), put(&initial(bias_shape)));
        let weight_gradient = put(&gradient_of_step(weight_shape, 0));
        let bias_gradient = put(&gradient_of_step(bias_shape, 0));
        // A view of its own, of the same elements.
        let again = Matrix::view(weight.buffer(), weight.layout()).unwrap();
        let parameters = Parameters::from_iter([
            parameter("weight", &weight),
            parameter("bias", &bias),
            parameter("decoder's weight", &again),
        ]);
        let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
        let names: Vec<_> = optimizer.states().map(|(known, _)| known.name).collect();
        assert_eq!(names, ["weight", "bias"]);
        let pairs = [
            (&bias_gradient, &weight_gradient),
            (&bias, &bias_gradient),
            (&again, &weight_gradient),
        ];
        let commands = optimizer.update(&pairs).unwrap();
        assert_eq!(commands.len(), 2);
        rig.run(&commands);
        let alone = |shape| {
            let mut run = Run::new(rig, settings, shape, [Place::Odd; 2]);
            run.steps(1);
            rig.bits(&run.value)
        };
        expect_same_bits("weight", &rig.bits(&weight), &alone(weight_shape));
        expect_same_bits("bias", &rig.bits(&bias), &alone(bias_shape));
    });
}

/// The error names the parameter.
pub fn a_missing_gradient_is_an_error(settings: OptimizerSettings) {
    once_per_adapter(|rig| {
        let put = |shape| rig.put(&initial(shape), Place::Tight);
        let (weight, bias) = (put([3, 4]), put([1, 4]));
        let parameters =
            Parameters::from_iter([parameter("weight", &weight), parameter("bias", &bias)]);
        let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
        let result = optimizer.update(&[(&weight, &put([3, 4]))]);
        let missing = matches!(result, Err(Error::NoGradient { parameter: "bias" }));
        assert!(missing, "{result:?}");
    });
}

/// No elements, no commands.
pub fn an_empty_parameter_is_nothing_to_do(settings: OptimizerSettings) {
    once_per_adapter(|rig| {
        for shape in [[0, 5], [5, 0]] {
            let run = Run::new(rig, settings, shape, [Place::Odd; 2]);
            assert!(run.commands.is_empty(), "{shape:?}");
        }
    });
}
