//! The check of a whole training step: each stage against f64, from what the stage before it left.

use std::error::Error;

use tied_linear::Matrix;

use crate::host::Host;
use crate::reference::{Expected, check};
use crate::rig::Rig;
use crate::shape::Shape;
use crate::steps::{LEARNING_RATE, Start, Step, Variant};

/// Adam's ε.
const EPSILON: f64 = 1e-8;

/// The relative error of a loss, a sum in single precision over many squares.
const LOSS_TOLERANCE: f64 = 1e-4;

/// Runs the step, its first, and compares everything that it leaves behind with the reference.
pub fn check_step(
    rig: &Rig,
    variant: Variant,
    start: &Start,
    step: &Step,
) -> Result<(), Box<dyn Error>> {
    let read = |matrix: &Matrix| Host::read(rig, matrix);
    let before = step.updates.iter().map(|(p, _)| read(&p.value)).collect::<Result<Vec<_>, _>>()?;
    rig.run(&step.work)?;

    let Shape { batch, inputs, hidden } = start.shape;
    let Start { input: x, weight: w, encoder_bias: b, decoder_bias: c, .. } = start;
    let name = |what: &str| format!("{what} of the {} step at {}", variant.name(), start.shape);
    let h = read(&step.tape.code)?;
    let (dz, da) = (read(&step.tape.code_delta)?, read(&step.tape.output_delta)?);
    let value = |value: f32| Expected::of(f64::from(value));

    check(&name("code"), &h, inputs, |s, j| {
        Expected::dot(x.row(s), w.row(j)).plus(value(b.at(0, j))).relu()
    })?;
    // Every variant's decoder starts with the same weight. The library's own step keeps no output.
    let output = |s: u32, i: u32| Expected::dot(h.row(s), w.column(i)).plus(value(c.at(0, i)));
    let y = if step.tape.output.is_empty() {
        Host::new(batch, inputs, |s, i| output(s, i).value() as f32)
    } else {
        read(&step.tape.output)?
    };
    check(&name("output"), &y, hidden, output)?;
    let scale = 2.0 / start.shape.inputs_in_batch() as f64;
    check(&name("output delta"), &da, hidden, |s, i| {
        output(s, i).plus(value(-x.at(s, i))).times(scale)
    })?;
    check(&name("code delta"), &dz, inputs, |s, j| {
        Expected::dot(da.row(s), w.row(j)).kept_if(h.at(s, j) > 0.0)
    })?;
    check_loss(&name("loss"), &read(&step.loss)?, x, &y)?;

    for ((parameter, gradient), before) in step.updates.iter().zip(&before) {
        let (after, gradient) = (read(&parameter.value)?, read(gradient)?);
        let of_encoder = |j, i| Expected::dot(dz.column(j), x.column(i));
        let of_decoder = |j, i| Expected::dot(h.column(j), da.column(i));
        let what = name(&format!("gradient of the {}", parameter.name));
        match parameter.name.as_ref() {
            "weight" if variant == Variant::Untied => check(&what, &gradient, batch, of_encoder),
            "weight" => {
                check(&what, &gradient, 2 * batch, |j, i| of_decoder(j, i).plus(of_encoder(j, i)))
            }
            "decoder weight" => check(&what, &gradient, batch, |i, j| of_decoder(j, i)),
            "encoder bias" => check(&what, &gradient, batch, |_, j| Expected::sum(dz.column(j))),
            "decoder bias" => check(&what, &gradient, batch, |_, i| Expected::sum(da.column(i))),
            other => Err(format!("there is no reference for the parameter {other}")),
        }?;
        let what = name(&format!("update of the {}", parameter.name));
        check(&what, &after, 1, |row, column| {
            // Adam's first step, whose moments are the gradient's own.
            let g = f64::from(gradient.at(row, column));
            let change = -LEARNING_RATE * g / (g.abs() + EPSILON);
            value(before.at(row, column)).plus(Expected::of(change))
        })?;
    }
    Ok(())
}

fn check_loss(what: &str, loss: &Host, x: &Host, y: &Host) -> Result<(), String> {
    let square = |(x, y): (&f32, &f32)| (f64::from(*x) - f64::from(*y)).powi(2);
    let want = x.values().iter().zip(y.values()).map(square).sum::<f64>() / y.values().len() as f64;
    let got = f64::from(loss.at(0, 0));
    if (got - want).abs() <= LOSS_TOLERANCE * want {
        Ok(())
    } else {
        Err(format!("{what} is wrong: {got} instead of {want}"))
    }
}
