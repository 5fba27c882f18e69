//! What the benchmark prints.

use crate::candidates::{Candidate, Measured};
use crate::ceiling::Ceiling;
use crate::clock::Clock;
use crate::cold::{self, ColdStart};
use crate::cost::Kernel;
use crate::memory::Part;
use crate::results::Measurement;
use crate::rig::{Rig, Settings};
use crate::steps::Variant;
use crate::table::{Style, Table, bytes, digits, grouped, percent, ratio, seconds};
use crate::timing::Spread;

/// By how much the ceilings may differ between the beginning and the end of a quiet run.
const QUIET: f64 = 0.1;

/// Adapter, driver, settings.
pub fn adapter(style: Style, rig: &Rig, settings: Settings, is_quick: bool) {
    let info = rig.gpu.adapter.get_info();
    style.fact("adapter", &[format!("{} ({})", info.name, info.backend)]);
    style.fact("driver", &[rig.driver()]);
    if info.device_type == wgpu::DeviceType::Cpu {
        style.fact("processor", &[processor()]);
    }
    let words = if rig.kernels.reads_in_64_bits() { "two 64-bit integers" } else { "four f32" };
    style.fact("loads", &[format!("16 bytes as {words}, where shapes allow")]);
    let checks = if settings.runtime_checks { "on" } else { "off" };
    style.fact("checks", &[format!("{checks}, in the shaders")]);
    let strategy = match settings.forced {
        None => "the library's choices".into(),
        Some(choice) => format!("{choice}, for every product that it can compute"),
    };
    style.fact("strategy", &[strategy]);
    if is_quick {
        style.fact("quick", &["few repetitions, so less sure".into()]);
    }
}

/// What there is of this machine for a driver that runs shaders on the CPU.
fn processor() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let vectors = match (is_x86_feature_detected!("avx512vl"), is_x86_feature_detected!("avx2")) {
        (true, _) => "AVX-512",
        (false, true) => "AVX2, no AVX-512",
        (false, false) => "no AVX2",
    };
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    let vectors = std::env::consts::ARCH;
    format!("threads: {threads}; {vectors}")
}

/// How long it takes to get going.
pub fn cold_start(style: Style, cold: ColdStart) {
    let stages = cold.stages;
    let processes = match cold.processes {
        1 => "one process".into(),
        many => format!("the median of {many} processes"),
    };
    style.fact(
        "cold start",
        &[
            format!(
                "{} from the start of a process to the loss of its first step at {}",
                seconds(cold.seconds),
                cold::SHAPE
            ),
            format!("({processes} without a cache of shaders: device {},", seconds(stages.device)),
            format!(
                "buffers and pipelines {}, first step {}, with what is compiled only then)",
                seconds(stages.prepared - stages.device),
                seconds(stages.first - stages.prepared)
            ),
        ],
    );
}

/// What the adapter can do, and how that was timed.
pub fn ceiling(style: Style, ceiling: Ceiling, clock: &Clock) {
    style.fact("clock", &[clock.describe()]);
    style.fact(
        "ceiling",
        &[format!(
            "{} GFLOP/s (multiply-adds on registers), {} GB/s (a copy of {})",
            digits(ceiling.gflops),
            digits(ceiling.gbytes),
            bytes(ceiling.copied)
        )],
    );
}

/// The ceilings once more: whether the machine did something else in between.
pub fn ceiling_again(style: Style, before: Ceiling, after: Ceiling) {
    let mut lines = vec![format!(
        "At the end, the ceiling was {} GFLOP/s and {} GB/s.",
        digits(after.gflops),
        digits(after.gbytes)
    )];
    let changed = |before: f64, after: f64| (after / before - 1.0).abs() > QUIET;
    if changed(before.gflops, after.gflops) || changed(before.gbytes, after.gbytes) {
        let warning = [
            "That is not what it was at the beginning: something else used the adapter, or its",
            "clock rate changed. Shares of the ceiling are not to be relied on.",
        ];
        lines.extend(warning.map(String::from));
    }
    style.text(&lines);
}

/// The table of the kernels.
pub struct Kernels {
    table: Table<8>,
}

impl Kernels {
    /// Prints its head.
    pub fn start(style: Style) -> Self {
        style.section(
            "Kernels",
            &[
                "Shape: batch x inputs x hidden. Step: forward with ReLU, squared error, backward, Adam.",
                "Time: the median of rounds in which all candidates take turns, ± half the interquartile",
                "range. GB/s: each operand moved once. Of ceiling: of the lesser of the compute ceiling",
                "and what the bandwidth allows; above 100 % where operands stay in a cache.",
            ],
        );
        let table = Table::start(
            style,
            3,
            [
                ("shape", 15),
                ("kernel", 15),
                ("strategy", 28),
                ("time", 8),
                ("±", 8),
                ("GFLOP/s", 9),
                ("GB/s", 8),
                ("of ceiling", 12),
            ],
        );
        Self { table }
    }

    /// Prints what was measured at one shape.
    pub fn shape(&self, results: &[Measurement]) {
        for (index, result) in results.iter().enumerate() {
            self.table.row([
                if index == 0 { result.shape.to_string() } else { String::new() },
                result.kernel.name().into(),
                if result.kernel == Kernel::Step {
                    "as above".into()
                } else {
                    result.strategy.clone()
                },
                seconds(result.seconds.median),
                result.seconds.share.map_or(String::new(), percent),
                digits(result.gflops()),
                digits(result.gbytes()),
                percent(result.share_of_ceiling()),
            ]);
        }
    }
}

/// The table of the products' ratios.
pub fn products(style: Style, all: &[Measured]) {
    style.section(
        "Products, as ratios",
        &[
            "Throughput ÷ throughput: above 1, the first is faster. Of each round, then the median ± half",
            "the interquartile range. Naive: one invocation an output, nothing shared. dW: the tied",
            "weight's gradient (backward), one dispatch for both contributions, or (a) two products into",
            "two buffers and their sum, or (b) two products of which the second adds to the first.",
        ],
    );
    let library = Candidate::Library;
    let (encode, decode, gradient) =
        (library(Kernel::Encode), library(Kernel::Decode), library(Kernel::Backward));
    let naive = Candidate::Naive;
    let columns = [
        (("decode ÷ encode", 15), decode, encode),
        (("encode ÷ naive", 16), encode, naive(Kernel::Encode)),
        (("decode ÷ naive", 16), decode, naive(Kernel::Decode)),
        (("dW ÷ naive", 13), gradient, naive(Kernel::Backward)),
        (("dW ÷ (a)", 12), gradient, Candidate::Added),
        (("dW ÷ (b)", 12), gradient, Candidate::Accumulated),
    ];
    let [c0, c1, c2, c3, c4, c5] = columns.map(|(head, ..)| head);
    let table = Table::start(style, 1, [("shape", 15), c0, c1, c2, c3, c4, c5]);
    for measured in all {
        let [c0, c1, c2, c3, c4, c5] = columns.map(|(_, first, second)| {
            measured.speedup(first, second).map_or(String::new(), ratio_with_spread)
        });
        table.row([measured.shape.to_string(), c0, c1, c2, c3, c4, c5]);
    }
}

/// The table of tied and untied steps.
pub fn steps(style: Style, all: &[Measured]) {
    style.section(
        "A training step: tied against two weights, and against a transposed copy",
        &[
            "Speed: throughput of the tied step ÷ that of one with two weights of their own (untied), and",
            "of one that transposes the weight into a copy each time (copied); above 1, tied is faster.",
            "Memory: bytes of the tied step's buffers ÷ theirs; below 1, tied is smaller. Recording: the",
            "host's time for recording the tied step's dispatches into a pass, without the submission.",
        ],
    );
    let table = Table::start(
        style,
        1,
        [
            ("shape", 15),
            ("speed ÷ untied", 16),
            ("÷ copied", 13),
            ("memory ÷ untied", 17),
            ("÷ copied", 10),
            ("dispatches", 12),
            ("recording", 11),
        ],
    );
    for measured in all {
        let speed = |other| {
            let [tied, other] = [Variant::Tied, other].map(Candidate::Step);
            measured.speedup(tied, other).map_or(String::new(), ratio_with_spread)
        };
        let Some(tied) = measured.footprint(Variant::Tied) else { continue };
        let memory = |other| {
            let other = measured.footprint(other);
            other.map_or(String::new(), |other| ratio(tied.bytes as f64 / other.bytes as f64))
        };
        table.row([
            measured.shape.to_string(),
            speed(Variant::Untied),
            speed(Variant::Copied),
            memory(Variant::Untied),
            memory(Variant::Copied),
            tied.dispatches.to_string(),
            seconds(tied.recording),
        ]);
    }
}

/// The table of the tied step's memory.
pub fn memory(style: Style, all: &[Measured]) {
    style.section(
        "Memory of a tied training step",
        &[
            "Created: all buffers that layer, gradients, optimizer and step made, counted in the list of",
            "allocations of wgpu's allocator. Formula: 4·P for the parameters, P of them, 4·P for their",
            "gradients, 8·P for Adam's moments (and 16 bytes for every 1,024 values begun, which are made",
            "full), 4·batch·(2·hidden + inputs) for the code and two deltas, partial sums of a split weight",
            "gradient (scratch), and uniforms and what the loss is the sum of (small).",
        ],
    );
    let parts = [
        ("parameters", Part::Parameters),
        ("gradients", Part::Gradients),
        ("moments", Part::Moments),
        ("activations", Part::Activations),
        ("scratch", Part::Scratch),
        ("small", Part::Small),
    ];
    let [p0, p1, p2, p3, p4, p5] = parts.map(|(name, _)| (name, name.len().max(7) + 2));
    let table = Table::start(
        style,
        1,
        [("shape", 15), ("created, bytes", 14), ("formula, bytes", 16), p0, p1, p2, p3, p4, p5],
    );
    for measured in all {
        let formula = &measured.formula;
        let created = measured.footprint(Variant::Tied).and_then(|tied| tied.created);
        let [p0, p1, p2, p3, p4, p5] = parts.map(|(_, part)| bytes(formula.bytes_of(part)));
        table.row([
            measured.shape.to_string(),
            created.map_or("not listed".into(), |created| grouped(created.bytes)),
            grouped(formula.bytes()),
            p0,
            p1,
            p2,
            p3,
            p4,
            p5,
        ]);
    }
}

/// Fails where the tied step's buffers are not those of the formula.
pub fn expect_formula(all: &[Measured]) -> Result<(), String> {
    for measured in all {
        let (shape, formula) = (measured.shape, &measured.formula);
        let created = measured.footprint(Variant::Tied).and_then(|tied| tied.created);
        if let Some(created) = created.filter(|created| !created.is(formula)) {
            return Err(format!(
                "the step at {shape} has {} buffers of {} bytes together; the formula says {} of {}",
                created.buffers,
                grouped(created.bytes),
                formula.buffers(),
                grouped(formula.bytes())
            ));
        }
    }
    Ok(())
}

/// A ratio and its spread.
fn ratio_with_spread(value: Spread) -> String {
    match value.share {
        Some(share) => format!("{} ±{:.0} %", ratio(value.median), 100.0 * share),
        None => ratio(value.median),
    }
}
