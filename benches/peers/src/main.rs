//! The benchmark's products and its training step, on Burn: the same shapes, the same adapter, the same
//! JSON. Every result is checked before it is timed.
//!
//! `cargo run --release`; `-- --help` lists the options.

#[path = "../../../examples/shared/command.rs"]
mod command;
#[allow(dead_code, reason = "shared with the library's benchmark, which uses all of it")]
#[path = "../../../examples/benchmark/reference.rs"]
mod reference;
#[allow(dead_code, reason = "shared with the library's benchmark, which uses all of it")]
#[path = "../../../examples/benchmark/shape.rs"]
mod shape;
#[allow(dead_code, reason = "shared with the library's benchmark, which uses all of it")]
#[path = "../../../examples/benchmark/table.rs"]
mod table;

mod adapter;
mod candidate;
mod framework;
mod host;
mod json;
mod layer;
mod options;
mod products;
mod report;
mod step_check;
mod step_reference;
mod timing;

use std::error::Error;
use std::panic;
use std::process::ExitCode;
use std::time::Instant;

use adapter::Rig;
use layer::{Start, Training};
use options::Options;
use products::Products;
use timing::{Effort, Stopwatch};

fn main() -> ExitCode {
    // Burn panics where it cannot go on: in one line too.
    panic::set_hook(Box::new(|panic| {
        let said = panic.payload_as_str().and_then(|text| text.lines().next());
        eprintln!("peers: Burn panicked: {}", said.unwrap_or("it did not say why"));
    }));
    command::run("peers", benchmark)
}

fn benchmark(options: &Options) -> Result<(), Box<dyn Error>> {
    options.expect_writable_file()?;
    let rig = Rig::request()?;
    report::adapter(&rig);
    let start = Instant::now();
    report::step_check(step_check::check_step(&rig)?);
    let mut warm_up = start.elapsed();

    let effort = if options.quick { Effort::QUICK } else { Effort::FULL };
    let table = report::Results::start();
    let mut results = Vec::new();
    for &shape in options.shapes() {
        let start = Instant::now();
        let mut candidates = Products::new(&rig, shape).checked()?;
        candidates.push(Training::new(&rig, &Start::new(shape)).into());
        let stopwatch = Stopwatch::warmed_up(&rig, shape, candidates, effort)?;
        warm_up += start.elapsed();
        let here = stopwatch.measure()?;
        table.shape(&here);
        results.extend(here);
    }
    report::warm_up(warm_up);
    if let Some(path) = &options.json {
        json::write(path, &rig, warm_up, &results)?;
        println!("results: {}", path.display());
    }
    Ok(())
}
