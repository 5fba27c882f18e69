//! The results as a JSON file, with the names that the library's benchmark gives.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::adapter::Rig;
use crate::framework;
use crate::options::cannot;
use crate::timing::Measurement;

#[derive(Serialize)]
struct Document<'a> {
    adapter: &'a str,
    driver: &'a str,
    framework: String,
    warm_up_seconds: f64,
    results: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    kernel: &'static str,
    batch: u32,
    inputs: u32,
    hidden: u32,
    element: &'static str,
    seconds: f64,
    fastest: f64,
    slowest: f64,
    gflops: f64,
}

impl From<&Measurement> for Entry {
    fn from(result: &Measurement) -> Self {
        Self {
            kernel: result.kernel.name(),
            batch: result.shape.batch,
            inputs: result.shape.inputs,
            hidden: result.shape.hidden,
            element: "f32",
            seconds: result.seconds,
            fastest: result.fastest,
            slowest: result.slowest,
            gflops: result.gflops(),
        }
    }
}

/// Writes the file.
pub fn write(
    path: &Path,
    rig: &Rig,
    warm_up: Duration,
    results: &[Measurement],
) -> Result<(), String> {
    let document = Document {
        adapter: &rig.adapter,
        driver: &rig.driver,
        framework: framework::describe(),
        warm_up_seconds: warm_up.as_secs_f64(),
        results: results.iter().map(Entry::from).collect(),
    };
    let text = serde_json::to_string_pretty(&document).map_err(|error| cannot(path, &error))?;
    fs::write(path, text + "\n").map_err(|error| cannot(path, &error))
}
