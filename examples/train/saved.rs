//! Files to go on from.

use std::error::Error;
use std::path::Path;

use tied_linear::checkpoint::{Checkpoint, Form, StateDict};
use tied_linear::headless::Gpu;
use tied_linear::{NoiseState, Optimizer, TiedAutoencoder};

use super::data::Images;
use super::options::{Settings, key};

/// The key of the losses of all steps so far.
const LOSSES: &str = "train.losses";

/// What is on the GPU: all parameters, the optimizer's state, and the step of noise.
pub fn state_dict(
    stack: &TiedAutoencoder,
    optimizer: &Optimizer,
    noise: Option<&NoiseState>,
) -> Result<StateDict, tied_linear::Error> {
    let stack = stack.state_dict();
    let state = stack.clone().and(optimizer.state_dict(&stack)?);
    Ok(match noise {
        Some(noise) => state.with("noise.step", noise.steps(), Form::Count),
        None => state,
    })
}

/// Saves what training goes on from after so many epochs.
pub fn save(
    path: &Path,
    gpu: &Gpu,
    state: &StateDict,
    [settings, images]: [&[(String, String)]; 2],
    epochs: u32,
    losses: &[f32],
) -> Result<(), tied_linear::Error> {
    let mut checkpoint = Checkpoint::read_blocking(&gpu.device, &gpu.queue, state)?
        .with_tensor(LOSSES, &[losses.len()], losses)?
        .with_text(&key("done"), &epochs.to_string());
    for (key, text) in settings.iter().chain(images) {
        checkpoint = checkpoint.with_text(key, text);
    }
    checkpoint.save(path)
}

/// Brings back what [`save`] saved: how many epochs are done, and the losses of their steps.
pub fn restore(
    path: &Path,
    checkpoint: &Checkpoint,
    gpu: &Gpu,
    state: &StateDict,
    settings: &Settings,
    in_epoch: usize,
) -> Result<(u32, Vec<f32>), Box<dyn Error>> {
    let named = |error: tied_linear::Error| format!("{}: {error}", path.display());
    let done = checkpoint.text(&key("done")).and_then(|text| text.parse::<u32>().ok());
    let losses = checkpoint.values(LOSSES).map_err(named)?;
    let whole = done.filter(|done| {
        *done <= settings.epochs && losses.len() as u64 == u64::from(*done) * in_epoch as u64
    });
    let Some(done) = whole else {
        let path = path.display();
        return Err(format!("{path}: `{}` and `{LOSSES}` do not fit", key("done")).into());
    };
    let mut checkpoint = checkpoint.clone();
    checkpoint.retain(|key| key != LOSSES);
    checkpoint.restore(&gpu.device, &gpu.queue, state).map_err(named)?;
    Ok((done, losses))
}

/// The text by which other images are told from those that a file was trained on.
pub fn fingerprint(images: &Images) -> (String, String) {
    // FNV-1a, of 64 bits.
    let hash = images.pixels.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, pixel| {
        (hash ^ u64::from(pixel.to_bits())).wrapping_mul(0x0100_0000_01b3)
    });
    let Images { count, width, height, .. } = images;
    (key("images"), format!("{count} of {width}x{height}, {hash:016x}"))
}

/// Passes if the file was trained on these images.
pub fn expect_images(
    path: &Path,
    checkpoint: &Checkpoint,
    (key, text): &(String, String),
) -> Result<(), String> {
    match checkpoint.text(key) {
        Some(saved) if saved == text => Ok(()),
        saved => Err(format!(
            "{}: trained on other images ({}; these are {text}): --data must be the same",
            path.display(),
            saved.unwrap_or("none that this example has saved")
        )),
    }
}
