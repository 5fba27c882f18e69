//! What the benchmark prints.

use std::time::Duration;

use crate::adapter::Rig;
use crate::framework;
use crate::shape::Shape;
use crate::table::{Style, Table, digits, seconds};
use crate::timing::Measurement;

/// Adapter, driver, framework.
pub fn adapter(rig: &Rig) {
    println!("adapter:    {} ({})", rig.adapter, rig.backend);
    println!("driver:     {}", rig.driver);
    println!("framework:  {}", framework::describe());
}

/// That the training step is right.
pub fn step_check(shape: Shape) {
    println!("checked:    at {shape}, both contributions are in the tied weight's gradient, and");
    println!("            the weight is one after Adam's update too");
}

/// The table of the results.
pub struct Results {
    table: Table<6>,
}

impl Results {
    /// Prints its head.
    pub fn start() -> Self {
        println!();
        println!(
            "Shape: batch x inputs x hidden. Time: the median of one run, with the fastest and"
        );
        println!("the slowest round.");
        let columns = [
            ("shape", 17),
            ("kernel", 18),
            ("time", 9),
            ("fastest", 9),
            ("slowest", 9),
            ("GFLOP/s", 9),
        ];
        Self { table: Table::start(Style::Text, 2, columns) }
    }

    /// Prints what was measured at one shape.
    pub fn shape(&self, results: &[Measurement]) {
        for (index, result) in results.iter().enumerate() {
            self.table.row([
                if index == 0 { result.shape.to_string() } else { String::new() },
                result.kernel.name().into(),
                seconds(result.seconds),
                seconds(result.fastest),
                seconds(result.slowest),
                digits(result.gflops()),
            ]);
        }
        for result in results.iter().filter(|result| !result.settled) {
            println!("{:17}{} did not come to rest in the warm-up", "", result.kernel.name());
        }
    }
}

/// How long it took until all was ready to be measured.
pub fn warm_up(duration: Duration) {
    println!();
    let duration = seconds(duration.as_secs_f64());
    println!("warm-up:    {duration}: compilation, autotune, checks");
}
