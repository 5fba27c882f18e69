//! What the example `train` does, apart from `main`, so that a test can call it.

#[path = "../shared/arguments.rs"]
mod arguments;
#[path = "../shared/batches.rs"]
mod batches;
pub mod data;
#[path = "../shared/fma.rs"]
mod fma;
pub mod options;
mod pictures;
mod progress;
mod saved;
mod training;

use std::error::Error;
use std::path::Path;

use data::{Images, Principal};
use options::{Options, Settings};
use tied_linear::checkpoint::Checkpoint;
use tied_linear::headless::Gpu;
use tied_linear::{ElementType, Kernels, LossScaleStatus, Matrix, TiedAutoencoder};
use training::{Outcome, Trained, Training, evaluate};

/// The eigenvectors of a larger matrix take minutes.
const MOST_PIXELS_FOR_PCA: usize = 2048;

/// What a run came to: the squared error of an image, or the cross-entropy of a pixel, on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// On the training images.
    pub error: f64,
    /// On the test images, where there are any.
    pub test_error: Option<f64>,
    /// Of as many principal components as the code is long, on the training images.
    pub optimum: Option<f64>,
    /// The same on the test images.
    pub test_optimum: Option<f64>,
    /// What has become of the loss's scale, where there is one.
    pub scale: Option<LossScaleStatus>,
}

/// Reads, trains, measures, saves.
pub fn train(options: &Options, gpu: &Gpu, kernels: &Kernels) -> Result<Report, Box<dyn Error>> {
    let (images, test) = match &options.data {
        None => (data::digits(), None),
        Some(folder) => (data::idx_folder(folder)?, data::test_images(folder)?),
    };
    let (width, height) = (images.width, images.height);
    if let Some(test) = test.as_ref().filter(|test| [test.width, test.height] != [width, height]) {
        return Err(format!(
            "{}: test images of {}x{}, but those to train on are of {width}x{height}",
            test.source, test.width, test.height
        )
        .into());
    }
    let size = width * height;
    let pixels_of_one = u32::try_from(size).map_err(|_| "the images are too large")?;
    let named = |error| move |path: &Path| format!("{}: {error}", path.display());
    let checkpoint = match &options.resume {
        Some(path) => {
            Some((path.as_path(), Checkpoint::open(path).map_err(|error| named(error)(path))?))
        }
        None => None,
    };
    let resumed = checkpoint.as_ref().map(|(path, checkpoint)| (*path, checkpoint));
    let settings = Settings::new(options, resumed, images.count, pixels_of_one)?;
    let fingerprint = saved::fingerprint(&images);
    if let Some((path, checkpoint)) = resumed {
        saved::expect_images(path, checkpoint, &fingerprint)?;
    }
    // Now, rather than after the training.
    create_folder(&options.out)?;
    if let Some(folder) = options.save.as_deref().and_then(Path::parent) {
        create_folder(folder)?;
    }

    let squared = settings.squared();
    let mean = if squared { data::mean(&images) } else { vec![0.0; size] };
    let pixels = data::centred(&images.pixels, &mean);
    let stack = TiedAutoencoder::new(kernels, &settings.stack())?;
    println!("adapter: {}", gpu.describe());
    println!("images: {} of {width}x{height}, {}", images.count, images.source);
    if let Some(test) = &test {
        println!("test images: {}, {}", test.count, test.source);
    }
    println!("layers: {}, {}", settings.layers, settings.activation);
    let (element, scale) = (settings.element, settings.loss_scale);
    if element.0 != ElementType::F32 || scale.settings().is_some() {
        println!("element type: {element}, loss scale: {scale}");
    }
    describe_parameters(&stack);

    let Trained { losses, scale } = Training {
        gpu,
        kernels,
        stack: &stack,
        pixels: &pixels,
        fingerprint,
        settings: &settings,
        options,
    }
    .run(resumed)?;

    let shown_images = test.as_ref().unwrap_or(&images);
    let shown = shown_images.count.min(if settings.linear() || !squared { 36 } else { 12 });
    let mut outcome = evaluate(gpu, &stack, &settings, &pixels, shown)?;
    let error = outcome.error;
    let mut report = Report { error, test_error: None, optimum: None, test_optimum: None, scale };
    let mut shown_pixels = pixels.clone();
    if let Some(test) = &test {
        shown_pixels = data::centred(&test.pixels, &mean);
        outcome = evaluate(gpu, &stack, &settings, &shown_pixels, shown)?;
        report.test_error = Some(outcome.error);
    }
    let principal = if squared && size <= MOST_PIXELS_FOR_PCA {
        Principal::components(&pixels, size, settings.code() as usize)
    } else {
        None
    };
    if let Some(principal) = &principal {
        report.optimum = Some(principal.residual);
        report.test_optimum = test.as_ref().map(|_| principal.error(&shown_pixels));
    }
    report.print(&settings, size);

    shown_pixels.truncate(shown * size);
    // Of a layer that comes to the principal components there is nothing more to see.
    let linear = principal.filter(|_| !settings.linear());
    let shown = Shown {
        images: shown_images,
        count: shown,
        mean: &mean,
        outcome: &outcome,
        linear: linear.map(|principal| principal.reconstruct(&shown_pixels)),
        losses: &losses,
        floor: report.optimum.filter(|optimum| *optimum > 0.0).map(|error| error / size as f64),
    };
    shown.save(gpu, &stack, &settings, &options.out)?;
    if let Some(path) = &options.save {
        println!("saved: {}", path.display());
    }
    Ok(report)
}

fn create_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("{}: cannot be created: {error}", folder.display()))
}

fn describe_parameters(stack: &TiedAutoencoder) {
    let tied = stack.parameters().count();
    // Of each weight with its working copy, if it has one.
    let bytes = |weight: &Matrix| {
        let copy = weight.working_copy().map_or(0..0, |copy| copy.byte_range());
        4 * weight.len() + copy.end.next_multiple_of(4) - copy.start
    };
    let weights = || stack.layers().iter().map(|layer| layer.weight().matrix());
    let values = weights().map(Matrix::len).sum::<u64>();
    let of_weights = weights().map(bytes).sum::<u64>();
    let of_tied = 4 * (tied - values) + of_weights;
    println!(
        "parameters: {tied} tied ({of_tied} bytes), {} untied ({} bytes)",
        tied + values,
        of_tied + of_weights
    );
}

impl Report {
    fn print(&self, settings: &Settings, size: usize) {
        let Self { error, test_error, optimum, test_optimum, scale } = *self;
        if let Some(LossScaleStatus { scale, skipped, .. }) = scale {
            println!("loss scale: {scale}, steps skipped: {skipped}");
        }
        if !settings.squared() {
            println!("cross-entropy per pixel: {error:.6}");
            if let Some(error) = test_error {
                println!("cross-entropy per pixel of the test images: {error:.6}");
            }
            return;
        }
        let code = settings.code();
        println!("squared error per image: {error:.6}");
        if size > MOST_PIXELS_FOR_PCA {
            println!("no PCA optimum: images of {size} pixels are too large to compute it here");
        }
        if let Some(optimum) = optimum {
            println!("PCA optimum at {code} components: {optimum:.6}");
            let excess = (error - optimum) / optimum;
            if optimum == 0.0 {
                println!("a linear code this wide loses nothing, so there is no excess to state");
            } else if settings.linear() {
                println!("excess over the PCA optimum: {excess:.3e}");
            } else {
                println!("compared with the PCA optimum: {:+.1} %", 100.0 * excess);
            }
        }
        if let Some(error) = test_error {
            println!("squared error per test image: {error:.6}");
        }
        if let Some(error) = test_optimum {
            println!("of the {code} principal components: {error:.6}");
        }
    }
}

/// What the pictures show.
struct Shown<'a> {
    images: &'a Images,
    /// How many of them.
    count: usize,
    mean: &'a [f32],
    outcome: &'a Outcome,
    /// What principal components make of the images, less the mean.
    linear: Option<Vec<f32>>,
    losses: &'a [f32],
    floor: Option<f64>,
}

impl Shown<'_> {
    fn save(
        &self,
        gpu: &Gpu,
        stack: &TiedAutoencoder,
        settings: &Settings,
        folder: &Path,
    ) -> Result<(), Box<dyn Error>> {
        let Images { width, height, .. } = *self.images;
        let pixel = |(value, mean): (&f32, &f32)| {
            if settings.squared() { value + mean } else { 1.0 / (1.0 + (-value).exp()) }
        };
        let pixels = |values: &[f32]| -> Vec<f32> {
            values.iter().zip(self.mean.iter().cycle()).map(pixel).collect()
        };
        let mut kinds = vec![self.images.pixels[..self.count * width * height].to_vec()];
        kinds.extend(self.linear.as_deref().map(pixels));
        kinds.push(pixels(&self.outcome.first));
        let kinds: Vec<_> = kinds.iter().map(Vec::as_slice).collect();
        let weight = stack.layers()[0].weight();
        let rows = weight.hidden() as usize;
        let weight = weight.matrix().read_blocking(&gpu.device, &gpu.queue)?;

        let paths = ["reconstructions.png", "weight.png", "loss.png"].map(|name| folder.join(name));
        pictures::reconstructions(&paths[0], &kinds, self.count, width, height)?;
        pictures::weight_rows(&paths[1], &weight, rows, width, height)?;
        pictures::loss_curve(&paths[2], self.losses, self.floor)?;
        for path in paths {
            println!("picture: {}", path.display());
        }
        Ok(())
    }
}
