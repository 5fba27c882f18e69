//! Candidates warmed up, then measured in turn: medians and their spread.

use std::time::Instant;

use crate::adapter::Rig;
use crate::candidate::{Candidate, Kernel};
use crate::shape::Shape;

/// Runs in a row that have to be about as fast as the fastest before a candidate counts as warm:
/// everything is compiled and autotune has chosen.
const WARM_RUNS: usize = 3;
/// By which factor they may be slower.
const ABOUT: f64 = 1.5;
/// Runs after which a candidate is measured all the same.
const MOST_WARM_UP_RUNS: usize = 40;

/// Most repetitions between two waits.
const MOST_TIMES: usize = 4000;
/// The bytes of outputs that may be kept at a time. All of them are, until the next wait.
const MOST_OUTPUT_BYTES: u64 = 64 << 20;

/// How much time measurements may take.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Seconds that a round should at least take, by repetition, so that the wait at its end does not
    /// count.
    round: f64,
    /// Seconds for all rounds of one candidate, as far as `rounds` allows.
    candidate: f64,
    /// Fewest and most rounds.
    rounds: [usize; 2],
}

impl Effort {
    /// For numbers to rely on.
    pub const FULL: Self = Self { round: 0.02, candidate: 1.0, rounds: [7, 15] };
    /// For a first look.
    pub const QUICK: Self = Self { round: 0.005, candidate: 0.1, rounds: [3, 5] };
}

/// One kernel at one shape.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// Which kernel.
    pub kernel: Kernel,
    /// At which sizes.
    pub shape: Shape,
    /// The seconds of one run: the median of all rounds.
    pub seconds: f64,
    /// The fastest round.
    pub fastest: f64,
    /// The slowest round.
    pub slowest: f64,
    /// Whether the warm-up came to rest.
    pub settled: bool,
}

impl Measurement {
    /// 10⁹ operations a second.
    pub fn gflops(&self) -> f64 {
        self.kernel.flops(self.shape) / self.seconds / 1e9
    }
}

/// Candidates at one shape, warmed up.
pub struct Stopwatch<'a> {
    rig: &'a Rig,
    shape: Shape,
    all: Vec<Series>,
}

impl<'a> Stopwatch<'a> {
    /// Runs every candidate until it gets no faster.
    pub fn warmed_up(
        rig: &'a Rig,
        shape: Shape,
        candidates: Vec<Candidate>,
        effort: Effort,
    ) -> Result<Self, String> {
        let warm_up = |candidate| Series::warmed_up(rig, shape, candidate, effort);
        let all = candidates.into_iter().map(warm_up).collect::<Result<_, _>>()?;
        Ok(Self { rig, shape, all })
    }

    /// Times all candidates, in rounds in which they take turns, so that whatever changes in the
    /// meantime (a clock rate, another program) meets all of them.
    pub fn measure(mut self) -> Result<Vec<Measurement>, String> {
        let most = self.all.iter().map(|series| series.rounds).max().unwrap_or(0);
        for round in 0..most {
            for series in self.all.iter_mut().filter(|series| round < series.rounds) {
                let seconds = series.run(self.rig)?;
                series.samples.push(seconds);
            }
        }
        Ok(self.all.into_iter().map(|series| series.measurement(self.shape)).collect())
    }
}

/// The samples of one candidate.
struct Series {
    candidate: Candidate,
    /// Repetitions in a round.
    times: usize,
    /// Rounds to measure.
    rounds: usize,
    settled: bool,
    /// Seconds of one run.
    samples: Vec<f64>,
}

impl Series {
    /// Warms up, first one run at a time, then in the number in which runs will be measured: fusion may
    /// compile other kernels for those.
    fn warmed_up(
        rig: &Rig,
        shape: Shape,
        candidate: Candidate,
        effort: Effort,
    ) -> Result<Self, String> {
        let most = (MOST_OUTPUT_BYTES / candidate.output_bytes(shape)).max(1) as usize;
        let samples = Vec::new();
        let mut series = Self { candidate, times: 1, rounds: 0, settled: false, samples };
        let once = series.settle(rig)?;
        series.times = ((effort.round / once).ceil() as usize).clamp(1, most.min(MOST_TIMES));
        let one = series.settle(rig)?;
        let [fewest, most] = effort.rounds;
        let rounds = effort.candidate / (one * series.times as f64);
        series.rounds = (rounds as usize).clamp(fewest, most);
        Ok(series)
    }

    /// Runs until it gets no faster, and returns the seconds of the fastest run.
    fn settle(&mut self, rig: &Rig) -> Result<f64, String> {
        let (mut fastest, mut warm) = (f64::INFINITY, 0);
        for _ in 0..MOST_WARM_UP_RUNS {
            let seconds = self.run(rig)?;
            warm =
                if seconds <= ABOUT * fastest && seconds * ABOUT >= fastest { warm + 1 } else { 0 };
            fastest = fastest.min(seconds);
            if warm == WARM_RUNS {
                self.settled = true;
                return Ok(fastest);
            }
        }
        self.settled = false;
        Ok(fastest)
    }

    /// One round: the seconds of one run in it.
    fn run(&mut self, rig: &Rig) -> Result<f64, String> {
        rig.wait()?;
        let start = Instant::now();
        let outputs: Vec<_> = (0..self.times).map(|_| self.candidate.run()).collect();
        rig.wait()?;
        let seconds = start.elapsed().as_secs_f64();
        drop(outputs);
        Ok(seconds / self.times as f64)
    }

    fn measurement(mut self, shape: Shape) -> Measurement {
        self.samples.sort_by(f64::total_cmp);
        let count = self.samples.len();
        Measurement {
            kernel: self.candidate.kernel,
            shape,
            seconds: (self.samples[(count - 1) / 2] + self.samples[count / 2]) / 2.0,
            fastest: self.samples[0],
            slowest: self.samples[count - 1],
            settled: self.settled,
        }
    }
}
