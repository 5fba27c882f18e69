//! All that is timed at one shape: prepared, checked against the reference, then measured in turn.

use std::error::Error;

use tied_linear::{Accumulate, Contributions};

use crate::cost::Kernel;
use crate::memory::{Created, Formula, Meter};
use crate::operands::Operands;
use crate::own::{ADD, Dispatch};
use crate::recording;
use crate::rig::Rig;
use crate::shape::Shape;
use crate::steps::{Start, Step, Variant};
use crate::timing::{Spread, Stopwatch, Timing};
use crate::work::Work;

/// Something to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// A kernel of the library. (The step is [`Candidate::Step`].)
    Library(Kernel),
    /// Its naive twin.
    Naive(Kernel),
    /// The weight's gradient by two products into two buffers, then their sum.
    Added,
    /// The weight's gradient by a product, then one that adds to it.
    Accumulated,
    /// A training step.
    Step(Variant),
}

/// What a training step takes besides time on the GPU.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    /// The bytes of its buffers: of all, or of its matrices where the backend does not list them.
    pub bytes: u64,
    /// All of its buffers, where the backend lists them.
    pub created: Option<Created>,
    /// Dispatches in it.
    pub dispatches: usize,
    /// Seconds of the host's processor to record it.
    pub recording: f64,
}

/// What was measured at one shape.
pub struct Measured {
    /// The sizes.
    pub shape: Shape,
    /// What the tied step's buffers should be.
    pub formula: Formula,
    timings: Vec<(Candidate, Timing)>,
    footprints: Vec<(Variant, Footprint)>,
}

/// Candidates that are compared with each other.
type Family = Vec<(Candidate, Work)>;

impl Measured {
    /// A kernel's time; the step's with the tied weight.
    pub fn seconds(&self, kernel: Kernel) -> Option<Spread> {
        let candidate = match kernel {
            Kernel::Step => Candidate::Step(Variant::Tied),
            _ => Candidate::Library(kernel),
        };
        Some(self.timing(candidate)?.seconds())
    }

    /// How many times as fast as the second the first is, if both could be run at this shape.
    pub fn speedup(&self, first: Candidate, second: Candidate) -> Option<Spread> {
        Some(self.timing(first)?.speedup_over(self.timing(second)?))
    }

    /// What a step takes besides time.
    pub fn footprint(&self, variant: Variant) -> Option<Footprint> {
        let mut all = self.footprints.iter();
        all.find(|(known, _)| *known == variant).map(|(_, footprint)| *footprint)
    }

    fn timing(&self, candidate: Candidate) -> Option<&Timing> {
        let mut all = self.timings.iter();
        all.find(|(known, _)| *known == candidate).map(|(_, timing)| timing)
    }
}

/// Checks and times everything at this shape.
pub fn measure(
    rig: &Rig,
    stopwatch: &Stopwatch<'_>,
    meter: Option<&Meter>,
    shape: Shape,
) -> Result<Measured, Box<dyn Error>> {
    let operands = Operands::new(rig, shape)?;
    let mut families = products(rig, &operands)?;
    let start = Start::new(rig, shape)?;
    let (mut steps, mut footprints) = (Family::new(), Vec::new());
    for variant in Variant::ALL {
        let (step, footprint) = step(rig, meter, variant, &start)?;
        footprints.push((variant, footprint));
        steps.push((Candidate::Step(variant), step.work));
    }
    families.push(steps);
    let works: Vec<Vec<_>> =
        families.iter().map(|family| family.iter().map(|(_, work)| work).collect()).collect();
    let timings = stopwatch.time(&works)?.into_iter().flatten();
    let candidates = families.iter().flatten().map(|(candidate, _)| *candidate);
    let timings = candidates.zip(timings).collect();
    Ok(Measured { shape, formula: Formula::new(rig, shape), timings, footprints })
}

/// The products: those along the weight's rows and columns, the ways to its gradient, and the naive
/// ones, each by itself.
fn products(rig: &Rig, operands: &Operands) -> Result<Vec<Family>, Box<dyn Error>> {
    let (mut along, mut backward, mut naive) = (Family::new(), Family::new(), Vec::new());
    for kernel in Kernel::ALL {
        if let Some(work) = operands.library(rig, kernel)? {
            operands.check(rig, kernel, &work)?;
            let family = if kernel == Kernel::Backward { &mut backward } else { &mut along };
            family.push((Candidate::Library(kernel), work));
        }
        if let Some(work) = operands.naive(rig, kernel) {
            operands.check(rig, kernel, &work)?;
            naive.push(vec![(Candidate::Naive(kernel), work)]);
        }
    }
    backward.extend(gradients(rig, operands)?);
    Ok([along, backward].into_iter().chain(naive).collect())
}

/// Other ways to the tied weight's gradient.
fn gradients(rig: &Rig, operands: &Operands) -> Result<Family, Box<dyn Error>> {
    let gradient = operands.gradient();
    let second = rig.zeros_in_words("second gradient", gradient.shape())?;
    let product = |contributions, accumulate, gradient| {
        operands.backward(rig, contributions, accumulate, gradient).map(Work::from)
    };
    let first = || product(Contributions::Decoder, Accumulate::Overwrite, gradient);
    let buffers = [second.buffer(), gradient.buffer()];
    let sum = Dispatch::over_words(rig, ADD, gradient.buffer().size(), buffers);
    let added =
        first()?.then(product(Contributions::Encoder, Accumulate::Overwrite, &second)?).then(sum);
    let accumulated = first()?.then(product(Contributions::Encoder, Accumulate::Add, gradient)?);
    let candidates = vec![(Candidate::Added, added), (Candidate::Accumulated, accumulated)];
    for (_, work) in &candidates {
        operands.check(rig, Kernel::Backward, work)?;
    }
    Ok(candidates)
}

/// A step, checked, and what it takes besides time.
fn step(
    rig: &Rig,
    meter: Option<&Meter>,
    variant: Variant,
    start: &Start,
) -> Result<(Step, Footprint), Box<dyn Error>> {
    let snapshot = || meter.map(|meter| meter.snapshot(rig)).transpose();
    let before = snapshot()?;
    let step = Step::checked(rig, variant, start)?;
    let after = snapshot()?;
    let created =
        meter.zip(before.zip(after)).map(|(meter, (before, after))| meter.created(&before, &after));
    let footprint = Footprint {
        bytes: created.map_or_else(|| step.bytes_of_matrices(), |created| created.bytes),
        created,
        dispatches: step.work.dispatches(),
        recording: recording::seconds(rig, &step.work),
    };
    Ok((step, footprint))
}
