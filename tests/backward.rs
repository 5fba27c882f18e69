//! `backward.wgsl` against the reference: the tied weight's gradient, from both of its uses.

mod common;

use common::reference::{Dense, tolerance};
use common::shares::Share;
use common::{
    Place, Rig, expect_close, expect_same_bits, on_every_adapter, property_config, random, share,
    whole_numbers,
};
use proptest::prelude::*;
use tied_linear::kernels::Backward;
use tied_linear::{Accumulate, Contributions, Matrix, Pattern};

const CONTRIBUTIONS: [Contributions; 3] =
    [Contributions::Both, Contributions::Encoder, Contributions::Decoder];

const MODES: [Accumulate; 2] = [Accumulate::Overwrite, Accumulate::Add];

/// What a backward reads: H, dA, dZ and X.
#[derive(Clone)]
struct Data {
    code: Dense,
    output_delta: Dense,
    code_delta: Dense,
    input: Dense,
}

impl Data {
    /// From `values(rows, columns, seed)`.
    fn new([batch, hidden, inputs]: [u32; 3], values: fn(u32, u32, u64) -> Dense) -> Self {
        Self {
            code: values(batch, hidden, 1),
            output_delta: values(batch, inputs, 2),
            code_delta: values(batch, hidden, 3),
            input: values(batch, inputs, 4),
        }
    }

    /// Batch, hidden, inputs.
    fn shape(&self) -> [u32; 3] {
        [self.code.rows, self.code.columns, self.input.columns]
    }

    /// Number of products in an element of the gradient.
    fn terms(&self, contributions: Contributions) -> u32 {
        match contributions {
            Contributions::Both => 2 * self.code.rows,
            _ => self.code.rows,
        }
    }

    fn gradient(&self, contributions: Contributions) -> Dense {
        let decoder = || self.code.transposed().times(&self.output_delta);
        let encoder = || self.code_delta.transposed().times(&self.input);
        match contributions {
            Contributions::Both => decoder().zip(&encoder(), |a, b| a + b),
            Contributions::Encoder => encoder(),
            Contributions::Decoder => decoder(),
        }
    }

    fn absolute(&self) -> Self {
        Self {
            code: self.code.map(f64::abs),
            output_delta: self.output_delta.map(f64::abs),
            code_delta: self.code_delta.map(f64::abs),
            input: self.input.map(f64::abs),
        }
    }

    /// The operands that these contributions do not count, full of NaN.
    fn with_unread_nan(&self, contributions: Contributions) -> Self {
        let nan = |dense: &Dense| dense.map(|_| f64::NAN);
        let mut data = self.clone();
        if contributions == Contributions::Encoder {
            data.code = nan(&self.code);
            data.output_delta = nan(&self.output_delta);
        }
        if contributions == Contributions::Decoder {
            data.code_delta = nan(&self.code_delta);
            data.input = nan(&self.input);
        }
        data
    }

    fn put(&self, rig: &Rig, places: [Place; 4]) -> Operands {
        Operands {
            code: rig.put(&self.code, places[0]),
            output_delta: rig.put(&self.output_delta, places[1]),
            code_delta: rig.put(&self.code_delta, places[2]),
            input: rig.put(&self.input, places[3]),
        }
    }
}

/// [`Data`] on the GPU.
struct Operands {
    code: Matrix,
    output_delta: Matrix,
    code_delta: Matrix,
    input: Matrix,
}

impl Operands {
    fn run(
        &self,
        rig: &Rig,
        gradient: &Matrix,
        contributions: Contributions,
        accumulate: Accumulate,
    ) {
        let commands = rig.kernels.backward(&Backward {
            code: &self.code,
            output_delta: &self.output_delta,
            code_delta: &self.code_delta,
            input: &self.input,
            gradient,
            contributions,
            accumulate,
        });
        rig.run(&commands.expect("a valid call"));
    }

    /// The bits of the overwritten gradient.
    fn bits(&self, rig: &Rig, place: Place, contributions: Contributions) -> Vec<u32> {
        let gradient = rig.poisoned(self.code.columns(), self.input.columns(), place);
        self.run(rig, &gradient, contributions, Accumulate::Overwrite);
        rig.bits(&gradient)
    }
}

/// One call against the reference: in the mode `Overwrite` over NaN, in the mode `Add` on top of
/// random values.
fn check(
    rig: &Rig,
    data: &Data,
    places: [Place; 5],
    contributions: Contributions,
    accumulate: Accumulate,
) {
    let [_, hidden, inputs] = data.shape();
    let [operands @ .., place] = places;
    let what = format!("backward {:?} {places:?} {contributions:?} {accumulate:?}", data.shape());
    let (old, gradient) = match accumulate {
        Accumulate::Overwrite => {
            (Dense::zeros(hidden, inputs), rig.poisoned(hidden, inputs, place))
        }
        Accumulate::Add => {
            let old = random(hidden, inputs, 5);
            let gradient = rig.put(&old, place);
            (old, gradient)
        }
    };
    data.put(rig, operands).run(rig, &gradient, contributions, accumulate);
    let want = data.gradient(contributions).zip(&old, |new, old| new + old);
    let magnitude = data.absolute().gradient(contributions).zip(&old, |new, old| new + old.abs());
    expect_close(
        &what,
        &rig.get(&gradient),
        &want,
        &tolerance(data.terms(contributions), &magnitude),
    );
    rig.expect_surroundings_untouched(&what, &gradient);
}

/// Sums of whole numbers are exact, so a single lost or doubled product shows.
fn check_exactly(data: &Data, contributions: Contributions) {
    let shape @ [_, hidden, inputs] = data.shape();
    let want = data.gradient(contributions);
    on_every_adapter(|rig| {
        let gradient = rig.poisoned(hidden, inputs, Place::Tight);
        data.put(rig, [Place::Tight; 4]).run(rig, &gradient, contributions, Accumulate::Overwrite);
        let what = format!("backward {shape:?} of whole numbers");
        let exactly = Dense::zeros(hidden, inputs);
        expect_close(&what, &rig.get(&gradient), &want, &exactly);
        rig.expect_surroundings_untouched(&what, &gradient);
    });
}

#[test]
fn each_contribution_and_their_sum_follow_the_formula_in_every_place() {
    let Share { columns: tile, step, .. } = *share(Pattern::Backward);
    let shapes = [
        [1, 1, 1],
        [2, 3, 5],
        // Around a tile and a step of the reduction.
        [step - 1, tile - 1, tile + 1],
        [step, tile, tile],
        [step + 1, tile + 1, tile - 1],
        [3 * step - 1, tile, tile + 4],
        // Primes; long and thin.
        [31, 37, 131],
        [257, 1, 2],
        [3, 1, 301],
        [3, 301, 1],
        // Several tiles and slices, in whole words.
        [40, 68, 132],
    ];
    on_every_adapter(|rig| {
        for shape in shapes {
            let data = Data::new(shape, random);
            for place in Place::ALL {
                for contributions in CONTRIBUTIONS {
                    for accumulate in MODES {
                        check(rig, &data, [place; 5], contributions, accumulate);
                    }
                }
            }
        }
    });
}

#[test]
fn every_operand_may_lie_in_a_place_of_its_own() {
    let data = Data::new([18, 68, 8], random);
    on_every_adapter(|rig| {
        for odd in 0..5 {
            for (one, others) in [(Place::Odd, Place::Even), (Place::Even, Place::Tight)] {
                let mut places = [others; 5];
                places[odd] = one;
                check(rig, &data, places, Contributions::Both, Accumulate::Overwrite);
            }
        }
    });
}

#[test]
fn operands_of_a_masked_contribution_have_no_effect_even_as_nan() {
    on_every_adapter(|rig| {
        for shape in [[7, 5, 3], [20, 68, 64]] {
            let data = Data::new(shape, random);
            let operands = data.put(rig, [Place::Tight; 4]);
            for contributions in [Contributions::Encoder, Contributions::Decoder] {
                let with_nan = data.with_unread_nan(contributions);
                let with_nan = with_nan.put(rig, [Place::Tight; 4]);
                expect_same_bits(
                    &format!("backward {shape:?} {contributions:?}, NaN in the other's operands"),
                    &with_nan.bits(rig, Place::Tight, contributions),
                    &operands.bits(rig, Place::Tight, contributions),
                );
            }
        }
    });
}

#[test]
fn two_backwards_in_add_mode_are_exactly_twice_one() {
    on_every_adapter(|rig| {
        for shape in [[33, 67, 5], [33, 68, 132]] {
            let [_, hidden, inputs] = shape;
            let operands = Data::new(shape, random).put(rig, [Place::Tight; 4]);
            for contributions in CONTRIBUTIONS {
                let gradient = rig.put(&Dense::zeros(hidden, inputs), Place::Tight);
                operands.run(rig, &gradient, contributions, Accumulate::Add);
                let once = rig.get(&gradient);
                operands.run(rig, &gradient, contributions, Accumulate::Add);
                let twice: Vec<u32> = once.iter().map(|value| (2.0 * value).to_bits()).collect();
                let what = format!("backward {shape:?} {contributions:?}, added twice");
                expect_same_bits(&what, &rig.bits(&gradient), &twice);
                let what = format!("backward {shape:?} {contributions:?}, added to zero");
                let overwritten = operands.bits(rig, Place::Tight, contributions);
                let once: Vec<u32> = once.into_iter().map(f32::to_bits).collect();
                expect_same_bits(&what, &once, &overwritten);
            }
        }
    });
}

#[test]
fn an_empty_batch_overwrites_with_zeros_and_adds_nothing() {
    on_every_adapter(|rig| {
        for [hidden, inputs] in [[1, 1], [65, 7], [68, 64]] {
            let operands = Data::new([0, hidden, inputs], random).put(rig, [Place::Tight; 4]);
            for (place, contributions) in std::iter::zip(Place::ALL, CONTRIBUTIONS) {
                let what = format!("backward 0x{hidden}x{inputs} {place:?} {contributions:?}");
                let overwritten = operands.bits(rig, place, contributions);
                let zeros = vec![0; overwritten.len()];
                expect_same_bits(&format!("{what}, overwritten"), &overwritten, &zeros);

                let gradient = rig.put(&random(hidden, inputs, 5), place);
                let before = rig.bits(&gradient);
                operands.run(rig, &gradient, contributions, Accumulate::Add);
                expect_same_bits(&format!("{what}, added"), &rig.bits(&gradient), &before);
                rig.expect_surroundings_untouched(&what, &gradient);
            }
        }
    });
}

#[test]
fn a_gradient_without_elements_is_left_alone() {
    on_every_adapter(|rig| {
        for shape in [[5, 0, 7], [5, 7, 0], [5, 0, 0], [0, 0, 0]] {
            let data = Data::new(shape, random);
            for accumulate in MODES {
                check(rig, &data, [Place::Odd; 5], Contributions::Both, accumulate);
            }
        }
    });
}

// Mesa's software driver up to 22.3 leaves a shader's loops after 65,535 iterations in all, both
// reductions counted together.
#[test]
fn a_batch_of_200_000_loses_no_product() {
    let data = Data::new([200_000, 2, 3], whole_numbers);
    check_exactly(&data, Contributions::Both);
}

#[test]
fn more_than_65_535_workgroups_leave_no_row_out() {
    // Neighbouring tiles differ, and so do lines of tiles.
    let numbered = |rows, columns, seed| {
        Dense::new(rows, columns, |row, column| f64::from((row + column) % 251) + seed as f64)
    };
    let data = Data::new([1, 65_537 * share(Pattern::Backward).columns, 1], numbered);
    check_exactly(&data, Contributions::Encoder);
}

#[test]
fn scalar_and_vector_access_agree_bit_for_bit() {
    on_every_adapter(|rig| {
        for shape in [[1, 4, 4], [21, 68, 132], [64, 64, 64]] {
            let data = Data::new(shape, random);
            for contributions in CONTRIBUTIONS {
                let [scalar, tight, even] = [Place::Odd, Place::Tight, Place::Even]
                    .map(|place| data.put(rig, [place; 4]).bits(rig, place, contributions));
                let what = format!("backward {shape:?} {contributions:?}, vector access");
                expect_same_bits(&format!("{what}, without gaps"), &tight, &scalar);
                expect_same_bits(&format!("{what}, with gaps"), &even, &scalar);
            }
        }
    });
}

#[test]
fn repeated_runs_agree_bit_for_bit() {
    on_every_adapter(|rig| {
        let operands = Data::new([100, 67, 130], random).put(rig, [Place::Tight; 4]);
        let first = operands.bits(rig, Place::Tight, Contributions::Both);
        for _ in 0..5 {
            let again = operands.bits(rig, Place::Tight, Contributions::Both);
            expect_same_bits("backward, repeated", &again, &first);
        }
    });
}

proptest! {
    #![proptest_config(property_config(16))]

    #[test]
    fn any_shape_place_and_mode_follows_the_formula(
        shape in [0..70_u32, 0..140_u32, 0..140_u32],
        places in prop::array::uniform5(prop::sample::select(&Place::ALL[..])),
        contributions in prop::sample::select(&CONTRIBUTIONS[..]),
        accumulate in prop::sample::select(&MODES[..]),
    ) {
        let data = Data::new(shape, random);
        on_every_adapter(|rig| check(rig, &data, places, contributions, accumulate));
    }
}
