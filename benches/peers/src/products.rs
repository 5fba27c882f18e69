//! The plain products, on random operands of one shape, and the check of what comes out.

use burn::tensor::Tensor;

use crate::adapter::Rig;
use crate::candidate::{Candidate, Kernel};
use crate::host::Host;
use crate::layer::{decode, encode};
use crate::reference::{Expected, check};
use crate::shape::Shape;

/// A product of operands that it holds itself.
pub type Operation = Box<dyn Fn() -> Tensor<2>>;

/// Operands on the host and on the device.
///
/// H and dA, say, are not computed from X, but random too: to a product that makes no difference.
pub struct Products<'a> {
    rig: &'a Rig,
    shape: Shape,
    weight: Host,
    input: Host,
    code: Host,
    output_delta: Host,
    code_delta: Host,
    encoder_bias: Host,
    decoder_bias: Host,
}

impl<'a> Products<'a> {
    /// Random operands.
    pub fn new(rig: &'a Rig, shape: Shape) -> Self {
        let Shape { batch, inputs, hidden } = shape;
        Self {
            rig,
            shape,
            weight: Host::random(hidden, inputs, 1.0, 1),
            input: Host::random(batch, inputs, 1.0, 2),
            code: Host::random(batch, hidden, 1.0, 3),
            output_delta: Host::random(batch, inputs, 1.0, 4),
            code_delta: Host::random(batch, hidden, 1.0, 5),
            encoder_bias: Host::random(1, hidden, 1.0, 6),
            decoder_bias: Host::random(1, inputs, 1.0, 7),
        }
    }

    /// All products, each run once and compared with the reference.
    pub fn checked(&self) -> Result<Vec<Candidate>, String> {
        let device = &self.rig.device;
        let (weight, input) = (self.weight.upload(device), self.input.upload(device));
        let (code, output_delta) = (self.code.upload(device), self.output_delta.upload(device));
        let code_delta = self.code_delta.upload(device);
        let encoder_bias = self.encoder_bias.upload_row(device);
        let decoder_bias = self.decoder_bias.upload_row(device);

        let (x, w) = (input.clone(), weight.clone());
        let bare_encode = move || x.clone().matmul(w.clone().transpose());
        let (x, w) = (input.clone(), weight.clone());
        let layer_encode = move || encode(x.clone(), w.clone(), encoder_bias.clone());
        let (h, w) = (code.clone(), weight.clone());
        let bare_decode = move || h.clone().matmul(w.clone());
        let h = code.clone();
        let layer_decode = move || decode(h.clone(), weight.clone(), decoder_bias.clone());
        let backward = move || {
            let of_decoder = code.clone().transpose().matmul(output_delta.clone());
            of_decoder + code_delta.clone().transpose().matmul(input.clone())
        };
        let operations: [(Kernel, Operation); 5] = [
            (Kernel::Encode, Box::new(bare_encode)),
            (Kernel::EncodeLayer, Box::new(layer_encode)),
            (Kernel::Decode, Box::new(bare_decode)),
            (Kernel::DecodeLayer, Box::new(layer_decode)),
            (Kernel::Backward, Box::new(backward)),
        ];
        let checked = |(kernel, operation): (Kernel, Operation)| {
            self.check(kernel, &Host::read(operation())?)?;
            Ok(Candidate::product(kernel, operation))
        };
        operations.into_iter().map(checked).collect()
    }

    /// Compares the result of a product with the reference.
    fn check(&self, kernel: Kernel, got: &Host) -> Result<(), String> {
        let Shape { batch, inputs, hidden } = self.shape;
        let Self { weight, input, code, output_delta, code_delta, .. } = self;
        let encoded = |b, h| Expected::dot(input.row(b), weight.row(h));
        let decoded = |b, i| Expected::dot(code.row(b), weight.column(i));
        let bias = |of: &Host, at| Expected::of(f64::from(of.at(0, at)));
        let name = format!("Burn's {} at {}", kernel.name(), self.shape);
        match kernel {
            Kernel::Encode => check(&name, got, inputs, encoded),
            Kernel::EncodeLayer => check(&name, got, inputs, |b, h| {
                encoded(b, h).plus(bias(&self.encoder_bias, h)).relu()
            }),
            Kernel::Decode => check(&name, got, hidden, decoded),
            Kernel::DecodeLayer => {
                check(&name, got, hidden, |b, i| decoded(b, i).plus(bias(&self.decoder_bias, i)))
            }
            Kernel::Backward => check(&name, got, 2 * batch, |h, i| {
                let of_decoder = Expected::dot(code.column(h), output_delta.column(i));
                of_decoder.plus(Expected::dot(code_delta.column(h), input.column(i)))
            }),
            Kernel::Step => Ok(()),
        }
    }
}
