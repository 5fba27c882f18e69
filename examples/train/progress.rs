//! The progress line.

use std::error::Error;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tied_linear::Kernels;
use tied_linear::headless::Gpu;

use super::fma::Fma;

/// How often throughput is measured anew.
const INTERVAL: Duration = Duration::from_millis(300);

/// A line on a terminal: epoch, loss, images and operations a second, and the share of the ceiling. Where
/// there is no terminal, ten plain lines.
pub struct Progress {
    bar: ProgressBar,
    epochs: u32,
    /// Operations a second, at most.
    ceiling: Option<f64>,
    /// Operations of the products for one image.
    flops: f64,
    /// None before the first step has run, which takes long: its pipelines are compiled.
    since: Option<Instant>,
    images: usize,
    throughput: String,
}

impl Progress {
    /// Begins after `done` of `epochs`. `sizes` are the lengths from the pixels to the code.
    pub fn new(
        gpu: &Gpu,
        kernels: &Kernels,
        sizes: &[u32],
        [done, epochs]: [u32; 2],
        measure: bool,
    ) -> Result<Self, Box<dyn Error>> {
        let bar = ProgressBar::new(u64::from(epochs)).with_position(u64::from(done));
        let style = "{bar:24} epoch {pos}/{len}  {msg}  {elapsed} (about {eta} left)";
        bar.set_style(ProgressStyle::with_template(style)?);
        bar.reset_eta();
        let ceiling = (measure || !bar.is_hidden()).then(|| ceiling(gpu, kernels)).transpose()?;
        if let Some(ceiling) = ceiling {
            println!("ceiling: {:.1} GFLOP/s of multiply-adds in registers", ceiling / 1e9);
        }
        Ok(Self {
            bar,
            epochs,
            ceiling,
            flops: flops(sizes),
            since: None,
            images: 0,
            throughput: String::new(),
        })
    }

    /// So many images more.
    pub fn images(&mut self, count: usize) {
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return;
        };
        self.images += count;
        let elapsed = since.elapsed();
        if elapsed < INTERVAL {
            return;
        }
        let rate = self.images as f64 / elapsed.as_secs_f64();
        let flops = rate * self.flops;
        let share = self.ceiling.map(|ceiling| format!(" ({:.0} %)", 100.0 * flops / ceiling));
        let share = share.unwrap_or_default();
        self.throughput = format!("  {rate:.0} images/s  {:.1} GFLOP/s{share}", flops / 1e9);
        (self.since, self.images) = (Some(Instant::now()), 0);
    }

    /// One epoch more, with this loss at its end.
    pub fn epoch(&mut self, done: u32, loss: Option<&f32>) {
        let loss = loss.map_or(String::new(), |loss| format!("{loss:.6}"));
        let said = format!("loss {loss}{}", self.throughput);
        self.bar.set_message(said.clone());
        self.bar.set_position(u64::from(done));
        // Where no terminal shows the bar, a line now and then.
        if self.bar.is_hidden() && done.is_multiple_of(self.epochs.div_ceil(10)) {
            println!("epoch {done}/{}: {said}", self.epochs);
        }
    }

    /// Leaves the line as it is.
    pub fn finish(self) {
        self.bar.abandon();
    }
}

/// Operations of all products of a step, for one image: of each layer encode, decode, the gradient of what
/// its decoder is given and two for the weight; and that of what its encoder is given, unless that is the
/// image.
fn flops(sizes: &[u32]) -> f64 {
    let products = |(index, pair): (usize, &[u32])| {
        let count = if index == 0 { 5.0 } else { 6.0 };
        2.0 * count * f64::from(pair[0]) * f64::from(pair[1])
    };
    sizes.windows(2).enumerate().map(products).sum()
}

/// The most operations a second, of several short runs.
fn ceiling(gpu: &Gpu, kernels: &Kernels) -> Result<f64, Box<dyn Error>> {
    let fma = Fma::new(gpu, kernels)?;
    let seconds = (0..10).map(|_| fma.seconds(gpu)).collect::<Result<Vec<_>, _>>()?;
    Ok(fma.flops() / seconds.into_iter().fold(f64::INFINITY, f64::min))
}
