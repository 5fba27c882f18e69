//! The library as a guest: in an application that owns device, queue, encoders and passes.

mod common;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};

use common::calls::{CALLS, Call, Operands, Role, SMALL, Sizes};
use common::reference::tolerance;
use common::{
    Place, Rig, USAGES, buffer, expect_close, on_every_adapter, once_per_adapter, random,
};
use tied_linear::headless::Gpu;
use tied_linear::kernels::{AdamSettings, BiasGradient, Linear, SHADERS};
use tied_linear::{
    Accumulate, Activation, Commands, ElementType, Encoder, Error, Gradients, KernelOptions,
    Kernels, Layout, Matrix, Optimizer, OptimizerState, Readback, Result, Tape, TiedLinear,
    TiedLinearOptions, TrainingOptions, TrainingStep, Weight, wgpu,
};

// Recording.

#[test]
fn preparing_and_recording_neither_poll_nor_submit_nor_write() {
    once_per_adapter(|rig| {
        let rig = &own_device(rig);
        let Gpu { device, queue, .. } = &rig.gpu;
        let calls: Vec<_> =
            CALLS.iter().map(|call| (call, Operands::new(rig, call, SMALL))).collect();
        let bits = || -> Vec<_> {
            let operands = calls.iter().map(|(_, operands)| operands);
            operands.map(|operands| operands.bits(rig)).collect()
        };
        let before = bits();
        // An idle buffer is mapped by the next poll, and every submission polls.
        let polled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&polled);
        let idle = buffer(device, 4, wgpu::BufferUsages::MAP_READ);
        idle.map_async(wgpu::MapMode::Read, .., move |_| {
            flag.store(true, Ordering::SeqCst);
        });

        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (call, operands) in &calls {
            let commands = (call.make)(&rig.kernels, operands).expect(call.name);
            commands.record(&mut pass);
        }
        drop(pass);
        let recorded = encoder.finish();
        assert!(!polled.load(Ordering::SeqCst), "polled or submitted");
        device.poll(wgpu::PollType::Poll).unwrap();
        assert!(polled.load(Ordering::SeqCst), "a poll goes unnoticed");

        assert_eq!(bits(), before, "written before the submission");
        queue.submit([recorded]);
        assert_ne!(bits(), before, "not written by the submission");
    });
}

#[test]
fn recording_makes_no_object_of_wgpu() {
    once_per_adapter(|rig| {
        let (instance, rig) = rig.of_own_instance(|_| {}).unwrap();
        let device = &rig.gpu.device;
        let training = Training::new(&rig);
        let call = &CALLS[0];
        let commands = (call.make)(&rig.kernels, &Operands::new(&rig, call, SMALL)).unwrap();
        let objects = || {
            let memory = device.generate_allocator_report().map(|report| {
                let [allocations, blocks] = [report.allocations.len(), report.blocks.len()];
                (allocations, blocks, report.total_allocated_bytes)
            });
            (instance.generate_report(), memory)
        };

        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let before = objects();
        training.step.record(&mut pass);
        training.step.gradient_commands().record(&mut pass);
        training.step.update_commands().record(&mut pass);
        commands.record(&mut pass);
        assert_eq!(objects(), before);

        let one = buffer(device, 4, USAGES);
        assert_ne!(objects(), before, "{one:?} goes unnoticed");
    });
}

#[test]
fn two_batch_sizes_come_out_right_in_one_submission() {
    on_every_adapter(|rig| {
        let w = random(9, 70, 1);
        let weight = Weight::new(&rig.kernels, rig.put(&w, Place::Tight)).unwrap();
        let batches = [3, 66].map(|batch| {
            let x = random(batch, 70, u64::from(batch));
            let input = rig.put(&x, Place::Odd);
            let output = rig.poisoned(batch, 9, Place::Odd);
            let call = Linear::new(&input, &output);
            let commands = rig.kernels.encode(&weight, &call).unwrap();
            (x, output, commands)
        });
        let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
        for (_, _, commands) in &batches {
            commands.record(&mut encoder.begin_compute_pass(&Default::default()));
        }
        rig.gpu.queue.submit([encoder.finish()]);
        for (x, output, _) in &batches {
            let what = format!("a batch of {}", x.rows);
            let want = x.times(&w.transposed());
            let magnitude = x.map(f64::abs).times(&w.map(f64::abs).transposed());
            let tolerance = tolerance(70, &magnitude);
            expect_close(&what, &rig.get(output), &want, &tolerance);
            rig.expect_surroundings_untouched(&what, output);
        }
    });
}

#[test]
fn commands_do_their_work_each_time_they_are_recorded() {
    once_per_adapter(|rig| {
        let delta = rig.kernels.matrix("delta", 2, 1, &[1.0, 2.0]).unwrap();
        let sum = rig.kernels.matrix("sum", 1, 1, &[0.5]).unwrap();
        let commands = rig.kernels.bias_gradient(&BiasGradient {
            delta: &delta,
            gradient: &sum,
            accumulate: Accumulate::Add,
        });
        let commands = commands.unwrap();
        let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        commands.record(&mut pass);
        commands.record(&mut pass);
        drop(pass);
        commands.record(&mut encoder.begin_compute_pass(&Default::default()));
        rig.gpu.queue.submit([encoder.finish()]);
        assert_eq!(rig.get(&sum), [9.5]);
        rig.run(&commands);
        assert_eq!(rig.get(&sum), [12.5]);
    });
}

#[test]
fn the_commands_of_several_layers_can_alternate_in_one_pass() {
    once_per_adapter(|rig| {
        // Each layer's forward pass in two parts, whatever the other layer does in between.
        let parts = |seed| {
            let options = TiedLinearOptions::new(7, 3)
                .with_activations(Activation::Tanh, Activation::Sigmoid)
                .with_seed(seed);
            let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
            let tape = Tape::new(&layer, 5).unwrap();
            let input = rig.put(&random(5, 7, seed), Place::Tight);
            let encode = layer.encoder().encode(&input, &tape.code, None).unwrap();
            let decode = layer.decoder().decode(&tape.code, &tape.output, None);
            (encode, decode.unwrap(), tape.output)
        };
        let [first, second] = [1, 2].map(parts);
        rig.run(&first.0.clone().then(second.0.clone()));
        rig.run(&second.1.clone().then(first.1.clone()));
        let alternating = [rig.bits(&first.2), rig.bits(&second.2)];
        let alone = [1, 2].map(|seed| {
            let (encode, decode, output) = parts(seed);
            rig.run(&encode.then(decode));
            rig.bits(&output)
        });
        assert_eq!(alternating, alone);

        let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let again = [1, 2].map(parts);
        for commands in [&again[0].0, &again[1].0, &again[0].1, &again[1].1] {
            commands.record(&mut pass);
        }
        drop(pass);
        rig.gpu.queue.submit([encoder.finish()]);
        assert_eq!(again.map(|(_, _, output)| rig.bits(&output)), alone);
    });
}

#[test]
fn commands_take_their_turn_between_the_hosts_own_work() {
    once_per_adapter(|rig| {
        let input = rig.kernels.matrix("input", 1, 2, &[1.0, 2.0]).unwrap();
        let weight = rig.kernels.matrix("weight", 1, 2, &[10.0, 100.0]);
        let weight = Weight::new(&rig.kernels, weight.unwrap()).unwrap();
        let output = rig.kernels.zeros("output", 1, 1).unwrap();
        let call = Linear::new(&input, &output);
        let commands = rig.kernels.encode(&weight, &call).unwrap();
        let increment = Increment::new(&rig.gpu.device);
        let [host_input, host_output] = [&input, &output].map(|matrix| increment.bind(matrix));

        let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        increment.record(&mut pass, &host_input);
        commands.record(&mut pass);
        increment.record(&mut pass, &host_output);
        drop(pass);
        encoder.copy_buffer_to_buffer(output.buffer(), 0, input.buffer(), 4, 4);
        rig.gpu.queue.submit([encoder.finish()]);
        assert_eq!(rig.get(&output), [2.0 * 10.0 + 2.0 * 100.0 + 1.0]);
        assert_eq!(rig.get(&input), [2.0, 221.0]);
    });
}

#[test]
fn a_pass_without_a_lifetime_will_do() {
    once_per_adapter(|rig| {
        let delta = rig.kernels.matrix("delta", 2, 1, &[1.0, 2.0]).unwrap();
        let sum = rig.kernels.zeros("sum", 1, 1).unwrap();
        let commands = rig.kernels.bias_gradient(&BiasGradient {
            delta: &delta,
            gradient: &sum,
            accumulate: Accumulate::Overwrite,
        });
        let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
        let pass = encoder.begin_compute_pass(&Default::default());
        let mut pass: wgpu::ComputePass<'static> = pass.forget_lifetime();
        let recorder = std::thread::spawn(move || {
            commands.unwrap().record(&mut pass);
        });
        recorder.join().unwrap();
        rig.gpu.queue.submit([encoder.finish()]);
        assert_eq!(rig.get(&sum), [3.0]);
    });
}

#[test]
fn steps_in_one_submission_equal_one_submission_a_step() {
    on_every_adapter(|rig| {
        let device = &rig.gpu.device;
        let submit = |encoder: wgpu::CommandEncoder| rig.gpu.queue.submit([encoder.finish()]);
        let apart = Training::new(rig);
        let mut history = Vec::new();
        for _ in 0..4 {
            let mut encoder = device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            apart.step.record(&mut pass);
            drop(pass);
            submit(encoder);
            history.push(apart.bits(rig));
        }
        assert_ne!(history[2], history[3], "nothing was learned");

        let passes = Training::new(rig);
        let mut encoder = device.create_command_encoder(&Default::default());
        for _ in 0..4 {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            passes.step.record(&mut pass);
        }
        submit(encoder);
        assert_eq!(passes.bits(rig), history[3], "in passes of their own");

        let together = Training::new(rig);
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for _ in 0..4 {
            together.step.record(&mut pass);
        }
        drop(pass);
        submit(encoder);
        assert_eq!(together.bits(rig), history[3], "in one pass");
    });
}

// The host's device.

#[test]
fn the_default_limits_of_webgpu_and_no_features_suffice() {
    on_every_adapter(|rig| {
        let none = wgpu::Features::empty();
        let least = rig.with_device(none, wgpu::Limits::default());
        assert!(!least.gpu.device.features().intersects(wgpu::Features::all_webgpu_mask()));
        // With subgroups, other strategies would be chosen, whose sums have another order.
        let rig = &rig.with_device(none, rig.gpu.adapter.limits());
        for call in CALLS {
            let want = outputs(rig, call).expect(call.name);
            let got = outputs(&least, call).expect(call.name);
            assert_eq!(got, want, "{}", call.name);
        }
        let [got, want] = [&least, rig].map(|rig| {
            let training = Training::new(rig);
            let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            training.step.record(&mut pass);
            training.step.record(&mut pass);
            drop(pass);
            rig.gpu.queue.submit([encoder.finish()]);
            training.bits(rig)
        });
        assert_eq!(got, want, "training");
    });
}

/// Kernels that read 16-byte words as 64-bit integers make the same bits as those that do not, with the runtime
/// checks and without; and they are made where the host has enabled such integers, and nowhere else.
#[test]
fn sixty_four_bit_integers_are_used_where_they_may_be_and_change_no_bit() {
    const IN_WORDS: Sizes = Sizes { batch: 68, inputs: 36, hidden: 12 };
    once_per_adapter(|rig| {
        let info = rig.gpu.adapter.get_info();
        let may_be = info.device_type == wgpu::DeviceType::Cpu
            && info.backend == wgpu::Backend::Vulkan
            && rig.gpu.adapter.features().contains(wgpu::Features::SHADER_INT64);
        assert_eq!(rig.kernels.reads_in_64_bits(), may_be, "{}", rig.name);
        if !may_be {
            println!("NOT RUN: {} is not to use 64-bit integers", rig.name);
            return;
        }
        let without = rig.without_64_bit_integers();
        assert!(!without.kernels.reads_in_64_bits(), "{}", without.name);
        for checks in [true, false] {
            let [with, without] = [rig, &without].map(|rig| {
                rig.with_options(rig.kernels.options().clone().with_runtime_checks(checks))
            });
            for call in CALLS {
                let got = outputs_of(&with, call, IN_WORDS).unwrap();
                let want = outputs_of(&without, call, IN_WORDS).unwrap();
                assert_eq!(got, want, "{}, checks {checks}", call.name);
            }
            // The keys of the shader modules that were made.
            let is_in_64_bits = |rig: &Rig| format!("{:?}", rig.kernels).contains(", Vector64)");
            let is_in_words = |rig: &Rig| format!("{:?}", rig.kernels).contains(", Vector)");
            assert!(is_in_64_bits(&with) && !is_in_words(&with), "checks {checks}");
            assert!(is_in_words(&without) && !is_in_64_bits(&without), "checks {checks}");
        }
    });
}

#[test]
fn lower_limits_are_an_error_where_a_kernel_needs_more_and_none_elsewhere() {
    once_per_adapter(|rig| {
        let limits = wgpu::Limits::downlevel_defaults();
        let least = rig.with_device(wgpu::Features::empty(), limits);
        let available = least.gpu.device.limits().max_storage_buffers_per_shader_stage;
        let mut working = Vec::new();
        for call in CALLS {
            let shader = SHADERS.iter().find(|shader| shader.name == call.shader);
            let needed = shader.unwrap().storage_buffers();
            let result = outputs(&least, call);
            if needed > available {
                let want = Error::Limit {
                    what: call.shader,
                    limit: "max_storage_buffers_per_shader_stage",
                    needed: needed.into(),
                    available: available.into(),
                };
                assert_eq!(result, Err(want), "{}", call.name);
            } else {
                assert_eq!(result, outputs(rig, call), "{}", call.name);
                working.push(call.name);
            }
        }
        println!("with {available} storage buffers these work: {working:?}");
        assert!(!working.is_empty() && working.len() < CALLS.len());
    });
}

#[test]
fn failing_calls_never_reach_the_handler_of_uncaptured_errors() {
    once_per_adapter(|rig| {
        let [rig, foreign] = [own_device(rig), own_device(rig)];
        let counts = [&rig, &foreign].map(|rig| {
            let count = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&count);
            rig.gpu.device.on_uncaptured_error(Arc::new(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
            }));
            count
        });
        let failures = fail_in_many_ways(&rig, &foreign);
        println!("{failures} failing calls");
        let counted = || [0, 1].map(|index| counts[index].load(Ordering::SeqCst));
        assert_eq!(counted(), [0, 0]);
        raise_an_error(&rig.gpu.device);
        assert_eq!(counted(), [1, 0], "an error goes unnoticed");
    });
}

#[test]
fn error_scopes_of_the_host_see_its_own_errors_and_no_others() {
    once_per_adapter(|rig| {
        let [rig, foreign] = [own_device(rig), own_device(rig)];
        let device = &rig.gpu.device;
        let scopes = [
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Internal,
            wgpu::ErrorFilter::Validation,
        ];
        let around = |work: &dyn Fn()| {
            // wgpu panics where a scope is popped out of turn.
            let guards = scopes.map(|filter| device.push_error_scope(filter));
            work();
            let [memory, internal, validation] = guards;
            let validation = pollster::block_on(validation.pop());
            let internal = pollster::block_on(internal.pop());
            [pollster::block_on(memory.pop()), internal, validation]
        };
        let seen = around(&|| {
            for call in CALLS {
                outputs(&rig, call).expect(call.name);
            }
        });
        assert!(seen.iter().all(Option::is_none), "valid calls: {seen:?}");
        let seen = around(&|| {
            fail_in_many_ways(&rig, &foreign);
        });
        assert!(seen.iter().all(Option::is_none), "failing calls: {seen:?}");
        let seen = around(&|| {
            raise_an_error(device);
            fail_in_many_ways(&rig, &foreign);
        });
        assert!(matches!(seen, [None, None, Some(wgpu::Error::Validation { .. })]));
    });
}

#[test]
fn a_pipeline_cache_of_the_host_is_used_and_one_of_another_device_refused() {
    once_per_adapter(|rig| {
        let call = CALLS.iter().find(|call| call.name == "sum").unwrap();
        // Every device can do without.
        let without = own_device(rig);
        assert!(without.kernels.options().pipeline_cache.is_none());
        let want = outputs(rig, call).unwrap();
        assert_eq!(outputs(&without, call).as_ref(), Ok(&want), "without a cache");
        let feature = wgpu::Features::PIPELINE_CACHE;
        if !rig.gpu.adapter.features().contains(feature) {
            println!("the adapter has no PIPELINE_CACHE");
            return;
        }
        let with_cache = || {
            let descriptor = wgpu::DeviceDescriptor {
                required_features: feature,
                required_limits: rig.gpu.adapter.limits(),
                ..Default::default()
            };
            let request = rig.gpu.adapter.request_device(&descriptor);
            let (device, queue) = pollster::block_on(request).unwrap();
            let descriptor =
                wgpu::PipelineCacheDescriptor { label: None, data: None, fallback: true };
            // SAFETY: there is no data.
            let cache = unsafe { device.create_pipeline_cache(&descriptor) };
            (device, queue, cache)
        };
        let [(device, queue, cache), (_, _, foreign)] = [with_cache(), with_cache()];
        let on = |cache| {
            let options = KernelOptions::default().with_pipeline_cache(cache);
            Rig {
                name: rig.name.clone(),
                kernels: Kernels::new(&device, options).unwrap(),
                gpu: Gpu {
                    adapter: rig.gpu.adapter.clone(),
                    device: device.clone(),
                    queue: queue.clone(),
                },
            }
        };
        assert_eq!(outputs(&on(cache), call), Ok(want), "with a cache");
        let result = outputs(&on(foreign), call);
        assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
    });
}

// Threads.

#[test]
fn handles_can_be_sent_and_shared_between_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Kernels>();
    check::<Commands>();
    check::<Matrix>();
    check::<Weight>();
    check::<TiedLinear>();
    check::<Tape>();
    check::<Gradients>();
    check::<Optimizer>();
    check::<TrainingStep>();
    check::<Readback>();
    check::<Error>();
}

#[test]
fn two_threads_can_prepare_at_once() {
    once_per_adapter(|rig| {
        // Nothing has been compiled on this device yet, so both threads want every pipeline.
        let fresh = &own_device(rig);
        let start = &Barrier::new(2);
        let prepare = || {
            start.wait();
            let prepare = |call: &Call| {
                let operands = Operands::new(fresh, call, SMALL);
                let commands = (call.make)(&fresh.kernels, &operands).expect(call.name);
                (operands, commands)
            };
            CALLS.iter().map(prepare).collect::<Vec<_>>()
        };
        let prepared = std::thread::scope(|scope| {
            [scope.spawn(prepare), scope.spawn(prepare)].map(|thread| thread.join().unwrap())
        });
        for prepared in prepared {
            for (call, (operands, commands)) in CALLS.iter().zip(prepared) {
                fresh.run(&commands);
                let want = outputs(rig, call).unwrap();
                assert_eq!(operands.bits(fresh), want, "{}", call.name);
            }
        }
    });
}

// Reading back.

#[test]
fn a_readback_completes_when_the_host_polls() {
    once_per_adapter(|rig| {
        let rig = &own_device(rig);
        let Gpu { device, queue, .. } = &rig.gpu;
        let delta = rig.kernels.matrix("delta", 2, 1, &[1.0, 2.0]).unwrap();
        let sum = rig.kernels.zeros("sum", 1, 1).unwrap();
        let commands = rig.kernels.bias_gradient(&BiasGradient {
            delta: &delta,
            gradient: &sum,
            accumulate: Accumulate::Overwrite,
        });
        let readback = Readback::new(device, &sum).unwrap();
        let mut encoder = device.create_command_encoder(&Default::default());
        commands.unwrap().record(&mut encoder.begin_compute_pass(&Default::default()));
        readback.record(&mut encoder);
        queue.submit([encoder.finish()]);
        let values = sendable(readback.read().unwrap());
        let mut values = pin!(values);
        let context = &mut Context::from_waker(Waker::noop());
        assert!(values.as_mut().poll(context).is_pending());
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(values.as_mut().poll(context), Poll::Ready(Ok(vec![3.0])));
    });
}

#[test]
fn a_matrix_can_be_read_without_blocking() {
    once_per_adapter(|rig| {
        let rig = &own_device(rig);
        let Gpu { device, queue, .. } = &rig.gpu;
        let [first, second] =
            [1.0, 2.0].map(|value| rig.kernels.matrix("m", 1, 1, &[value]).unwrap());
        let [first, second] = [&first, &second].map(|matrix| matrix.read(device, queue));
        let [mut first, mut second] = [pin!(sendable(first)), pin!(sendable(second))];
        let context = &mut Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(context).is_pending());
        assert!(second.as_mut().poll(context).is_pending());
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(second.as_mut().poll(context), Poll::Ready(Ok(vec![2.0])));
        assert_eq!(first.as_mut().poll(context), Poll::Ready(Ok(vec![1.0])));
    });
}

#[test]
fn a_readback_can_be_read_and_recorded_again() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        let matrix = rig.kernels.matrix("m", 1, 2, &[1.0, 2.0]).unwrap();
        let readback = Readback::new(device, &matrix).unwrap();
        copy(rig, &readback);
        assert_eq!(readback.read_blocking(), Ok(vec![1.0, 2.0]));
        matrix.write(device, queue, &[3.0, 4.0]).unwrap();
        assert_eq!(readback.read_blocking(), Ok(vec![1.0, 2.0]));
        copy(rig, &readback);
        assert_eq!(readback.read_blocking(), Ok(vec![3.0, 4.0]));
    });
}

#[test]
fn a_second_read_before_the_first_has_ended_is_an_error() {
    once_per_adapter(|rig| {
        let device = &rig.gpu.device;
        let matrix = rig.kernels.matrix("m", 1, 1, &[1.0]).unwrap();
        let readback = Readback::new(device, &matrix).unwrap();
        copy(rig, &readback);
        let first = readback.read().unwrap();
        let second = readback.read();
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let second = second.and_then(pollster::block_on);
        assert!(matches!(second, Err(Error::ReadPending)), "{second:?}");
        assert_eq!(pollster::block_on(first), Ok(vec![1.0]));
        assert_eq!(readback.read_blocking(), Ok(vec![1.0]));
    });
}

#[test]
fn a_read_that_is_dropped_leaves_the_readback_usable() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        for polled in [false, true] {
            let matrix = rig.kernels.matrix("m", 1, 1, &[1.0]).unwrap();
            let readback = Readback::new(device, &matrix).unwrap();
            copy(rig, &readback);
            let dropped = readback.read().unwrap();
            if polled {
                device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            }
            drop(dropped);
            let what = format!("dropped {} the poll", if polled { "after" } else { "before" });
            assert_eq!(readback.read_blocking(), Ok(vec![1.0]), "{what}");

            let dropped = readback.read().unwrap();
            if polled {
                device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
            }
            drop(dropped);
            matrix.write(device, queue, &[2.0]).unwrap();
            copy(rig, &readback);
            assert_eq!(readback.read_blocking(), Ok(vec![2.0]), "{what}");
        }
    });
}

#[test]
fn a_readback_outlives_what_it_reads_and_a_read_the_readback() {
    once_per_adapter(|rig| {
        let device = &rig.gpu.device;
        let matrix = rig.kernels.matrix("m", 1, 1, &[1.0]).unwrap();
        let readback = Readback::new(device, &matrix).unwrap();
        copy(rig, &readback);
        drop(matrix);
        let values = readback.read().unwrap();
        drop(readback);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(pollster::block_on(values), Ok(vec![1.0]));
    });
}

// What the tests share.

/// A device that no other test polls, submits to or gets errors from.
fn own_device(rig: &Rig) -> Rig {
    rig.with_limits(|_| {})
}

/// What the call leaves in its operands.
fn outputs(rig: &Rig, call: &Call) -> Result<Vec<(&'static str, Vec<u32>)>> {
    outputs_of(rig, call, SMALL)
}

/// The same with operands of these sizes.
fn outputs_of(rig: &Rig, call: &Call, sizes: Sizes) -> Result<Vec<(&'static str, Vec<u32>)>> {
    let operands = Operands::new(rig, call, sizes);
    rig.run(&(call.make)(&rig.kernels, &operands)?);
    Ok(operands.bits(rig))
}

/// A layer in training.
struct Training {
    layer: TiedLinear,
    optimizer: Optimizer,
    gradients: Gradients,
    step: TrainingStep,
}

impl Training {
    fn new(rig: &Rig) -> Self {
        let options = TiedLinearOptions::new(7, 3)
            .with_activations(Activation::Sigmoid, Activation::GeluTanh)
            .with_seed(1);
        let layer = TiedLinear::new(&rig.kernels, &options).unwrap();
        let (parameters, settings) = (layer.parameters(), AdamSettings::adamw(0.125));
        let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        let input = rig.put(&random(5, 7, 2), Place::Tight);
        let options = TrainingOptions::default();
        let step = TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options);
        Self { step: step.unwrap(), layer, optimizer, gradients }
    }

    /// Loss, parameters, gradients, moments and step counts, bit by bit.
    fn bits(&self, rig: &Rig) -> Vec<Vec<u32>> {
        let mut matrices = vec![self.step.loss()];
        for (value, gradient) in self.gradients.pairs(&self.layer) {
            matrices.extend([value, gradient]);
        }
        for (_, state) in self.optimizer.states() {
            match state {
                OptimizerState::Adam(state) => {
                    matrices.extend([state.first_moment(), state.second_moment(), state.steps()]);
                }
                _ => unreachable!("another optimizer than Adam"),
            }
        }
        matrices.into_iter().map(|matrix| rig.bits(matrix)).collect()
    }
}

/// Makes many failing calls, of every kind that the library tells from another; how many.
fn fail_in_many_ways(rig: &Rig, foreign: &Rig) -> usize {
    let Gpu { device, queue, .. } = &rig.gpu;
    let kernels = &rig.kernels;
    let mut failures = 0;
    let mut expect_failure = |what: &str, failed: bool| {
        assert!(failed, "{what} did not fail");
        failures += 1;
    };
    for call in CALLS {
        let operands = Operands::new(rig, call, SMALL);
        for operand in call.operands.iter().filter(|operand| operand.role != Role::State) {
            let [rows, columns] = operand.shape(SMALL);
            let of_usage = |rig: &Rig, usage| {
                Matrix::new(&buffer(&rig.gpu.device, 1024, usage), rows, columns).unwrap()
            };
            let half = Layout {
                offset: 1,
                element: ElementType::F16,
                ..Layout::contiguous(rows, columns)
            };
            let destroyed = of_usage(rig, USAGES);
            destroyed.buffer().destroy();
            let spoilt = [
                kernels.zeros("wrong", 9, 9).unwrap(),
                Matrix::view(&buffer(device, 1024, USAGES), half).unwrap(),
                of_usage(rig, wgpu::BufferUsages::COPY_DST),
                of_usage(foreign, USAGES),
                destroyed,
            ];
            for matrix in spoilt {
                let result = (call.make)(kernels, &operands.with(operand.name, matrix));
                let what = format!("{} of {}", operand.name, call.name);
                expect_failure(&what, result.is_err());
            }
        }
    }
    let matrix = kernels.zeros("m", 2, 2).unwrap();
    let foreign_matrix = foreign.kernels.zeros("m", 2, 2).unwrap();
    let private = Matrix::new(&buffer(device, 16, wgpu::BufferUsages::STORAGE), 2, 2).unwrap();
    let too_long = matrix.write(device, queue, &[0.0; 5]);
    expect_failure("a write of five", too_long.is_err());
    expect_failure("a write", private.write(device, queue, &[0.0; 4]).is_err());
    expect_failure("a read", private.read_blocking(device, queue).is_err());
    let foreign_write = foreign_matrix.write(device, queue, &[0.0; 4]);
    expect_failure("a foreign write", foreign_write.is_err());
    let foreign_read = foreign_matrix.read_blocking(device, queue);
    expect_failure("a foreign read", foreign_read.is_err());
    expect_failure("a row range", matrix.row_range(1..3).is_err());
    let foreign_weight = Weight::new(&foreign.kernels, foreign_matrix).unwrap();
    let foreign_encode = kernels.encode(&foreign_weight, &Linear::new(&matrix, &matrix));
    expect_failure("a foreign weight", foreign_encode.is_err());
    let foreign_encoder = Encoder::new(kernels, &foreign_weight, None, Activation::Relu);
    expect_failure("an encoder with a foreign weight", foreign_encoder.is_err());
    failures
}

/// An error of the host's own: no buffer can be mapped both ways.
fn raise_an_error(device: &wgpu::Device) {
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE;
    buffer(device, 4, usage | wgpu::BufferUsages::STORAGE);
}

fn copy(rig: &Rig, readback: &Readback) {
    let mut encoder = rig.gpu.device.create_command_encoder(&Default::default());
    readback.record(&mut encoder);
    rig.gpu.queue.submit([encoder.finish()]);
}

fn sendable<F: Future + Send>(future: F) -> F {
    future
}

/// A kernel of the host's own: adds one to the first value of a buffer.
struct Increment {
    device: wgpu::Device,
    pipeline: wgpu::ComputePipeline,
}

impl Increment {
    fn new(device: &wgpu::Device) -> Self {
        let source = "
            @group(0) @binding(0) var<storage, read_write> values: array<f32>;
            @compute @workgroup_size(1) fn main() { values[0] += 1.0; }
        ";
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let device = device.clone();
        Self { device, pipeline }
    }

    fn bind(&self, matrix: &Matrix) -> wgpu::BindGroup {
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: matrix.buffer().as_entire_binding(),
            }],
        })
    }

    fn record(&self, pass: &mut wgpu::ComputePass<'_>, bind_group: &wgpu::BindGroup) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, bind_group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
}
