//! The command line.

use std::error::Error;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use tied_linear::Choice;

use crate::rig::Settings;
use crate::shape::Shape;
use crate::table::Style;

/// Measures the kernels against this adapter's own ceilings, naive kernels and untied layers.
#[derive(Debug, Parser)]
#[command(name = "benchmark")]
pub struct Options {
    /// Batch x inputs x hidden, as in 256x784x256, instead of the default grid; repeatable
    #[arg(long = "shape", value_name = "BxIxH")]
    shapes: Vec<Shape>,
    /// Few repetitions: faster, and less sure
    #[arg(long)]
    pub quick: bool,
    /// The runtime checks in the shaders, the library's and the benchmark's own
    #[arg(long, value_enum, default_value_t = Checks::On)]
    pub checks: Checks,
    /// A strategy, such as tile_64, and after a slash into how many parts it splits a reduction, for
    /// every product that it can compute, instead of the library's choices
    #[arg(long, value_name = "NAME[/PARTS]", value_parser = choice)]
    pub strategy: Option<Choice>,
    /// Prints tables and all else as Markdown
    #[arg(long)]
    pub markdown: bool,
    /// Writes the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws the results under the roofline to this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Only takes a first training step, and prints how long that took: what the benchmark asks of
    /// a process of its own
    #[arg(long, hide = true)]
    pub cold_start: bool,
}

/// The setting of `KernelOptions::runtime_checks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Checks {
    /// As the library does by default
    On,
    /// Without index clamps, loop bounds and division guards
    Off,
}

impl Options {
    /// The shapes to measure.
    pub fn shapes(&self) -> &[Shape] {
        if self.shapes.is_empty() { &Shape::GRID } else { &self.shapes }
    }

    /// How the library's kernels are made.
    pub fn settings(&self) -> Settings {
        Settings { runtime_checks: self.checks == Checks::On, forced: self.strategy }
    }

    /// How the output looks.
    pub fn style(&self) -> Style {
        if self.markdown { Style::Markdown } else { Style::Text }
    }

    /// Fails if a file cannot be written: now, rather than after the measurements.
    pub fn expect_writable_files(&self) -> Result<(), Box<dyn Error>> {
        for path in [&self.json, &self.plot].into_iter().flatten() {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|e| cannot(path, &e))?;
        }
        Ok(())
    }
}

/// A strategy's name, and after a slash a number of parts.
fn choice(text: &str) -> Result<Choice, String> {
    let (name, parts) = text.split_once('/').unwrap_or((text, "1"));
    let parts = parts.parse().ok().filter(|parts| *parts > 0);
    let parts = parts.ok_or("after the slash, a number of parts is expected, as in tile_64/3")?;
    Ok(Choice { strategy: name.parse()?, parts })
}

/// Says that `path` cannot be written.
pub fn cannot(path: &Path, error: &dyn Error) -> String {
    format!("{}: cannot be written: {error}", path.display())
}
