//! [`StateDict`]: which matrix goes with which key.

use crate::autoencoder::TiedAutoencoder;
use crate::error::{Error, Result};
use crate::halves::{Decoder, Encoder};
use crate::layer::TiedLinear;
use crate::matrix::{Matrix, expect_shape};
use crate::optimizer::{Optimizer, OptimizerState};

/// What the keys of all that an optimizer keeps begin with.
pub(super) const OPTIMIZER: &str = "optimizer.";

/// How a matrix lies in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// As it is: \[rows, columns\].
    Matrix,
    /// Transposed, \[columns, rows\]: so is the weight of a decoder of its own, which PyTorch's
    /// `nn.Linear` holds as \[inputs, hidden\] and this library as \[hidden, inputs\].
    Transposed,
    /// One row, as \[columns\]: a bias.
    Vector,
    /// A column of 32-bit integers that are all equal, as one number, \[\]: the step counts of
    /// [`AdamMoments`](crate::kernels::AdamMoments).
    Count,
    /// One f32, as one number, \[\], which is finite and above 0: the [scale](crate::LossScale) of a loss.
    Scale,
}

/// A matrix on the GPU with its key and its form in a checkpoint.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StateEntry {
    /// Such as `encoder.weight`.
    pub key: String,
    /// Where the values are on the GPU.
    pub matrix: Matrix,
    /// How they lie in a checkpoint.
    pub form: Form,
}

impl StateEntry {
    /// The shape of the tensor in a checkpoint.
    pub fn shape(&self) -> Vec<usize> {
        let [rows, columns] = self.matrix.shape().map(|n| n as usize);
        match self.form {
            Form::Matrix => vec![rows, columns],
            Form::Transposed => vec![columns, rows],
            Form::Vector => vec![columns],
            Form::Count | Form::Scale => vec![],
        }
    }
}

/// What a checkpoint is read from and restored to: matrices with their keys, and the keys of tied
/// weights that are not stored.
///
/// Handles alone: it copies nothing, and is made anew or kept as one likes. A stack of layers is the
/// [`and`](Self::and) of its layers'.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StateDict {
    entries: Vec<StateEntry>,
    ties: Vec<[String; 2]>,
}

impl StateDict {
    /// The same with one more matrix.
    pub fn with(mut self, key: impl Into<String>, matrix: &Matrix, form: Form) -> Self {
        self.entries.push(StateEntry { key: key.into(), matrix: matrix.clone(), form });
        self
    }

    /// The same with the weight `key`, which is the transpose of `of` and is not stored.
    pub fn with_tie(mut self, key: impl Into<String>, of: impl Into<String>) -> Self {
        self.ties.push([key.into(), of.into()]);
        self
    }

    /// All of both.
    pub fn and(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self.ties.extend(other.ties);
        self
    }

    /// The matrices, in the order in which they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, StateEntry> {
        self.entries.iter()
    }

    /// Pairs of the key of a weight that is not stored, and of the one that it is the transpose of.
    pub fn ties(&self) -> impl Iterator<Item = [&str; 2]> {
        self.ties.iter().map(|[key, of]| [key.as_str(), of.as_str()])
    }

    /// Passes if each key occurs once, biases have one row, and ties lead to entries.
    pub(super) fn check(&self) -> Result<()> {
        let keys = || self.entries.iter().map(|entry| &entry.key);
        let all: Vec<_> = keys().chain(self.ties.iter().map(|[key, _]| key)).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        if let Some([key, _]) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::KeyTwice { key: (*key).clone() });
        }
        if let Some([_, of]) = self.ties.iter().find(|[_, of]| keys().all(|key| key != of)) {
            return Err(Error::MissingKey { key: of.clone() });
        }
        for StateEntry { matrix, form, .. } in &self.entries {
            match form {
                Form::Vector => expect_shape("bias", matrix, [1, matrix.columns()])?,
                Form::Count => expect_shape("count", matrix, [matrix.rows(), 1])?,
                Form::Scale => expect_shape("scale", matrix, [1, 1])?,
                Form::Matrix | Form::Transposed => {}
            }
        }
        Ok(())
    }
}

/// The keys of one tied layer.
///
/// All of them can be set, for files that call them otherwise: in PyTorch, a module that computes
/// `F.linear(F.linear(x, self.weight, self.bias), self.weight.t(), self.decoder_bias)` has `weight`,
/// `bias` and `decoder_bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerKeys {
    /// The weight that both halves use, \[hidden, inputs\].
    pub encoder_weight: String,
    /// \[hidden\].
    pub encoder_bias: String,
    /// The transpose of the encoder's weight, \[inputs, hidden\]: not stored in a tied layer.
    pub decoder_weight: String,
    /// \[inputs\].
    pub decoder_bias: String,
}

impl Default for LayerKeys {
    /// `encoder.weight`, `encoder.bias`, `decoder.weight` and `decoder.bias`.
    fn default() -> Self {
        Self::between("encoder", "decoder")
    }
}

impl LayerKeys {
    /// The keys of a layer of a stack, counted from 0 at the outer end: `encoder.0.weight`,
    /// `encoder.0.bias`, `decoder.0.weight` and `decoder.0.bias`. A decoder's number is that of the
    /// encoder whose weight it uses, so the decoder with the highest number runs first.
    pub fn of_layer(index: usize) -> Self {
        Self::between(&format!("encoder.{index}"), &format!("decoder.{index}"))
    }

    /// The keys of two modules of these names.
    pub fn between(encoder: &str, decoder: &str) -> Self {
        Self {
            encoder_weight: format!("{encoder}.weight"),
            encoder_bias: format!("{encoder}.bias"),
            decoder_weight: format!("{decoder}.weight"),
            decoder_bias: format!("{decoder}.bias"),
        }
    }

    /// The same with `prefix` in front of each, such as `model.`.
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        let Self { encoder_weight, encoder_bias, decoder_weight, decoder_bias } = &mut self;
        for key in [encoder_weight, encoder_bias, decoder_weight, decoder_bias] {
            key.insert_str(0, prefix);
        }
        self
    }
}

/// The bias, if there is one.
fn with_bias(state: StateDict, key: &str, bias: Option<&Matrix>) -> StateDict {
    bias.into_iter().fold(state, |state, bias| state.with(key, bias, Form::Vector))
}

impl TiedLinear {
    /// The weight, once, and the biases, with the decoder's weight as tied to the encoder's.
    pub fn state_dict(&self, keys: &LayerKeys) -> StateDict {
        let weight = self.encoder().state_dict(keys);
        with_bias(weight, &keys.decoder_bias, self.decoder().bias())
            .with_tie(&keys.decoder_weight, &keys.encoder_weight)
    }
}

impl Encoder {
    /// The weight and the bias.
    pub fn state_dict(&self, keys: &LayerKeys) -> StateDict {
        let weight = self.weight().matrix();
        let weight = StateDict::default().with(&keys.encoder_weight, weight, Form::Matrix);
        with_bias(weight, &keys.encoder_bias, self.bias())
    }
}

impl Decoder {
    /// The weight, transposed as PyTorch has it, and the bias: for a decoder that is not tied.
    pub fn state_dict(&self, keys: &LayerKeys) -> StateDict {
        let weight = self.weight().matrix();
        let weight = StateDict::default().with(&keys.decoder_weight, weight, Form::Transposed);
        with_bias(weight, &keys.decoder_bias, self.bias())
    }
}

impl TiedAutoencoder {
    /// The parameters of all layers under the keys of [`LayerKeys::of_layer`], `encoder.0.weight` and so
    /// on, with a tie for each weight. What occurs in several layers is stored once, under the first
    /// key.
    pub fn state_dict(&self) -> StateDict {
        let mut all = StateDict::default();
        for (index, layer) in self.layers().iter().enumerate() {
            let known = |matrix: &Matrix| all.iter().any(|entry| entry.matrix == *matrix);
            let state = layer.state_dict(&LayerKeys::of_layer(index));
            let tied = !known(layer.weight().matrix());
            let entries: Vec<_> =
                state.entries.into_iter().filter(|entry| !known(&entry.matrix)).collect();
            all.entries.extend(entries);
            if tied {
                all.ties.extend(state.ties);
            }
        }
        all
    }
}

impl Optimizer {
    /// What the optimizer keeps for each parameter, under `optimizer.`, PyTorch's name of it and the
    /// parameter's key in `parameters`: `optimizer.momentum_buffer.encoder.weight`, with Adam
    /// `optimizer.exp_avg.encoder.weight`, `optimizer.exp_avg_sq.encoder.weight` and
    /// `optimizer.step.encoder.weight`. Nothing for SGD without momentum.
    ///
    /// With a [scale of the loss](Optimizer::with_loss_scale), what it has come to is part of it:
    /// `optimizer.loss_scale.scale`, `optimizer.loss_scale.good_steps` and `optimizer.loss_scale.skipped`. A
    /// scale outside the bounds of its settings is taken as the file has it, and comes within them when it
    /// next changes.
    ///
    /// The settings are not part of it: they are the program's.
    ///
    /// # Errors
    ///
    /// [`Error::NoKey`] where a parameter of the optimizer is not among `parameters`.
    pub fn state_dict(&self, parameters: &StateDict) -> Result<StateDict> {
        let mut scale = StateDict::default();
        if let Some(of_loss) = self.loss_scale() {
            let named = |what: &str| format!("{OPTIMIZER}loss_scale.{what}");
            scale = scale
                .with(named("scale"), &of_loss.scale()?, Form::Scale)
                .with(named("good_steps"), &of_loss.good_steps()?, Form::Count)
                .with(named("skipped"), &of_loss.skipped()?, Form::Count);
        }
        self.states().try_fold(scale, |state, (parameter, kept)| {
            let entry = parameters.iter().find(|entry| entry.matrix == parameter.value);
            let Some(StateEntry { key, form, .. }) = entry else {
                return Err(Error::NoKey { parameter: parameter.name.clone() });
            };
            let named = |what: &str| format!("{OPTIMIZER}{what}.{key}");
            Ok(match kept {
                OptimizerState::Sgd(None) => state,
                OptimizerState::Sgd(Some(velocity)) => {
                    state.with(named("momentum_buffer"), velocity, *form)
                }
                OptimizerState::Adam(moments) => state
                    .with(named("exp_avg"), moments.first_moment(), *form)
                    .with(named("exp_avg_sq"), moments.second_moment(), *form)
                    .with(named("step"), moments.steps(), Form::Count),
            })
        })
    }
}
