//! [`Encoder`] and [`Decoder`]: the two halves of a tied layer, which share its weight.

use crate::error::Result;
use crate::kernels::{Activation, Commands, Kernels, Linear, Weight};
use crate::matrix::{Matrix, expect_shape_if_given};
use crate::parameters::Parameters;

/// The half that encodes: H = f(X·Wᵀ + b).
#[derive(Debug, Clone)]
pub struct Encoder {
    pub(crate) kernels: Kernels,
    weight: Weight,
    bias: Option<Matrix>,
    activation: Activation,
}

impl Encoder {
    /// An encoder with this weight W \[hidden, inputs\] and bias b \[1, hidden\].
    ///
    /// # Errors
    ///
    /// [`Error::Shape`](crate::Error::Shape) for a bias of another shape,
    /// [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for a weight of another
    /// device than the kernels'.
    pub fn new(
        kernels: &Kernels,
        weight: &Weight,
        bias: Option<Matrix>,
        activation: Activation,
    ) -> Result<Self> {
        weight.expect_device(kernels)?;
        expect_shape_if_given("bias", bias.as_ref(), [1, weight.hidden()])?;
        let (kernels, weight) = (kernels.clone(), weight.clone());
        Ok(Self { kernels, weight, bias, activation })
    }

    /// From `input` X \[batch, inputs\] to `code` H \[batch, hidden\]; `preactivation`, in the code's
    /// shape, is where X·Wᵀ + b goes for an activation whose derivative needs it.
    ///
    /// # Errors
    ///
    /// As [`Kernels::encode`].
    pub fn encode(
        &self,
        input: &Matrix,
        code: &Matrix,
        preactivation: Option<&Matrix>,
    ) -> Result<Commands> {
        let call = Linear::new(input, code)
            .with_bias(self.bias.as_ref())
            .with_activation(self.activation)
            .with_preactivation(preactivation);
        self.kernels.encode(&self.weight, &call)
    }

    /// The shared weight.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// b.
    pub fn bias(&self) -> Option<&Matrix> {
        self.bias.as_ref()
    }

    /// f.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The weight, then the bias.
    pub fn parameters(&self) -> Parameters {
        Parameters::given([("weight", Some(self.weight.matrix())), ("encoder bias", self.bias())])
    }
}

/// The half that decodes: Y = g(H·W + c), with the encoder's weight accessed transposed.
#[derive(Debug, Clone)]
pub struct Decoder {
    pub(crate) kernels: Kernels,
    weight: Weight,
    bias: Option<Matrix>,
    activation: Activation,
}

impl Decoder {
    /// A decoder with this weight W \[hidden, inputs\] and bias c \[1, inputs\].
    ///
    /// # Errors
    ///
    /// [`Error::Shape`](crate::Error::Shape) for a bias of another shape,
    /// [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for a weight of another
    /// device than the kernels'.
    pub fn new(
        kernels: &Kernels,
        weight: &Weight,
        bias: Option<Matrix>,
        activation: Activation,
    ) -> Result<Self> {
        weight.expect_device(kernels)?;
        expect_shape_if_given("bias", bias.as_ref(), [1, weight.inputs()])?;
        let (kernels, weight) = (kernels.clone(), weight.clone());
        Ok(Self { kernels, weight, bias, activation })
    }

    /// From `code` H \[batch, hidden\] to `output` Y \[batch, inputs\]; `preactivation`, in the
    /// output's shape, is where H·W + c goes for an activation whose derivative needs it.
    ///
    /// # Errors
    ///
    /// As [`Kernels::decode`].
    pub fn decode(
        &self,
        code: &Matrix,
        output: &Matrix,
        preactivation: Option<&Matrix>,
    ) -> Result<Commands> {
        let call = Linear::new(code, output)
            .with_bias(self.bias.as_ref())
            .with_activation(self.activation)
            .with_preactivation(preactivation);
        self.kernels.decode(&self.weight, &call)
    }

    /// The shared weight.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// c.
    pub fn bias(&self) -> Option<&Matrix> {
        self.bias.as_ref()
    }

    /// g.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The weight, then the bias.
    pub fn parameters(&self) -> Parameters {
        Parameters::given([("weight", Some(self.weight.matrix())), ("decoder bias", self.bias())])
    }
}
