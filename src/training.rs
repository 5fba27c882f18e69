//! [`TrainingStep`]: forward, loss, backward and update of one tied layer, prepared once.

use crate::element::ElementTypes;
use crate::error::{Error, Result};
use crate::kernels::{
    Accumulate, Backward, Commands, Contributions, Factors, Loss, Reduction, Sum,
};
use crate::layer::{Gradients, LayerBackward, Tape, TiedLinear, Wanted};
use crate::matrix::Matrix;
use crate::optimizer::Optimizer;

/// How a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TrainingOptions {
    /// The loss. Default: squared error.
    pub loss: Loss,
    /// Its reduction. Default: mean.
    pub reduction: Reduction,
    /// Which uses of the weight its gradient counts. Default: both.
    pub contributions: Contributions,
    /// Whether the gradients are overwritten or added to. Default: overwritten.
    pub accumulate: Accumulate,
    /// The types of the code and the deltas. Those of the weight and of its gradient are the layer's
    /// ([`TiedLinearOptions`](crate::TiedLinearOptions)) and that of `gradients`
    /// ([`Gradients::new_as`]). Default: f32.
    pub elements: ElementTypes,
    /// Whether the weight takes its step straight from the sums of its gradient, which is then written
    /// nowhere ([`Gradients::without_weight`] will do): for when nobody else needs it. The numbers are
    /// the same. The weight's step is then part of
    /// [`gradient_commands`](TrainingStep::gradient_commands). Where a bias is larger than the weight
    /// the update stays apart. It does not go with a scale of the loss. Default: no.
    pub fused_update: bool,
}

impl TrainingOptions {
    /// Sets [`TrainingOptions::loss`].
    pub fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Sets [`TrainingOptions::reduction`].
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets [`TrainingOptions::contributions`].
    pub fn with_contributions(mut self, contributions: Contributions) -> Self {
        self.contributions = contributions;
        self
    }

    /// Sets [`TrainingOptions::accumulate`].
    pub fn with_accumulate(mut self, accumulate: Accumulate) -> Self {
        self.accumulate = accumulate;
        self
    }

    /// Sets [`TrainingOptions::elements`].
    pub fn with_elements(mut self, elements: ElementTypes) -> Self {
        self.elements = elements;
        self
    }

    /// Sets [`TrainingOptions::fused_update`].
    pub fn with_fused_update(mut self, fused_update: bool) -> Self {
        self.fused_update = fused_update;
        self
    }
}

/// One training step of a tied layer on one batch, prepared: record it as often as you like.
///
/// A step is six dispatches: encode; decode, which goes straight on to the loss and its gradient; the
/// code's gradient; the weight's; the biases', with the loss's total and the last pass of a weight
/// gradient that was split ([`StrategyTable`](crate::StrategyTable)); the update. Before that, a
/// [scale of the loss](crate::LossScale), where the optimizer has one, takes a seventh.
///
/// On the GPU it takes, for P parameters in f32 and with Adam: 4·P bytes for the parameters, 4·P for
/// the gradients (all but the weight's with [`TrainingOptions::fused_update`]), 16·513·G for the moments
/// and step counts, where G is the number of runs of 1,024 values that the parameters' padded rows begin,
/// and 4·batch·(2·hidden + inputs) for the code and two deltas; 16 bytes for each invocation of decode,
/// where its part of the loss goes; 16·parts·hidden·⌈inputs/4⌉ where the weight's gradient is split; and
/// six uniforms, the loss and the optimizer's settings. The `benchmark` example counts the buffers and
/// compares. In 16 bits the code, the deltas and the weight's gradient take half, rows being padded to an
/// even number of elements, and the weight 2 bytes a value more, for its working copy.
///
/// The batch is the contents of `input` and `target` when the commands run; write new samples there
/// for the next batch. Every step has buffers of its own for activations; gradients can be shared by
/// steps that run one after the other.
///
/// To accumulate gradients over micro-batches, prepare one step that overwrites them and one that
/// adds to them, record the [`gradient_commands`](Self::gradient_commands) of the first once and of
/// the second for each further micro-batch, then the [`update_commands`](Self::update_commands). With
/// [`Reduction::Mean`] the sum of N micro-batches' gradients is N times the mean over all samples; with
/// [`Reduction::Sum`] it is the gradient of the whole batch.
#[derive(Debug, Clone)]
pub struct TrainingStep {
    tape: Tape,
    loss: Matrix,
    gradient_commands: Commands,
    update_commands: Commands,
}

impl TrainingStep {
    /// A step on `input` X \[batch, inputs\] towards `target` in the same shape: for an autoencoder,
    /// `input` itself.
    ///
    /// # Errors
    ///
    /// As the kernels that it runs ([`Kernels`](crate::Kernels)), as [`Optimizer::update`], and
    /// [`Error::Incompatible`] for a cross-entropy with a decoder's activation.
    pub fn new(
        layer: &TiedLinear,
        optimizer: &Optimizer,
        gradients: &Gradients,
        input: &Matrix,
        target: &Matrix,
        options: TrainingOptions,
    ) -> Result<Self> {
        let strategies = layer.kernels().strategies().clone().without_split_products();
        let layer = &layer.with_kernels(&layer.kernels().with_strategies(strategies));
        let tape = Tape::without_output(layer, input.rows(), options.elements)?;
        let loss = layer.kernels().zeros("loss", 1, 1)?;
        options.loss.expect_decoder_activation(layer.decoder().activation())?;
        let wanted = Wanted {
            target,
            loss: options.loss,
            reduction: options.reduction,
            loss_scale: optimizer.loss_scale(),
        };
        let (forward, values) = layer.forward_to_loss(input, &tape, &wanted)?;
        if options.fused_update && options.accumulate == Accumulate::Add {
            return Err(Error::Incompatible {
                what: "fused_update",
                reason: "a gradient that is accumulated must be written",
            });
        }
        let scale = options.reduction.scale(target.len());
        let total = Sum { partials: &values, scale, total: &loss };
        let backward = LayerBackward::new(input, &tape, gradients)
            .with_contributions(options.contributions)
            .with_accumulate(options.accumulate);
        let pairs = gradients.pairs(layer);
        let mut rest = None;
        let backward = layer.backward_with(&backward, Some(total), |call| {
            if options.fused_update {
                let &Backward { code, output_delta, code_delta, input, contributions, .. } = call;
                let factors = Factors { code, output_delta, code_delta, input, contributions };
                let weight = layer.weight().matrix();
                if let Some((fused, others)) =
                    optimizer.update_from_factors(weight, &factors, &pairs)?
                {
                    rest = Some(others);
                    return Ok((fused, None));
                }
            }
            layer.kernels().backward_in_parts(call)
        })?;
        let update_commands = match rest {
            Some(rest) => rest,
            None => optimizer.update(&pairs)?,
        };
        let gradient_commands = forward.then(backward);
        Ok(Self { tape, loss, gradient_commands, update_commands })
    }

    /// Records the whole step: forward, loss, backward, update.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.gradient_commands.record(pass);
        self.update_commands.record(pass);
    }

    /// Forward, loss and backward alone.
    pub fn gradient_commands(&self) -> &Commands {
        &self.gradient_commands
    }

    /// The update alone.
    pub fn update_commands(&self) -> &Commands {
        &self.update_commands
    }

    /// The loss of the step that ran last, before its update; \[1, 1\], on the GPU until it is read.
    pub fn loss(&self) -> &Matrix {
        &self.loss
    }

    /// The code and the deltas of the step that ran last. The output is not kept: the loss is part of
    /// the decoder's dispatch.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }
}
