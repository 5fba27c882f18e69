//! Trains a deep tied autoencoder on images twice: layer by layer and then the whole, and from scratch.
//!
//! `cargo run --release --example pretrain` takes the 1,797 digits of 8×8 pixels that the crate smartcore
//! embeds. Greedy layer-wise pre-training is due to Hinton and Salakhutdinov, "Reducing the dimensionality
//! of data with neural networks" (Science 313, 2006), and, with autoencoders for the layers, Bengio et al.,
//! "Greedy layer-wise training of deep networks" (NIPS 2006): each layer learns to give back what the
//! layers before it make of the images. `-- --help` lists the options.

#[path = "shared/arguments.rs"]
mod arguments;
#[path = "shared/batches.rs"]
mod batches;
#[path = "shared/command.rs"]
mod command;
#[allow(dead_code)]
#[path = "train/data.rs"]
mod data;

use std::error::Error;
use std::process::ExitCode;

use arguments::learning_rate;
use batches::Batches;
use clap::Parser;
use clap::builder::RangedI64ValueParser;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tied_linear::headless::Gpu;
use tied_linear::{
    Activation, AdamSettings, AutoencoderGradients, AutoencoderStep, AutoencoderStepOptions,
    Commands, ElementType, KernelOptions, Kernels, Matrix, Noise, NoiseState, Optimizer,
    TiedAutoencoder, TiedAutoencoderOptions,
};

/// Trains a deep tied autoencoder layer by layer, then as a whole, and compares with one from scratch.
#[derive(Debug, Parser)]
#[command(name = "pretrain")]
struct Options {
    /// Lengths of the codes from the first layer to the last
    #[arg(long, value_delimiter = ',', default_value = "40,20,10", value_parser = length())]
    layers: Vec<u32>,
    /// Passes over the images for each layer alone
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    layer_epochs: u32,
    /// Passes over the images for the whole stack
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    epochs: u32,
    /// Images in a step
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Adam's learning rate
    #[arg(long, default_value_t = 0.003, value_parser = learning_rate, allow_hyphen_values = true)]
    lr: f64,
    /// Share of what a layer is given that is masked while it is trained alone
    #[arg(long, default_value_t = 0.0, value_parser = share, allow_hyphen_values = true)]
    masking: f64,
    /// Seed of the initial weights, of the order of the images and of the masking
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn length() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=65_536)
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a number from 0 to 1 is expected".into()),
    }
}

fn main() -> ExitCode {
    command::run("pretrain", pretrain)
}

fn pretrain(options: &Options) -> Result<(), Box<dyn Error>> {
    let images = data::digits();
    let width = images.width * images.height;
    let pixels = data::centred(&images.pixels, &data::mean(&images));
    let sizes: Vec<u32> = [width as u32].iter().chain(&options.layers).copied().collect();

    let gpu = Gpu::request_blocking()?;
    let kernels = Kernels::new(&gpu.device, KernelOptions::default())?;
    println!("adapter: {}", gpu.describe());
    println!("images: {} of {}x{}, {}", images.count, images.width, images.height, images.source);
    let shape: Vec<_> = sizes.iter().map(u32::to_string).collect();
    let stack = TiedAutoencoderOptions::new(&sizes)
        .with_activations(Activation::Tanh, Activation::Tanh)
        .with_code_activation(Activation::Identity)
        .with_output_activation(Activation::Identity)
        .with_seed(options.seed);
    let stack = TiedAutoencoder::new(&kernels, &stack)?;
    println!("stack: {}, {} parameters", shape.join("-"), stack.parameters().count());
    let run = Run { gpu: &gpu, options };

    // The same start for both.
    let start: Vec<_> = stack
        .parameters()
        .iter()
        .map(|parameter| {
            Ok((parameter.value.clone(), parameter.value.read_blocking(&gpu.device, &gpu.queue)?))
        })
        .collect::<Result<_, tied_linear::Error>>()?;

    // What the layers before make of the images.
    let mut inputs = pixels.clone();
    for (index, layer) in stack.layers().iter().enumerate() {
        let one = TiedAutoencoder::from_layers(vec![layer.clone()])?;
        let masking = (options.masking > 0.0).then_some(options.masking);
        let losses = run.train(&one, &inputs, options.layer_epochs, masking)?;
        let [from, to] = [one.inputs(), one.hidden()];
        println!("layer {index} ({from}-{to}) alone: {}", first_to_last(&losses));
        inputs = run.encode(&one, &inputs)?;
    }
    let tuned = run.train(&stack, &pixels, options.epochs, None)?;
    println!("the whole, pre-trained: {}", first_to_last(&tuned));

    for (value, values) in &start {
        value.write(&gpu.device, &gpu.queue, values)?;
    }
    let scratch = run.train(&stack, &pixels, options.epochs, None)?;
    println!("the whole, from scratch: {}", first_to_last(&scratch));
    Ok(())
}

/// The mean squared errors of the first and the last epoch.
fn first_to_last(losses: &[f64]) -> String {
    match (losses.first(), losses.last()) {
        (Some(first), Some(last)) => format!("loss {first:.6} to {last:.6}"),
        _ => "not trained".into(),
    }
}

struct Run<'a> {
    gpu: &'a Gpu,
    options: &'a Options,
}

impl Run<'_> {
    /// Trains a stack to give back `samples`, and returns the mean loss of each epoch.
    fn train(
        &self,
        stack: &TiedAutoencoder,
        samples: &[f32],
        epochs: u32,
        masking: Option<f64>,
    ) -> Result<Vec<f64>, Box<dyn Error>> {
        let Self { gpu, options } = self;
        let width = stack.inputs() as usize;
        let count = samples.len() / width;
        let batch = (options.batch as usize).min(count);
        let kernels = stack.kernels();
        let settings = AdamSettings::adam(options.lr);
        let optimizer = Optimizer::new(kernels, &stack.parameters(), settings)?;
        let gradients = AutoencoderGradients::new(stack)?;
        let state = NoiseState::new(kernels, batch as u32, width as u32, options.seed)?;
        let step = |input: &Matrix| {
            let mut options = AutoencoderStepOptions::default();
            if let Some(probability) = masking {
                options = options.with_noise(Noise::Masking { probability }, &state);
            }
            AutoencoderStep::new(stack, &optimizer, &gradients, input, input, &options)
        };
        let batches = Batches::new(gpu, stack, samples, batch, ElementType::F32, step)?;

        let mut order: Vec<usize> = (0..count).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let mut means = Vec::new();
        for _ in 0..epochs {
            order.shuffle(&mut rng);
            let of_steps = batches.epoch(&order, |_| Ok(()), |_, _| Ok(()))?;
            let sizes = order.chunks(batch).map(<[usize]>::len);
            let sum = of_steps.iter().zip(sizes).map(|(loss, size)| f64::from(*loss) * size as f64);
            means.push(sum.sum::<f64>() / count as f64);
        }
        Ok(means)
    }

    /// The codes of `samples`.
    fn encode(
        &self,
        stack: &TiedAutoencoder,
        samples: &[f32],
    ) -> Result<Vec<f32>, tied_linear::Error> {
        let kernels = stack.kernels();
        let rows = samples.len() as u32 / stack.inputs();
        let input = kernels.matrix("samples", rows, stack.inputs(), samples)?;
        let code = kernels.zeros("codes", rows, stack.hidden())?;
        self.run(&stack.encode(&input, &code)?);
        self.read(&code)
    }

    fn run(&self, commands: &Commands) {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        commands.record(&mut encoder.begin_compute_pass(&Default::default()));
        self.gpu.queue.submit([encoder.finish()]);
    }

    fn read(&self, matrix: &Matrix) -> Result<Vec<f32>, tied_linear::Error> {
        matrix.read_blocking(&self.gpu.device, &self.gpu.queue)
    }
}
