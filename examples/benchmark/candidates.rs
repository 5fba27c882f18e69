//! All that is timed at one shape: prepared, checked against the reference, then measured in turn.

use std::error::Error;

use tied_linear::{Accumulate, Contributions};

use crate::cost::Kernel;
use crate::operands::Operands;
use crate::own::{ADD, Dispatch};
use crate::rig::Rig;
use crate::shape::Shape;
use crate::steps::{Start, Step, Variant};
use crate::timing::{Stopwatch, Timing};
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

/// The memory of a training step.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// The bytes of all its matrices.
    pub bytes: u64,
    /// The bytes that wgpu's allocator gave out for it, where it says.
    pub allocated: Option<u64>,
}

/// What was measured at one shape.
pub struct Measured {
    /// The sizes.
    pub shape: Shape,
    timings: Vec<(Candidate, Timing)>,
    memory: Vec<(Variant, Memory)>,
}

impl Measured {
    /// A candidate's time, unless it could not be run at this shape.
    pub fn timing(&self, candidate: Candidate) -> Option<Timing> {
        let mut all = self.timings.iter();
        all.find(|(known, _)| *known == candidate).map(|(_, timing)| *timing)
    }

    /// A kernel's time; the step's with the tied weight.
    pub fn kernel(&self, kernel: Kernel) -> Option<Timing> {
        self.timing(match kernel {
            Kernel::Step => Candidate::Step(Variant::Tied),
            _ => Candidate::Library(kernel),
        })
    }

    /// The memory of a step.
    pub fn memory(&self) -> impl Iterator<Item = (Variant, Memory)> {
        self.memory.iter().copied()
    }
}

/// Checks and times everything at this shape.
pub fn measure(
    rig: &Rig,
    stopwatch: &Stopwatch<'_>,
    shape: Shape,
) -> Result<Measured, Box<dyn Error>> {
    let operands = Operands::new(rig, shape)?;
    let mut candidates = kernels(rig, &operands)?;
    candidates.extend(gradients(rig, &operands)?);
    let mut memory = Vec::new();
    let start = Start::new(shape);
    for variant in Variant::ALL {
        let before = rig.allocated()?;
        let step = Step::checked(rig, variant, &start)?;
        let after = rig.allocated()?;
        let allocated = before.zip(after).map(|(before, after)| after.saturating_sub(before));
        memory.push((variant, Memory { bytes: step.bytes(), allocated }));
        candidates.push((Candidate::Step(variant), step.work));
    }
    let works: Vec<_> = candidates.iter().map(|(_, work)| work).collect();
    let timings = stopwatch.time(&works)?;
    let timings = candidates.iter().map(|(candidate, _)| *candidate).zip(timings).collect();
    Ok(Measured { shape, timings, memory })
}

/// The library's kernels and their naive twins.
fn kernels(rig: &Rig, operands: &Operands) -> Result<Vec<(Candidate, Work)>, Box<dyn Error>> {
    let mut candidates = Vec::new();
    for kernel in Kernel::ALL {
        let library = operands.library(rig, kernel)?.map(|work| (Candidate::Library(kernel), work));
        let naive = operands.naive(rig, kernel).map(|work| (Candidate::Naive(kernel), work));
        for (candidate, work) in library.into_iter().chain(naive) {
            operands.check(rig, kernel, &work)?;
            candidates.push((candidate, work));
        }
    }
    Ok(candidates)
}

/// Other ways to the tied weight's gradient.
fn gradients(rig: &Rig, operands: &Operands) -> Result<Vec<(Candidate, Work)>, Box<dyn Error>> {
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
