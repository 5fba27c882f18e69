//! The command line.

use std::error::Error;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

use crate::shape::Shape;

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
    /// Writes the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws the results under the roofline to this file, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
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

/// Says that `path` cannot be written.
pub fn cannot(path: &Path, error: &dyn Error) -> String {
    format!("{}: cannot be written: {error}", path.display())
}
