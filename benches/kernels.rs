//! The kernels and the training step under criterion: `cargo bench`, or `cargo bench -- decode` for
//! the ones with that in their name, `cargo bench -- --quick` for a first look. Each is called as its
//! method and shader are, and by batch x inputs x hidden.
//!
//! Times are the host's, around recording, submitting and waiting. The example `benchmark` relates
//! kernels to what the adapter can do.

use std::error::Error;
use std::time::Duration;

use criterion::Criterion;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tied_linear::headless::Gpu;
use tied_linear::kernels::{
    ActivationGradient, AdamSettings, Backward, BiasGradient, ColumnSums, Gradient, Linear,
    LossGradient, NoisyCopy, SgdSettings, Sum,
};
use tied_linear::{
    Accumulate, Activation, Commands, Contributions, Gradients, KernelOptions, Kernels, Matrix,
    Noise, NoiseState, Optimizer, TiedLinear, TiedLinearOptions, TrainingOptions, TrainingStep,
    wgpu,
};

/// Batch, inputs and hidden: a layer for MNIST's images, and the one of the example `train`.
const SHAPES: [[u32; 3]; 2] = [[256, 784, 256], [512, 64, 10]];

/// Parameters are updated again and again: by so little that they stay where they are.
const LEARNING_RATE: f64 = 1e-6;

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = Gpu::request_blocking()?;
    let kernels = Kernels::new(&gpu.device, KernelOptions::default())?;
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for shape in SHAPES {
        let name = shape.map(|size| size.to_string()).join("x");
        for (kernel, commands) in commands(&kernels, shape)? {
            let run = || run(&gpu, &commands);
            criterion.bench_function(&format!("{kernel}/{name}"), |bencher| bencher.iter(run));
        }
    }
    criterion.final_summary();
    Ok(())
}

/// Runs the commands once and waits for them.
fn run(gpu: &Gpu, commands: &Commands) {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    commands.record(&mut encoder.begin_compute_pass(&Default::default()));
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
}

/// Every kernel by its name, on random operands of this shape.
fn commands(
    kernels: &Kernels,
    [batch, inputs, hidden]: [u32; 3],
) -> Result<Vec<(&'static str, Commands)>, tied_linear::Error> {
    let layer = TiedLinear::new(kernels, &TiedLinearOptions::new(inputs, hidden))?;
    let weight = layer.weight();
    let gradients = Gradients::new(&layer)?;
    let x = random(kernels, batch, inputs, 1)?;
    let target = random(kernels, batch, inputs, 2)?;
    let h = random(kernels, batch, hidden, 3)?;
    let (codes, outputs) =
        (kernels.zeros("codes", batch, hidden)?, kernels.zeros("outputs", batch, inputs)?);
    let loss = kernels.zeros("loss", 1, 1)?;
    let measure = LossGradient::new(&x, &target, &loss).with_delta(Some(&outputs));
    let [b, c] = [hidden, inputs].map(|columns| kernels.zeros("bias gradient", 1, columns));
    let (b, c) = (b?, c?);
    let accumulate = Accumulate::Overwrite;
    let backward = Backward {
        code: &h,
        output_delta: &target,
        code_delta: &h,
        input: &x,
        gradient: &gradients.weight,
        contributions: Contributions::Both,
        accumulate,
    };
    let parameters = layer.parameters();
    let pairs = gradients.pairs(&layer);
    let sgd =
        Optimizer::new(kernels, &parameters, SgdSettings::new(LEARNING_RATE).with_momentum(0.9))?;
    let adam = Optimizer::new(kernels, &parameters, AdamSettings::adam(LEARNING_RATE))?;
    let step =
        TrainingStep::new(&layer, &adam, &gradients, &x, &target, TrainingOptions::default())?;
    let step = step.gradient_commands().clone().then(step.update_commands().clone());
    let through = ActivationGradient {
        gradient: &target,
        activation: Activation::Sigmoid,
        saved: Some(&x),
        delta: &outputs,
    };
    let noise = Noise::Gaussian { deviation: 0.5 };
    let state = NoiseState::new(kernels, batch, inputs, 5)?;
    let noisy = NoisyCopy { input: &x, noise, state: &state, output: &outputs };
    let row = x.row_range(0..1)?;
    let sums = ColumnSums {
        encoder_bias: Some(BiasGradient { delta: &h, gradient: &b, accumulate }),
        decoder_bias: Some(BiasGradient { delta: &target, gradient: &c, accumulate }),
        total: Some(Sum { partials: &row, scale: 1.0, total: &loss }),
        weight: None,
    };
    Ok(vec![
        ("encode", kernels.encode(weight, &Linear::new(&x, &codes))?),
        ("decode", kernels.decode(weight, &Linear::new(&h, &outputs))?),
        ("code_gradient", kernels.code_gradient(weight, &Gradient::new(&x, &codes))?),
        ("backward", kernels.backward(&backward)?),
        ("input_gradient", kernels.input_gradient(weight, &Gradient::new(&h, &outputs))?),
        ("activation_gradient", kernels.activation_gradient(&through)?),
        ("column_sums", kernels.column_sums(&sums)?),
        ("noise", kernels.noise(&noisy)?),
        ("squared_error", kernels.squared_error(&measure)?),
        ("cross_entropy", kernels.cross_entropy(&measure)?),
        ("sgd", sgd.update(&pairs)?),
        ("adam", adam.update(&pairs)?),
        ("step", step),
    ])
}

/// Uniform values in 0 … 1, as both losses can take for a target.
fn random(
    kernels: &Kernels,
    rows: u32,
    columns: u32,
    seed: u64,
) -> Result<Matrix, tied_linear::Error> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..rows * columns).map(|_| rng.random()).collect();
    kernels.matrix("random", rows, columns, &values)
}
