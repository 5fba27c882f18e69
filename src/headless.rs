//! A device of one's own, for examples, tests and small programs that have none. Never required.

use crate::error::{Error, Result};

/// A device with its queue, and the adapter it came from.
#[derive(Debug, Clone)]
pub struct Gpu {
    /// Where the device came from.
    pub adapter: wgpu::Adapter,
    /// The device, with all limits that the adapter has, and its [`features`].
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
}

impl Gpu {
    /// A device on the best adapter: the first of [`adapters`].
    ///
    /// # Errors
    ///
    /// [`Error::NoAdapter`], saying what was looked for.
    pub async fn request() -> Result<Self> {
        match adapters().await.into_iter().next() {
            Some(adapter) => Self::from_adapter(adapter).await,
            None => Err(Error::NoAdapter { description: looked_for() }),
        }
    }

    /// As [`Gpu::request`], blocking. For native programs.
    ///
    /// # Errors
    ///
    /// As [`Gpu::request`].
    pub fn request_blocking() -> Result<Self> {
        pollster::block_on(Self::request())
    }

    /// A device on this adapter.
    ///
    /// # Errors
    ///
    /// [`Error::NoAdapter`] where the adapter gives none.
    pub async fn from_adapter(adapter: wgpu::Adapter) -> Result<Self> {
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("tied-linear"),
            required_features: features(&adapter),
            required_limits: adapter.limits(),
            ..Default::default()
        };
        match adapter.request_device(&descriptor).await {
            Ok((device, queue)) => Ok(Self { adapter, device, queue }),
            Err(error) => Err(Error::NoAdapter {
                description: format!("{} gave no device: {error}", adapter.get_info().name),
            }),
        }
    }

    /// Backend, name and driver in one line.
    pub fn describe(&self) -> String {
        describe(&self.adapter)
    }
}

/// Those of an adapter's features that make the kernels faster.
pub fn features(adapter: &wgpu::Adapter) -> wgpu::Features {
    adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::SHADER_INT64)
}

/// Backend, name and driver of an adapter in one line.
pub fn describe(adapter: &wgpu::Adapter) -> String {
    let info = adapter.get_info();
    let driver = [info.driver, info.driver_info].join(" ");
    let driver = driver.trim();
    let name = format!("{:?}: {}", info.backend, info.name);
    if driver.is_empty() { name } else { format!("{name} ({driver})") }
}

/// All adapters that can run the kernels, the fastest kind first: by default those of Vulkan, Metal
/// and DX12, and where they have none, OpenGL's.
///
/// The environment narrows them: WGPU_BACKEND to a comma-separated list of `vulkan`, `metal`, `dx12`
/// and `gl`, WGPU_ADAPTER_NAME to names that contain it, whatever the case.
pub async fn adapters() -> Vec<wgpu::Adapter> {
    let native = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let mut found = adapters_of(native.with_env()).await;
    if found.is_empty() {
        found = adapters_of(wgpu::Backends::GL.with_env()).await;
    }
    let wanted = std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default().to_lowercase();
    found.retain(|adapter| {
        let compute = wgpu::DownlevelFlags::COMPUTE_SHADERS;
        adapter.get_info().name.to_lowercase().contains(&wanted)
            && adapter.get_downlevel_capabilities().flags.contains(compute)
    });
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Cpu => 3,
        wgpu::DeviceType::Other => 4,
    });
    found
}

async fn adapters_of(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends = backends;
    wgpu::Instance::new(descriptor).enumerate_adapters(backends).await
}

fn looked_for() -> String {
    let set = |name| std::env::var(name).map_or("not set".into(), |value| format!("\"{value}\""));
    format!(
        "none with compute shaders among Vulkan, Metal, DX12 and OpenGL (WGPU_BACKEND {}, \
         WGPU_ADAPTER_NAME {})",
        set("WGPU_BACKEND"),
        set("WGPU_ADAPTER_NAME")
    )
}
