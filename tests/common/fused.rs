//! Steps on the weight straight from its gradient's sums, against a gradient that is written first.

use tied_linear::kernels::{Backward, Factors, ParameterUpdate};
use tied_linear::{Accumulate, Choice, Contributions, ElementType, Matrix, ProductShape};

use super::{Place, Rig, expect_same_bits, on_every_adapter, random};

/// A weight and a bias.
pub struct Parameters {
    pub weight: Matrix,
    pub bias: Matrix,
}

impl Parameters {
    /// Both with their gradients.
    pub fn updates<'a>(
        &'a self,
        weight_gradient: &'a Matrix,
        bias_gradient: &'a Matrix,
    ) -> [ParameterUpdate<'a>; 2] {
        let pair = |value, gradient| ParameterUpdate { value, gradient };
        [pair(&self.weight, weight_gradient), pair(&self.bias, bias_gradient)]
    }
}

/// The same step twice: apart and together.
pub struct Fused {
    code: Matrix,
    output_delta: Matrix,
    code_delta: Matrix,
    input: Matrix,
    contributions: Contributions,
    pub gradient: Matrix,
    pub bias_gradient: Matrix,
    pub apart: Parameters,
    pub together: Parameters,
}

impl Fused {
    fn new(
        rig: &Rig,
        [batch, inputs, hidden]: [u32; 3],
        contributions: Contributions,
        element: ElementType,
    ) -> Self {
        let factor =
            |rows, columns, seed| rig.put_as(&random(rows, columns, seed), Place::Even, element);
        let matrix = |rows, columns, seed| rig.put(&random(rows, columns, seed), Place::Even);
        let parameters = || Parameters {
            weight: matrix(hidden, inputs, 5),
            bias: rig.put(&random(1, hidden, 6), Place::Tight),
        };
        Self {
            code: factor(batch, hidden, 1),
            output_delta: factor(batch, inputs, 2),
            code_delta: factor(batch, hidden, 3),
            input: factor(batch, inputs, 4),
            contributions,
            gradient: rig.poisoned(hidden, inputs, Place::Tight),
            bias_gradient: rig.put(&random(1, hidden, 7), Place::Tight),
            apart: parameters(),
            together: parameters(),
        }
    }

    pub fn factors(&self) -> Factors<'_> {
        Factors {
            code: &self.code,
            output_delta: &self.output_delta,
            code_delta: &self.code_delta,
            input: &self.input,
            contributions: self.contributions,
        }
    }

    pub fn backward(&self) -> Backward<'_> {
        Backward {
            code: &self.code,
            output_delta: &self.output_delta,
            code_delta: &self.code_delta,
            input: &self.input,
            gradient: &self.gradient,
            contributions: self.contributions,
            accumulate: Accumulate::Overwrite,
        }
    }

    /// Fails where two matrices differ by a bit.
    pub fn expect_same(rig: &Rig, what: &str, apart: &Matrix, together: &Matrix) {
        let what = format!("{what} on {}", rig.name);
        expect_same_bits(&what, &rig.bits(together), &rig.bits(apart));
    }
}

/// Takes `steps` on both and compares the parameters, on every adapter, for shapes that are multiples of
/// four and others, with a whole and a split reduction, each contribution, and factors of each element type.
pub fn check(steps: impl Fn(&Rig, &Fused)) {
    on_every_adapter(|rig| {
        for (shape, contributions, parts, element) in [
            ([70, 36, 44], Contributions::Both, 1, ElementType::F32),
            ([70, 36, 44], Contributions::Encoder, 3, ElementType::F32),
            ([37, 35, 9], Contributions::Both, 2, ElementType::F32),
            ([37, 35, 9], Contributions::Decoder, 1, ElementType::F32),
            ([0, 8, 12], Contributions::Both, 1, ElementType::F32),
            ([37, 35, 9], Contributions::Both, 1, ElementType::F16),
            ([37, 35, 9], Contributions::Both, 2, ElementType::Bf16),
        ] {
            let [batch, inputs, hidden] = shape;
            let product = ProductShape::backward(batch, inputs, hidden);
            let strategy = rig.kernels.choice(&product).strategy;
            let mut table = rig.kernels.strategies().clone();
            table.set(product, Choice { strategy, parts }).expect("the strategy of the rules");
            let rig = Rig {
                name: format!(
                    "{}, {shape:?} {contributions:?} {element} in {parts} parts",
                    rig.name
                ),
                gpu: rig.gpu.clone(),
                kernels: rig.kernels.with_strategies(table),
            };
            let fused = Fused::new(&rig, shape, contributions, element);
            let before = rig.bits(&fused.apart.weight);
            steps(&rig, &fused);
            assert_ne!(rig.bits(&fused.apart.weight), before, "{}: a step is taken", rig.name);
            let (apart, together) = (&fused.apart, &fused.together);
            Fused::expect_same(&rig, "weight", &apart.weight, &together.weight);
            Fused::expect_same(&rig, "bias", &apart.bias, &together.bias);
            rig.expect_surroundings_untouched("weight", &together.weight);
        }
    });
}
