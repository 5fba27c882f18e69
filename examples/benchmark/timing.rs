//! Candidates measured in turn: medians, their spread, and ratios within rounds.

use std::error::Error;

use crate::clock::Clock;
use crate::rig::Rig;
use crate::work::Work;

/// Seconds from which on one run of a candidate that is no part of a closer comparison must do, as a
/// naive one of a large shape, and from which on two rounds of any.
const SLOW_ALONE: f64 = 0.5;
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
    /// Fewest and most rounds, powers of two.
    rounds: [usize; 2],
}

impl Effort {
    /// For numbers to rely on.
    pub const FULL: Self = Self { submission: 0.02, candidate: 0.4, rounds: [4, 16] };
    /// For a first look.
    pub const QUICK: Self = Self { submission: 0.005, candidate: 0.05, rounds: [2, 4] };
    /// For ceilings, of which the fastest round counts: enough to meet a quiet moment.
    pub const CEILING: Self = Self { submission: 0.02, candidate: 1.5, rounds: [8, 64] };
}

/// The seconds of one run, round by round.
#[derive(Debug, Clone, Default)]
pub struct Timing {
    rounds: Vec<(usize, f64)>,
}

impl Timing {
    /// The median of all rounds, with its spread.
    pub fn seconds(&self) -> Spread {
        Spread::of(self.rounds.iter().map(|(_, seconds)| *seconds).collect())
    }

    /// The fastest round.
    pub fn fastest(&self) -> f64 {
        self.rounds.iter().map(|(_, seconds)| *seconds).fold(f64::INFINITY, f64::min)
    }

    /// The other's time ÷ this one's, of the rounds in which both ran: above 1, this is faster.
    pub fn speedup_over(&self, other: &Self) -> Spread {
        let ratio = |(round, seconds): &(usize, f64)| {
            let (_, others) = other.rounds.iter().find(|(other, _)| other == round)?;
            Some(others / seconds)
        };
        Spread::of(self.rounds.iter().filter_map(ratio).collect())
    }
}

/// A median, and how far the values lie apart.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// Half of the interquartile range, as a share of the median; `None` for a single value.
    pub share: Option<f64>,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let at = share * (values.len() - 1) as f64;
            let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
            low + (high - low) * at.fract()
        };
        let median = quantile(0.5);
        let share = (quantile(0.75) - quantile(0.25)) / 2.0 / median;
        Self { median, share: (values.len() > 1).then_some(share) }
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

    /// Times one candidate.
    pub fn time_alone(&self, work: &Work) -> Result<Timing, Box<dyn Error>> {
        let mut family = self.prepare(&[work])?;
        for round in 0..family.rounds {
            self.take(&mut family, round, false)?;
        }
        Ok(family.candidates.swap_remove(0).timing)
    }

    /// Times all candidates, in rounds in which they take turns, so that whatever changes in the
    /// meantime (a clock rate, another program) meets all of them. Every other round goes backwards.
    ///
    /// The candidates of a family take part in the same rounds; slow families sit out some, always
    /// such that any two families share those of the slower one.
    pub fn time(&self, families: &[Vec<&Work>]) -> Result<Vec<Vec<Timing>>, Box<dyn Error>> {
        let prepared = families.iter().map(|family| self.prepare(family));
        let mut families = prepared.collect::<Result<Vec<_>, _>>()?;
        let most = families.iter().map(|family| family.rounds).max().unwrap_or(0);
        for round in 0..most {
            let count = families.len();
            for index in 0..count {
                let backwards = round % 2 == 1;
                let family = &mut families[if backwards { count - 1 - index } else { index }];
                let stride = most / family.rounds;
                if round % stride == 0 {
                    self.take(family, round, (round / stride) % 2 == 1)?;
                }
            }
        }
        let timings = |family: Family<'_>| {
            family.candidates.into_iter().map(|candidate| candidate.timing).collect()
        };
        Ok(families.into_iter().map(timings).collect())
    }

    /// Finds out how often to repeat each candidate in a submission, and in how many rounds.
    fn prepare<'w>(&self, works: &[&'w Work]) -> Result<Family<'w>, Box<dyn Error>> {
        let tries = works.iter().map(|work| Ok((*work, self.first(work)?)));
        let tries = tries.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        let [fewest, most] = self.effort.rounds;
        let submission = |(_, first): &(_, First)| f64::from(first.times) * first.seconds;
        let round: f64 = tries.iter().map(submission).sum();
        let wanted = self.effort.candidate * works.len() as f64 / round;
        let slowest = tries.iter().map(|(_, first)| first.seconds).fold(0.0, f64::max);
        let fewest = match tries.len() {
            1 if slowest > SLOW_ALONE => 1,
            _ if slowest > VERY_SLOW => 2,
            _ => fewest,
        };
        let mut rounds = most;
        while rounds > fewest && rounds as f64 > wanted {
            rounds /= 2;
        }
        let candidate = |(work, First { times, seconds })| {
            // A single round is behind the candidate.
            let rounds = if rounds == 1 { vec![(0, seconds)] } else { Vec::new() };
            Series { work, times, timing: Timing { rounds } }
        };
        Ok(Family { rounds, candidates: tries.into_iter().map(candidate).collect() })
    }

    fn first(&self, work: &Work) -> Result<First, Box<dyn Error>> {
        let wanted = self.effort.submission;
        let mut times = 1;
        loop {
            let seconds = self.clock.seconds(self.rig, work, times)?;
            if seconds >= 0.8 * wanted || times >= MOST_TIMES {
                return Ok(First { times, seconds: seconds / f64::from(times) });
            }
            // A first, short run says little of a longer one.
            let missing = (wanted / seconds.max(1e-9)).clamp(1.1, 20.0);
            times = ((f64::from(times) * missing).ceil() as u32).min(MOST_TIMES);
        }
    }

    /// One round of a family.
    fn take(
        &self,
        family: &mut Family<'_>,
        round: usize,
        backwards: bool,
    ) -> Result<(), Box<dyn Error>> {
        if family.rounds == 1 {
            return Ok(());
        }
        let count = family.candidates.len();
        for index in 0..count {
            let candidate =
                &mut family.candidates[if backwards { count - 1 - index } else { index }];
            let seconds = self.clock.seconds(self.rig, candidate.work, candidate.times)?;
            candidate.timing.rounds.push((round, seconds / f64::from(candidate.times)));
        }
        Ok(())
    }
}

/// What the first runs say of a candidate.
struct First {
    /// Repetitions that fill a submission.
    times: u32,
    /// Seconds of one run.
    seconds: f64,
}

/// Candidates that are compared with each other.
struct Family<'w> {
    /// How many to take; a power of two.
    rounds: usize,
    candidates: Vec<Series<'w>>,
}

/// The rounds of one candidate.
struct Series<'w> {
    work: &'w Work,
    /// Repetitions in a submission.
    times: u32,
    timing: Timing,
}
