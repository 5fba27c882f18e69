//! What the benchmark prints.

use crate::candidates::{Candidate, Measured};
use crate::ceiling::Ceiling;
use crate::clock::Clock;
use crate::cold::{self, ColdStart};
use crate::cost::Kernel;
use crate::results::Measurement;
use crate::rig::Rig;
use crate::steps::Variant;
use crate::table::{Table, bytes, digits, percent, ratio, seconds, times};

/// By how much the ceilings may differ between the beginning and the end of a quiet run.
const QUIET: f64 = 0.1;

/// Adapter, driver, checks.
pub fn adapter(rig: &Rig) {
    let info = rig.gpu.adapter.get_info();
    println!("adapter:    {} ({})", info.name, info.backend);
    println!("driver:     {}", rig.driver());
    let checks = if rig.kernels.options().runtime_checks { "on" } else { "off" };
    println!("checks:     {checks}");
}

/// How long it took to get going.
pub fn cold_start(cold: ColdStart) {
    println!(
        "cold start: {} from process start to the loss of the first step at {}",
        seconds(cold.first),
        cold::SHAPE
    );
    println!(
        "            (device {}, buffers and pipelines {}, first step {}, late compilation included)",
        seconds(cold.device),
        seconds(cold.prepared - cold.device),
        seconds(cold.first - cold.prepared)
    );
}

/// What the adapter can do, and how that was timed.
pub fn ceiling(ceiling: Ceiling, clock: &Clock) {
    println!("clock:      {}", clock.describe());
    println!(
        "ceiling:    {} GFLOP/s (multiply-adds on registers), {} GB/s (a copy of {})",
        digits(ceiling.gflops),
        digits(ceiling.gbytes),
        bytes(ceiling.copied)
    );
}

/// The ceilings once more: whether the machine did something else in between.
pub fn ceiling_again(before: Ceiling, after: Ceiling) {
    println!();
    println!(
        "At the end, the ceiling was {} GFLOP/s and {} GB/s.",
        digits(after.gflops),
        digits(after.gbytes)
    );
    let changed = |before: f64, after: f64| (after / before - 1.0).abs() > QUIET;
    if changed(before.gflops, after.gflops) || changed(before.gbytes, after.gbytes) {
        println!(
            "That is not what it was at the beginning: something else used the adapter, or its"
        );
        println!("clock rate changed. Shares of the ceiling are not to be relied on.");
    }
}

/// The table of the kernels.
pub struct Kernels {
    table: Table<9>,
}

impl Kernels {
    /// Prints its head.
    pub fn start() -> Self {
        println!();
        println!("Kernels, and the training step (forward, squared error, backward, Adam).");
        println!("Shape: batch x inputs x hidden. Time: the median, with the interquartile range.");
        println!(
            "GB/s: each operand once. Of ceiling: of the lesser of the compute ceiling and what"
        );
        println!("the bandwidth allows; above 100 % where operands stay in a cache. Naive: one");
        println!("invocation an output.");
        println!();
        let table = Table::start(
            2,
            [
                ("shape", 17),
                ("kernel", 15),
                ("time", 9),
                ("spread", 8),
                ("GFLOP/s", 9),
                ("GB/s", 7),
                ("of ceiling", 12),
                ("naive", 10),
                ("speedup", 9),
            ],
        );
        Self { table }
    }

    /// Prints what was measured at one shape, and how that relates to the ceiling.
    pub fn shape(&self, measured: &Measured, results: &[Measurement]) {
        for (index, result) in results.iter().enumerate() {
            let naive = measured.timing(Candidate::Naive(result.kernel));
            self.table.row([
                if index == 0 { result.shape.to_string() } else { String::new() },
                result.kernel.name().into(),
                seconds(result.timing.seconds),
                percent(result.timing.spread),
                digits(result.gflops()),
                digits(result.gbytes()),
                percent(result.share_of_ceiling()),
                naive.map_or(String::new(), |naive| seconds(naive.seconds)),
                naive.map_or(String::new(), |naive| times(naive.seconds / result.timing.seconds)),
            ]);
        }
        let gflops = |wanted| {
            let mut all = results.iter();
            all.find(|result| result.kernel == wanted).map(Measurement::gflops)
        };
        if let Some((decode, encode)) = gflops(Kernel::Decode).zip(gflops(Kernel::Encode)) {
            println!("{:17}decode ÷ encode throughput: {}", "", ratio(decode / encode));
        }
    }
}

/// The table of the weight's gradient.
pub fn gradients(all: &[Measured]) {
    println!();
    println!(
        "The tied weight's gradient: one dispatch for both contributions, against two products"
    );
    println!("into two buffers and their sum, and against two products of which the second adds.");
    println!();
    let table = Table::start(
        1,
        [
            ("shape", 17),
            ("one dispatch", 14),
            ("two and sum", 14),
            ("", 8),
            ("second adds", 14),
            ("", 8),
        ],
    );
    for measured in all {
        let timing = |candidate| measured.timing(candidate).map(|timing| timing.seconds);
        let fused = timing(Candidate::Library(Kernel::Backward));
        let added = timing(Candidate::Added);
        let accumulated = timing(Candidate::Accumulated);
        if let (Some(fused), Some(added), Some(accumulated)) = (fused, added, accumulated) {
            table.row([
                measured.shape.to_string(),
                seconds(fused),
                seconds(added),
                times(added / fused),
                seconds(accumulated),
                times(accumulated / fused),
            ]);
        }
    }
}

/// The table of tied and untied steps.
pub fn ties(all: &[Measured]) {
    println!();
    println!(
        "A training step with the tied weight, with two weights of their own, and with a copy of"
    );
    println!(
        "the weight that every step transposes anew. Memory: all matrices of the step. Formula:"
    );
    println!(
        "4 bytes for each value, gradient and two moments of a parameter (W, twice if untied, b"
    );
    println!(
        "and c), for the copy, and for X, H, Y, dA and dZ. Allocated: by wgpu's allocator, with"
    );
    println!("uniforms and what padding there is.");
    println!();
    let table = Table::start(
        2,
        [
            ("shape", 17),
            ("weight", 17),
            ("time", 9),
            ("spread", 8),
            ("", 8),
            ("memory", 10),
            ("", 8),
            ("÷ formula", 11),
            ("allocated", 11),
        ],
    );
    for measured in all {
        let tied = measured.timing(Candidate::Step(Variant::Tied));
        let tied_memory = measured.memory().next();
        for (variant, memory) in measured.memory() {
            let timing = measured.timing(Candidate::Step(variant));
            let (Some(timing), Some(tied), Some((_, tied_memory))) = (timing, tied, tied_memory)
            else {
                continue;
            };
            let first = variant == Variant::Tied;
            let relative = |factor| if first { String::new() } else { times(factor) };
            let formula = variant.formula(measured.shape) as f64;
            table.row([
                if first { measured.shape.to_string() } else { String::new() },
                variant.name().into(),
                seconds(timing.seconds),
                percent(timing.spread),
                relative(timing.seconds / tied.seconds),
                bytes(memory.bytes),
                relative(memory.bytes as f64 / tied_memory.bytes as f64),
                format!("{:.4}", memory.bytes as f64 / formula),
                memory.allocated.map_or("unknown".into(), bytes),
            ]);
        }
    }
}
