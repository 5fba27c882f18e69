//! The check of every result before it is timed: f64 loops, on a sample of the elements where there
//! are many.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::host::Host;

/// Multiplications up to which every element is checked.
const ALL_BELOW: u64 = 1 << 22;

/// Elements that are checked beyond that, the four corners not counted.
const SAMPLE: usize = 500;

/// The largest relative error of one f32 operation.
const UNIT: f64 = f32::EPSILON as f64 / 2.0;

/// A sum in f64, and how far from it the same sum in f32 may lie.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    value: f64,
    /// The sum of the terms' absolute values.
    magnitude: f64,
    terms: u32,
}

impl Expected {
    /// One value.
    pub fn of(value: f64) -> Self {
        Self { value, magnitude: value.abs(), terms: 1 }
    }

    /// Σ a·b.
    pub fn dot(a: impl Iterator<Item = f32>, b: impl Iterator<Item = f32>) -> Self {
        a.zip(b).fold(Self::default(), |sum, (a, b)| {
            let term = f64::from(a) * f64::from(b);
            sum.plus(Self::of(term))
        })
    }

    /// Σ a.
    pub fn sum(a: impl Iterator<Item = f32>) -> Self {
        a.fold(Self::default(), |sum, a| sum.plus(Self::of(f64::from(a))))
    }

    /// The sum.
    pub fn value(self) -> f64 {
        self.value
    }

    /// A multiple.
    pub fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, magnitude: self.magnitude * factor.abs(), ..self }
    }

    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            magnitude: self.magnitude + other.magnitude,
            terms: self.terms + other.terms,
        }
    }

    /// max(sum, 0).
    pub fn relu(self) -> Self {
        Self { value: self.value.max(0.0), ..self }
    }

    /// The sum, or zero.
    pub fn kept_if(self, keep: bool) -> Self {
        if keep { self } else { Self::default() }
    }

    /// The error that rounding can explain: at most one unit an operation and term, whatever the
    /// order of the additions. NaN is no such error.
    fn allows(self, got: f32) -> bool {
        let tolerance = f64::from(self.terms + 4) * UNIT * self.magnitude;
        (f64::from(got) - self.value).abs() <= tolerance + f64::from(f32::MIN_POSITIVE)
    }
}

/// Fails where a checked element of `got` is not what `expected` says for its row and column;
/// `terms` is the number of multiplications in one.
pub fn check(
    what: &str,
    got: &Host,
    terms: u32,
    expected: impl Fn(u32, u32) -> Expected,
) -> Result<(), String> {
    let [rows, columns] = got.shape();
    let expect = |row, column| {
        let (got, expected) = (got.at(row, column), expected(row, column));
        if expected.allows(got) {
            Ok(())
        } else {
            let want = expected.value;
            Err(format!("{what} is wrong at row {row}, column {column}: {got} instead of {want}"))
        }
    };
    if u64::from(rows) * u64::from(columns) * u64::from(terms) <= ALL_BELOW {
        return (0..rows).try_for_each(|r| (0..columns).try_for_each(|c| expect(r, c)));
    }
    for (row, column) in [(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)] {
        expect(row, column)?;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    (0..SAMPLE).try_for_each(|_| expect(rng.random_range(0..rows), rng.random_range(0..columns)))
}
