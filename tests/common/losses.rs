//! The losses against the reference: what holds for all of them. `loss_tests!` turns the functions
//! of this file into tests of one loss.

use tied_linear::kernels::LossGradient;
use tied_linear::{Activation, Commands, ElementType, Kernels, Loss, Reduction, Result};

use super::reference::{Dense, activate, argument, saved, slope};
use super::{
    Place, Rig, expect_close, expect_same_bits, mixed_elements, on_every_adapter, random, rounded,
    rounding_of,
};

const EPSILON: f64 = f32::EPSILON as f64;

/// ℓ(prediction, target).
pub fn value(loss: Loss, prediction: f64, target: f64) -> f64 {
    match loss {
        Loss::SquaredError => (prediction - target) * (prediction - target),
        Loss::BinaryCrossEntropy => {
            prediction.max(0.0) - prediction * target + (-prediction.abs()).exp().ln_1p()
        }
        _ => unreachable!("a loss that the tests do not know"),
    }
}

/// ∂ℓ/∂prediction.
pub fn slope_of(loss: Loss, prediction: f64, target: f64) -> f64 {
    match loss {
        Loss::SquaredError => 2.0 * (prediction - target),
        Loss::BinaryCrossEntropy => activate(Activation::Sigmoid, prediction) - target,
        _ => unreachable!("a loss that the tests do not know"),
    }
}

/// The kernel's commands.
pub fn commands(kernels: &Kernels, loss: Loss, call: &LossGradient<'_>) -> Result<Commands> {
    match loss {
        Loss::SquaredError => kernels.squared_error(call),
        Loss::BinaryCrossEntropy => kernels.cross_entropy(call),
        _ => unreachable!("a loss that the tests do not know"),
    }
}

/// One call, apart from its data.
#[derive(Debug, Clone, Copy)]
struct Case {
    loss: Loss,
    shape: [u32; 2],
    /// Of prediction, target, what is saved, and delta.
    places: [Place; 4],
    /// Of the same four.
    elements: [ElementType; 4],
    reduction: Reduction,
    activation: Activation,
}

impl Case {
    fn new(loss: Loss, shape: [u32; 2], place: Place) -> Self {
        Self {
            loss,
            shape,
            places: [place; 4],
            elements: [ElementType::F32; 4],
            reduction: Reduction::Mean,
            activation: Activation::Identity,
        }
    }
}

/// Predictions, made by the activation, and targets in 0 … 1, as the device reads them.
struct Data {
    prediction: Dense,
    target: Dense,
    /// What the derivative of the activation is computed from, and the derivative.
    saved: Dense,
    slopes: Dense,
}

impl Data {
    fn new(case: &Case) -> Self {
        let [rows, columns] = case.shape;
        let [of_prediction, of_target, of_saved, _] = case.elements;
        let z = rounded(&random(rows, columns, 1).map(|z| 3.0 * z), ElementType::F32);
        let kept = rounded(&z.map(|z| saved(case.activation, z)), of_saved);
        // With 16-bit elements the slope is that of what was saved.
        let slopes = match of_saved {
            ElementType::F32 => z.map(|z| slope(case.activation, z)),
            _ => kept.map(|kept| slope(case.activation, argument(case.activation, kept))),
        };
        Self {
            prediction: rounded(&z.map(|z| activate(case.activation, z)), of_prediction),
            target: rounded(&random(rows, columns, 2).map(|t| 0.5 + 0.5 * t), of_target),
            saved: kept,
            slopes,
        }
    }
}

/// 1 or 1/(number of elements).
fn scale(reduction: Reduction, values: &Dense) -> f64 {
    match reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => 1.0 / values.values.len() as f64,
    }
}

/// Checks a loss: 32·ε of the sum of its terms and of what they are the difference of. No value goes
/// through more than 32 additions, as the sum is a tree from the partial sums of a few elements on.
fn expect_loss(what: &str, got: f32, case: &Case, data: &Data) {
    let scale = scale(case.reduction, &data.prediction);
    let (prediction, target) = (&data.prediction, &data.target);
    let terms = prediction.zip(target, |p, t| value(case.loss, p, t));
    let magnitude = terms.zip(prediction, |term, p| term + p.abs());
    let want = scale * terms.values.iter().sum::<f64>();
    let tolerance = 32.0 * EPSILON * scale * magnitude.values.iter().sum::<f64>();
    let error = (f64::from(got) - want).abs();
    assert!(
        error <= tolerance,
        "{what}: the loss is {got}, not {want}, error {error:e}, tolerance {tolerance:e}"
    );
}

fn expect_delta(what: &str, got: &[f32], case: &Case, data: &Data) {
    let scale = scale(case.reduction, &data.prediction);
    let want = data
        .prediction
        .zip(&data.target, |p, t| scale * slope_of(case.loss, p, t))
        .zip(&data.slopes, |gradient, slope| gradient * slope);
    // As in activation.rs for |z| up to 3, times what ℓ′ is at most, and a rounding to the elements.
    let in_f32 = 24.0 * EPSILON * 8.0 * scale;
    let tolerance = want.map(|want| in_f32 + rounding_of(case.elements[3], want.abs() + in_f32));
    expect_close(what, got, &want, &tolerance);
}

/// Loss, gradient, and all that must stay as it was.
fn check(rig: &Rig, case: &Case) {
    let what = format!("{case:?}");
    let [rows, columns] = case.shape;
    let [prediction_place, target_place, saved_place, delta_place] = case.places;
    let [of_prediction, of_target, of_saved, of_delta] = case.elements;
    let data = Data::new(case);
    let loss = rig.poisoned(1, 1, Place::Odd);
    let delta = rig.poisoned_as(rows, columns, delta_place, of_delta);
    let call = LossGradient {
        prediction: &rig.put_as(&data.prediction, prediction_place, of_prediction),
        target: &rig.put_as(&data.target, target_place, of_target),
        reduction: case.reduction,
        loss: &loss,
        delta: Some(&delta),
        activation: case.activation,
        saved: Some(&rig.put_as(&data.saved, saved_place, of_saved)),
        loss_scale: None,
    };
    rig.run(&commands(&rig.kernels, case.loss, &call).unwrap());
    expect_loss(&what, rig.get(&loss)[0], case, &data);
    expect_delta(&what, &rig.get(&delta), case, &data);
    rig.expect_surroundings_untouched(&what, &loss);
    rig.expect_surroundings_untouched(&what, &delta);
}

/// Makes tests of functions of this file, for one loss.
// Exported so that a test crate without such tests has no unused macro.
#[macro_export]
macro_rules! loss_tests {
    ($loss:expr, [$($test:ident,)*]) => {
        $(
            #[test]
            fn $test() {
                $crate::common::losses::$test($loss);
            }
        )*
    };
}

/// Single elements, parts of a quad, several workgroups.
pub fn odd_shapes_in_every_place(loss: Loss) {
    on_every_adapter(|rig| {
        for place in Place::ALL {
            for shape in [[1, 1], [1, 3], [3, 5], [2, 4], [33, 130], [5003, 1], [1, 5003]] {
                for reduction in [Reduction::Mean, Reduction::Sum] {
                    let case = Case::new(loss, shape, place);
                    check(rig, &Case { reduction, ..case });
                }
            }
        }
    });
}

/// One operand after the other lies elsewhere than the rest.
pub fn operands_in_different_places(loss: Loss) {
    on_every_adapter(|rig| {
        for [one, rest] in [
            [Place::Odd, Place::Tight],
            [Place::Tight, Place::Odd],
            // These can be read in words of four.
            [Place::Even, Place::Tight],
            [Place::Tight, Place::Even],
        ] {
            for operand in 0..4 {
                let mut case = Case::new(loss, [21, 20], rest);
                case.activation = Activation::Tanh;
                case.places[operand] = one;
                check(rig, &case);
            }
        }
    });
}

/// delta = scale·ℓ′ ⊙ g′, by single values and in words of four.
pub fn the_gradient_goes_on_through_every_activation(loss: Loss) {
    on_every_adapter(|rig| {
        for activation in Activation::ALL {
            for place in [Place::Odd, Place::Even] {
                let case = Case::new(loss, [19, 24], place);
                check(rig, &Case { activation, ..case });
            }
        }
    });
}

/// Each operand of a type of its own: loss and gradient are those of the values that the elements hold, and
/// the gradient is rounded once.
pub fn elements_of_every_type(loss: Loss) {
    on_every_adapter(|rig| {
        for elements in mixed_elements() {
            for place in Place::ALL {
                for (shape, activation, reduction) in [
                    ([1, 1], Activation::Identity, Reduction::Sum),
                    ([4, 2], Activation::Sigmoid, Reduction::Sum),
                    ([3, 3], Activation::GeluTanh, Reduction::Mean),
                    ([33, 130], Activation::Tanh, Reduction::Sum),
                    ([5003, 1], Activation::Identity, Reduction::Mean),
                    ([2, 2503], Activation::Silu, Reduction::Sum),
                ] {
                    let case = Case::new(loss, shape, place);
                    check(rig, &Case { elements, reduction, activation, ..case });
                }
            }
        }
    });
}

/// More quads than the most workgroups, 1,024, take in four rounds.
pub fn more_than_a_million_quads(loss: Loss) {
    on_every_adapter(|rig| check(rig, &Case::new(loss, [1_200_003, 1], Place::Tight)));
}

/// A device may allow fewer workgroups in a dimension than a loss takes elsewhere.
pub fn few_workgroups_take_more_rounds(loss: Loss) {
    on_every_adapter(|rig| {
        let narrow = rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 6);
        check(&narrow, &Case::new(loss, [30_000, 1], Place::Tight));
    });
}

/// A loss alone needs no `saved` and writes nothing but the loss.
pub fn without_delta_only_the_loss_is_computed(loss: Loss) {
    on_every_adapter(|rig| {
        for place in Place::ALL {
            let mut case = Case::new(loss, [33, 20], place);
            case.activation = Activation::Tanh;
            let data = Data::new(&case);
            let (prediction, target) =
                (rig.put(&data.prediction, place), rig.put(&data.target, place));
            let result = rig.poisoned(1, 1, Place::Odd);
            let call =
                LossGradient::new(&prediction, &target, &result).through(Activation::Tanh, None);
            let before = rig.bits(&prediction);
            rig.run(&commands(&rig.kernels, loss, &call).unwrap());
            expect_loss(&format!("{case:?}"), rig.get(&result)[0], &case, &data);
            rig.expect_surroundings_untouched("loss", &result);
            expect_same_bits("prediction", &rig.bits(&prediction), &before);
        }
    });
}

/// The loss of nothing is zero, whatever was there before.
pub fn an_empty_batch_has_loss_zero(loss: Loss) {
    on_every_adapter(|rig| {
        for [rows, columns] in [[0, 5], [5, 0], [0, 0]] {
            for reduction in [Reduction::Mean, Reduction::Sum] {
                let what = format!("{rows}x{columns} {reduction:?}");
                let empty = || rig.poisoned(rows, columns, Place::Odd);
                let (result, delta) = (rig.poisoned(1, 1, Place::Odd), empty());
                let (prediction, target) = (empty(), empty());
                let call = LossGradient::new(&prediction, &target, &result)
                    .with_reduction(reduction)
                    .with_delta(Some(&delta));
                rig.run(&commands(&rig.kernels, loss, &call).unwrap());
                assert_eq!(rig.bits(&result), [0], "{what}");
                rig.expect_surroundings_untouched(&what, &result);
                rig.expect_surroundings_untouched(&what, &delta);
            }
        }
    });
}

/// The same commands again, and commands made anew, give the same bits.
pub fn runs_repeat_bit_by_bit(loss: Loss) {
    on_every_adapter(|rig| {
        let case = Case::new(loss, [700, 333], Place::Odd);
        let data = Data::new(&case);
        let (prediction, target) =
            (rig.put(&data.prediction, Place::Odd), rig.put(&data.target, Place::Odd));
        let run = || {
            let result = rig.poisoned(1, 1, Place::Tight);
            let delta = rig.poisoned(700, 333, Place::Odd);
            let call = LossGradient::new(&prediction, &target, &result).with_delta(Some(&delta));
            let commands = commands(&rig.kernels, loss, &call).unwrap();
            let repeat = || {
                rig.run(&commands);
                [rig.bits(&result), rig.bits(&delta)].concat()
            };
            [repeat(), repeat()]
        };
        let [first, second] = run();
        let [third, fourth] = run();
        for again in [second, third, fourth] {
            expect_same_bits("loss and delta", &again, &first);
        }
    });
}
