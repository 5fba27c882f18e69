//! Masters with working copies in awkward places, and the reference of a stack whose weights, activations and
//! deltas are rounded to types of 16 bits.

use tied_linear::{
    Activation, Decoder, ElementType, Encoder, Layout, Loss, Matrix, Reduction, TiedAutoencoder,
    TiedLinear, Weight,
};

use super::deep::{Deep, LayerGradients};
use super::losses;
use super::reference::{Dense, activate, slope};
use super::{POISON_16, Place, Rig, USAGES, buffer, element_bits, rounded, rounding_of};

/// Where in the buffer of a master its copy lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// Right behind the last row, without gaps.
    Behind,
    /// Some elements behind, with this many, and one more for odd rows, between the rows.
    Apart { gap: u32 },
    /// Before it, with gaps.
    Before,
}

impl Copy {
    pub const ALL: [Self; 4] =
        [Self::Behind, Self::Apart { gap: 2 }, Self::Apart { gap: 8 }, Self::Before];
}

impl Rig {
    /// A matrix with these values and a copy of them in a type of 16 bits, in poisoned surroundings.
    pub fn put_master(
        &self,
        values: &Dense,
        place: Place,
        copy: Copy,
        element: ElementType,
    ) -> Matrix {
        let Dense { rows, columns, .. } = *values;
        let tight = Layout::padded(rows, columns, element);
        let mut layout = place.layout_of(rows, columns, ElementType::F32);
        let length =
            |layout: &Layout| layout.offset + u64::from(layout.rows) * u64::from(layout.row_stride);
        let copy = match copy {
            Copy::Behind => {
                let last = u64::from(rows.max(1) - 1) * u64::from(layout.row_stride);
                Layout { offset: 2 * (layout.offset + last + u64::from(columns)), ..tight }
            }
            Copy::Apart { gap } => {
                let row_stride = tight.row_stride + gap;
                Layout { offset: 2 * length(&layout) + 6, row_stride, ..tight }
            }
            Copy::Before => {
                let copy = Layout { offset: 2, row_stride: tight.row_stride + 2, ..tight };
                // As far from a multiple of four as without the copy.
                layout.offset += length(&copy).next_multiple_of(8) / 2;
                copy
            }
        };
        let halves = (2 * length(&layout)).max(length(&copy)) + 10;
        let mut all = vec![POISON_16; halves.next_multiple_of(2) as usize];
        for row in 0..rows {
            for column in 0..columns {
                let value = values.at(row, column) as f32;
                let at = |layout: &Layout| {
                    let start = layout.offset + u64::from(row) * u64::from(layout.row_stride);
                    (start + u64::from(column)) as usize
                };
                let bits = value.to_bits();
                let place = 2 * at(&layout);
                all[place..place + 2].copy_from_slice(&[bits as u16, (bits >> 16) as u16]);
                all[at(&copy)] = element_bits(element, value);
            }
        }
        let buffer = buffer(&self.gpu.device, 2 * all.len() as u64, USAGES);
        self.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&all));
        Matrix::view(&buffer, layout).unwrap().with_working_copy(copy).unwrap()
    }

    /// Fails where the copy is not the matrix, rounded once, or anything else in the buffer is not poison.
    pub fn expect_copied(&self, what: &str, master: &Matrix) {
        let copy = master.working_copy().expect("a copy");
        let (element, all) = (copy.layout().element, self.all_bits(&copy));
        let want = self.get(master).into_iter().map(|value| element_bits(element, value));
        for (index, (got, want)) in self.element_bits(&copy).into_iter().zip(want).enumerate() {
            assert_eq!(got, want, "{what}: element {index} of the copy {:?}", copy.layout());
        }
        let inside = |layout: &Layout, index: u64| {
            index >= layout.offset && {
                let stride = u64::from(layout.row_stride.max(1));
                let [row, column] =
                    [(index - layout.offset) / stride, (index - layout.offset) % stride];
                row < u64::from(layout.rows) && column < u64::from(layout.columns)
            }
        };
        for (index, bits) in (0..).zip(all) {
            let is_part = inside(&copy.layout(), index) || inside(&master.layout(), index / 2);
            let place = (master.layout(), copy.layout());
            assert!(
                is_part || bits == POISON_16,
                "{what}: half word {index}, outside of {place:?}, was written: {bits:#x}"
            );
        }
    }
}

/// The types of a step, each of its own.
#[derive(Debug, Clone, std::marker::Copy)]
pub struct Types {
    pub weight: ElementType,
    pub activation: ElementType,
    pub delta: ElementType,
    pub gradient: ElementType,
}

impl Types {
    pub const fn all(element: ElementType) -> Self {
        Self { weight: element, activation: element, delta: element, gradient: element }
    }

    /// The largest share of a number that a rounding to one of the types changes it by.
    pub fn unit(self) -> f64 {
        let units = [self.weight, self.activation, self.delta, self.gradient];
        units.map(|element| rounding_of(element, 1.0)).into_iter().fold(0.0, f64::max)
    }
}

/// f′ from what is kept of a forward pass: the input or the output of f, rounded.
fn slope_of_saved(activation: Activation, z: &Dense, y: &Dense) -> Dense {
    match activation {
        Activation::Sigmoid => y.map(|y| y * (1.0 - y)),
        Activation::Tanh => y.map(|y| 1.0 - y * y),
        Activation::Relu => y.map(|y| f64::from(u8::from(y > 0.0))),
        _ => z.map(|z| slope(activation, z)),
    }
}

fn times(a: &Dense, b: &Dense) -> Dense {
    a.zip(b, |a, b| a * b)
}

impl Deep {
    /// The stack on the GPU with weights of this type, as masters with copies where that has 16 bits.
    pub fn put_as(&self, rig: &Rig, element: ElementType) -> TiedAutoencoder {
        let layer = |layer: &super::reference::Layer| {
            let put = |values: &Dense| rig.put(values, Place::Odd);
            let weight = match element {
                ElementType::F32 => put(&layer.weight),
                _ => rig.put_master(&layer.weight, Place::Odd, Copy::Apart { gap: 2 }, element),
            };
            let weight = Weight::new(&rig.kernels, weight).unwrap();
            let [b, c] =
                [&layer.encoder_bias, &layer.decoder_bias].map(|bias| bias.as_ref().map(put));
            let [f, g] = [layer.encoder_activation, layer.decoder_activation];
            let encoder = Encoder::new(&rig.kernels, &weight, b, f).unwrap();
            let decoder = Decoder::new(&rig.kernels, &weight, c, g).unwrap();
            TiedLinear::from_halves(encoder, decoder).unwrap()
        };
        TiedAutoencoder::from_layers(self.layers.iter().map(layer).collect()).unwrap()
    }

    /// The loss and all gradients, before they are rounded, of a step that keeps weights, activations and
    /// deltas in these types; the deltas are multiplied by `scale` before.
    pub fn backward_in(
        &self,
        types: Types,
        [input, target]: [&Dense; 2],
        (loss, reduction): (Loss, Reduction),
        scale: f64,
    ) -> (f64, Vec<LayerGradients>) {
        let count = self.layers.len();
        let weights: Vec<_> =
            self.layers.iter().map(|layer| rounded(&layer.weight, types.weight)).collect();
        let kept = |values: &Dense| rounded(values, types.activation);
        let delta = |values: &Dense| rounded(values, types.delta);
        // Xᵢ, Yᵢ and the slopes of fᵢ and gᵢ stand at i.
        let (mut x, mut code_slopes) = (vec![input.clone()], Vec::new());
        for (layer, weight) in self.layers.iter().zip(&weights) {
            let z = x[x.len() - 1].times(&weight.transposed());
            let z = z.plus_row(layer.encoder_bias.as_ref());
            let f = layer.encoder_activation;
            x.push(kept(&z.map(|z| activate(f, z))));
            code_slopes.push(slope_of_saved(f, &kept(&z), &x[x.len() - 1]));
        }
        let mut y = vec![x[count].clone()];
        let mut output_slopes = Vec::new();
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let a = y[y.len() - 1].times(&weights[index]).plus_row(layer.decoder_bias.as_ref());
            let g = layer.decoder_activation;
            let output = a.map(|a| activate(g, a));
            // The output goes on to the loss as it is.
            let [output, a] =
                if index > 0 { [kept(&output), kept(&a)] } else { [output, a.clone()] };
            output_slopes.push(slope_of_saved(g, &a, &output));
            y.push(output);
        }
        y.reverse();
        output_slopes.reverse();
        let mean = match reduction {
            Reduction::Mean => 1.0 / target.values.len() as f64,
            Reduction::Sum => 1.0,
        };
        let value = y[0].zip(target, |p, t| losses::value(loss, p, t)).values.iter().sum::<f64>();
        let slopes = y[0].zip(target, |p, t| scale * mean * losses::slope_of(loss, p, t));
        let mut output_deltas = vec![delta(&times(&slopes, &output_slopes[0]))];
        for index in 1..count {
            let gradient = output_deltas[index - 1].times(&weights[index - 1].transposed());
            output_deltas.push(delta(&times(&gradient, &output_slopes[index])));
        }
        let mut gradient = output_deltas[count - 1].times(&weights[count - 1].transposed());
        let mut code_deltas = vec![Dense::zeros(0, 0); count];
        for index in (0..count).rev() {
            code_deltas[index] = delta(&times(&gradient, &code_slopes[index]));
            gradient = code_deltas[index].times(&weights[index]);
        }
        let of_layer = |index: usize| LayerGradients {
            weight_from_decoder: y[index + 1].transposed().times(&output_deltas[index]),
            weight_from_encoder: code_deltas[index].transposed().times(&x[index]),
            encoder_bias: code_deltas[index].column_sums(),
            decoder_bias: output_deltas[index].column_sums(),
        };
        (mean * value, (0..count).map(of_layer).collect())
    }
}
