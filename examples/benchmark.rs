//! Measures the kernels: against what this adapter can do at most, against naive kernels, and against
//! layers whose weights are not tied. Every result is checked before it is timed.
//!
//! `cargo run --release --example benchmark`; `-- --help` lists the options.

#[path = "shared/command.rs"]
mod command;
#[path = "shared/fma.rs"]
mod fma;

#[path = "benchmark/candidates.rs"]
mod candidates;
#[path = "benchmark/ceiling.rs"]
mod ceiling;
#[path = "benchmark/clock.rs"]
mod clock;
#[path = "benchmark/cold.rs"]
mod cold;
#[path = "benchmark/cost.rs"]
mod cost;
#[path = "benchmark/host.rs"]
mod host;
#[path = "benchmark/json.rs"]
mod json;
#[path = "benchmark/labels.rs"]
mod labels;
#[path = "benchmark/memory.rs"]
mod memory;
#[path = "benchmark/operands.rs"]
mod operands;
#[path = "benchmark/options.rs"]
mod options;
#[path = "benchmark/own.rs"]
mod own;
#[path = "benchmark/recording.rs"]
mod recording;
#[path = "benchmark/reference.rs"]
mod reference;
#[path = "benchmark/report.rs"]
mod report;
#[path = "benchmark/results.rs"]
mod results;
#[path = "benchmark/rig.rs"]
mod rig;
#[path = "benchmark/roofline.rs"]
mod roofline;
#[path = "benchmark/shape.rs"]
mod shape;
#[path = "benchmark/step_check.rs"]
mod step_check;
#[path = "benchmark/steps.rs"]
mod steps;
#[path = "benchmark/table.rs"]
mod table;
#[path = "benchmark/timing.rs"]
mod timing;
#[path = "benchmark/work.rs"]
mod work;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use ceiling::Ceiling;
use cost::Kernel;
use memory::Meter;
use options::Options;
use results::Measurement;
use rig::Rig;
use timing::Effort;

fn main() -> ExitCode {
    let process_start = Instant::now();
    command::run("benchmark", |options| benchmark(process_start, options))
}

fn benchmark(process_start: Instant, options: &Options) -> Result<(), Box<dyn Error>> {
    let settings = options.settings();
    if options.cold_start {
        return cold::start(process_start, settings);
    }
    options.expect_writable_files()?;
    let rig = pollster::block_on(Rig::request(settings))?;
    let shapes = options.shapes();
    for shape in shapes {
        rig.expect_room(*shape)?;
    }
    let style = options.style();
    report::adapter(style, &rig, settings, options.quick);
    let cold = cold::measure(options)?;
    report::cold_start(style, cold);
    let (ceiling, stopwatch) = Ceiling::measure(&rig)?;
    let stopwatch = stopwatch.with_effort(if options.quick { Effort::QUICK } else { Effort::FULL });
    report::ceiling(style, ceiling, stopwatch.clock());

    let meter = Meter::new(&rig)?;
    let table = report::Kernels::start(style);
    let (mut all, mut results) = (Vec::new(), Vec::new());
    for &shape in shapes {
        let measured = candidates::measure(&rig, &stopwatch, meter.as_ref(), shape)?;
        let relate = |kernel| {
            let seconds = measured.seconds(kernel)?;
            Some(Measurement::new(&rig, kernel, shape, seconds, ceiling))
        };
        let here: Vec<_> = Kernel::ALL.into_iter().filter_map(relate).collect();
        table.shape(&here);
        results.extend(here);
        all.push(measured);
    }
    report::products(style, &all);
    report::steps(style, &all);
    report::memory(style, &all);

    let (ceiling_again, _) = Ceiling::measure(&rig)?;
    report::ceiling_again(style, ceiling, ceiling_again);
    if let Some(path) = &options.json {
        json::write(path, &rig, ceiling, cold.seconds, &results)?;
        eprintln!("results: {}", path.display());
    }
    if let Some(path) = &options.plot {
        roofline::draw(path, &rig, ceiling, &results)?;
        eprintln!("picture: {}", path.display());
    }
    report::expect_formula(&all)?;
    Ok(())
}
