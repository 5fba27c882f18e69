//! `TiedAutoencoder` and its training step: the formulas, frozen parts, shared weights, noise, memory.

mod common;

use common::deep::{Deep, LayerGradients};
use common::reference::Dense;
use common::{
    Place, Rig, expect_close, expect_same_bits, on_every_adapter, once_per_adapter, random,
};
use tied_linear::kernels::{Backward, Gradient, LossGradient, NoisyCopy, SgdSettings};
use tied_linear::{
    Accumulate, Activation, AdamSettings, AutoencoderGradients, AutoencoderStep,
    AutoencoderStepOptions, Commands, Contributions, Error, Frozen, Gradients, Loss, Matrix, Noise,
    NoiseState, Optimizer, OptimizerSettings, OptimizerState, ProductShape, Reduction,
    TiedAutoencoder, TiedAutoencoderOptions, TiedLinear, TiedLinearOptions, TrainingOptions,
    TrainingStep, wgpu,
};

use Activation::{GeluErf, GeluTanh, Identity, Relu, Sigmoid, Silu, Tanh};

const SIZES: [u32; 4] = [13, 7, 5, 3];
const BATCH: u32 = 9;

/// Derivatives of outputs and of pre-activations, on both sides.
const MIXED: [[Activation; 2]; 3] = [[Tanh, Identity], [GeluErf, Sigmoid], [Sigmoid, Silu]];

fn options() -> AutoencoderStepOptions {
    AutoencoderStepOptions::default()
}

/// A stack with an optimizer, gradients and a batch that is its own target.
struct Trainer<'a> {
    rig: &'a Rig,
    stack: TiedAutoencoder,
    optimizer: Optimizer,
    gradients: AutoencoderGradients,
    input: Matrix,
}

impl<'a> Trainer<'a> {
    fn new(rig: &'a Rig, stack: TiedAutoencoder, settings: impl Into<OptimizerSettings>) -> Self {
        let optimizer = Optimizer::new(&rig.kernels, &stack.parameters(), settings).unwrap();
        let gradients = AutoencoderGradients::new(&stack).unwrap();
        let input = rig.put(&input(stack.inputs()), Place::Odd);
        Self { rig, stack, optimizer, gradients, input }
    }

    fn step(&self, options: &AutoencoderStepOptions) -> AutoencoderStep {
        self.try_step(options).unwrap()
    }

    fn try_step(&self, options: &AutoencoderStepOptions) -> tied_linear::Result<AutoencoderStep> {
        let Self { stack, optimizer, gradients, input, .. } = self;
        AutoencoderStep::new(stack, optimizer, gradients, input, input, options)
    }

    fn run(&self, step: &AutoencoderStep) {
        self.rig.run(&whole(step));
    }

    /// Each parameter by its name: the bits of its value and of what the optimizer keeps for it.
    fn state(&self) -> Vec<(String, Vec<Vec<u32>>)> {
        let of_each = self.optimizer.states().map(|(parameter, state)| {
            let mut matrices = vec![parameter.value.clone()];
            match state {
                OptimizerState::Sgd(velocity) => matrices.extend(velocity.clone()),
                OptimizerState::Adam(moments) => matrices.extend(
                    [moments.first_moment(), moments.second_moment(), moments.steps()]
                        .map(Matrix::clone),
                ),
                _ => unreachable!("an optimizer that the tests do not know"),
            }
            let bits = matrices.iter().map(|matrix| self.rig.bits(matrix)).collect();
            (parameter.name.to_string(), bits)
        });
        of_each.collect()
    }
}

fn input(columns: u32) -> Dense {
    random(BATCH, columns, 4)
}

fn whole(step: &AutoencoderStep) -> Commands {
    step.gradient_commands().clone().then(step.update_commands().clone())
}

/// A stack with tanh on the way and biases everywhere.
fn seeded(rig: &Rig, sizes: &[u32]) -> TiedAutoencoder {
    let options = TiedAutoencoderOptions::new(sizes)
        .with_activations(Tanh, Tanh)
        .with_output_activation(Identity)
        .with_fan_in_biases()
        .with_seed(5);
    TiedAutoencoder::new(&rig.kernels, &options).unwrap()
}

fn adam() -> AdamSettings {
    AdamSettings::adam(0.01)
}

/// Fails where the two differ by more than 2e-5 of the larger of 1 and the largest value.
fn expect_near(what: &str, got: &[f32], want: &Dense) {
    let largest = want.values.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
    expect_close(what, got, want, &want.map(|_| 2e-5 * largest));
}

// The formulas.

/// The names and values of a layer's parameters, before and the gradient.
fn parameters_of<'a>(
    deep: &'a Deep,
    gradients: &'a [LayerGradients],
    contributions: Contributions,
) -> Vec<(String, &'a Dense, Dense)> {
    let layers = deep.layers.iter().zip(gradients).enumerate();
    let of_layer = layers.map(|(index, (layer, gradients))| {
        [
            (format!("encoder.{index}.weight"), &layer.weight, gradients.weight(contributions)),
            (
                format!("encoder.{index}.bias"),
                layer.encoder_bias.as_ref().unwrap(),
                gradients.encoder_bias.clone(),
            ),
            (
                format!("decoder.{index}.bias"),
                layer.decoder_bias.as_ref().unwrap(),
                gradients.decoder_bias.clone(),
            ),
        ]
    });
    of_layer.flatten().collect()
}

fn check_step(
    rig: &Rig,
    activations: [[Activation; 2]; 3],
    loss: Loss,
    reduction: Reduction,
    contributions: Contributions,
) {
    const RATE: f64 = 0.125;
    let what = format!("{activations:?} {loss:?} {reduction:?} {contributions:?}");
    let deep = Deep::new(&SIZES, &activations);
    let trainer = Trainer::new(rig, deep.put(rig), SgdSettings::new(RATE));
    let target = random(BATCH, SIZES[0], 6).map(|t| 0.5 + 0.5 * t);
    let target_matrix = rig.put(&target, Place::Odd);
    let options =
        options().with_loss(loss).with_reduction(reduction).with_contributions(contributions);
    let Trainer { stack, optimizer, gradients, input: x, .. } = &trainer;
    let poison = |matrix: &Matrix| {
        let nans = vec![f32::NAN; matrix.len() as usize];
        matrix.write(&rig.gpu.device, &rig.gpu.queue, &nans).unwrap();
    };
    for layer in gradients.layers() {
        poison(&layer.weight);
        poison(layer.encoder_bias.as_ref().unwrap());
        poison(layer.decoder_bias.as_ref().unwrap());
    }
    let step =
        AutoencoderStep::new(stack, optimizer, gradients, x, &target_matrix, &options).unwrap();
    trainer.run(&step);

    let (value, want) = deep.backward(&input(SIZES[0]), &target, loss, reduction);
    let got = f64::from(rig.get(step.loss())[0]);
    assert!((got - value).abs() <= 1e-5 * value.abs(), "{what}: loss {got}, want {value}");
    let parameters = stack.parameters();
    let pairs = gradients.pairs(stack);
    let wanted = parameters_of(&deep, &want, contributions);
    assert_eq!(parameters.len(), wanted.len());
    for ((parameter, (name, before, want)), (_, gradient)) in
        parameters.iter().zip(wanted).zip(pairs)
    {
        assert_eq!(parameter.name, name);
        expect_near(&format!("{what}: gradient of {name}"), &rig.get(gradient), &want);
        let after = before.zip(&want, |value, gradient| value - RATE * gradient);
        expect_near(&format!("{what}: updated {name}"), &rig.get(&parameter.value), &after);
    }
}

#[test]
fn every_gradient_and_each_term_of_the_weights_is_that_of_the_formulas() {
    on_every_adapter(|rig| {
        for contributions in [Contributions::Both, Contributions::Encoder, Contributions::Decoder] {
            check_step(rig, MIXED, Loss::SquaredError, Reduction::Sum, contributions);
        }
        let both = Contributions::Both;
        let other = [[GeluTanh, Identity], [Relu, Tanh], [Identity, GeluErf]];
        check_step(rig, other, Loss::BinaryCrossEntropy, Reduction::Mean, both);
        let output = [[Sigmoid, GeluErf], [Identity, Identity], [Silu, Relu]];
        check_step(rig, output, Loss::SquaredError, Reduction::Mean, both);
    });
}

/// The reference itself against central differences of its loss.
#[test]
fn the_references_gradients_are_slopes_of_its_loss() {
    let deep = Deep::new(&SIZES, &MIXED);
    let (x, target) = (input(SIZES[0]), random(BATCH, SIZES[0], 6).map(|t| 0.5 + 0.5 * t));
    for loss in [Loss::SquaredError, Loss::BinaryCrossEntropy] {
        let (_, gradients) = deep.backward(&x, &target, loss, Reduction::Sum);
        let value = |deep: &Deep| deep.backward(&x, &target, loss, Reduction::Sum).0;
        type Part = fn(&mut common::reference::Layer) -> &mut Dense;
        type Wanted = fn(&LayerGradients) -> Dense;
        let parts: [(Part, Wanted); 3] = [
            (|layer| &mut layer.weight, |own| own.weight(Contributions::Both)),
            (|layer| layer.encoder_bias.as_mut().unwrap(), |own| own.encoder_bias.clone()),
            (|layer| layer.decoder_bias.as_mut().unwrap(), |own| own.decoder_bias.clone()),
        ];
        for (index, own) in gradients.iter().enumerate() {
            for (part, gradient) in parts {
                for (at, want) in gradient(own).values.iter().enumerate() {
                    let moved = |by: f64| {
                        let mut deep = deep.clone();
                        part(&mut deep.layers[index]).values[at] += by;
                        value(&deep)
                    };
                    let got = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let near = (got - want).abs() <= 1e-6 * want.abs().max(1.0);
                    assert!(near, "layer {index}, element {at}: {got}, want {want}");
                }
            }
        }
    }
}

#[test]
fn forward_passes_are_those_of_the_formulas() {
    on_every_adapter(|rig| {
        for sizes in [&SIZES[..], &[5, 8, 3], &[6, 2]] {
            let deep = Deep::new(sizes, &MIXED[..sizes.len() - 1]);
            let stack = deep.put(rig);
            let [inputs, hidden] = [sizes[0], sizes[sizes.len() - 1]];
            assert_eq!([stack.inputs(), stack.hidden()], [inputs, hidden]);
            let x = input(inputs);
            let from = rig.put(&x, Place::Odd);
            let code = rig.poisoned(BATCH, hidden, Place::Odd);
            let output = rig.poisoned(BATCH, inputs, Place::Odd);
            let commands = stack.forward(&from, &code, &output).unwrap();
            assert_eq!(commands.len(), 2 * (sizes.len() - 1));
            rig.run(&commands);
            let want = deep.forward(&x);
            expect_near(&format!("code of {sizes:?}"), &rig.get(&code), &want.x[sizes.len() - 1]);
            expect_near(&format!("output of {sizes:?}"), &rig.get(&output), &want.y[0]);
            rig.expect_surroundings_untouched("code", &code);
            rig.expect_surroundings_untouched("output", &output);
        }
    });
}

// The same bits as by other ways.

/// A step of two layers with each kernel called by hand, with matrices of their own.
#[test]
fn a_step_gives_the_bits_of_single_calls() {
    on_every_adapter(|rig| {
        let deep = Deep::new(&[20, 12, 6], &[[Sigmoid, Identity], [GeluTanh, Tanh]]);
        let trainer = Trainer::new(rig, deep.put(rig), adam());
        let Trainer { stack, gradients, input: x, .. } = &trainer;
        let step = trainer.step(&options());
        rig.run(step.gradient_commands());

        let by_hand = AutoencoderGradients::new(stack).unwrap();
        let of = |columns| rig.kernels.zeros("by hand", BATCH, columns).unwrap();
        let (h, code, code_z, y1, y0) = (of(12), of(6), of(6), of(12), of(20));
        let (a0, a1, z1, z0) = (of(20), of(12), of(6), of(12));
        let loss = rig.kernels.zeros("loss", 1, 1).unwrap();
        let [outer, inner] = [0, 1].map(|index| &stack.layers()[index]);
        let kernels = &rig.kernels;
        let measure = LossGradient::new(&y0, x, &loss).with_delta(Some(&a0));
        let through = |delta, activation, saved, output| {
            Gradient::new(delta, output).through(activation, Some(saved))
        };
        let [g0, g1] = [0, 1].map(|index| &by_hand.layers()[index]);
        let backward = |code, output_delta, code_delta, input, own: &Gradients| {
            let call = Backward {
                code,
                output_delta,
                code_delta,
                input,
                gradient: &own.weight,
                contributions: Contributions::Both,
                accumulate: Accumulate::Overwrite,
            };
            kernels.backward(&call).unwrap()
        };
        let bias = |delta, gradient: &Option<Matrix>| {
            let gradient = gradient.as_ref().unwrap();
            let accumulate = Accumulate::Overwrite;
            let call = tied_linear::kernels::BiasGradient { delta, gradient, accumulate };
            kernels.bias_gradient(&call).unwrap()
        };
        let all = [
            outer.encoder().encode(x, &h, None),
            inner.encoder().encode(&h, &code, Some(&code_z)),
            inner.decoder().decode(&code, &y1, None),
            outer.decoder().decode(&y1, &y0, None),
            kernels.squared_error(&measure),
            kernels.code_gradient(outer.weight(), &through(&a0, Tanh, &y1, &a1)),
            kernels.code_gradient(inner.weight(), &through(&a1, GeluTanh, &code_z, &z1)),
            kernels.input_gradient(inner.weight(), &through(&z1, Sigmoid, &h, &z0)),
            Ok(backward(&code, &a1, &z1, &h, g1)),
            Ok(backward(&y1, &a0, &z0, x, g0)),
            Ok(bias(&z0, &g0.encoder_bias).then(bias(&a0, &g0.decoder_bias))),
            Ok(bias(&z1, &g1.encoder_bias).then(bias(&a1, &g1.decoder_bias))),
        ];
        for commands in all {
            rig.run(&commands.unwrap());
        }
        for (index, ((_, got), (_, want))) in
            gradients.pairs(stack).iter().zip(by_hand.pairs(stack)).enumerate()
        {
            let what = format!("gradient {index} on {}", rig.name);
            expect_same_bits(&what, &rig.bits(got), &rig.bits(want));
        }
        let (got, want) = (rig.get(step.loss())[0], rig.get(&loss)[0]);
        assert!((got - want).abs() <= 1e-6 * want, "loss {got}, want {want}");
    });
}

/// And one layer, those of a `TrainingStep`, with the loss and three updates.
#[test]
fn a_stack_of_one_layer_is_a_layer() {
    on_every_adapter(|rig| {
        let options = TiedLinearOptions::new(19, 6).with_activations(GeluErf, Sigmoid).with_seed(3);
        let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
        let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), adam()).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        let x = rig.put(&input(19), Place::Odd);
        let training = TrainingOptions::default();
        let one = TrainingStep::new(&layer, &optimizer, &gradients, &x, &x, training).unwrap();

        let stack =
            TiedAutoencoderOptions::new(&[19, 6]).with_activations(GeluErf, Sigmoid).with_seed(3);
        let stack = TiedAutoencoder::new(&rig.kernels, &stack).unwrap();
        let trainer = Trainer::new(rig, stack, adam());
        let step = trainer.step(&self::options());
        for _ in 0..3 {
            rig.run(&one.gradient_commands().clone().then(one.update_commands().clone()));
            trainer.run(&step);
            expect_same_bits("loss", &rig.bits(step.loss()), &rig.bits(one.loss()));
        }
        let stack = trainer.stack.parameters();
        for (got, want) in stack.iter().zip(layer.parameters().iter()) {
            expect_same_bits(&want.name, &rig.bits(&got.value), &rig.bits(&want.value));
        }
    });
}

/// Two micro-batches, the second added to the first, give the gradient of the whole batch.
#[test]
fn gradients_accumulate_over_micro_batches() {
    on_every_adapter(|rig| {
        let deep = Deep::new(&SIZES, &MIXED);
        let trainer = Trainer::new(rig, deep.put(rig), adam());
        let Trainer { stack, optimizer, gradients, input: x, .. } = &trainer;
        let step = |rows, accumulate| {
            let part = x.row_range(rows).unwrap();
            let options = options().with_reduction(Reduction::Sum).with_accumulate(accumulate);
            AutoencoderStep::new(stack, optimizer, gradients, &part, &part, &options).unwrap()
        };
        let first = step(0..4, Accumulate::Overwrite);
        let second = step(4..BATCH, Accumulate::Add);
        rig.run(&first.gradient_commands().clone().then(second.gradient_commands().clone()));
        let x = input(SIZES[0]);
        let (_, want) = deep.backward(&x, &x, Loss::SquaredError, Reduction::Sum);
        let wanted = parameters_of(&deep, &want, Contributions::Both);
        for ((name, _, want), (_, got)) in wanted.iter().zip(gradients.pairs(stack)) {
            expect_near(name, &rig.get(got), want);
        }
    });
}

#[test]
fn an_empty_batch_changes_nothing() {
    on_every_adapter(|rig| {
        let trainer = Trainer::new(rig, seeded(rig, &SIZES), SgdSettings::new(0.5));
        let before = trainer.state();
        let Trainer { stack, optimizer, gradients, .. } = &trainer;
        let none = rig.put(&Dense::zeros(0, SIZES[0]), Place::Tight);
        let step = AutoencoderStep::new(stack, optimizer, gradients, &none, &none, &options());
        let step = step.unwrap();
        trainer.run(&step);
        assert_eq!(rig.get(step.loss()), [0.0]);
        assert_eq!(trainer.state(), before);
    });
}

/// A long batch, which the weights' gradients are split over: what is left of them is added up in the
/// dispatch of the biases.
#[test]
fn split_weight_gradients_are_right_and_take_no_further_dispatch() {
    on_every_adapter(|rig| {
        const ROWS: u32 = 2100;
        let deep = Deep::new(&SIZES, &MIXED);
        let trainer = Trainer::new(rig, deep.put(rig), adam());
        let Trainer { stack, optimizer, gradients, .. } = &trainer;
        let [rows, columns] = [ROWS, SIZES[0]];
        let x = random(rows, columns, 8);
        let input = rig.put(&x, Place::Odd);
        let parts = rig.kernels.choice(&ProductShape::backward(rows, columns, SIZES[1])).parts;
        println!("{parts} parts");
        let step = AutoencoderStep::new(stack, optimizer, gradients, &input, &input, &options());
        let step = step.unwrap();
        assert_eq!(whole(&step).len(), 20);
        rig.run(step.gradient_commands());
        let (_, want) = deep.backward(&x, &x, Loss::SquaredError, Reduction::Mean);
        let wanted = parameters_of(&deep, &want, Contributions::Both);
        for ((name, _, want), (_, got)) in wanted.iter().zip(gradients.pairs(stack)) {
            expect_near(name, &rig.get(got), want);
        }
    });
}

// Dispatches and memory.

#[test]
fn a_step_of_n_layers_is_seven_n_less_one_dispatches() {
    once_per_adapter(|rig| {
        let sizes = [12, 9, 8, 6, 4];
        for layers in 1..=4 {
            let trainer = Trainer::new(rig, seeded(rig, &sizes[..=layers]), adam());
            let count = |options: &AutoencoderStepOptions| whole(&trainer.step(options)).len();
            assert_eq!(count(&options()), 7 * layers - 1, "{layers} layers");
            let state = NoiseState::new(&rig.kernels, BATCH, 12, 0).unwrap();
            let noisy = options().with_noise(Noise::Masking { probability: 0.5 }, &state);
            assert_eq!(count(&noisy), 7 * layers, "{layers} layers with noise");
            let all = |options: AutoencoderStepOptions, range: std::ops::Range<usize>| {
                range.fold(options, |options, layer| options.with_frozen(layer, Frozen::ALL))
            };
            // Forward, the loss and its total.
            let none = all(options(), 0..layers);
            assert_eq!(count(&none), 2 * layers + 1, "{layers} layers, all frozen");
            // The decoders' deltas down to the innermost layer, its own, its gradients; an update that
            // is of up to three parameters.
            let last = trainer.step(&all(options(), 0..layers - 1));
            let wanted = 2 * layers + (layers - 1) + 1 + 2;
            assert_eq!(last.gradient_commands().len(), wanted, "{layers} layers, the last trained");
            // The output's bias needs nothing but dA₀.
            let output = Frozen { weight: true, encoder_bias: true, decoder_bias: false };
            let bias = all(options(), 1..layers).with_frozen(0, output);
            let step = trainer.step(&bias);
            // The total goes with the innermost layer's sums, of which there are none.
            let wanted = 2 * layers + 1 + usize::from(layers > 1);
            assert_eq!(
                step.gradient_commands().len(),
                wanted,
                "{layers} layers, the output's bias"
            );
            assert_eq!(step.update_commands().len(), 1);
        }
    });
}

/// Bytes of the buffers with this label, where the backend lists them.
fn bytes_labelled(rig: &Rig, label: &str) -> Option<u64> {
    rig.gpu.queue.submit([]);
    rig.gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let report = rig.gpu.device.generate_allocator_report()?;
    let all = report.allocations.iter().filter(|one| one.name == label);
    Some(all.map(|one| one.size).sum())
}

#[test]
fn activations_take_what_the_formula_says_and_no_more_is_made() {
    once_per_adapter(|rig| {
        let rig = &rig.with_limits(|_| {});
        // Whole multiples of what a driver rounds sizes to.
        const ROWS: u32 = 64;
        for sizes in [&[64, 32][..], &[64, 32, 16], &[64, 64, 32, 16], &[128, 64, 64, 32, 16, 16]] {
            let trainer = Trainer::new(rig, seeded(rig, sizes), adam());
            let Trainer { stack, optimizer, gradients, .. } = &trainer;
            let x = rig.kernels.zeros("x", ROWS, sizes[0]).unwrap();
            let step = |options: &AutoencoderStepOptions| {
                AutoencoderStep::new(stack, optimizer, gradients, &x, &x, options).unwrap()
            };
            let inner: u32 = sizes[1..sizes.len() - 1].iter().sum();
            let (outer, code) = (sizes[0], sizes[sizes.len() - 1]);
            let want = 4 * u64::from(ROWS) * u64::from(outer + 3 * inner + 2 * code);
            let before = bytes_labelled(rig, "activations");
            let plain = step(&options());
            assert_eq!(plain.activation_bytes(), want, "{sizes:?}");
            let created = bytes_labelled(rig, "activations").zip(before);
            match created.map(|(after, before)| after - before) {
                // An allocation may be larger by what lies before its buffer.
                Some(bytes) => {
                    assert!(
                        (want..want + want / 8).contains(&bytes),
                        "{sizes:?}: {bytes}, not {want}"
                    );
                }
                None => println!("NOT RUN: {} lists no allocations", rig.name),
            }
            let state = NoiseState::new(&rig.kernels, ROWS, outer, 0).unwrap();
            let noisy = step(&options().with_noise(Noise::Gaussian { deviation: 1.0 }, &state));
            let noise = 4 * u64::from(ROWS) * u64::from(outer);
            assert_eq!(noisy.activation_bytes(), want + noise, "{sizes:?} with noise");
            // Nothing to keep for a backward pass but the loss's gradient, which nobody reads.
            let frozen = (0..sizes.len() - 1)
                .fold(options(), |options, layer| options.with_frozen(layer, Frozen::ALL));
            assert!(step(&frozen).activation_bytes() <= want, "{sizes:?} frozen");
        }
    });
}

/// Sizes that grow and pre-activations that are kept: no more than a buffer for each.
#[test]
fn a_plan_never_takes_more_than_a_buffer_for_each_value() {
    once_per_adapter(|rig| {
        for sizes in [&[4, 9, 3, 12][..], &[3, 5, 8, 13], &[20, 2, 20, 2]] {
            let deep = Deep::new(sizes, &[[GeluErf, Silu]; 3]);
            let trainer = Trainer::new(rig, deep.put(rig), adam());
            let [s0, s1, s2, s3] = [0, 1, 2, 3].map(|index| u64::from(sizes[index]));
            // X₁ … X₃ with what they are made of, Y₂ and Y₁ with that, three deltas a side.
            let apart = 2 * (s1 + s2 + s3) + 2 * (s2 + s1) + (s0 + s1 + s2) + (s3 + s2 + s1);
            let bytes = trainer.step(&options()).activation_bytes();
            assert!(bytes < 4 * u64::from(BATCH) * apart, "{sizes:?}: {bytes}");
            // And it is right.
            let x = input(sizes[0]);
            let (_, want) = deep.backward(&x, &x, Loss::SquaredError, Reduction::Mean);
            rig.run(trainer.step(&options()).gradient_commands());
            let wanted = parameters_of(&deep, &want, Contributions::Both);
            let pairs = trainer.gradients.pairs(&trainer.stack);
            for ((name, _, want), (_, got)) in wanted.iter().zip(pairs) {
                expect_near(&format!("{sizes:?}: {name}"), &rig.get(got), want);
            }
        }
    });
}

// Frozen parts.

/// What each case freezes, layer by layer.
fn freezes() -> Vec<Vec<Frozen>> {
    let (none, all) = (Frozen::NONE, Frozen::ALL);
    let biases = Frozen { weight: false, ..all };
    vec![
        vec![all],
        vec![none, all],
        vec![none, none, all],
        vec![all, all],
        vec![all, none, all],
        vec![none, all, all],
        vec![all, all, all],
        vec![Frozen::WEIGHT],
        vec![none, Frozen::WEIGHT],
        vec![Frozen::WEIGHT; 3],
        vec![biases; 3],
        vec![Frozen::ENCODER_BIAS, Frozen::DECODER_BIAS],
        vec![Frozen::DECODER_BIAS, none, Frozen::ENCODER_BIAS],
        // All but one part.
        vec![Frozen { encoder_bias: false, ..all }, all, all],
        vec![all, Frozen { decoder_bias: false, ..all }, all],
        vec![all, all, Frozen { encoder_bias: false, ..all }],
        vec![all, biases, all],
    ]
}

fn is_frozen(frozen: &[Frozen], name: &str) -> bool {
    let parts: Vec<_> = name.split('.').collect();
    let own = frozen.get(parts[1].parse::<usize>().unwrap()).copied().unwrap_or_default();
    match (parts[0], parts[2]) {
        ("encoder", "weight") => own.weight,
        ("encoder", "bias") => own.encoder_bias,
        ("decoder", "bias") => own.decoder_bias,
        _ => panic!("{name}"),
    }
}

/// After two common steps, one with frozen parts: those keep the bits of values, moments and step counts,
/// all others get those of a step in which nothing is frozen.
#[test]
fn what_is_frozen_keeps_its_bits_and_the_rest_is_trained_as_ever() {
    on_every_adapter(|rig| {
        let settings: [OptimizerSettings; 3] = [
            adam().into(),
            SgdSettings::new(0.1).with_momentum(0.9).into(),
            SgdSettings::new(0.1).into(),
        ];
        for settings in settings {
            let free = Trainer::new(rig, seeded(rig, &SIZES), settings);
            let step = free.step(&options());
            free.run(&step);
            free.run(&step);
            let before = free.state();
            free.run(&step);
            let after = free.state();
            for frozen in freezes() {
                let trainer = Trainer::new(rig, seeded(rig, &SIZES), settings);
                let step = trainer.step(&options());
                trainer.run(&step);
                trainer.run(&step);
                assert_eq!(trainer.state(), before, "the same start");
                let options = options();
                let options = (0..)
                    .zip(&frozen)
                    .fold(options, |options, (layer, frozen)| options.with_frozen(layer, *frozen));
                // Gradients of what is frozen need not even be there.
                let gradients = AutoencoderGradients::without(&trainer.stack, &frozen).unwrap();
                let Trainer { stack, optimizer, input, .. } = &trainer;
                let step =
                    AutoencoderStep::new(stack, optimizer, &gradients, input, input, &options);
                trainer.run(&step.unwrap());
                let states = trainer.state();
                assert_eq!(states.len(), before.len());
                for ((got, before), after) in states.iter().zip(&before).zip(&after) {
                    let name = &got.0;
                    let what = format!("{settings:?}, {frozen:?}: {name}");
                    assert_ne!(before.1, after.1, "{what} is not trained at all");
                    let want = if is_frozen(&frozen, name) { before } else { after };
                    for (got, want) in got.1.iter().zip(&want.1) {
                        expect_same_bits(&what, got, want);
                    }
                }
            }
        }
    });
}

/// An optimizer that knows nothing of the frozen parameters keeps no moments for them.
#[test]
fn an_optimizer_may_lack_what_is_frozen() {
    on_every_adapter(|rig| {
        let stack = seeded(rig, &SIZES);
        let trained = stack.parameters().into_iter();
        let trained = trained.filter(|parameter| !parameter.name.contains(".0."));
        let optimizer = Optimizer::new(&rig.kernels, &trained.collect(), adam()).unwrap();
        let gradients = AutoencoderGradients::new(&stack).unwrap();
        let x = rig.put(&input(SIZES[0]), Place::Tight);
        let before: Vec<_> =
            stack.parameters().iter().map(|parameter| rig.bits(&parameter.value)).collect();
        let options = options().with_frozen(0, Frozen::ALL);
        let step = AutoencoderStep::new(&stack, &optimizer, &gradients, &x, &x, &options).unwrap();
        rig.run(&whole(&step));
        for (parameter, before) in stack.parameters().iter().zip(&before) {
            let same = rig.bits(&parameter.value) == *before;
            assert_eq!(same, parameter.name.contains(".0."), "{}", parameter.name);
        }
    });
}

// Shared parameters.

/// One layer twice in a stack: its weight is used four times, its biases twice each. The gradient counts
/// all, and there is one update.
#[test]
fn a_layer_that_stands_twice_is_one_parameter_with_all_its_gradients() {
    on_every_adapter(|rig| {
        const RATE: f64 = 0.125;
        let mut deep = Deep::new(&[8, 5, 5, 5], &[[Tanh, Identity], [Sigmoid, Tanh], [Tanh, Tanh]]);
        deep.layers[2] = deep.layers[1].clone();
        let apart = deep.put(rig);
        let layers = [0, 1, 1].map(|index: usize| apart.layers()[index].clone());
        let stack = TiedAutoencoder::from_layers(layers.to_vec()).unwrap();
        assert_eq!(stack.parameters().len(), 6);
        let trainer = Trainer::new(rig, stack, SgdSettings::new(RATE));
        let Trainer { stack, gradients, optimizer, .. } = &trainer;
        assert_eq!(optimizer.states().count(), 6);
        let step = trainer.step(&options());
        trainer.run(&step);
        // Again: the first use overwrites.
        rig.run(&step.gradient_commands().clone());
        let once = Trainer::new(
            rig,
            {
                let fresh = deep.put(rig);
                let layers = [0, 1, 1].map(|index: usize| fresh.layers()[index].clone());
                TiedAutoencoder::from_layers(layers.to_vec()).unwrap()
            },
            SgdSettings::new(RATE),
        );
        rig.run(once.step(&options()).gradient_commands());

        let x = input(8);
        let (_, all) = deep.backward(&x, &x, Loss::SquaredError, Reduction::Mean);
        let both = Contributions::Both;
        let sum = |a: &Dense, b: &Dense| a.zip(b, |a, b| a + b);
        let want = [
            (&deep.layers[1].weight, sum(&all[1].weight(both), &all[2].weight(both))),
            (
                deep.layers[1].encoder_bias.as_ref().unwrap(),
                sum(&all[1].encoder_bias, &all[2].encoder_bias),
            ),
            (
                deep.layers[1].decoder_bias.as_ref().unwrap(),
                sum(&all[1].decoder_bias, &all[2].decoder_bias),
            ),
        ];
        let parameters = stack.parameters();
        let got = parameters.iter().skip(3);
        let pairs = once.gradients.pairs(&once.stack);
        for ((parameter, (before, gradient)), (_, got)) in got.zip(&want).zip(&pairs[3..]) {
            expect_near(&parameter.name, &rig.get(got), gradient);
            let after = before.zip(gradient, |value, gradient| value - RATE * gradient);
            expect_near(&parameter.name, &rig.get(&parameter.value), &after);
        }
        assert!(gradients.layers()[1].weight == gradients.layers()[2].weight);
    });
}

/// A bias that both halves of a square layer share, in one dispatch of column sums at first.
#[test]
fn a_bias_of_both_halves_gets_both_gradients() {
    on_every_adapter(|rig| {
        let mut deep = Deep::new(&[6, 6], &[[Tanh, Sigmoid]]);
        deep.layers[0].decoder_bias = deep.layers[0].encoder_bias.clone();
        let apart = deep.put(rig);
        let layer = &apart.layers()[0];
        let bias = layer.encoder().bias().cloned();
        let decoder =
            tied_linear::Decoder::new(&rig.kernels, layer.weight(), bias, Sigmoid).unwrap();
        let layer = TiedLinear::from_halves(layer.encoder().clone(), decoder).unwrap();
        let stack = TiedAutoencoder::from_layers(vec![layer]).unwrap();
        assert_eq!(stack.parameters().len(), 2);
        let trainer = Trainer::new(rig, stack, adam());
        rig.run(trainer.step(&options()).gradient_commands());
        let x = input(6);
        let (_, all) = deep.backward(&x, &x, Loss::SquaredError, Reduction::Mean);
        let want = all[0].encoder_bias.zip(&all[0].decoder_bias, |a, b| a + b);
        let got = trainer.gradients.layers()[0].encoder_bias.as_ref().unwrap();
        expect_near("bias", &rig.get(got), &want);
    });
}

// Noise.

/// With noise, a step is one on the noisy copy towards the clean input, and the next has other noise.
#[test]
fn a_denoising_step_is_a_step_on_the_noisy_copy() {
    on_every_adapter(|rig| {
        let noises = [Noise::Masking { probability: 0.4 }, Noise::Gaussian { deviation: 0.5 }];
        for noise in noises {
            let noisy = Trainer::new(rig, seeded(rig, &SIZES), adam());
            let state = NoiseState::new(&rig.kernels, BATCH, SIZES[0], 17).unwrap();
            let step = noisy.step(&options().with_noise(noise, &state));

            let plain = Trainer::new(rig, seeded(rig, &SIZES), adam());
            let copy = rig.poisoned(BATCH, SIZES[0], Place::Tight);
            let twin = NoiseState::new(&rig.kernels, BATCH, SIZES[0], 17).unwrap();
            let call = NoisyCopy { input: &plain.input, noise, state: &twin, output: &copy };
            let corrupt = rig.kernels.noise(&call).unwrap();
            let Trainer { stack, optimizer, gradients, input, .. } = &plain;
            let on_copy =
                AutoencoderStep::new(stack, optimizer, gradients, &copy, input, &options());
            let on_copy = on_copy.unwrap();
            let mut copies = Vec::new();
            for run in 0..3 {
                noisy.run(&step);
                rig.run(&corrupt);
                copies.push(rig.bits(&copy));
                plain.run(&on_copy);
                let what = format!("{noise:?}, step {run}");
                expect_same_bits(&what, &rig.bits(step.loss()), &rig.bits(on_copy.loss()));
                assert_eq!(noisy.state(), plain.state(), "{what}");
            }
            assert!(copies[0] != copies[1] && copies[1] != copies[2], "{noise:?}");
        }
    });
}

/// Three steps in one submission are three steps in three, and seed and step bring them back.
#[test]
fn denoising_is_reproducible_by_seed_and_step() {
    once_per_adapter(|rig| {
        let train = |at_once: bool, first: u32, seed: u64| {
            let trainer = Trainer::new(rig, seeded(rig, &SIZES), adam());
            let state = NoiseState::new(&rig.kernels, BATCH, SIZES[0], seed).unwrap();
            state.set_step(&rig.gpu.device, &rig.gpu.queue, first).unwrap();
            let noise = Noise::Masking { probability: 0.4 };
            let step = whole(&trainer.step(&options().with_noise(noise, &state)));
            if at_once {
                rig.run(&step.clone().then(step.clone()).then(step));
            } else {
                (0..3).for_each(|_| rig.run(&step));
            }
            trainer.state()
        };
        let want = train(false, 0, 1);
        assert!(train(true, 0, 1) == want);
        assert!(train(true, 1, 1) != want, "another step");
        assert!(train(true, 0, 2) != want, "another seed");
    });
}

// Two weights for one.

#[test]
fn untied_weights_start_equal_are_independent_and_tie_again_only_while_equal() {
    once_per_adapter(|rig| {
        let deep = Deep::new(&SIZES, &MIXED);
        let stack = deep.put(rig);
        let queue = &rig.gpu.queue;
        let untied = stack.untie(queue).unwrap();
        let weights: u64 = stack.layers().iter().map(|layer| layer.weight().matrix().len()).sum();
        assert_eq!(untied.extra_bytes(), 4 * weights);
        let names: Vec<_> =
            untied.parameters().into_iter().map(|parameter| parameter.name).collect();
        assert_eq!(names.len(), 12);
        assert_eq!(
            &names[4..8],
            ["encoder.1.weight", "encoder.1.bias", "decoder.1.weight", "decoder.1.bias"]
        );
        for (layer, untied) in stack.layers().iter().zip(untied.layers()) {
            let (encoder, decoder) = (untied.encoder().weight(), untied.decoder().weight());
            assert!(encoder.is_tied_to(layer.weight()) && !decoder.is_tied_to(layer.weight()));
            expect_same_bits("copy", &rig.bits(decoder.matrix()), &rig.bits(encoder.matrix()));
        }
        let tied = untied.tie_blocking(queue).unwrap();
        for (layer, tied) in stack.layers().iter().zip(tied.layers()) {
            assert!(tied.weight().is_tied_to(layer.weight()));
            assert_eq!(tied.decoder().activation(), layer.decoder().activation());
            assert_eq!(tied.parameters(), layer.parameters());
        }
        // Another value in one place, and a zero with another sign.
        let matrix = untied.layers()[1].decoder().weight().matrix();
        let before = rig.get(matrix);
        for (from, to) in [(before[17], -before[17]), (0.0, -0.0)] {
            let mut values = before.clone();
            values[17] = from;
            let weight = stack.layers()[1].weight().matrix();
            weight.write(&rig.gpu.device, queue, &values).unwrap();
            values[17] = to;
            matrix.write(&rig.gpu.device, queue, &values).unwrap();
            let Err(Error::In { place, error }) = untied.tie_blocking(queue).map(|_| ()) else {
                panic!("tied though they differ");
            };
            let want = Error::Unequal { row: 2, column: 3, encoder: from, decoder: to };
            assert_eq!((place.as_str(), format!("{error:?}")), ("layer 1", format!("{want:?}")));
            assert_eq!(rig.get(weight)[17].to_bits(), from.to_bits(), "the encoder's is untouched");
        }
    });
}

#[test]
fn halves_with_weights_of_two_shapes_are_no_untied_layer() {
    once_per_adapter(|rig| {
        let [a, b] = [seeded(rig, &[6, 3]), seeded(rig, &[6, 4])];
        let (encoder, decoder) = (a.layers()[0].encoder(), b.layers()[0].decoder());
        let result = tied_linear::UntiedLinear::from_halves(encoder.clone(), decoder.clone());
        let want = Error::Shape { operand: "decoder weight", expected: [3, 6], given: [4, 6] };
        assert_eq!(result.map(|_| ()), Err(want));
    });
}

// Options and errors.

#[test]
fn options_reach_the_layers_that_they_name() {
    let options = TiedAutoencoderOptions::new(&[784, 256, 64])
        .with_activations(Relu, Sigmoid)
        .with_code_activation(Identity)
        .with_output_activation(Tanh)
        .with_biases(true, false)
        .with_seed(9)
        .with_each(|index, layer| if index == 1 { layer.with_biases(false, true) } else { layer });
    let [outer, inner] = &options.layers[..] else { panic!("two layers") };
    assert_eq!([outer.inputs, outer.hidden, inner.inputs, inner.hidden], [784, 256, 256, 64]);
    assert_eq!([outer.encoder_activation, outer.decoder_activation], [Relu, Tanh]);
    assert_eq!([inner.encoder_activation, inner.decoder_activation], [Identity, Sigmoid]);
    assert_eq!([outer.encoder_bias, outer.decoder_bias], [true, false]);
    assert_eq!([inner.encoder_bias, inner.decoder_bias], [false, true]);
    assert_eq!(outer.seed, 9);
    assert_ne!(inner.seed, 9);
}

fn within(place: &str, error: Error) -> Error {
    Error::In { place: place.to_string(), error: Box::new(error) }
}

#[test]
fn layers_that_do_not_fit_are_named() {
    once_per_adapter(|rig| {
        let layer = |inputs, hidden| {
            TiedLinear::new(&rig.kernels, &TiedLinearOptions::new(inputs, hidden)).unwrap()
        };
        let error = |layers| TiedAutoencoder::from_layers(layers).map(|_| ()).unwrap_err();
        let got = error(vec![layer(9, 7), layer(7, 5), layer(4, 3)]);
        assert_eq!(got, Error::Unfitting { outer: 1, inner: 2, hidden: 5, inputs: 4 });
        let said = got.to_string();
        assert!(said.contains("layer 1") && said.contains("layer 2"), "{said}");
        let none = error(vec![]);
        assert!(matches!(none, Error::Incompatible { what: "layers", .. }), "{none:?}");
        for sizes in [&[][..], &[5]] {
            let none = TiedAutoencoder::new(&rig.kernels, &TiedAutoencoderOptions::new(sizes));
            let none = none.map(|_| ()).unwrap_err();
            assert!(matches!(none, Error::Incompatible { what: "layers", .. }), "{none:?}");
        }
        let twin = rig.with_limits(|_| {});
        let foreign = TiedLinear::new(&twin.kernels, &TiedLinearOptions::new(7, 5)).unwrap();
        let want = within("layer 1", Error::DeviceMismatch { what: "weight" });
        assert_eq!(error(vec![layer(9, 7), foreign]), want);
    });
}

#[test]
fn forward_passes_want_matrices_of_the_stacks_sizes() {
    once_per_adapter(|rig| {
        let stack = seeded(rig, &SIZES);
        let of = |rows, columns| rig.kernels.zeros("test", rows, columns).unwrap();
        let shape = |operand, expected, given| Error::Shape { operand, expected, given };
        let encode =
            |x: &Matrix, h: &Matrix| stack.encode(x, h).map(|commands| commands.is_empty());
        let decode =
            |h: &Matrix, y: &Matrix| stack.decode(h, y).map(|commands| commands.is_empty());
        assert_eq!(encode(&of(4, 13), &of(4, 3)), Ok(false));
        assert_eq!(decode(&of(4, 3), &of(4, 13)), Ok(false));
        assert_eq!(encode(&of(4, 12), &of(4, 3)), Err(shape("input", [4, 13], [4, 12])));
        assert_eq!(encode(&of(4, 13), &of(5, 3)), Err(shape("code", [4, 3], [5, 3])));
        assert_eq!(decode(&of(4, 5), &of(4, 13)), Err(shape("code", [4, 3], [4, 5])));
        assert_eq!(decode(&of(4, 3), &of(4, 7)), Err(shape("output", [4, 13], [4, 7])));
        // In the weight's buffer, which layer 0 reads.
        let weight = stack.layers()[0].weight().matrix();
        let inside = Matrix::new(weight.buffer(), 1, 13).unwrap();
        let want = Error::Aliased { output: "output", other: "weight" };
        assert_eq!(decode(&of(1, 3), &inside), Err(within("layer 0", want)));
    });
}

#[test]
fn a_step_refuses_what_does_not_fit_and_says_where() {
    once_per_adapter(|rig| {
        let trainer = Trainer::new(rig, seeded(rig, &SIZES), adam());
        let Trainer { stack, optimizer, gradients, input, .. } = &trainer;
        let of = |rows, columns| rig.kernels.zeros("test", rows, columns).unwrap();
        let shape = |operand, expected, given| Error::Shape { operand, expected, given };
        let step = |gradients, input: &Matrix, target: &Matrix, options: &_| {
            let step = AutoencoderStep::new(stack, optimizer, gradients, input, target, options);
            step.map(|step| whole(&step).len())
        };
        assert_eq!(step(gradients, input, input, &options()), Ok(20));
        let got = step(gradients, &of(9, 12), input, &options());
        assert_eq!(got, Err(shape("input", [9, 13], [9, 12])));
        let got = step(gradients, input, &of(8, 13), &options());
        assert_eq!(got, Err(shape("target", [9, 13], [8, 13])));

        let incompatible =
            |got: tied_linear::Result<usize>, operand: &str, layer: Option<usize>| {
                let (place, error) = match got.unwrap_err() {
                    Error::In { place, error } => (Some(place), *error),
                    error => (None, error),
                };
                assert_eq!(place, layer.map(|layer| format!("layer {layer}")));
                assert!(
                    matches!(error, Error::Incompatible { what, .. } if what == operand),
                    "{error}"
                );
            };
        let fewer = AutoencoderGradients::new(&seeded(rig, &SIZES[..3])).unwrap();
        incompatible(step(&fewer, input, input, &options()), "gradients", None);
        let beyond = options().with_frozen(3, Frozen::WEIGHT);
        incompatible(step(gradients, input, input, &beyond), "frozen", None);
        let state = NoiseState::new(&rig.kernels, 1, 4, 0).unwrap();
        let noisy = options().with_noise(Noise::Masking { probability: 0.5 }, &state);
        let large = Trainer::new(rig, seeded(rig, &[1200, 3]), adam());
        let got = large.try_step(&noisy).map(|_| 0);
        incompatible(got, "state", None);

        // Gradients of another stack with as many layers, and without what is trained.
        let other = AutoencoderGradients::new(&seeded(rig, &[13, 7, 6, 3])).unwrap();
        let got = step(&other, input, input, &options());
        let want = within("layer 2", shape("gradients.weight", [3, 5], [3, 6]));
        assert_eq!(got, Err(want));
        let lacking =
            AutoencoderGradients::without(stack, &[Frozen::NONE, Frozen::DECODER_BIAS]).unwrap();
        let got = step(&lacking, input, input, &options());
        let Err(Error::In { place, error }) = got else { panic!("{got:?}") };
        assert_eq!(place, "layer 1");
        let missing = matches!(*error, Error::Missing { operand: "gradients.decoder_bias", .. });
        assert!(missing, "{error:?}");
        let lacking = AutoencoderGradients::without(stack, &[Frozen::WEIGHT]).unwrap();
        let got = step(&lacking, input, input, &options());
        assert_eq!(got, Err(within("layer 0", shape("gradients.weight", [7, 13], [0, 13]))));

        // The cross-entropy takes logits.
        let sigmoid = TiedAutoencoderOptions::new(&[6, 4, 2]).with_output_activation(Sigmoid);
        let sigmoid = TiedAutoencoder::new(&rig.kernels, &sigmoid).unwrap();
        let sigmoid = Trainer::new(rig, sigmoid, adam());
        let got = sigmoid.try_step(&options().with_loss(Loss::BinaryCrossEntropy)).map(|_| 0);
        incompatible(got, "decoder_activation", Some(0));

        // A shared parameter is frozen in all of its places or in none.
        let layer = TiedLinear::new(&rig.kernels, &TiedLinearOptions::new(5, 5)).unwrap();
        let twice = TiedAutoencoder::from_layers(vec![layer.clone(), layer]).unwrap();
        let twice = Trainer::new(rig, twice, adam());
        let got = twice.try_step(&options().with_frozen(1, Frozen::WEIGHT)).map(|_| 0);
        incompatible(got, "frozen", Some(0));
        let both = options().with_frozen(0, Frozen::ALL).with_frozen(1, Frozen::ALL);
        assert!(twice.try_step(&both).is_ok());
    });
}

/// An optimizer's errors name the parameter by its layer.
#[test]
fn an_optimizers_errors_name_the_parameter() {
    once_per_adapter(|rig| {
        for settings in [OptimizerSettings::from(adam()), SgdSettings::new(0.1).into()] {
            let trainer = Trainer::new(rig, seeded(rig, &SIZES), settings);
            let pairs = trainer.gradients.pairs(&trainer.stack);
            let parameters = trainer.stack.parameters();
            let wrong = rig.kernels.zeros("wrong", 9, 9).unwrap();
            for (index, parameter) in parameters.iter().enumerate() {
                let mut fewer = pairs.clone();
                let (value, gradient) = fewer.remove(index);
                let missing = trainer.optimizer.update(&fewer).map(|commands| commands.len());
                assert_eq!(missing, Err(Error::NoGradient { parameter: parameter.name.clone() }));
                fewer.push((value, &wrong));
                let got = trainer.optimizer.update(&fewer).map(|commands| commands.len());
                let (operand, expected) = ("gradient", gradient.shape());
                let shape = Error::Shape { operand, expected, given: [9, 9] };
                assert_eq!(got, Err(within(&parameter.name, shape)));
                // In the parameter's own buffer, which the update writes.
                fewer.pop();
                fewer.push((value, value));
                let got = trainer.optimizer.update(&fewer).map(|commands| commands.len());
                let aliased = Error::Aliased { output: "value", other: "gradient" };
                assert_eq!(got, Err(within(&parameter.name, aliased)));
            }
        }
    });
}
