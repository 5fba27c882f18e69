//! From the GPU to a checkpoint and back.

use std::collections::{BTreeMap, BTreeSet};

use super::Checkpoint;
use super::format::malformed;
use super::state::{Form, LayerKeys, StateDict, StateEntry};
use super::tensor::Tensor;
use crate::element::ElementType;
use crate::error::{Error, Result, captured, expect_alive};
use crate::halves::{Decoder, Encoder};
use crate::kernels::{Activation, Kernels, Weight};
use crate::layer::TiedLinear;
use crate::matrix::{Matrix, expect_usage};
use crate::transfer::Readback;

impl Checkpoint {
    /// Reads the matrices of `state`: records copies of all of them, submits these at once, so that
    /// they are of one moment, and waits without blocking.
    ///
    /// On native backends the future completes when the host polls the device, as every wgpu callback
    /// does; [`Checkpoint::read_blocking`] polls by itself.
    ///
    /// # Errors
    ///
    /// [`Error::KeyTwice`], [`Error::MissingKey`] for a tie to a key that `state` lacks,
    /// [`Error::Shape`] for a bias of other than one row, and as
    /// [`Matrix::read`](crate::Matrix::read).
    pub async fn read(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        state: &StateDict,
    ) -> Result<Self> {
        let readbacks = submitted(device, queue, state)?;
        // All are asked for before the first is waited for: one poll of the host's serves them all.
        let pending = readbacks.iter().map(Readback::read).collect::<Result<Vec<_>>>()?;
        let mut values = Vec::new();
        for pending in pending {
            values.push(pending.await?);
        }
        Self::of_values(state, values)
    }

    /// As [`Checkpoint::read`], blocking. For native programs.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::read`].
    pub fn read_blocking(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        state: &StateDict,
    ) -> Result<Self> {
        let readbacks = submitted(device, queue, state)?;
        let values = readbacks.iter().map(Readback::read_blocking).collect::<Result<_>>()?;
        Self::of_values(state, values)
    }

    /// A checkpoint of these values of the entries of `state`.
    fn of_values(state: &StateDict, values: Vec<Vec<f32>>) -> Result<Self> {
        let tensor = |(entry, values): (&StateEntry, Vec<f32>)| {
            let StateEntry { key, matrix, form } = entry;
            let tensor = match form {
                Form::Count => Tensor::of_count(values.first().map_or(0, |count| count.to_bits())),
                Form::Matrix | Form::Vector | Form::Scale => {
                    Tensor::of_values(key, &entry.shape(), &values)?
                }
                Form::Transposed => {
                    let columns = matrix.columns() as usize;
                    Tensor::of_values(key, &entry.shape(), &transposed(&values, columns))?
                }
            };
            Ok((key.clone(), tensor))
        };
        let tensors = state.iter().zip(values).map(tensor).collect::<Result<_>>()?;
        let ties = state.ties().map(|[key, of]| (key.into(), of.into())).collect();
        Ok(Self { tensors, ties, texts: BTreeMap::new() })
    }

    /// Writes the tensors to the matrices of `state`: the values are there before whatever is submitted
    /// next. Everything is checked, and read from the file, before anything is written; the check of
    /// the buffers submits commands that do nothing.
    ///
    /// Each entry of `state` must be there, in its shape, and nothing else: see
    /// [`Checkpoint::without_optimizer`] and [`Checkpoint::retain`]. Of a weight that `state` ties, the
    /// transpose may be there too, if it is equal, or instead.
    ///
    /// # Errors
    ///
    /// [`Error::MissingKey`], [`Error::UnknownKey`], [`Error::KeyShape`], [`Error::KeyType`],
    /// [`Error::KeyValue`] for a step count or a scale that is none, and for a finite number that the
    /// matrix's type, or that of its working copy, cannot hold, [`Error::NotTransposed`],
    /// [`Error::OtherTie`], [`Error::File`], and those of [`Checkpoint::read`] and
    /// [`Matrix::write`](crate::Matrix::write). The queue must be the device's own, which wgpu gives no
    /// way to check.
    pub fn restore(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        state: &StateDict,
    ) -> Result<()> {
        state.check()?;
        let sources = self.sources(state)?;
        expect_writable(device, queue, state)?;
        let values: Vec<_> = state
            .iter()
            .zip(sources)
            .map(|(entry, source)| self.values_for(entry, source))
            .collect::<Result<_>>()?;
        for (entry, values) in state.iter().zip(values) {
            entry.matrix.write(device, queue, &values)?;
        }
        Ok(())
    }

    /// Where the values of each entry of `state` come from, everything in its right type and shape,
    /// nothing being left over, and all ties being kept.
    fn sources(&self, state: &StateDict) -> Result<Vec<Source<'_>>> {
        let mut used = BTreeSet::new();
        let mut sources = BTreeMap::new();
        for entry in state.iter() {
            let source = self.source(entry, state)?;
            used.extend([source.key, entry.key.as_str()]);
            sources.insert(entry.key.as_str(), source);
        }
        for [key, of] in state.ties() {
            used.insert(key);
            let other = self.ties.get(key).filter(|other| *other != of);
            if let Some(given) = other {
                let (expected, given) = (of.into(), given.clone());
                return Err(Error::OtherTie { key: key.into(), expected, given });
            }
            if let (Some(twin), Some(source)) = (self.tensors.get(key), sources.get(of)) {
                expect_transposed(key, twin, source)?;
            }
        }
        let mut keys = self.tensors.keys().chain(self.ties.keys());
        if let Some(key) = keys.find(|key| !used.contains(key.as_str())) {
            return Err(Error::UnknownKey { key: key.clone() });
        }
        Ok(state.iter().filter_map(|entry| sources.get(entry.key.as_str()).copied()).collect())
    }

    /// Where the values of an entry come from: its key, or that of its transpose, as the checkpoint
    /// or `state` say.
    fn source(&self, entry: &StateEntry, state: &StateDict) -> Result<Source<'_>> {
        let of_checkpoint = self.ties.get(&entry.key).map(String::as_str);
        let of_state = state.ties().find(|[_, of]| *of == entry.key).map(|[key, _]| key);
        let own = [(Some(entry.key.as_str()), false)];
        let transposes = [of_checkpoint, of_state].map(|key| (key, true));
        let found = own.into_iter().chain(transposes).find_map(|(key, transposed)| {
            let (key, tensor) = self.tensors.get_key_value(key?)?;
            Some(Source { key, tensor, transposed })
        });
        let source = found.ok_or_else(|| Error::MissingKey { key: entry.key.clone() })?;
        let Source { key, tensor, transposed } = source;
        match entry.form {
            Form::Count => tensor.expect_count(key)?,
            _ => drop(tensor.expect_values(key)?),
        }
        let mut expected = entry.shape();
        if transposed {
            expected.reverse();
        }
        if tensor.shape() != expected {
            let (key, given) = (key.into(), tensor.shape().to_vec());
            return Err(Error::KeyShape { key, expected, given });
        }
        Ok(source)
    }

    /// The values of an entry, as its matrix is written.
    fn values_for(&self, entry: &StateEntry, source: Source<'_>) -> Result<Vec<f32>> {
        let Source { key, tensor, transposed: is_transposed } = source;
        if entry.form == Form::Count {
            let count = f32::from_bits(tensor.count(key)?);
            return Ok(vec![count; entry.matrix.rows() as usize]);
        }
        let values = tensor.values(key)?;
        let refused = |expected, given: &f32| {
            Err(Error::KeyValue { key: key.into(), expected, given: (*given).into() })
        };
        // An update multiplies by the inverse, and takes a subnormal one, which may be zero, for a step to skip.
        let normal = |scale: &&f32| {
            scale.is_normal() && (1.0 / **scale).is_normal() && scale.is_sign_positive()
        };
        if let (Form::Scale, Some(given)) = (entry.form, values.iter().find(|v| !normal(v))) {
            return refused("a finite scale above 0", given);
        }
        let copy = entry.matrix.working_copy();
        let held = [
            (Some(&entry.matrix), "numbers that its matrix's element type can hold"),
            (copy.as_ref(), "numbers that its matrix's working copy can hold"),
        ];
        for (matrix, expected) in held {
            let Some(element) = matrix.map(|matrix| matrix.layout().element) else { continue };
            if let Some(given) = values.iter().find(|value| element.overflows(**value)) {
                return refused(expected, given);
            }
        }
        Ok(if is_transposed != (entry.form == Form::Transposed) {
            transposed(&values, entry.matrix.rows() as usize)
        } else {
            values
        })
    }

    /// A tied layer with the weight, and the biases that are there, in the sizes that they have, all in f32.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::restore`], and [`Error::Limit`] for a weight that is too large for the device.
    pub fn tied_layer(
        &self,
        kernels: &Kernels,
        queue: &wgpu::Queue,
        keys: &LayerKeys,
        activations: [Activation; 2],
    ) -> Result<TiedLinear> {
        self.tied_layer_as(kernels, queue, keys, activations, ElementType::F32)
    }

    /// The same with a weight that the products read in this type: with a 16-bit one it is an f32 master with
    /// a [working copy](Matrix::with_working_copy), as of
    /// [`TiedLinearOptions::with_weight_element`](crate::TiedLinearOptions::with_weight_element), whatever
    /// the type in the file.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::tied_layer`].
    pub fn tied_layer_as(
        &self,
        kernels: &Kernels,
        queue: &wgpu::Queue,
        keys: &LayerKeys,
        [encoder_activation, decoder_activation]: [Activation; 2],
        weight_element: ElementType,
    ) -> Result<TiedLinear> {
        let weight = Weight::new(kernels, self.zeroed_weight(kernels, keys, weight_element)?)?;
        let [b, c] = self.zeroed_biases(kernels, keys, &weight)?;
        let layer = TiedLinear::from_halves(
            Encoder::new(kernels, &weight, b, encoder_activation)?,
            Decoder::new(kernels, &weight, c, decoder_activation)?,
        )?;
        self.restore(kernels.device(), queue, &layer.state_dict(keys))?;
        Ok(layer)
    }

    /// Two halves with a weight each, and the biases that are there: for a checkpoint whose weights are
    /// not each other's transpose. From one that says that they are tied, the two get equal weights.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::tied_layer`], but for those of ties.
    pub fn untied_halves(
        &self,
        kernels: &Kernels,
        queue: &wgpu::Queue,
        keys: &LayerKeys,
        activations: [Activation; 2],
    ) -> Result<(Encoder, Decoder)> {
        self.untied_halves_as(kernels, queue, keys, activations, ElementType::F32)
    }

    /// The same with weights that the products read in this type, as with
    /// [`Checkpoint::tied_layer_as`].
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::untied_halves`].
    pub fn untied_halves_as(
        &self,
        kernels: &Kernels,
        queue: &wgpu::Queue,
        keys: &LayerKeys,
        [encoder_activation, decoder_activation]: [Activation; 2],
        weight_element: ElementType,
    ) -> Result<(Encoder, Decoder)> {
        let weight = || Weight::new(kernels, self.zeroed_weight(kernels, keys, weight_element)?);
        let (encoder_weight, decoder_weight) = (weight()?, weight()?);
        let [b, c] = self.zeroed_biases(kernels, keys, &encoder_weight)?;
        let encoder = Encoder::new(kernels, &encoder_weight, b, encoder_activation)?;
        let decoder = Decoder::new(kernels, &decoder_weight, c, decoder_activation)?;
        let state = encoder.state_dict(keys).and(decoder.state_dict(keys));
        self.restore(kernels.device(), queue, &state)?;
        Ok((encoder, decoder))
    }

    /// Zeros in the shape of the encoder's weight, by the tensor of it or of its transpose.
    fn zeroed_weight(
        &self,
        kernels: &Kernels,
        keys: &LayerKeys,
        element: ElementType,
    ) -> Result<Matrix> {
        let own = self.tensors.get_key_value(&keys.encoder_weight).map(|found| (found, false));
        let transpose = || self.tensors.get_key_value(&keys.decoder_weight);
        let found = own.or_else(|| transpose().map(|found| (found, true)));
        let Some(((key, tensor), is_transposed)) = found else {
            return Err(Error::MissingKey { key: keys.encoder_weight.clone() });
        };
        let wrong = || {
            let shape = tensor.shape();
            malformed(key, format!("a weight has two dimensions, but its shape is {shape:?}"))
        };
        let &[rows, columns] = tensor.shape() else { return Err(wrong()) };
        let [rows, columns] = if is_transposed { [columns, rows] } else { [rows, columns] };
        let count = |n: usize| {
            let too_many = Error::TooManyElements {
                operand: "weight",
                given: n as u64,
                most: u32::MAX.into(),
            };
            u32::try_from(n).map_err(|_| too_many)
        };
        kernels.zeroed_master("weight", count(rows)?, count(columns)?, element)
    }

    /// Zeros in the shapes of the encoder's bias and the decoder's, where there are tensors of them.
    fn zeroed_biases(
        &self,
        kernels: &Kernels,
        keys: &LayerKeys,
        weight: &Weight,
    ) -> Result<[Option<Matrix>; 2]> {
        let bias = |label, key: &String, columns| {
            let is_there = self.tensors.contains_key(key);
            is_there.then(|| kernels.zeros(label, 1, columns)).transpose()
        };
        Ok([
            bias("encoder bias", &keys.encoder_bias, weight.hidden())?,
            bias("decoder bias", &keys.decoder_bias, weight.inputs())?,
        ])
    }
}

/// A tensor that an entry's values come from.
#[derive(Clone, Copy)]
struct Source<'a> {
    key: &'a str,
    tensor: &'a Tensor,
    /// Whether it is the transpose of the entry's form.
    transposed: bool,
}

/// Passes if the tensor is the transpose of the entry that `source` is for, bit for bit once widened to
/// f32.
fn expect_transposed(key: &str, twin: &Tensor, source: &Source<'_>) -> Result<()> {
    if source.key == key {
        return Ok(());
    }
    twin.expect_values(key)?;
    let mut expected = source.tensor.shape().to_vec();
    if !source.transposed {
        expected.reverse();
    }
    if twin.shape() != expected {
        let (key, given) = (key.into(), twin.shape().to_vec());
        return Err(Error::KeyShape { key, expected, given });
    }
    let [rows, columns] = [expected.first(), expected.last()].map(|n| n.copied().unwrap_or(1));
    let (own, mut other) = (twin.values(key)?, source.tensor.values(source.key)?);
    if !source.transposed {
        other = transposed(&other, rows);
    }
    let differ = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
    let Some(at) = own.iter().zip(&other).position(differ) else { return Ok(()) };
    let (row, column, given) = (at / columns, at % columns, [own[at], other[at]]);
    Err(Error::NotTransposed { key: key.into(), of: source.key.into(), row, column, given })
}

/// The transpose of rows of so many values.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

/// A readback of each matrix, its copy being submitted.
fn submitted(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    state: &StateDict,
) -> Result<Vec<Readback>> {
    state.check()?;
    let readbacks = state.iter().map(|entry| Readback::new(device, &entry.matrix));
    let readbacks = readbacks.collect::<Result<Vec<_>>>()?;
    captured(device, "a checkpoint", || {
        let mut encoder = device.create_command_encoder(&Default::default());
        readbacks.iter().for_each(|readback| readback.record(&mut encoder));
        queue.submit([encoder.finish()]);
    })?;
    Ok(readbacks)
}

/// Passes if wgpu lets all matrices be written. It says nothing of a destroyed buffer before a
/// submission that uses it, so there is one, which clears none of their bytes.
fn expect_writable(device: &wgpu::Device, queue: &wgpu::Queue, state: &StateDict) -> Result<()> {
    for StateEntry { matrix, .. } in state.iter() {
        expect_usage("matrix", matrix, wgpu::BufferUsages::COPY_DST)?;
        matrix.expect_whole_rows()?;
    }
    expect_alive(device)?;
    captured(device, "a checkpoint", || {
        let mut encoder = device.create_command_encoder(&Default::default());
        for StateEntry { matrix, .. } in state.iter() {
            encoder.clear_buffer(matrix.buffer(), 0, Some(0));
        }
        queue.submit([encoder.finish()]);
    })
}
