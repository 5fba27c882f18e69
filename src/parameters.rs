//! [`Parameters`]: what there is to learn, each tensor once.

use std::borrow::Cow;

use crate::matrix::Matrix;

/// One learnable matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// What it is, such as `weight`, or in a stack of layers `encoder.2.weight`.
    pub name: Cow<'static, str>,
    /// Its values on the GPU.
    pub value: Matrix,
}

impl Parameter {
    /// A parameter of this name.
    pub fn new(name: impl Into<Cow<'static, str>>, value: Matrix) -> Self {
        Self { name: name.into(), value }
    }
}

/// A list of parameters in which no matrix occurs twice: a tied weight that two layers list counts
/// once, has one set of moments and gets one update.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters {
    list: Vec<Parameter>,
}

impl Parameters {
    /// Those of the named matrices that are there.
    pub(crate) fn given<'a, N: Into<Cow<'static, str>>>(
        named: impl IntoIterator<Item = (N, Option<&'a Matrix>)>,
    ) -> Self {
        let parameter = |(name, value): (N, Option<&Matrix>)| {
            value.map(|value| Parameter::new(name, value.clone()))
        };
        named.into_iter().filter_map(parameter).collect()
    }

    /// Number of learnable values; a tied weight's count once.
    pub fn count(&self) -> u64 {
        self.list.iter().map(|parameter| parameter.value.len()).sum()
    }

    /// The parameters, each once, in the order in which they first came.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.list.iter()
    }

    /// Number of matrices.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Extend<Parameter> for Parameters {
    fn extend<T: IntoIterator<Item = Parameter>>(&mut self, parameters: T) {
        for parameter in parameters {
            if !self.list.iter().any(|known| known.value == parameter.value) {
                self.list.push(parameter);
            }
        }
    }
}

impl FromIterator<Parameter> for Parameters {
    fn from_iter<T: IntoIterator<Item = Parameter>>(parameters: T) -> Self {
        let mut list = Self::default();
        list.extend(parameters);
        list
    }
}

impl IntoIterator for Parameters {
    type Item = Parameter;
    type IntoIter = std::vec::IntoIter<Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}
