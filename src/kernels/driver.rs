//! What is known of drivers, beyond what their features and limits tell.

/// Whether this is Mesa's software driver, llvmpipe, up to 22.3.
pub(super) fn is_old_llvmpipe(info: &wgpu::AdapterInfo) -> bool {
    let version = info.driver_info.split("Mesa ").nth(1);
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    info.name.contains("llvmpipe") && major.is_some_and(|major| major < 23)
}

/// Loop iterations of an invocation, in all, that the driver gets right; old llvmpipe leaves loops
/// silently after as many.
pub(super) fn most_iterations(info: &wgpu::AdapterInfo) -> u64 {
    if is_old_llvmpipe(info) { 65_535 } else { u64::MAX }
}

/// Whether 16-byte words are better read and written as two 64-bit integers: by drivers that run shaders on the
/// CPU, where the device has them. (On Vulkan: for that alone these shaders are made and tested.)
pub(super) fn reads_in_64_bits(device: &wgpu::Device) -> bool {
    let info = device.adapter_info();
    device.features().contains(wgpu::Features::SHADER_INT64)
        && info.device_type == wgpu::DeviceType::Cpu
        && info.backend == wgpu::Backend::Vulkan
}
