//! The command line.

use std::error::Error;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::shape::Shape;

/// What is measured where nobody says otherwise.
const SHAPES: [Shape; 2] = [Shape::new(256, 784, 256), Shape::new(512, 1024, 1024)];

/// Measures tied linear layers on Burn, on the adapter that tied-linear would take.
#[derive(Debug, Parser)]
#[command(name = "peers")]
pub struct Options {
    /// Batch x inputs x hidden, instead of 256x784x256 and 512x1024x1024; repeatable
    #[arg(long = "shape", value_name = "BxIxH")]
    shapes: Vec<Shape>,
    /// Few repetitions: faster, and less sure
    #[arg(long)]
    pub quick: bool,
    /// Writes the results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Options {
    /// The shapes to measure.
    pub fn shapes(&self) -> &[Shape] {
        if self.shapes.is_empty() { &SHAPES } else { &self.shapes }
    }

    /// Fails if the file cannot be written: now, rather than after the measurements.
    pub fn expect_writable_file(&self) -> Result<(), String> {
        let Some(path) = &self.json else { return Ok(()) };
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map(|_| ()).map_err(|error| cannot(path, &error))
    }
}

/// Says that `path` cannot be written.
pub fn cannot(path: &Path, error: &dyn Error) -> String {
    format!("{}: cannot be written: {error}", path.display())
}
