//! Trains a tied autoencoder on images, on whatever adapter is there, and shows what it learned.
//!
//! `cargo run --release --example train` takes the 1,797 digits of 8×8 pixels that the crate
//! smartcore embeds and the linear layer 64→10, whose optimum is known: the principal components.
//! `-- --help` lists the options.

#[path = "shared/command.rs"]
mod command;
#[path = "train/data.rs"]
mod data;
#[path = "train/pictures.rs"]
mod pictures;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tied_linear::headless::Gpu;
use tied_linear::kernels::AdamSettings;
use tied_linear::{
    Activation, Gradients, KernelOptions, Kernels, Loss, Matrix, Optimizer, Tape, TiedLinear,
    TiedLinearOptions, TrainingOptions, TrainingStep, wgpu,
};

/// Trains a tied autoencoder on images: one weight, used to encode and, transposed, to decode.
#[derive(Debug, Parser)]
#[command(name = "train")]
struct Options {
    /// Length of a code
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    hidden: u32,
    /// The encoder's activation: identity, relu, sigmoid, tanh, gelu-tanh, gelu-erf or silu
    #[arg(long, default_value_t = Activation::Identity)]
    activation: Activation,
    /// What reconstructions are measured by
    #[arg(long, value_enum, default_value_t = LossName::SquaredError)]
    loss: LossName,
    /// Passes over the images
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    epochs: u32,
    /// Images in a step
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Adam's learning rate at the start; it falls to zero along a cosine
    #[arg(long, default_value_t = 0.01, value_parser = learning_rate, allow_hyphen_values = true)]
    lr: f64,
    /// Seed of the initial weight and of the order of the images
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for the pictures
    #[arg(long, default_value = "target/train")]
    out: PathBuf,
    /// Folder of IDX files (plain or .gz) with images, instead of the digits
    #[arg(long)]
    data: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LossName {
    /// Of images from which the mean image is subtracted; no biases where the layer is linear
    SquaredError,
    /// Of images as they are, pixels being probabilities
    CrossEntropy,
}

/// The eigenvalues of a larger matrix take minutes.
const MOST_PIXELS_FOR_PCA: usize = 2048;

fn learning_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err("a number above 0 is expected".into()),
    }
}

fn main() -> ExitCode {
    command::run("train", train)
}

fn train(options: &Options) -> Result<(), Box<dyn Error>> {
    // Now, rather than after the training.
    std::fs::create_dir_all(&options.out)
        .map_err(|error| format!("{}: cannot be created: {error}", options.out.display()))?;
    let images = match &options.data {
        None => data::digits(),
        Some(folder) => data::idx_folder(folder)?,
    };
    let width = images.width * images.height;
    let squared = options.loss == LossName::SquaredError;
    let mean = if squared { data::mean(&images) } else { vec![0.0; width] };
    let pixels = data::centred(&images.pixels, &mean);

    let gpu = Gpu::request_blocking()?;
    let kernels = Kernels::new(&gpu.device, KernelOptions::default())?;
    let linear = squared && options.activation == Activation::Identity;
    let layer = TiedLinearOptions::new(width as u32, options.hidden)
        .with_biases(!linear, !linear)
        .with_activations(options.activation, Activation::Identity)
        .with_seed(options.seed);
    let layer = TiedLinear::new(&kernels, &layer)?;
    println!("adapter: {}", gpu.describe());
    println!("images: {} of {}x{}, {}", images.count, images.width, images.height, images.source);
    describe_parameters(&layer);

    let losses = Training { gpu: &gpu, layer: &layer, pixels: &pixels, width, options }.run()?;
    let reconstructed = reconstruct(&gpu, &layer, &pixels, width, options.batch)?;

    let mut floor = None;
    if squared {
        let error = squared_error(&pixels, &reconstructed) / images.count as f64;
        println!("squared error per image: {error:.6}");
        if width > MOST_PIXELS_FOR_PCA {
            println!("no PCA optimum: images of {width} pixels are too large to compute it here");
        } else {
            let optimum = data::pca_residual(&pixels, width, options.hidden as usize);
            println!("PCA optimum at {} components: {optimum:.6}", options.hidden);
            if optimum > 0.0 {
                println!("excess over the PCA optimum: {:.3e}", (error - optimum) / optimum);
                // The loss is a mean over pixels, too.
                floor = Some(optimum / width as f64);
            } else if optimum == 0.0 {
                println!("a linear code this wide loses nothing, so there is no excess to state");
            }
        }
    } else if let Some(loss) = losses.last() {
        println!("cross-entropy per pixel: {loss:.6}");
    }
    save_pictures(
        &gpu,
        &layer,
        &images,
        &Shown { mean, reconstructed, losses, floor, squared },
        options,
    )
}

fn describe_parameters(layer: &TiedLinear) {
    let tied = layer.parameters().count();
    let untied = tied + layer.weight().matrix().len();
    println!(
        "parameters: {tied} tied ({} bytes), {untied} untied ({} bytes)",
        tied * 4,
        untied * 4
    );
}

/// What a training run needs.
struct Training<'a> {
    gpu: &'a Gpu,
    layer: &'a TiedLinear,
    /// All images, one row each.
    pixels: &'a [f32],
    width: usize,
    options: &'a Options,
}

impl Training<'_> {
    /// Trains, and returns the loss of each step.
    fn run(&self) -> Result<Vec<f32>, Box<dyn Error>> {
        let Self { gpu, layer, options, .. } = self;
        let count = self.pixels.len() / self.width;
        let batch = (options.batch as usize).min(count);
        let settings = AdamSettings::adam(options.lr);
        let mut optimizer = Optimizer::new(layer.kernels(), &layer.parameters(), settings)?;

        // Where the images do not divide into whole batches, a smaller step takes the rest.
        let gradients = Gradients::new(layer)?;
        let mut steps = vec![Step::new(self, &optimizer, &gradients, batch)?];
        if !count.is_multiple_of(batch) {
            steps.push(Step::new(self, &optimizer, &gradients, count % batch)?);
        }
        let steps_in_epoch = count.div_ceil(batch);
        // The losses of an epoch stay on the GPU until it ends.
        let epoch_losses = layer.kernels().zeros("epoch losses", 1, steps_in_epoch as u32)?;

        let mut order: Vec<usize> = (0..count).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let mut losses = Vec::new();
        let bar = ProgressBar::new(u64::from(options.epochs));
        let style = "{bar:40} epoch {pos}/{len}  loss {msg}  {elapsed} (about {eta} left)";
        bar.set_style(ProgressStyle::with_template(style)?);
        for epoch in 0..options.epochs {
            let progress = f64::from(epoch) / f64::from(options.epochs);
            let rate = options.lr * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
            optimizer.set_learning_rate(&gpu.device, &gpu.queue, rate)?;
            order.shuffle(&mut rng);
            for (index, chosen) in (0..).zip(order.chunks(batch)) {
                let step = if chosen.len() == batch { &steps[0] } else { &steps[1] };
                let rows = chosen.iter().flat_map(|&image| self.row(image));
                let values: Vec<f32> = rows.copied().collect();
                step.input.write(&gpu.device, &gpu.queue, &values)?;
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                step.training.record(&mut encoder.begin_compute_pass(&Default::default()));
                let loss = step.training.loss().buffer();
                encoder.copy_buffer_to_buffer(loss, 0, epoch_losses.buffer(), index * 4, 4);
                gpu.queue.submit([encoder.finish()]);
            }
            losses.extend(epoch_losses.read_blocking(&gpu.device, &gpu.queue)?);
            bar.set_message(losses.last().map_or(String::new(), |loss| format!("{loss:.6}")));
            bar.inc(1);
            // Where no terminal shows the bar, a line now and then.
            if bar.is_hidden() && (epoch + 1) % options.epochs.div_ceil(10) == 0 {
                println!("epoch {}/{}: loss {}", epoch + 1, options.epochs, bar.message());
            }
        }
        bar.finish();
        Ok(losses)
    }

    fn row(&self, image: usize) -> &[f32] {
        &self.pixels[image * self.width..(image + 1) * self.width]
    }
}

/// A training step and the matrix that its images are written to.
struct Step {
    input: Matrix,
    training: TrainingStep,
}

impl Step {
    fn new(
        run: &Training<'_>,
        optimizer: &Optimizer,
        gradients: &Gradients,
        batch: usize,
    ) -> Result<Self, tied_linear::Error> {
        let loss = match run.options.loss {
            LossName::SquaredError => Loss::SquaredError,
            LossName::CrossEntropy => Loss::BinaryCrossEntropy,
        };
        let options = TrainingOptions::default().with_loss(loss);
        let input = run.layer.kernels().zeros("images", batch as u32, run.width as u32)?;
        let training = TrainingStep::new(run.layer, optimizer, gradients, &input, &input, options)?;
        Ok(Self { input, training })
    }
}

/// Encodes and decodes all images.
fn reconstruct(
    gpu: &Gpu,
    layer: &TiedLinear,
    pixels: &[f32],
    width: usize,
    batch: u32,
) -> Result<Vec<f32>, tied_linear::Error> {
    let mut output = Vec::with_capacity(pixels.len());
    for values in pixels.chunks(batch as usize * width) {
        let rows = (values.len() / width) as u32;
        let input = layer.kernels().matrix("images", rows, width as u32, values)?;
        let tape = Tape::new(layer, rows)?;
        let commands = layer.forward(&input, &tape)?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        commands.record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        gpu.queue.submit([encoder.finish()]);
        output.extend(tape.output.read_blocking(&gpu.device, &gpu.queue)?);
    }
    Ok(output)
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// What the pictures show.
struct Shown {
    mean: Vec<f32>,
    reconstructed: Vec<f32>,
    losses: Vec<f32>,
    floor: Option<f64>,
    squared: bool,
}

fn save_pictures(
    gpu: &Gpu,
    layer: &TiedLinear,
    images: &data::Images,
    shown: &Shown,
    options: &Options,
) -> Result<(), Box<dyn Error>> {
    let (width, height) = (images.width, images.height);
    let size = width * height;
    let some = images.count.min(36);
    let means = shown.mean.iter().cycle();
    let pixel = |(value, mean): (&f32, &f32)| {
        if shown.squared { value + mean } else { 1.0 / (1.0 + (-value).exp()) }
    };
    let reconstructed: Vec<f32> =
        shown.reconstructed[..some * size].iter().zip(means).map(pixel).collect();
    let weight = layer.weight().matrix().read_blocking(&gpu.device, &gpu.queue)?;
    let hidden = options.hidden as usize;

    let path = |name: &str| options.out.join(name);
    let originals = &images.pixels[..some * size];
    let pairs = path("reconstructions.png");
    pictures::reconstructions(&pairs, originals, &reconstructed, some, width, height)?;
    let rows = path("weight.png");
    pictures::weight_rows(&rows, &weight, hidden, width, height)?;
    let curve = path("loss.png");
    pictures::loss_curve(&curve, &shown.losses, shown.floor)?;
    for path in [pairs, rows, curve] {
        println!("picture: {}", path.display());
    }
    Ok(())
}
