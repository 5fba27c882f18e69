//! The device that everything runs on: Burn's, as it makes it itself, on the adapter that the library
//! would take.

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use tied_linear::headless;
use tied_linear::wgpu;

/// A Burn device.
pub struct Rig {
    /// Without automatic differentiation.
    pub device: Device,
    /// The adapter's name.
    pub adapter: String,
    /// Its graphics API.
    pub backend: String,
    /// Its driver and the driver's version.
    pub driver: String,
}

impl Rig {
    /// Burn's device on the first of the library's adapters.
    pub fn request() -> Result<Self, String> {
        let (wanted, kind) = pollster::block_on(choose())?;
        let options = Device::wgpu_options().device_kind(kind).graphics_api(api(wanted.backend)?);
        let (device, setup) = options.init_with_setup().map_err(|error| error.to_string())?;
        let got = setup.adapter.get_info();
        let (wanted, name) = (described(&wanted.name, &wanted.driver_info), got.name.clone());
        if described(&got.name, &got.driver_info) != wanted {
            let got = described(&got.name, &got.driver_info);
            return Err(format!("the adapter {wanted} was to be used, but Burn took {got}"));
        }
        Ok(Self {
            device,
            adapter: name,
            backend: format!("{:?}", got.backend),
            driver: [got.driver, got.driver_info].join(" ").trim().to_owned(),
        })
    }

    /// Waits for all that was asked for.
    pub fn wait(&self) -> Result<(), String> {
        self.device.sync().map_err(|error| format!("Burn could not compute: {error}"))
    }
}

/// The library's adapter, and Burn's name for it: the how manieth of its kind it is.
async fn choose() -> Result<(wgpu::AdapterInfo, DeviceKind), String> {
    let Some(adapter) = headless::adapters().await.into_iter().next() else {
        return Err("no GPU adapter with compute shaders was found (WGPU_BACKEND and \
                    WGPU_ADAPTER_NAME narrow the search)"
            .into());
    };
    let wanted = adapter.get_info();
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wanted.backend.into();
    let all = wgpu::Instance::new(descriptor).enumerate_adapters(wanted.backend.into()).await;
    let mut of_kind = all.iter().map(wgpu::Adapter::get_info);
    let index = of_kind
        .by_ref()
        .filter(|info| info.device_type == wanted.device_type)
        .position(|info| info == wanted)
        .ok_or_else(|| format!("the adapter {} was not found a second time", wanted.name))?;
    let kind = match wanted.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(index),
        wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(index),
        wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(index),
        wgpu::DeviceType::Cpu if index == 0 => DeviceKind::Cpu,
        other => {
            let name = &wanted.name;
            return Err(format!("Burn has no name for {name}, adapter {index} of kind {other:?}"));
        }
    };
    Ok((wanted, kind))
}

fn api(backend: wgpu::Backend) -> Result<WgpuBackend, String> {
    match backend {
        wgpu::Backend::Vulkan => Ok(WgpuBackend::Vulkan),
        wgpu::Backend::Metal => Ok(WgpuBackend::Metal),
        wgpu::Backend::Dx12 => Ok(WgpuBackend::Dx12),
        wgpu::Backend::Gl => Ok(WgpuBackend::Gl),
        other => Err(format!("Vulkan, Metal, DX12 or OpenGL is expected, not {other:?}")),
    }
}

fn described(name: &str, driver: &str) -> String {
    format!("{name} ({driver})")
}
