//! The options, and what they come to together with the images and a file to resume from.

use std::error::Error;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Parser;
use tied_linear::checkpoint::Checkpoint;
use tied_linear::{
    Activation, ElementType, Loss, LossScaleSettings, Noise, TiedAutoencoderOptions,
};

use super::arguments::learning_rate;

/// Trains a tied autoencoder on images: each weight is used to encode and, transposed, to decode.
///
/// With --resume, what is not given is taken from the file, and what is given must agree with it, the
/// element type and the loss's scale too: a run ends in the type that it began in.
#[derive(Debug, Clone, Parser)]
#[command(name = "train")]
pub struct Options {
    /// Lengths from an image's pixels to its code, such as 784,256,64 [default: the pixels and
    /// --hidden]
    #[arg(long, conflicts_with = "hidden")]
    pub layers: Option<Layers>,
    /// Length of a code, for a single layer [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub hidden: Option<u32>,
    /// Activation of all layers, on both sides, but for the code of several layers, and the output,
    /// which are linear: identity, relu, sigmoid, tanh, gelu-tanh, gelu-erf or silu
    /// [default: identity for a single layer, silu for several]
    #[arg(long)]
    pub activation: Option<Activation>,
    /// Noise on what is encoded, of which the clean image is to be restored: masking:0.3 sets pixels
    /// to the mean with this probability, gaussian:0.1 adds such a standard deviation [default: none]
    #[arg(long)]
    pub noise: Option<NoiseOption>,
    /// What reconstructions are measured by: squared-error of images less the mean image (then a
    /// single linear layer has no biases), or cross-entropy of pixels as probabilities
    /// [default: squared-error]
    #[arg(long)]
    pub loss: Option<LossName>,
    /// Passes over the images [default: 300; from 10,000 images on 20]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub epochs: Option<u32>,
    /// Images in a step [default: 512; from 10,000 images on 256]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: Option<u32>,
    /// Adam's learning rate at the start; it falls to zero along a cosine [default: 0.01; from 10,000
    /// images on 0.003]
    #[arg(long, value_parser = learning_rate, allow_hyphen_values = true)]
    pub lr: Option<f64>,
    /// Seed of the initial weights, of the order of the images and of noise [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Type of the images, activations and gradients, and of the weights that products read: f32, f16 or
    /// bf16. With a 16-bit one there are f32 weights besides, which the updates go to [default: f32]
    #[arg(long)]
    pub element: Option<ElementOption>,
    /// What the loss's gradient is multiplied by, to keep small gradients in the range of f16: a NUMBER,
    /// dynamic (65536 at first, doubled after 2000 steps and halved where a gradient overflows), or none.
    /// With the first two, a step with an infinite gradient is skipped [default: dynamic for f16 and bf16,
    /// none for f32]
    #[arg(long, value_name = "dynamic|none|NUMBER", allow_hyphen_values = true)]
    pub loss_scale: Option<LossScaleOption>,
    /// Folder for the pictures
    #[arg(long, default_value = "target/train")]
    pub out: PathBuf,
    /// Folder of IDX files (plain or .gz) with images, instead of the digits: it trains on
    /// train-images* and tests on t10k-images*
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// File (safetensors) to save to: parameters, the optimizer's state, and all else that training on
    /// takes
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Save after each so many epochs, besides at the end
    #[arg(long, value_name = "EPOCHS", default_value_t = 10, requires = "save")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub save_every: u32,
    /// File of --save to go on from: the result is that of one uninterrupted run, to the bit
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Stop after so many epochs, to be resumed: the learning rate falls as for all --epochs
    #[arg(long, value_name = "EPOCHS", requires = "save")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub stop: Option<u32>,
    /// Measure the adapter's ceiling of multiply-adds first, and state the share of it that training
    /// reaches, also where no terminal shows the progress
    #[arg(long)]
    pub ceiling: bool,
}

/// Lengths from the pixels to the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers(pub Vec<u32>);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = |part: &str| match part.trim().parse() {
            Ok(length) if (1..=65_536).contains(&length) => Ok(length),
            _ => Err(format!("\"{part}\" is not a length from 1 to 65536")),
        };
        let lengths = text.split(',').map(length).collect::<Result<Vec<_>, _>>()?;
        if lengths.len() < 2 {
            return Err("two lengths are expected at least: the pixels and the code".into());
        }
        Ok(Self(lengths))
    }
}

impl Display for Layers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<_> = self.0.iter().map(u32::to_string).collect();
        formatter.write_str(&lengths.join(","))
    }
}

/// What is done to what is encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseOption(pub Option<Noise>);

impl FromStr for NoiseOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, amount) = text.split_once(':').unwrap_or((text, ""));
        let number: Option<f64> = amount.parse().ok();
        match (kind, number) {
            ("none", _) if kind == text => Ok(Self(None)),
            ("masking", Some(probability)) if (0.0..=1.0).contains(&probability) => {
                Ok(Self(Some(Noise::Masking { probability })))
            }
            ("gaussian", Some(deviation)) if (0.0..=1e6).contains(&deviation) => {
                Ok(Self(Some(Noise::Gaussian { deviation })))
            }
            ("masking", _) => Err("a probability from 0 to 1 is expected: masking:0.3".into()),
            ("gaussian", _) => {
                Err("a standard deviation of at least 0 is expected: gaussian:0.1".into())
            }
            _ => Err("masking:PROBABILITY, gaussian:DEVIATION or none is expected".into()),
        }
    }
}

impl Display for NoiseOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Noise::Masking { probability }) => write!(formatter, "masking:{probability}"),
            Some(Noise::Gaussian { deviation }) => write!(formatter, "gaussian:{deviation}"),
            _ => formatter.write_str("none"),
        }
    }
}

/// What reconstructions are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossName {
    /// Of images from which the mean image is subtracted.
    SquaredError,
    /// Of images as they are, pixels being probabilities.
    CrossEntropy,
}

impl LossName {
    /// The library's.
    pub fn loss(self) -> Loss {
        match self {
            Self::SquaredError => Loss::SquaredError,
            Self::CrossEntropy => Loss::BinaryCrossEntropy,
        }
    }
}

impl FromStr for LossName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "squared-error" => Ok(Self::SquaredError),
            "cross-entropy" => Ok(Self::CrossEntropy),
            _ => Err("squared-error or cross-entropy is expected".into()),
        }
    }
}

impl Display for LossName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::SquaredError => "squared-error",
            Self::CrossEntropy => "cross-entropy",
        })
    }
}

/// The number format of what a step reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementOption(pub ElementType);

impl FromStr for ElementOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = ElementType::ALL.into_iter().find(|element| element.to_string() == text);
        named.map(Self).ok_or_else(|| "f32, f16 or bf16 is expected".into())
    }
}

impl Display for ElementOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What the loss's gradient is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LossScaleOption {
    /// A scale that follows the gradients.
    Dynamic,
    /// None, and no step is skipped.
    None,
    /// Always this.
    Fixed(f32),
}

impl LossScaleOption {
    /// The library's.
    pub fn settings(self) -> Option<LossScaleSettings> {
        match self {
            Self::Dynamic => Some(LossScaleSettings::dynamic()),
            Self::None => None,
            Self::Fixed(scale) => Some(LossScaleSettings::fixed(scale.into())),
        }
    }
}

impl FromStr for LossScaleOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<f32>().ok();
        match (text, number.filter(|scale| scale.is_normal() && scale.is_sign_positive())) {
            ("dynamic", _) => Ok(Self::Dynamic),
            ("none", _) => Ok(Self::None),
            (_, Some(scale)) => Ok(Self::Fixed(scale)),
            _ => Err("dynamic, none or a number above 0 is expected".into()),
        }
    }
}

impl Display for LossScaleOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dynamic => formatter.write_str("dynamic"),
            Self::None => formatter.write_str("none"),
            Self::Fixed(scale) => write!(formatter, "{scale}"),
        }
    }
}

/// All that decides on the numbers that a run comes to, but for the images.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// From the pixels to the code.
    pub layers: Layers,
    /// Of all but the code of several layers, and the output.
    pub activation: Activation,
    /// On what is encoded.
    pub noise: NoiseOption,
    /// What is minimised.
    pub loss: LossName,
    /// Passes over the images.
    pub epochs: u32,
    /// Images in a step.
    pub batch: u32,
    /// At the start.
    pub lr: f64,
    /// Of weights, order and noise.
    pub seed: u64,
    /// Of what a step reads and writes.
    pub element: ElementOption,
    /// Of the loss's gradient.
    pub loss_scale: LossScaleOption,
}

/// From how many images on an epoch is long.
const MANY: usize = 10_000;

impl Settings {
    /// What was given, what the file to resume from says, or else the defaults.
    ///
    /// Fails where two of these contradict each other, or the images.
    pub fn new(
        options: &Options,
        resumed: Option<(&Path, &Checkpoint)>,
        count: usize,
        pixels: u32,
    ) -> Result<Self, Box<dyn Error>> {
        let many = count >= MANY;
        let given_layers =
            options.hidden.map(|hidden| Layers(vec![pixels, hidden])).or(options.layers.clone());
        let layers = given_layers.clone().unwrap_or(Layers(vec![pixels, 10]));
        if layers.0[0] != pixels {
            let [first, rest] = [layers.0[0].to_string(), layers.to_string()];
            return Err(format!(
                "--layers begins with the pixels of an image, {pixels} here and not {first}: \
                 --layers {pixels},{rest}"
            )
            .into());
        }
        let layers = choose("layers", given_layers, resumed, layers)?;
        let activation = match layers.0.len() {
            2 => Activation::Identity,
            _ => Activation::Silu,
        };
        let batch = if many { 256 } else { 512 };
        let noise = NoiseOption(None);
        let element = ElementOption(ElementType::F32);
        let element = choose_newer("element", options.element, resumed, element)?;
        let loss_scale = match element.0 {
            ElementType::F32 => LossScaleOption::None,
            _ => LossScaleOption::Dynamic,
        };
        let settings = Self {
            activation: choose("activation", options.activation, resumed, activation)?,
            noise: choose("noise", options.noise, resumed, noise)?,
            loss: choose("loss", options.loss, resumed, LossName::SquaredError)?,
            epochs: choose("epochs", options.epochs, resumed, if many { 20 } else { 300 })?,
            batch: choose("batch", options.batch, resumed, batch)?,
            lr: choose("lr", options.lr, resumed, if many { 0.003 } else { 0.01 })?,
            seed: choose("seed", options.seed, resumed, 0)?,
            loss_scale: choose_newer("loss-scale", options.loss_scale, resumed, loss_scale)?,
            element,
            layers,
        };
        if let Some(stop) = options.stop.filter(|stop| *stop > settings.epochs) {
            let epochs = settings.epochs;
            return Err(format!("--stop {stop} is beyond all {epochs} epochs").into());
        }
        Ok(settings)
    }

    /// The texts by which [`Settings::new`] gets them from a file again.
    pub fn texts(&self) -> [(String, String); 10] {
        let Self { layers, activation, noise, loss, epochs, batch, lr, seed, element, loss_scale } =
            self;
        let texts: [(&str, &dyn Display); 10] = [
            ("layers", layers),
            ("activation", activation),
            ("noise", noise),
            ("loss", loss),
            ("epochs", epochs),
            ("batch", batch),
            ("lr", lr),
            ("seed", seed),
            ("element", element),
            ("loss-scale", loss_scale),
        ];
        texts.map(|(name, value)| (key(name), value.to_string()))
    }

    /// Whether it is principal components that the layer can come to: one linear layer on centred
    /// images, which needs no biases then.
    pub fn linear(&self) -> bool {
        self.squared() && self.activation == Activation::Identity && self.layers.0.len() == 2
    }

    /// Whether the squared error is minimised.
    pub fn squared(&self) -> bool {
        self.loss == LossName::SquaredError
    }

    /// Length of a code.
    pub fn code(&self) -> u32 {
        self.layers.0[self.layers.0.len() - 1]
    }

    /// What the stack is made of.
    pub fn stack(&self) -> TiedAutoencoderOptions {
        let biases = !self.linear();
        let stack = TiedAutoencoderOptions::new(&self.layers.0)
            .with_biases(biases, biases)
            .with_activations(self.activation, self.activation)
            .with_output_activation(Activation::Identity)
            .with_weight_element(self.element.0)
            .with_seed(self.seed);
        if self.layers.0.len() == 2 {
            stack
        } else {
            stack.with_code_activation(Activation::Identity)
        }
    }
}

/// The key of a text in a file.
pub fn key(name: &str) -> String {
    format!("train.{name}")
}

/// What the option was given, or the file says; both must agree.
fn choose<T: Clone + PartialEq + Display + FromStr>(
    name: &str,
    given: Option<T>,
    resumed: Option<(&Path, &Checkpoint)>,
    default: T,
) -> Result<T, String> {
    choose_or(name, given, resumed, default, None)
}

/// The same for an option that older files do not have: they were trained with what is the default for them.
fn choose_newer<T: Clone + PartialEq + Display + FromStr>(
    name: &str,
    given: Option<T>,
    resumed: Option<(&Path, &Checkpoint)>,
    default: T,
) -> Result<T, String> {
    let of_old = Some(default.clone());
    choose_or(name, given, resumed, default, of_old)
}

/// The same; `of_old` stands for a file that does not say.
fn choose_or<T: Clone + PartialEq + Display + FromStr>(
    name: &str,
    given: Option<T>,
    resumed: Option<(&Path, &Checkpoint)>,
    default: T,
    of_old: Option<T>,
) -> Result<T, String> {
    let Some((path, checkpoint)) = resumed else { return Ok(given.unwrap_or(default)) };
    let path = path.display();
    let saved = match (checkpoint.text(&key(name)), of_old) {
        (Some(text), _) => text
            .parse::<T>()
            .map_err(|_| format!("{path}: `{}` is \"{text}\", which is no --{name}", key(name)))?,
        (None, Some(of_old)) => of_old,
        (None, None) => {
            return Err(format!("{path}: no `{}`: this example has not saved it", key(name)));
        }
    };
    match given {
        Some(given) if given != saved => Err(format!(
            "--{name} {given} contradicts {path}, which was trained with --{name} {saved}: leave it \
             out to go on"
        )),
        _ => Ok(saved),
    }
}
