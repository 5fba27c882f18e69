//! Candidates measured in turn: medians and their spread.

use std::error::Error;

use crate::clock::Clock;
use crate::rig::Rig;
use crate::work::Work;

/// Seconds from which on a run is so slow, as only a naive one of a large shape is, that two rounds
/// must do.
const VERY_SLOW: f64 = 2.0;

/// Most repetitions in one submission.
const MOST_TIMES: u32 = 4000;

/// How much time measurements may take.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Seconds that a submission should at least take, by repetition, so that its own cost does not
    /// count.
    submission: f64,
    /// Seconds for all rounds of one candidate, as far as `rounds` allows.
    candidate: f64,
    /// Fewest and most rounds.
    rounds: [usize; 2],
}

impl Effort {
    /// For numbers to rely on.
    pub const FULL: Self = Self { submission: 0.02, candidate: 0.4, rounds: [3, 15] };
    /// For a first look.
    pub const QUICK: Self = Self { submission: 0.005, candidate: 0.05, rounds: [2, 5] };
    /// For ceilings, of which the fastest round counts: enough to meet a quiet moment.
    pub const CEILING: Self = Self { submission: 0.02, candidate: 1.5, rounds: [10, 50] };
}

/// The seconds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The median of all rounds.
    pub seconds: f64,
    /// The fastest round.
    pub fastest: f64,
    /// The interquartile range, as a share of the median.
    pub spread: f64,
}

impl Timing {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let at = share * (samples.len() - 1) as f64;
            let (low, high) = (samples[at.floor() as usize], samples[at.ceil() as usize]);
            low + (high - low) * at.fract()
        };
        let seconds = quantile(0.5);
        Self {
            seconds,
            fastest: quantile(0.0),
            spread: (quantile(0.75) - quantile(0.25)) / seconds,
        }
    }
}

/// What everything is timed with.
pub struct Stopwatch<'a> {
    rig: &'a Rig,
    clock: Clock,
    effort: Effort,
}

impl<'a> Stopwatch<'a> {
    /// A stopwatch.
    pub fn new(rig: &'a Rig, clock: Clock, effort: Effort) -> Self {
        Self { rig, clock, effort }
    }

    /// The same with other effort.
    pub fn with_effort(self, effort: Effort) -> Self {
        Self { effort, ..self }
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Times all candidates, in rounds in which they take turns, so that whatever changes in the
    /// meantime (a clock rate, another program) meets all of them. Slow ones sit out some rounds.
    pub fn time(&self, candidates: &[&Work]) -> Result<Vec<Timing>, Box<dyn Error>> {
        let mut series = Vec::new();
        for work in candidates {
            series.push(self.first_round(work)?);
        }
        let most = series.iter().map(|series| series.rounds).max().unwrap_or(0);
        for round in 1..most {
            for (work, series) in candidates.iter().zip(&mut series) {
                // As many rounds as the series is to have, spread evenly over all.
                let taken_by = |round: usize| (round * series.rounds).div_ceil(most);
                if taken_by(round + 1) > taken_by(round) {
                    let seconds = self.clock.seconds(self.rig, work, series.times)?;
                    series.samples.push(seconds / f64::from(series.times));
                }
            }
        }
        Ok(series.into_iter().map(|series| Timing::of(series.samples)).collect())
    }

    /// Finds out how often to repeat `work` in a submission, and in how many rounds.
    fn first_round(&self, work: &Work) -> Result<Series, Box<dyn Error>> {
        let wanted = self.effort.submission;
        let mut times = 1;
        loop {
            let seconds = self.clock.seconds(self.rig, work, times)?;
            if seconds >= 0.8 * wanted || times >= MOST_TIMES {
                let [fewest, most] = self.effort.rounds;
                let fewest = if seconds > VERY_SLOW { 2 } else { fewest };
                let rounds = ((self.effort.candidate / seconds) as usize).clamp(fewest, most);
                return Ok(Series { times, rounds, samples: vec![seconds / f64::from(times)] });
            }
            // A first, short run says little of a longer one.
            let missing = (wanted / seconds.max(1e-9)).clamp(1.1, 20.0);
            times = ((f64::from(times) * missing).ceil() as u32).min(MOST_TIMES);
        }
    }
}

/// The samples of one candidate.
struct Series {
    /// Repetitions in a submission.
    times: u32,
    /// Samples to take.
    rounds: usize,
    /// Seconds of one run.
    samples: Vec<f64>,
}
