//! Trains a tied autoencoder on images, on whatever adapter is there, and shows what it learned.
//!
//! `cargo run --release --example train` takes the 1,797 digits of 8×8 pixels that the crate
//! smartcore embeds and the linear layer 64→10, whose optimum is known: the principal components.
//! `-- --help` lists the options: deep stacks, noise, folders of images, saving and resuming.

#[path = "shared/command.rs"]
mod command;
#[path = "train/program.rs"]
mod program;

use std::process::ExitCode;

use program::options::Options;
use tied_linear::headless::Gpu;
use tied_linear::{KernelOptions, Kernels};

fn main() -> ExitCode {
    command::run("train", |options: &Options| {
        let gpu = Gpu::request_blocking()?;
        let kernels = Kernels::new(&gpu.device, KernelOptions::default())?;
        program::train(options, &gpu, &kernels)?;
        Ok(())
    })
}
