//! Recording costs the host nothing but wgpu's own calls: it allocates what they do, and no more.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::calls::{CALLS, Operands, SMALL};
use common::{Rig, USAGES, buffer, once_per_adapter};
use tied_linear::kernels::{AdamSettings, SHADERS, SgdSettings};
use tied_linear::{
    AutoencoderGradients, AutoencoderStep, AutoencoderStepOptions, Gradients, Noise, NoiseState,
    Optimizer, OptimizerSettings, TiedAutoencoder, TiedAutoencoderOptions, TiedLinear,
    TiedLinearOptions, TrainingOptions, TrainingStep, wgpu,
};

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more, and nobody who asks for it.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread allocates or reallocates in `body`.
fn allocations(body: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    body();
    ALLOCATIONS.get() - before
}

/// Recordings into one pass: many more than the allocations with which wgpu's list of them grows.
const RECORDINGS: usize = 100;

/// How often `record` allocates, called again and again with a new pass.
fn allocations_in_a_pass(rig: &Rig, record: impl Fn(&mut wgpu::ComputePass<'_>)) -> u64 {
    let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    allocations(|| (0..RECORDINGS).for_each(|_| record(&mut pass)))
}

/// Dispatches of a shader that does nothing: wgpu's calls alone.
struct Direct {
    dispatches: Vec<(wgpu::ComputePipeline, Vec<wgpu::BindGroup>)>,
}

impl Direct {
    /// So many dispatches with so many bind groups each; the first of two is the same for all, as a
    /// weight's is.
    fn new(rig: &Rig, dispatches: usize, groups: usize) -> Self {
        let device = &rig.gpu.device;
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: None,
            entries: &[],
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl("@compute @workgroup_size(1) fn main() {}".into()),
        });
        let layouts = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &vec![Some(&layout); groups],
            immediate_size: 0,
        });
        let bind_group = || {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &layout,
                entries: &[],
            })
        };
        let pipeline = || {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: Some(&layouts),
                module: &module,
                entry_point: None,
                compilation_options: Default::default(),
                cache: None,
            })
        };
        let first = bind_group();
        let dispatch = |_| {
            let mut bind_groups: Vec<_> = (0..groups).map(|_| bind_group()).collect();
            if groups > 1 {
                bind_groups[0] = first.clone();
            }
            (pipeline(), bind_groups)
        };
        Self { dispatches: (0..dispatches).map(dispatch).collect() }
    }

    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        for (pipeline, bind_groups) in &self.dispatches {
            pass.set_pipeline(pipeline);
            for (index, bind_group) in (0..).zip(bind_groups) {
                pass.set_bind_group(index, bind_group, &[]);
            }
            pass.dispatch_workgroups(1, 1, 1);
        }
    }
}

#[test]
fn recording_a_call_allocates_as_often_as_the_same_calls_of_wgpu() {
    once_per_adapter(|rig| {
        for call in CALLS {
            let commands = (call.make)(&rig.kernels, &Operands::new(rig, call, SMALL)).unwrap();
            let shader = SHADERS.iter().find(|shader| shader.name == call.shader).unwrap();
            let direct = Direct::new(rig, commands.len(), shader.groups.len());
            let [got, want] = [
                allocations_in_a_pass(rig, |pass| commands.record(pass)),
                allocations_in_a_pass(rig, |pass| direct.record(pass)),
            ];
            assert_eq!(got, want, "{}", call.name);
            let one_more = allocations_in_a_pass(rig, |pass| {
                drop(std::hint::black_box(Box::new(1)));
                commands.record(pass);
            });
            assert_eq!(one_more, got + RECORDINGS as u64, "an allocation goes unnoticed");
        }
    });
}

#[test]
fn recording_a_training_step_allocates_no_more_than_wgpu() {
    once_per_adapter(|rig| {
        let layer = TiedLinear::new(&rig.kernels, &TiedLinearOptions::new(7, 3)).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        let batch = rig.kernels.zeros("batch", 5, 7).unwrap();
        let settings: [OptimizerSettings; 2] =
            [SgdSettings::new(0.1).into(), AdamSettings::adam(0.1).into()];
        for settings in settings {
            let optimizer = Optimizer::new(&rig.kernels, &layer.parameters(), settings).unwrap();
            let options = TrainingOptions::default();
            let step =
                TrainingStep::new(&layer, &optimizer, &gradients, &batch, &batch, options).unwrap();
            let dispatches = step.gradient_commands().len() + step.update_commands().len();
            // Two groups each: wgpu lists no more for any dispatch of the library.
            let direct = Direct::new(rig, dispatches, 2);
            let got = allocations_in_a_pass(rig, |pass| step.record(pass));
            let most = allocations_in_a_pass(rig, |pass| direct.record(pass));
            assert!(got <= most, "{settings:?}: {got} allocations, {most} by wgpu alone");
        }
    });
}

#[test]
fn recording_a_step_of_a_stack_allocates_no_more_than_wgpu() {
    once_per_adapter(|rig| {
        let stack = TiedAutoencoderOptions::new(&[7, 5, 3]);
        let stack = TiedAutoencoder::new(&rig.kernels, &stack).unwrap();
        let gradients = AutoencoderGradients::new(&stack).unwrap();
        let batch = rig.kernels.zeros("batch", 5, 7).unwrap();
        let optimizer =
            Optimizer::new(&rig.kernels, &stack.parameters(), AdamSettings::adam(0.1)).unwrap();
        let state = NoiseState::new(&rig.kernels, 5, 7, 0).unwrap();
        let options = AutoencoderStepOptions::default()
            .with_noise(Noise::Masking { probability: 0.5 }, &state);
        let step =
            AutoencoderStep::new(&stack, &optimizer, &gradients, &batch, &batch, &options).unwrap();
        let dispatches = step.gradient_commands().len() + step.update_commands().len();
        let direct = Direct::new(rig, dispatches, 2);
        let got = allocations_in_a_pass(rig, |pass| step.record(pass));
        let most = allocations_in_a_pass(rig, |pass| direct.record(pass));
        assert!(got <= most, "{got} allocations, {most} by wgpu alone");
    });
}

/// What the tests above would notice.
#[test]
fn a_write_to_the_queue_and_an_object_of_wgpu_allocate() {
    once_per_adapter(|rig| {
        let target = buffer(&rig.gpu.device, 4, USAGES);
        let write = allocations(|| rig.gpu.queue.write_buffer(&target, 0, &[0; 4]));
        assert_ne!(write, 0, "a write");
        let objects = allocations(|| drop(buffer(&rig.gpu.device, 4, USAGES)));
        assert_ne!(objects, 0, "a buffer");
    });
}
