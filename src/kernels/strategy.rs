//! How a product is computed: the strategies, and the table that chooses one.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::driver::is_old_llvmpipe;
use crate::error::{Error, Result};
use crate::shader::{
    COMBINE, COOPERATIVE, Form, LANES, LANES_ALONE, LANES_ROWS, LANES_SUBGROUP, LANES_TALL,
    Override, SKINNY, SKINNY_GROUP, SKINNY_LANES, SKINNY_SUBGROUP, TILE, TILE_32, TILE_64,
    TILE_128,
};

/// Values of `PASS`.
pub(super) const WHOLE: f64 = 0.0;
pub(super) const PARTIAL: f64 = 1.0;

const PASS: Override = Override { name: "PASS", values: &[0, 1], alone: true };

/// Rows that the skinny strategies take at a time, the default first.
const GROUP_ROWS: &[u32] = &[4, 1, 16];
const FEW_ROWS: &[u32] = &[4, 1];

const fn tile(
    name: &'static str,
    sources: &'static [crate::shader::Source],
    invocations: u32,
    edge: u32,
) -> Form {
    Form {
        name,
        sources,
        workgroup_size: invocations,
        workgroup_bytes: 2 * 16 * edge * 4,
        overrides: &[PASS],
        features: wgpu::Features::empty(),
        subgroup_size: None,
    }
}

static TILE_32_FORM: Form = tile("tile_32", &[TILE_32, TILE], 64, 32);
static TILE_64_FORM: Form = tile("tile_64", &[TILE_64, TILE], 64, 64);
static TILE_128_FORM: Form = tile("tile_128", &[TILE_128, TILE], 256, 128);
const fn lanes(name: &'static str, sources: &'static [crate::shader::Source]) -> Form {
    Form {
        name,
        sources,
        workgroup_size: 8,
        workgroup_bytes: 0,
        overrides: &[PASS],
        features: wgpu::Features::SUBGROUP,
        subgroup_size: Some(8),
    }
}

static LANES_SUBGROUP_FORM: Form = lanes("lanes_subgroup", &[LANES_SUBGROUP, LANES_ROWS, LANES]);
static LANES_TALL_FORM: Form = lanes("lanes_tall", &[LANES_TALL, LANES_ROWS, LANES]);
static LANES_ALONE_FORM: Form = Form {
    name: "lanes_alone",
    sources: &[LANES_ALONE, LANES],
    workgroup_size: 8,
    workgroup_bytes: 0,
    overrides: &[PASS],
    features: wgpu::Features::empty(),
    subgroup_size: None,
};
static SKINNY_GROUP_FORM: Form = Form {
    name: "skinny_group",
    sources: &[SKINNY_GROUP, SKINNY],
    workgroup_size: 256,
    workgroup_bytes: 256 * 16,
    overrides: &[PASS, Override::free("SKINNY_ROWS", GROUP_ROWS)],
    features: wgpu::Features::empty(),
    subgroup_size: None,
};
static SKINNY_LANES_FORM: Form = Form {
    name: "skinny_lanes",
    sources: &[SKINNY_LANES, SKINNY],
    workgroup_size: 8,
    workgroup_bytes: 8 * 16,
    overrides: &[PASS, Override::free("SKINNY_ROWS", FEW_ROWS)],
    features: wgpu::Features::empty(),
    subgroup_size: None,
};

static SKINNY_SUBGROUP_FORM: Form = Form {
    name: "skinny_subgroup",
    sources: &[SKINNY_SUBGROUP],
    workgroup_size: 8,
    workgroup_bytes: 0,
    overrides: &[PASS, Override::free("SKINNY_ROWS", FEW_ROWS)],
    features: wgpu::Features::SUBGROUP,
    subgroup_size: Some(8),
};

static COOPERATIVE_FORM: Form = Form {
    name: "cooperative",
    sources: &[COOPERATIVE],
    workgroup_size: 128,
    workgroup_bytes: 12_328,
    overrides: &[PASS],
    features: wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        .union(wgpu::Features::SHADER_F16)
        .union(wgpu::Features::SUBGROUP),
    subgroup_size: Some(32),
};

/// The second pass of a split reduction.
pub(super) static COMBINE_FORM: Form = Form {
    name: "combine",
    sources: &[COMBINE],
    workgroup_size: 64,
    workgroup_bytes: 0,
    overrides: &[],
    features: wgpu::Features::empty(),
    subgroup_size: None,
};

/// The forms of encode.
pub(super) const ENCODE_FORMS: &[&Form] = &[
    &TILE_32_FORM,
    &TILE_64_FORM,
    &TILE_128_FORM,
    &LANES_SUBGROUP_FORM,
    &LANES_TALL_FORM,
    &LANES_ALONE_FORM,
    &SKINNY_GROUP_FORM,
    &SKINNY_LANES_FORM,
    &COOPERATIVE_FORM,
    &COMBINE_FORM,
];

/// The forms of decode.
pub(super) const DECODE_FORMS: &[&Form] = &[
    &TILE_32_FORM,
    &TILE_64_FORM,
    &TILE_128_FORM,
    &LANES_SUBGROUP_FORM,
    &LANES_TALL_FORM,
    &LANES_ALONE_FORM,
    &SKINNY_GROUP_FORM,
    &SKINNY_LANES_FORM,
    &SKINNY_SUBGROUP_FORM,
    &COOPERATIVE_FORM,
    &COMBINE_FORM,
];

/// The forms of backward.
pub(super) const BACKWARD_FORMS: &[&Form] = &[
    &TILE_32_FORM,
    &TILE_64_FORM,
    &TILE_128_FORM,
    &LANES_SUBGROUP_FORM,
    &LANES_TALL_FORM,
    &LANES_ALONE_FORM,
    &COOPERATIVE_FORM,
    &COMBINE_FORM,
];

/// How the sums of a product are computed: each has a file of its name in `shaders/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// Tiles of 32×32 from slices in workgroup memory: for outputs too small to fill a GPU otherwise.
    Tile32,
    /// Tiles of 64×64.
    Tile64,
    /// Tiles of 128×128: the fewest loads, for large outputs.
    Tile128,
    /// A tile of 32×32 in the registers of a subgroup of eight, without barriers: CPU drivers. Needs
    /// [`wgpu::Features::SUBGROUP`].
    LanesSubgroup,
    /// The same with tiles of 64×32, for drivers that keep the sums of either in memory. Not on DX12,
    /// whose compilers would take too long for it.
    LanesTall,
    /// As [`Strategy::LanesSubgroup`] without subgroups, with tiles of 16×32: each lane loads all rows.
    LanesAlone,
    /// Up to 16 rows, every weight read once; 32 invocations share a reduction. Encode and decode.
    SkinnyGroup,
    /// Up to four rows, every weight read once, without barriers: encode and decode on CPU drivers.
    SkinnyLanes,
    /// Up to four rows, the weight read in 64 streams from left to right: decode on CPU drivers. Needs
    /// [`wgpu::Features::SUBGROUP`]. The reduction is always split, into parts of 64.
    SkinnySubgroup,
    /// Tiles of 64×64 by cooperative matrices (tensor cores): operands rounded to f16, sums in f32. Never
    /// chosen by a rule or by [`tune`](crate::tune), since it is less exact. Needs
    /// [`wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX`], [`wgpu::Features::SHADER_F16`],
    /// [`wgpu::Features::SUBGROUP`] and [`StrategyTable::with_adapter`].
    Cooperative,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Tile32,
        Self::Tile64,
        Self::Tile128,
        Self::LanesSubgroup,
        Self::LanesTall,
        Self::LanesAlone,
        Self::SkinnyGroup,
        Self::SkinnyLanes,
        Self::SkinnySubgroup,
        Self::Cooperative,
    ];

    /// The name that [`FromStr`] takes, and the stem of its file in `shaders/`: `tile_32`, `tile_64`,
    /// `tile_128`, `lanes_subgroup`, `lanes_tall`, `lanes_alone`, `skinny_group`, `skinny_lanes`,
    /// `skinny_subgroup` or `cooperative`.
    pub fn name(self) -> &'static str {
        self.form().name
    }

    /// Whether it can compute this kind of product.
    pub fn computes(self, pattern: Pattern) -> bool {
        match self {
            Self::SkinnyGroup | Self::SkinnyLanes => pattern != Pattern::Backward,
            Self::SkinnySubgroup => pattern == Pattern::Decode,
            _ => true,
        }
    }

    /// Whether it was made for drivers that run shaders on the CPU.
    fn is_for_cpus(self) -> bool {
        match self {
            Self::LanesSubgroup
            | Self::LanesTall
            | Self::LanesAlone
            | Self::SkinnyLanes
            | Self::SkinnySubgroup => true,
            Self::Tile32 | Self::Tile64 | Self::Tile128 | Self::SkinnyGroup | Self::Cooperative => {
                false
            }
        }
    }

    /// Invocations in a workgroup.
    pub fn workgroup_size(self) -> u32 {
        self.form().workgroup_size
    }

    /// The length of a part of a reduction, where it always makes parts.
    pub fn span(self) -> Option<u32> {
        (self == Self::SkinnySubgroup).then_some(64)
    }

    pub(super) fn form(self) -> &'static Form {
        match self {
            Self::Tile32 => &TILE_32_FORM,
            Self::Tile64 => &TILE_64_FORM,
            Self::Tile128 => &TILE_128_FORM,
            Self::LanesSubgroup => &LANES_SUBGROUP_FORM,
            Self::LanesTall => &LANES_TALL_FORM,
            Self::LanesAlone => &LANES_ALONE_FORM,
            Self::SkinnyGroup => &SKINNY_GROUP_FORM,
            Self::SkinnyLanes => &SKINNY_LANES_FORM,
            Self::SkinnySubgroup => &SKINNY_SUBGROUP_FORM,
            Self::Cooperative => &COOPERATIVE_FORM,
        }
    }

    /// Rows and columns that a workgroup computes of an output with so many rows: `TILE_ROWS` and
    /// `TILE_COLUMNS` of its file.
    pub fn tile(self, rows: u32) -> [u32; 2] {
        match self {
            Self::LanesAlone => [16, 32],
            Self::Tile32 | Self::LanesSubgroup => [32, 32],
            Self::LanesTall => [64, 32],
            Self::Tile64 | Self::Cooperative => [64, 64],
            Self::Tile128 => [128, 128],
            Self::SkinnyGroup => [skinny_rows(rows, GROUP_ROWS), 32],
            Self::SkinnySubgroup => [skinny_rows(rows, FEW_ROWS), 512],
            Self::SkinnyLanes => [skinny_rows(rows, FEW_ROWS), 64],
        }
    }

    /// How far the reduction goes in a loop iteration.
    pub fn step(self) -> u32 {
        match self {
            Self::Tile32 | Self::Tile64 | Self::Tile128 | Self::Cooperative => 16,
            Self::LanesSubgroup | Self::LanesTall | Self::LanesAlone | Self::SkinnyLanes => 4,
            Self::SkinnyGroup => 128,
            Self::SkinnySubgroup => 64,
        }
    }

    /// The values of its form's overrides, for an output with so many rows.
    pub(super) fn overrides(self, rows: u32, pass: f64) -> Vec<f64> {
        let has_rows = self.form().overrides.len() > 1;
        let skinny = has_rows.then(|| f64::from(self.tile(rows)[0]));
        std::iter::once(pass).chain(skinny).collect()
    }
}

/// The fewest rows at a time which suffice, or the most.
fn skinny_rows(rows: u32, choices: &[u32]) -> u32 {
    let enough = choices.iter().copied().filter(|choice| *choice >= rows).min();
    enough.or(choices.iter().copied().max()).unwrap_or(1)
}

impl fmt::Display for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown strategy \"{name}\": expected one of {names}")
        })
    }
}

/// How a product reads its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Input times the weight's transpose: [`encode`](crate::Kernels::encode) and
    /// [`code_gradient`](crate::Kernels::code_gradient).
    Encode,
    /// Input times the weight: [`decode`](crate::Kernels::decode) and
    /// [`input_gradient`](crate::Kernels::input_gradient).
    Decode,
    /// The weight's gradient: [`backward`](crate::Kernels::backward).
    Backward,
}

/// What the table chooses by: the pattern, the output's dimensions and the reduction's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProductShape {
    /// How the operands are read.
    pub pattern: Pattern,
    /// Rows of the output.
    pub rows: u32,
    /// Columns of the output.
    pub columns: u32,
    /// Length of the reduction; of one of the two, for the weight's gradient.
    pub depth: u32,
}

impl ProductShape {
    /// The product of [`encode`](crate::Kernels::encode) for a layer and batch.
    pub const fn encode(batch: u32, inputs: u32, hidden: u32) -> Self {
        Self { pattern: Pattern::Encode, rows: batch, columns: hidden, depth: inputs }
    }

    /// That of [`decode`](crate::Kernels::decode).
    pub const fn decode(batch: u32, inputs: u32, hidden: u32) -> Self {
        Self { pattern: Pattern::Decode, rows: batch, columns: inputs, depth: hidden }
    }

    /// That of [`backward`](crate::Kernels::backward).
    pub const fn backward(batch: u32, inputs: u32, hidden: u32) -> Self {
        Self { pattern: Pattern::Backward, rows: hidden, columns: inputs, depth: batch }
    }

    /// The three of a layer and batch.
    pub const fn of_layer(batch: u32, inputs: u32, hidden: u32) -> [Self; 3] {
        [
            Self::encode(batch, inputs, hidden),
            Self::decode(batch, inputs, hidden),
            Self::backward(batch, inputs, hidden),
        ]
    }

    /// Workgroups that compute the output by `strategy`, for each part of the reduction.
    pub(super) fn tiles(&self, strategy: Strategy) -> u64 {
        let [rows, columns] = strategy.tile(self.rows);
        u64::from(self.rows.div_ceil(rows)) * u64::from(self.columns.div_ceil(columns))
    }
}

/// How one product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Choice {
    /// By which kernel.
    pub strategy: Strategy,
    /// Into how many parts the reduction is split, each with workgroups of its own; with more than
    /// one, a second dispatch adds the parts up.
    pub parts: u32,
}

impl Choice {
    /// The whole reduction in one.
    pub const fn whole(strategy: Strategy) -> Self {
        Self { strategy, parts: 1 }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts {
            1 => self.strategy.fmt(formatter),
            parts => write!(formatter, "{} in {parts} parts", self.strategy),
        }
    }
}

/// Which [`Strategy`] computes which product on a device.
///
/// The rules, in order; nothing is measured, and the same device and shape have the same choice:
///
/// | device | product | strategy |
/// | --- | --- | --- |
/// | CPU driver | encode or decode with up to 4 rows | `skinny_lanes`; of decode, where it may be split, `skinny_subgroup` with subgroups of eight |
/// | Mesa's llvmpipe up to 22.3 | any other with 8 tiles of 64×32 or more, the last ones more than half full | `lanes_tall` with subgroups of eight |
/// | CPU driver | any other | `lanes_subgroup` with subgroups of eight, else `lanes_alone` |
/// | GPU | encode or decode with up to 16 rows | `skinny_group` |
/// | GPU | 256 tiles of 128×128 or more | `tile_128` |
/// | GPU | 128 tiles of 64×64 or more | `tile_64` |
/// | GPU | any other | `tile_32` |
///
/// A strategy whose workgroup exceeds the device's limits is passed over for the next, and `lanes_tall` on
/// DX12. A reduction is split where the output has too few tiles to keep the device busy: into parts of 512
/// or more, with up to 128 workgroups on a GPU and 8 on a CPU driver.
///
/// [`StrategyTable::set`] makes exceptions, [`tune`](crate::tune) finds them by measuring, and
/// [`StrategyTable::force`] takes one choice for everything that it can compute.
#[derive(Debug, Clone, PartialEq)]
pub struct StrategyTable {
    is_cpu: bool,
    /// Whether large tiles are as good as small ones, on a CPU driver.
    likes_tall: bool,
    /// Whether the device can add the parts of a reduction up.
    can_split: bool,
    available: Vec<Strategy>,
    /// Whether the device has what [`Strategy::Cooperative`] needs, the adapter's list not looked at.
    cooperative: bool,
    /// Whether only the weight's gradient may be split.
    whole: bool,
    forced: Option<Choice>,
    exceptions: HashMap<ProductShape, Choice>,
}

/// Tiles from which on the larger tile is taken, on a GPU.
const ENOUGH_TILES: [(Strategy, u64); 2] = [(Strategy::Tile128, 256), (Strategy::Tile64, 128)];

/// Tiles of [`Strategy::LanesTall`] from which on it is taken.
const ENOUGH_TALL_TILES: u64 = 8;

/// Whether there are enough tiles of 64 rows, and no more than half of the last ones is empty.
fn fills_tall_tiles(product: &ProductShape) -> bool {
    let last = product.rows % 64;
    (last == 0 || last > 32) && product.tiles(Strategy::LanesTall) >= ENOUGH_TALL_TILES
}

/// The shortest part of a split reduction.
const SHORTEST_PART: u32 = 512;

impl StrategyTable {
    /// The rules for `device`.
    pub fn new(device: &wgpu::Device) -> Self {
        let (info, limits) = (device.adapter_info(), device.limits());
        let features = device.features();
        let fits = |form: &Form| {
            let subgroups = |size| info.subgroup_min_size == size && info.subgroup_max_size == size;
            features.contains(form.features)
                && form.subgroup_size.is_none_or(subgroups)
                && form.workgroup_size <= limits.max_compute_workgroup_size_x
                && form.workgroup_size <= limits.max_compute_invocations_per_workgroup
                && form.workgroup_bytes <= limits.max_compute_workgroup_storage_size
        };
        let can_split = fits(&COMBINE_FORM);
        let compiles_soon = |strategy: &Strategy| {
            *strategy != Strategy::LanesTall || info.backend != wgpu::Backend::Dx12
        };
        let is_fitting = |strategy: &Strategy| {
            fits(strategy.form())
                && compiles_soon(strategy)
                && (can_split || strategy.span().is_none())
        };
        let fitting: Vec<_> = Strategy::ALL.into_iter().filter(is_fitting).collect();
        let is_sure = |strategy: &Strategy| *strategy != Strategy::Cooperative;
        Self {
            is_cpu: info.device_type == wgpu::DeviceType::Cpu,
            likes_tall: is_old_llvmpipe(&info),
            can_split,
            available: fitting.iter().copied().filter(is_sure).collect(),
            cooperative: fitting.contains(&Strategy::Cooperative),
            whole: false,
            forced: None,
            exceptions: HashMap::new(),
        }
    }

    /// Makes [`Strategy::Cooperative`] available where the device's adapter lists 16×16×16 matrices with
    /// f16 operands and f32 sums, which a device does not tell.
    pub fn with_adapter(mut self, adapter: &wgpu::Adapter) -> Self {
        let fits = |one: &wgpu::CooperativeMatrixProperties| {
            [one.m_size, one.n_size, one.k_size] == [16; 3]
                && one.ab_type == wgpu::CooperativeScalarType::F16
                && one.cr_type == wgpu::CooperativeScalarType::F32
        };
        let listed = self.cooperative && adapter.cooperative_matrix_properties().iter().any(fits);
        if listed && !self.available.contains(&Strategy::Cooperative) {
            self.available.push(Strategy::Cooperative);
        }
        self
    }

    /// The strategies that the device can run, and compile soon.
    pub fn available(&self) -> &[Strategy] {
        &self.available
    }

    /// Lets the rules split no product but the weight's gradient, so that each of the others is one
    /// dispatch. A [`TrainingStep`](crate::TrainingStep) does, to be six dispatches.
    pub fn without_split_products(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Makes one choice for all products that its strategy can compute; exceptions stay. No part of a
    /// reduction is left empty: short ones are split into fewer.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] for a strategy that is not [`available`](Self::available),
    /// [`Error::Setting`] for no parts.
    pub fn force(mut self, choice: Choice) -> Result<Self> {
        self.expect_possible(choice)?;
        self.forced = Some(choice);
        Ok(self)
    }

    /// Makes an exception for one product.
    ///
    /// # Errors
    ///
    /// As [`StrategyTable::force`], and [`Error::Incompatible`] for a strategy that cannot compute
    /// this product.
    pub fn set(&mut self, product: ProductShape, choice: Choice) -> Result<()> {
        self.expect_possible(choice)?;
        if !choice.strategy.computes(product.pattern) {
            let reason = "the strategy does not compute this kind of product";
            return Err(Error::Incompatible { what: choice.strategy.name(), reason });
        }
        self.exceptions.insert(product, choice);
        Ok(())
    }

    /// The exceptions.
    pub fn exceptions(&self) -> impl Iterator<Item = (&ProductShape, &Choice)> {
        self.exceptions.iter()
    }

    /// How `product` is computed.
    pub fn choose(&self, product: &ProductShape) -> Choice {
        if let Some(choice) = self.exceptions.get(product) {
            return *choice;
        }
        if let Some(choice) = self.forced.filter(|choice| choice.strategy.computes(product.pattern))
        {
            return choice;
        }
        let strategy = self.rule(product);
        Choice { strategy, parts: self.parts(product, strategy) }
    }

    /// All that could be sensible for `product` on this kind of device, and is as exact, what the rules
    /// say first.
    pub fn candidates(&self, product: &ProductShape) -> Vec<Choice> {
        let ruled = self.rule(product);
        let others = self.available.iter().copied().filter(|other| {
            *other != ruled
                && *other != Strategy::Cooperative
                && other.is_for_cpus() == self.is_cpu
                && other.computes(product.pattern)
        });
        std::iter::once(ruled)
            .chain(others)
            .flat_map(|strategy| {
                let whole = Choice::whole(strategy);
                let split = Choice { parts: self.parts(product, strategy), ..whole };
                std::iter::once(split).chain((split != whole).then_some(whole))
            })
            .collect()
    }

    fn rule(&self, product: &ProductShape) -> Strategy {
        let is_available = |strategy: &Strategy| {
            self.available.contains(strategy)
                && strategy.computes(product.pattern)
                && (self.may_split(product) || strategy.span().is_none())
        };
        let first = |strategies: &[Strategy]| strategies.iter().copied().find(is_available);
        let wanted = if self.is_cpu {
            let skinny = [Strategy::SkinnySubgroup, Strategy::SkinnyLanes];
            let tall = Some(Strategy::LanesTall)
                .filter(|tall| self.likes_tall && is_available(tall) && fills_tall_tiles(product));
            let lanes = [Strategy::LanesSubgroup, Strategy::LanesAlone];
            if product.rows <= 4 { first(&skinny) } else { tall }.or_else(|| first(&lanes))
        } else {
            let skinny = (product.rows <= 16).then_some(Strategy::SkinnyGroup);
            let large = ENOUGH_TILES.into_iter().filter(|(strategy, enough)| {
                is_available(strategy) && product.tiles(*strategy) >= *enough
            });
            let large = large.map(|(strategy, _)| strategy).next();
            skinny.filter(is_available).or(large).or_else(|| first(&[Strategy::Tile32]))
        };
        wanted.unwrap_or(Strategy::LanesAlone)
    }

    /// Into how many parts a reduction is split.
    fn parts(&self, product: &ProductShape, strategy: Strategy) -> u32 {
        if !self.can_split || !self.may_split(product) {
            return 1;
        }
        let busy = if self.is_cpu { 8 } else { 128 };
        let tiles = product.tiles(strategy).clamp(1, busy);
        let parts = (busy / tiles).min(u64::from(product.depth / SHORTEST_PART)).max(1);
        parts as u32
    }

    fn may_split(&self, product: &ProductShape) -> bool {
        !self.whole || product.pattern == Pattern::Backward
    }

    fn expect_possible(&self, choice: Choice) -> Result<()> {
        if !self.available.contains(&choice.strategy) {
            let reason = "the device lacks the limits or subgroups for this strategy, or compiles it too slowly";
            return Err(Error::Incompatible { what: choice.strategy.name(), reason });
        }
        if choice.parts == 0 {
            let expected = "at least 1";
            return Err(Error::Setting { name: "parts", expected, given: 0.0 });
        }
        Ok(())
    }
}
