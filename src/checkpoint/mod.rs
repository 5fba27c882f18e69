//! Checkpoints: [safetensors](https://huggingface.co/docs/safetensors) files that PyTorch reads and
//! writes too, in which a tied weight is stored once.
//!
//! ```
//! use tied_linear::checkpoint::{Checkpoint, LayerKeys};
//! # use tied_linear::{AdamSettings, KernelOptions, Kernels, Optimizer, TiedLinear, TiedLinearOptions};
//! # fn main() -> Result<(), tied_linear::Error> {
//! # let gpu = tied_linear::headless::Gpu::request_blocking()?;
//! # let (device, queue) = (gpu.device, gpu.queue);
//! # let path = std::env::temp_dir().join(format!("tied-linear-doc-{}", std::process::id()));
//! let kernels = Kernels::new(&device, KernelOptions::default())?;
//! let layer = TiedLinear::new(&kernels, &TiedLinearOptions::new(6, 2).with_seed(1))?;
//! let optimizer = Optimizer::new(&kernels, &layer.parameters(), AdamSettings::adam(0.05))?;
//!
//! // What is where; then all of it, read in one submission, to a file.
//! let layer_state = layer.state_dict(&LayerKeys::default());
//! let optimizer_state = optimizer.state_dict(&layer_state)?;
//! let state = layer_state.clone().and(optimizer_state);
//! Checkpoint::read_blocking(&device, &queue, &state)?.save(&path)?;
//!
//! // Training goes on from there, bit for bit,
//! Checkpoint::open(&path)?.restore(&device, &queue, &state)?;
//! // or the layer alone is used.
//! Checkpoint::open(&path)?.without_optimizer().restore(&device, &queue, &layer_state)?;
//! # std::fs::remove_file(&path).unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! # The format
//!
//! | key | type | shape | |
//! |---|---|---|---|
//! | `encoder.weight` | f32, f16, bf16 | \[hidden, inputs\] | W, as PyTorch's `nn.Linear(inputs, hidden)` |
//! | `encoder.bias` | f32, f16, bf16 | \[hidden\] | b |
//! | `decoder.bias` | f32, f16, bf16 | \[inputs\] | c |
//! | `optimizer.momentum_buffer.`key | f32 | as key | SGD's velocity, with momentum |
//! | `optimizer.exp_avg.`key | f32 | as key | Adam's first moment |
//! | `optimizer.exp_avg_sq.`key | f32 | as key | Adam's second moment |
//! | `optimizer.step.`key | i64 | \[\] | Adam's step count |
//! | `optimizer.loss_scale.scale` | f32 | \[\] | of a loss, where the optimizer has one |
//! | `optimizer.loss_scale.good_steps` | i64 | \[\] | finite steps that count towards its next growth |
//! | `optimizer.loss_scale.skipped` | i64 | \[\] | steps that were skipped, in all |
//! | `decoder.weight` | | \[inputs, hidden\] | is not stored, being Wᵀ |
//!
//! A weight with a [working copy](crate::Matrix::with_working_copy) is stored as the f32 master that it is,
//! the copy not at all; loading writes both.
//!
//! The layers of a stack are `encoder.0.weight`, `encoder.0.bias`, `decoder.0.bias`, `encoder.1.weight`,
//! and so on ([`LayerKeys::of_layer`]); other keys can be given ([`LayerKeys`], [`StateDict::with`]).
//!
//! The header's `__metadata__` has three entries, and more if they are given
//! ([`Checkpoint::with_text`]):
//!
//! | key | text |
//! |---|---|
//! | `tied_linear.version` | `1`, the version of this format |
//! | `tied_linear.ties` | a JSON object of what is tied to what: `{"decoder.weight":"encoder.weight^T"}` |
//! | `format` | `pt`, by which PyTorch's tools know their layout |
//!
//! The same values make the same bytes.
//!
//! # What can be loaded
//!
//! Besides such files, any safetensors file, as PyTorch programs write their state dicts: with
//! `encoder.weight` alone; with `encoder.weight` and a `decoder.weight` that is its transpose, which
//! is tied if the two are equal bit for bit, and else is an error
//! ([`Error::NotTransposed`]) until it is loaded as two weights ([`Checkpoint::untied_halves`]); and with
//! `decoder.weight` alone, where the encoder uses the transpose of that. f16 and bf16 are widened to f32.
//! Numbers that are not finite are loaded as they are; a finite one that the matrix's type, or that of its
//! working copy, cannot hold is an error ([`Error::KeyValue`]).
//!
//! ```python
//! state = safetensors.torch.load_file("layer.safetensors")
//! state = {key: value for key, value in state.items() if not key.startswith("optimizer.")}
//! state["decoder.weight"] = state["encoder.weight"].t()   # where the module has this key
//! module.load_state_dict(state)
//! ```

mod file;
mod format;
mod state;
mod tensor;
mod transfer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

pub use state::{Form, LayerKeys, StateDict, StateEntry};

use crate::element::ElementType;
use crate::error::{Error, Result};
use format::{Header, Pairs, malformed};
use state::OPTIMIZER;
use tensor::{Data, Tensor};

/// The version of the format that is written.
const VERSION: u32 = 1;

const VERSION_KEY: &str = "tied_linear.version";
const TIES_KEY: &str = "tied_linear.ties";

/// What follows the key of a weight to say that its transpose is meant.
const TRANSPOSE: &str = "^T";

/// Named tensors on the host's side: of a file, of bytes, or read from the GPU.
///
/// See the [module](self) for the format. Keys, shapes and types are known at once; the numbers of a file
/// are read when they are asked for, so a file of other shapes than those that are wanted is refused
/// before memory is taken for it.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    tensors: BTreeMap<String, Tensor>,
    /// From the key of a weight that is not stored to that of its transpose, which is.
    ties: BTreeMap<String, String>,
    /// The header's further texts.
    texts: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a file, and reads and checks its header. The file stays open as long as the checkpoint, or a
    /// clone of it, lives.
    ///
    /// # Errors
    ///
    /// [`Error::File`], and as [`Checkpoint::from_bytes`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let (header, body) = file::open(path.as_ref())?;
        Self::of_header(header, |offsets| Data::File(body.region(offsets)))
    }

    /// Takes the contents of a file.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for what is no safetensors file, or has ties that contradict each other,
    /// [`Error::KeyTwice`], and [`Error::CheckpointVersion`] for a file of a later version of this
    /// library.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let whole = bytes.len() as u64;
        let Some((prefix, rest)) = bytes.split_first_chunk() else {
            return Err(format::no_header(whole));
        };
        let (header, data) = rest.split_at(format::header_length(*prefix, whole)?);
        let header = format::parse(header, data.len() as u64)?;
        Self::of_header(header, |(begin, end)| Data::Memory(data[begin..end].to_vec()))
    }

    fn of_header(header: Header, data: impl Fn((usize, usize)) -> Data) -> Result<Self> {
        let Header { tensors, metadata: mut texts } = header;
        if let Some(given) = texts.remove(VERSION_KEY) {
            if given != VERSION.to_string() {
                return Err(Error::CheckpointVersion { known: VERSION, given });
            }
        }
        let tensor = |(key, info): (String, safetensors::tensor::TensorInfo)| {
            let data = data(info.data_offsets);
            (key, Tensor::new(info.dtype, info.shape, data))
        };
        let tensors: BTreeMap<_, _> = tensors.into_iter().map(tensor).collect();
        let ties = texts.remove(TIES_KEY).map(|text| ties_of(&text)).transpose()?;
        let ties = ties.unwrap_or_default();
        for (key, of) in &ties {
            if tensors.contains_key(key) {
                return Err(malformed(TIES_KEY, format!("`{key}` is tied, but stored too")));
            }
            if !tensors.contains_key(of) {
                let reason = format!("`{key}` is tied to `{of}`, which is not there");
                return Err(malformed(TIES_KEY, reason));
            }
        }
        Ok(Self { tensors, ties, texts })
    }

    /// The contents of a file.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] for a key that the format takes for itself or a header that is too long,
    /// [`Error::File`] where the numbers of an open file cannot be read.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.pieces()?.try_fold(Vec::new(), |mut bytes, piece| {
            bytes.extend_from_slice(&piece?);
            Ok(bytes)
        })
    }

    /// Saves a file: writes a new one in the same folder, flushes it to the disk, and gives it the place
    /// of the old one. Where that fails, the old file is whole, and nothing else is left.
    ///
    /// # Errors
    ///
    /// [`Error::File`], and as [`Checkpoint::to_bytes`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::replace(path.as_ref(), self.pieces()?)
    }

    /// The bytes of a file, one tensor at a time.
    fn pieces(&self) -> Result<impl Iterator<Item = Result<Cow<'_, [u8]>>>> {
        let mut texts = self.texts.clone();
        texts.entry("format".into()).or_insert_with(|| "pt".into());
        texts.insert(VERSION_KEY.into(), VERSION.to_string());
        if !self.ties.is_empty() {
            let ties = self.ties.iter();
            let ties = ties.map(|(key, of)| (key.clone(), format!("{of}{TRANSPOSE}").into()));
            texts.insert(TIES_KEY.into(), serde_json::Value::Object(ties.collect()).to_string());
        }
        let order = format::ordered(&self.tensors);
        let header = format::header(&order, &texts)?;
        let tensors = order.into_iter().map(|(_, tensor)| tensor.bytes());
        Ok(std::iter::once(Ok(header.into())).chain(tensors))
    }

    /// The keys of the tensors, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Pairs of the key of a weight that is not stored, and of the one that it is the transpose of.
    pub fn ties(&self) -> impl Iterator<Item = [&str; 2]> {
        self.ties.iter().map(|(key, of)| [key.as_str(), of.as_str()])
    }

    /// The shape of a tensor.
    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.get(key).map(Tensor::shape)
    }

    /// The type of a tensor, in the words of safetensors, such as `F32` and `BF16`.
    pub fn dtype(&self, key: &str) -> Option<String> {
        self.tensors.get(key).map(|tensor| tensor.dtype().to_string())
    }

    /// The numbers of a tensor, row by row.
    ///
    /// # Errors
    ///
    /// [`Error::MissingKey`], [`Error::KeyType`] for others than f32, f16 and bf16, and
    /// [`Error::File`].
    pub fn values(&self, key: &str) -> Result<Vec<f32>> {
        let tensor = self.tensors.get(key);
        tensor.ok_or_else(|| Error::MissingKey { key: key.into() })?.values(key)
    }

    /// The same with a tensor of f32 more, or another one in place of the one with this key.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] where there are not exactly as many values as the shape asks for.
    pub fn with_tensor(mut self, key: &str, shape: &[usize], values: &[f32]) -> Result<Self> {
        let tensor = Tensor::of_values(key, shape, values)?;
        self.ties.remove(key);
        self.tensors.insert(key.into(), tensor);
        Ok(self)
    }

    /// A text of the header.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// The same with a text in the header more, such as what the program needs to know to make the layers.
    /// Keys that begin with `tied_linear.` are the format's.
    pub fn with_text(mut self, key: &str, text: &str) -> Self {
        self.texts.insert(key.into(), text.into());
        self
    }

    /// Leaves out the tensors, and the ties, whose key `keep` is false for.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.tensors.retain(|key, _| keep(key));
        self.ties.retain(|key, of| self.tensors.contains_key(of) && keep(key));
    }

    /// The same without what an optimizer kept, whose keys begin with `optimizer.`.
    pub fn without_optimizer(mut self) -> Self {
        self.retain(|key| !key.starts_with(OPTIMIZER));
        self
    }

    /// The same with the weights and biases in another type, rounded to the nearest, ties to even. What
    /// an optimizer kept stays as it is: it goes on from there.
    ///
    /// # Errors
    ///
    /// [`Error::KeyValue`] for a finite number that the type cannot hold, [`Error::File`].
    pub fn with_dtype(mut self, dtype: ElementType) -> Result<Self> {
        for (key, tensor) in &mut self.tensors {
            if !key.starts_with(OPTIMIZER) {
                *tensor = tensor.with_dtype(key, dtype)?;
            }
        }
        Ok(self)
    }
}

/// The ties that a header's text says.
fn ties_of(text: &str) -> Result<BTreeMap<String, String>> {
    let Pairs(pairs) = serde_json::from_str::<Pairs<String>>(text)
        .map_err(|error| malformed(TIES_KEY, error.to_string()))?;
    let mut ties = BTreeMap::new();
    for (key, of) in pairs {
        let Some(of) = of.strip_suffix(TRANSPOSE) else {
            let reason =
                format!("`{key}` must be tied to a key and {TRANSPOSE}, but it is to `{of}`");
            return Err(malformed(TIES_KEY, reason));
        };
        if ties.contains_key(&key) {
            return Err(Error::KeyTwice { key });
        }
        ties.insert(key, of.to_owned());
    }
    Ok(ties)
}
