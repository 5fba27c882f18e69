//! `TrainingStep`: forward, loss, backward and update together, against the reference.

mod common;

use common::reference::{self, Dense};
use common::{Place, Rig, expect_same_bits, on_every_adapter, random};
use tied_linear::kernels::SgdSettings;
use tied_linear::{
    Accumulate, Activation, AdamSettings, Contributions, Decoder, Encoder, Error, Gradients, Loss,
    Matrix, Optimizer, OptimizerSettings, Reduction, TiedLinear, TiedLinearOptions,
    TrainingOptions, TrainingStep, Weight,
};

const BATCH: u32 = 21;
const INPUTS: u32 = 13;
const HIDDEN: u32 = 6;

/// A layer on the GPU and the same one in f64.
struct Twin {
    layer: TiedLinear,
    reference: reference::Layer,
}

impl Twin {
    fn new(rig: &Rig, encoder_activation: Activation, decoder_activation: Activation) -> Self {
        let reference = reference::Layer {
            weight: random(HIDDEN, INPUTS, 1),
            encoder_bias: Some(random(1, HIDDEN, 2)),
            decoder_bias: Some(random(1, INPUTS, 3)),
            encoder_activation,
            decoder_activation,
        };
        let put = |values: &Dense| rig.put(values, Place::Tight);
        let weight = Weight::new(&rig.kernels, put(&reference.weight)).unwrap();
        let [b, c] =
            [&reference.encoder_bias, &reference.decoder_bias].map(|bias| bias.as_ref().map(put));
        let encoder = Encoder::new(&rig.kernels, &weight, b, encoder_activation).unwrap();
        let decoder = Decoder::new(&rig.kernels, &weight, c, decoder_activation).unwrap();
        Self { layer: TiedLinear::from_halves(encoder, decoder).unwrap(), reference }
    }

    fn optimizer(&self, settings: SgdSettings) -> Optimizer {
        Optimizer::new(self.layer.kernels(), &self.layer.parameters(), settings).unwrap()
    }
}

/// The loss and its gradient by the output, in f64.
fn measure(loss: Loss, reduction: Reduction, output: &Dense, target: &Dense) -> (f64, Dense) {
    let scale = match reduction {
        Reduction::Mean => 1.0 / output.values.len() as f64,
        Reduction::Sum => 1.0,
    };
    let value = output.zip(target, |p, t| match loss {
        Loss::SquaredError => (p - t) * (p - t),
        _ => p.max(0.0) - p * t + (-p.abs()).exp().ln_1p(),
    });
    let gradient = output.zip(target, |p, t| {
        scale
            * match loss {
                Loss::SquaredError => 2.0 * (p - t),
                _ => 1.0 / (1.0 + (-p).exp()) - t,
            }
    });
    (scale * value.values.iter().sum::<f64>(), gradient)
}

/// Fails where the two differ by more than 1e-5 of the larger of 1 and the largest value.
fn expect_near(what: &str, got: &[f32], want: &Dense) {
    let largest = want.values.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
    common::expect_close(what, got, want, &want.map(|_| 1e-5 * largest));
}

fn plus(a: &Dense, b: &Dense) -> Dense {
    a.zip(b, |a, b| a + b)
}

/// One step of plain gradient descent: loss, gradients, and every parameter after the update.
fn check_step(
    rig: &Rig,
    [f, g]: [Activation; 2],
    loss: Loss,
    reduction: Reduction,
    contributions: Contributions,
) {
    let what = format!("{f} {g} {loss:?} {reduction:?} {contributions:?}");
    const RATE: f64 = 0.125;
    let twin = Twin::new(rig, f, g);
    let x = random(BATCH, INPUTS, 4);
    let target = random(BATCH, INPUTS, 5).map(|t| 0.5 + 0.5 * t);
    let [input, target_matrix] = [&x, &target].map(|values| rig.put(values, Place::Odd));
    let optimizer = twin.optimizer(SgdSettings::new(RATE));
    let gradients = Gradients::new(&twin.layer).unwrap();
    let options = TrainingOptions::default()
        .with_loss(loss)
        .with_reduction(reduction)
        .with_contributions(contributions);
    let layer = &twin.layer;
    let step =
        TrainingStep::new(layer, &optimizer, &gradients, &input, &target_matrix, options).unwrap();
    rig.run(step.gradient_commands());
    rig.run(step.update_commands());

    let forward = twin.reference.forward(&x);
    let (value, output_gradient) = measure(loss, reduction, &forward.output, &target);
    let backward = twin.reference.backward(&x, &forward, &output_gradient, None);
    let weight_gradient = match contributions {
        Contributions::Both => plus(&backward.weight_from_decoder, &backward.weight_from_encoder),
        Contributions::Encoder => backward.weight_from_encoder.clone(),
        Contributions::Decoder => backward.weight_from_decoder.clone(),
    };
    let got = f64::from(rig.get(step.loss())[0]);
    assert!((got - value).abs() <= 1e-5 * value.abs(), "{what}: loss {got}, want {value}");
    let updated = |value: &Dense, gradient: &Dense| value.zip(gradient, |w, g| w - RATE * g);
    let bias = |bias: &Option<Dense>| bias.clone().unwrap();
    let cases: [(&str, &Matrix, &Matrix, Dense, &Dense); 3] = [
        (
            "weight",
            &gradients.weight,
            layer.weight().matrix(),
            twin.reference.weight.clone(),
            &weight_gradient,
        ),
        (
            "encoder bias",
            gradients.encoder_bias.as_ref().unwrap(),
            layer.encoder().bias().unwrap(),
            bias(&twin.reference.encoder_bias),
            &backward.encoder_bias,
        ),
        (
            "decoder bias",
            gradients.decoder_bias.as_ref().unwrap(),
            layer.decoder().bias().unwrap(),
            bias(&twin.reference.decoder_bias),
            &backward.decoder_bias,
        ),
    ];
    for (name, gradient, value, before, want) in cases {
        expect_near(&format!("{what}: gradient of the {name}"), &rig.get(gradient), want);
        let after = updated(&before, want);
        expect_near(&format!("{what}: updated {name}"), &rig.get(value), &after);
    }
}

#[test]
fn one_step_is_that_of_the_formulas() {
    use Activation::{GeluErf, Identity, Sigmoid, Tanh};
    on_every_adapter(|rig| {
        for contributions in [Contributions::Both, Contributions::Encoder, Contributions::Decoder] {
            let loss = Loss::SquaredError;
            check_step(rig, [Tanh, Sigmoid], loss, Reduction::Sum, contributions);
        }
        for reduction in [Reduction::Mean, Reduction::Sum] {
            let both = Contributions::Both;
            check_step(rig, [GeluErf, Identity], Loss::BinaryCrossEntropy, reduction, both);
            check_step(rig, [Identity, GeluErf], Loss::SquaredError, reduction, both);
        }
    });
}

/// Two micro-batches, the second added to the first, give the gradient of the whole batch.
#[test]
fn gradients_accumulate_over_micro_batches() {
    on_every_adapter(|rig| {
        let twin = Twin::new(rig, Activation::Tanh, Activation::Identity);
        let layer = &twin.layer;
        let x = random(BATCH, INPUTS, 4);
        let input = rig.put(&x, Place::Tight);
        let optimizer = twin.optimizer(SgdSettings::new(0.1));
        let gradients = Gradients::new(layer).unwrap();
        let sum = TrainingOptions::default().with_reduction(Reduction::Sum);
        let step = |input: &Matrix, options| {
            TrainingStep::new(layer, &optimizer, &gradients, input, input, options).unwrap()
        };
        let add = sum.with_accumulate(Accumulate::Add);
        let first = step(&input.row_range(0..8).unwrap(), sum);
        let second = step(&input.row_range(8..BATCH).unwrap(), add);
        rig.run(&first.gradient_commands().clone().then(second.gradient_commands().clone()));

        let forward = twin.reference.forward(&x);
        let (_, output_gradient) = measure(Loss::SquaredError, Reduction::Sum, &forward.output, &x);
        let backward = twin.reference.backward(&x, &forward, &output_gradient, None);
        let weight = plus(&backward.weight_from_decoder, &backward.weight_from_encoder);
        expect_near("weight", &rig.get(&gradients.weight), &weight);
        let [b, c] = [&gradients.encoder_bias, &gradients.decoder_bias]
            .map(|m| rig.get(m.as_ref().unwrap()));
        expect_near("encoder bias", &b, &backward.encoder_bias);
        expect_near("decoder bias", &c, &backward.decoder_bias);
    });
}

/// The weight is updated once a step, though both halves use it: with a gradient that is known, the
/// step is known.
#[test]
fn a_tied_weight_is_updated_once() {
    on_every_adapter(|rig| {
        let twin = Twin::new(rig, Activation::Identity, Activation::Identity);
        let (encoder, decoder) = (twin.layer.encoder(), twin.layer.decoder());
        let both = encoder.parameters().into_iter().chain(decoder.parameters()).collect();
        let optimizer = Optimizer::new(&rig.kernels, &both, SgdSettings::new(1.0)).unwrap();
        assert_eq!(optimizer.states().count(), 3, "weight, two biases");
        let weight = twin.layer.weight().matrix();
        let ones = Dense::new(HIDDEN, INPUTS, |_, _| 1.0);
        let gradients = Gradients::new(&twin.layer).unwrap();
        gradients.weight.write(&rig.gpu.device, &rig.gpu.queue, &[1.0; 78]).unwrap();
        rig.run(&optimizer.update(&gradients.pairs(&twin.layer)).unwrap());
        let want = twin.reference.weight.zip(&ones, |w, g| w - g);
        expect_near("weight", &rig.get(weight), &want);
    });
}

/// An empty batch costs nothing: loss zero, gradients zero, parameters as they were.
#[test]
fn an_empty_batch_changes_nothing() {
    on_every_adapter(|rig| {
        let twin = Twin::new(rig, Activation::Tanh, Activation::Sigmoid);
        let input = rig.put(&Dense::zeros(0, INPUTS), Place::Tight);
        let optimizer = twin.optimizer(SgdSettings::new(0.5));
        let gradients = Gradients::new(&twin.layer).unwrap();
        let weight = twin.layer.weight().matrix();
        let before = rig.bits(weight);
        let options = TrainingOptions::default();
        let step = TrainingStep::new(&twin.layer, &optimizer, &gradients, &input, &input, options)
            .unwrap();
        gradients.weight.write(&rig.gpu.device, &rig.gpu.queue, &[f32::NAN; 78]).unwrap();
        rig.run(step.gradient_commands());
        rig.run(step.update_commands());
        assert_eq!(rig.get(step.loss()), [0.0]);
        assert_eq!(rig.get(&gradients.weight), [0.0; 78]);
        assert_eq!(rig.bits(weight), before);
    });
}

/// Steps with and without a fused update, by Adam and by SGD, with both biases and without.
#[test]
fn a_fused_update_gives_the_same_bits_in_six_dispatches() {
    on_every_adapter(|rig| {
        for biases in [true, false] {
            for settings in [
                OptimizerSettings::Adam(AdamSettings::adam(0.01)),
                OptimizerSettings::Sgd(SgdSettings::new(0.1).with_momentum(0.9)),
            ] {
                let what = format!("{settings:?}, biases {biases}, on {}", rig.name);
                let train = |fused: bool| train(rig, biases, settings, fused);
                let (want, got) = (train(false), train(true));
                assert_eq!(got.len(), want.len(), "{what}");
                for (got, want) in got.iter().zip(&want) {
                    expect_same_bits(&what, got, want);
                }
            }
        }
    });
}

/// The bits of all parameters and of the loss after three steps.
fn train(rig: &Rig, biases: bool, settings: OptimizerSettings, fused: bool) -> Vec<Vec<u32>> {
    let options = TiedLinearOptions::new(40, 36)
        .with_biases(biases, biases)
        .with_activations(Activation::Sigmoid, Activation::Tanh)
        .with_seed(7);
    let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
    let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
    let gradients = if fused {
        Gradients::without_weight(&layer).unwrap()
    } else {
        Gradients::new(&layer).unwrap()
    };
    let input = rig.put(&random(50, 40, 8), Place::Tight);
    let options = TrainingOptions::default().with_fused_update(fused);
    let step = TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options).unwrap();
    let dispatches = step.gradient_commands().len() + step.update_commands().len();
    assert_eq!(dispatches, 6, "fused {fused}, on {}", rig.name);
    for _ in 0..3 {
        rig.run(&step.gradient_commands().clone().then(step.update_commands().clone()));
    }
    let values = layer.parameters();
    let values = values.iter().map(|parameter| rig.bits(&parameter.value));
    values.chain([rig.bits(step.loss())]).collect()
}

#[test]
fn a_fused_update_of_accumulated_gradients_is_refused() {
    on_every_adapter(|rig| {
        let layer = TiedLinear::new(&rig.kernels, &TiedLinearOptions::new(4, 2)).unwrap();
        let settings = AdamSettings::adam(0.01);
        let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        let input = rig.kernels.zeros("input", 3, 4).unwrap();
        let options =
            TrainingOptions::default().with_fused_update(true).with_accumulate(Accumulate::Add);
        let step = TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options);
        match step.map(|_| ()) {
            Err(Error::Incompatible { what: "fused_update", .. }) => {}
            other => panic!("{other:?}"),
        }
    });
}
