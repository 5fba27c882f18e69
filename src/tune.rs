//! [`tune`]: the strategy of each product, found by measuring.

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result, captured, expect_alive};
use crate::kernels::{
    Accumulate, Backward, Choice, Commands, Contributions, Kernels, Linear, Pattern, ProductShape,
    StrategyTable, Weight,
};
use crate::matrix::Matrix;

/// Rounds of measurement; each takes every candidate once, so that a disturbance hits all.
const ROUNDS: usize = 7;

/// How much a candidate must save to be preferred to what the rules say.
const WORTHWHILE: f64 = 0.97;

/// The least that a measurement should take, in seconds.
const LEAST: f64 = 0.002;

/// Measures the candidates for `products` on the kernels' device, and returns their table of
/// strategies with the fastest as exceptions: to keep, and to give to [`Kernels::with_strategies`] or
/// [`KernelOptions::strategies`](crate::KernelOptions::strategies).
///
/// This is the one function of the library that measures. It makes buffers for random operands, compiles
/// the candidates' pipelines, submits to `queue` and waits, all of which takes seconds for each product
/// on a slow device. Another run may find another table; a table chooses the same each time.
///
/// # Errors
///
/// As the kernels, [`Kernels::zeros`] and [`Matrix::read_blocking`].
pub fn tune(
    kernels: &Kernels,
    queue: &wgpu::Queue,
    products: &[ProductShape],
) -> Result<StrategyTable> {
    let mut table = kernels.strategies().clone();
    for product in products {
        let candidates = table.candidates(product);
        let fastest = fastest(kernels, queue, product, &candidates)?;
        table.set(*product, fastest)?;
    }
    Ok(table)
}

/// The fastest of the candidates, of which the first is what the rules say.
fn fastest(
    kernels: &Kernels,
    queue: &wgpu::Queue,
    product: &ProductShape,
    candidates: &[Choice],
) -> Result<Choice> {
    let operands = Operands::new(kernels, product)?;
    let prepare = |choice: &Choice| {
        let table = kernels.strategies().clone().force(*choice)?;
        operands.commands(&kernels.with_strategies(table))
    };
    let commands = candidates.iter().map(prepare).collect::<Result<Vec<_>>>()?;
    let mut repetitions = Vec::with_capacity(candidates.len());
    for commands in &commands {
        // Compiles what the driver has left for the first run.
        seconds(kernels, queue, commands, 1)?;
        let once = seconds(kernels, queue, commands, 1)?;
        repetitions.push((LEAST / once.max(1e-6)).ceil().clamp(1.0, 100.0) as u32);
    }
    let mut times = vec![Vec::with_capacity(ROUNDS); candidates.len()];
    for _ in 0..ROUNDS {
        for ((commands, repetitions), times) in commands.iter().zip(&repetitions).zip(&mut times) {
            times.push(seconds(kernels, queue, commands, *repetitions)?);
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let medians: Vec<f64> = times.iter_mut().map(median).collect();
    let by_time = |(_, a): &(&Choice, f64), (_, b): &(&Choice, f64)| a.total_cmp(b);
    let best = candidates.iter().zip(medians.iter().copied()).min_by(by_time);
    let ruled = candidates.first().copied().zip(medians.first().copied());
    match (best, ruled) {
        (Some((choice, time)), Some((_, of_rules))) if time < WORTHWHILE * of_rules => Ok(*choice),
        (_, Some((choice, _))) => Ok(choice),
        _ => Err(Error::Incompatible {
            what: "tune",
            reason: "the device can run no strategy for this product",
        }),
    }
}

/// Seconds that one run of `commands` takes, of so many submitted together.
fn seconds(
    kernels: &Kernels,
    queue: &wgpu::Queue,
    commands: &Commands,
    repetitions: u32,
) -> Result<f64> {
    let device = kernels.device();
    expect_alive(device)?;
    captured(device, "a measurement", || {
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for _ in 0..repetitions {
            commands.record(&mut pass);
        }
        drop(pass);
        let start = Instant::now();
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).map_err(|_| Error::DeviceLost)?;
        Ok(start.elapsed().as_secs_f64() / f64::from(repetitions))
    })?
}

/// Random operands of a product, as large as it needs.
struct Operands {
    product: ProductShape,
    /// Of encode and decode; of backward, in place of the weight, the gradient.
    weight: Matrix,
    /// \[batch, inputs\].
    outer: Matrix,
    /// \[batch, hidden\].
    inner: Matrix,
    result: Matrix,
}

impl Operands {
    fn new(kernels: &Kernels, product: &ProductShape) -> Result<Self> {
        let ProductShape { pattern, rows, columns, depth } = *product;
        let [batch, inputs, hidden] = match pattern {
            Pattern::Encode => [rows, depth, columns],
            Pattern::Decode => [rows, columns, depth],
            Pattern::Backward => [depth, columns, rows],
        };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut random = |label, rows, columns| {
            kernels.expect_room(label, rows, columns)?;
            let count = rows as usize * columns as usize;
            let values: Vec<f32> = (0..count).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect();
            kernels.matrix(label, rows, columns, &values)
        };
        Ok(Self {
            product: *product,
            weight: random("weight", hidden, inputs)?,
            outer: random("outer", batch, inputs)?,
            inner: random("inner", batch, hidden)?,
            result: kernels.zeros("result", rows, columns)?,
        })
    }

    fn commands(&self, kernels: &Kernels) -> Result<Commands> {
        let weight = || Weight::new(kernels, self.weight.clone());
        match self.product.pattern {
            Pattern::Encode => kernels.encode(&weight()?, &Linear::new(&self.outer, &self.result)),
            Pattern::Decode => kernels.decode(&weight()?, &Linear::new(&self.inner, &self.result)),
            Pattern::Backward => kernels.backward(&Backward {
                code: &self.inner,
                output_delta: &self.outer,
                code_delta: &self.inner,
                input: &self.outer,
                gradient: &self.result,
                contributions: Contributions::Both,
                accumulate: Accumulate::Overwrite,
            }),
        }
    }
}
