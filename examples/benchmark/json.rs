//! The results as a JSON file.

use std::fs;
use std::path::Path;

use serde::Serialize;
use tied_linear::ElementType;

use crate::ceiling::Ceiling;
use crate::options::cannot;
use crate::results::Measurement;
use crate::rig::Rig;

#[derive(Serialize)]
struct Document<'a> {
    adapter: String,
    driver: String,
    ceiling: Ceilings,
    cold_start_seconds: f64,
    results: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Ceilings {
    gflops: f64,
    gbytes: f64,
}

#[derive(Serialize)]
struct Entry<'a> {
    kernel: &'static str,
    batch: u32,
    inputs: u32,
    hidden: u32,
    element: String,
    strategy: &'a str,
    seconds: f64,
    gflops: f64,
    gbytes: f64,
    share_of_ceiling: f64,
}

impl<'a> From<&'a Measurement> for Entry<'a> {
    fn from(result: &'a Measurement) -> Self {
        Self {
            kernel: result.kernel.name(),
            batch: result.shape.batch,
            inputs: result.shape.inputs,
            hidden: result.shape.hidden,
            element: ElementType::F32.to_string(),
            strategy: &result.strategy,
            seconds: result.seconds.median,
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
