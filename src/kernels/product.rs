//! What the kernels on `product.wgsl` share: how a product becomes one dispatch or two.

use super::commands::Commands;
use super::core::{Call, Kernels};
use super::operands::Operands;
use super::strategy::{COMBINE_FORM, PARTIAL, ProductShape, Strategy, WHOLE};
use crate::error::Result;
use crate::matrix::Matrix;
use crate::shader::{Form, Shader};

/// `Product` of product.wgsl.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Product {
    rows: u32,
    columns: u32,
    depth: u32,
    span: u32,
    tiles: u32,
    groups: u32,
    groups_wide: u32,
    parts: u32,
}

/// Loop iterations of any strategy apart from those along the reduction.
const OTHER_ITERATIONS: u64 = 256;

/// How a product is computed on a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    shape: ProductShape,
    strategy: Strategy,
    span: u32,
    parts: u32,
    is_split: bool,
}

impl Plan {
    fn quads(&self) -> u64 {
        u64::from(self.shape.rows) * u64::from(self.shape.columns.div_ceil(4))
    }

    /// Quads of scratch that the parts' sums take.
    pub(super) fn scratch_quads(&self) -> u64 {
        if self.is_split { u64::from(self.parts) * self.quads() } else { 0 }
    }

    /// Into how many parts the reduction is split; `None` where it is not.
    pub(super) fn parts(&self) -> Option<u32> {
        self.is_split.then_some(self.parts)
    }

    /// Workgroups of the dispatch that ends the product.
    fn last_groups(&self) -> u64 {
        if self.is_split {
            self.quads().div_ceil(u64::from(COMBINE_FORM.workgroup_size))
        } else {
            self.shape.tiles(self.strategy)
        }
    }

    /// Invocations of that dispatch.
    pub(super) fn last_invocations(&self) -> u64 {
        let form = if self.is_split { &COMBINE_FORM } else { self.strategy.form() };
        self.last_groups() * u64::from(form.workgroup_size)
    }

    fn product(&self, groups: u64, groups_wide: u32) -> Product {
        Product {
            rows: self.shape.rows,
            columns: self.shape.columns,
            depth: self.shape.depth,
            span: self.span,
            tiles: self.shape.tiles(self.strategy).max(1) as u32,
            groups: groups as u32,
            groups_wide,
            parts: self.parts,
        }
    }
}

/// What the passes of a product have in common.
pub(super) struct ProductCall<'a, const N: usize> {
    pub(super) shader: &'static Shader,
    pub(super) operands: &'a Operands<'a, N>,
    pub(super) first_group: Option<&'a wgpu::BindGroup>,
    /// Of the shader's own overrides.
    pub(super) overrides: &'a [f64],
    /// A second uniform.
    pub(super) settings: Option<&'a wgpu::Buffer>,
    /// By which a loss's gradient is multiplied.
    pub(super) loss_scale: Option<&'a wgpu::Buffer>,
}

impl Kernels {
    /// How to compute a product of this shape, a sum of so many reductions.
    pub(super) fn plan(&self, shape: ProductShape, reductions: u64) -> Plan {
        let choice = self.strategies().choose(&shape);
        // On a driver that cuts long loops short, no part is too long, nor are there too many to add.
        let most = self.most_iterations().saturating_sub(OTHER_ITERATIONS);
        let step = choice.strategy.step();
        let longest = (most / reductions).saturating_mul(u64::from(step)).min(1 << 31) as u32;
        let parts = u64::from(choice.parts).min(most) as u32;
        let span = shape.depth.div_ceil(parts).next_multiple_of(step).min(longest);
        let own_span = choice.strategy.span();
        let span = own_span.unwrap_or(span);
        // Where a reduction is always split, an empty one has no part, and nothing is read.
        let parts = shape.depth.div_ceil(span.max(1)).max(u32::from(own_span.is_none()));
        let is_split = parts > 1 || own_span.is_some();
        Plan { shape, strategy: choice.strategy, span, parts, is_split }
    }

    /// Scratch for the parts' sums and `more` quads after them; `None` where there is nothing to keep.
    pub(super) fn scratch(&self, plan: &Plan, more: u64) -> Result<Option<Matrix>> {
        let quads = plan.scratch_quads() + more;
        let columns = u32::try_from(quads * 4).unwrap_or(u32::MAX);
        (quads > 0).then(|| self.zeros("scratch", 1, columns)).transpose()
    }

    /// The dispatches of a product: one, or with a split reduction two.
    pub(super) fn multiply<P: bytemuck::Pod, const N: usize>(
        &self,
        plan: &Plan,
        call: &ProductCall<'_, N>,
        parameters: impl Fn(Product) -> P,
    ) -> Result<Commands> {
        if plan.is_split {
            let first = self.multiply_parts(plan, call, &parameters)?;
            let (form, groups) = (&COMBINE_FORM, plan.last_groups());
            return Ok(first.then(self.pass(
                plan,
                call,
                form,
                groups,
                call.overrides,
                &parameters,
            )?));
        }
        let own = plan.strategy.overrides(plan.shape.rows, WHOLE);
        let overrides = [call.overrides, own.as_slice()].concat();
        let (form, groups) = (plan.strategy.form(), plan.shape.tiles(plan.strategy));
        self.pass(plan, call, form, groups, &overrides, &parameters)
    }

    /// The first dispatch of a split product, which leaves the parts' sums in scratch.
    pub(super) fn multiply_parts<P: bytemuck::Pod, const N: usize>(
        &self,
        plan: &Plan,
        call: &ProductCall<'_, N>,
        parameters: impl Fn(Product) -> P,
    ) -> Result<Commands> {
        self.expect_iterations(call.shader.name, u64::from(plan.parts))?;
        let own = plan.strategy.overrides(plan.shape.rows, PARTIAL);
        let overrides = [vec![0.0; call.overrides.len()], own].concat();
        let groups = plan.shape.tiles(plan.strategy) * u64::from(plan.parts);
        self.pass(plan, call, plan.strategy.form(), groups, &overrides, &parameters)
    }

    fn pass<P: bytemuck::Pod, const N: usize>(
        &self,
        plan: &Plan,
        call: &ProductCall<'_, N>,
        form: &'static Form,
        groups: u64,
        overrides: &[f64],
        parameters: &impl Fn(Product) -> P,
    ) -> Result<Commands> {
        let workgroups = self.workgroups(call.shader, groups)?;
        let parameters = parameters(plan.product(groups, workgroups[0]));
        let mut dispatch = Call::new(call.shader, &parameters, workgroups)
            .with_form(form)
            .with_overrides(overrides);
        if let Some(group) = call.first_group {
            dispatch = dispatch.with_first_group(group);
        }
        let dispatch = dispatch.with_settings(call.settings).with_loss_scale(call.loss_scale);
        self.prepare(call.operands, &dispatch)
    }
}
