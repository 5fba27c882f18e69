//! The benchmark's own kernels: ceilings, and what the library's kernels are compared with.

use tied_linear::wgpu;

use crate::rig::Rig;

/// The WGSL of one kernel.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Its entry point.
    name: &'static str,
    text: &'static str,
}

/// The compute ceiling.
pub const FMA: Source = Source { name: "fma_ceiling", text: include_str!("fma.wgsl") };
/// The bandwidth ceiling.
pub const COPY: Source = Source { name: "copy", text: include_str!("copy.wgsl") };
/// The sum of two gradients.
pub const ADD: Source = Source { name: "add", text: include_str!("add.wgsl") };
/// The transposed copy.
pub const TRANSPOSE: Source = Source { name: "transpose", text: include_str!("transpose.wgsl") };
/// Encode, naively.
pub const NAIVE_ENCODE: Source =
    Source { name: "naive_encode", text: include_str!("naive_encode.wgsl") };
/// Decode, naively.
pub const NAIVE_DECODE: Source =
    Source { name: "naive_decode", text: include_str!("naive_decode.wgsl") };
/// The weight's gradient, naively.
pub const NAIVE_BACKWARD: Source =
    Source { name: "naive_backward", text: include_str!("naive_backward.wgsl") };

/// 16-byte words that a workgroup of `copy` or `add` takes.
const WORDS_IN_GROUP: u64 = 1024;

/// One dispatch of such a kernel.
pub struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 2],
}

impl Dispatch {
    /// A dispatch with these 16 bytes in the uniform at binding 0, and these buffers at the bindings
    /// from 1 on, each of the size that the parameters say.
    pub fn new(
        rig: &Rig,
        source: Source,
        parameters: [u32; 4],
        buffers: &[&wgpu::Buffer],
        workgroups: [u32; 2],
    ) -> Self {
        let device = &rig.gpu.device;
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(source.name),
            layout: None,
            module: &module(rig, source),
            entry_point: Some(source.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let uniform = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(source.name),
            size: 16,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        rig.gpu.queue.write_buffer(&uniform, 0, bytemuck::cast_slice(&parameters));
        let bound = std::iter::once(&uniform).chain(buffers.iter().copied());
        let entries: Vec<_> = (0..)
            .zip(bound)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(source.name),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Self { pipeline, bind_group, workgroups }
    }

    /// A dispatch of `copy` or `add` over `bytes` of two buffers.
    pub fn over_words(rig: &Rig, source: Source, bytes: u64, buffers: [&wgpu::Buffer; 2]) -> Self {
        let words = bytes.div_ceil(16);
        let workgroups = spread(rig, words.div_ceil(WORDS_IN_GROUP));
        Self::new(rig, source, [words as u32, workgroups[0], 0, 0], &buffers, workgroups)
    }

    /// Records the dispatch.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], 1);
    }
}

/// `count` workgroups over two dimensions; the kernel passes over those beyond its data.
fn spread(rig: &Rig, count: u64) -> [u32; 2] {
    let most = u64::from(rig.gpu.device.limits().max_compute_workgroups_per_dimension);
    let high = count.div_ceil(most).max(1);
    [count.div_ceil(high) as u32, high as u32]
}

/// The module, with the same runtime checks as the library's.
fn module(rig: &Rig, source: Source) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(source.name),
        source: wgpu::ShaderSource::Wgsl(source.text.into()),
    };
    if rig.kernels.options().runtime_checks {
        return rig.gpu.device.create_shader_module(descriptor);
    }
    let checks = wgpu::ShaderRuntimeChecks::unchecked();
    // SAFETY: the kernels compare every index with the length of its buffer, or with the sizes in
    // their parameters, which are those of the buffers that they are bound to. Workgroup memory is
    // indexed by the invocation within its bounds, and every loop counts up to one of these sizes.
    unsafe { rig.gpu.device.create_shader_module_trusted(descriptor, checks) }
}
