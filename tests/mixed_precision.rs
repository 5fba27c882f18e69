//! Training in 16 bits: f32 masters with working copies, 16-bit gradients, scaled losses, whole steps.

mod common;

use common::deep::Deep;
use common::masters::{Copy, Types};
use common::optimizers::{buffers_of, state_of};
use common::reference::Dense;
use common::{
    Place, Rig, expect_close, expect_same_bits, mixed_elements, on_every_adapter, once_per_adapter,
    random, rounded, rounding_of,
};
use tied_linear::kernels::{
    AdamState, AdamUpdate, Backward, BackwardAdam, BackwardSgd, Factors, Linear, ParameterUpdate,
    SgdState, SgdUpdate,
};
use tied_linear::{
    Accumulate, Activation, AdamSettings, AutoencoderGradients, AutoencoderStep,
    AutoencoderStepOptions, Commands, Contributions, ElementType, ElementTypes, Error, Frozen,
    Gradients, Layout, Loss, LossScale, LossScaleSettings, LossScaleStatus, Matrix, Optimizer,
    OptimizerSettings, Parameter, Parameters, Readback, Reduction, SgdSettings, TiedAutoencoder,
    TiedAutoencoderOptions, TiedLinear, TiedLinearOptions, TrainingOptions, TrainingStep, Weight,
};

use Activation::{GeluErf, GeluTanh, Identity, Sigmoid, Tanh};
use ElementType::{Bf16, F16, F32};

const SIXTEEN: [ElementType; 2] = [F16, Bf16];

fn f32s(values: &Dense) -> Vec<f32> {
    values.values.iter().map(|value| *value as f32).collect()
}

fn parameters_of<'a>(values: impl IntoIterator<Item = &'a Matrix>) -> Parameters {
    let parameter =
        |(index, value): (usize, &Matrix)| Parameter::new(format!("{index}"), value.clone());
    values.into_iter().enumerate().map(parameter).collect()
}

fn optimizer_of<'a>(
    rig: &Rig,
    values: impl IntoIterator<Item = &'a Matrix>,
    settings: impl Into<OptimizerSettings>,
) -> Optimizer {
    Optimizer::new(&rig.kernels, &parameters_of(values), settings).unwrap()
}

fn rules() -> [OptimizerSettings; 3] {
    let sgd = SgdSettings::new(0.1).with_weight_decay(0.1);
    [sgd.into(), sgd.with_momentum(0.9).into(), AdamSettings::adamw(0.05).into()]
}

// Working copies.

/// After each step the copy is the master rounded once, and the master what it is without a copy; a second
/// parameter goes along.
#[test]
fn updates_write_the_copy_with_the_master() {
    on_every_adapter(|rig| {
        let shapes = (1..=9).map(|columns| [3, columns]).chain([[1, 5], [300, 6], [40, 67]]);
        for (turn, [rows, columns]) in shapes.enumerate() {
            for settings in rules() {
                for (element, copy, place) in [
                    (SIXTEEN[turn % 2], Copy::ALL[turn % 4], Place::ALL[turn % 3]),
                    (SIXTEEN[(turn + 1) % 2], Copy::ALL[(turn + 2) % 4], Place::Odd),
                ] {
                    let what = format!(
                        "{settings:?}, {rows}x{columns} {element} {copy:?} {place:?} on {}",
                        rig.name
                    );
                    let values = random(rows, columns, 1);
                    let master = rig.put_master(&values, place, copy, element);
                    let plain = rig.put(&values, place);
                    let bias = || rig.put(&random(1, columns, 2), Place::Odd);
                    let (its_bias, plain_bias) = (bias(), bias());
                    let with = optimizer_of(rig, [&master, &its_bias], settings);
                    let without = optimizer_of(rig, [&plain, &plain_bias], settings);
                    for step in 0..3 {
                        let gradient = rig.put(&random(rows, columns, 10 + step), Place::Tight);
                        let of_bias = rig.put(&random(1, columns, 20 + step), Place::Odd);
                        let pairs = [(&its_bias, &of_bias), (&master, &gradient)];
                        rig.run(&with.update(&pairs).unwrap());
                        let pairs = [(&plain_bias, &of_bias), (&plain, &gradient)];
                        rig.run(&without.update(&pairs).unwrap());
                        rig.expect_copied(&what, &master);
                        expect_same_bits(&what, &rig.bits(&master), &rig.bits(&plain));
                        expect_same_bits(&what, &rig.bits(&its_bias), &rig.bits(&plain_bias));
                    }
                    assert_ne!(rig.get(&master), f32s(&values), "{what}: a step is taken");
                }
            }
        }
    });
}

/// The update takes its gradient from the factors: a weight [hidden, inputs], with the copy in every place.
#[test]
fn updates_from_factors_write_the_copy_with_the_master() {
    once_per_adapter(|rig| {
        for (turn, [batch, hidden, inputs]) in
            [[9, 5, 7], [4, 40, 37], [3, 6, 1], [11, 3, 10]].into_iter().enumerate()
        {
            for (rule, of_factors, element) in [(0, F32, F16), (1, F16, Bf16), (2, Bf16, F16)] {
                let (copy, place) = (Copy::ALL[(turn + rule) % 4], Place::ALL[turn % 3]);
                let what = format!(
                    "rule {rule}, {hidden}x{inputs} {element} {copy:?} {place:?} {of_factors} on {}",
                    rig.name
                );
                let factor = |columns, seed| {
                    rig.put_as(&random(batch, columns, seed), Place::Even, of_factors)
                };
                let all =
                    [factor(hidden, 1), factor(inputs, 2), factor(hidden, 3), factor(inputs, 4)];
                let [code, output_delta, code_delta, input] = &all;
                let contributions = Contributions::Both;
                let factors = Factors { code, output_delta, code_delta, input, contributions };
                let values = random(hidden, inputs, 5);
                let master = rig.put_master(&values, place, copy, element);
                let plain = rig.put(&values, place);
                for value in [&master, &plain] {
                    let kernels = &rig.kernels;
                    let sgd = SgdSettings::new(0.1).with_momentum(0.9 * f64::from(rule as u32));
                    let commands = if rule == 2 {
                        let settings = AdamSettings::adam(0.05).to_uniform().unwrap();
                        let settings = &rig.uniform(&settings);
                        let state = &AdamState::new(kernels, &[value]).unwrap();
                        kernels.backward_adam(&BackwardAdam { factors, value, state, settings })
                    } else {
                        let settings = &rig.uniform(&sgd.to_uniform().unwrap());
                        let state = &SgdState::new(kernels, &[value]).unwrap();
                        let state = (rule == 1).then_some(state);
                        kernels.backward_sgd(&BackwardSgd { factors, value, state, settings })
                    };
                    let commands = commands.unwrap();
                    rig.run(&commands.clone().then(commands));
                }
                rig.expect_copied(&what, &master);
                expect_same_bits(&what, &rig.bits(&master), &rig.bits(&plain));
                assert_ne!(rig.get(&master), f32s(&values), "{what}: a step is taken");
            }
        }
    });
}

/// What the products read is the copy: also after an update, of which the weight's bind group knows nothing.
#[test]
fn products_read_the_copy() {
    on_every_adapter(|rig| {
        for element in SIXTEEN {
            let (values, x) = (random(6, 9, 1), random(4, 9, 2));
            let master = rig.put_master(&values, Place::Odd, Copy::Apart { gap: 2 }, element);
            let weight = Weight::new(&rig.kernels, master.clone()).unwrap();
            let input = rig.put(&x, Place::Odd);
            let output = rig.poisoned(4, 6, Place::Tight);
            let encode = rig.kernels.encode(&weight, &Linear::new(&input, &output)).unwrap();
            let gradient = rig.put(&random(6, 9, 3), Place::Tight);
            let update = optimizer_of(rig, [&master], SgdSettings::new(0.25));
            let update = update.update(&[(&master, &gradient)]).unwrap();
            for _ in 0..3 {
                rig.run(&encode);
                let now = rig.get(&master);
                let now = Dense::new(6, 9, |row, column| now[(9 * row + column) as usize].into());
                let want = x.times(&rounded(&now, element).transposed());
                expect_close("encode", &rig.get(&output), &want, &want.map(|_| 1e-5));
                rig.run(&update);
            }
        }
    });
}

#[test]
fn a_write_to_the_master_is_one_to_the_copy() {
    once_per_adapter(|rig| {
        for element in SIXTEEN {
            for [rows, columns] in [[1, 1], [3, 4], [4, 5], [1, 7]] {
                let values = f32s(&random(rows, columns, 1));
                let (device, queue) = (&rig.gpu.device, &rig.gpu.queue);
                let what = format!("{element} {rows}x{columns}");
                let copied = |matrix: &Matrix| {
                    let copy = matrix.working_copy().unwrap();
                    assert_eq!([copy.shape(), matrix.shape()], [[rows, columns]; 2]);
                    assert_eq!(rig.get(matrix), values, "{what}");
                    let want = rounded(&random(rows, columns, 1), element);
                    assert_eq!(rig.get(&copy), f32s(&want), "{what}");
                };
                let master = rig.kernels.master("made", rows, columns, &values, element).unwrap();
                copied(&master);
                let zeros = vec![0.0; values.len()];
                let zeros = rig.kernels.master("zeros", rows, columns, &zeros, element).unwrap();
                zeros.write(device, queue, &values).unwrap();
                copied(&zeros);
            }
            // Rows with more between them than a word's rest.
            let zeros = Dense::zeros(3, 4);
            let master = rig.put_master(&zeros, Place::Odd, Copy::Apart { gap: 4 }, element);
            master.write(&rig.gpu.device, &rig.gpu.queue, &[0.3; 12]).unwrap();
            assert_eq!(rig.get(&master), [0.3; 12]);
            rig.expect_copied("written", &master);
            let zeros = Dense::zeros(3, 5);
            let odd = rig.put_master(&zeros, Place::Odd, Copy::Apart { gap: 4 }, element);
            let refused = odd.write(&rig.gpu.device, &rig.gpu.queue, &[0.3; 15]);
            assert!(matches!(refused, Err(Error::ElementType { .. })), "{refused:?}");
            assert_eq!(rig.get(&odd), [0.0; 15], "nothing is written");
        }
        let without = rig.kernels.master("without", 2, 3, &[1.0; 6], F32).unwrap();
        assert!(without.working_copy().is_none());
        let wrong = rig.kernels.master("wrong", 2, 3, &[1.0; 5], F16);
        assert!(matches!(wrong, Err(Error::Length { expected: 6, given: 5 })), "{wrong:?}");
        let empty = rig.kernels.master("empty", 0, 3, &[], F16).unwrap();
        assert!(empty.working_copy().is_some_and(|copy| copy.is_empty()));
        let range = rig.kernels.master("rows", 2, 2, &[1.0; 4], F16).unwrap().row_range(0..1);
        assert!(range.unwrap().working_copy().is_none());
    });
}

// 16-bit gradients.

/// The bits of an update with the same values in f32, each type in each of the three places.
#[test]
fn an_update_with_gradients_of_16_bits_is_one_with_the_same_values_in_f32() {
    once_per_adapter(|rig| {
        let shapes = [[9, 7], [5, 5], [1, 11]];
        for (turn, elements) in mixed_elements::<3>().into_iter().enumerate() {
            for settings in &rules()[1..] {
                let run = |widened: bool| {
                    let value = |(index, [rows, columns]): (usize, [u32; 2])| {
                        rig.put(&random(rows, columns, index as u64), Place::ALL[turn % 3])
                    };
                    let values: Vec<_> = shapes.into_iter().enumerate().map(value).collect();
                    let optimizer = optimizer_of(rig, &values, *settings);
                    for step in 0..2 {
                        let gradients = (10 * step..).zip(shapes).zip(elements).map(
                            |((seed, [rows, columns]), element)| {
                                let gradient = rounded(&random(rows, columns, seed), element);
                                let element = if widened { F32 } else { element };
                                rig.put_as(&gradient, Place::Odd, element)
                            },
                        );
                        let gradients: Vec<_> = gradients.collect();
                        let pairs: Vec<_> = values.iter().zip(&gradients).collect();
                        let commands = optimizer.update(&pairs).unwrap();
                        assert_eq!(commands.len(), 1);
                        rig.run(&commands);
                    }
                    state_of(rig, &optimizer)
                };
                let what = format!("{settings:?}, {elements:?} on {}", rig.name);
                expect_same_bits(&what, &run(false), &run(true));
            }
        }
    });
}

/// What is taken out of the gradients is so in each of the three places, in 16 bits too.
#[test]
fn the_scale_is_taken_out_of_gradients_of_every_type() {
    on_every_adapter(|rig| {
        for elements in mixed_elements::<3>() {
            let run = |scale: f64| {
                let shapes = [[9, 7], [5, 5], [1, 11]];
                let value =
                    |[rows, columns]: [u32; 2]| rig.put(&random(rows, columns, 1), Place::Odd);
                let values = shapes.map(value);
                let optimizer = optimizer_of(rig, &values, SgdSettings::new(0.5));
                let settings = LossScaleSettings::fixed(scale);
                let optimizer =
                    optimizer.with_loss_scale(LossScale::new(&rig.kernels, settings).unwrap());
                let gradients =
                    std::iter::zip(shapes, elements).map(|([rows, columns], element)| {
                        let gradient = rounded(&random(rows, columns, 2), element);
                        rig.put_as(&gradient.map(|g| scale * g), Place::Odd, element)
                    });
                let gradients: Vec<_> = gradients.collect();
                let pairs: Vec<_> = values.iter().zip(&gradients).collect();
                rig.run(&optimizer.update(&pairs).unwrap());
                state_of(rig, &optimizer)
            };
            expect_same_bits(&format!("{elements:?} on {}", rig.name), &run(64.0), &run(1.0));
        }
    });
}

// What is refused.

#[test]
fn a_copy_that_is_none_of_the_matrix_is_refused() {
    once_per_adapter(|rig| {
        let buffer = common::buffer(&rig.gpu.device, 400, common::USAGES);
        let master = Layout { offset: 10, row_stride: 6, ..Layout::contiguous(3, 5) };
        let right = Layout { offset: 60, ..Layout::padded(3, 5, F16) };
        let try_with = |master: Layout, copy: Layout| {
            Matrix::view(&buffer, master).unwrap().with_working_copy(copy)
        };
        let whole = try_with(master, right).unwrap();
        assert_eq!(whole.working_copy().unwrap().layout(), right);
        // The master has bytes 40 to 108, a copy elements 20 to 53.
        for before in [1, 2, 19] {
            let copy = Layout { offset: 54 - before, ..right };
            let result = try_with(master, copy);
            assert!(result.is_err(), "{before} elements into the matrix");
        }
        try_with(master, Layout { offset: 54, ..right }).unwrap();
        try_with(master, Layout { offset: 0, ..right }).unwrap();
        let element = |copy: Layout| match try_with(master, copy) {
            Err(Error::ElementType { operand: "working copy", given, .. }) => given,
            other => panic!("{copy:?}: {other:?}"),
        };
        assert_eq!(element(Layout { element: F32, offset: 40, ..right }), F32);
        assert_eq!(element(Layout { offset: 61, ..right }), F16);
        assert_eq!(element(Layout { row_stride: 7, element: Bf16, ..right }), Bf16);
        for [rows, columns] in [[3, 4], [2, 5], [5, 3]] {
            let result = try_with(master, Layout { rows, columns, ..right });
            let given = [rows, columns];
            let want = Error::Shape { operand: "working copy", expected: [3, 5], given };
            assert_eq!(result.unwrap_err(), want);
        }
        for (copy, overlaps) in [(52, true), (20, true), (8, true), (2, false)] {
            let result = try_with(master, Layout { offset: copy, ..right });
            let error = matches!(result, Err(Error::Incompatible { what: "working copy", .. }));
            assert_eq!(error, overlaps, "at {copy}: {result:?}");
        }
        let half = Layout { offset: 0, ..Layout::padded(3, 5, F16) };
        let result = try_with(half, right);
        let error = Error::ElementType {
            operand: "matrix",
            given: F16,
            reason: "a matrix with a working copy is f32",
        };
        assert_eq!(result.unwrap_err(), error);
        let result = try_with(master, Layout { offset: 190, ..right });
        assert!(matches!(result, Err(Error::DoesNotFit { .. })), "{result:?}");
        // The word of its last element is not all there.
        let short = common::buffer(&rig.gpu.device, 400 - 2, common::USAGES);
        let short = Matrix::view(&short, Layout::contiguous(1, 1)).unwrap();
        let copy = Layout { offset: 198, ..Layout::padded(1, 1, F16) };
        let result = short.with_working_copy(copy);
        assert!(matches!(result, Err(Error::DoesNotFit { .. })), "{result:?}");
    });
}

#[test]
fn a_master_where_its_copy_would_stay_behind_is_refused() {
    once_per_adapter(|rig| {
        let kernels = &rig.kernels;
        let master = || kernels.master("master", 4, 5, &[1.0; 20], F16).unwrap();
        let (first, second) = (master(), master());
        let gradient = kernels.zeros("gradient", 4, 5).unwrap();
        let plain = kernels.zeros("plain", 4, 5).unwrap();
        let incompatible = |result: tied_linear::Result<Commands>, what: &str| match result {
            Err(Error::Incompatible { what: given, .. }) if given == what => {}
            other => panic!("{what}: {other:?}"),
        };
        let pair = |value| ParameterUpdate { value, gradient: &gradient };
        let settings = &rig.uniform(&SgdSettings::new(0.1).to_uniform().unwrap());
        let adam = &rig.uniform(&AdamSettings::adam(0.1).to_uniform().unwrap());
        for (values, what) in [
            (vec![&first, &second], "parameters[1].value"),
            (vec![&plain, &second], "parameters[1].value"),
            (vec![&plain, &gradient, &second], "parameters[2].value"),
        ] {
            let parameters: Vec<_> = values.iter().map(|value| pair(value)).collect();
            let (parameters, state, loss_scale) = (parameters.as_slice(), None, None);
            let update = SgdUpdate { parameters, state, settings, loss_scale };
            incompatible(kernels.sgd(&update), what);
            incompatible(kernels.sgd_rest(&update), what);
            let state = &AdamState::new(kernels, &values).unwrap();
            let update = AdamUpdate { parameters, state, settings: adam, loss_scale };
            incompatible(kernels.adam(&update), what);
        }
        // As the output of other kernels.
        let weight = Weight::new(kernels, kernels.zeros("weight", 5, 3).unwrap()).unwrap();
        let input = kernels.zeros("input", 4, 3).unwrap();
        incompatible(kernels.encode(&weight, &Linear::new(&input, &first)), "output");
        let call = Linear::new(&input, &plain).with_preactivation(Some(&first));
        incompatible(kernels.encode(&weight, &call), "preactivation");
        let [code, delta] = [4, 5].map(|columns| kernels.zeros("factor", 2, columns).unwrap());
        let backward = Backward {
            code: &code,
            output_delta: &delta,
            code_delta: &code,
            input: &delta,
            gradient: &first,
            contributions: Contributions::Both,
            accumulate: Accumulate::Overwrite,
        };
        incompatible(kernels.backward(&backward), "gradient");
        // It is read like any other.
        let output = kernels.zeros("output", 4, 5).unwrap();
        let weight = Weight::new(kernels, kernels.zeros("weight", 5, 5).unwrap()).unwrap();
        assert!(kernels.encode(&weight, &Linear::new(&first, &output)).is_ok());
    });
}

#[test]
fn an_optimizer_takes_masters_and_each_once() {
    once_per_adapter(|rig| {
        let new = |values: &[&Matrix]| {
            let settings = AdamSettings::adam(0.1);
            Optimizer::new(&rig.kernels, &parameters_of(values.iter().copied()), settings)
                .map(|_| ())
        };
        let half = rig.kernels.zeros_as("half", 2, 3, Bf16).unwrap();
        match new(&[&half]) {
            Err(Error::In { place, error }) if place == "0" => {
                let is_type = matches!(*error, Error::ElementType { given: Bf16, .. });
                assert!(is_type, "{error:?}");
            }
            other => panic!("{other:?}"),
        }
        let master = rig.kernels.master("master", 2, 3, &[1.0; 6], F16).unwrap();
        let view = Matrix::view(master.buffer(), master.layout()).unwrap();
        new(&[&master, &master]).unwrap();
        for values in [[&master, &view], [&view, &master]] {
            match new(&values) {
                Err(Error::In { error, .. }) => {
                    assert!(
                        matches!(*error, Error::Incompatible { what: "value", .. }),
                        "{error:?}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        // And the gradient of another view of the values is not that of the master.
        let gradient = rig.kernels.zeros("gradient", 2, 3).unwrap();
        let optimizer = optimizer_of(rig, [&master], AdamSettings::adam(0.1));
        let result = optimizer.update(&[(&view, &gradient)]).map(|_| ());
        assert!(matches!(result, Err(Error::NoGradient { .. })), "{result:?}");
    });
}

#[test]
fn a_fused_update_with_a_scale_is_refused() {
    once_per_adapter(|rig| {
        let layer = TiedLinear::new(&rig.kernels, &TiedLinearOptions::new(4, 2)).unwrap();
        let optimizer =
            Optimizer::new(&rig.kernels, &layer.parameters(), AdamSettings::adam(0.01)).unwrap();
        let scale = LossScale::new(&rig.kernels, LossScaleSettings::dynamic()).unwrap();
        let optimizer = optimizer.with_loss_scale(scale);
        let gradients = Gradients::new(&layer).unwrap();
        let input = rig.kernels.zeros("input", 3, 4).unwrap();
        let options = TrainingOptions::default().with_fused_update(true);
        let step = TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options);
        let error = step.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Incompatible { what: "fused_update", .. }), "{error:?}");
    });
}

// Sets.

/// Each weight with a copy leads a set, whether there are biases to go along, or larger ones than it.
#[test]
fn an_optimizer_of_a_stack_keeps_every_copy() {
    on_every_adapter(|rig| {
        for (sizes, biases, updates) in
            [(&[13, 7, 5, 3][..], false, 3), (&[13, 7, 5, 3], true, 3), (&[41, 3, 2], true, 2)]
        {
            for settings in rules() {
                let options = TiedAutoencoderOptions::new(sizes)
                    .with_biases(biases, biases)
                    .with_weight_element(Bf16)
                    .with_seed(3);
                let stack = TiedAutoencoder::new(&rig.kernels, &options).unwrap();
                let same = options.with_weight_element(F32);
                let same = TiedAutoencoder::new(&rig.kernels, &same).unwrap();
                for stack in [&stack, &same] {
                    let optimizer =
                        Optimizer::new(&rig.kernels, &stack.parameters(), settings).unwrap();
                    let gradients = AutoencoderGradients::new(stack).unwrap();
                    for (seed, (_, gradient)) in (0..).zip(gradients.pairs(stack)) {
                        let values = f32s(&random(gradient.rows(), gradient.columns(), seed));
                        gradient.write(&rig.gpu.device, &rig.gpu.queue, &values).unwrap();
                    }
                    let commands = optimizer.update(&gradients.pairs(stack)).unwrap();
                    let has_copies = stack.layers()[0].weight().matrix().working_copy().is_some();
                    assert!(!has_copies || commands.len() == updates, "{sizes:?}: {commands:?}");
                    rig.run(&commands);
                }
                let what = format!("{sizes:?} {settings:?}");
                for (got, want) in stack.parameters().iter().zip(same.parameters().iter()) {
                    let name = format!("{what}: {}", got.name);
                    expect_same_bits(&name, &rig.bits(&got.value), &rig.bits(&want.value));
                }
                for layer in stack.layers() {
                    expect_is_copy(rig, &what, layer.weight().matrix());
                }
            }
        }
    });
}

/// Fails where the copy of a master is not that.
fn expect_is_copy(rig: &Rig, what: &str, master: &Matrix) {
    let copy = master.working_copy().expect("a copy");
    let element = copy.layout().element;
    let want = rig.get(master).into_iter().map(|value| common::element_bits(element, value));
    let got = rig.element_bits(&copy);
    assert!(got.into_iter().eq(want), "{what}: the copy is not the master, rounded");
}

/// A frozen weight's master and copy stay, whatever its gradient.
#[test]
fn the_copy_of_a_frozen_weight_stays() {
    once_per_adapter(|rig| {
        let options = TiedAutoencoderOptions::new(&[9, 5, 3]).with_weight_element(F16).with_seed(3);
        let stack = TiedAutoencoder::new(&rig.kernels, &options).unwrap();
        let settings = AdamSettings::adam(0.01);
        let optimizer = Optimizer::new(&rig.kernels, &stack.parameters(), settings).unwrap();
        let gradients = AutoencoderGradients::new_as(&stack, F16).unwrap();
        let x = rig.put(&random(7, 9, 1), Place::Tight);
        let options = AutoencoderStepOptions::default()
            .with_elements(ElementTypes::all(F16))
            .with_frozen(1, Frozen::WEIGHT);
        let step = AutoencoderStep::new(&stack, &optimizer, &gradients, &x, &x, &options).unwrap();
        let bits = |layer: usize| {
            let matrix = stack.layers()[layer].weight().matrix();
            (rig.bits(matrix), rig.element_bits(&matrix.working_copy().unwrap()))
        };
        let before = [bits(0), bits(1)];
        for _ in 0..2 {
            rig.run(&step.gradient_commands().clone().then(step.update_commands().clone()));
        }
        assert_eq!(bits(1), before[1]);
        assert_ne!(bits(0).0, before[0].0);
        assert_ne!(bits(0).1, before[0].1);
        expect_is_copy(rig, "trained", stack.layers()[0].weight().matrix());
    });
}

#[test]
fn untied_weights_have_copies_of_their_own() {
    once_per_adapter(|rig| {
        let (device, queue) = (&rig.gpu.device, &rig.gpu.queue);
        for (element, inputs, extra) in
            [(F16, 6, 4 * 36), (F16, 5, 4 * 32), (Bf16, 6, 4 * 36), (F32, 5, 4 * 20)]
        {
            let options = TiedLinearOptions::new(inputs, 4).with_weight_element(element);
            let layer = TiedLinear::new(&rig.kernels, &options.with_seed(3)).unwrap();
            let untied = layer.untie(queue).unwrap();
            assert_eq!(untied.extra_bytes(), extra, "{element}");
            let [encoder, decoder] =
                [untied.encoder().weight().matrix(), untied.decoder().weight().matrix()];
            let bits = |matrix: &Matrix| {
                let copy = matrix.working_copy().map(|copy| rig.element_bits(&copy));
                (rig.bits(matrix), copy)
            };
            assert_eq!(bits(encoder), bits(decoder), "{element}");
            assert!(encoder.buffer() != decoder.buffer());
            let tied = untied.tie_blocking(queue).unwrap();
            assert_eq!(tied.weight().matrix(), encoder);
            let before = bits(encoder);
            decoder.write(device, queue, &vec![0.7; decoder.len() as usize]).unwrap();
            assert_eq!(bits(encoder), before, "{element}: they are independent");
            assert_ne!(bits(decoder), before, "{element}");
            assert!(matches!(untied.tie_blocking(queue), Err(Error::Unequal { .. })));
        }
        // Masters and copies in gaps.
        for (place, copy) in [(Place::Odd, Copy::Apart { gap: 8 }), (Place::Even, Copy::Before)] {
            let master = rig.put_master(&random(3, 5, 1), place, copy, F16);
            let weight = Weight::new(&rig.kernels, master.clone()).unwrap();
            let encoder = tied_linear::Encoder::new(&rig.kernels, &weight, None, Identity).unwrap();
            let decoder = tied_linear::Decoder::new(&rig.kernels, &weight, None, Identity).unwrap();
            let untied = TiedLinear::from_halves(encoder, decoder).unwrap().untie(queue).unwrap();
            let second = untied.decoder().weight().matrix();
            expect_same_bits("untied", &rig.bits(second), &rig.bits(&master));
            expect_is_copy(rig, "untied", second);
            rig.expect_copied("untied", &master);
        }
    });
}

// Steps.

#[test]
fn a_step_learns_in_every_type() {
    once_per_adapter(|rig| {
        for element in ElementType::ALL {
            let options = TiedLinearOptions::new(13, 6).with_weight_element(element).with_seed(3);
            let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
            let settings = AdamSettings::adam(0.01);
            let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
            let scale = LossScale::new(&rig.kernels, LossScaleSettings::dynamic()).unwrap();
            let optimizer = optimizer.with_loss_scale(scale);
            let gradients = Gradients::new_as(&layer, element).unwrap();
            let input = rig.put_as(&random(21, 13, 1), Place::Tight, element);
            let options = TrainingOptions::default().with_elements(ElementTypes::all(element));
            let step =
                TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options).unwrap();
            let mut losses = Vec::new();
            for _ in 0..30 {
                rig.run(step.gradient_commands());
                rig.run(step.update_commands());
                losses.push(rig.get(step.loss())[0]);
            }
            println!("{element}: {:?} … {:?}", losses[0], losses[29]);
            assert!(losses[29] < 0.8 * losses[0]);
        }
    });
}

const BATCH: u32 = 9;

/// Fails where a step's loss or a gradient is not that of the reference, which rounds as the step does: what
/// differs is f32, and, where that crosses the middle between two numbers of a type, a rounding of a value
/// here and there.
fn check_step(
    rig: &Rig,
    sizes: &[u32],
    activations: &[[Activation; 2]],
    types: Types,
    measured: (Loss, Reduction),
    scale: f64,
) {
    let what = format!("{sizes:?} {activations:?} {types:?} {measured:?} {scale} on {}", rig.name);
    let deep = Deep::new(sizes, activations);
    let stack = deep.put_as(rig, types.weight);
    let optimizer =
        Optimizer::new(&rig.kernels, &stack.parameters(), SgdSettings::new(0.125)).unwrap();
    let optimizer = if scale == 1.0 {
        optimizer
    } else {
        let settings = LossScaleSettings::fixed(scale);
        optimizer.with_loss_scale(LossScale::new(&rig.kernels, settings).unwrap())
    };
    let gradients = AutoencoderGradients::new_as(&stack, types.gradient).unwrap();
    for (_, gradient) in gradients.pairs(&stack) {
        let nans = vec![f32::NAN; gradient.len() as usize];
        gradient.write(&rig.gpu.device, &rig.gpu.queue, &nans).unwrap();
    }
    let x = rounded(&random(BATCH, sizes[0], 4), types.activation);
    let target = rounded(&random(BATCH, sizes[0], 6).map(|t| 0.5 + 0.5 * t), types.activation);
    let [input, target_there] = [&x, &target].map(|m| rig.put_as(m, Place::Odd, types.activation));
    let elements = ElementTypes { activation: types.activation, gradient: types.delta };
    let (loss, reduction) = measured;
    let (got, commands) = if sizes.len() == 2 {
        let layer = &stack.layers()[0];
        let options = TrainingOptions::default()
            .with_loss(loss)
            .with_reduction(reduction)
            .with_elements(elements);
        let gradients = &gradients.layers()[0];
        let step = TrainingStep::new(layer, &optimizer, gradients, &input, &target_there, options)
            .unwrap();
        (step.loss().clone(), step.gradient_commands().clone())
    } else {
        let options = AutoencoderStepOptions::default()
            .with_loss(loss)
            .with_reduction(reduction)
            .with_elements(elements);
        let step =
            AutoencoderStep::new(&stack, &optimizer, &gradients, &input, &target_there, &options);
        let step = step.unwrap();
        (step.loss().clone(), step.gradient_commands().clone())
    };
    rig.run(&commands);
    let (value, want) = deep.backward_in(types, [&x, &target], measured, scale);
    let got = f64::from(rig.get(&got)[0]);
    let unit = types.unit();
    let tolerance = (1e-5 + 0.1 * unit) * value;
    assert!((got - value).abs() <= tolerance, "{what}: loss {got}, want {value}");
    for (index, (own, want)) in gradients.layers().iter().zip(&want).enumerate() {
        for (name, got, element, want) in [
            ("weight", &own.weight, types.gradient, want.weight(Contributions::Both)),
            ("encoder bias", own.encoder_bias.as_ref().unwrap(), F32, want.encoder_bias.clone()),
            ("decoder bias", own.decoder_bias.as_ref().unwrap(), F32, want.decoder_bias.clone()),
        ] {
            assert_eq!(got.layout().element, element);
            let largest = want.values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            let tolerance =
                want.map(|value| rounding_of(element, value.abs()) + (2e-5 + 0.5 * unit) * largest);
            let what = format!("{what}: {name} {index}");
            let got = rig.get(got);
            expect_close(&what, &got, &want, &tolerance);
            // Roundings that come out otherwise are few: one more or one less than the formulas have would
            // show in all elements.
            let want = rounded(&want, element);
            let errors = got.iter().zip(&want.values).map(|(got, want)| f64::from(*got) - want);
            let mean = errors.map(f64::abs).sum::<f64>() / got.len() as f64;
            assert!(mean <= (1e-5 + 0.03 * unit) * largest, "{what}: mean error {mean:e}");
        }
    }
}

fn types(
    weight: ElementType,
    activation: ElementType,
    delta: ElementType,
    gradient: ElementType,
) -> Types {
    Types { weight, activation, delta, gradient }
}

/// One layer: a `TrainingStep`.
#[test]
fn a_layers_step_is_that_of_the_formulas_in_every_type() {
    once_per_adapter(|rig| {
        let squared = (Loss::SquaredError, Reduction::Sum);
        let entropy = (Loss::BinaryCrossEntropy, Reduction::Mean);
        for (types, activations, measured, scale) in [
            (Types::all(F16), [GeluErf, Identity], entropy, 256.0),
            (Types::all(Bf16), [Sigmoid, GeluTanh], squared, 1.0),
            (types(F16, F32, Bf16, F16), [GeluTanh, Sigmoid], squared, 1.0),
            (types(F32, Bf16, F16, F32), [Sigmoid, Identity], entropy, 1000.0),
            (types(Bf16, F16, F32, Bf16), [GeluTanh, Identity], entropy, 1.0),
        ] {
            check_step(rig, &[13, 7], &[activations], types, measured, scale);
        }
    });
}

/// Two and three layers: an `AutoencoderStep`.
#[test]
fn a_stacks_step_is_that_of_the_formulas_in_every_type() {
    once_per_adapter(|rig| {
        let squared = (Loss::SquaredError, Reduction::Sum);
        let entropy = (Loss::BinaryCrossEntropy, Reduction::Mean);
        let deep = [[Sigmoid, Identity], [GeluTanh, Sigmoid], [Sigmoid, GeluTanh]];
        for (layers, types, measured, scale) in [
            (3, Types::all(F16), entropy, 256.0),
            (2, types(F16, F32, Bf16, F16), squared, 1.0),
            (2, types(Bf16, F16, F32, Bf16), entropy, 64.0),
            (2, types(F32, Bf16, F16, F32), squared, 1.0),
        ] {
            let sizes = &[13, 7, 5, 3][..=layers];
            check_step(rig, sizes, &deep[..layers], types, measured, scale);
        }
    });
}

#[test]
fn a_stack_of_one_layer_is_a_layer_in_16_bits() {
    once_per_adapter(|rig| {
        for element in SIXTEEN {
            let elements = ElementTypes::all(element);
            let x = rig.put_as(&random(BATCH, 19, 4), Place::Odd, element);
            let scaled = |parameters: &Parameters| {
                let settings = AdamSettings::adam(0.01);
                let scale = LossScale::new(&rig.kernels, LossScaleSettings::dynamic()).unwrap();
                Optimizer::new(&rig.kernels, parameters, settings).unwrap().with_loss_scale(scale)
            };
            let options = TiedLinearOptions::new(19, 6)
                .with_activations(GeluErf, Sigmoid)
                .with_weight_element(element)
                .with_seed(3);
            let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
            let optimizer = scaled(&layer.parameters());
            let gradients = Gradients::new_as(&layer, element).unwrap();
            let training = TrainingOptions::default().with_elements(elements);
            let one = TrainingStep::new(&layer, &optimizer, &gradients, &x, &x, training).unwrap();

            let options = TiedAutoencoderOptions::new(&[19, 6])
                .with_activations(GeluErf, Sigmoid)
                .with_weight_element(element)
                .with_seed(3);
            let stack = TiedAutoencoder::new(&rig.kernels, &options).unwrap();
            let of_stack = scaled(&stack.parameters());
            let gradients = AutoencoderGradients::new_as(&stack, element).unwrap();
            let options = AutoencoderStepOptions::default().with_elements(elements);
            let step =
                AutoencoderStep::new(&stack, &of_stack, &gradients, &x, &x, &options).unwrap();
            for _ in 0..3 {
                rig.run(&one.gradient_commands().clone().then(one.update_commands().clone()));
                rig.run(&step.gradient_commands().clone().then(step.update_commands().clone()));
                expect_same_bits("loss", &rig.bits(step.loss()), &rig.bits(one.loss()));
                let what = format!("{element} on {}", rig.name);
                expect_same_bits(&what, &state_of(rig, &of_stack), &state_of(rig, &optimizer));
            }
        }
    });
}

/// Two micro-batches, the second added to the first, which is rounded in between.
#[test]
fn gradients_of_16_bits_accumulate_over_micro_batches() {
    once_per_adapter(|rig| {
        for element in SIXTEEN {
            let deep = Deep::new(&[13, 7], &[[Sigmoid, Identity]]);
            let stack = deep.put_as(rig, element);
            let settings = SgdSettings::new(0.1);
            let optimizer = Optimizer::new(&rig.kernels, &stack.parameters(), settings).unwrap();
            let gradients = AutoencoderGradients::new_as(&stack, element).unwrap();
            let x = rounded(&random(BATCH, 13, 4), element);
            let input = rig.put_as(&x, Place::Odd, element);
            let part = |range: std::ops::Range<u32>, accumulate| {
                let input = input.row_range(range.clone()).unwrap();
                let options = AutoencoderStepOptions::default()
                    .with_reduction(Reduction::Sum)
                    .with_accumulate(accumulate)
                    .with_elements(ElementTypes::all(element));
                let step =
                    AutoencoderStep::new(&stack, &optimizer, &gradients, &input, &input, &options);
                rig.run(step.unwrap().gradient_commands());
                let rows = range.end - range.start;
                let x = Dense::new(rows, 13, |row, column| x.at(range.start + row, column));
                let measured = (Loss::SquaredError, Reduction::Sum);
                let (_, want) = deep.backward_in(Types::all(element), [&x, &x], measured, 1.0);
                want[0].weight(Contributions::Both)
            };
            let first = part(0..4, Accumulate::Overwrite);
            let second = part(4..BATCH, Accumulate::Add);
            let want = rounded(&first, element).zip(&second, |a, b| a + b);
            let largest = want.values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            let tolerance = want.map(|value| rounding_of(element, value.abs() + 0.5 * largest));
            let got = rig.get(&gradients.layers()[0].weight);
            expect_close(&format!("{element} on {}", rig.name), &got, &want, &tolerance);
        }
    });
}

#[test]
fn activations_of_16_bits_take_half_the_memory() {
    once_per_adapter(|rig| {
        let bytes = |element: ElementType, sizes: &[u32]| {
            let options = TiedAutoencoderOptions::new(sizes).with_activations(Identity, GeluTanh);
            let options = options.with_weight_element(element);
            let stack = TiedAutoencoder::new(&rig.kernels, &options).unwrap();
            let settings = AdamSettings::adam(0.01);
            let optimizer = Optimizer::new(&rig.kernels, &stack.parameters(), settings).unwrap();
            let gradients = AutoencoderGradients::new_as(&stack, element).unwrap();
            let weight = &gradients.layers()[0].weight;
            assert_eq!(weight.buffer().size(), element.size() * u64::from(sizes[0] * sizes[1]));
            let x = rig.kernels.zeros_as("x", 8, sizes[0], element).unwrap();
            let options =
                AutoencoderStepOptions::default().with_elements(ElementTypes::all(element));
            let step = AutoencoderStep::new(&stack, &optimizer, &gradients, &x, &x, &options);
            step.unwrap().activation_bytes()
        };
        for sizes in [&[64, 32, 16][..], &[16, 16, 12, 6]] {
            let whole = bytes(F32, sizes);
            assert_eq!([F16, Bf16].map(|element| 2 * bytes(element, sizes)), [whole; 2]);
        }
    });
}

#[test]
fn a_layers_step_is_six_dispatches_and_with_a_scale_seven() {
    once_per_adapter(|rig| {
        for element in ElementType::ALL {
            for (scaled, want) in [(false, 6), (true, 7)] {
                let options = TiedLinearOptions::new(12, 5).with_weight_element(element);
                let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
                let settings = AdamSettings::adam(0.01);
                let mut optimizer =
                    Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
                if scaled {
                    let scale = LossScale::new(&rig.kernels, LossScaleSettings::dynamic()).unwrap();
                    optimizer = optimizer.with_loss_scale(scale);
                }
                let gradients = Gradients::new_as(&layer, element).unwrap();
                let x = rig.kernels.zeros_as("x", 8, 12, element).unwrap();
                let options = TrainingOptions::default().with_elements(ElementTypes::all(element));
                let step =
                    TrainingStep::new(&layer, &optimizer, &gradients, &x, &x, options).unwrap();
                let count = step.gradient_commands().len() + step.update_commands().len();
                assert_eq!(count, want, "{element}");
            }
        }
    });
}

/// With a copy, too, a fused update gives the bits of one that is apart.
#[test]
fn a_fused_update_writes_the_same_copy() {
    once_per_adapter(|rig| {
        for (element, settings) in [F16, Bf16, F16].into_iter().zip(rules()) {
            let train = |fused: bool| {
                let options = TiedLinearOptions::new(41, 36)
                    .with_activations(Sigmoid, Tanh)
                    .with_weight_element(element)
                    .with_seed(7);
                let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
                let optimizer =
                    Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
                let gradients = if fused {
                    Gradients::without_weight(&layer).unwrap()
                } else {
                    Gradients::new(&layer).unwrap()
                };
                let input = rig.put_as(&random(50, 41, 8), Place::Tight, element);
                let options = TrainingOptions::default()
                    .with_fused_update(fused)
                    .with_elements(ElementTypes::all(element));
                let step =
                    TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options);
                let step = step.unwrap();
                let whole = step.gradient_commands().clone().then(step.update_commands().clone());
                assert_eq!(whole.len(), 6, "fused {fused}");
                for _ in 0..3 {
                    rig.run(&whole);
                }
                expect_is_copy(rig, "weight", layer.weight().matrix());
                [state_of(rig, &optimizer), rig.bits(step.loss())].concat()
            };
            let what = format!("{settings:?} {element} on {}", rig.name);
            expect_same_bits(&what, &train(true), &train(false));
        }
    });
}

// Overflow and underflow.

/// A layer in f16 with biases, its step, and what it keeps.
struct Scaled {
    layer: TiedLinear,
    optimizer: Optimizer,
    step: TrainingStep,
}

impl Scaled {
    fn new(rig: &Rig, settings: OptimizerSettings, scale: LossScaleSettings) -> Self {
        let options = TiedLinearOptions::new(13, 6).with_weight_element(F16).with_seed(3);
        let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
        let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
        let optimizer = optimizer.with_loss_scale(LossScale::new(&rig.kernels, scale).unwrap());
        let gradients = Gradients::new_as(&layer, F16).unwrap();
        let input = rig.put_as(&random(21, 13, 1), Place::Tight, F16);
        let options = TrainingOptions::default().with_elements(ElementTypes::all(F16));
        let step =
            TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options).unwrap();
        Self { layer, optimizer, step }
    }

    fn scale(&self) -> &LossScale {
        self.optimizer.loss_scale().unwrap()
    }
}

/// Gradients that overflow f16 at first: steps are skipped and the scale is halved until they fit; then the
/// layer learns as if they had not been. One submission, in which copies are taken after each step.
#[test]
fn a_scale_that_is_too_large_comes_down_by_itself() {
    const STEPS: usize = 40;
    on_every_adapter(|rig| {
        let device = &rig.gpu.device;
        for settings in [
            OptimizerSettings::Adam(AdamSettings::adam(0.02)),
            OptimizerSettings::Sgd(SgdSettings::new(2.0).with_momentum(0.5)),
        ] {
            let what = format!("{settings:?} on {}", rig.name);
            let dynamic = LossScaleSettings::dynamic();
            let run = Scaled::new(rig, settings, dynamic.with_initial(2f64.powi(24)));
            let mut watched = buffers_of(&run.optimizer);
            watched.extend([run.scale().scale().unwrap(), run.step.loss().clone()]);
            let readbacks = || watched.iter().map(|m| Readback::new(device, m).unwrap());
            let readbacks: Vec<Vec<_>> = (0..=STEPS).map(|_| readbacks().collect()).collect();
            let mut encoder = device.create_command_encoder(&Default::default());
            for (step, readbacks) in readbacks.iter().enumerate() {
                if step > 0 {
                    run.step.record(&mut encoder.begin_compute_pass(&Default::default()));
                }
                readbacks.iter().for_each(|readback| readback.record(&mut encoder));
            }
            rig.gpu.queue.submit([encoder.finish()]);
            let mut states = Vec::new();
            for readbacks in &readbacks {
                let all = readbacks.iter().map(|readback| readback.read_blocking().unwrap());
                let mut all: Vec<_> = all.collect();
                let loss = all.pop().unwrap()[0];
                let scale = all.pop().unwrap()[0];
                let bits: Vec<_> = all.concat().into_iter().map(f32::to_bits).collect();
                states.push((bits, scale, loss));
            }
            let skipped = states.windows(2).take_while(|pair| pair[1].1 != pair[0].1).count();
            assert!((4..20).contains(&skipped), "{what}: {skipped} steps are skipped at first");
            for (step, pair) in states.windows(2).enumerate() {
                let [(before, scale, _), (after, next, _)] = pair else { unreachable!() };
                if step < skipped {
                    expect_same_bits(&format!("{what}: step {step}"), after, before);
                    assert_eq!(*next, scale / 2.0, "{what}: step {step}");
                } else {
                    assert_ne!(after, before, "{what}: step {step} is taken");
                    assert_eq!(next, scale, "{what}: step {step}");
                }
            }
            let (last, fitting, loss) = states.last().unwrap();
            assert!(*loss < 0.8 * states[1].2, "{what}: from {} to {loss}", states[1].2);
            let scale = *fitting;
            let skipped = skipped as u32;
            let good_steps = STEPS as u32 - skipped;
            let status = run.scale().read_blocking(device, &rig.gpu.queue).unwrap();
            assert_eq!(status, LossScaleStatus { scale, good_steps, skipped }, "{what}");
            expect_is_copy(rig, &what, run.layer.weight().matrix());
            // As from the start with the scale that fits.
            let again = Scaled::new(rig, settings, dynamic.with_initial(scale.into()));
            for _ in 0..good_steps {
                let step = &again.step;
                rig.run(&step.gradient_commands().clone().then(step.update_commands().clone()));
            }
            let buffers = buffers_of(&again.optimizer);
            let bits: Vec<_> = buffers.iter().flat_map(|buffer| rig.bits(buffer)).collect();
            expect_same_bits(&format!("{what}: again"), last, &bits);
        }
    });
}

/// Gradients that f16 has no numbers for: they are lost without a scale, and with one within a hundredth of
/// those in f32.
#[test]
fn a_scale_keeps_gradients_that_are_too_small() {
    on_every_adapter(|rig| {
        let x = random(21, 13, 1).map(|x| 2e-4 * x);
        let moved = |element: ElementType, scale: Option<f64>| {
            let options = TiedLinearOptions::new(13, 6)
                .with_biases(false, false)
                .with_weight_element(element)
                .with_seed(3);
            let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
            let mut optimizer =
                Optimizer::new(&rig.kernels, &layer.parameters(), SgdSettings::new(1e5)).unwrap();
            if let Some(scale) = scale {
                let settings = LossScaleSettings::fixed(scale);
                optimizer =
                    optimizer.with_loss_scale(LossScale::new(&rig.kernels, settings).unwrap());
            }
            let gradients = Gradients::new_as(&layer, element).unwrap();
            let input = rig.put_as(&x, Place::Tight, element);
            let options = TrainingOptions::default().with_elements(ElementTypes::all(element));
            let step =
                TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options).unwrap();
            let weight = layer.weight().matrix();
            let before = rig.get(weight);
            rig.run(&step.gradient_commands().clone().then(step.update_commands().clone()));
            let pairs = rig.get(weight).into_iter().zip(before);
            pairs.map(|(after, before)| f64::from(after) - f64::from(before)).collect::<Vec<_>>()
        };
        let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let want = moved(F32, None);
        assert!(norm(&want) > 1e-4, "{want:?}");
        let lost = moved(F16, None);
        assert!(lost.iter().all(|moved| *moved == 0.0), "{lost:?}");
        let kept = moved(F16, Some(2f64.powi(20)));
        let difference: Vec<_> = kept.iter().zip(&want).map(|(a, b)| a - b).collect();
        let share = norm(&difference) / norm(&want);
        assert!(share < 0.01, "{share} of what is moved on {}", rig.name);
    });
}
