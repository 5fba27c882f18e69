//! What the tests share: every adapter, matrices in awkward places, and the f64 reference.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub mod calls;
pub mod deep;
pub mod fused;
pub mod losses;
pub mod masters;
pub mod near;
pub mod optimizers;
pub mod products;
pub mod reference;
pub mod shares;

use std::sync::OnceLock;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tied_linear::headless::{self, Gpu};
use tied_linear::{
    Activation, Choice, Commands, ElementType, KernelOptions, Kernels, Layout, Matrix, Pattern,
    StrategyTable, wgpu,
};

use shares::Share;

/// A device with kernels on it, in one setting of the runtime checks.
pub struct Rig {
    /// Backend, name, driver, the setting of the checks, and what the device lacks.
    pub name: String,
    pub gpu: Gpu,
    pub kernels: Kernels,
}

/// Runs `test` on every adapter that wgpu finds, with the shaders' runtime checks on, and with the checks off,
/// where the library makes use of 64-bit integers on a device without them.
///
/// WGPU_BACKEND and WGPU_ADAPTER_NAME narrow the adapters. No adapter at all is a failure, unless
/// TIED_LINEAR_NO_ADAPTER=allow says that it may be. TIED_LINEAR_STRATEGY forces a strategy, such as
/// `tile_64`, or with split reductions `tile_64/3`, on the adapters that can run it; that none can is
/// no failure, but said.
pub fn on_every_adapter(test: impl Fn(&Rig)) {
    for rig in rigs() {
        println!("on {}", rig.name);
        test(rig);
    }
}

/// As [`on_every_adapter`], for tests of what does not depend on the shaders: once an adapter.
pub fn once_per_adapter(test: impl Fn(&Rig)) {
    for rig in rigs().iter().filter(|rig| rig.kernels.options().runtime_checks) {
        println!("on {}", rig.name);
        test(rig);
    }
}

fn rigs() -> &'static [Rig] {
    // The rigs, and whether there was an adapter to make them of.
    static RIGS: OnceLock<(Vec<Rig>, bool)> = OnceLock::new();
    let (rigs, any_adapter) = RIGS.get_or_init(|| {
        let adapters = pollster::block_on(headless::adapters());
        let any_adapter = !adapters.is_empty();
        (adapters.into_iter().flat_map(rigs_of).collect(), any_adapter)
    });
    if rigs.is_empty() && *any_adapter {
        println!("NOT RUN: no adapter can run what TIED_LINEAR_STRATEGY forces");
    } else if rigs.is_empty() {
        let allowed = std::env::var("TIED_LINEAR_NO_ADAPTER").is_ok_and(|value| value == "allow");
        assert!(
            allowed,
            "no adapter, so nothing was tested (TIED_LINEAR_NO_ADAPTER=allow lets it)"
        );
        println!("NOT RUN: there is no adapter, and TIED_LINEAR_NO_ADAPTER allows that");
    }
    rigs
}

fn rigs_of(adapter: wgpu::Adapter) -> Vec<Rig> {
    let gpu = pollster::block_on(Gpu::from_adapter(adapter)).expect("the adapter gives a device");
    let forced = forced_choice();
    let lacking = forced
        .filter(|choice| !StrategyTable::new(&gpu.device).available().contains(&choice.strategy));
    if let Some(choice) = lacking {
        println!("NOT RUN: {} cannot run {}", gpu.describe(), choice.strategy);
        return Vec::new();
    }
    let forced = forced.map(|choice| format!(", {choice}")).unwrap_or_default();
    let rig = |state: &str, gpu: Gpu, options: KernelOptions| Rig {
        name: format!("{}, {state}{forced}", gpu.describe()),
        kernels: kernels(&gpu.device, &options).expect("kernels"),
        gpu,
    };
    let checked = rig("checks on", gpu, KernelOptions::default());
    let unchecked = KernelOptions::default().with_runtime_checks(false);
    let unchecked = if checked.kernels.reads_in_64_bits() {
        rig("checks off, no 64-bit integers", checked.without_64_bit_integers().gpu, unchecked)
    } else {
        rig("checks off", checked.gpu.clone(), unchecked)
    };
    vec![checked, unchecked]
}

/// Kernels with these options and the table of strategies for their device: the rules, or what
/// TIED_LINEAR_STRATEGY forces, where the device can run it.
pub fn kernels(device: &wgpu::Device, options: &KernelOptions) -> tied_linear::Result<Kernels> {
    let rules = StrategyTable::new(device);
    let forced = forced_choice().and_then(|choice| rules.clone().force(choice).ok());
    Kernels::new(device, options.clone().with_strategies(forced.unwrap_or(rules)))
}

/// What TIED_LINEAR_STRATEGY asks for.
pub fn forced_choice() -> Option<Choice> {
    let text = std::env::var("TIED_LINEAR_STRATEGY").ok()?;
    let (name, parts) = text.split_once('/').unwrap_or((&text, "1"));
    let strategy = name.parse().unwrap_or_else(|error| panic!("TIED_LINEAR_STRATEGY: {error}"));
    let parts = parts.parse().expect("TIED_LINEAR_STRATEGY: a number of parts after the slash");
    Some(Choice { strategy, parts })
}

/// What a workgroup takes of a product of this kind: of the forced strategy, or of the one for small
/// outputs on a GPU, whose tile is that of the one on CPU drivers too.
pub fn share(pattern: Pattern) -> &'static Share {
    let forced = forced_choice().filter(|choice| choice.strategy.computes(pattern));
    Share::of(forced.map_or("tile_32", |choice| choice.strategy.name()))
}

/// The activations that products go through: all, or of a forced strategy two. What follows a product
/// is the same with every strategy, and a software driver takes seconds to compile it with each.
pub fn activations() -> &'static [Activation] {
    const TWO: [Activation; 2] = [Activation::Sigmoid, Activation::GeluTanh];
    if forced_choice().is_some() { &TWO } else { &Activation::ALL }
}

impl Rig {
    /// Kernels on a further device of the same adapter, after `lower` has lowered its limits.
    pub fn with_limits(&self, lower: impl FnOnce(&mut wgpu::Limits)) -> Self {
        let mut limits = self.gpu.adapter.limits();
        lower(&mut limits);
        let rig = self.with_device(self.gpu.device.features(), limits);
        Self { name: format!("{}, limits lowered", self.name), ..rig }
    }

    /// Kernels on a further device of the same adapter, with these features and limits.
    pub fn with_device(&self, features: wgpu::Features, limits: wgpu::Limits) -> Self {
        let descriptor = wgpu::DeviceDescriptor {
            required_features: features,
            required_limits: limits,
            ..Default::default()
        };
        let request = self.gpu.adapter.request_device(&descriptor);
        let (device, queue) = pollster::block_on(request).expect("another device");
        Self {
            name: format!("{}, another device", self.name),
            kernels: kernels(&device, self.kernels.options()).expect("kernels"),
            gpu: Gpu { adapter: self.gpu.adapter.clone(), device, queue },
        }
    }

    /// Kernels on a further device of the same adapter, with the same features but this one.
    pub fn without_64_bit_integers(&self) -> Self {
        let features = self.gpu.device.features() - wgpu::Features::SHADER_INT64;
        self.with_device(features, self.gpu.adapter.limits())
    }

    /// Kernels on the same device that compute products by this table.
    pub fn with_strategies(&self, table: StrategyTable) -> Self {
        self.with_options(self.kernels.options().clone().with_strategies(table))
    }

    /// Kernels on the same device, made anew with these options.
    pub fn with_options(&self, options: KernelOptions) -> Self {
        Self {
            name: self.name.clone(),
            gpu: self.gpu.clone(),
            kernels: Kernels::new(&self.gpu.device, options).expect("kernels"),
        }
    }

    /// Kernels on a device of the same adapter, of an instance of its own, after `change` has
    /// changed the instance's settings.
    pub fn of_own_instance(
        &self,
        change: impl FnOnce(&mut wgpu::InstanceDescriptor),
    ) -> tied_linear::Result<(wgpu::Instance, Self)> {
        let info = self.gpu.adapter.get_info();
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        descriptor.backends = info.backend.into();
        change(&mut descriptor);
        let instance = wgpu::Instance::new(descriptor);
        let adapters = pollster::block_on(instance.enumerate_adapters(info.backend.into()));
        let same = adapters.into_iter().find(|adapter| adapter.get_info() == info);
        let gpu = pollster::block_on(Gpu::from_adapter(same.expect("the same adapter")))?;
        let rig = Self {
            name: format!("{}, another instance", self.name),
            kernels: kernels(&gpu.device, self.kernels.options())?,
            gpu,
        };
        Ok((instance, rig))
    }
}

/// Where in its buffer a test's matrix lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From the start, without gaps.
    Tight,
    /// After an odd offset, with odd gaps between the rows: only scalar access can do this.
    Odd,
    /// After an offset and with a row stride that are multiples of four: vector access can do this
    /// where the columns are a multiple of four too.
    Even,
    /// After so many elements, with so many between the rows.
    At { offset: u64, gap: u32 },
}

impl Place {
    pub const ALL: [Self; 3] = [Self::Tight, Self::Odd, Self::Even];

    /// The layout in this place; with 16-bit elements offset and row stride are rounded up to even
    /// numbers.
    pub fn layout_of(self, rows: u32, columns: u32, element: ElementType) -> Layout {
        let layout = self.layout(rows, columns);
        if element == ElementType::F32 {
            return layout;
        }
        let (offset, row_stride) = (layout.offset, layout.row_stride);
        let (offset, row_stride) = (offset.next_multiple_of(2), row_stride.next_multiple_of(2));
        Layout { offset, row_stride, element, ..layout }
    }

    fn layout(self, rows: u32, columns: u32) -> Layout {
        let tight = Layout::contiguous(rows, columns);
        match self {
            Self::Tight => tight,
            Self::Odd => Layout { offset: 77, row_stride: columns + 3, ..tight },
            Self::Even => {
                Layout { offset: 132, row_stride: columns.next_multiple_of(4) + 8, ..tight }
            }
            Self::At { offset, gap } => Layout { offset, row_stride: columns + gap, ..tight },
        }
    }
}

/// What unwritten elements and the gaps between rows hold: a NaN that no kernel makes.
const POISON: u32 = 0x7fc0_dead;

/// The same for the gaps around 16-bit elements: a NaN in both types.
const POISON_16: u16 = 0x7fed;

/// What 16-bit elements hold that are to be written, another NaN: an element behind a row that got its word
/// from elsewhere in the matrix shows.
pub const UNWRITTEN_16: u16 = 0x7fdb;

impl Rig {
    /// A matrix with these values, in poisoned surroundings.
    pub fn put(&self, values: &reference::Dense, place: Place) -> Matrix {
        let values32: Vec<f32> = values.values.iter().map(|value| *value as f32).collect();
        self.put_f32(values.rows, values.columns, &values32, place)
    }

    /// A matrix with these values, in poisoned surroundings.
    pub fn put_f32(&self, rows: u32, columns: u32, values: &[f32], place: Place) -> Matrix {
        assert_eq!(values.len(), rows as usize * columns as usize);
        let layout = place.layout(rows, columns);
        // Some elements lie behind the matrix, too.
        let length = layout.offset as usize + rows as usize * layout.row_stride as usize + 5;
        let mut all = vec![f32::from_bits(POISON); length];
        for row in 0..rows as usize {
            let from = row * columns as usize;
            let to = layout.offset as usize + row * layout.row_stride as usize;
            all[to..to + columns as usize].copy_from_slice(&values[from..from + columns as usize]);
        }
        let whole = self.kernels.matrix("test", 1, length as u32, &all).expect("a buffer");
        Matrix::view(whole.buffer(), layout).expect("a view")
    }

    /// As [`Rig::put`], with elements of this type.
    pub fn put_as(&self, values: &reference::Dense, place: Place, element: ElementType) -> Matrix {
        if element == ElementType::F32 {
            return self.put(values, place);
        }
        let bits: Vec<_> = values.values.iter().map(|v| element_bits(element, *v as f32)).collect();
        self.put_bits(values.rows, values.columns, &bits, place, element)
    }

    /// A matrix with elements of these 16 bits, in poisoned surroundings.
    pub fn put_bits(
        &self,
        rows: u32,
        columns: u32,
        bits: &[u16],
        place: Place,
        element: ElementType,
    ) -> Matrix {
        let layout = place.layout_of(rows, columns, element);
        let length = layout.offset as usize + rows as usize * layout.row_stride as usize + 5;
        let mut all = vec![POISON_16; length.next_multiple_of(2)];
        for row in 0..rows as usize {
            let from = row * columns as usize;
            let to = layout.offset as usize + row * layout.row_stride as usize;
            all[to..to + columns as usize].copy_from_slice(&bits[from..from + columns as usize]);
        }
        let buffer = buffer(&self.gpu.device, 2 * all.len() as u64, USAGES);
        self.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&all));
        Matrix::view(&buffer, layout).expect("a view")
    }

    /// A matrix of poison, to be written, with elements of this type.
    pub fn poisoned_as(
        &self,
        rows: u32,
        columns: u32,
        place: Place,
        element: ElementType,
    ) -> Matrix {
        if element == ElementType::F32 {
            return self.poisoned(rows, columns, place);
        }
        let bits = vec![UNWRITTEN_16; rows as usize * columns as usize];
        self.put_bits(rows, columns, &bits, place, element)
    }

    /// The 16 bits of each element of the buffer of a matrix.
    pub fn all_bits(&self, matrix: &Matrix) -> Vec<u16> {
        let length = (matrix.buffer().size() / 4) as u32;
        let whole = Matrix::new(matrix.buffer(), 1, length).expect("the whole buffer");
        self.bits(&whole).into_iter().flat_map(|word| [word as u16, (word >> 16) as u16]).collect()
    }

    /// The 16 bits of each of the matrix's elements.
    pub fn element_bits(&self, matrix: &Matrix) -> Vec<u16> {
        let (all, layout) = (self.all_bits(matrix), matrix.layout());
        let place = |row: u32, column: u32| {
            layout.offset as usize + row as usize * layout.row_stride as usize + column as usize
        };
        let columns = |row| (0..layout.columns).map(move |column| place(row, column));
        (0..layout.rows).flat_map(columns).map(|at| all[at]).collect()
    }

    /// Puts a value, rounded to its type, in the place of an element, whatever lies around it; returns what
    /// was there.
    pub fn replace(&self, matrix: &Matrix, [row, column]: [u32; 2], value: f32) -> f32 {
        let layout = matrix.layout();
        let index =
            layout.offset + u64::from(row) * u64::from(layout.row_stride) + u64::from(column);
        let at = index * layout.element.size() / 4;
        let word = Layout { offset: at, ..Layout::contiguous(1, 1) };
        let word = Matrix::view(matrix.buffer(), word).expect("a word of the buffer");
        let word = self.bits(&word)[0];
        let (old, new) = if layout.element == ElementType::F32 {
            (f32::from_bits(word), value.to_bits())
        } else {
            let shift = 16 * (index % 2) as u32;
            let bits = u32::from(element_bits(layout.element, value)) << shift;
            let old = element_value(layout.element, (word >> shift) as u16);
            (old, word & !(0xffff << shift) | bits)
        };
        self.gpu.queue.write_buffer(matrix.buffer(), 4 * at, &new.to_ne_bytes());
        old
    }

    /// A matrix of poison, to be written.
    pub fn poisoned(&self, rows: u32, columns: u32, place: Place) -> Matrix {
        let values = vec![f32::from_bits(POISON); rows as usize * columns as usize];
        self.put_f32(rows, columns, &values, place)
    }

    /// A uniform buffer with these contents.
    pub fn uniform(&self, bytes: &[u8]) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = buffer(&self.gpu.device, bytes.len() as u64, usage);
        self.gpu.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// Records the commands in one pass, submits and waits.
    pub fn run(&self, commands: &Commands) {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        commands.record(&mut encoder.begin_compute_pass(&Default::default()));
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
    }

    /// The matrix's elements.
    pub fn get(&self, matrix: &Matrix) -> Vec<f32> {
        matrix.read_blocking(&self.gpu.device, &self.gpu.queue).expect("a readable matrix")
    }

    /// The elements as they are in memory, to compare bit by bit.
    pub fn bits(&self, matrix: &Matrix) -> Vec<u32> {
        self.get(matrix).into_iter().map(f32::to_bits).collect()
    }

    /// Fails if an element of the buffer outside the matrix is no longer poison.
    pub fn expect_surroundings_untouched(&self, what: &str, matrix: &Matrix) {
        let length = (matrix.buffer().size() / 4) as u32;
        let whole = Matrix::new(matrix.buffer(), 1, length).expect("the whole buffer");
        let layout = matrix.layout();
        let (found, poison) = if layout.element == ElementType::F32 {
            (self.bits(&whole), POISON)
        } else {
            let bits = self.all_bits(matrix).into_iter().map(u32::from);
            (bits.collect(), u32::from(POISON_16))
        };
        for (index, bits) in (0..).zip(found) {
            let inside = index >= layout.offset && {
                let [row, column] = [
                    (index - layout.offset) / u64::from(layout.row_stride.max(1)),
                    (index - layout.offset) % u64::from(layout.row_stride.max(1)),
                ];
                row < u64::from(layout.rows) && column < u64::from(layout.columns)
            };
            assert!(
                inside || bits == poison,
                "{what}: element {index} of the buffer lies outside the matrix {layout:?}, but was \
                 written: {bits:#x}"
            );
        }
    }
}

/// What the buffer of a matrix needs, to be any operand, written and read.
pub const USAGES: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

/// A zeroed buffer of `size` bytes.
pub fn buffer(device: &wgpu::Device, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("test"),
        size,
        usage,
        mapped_at_creation: false,
    })
}

/// Uniform values in -1 … 1, rounded to f32.
pub fn random(rows: u32, columns: u32, seed: u64) -> reference::Dense {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    reference::Dense::new(rows, columns, |_, _| f64::from(2.0 * rng.random::<f32>() - 1.0))
}

/// Whole numbers in -3 … 3: sums of their products are exact in f32 up to 2²⁴, so that one product
/// too few or too many shows, however many there are.
pub fn whole_numbers(rows: u32, columns: u32, seed: u64) -> reference::Dense {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    reference::Dense::new(rows, columns, |_, _| f64::from(rng.random_range(-3..=3)))
}

/// A proptest configuration with this many cases, always the same ones; it writes no files, and
/// PROPTEST_CASES is not read.
pub fn property_config(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0),
        ..proptest::test_runner::Config::with_cases(cases)
    }
}

/// The bits of a value in a 16-bit type, by the crate half.
pub fn element_bits(element: ElementType, value: f32) -> u16 {
    match element {
        ElementType::F16 => half::f16::from_f32(value).to_bits(),
        ElementType::Bf16 => half::bf16::from_f32(value).to_bits(),
        other => panic!("{other} has more than 16 bits"),
    }
}

/// The value of an element that has these bits, by the crate half.
pub fn element_value(element: ElementType, bits: u16) -> f32 {
    match element {
        ElementType::F16 => half::f16::from_bits(bits).to_f32(),
        ElementType::Bf16 => half::bf16::from_bits(bits).to_f32(),
        other => panic!("{other} has more than 16 bits"),
    }
}

/// The values, rounded to the type.
pub fn rounded(values: &reference::Dense, element: ElementType) -> reference::Dense {
    values.map(|value| match element {
        ElementType::F32 => f64::from(value as f32),
        _ => element_value(element, element_bits(element, value as f32)).into(),
    })
}

/// Types of a call's operands: all of one 16-bit type, each of its own by turns, and one of 16 bits among
/// others of f32.
pub fn mixed_elements<const N: usize>() -> Vec<[ElementType; N]> {
    use ElementType::{Bf16, F16, F32};
    let turns = (0..3).map(|turn| std::array::from_fn(|i| ElementType::ALL[(i + turn) % 3]));
    let alone = (0..N).flat_map(|alone| {
        [F16, Bf16].map(|element| std::array::from_fn(|i| if i == alone { element } else { F32 }))
    });
    [[F16; N], [Bf16; N]].into_iter().chain(turns).chain(alone).collect()
}

/// How far from a value of this size its rounding to the type can be.
pub fn rounding_of(element: ElementType, size: f64) -> f64 {
    match element {
        ElementType::F16 => (size * 2f64.powi(-11)).max(2f64.powi(-25)),
        ElementType::Bf16 => size * 2f64.powi(-8),
        _ => 0.0,
    }
}

/// Fails where the bits of two results differ, or where a result was never written; says where.
pub fn expect_same_bits(what: &str, got: &[u32], want: &[u32]) {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    for (index, (&got, &want)) in std::iter::zip(got, want).enumerate() {
        assert_ne!(want, POISON, "{what}: element {index} was never written");
        assert!(
            got == want,
            "{what}: at element {index}: got {} ({got:#010x}), want {} ({want:#010x})",
            f32::from_bits(got),
            f32::from_bits(want)
        );
    }
}

/// Fails where `got` differs from `want` by more than `tolerance`, or is NaN; says where, and by how
/// much.
pub fn expect_close(
    what: &str,
    got: &[f32],
    want: &reference::Dense,
    tolerance: &reference::Dense,
) {
    assert_eq!(got.len(), want.values.len(), "{what}: number of elements");
    assert_eq!(got.len(), tolerance.values.len(), "{what}: number of tolerances");
    for (index, &got) in got.iter().enumerate() {
        let (want_value, tolerance) = (want.values[index], tolerance.values[index]);
        let error = (f64::from(got) - want_value).abs();
        let [row, column] = [index / want.columns as usize, index % want.columns as usize];
        assert!(
            error <= tolerance,
            "{what}: at row {row}, column {column}: got {got}, want {want_value}, error {error:e}, \
             tolerance {tolerance:e}"
        );
    }
}

/// Whether the adapter is Mesa's software driver up to 22.3.
pub fn is_old_llvmpipe(rig: &Rig) -> bool {
    let info = rig.gpu.adapter.get_info();
    let old = (1..=22).any(|major| info.driver_info.contains(&format!("Mesa {major}.")));
    info.name.contains("llvmpipe") && old
}
