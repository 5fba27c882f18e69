//! One dispatch of a kernel of the examples' own.

use tied_linear::headless::Gpu;
use tied_linear::{Kernels, wgpu};

/// The WGSL of one kernel.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Its entry point.
    pub name: &'static str,
    /// All of it.
    pub text: &'static str,
}

/// One dispatch of such a kernel.
#[derive(Debug, Clone)]
pub struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 2],
}

impl Dispatch {
    /// A dispatch with these 16 bytes in the uniform at binding 0, and these buffers at the bindings
    /// from 1 on, each of the size that the parameters say.
    pub fn prepare(
        gpu: &Gpu,
        kernels: &Kernels,
        source: Source,
        parameters: [u32; 4],
        buffers: &[&wgpu::Buffer],
        workgroups: [u32; 2],
    ) -> Self {
        let device = &gpu.device;
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(source.name),
            layout: None,
            module: &module(gpu, kernels, source),
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
        gpu.queue.write_buffer(&uniform, 0, bytemuck::cast_slice(&parameters));
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

    /// Records the dispatch.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], 1);
    }
}

/// The module, with the same runtime checks as the library's.
fn module(gpu: &Gpu, kernels: &Kernels, source: Source) -> wgpu::ShaderModule {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(source.name),
        source: wgpu::ShaderSource::Wgsl(source.text.into()),
    };
    if kernels.options().runtime_checks {
        return gpu.device.create_shader_module(descriptor);
    }
    let checks = wgpu::ShaderRuntimeChecks::unchecked();
    // SAFETY: the kernels compare every index with the length of its buffer, or with the sizes in
    // their parameters, which are those of the buffers that they are bound to. Workgroup memory is
    // indexed by the invocation within its bounds, and every loop counts up to one of these sizes.
    unsafe { gpu.device.create_shader_module_trusted(descriptor, checks) }
}
