//! The tied layer as a whole: its gradients, its ways of construction, and its one weight.

mod common;

use common::reference::{Backward, Dense, Forward, Layer, activate, slope, tolerance};
use common::{
    Place, Rig, activations, expect_close, expect_same_bits, on_every_adapter, once_per_adapter,
    random,
};
use tied_linear::kernels::{self, ActivationGradient, BiasGradient, Gradient, Linear};
use tied_linear::{
    Accumulate, Activation, Choice, Commands, Contributions, Decoder, Encoder, Error, Gradients,
    LayerBackward, Layout, Matrix, Parameters, Strategy, StrategyTable, Tape, TiedLinear,
    TiedLinearOptions, Weight,
};

const CONTRIBUTIONS: [Contributions; 3] =
    [Contributions::Both, Contributions::Encoder, Contributions::Decoder];

/// A layer and a backward pass through it, apart from the numbers.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// Batch, hidden, inputs.
    shape: [u32; 3],
    /// f and g.
    activations: [Activation; 2],
    /// Whether there are b and c.
    biases: [bool; 2],
    contributions: Contributions,
    /// Whether a further gradient by the code comes from elsewhere.
    extra: bool,
    /// Whether the tape holds dA already; else the caller gives dY.
    delta_in_tape: bool,
    /// Where all matrices lie in their buffers.
    place: Place,
}

impl Case {
    fn new(shape: [u32; 3], activations: [Activation; 2]) -> Self {
        Self {
            shape,
            activations,
            biases: [true; 2],
            contributions: Contributions::Both,
            extra: true,
            delta_in_tape: false,
            place: Place::Tight,
        }
    }

    /// Several tiles, and everything there is to run.
    fn large() -> Self {
        Self::new([70, 66, 130], [Activation::Tanh, Activation::Sigmoid])
    }
}

/// A case with numbers, and what the reference makes of them.
struct Problem {
    case: Case,
    layer: Layer,
    input: Dense,
    output_gradient: Dense,
    extra: Option<Dense>,
    forward: Forward,
    backward: Backward,
}

impl Problem {
    fn new(case: Case) -> Self {
        let [batch, hidden, inputs] = case.shape;
        let [f, g] = case.activations;
        let layer = Layer {
            weight: uniform(hidden, inputs, 1, 1.5),
            encoder_bias: case.biases[0].then(|| uniform(1, hidden, 2, 1.0)),
            decoder_bias: case.biases[1].then(|| uniform(1, inputs, 3, 1.0)),
            encoder_activation: f,
            decoder_activation: g,
        };
        let input = uniform(batch, inputs, 4, 1.0);
        let output_gradient = uniform(batch, inputs, 5, 1.0);
        let extra = case.extra.then(|| uniform(batch, hidden, 6, 1.0));
        let forward = layer.forward(&input);
        let backward = layer.backward(&input, &forward, &output_gradient, extra.as_ref());
        for (activation, preactivation) in
            [(f, &forward.code_preactivation), (g, &forward.output_preactivation)]
        {
            let at_a_kink = preactivation.values.iter().any(|z| z.abs() < 1e-5);
            assert!(
                !(activation == Activation::Relu && at_a_kink),
                "{case:?} is no test: rounding may decide what ReLU's derivative is"
            );
        }
        Self { case, layer, input, output_gradient, extra, forward, backward }
    }

    /// dW of the case's contributions.
    fn weight_gradient(&self) -> Dense {
        let [encoder, decoder] =
            [&self.backward.weight_from_encoder, &self.backward.weight_from_decoder];
        match self.case.contributions {
            Contributions::Both => encoder.zip(decoder, |a, b| a + b),
            Contributions::Encoder => encoder.clone(),
            Contributions::Decoder => decoder.clone(),
        }
    }
}

/// Uniform values in -bound … bound, rounded to f32.
fn uniform(rows: u32, columns: u32, seed: u64, bound: f64) -> Dense {
    random(rows, columns, seed).map(|value| f64::from((bound * value) as f32))
}

/// A [`Problem`] on the GPU.
struct Setup<'a> {
    rig: &'a Rig,
    case: Case,
    layer: TiedLinear,
    tape: Tape,
    gradients: Gradients,
    input: Matrix,
    output_gradient: Option<Matrix>,
    extra: Option<Matrix>,
    input_gradient: Matrix,
}

impl<'a> Setup<'a> {
    /// With matrices of the caller's, of poison where they are to be written, and two halves.
    fn new(rig: &'a Rig, problem: &Problem) -> Self {
        let case = problem.case;
        let put = |values: &Dense| rig.put(values, case.place);
        let weight = Weight::new(&rig.kernels, put(&problem.layer.weight)).unwrap();
        Self::with_weight(rig, problem, &weight)
    }

    /// As [`Setup::new`], with a weight that others use too.
    fn with_weight(rig: &'a Rig, problem: &Problem, weight: &Weight) -> Self {
        let case = problem.case;
        let [batch, hidden, inputs] = case.shape;
        let put = |values: &Dense| rig.put(values, case.place);
        let poisoned = |rows, columns| rig.poisoned(rows, columns, case.place);
        let [b, c] = [&problem.layer.encoder_bias, &problem.layer.decoder_bias]
            .map(|bias| bias.as_ref().map(put));
        let [f, g] = case.activations;
        let kept = |activation: Activation, columns| {
            let keep = activation.needs_preactivation();
            keep.then(|| poisoned(batch, columns))
        };
        Self {
            rig,
            case,
            layer: TiedLinear::from_halves(
                Encoder::new(&rig.kernels, weight, b, f).unwrap(),
                Decoder::new(&rig.kernels, weight, c, g).unwrap(),
            )
            .unwrap(),
            tape: Tape {
                code: poisoned(batch, hidden),
                output: poisoned(batch, inputs),
                code_preactivation: kept(f, hidden),
                output_preactivation: kept(g, inputs),
                code_delta: poisoned(batch, hidden),
                output_delta: if case.delta_in_tape {
                    put(&problem.backward.output_delta)
                } else {
                    poisoned(batch, inputs)
                },
            },
            gradients: Gradients {
                weight: poisoned(hidden, inputs),
                encoder_bias: case.biases[0].then(|| poisoned(1, hidden)),
                decoder_bias: case.biases[1].then(|| poisoned(1, inputs)),
            },
            input: put(&problem.input),
            output_gradient: (!case.delta_in_tape).then(|| put(&problem.output_gradient)),
            extra: problem.extra.as_ref().map(put),
            input_gradient: poisoned(batch, inputs),
        }
    }

    /// With all buffers of the library's own making: `TiedLinear::new`, then the problem's values.
    fn by_options(rig: &'a Rig, problem: &Problem) -> Self {
        let [batch, hidden, inputs] = problem.case.shape;
        let [f, g] = problem.case.activations;
        let [with_b, with_c] = problem.case.biases;
        let options = TiedLinearOptions::new(inputs, hidden)
            .with_biases(with_b, with_c)
            .with_activations(f, g);
        let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
        write(rig, layer.weight().matrix(), &problem.layer.weight);
        let biases = [
            (layer.encoder().bias(), &problem.layer.encoder_bias),
            (layer.decoder().bias(), &problem.layer.decoder_bias),
        ];
        for (matrix, values) in biases {
            assert_eq!(matrix.is_some(), values.is_some());
            if let (Some(matrix), Some(values)) = (matrix, values) {
                write(rig, matrix, values);
            }
        }
        Self {
            tape: Tape::new(&layer, batch).unwrap(),
            gradients: Gradients::new(&layer).unwrap(),
            layer,
            ..Self::new(rig, problem)
        }
    }

    fn forward(&self) -> Commands {
        self.layer.forward(&self.input, &self.tape).unwrap()
    }

    fn call(&self) -> LayerBackward<'_> {
        LayerBackward::new(&self.input, &self.tape, &self.gradients)
            .with_output_gradient(self.output_gradient.as_ref())
            .with_code_gradient(self.extra.as_ref())
            .with_input_gradient(Some(&self.input_gradient))
            .with_contributions(self.case.contributions)
    }

    fn backward(&self, accumulate: Accumulate) -> Commands {
        let call = self.call().with_accumulate(accumulate);
        self.layer.backward(&call).unwrap()
    }

    /// Forward, and backward overwriting the gradients.
    fn run(&self) {
        let backward = self.backward(Accumulate::Overwrite);
        self.rig.run(&self.forward().then(backward));
    }

    /// The parameters' gradients, by name.
    fn parameter_gradients(&self) -> Vec<(&'static str, &Matrix)> {
        let biases = [("db", &self.gradients.encoder_bias), ("dc", &self.gradients.decoder_bias)];
        std::iter::once(("dW", &self.gradients.weight))
            .chain(biases.into_iter().filter_map(|(name, matrix)| Some((name, matrix.as_ref()?))))
            .collect()
    }

    /// All that forward and backward write but the parameters' gradients, by name.
    fn activations_and_deltas(&self) -> Vec<(&'static str, &Matrix)> {
        let kept = [("Z", &self.tape.code_preactivation), ("A", &self.tape.output_preactivation)];
        let always = [
            ("H", &self.tape.code),
            ("Y", &self.tape.output),
            ("dA", &self.tape.output_delta),
            ("dZ", &self.tape.code_delta),
            ("dX", &self.input_gradient),
        ];
        kept.into_iter()
            .filter_map(|(name, matrix)| Some((name, matrix.as_ref()?)))
            .chain(always)
            .collect()
    }

    /// All that forward and backward write, by name.
    fn written(&self) -> Vec<(&'static str, &Matrix)> {
        let mut written = self.activations_and_deltas();
        written.extend(self.parameter_gradients());
        written
    }

    fn bits_of(&self, matrices: &[(&'static str, &Matrix)]) -> Bits {
        matrices.iter().map(|(name, matrix)| (*name, self.rig.bits(matrix))).collect()
    }

    /// The bits of all that forward and backward write.
    fn bits(&self) -> Bits {
        self.bits_of(&self.written())
    }
}

/// The contents of matrices, by name.
type Bits = Vec<(&'static str, Vec<u32>)>;

fn expect_all_the_same(what: &str, got: &Bits, want: &Bits) {
    assert_eq!(got.len(), want.len(), "{what}: number of results");
    for ((got_name, got), (want_name, want)) in std::iter::zip(got, want) {
        assert_eq!(got_name, want_name, "{what}");
        expect_same_bits(&format!("{what}: {got_name}"), got, want);
    }
}

fn write(rig: &Rig, matrix: &Matrix, values: &Dense) {
    let values: Vec<f32> = values.values.iter().map(|value| *value as f32).collect();
    matrix.write(&rig.gpu.device, &rig.gpu.queue, &values).unwrap();
}

fn read(rig: &Rig, matrix: &Matrix) -> Dense {
    Dense {
        rows: matrix.rows(),
        columns: matrix.columns(),
        values: rig.get(matrix).into_iter().map(f64::from).collect(),
    }
}

/// What a stage should give, computed in f64 from the f32 values that it read, and how far from it
/// f32 may end up.
struct Expected {
    values: Dense,
    tolerance: Dense,
}

/// The error that an activation or a derivative may have at `x`, which `activation.rs` looks at in
/// detail.
fn activation_error(x: f64) -> f64 {
    32.0 * f64::from(f32::EPSILON) * (1.0 + x.abs())
}

impl Expected {
    fn product(left: &Dense, right: &Dense) -> Self {
        let magnitude = left.map(f64::abs).times(&right.map(f64::abs));
        Self { values: left.times(right), tolerance: tolerance(left.columns, &magnitude) }
    }

    fn column_sums(delta: &Dense) -> Self {
        Self {
            values: delta.column_sums(),
            tolerance: tolerance(delta.rows, &delta.map(f64::abs).column_sums()),
        }
    }

    fn exactly(values: Dense) -> Self {
        let tolerance = Dense::zeros(values.rows, values.columns);
        Self { values, tolerance }
    }

    fn plus(self, other: &Self) -> Self {
        let values = self.values.zip(&other.values, |a, b| a + b);
        let rounding = tolerance(1, &values.map(f64::abs));
        let errors = self.tolerance.zip(&other.tolerance, |a, b| a + b);
        Self { values, tolerance: errors.zip(&rounding, |a, b| a + b) }
    }

    fn plus_row(self, row: Option<&Dense>) -> Self {
        let row = Dense::zeros(self.values.rows, self.values.columns).plus_row(row);
        self.plus(&Self::exactly(row))
    }

    /// f of it. No activation is steeper than 1.2.
    fn activated(self, activation: Activation) -> Self {
        Self {
            tolerance: self
                .tolerance
                .zip(&self.values, |error, z| 1.2 * error + activation_error(z)),
            values: self.values.map(|z| activate(activation, z)),
        }
    }

    /// It ⊙ f′, from what was saved for f′.
    fn through(self, activation: Activation, saved: &Dense) -> Self {
        let slopes = saved.map(|saved| match activation {
            Activation::Sigmoid => saved * (1.0 - saved),
            Activation::Tanh => 1.0 - saved * saved,
            activation => slope(activation, saved),
        });
        let slope_errors = saved.map(activation_error);
        let from_slopes = slope_errors.zip(&self.values, |error, value| error * value.abs());
        let from_values = self.tolerance.zip(&slopes, |error, slope| error * slope.abs());
        Self {
            values: self.values.zip(&slopes, |value, slope| value * slope),
            tolerance: from_values.zip(&from_slopes, |a, b| a + b),
        }
    }

    fn expect(&self, rig: &Rig, what: &str, matrix: &Matrix) {
        expect_close(what, &rig.get(matrix), &self.values, &self.tolerance);
    }
}

/// Every stage against the formula, from the very values that the stage read.
fn expect_stages(what: &str, setup: &Setup<'_>, problem: &Problem) {
    let (rig, tape, case) = (setup.rig, &setup.tape, setup.case);
    let (x, w) = (&problem.input, &problem.layer.weight);
    let [f, g] = case.activations;

    let expect_half = |name: &str, sum: Expected, activation, preactivation: Option<&Matrix>| {
        let Some(preactivation) = preactivation else {
            return sum.activated(activation);
        };
        sum.expect(rig, &format!("{what}: pre-activation of {name}"), preactivation);
        Expected::exactly(read(rig, preactivation)).activated(activation)
    };
    let z = Expected::product(x, &w.transposed()).plus_row(problem.layer.encoder_bias.as_ref());
    expect_half("H", z, f, tape.code_preactivation.as_ref()).expect(
        rig,
        &format!("{what}: H"),
        &tape.code,
    );
    let h = read(rig, &tape.code);
    let a = Expected::product(&h, w).plus_row(problem.layer.decoder_bias.as_ref());
    expect_half("Y", a, g, tape.output_preactivation.as_ref()).expect(
        rig,
        &format!("{what}: Y"),
        &tape.output,
    );

    let output_delta = match &setup.output_gradient {
        Some(gradient) if g == Activation::Identity => gradient,
        Some(_) => {
            Expected::exactly(problem.output_gradient.clone())
                .through(g, &read(rig, tape.saved_output(g).unwrap()))
                .expect(rig, &format!("{what}: dA"), &tape.output_delta);
            &tape.output_delta
        }
        None => &tape.output_delta,
    };
    let da = read(rig, output_delta);
    let mut dh = Expected::product(&da, &w.transposed());
    if let Some(extra) = &problem.extra {
        dh = dh.plus(&Expected::exactly(extra.clone()));
    }
    dh.through(f, &read(rig, tape.saved_code(f).unwrap())).expect(
        rig,
        &format!("{what}: dZ"),
        &tape.code_delta,
    );
    let dz = read(rig, &tape.code_delta);

    let decoder = Expected::product(&h.transposed(), &da);
    let encoder = Expected::product(&dz.transposed(), x);
    let dw = match case.contributions {
        Contributions::Both => decoder.plus(&encoder),
        Contributions::Encoder => encoder,
        Contributions::Decoder => decoder,
    };
    dw.expect(rig, &format!("{what}: dW"), &setup.gradients.weight);
    if let Some(gradient) = &setup.gradients.encoder_bias {
        Expected::column_sums(&dz).expect(rig, &format!("{what}: db"), gradient);
    }
    if let Some(gradient) = &setup.gradients.decoder_bias {
        Expected::column_sums(&da).expect(rig, &format!("{what}: dc"), gradient);
    }
    Expected::product(&dz, w).expect(rig, &format!("{what}: dX"), &setup.input_gradient);
}

/// All results against the reference's, from end to end: to four digits of the largest element.
fn expect_reference(what: &str, setup: &Setup<'_>, problem: &Problem) {
    let (forward, backward) = (&problem.forward, &problem.backward);
    let dw = problem.weight_gradient();
    for (name, matrix) in setup.written() {
        let want = match name {
            "Z" => &forward.code_preactivation,
            "H" => &forward.code,
            "A" => &forward.output_preactivation,
            "Y" => &forward.output,
            "dA" => &backward.output_delta,
            "dZ" => &backward.code_delta,
            "dX" => &backward.input,
            "dW" => &dw,
            "db" => &backward.encoder_bias,
            "dc" => &backward.decoder_bias,
            _ => unreachable!("{name}"),
        };
        // With the identity, dA is the caller's dY and no copy of it is made.
        if name == "dA" && setup.case.activations[1] == Activation::Identity {
            continue;
        }
        let largest = want.values.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let what = format!("{what}: {name} from end to end");
        expect_close(&what, &setup.rig.get(matrix), want, &want.map(|_| 1e-4 * largest));
    }
}

fn check(rig: &Rig, case: Case) {
    let what = format!("{case:?}");
    let problem = Problem::new(case);
    let setup = Setup::new(rig, &problem);
    setup.run();
    expect_stages(&what, &setup, &problem);
    expect_reference(&what, &setup, &problem);
    for (name, matrix) in setup.written() {
        rig.expect_surroundings_untouched(&format!("{what}: {name}"), matrix);
    }
}

/// The f64 reference in a form in which the two uses of the weight can differ: `layer` encodes.
struct Model {
    layer: Layer,
    decoder_weight: Dense,
    input: Dense,
}

impl Model {
    /// Z, H, A and Y.
    fn forward(&self) -> Forward {
        let encoded = self.layer.forward(&self.input);
        let decoder = Layer {
            weight: self.decoder_weight.transposed(),
            encoder_bias: self.layer.decoder_bias.clone(),
            decoder_bias: None,
            encoder_activation: self.layer.decoder_activation,
            decoder_activation: Activation::Identity,
        };
        let decoded = decoder.forward(&encoded.code);
        Forward {
            output_preactivation: decoded.code_preactivation,
            output: decoded.code,
            ..encoded
        }
    }
}

/// Σ (Y − T)² + Σ E ⊙ H: the second part's gradient by the code is E.
fn loss(forward: &Forward, target: &Dense, extra: &Dense) -> f64 {
    let error = forward.output.zip(target, |y, t| (y - t) * (y - t));
    let penalty = forward.code.zip(extra, |h, e| h * e);
    error.values.iter().chain(&penalty.values).sum()
}

/// Which pre-activations are on the positive side of ReLU's kink.
fn sides(forward: &Forward, [f, g]: [Activation; 2]) -> Vec<bool> {
    let of = |activation, z: &Dense| match activation {
        Activation::Relu => z.values.clone(),
        _ => Vec::new(),
    };
    let code = of(f, &forward.code_preactivation);
    let output = of(g, &forward.output_preactivation);
    code.into_iter().chain(output).map(|z| z > 0.0).collect()
}

#[test]
fn the_references_gradients_are_central_differences_of_the_loss() {
    const STEP: f64 = 1e-5;
    type Change = fn(&mut Model, usize, f64);
    for f in Activation::ALL {
        for g in Activation::ALL {
            let problem = Problem::new(Case::new([3, 4, 5], [f, g]));
            let target = uniform(3, 5, 7, 1.0);
            let extra = problem.extra.as_ref().unwrap();
            let output_gradient = problem.forward.output.zip(&target, |y, t| 2.0 * (y - t));
            let gradients = problem.layer.backward(
                &problem.input,
                &problem.forward,
                &output_gradient,
                Some(extra),
            );
            let whole =
                gradients.weight_from_encoder.zip(&gradients.weight_from_decoder, |a, b| a + b);
            let changes: [(&str, &Dense, Change); 6] = [
                ("dW", &whole, |model, i, step| {
                    model.layer.weight.values[i] += step;
                    model.decoder_weight.values[i] += step;
                }),
                ("dW of the encoder", &gradients.weight_from_encoder, |model, i, step| {
                    model.layer.weight.values[i] += step
                }),
                ("dW of the decoder", &gradients.weight_from_decoder, |model, i, step| {
                    model.decoder_weight.values[i] += step
                }),
                ("db", &gradients.encoder_bias, |model, i, step| {
                    model.layer.encoder_bias.as_mut().unwrap().values[i] += step;
                }),
                ("dc", &gradients.decoder_bias, |model, i, step| {
                    model.layer.decoder_bias.as_mut().unwrap().values[i] += step;
                }),
                ("dX", &gradients.input, |model, i, step| {
                    model.input.values[i] += step;
                }),
            ];
            let mut model = Model {
                decoder_weight: problem.layer.weight.clone(),
                layer: problem.layer,
                input: problem.input,
            };
            let mut skipped = 0;
            for (name, gradient, change) in changes {
                for (index, &want) in gradient.values.iter().enumerate() {
                    change(&mut model, index, STEP);
                    let up = model.forward();
                    change(&mut model, index, -2.0 * STEP);
                    let down = model.forward();
                    change(&mut model, index, STEP);
                    if sides(&up, [f, g]) != sides(&down, [f, g]) {
                        skipped += 1;
                        continue;
                    }
                    let rise = loss(&up, &target, extra) - loss(&down, &target, extra);
                    let got = rise / (2.0 * STEP);
                    assert!(
                        (got - want).abs() <= 1e-6 * (1.0 + want.abs()),
                        "f {f}, g {g}: element {index} of {name}: the loss rises by {got}, the \
                         gradient is {want}"
                    );
                }
            }
            assert!(skipped < 5, "f {f}, g {g}: {skipped} steps over a kink");
        }
    }
}

#[test]
fn every_activation_of_the_encoder_has_the_references_gradients() {
    on_every_adapter(|rig| {
        for &f in activations() {
            check(rig, Case::new([5, 7, 6], [f, Activation::Tanh]));
        }
    });
}

#[test]
fn every_activation_of_the_decoder_has_the_references_gradients() {
    on_every_adapter(|rig| {
        for &g in activations() {
            check(rig, Case::new([5, 7, 6], [Activation::Tanh, g]));
        }
    });
}

#[test]
fn every_choice_of_biases_and_gradients_follows_the_reference() {
    on_every_adapter(|rig| {
        for biases in [[false, false], [false, true], [true, false], [true, true]] {
            for contributions in CONTRIBUTIONS {
                for (extra, delta_in_tape) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    check(
                        rig,
                        Case {
                            biases,
                            contributions,
                            extra,
                            delta_in_tape,
                            ..Case::new([9, 5, 3], [Activation::Tanh, Activation::Sigmoid])
                        },
                    );
                }
            }
        }
    });
}

#[test]
fn every_shape_and_place_follows_the_reference() {
    // Some keep pre-activations, some need none; some are whole words.
    let activations = [Activation::GeluErf, Activation::Silu];
    let cases = [
        Case::new([1, 1, 1], activations),
        Case::new([4, 0, 5], activations),
        Case::new([4, 5, 0], activations),
        Case::new([20, 12, 8], activations),
        Case::new([30, 100, 9], [Activation::Tanh, Activation::Sigmoid]),
        Case::large(),
        Case::new([65, 64, 68], activations),
    ];
    on_every_adapter(|rig| {
        for case in cases {
            for place in Place::ALL {
                check(rig, Case { place, ..case });
            }
        }
    });
}

#[test]
fn masking_the_weights_gradient_changes_no_other() {
    on_every_adapter(|rig| {
        for delta_in_tape in [false, true] {
            let results = CONTRIBUTIONS.map(|contributions| {
                let case = Case { contributions, delta_in_tape, ..Case::large() };
                let problem = Problem::new(case);
                let setup = Setup::new(rig, &problem);
                setup.run();
                let mut results = setup.bits();
                results.retain(|(name, _)| *name != "dW");
                results
            });
            let [both, masked @ ..] = &results;
            for masked in masked {
                expect_all_the_same("all but dW, masked", masked, both);
            }
        }
    });
}

#[test]
fn a_delta_left_in_the_tape_gives_the_gradients_of_the_output_gradient_that_made_it() {
    on_every_adapter(|rig| {
        let case = Case::new([9, 5, 3], [Activation::Tanh, Activation::Sigmoid]);
        let problem = Problem::new(case);
        let mut setup = Setup::new(rig, &problem);
        setup.run();
        let want = setup.bits();
        for (_, matrix) in setup.parameter_gradients() {
            let nan = Dense::new(matrix.rows(), matrix.columns(), |_, _| f64::NAN);
            write(rig, matrix, &nan);
        }
        setup.output_gradient = None;
        rig.run(&setup.backward(Accumulate::Overwrite));
        expect_all_the_same("dA in the tape", &setup.bits(), &want);
    });
}

/// Forward by the stateless functions.
fn forward_by_kernels(setup: &Setup<'_>) -> Commands {
    let (kernels, tape) = (&setup.rig.kernels, &setup.tape);
    let (weight, [f, g]) = (setup.layer.weight(), setup.case.activations);
    let encode = Linear::new(&setup.input, &tape.code)
        .with_bias(setup.layer.encoder().bias())
        .with_activation(f)
        .with_preactivation(tape.code_preactivation.as_ref());
    let decode = Linear::new(&tape.code, &tape.output)
        .with_bias(setup.layer.decoder().bias())
        .with_activation(g)
        .with_preactivation(tape.output_preactivation.as_ref());
    let encode = kernels.encode(weight, &encode).unwrap();
    encode.then(kernels.decode(weight, &decode).unwrap())
}

/// Forward by the two halves, each alone.
fn forward_by_halves(setup: &Setup<'_>) -> Commands {
    let (encoder, decoder) = (setup.layer.encoder(), setup.layer.decoder());
    let tape = &setup.tape;
    let encode = encoder.encode(&setup.input, &tape.code, tape.code_preactivation.as_ref());
    let decode = decoder.decode(&tape.code, &tape.output, tape.output_preactivation.as_ref());
    encode.unwrap().then(decode.unwrap())
}

/// Backward by the stateless functions.
fn backward_by_kernels(setup: &Setup<'_>) -> Commands {
    let (kernels, tape, gradients) = (&setup.rig.kernels, &setup.tape, &setup.gradients);
    let (weight, [f, g]) = (setup.layer.weight(), setup.case.activations);
    let activation_gradient = ActivationGradient {
        gradient: setup.output_gradient.as_ref().unwrap(),
        activation: g,
        saved: tape.saved_output(g),
        delta: &tape.output_delta,
    };
    let code_gradient = Gradient::new(&tape.output_delta, &tape.code_delta)
        .with_extra(setup.extra.as_ref())
        .through(f, tape.saved_code(f));
    let backward = kernels::Backward {
        code: &tape.code,
        output_delta: &tape.output_delta,
        code_delta: &tape.code_delta,
        input: &setup.input,
        gradient: &gradients.weight,
        contributions: setup.case.contributions,
        accumulate: Accumulate::Overwrite,
    };
    let bias_gradient = |delta, gradient: &Option<Matrix>| {
        let call = BiasGradient {
            delta,
            gradient: gradient.as_ref().unwrap(),
            accumulate: Accumulate::Overwrite,
        };
        kernels.bias_gradient(&call).unwrap()
    };
    let input_gradient = Gradient::new(&tape.code_delta, &setup.input_gradient);
    kernels
        .activation_gradient(&activation_gradient)
        .unwrap()
        .then(kernels.code_gradient(weight, &code_gradient).unwrap())
        .then(kernels.backward(&backward).unwrap())
        .then(bias_gradient(&tape.code_delta, &gradients.encoder_bias))
        .then(bias_gradient(&tape.output_delta, &gradients.decoder_bias))
        .then(kernels.input_gradient(weight, &input_gradient).unwrap())
}

/// One case that keeps pre-activations, and one that needs none.
fn two_cases() -> [Case; 2] {
    [Case::new([20, 12, 8], [Activation::GeluErf, Activation::Silu]), Case::large()]
}

#[test]
fn all_ways_of_construction_agree_bit_for_bit() {
    on_every_adapter(|rig| {
        for case in two_cases() {
            let problem = Problem::new(case);
            let ways = [Setup::new, Setup::new, Setup::new, Setup::by_options]
                .map(|setup| setup(rig, &problem));
            let [kernels, halves, from_halves, new] = &ways;
            rig.run(&forward_by_kernels(kernels).then(backward_by_kernels(kernels)));
            rig.run(&forward_by_halves(halves).then(backward_by_kernels(halves)));
            from_halves.run();
            new.run();
            let want = kernels.bits();
            expect_all_the_same("two halves", &halves.bits(), &want);
            expect_all_the_same("from_halves", &from_halves.bits(), &want);
            expect_all_the_same("new", &new.bits(), &want);
        }
    });
}

/// A dispatch cannot write to a buffer twice, but two can.
#[test]
fn the_biases_gradients_may_share_a_buffer() {
    on_every_adapter(|rig| {
        for [b, c] in [[true, true], [true, false], [false, true]] {
            let case = Case { biases: [b, c], ..Case::large() };
            let problem = Problem::new(case);
            let apart = Setup::new(rig, &problem);
            apart.run();
            let mut shared = Setup::new(rig, &problem);
            let [_, hidden, inputs] = case.shape;
            let buffer = rig.poisoned(2, hidden.max(inputs), Place::Odd);
            let of_row = |row: u32, columns| {
                let layout = buffer.row_range(row..row + 1).unwrap().layout();
                Matrix::view(buffer.buffer(), Layout { columns, ..layout }).unwrap()
            };
            shared.gradients.encoder_bias = b.then(|| of_row(1, hidden));
            shared.gradients.decoder_bias = c.then(|| of_row(0, inputs));
            shared.run();
            let [got, want] = [&shared, &apart].map(Setup::bits);
            expect_all_the_same(&format!("biases {:?}", case.biases), &got, &want);
            let [got, want] =
                [&shared, &apart].map(|setup| setup.backward(Accumulate::Overwrite).len());
            // One for the second bias, and one for a weight gradient that was split.
            let further = if b && c { 1..=2 } else { 0..=0 };
            assert!(further.contains(&(got - want)), "{} further dispatches", got - want);
        }
    });
}

#[test]
fn what_one_handle_writes_all_see_without_new_commands() {
    on_every_adapter(|rig| {
        let problem = Problem::new(Case::large());
        let values = uniform(66, 130, 8, 0.5);
        // Nobody shares this one's weight, and it has the later values from the start.
        let fresh = Setup::new(rig, &problem);
        write(rig, fresh.layer.weight().matrix(), &values);
        fresh.run();
        let want = fresh.bits();

        let matrix = rig.put(&problem.layer.weight, Place::Tight);
        let weight = Weight::new(&rig.kernels, matrix.clone()).unwrap();
        let [kernels, halves, layer] =
            [(); 3].map(|()| Setup::with_weight(rig, &problem, &weight.clone()));
        let prepared = [
            forward_by_kernels(&kernels).then(backward_by_kernels(&kernels)),
            forward_by_halves(&halves).then(backward_by_kernels(&halves)),
            layer.forward().then(layer.backward(Accumulate::Overwrite)),
        ];
        let parameters = layer.layer.parameters();
        let handles = [
            &matrix,
            weight.matrix(),
            halves.layer.encoder().weight().matrix(),
            halves.layer.decoder().weight().matrix(),
            layer.layer.weight().matrix(),
            &parameters.iter().next().unwrap().value,
        ];
        for (number, handle) in handles.into_iter().enumerate() {
            write(rig, weight.matrix(), &problem.layer.weight);
            prepared.iter().for_each(|commands| rig.run(commands));
            let before = layer.bits();
            write(rig, handle, &values);
            prepared.iter().for_each(|commands| rig.run(commands));
            assert_ne!(layer.bits(), before, "handle {number}");
            for setup in [&kernels, &halves, &layer] {
                let what = format!("written through handle {number}");
                expect_all_the_same(&what, &setup.bits(), &want);
            }
        }
    });
}

#[test]
fn a_tied_weight_counts_once() {
    once_per_adapter(|rig| {
        let [hidden, inputs] = [7, 11];
        let layer = TiedLinear::new(&rig.kernels, &TiedLinearOptions::new(inputs, hidden)).unwrap();
        let (encoder, decoder) = (layer.encoder(), layer.decoder());
        let of_halves: Parameters =
            encoder.parameters().into_iter().chain(decoder.parameters()).collect();
        assert_eq!(of_halves, layer.parameters());
        assert_eq!(of_halves.len(), 3);
        assert_eq!(of_halves.count(), 7 * 11 + 7 + 11);
        assert_eq!(encoder.parameters().count(), 7 * 11 + 7);
        assert_eq!(decoder.parameters().count(), 7 * 11 + 11);
        assert!(encoder.weight().is_tied_to(decoder.weight()));

        // A weight's gradient is of the one weight, whichever half asks.
        let gradients = Gradients::new(&layer).unwrap();
        let pairs = gradients.pairs(&layer);
        let values: Vec<&Matrix> = pairs.iter().map(|(value, _)| *value).collect();
        let parameters = layer.parameters();
        let listed: Vec<&Matrix> = parameters.iter().map(|known| &known.value).collect();
        assert_eq!(values, listed);
        for (value, gradient) in pairs {
            assert_eq!(value.shape(), gradient.shape());
            assert_ne!(value.buffer(), gradient.buffer());
        }
    });
}

#[test]
fn two_weights_are_not_tied_even_if_equal() {
    once_per_adapter(|rig| {
        let values = random(3, 4, 1);
        let halves = |one: &Weight, other: &Weight| {
            TiedLinear::from_halves(
                Encoder::new(&rig.kernels, one, None, Activation::Identity).unwrap(),
                Decoder::new(&rig.kernels, other, None, Activation::Identity).unwrap(),
            )
        };
        let [one, other] =
            [(); 2].map(|()| Weight::new(&rig.kernels, rig.put(&values, Place::Tight)).unwrap());
        assert!(!one.is_tied_to(&other));
        assert_eq!(halves(&one, &other).unwrap_err(), Error::NotTied);

        // Other elements of the same buffer are another weight; a second handle to the same is not.
        let buffer = rig.put(&random(6, 4, 1), Place::Tight);
        let rows = |rows| Weight::new(&rig.kernels, buffer.row_range(rows).unwrap()).unwrap();
        assert_eq!(halves(&rows(0..3), &rows(3..6)).unwrap_err(), Error::NotTied);
        assert!(halves(&rows(3..6), &rows(3..6)).is_ok());
        assert!(halves(&one, &one.clone()).is_ok());
    });
}

#[test]
fn repeated_runs_agree_bit_for_bit() {
    on_every_adapter(|rig| {
        for case in two_cases() {
            let problem = Problem::new(case);
            let first = Setup::new(rig, &problem);
            first.run();
            let want = first.bits();
            // Once more on the same matrices, then on others.
            first.run();
            expect_all_the_same("again", &first.bits(), &want);
            let other = Setup::new(rig, &problem);
            other.run();
            expect_all_the_same("on other matrices", &other.bits(), &want);
        }
    });
}

#[test]
fn two_backwards_in_add_mode_are_twice_one_for_every_parameter() {
    on_every_adapter(|rig| {
        for case in two_cases() {
            let setup = Setup::new(rig, &Problem::new(case));
            setup.run();
            let overwritten = setup.bits();
            let double = |matrix| read(rig, matrix).map(|value| 2.0 * value);
            let gradients = setup.parameter_gradients();
            let twice: Vec<Dense> = gradients.iter().map(|(_, matrix)| double(matrix)).collect();
            for (_, matrix) in &gradients {
                write(rig, matrix, &Dense::zeros(matrix.rows(), matrix.columns()));
            }
            let add = setup.backward(Accumulate::Add);
            rig.run(&add);
            expect_all_the_same("added to zero", &setup.bits(), &overwritten);
            rig.run(&add);
            for ((name, matrix), twice) in std::iter::zip(&gradients, twice) {
                Expected::exactly(twice).expect(rig, &format!("{name}, added twice"), matrix);
            }
            // What is no parameter's gradient is overwritten all the same.
            let others = setup.activations_and_deltas();
            let wanted = &overwritten[..others.len()].to_vec();
            expect_all_the_same("added twice", &setup.bits_of(&others), wanted);
        }
    });
}

#[test]
fn an_empty_batch_overwrites_gradients_with_zeros_and_adds_nothing() {
    on_every_adapter(|rig| {
        for build in [Setup::new, Setup::by_options] {
            let [_, hidden, inputs] = Case::large().shape;
            let case = Case { shape: [0, hidden, inputs], place: Place::Odd, ..Case::large() };
            let setup = build(rig, &Problem::new(case));
            let gradients = setup.parameter_gradients();
            assert_eq!(gradients.len(), 3);
            for (_, matrix) in &gradients {
                write(rig, matrix, &random(matrix.rows(), matrix.columns(), 9));
            }
            let before = setup.bits();
            assert!(setup.forward().is_empty());
            rig.run(&setup.forward().then(setup.backward(Accumulate::Add)));
            expect_all_the_same("added", &setup.bits(), &before);
            setup.run();
            for (name, bits) in setup.bits() {
                expect_same_bits(&format!("{name}, overwritten"), &bits, &vec![0; bits.len()]);
            }
            for (name, matrix) in gradients {
                rig.expect_surroundings_untouched(name, matrix);
            }
        }
    });
}

#[test]
fn a_layer_without_inputs_has_finite_biases() {
    once_per_adapter(|rig| {
        for [inputs, hidden] in [[0, 5], [5, 0], [0, 0]] {
            let options = TiedLinearOptions::new(inputs, hidden).with_fan_in_biases();
            let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
            let [b, c] = [layer.encoder().bias(), layer.decoder().bias()]
                .map(|bias| rig.get(bias.expect("a bias")));
            assert_eq!([b.len(), c.len()], [hidden as usize, inputs as usize]);
            let finite = b.iter().chain(&c).all(|value| value.is_finite());
            assert!(finite, "{inputs} inputs, {hidden} hidden: {b:?}, {c:?}");
        }
    });
}

/// That decode sees what is written to the weight is a test of its own, above.
#[test]
fn a_layer_holds_its_weight_once_and_no_transposed_copy() {
    once_per_adapter(|rig| {
        expect_one_weight(rig, None);
        // Each product in one dispatch.
        let whole = StrategyTable::new(&rig.gpu.device).force(Choice::whole(Strategy::LanesAlone));
        expect_one_weight(rig, Some(whole.unwrap()));
    });
}

fn expect_one_weight(rig: &Rig, whole: Option<StrategyTable>) {
    // Far larger than any other buffer here.
    let [hidden, inputs] = [700, 800];
    let (instance, rig) = rig.of_own_instance(|_| {}).unwrap();
    let is_whole = whole.is_some();
    let rig = match whole {
        Some(table) => rig.with_strategies(table),
        None => rig,
    };
    // Of all backends: buffers that somebody holds.
    let held = || instance.generate_report().expect("a report").hub_report().buffers.num_allocated;
    // Of some: the memory behind them, whoever holds it.
    let as_large_as_the_weight = || {
        let report = rig.gpu.device.generate_allocator_report()?;
        let large = |size: u64| size >= 4 * 700 * 800;
        Some(report.allocations.iter().filter(|one| large(one.size)).count())
    };
    let [before, large] = [held(), as_large_as_the_weight().unwrap_or(0)];
    let expect_large = |count, what: &str| match as_large_as_the_weight() {
        Some(counted) => assert_eq!(counted, large + count, "{what}"),
        None => println!("this backend does not report allocations"),
    };

    let options = TiedLinearOptions::new(inputs, hidden);
    let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
    assert_eq!(held(), before + 3, "the weight and two biases");
    let tape = Tape::new(&layer, 1).unwrap();
    assert_eq!(held(), before + 3 + 4, "a tape for identities has four matrices");
    let input = rig.kernels.zeros("input", 1, inputs).unwrap();
    let forward = layer.forward(&input, &tape).unwrap();
    assert!(!is_whole || forward.len() == 2, "nothing but encode and decode");
    rig.run(&forward);
    assert_eq!(held(), before + 3 + 4 + 1, "the input");
    expect_large(1, "the weight");

    let gradients = Gradients::new(&layer).unwrap();
    let call = LayerBackward::new(&input, &tape, &gradients);
    let backward = layer.backward(&call).unwrap();
    let three = "the code's gradient, the weight's and the biases'";
    assert!(!is_whole || backward.len() == 3, "{three}");
    rig.run(&backward);
    assert_eq!(held(), before + 3 + 4 + 1 + 3, "a gradient for each parameter");
    expect_large(2, "the weight and its gradient");
}

/// What backward says is missing. Fails if it is content.
fn missing(setup: &Setup<'_>) -> &'static str {
    let outcome = setup.layer.backward(&setup.call());
    match outcome.map(|commands| commands.len()) {
        Err(Error::Missing { operand, .. }) => operand,
        other => panic!("nothing is missing: {other:?} (number of dispatches)"),
    }
}

#[test]
fn a_bias_without_a_gradient_is_refused() {
    let case = Case::new([2, 3, 4], [Activation::Tanh, Activation::Sigmoid]);
    let problem = Problem::new(case);
    once_per_adapter(|rig| {
        let mut setup = Setup::new(rig, &problem);
        setup.gradients.encoder_bias = None;
        assert_eq!(missing(&setup), "gradients.encoder_bias");
        let mut setup = Setup::new(rig, &problem);
        setup.gradients.decoder_bias = None;
        assert_eq!(missing(&setup), "gradients.decoder_bias");
    });
}

// Without it, the derivative would silently be computed from the activation's output.
#[test]
fn a_tape_without_a_preactivation_that_a_derivative_needs_is_refused() {
    let case = Case::new([2, 3, 4], [Activation::GeluErf, Activation::Silu]);
    let problem = Problem::new(case);
    once_per_adapter(|rig| {
        let mut setup = Setup::new(rig, &problem);
        setup.tape.code_preactivation = None;
        assert_eq!(missing(&setup), "tape.code_preactivation");
        let mut setup = Setup::new(rig, &problem);
        setup.tape.output_preactivation = None;
        assert_eq!(missing(&setup), "tape.output_preactivation");
    });
}
