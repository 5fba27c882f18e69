//! [`Plan`]: which activations share a buffer, from when they are written and last read.

use crate::element::ElementType;
use crate::error::Result;
use crate::kernels::Kernels;
use crate::matrix::{Layout, Matrix};

/// An activation or a delta of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value(usize);

/// Dispatches one after the other, with the values that each writes and reads.
///
/// Two values share a buffer where the last read of one comes before the write of the other. Within a
/// dispatch no two operands share one: wgpu does not allow that where one is written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// In the order in which they are written.
    lives: Vec<Life>,
    now: usize,
}

/// The columns of a value and their type, the dispatch that writes it, and the one that reads it last.
#[derive(Debug, Clone, Copy)]
struct Life {
    columns: u32,
    element: ElementType,
    first: usize,
    last: usize,
}

impl Life {
    /// The u32 of a row.
    fn words(&self) -> u32 {
        self.columns.div_ceil(self.element.shared())
    }
}

/// A buffer of a plan: the u32 of a row, and the last dispatch that reads the value that it holds.
#[derive(Debug, Clone, Copy)]
struct Slot {
    words: u32,
    busy_until: usize,
}

/// The matrices of a plan.
#[derive(Debug)]
pub(super) struct Planned {
    matrices: Vec<Matrix>,
    bytes: u64,
}

impl Plan {
    /// What follows belongs to the next dispatch.
    pub(super) fn next(&mut self) {
        self.now += 1;
    }

    /// A value that the current dispatch writes.
    pub(super) fn written(&mut self, columns: u32, element: ElementType) -> Value {
        self.lives.push(Life { columns, element, first: self.now, last: self.now });
        Value(self.lives.len() - 1)
    }

    /// The current dispatch reads a value.
    pub(super) fn read(&mut self, value: Value) {
        self.lives[value.0].last = self.now;
    }

    /// The buffers, and each value's.
    ///
    /// A value takes the smallest free buffer that is wide enough, else the widest free one, which is made
    /// wider; a new one only where none is free.
    fn slots(&self) -> (Vec<Slot>, Vec<usize>) {
        let mut slots: Vec<Slot> = Vec::new();
        let mut chosen = Vec::with_capacity(self.lives.len());
        for life in &self.lives {
            let free = |slot: &Slot| slot.busy_until < life.first;
            let free = || slots.iter().enumerate().filter(|(_, slot)| free(slot));
            let fitting = free().filter(|(_, slot)| slot.words >= life.words());
            let fitting = fitting.min_by_key(|(_, slot)| slot.words);
            let found = fitting.or_else(|| free().max_by_key(|(_, slot)| slot.words));
            let index = found.map_or(slots.len(), |(index, _)| index);
            let words = slots.get(index).map_or(0, |slot| slot.words).max(life.words());
            let slot = Slot { words, busy_until: life.last };
            match slots.get_mut(index) {
                Some(known) => *known = slot,
                None => slots.push(slot),
            }
            chosen.push(index);
        }
        (slots, chosen)
    }

    /// Makes the buffers, for this many rows.
    pub(super) fn allocate(&self, kernels: &Kernels, rows: u32) -> Result<Planned> {
        let (slots, chosen) = self.slots();
        let buffers = slots.iter().map(|slot| kernels.zeros("activations", rows, slot.words));
        let buffers = buffers.collect::<Result<Vec<_>>>()?;
        let values = self.lives.iter().zip(&chosen);
        let matrices = values.map(|(life, slot)| {
            let layout = Layout::padded(rows, life.columns, life.element);
            Matrix::view(buffers[*slot].buffer(), layout)
        });
        let matrices = matrices.collect::<Result<Vec<_>>>()?;
        Ok(Planned { matrices, bytes: buffers.iter().map(|buffer| buffer.buffer().size()).sum() })
    }
}

impl Planned {
    pub(super) fn matrix(&self, value: Value) -> &Matrix {
        &self.matrices[value.0]
    }

    /// The bytes of all buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
