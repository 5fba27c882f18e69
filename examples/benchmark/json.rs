//! The results as a JSON file.

use std::fs;
use std::path::Path;

use serde::Serialize;
use tied_linear::ElementType;

use crate::ceiling::Ceiling;
use crate::options::cannot;
use crate::results::Measurement;
use crate::rig::Rig;

/// How the kernels under test divide their work.
const STRATEGY: &str = "tiled";

#[derive(Serialize)]
struct Document {
    adapter: String,
    driver: String,
    ceiling: Ceilings,
    cold_start_seconds: f64,
    results: Vec<Entry>,
}

#[derive(Serialize)]
struct Ceilings {
    gflops: f64,
    gbytes: f64,
}

#[derive(Serialize)]
struct Entry {
    kernel: &'static str,
    batch: u32,
    inputs: u32,
    hidden: u32,
    element: String,
    strategy: &'static str,
    seconds: f64,
    gflops: f64,
    gbytes: f64,
    share_of_ceiling: f64,
}

impl From<&Measurement> for Entry {
    fn from(result: &Measurement) -> Self {
        Self {
            kernel: result.kernel.name(),
            batch: result.shape.batch,
            inputs: result.shape.inputs,
            hidden: result.shape.hidden,
            element: ElementType::F32.to_string(),
            strategy: STRATEGY,
            seconds: result.timing.seconds,
            gflops: result.gflops(),
            gbytes: result.gbytes(),
            share_of_ceiling: result.share_of_ceiling(),
        }
    }
}

/// Writes the file.
pub fn write(
    path: &Path,
    rig: &Rig,
    ceiling: Ceiling,
    cold_start_seconds: f64,
    results: &[Measurement],
) -> Result<(), String> {
    let document = Document {
        adapter: rig.gpu.adapter.get_info().name,
        driver: rig.driver(),
        ceiling: Ceilings { gflops: ceiling.gflops, gbytes: ceiling.gbytes },
        cold_start_seconds,
        results: results.iter().map(Entry::from).collect(),
    };
    let text = serde_json::to_string_pretty(&document).map_err(|error| cannot(path, &error))?;
    fs::write(path, text + "\n").map_err(|error| cannot(path, &error))
}
