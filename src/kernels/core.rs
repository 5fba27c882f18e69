//! [`Kernels`]: what the kernels share on one device, and how a dispatch is prepared.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::commands::{Commands, Dispatch};
use super::driver::{most_iterations, reads_in_64_bits};
use super::loss_scale::Scale;
use super::operands::{self, Operand, Operands, Slice};
use super::strategy::{Choice, ProductShape, StrategyTable};
use crate::element::ElementType;
use crate::error::{Error, Result, captured, expect_alive};
use crate::matrix::{Layout, Matrix, expect_countable, expect_length};
use crate::shader::{Access, Binding, Form, Shader, Width};

/// How kernels are built.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct KernelOptions {
    /// Whether the driver's or wgpu's checks stay in the shaders: index clamps, loop bounds and
    /// division guards ([`wgpu::ShaderRuntimeChecks`]). Default: `true`.
    ///
    /// The kernels pass every test either way: sizes are checked on the CPU before anything is
    /// recorded, every index is clamped to its matrix and every loop ends with it. Without the
    /// checks they can run faster.
    pub runtime_checks: bool,
    /// A cache of the host's for compiled pipelines. It must belong to the same device.
    pub pipeline_cache: Option<wgpu::PipelineCache>,
    /// Which strategy computes which product. Default: `None`, the rules of [`StrategyTable`] for the
    /// device.
    pub strategies: Option<StrategyTable>,
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self { runtime_checks: true, pipeline_cache: None, strategies: None }
    }
}

impl KernelOptions {
    /// Sets [`KernelOptions::runtime_checks`].
    pub fn with_runtime_checks(mut self, runtime_checks: bool) -> Self {
        self.runtime_checks = runtime_checks;
        self
    }

    /// Sets [`KernelOptions::pipeline_cache`].
    pub fn with_pipeline_cache(mut self, cache: wgpu::PipelineCache) -> Self {
        self.pipeline_cache = Some(cache);
        self
    }

    /// Sets [`KernelOptions::strategies`]. The table must have been made for a device with the same
    /// features and limits.
    pub fn with_strategies(mut self, strategies: StrategyTable) -> Self {
        self.strategies = Some(strategies);
        self
    }
}

/// The kernels of one device: shader modules, layouts and pipelines, made when first asked for and
/// kept. A cheap handle to clone; usable from several threads.
///
/// WebGPU's default limits and no features suffice: the kernels need up to 8 storage buffers in a
/// stage, 256 invocations in a workgroup and 16 KiB of workgroup memory. On a CPU driver,
/// [`wgpu::Features::SUBGROUP`] makes the products several times as fast, and on a CPU driver for Vulkan
/// [`wgpu::Features::SHADER_INT64`] makes them faster still ([`Kernels::reads_in_64_bits`]).
///
/// # Errors
///
/// Each kernel's method returns, before anything is recorded or written:
///
/// * [`Error::Shape`] for a matrix of other dimensions than the formula asks for;
/// * [`Error::Missing`] where an activation's derivative needs `saved`;
/// * [`Error::ElementType`] for f16 or bf16 where the kernel takes f32 alone, or at an odd offset or row
///   stride;
/// * [`Error::Usage`] for a buffer without [`wgpu::BufferUsages::STORAGE`];
/// * [`Error::Aliased`] for an output in the buffer of another operand;
/// * [`Error::Limit`] where a binding, the kernel or the number of workgroups exceeds the device's
///   limits, and on Mesa's software driver up to 22.3, which cuts long loops short, for a bias
///   gradient over more than 4,193,728 samples or a sum of more than 268 million values;
/// * [`Error::DeviceMismatch`] and [`Error::Refused`] for a weight or a buffer of another device, or
///   a destroyed buffer;
/// * [`Error::DeviceLost`] and [`Error::OutOfMemory`].
#[derive(Debug, Clone)]
pub struct Kernels {
    shared: Arc<Shared>,
    strategies: Arc<StrategyTable>,
}

#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    limits: wgpu::Limits,
    options: KernelOptions,
    /// Bound in place of absent operands that are read and written, respectively.
    spare_read: wgpu::Buffer,
    spare_write: wgpu::Buffer,
    /// Bound where no loss's scale is given: the scale 1.
    unscaled: wgpu::Buffer,
    /// By their bindings, so that encode and decode share the weight's.
    group_layouts: Mutex<HashMap<&'static [Binding], wgpu::BindGroupLayout>>,
    modules: Mutex<HashMap<ModuleKey, wgpu::ShaderModule>>,
    pipelines: Mutex<HashMap<PipelineKey, wgpu::ComputePipeline>>,
    /// The most loop iterations of an invocation that the driver gets right.
    most_iterations: u64,
    /// The width of 16-byte words: [`Width::Vector`] or [`Width::Vector64`].
    vector: Width,
}

/// Shader, form and width.
type ModuleKey = (&'static str, &'static str, Width);

/// The module and the values of its overrides, in the order of the shader's list, then the form's, then
/// the codes of its elements.
type PipelineKey = (ModuleKey, Vec<u32>);

/// Absent operands that are written have stand-ins this many bytes apart, one for each binding of a
/// group: WebGPU forbids that two writable bindings of a dispatch overlap. A binding may start at a
/// multiple of 256 on any device.
const SPARE_STEP: u64 = 256;
const SPARE_BINDINGS: u64 = 16;

/// What one dispatch of a shader is prepared from, apart from its operands.
pub(super) struct Call<'a> {
    shader: &'static Shader,
    form: &'static Form,
    parameters: &'a [u8],
    workgroups: [u32; 2],
    overrides: &'a [f64],
    first_group: Option<&'a wgpu::BindGroup>,
    settings: Option<&'a wgpu::Buffer>,
    loss_scale: Option<&'a wgpu::Buffer>,
}

impl<'a> Call<'a> {
    /// A call with these contents of the uniform at binding 0 of the last group, and as many
    /// workgroups as [`Kernels::workgroups`] says.
    pub(super) fn new<P: bytemuck::Pod>(
        shader: &'static Shader,
        parameters: &'a P,
        workgroups: [u32; 2],
    ) -> Self {
        let parameters = bytemuck::bytes_of(parameters);
        Self {
            shader,
            form: shader.forms[0],
            parameters,
            workgroups,
            overrides: &[],
            first_group: None,
            settings: None,
            loss_scale: None,
        }
    }

    /// Takes another of the shader's forms than the first.
    pub(super) fn with_form(mut self, form: &'static Form) -> Self {
        self.form = form;
        self
    }

    /// Sets the values of the shader's overrides, in the order of its list, then of its form's.
    pub(super) fn with_overrides(mut self, overrides: &'a [f64]) -> Self {
        self.overrides = overrides;
        self
    }

    /// Takes a bind group that was made earlier for group 0, and its operands from it.
    pub(super) fn with_first_group(mut self, first_group: &'a wgpu::BindGroup) -> Self {
        self.first_group = Some(first_group);
        self
    }

    /// Binds a second uniform, kept by the caller, as `settings`.
    pub(super) fn with_settings(mut self, settings: Option<&'a wgpu::Buffer>) -> Self {
        self.settings = settings;
        self
    }

    /// Binds a loss's scale as `loss_scale`, in place of the scale 1.
    pub(super) fn with_loss_scale(mut self, loss_scale: Option<&'a wgpu::Buffer>) -> Self {
        self.loss_scale = loss_scale;
        self
    }
}

impl Kernels {
    /// Kernels for `device`. Pipelines are built when they are first needed.
    ///
    /// # Errors
    ///
    /// [`Error::DeviceLost`] and [`Error::OutOfMemory`].
    pub fn new(device: &wgpu::Device, options: KernelOptions) -> Result<Self> {
        let strategies = options.strategies.clone();
        let strategies = strategies.unwrap_or_else(|| StrategyTable::new(device));
        let spare =
            |label, bytes: &[u8]| filled_buffer(device, label, bytes, wgpu::BufferUsages::STORAGE);
        let uniform = wgpu::BufferUsages::UNIFORM;
        let unscaled =
            filled_buffer(device, "no loss scale", bytemuck::bytes_of(&Scale::ONE), uniform)?;
        let shared = Shared {
            device: device.clone(),
            limits: device.limits(),
            options,
            spare_read: spare("absent input", &[0; 16])?,
            spare_write: spare("absent output", &[0; (SPARE_BINDINGS * SPARE_STEP) as usize])?,
            unscaled,
            group_layouts: Mutex::default(),
            modules: Mutex::default(),
            pipelines: Mutex::default(),
            most_iterations: most_iterations(&device.adapter_info()),
            vector: if reads_in_64_bits(device) { Width::Vector64 } else { Width::Vector },
        };
        Ok(Self { shared: Arc::new(shared), strategies: Arc::new(strategies) })
    }

    /// The same kernels, pipelines and all, with another table of strategies; one for a device with
    /// the same features and limits.
    pub fn with_strategies(&self, strategies: StrategyTable) -> Self {
        Self { shared: self.shared.clone(), strategies: Arc::new(strategies) }
    }

    /// The device that the kernels were made for.
    pub fn device(&self) -> &wgpu::Device {
        &self.shared.device
    }

    /// The options that the kernels were made with.
    pub fn options(&self) -> &KernelOptions {
        &self.shared.options
    }

    /// Whether dispatches read and write their matrices as 64-bit integers, with the same bits as results,
    /// where all are of f32 and the offset, row stride and columns of each are multiples of four: on Vulkan
    /// drivers that run shaders on the CPU, where the device has [`wgpu::Features::SHADER_INT64`].
    ///
    /// With Mesa's llvmpipe 22.3 a product takes two thirds of the time on a processor without AVX-512.
    pub fn reads_in_64_bits(&self) -> bool {
        self.shared.vector == Width::Vector64
    }

    /// Which strategy computes which product.
    pub fn strategies(&self) -> &StrategyTable {
        &self.strategies
    }

    /// How a product of this shape is computed.
    pub fn choice(&self, product: &ProductShape) -> Choice {
        self.strategies().choose(product)
    }

    /// A new zeroed buffer holding `rows` × `columns` f32 values, as a matrix: usable as any operand,
    /// copied from and to.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`], and [`Error::Limit`] beyond
    /// `max_buffer_size`.
    pub fn zeros(&self, label: &'static str, rows: u32, columns: u32) -> Result<Matrix> {
        self.zeros_as(label, rows, columns, ElementType::F32)
    }

    /// As [`Kernels::zeros`], with elements of this type. The rows of a 16-bit type are as long as their
    /// columns, rounded up to an even number.
    ///
    /// # Errors
    ///
    /// As [`Kernels::zeros`].
    pub fn zeros_as(
        &self,
        label: &'static str,
        rows: u32,
        columns: u32,
        element: ElementType,
    ) -> Result<Matrix> {
        let layout = Layout::padded(rows, columns, element);
        let size = self.expect_room_for(label, layout)?;
        Matrix::view(&self.new_buffer(label, size)?, layout)
    }

    /// A new buffer for matrices with these contents, or 16 bytes where there are none.
    fn buffer_of(&self, label: &'static str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let bytes = if bytes.is_empty() { &[0; 16] } else { bytes };
        filled_buffer(self.device(), label, bytes, matrix_usages())
    }

    /// A new zeroed buffer for matrices.
    fn new_buffer(&self, label: &'static str, size: u64) -> Result<wgpu::Buffer> {
        let descriptor = wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage: matrix_usages(),
            mapped_at_creation: false,
        };
        expect_alive(self.device())?;
        captured(self.device(), label, || self.device().create_buffer(&descriptor))
    }

    /// A new buffer holding `values`, `rows` × `columns` of them row by row, as a matrix.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] where `values` has another length, and as [`Kernels::zeros`].
    pub fn matrix(
        &self,
        label: &'static str,
        rows: u32,
        columns: u32,
        values: &[f32],
    ) -> Result<Matrix> {
        self.matrix_as(label, rows, columns, values, ElementType::F32)
    }

    /// As [`Kernels::matrix`], with elements of this type, to which the values are rounded; laid out as
    /// by [`Kernels::zeros_as`].
    ///
    /// # Errors
    ///
    /// As [`Kernels::matrix`].
    pub fn matrix_as(
        &self,
        label: &'static str,
        rows: u32,
        columns: u32,
        values: &[f32],
        element: ElementType,
    ) -> Result<Matrix> {
        let layout = Layout::padded(rows, columns, element);
        self.expect_room_for(label, layout)?;
        expect_length(u64::from(rows) * u64::from(columns), values)?;
        let buffer = self.buffer_of(label, &element.encode_rows(values, columns))?;
        Matrix::view(&buffer, layout)
    }

    /// As [`Kernels::matrix`], with a [working copy](Matrix::with_working_copy) of this type in the same
    /// buffer, each row of which is as long as a whole number of u32: a master weight for training in 16 bits.
    /// With [`ElementType::F32`] there is no copy.
    ///
    /// An optimizer binds both at once: the buffer may be as large as
    /// [`wgpu::Limits::max_storage_buffer_binding_size`].
    ///
    /// # Errors
    ///
    /// As [`Kernels::matrix`].
    pub fn master(
        &self,
        label: &'static str,
        rows: u32,
        columns: u32,
        values: &[f32],
        element: ElementType,
    ) -> Result<Matrix> {
        let Some([layout, copy]) = self.master_layouts(label, rows, columns, element)? else {
            return self.matrix(label, rows, columns, values);
        };
        expect_length(u64::from(rows) * u64::from(columns), values)?;
        let (own, other) = (ElementType::F32.encode(values), element.encode_rows(values, columns));
        let buffer = self.buffer_of(label, &[own, other].concat())?;
        Matrix::view(&buffer, layout)?.with_working_copy(copy)
    }

    /// The same of zeros.
    pub(crate) fn zeroed_master(
        &self,
        label: &'static str,
        rows: u32,
        columns: u32,
        element: ElementType,
    ) -> Result<Matrix> {
        let Some([layout, copy]) = self.master_layouts(label, rows, columns, element)? else {
            return self.zeros(label, rows, columns);
        };
        let size = (copy.offset + u64::from(rows) * u64::from(copy.row_stride)) * element.size();
        let buffer = self.new_buffer(label, size.max(16))?;
        Matrix::view(&buffer, layout)?.with_working_copy(copy)
    }

    /// Where a matrix and its working copy lie in a buffer that the device allows; `None` without a copy.
    fn master_layouts(
        &self,
        what: &'static str,
        rows: u32,
        columns: u32,
        element: ElementType,
    ) -> Result<Option<[Layout; 2]>> {
        if element == ElementType::F32 {
            return Ok(None);
        }
        let layout = Layout::contiguous(rows, columns);
        let own = u64::from(rows) * u64::from(columns) * ElementType::F32.size();
        let copy =
            Layout { offset: own / element.size(), ..Layout::padded(rows, columns, element) };
        let size = self.expect_room_for(what, layout)? + self.expect_room_for(what, copy)?;
        self.expect_size(what, size)?;
        Ok(Some([layout, copy]))
    }

    /// A new uniform buffer that the host can write to.
    pub(crate) fn uniform_buffer(&self, label: &'static str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        filled_buffer(self.device(), label, bytes, usage)
    }

    /// A new buffer with these contents that kernels write, and read as a uniform too.
    pub(super) fn state_buffer(&self, label: &'static str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let usage = matrix_usages() | wgpu::BufferUsages::UNIFORM;
        filled_buffer(self.device(), label, bytes, usage)
    }

    /// The bytes of a buffer for `rows` × `columns` f32 values, where the device allows it.
    pub(crate) fn expect_room(&self, what: &'static str, rows: u32, columns: u32) -> Result<u64> {
        self.expect_room_for(what, Layout::contiguous(rows, columns))
    }

    /// The same for a layout that starts with the buffer.
    fn expect_room_for(&self, what: &'static str, layout: Layout) -> Result<u64> {
        let values = u64::from(layout.rows) * u64::from(layout.row_stride);
        expect_countable(what, values)?;
        let needed = (values * layout.element.size()).max(16);
        self.expect_size(what, needed)?;
        Ok(needed)
    }

    /// Passes if the device allows a buffer of so many bytes.
    fn expect_size(&self, what: &'static str, needed: u64) -> Result<()> {
        let available = self.shared.limits.max_buffer_size;
        if needed > available {
            return Err(Error::Limit { what, limit: "max_buffer_size", needed, available });
        }
        Ok(())
    }

    /// The device's limits.
    pub(super) fn limits(&self) -> &wgpu::Limits {
        &self.shared.limits
    }

    /// Spreads `count` workgroups over two dimensions. The shader numbers them
    /// y·(first dimension) + x and lets those past `count` do nothing.
    pub(super) fn workgroups(&self, shader: &'static Shader, count: u64) -> Result<[u32; 2]> {
        let most = u64::from(self.shared.limits.max_compute_workgroups_per_dimension);
        if count > most * most {
            return Err(Error::Limit {
                what: shader.name,
                limit: "max_compute_workgroups_per_dimension, squared",
                needed: count,
                available: most * most,
            });
        }
        let high = count.div_ceil(most.max(1));
        let wide = count.div_ceil(high.max(1));
        Ok([wide as u32, high as u32])
    }

    /// The most loop iterations of an invocation that the driver gets right.
    pub(super) fn most_iterations(&self) -> u64 {
        self.shared.most_iterations
    }

    /// Passes if the driver gets this many loop iterations of an invocation right.
    pub(super) fn expect_iterations(&self, what: &'static str, needed: u64) -> Result<()> {
        let available = self.most_iterations();
        if needed <= available {
            return Ok(());
        }
        let limit = "of loop iterations (Mesa's software driver up to 22.3)";
        Err(Error::Limit { what, limit, needed, available })
    }

    /// Checks a shader's operands; see [`operands::check`].
    pub(super) fn check<'a, const N: usize>(
        &self,
        shader: &'static Shader,
        operands: [Option<&'a Matrix>; N],
    ) -> Result<Operands<'a, N>> {
        operands::check(shader, &self.shared.limits, self.shared.vector, operands)
    }

    /// Makes the dispatch: uniform, bind group, pipeline. No workgroups, no commands.
    pub(super) fn prepare<const N: usize>(
        &self,
        operands: &Operands<'_, N>,
        call: &Call<'_>,
    ) -> Result<Commands> {
        if call.workgroups.contains(&0) {
            return Ok(Commands::default());
        }
        let (shader, form) = (call.shader, call.form);
        self.expect_limits(shader, form)?;
        let uniform = wgpu::BufferUsages::UNIFORM;
        let parameters = filled_buffer(self.device(), shader.name, call.parameters, uniform)?;
        let unscaled = &self.shared.unscaled;
        let last = shader.groups.len() - 1;
        let mut entries = Vec::new();
        for (index, binding) in (0..).zip(shader.groups[last]) {
            let (Access::Uniform(_), name) = (binding.access, binding.name) else { continue };
            let given = [("settings", call.settings), ("loss_scale", call.loss_scale)];
            let given = given.into_iter().find(|(other, _)| *other == name);
            let buffer = match given {
                Some((_, Some(kept))) => {
                    expect_uniform(binding, kept, operands)?;
                    kept
                }
                Some((_, None)) => unscaled,
                None => &parameters,
            };
            entries.push(entry(index, Slice::whole(buffer)));
        }
        let pipeline = self.pipeline(shader, form, operands, call.overrides)?;
        let layout = self.group_layout(shader.groups[last])?;
        let of_group = operands.bound.iter().filter(|operand| operand.group == last);
        entries.extend(of_group.map(|operand| self.operand_entry(operand)));
        let group = captured(self.device(), shader.name, || {
            self.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(shader.name),
                layout: &layout,
                entries: &entries,
            })
        })?;
        let bind_groups = call.first_group.cloned().into_iter().chain([group]).collect();
        Ok(Commands::one(Dispatch { pipeline, bind_groups, workgroups: call.workgroups }))
    }

    fn operand_entry<'a>(&'a self, operand: &Operand<'a>) -> wgpu::BindGroupEntry<'a> {
        let spare = if operand.binding.access.writes() {
            let offset = u64::from(operand.index) * SPARE_STEP;
            let size = wgpu::BufferSize::new(16);
            Slice { buffer: &self.shared.spare_write, offset, size }
        } else {
            Slice::whole(&self.shared.spare_read)
        };
        entry(operand.index, operand.bound.unwrap_or(spare))
    }

    /// A bind group of `bindings`, of which there is one: `matrix`, read.
    pub(super) fn bind_alone(
        &self,
        bindings: &'static [Binding],
        matrix: &Matrix,
    ) -> Result<wgpu::BindGroup> {
        expect_alive(self.device())?;
        let name = bindings[0].name;
        let slice = if matrix.is_empty() {
            Slice::whole(&self.shared.spare_read)
        } else {
            operands::slice_of(name, matrix, &self.shared.limits)?
        };
        let layout = self.group_layout(bindings)?;
        captured(self.device(), name, || {
            self.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(name),
                layout: &layout,
                entries: &[entry(0, slice)],
            })
        })
    }

    /// wgpu checks neither workgroup size nor workgroup memory once overrides are applied.
    fn expect_limits(&self, shader: &'static Shader, form: &'static Form) -> Result<()> {
        let limits = &self.shared.limits;
        let size = form.workgroup_size;
        let needs = [
            (size, limits.max_compute_workgroup_size_x, "max_compute_workgroup_size_x"),
            (
                size,
                limits.max_compute_invocations_per_workgroup,
                "max_compute_invocations_per_workgroup",
            ),
            (
                form.workgroup_bytes,
                limits.max_compute_workgroup_storage_size,
                "max_compute_workgroup_storage_size",
            ),
            (
                shader.storage_buffers(),
                limits.max_storage_buffers_per_shader_stage,
                "max_storage_buffers_per_shader_stage",
            ),
        ];
        for (needed, available, limit) in needs {
            if needed > available {
                let (needed, available) = (u64::from(needed), u64::from(available));
                return Err(Error::Limit { what: shader.name, limit, needed, available });
            }
        }
        Ok(())
    }

    fn group_layout(&self, bindings: &'static [Binding]) -> Result<wgpu::BindGroupLayout> {
        let known = &self.shared.group_layouts;
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = known.get(bindings) {
            return Ok(layout.clone());
        }
        let entries: Vec<_> = (0..).zip(bindings).map(layout_entry).collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
        let layout = captured(self.device(), "a bind-group layout", || {
            self.device().create_bind_group_layout(&descriptor)
        })?;
        known.insert(bindings, layout.clone());
        Ok(layout)
    }

    fn module(
        &self,
        shader: &'static Shader,
        form: &'static Form,
        width: Width,
    ) -> Result<wgpu::ShaderModule> {
        let key = (shader.name, form.name, width);
        let mut known = self.shared.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = known.get(&key) {
            return Ok(module.clone());
        }
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(shader.source(width, form).into()),
        };
        let module = captured(self.device(), shader.name, || {
            if self.shared.options.runtime_checks {
                self.device().create_shader_module(descriptor)
            } else {
                create_unchecked(self.device(), descriptor)
            }
        })?;
        known.insert(key, module.clone());
        Ok(module)
    }

    fn pipeline<const N: usize>(
        &self,
        shader: &'static Shader,
        form: &'static Form,
        operands: &Operands<'_, N>,
        overrides: &[f64],
    ) -> Result<wgpu::ComputePipeline> {
        debug_assert_eq!(shader.overrides_in(form).count(), overrides.len());
        let width = operands.width;
        let module = (shader.name, form.name, width);
        let own = overrides.iter().map(|value| *value as u32);
        let key = (module, own.chain(operands.elements.iter().copied()).collect());
        let mut known = self.shared.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = known.get(&key) {
            return Ok(pipeline.clone());
        }
        let module = self.module(shader, form, width)?;
        let groups = shader.groups.iter().map(|bindings| self.group_layout(bindings));
        let groups = groups.collect::<Result<Vec<_>>>()?;
        let groups: Vec<_> = groups.iter().map(Some).collect();
        let names = shader.overrides_in(form).map(|constant| constant.name);
        let codes = operands.elements.iter().map(|code| f64::from(*code));
        let elements = shader.elements.iter().map(|element| element.constant).zip(codes);
        let constants: Vec<_> = names.zip(overrides.iter().copied()).chain(elements).collect();
        let pipeline = captured(self.device(), shader.name, || {
            let layout = self.device().create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(shader.name),
                bind_group_layouts: &groups,
                immediate_size: 0,
            });
            self.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(shader.name),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(shader.name),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    // The kernels write workgroup memory before they read it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.shared.options.pipeline_cache.as_ref(),
            })
        })?;
        known.insert(key, pipeline.clone());
        Ok(pipeline)
    }
}

/// Passes if `kept`, a buffer of the caller's, can be bound as this uniform.
fn expect_uniform<const N: usize>(
    binding: &Binding,
    kept: &wgpu::Buffer,
    operands: &Operands<'_, N>,
) -> Result<()> {
    let (needed, given) = (wgpu::BufferUsages::UNIFORM, kept.usage());
    if !given.contains(needed) {
        return Err(Error::Usage { operand: binding.name, needed, given });
    }
    if let Access::Uniform(fields) = binding.access {
        let ends = fields.iter().map(|field| field.offset + field.size);
        let (needed, given) = (ends.max().unwrap_or(0) as u64, kept.size());
        if given < needed {
            return Err(Error::DoesNotFit { operand: binding.name, needed, given });
        }
    }
    for operand in &operands.bound {
        let shared = operand.bound.is_some_and(|slice| slice.buffer == kept);
        if shared && operand.binding.access.writes() {
            return Err(Error::Aliased { output: operand.binding.name, other: binding.name });
        }
    }
    Ok(())
}

/// A shader module without runtime checks.
#[allow(unsafe_code)]
fn create_unchecked(
    device: &wgpu::Device,
    descriptor: wgpu::ShaderModuleDescriptor<'_>,
) -> wgpu::ShaderModule {
    // SAFETY: no index can leave its buffer: every view is checked against its buffer before it is
    // bound, and the kernels clamp every index to the view (matrix.wgsl) or compare it with the
    // view's columns (biases), and an optimizer's state is made for exactly the workgroups that
    // its parameters take. Workgroup memory is indexed within its bounds by the local invocation
    // index and constants. Every loop counts up to a size of a matrix or to a constant, every divisor
    // is the size of a non-empty one, and no kernel uses signed integers.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}

const fn matrix_usages() -> wgpu::BufferUsages {
    wgpu::BufferUsages::STORAGE
        .union(wgpu::BufferUsages::COPY_SRC)
        .union(wgpu::BufferUsages::COPY_DST)
}

/// A new buffer with these contents, which are there without a write to the queue.
fn filled_buffer(
    device: &wgpu::Device,
    label: &'static str,
    bytes: &[u8],
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    let descriptor = wgpu::BufferDescriptor {
        label: Some(label),
        size: bytes.len() as u64,
        usage,
        mapped_at_creation: true,
    };
    captured(device, label, || {
        let buffer = device.create_buffer(&descriptor);
        // On a lost device the buffer is invalid, no error is reported, and mapping fails.
        let mut mapped = buffer.get_mapped_range_mut(..).map_err(|_| Error::DeviceLost)?;
        mapped.copy_from_slice(bytes);
        drop(mapped);
        buffer.unmap();
        Ok(buffer)
    })?
}

/// A slice of a buffer at a binding.
fn entry(binding: u32, slice: Slice<'_>) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry {
        binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: slice.buffer,
            offset: slice.offset,
            size: slice.size,
        }),
    }
}

fn layout_entry((binding, description): (u32, &Binding)) -> wgpu::BindGroupLayoutEntry {
    let ty = match description.access {
        Access::Uniform(_) => wgpu::BufferBindingType::Uniform,
        access => wgpu::BufferBindingType::Storage { read_only: !access.writes() },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}
