//! The check of Burn's training step at a small shape: both contributions are in the weight's gradient,
//! and the weight is one after an update too.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::adapter::Rig;
use crate::host::Host;
use crate::layer::{EPSILON, LEARNING_RATE, Start, TiedLayer, Training};
use crate::shape::Shape;
use crate::step_reference::{Parameters, forward, gradients};

/// What is checked.
const SHAPE: Shape = Shape::new(7, 11, 5);

/// The difference that rounding may make, relative to the largest value.
const TOLERANCE: f64 = 1e-5;

/// The share of the gradient that each contribution has to have at least, lest a missing one go unseen.
const CONTRIBUTION: f64 = 0.05;

/// Runs a first step, compares everything with the reference, and returns the shape that was checked.
pub fn check_step(rig: &Rig) -> Result<Shape, String> {
    let start = Start::new(SHAPE);
    let input = start.input.wide();
    let before = Parameters::from(&start);
    let want = gradients(SHAPE, &input, &before);
    let weight = want.weight();
    for (name, part) in [("decoder", &want.of_decoder), ("encoder", &want.of_encoder)] {
        let (part, all) = (largest(part), largest(&weight));
        if part < CONTRIBUTION * all {
            return Err(format!(
                "the check of the gradient is blind: the {name}'s part is {part} of {all}"
            ));
        }
    }

    let training = Training::new(rig, &start);
    expect_parameters(&training.layer)?;
    let (loss, got) = training.gradients();
    expect("loss", &Host::read_row(loss)?, &[want.loss])?;
    let missing = |name: &str| format!("Burn has no gradient of the {name}");
    let layer = &training.layer;
    let gradient = got.get::<2>(layer.weight.id).ok_or_else(|| missing("weight"))?;
    expect("gradient of the weight", &Host::read(gradient)?, &weight)?;
    for (name, id, want) in [
        ("encoder bias", layer.encoder_bias.id, &want.encoder_bias),
        ("decoder bias", layer.decoder_bias.id, &want.decoder_bias),
    ] {
        let gradient = got.get::<1>(id).ok_or_else(|| missing(name))?;
        expect(&format!("gradient of the {name}"), &Host::read_row(gradient)?, want)?;
    }

    let (training, _) = training.step();
    let Training { layer, input: uploaded, .. } = training;
    expect_parameters(&layer)?;
    let row = |of: Tensor<1>| Host::read_row(of);
    let after = [
        ("weight", Host::read(layer.weight.val())?, &before.weight, &weight),
        ("encoder bias", row(layer.encoder_bias.val())?, &before.encoder_bias, &want.encoder_bias),
        ("decoder bias", row(layer.decoder_bias.val())?, &before.decoder_bias, &want.decoder_bias),
    ];
    for (name, got, before, gradient) in &after {
        expect(&format!("update of the {name}"), got, &updated(before, gradient))?;
    }
    let [(_, weight, ..), (_, encoder_bias, ..), (_, decoder_bias, ..)] = &after;
    let after = Parameters {
        weight: weight.wide(),
        encoder_bias: encoder_bias.wide(),
        decoder_bias: decoder_bias.wide(),
    };
    let output = Host::read(layer.forward(uploaded))?;
    expect("output with the updated weight", &output, &forward(SHAPE, &input, &after).output)?;
    Ok(SHAPE)
}

/// Fails where a second weight has come into being.
fn expect_parameters(layer: &TiedLayer) -> Result<(), String> {
    let want = SHAPE.weights() + u64::from(SHAPE.hidden) + u64::from(SHAPE.inputs);
    let got = layer.num_params() as u64;
    if got == want {
        Ok(())
    } else {
        Err(format!("a tied layer of {SHAPE} has {want} parameters, Burn's has {got}"))
    }
}

/// Parameters after Adam's first step, whose moments are the gradient's own.
fn updated(before: &[f64], gradient: &[f64]) -> Vec<f64> {
    let change = |g: f64| LEARNING_RATE * g / (g.abs() + f64::from(EPSILON));
    before.iter().zip(gradient).map(|(value, &g)| value - change(g)).collect()
}

/// Fails where a value is not what the reference says.
fn expect(what: &str, got: &Host, want: &[f64]) -> Result<(), String> {
    let tolerance = TOLERANCE * largest(want);
    let got = got.wide();
    if got.len() != want.len() {
        return Err(format!("{what} has {} values instead of {}", got.len(), want.len()));
    }
    let wrong = got.iter().zip(want).position(|(got, want)| {
        let close = (got - want).abs() <= tolerance;
        !close
    });
    match wrong {
        None => Ok(()),
        Some(at) => Err(format!("{what} is wrong at {at}: {} instead of {}", got[at], want[at])),
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}
