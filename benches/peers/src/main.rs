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

use adapter::Rig;
use layer::{Start, Training};
use options::Options;
use products::Products;
use timing::Effort;

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
    report::step_check(step_check::check_step(&rig)?);

    let effort = if options.quick { Effort::QUICK } else { Effort::FULL };
    let table = report::Results::start();
    let (mut results, mut warm_up_seconds) = (Vec::new(), 0.0);
    for &shape in options.shapes() {
        let mut candidates = Products::new(&rig, shape).checked()?;
        candidates.push(Training::new(&rig, &Start::new(shape)).into());
        let measured = timing::measure(&rig, shape, candidates, effort)?;
        table.shape(&measured);
        warm_up_seconds += measured.warm_up_seconds;
        results.extend(measured.results);
    }
    report::warm_up(warm_up_seconds);
    if let Some(path) = &options.json {
        json::write(path, &rig, warm_up_seconds, &results)?;
        println!("results: {}", path.display());
    }
    Ok(())
}
