//! [`Program`]: the dispatches of a training step, in order, before any buffer is made.

use super::gradients::Frozen;
use super::plan::{Plan, Value};
use crate::element::ElementTypes;
use crate::kernels::Activation;
use crate::layer::TiedLinear;

/// The caller's input, or a value of the plan.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Input,
    Planned(Value),
}

/// What an activation's derivative is computed from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slope {
    pub(super) activation: Activation,
    pub(super) saved: Value,
}

/// A forward product's results.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward {
    pub(super) output: Value,
    pub(super) preactivation: Option<Value>,
}

/// A dispatch, or what cannot be torn apart; `layer` is the one whose weight is used.
#[derive(Debug)]
pub(super) enum Operation {
    /// A noisy copy of the input.
    Noise { output: Value },
    /// Xᵢ₊₁.
    Encode { layer: usize, input: Source, forward: Forward },
    /// Yᵢ, but the output.
    Decode { layer: usize, code: Value, forward: Forward },
    /// dA₀ and the parts of the loss.
    Loss { code: Value, delta: Value },
    /// dA·Wᵀ through an activation.
    Outward { layer: usize, delta: Value, slope: Slope, output: Value },
    /// dZ·W through an activation.
    Inward { layer: usize, delta: Value, slope: Slope, output: Value },
    /// dW, and in a second dispatch db, dc and what is left of dW.
    Parameters(Uses),
}

/// What the gradients of a layer's parameters are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uses {
    pub(super) layer: usize,
    /// Yᵢ₊₁, dAᵢ, dZᵢ and Xᵢ, for the weight.
    pub(super) weight: Option<(Value, Value, Value, Source)>,
    /// dZᵢ.
    pub(super) encoder_bias: Option<Value>,
    /// dAᵢ.
    pub(super) decoder_bias: Option<Value>,
}

/// The operations of a training step and the plan of what they write and read.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub(super) operations: Vec<Operation>,
    pub(super) plan: Plan,
    elements: ElementTypes,
}

/// What of a layer is trained.
#[derive(Debug, Clone, Copy)]
struct Trained {
    weight: bool,
    encoder_bias: bool,
    decoder_bias: bool,
}

impl Trained {
    fn new(layer: &TiedLinear, frozen: Frozen) -> Self {
        Self {
            weight: !frozen.weight,
            encoder_bias: !frozen.encoder_bias && layer.encoder().bias().is_some(),
            decoder_bias: !frozen.decoder_bias && layer.decoder().bias().is_some(),
        }
    }
}

impl Program {
    /// A step of these layers, of which there is one at least; `frozen` has one entry for each.
    pub(super) fn new(
        layers: &[TiedLinear],
        frozen: &[Frozen],
        noise: bool,
        elements: ElementTypes,
    ) -> Self {
        let count = layers.len();
        let pairs = layers.iter().zip(frozen);
        let trained: Vec<_> = pairs.map(|(layer, frozen)| Trained::new(layer, *frozen)).collect();
        // A delta is needed for its layer's own parameters, and to go on to others that are.
        let mut needs_code_delta = Vec::with_capacity(count);
        for own in &trained {
            let further = needs_code_delta.last().copied().unwrap_or(false);
            needs_code_delta.push(further || own.weight || own.encoder_bias);
        }
        let mut needs_output_delta = vec![false; count];
        let mut further = needs_code_delta[count - 1];
        for (own, needed) in trained.iter().zip(&mut needs_output_delta).rev() {
            further |= own.weight || own.decoder_bias;
            *needed = further;
        }

        let mut program = Self { elements, ..Self::default() };
        let mut input = Source::Input;
        if noise {
            let output = program.activation(layers[0].weight().inputs());
            program.push(Operation::Noise { output });
            input = Source::Planned(output);
        }
        // Xᵢ and Xᵢ₊₁ of each layer, and what f′ and g′ are computed from.
        let mut inputs = Vec::with_capacity(count);
        let mut encoder_slopes = Vec::with_capacity(count);
        let mut decoder_slopes = vec![None; count];
        let mut codes = Vec::with_capacity(count);
        for (layer, of_layer) in layers.iter().enumerate() {
            inputs.push(input);
            let activation = of_layer.encoder().activation();
            let keep = needs_code_delta[layer] && activation.needs_preactivation();
            program.read(input);
            let forward = program.forward(of_layer.weight().hidden(), keep);
            program.push(Operation::Encode { layer, input, forward });
            encoder_slopes.push(forward.slope(activation));
            codes.push(forward.output);
            input = Source::Planned(forward.output);
        }
        // From here on the input of decode i, Yᵢ₊₁, stands at i.
        let mut code = codes[count - 1];
        for layer in (1..count).rev() {
            let activation = layers[layer].decoder().activation();
            let keep = needs_output_delta[layer] && activation.needs_preactivation();
            program.plan.read(code);
            let forward = program.forward(layers[layer].weight().inputs(), keep);
            program.push(Operation::Decode { layer, code, forward });
            decoder_slopes[layer] = Some(forward.slope(activation));
            code = forward.output;
            codes[layer - 1] = code;
        }
        program.plan.read(code);
        let delta = program.delta(layers[0].weight().inputs());
        program.push(Operation::Loss { code, delta });

        // dAᵢ stands at i.
        let mut output_deltas = vec![delta];
        for layer in 1..count {
            let Some(slope) = decoder_slopes[layer].filter(|_| needs_output_delta[layer]) else {
                break;
            };
            let delta = output_deltas[layer - 1];
            output_deltas.push(program.outward(layers, layer - 1, delta, slope));
        }
        let mut code_delta = None;
        for layer in (0..count).rev() {
            if needs_code_delta[layer] {
                let slope = encoder_slopes[layer];
                code_delta = Some(match code_delta {
                    None => program.outward(layers, layer, output_deltas[layer], slope),
                    Some(delta) => program.inward(layers, layer + 1, delta, slope),
                });
            }
            let code_delta = code_delta.filter(|_| needs_code_delta[layer]);
            let own = trained[layer];
            let output_delta = output_deltas.get(layer).copied();
            let both = output_delta.zip(code_delta).filter(|_| own.weight);
            let uses = Uses {
                layer,
                weight: both.map(|(a, z)| (codes[layer], a, z, inputs[layer])),
                encoder_bias: code_delta.filter(|_| own.encoder_bias),
                decoder_bias: output_delta.filter(|_| own.decoder_bias),
            };
            program.parameters(uses);
        }
        program
    }

    fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
        self.plan.next();
    }

    fn activation(&mut self, columns: u32) -> Value {
        self.plan.written(columns, self.elements.activation)
    }

    fn delta(&mut self, columns: u32) -> Value {
        self.plan.written(columns, self.elements.gradient)
    }

    fn read(&mut self, source: Source) {
        if let Source::Planned(value) = source {
            self.plan.read(value);
        }
    }

    fn forward(&mut self, columns: u32, keep: bool) -> Forward {
        let output = self.activation(columns);
        Forward { output, preactivation: keep.then(|| self.activation(columns)) }
    }

    fn outward(
        &mut self,
        layers: &[TiedLinear],
        layer: usize,
        delta: Value,
        slope: Slope,
    ) -> Value {
        self.plan.read(delta);
        if slope.activation != Activation::Identity {
            self.plan.read(slope.saved);
        }
        let output = self.delta(layers[layer].weight().hidden());
        self.push(Operation::Outward { layer, delta, slope, output });
        output
    }

    fn inward(&mut self, layers: &[TiedLinear], layer: usize, delta: Value, slope: Slope) -> Value {
        self.plan.read(delta);
        if slope.activation != Activation::Identity {
            self.plan.read(slope.saved);
        }
        let output = self.delta(layers[layer].weight().inputs());
        self.push(Operation::Inward { layer, delta, slope, output });
        output
    }

    fn parameters(&mut self, uses: Uses) {
        if let Some((code, output_delta, code_delta, input)) = uses.weight {
            for value in [code, output_delta, code_delta] {
                self.plan.read(value);
            }
            self.read(input);
        }
        for value in [uses.encoder_bias, uses.decoder_bias].into_iter().flatten() {
            self.plan.read(value);
        }
        // Without anything to train it may still be the place for the loss's total.
        self.push(Operation::Parameters(uses));
    }
}

impl Forward {
    fn slope(self, activation: Activation) -> Slope {
        Slope { activation, saved: self.preactivation.unwrap_or(self.output) }
    }
}
