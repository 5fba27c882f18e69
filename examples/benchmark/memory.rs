//! The memory of a training step: the buffers that were really created, and the formula for them.

use std::error::Error;

use tied_linear::kernels::SHADERS;
use tied_linear::shader::Access;
use tied_linear::{ProductShape, wgpu};

use crate::rig::Rig;
use crate::shape::Shape;

/// What a tied layer, its gradients, its optimizer (Adam) and one training step (squared error, a
/// decoder without activation, both biases) hold on the GPU, all f32. The batch is the host's and does
/// not count.
///
/// ```text
/// parameters   4·P                          P = hidden·inputs + hidden + inputs
/// gradients    4·P
/// moments      16·513·G                     G: workgroups of the update, one for every 1,024 values of
///                                           a parameter, each with two moments and a step count
/// activations  4·batch·(2·hidden + inputs)  H, dZ, dA; the output is not kept
/// scratch      16·parts·hidden·⌈inputs/4⌉   for a weight gradient whose reduction is split
/// small        the rest: the loss, the values that it is the sum of, one quad for each invocation of
///              decode, Adam's settings, and a uniform for each of the six dispatches
/// ```
///
/// No buffer but a parameter's has less than 16 bytes.
pub struct Formula {
    /// Each buffer's bytes, and what it belongs to.
    buffers: Vec<(Part, u64)>,
}

/// A part of the formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Parameters,
    Gradients,
    Moments,
    Activations,
    Scratch,
    Small,
}

/// The dispatches of a step: each has a uniform.
const DISPATCHES: [&str; 6] = ["encode", "decode", "encode", "backward", "column_sums", "adam"];

/// Values of a parameter that a workgroup of the update takes, in quads.
const QUADS_OF_GROUP: u64 = 256;

/// The uniform of `AdamSettings`.
const SETTINGS: u64 = 48;

impl Formula {
    /// For the tied step at this shape.
    pub fn new(rig: &Rig, shape: Shape) -> Self {
        let Shape { batch, inputs, hidden } = shape;
        let (w, b, c) = ([hidden, inputs], [1, hidden], [1, inputs]);
        let (x, h) = ([batch, inputs], [batch, hidden]);
        let mut buffers = Vec::new();
        let mut add = |part, bytes: u64| buffers.push((part, bytes));
        let mut groups = 0;
        for parameter in [w, b, c] {
            add(Part::Parameters, 4 * values(parameter));
            add(Part::Gradients, at_least_16(4 * values(parameter)));
            groups += quads(parameter).div_ceil(QUADS_OF_GROUP);
        }
        add(Part::Moments, 16 * (QUADS_OF_GROUP + 1) * groups);
        add(Part::Moments, 16 * QUADS_OF_GROUP * groups);
        for activation in [h, h, x] {
            add(Part::Activations, at_least_16(4 * values(activation)));
        }
        add(Part::Small, 16);
        add(Part::Small, 16 * invocations(rig, &ProductShape::decode(batch, inputs, hidden)));
        add(Part::Small, SETTINGS);
        for name in DISPATCHES {
            add(Part::Small, uniform(name));
        }
        if let Some(parts) = parts(rig, &ProductShape::backward(batch, inputs, hidden)) {
            add(Part::Scratch, 16 * parts * quads(w));
        }
        Self { buffers }
    }

    /// Number of buffers.
    pub fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// The bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The bytes of a part's buffers.
    pub fn bytes_of(&self, part: Part) -> u64 {
        self.buffers.iter().filter(|(of, _)| *of == part).map(|(_, bytes)| bytes).sum()
    }

    /// The bytes of all buffers on a driver that rounds each up to a multiple of `grain`.
    fn rounded(&self, grain: u64) -> u64 {
        self.buffers.iter().map(|(_, bytes)| bytes.next_multiple_of(grain)).sum()
    }
}

fn values([rows, columns]: [u32; 2]) -> u64 {
    u64::from(rows) * u64::from(columns)
}

/// Runs of four values within a row.
fn quads([rows, columns]: [u32; 2]) -> u64 {
    u64::from(rows) * u64::from(columns.div_ceil(4))
}

fn at_least_16(bytes: u64) -> u64 {
    bytes.max(16)
}

/// The bytes of a kernel's own uniform.
fn uniform(name: &str) -> u64 {
    let shader = SHADERS.iter().find(|shader| shader.name == name);
    let bindings = shader.and_then(|shader| shader.groups.last()).map_or(&[][..], |group| group);
    match bindings.first().map(|binding| binding.access) {
        Some(Access::Uniform(fields)) => {
            fields.iter().map(|field| (field.offset + field.size) as u64).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Into how many parts a product's reduction is split, if it is: none is shorter than a loop
/// iteration of its strategy.
fn parts(rig: &Rig, product: &ProductShape) -> Option<u64> {
    let choice = rig.kernels.choice(product);
    let step = choice.strategy.step();
    let span = product.depth.div_ceil(choice.parts).next_multiple_of(step);
    let parts = product.depth.div_ceil(choice.strategy.span().unwrap_or(span));
    (parts > 1 || choice.strategy.span().is_some()).then_some(u64::from(parts))
}

/// Invocations of a product that a training step does not split.
fn invocations(rig: &Rig, product: &ProductShape) -> u64 {
    let table = rig.kernels.strategies().clone().without_split_products();
    let strategy = table.choose(product).strategy;
    let [rows, columns] = strategy.tile(product.rows);
    let tiles =
        u64::from(product.rows.div_ceil(rows)) * u64::from(product.columns.div_ceil(columns));
    tiles * u64::from(strategy.workgroup_size())
}

/// Counts the buffers that are created on a device, from its allocator's own list of them.
pub struct Meter {
    /// Where buffers may begin.
    alignment: Alignment,
    /// Buffers' sizes are multiples of this.
    grain: u64,
}

/// In bytes.
struct Alignment {
    storage: u64,
    uniform: u64,
}

/// What a device's allocator had given out at some time.
pub struct Snapshot {
    allocations: Vec<Allocation>,
}

/// A buffer's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allocation {
    name: String,
    offset: u64,
    size: u64,
}

/// Buffers that were created.
#[derive(Debug, Clone, Copy)]
pub struct Created {
    /// How many.
    pub buffers: usize,
    /// Their bytes, without what lies between them.
    pub bytes: u64,
    grain: u64,
}

impl Created {
    /// Whether that is what the formula says.
    pub fn is(self, formula: &Formula) -> bool {
        self.buffers == formula.buffers() && self.bytes == formula.rounded(self.grain)
    }
}

impl Meter {
    /// A meter, where the backend lists its allocations (Vulkan and DX12).
    pub fn new(rig: &Rig) -> Result<Option<Self>, Box<dyn Error>> {
        let storage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let (Some(storage), Some(uniform)) = (probe(rig, storage)?, probe(rig, uniform)?) else {
            return Ok(None);
        };
        let alignment = Alignment { storage: storage.alignment, uniform: uniform.alignment };
        Ok(Some(Self { alignment, grain: storage.grain.max(uniform.grain) }))
    }

    /// What there is now.
    pub fn snapshot(&self, rig: &Rig) -> Result<Snapshot, Box<dyn Error>> {
        let allocations = allocations(rig)?.ok_or("the allocator stopped reporting")?;
        Ok(Snapshot { allocations })
    }

    /// What was created between two snapshots and is still there.
    pub fn created(&self, before: &Snapshot, after: &Snapshot) -> Created {
        let new = new(&before.allocations, &after.allocations);
        let size = |allocation: &Allocation| {
            let is_uniform = allocation.name.ends_with("settings")
                || SHADERS.iter().any(|shader| shader.name == allocation.name);
            let alignment =
                if is_uniform { self.alignment.uniform } else { self.alignment.storage };
            // An allocation begins where the one before ends, its buffer at the next multiple.
            let gap = allocation.offset.next_multiple_of(alignment) - allocation.offset;
            allocation.size.saturating_sub(gap)
        };
        let bytes = new.iter().map(size).sum();
        Created { buffers: new.len(), bytes, grain: self.grain }
    }
}

/// What probing found out.
struct Probe {
    alignment: u64,
    grain: u64,
}

/// How the allocator places and sizes the smallest buffers with this usage.
fn probe(rig: &Rig, usage: wgpu::BufferUsages) -> Result<Option<Probe>, Box<dyn Error>> {
    const COUNT: usize = 16;
    let Some(before) = allocations(rig)? else { return Ok(None) };
    let descriptor =
        wgpu::BufferDescriptor { label: Some("probe"), size: 4, usage, mapped_at_creation: false };
    let buffers = [(); COUNT].map(|()| rig.gpu.device.create_buffer(&descriptor));
    let Some(after) = allocations(rig)? else { return Ok(None) };
    drop(buffers);
    let ends: Vec<_> = new(&before, &after).iter().map(|one| one.offset + one.size).collect();
    let first = ends.first().copied().ok_or("the allocator does not list its buffers")?;
    // The ends are multiples of the alignment apart: their buffers have one size.
    let alignment = ends.iter().map(|end| end.abs_diff(first)).fold(0, gcd).max(1);
    let grain = match first % alignment {
        0 => alignment,
        size => size,
    };
    Ok(Some(Probe { alignment, grain }))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// All allocations but wgpu's own, where the backend lists them.
fn allocations(rig: &Rig) -> Result<Option<Vec<Allocation>>, Box<dyn Error>> {
    // What was dropped, and what buffers were filled from, goes with the next submission.
    rig.gpu.queue.submit([]);
    rig.wait()?;
    let Some(report) = rig.gpu.device.generate_allocator_report() else { return Ok(None) };
    let all = report.allocations.into_iter();
    let all = all.filter(|one| !one.name.starts_with("(wgpu internal)"));
    let all = all.map(|one| Allocation { name: one.name, offset: one.offset, size: one.size });
    Ok(Some(all.collect()))
}

/// The allocations that came after `before`.
fn new(before: &[Allocation], after: &[Allocation]) -> Vec<Allocation> {
    let mut known = before.to_vec();
    let is_new = |allocation: &&Allocation| {
        let found = known.iter().position(|known| known == *allocation);
        found.map(|index| known.swap_remove(index)).is_none()
    };
    after.iter().filter(is_new).cloned().collect()
}
