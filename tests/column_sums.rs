//! `column_sums.wgsl` against the reference: the sum of a delta over the batch for each bias, the sum
//! of a loss's partial sums, and all three in one dispatch.

mod common;

use common::reference::{Dense, tolerance};
use common::{
    Place, Rig, expect_close, expect_same_bits, on_every_adapter, property_config, random,
    whole_numbers,
};
use proptest::prelude::*;
use tied_linear::kernels::{Backward, BiasGradient, ColumnSums, Sum};
use tied_linear::{Accumulate, Choice, Commands, Contributions, Matrix, ProductShape};

const MODES: [Accumulate; 2] = [Accumulate::Overwrite, Accumulate::Add];

fn column_sums(rig: &Rig, call: &ColumnSums<'_>) -> Commands {
    rig.kernels.column_sums(call).expect("a valid call")
}

// A bias.

/// Which of the two biases a sum is the gradient of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Encoder,
    Decoder,
}

const HALVES: [Half; 2] = [Half::Encoder, Half::Decoder];

fn run(rig: &Rig, half: Half, delta: &Matrix, gradient: &Matrix, accumulate: Accumulate) {
    let bias = Some(BiasGradient { delta, gradient, accumulate });
    let call = match half {
        Half::Encoder => ColumnSums { encoder_bias: bias, ..ColumnSums::default() },
        Half::Decoder => ColumnSums { decoder_bias: bias, ..ColumnSums::default() },
    };
    rig.run(&column_sums(rig, &call));
}

/// The bits of the overwritten gradient.
fn bits(rig: &Rig, half: Half, delta: &Matrix, place: Place) -> Vec<u32> {
    let gradient = rig.poisoned(1, delta.columns(), place);
    run(rig, half, delta, &gradient, Accumulate::Overwrite);
    rig.bits(&gradient)
}

/// What a gradient holds before: NaN, or random values to add to.
fn gradient_before(rig: &Rig, columns: u32, place: Place, accumulate: Accumulate) -> Matrix {
    match accumulate {
        Accumulate::Overwrite => rig.poisoned(1, columns, place),
        Accumulate::Add => rig.put(&random(1, columns, 2), place),
    }
}

/// The gradient against the reference, and that nothing around it was written.
fn expect_gradient(
    what: &str,
    rig: &Rig,
    delta: &Dense,
    gradient: &Matrix,
    accumulate: Accumulate,
) {
    let old = match accumulate {
        Accumulate::Overwrite => Dense::zeros(1, delta.columns),
        Accumulate::Add => random(1, delta.columns, 2),
    };
    let want = delta.column_sums().zip(&old, |new, old| new + old);
    let magnitude = delta.map(f64::abs).column_sums();
    let magnitude = magnitude.zip(&old, |new, old| new + old.abs());
    expect_close(what, &rig.get(gradient), &want, &tolerance(delta.rows, &magnitude));
    rig.expect_surroundings_untouched(what, gradient);
}

/// One sum against the reference, in places of delta and gradient.
fn check(rig: &Rig, half: Half, delta: &Dense, places: [Place; 2], accumulate: Accumulate) {
    let shape = [delta.rows, delta.columns];
    let what = format!("{half:?} bias, {shape:?} {places:?} {accumulate:?}");
    let gradient = gradient_before(rig, delta.columns, places[1], accumulate);
    run(rig, half, &rig.put(delta, places[0]), &gradient, accumulate);
    expect_gradient(&what, rig, delta, &gradient, accumulate);
}

/// Sums of whole numbers are exact, so a single lost or doubled value shows.
fn expect_exactly(what: &str, rig: &Rig, delta: &Dense, gradient: &Matrix) {
    let exactly = Dense::zeros(1, delta.columns);
    expect_close(what, &rig.get(gradient), &delta.column_sums(), &exactly);
    rig.expect_surroundings_untouched(what, gradient);
}

#[test]
fn a_gradient_is_the_sum_over_the_batch_in_every_place() {
    let shapes = [
        [1, 1],
        [3, 5],
        // Around 64 columns a workgroup and around 16 and 64 rows an iteration.
        [15, 63],
        [16, 64],
        [17, 65],
        [63, 7],
        [64, 8],
        [65, 67],
        // Long and thin.
        [1009, 3],
        [3, 1009],
        // Several workgroups and iterations, in whole words.
        [300, 260],
    ];
    on_every_adapter(|rig| {
        for [batch, columns] in shapes {
            let delta = random(batch, columns, 1);
            // The gradient at an odd offset and the delta in whole words, and the other way round.
            for delta_place in Place::ALL {
                for gradient_place in Place::ALL {
                    for accumulate in MODES {
                        for half in HALVES {
                            check(rig, half, &delta, [delta_place, gradient_place], accumulate);
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn two_sums_in_add_mode_are_exactly_twice_one() {
    on_every_adapter(|rig| {
        for (half, [batch, columns]) in std::iter::zip(HALVES, [[200, 67], [200, 68]]) {
            let delta = rig.put(&random(batch, columns, 1), Place::Tight);
            let gradient = rig.put(&Dense::zeros(1, columns), Place::Odd);
            run(rig, half, &delta, &gradient, Accumulate::Add);
            let once = rig.get(&gradient);
            run(rig, half, &delta, &gradient, Accumulate::Add);
            let twice: Vec<u32> = once.iter().map(|value| (2.0 * value).to_bits()).collect();
            let what = format!("{half:?} bias, {batch}x{columns}");
            expect_same_bits(&format!("{what}, added twice"), &rig.bits(&gradient), &twice);
            let once: Vec<u32> = once.into_iter().map(f32::to_bits).collect();
            let overwritten = bits(rig, half, &delta, Place::Tight);
            expect_same_bits(&format!("{what}, added to zero"), &once, &overwritten);
        }
    });
}

#[test]
fn an_empty_batch_overwrites_with_zeros_and_adds_nothing() {
    on_every_adapter(|rig| {
        for half in HALVES {
            for columns in [1, 67, 128] {
                for place in Place::ALL {
                    let delta = rig.put(&Dense::zeros(0, columns), place);
                    let what = format!("{half:?} bias, 0x{columns} {place:?}");
                    let overwritten = bits(rig, half, &delta, place);
                    let zeros = vec![0; overwritten.len()];
                    expect_same_bits(&format!("{what}, overwritten"), &overwritten, &zeros);

                    let gradient = rig.put(&random(1, columns, 2), place);
                    let before = rig.bits(&gradient);
                    run(rig, half, &delta, &gradient, Accumulate::Add);
                    expect_same_bits(&format!("{what}, added"), &rig.bits(&gradient), &before);
                    rig.expect_surroundings_untouched(&what, &gradient);
                }
            }
        }
    });
}

#[test]
fn a_delta_without_columns_is_left_alone() {
    on_every_adapter(|rig| {
        for half in HALVES {
            for batch in [0, 5] {
                for accumulate in MODES {
                    check(rig, half, &Dense::zeros(batch, 0), [Place::Odd; 2], accumulate);
                }
            }
        }
    });
}

#[test]
fn a_batch_of_200_000_loses_no_row() {
    let delta = &whole_numbers(200_000, 3, 1);
    on_every_adapter(|rig| {
        let on_gpu = rig.put(delta, Place::Tight);
        for half in HALVES {
            let gradient = rig.poisoned(1, 3, Place::Tight);
            run(rig, half, &on_gpu, &gradient, Accumulate::Overwrite);
            expect_exactly(&format!("{half:?} bias"), rig, delta, &gradient);
        }
    });
}

// The total.

/// scale·Σ partials, with NaN before and behind both operands.
fn total(rig: &Rig, partials: &Dense, scale: f32, place: Place) -> f32 {
    let what = format!("{} partials {place:?}, scale {scale}", partials.columns);
    let total = rig.poisoned(1, 1, Place::Odd);
    let partials = &rig.put(partials, place);
    let call = Sum { partials, scale, total: &total };
    rig.run(&rig.kernels.sum(&call).unwrap());
    rig.expect_surroundings_untouched(&what, &total);
    rig.get(&total)[0]
}

#[test]
fn every_partial_counts_once() {
    // Around a quad, a row of 64, a quad each, and an iteration; in whole words and not.
    let around = [4, 64, 1024, 4096, 100_000].map(|count| [count - 1, count, count + 1, count + 4]);
    let counts = [0, 1, 2].into_iter().chain(around.concat());
    on_every_adapter(|rig| {
        for count in counts.clone() {
            let partials = whole_numbers(1, count, u64::from(count));
            let sum: f64 = partials.values.iter().sum();
            for (scale, place) in std::iter::zip([1.0, -0.25, 0.0], Place::ALL) {
                let got = total(rig, &partials, scale, place);
                assert_eq!(got, sum as f32 * scale, "{count} partials {place:?}, scale {scale}");
            }
        }
    });
}

/// More than Mesa's software driver up to 22.3 would add if a loop took one at a time.
#[test]
fn seventeen_million_partials_count_once_each() {
    on_every_adapter(|rig| {
        let count = 17_000_000;
        let ones: Vec<f32> = (0..count).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
        let total = rig.poisoned(1, 1, Place::Tight);
        for place in [Place::Tight, Place::Odd] {
            let partials = &rig.put_f32(1, count, &ones, place);
            let call = Sum { partials, scale: 1.0, total: &total };
            rig.run(&rig.kernels.sum(&call).unwrap());
            assert_eq!(rig.get(&total), [count.div_ceil(3) as f32], "{place:?}");
        }
    });
}

/// scale·Σ partials for the scale 1/3, within the error of a tree.
fn expect_third(what: &str, got: f32, partials: &Dense) {
    let want = partials.values.iter().sum::<f64>() / 3.0;
    let magnitude = partials.values.iter().map(|value| value.abs()).sum::<f64>() / 3.0;
    // An invocation adds every 1024th value, the tree has ten levels.
    let additions = f64::from(partials.columns.div_ceil(1024) + 10);
    let tolerance = 2.0 * f64::from(f32::EPSILON) * magnitude * additions.sqrt();
    let error = (f64::from(got) - want).abs();
    let count = partials.columns;
    assert!(error <= tolerance, "{what}, {count} partials: {got}, not {want}: {error:e}");
}

#[test]
fn real_numbers_are_added_in_a_tree() {
    on_every_adapter(|rig| {
        for count in [3, 300, 1024, 100_003] {
            let partials = random(1, count, 5);
            for place in Place::ALL {
                let got = total(rig, &partials, 1.0 / 3.0, place);
                expect_third(&format!("{place:?}"), got, &partials);
            }
        }
    });
}

// All of them.

/// Operands of all three parts.
struct Parts {
    /// Encoder's and decoder's.
    deltas: [Matrix; 2],
    partials: Matrix,
}

/// What a call writes to.
struct Outputs {
    gradients: [Matrix; 2],
    total: Matrix,
}

/// Which parts are asked for: the encoder's bias, the decoder's, the total.
type Subset = [bool; 3];

/// All eight.
fn subsets() -> impl Iterator<Item = Subset> {
    (0..8).map(|bits| [1, 2, 4].map(|bit| bits & bit != 0))
}

impl Outputs {
    fn new(rig: &Rig, parts: &Parts, places: [Place; 3], modes: [Accumulate; 2]) -> Self {
        let gradient = |index: usize| {
            gradient_before(rig, parts.deltas[index].columns(), places[index], modes[index])
        };
        Self { gradients: [gradient(0), gradient(1)], total: rig.poisoned(1, 1, places[2]) }
    }

    fn call<'a>(
        &'a self,
        parts: &'a Parts,
        modes: [Accumulate; 2],
        [encoder, decoder, total]: Subset,
    ) -> ColumnSums<'a> {
        let bias = |index: usize| BiasGradient {
            delta: &parts.deltas[index],
            gradient: &self.gradients[index],
            accumulate: modes[index],
        };
        let sum = Sum { partials: &parts.partials, scale: 1.0 / 3.0, total: &self.total };
        ColumnSums {
            encoder_bias: encoder.then(|| bias(0)),
            decoder_bias: decoder.then(|| bias(1)),
            total: total.then_some(sum),
            weight: None,
        }
    }

    fn all(&self) -> [&Matrix; 3] {
        let [encoder, decoder] = &self.gradients;
        [encoder, decoder, &self.total]
    }
}

/// A joint call of each subset, against calls of its parts alone on `alone`, another device perhaps.
fn check_subsets(
    [rig, alone]: [&Rig; 2],
    parts: [&Parts; 2],
    places: [Place; 3],
    modes: [Accumulate; 2],
) {
    let separate = Outputs::new(alone, parts[1], places, modes);
    let before = separate.all().map(|matrix| alone.bits(matrix));
    let ColumnSums { encoder_bias, decoder_bias, total, .. } =
        separate.call(parts[1], modes, [true; 3]);
    alone.run(&alone.kernels.bias_gradient(&encoder_bias.unwrap()).unwrap());
    alone.run(&alone.kernels.bias_gradient(&decoder_bias.unwrap()).unwrap());
    alone.run(&alone.kernels.sum(&total.unwrap()).unwrap());
    let after = separate.all().map(|matrix| alone.bits(matrix));
    for subset in subsets() {
        let what = format!("{subset:?} {places:?} {modes:?} {parts:?}", parts = shapes(parts[0]));
        let joint = Outputs::new(rig, parts[0], places, modes);
        let commands = column_sums(rig, &joint.call(parts[0], modes, subset));
        assert!(commands.len() <= 1, "{what}: {} dispatches", commands.len());
        rig.run(&commands);
        for (index, matrix) in joint.all().into_iter().enumerate() {
            let what = format!("{what}: part {index}");
            let want = if subset[index] { &after[index] } else { &before[index] };
            assert_eq!(&rig.bits(matrix), want, "{what}");
            rig.expect_surroundings_untouched(&what, matrix);
        }
    }
}

/// Shapes of both deltas and the number of partials.
fn shapes(parts: &Parts) -> ([[u32; 2]; 2], u32) {
    ([parts.deltas[0].shape(), parts.deltas[1].shape()], parts.partials.columns())
}

fn random_parts(rig: &Rig, deltas: [[u32; 2]; 2], count: u32, places: [Place; 3]) -> Parts {
    let delta = |index: usize, seed| {
        let [rows, columns] = deltas[index];
        rig.put(&random(rows, columns, seed), places[index])
    };
    Parts {
        deltas: [delta(0, 11), delta(1, 12)],
        partials: rig.put(&random(1, count, 13), places[2]),
    }
}

/// Both accumulate modes of both biases.
fn all_modes() -> [[Accumulate; 2]; 4] {
    let [overwrite, add] = MODES;
    [[overwrite, overwrite], [overwrite, add], [add, overwrite], [add, add]]
}

#[test]
fn every_subset_of_the_parts_gives_the_bits_of_each_part_alone() {
    use Place::{Even, Odd, Tight};
    let cases = [
        // Nothing alike.
        ([[130, 67], [17, 5]], 999),
        ([[5, 3], [200, 129]], 7),
        // All in whole words: vector access.
        ([[70, 132], [65, 64]], 1028),
        // One delta is not, nor are the partials.
        ([[33, 68], [40, 10]], 20),
        ([[33, 10], [40, 68]], 20),
        ([[33, 68], [40, 12]], 21),
        // Empty ones.
        ([[0, 67], [20, 70]], 0),
        ([[20, 67], [0, 70]], 33),
        ([[0, 5], [0, 7]], 0),
        ([[9, 0], [20, 70]], 33),
        ([[20, 70], [9, 0]], 33),
    ];
    let places = [[Tight; 3], [Even; 3], [Odd; 3], [Odd, Tight, Even], [Even, Odd, Tight]];
    on_every_adapter(|rig| {
        for (deltas, count) in cases {
            for [first, second, third] in places {
                let parts = &random_parts(rig, deltas, count, [first, second, third]);
                // Outputs elsewhere than what is summed.
                let places = [third, first, second];
                for modes in all_modes() {
                    check_subsets([rig; 2], [parts; 2], places, modes);
                }
            }
        }
    });
}

/// With more workgroups than one dimension holds, some are left over in the last line of the second.
#[test]
fn every_subset_can_be_spread_over_two_dimensions() {
    let cases = [
        ([[20, 150], [17, 130]], 40),
        ([[20, 150], [17, 10]], 40),
        ([[20, 10], [17, 450]], 40),
        // What is left over must not take the part without workgroups.
        ([[20, 150], [0, 130]], 40),
        ([[20, 150], [5, 0]], 40),
    ];
    on_every_adapter(|wide| {
        let narrow = &wide.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 4);
        for (deltas, count) in cases {
            for place in Place::ALL {
                let parts = [narrow, wide].map(|rig| random_parts(rig, deltas, count, [place; 3]));
                for modes in all_modes() {
                    check_subsets([narrow, wide], parts.each_ref(), [place; 3], modes);
                }
            }
        }
    });
}

/// 0 + −0 is 0.
#[test]
fn a_part_that_adds_nothing_leaves_even_negative_zeros() {
    on_every_adapter(|rig| {
        let rig = &rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 2);
        // Three workgroups in two lines of two.
        let parts = random_parts(rig, [[20, 150], [0, 130]], 0, [Place::Tight; 3]);
        let modes = [Accumulate::Overwrite, Accumulate::Add];
        let outputs = Outputs::new(rig, &parts, [Place::Tight; 3], modes);
        let zeros = vec![-0.0; 130];
        outputs.gradients[1].write(&rig.gpu.device, &rig.gpu.queue, &zeros).unwrap();
        let call = outputs.call(&parts, modes, [true, true, false]);
        rig.run(&column_sums(rig, &call));
        let want = vec![(-0.0_f32).to_bits(); 130];
        expect_same_bits("negative zeros", &rig.bits(&outputs.gradients[1]), &want);
    });
}

#[test]
fn more_than_65_535_workgroups_leave_no_column_out() {
    // Neighbouring workgroups differ, and so do lines of workgroups.
    let delta =
        |columns, modulus| Dense::new(1, columns, |_, column| f64::from((column % modulus) as u16));
    let deltas = &[delta(65_537 * 64, 251), delta(65_539 * 64, 257)];
    let partials = whole_numbers(1, 5000, 1);
    let scaled = partials.values.iter().sum::<f64>() as f32 * (1.0 / 3.0);
    let modes = [Accumulate::Overwrite; 2];
    on_every_adapter(|rig| {
        let parts = Parts {
            deltas: deltas.each_ref().map(|delta| rig.put(delta, Place::Tight)),
            partials: rig.put(&partials, Place::Tight),
        };
        for subset in [[true, false, false], [false, true, false], [true, true, true]] {
            let what = format!("{subset:?}");
            let outputs = Outputs::new(rig, &parts, [Place::Tight; 3], modes);
            rig.run(&column_sums(rig, &outputs.call(&parts, modes, subset)));
            for index in [0, 1] {
                if subset[index] {
                    expect_exactly(&what, rig, &deltas[index], &outputs.gradients[index]);
                }
            }
            if subset[2] {
                assert_eq!(rig.get(&outputs.total), [scaled], "{what}");
            }
        }
    });
}

#[test]
fn nothing_asked_for_is_nothing_to_do() {
    on_every_adapter(|rig| assert!(column_sums(rig, &ColumnSums::default()).is_empty()));
}

#[test]
fn scalar_and_vector_access_agree_bit_for_bit() {
    on_every_adapter(|rig| {
        for (half, [batch, columns]) in
            std::iter::zip(HALVES.repeat(2), [[1, 4], [300, 132], [1000, 64], [129, 260]])
        {
            let delta = random(batch, columns, 1);
            let [scalar, tight, even] = [Place::Odd, Place::Tight, Place::Even]
                .map(|place| bits(rig, half, &rig.put(&delta, place), Place::Tight));
            let what = format!("{half:?} bias, {batch}x{columns}, vector access");
            expect_same_bits(&format!("{what}, without gaps"), &tight, &scalar);
            expect_same_bits(&format!("{what}, with gaps"), &even, &scalar);
        }
        for count in [4, 1000, 100_000] {
            let partials = random(1, count, 1);
            let [scalar, tight, even] = [Place::Odd, Place::Tight, Place::Even]
                .map(|place| total(rig, &partials, 0.3, place).to_bits());
            let what = format!("{count} partials, vector access");
            expect_same_bits(&what, &[tight, even], &[scalar; 2]);
        }
    });
}

#[test]
fn repeated_runs_agree_bit_for_bit() {
    on_every_adapter(|rig| {
        let modes = [Accumulate::Overwrite; 2];
        for place in [Place::Tight, Place::Odd] {
            let parts = random_parts(rig, [[1000, 132], [700, 260]], 100_004, [place; 3]);
            let run = || {
                let outputs = Outputs::new(rig, &parts, [place; 3], modes);
                rig.run(&column_sums(rig, &outputs.call(&parts, modes, [true; 3])));
                outputs.all().map(|matrix| rig.bits(matrix)).concat()
            };
            let first = run();
            for _ in 0..5 {
                expect_same_bits("repeated", &run(), &first);
            }
        }
    });
}

proptest! {
    #![proptest_config(property_config(24))]

    #[test]
    fn any_shapes_places_and_modes_follow_the_formulas(
        batches in prop::array::uniform2(0..400_u32),
        columns in prop::array::uniform2(0..200_u32),
        count in 0..9000_u32,
        from in prop::array::uniform3(prop::sample::select(&Place::ALL[..])),
        to in prop::array::uniform3(prop::sample::select(&Place::ALL[..])),
        modes in prop::array::uniform2(prop::sample::select(&MODES[..])),
    ) {
        let deltas = [0, 1].map(|index| random(batches[index], columns[index], 1));
        let partials = random(1, count, 5);
        on_every_adapter(|rig| {
            let parts = Parts {
                deltas: [0, 1].map(|index| rig.put(&deltas[index], from[index])),
                partials: rig.put(&partials, from[2]),
            };
            let outputs = Outputs::new(rig, &parts, to, modes);
            rig.run(&column_sums(rig, &outputs.call(&parts, modes, [true; 3])));
            let what = format!("{:?} from {from:?} to {to:?}, {modes:?}", shapes(&parts));
            for index in [0, 1] {
                let gradient = &outputs.gradients[index];
                expect_gradient(&what, rig, &deltas[index], gradient, modes[index]);
            }
            expect_third(&what, rig.get(&outputs.total)[0], &partials);
            rig.expect_surroundings_untouched(&what, &outputs.total);
        });
    }
}

/// The parts of a split weight gradient, alone and with all the rest, against `backward` itself.
#[test]
fn the_parts_of_a_weight_gradient_join() {
    on_every_adapter(|rig| {
        for (batch, inputs, hidden) in [(70, 36, 20), (129, 5, 7), (65, 33, 130)] {
            for accumulate in [Accumulate::Overwrite, Accumulate::Add] {
                check_weight_parts(rig, [batch, inputs, hidden], accumulate);
            }
        }
    });
}

fn check_weight_parts(rig: &Rig, [batch, inputs, hidden]: [u32; 3], accumulate: Accumulate) {
    let product = ProductShape::backward(batch, inputs, hidden);
    let strategy = rig.kernels.choice(&product).strategy;
    let mut table = rig.kernels.strategies().clone();
    table.set(product, Choice { strategy, parts: 3 }).unwrap();
    let kernels = rig.kernels.with_strategies(table);
    let matrix = |columns, seed| rig.put(&random(batch, columns, seed), Place::Odd);
    let (code, code_delta) = (matrix(hidden, 1), matrix(hidden, 2));
    let (output_delta, input) = (matrix(inputs, 3), matrix(inputs, 4));
    let before = random(hidden, inputs, 5);
    let gradient = || rig.put(&before, Place::Odd);
    let [whole, alone, joined] = [gradient(), gradient(), gradient()];
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
    let want = rig.bits(&whole);
    let old: Vec<u32> = before.values.iter().map(|value| (*value as f32).to_bits()).collect();
    assert_ne!(want, old, "backward writes");

    let bias = rig.poisoned(1, hidden, Place::Tight);
    let total = rig.poisoned(1, 1, Place::Tight);
    let partials = rig.put(&random(1, 77, 6), Place::Tight);
    let others = ColumnSums {
        encoder_bias: Some(BiasGradient {
            delta: &code_delta,
            gradient: &bias,
            accumulate: Accumulate::Overwrite,
        }),
        total: Some(Sum { partials: &partials, scale: 1.0, total: &total }),
        ..ColumnSums::default()
    };
    for (gradient, others) in [(&alone, ColumnSums::default()), (&joined, others)] {
        let what = format!("{batch}x{inputs}x{hidden} {accumulate:?} on {}", rig.name);
        let (first, parts) = kernels.backward_in_parts(&call(gradient)).unwrap();
        assert_eq!(first.len(), 1, "{what}");
        let parts = parts.expect("a split reduction");
        rig.run(&first);
        assert_eq!(rig.bits(gradient), old, "{what}: the parts are not the gradient yet");
        let rest = ColumnSums { weight: Some(&parts), ..others };
        let rest = kernels.column_sums(&rest).unwrap();
        assert_eq!(rest.len(), 1, "{what}");
        rig.run(&rest);
        expect_same_bits(&what, &rig.bits(gradient), &want);
        rig.expect_surroundings_untouched(&what, gradient);
    }
}
