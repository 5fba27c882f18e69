//! An application that owns its wgpu device: it records an encode and a decode in a compute pass of
//! its own, submits once, and reads the result.
//!
//! `cargo run --release --example host_device`

use std::error::Error;

use tied_linear::kernels::Linear;
use tied_linear::{KernelOptions, Kernels, Matrix, Readback, Weight, wgpu};

async fn run() -> Result<(), Box<dyn Error>> {
    // The application's own device and buffers. The library asks for no features, and for no limits
    // beyond WebGPU's defaults.
    let instance = wgpu::Instance::default();
    let adapter = instance.request_adapter(&Default::default()).await?;
    let (device, queue) = adapter.request_device(&Default::default()).await?;
    let buffer = |length: u64| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: length * 4,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    };

    // Views of them: two samples of three inputs, a code of two values.
    let x = Matrix::new(&buffer(6), 2, 3)?;
    let w = Matrix::new(&buffer(6), 2, 3)?;
    let h = Matrix::new(&buffer(4), 2, 2)?;
    let y = Matrix::new(&buffer(6), 2, 3)?;
    x.write(&device, &queue, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
    w.write(&device, &queue, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])?;

    // Prepared once: checked, bound, compiled.
    let kernels = Kernels::new(&device, KernelOptions::default())?;
    let weight = Weight::new(&kernels, w)?;
    let encode = kernels.encode(&weight, &Linear::new(&x, &h))?; // H = X·Wᵀ
    let decode = kernels.decode(&weight, &Linear::new(&h, &y))?; // Y = H·W, the same buffer
    let readback = Readback::new(&device, &y)?;

    // Recorded among the application's own work, as often as it likes.
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    encode.record(&mut pass);
    decode.record(&mut pass);
    drop(pass);
    readback.record(&mut encoder);
    queue.submit([encoder.finish()]);

    // The weight projects onto the first two coordinates.
    let values = readback.read_blocking()?;
    println!("{values:?}");
    assert_eq!(values, [1.0, 2.0, 0.0, 4.0, 5.0, 0.0]);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(run())
}
