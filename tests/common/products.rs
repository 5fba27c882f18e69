//! The four products with a tied weight, against the reference: what holds for all of them.
//!
//! Each multiplies an input [rows, depth] with the weight, as it lies or transposed, and makes an
//! output [rows, columns]; so one table of shapes serves all, whichever of depth and columns is
//! called `inputs` and which `hidden`. `product_tests!` turns the functions of this file into tests
//! of one product.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tied_linear::kernels::{Gradient, Linear};
use tied_linear::{Activation, Commands, ElementType, Matrix, Pattern, Weight};

use super::reference::{Dense, activate, argument, saved, slope, tolerance};
use super::{
    Place, Rig, activations, expect_close, expect_same_bits, forced_choice, on_every_adapter,
    property_config, random, rounded, rounding_of, share, whole_numbers,
};

/// Which method of `Kernels` is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Encode,
    Decode,
    CodeGradient,
    InputGradient,
}

impl Product {
    /// Whether the product is with the weight [columns, depth] transposed; otherwise it is with the
    /// weight [depth, columns] as it lies.
    fn transposes(self) -> bool {
        matches!(self, Self::Encode | Self::CodeGradient)
    }

    pub fn pattern(self) -> Pattern {
        if self.transposes() { Pattern::Encode } else { Pattern::Decode }
    }

    fn is_gradient(self) -> bool {
        matches!(self, Self::CodeGradient | Self::InputGradient)
    }
}

/// One call, apart from its data.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub product: Product,
    pub rows: u32,
    pub depth: u32,
    pub columns: u32,
    pub activation: Activation,
    /// Whether something is added to the product: the bias or, of a gradient, the extra one.
    pub addend: bool,
    /// Whether the pre-activation is stored; a gradient has none to store.
    pub preactivation: bool,
}

impl Case {
    /// The product alone.
    pub fn bare(product: Product, [rows, depth, columns]: [u32; 3]) -> Self {
        Self {
            product,
            rows,
            depth,
            columns,
            activation: Activation::Identity,
            addend: false,
            preactivation: false,
        }
    }

    /// A call with every operand there is.
    pub fn full(product: Product, shape: [u32; 3]) -> Self {
        Self {
            // The identity's gradient needs nothing saved; the sigmoid's needs its output.
            activation: if product.is_gradient() {
                Activation::Sigmoid
            } else {
                Activation::Identity
            },
            addend: true,
            preactivation: true,
            ..Self::bare(product, shape)
        }
    }
}

/// The places of weight, input, addend, output, and last the pre-activation that is stored or what
/// was saved for the gradient.
pub type Places = [Place; 5];

/// The element types of the same five; a bias stays f32.
pub type Elements = [ElementType; 5];

const ALL_F32: Elements = [ElementType::F32; 5];

/// The matrices of one call.
pub struct Operands {
    pub weight: Matrix,
    pub input: Matrix,
    pub addend: Option<Matrix>,
    pub activation: Activation,
    pub output: Matrix,
    pub preactivation: Option<Matrix>,
    pub saved: Option<Matrix>,
}

impl Operands {
    pub fn commands(&self, rig: &Rig, product: Product) -> Commands {
        let kernels = &rig.kernels;
        let weight = Weight::new(kernels, self.weight.clone()).unwrap();
        let linear = Linear::new(&self.input, &self.output)
            .with_bias(self.addend.as_ref())
            .with_activation(self.activation)
            .with_preactivation(self.preactivation.as_ref());
        let gradient = Gradient::new(&self.input, &self.output)
            .with_extra(self.addend.as_ref())
            .through(self.activation, self.saved.as_ref());
        match product {
            Product::Encode => kernels.encode(&weight, &linear),
            Product::Decode => kernels.decode(&weight, &linear),
            Product::CodeGradient => kernels.code_gradient(&weight, &gradient),
            Product::InputGradient => kernels.input_gradient(&weight, &gradient),
        }
        .unwrap()
    }

    /// All that the call wrote, to compare bit by bit.
    fn written(&self, rig: &Rig) -> Vec<u32> {
        let preactivation = self.preactivation.iter();
        let outputs = std::iter::once(&self.output).chain(preactivation);
        outputs.flat_map(|matrix| rig.bits(matrix)).collect()
    }
}

/// What a matrix should hold.
struct Expected {
    values: Dense,
    tolerance: Dense,
}

impl Expected {
    /// The same after a rounding to this type.
    fn rounded_to(self, element: ElementType) -> Self {
        let tolerance = self.tolerance.zip(&self.values, |tolerance, value| {
            tolerance + rounding_of(element, value.abs() + tolerance)
        });
        Self { tolerance, ..self }
    }
}

/// A case with data, and what should come out.
pub struct Problem {
    case: Case,
    elements: Elements,
    weight: Dense,
    input: Dense,
    addend: Option<Dense>,
    saved: Option<Dense>,
    preactivation: Expected,
    output: Expected,
}

impl Problem {
    /// With values in -1 … 1.
    pub fn new(case: Case) -> Self {
        Self::with_values(case, ALL_F32, random, tolerance)
    }

    /// With values in -1 … 1, rounded to these types, and results within the errors of sums in f32 and one
    /// rounding to their own type.
    pub fn in_elements(case: Case, elements: Elements) -> Self {
        Self::with_values(case, elements, random, tolerance)
    }

    /// The same with values that are whole numbers and results that are too, to the bit: sums up to 2⁸ are
    /// numbers of every type.
    pub fn exact_in_elements(case: Case, elements: Elements) -> Self {
        let case = Case { activation: Activation::Identity, ..case };
        let problem = Self::with_values(case, elements, whole_numbers, |_, sum| sum.map(|_| 0.0));
        assert!(problem.output.values.values.iter().all(|value| value.abs() <= 256.0));
        let exactly =
            |values: &Dense| Expected { values: values.clone(), tolerance: values.map(|_| 0.0) };
        let [output, preactivation] =
            [&problem.output, &problem.preactivation].map(|expected| exactly(&expected.values));
        Self { output, preactivation, ..problem }
    }

    /// With whole numbers, whose sums of products are exact; without an activation, to stay so.
    pub fn exact(case: Case) -> Self {
        let case = Case { activation: Activation::Identity, ..case };
        Self::with_values(case, ALL_F32, whole_numbers, |_, sum| sum.map(|_| 0.0))
    }

    /// With values drawn by `draw` (from rows, columns and a seed), and a tolerance from depth and
    /// Σ|a·b|.
    fn with_values(
        case: Case,
        elements: Elements,
        draw: impl Fn(u32, u32, u64) -> Dense,
        tolerance: impl Fn(u32, &Dense) -> Dense,
    ) -> Self {
        let Case { rows, columns, .. } = case;
        let mut elements = elements;
        if !case.product.is_gradient() {
            elements[2] = ElementType::F32;
        }
        let input = rounded(&draw(rows, case.depth, 1), elements[1]);
        let factor = rounded(&draw(case.depth, columns, 2), elements[0]);
        let addend_rows = if case.product.is_gradient() { rows } else { 1 };
        let addend = case.addend.then(|| rounded(&draw(addend_rows, columns, 3), elements[2]));
        let add = |product: &Dense, addend: Option<&Dense>| match addend {
            Some(extra) if case.product.is_gradient() => product.zip(extra, |a, b| a + b),
            bias => product.plus_row(bias),
        };
        let sum = add(&input.times(&factor), addend.as_ref());
        let magnitude = add(
            &input.map(f64::abs).times(&factor.map(f64::abs)),
            addend.as_ref().map(|addend| addend.map(f64::abs)).as_ref(),
        );
        let sum = Expected { values: sum, tolerance: tolerance(case.depth, &magnitude) };
        let z = random(rows, columns, 4).map(|value| 4.0 * value);
        // What was saved, and with 16-bit elements what f was then computed from.
        let kept = rounded(&z.map(|z| saved(case.activation, z)), elements[4]);
        let z = if elements[4] == ElementType::F32 {
            z
        } else {
            kept.map(|kept| argument(case.activation, kept))
        };
        let output = if case.product.is_gradient() {
            after_slope(case.activation, &sum, &z)
        } else {
            after_activation(case.activation, &sum)
        };
        let output = output.rounded_to(elements[3]);
        let sum = sum.rounded_to(elements[4]);
        let saved =
            (case.product.is_gradient() && case.activation != Activation::Identity).then_some(kept);
        Self {
            case,
            elements,
            weight: if case.product.transposes() { factor.transposed() } else { factor },
            input,
            addend,
            saved,
            preactivation: sum,
            output,
        }
    }

    /// The operands, in these places; poison where the call has to write.
    pub fn place(&self, rig: &Rig, places: Places) -> Operands {
        let [weight, input, addend, output, saved] = places;
        let Case { rows, columns, .. } = self.case;
        let stores = self.case.preactivation && !self.case.product.is_gradient();
        Operands {
            weight: rig.put_as(&self.weight, weight, self.elements[0]),
            input: rig.put_as(&self.input, input, self.elements[1]),
            addend: self.addend.as_ref().map(|values| rig.put_as(values, addend, self.elements[2])),
            activation: self.case.activation,
            output: rig.poisoned_as(rows, columns, output, self.elements[3]),
            preactivation: stores.then(|| rig.poisoned_as(rows, columns, saved, self.elements[4])),
            saved: self.saved.as_ref().map(|values| rig.put_as(values, saved, self.elements[4])),
        }
    }

    /// Fails unless the operands' outputs hold what they should, and nothing around them changed.
    pub fn expect(&self, rig: &Rig, what: &str, operands: &Operands) {
        let preactivation = operands
            .preactivation
            .iter()
            .map(|matrix| ("preactivation", matrix, &self.preactivation));
        let output = ("output", &operands.output, &self.output);
        for (name, matrix, expected) in preactivation.chain([output]) {
            let what = format!("{what}, {:?}, {name}", self.elements);
            let got = rig.get(matrix);
            expect_close(&what, &got, &expected.values, &expected.tolerance);
            rig.expect_surroundings_untouched(&what, matrix);
        }
    }

    /// Runs the call with its operands in these places, and compares.
    pub fn check(&self, rig: &Rig, places: Places) {
        let operands = self.place(rig, places);
        rig.run(&operands.commands(rig, self.case.product));
        self.expect(rig, &format!("{:?}, {places:?}", self.case), &operands);
    }

    /// As [`Problem::check`], on every adapter, in every place.
    pub fn check_in_every_place(&self) {
        on_every_adapter(|rig| {
            for place in Place::ALL {
                self.check(rig, [place; 5]);
            }
        });
    }
}

/// f of a sum. No activation is steeper than 1.13, and f itself is good to a few units in the last
/// place of 1 or of its argument.
fn after_activation(activation: Activation, sum: &Expected) -> Expected {
    let own_error = own_error(activation);
    Expected {
        values: sum.values.map(|z| activate(activation, z)),
        tolerance: sum
            .tolerance
            .zip(&sum.values, |tolerance, z| 1.2 * tolerance + own_error * (1.0 + z.abs())),
    }
}

/// A sum times f′(z).
fn after_slope(activation: Activation, sum: &Expected, z: &Dense) -> Expected {
    let own_error = own_error(activation);
    let slopes = z.map(|z| slope(activation, z));
    let own_errors =
        z.map(|z| own_error * (1.0 + z.abs())).zip(&sum.values, |error, sum| error * sum.abs());
    let from_sum = sum.tolerance.zip(&slopes, |tolerance, slope| tolerance * slope.abs());
    Expected {
        values: sum.values.zip(&slopes, |sum, slope| sum * slope),
        tolerance: from_sum.zip(&own_errors, |a, b| a + b),
    }
}

fn own_error(activation: Activation) -> f64 {
    match activation {
        Activation::Identity | Activation::Relu => 0.0,
        _ => 8.0 * f64::from(f32::EPSILON),
    }
}

/// Makes tests of functions of this file, for one product.
// Exported so that a test crate without such tests has no unused macro.
#[macro_export]
macro_rules! product_tests {
    ($product:expr, [$($test:ident,)*]) => {
        $(
            #[test]
            fn $test() {
                $crate::common::products::$test($product);
            }
        )*
    };
}
/// 1, and the sizes at and around a tile and a step of the reduction, each with each.
pub fn sizes_around_tile_and_step_in_every_place(product: Product) {
    let around = |size| [1, size - 1, size, size + 1];
    let share = share(product.pattern());
    for rows in around(share.most_rows()) {
        for depth in around(share.step) {
            for columns in around(share.columns) {
                Problem::new(Case::full(product, [rows, depth, columns])).check_in_every_place();
            }
        }
    }
}

/// Primes, long and thin shapes, several tiles both ways, multiples of four.
pub fn odd_and_thin_shapes_in_every_place(product: Product) {
    for shape in [
        [63, 2, 10],
        [63, 10, 2],
        [2, 3, 5],
        [13, 101, 47],
        [131, 37, 197],
        [1, 1000, 3],
        [1000, 1, 2],
        [3, 2, 1000],
        [1, 1, 500],
        [500, 1, 1],
        [129, 48, 193],
        [3, 4, 8],
        [68, 20, 132],
        [128, 64, 256],
    ] {
        Problem::new(Case::full(product, shape)).check_in_every_place();
    }
}

/// Shapes, activations, strides and offsets by chance, the places all different in one call. The
/// lengths, the places, or both may be rounded to multiples of four: with both, access is by vector.
pub fn drawn_shapes_strides_and_offsets(product: Product) {
    let unit = || prop_oneof![Just(1), Just(4)];
    let drawn = (
        [unit(), unit()],
        [0..140u32, 0..90, 0..140],
        [(); 5].map(|()| (0..300u64, 0..9u32)),
        proptest::sample::select(activations()),
        [any::<bool>(), any::<bool>()],
    );
    let calls = drawn.prop_map(
        move |(
            [unit, place_unit],
            [rows, depth, columns],
            places,
            activation,
            [addend, preactivation],
        )| {
            let case = Case {
                product,
                rows,
                depth: depth / unit * unit,
                columns: columns / unit * unit,
                activation,
                addend,
                preactivation,
            };
            let places: Places = places.map(|(offset, gap)| Place::At {
                offset: offset / u64::from(place_unit) * u64::from(place_unit),
                gap: gap / place_unit * place_unit,
            });
            (case, places)
        },
    );
    let config = Config { max_shrink_iters: 200, ..property_config(24) };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let outcome = TestRunner::new_with_rng(config, rng).run(&calls, |(case, places)| {
        let problem = Problem::new(case);
        on_every_adapter(|rig| problem.check(rig, places));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// An empty batch, or an output without columns: nothing is recorded, nothing written.
pub fn an_empty_output_needs_no_commands(product: Product) {
    on_every_adapter(|rig| {
        for shape in [[0, 5, 7], [5, 7, 0], [0, 0, 7], [5, 0, 0], [0, 7, 0], [0, 0, 0]] {
            let problem = Problem::new(Case::full(product, shape));
            for place in Place::ALL {
                let operands = problem.place(rig, [place; 5]);
                let commands = operands.commands(rig, product);
                assert!(commands.is_empty(), "{product:?} {shape:?} {place:?}");
                rig.run(&commands);
                problem.expect(rig, &format!("{product:?} {shape:?} {place:?}"), &operands);
            }
        }
    });
}

/// A sum of no products is 0, and what follows it takes place: the bias and f, or the extra gradient
/// and f′.
pub fn without_a_reduction_the_rest_remains(product: Product) {
    for shape in [[1, 0, 1], [5, 0, 7], [65, 0, 132]] {
        for addend in [true, false] {
            let case =
                Case { activation: Activation::Sigmoid, addend, ..Case::full(product, shape) };
            Problem::new(case).check_in_every_place();
        }
    }
}

/// Every activation, with and without what is added before it and what is stored beside it, one
/// element and four at a time.
pub fn every_activation_with_and_without_the_rest(product: Product) {
    for &activation in activations() {
        for addend in [true, false] {
            for preactivation in [true, false] {
                for shape in [[9, 21, 6], [6, 20, 12]] {
                    let case =
                        Case { activation, addend, preactivation, ..Case::bare(product, shape) };
                    Problem::new(case).check_in_every_place();
                }
            }
        }
    }
}

/// A single operand whose offset or row stride is no multiple of four decides for all.
pub fn one_operand_off_a_multiple_of_four_is_respected(product: Product) {
    let problem = Problem::new(Case::full(product, [12, 20, 68]));
    on_every_adapter(|rig| {
        for operand in 0..5 {
            for place in
                [Place::Odd, Place::At { offset: 2, gap: 0 }, Place::At { offset: 8, gap: 2 }]
            {
                let mut places = [Place::Even; 5];
                places[operand] = place;
                problem.check(rig, places);
            }
        }
    });
}

/// Vector access (tight and even places, multiples of four) and scalar access (odd places) add in
/// the same order.
pub fn both_widths_give_the_same_bits(product: Product) {
    for shape in [[1, 4, 4], [63, 20, 68], [64, 16, 64], [130, 100, 132]] {
        let problem = Problem::new(Case::full(product, shape));
        on_every_adapter(|rig| {
            let [tight, odd, even] = Place::ALL.map(|place| {
                let operands = problem.place(rig, [place; 5]);
                rig.run(&operands.commands(rig, product));
                operands.written(rig)
            });
            let what = format!("{product:?} {shape:?}");
            expect_same_bits(&format!("{what}, even and tight"), &even, &tight);
            expect_same_bits(&format!("{what}, odd and tight"), &odd, &tight);
        });
    }
}

/// The same commands again, new commands on the same operands, and all made anew with new kernels.
pub fn runs_repeat_bit_by_bit(product: Product) {
    let problem = Problem::new(Case::full(product, [130, 100, 71]));
    on_every_adapter(|rig| {
        let operands = problem.place(rig, [Place::Odd; 5]);
        let commands = operands.commands(rig, product);
        rig.run(&commands);
        problem.expect(rig, "the first run", &operands);
        let first = operands.written(rig);
        for run in 2..5 {
            rig.run(&commands);
            expect_same_bits(&format!("run {run}"), &operands.written(rig), &first);
        }
        rig.run(&commands.clone().then(operands.commands(rig, product)));
        expect_same_bits("two runs in one pass", &operands.written(rig), &first);

        let anew = rig.with_options(rig.kernels.options().clone());
        let operands = problem.place(&anew, [Place::Odd; 5]);
        anew.run(&operands.commands(&anew, product));
        expect_same_bits("new kernels", &operands.written(&anew), &first);
    });
}

/// A reduction so long that a driver which leaves loops after 65,535 iterations would cut it off;
/// one product too few would show.
pub fn a_reduction_of_200_000_loses_nothing(product: Product) {
    let problem = Problem::exact(Case::full(product, [2, 200_000, 4]));
    on_every_adapter(|rig| {
        for place in [Place::Tight, Place::Odd] {
            problem.check(rig, [place; 5]);
        }
    });
}

/// More tiles than workgroups fit into one dimension of a dispatch. They take a software driver
/// seconds, so it is once for a product: down the output of a forward one, across a gradient's. For a
/// forced strategy the dimension is shortened.
pub fn more_tiles_than_one_dimension_holds(product: Product) {
    let is_forced = forced_choice().is_some();
    let share = share(product.pattern());
    let tile = if product.is_gradient() { share.columns } else { share.most_rows() };
    let length = tile * if is_forced { 303 } else { 65_537 };
    // Exact in f32, and different for every element.
    let values: Vec<f32> = (0..length).map(|index| index as f32).collect();
    on_every_adapter(|rig| {
        let shortened;
        let mut rig = rig;
        if is_forced {
            shortened = rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 100);
            rig = &shortened;
        }
        let long = rig.put_f32(1, length, &values, Place::Tight);
        let half = rig.put_f32(1, 1, &[0.5], Place::Tight);
        let result = rig.poisoned(1, length, Place::Tight);
        // A line of values, as a column of them.
        let down = |matrix: &Matrix| Matrix::new(matrix.buffer(), length, 1).unwrap();
        let (input, weight, output) = if !product.is_gradient() {
            (down(&long), half, down(&result))
        } else if product.transposes() {
            (half, down(&long), result.clone())
        } else {
            (half, long, result.clone())
        };
        let operands = Operands {
            weight,
            input,
            addend: None,
            activation: Activation::Identity,
            output,
            preactivation: None,
            saved: None,
        };
        rig.run(&operands.commands(rig, product));
        for (index, (got, value)) in std::iter::zip(rig.get(&result), &values).enumerate() {
            assert!(got == 0.5 * value, "element {index}: got {got}, want {}", 0.5 * value);
        }
    });
}

/// A gradient through the identity leaves alone what was saved, whatever it is.
pub fn the_identity_needs_nothing_saved(product: Product) {
    let problem =
        Problem::new(Case { activation: Activation::Identity, ..Case::full(product, [9, 20, 12]) });
    on_every_adapter(|rig| {
        for place in Place::ALL {
            let mut operands = problem.place(rig, [place; 5]);
            operands.saved = Some(rig.poisoned(1, 1, place));
            rig.run(&operands.commands(rig, product));
            problem.expect(rig, &format!("{product:?} {place:?}"), &operands);
        }
    });
}
