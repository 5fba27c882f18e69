//! 16-bit elements: conversions to the bit, products with every strategy and type, every other kernel that
//! takes them, odd widths, and memory around them that stays as it was.

mod common;

use common::products::{Case, Problem, Product};
use common::reference::{Dense, argument, saved, slope, tolerance};
use common::{
    Place, Rig, UNWRITTEN_16, element_bits, element_value, expect_close, losses, mixed_elements,
    on_every_adapter, once_per_adapter, random, rounded, rounding_of, whole_numbers,
};
use tied_linear::kernels::{
    ActivationGradient, Backward, BiasGradient, ColumnSums, Linear, LossGradient, NoisyCopy, Sum,
};
use tied_linear::{
    Accumulate, Activation, Choice, Contributions, ElementType, Error, Layout, Loss, Matrix, Noise,
    NoiseState, Pattern, ProductShape, Reduction, Strategy, Weight,
};

use ElementType::{Bf16, F16, F32};

const SIXTEEN: [ElementType; 2] = [F16, Bf16];

const PRODUCTS: [Product; 4] =
    [Product::Encode, Product::Decode, Product::CodeGradient, Product::InputGradient];

/// Every type of the weight with every type of all else, but for f32 alone.
fn pairs() -> impl Iterator<Item = [ElementType; 2]> {
    let all = ElementType::ALL.into_iter();
    let pairs = all.flat_map(|weight| ElementType::ALL.map(|other| [weight, other]));
    pairs.filter(|pair| *pair != [F32, F32])
}

/// The rig with every strategy that computes products of this kind on it, whole and in parts.
fn with_every_strategy(rig: &Rig, pattern: Pattern, test: impl Fn(&Rig, Choice)) {
    let table = rig.kernels.strategies();
    for strategy in table.available().iter().copied().filter(|one| one.computes(pattern)) {
        for parts in [1, 2] {
            let choice = Choice { strategy, parts };
            let table = table.clone().force(choice).expect("an available one");
            test(&rig.with_strategies(table), choice);
        }
    }
}

/// The product of a weight [1, n] of this type with 1: what the GPU widens, into f32.
fn widened(rig: &Rig, element: ElementType, bits: &[u16]) -> Vec<f32> {
    let columns = bits.len() as u32;
    let weight = rig.put_bits(1, columns, bits, Place::Tight, element);
    let one = rig.kernels.matrix("one", 1, 1, &[1.0]).unwrap();
    let output = rig.poisoned(1, columns, Place::Tight);
    let weight = Weight::new(&rig.kernels, weight).unwrap();
    rig.run(&rig.kernels.decode(&weight, &Linear::new(&one, &output)).unwrap());
    rig.get(&output)
}

/// The product of a weight [1, n] in f32 with 1: what the GPU rounds, into elements of this type.
fn narrowed(rig: &Rig, element: ElementType, values: &[f32]) -> Vec<u16> {
    let columns = values.len() as u32;
    let weight = rig.kernels.matrix("weight", 1, columns, values).unwrap();
    let one = rig.kernels.matrix("one", 1, 1, &[1.0]).unwrap();
    let output = rig.poisoned_as(1, columns, Place::Tight, element);
    let weight = Weight::new(&rig.kernels, weight).unwrap();
    rig.run(&rig.kernels.decode(&weight, &Linear::new(&one, &output)).unwrap());
    rig.element_bits(&output)
}

/// Whether a value is one that a driver may take for zero: subnormal in f32.
fn may_vanish(value: f32) -> bool {
    value != 0.0 && value.abs() < f32::MIN_POSITIVE
}

#[test]
fn all_values_of_both_types_are_widened_to_the_bit() {
    on_every_adapter(|rig| {
        for element in SIXTEEN {
            let all: Vec<u16> = (0..=u16::MAX).collect();
            for (bits, got) in all.iter().zip(widened(rig, element, &all)) {
                let want = element_value(element, *bits);
                let is_right = got == want || (got.is_nan() && want.is_nan());
                let vanished = got == 0.0 && may_vanish(want);
                assert!(is_right || vanished, "{element} {bits:#06x}: {got:e}, want {want:e}");
            }
        }
    });
}

/// Each value of a type, the numbers halfway between neighbours and those next to these.
#[test]
fn values_are_rounded_to_the_nearest_even_element() {
    on_every_adapter(|rig| {
        for element in SIXTEEN {
            let infinity = element_bits(element, f32::INFINITY);
            let mut values =
                vec![f32::NAN, -f32::NAN, f32::MAX, -f32::MAX, 65519.996, 65520.0, 1e30];
            for bits in 0..=infinity {
                let value = element_value(element, bits);
                // Halfway to the next element, which after the last finite one is infinity.
                let half = if element == F16 { 0x1000 } else { 0x8000 };
                let halfway = if bits < infinity && value >= 2f32.powi(-14) {
                    f32::from_bits(value.to_bits() + half)
                } else if element == F16 {
                    value + 2f32.powi(-25)
                } else {
                    f32::from_bits(value.to_bits() + if bits < infinity { half } else { 0 })
                };
                let around = [halfway.next_down(), halfway, halfway.next_up()];
                values.extend([value, -value]);
                values.extend(around.into_iter().flat_map(|value| [value, -value]));
            }
            let got = narrowed(rig, element, &values);
            for (value, got) in values.iter().zip(got) {
                let want = element_bits(element, *value);
                let [is_nan, is_zero] = [
                    element_value(element, got).is_nan() && value.is_nan(),
                    got & 0x7fff == 0 && (want & 0x7fff == 0 || may_vanish(*value)),
                ];
                assert!(
                    got == want || is_nan || is_zero,
                    "{value:e} ({:#010x}) in {element}: {got:#06x}, want {want:#06x}",
                    value.to_bits()
                );
            }
        }
    });
}

/// f32 sums of 16-bit operands, rounded once: with every strategy, in whole and odd widths.
#[test]
fn products_of_every_type_with_every_strategy() {
    once_per_adapter(|rig| {
        for product in [Product::Encode, Product::Decode] {
            with_every_strategy(rig, product.pattern(), |rig, choice| {
                // In parts, what reads operands is the same, and what writes results another file: of each
                // type, one.
                let all = pairs().filter(|[weight, other]| choice.parts == 1 || weight == other);
                for [weight, other] in all {
                    let elements = [weight, other, other, other, other];
                    let case = Case::full(product, [5, 37, 35]);
                    // Operands of a cooperative matrix are rounded to f16, so that only exact products are right.
                    let problem = if choice.strategy.name() == "cooperative" {
                        Problem::exact_in_elements(Case { depth: 9, ..case }, elements)
                    } else {
                        Problem::in_elements(case, elements)
                    };
                    for place in [Place::Tight, Place::Odd] {
                        problem.check(rig, [place; 5]);
                    }
                }
            });
        }
    });
}

/// Every activation, forward and backward, with and without the rest, in all places.
#[test]
fn epilogues_of_every_type_in_every_place() {
    once_per_adapter(|rig| {
        for product in PRODUCTS {
            for activation in [Activation::Identity, Activation::Sigmoid, Activation::GeluTanh] {
                for element in SIXTEEN {
                    // The reference's slope of a sigmoid is that of what was saved, in f16 not 0 or 1.
                    let case = Case { activation, ..Case::full(product, [7, 9, 13]) };
                    let problem = Problem::in_elements(case, [element; 5]);
                    for place in Place::ALL {
                        problem.check(rig, [place; 5]);
                    }
                }
            }
        }
    });
}

/// Each operand has a type of its own.
#[test]
fn every_operand_may_have_another_type() {
    on_every_adapter(|rig| {
        for product in PRODUCTS {
            for turn in 0..3 {
                let element = |index: usize| ElementType::ALL[(index + turn) % 3];
                let elements = std::array::from_fn(element);
                let problem = Problem::in_elements(Case::full(product, [6, 11, 10]), elements);
                problem.check(rig, [Place::Odd; 5]);
            }
        }
    });
}

/// Whole numbers, whose sums are numbers of both types: every width from 1 to 9, not a bit may be off.
#[test]
fn every_width_is_exact_with_whole_numbers() {
    on_every_adapter(|rig| {
        for product in PRODUCTS {
            for element in SIXTEEN {
                for columns in 1..=6 {
                    for depth in [1, 2, 7] {
                        let case = Case::full(product, [3, depth, columns]);
                        let problem = Problem::exact_in_elements(case, [element; 5]);
                        for place in Place::ALL {
                            problem.check(rig, [place; 5]);
                        }
                    }
                }
            }
        }
    });
}

/// The columns of a wider matrix are written one view after the other; no view touches another.
#[test]
fn neighbours_in_a_row_are_left_alone() {
    on_every_adapter(|rig| {
        for element in SIXTEEN {
            let weight = whole_numbers(6, 4, 1);
            let input = whole_numbers(3, 4, 2);
            let whole = rig.poisoned_as(3, 10, Place::Tight, element);
            let layout = whole.layout();
            let put = |values: &Dense| rig.put_as(values, Place::Tight, element);
            let input_there = put(&input);
            let want = input.times(&weight.transposed());
            // Three columns at 2, then one at 6: an odd end each time.
            for (from, offset, columns) in [(0, 2, 3), (3, 6, 1)] {
                let part = Dense::new(columns, 4, |row, column| weight.at(from + row, column));
                let view = Layout { offset: layout.offset + offset, columns, ..layout };
                let view = Matrix::view(whole.buffer(), view).unwrap();
                let weight = Weight::new(&rig.kernels, put(&part)).unwrap();
                let call = Linear::new(&input_there, &view);
                rig.run(&rig.kernels.encode(&weight, &call).unwrap());
            }
            let bits = rig.element_bits(&whole);
            for row in 0..3 {
                for column in 0..10 {
                    let got = bits[(row * 10 + column) as usize];
                    let from = match column {
                        2..=4 => Some(column - 2),
                        6 => Some(3),
                        _ => None,
                    };
                    let want = from.map(|from| element_bits(element, want.at(row, from) as f32));
                    let what = format!("{element}, row {row}, column {column}");
                    match want {
                        Some(want) => assert_eq!(got, want, "{what}"),
                        None => assert_eq!(got, UNWRITTEN_16, "{what} was written"),
                    }
                }
            }
        }
    });
}

/// dW = Hᵀ·dA + dZᵀ·X with every strategy and every type of the operands and of the gradient.
#[test]
fn weight_gradients_of_every_type_with_every_strategy() {
    once_per_adapter(|rig| {
        with_every_strategy(rig, Pattern::Backward, |rig, choice| {
            for [of_gradient, other] in [[F32, F16], [F16, F16], [Bf16, Bf16], [F16, F32]] {
                check_gradient(rig, choice, [18, 36, 33], [other; 4], of_gradient);
            }
        });
    });
}

#[test]
fn every_operand_of_a_weight_gradient_may_have_another_type() {
    on_every_adapter(|rig| {
        for turn in 0..3 {
            let element = |index: usize| ElementType::ALL[(index + turn) % 3];
            let operands = std::array::from_fn(element);
            check_gradient(rig, Choice::whole(Strategy::Tile32), [9, 6, 11], operands, element(5));
        }
    });
}

fn check_gradient(
    rig: &Rig,
    choice: Choice,
    [batch, hidden, inputs]: [u32; 3],
    elements: [ElementType; 4],
    of_gradient: ElementType,
) {
    // Whole numbers: each of the two sums is exact, and one rounding remains.
    let shapes = [(batch, hidden), (batch, inputs), (batch, hidden), (batch, inputs)];
    let data: Vec<_> = (1..)
        .zip(shapes)
        .map(|(seed, (rows, columns))| whole_numbers(rows, columns, seed))
        .collect();
    let product = |a: &Dense, b: &Dense| a.transposed().times(b);
    let sum = product(&data[0], &data[1]).zip(&product(&data[2], &data[3]), |a, b| a + b);
    for place in [Place::Tight, Place::Odd] {
        let operands: Vec<_> =
            data.iter().zip(elements).map(|(data, e)| rig.put_as(data, place, e)).collect();
        for accumulate in [Accumulate::Overwrite, Accumulate::Add] {
            let what =
                format!("{choice} {batch}x{hidden}x{inputs} {elements:?} {of_gradient} {place:?}");
            let old = rounded(&whole_numbers(hidden, inputs, 5), of_gradient);
            let (gradient, want) = match accumulate {
                Accumulate::Overwrite => {
                    (rig.poisoned_as(hidden, inputs, place, of_gradient), sum.clone())
                }
                Accumulate::Add => {
                    (rig.put_as(&old, place, of_gradient), sum.zip(&old, |new, old| new + old))
                }
            };
            let commands = rig.kernels.backward(&Backward {
                code: &operands[0],
                output_delta: &operands[1],
                code_delta: &operands[2],
                input: &operands[3],
                gradient: &gradient,
                contributions: Contributions::Both,
                accumulate,
            });
            rig.run(&commands.unwrap());
            let tolerance = want.map(|want| rounding_of(of_gradient, want.abs()));
            expect_close(&what, &rig.get(&gradient), &want, &tolerance);
            rig.expect_surroundings_untouched(&what, &gradient);
        }
    }
}

// The other kernels.

const MODES: [Accumulate; 2] = [Accumulate::Overwrite, Accumulate::Add];

/// A quad and what is left of one, one row and many, several workgroups.
const SHAPES: [[u32; 2]; 9] =
    [[1, 1], [5, 2], [3, 3], [4, 4], [17, 5], [2, 6], [3, 7], [65, 67], [3, 1030]];

/// Sums of whole numbers, which are exact: both biases' gradients, from deltas of types of their own, and a
/// total beside them.
#[test]
fn column_sums_of_every_type_are_exact_with_whole_numbers() {
    on_every_adapter(|rig| {
        for elements in mixed_elements() {
            for [batch, columns] in SHAPES {
                for place in Place::ALL {
                    for accumulate in MODES {
                        check_column_sums(rig, elements, [batch, columns], place, accumulate);
                    }
                }
            }
        }
    });
}

fn check_column_sums(
    rig: &Rig,
    elements: [ElementType; 2],
    [batch, columns]: [u32; 2],
    place: Place,
    accumulate: Accumulate,
) {
    let what = format!("{elements:?} {batch}x{columns} {place:?} {accumulate:?}");
    let deltas = [whole_numbers(batch, columns, 1), whole_numbers(batch, columns + 1, 2)];
    let deltas_there = [0, 1].map(|i| rig.put_as(&deltas[i], place, elements[i]));
    let old = [whole_numbers(1, columns, 3), whole_numbers(1, columns + 1, 4)];
    let gradients = [0, 1].map(|i| match accumulate {
        Accumulate::Overwrite => rig.poisoned(1, deltas[i].columns, place),
        Accumulate::Add => rig.put(&old[i], place),
    });
    let bias = |i: usize| {
        let (delta, gradient) = (&deltas_there[i], &gradients[i]);
        Some(BiasGradient { delta, gradient, accumulate })
    };
    let partials = whole_numbers(1, columns, 5);
    let total = rig.poisoned(1, 1, place);
    let commands = rig.kernels.column_sums(&ColumnSums {
        encoder_bias: bias(0),
        decoder_bias: bias(1),
        total: Some(Sum { partials: &rig.put(&partials, place), scale: 2.0, total: &total }),
        weight: None,
    });
    rig.run(&commands.unwrap());
    for i in [0, 1] {
        let what = format!("{what}, gradient {i}");
        let sums = deltas[i].column_sums();
        let want = match accumulate {
            Accumulate::Overwrite => sums,
            Accumulate::Add => sums.zip(&old[i], |new, old| new + old),
        };
        let exactly = want.map(|_| 0.0);
        expect_close(&what, &rig.get(&gradients[i]), &want, &exactly);
        rig.expect_surroundings_untouched(&what, &gradients[i]);
    }
    let want = 2.0 * partials.values.iter().sum::<f64>();
    assert_eq!(rig.get(&total), [want as f32], "{what}, total");
    rig.expect_surroundings_untouched(&what, &total);
}

/// Of a split weight gradient, with the biases' beside it: within the errors of sums in f32 and one rounding
/// of the reference, and the bits that `backward` alone gives.
#[test]
fn parts_of_a_weight_gradient_of_every_type_join() {
    on_every_adapter(|rig| {
        for [of_gradient, other] in [[F16, F32], [Bf16, F32], [F16, Bf16], [Bf16, F16], [F32, F16]]
        {
            for [hidden, inputs] in [[1, 1], [3, 2], [20, 36], [6, 5], [5, 6], [33, 35]] {
                for place in Place::ALL {
                    for accumulate in MODES {
                        check_parts(rig, of_gradient, other, [hidden, inputs], place, accumulate);
                    }
                }
            }
        }
    });
}

fn check_parts(
    rig: &Rig,
    of_gradient: ElementType,
    other: ElementType,
    [hidden, inputs]: [u32; 2],
    place: Place,
    accumulate: Accumulate,
) {
    const BATCH: u32 = 70;
    let what = format!("{of_gradient} {other} {hidden}x{inputs} {place:?} {accumulate:?}");
    let product = ProductShape::backward(BATCH, inputs, hidden);
    let strategy = rig.kernels.choice(&product).strategy;
    let mut table = rig.kernels.strategies().clone();
    table.set(product, Choice { strategy, parts: 3 }).unwrap();
    let kernels = rig.kernels.with_strategies(table);

    let factor = |columns, seed| rounded(&random(BATCH, columns, seed), other);
    let data = [factor(hidden, 1), factor(inputs, 2), factor(hidden, 3), factor(inputs, 4)];
    let [code, output_delta, code_delta, input] =
        data.each_ref().map(|data| rig.put_as(data, place, other));
    let old = rounded(&random(hidden, inputs, 5), of_gradient);
    let gradient = || match accumulate {
        Accumulate::Overwrite => rig.poisoned_as(hidden, inputs, place, of_gradient),
        Accumulate::Add => rig.put_as(&old, place, of_gradient),
    };
    let [whole, joined] = [gradient(), gradient()];
    let call = |gradient| Backward {
        code: &code,
        output_delta: &output_delta,
        code_delta: &code_delta,
        input: &input,
        gradient,
        contributions: Contributions::Both,
        accumulate,
    };
    rig.run(&kernels.backward(&call(&whole)).unwrap());
    let (first, parts) = kernels.backward_in_parts(&call(&joined)).unwrap();
    let parts = parts.expect("a split reduction");
    let biases = [hidden, inputs].map(|columns| rig.poisoned(1, columns, place));
    let bias =
        |delta, gradient| Some(BiasGradient { delta, gradient, accumulate: Accumulate::Overwrite });
    let rest = kernels.column_sums(&ColumnSums {
        encoder_bias: bias(&code_delta, &biases[0]),
        decoder_bias: bias(&output_delta, &biases[1]),
        weight: Some(&parts),
        total: None,
    });
    rig.run(&first.then(rest.unwrap()));

    let sum = |map: fn(f64) -> f64| {
        let product = |a: &Dense, b: &Dense| a.map(map).transposed().times(&b.map(map));
        let sum = product(&data[0], &data[1]).zip(&product(&data[2], &data[3]), |a, b| a + b);
        match accumulate {
            Accumulate::Overwrite => sum,
            Accumulate::Add => sum.zip(&old.map(map), |new, old| new + old),
        }
    };
    let want = sum(|value| value);
    let tolerance = tolerance(2 * BATCH, &sum(f64::abs))
        .zip(&want, |in_f32, want| in_f32 + rounding_of(of_gradient, want.abs() + in_f32));
    expect_close(&what, &rig.get(&joined), &want, &tolerance);
    rig.expect_surroundings_untouched(&what, &joined);
    assert_eq!(rig.all_bits(&joined), rig.all_bits(&whole), "{what}: backward");
    for (delta, gradient) in [&data[2], &data[1]].into_iter().zip(&biases) {
        let want = delta.column_sums();
        let tolerance = common::reference::tolerance(BATCH, &delta.map(f64::abs).column_sums());
        expect_close(&what, &rig.get(gradient), &want, &tolerance);
        rig.expect_surroundings_untouched(&what, gradient);
    }
}

/// Types and places of gradient, saved and delta.
#[test]
fn activation_gradients_of_every_type_in_every_place() {
    on_every_adapter(|rig| {
        for elements in mixed_elements() {
            for shape in SHAPES {
                for place in Place::ALL {
                    check_activation_gradient(rig, elements, shape, place);
                }
            }
        }
    });
}

fn check_activation_gradient(
    rig: &Rig,
    [of_gradient, of_saved, of_delta]: [ElementType; 3],
    [rows, columns]: [u32; 2],
    place: Place,
) {
    for activation in [Activation::Identity, Activation::Sigmoid, Activation::GeluTanh] {
        let what =
            format!("{activation} {of_gradient} {of_saved} {of_delta} {rows}x{columns} {place:?}");
        // With sixteenths for a sigmoid's outputs its slopes are whole numbers of 256ths, and so are the
        // products with whole numbers: exact in every type.
        let is_exact = activation != Activation::GeluTanh;
        let (gradient, kept) = if is_exact {
            let sixteenths = whole_numbers(rows, columns, 2).map(|n| (8.0 + n) / 16.0);
            (whole_numbers(rows, columns, 1), sixteenths)
        } else {
            let kept = random(rows, columns, 2).map(|z| saved(activation, 4.0 * z));
            (rounded(&random(rows, columns, 1), of_gradient), rounded(&kept, of_saved))
        };
        let delta = rig.poisoned_as(rows, columns, place, of_delta);
        let commands = rig.kernels.activation_gradient(&ActivationGradient {
            gradient: &rig.put_as(&gradient, place, of_gradient),
            activation,
            saved: Some(&rig.put_as(&kept, place, of_saved)),
            delta: &delta,
        });
        rig.run(&commands.unwrap());
        let want = gradient.zip(&kept, |gradient, kept| match activation {
            Activation::Sigmoid => gradient * kept * (1.0 - kept),
            _ => gradient * slope(activation, argument(activation, kept)),
        });
        let tolerance = want.map(|want| {
            // As in activation_gradient.rs.
            let in_f32 = 32.0 * f64::from(f32::EPSILON);
            if is_exact { 0.0 } else { in_f32 + rounding_of(of_delta, want.abs() + in_f32) }
        });
        expect_close(&what, &rig.get(&delta), &want, &tolerance);
        rig.expect_surroundings_untouched(&what, &delta);
    }
}

#[test]
fn squared_errors_of_every_type() {
    losses::elements_of_every_type(Loss::SquaredError);
}

#[test]
fn cross_entropies_of_every_type() {
    losses::elements_of_every_type(Loss::BinaryCrossEntropy);
}

/// Whole numbers and a ReLU, whose gradients are exact, and a loss without a gradient.
#[test]
fn squared_errors_are_exact_with_whole_numbers() {
    on_every_adapter(|rig| {
        for elements in mixed_elements() {
            for [rows, columns] in SHAPES {
                for place in Place::ALL {
                    check_squared_error(rig, elements, [rows, columns], place);
                }
            }
        }
    });
}

fn check_squared_error(
    rig: &Rig,
    elements: [ElementType; 4],
    [rows, columns]: [u32; 2],
    place: Place,
) {
    let what = format!("{elements:?} {rows}x{columns} {place:?}");
    let [p, t, s] = [1, 2, 3].map(|seed| whole_numbers(rows, columns, seed));
    let [prediction, target, saved] =
        [(&p, 0), (&t, 1), (&s, 2)].map(|(data, i)| rig.put_as(data, place, elements[i]));
    let error = p.zip(&t, |p, t| p - t);
    let total = error.values.iter().map(|error| error * error).sum::<f64>();
    for has_delta in [true, false] {
        let loss = rig.poisoned(1, 1, place);
        let delta = rig.poisoned_as(rows, columns, place, elements[3]);
        let call = LossGradient::new(&prediction, &target, &loss)
            .with_reduction(Reduction::Sum)
            .with_delta(has_delta.then_some(&delta))
            .through(Activation::Relu, Some(&saved));
        rig.run(&rig.kernels.squared_error(&call).unwrap());
        assert_eq!(rig.get(&loss), [total as f32], "{what}");
        rig.expect_surroundings_untouched(&what, &loss);
        rig.expect_surroundings_untouched(&what, &delta);
        if has_delta {
            let want = error.zip(&s, |error, s| 2.0 * error * slope(Activation::Relu, s));
            expect_close(&what, &rig.get(&delta), &want, &want.map(|_| 0.0));
        }
    }
}

/// A seed and a step give one noise, whatever the types: results are those of the f32 kernel from the values
/// that the input holds, rounded.
#[test]
fn noise_of_every_type_is_that_of_f32_rounded() {
    on_every_adapter(|rig| {
        for elements in mixed_elements() {
            for shape in SHAPES {
                for place in Place::ALL {
                    for noise in
                        [Noise::Masking { probability: 0.3 }, Noise::Gaussian { deviation: 0.75 }]
                    {
                        check_noise(rig, elements, shape, place, noise);
                    }
                }
            }
        }
    });
}

fn check_noise(
    rig: &Rig,
    [of_input, of_output]: [ElementType; 2],
    [rows, columns]: [u32; 2],
    place: Place,
    noise: Noise,
) {
    let what = format!("{noise:?} {of_input} {of_output} {rows}x{columns} {place:?}");
    let data = rounded(&random(rows, columns, 1), of_input);
    let state = NoiseState::new(&rig.kernels, rows, columns, 0x0123_4567_89ab_cdef).unwrap();
    let run = |input: Matrix, output: &Matrix| {
        state.set_step(&rig.gpu.device, &rig.gpu.queue, 9).unwrap();
        rig.run(
            &rig.kernels.noise(&NoisyCopy { input: &input, noise, state: &state, output }).unwrap(),
        );
        let steps = rig.bits(state.steps());
        assert!(steps.iter().all(|step| *step == 10), "{what}: {steps:?}");
    };
    let in_f32 = rig.poisoned(rows, columns, Place::Odd);
    run(rig.put(&data, Place::Odd), &in_f32);
    let output = rig.poisoned_as(rows, columns, place, of_output);
    run(rig.put_as(&data, place, of_input), &output);
    if of_output == F32 {
        assert_eq!(rig.bits(&output), rig.bits(&in_f32), "{what}");
    } else {
        let want = rig.get(&in_f32).into_iter().map(|value| element_bits(of_output, value));
        assert_eq!(rig.element_bits(&output), want.collect::<Vec<_>>(), "{what}");
    }
    rig.expect_surroundings_untouched(&what, &output);
}

// Host data.

#[test]
fn what_is_written_is_rounded_and_read_back() {
    once_per_adapter(|rig| {
        let (device, queue) = (&rig.gpu.device, &rig.gpu.queue);
        for element in SIXTEEN {
            for [rows, columns] in [[1, 1], [3, 4], [3, 5], [1, 7], [4, 1]] {
                let values = common::random(rows, columns, 1);
                let values32: Vec<f32> = values.values.iter().map(|value| *value as f32).collect();
                let want: Vec<_> =
                    rounded(&values, element).values.iter().map(|value| *value as f32).collect();
                let kernels = &rig.kernels;
                let made = kernels.matrix_as("made", rows, columns, &values32, element).unwrap();
                assert_eq!(made.layout().element, element);
                assert!(made.layout().row_stride.is_multiple_of(2));
                assert_eq!(rig.get(&made), want, "{element} {rows}x{columns}");
                let zeros = kernels.zeros_as("zeros", rows, columns, element).unwrap();
                assert_eq!(zeros.layout(), made.layout());
                assert_eq!(rig.get(&zeros), vec![0.0; want.len()]);
                zeros.write(device, queue, &values32).unwrap();
                assert_eq!(rig.get(&zeros), want, "{element} {rows}x{columns} written");

                // In the middle of a buffer.
                let even = columns.next_multiple_of(2);
                let gaps = Place::At { offset: 6, gap: if even == columns { 4 } else { 1 } };
                let there = rig.poisoned_as(rows, columns, gaps, element);
                there.write(device, queue, &values32).unwrap();
                assert_eq!(rig.get(&there), want, "{element} {rows}x{columns} in the middle");
                // The element that pads an odd row is the matrix's.
                let layout = Layout { columns: even, ..there.layout() };
                let padded = Matrix::view(there.buffer(), layout).unwrap();
                rig.expect_surroundings_untouched("a write", &padded);
            }
        }
    });
}

#[test]
fn a_copy_that_would_touch_a_neighbour_is_refused() {
    once_per_adapter(|rig| {
        let (device, queue) = (&rig.gpu.device, &rig.gpu.queue);
        let whole = rig.kernels.zeros_as("whole", 4, 8, F16).unwrap();
        let view = |offset, rows, columns, row_stride| {
            let layout = Layout { offset, rows, columns, row_stride, element: F16 };
            Matrix::view(whole.buffer(), layout).unwrap()
        };
        let refused = |reason| Error::ElementType { operand: "matrix", given: F16, reason };
        let even = "its offset and row stride must be even";
        let wider = "an odd row of a wider matrix cannot be written without the element behind it";
        for (matrix, reason) in
            [(view(1, 2, 2, 4), even), (view(0, 2, 2, 5), even), (view(0, 2, 3, 8), wider)]
        {
            let values = vec![1.0; matrix.len() as usize];
            let error = matrix.write(device, queue, &values).unwrap_err();
            assert_eq!(error, refused(reason));
            let read = matrix.read_blocking(device, queue);
            assert_eq!(read.err(), (reason == even).then(|| refused(even)));
        }
        // One row has no stride, and an empty matrix no place.
        for matrix in [view(2, 1, 4, 5), view(1, 0, 3, 5)] {
            matrix.write(device, queue, &vec![1.0; matrix.len() as usize]).unwrap();
        }
    });
}

#[test]
fn an_operand_at_an_odd_place_is_refused() {
    once_per_adapter(|rig| {
        let kernels = &rig.kernels;
        let weight = kernels.zeros("weight", 2, 4).unwrap();
        let weight = Weight::new(kernels, weight).unwrap();
        let buffer = kernels.zeros("buffer", 8, 8).unwrap();
        let output = kernels.zeros("output", 2, 2).unwrap();
        for element in SIXTEEN {
            for (offset, row_stride) in [(1, 4), (0, 5)] {
                let layout = Layout { offset, rows: 2, columns: 4, row_stride, element };
                let odd = Matrix::view(buffer.buffer(), layout).unwrap();
                let reason = "its offset and row stride must be even";
                let want = |operand| Error::ElementType { operand, given: element, reason };
                let error = kernels.encode(&weight, &Linear::new(&odd, &output)).unwrap_err();
                assert_eq!(error, want("input"));
                assert_eq!(Weight::new(kernels, odd).unwrap_err(), want("weight"));
            }
        }
    });
}
