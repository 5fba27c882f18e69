//! The optimizers in f64, as PyTorch's documentation writes them, and what holds for all of them.
//! `optimizer_tests!` turns functions of this file into tests of one of them.

use tied_linear::kernels::{
    AdamSettings, AdamState, AdamUpdate, ParameterUpdate, SgdSettings, SgdState, SgdUpdate,
};
use tied_linear::{
    Commands, Error, Layout, Matrix, Optimizer, OptimizerSettings, OptimizerState, Parameter,
    Parameters, wgpu,
};
use wgpu::util::DeviceExt;

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

/// The buffers of an optimizer's parameters, with what is around the values and their working copies, and
/// those of all that it keeps for them.
pub fn buffers_of(optimizer: &Optimizer) -> Vec<Matrix> {
    let of_each = optimizer.states().flat_map(|(parameter, state)| {
        let kept = match state {
            OptimizerState::Sgd(velocity) => velocity.iter().collect(),
            // The step counts lie behind the first moments.
            OptimizerState::Adam(moments) => vec![moments.first_moment(), moments.second_moment()],
            _ => unreachable!("an optimizer that the tests do not know"),
        };
        std::iter::once(&parameter.value).chain(kept)
    });
    let whole = |matrix: &Matrix| {
        let words = (matrix.buffer().size() / 4) as u32;
        Matrix::new(matrix.buffer(), 1, words).expect("the whole buffer")
    };
    of_each.map(whole).collect()
}

/// The bits of all that an optimizer changes, without what is between and behind: of the values, their working
/// copies and what it keeps for them.
pub fn state_of(rig: &Rig, optimizer: &Optimizer) -> Vec<u32> {
    let of_each = optimizer.states().flat_map(|(parameter, state)| {
        let kept = match state {
            OptimizerState::Sgd(velocity) => velocity.iter().collect(),
            OptimizerState::Adam(moments) => {
                vec![moments.first_moment(), moments.second_moment(), moments.steps()]
            }
            _ => unreachable!("an optimizer that the tests do not know"),
        };
        let copy = parameter.value.working_copy();
        let copy = copy.map(|copy| rig.element_bits(&copy)).unwrap_or_default();
        let matrices = std::iter::once(&parameter.value).chain(kept);
        let bits = matrices.flat_map(|matrix| rig.bits(matrix)).collect::<Vec<_>>();
        bits.into_iter().chain(copy.into_iter().map(u32::from))
    });
    of_each.collect()
}

fn parameter(name: &'static str, value: &Matrix) -> Parameter {
    let value = value.clone();
    Parameter::new(name, value)
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
        let names: Vec<_> = optimizer.states().map(|(known, _)| known.name.as_ref()).collect();
        assert_eq!(names, ["weight", "bias"]);
        let pairs = [
            (&bias_gradient, &weight_gradient),
            (&bias, &bias_gradient),
            (&again, &weight_gradient),
        ];
        let commands = optimizer.update(&pairs).unwrap();
        assert_eq!(commands.len(), 1);
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
        let missing = Error::NoGradient { parameter: "bias".into() };
        assert_eq!(result.map(|_| ()), Err(missing));
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

/// A parameter of a [`Set`].
#[derive(Debug, Clone, Copy)]
struct Member {
    shape: [u32; 2],
    /// Of its values and gradients.
    seed: u64,
    value_place: Place,
    gradient_place: Place,
}

/// Parameters that one call of a kernel updates, in this order.
struct Set<'a> {
    rig: &'a Rig,
    members: Vec<Member>,
    values: Vec<Matrix>,
    gradients: Vec<Matrix>,
    /// What the kernel keeps for each parameter.
    kept: Vec<Vec<Matrix>>,
    commands: Commands,
}

impl<'a> Set<'a> {
    fn new(rig: &'a Rig, settings: OptimizerSettings, members: &[Member]) -> Self {
        let put = |member: &Member| {
            let [rows, columns] = member.shape;
            rig.put(&random(rows, columns, member.seed), member.value_place)
        };
        let poisoned = |member: &Member| {
            let [rows, columns] = member.shape;
            rig.poisoned(rows, columns, member.gradient_place)
        };
        let values: Vec<_> = members.iter().map(put).collect();
        let gradients: Vec<_> = members.iter().map(poisoned).collect();
        let pairs = values.iter().zip(&gradients);
        let parameters: Vec<_> =
            pairs.map(|(value, gradient)| ParameterUpdate { value, gradient }).collect();
        let parameters = &parameters[..];
        let shapes: Vec<_> = values.iter().collect();
        let uniform = |contents: &[u8]| {
            let usage = wgpu::BufferUsages::UNIFORM;
            let descriptor = wgpu::util::BufferInitDescriptor { label: None, contents, usage };
            rig.gpu.device.create_buffer_init(&descriptor)
        };
        let (commands, kept) = match settings {
            OptimizerSettings::Sgd(settings) => {
                let state = SgdState::new(&rig.kernels, &shapes).unwrap();
                let state = (settings.momentum != 0.0).then_some(&state);
                let settings = &uniform(&settings.to_uniform().unwrap());
                let commands =
                    rig.kernels.sgd(&SgdUpdate { parameters, state, settings, loss_scale: None });
                let velocities = state.map_or(&[][..], SgdState::velocities);
                let kept = |index| velocities.get(index).cloned().into_iter().collect();
                (commands, (0..members.len()).map(kept).collect())
            }
            OptimizerSettings::Adam(settings) => {
                let state = &AdamState::new(&rig.kernels, &shapes).unwrap();
                let settings = &uniform(&settings.to_uniform().unwrap());
                let commands =
                    rig.kernels.adam(&AdamUpdate { parameters, state, settings, loss_scale: None });
                let moments = state.moments().iter();
                let kept = moments.map(|kept| {
                    [kept.first_moment(), kept.second_moment(), kept.steps()].map(Matrix::clone)
                });
                (commands, kept.map(Vec::from).collect())
            }
            _ => unreachable!("an optimizer that the tests do not know"),
        };
        let (members, commands) = (members.to_vec(), commands.unwrap());
        Self { rig, members, values, gradients, kept, commands }
    }

    /// Steps, each with gradients of its own.
    fn steps(&self, steps: u64) {
        let gpu = &self.rig.gpu;
        for step in 0..steps {
            for (member, gradient) in self.members.iter().zip(&self.gradients) {
                let [rows, columns] = member.shape;
                let values = random(rows, columns, 1000 * (1 + step) + member.seed).values;
                let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
                gradient.write(&gpu.device, &gpu.queue, &values).unwrap();
            }
            self.rig.run(&self.commands);
        }
    }

    /// The bits of a parameter, then of what is kept for it.
    fn bits(&self, index: usize) -> Vec<Vec<u32>> {
        let matrices = std::iter::once(&self.values[index]).chain(&self.kept[index]);
        matrices.map(|matrix| self.rig.bits(matrix)).collect()
    }
}

/// SGD without momentum keeps nothing, which is another way through the kernel.
fn with_and_without_state(settings: OptimizerSettings) -> Vec<OptimizerSettings> {
    match settings {
        OptimizerSettings::Sgd(sgd) => {
            let plain = SgdSettings { momentum: 0.0, nesterov: false, ..sgd };
            vec![settings, plain.into()]
        }
        _ => vec![settings],
    }
}

/// Sets of one, two and three, in every order of sizes and with empty ones among them: the bits of
/// each are those that it has as the only one, and nothing around them is written.
pub fn each_parameter_of_a_set_gets_what_it_gets_alone(settings: OptimizerSettings) {
    const SETS: [&[[u32; 2]]; 10] = [
        &[[7, 3]],
        &[[1, 5], [300, 7]],
        &[[64, 68], [1, 1030]],
        &[[20, 68], [1, 20], [1, 68]],
        &[[1, 1], [40, 67], [300, 7]],
        &[[257, 4], [33, 90], [2, 1026]],
        &[[3, 5], [0, 4], [1, 9]],
        &[[4, 0], [3, 8], [1, 2]],
        &[[1, 1], [1, 1], [1, 1]],
        // One quad more than fills four workgroups, one, and one.
        &[[1, 4100], [1, 1028], [257, 1]],
    ];
    on_every_adapter(|rig| {
        let narrow = rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 4);
        for settings in with_and_without_state(settings) {
            for (set, rotation) in SETS.iter().flat_map(|set| (0..9).map(move |r| (set, r))) {
                let member = |(index, shape): (usize, &[u32; 2])| Member {
                    shape: *shape,
                    seed: 1 + index as u64,
                    value_place: Place::ALL[(rotation + index) % 3],
                    gradient_place: Place::ALL[(rotation / 3 + 2 * index) % 3],
                };
                let members: Vec<_> = set.iter().enumerate().map(member).collect();
                let rig = if rotation == 4 { &narrow } else { rig };
                let together = Set::new(rig, settings, &members);
                assert_eq!(together.commands.len(), 1, "{set:?}");
                together.steps(3);
                for (index, member) in members.iter().enumerate() {
                    let what = format!("{settings:?}, {index} of {members:?}");
                    let alone = Set::new(rig, settings, &[*member]);
                    alone.steps(3);
                    for (got, want) in together.bits(index).iter().zip(&alone.bits(0)) {
                        expect_same_bits(&what, got, want);
                    }
                    for matrix in [&together.values[index], &together.gradients[index]] {
                        rig.expect_surroundings_untouched(&what, matrix);
                    }
                }
            }
        }
    });
}

/// Parameters of these shapes, named by their place, and gradients for them.
fn parameters_and_gradients(rig: &Rig, shapes: &[[u32; 2]]) -> (Parameters, Vec<Matrix>) {
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let value = |(name, [rows, columns]): (&&'static str, &[u32; 2])| {
        parameter(name, &rig.put(&random(*rows, *columns, 1), Place::Odd))
    };
    let gradient = |[rows, columns]: &[u32; 2]| rig.put(&random(*rows, *columns, 2), Place::Odd);
    (NAMES.iter().zip(shapes).map(value).collect(), shapes.iter().map(gradient).collect())
}

/// A layer's three take one dispatch. Whatever the sizes, every parameter gets its own update, and
/// the states stand in the order in which the parameters were given.
pub fn a_dispatch_updates_up_to_three_parameters(settings: OptimizerSettings) {
    const SHAPES: [[u32; 2]; 8] =
        [[1, 3], [5, 9], [40, 30], [1, 2], [1, 1], [60, 20], [7, 7], [2, 8]];
    on_every_adapter(|rig| {
        for count in 0..=SHAPES.len() {
            let shapes = &SHAPES[..count];
            let (parameters, gradients) = parameters_and_gradients(rig, shapes);
            let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
            let values = parameters.iter().map(|parameter| &parameter.value);
            let pairs: Vec<_> = values.zip(&gradients).collect();
            let commands = optimizer.update(&pairs).unwrap();
            assert_eq!(commands.len(), count.div_ceil(3), "{count} parameters");
            rig.run(&commands);
            let listed: Vec<_> = optimizer.states().map(|(known, _)| known).collect();
            assert_eq!(listed, parameters.iter().collect::<Vec<_>>());
            for ((parameter, state), gradient) in optimizer.states().zip(&gradients) {
                let alone = parameters_and_gradients(rig, &[parameter.value.shape()]).0;
                let alone = alone.iter().next().unwrap();
                let one = Parameters::from_iter([alone.clone()]);
                let optimizer = Optimizer::new(&rig.kernels, &one, settings).unwrap();
                rig.run(&optimizer.update(&[(&alone.value, gradient)]).unwrap());
                let what = format!("{} of {count}", parameter.name);
                let bits = |value: &Matrix| rig.bits(value);
                expect_same_bits(&what, &bits(&parameter.value), &bits(&alone.value));
                let of_alone = kept(optimizer.states().next().unwrap().1);
                for (got, want) in kept(state).iter().zip(&of_alone) {
                    expect_same_bits(&what, &bits(got), &bits(want));
                }
            }
        }
    });
}

/// What an optimizer keeps for a parameter.
fn kept(state: &OptimizerState) -> Vec<Matrix> {
    match state {
        OptimizerState::Sgd(velocity) => velocity.iter().cloned().collect(),
        OptimizerState::Adam(moments) => {
            [moments.first_moment(), moments.second_moment(), moments.steps()]
                .map(Matrix::clone)
                .to_vec()
        }
        _ => unreachable!("an optimizer that the tests do not know"),
    }
}

/// A dispatch must not write to two parts of one buffer, so such parameters are dealt out to several;
/// those in buffers of their own go with either.
pub fn parameters_in_one_buffer_are_updated_one_after_the_other(settings: OptimizerSettings) {
    on_every_adapter(|rig| {
        let whole = rig.put(&random(1, 64, 1), Place::Tight);
        let part = |offset, rows, columns| {
            let layout = Layout { offset, ..Layout::contiguous(rows, columns) };
            Matrix::view(whole.buffer(), layout).unwrap()
        };
        let own = |rows, columns| rig.put(&random(rows, columns, 2), Place::Tight);
        let parts = [part(0, 3, 5), part(15, 1, 5), part(20, 1, 3)];
        for (others, dispatches) in [(0, 3), (1, 3), (3, 3), (6, 3), (7, 4)] {
            let others = (0..others).map(|columns| own(2, 1 + columns));
            let values: Vec<_> = parts.iter().cloned().chain(others).collect();
            let before: Vec<_> = values.iter().map(|value| rig.get(value)).collect();
            let gradients: Vec<_> = values
                .iter()
                .map(|value| rig.put(&random(value.rows(), value.columns(), 3), Place::Tight))
                .collect();
            let parameters = values.iter().map(|value| parameter("value", value)).collect();
            let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
            let pairs: Vec<_> = values.iter().zip(&gradients).collect();
            let commands = optimizer.update(&pairs).unwrap();
            assert_eq!(commands.len(), dispatches, "{} parameters", values.len());
            rig.run(&commands);
            for ((value, gradient), before) in values.iter().zip(&gradients).zip(&before) {
                let [rows, columns] = value.shape();
                let alone = rig.put_f32(rows, columns, before, Place::Tight);
                let one = Parameters::from_iter([parameter("alone", &alone)]);
                let optimizer = Optimizer::new(&rig.kernels, &one, settings).unwrap();
                rig.run(&optimizer.update(&[(&alone, gradient)]).unwrap());
                expect_same_bits("value", &rig.bits(value), &rig.bits(&alone));
            }
        }
    });
}

/// An optimizer goes on where another stopped, once it has its parameters, moments and step counts.
pub fn what_is_kept_can_be_written_and_read_for_each_parameter(settings: OptimizerSettings) {
    on_every_adapter(|rig| {
        let shapes = [[5, 9], [1, 5], [1, 9], [300, 8]];
        let new = || {
            let (parameters, gradients) = parameters_and_gradients(rig, &shapes);
            let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
            let values = parameters.iter().map(|parameter| &parameter.value);
            let pairs: Vec<_> = values.zip(&gradients).collect();
            let commands = optimizer.update(&pairs).unwrap();
            (optimizer, commands)
        };
        let ((old, old_commands), (new, new_commands)) = (new(), new());
        for _ in 0..3 {
            rig.run(&old_commands);
        }
        let all = |optimizer: &Optimizer| -> Vec<Matrix> {
            let of_each = |(parameter, state): (&Parameter, &OptimizerState)| {
                std::iter::once(parameter.value.clone()).chain(kept(state))
            };
            optimizer.states().flat_map(of_each).collect()
        };
        for (from, to) in all(&old).iter().zip(&all(&new)) {
            to.write(&rig.gpu.device, &rig.gpu.queue, &rig.get(from)).unwrap();
        }
        for _ in 0..2 {
            rig.run(&old_commands);
            rig.run(&new_commands);
        }
        for (old, new) in all(&old).iter().zip(&all(&new)) {
            expect_same_bits("after five steps", &rig.bits(new), &rig.bits(old));
        }
    });
}
