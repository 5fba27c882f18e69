//! What is measured: dispatches of the library and of the benchmark, in order.

use tied_linear::{Commands, wgpu};

use crate::fma::Fma;
use crate::own::Dispatch;

/// Prepared dispatches.
#[derive(Default)]
pub struct Work {
    parts: Vec<Part>,
}

enum Part {
    Library(Commands),
    Own(Dispatch),
    Fma(Fma),
}

impl Work {
    /// This, then `next`.
    pub fn then(mut self, next: impl Into<Self>) -> Self {
        self.parts.extend(next.into().parts);
        self
    }

    /// Number of dispatches.
    pub fn dispatches(&self) -> usize {
        let count = |part: &Part| match part {
            Part::Library(commands) => commands.len(),
            Part::Own(_) | Part::Fma(_) => 1,
        };
        self.parts.iter().map(count).sum()
    }

    /// Records everything once.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        for part in &self.parts {
            match part {
                Part::Library(commands) => commands.record(pass),
                Part::Own(dispatch) => dispatch.record(pass),
                Part::Fma(fma) => fma.record(pass),
            }
        }
    }
}

impl From<Commands> for Work {
    fn from(commands: Commands) -> Self {
        Self { parts: vec![Part::Library(commands)] }
    }
}

impl From<Dispatch> for Work {
    fn from(dispatch: Dispatch) -> Self {
        Self { parts: vec![Part::Own(dispatch)] }
    }
}

impl From<Fma> for Work {
    fn from(fma: Fma) -> Self {
        Self { parts: vec![Part::Fma(fma)] }
    }
}
