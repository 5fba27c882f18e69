//! Every error: a call that gets it, its fields, its message, and that nothing was written.
//!
//! An error that goes past a call's result to wgpu's uncaptured-error handler makes that panic: none
//! of these tests sets another one, so each of them would notice.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::calls::{Blamed, CALLS, Call, Operand, Operands, Role, SMALL, Sizes, settings};
use common::shares::{self, Share};
use common::{Place, Rig, USAGES, buffer, is_old_llvmpipe, on_every_adapter, once_per_adapter};
use tied_linear::headless::Gpu;
use tied_linear::kernels::{
    Accumulate, AdamSettings, AdamState, AdamUpdate, Backward, BiasGradient, ColumnSums,
    Contributions, Linear, LossGradient, ParameterUpdate, SHADERS, SgdSettings, SgdState,
    SgdUpdate,
};
use tied_linear::shader::{Form, Shader};
use tied_linear::{
    Activation, Choice, Decoder, ElementType, Encoder, Error, Gradients, KernelOptions, Kernels,
    LayerBackward, Layout, Loss, Matrix, Optimizer, OptimizerSettings, Parameter, Pattern,
    ProductShape, Readback, Result, Strategy, StrategyTable, Tape, TiedLinear, TiedLinearOptions,
    TrainingOptions, TrainingStep, Weight, wgpu,
};

// The operands of every call.

#[test]
fn the_calls_of_the_table_are_valid_as_they_stand() {
    once_per_adapter(|rig| {
        for call in CALLS {
            let commands = (call.make)(&rig.kernels, &Operands::new(rig, call, SMALL));
            assert!(!commands.expect(call.name).is_empty(), "{}", call.name);
        }
    });
}

#[test]
fn a_wrong_shape_of_any_operand_is_refused() {
    once_per_adapter(|rig| {
        for_each_operand(rig, |what, call, operand, operands| {
            for (dimension, blamed) in operand.blamed.into_iter().enumerate() {
                let right = operand.shape(SMALL);
                let mut wrong = right;
                wrong[dimension] += 1;
                let what = format!("{what}, {wrong:?}");
                let matrix = rig.kernels.zeros("wrong", wrong[0], wrong[1]).unwrap();
                let result = (call.make)(&rig.kernels, &operands.with(operand.name, matrix));
                match blamed {
                    Blamed::Itself => {
                        expect_error(&what, result, shape(operand.name, right, wrong));
                    }
                    Blamed::Other(other) => {
                        let longer = SMALL.longer(operand.lengths[dimension]);
                        let [expected, given] =
                            [longer, SMALL].map(|sizes| call.operand(other).shape(sizes));
                        expect_error(&what, result, shape(other, expected, given));
                    }
                    Blamed::Twin(twin) => expect_error(&what, result, shape(twin, wrong, right)),
                    Blamed::Nobody => assert!(result.is_ok(), "{what}: {:?}", result.err()),
                }
            }
        });
    });
}

#[test]
fn half_precision_is_refused_for_any_operand_that_must_be_f32() {
    once_per_adapter(|rig| {
        let refused = std::cell::RefCell::new(BTreeSet::new());
        for_each_bound_operand(rig, |what, call, operand, operands| {
            let [rows, columns] = operand.shape(SMALL);
            let layout = Layout::padded(rows, columns, ElementType::F16);
            let matrix = Matrix::view(operands.get(operand.name).buffer(), layout).unwrap();
            let result = (call.make)(&rig.kernels, &operands.with(operand.name, matrix));
            // What takes them is right: elements.rs.
            if result.is_ok() {
                return;
            }
            refused.borrow_mut().insert((call.name, operand.name));
            let reason = "it must be f32 here";
            let want =
                Error::ElementType { operand: operand.name, given: ElementType::F16, reason };
            expect_error(what, result, want);
        });
        let of_updates = updates().flat_map(|call| {
            let values = call.operands.iter().filter(|operand| operand.name.ends_with(".value"));
            values.map(|operand| (call.name, operand.name))
        });
        let others = [
            ("encode", "bias"),
            ("decode", "bias"),
            ("column_sums", "encoder_gradient"),
            ("column_sums", "decoder_gradient"),
            ("column_sums", "partials"),
            ("column_sums", "total"),
            ("bias_gradient", "gradient"),
            ("sum", "partials"),
            ("sum", "total"),
            ("squared_error", "loss"),
            ("cross_entropy", "loss"),
        ];
        assert_eq!(refused.into_inner(), of_updates.chain(others).collect());
    });
}

#[test]
fn a_buffer_without_storage_usage_is_refused_for_any_operand() {
    once_per_adapter(|rig| {
        for_each_bound_operand(rig, |what, call, operand, operands| {
            let given = USAGES - wgpu::BufferUsages::STORAGE;
            let matrix = matrix_with(rig, operand.shape(SMALL), given);
            let result = (call.make)(&rig.kernels, &operands.with(operand.name, matrix));
            let needed = wgpu::BufferUsages::STORAGE;
            expect_error(what, result, usage(operand.name, needed, given));
        });
    });
}

#[test]
fn an_output_in_the_buffer_of_any_other_operand_is_refused() {
    once_per_adapter(|rig| {
        for_each_bound_operand(rig, |what, call, output, operands| {
            let bound = |other: &&Operand| other.name != output.name && other.role != Role::State;
            let others = call.operands.iter().filter(bound);
            for other in others.filter(|_| output.is_written()) {
                // The same bytes, and apart in both orders.
                for offsets in [[0, 0], [0, 64], [64, 0]] {
                    let what = format!("{what} and {} at {offsets:?}", other.name);
                    let buffer = buffer(&rig.gpu.device, 4 * 128, USAGES);
                    let view = |operand: &Operand, offset| {
                        let [rows, columns] = operand.shape(SMALL);
                        view_at(&buffer, offset, rows, columns)
                    };
                    let operands = operands
                        .with(output.name, view(output, offsets[0]))
                        .with(other.name, view(other, offsets[1]));
                    let error = expect_any_error(&what, (call.make)(&rig.kernels, &operands));
                    let names = |output, other| error == Error::Aliased { output, other };
                    // Of two outputs, either may be named first.
                    assert!(
                        names(output.name, other.name)
                            || other.is_written() && names(other.name, output.name),
                        "{what}: {error:?}"
                    );
                }
            }
        });
    });
}

#[test]
fn a_matrix_of_another_device_is_refused_for_any_operand() {
    once_per_adapter(|rig| {
        let twin = twin(rig);
        for_each_bound_operand(rig, |what, call, operand, operands| {
            let foreign = matrix_with(&twin, operand.shape(SMALL), USAGES);
            let result = (call.make)(&rig.kernels, &operands.with(operand.name, foreign));
            expect_refused(what, result);
        });
    });
}

#[test]
fn a_destroyed_buffer_is_refused_for_any_operand() {
    once_per_adapter(|rig| {
        for_each_bound_operand(rig, |what, call, operand, operands| {
            let destroyed = matrix_with(rig, operand.shape(SMALL), USAGES);
            destroyed.buffer().destroy();
            let result = (call.make)(&rig.kernels, &operands.with(operand.name, destroyed));
            expect_refused(what, result);
        });
    });
}

#[test]
fn a_binding_over_the_limit_is_refused_for_any_operand() {
    once_per_adapter(|rig| {
        // A binding starts at a multiple of 256 bytes: with a matrix at byte 252 it starts at 0.
        let rig = &rig.with_limits(|limits| {
            limits.min_storage_buffer_offset_alignment = 256;
            limits.max_storage_buffer_binding_size = 252;
        });
        let buffer = buffer(&rig.gpu.device, 1024, USAGES);
        for_each_bound_operand(rig, |what, call, operand, operands| {
            let [rows, columns] = operand.shape(SMALL);
            let matrix = view_at(&buffer, 63, rows, columns);
            let needed = matrix.byte_range().end;
            let result = (call.make)(&rig.kernels, &operands.with(operand.name, matrix));
            let name = "max_storage_buffer_binding_size";
            expect_error(what, result, limit(operand.name, name, needed, 252));
        });
        // One element on, the limit is just met.
        Weight::new(&rig.kernels, view_at(&buffer, 64, 7, 9)).unwrap();
    });
}

#[test]
fn settings_that_cannot_be_bound_are_refused() {
    once_per_adapter(|rig| {
        let device = &rig.gpu.device;
        let uniform = wgpu::BufferUsages::UNIFORM;
        let destroyed = settings(device, uniform);
        destroyed.destroy();
        let no_uniform = buffer(device, 256, USAGES);
        let foreign = settings(&twin(rig).gpu.device, uniform);
        let small = buffer(device, 8, uniform);
        for (call, needed) in updates().zip([16, 48]) {
            let operands = Operands::new(rig, call, SMALL);
            let with = |settings: &wgpu::Buffer| {
                (call.make)(&rig.kernels, &operands.with_settings(settings.clone()))
            };
            let what = |what| format!("{}, settings {what}", call.name);
            let want = usage("settings", uniform, USAGES);
            expect_error(&what("without uniform usage"), with(&no_uniform), want);
            let want = Error::DoesNotFit { operand: "settings", needed, given: 8 };
            expect_error(&what("too small"), with(&small), want);
            expect_refused(&what("of another device"), with(&foreign));
            expect_refused(&what("destroyed"), with(&destroyed));
        }
    });
}

#[test]
fn settings_in_the_parameters_buffer_are_refused() {
    once_per_adapter(|rig| {
        for call in updates() {
            let shared = buffer(&rig.gpu.device, 256, USAGES | wgpu::BufferUsages::UNIFORM);
            for output in ["parameters[0].value", "parameters[2].value"] {
                let [rows, columns] = call.operand(output).shape(SMALL);
                let operands = Operands::new(rig, call, SMALL)
                    .with(output, Matrix::new(&shared, rows, columns).unwrap())
                    .with_settings(shared.clone());
                let want = Error::Aliased { output, other: "settings" };
                expect_error(call.name, (call.make)(&rig.kernels, &operands), want);
            }
        }
    });
}

// The device's limits.

/// Of a call, the form that its shader is run in first.
fn form(kernels: &Kernels, call: &Call, sizes: Sizes) -> &'static Form {
    let shader = SHADERS.iter().find(|shader| shader.name == call.shader).unwrap();
    let Some(product) = product_shape(call, sizes) else {
        return shader.forms[0];
    };
    let strategy = kernels.choice(&product).strategy;
    shader.forms.iter().find(|form| form.name == strategy.name()).unwrap()
}

/// Of a product with the weight, or for its gradient, what the table chooses by.
fn product_shape(call: &Call, sizes: Sizes) -> Option<ProductShape> {
    let Sizes { batch, inputs, hidden } = sizes;
    match call.name {
        "encode" | "code_gradient" => Some(ProductShape::encode(batch, inputs, hidden)),
        "decode" | "input_gradient" => Some(ProductShape::decode(batch, inputs, hidden)),
        "backward" => Some(ProductShape::backward(batch, inputs, hidden)),
        _ => None,
    }
}

#[test]
fn a_kernel_over_the_limits_of_the_device_is_refused() {
    type Lower = fn(&mut wgpu::Limits);
    type Need = fn(&Shader, &Form) -> u32;
    /// A limit, its value, and whether a strategy is left that does with it.
    type Case = (&'static str, u32, bool, Lower, Need);
    let lowered: [Case; 6] = [
        (
            "max_compute_workgroup_size_x",
            32,
            true,
            |limits| limits.max_compute_workgroup_size_x = 32,
            |_, form| form.workgroup_size,
        ),
        (
            "max_compute_workgroup_size_x",
            7,
            false,
            |limits| limits.max_compute_workgroup_size_x = 7,
            |_, form| form.workgroup_size,
        ),
        (
            "max_compute_invocations_per_workgroup",
            32,
            true,
            |limits| limits.max_compute_invocations_per_workgroup = 32,
            |_, form| form.workgroup_size,
        ),
        (
            "max_compute_invocations_per_workgroup",
            7,
            false,
            |limits| limits.max_compute_invocations_per_workgroup = 7,
            |_, form| form.workgroup_size,
        ),
        (
            "max_compute_workgroup_storage_size",
            4,
            true,
            |limits| limits.max_compute_workgroup_storage_size = 4,
            |_, form| form.workgroup_bytes,
        ),
        (
            "max_storage_buffers_per_shader_stage",
            1,
            false,
            |limits| limits.max_storage_buffers_per_shader_stage = 1,
            |shader, _| shader.storage_buffers(),
        ),
    ];
    once_per_adapter(|rig| {
        for (name, available, strategy_left, lower, need) in lowered {
            let low = &rig.with_limits(lower);
            for call in CALLS {
                let what = format!("{} with a {name} of {available}", call.name);
                let shader = SHADERS.iter().find(|shader| shader.name == call.shader).unwrap();
                let needed = need(shader, form(&low.kernels, call, SMALL));
                if product_shape(call, SMALL).is_some() {
                    assert_eq!(needed <= available, strategy_left, "{what}: {needed}");
                }
                let result = (call.make)(&low.kernels, &Operands::new(low, call, SMALL));
                if needed > available {
                    let [needed, available] = [needed, available].map(u64::from);
                    expect_error(&what, result, limit(call.shader, name, needed, available));
                } else {
                    assert!(result.is_ok(), "{what}: {:?}", result.err());
                }
            }
        }
    });
}

/// A table may be taken along to a device with lower limits, against the advice of its method.
#[test]
fn a_strategy_over_the_limits_of_the_device_is_refused() {
    once_per_adapter(|rig| {
        let low = rig.with_limits(|limits| {
            limits.max_compute_invocations_per_workgroup = 7;
            limits.max_compute_workgroup_storage_size = 100;
        });
        let device = &low.gpu.device;
        for &strategy in StrategyTable::new(&rig.gpu.device).available() {
            let own = StrategyTable::new(device);
            let reason = "the device lacks the limits or subgroups for this strategy, or compiles it too slowly";
            let want = Error::Incompatible { what: strategy.name(), reason };
            let result = own.force(Choice::whole(strategy));
            expect_error(strategy.name(), result, want);

            let foreign = StrategyTable::new(&rig.gpu.device).force(Choice::whole(strategy));
            let options = KernelOptions::default().with_strategies(foreign.unwrap());
            let kernels = Kernels::new(device, options).unwrap();
            for call in CALLS {
                let Some(product) = product_shape(call, SMALL) else {
                    continue;
                };
                let what = format!("{} by {strategy}", call.name);
                if !strategy.computes(product.pattern) {
                    continue;
                }
                let needed = u64::from(form(&kernels, call, SMALL).workgroup_size);
                let result = (call.make)(&kernels, &Operands::new(&low, call, SMALL));
                let name = "max_compute_invocations_per_workgroup";
                expect_error(&what, result, limit(call.shader, name, needed, 7));
            }
        }
    });
}

/// combine.wgsl takes larger workgroups than the strategies of CPU drivers.
#[test]
fn a_device_that_cannot_add_parts_up_has_whole_reductions() {
    once_per_adapter(|rig| {
        let lower: fn(&mut wgpu::Limits) =
            |limits| limits.max_compute_invocations_per_workgroup = 63;
        let low = rig.with_limits(lower);
        let kernels = &low.kernels;
        let [x, w, h] = [[1, 4096], [1, 4096], [1, 1]].map(|[rows, columns]| {
            kernels.matrix("ones", rows, columns, &vec![1.0; columns as usize])
        });
        let [x, h] = [x.unwrap(), h.unwrap()];
        let weight = Weight::new(kernels, w.unwrap()).unwrap();
        let commands = kernels.encode(&weight, &Linear::new(&x, &h)).unwrap();
        assert_eq!(commands.len(), 1);
        low.run(&commands);
        assert_eq!(low.get(&h), [4096.0]);
    });
}

#[test]
fn limits_that_just_suffice_are_enough() {
    once_per_adapter(|rig| {
        let forms = || SHADERS.iter().flat_map(|shader| shader.forms);
        let workgroup_size = forms().map(|form| form.workgroup_size).max().unwrap();
        let buffers = SHADERS.iter().map(|shader| shader.storage_buffers()).max().unwrap();
        let rig = &rig.with_limits(|limits| {
            limits.max_compute_workgroup_size_x = workgroup_size;
            limits.max_compute_invocations_per_workgroup = workgroup_size;
            limits.max_compute_workgroup_storage_size =
                forms().map(|form| form.workgroup_bytes).max().unwrap();
            limits.max_storage_buffers_per_shader_stage = buffers;
        });
        for call in CALLS {
            let result = (call.make)(&rig.kernels, &Operands::new(rig, call, SMALL));
            assert!(result.is_ok(), "{}: {:?}", call.name, result.err());
        }
        // None of the strategies is passed over.
        let table = StrategyTable::new(&rig.gpu.device);
        let needs_features = |strategy: &Strategy| {
            strategy.name().contains("subgroup") || *strategy == Strategy::Cooperative
        };
        for strategy in Strategy::ALL.into_iter().filter(|strategy| !needs_features(strategy)) {
            assert!(table.available().contains(&strategy), "{strategy}");
        }
    });
}

/// For calls whose number of workgroups grows with their matrices: sizes that take three and five.
fn three_and_five_workgroups(kernels: &Kernels, call: &Call) -> Option<[Sizes; 2]> {
    let sizes = |inputs, hidden| Sizes { batch: 5, inputs, hidden };
    if let Some(product) = product_shape(call, SMALL) {
        let share = Share::of(kernels.choice(&product).strategy.name());
        // The gradient of the weight is hidden × inputs, the other outputs are as wide as a row.
        let tile = if call.name == "backward" { share.rows[0] } else { share.columns };
        return Some([2 * tile + 22, 4 * tile + 1].map(|length| match product.pattern {
            Pattern::Decode => sizes(length, 2),
            _ => sizes(2, length),
        }));
    }
    Some(match call.name {
        "bias_gradient" => [sizes(2, 150), sizes(2, 257)],
        // One for the total, and a sum each.
        "column_sums" => [sizes(2, 2), sizes(2, 150)],
        "activation_gradient" | "noise" => [sizes(600, 5), sizes(1021, 5)],
        // The biases take one each.
        "sgd" | "adam" => [sizes(7, 3), sizes(600, 5)],
        // These take no more workgroups than one dimension allows.
        "squared_error" | "cross_entropy" => [sizes(1800, 1), sizes(4000, 1)],
        _ => return None,
    })
}

fn at_most_two_workgroups_a_dimension(rig: &Rig) -> Rig {
    rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 2)
}

#[test]
fn workgroups_are_spread_over_two_dimensions_where_one_is_too_short() {
    on_every_adapter(|wide| {
        let narrow = at_most_two_workgroups_a_dimension(wide);
        for call in CALLS {
            let Some([three, _]) = three_and_five_workgroups(&wide.kernels, call) else {
                continue;
            };
            let [got, want] = [&narrow, wide].map(|rig| {
                let operands = Operands::new(rig, call, three);
                let commands = (call.make)(&rig.kernels, &operands).expect(call.name);
                rig.run(&commands);
                operands.bits(rig)
            });
            // The losses' sums over the workgroups may be in another order.
            let same = if call.shader == "squared_error" || call.shader == "cross_entropy" {
                got[..4] == want[..4]
            } else {
                got == want
            };
            assert!(same, "{}: {got:?}, but want {want:?}", call.name);
        }
    });
}

#[test]
fn more_workgroups_than_two_dimensions_hold_are_refused() {
    once_per_adapter(|rig| {
        let rig = &at_most_two_workgroups_a_dimension(rig);
        for call in CALLS {
            let Some([_, five]) = three_and_five_workgroups(&rig.kernels, call) else {
                continue;
            };
            let operands = Operands::new(rig, call, five);
            let result = (call.make)(&rig.kernels, &operands);
            if call.name == "squared_error" || call.name == "cross_entropy" {
                rig.run(&result.expect(call.name));
            } else {
                let name = "max_compute_workgroups_per_dimension, squared";
                expect_error(call.name, result, limit(call.shader, name, 5, 4));
            }
        }
    });
}

/// A device that allows no workgroups at all says in its errors how many each call takes.
fn without_workgroups(rig: &Rig) -> Rig {
    rig.with_limits(|limits| limits.max_compute_workgroups_per_dimension = 0)
}

const NO_WORKGROUPS: &str = "max_compute_workgroups_per_dimension, squared";

/// The workgroups of a call on small matrices.
fn least(call: &Call) -> u64 {
    if call.name == "column_sums" { 3 } else { 1 }
}

#[test]
fn a_device_without_workgroups_is_refused_by_every_call() {
    once_per_adapter(|rig| {
        let rig = &without_workgroups(rig);
        assert_eq!(rig.gpu.device.limits().max_compute_workgroups_per_dimension, 0);
        for call in CALLS {
            let operands = Operands::new(rig, call, SMALL);
            let before = operands.bits(rig);
            let result = (call.make)(&rig.kernels, &operands);
            let needed = if ["sgd", "adam"].contains(&call.name) { 3 } else { least(call) };
            expect_error(call.name, result, limit(call.shader, NO_WORKGROUPS, needed, 0));
            assert_eq!(operands.bits(rig), before, "{} wrote something", call.name);
        }
        let parts = LayerParts::new(&rig.kernels);
        let refused = |shader| limit(shader, NO_WORKGROUPS, 1, 0);
        expect_error("forward", parts.forward(), refused("encode"));
        expect_error("backward", parts.backward(), refused("activation_gradient"));

        // An empty batch takes none, but the sum of its loss does.
        let empty = Sizes { batch: 0, ..SMALL };
        for call in CALLS {
            let result = (call.make)(&rig.kernels, &Operands::new(rig, call, empty));
            match call.name {
                "encode"
                | "decode"
                | "code_gradient"
                | "input_gradient"
                | "activation_gradient"
                | "noise" => {
                    assert!(result.expect(call.name).is_empty(), "{}", call.name);
                }
                "squared_error" | "cross_entropy" => {
                    expect_error(call.name, result, refused("column_sums"));
                }
                // The parameters have no batch.
                "sgd" | "adam" => {
                    expect_error(call.name, result, limit(call.shader, NO_WORKGROUPS, 3, 0));
                }
                // What an empty batch adds up to is zeros, which somebody has to write; the others
                // have no batch.
                _ => {
                    let want = limit(call.shader, NO_WORKGROUPS, least(call), 0);
                    expect_error(call.name, result, want);
                }
            }
        }
    });
}

#[test]
fn calls_take_as_many_workgroups_as_their_shares_make() {
    const COLUMNS: u32 = shares::BIAS_COLUMNS;
    const VALUES: u32 = 4 * shares::QUADS;
    let sizes = |batch, inputs, hidden| Sizes { batch, inputs, hidden };
    let elementwise = [
        (sizes(1, VALUES, 1), 1),
        (sizes(1, VALUES + 1, 1), 2),
        (sizes(4, VALUES / 4, 4), 1),
        // A quad does not go on in the next row.
        (sizes(4, VALUES / 4 - 3, 4), 1),
        (sizes(5, VALUES / 4, 5), 2),
    ];
    once_per_adapter(|rig| {
        let rig = &without_workgroups(rig);
        for call in CALLS {
            let cases = match call.name {
                "activation_gradient" => elementwise.to_vec(),
                // A weight and both biases.
                "sgd" | "adam" => vec![
                    (sizes(1, VALUES, 1), 1 + 1 + 1),
                    (sizes(1, VALUES + 1, 1), 2 + 1 + 2),
                    (sizes(1, 4, VALUES), 4 + 1 + 1),
                    (sizes(1, 4, VALUES + 1), 5 + 2 + 1),
                    // A quad does not go on in the next row.
                    (sizes(1, VALUES / 4 - 3, 4), 1 + 1 + 1),
                    (sizes(1, VALUES / 4, 5), 2 + 1 + 1),
                ],
                "bias_gradient" => vec![
                    (sizes(3, 3, COLUMNS), 1),
                    (sizes(300, 3, COLUMNS), 1),
                    (sizes(3, 3, COLUMNS + 1), 2),
                    (sizes(3, 3, 2 * COLUMNS), 2),
                ],
                // One more for the total.
                "column_sums" => vec![
                    (sizes(300, COLUMNS, COLUMNS), 3),
                    (sizes(3, COLUMNS, COLUMNS + 1), 4),
                    (sizes(3, COLUMNS + 1, COLUMNS), 4),
                    (sizes(3, 2 * COLUMNS, 3 * COLUMNS), 6),
                ],
                // One, or as many as the limit allows; products have a test of their own.
                _ => continue,
            };
            for (sizes, needed) in cases {
                let what = format!("{}, {sizes:?}", call.name);
                let result = (call.make)(&rig.kernels, &Operands::new(rig, call, sizes));
                expect_error(&what, result, limit(call.shader, NO_WORKGROUPS, needed, 0));
            }
        }
    });
}

#[test]
fn products_take_as_many_workgroups_as_tiles_and_parts() {
    once_per_adapter(|rig| {
        let rig = &without_workgroups(rig);
        let table = StrategyTable::new(&rig.gpu.device);
        for &strategy in table.available() {
            let share = Share::of(strategy.name());
            for parts in [1, 3] {
                let table = table.clone().force(Choice { strategy, parts }).unwrap();
                let rig = &rig.with_strategies(table);
                for call in CALLS {
                    let Some(product) = product_shape(call, SMALL) else {
                        continue;
                    };
                    if strategy.computes(product.pattern) {
                        expect_workgroups(rig, call, product.pattern, share, parts);
                    }
                }
            }
        }
    });
}

/// Fails unless the call takes a workgroup for every tile and part, on a device that has none.
fn expect_workgroups(rig: &Rig, call: &Call, pattern: Pattern, share: &Share, parts: u32) {
    let sizes = |rows, columns, depth| match pattern {
        Pattern::Encode => Sizes { batch: rows, inputs: depth, hidden: columns },
        Pattern::Decode => Sizes { batch: rows, inputs: columns, hidden: depth },
        Pattern::Backward => Sizes { batch: depth, inputs: columns, hidden: rows },
    };
    let most = share.most_rows();
    let mut cases = Vec::new();
    for (columns, wide) in [(share.columns, 1), (share.columns + 1, 2), (2 * share.columns, 2)] {
        for (rows, high) in [(most, 1), (most + 1, 2), (2 * most, 2), (1, 1)] {
            cases.push((rows, columns, 3, wide * high));
        }
    }
    // Each part is a multiple of a step long, but for the last.
    let step = share.step;
    let depths = [
        (step, 1, 1),
        (step + 1, 1, 2),
        (2 * step + 1, 1, 3),
        (3 * step, 1, 3),
        (3 * step + 1, 1, 2),
        (6 * step, 1, 3),
    ];
    for (depth, in_one, in_three) in depths {
        let always = match share.strategy {
            // Its parts have a length of their own.
            "skinny_subgroup" => Some(u64::from(depth.div_ceil(step))),
            _ => None,
        };
        let split = if parts == 1 { in_one } else { in_three };
        cases.push((1, 1, depth, always.unwrap_or(split)));
    }
    for (rows, columns, depth, needed) in cases {
        let what =
            format!("{} {rows}x{depth}x{columns} by {} / {parts}", call.name, share.strategy);
        let operands = Operands::new(rig, call, sizes(rows, columns, depth));
        let result = (call.make)(&rig.kernels, &operands);
        expect_error(&what, result, limit(call.shader, NO_WORKGROUPS, needed, 0));
    }
}

// Mesa's software driver up to 22.3 silently leaves a shader's loops after 65,535 iterations.

/// A row of ones, so long that no driver of that kind gets a product over it right.
const LONG: u32 = (1 << 20) + 1;

/// The first ones of a buffer, as a matrix.
fn ones(buffer: &Matrix, rows: u32, columns: u32) -> Matrix {
    Matrix::new(buffer.buffer(), rows, columns).expect("fits")
}

/// The rules, and strategies that stand for those which take a software driver longer over the same
/// loops; last, one in more parts than a loop that adds them up may have.
fn tables(rig: &Rig) -> Vec<(String, StrategyTable)> {
    let rules = StrategyTable::new(&rig.gpu.device);
    let choices = [
        Choice::whole(Strategy::Tile32),
        Choice::whole(Strategy::LanesSubgroup),
        Choice::whole(Strategy::LanesTall),
        Choice::whole(Strategy::LanesAlone),
        Choice::whole(Strategy::SkinnyLanes),
        Choice { strategy: Strategy::LanesAlone, parts: 200_000 },
    ];
    let forced = choices
        .into_iter()
        .filter(|choice| rules.available().contains(&choice.strategy))
        .map(|choice| (choice.to_string(), rules.clone().force(choice).unwrap()));
    std::iter::once(("the rules".to_owned(), rules.clone())).chain(forced).collect()
}

#[test]
fn a_product_that_the_driver_would_cut_short_is_right() {
    once_per_adapter(|rig| {
        for (table_name, table) in tables(rig) {
            let rig = rig.with_strategies(table);
            let kernels = &rig.kernels;
            let all = kernels.matrix("ones", 1, LONG, &vec![1.0; LONG as usize]).unwrap();
            let output = rig.poisoned(1, 1, Place::Tight);
            let weight = |rows, columns| Weight::new(kernels, ones(&all, rows, columns)).unwrap();
            let call = Linear::new(&all, &output);
            for (product, commands) in [
                ("encode", kernels.encode(&weight(1, LONG), &call)),
                ("decode", kernels.decode(&weight(LONG, 1), &call)),
            ] {
                rig.run(&commands.expect(product));
                assert_eq!(rig.get(&output), [LONG as f32], "{product} by {table_name}");
            }
        }
    });
}

#[test]
fn a_gradient_that_the_driver_would_cut_short_is_right() {
    once_per_adapter(|rig| {
        for (table_name, table) in tables(rig) {
            let rig = rig.with_strategies(table);
            let kernels = &rig.kernels;
            let operand = &kernels.matrix("ones", LONG, 1, &vec![1.0; LONG as usize]).unwrap();
            for (contributions, accumulate, want) in [
                (Contributions::Both, Accumulate::Overwrite, 2 * LONG),
                (Contributions::Encoder, Accumulate::Add, LONG + 3),
            ] {
                let gradient = &kernels.matrix("gradient", 1, 1, &[3.0]).unwrap();
                let call = Backward {
                    code: operand,
                    output_delta: operand,
                    code_delta: operand,
                    input: operand,
                    gradient,
                    contributions,
                    accumulate,
                };
                rig.run(&kernels.backward(&call).unwrap());
                let what = format!("backward by {table_name}, {contributions:?}, {accumulate:?}");
                assert_eq!(rig.get(gradient), [want as f32], "{what}");
            }
        }
    });
}

/// Where loops are cut short, a whole reduction is as long as it can be.
#[test]
fn a_reduction_is_split_where_the_driver_would_cut_it_short_and_not_before() {
    once_per_adapter(|rig| {
        let rules = StrategyTable::new(&rig.gpu.device);
        for &strategy in rules.available() {
            let step = Share::of(strategy.name()).step;
            let table = rules.clone().force(Choice::whole(strategy)).unwrap();
            let rig = rig.with_strategies(table);
            let kernels = &rig.kernels;
            // 256 iterations are for what is not the reduction.
            let longest = |reductions: u32| (65_535 - 256) / reductions * step;
            let all = kernels.zeros("zeros", 1, longest(1) + 1).unwrap();
            let output = kernels.zeros("output", 1, 1).unwrap();
            for (more, is_cut) in [(0, false), (1, is_old_llvmpipe(&rig))] {
                let depth = longest(1) + more;
                let weight = Weight::new(kernels, ones(&all, depth, 1)).unwrap();
                let input = ones(&all, 1, depth);
                let commands = kernels.decode(&weight, &Linear::new(&input, &output)).unwrap();
                // The parts of this one have a length of their own.
                let is_split = is_cut || strategy == Strategy::SkinnySubgroup;
                assert_eq!(commands.len(), 1 + usize::from(is_split), "{strategy} over {depth}");

                let depth = longest(2) + more;
                let operand = &ones(&all, depth, 1);
                let commands = kernels.backward(&Backward {
                    code: operand,
                    output_delta: operand,
                    code_delta: operand,
                    input: operand,
                    gradient: &output,
                    contributions: Contributions::Both,
                    accumulate: Accumulate::Overwrite,
                });
                if strategy.computes(Pattern::Backward) {
                    let parts = commands.unwrap().len();
                    assert_eq!(parts, 1 + usize::from(is_cut), "{strategy}, a batch of {depth}");
                }
            }
        }
    });
}

#[test]
fn a_bias_gradient_that_the_driver_would_cut_short_is_refused() {
    on_every_adapter(|rig| {
        let kernels = &rig.kernels;
        // 65,535 times 64 rows, the ones that column_sums.wgsl takes in an iteration.
        const ROWS: u32 = 65_535 * 64;
        let all = kernels.matrix("ones", ROWS, 1, &vec![1.0; ROWS as usize]).unwrap();
        let gradient = kernels.matrix("gradient", 1, 1, &[3.0]).unwrap();
        let expect = |what: &str, result: Result<tied_linear::Commands>, want: f64| {
            gradient.write(&rig.gpu.device, &rig.gpu.queue, &[3.0]).unwrap();
            match result {
                Ok(commands) => {
                    rig.run(&commands);
                    assert_eq!(f64::from(rig.get(&gradient)[0]), want, "{what}");
                }
                Err(error) => {
                    expect_message(what, &error);
                    let refused = matches!(error, Error::Limit { available: 65_535, .. });
                    assert!(refused && is_old_llvmpipe(rig), "{what}: {error:?}");
                }
            }
        };
        for (accumulate, before) in [(Accumulate::Overwrite, 0.0), (Accumulate::Add, 3.0)] {
            for rows in [ROWS - 64 * 8, ROWS - 64 * 3, ROWS] {
                let delta = &ones(&all, rows, 1);
                let part = Some(BiasGradient { delta, gradient: &gradient, accumulate });
                let want = before + f64::from(rows);
                for (half, sums) in [
                    ("encoder", ColumnSums { encoder_bias: part, ..ColumnSums::default() }),
                    ("decoder", ColumnSums { decoder_bias: part, ..ColumnSums::default() }),
                ] {
                    let what = format!("the {half}'s bias, {rows} rows, {accumulate:?}");
                    let result = kernels.column_sums(&sums);
                    // What is certain to be right is not refused.
                    assert!(rows > ROWS - 64 * 8 || result.is_ok(), "{what}: refused");
                    expect(&what, result, want);
                }
            }
        }
    });
}

#[test]
fn a_buffer_over_the_limit_is_refused() {
    once_per_adapter(|rig| {
        let rig = &rig.with_limits(|limits| {
            limits.max_buffer_size = 1 << 16;
        });
        let kernels = &rig.kernels;
        let over = |what, needed| limit(what, "max_buffer_size", needed, 1 << 16);
        let fits = kernels.zeros("fits", 128, 128).unwrap();
        assert_eq!(fits.byte_range(), 0..1 << 16);
        let bytes = 4 * 128 * 129;
        expect_error("zeros", kernels.zeros("m", 128, 129), over("m", bytes));
        let values = vec![0.0; 128 * 129];
        let result = kernels.matrix("m", 129, 128, &values);
        expect_error("matrix", result, over("m", bytes));

        let options = TiedLinearOptions::new(128, 129);
        let result = TiedLinear::new(kernels, &options);
        expect_error("layer", result, over("weight", bytes));
        let layer = TiedLinear::new(kernels, &TiedLinearOptions::new(1, 1)).unwrap();
        let result = Tape::new(&layer, (1 << 14) + 1);
        expect_error("tape", result, over("code", (1 << 16) + 4));

        // A moment takes 4 KiB of each workgroup of 256 quads, a step count 16 bytes.
        let column = |rows| kernels.zeros("column", rows, 1).unwrap();
        SgdState::new(kernels, &[&column(4096)]).expect("fits");
        let result = SgdState::new(kernels, &[&column(4097)]);
        expect_error("velocities", result, over("velocities", 17 << 12));
        let result = SgdState::new(kernels, &[&column(4096), &column(1)]);
        expect_error("velocities", result, over("velocities", 17 << 12));
        AdamState::new(kernels, &[&column(15 * 256)]).expect("fits");
        let result = AdamState::new(kernels, &[&column(13 * 256), &column(1), &column(257)]);
        expect_error("moments", result, over("first moments", 16 * (4096 + 16)));
    });
}

#[test]
fn more_elements_than_kernels_can_count_are_refused() {
    once_per_adapter(|rig| {
        let rig = &rig.with_limits(|limits| limits.max_buffer_size = 1 << 16);
        let kernels = &rig.kernels;
        let most = u32::MAX;
        let square = u64::from(most) * u64::from(most);
        expect_error("zeros", kernels.zeros("m", most, most), too_many("m", square));
        // 2⁶² values: 2⁶⁴ bytes, which is 0 in 64 bits.
        expect_error("zeros", kernels.zeros("m", 1 << 31, 1 << 31), too_many("m", 1 << 62));
        let result = kernels.matrix("m", most, most, &[]);
        expect_error("matrix", result, too_many("m", square));
        let result = TiedLinear::new(kernels, &TiedLinearOptions::new(most, most));
        expect_error("layer", result, too_many("weight", square));
        // An empty weight, but a bias.
        let result = TiedLinear::new(kernels, &TiedLinearOptions::new(0, 1 << 31));
        expect_error("layer", result, too_many("encoder bias", 1 << 31));
        let result = TiedLinear::new(kernels, &TiedLinearOptions::new(1 << 31, 0));
        expect_error("layer", result, too_many("decoder bias", 1 << 31));

        // One less can be counted, and is the device's affair.
        expect_error("zeros", kernels.zeros("m", 1 << 31, 1), too_many("m", 1 << 31));
        let over = limit("m", "max_buffer_size", 4 * ((1 << 31) - 1), 1 << 16);
        expect_error("zeros", kernels.zeros("m", (1 << 31) - 1, 1), over);
    });
}

// Views and host data.

#[test]
fn a_view_that_does_not_fit_is_refused() {
    let layout = |offset, rows, columns, row_stride, element| Layout {
        offset,
        rows,
        columns,
        row_stride,
        element,
    };
    let [half, single] = [ElementType::F16, ElementType::F32];
    let does_not_fit = |needed| Error::DoesNotFit { operand: "matrix", needed, given: 240 };
    let row_stride = |columns, row_stride| Error::RowStride { columns, row_stride };
    let many = |given| too_many("matrix", given);
    let cases = [
        (layout(0, 3, 5, 4, single), row_stride(5, 4)),
        (layout(0, 0, 5, 0, single), row_stride(5, 0)),
        (layout(0, 1, u32::MAX, 0, single), row_stride(u32::MAX, 0)),
        (layout(0, 61, 1, 1, single), does_not_fit(244)),
        (layout(1, 6, 10, 10, single), does_not_fit(244)),
        (layout(1, 12, 10, 10, half), does_not_fit(242)),
        (layout(60, 1, 1, 1, single), does_not_fit(244)),
        (layout(0, 4, 1, 20, single), does_not_fit(244)),
        // An empty view may start at the end, but not behind it.
        (layout(61, 0, 1, 1, single), does_not_fit(244)),
        // No sum or product wraps around.
        (layout(u64::MAX, 1, 1, 1, single), does_not_fit(u64::MAX)),
        (layout(u64::MAX / 4 + 1, 1, 1, 1, single), does_not_fit(u64::MAX)),
        (layout(u64::MAX / 4, 1, 1, 1, single), does_not_fit(u64::MAX)),
        (layout(u64::MAX, 0, 0, 0, single), does_not_fit(u64::MAX)),
        (layout(0, 1 << 16, 1 << 15, 1 << 15, single), many(1 << 31)),
        (layout(0, 2, 1, (1 << 31) - 1, single), many(1 << 31)),
        (
            layout(u64::MAX, u32::MAX, u32::MAX, u32::MAX, single),
            many(u64::from(u32::MAX) * u64::from(u32::MAX)),
        ),
    ];
    once_per_adapter(|rig| {
        let buffer = buffer(&rig.gpu.device, 240, USAGES);
        for (layout, want) in cases.clone() {
            let what = format!("{layout:?}");
            expect_error(&what, Matrix::view(&buffer, layout), want);
        }
        let result = Matrix::new(&buffer, 8, 8);
        expect_error("new", result, does_not_fit(256));
        for layout in [
            layout(0, 6, 10, 10, single),
            layout(0, 12, 10, 10, half),
            layout(59, 1, 1, 1, single),
            // What lies behind the last row is not needed.
            layout(0, 3, 20, 20, single),
            layout(0, 2, 1, 59, single),
            layout(60, 0, 1, 1, single),
        ] {
            Matrix::view(&buffer, layout).expect("fits");
        }
    });
}

#[test]
fn a_row_range_beyond_the_rows_or_reversed_is_refused() {
    once_per_adapter(|rig| {
        let matrix = rig.kernels.zeros("m", 40, 5).unwrap();
        for [start, end] in [[0, 41], [38, 57], [40, 41], [23, u32::MAX], [58, 58], [36, 21]] {
            let what = format!("{start}..{end}");
            let want = Error::RowRange { start, end, rows: 40 };
            expect_error(&what, matrix.row_range(start..end), want);
        }
    });
}

#[test]
fn host_data_of_another_length_is_refused() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        let matrix = rig.kernels.matrix("m", 2, 3, &[1.0; 6]).unwrap();
        let length = |expected, given| Error::Length { expected, given };
        for given in [0, 5, 7] {
            let values = vec![2.0; given];
            let want = length(6, given as u64);
            let what = format!("{given} values");
            expect_error(&what, matrix.write(device, queue, &values), want.clone());
            expect_error(&what, rig.kernels.matrix("m", 2, 3, &values), want);
        }
        let empty = rig.kernels.zeros("empty", 0, 3).unwrap();
        let result = empty.write(device, queue, &[2.0]);
        expect_error("an empty matrix", result, length(0, 1));
        assert_eq!(rig.get(&matrix), [1.0; 6]);
    });
}

#[test]
fn host_data_is_not_copied_to_or_from_an_unfit_buffer() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        let twin = twin(rig);
        let [source, target] = [wgpu::BufferUsages::COPY_SRC, wgpu::BufferUsages::COPY_DST];

        let given = USAGES - target;
        let result = matrix_with(rig, [2, 2], given).write(device, queue, &[1.0; 4]);
        expect_error("write", result, usage("matrix", target, given));
        let given = USAGES - source;
        let unreadable = matrix_with(rig, [2, 2], given);
        let want = usage("matrix", source, given);
        let result = unreadable.read_blocking(device, queue);
        expect_error("read_blocking", result, want.clone());
        let result = pollster::block_on(unreadable.read(device, queue));
        expect_error("read", result, want.clone());
        expect_error("readback", Readback::new(device, &unreadable), want);

        let matrix = rig.kernels.matrix("m", 2, 2, &[1.0; 4]).unwrap();
        let layout = Layout { element: ElementType::F16, offset: 1, ..matrix.layout() };
        let half = Matrix::view(matrix.buffer(), layout).unwrap();
        let want = Error::ElementType {
            operand: "matrix",
            given: ElementType::F16,
            reason: "its offset and row stride must be even",
        };
        let result = half.write(device, queue, &[2.0; 4]);
        expect_error("write", result, want.clone());
        let result = half.read_blocking(device, queue);
        expect_error("read_blocking", result, want.clone());
        expect_error("readback", Readback::new(device, &half), want);

        let Gpu { device, queue, .. } = &twin.gpu;
        let result = matrix.write(device, queue, &[2.0; 4]);
        expect_refused("write by another device", result);
        let result = matrix.read_blocking(device, queue);
        expect_refused("read by another device", result);
        assert_eq!(rig.get(&matrix), [1.0; 4]);

        matrix.buffer().destroy();
        let Gpu { device, queue, .. } = &rig.gpu;
        let result = matrix.write(device, queue, &[2.0; 4]);
        expect_refused("write to a destroyed buffer", result);
        let result = matrix.read_blocking(device, queue);
        expect_refused("read of a destroyed buffer", result);
    });
}

#[test]
fn a_readback_of_another_device_is_refused() {
    once_per_adapter(|rig| {
        let twin = twin(rig);
        let matrix = rig.kernels.zeros("m", 2, 2).unwrap();
        // Recording such a copy is an error of the host's encoder, past any result.
        let result = Readback::new(&twin.gpu.device, &matrix);
        expect_refused("new", result);
    });
}

// Layers and optimizers.

/// A layer, by default one that keeps both pre-activations, and all that its passes take.
struct LayerParts {
    layer: TiedLinear,
    tape: Tape,
    gradients: Gradients,
    input: Matrix,
    output_gradient: Matrix,
    code_gradient: Matrix,
    input_gradient: Matrix,
}

impl LayerParts {
    fn new(kernels: &Kernels) -> Self {
        Self::with_activations(kernels, [Activation::GeluTanh, Activation::Silu])
    }

    fn with_activations(kernels: &Kernels, [f, g]: [Activation; 2]) -> Self {
        let Sizes { batch, inputs, hidden } = SMALL;
        let options = TiedLinearOptions::new(inputs, hidden).with_activations(f, g);
        let layer = TiedLinear::new(kernels, &options).unwrap();
        let zeros = |columns| kernels.zeros("test", batch, columns).unwrap();
        Self {
            tape: Tape::new(&layer, batch).unwrap(),
            gradients: Gradients::new(&layer).unwrap(),
            input: zeros(inputs),
            output_gradient: zeros(inputs),
            code_gradient: zeros(hidden),
            input_gradient: zeros(inputs),
            layer,
        }
    }

    fn forward(&self) -> Result<()> {
        self.layer.forward(&self.input, &self.tape).map(drop)
    }

    fn backward(&self) -> Result<()> {
        self.backward_from(Some(&self.output_gradient))
    }

    fn backward_from(&self, output_gradient: Option<&Matrix>) -> Result<()> {
        let call = LayerBackward::new(&self.input, &self.tape, &self.gradients)
            .with_output_gradient(output_gradient)
            .with_code_gradient(Some(&self.code_gradient))
            .with_input_gradient(Some(&self.input_gradient));
        self.layer.backward(&call).map(drop)
    }
}

#[test]
fn a_wrong_shape_of_anything_that_a_layer_takes_is_refused() {
    type Set = fn(&mut LayerParts, Matrix);
    let Sizes { batch, inputs, hidden } = SMALL;
    let [input, code] = [[batch, inputs], [batch, hidden]];
    let wrong = [9, 9];
    let forward: [(Set, Error); 5] = [
        (|parts, m| parts.input = m, shape("input", [9, inputs], wrong)),
        (|parts, m| parts.tape.code = m, shape("tape.code", code, wrong)),
        (|parts, m| parts.tape.output = m, shape("tape.output", input, wrong)),
        (
            |parts, m| parts.tape.code_preactivation = Some(m),
            shape("tape.code_preactivation", code, wrong),
        ),
        (
            |parts, m| parts.tape.output_preactivation = Some(m),
            shape("tape.output_preactivation", input, wrong),
        ),
    ];
    let backward: [(Set, Error); 12] = [
        (|parts, m| parts.input = m, shape("tape.output_delta", [batch, 9], input)),
        (|parts, m| parts.output_gradient = m, shape("output_gradient", input, wrong)),
        (|parts, m| parts.code_gradient = m, shape("code_gradient", code, wrong)),
        (|parts, m| parts.input_gradient = m, shape("input_gradient", input, wrong)),
        (|parts, m| parts.tape.code = m, shape("tape.output_delta", [9, inputs], input)),
        (|parts, m| parts.tape.code_delta = m, shape("tape.code_delta", code, wrong)),
        (|parts, m| parts.tape.output_delta = m, shape("output_gradient", wrong, input)),
        (
            |parts, m| parts.tape.code_preactivation = Some(m),
            shape("tape.code_preactivation", code, wrong),
        ),
        (
            |parts, m| parts.tape.output_preactivation = Some(m),
            shape("tape.output_preactivation", input, wrong),
        ),
        (|parts, m| parts.gradients.weight = m, shape("gradients.weight", [hidden, inputs], wrong)),
        (
            |parts, m| parts.gradients.encoder_bias = Some(m),
            shape("gradients.encoder_bias", [1, hidden], wrong),
        ),
        (
            |parts, m| parts.gradients.decoder_bias = Some(m),
            shape("gradients.decoder_bias", [1, inputs], wrong),
        ),
    ];
    once_per_adapter(|rig| {
        let parts = LayerParts::new(&rig.kernels);
        parts.forward().expect("valid as it stands");
        parts.backward().expect("valid as it stands");
        let spoilt = |set: Set| {
            let mut parts = LayerParts::new(&rig.kernels);
            set(&mut parts, rig.kernels.zeros("wrong", 9, 9).unwrap());
            parts
        };
        for (set, want) in forward.clone() {
            expect_error("forward", spoilt(set).forward(), want);
        }
        for (set, want) in backward.clone() {
            expect_error("backward", spoilt(set).backward(), want);
        }
    });
}

/// Which name is the caller's depends on the activations and on where the deltas come from.
#[test]
fn operands_of_a_layer_have_the_names_that_its_caller_gave_them() {
    use Activation::{Identity, Sigmoid, Tanh};
    type Spoil = fn(&mut LayerParts, Matrix);
    /// Activations; whether dY is given; what lacks its usage; its shape; its name.
    type Case = ([Activation; 2], bool, Spoil, [u32; 2], &'static str);
    let code: Spoil = |parts, m| parts.tape.code = m;
    let output: Spoil = |parts, m| parts.tape.output = m;
    let code_delta: Spoil = |parts, m| parts.tape.code_delta = m;
    let output_delta: Spoil = |parts, m| parts.tape.output_delta = m;
    let output_gradient: Spoil = |parts, m| parts.output_gradient = m;
    let Sizes { batch, inputs, hidden } = SMALL;
    let [wide, narrow] = [[batch, inputs], [batch, hidden]];
    let cases: [Case; 8] = [
        ([Tanh, Sigmoid], true, code, narrow, "tape.code"),
        ([Tanh, Sigmoid], true, output, wide, "tape.output"),
        ([Tanh, Sigmoid], true, output_gradient, wide, "output_gradient"),
        ([Tanh, Sigmoid], true, output_delta, wide, "tape.output_delta"),
        ([Tanh, Sigmoid], true, code_delta, narrow, "tape.code_delta"),
        // dY is dA.
        ([Tanh, Identity], true, output_gradient, wide, "output_gradient"),
        // dA is in the tape already.
        ([Tanh, Identity], false, output_delta, wide, "tape.output_delta"),
        ([Identity, Sigmoid], false, code, narrow, "tape.code"),
    ];
    once_per_adapter(|rig| {
        let given = USAGES - wgpu::BufferUsages::STORAGE;
        let needed = wgpu::BufferUsages::STORAGE;
        for (activations, dy, spoil, shape, name) in cases {
            let mut parts = LayerParts::with_activations(&rig.kernels, activations);
            spoil(&mut parts, matrix_with(rig, shape, given));
            let dy = dy.then_some(&parts.output_gradient);
            let what = format!("{name}, {activations:?}");
            expect_error(&what, parts.backward_from(dy), usage(name, needed, given));
        }

        let shared = || {
            let mut parts = LayerParts::with_activations(&rig.kernels, [Tanh, Sigmoid]);
            parts.tape.code = view_at(parts.tape.output.buffer(), 0, batch, hidden);
            parts
        };
        let aliased = |output, other| Error::Aliased { output, other };
        expect_error("forward", shared().forward(), aliased("tape.output", "tape.code"));
        let mut parts = LayerParts::with_activations(&rig.kernels, [Tanh, Sigmoid]);
        parts.tape.code_delta = view_at(parts.gradients.weight.buffer(), 0, batch, hidden);
        let want = aliased("gradients.weight", "tape.code_delta");
        expect_error("backward", parts.backward(), want);

        let new = || LayerParts::with_activations(&rig.kernels, [Tanh, Sigmoid]);
        let mut parts = new();
        let delta = parts.tape.code_delta.buffer();
        parts.gradients.encoder_bias = Some(view_at(delta, 0, 1, hidden));
        let want = aliased("gradients.encoder_bias", "tape.code_delta");
        expect_error("backward", parts.backward(), want);
        let mut parts = new();
        let delta = parts.tape.output_delta.buffer();
        parts.gradients.decoder_bias = Some(view_at(delta, 0, 1, inputs));
        let want = aliased("gradients.decoder_bias", "tape.output_delta");
        expect_error("backward", parts.backward(), want);
    });
}

#[test]
fn a_bias_of_another_length_is_refused() {
    once_per_adapter(|rig| {
        let kernels = &rig.kernels;
        let weight = Weight::new(kernels, kernels.zeros("w", 3, 7).unwrap()).unwrap();
        for [rows, columns] in [[1, 7], [1, 4], [2, 3], [3, 1]] {
            let bias = kernels.zeros("b", rows, columns).unwrap();
            let result = Encoder::new(kernels, &weight, Some(bias), Activation::Relu);
            expect_error("encoder", result, shape("bias", [1, 3], [rows, columns]));
        }
        for [rows, columns] in [[1, 3], [1, 8], [2, 7], [7, 1]] {
            let bias = kernels.zeros("b", rows, columns).unwrap();
            let result = Decoder::new(kernels, &weight, Some(bias), Activation::Relu);
            expect_error("decoder", result, shape("bias", [1, 7], [rows, columns]));
        }
    });
}

#[test]
fn a_bias_without_a_gradient_is_missed() {
    once_per_adapter(|rig| {
        let missing = |operand| Error::Missing { operand, reason: "the layer has this bias" };
        let mut parts = LayerParts::new(&rig.kernels);
        parts.gradients.encoder_bias = None;
        expect_error("encoder", parts.backward(), missing("gradients.encoder_bias"));
        let mut parts = LayerParts::new(&rig.kernels);
        parts.gradients.decoder_bias = None;
        expect_error("decoder", parts.backward(), missing("gradients.decoder_bias"));
    });
}

#[test]
fn a_pre_activation_that_the_tape_lacks_is_missed() {
    type Take = fn(&mut Tape);
    once_per_adapter(|rig| {
        let lacking: [(&str, Take); 2] = [
            ("tape.code_preactivation", |tape| tape.code_preactivation = None),
            ("tape.output_preactivation", |tape| tape.output_preactivation = None),
        ];
        for (operand, take) in lacking {
            let mut parts = LayerParts::new(&rig.kernels);
            take(&mut parts.tape);
            let reason = "this activation's derivative is computed from its input";
            expect_error(operand, parts.backward(), Error::Missing { operand, reason });
        }
    });
}

#[test]
fn a_derivative_without_what_it_is_computed_from_is_missed() {
    once_per_adapter(|rig| {
        let kernels = &rig.kernels;
        let m = || kernels.zeros("m", 2, 2).unwrap();
        let weight = Weight::new(kernels, m()).unwrap();
        let [a, b, c] = [m(), m(), m()];
        let one = kernels.zeros("one", 1, 1).unwrap();
        for activation in Activation::ALL {
            let gradient = tied_linear::kernels::Gradient::new(&a, &b).through(activation, None);
            let through = tied_linear::kernels::ActivationGradient {
                gradient: &a,
                activation,
                saved: None,
                delta: &b,
            };
            let loss =
                LossGradient::new(&a, &b, &one).with_delta(Some(&c)).through(activation, None);
            let results = [
                ("code_gradient", kernels.code_gradient(&weight, &gradient)),
                ("input_gradient", kernels.input_gradient(&weight, &gradient)),
                ("activation_gradient", kernels.activation_gradient(&through)),
                ("squared_error", kernels.squared_error(&loss)),
                ("cross_entropy", kernels.cross_entropy(&loss)),
            ];
            for (what, result) in results {
                let what = format!("{what} through {activation}");
                if activation == Activation::Identity {
                    assert!(result.is_ok(), "{what}: {:?}", result.err());
                    continue;
                }
                let reason = if activation.needs_preactivation() {
                    "this activation's derivative is computed from its input"
                } else {
                    "this activation's derivative is computed from its output"
                };
                let operand = "saved";
                expect_error(&what, result, Error::Missing { operand, reason });
            }
        }
    });
}

#[test]
fn two_weights_are_not_tied() {
    once_per_adapter(|rig| {
        let kernels = &rig.kernels;
        // Equal values, even the same buffer, but other elements.
        let buffer = buffer(&rig.gpu.device, 64, USAGES);
        let weight = |offset| Weight::new(kernels, view_at(&buffer, offset, 2, 3)).unwrap();
        let [first, again, second] = [weight(0), weight(0), weight(8)];
        let halves = |encoder: &Weight, decoder: &Weight| {
            let encoder = Encoder::new(kernels, encoder, None, Activation::Relu).unwrap();
            let decoder = Decoder::new(kernels, decoder, None, Activation::Relu).unwrap();
            TiedLinear::from_halves(encoder, decoder)
        };
        halves(&first, &again).expect("the same elements");
        expect_error("two weights", halves(&first, &second), Error::NotTied);
    });
}

/// Updates of a set by SGD with momentum and by Adam, each with a state for matrices like `shapes`.
fn update_results(
    rig: &Rig,
    parameters: &[ParameterUpdate<'_>],
    shapes: &[&Matrix],
) -> [Result<tied_linear::Commands>; 2] {
    let settings = &settings(&rig.gpu.device, wgpu::BufferUsages::empty());
    let kernels = &rig.kernels;
    let sgd = SgdState::new(kernels, shapes).and_then(|state| {
        kernels.sgd(&SgdUpdate { parameters, state: Some(&state), settings, loss_scale: None })
    });
    let adam = AdamState::new(kernels, shapes).and_then(|state| {
        kernels.adam(&AdamUpdate { parameters, state: &state, settings, loss_scale: None })
    });
    [sgd, adam]
}

#[test]
fn a_set_of_more_than_three_parameters_is_refused() {
    once_per_adapter(|rig| {
        let matrices: Vec<_> = (0..10).map(|_| rig.kernels.zeros("m", 2, 3).unwrap()).collect();
        let (values, gradients) = matrices.split_at(5);
        let pairs = std::iter::zip(values, gradients);
        let updates: Vec<_> =
            pairs.map(|(value, gradient)| ParameterUpdate { value, gradient }).collect();
        let values: Vec<_> = values.iter().collect();
        for count in 0..=3 {
            for result in update_results(rig, &updates[..count], &values[..count]) {
                assert_eq!(result.expect("a set").len(), count.min(1), "{count} parameters");
            }
        }
        for given in [4, 5] {
            let want = Error::TooManyParameters { given, most: 3 };
            // The state is not even made.
            for result in update_results(rig, &updates[..3], &values[..given]) {
                expect_error("state", result, want.clone());
            }
            for result in update_results(rig, &updates[..given], &values[..3]) {
                expect_error("parameters", result, want.clone());
            }
            let settings = &settings(&rig.gpu.device, wgpu::BufferUsages::empty());
            let parameters = &updates[..given];
            let result =
                rig.kernels.sgd(&SgdUpdate { parameters, state: None, settings, loss_scale: None });
            expect_error("no state", result, want);
        }
        for (updated, kept) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
            for result in update_results(rig, &updates[..updated], &values[..kept]) {
                let reason = "it was made for another number of parameters";
                let want = Error::Incompatible { what: "state", reason };
                expect_error("another number", result, want);
            }
        }
    });
}

/// A parameter that is listed twice would be updated twice, at the same time.
#[test]
fn a_parameter_twice_in_a_set_is_refused() {
    once_per_adapter(|rig| {
        let matrix = || rig.kernels.zeros("m", 2, 4).unwrap();
        let (values, gradients) = ([matrix(), matrix()], [matrix(), matrix(), matrix()]);
        let again = Matrix::new(values[0].buffer(), 2, 4).unwrap();
        let row = values[0].row_range(1..2).unwrap();
        let row_gradient = gradients[2].row_range(0..1).unwrap();
        for (twice, gradient) in [(&again, &gradients[2]), (&row, &row_gradient)] {
            for place in [1, 2] {
                let mut updates = vec![
                    ParameterUpdate { value: &values[0], gradient: &gradients[0] },
                    ParameterUpdate { value: &values[1], gradient: &gradients[1] },
                ];
                updates.insert(place, ParameterUpdate { value: twice, gradient });
                let shapes: Vec<_> = updates.iter().map(|update| update.value).collect();
                for result in update_results(rig, &updates, &shapes) {
                    let names =
                        ["parameters[0].value", "parameters[1].value", "parameters[2].value"];
                    let want = Error::Aliased { output: names[0], other: names[place] };
                    expect_error("twice", result, want);
                }
            }
        }
    });
}

#[test]
fn a_state_that_is_an_operand_of_its_own_update_is_refused() {
    once_per_adapter(|rig| {
        let settings = &settings(&rig.gpu.device, wgpu::BufferUsages::empty());
        let kernels = &rig.kernels;
        let other = kernels.zeros("m", 2, 4).unwrap();
        let sgd = SgdState::new(kernels, &[&other]).unwrap();
        let adam = AdamState::new(kernels, &[&other]).unwrap();
        let check = |state, kept: &Matrix, update: &dyn Fn(&[ParameterUpdate<'_>]) -> Error| {
            let error = update(&[ParameterUpdate { value: &other, gradient: kept }]);
            let gradient = "parameters[0].gradient";
            assert_eq!(error, Error::Aliased { output: state, other: gradient });
            let error = update(&[ParameterUpdate { value: kept, gradient: &other }]);
            let value = "parameters[0].value";
            assert_eq!(error, Error::Aliased { output: value, other: state });
        };
        check("state", &sgd.velocities()[0], &|parameters| {
            let result = kernels.sgd(&SgdUpdate {
                parameters,
                state: Some(&sgd),
                settings,
                loss_scale: None,
            });
            expect_any_error("sgd", result)
        });
        let moments = &adam.moments()[0];
        for (state, kept) in
            [("state", moments.first_moment()), ("second_moments", moments.second_moment())]
        {
            check(state, kept, &|parameters| {
                let result = kernels.adam(&AdamUpdate {
                    parameters,
                    state: &adam,
                    settings,
                    loss_scale: None,
                });
                expect_any_error("adam", result)
            });
        }
    });
}

/// The caller of an optimizer does not see in which sets it updates its parameters.
#[test]
fn an_optimizer_calls_a_parameter_by_its_name() {
    once_per_adapter(|rig| {
        let given = USAGES - wgpu::BufferUsages::STORAGE;
        let needed = wgpu::BufferUsages::STORAGE;
        let shapes = [[1, 3], [1, 4], [2, 9], [1, 5], [2, 8]];
        let names = ["one", "two", "three", "four", "five"];
        for spoilt in 0..5 {
            let value = |index: usize| {
                let usage = if index == spoilt { given } else { USAGES };
                matrix_with(rig, shapes[index], usage)
            };
            let values: Vec<_> = (0..5).map(value).collect();
            let parameters = names.iter().zip(&values);
            let parameters = parameters.map(|(name, value)| Parameter::new(*name, value.clone()));
            let parameters = parameters.collect();
            let gradients: Vec<_> =
                shapes.iter().map(|shape| matrix_with(rig, *shape, USAGES)).collect();
            let pairs: Vec<_> = values.iter().zip(&gradients).collect();
            for settings in [
                OptimizerSettings::from(SgdSettings::new(0.1).with_momentum(0.9)),
                AdamSettings::adam(0.1).into(),
            ] {
                let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
                let want = usage(names[spoilt], needed, given);
                expect_error(names[spoilt], optimizer.update(&pairs), want);
            }
        }
    });
}

#[test]
fn an_optimizer_wants_a_fitting_gradient_for_each_parameter() {
    once_per_adapter(|rig| {
        let parts = LayerParts::new(&rig.kernels);
        let parameters = parts.layer.parameters();
        let pairs = parts.gradients.pairs(&parts.layer);
        let settings: [OptimizerSettings; 3] = [
            SgdSettings::new(0.1).into(),
            SgdSettings::new(0.1).with_momentum(0.9).into(),
            AdamSettings::adam(0.1).into(),
        ];
        for settings in settings {
            let optimizer = Optimizer::new(&rig.kernels, &parameters, settings).unwrap();
            let commands = optimizer.update(&pairs).expect("valid as it stands");
            assert_eq!(commands.len(), 1);
            for (index, parameter) in parameters.iter().enumerate() {
                let parameter = parameter.name.clone();
                let what = parameter.as_ref();
                let mut fewer = pairs.clone();
                let (value, gradient) = fewer.remove(index);
                let want = Error::NoGradient { parameter: parameter.clone() };
                expect_error(what, optimizer.update(&fewer), want);
                let wrong = rig.kernels.zeros("wrong", 9, 9).unwrap();
                fewer.push((value, &wrong));
                let want = shape("gradient", gradient.shape(), [9, 9]);
                expect_error(what, optimizer.update(&fewer), want);
            }
        }
    });
}

#[test]
fn a_training_step_wants_input_and_target_of_the_layers_size() {
    once_per_adapter(|rig| {
        let kernels = &rig.kernels;
        let Sizes { batch, inputs, hidden } = SMALL;
        let layer = TiedLinear::new(kernels, &TiedLinearOptions::new(inputs, hidden)).unwrap();
        let settings = SgdSettings::new(0.1);
        let optimizer = Optimizer::new(kernels, &layer.parameters(), settings).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        let step = |input: [u32; 2], target: [u32; 2]| {
            let [input, target] =
                [input, target].map(|[rows, columns]| kernels.zeros("x", rows, columns).unwrap());
            let options = TrainingOptions::default();
            TrainingStep::new(&layer, &optimizer, &gradients, &input, &target, options)
        };
        let right = [batch, inputs];
        step(right, right).expect("fits");
        let wrong = [batch, inputs + 1];
        expect_error("input", step(wrong, right), shape("input", right, wrong));
        expect_error("target", step(right, wrong), shape("target", right, wrong));
        let wrong = [batch + 1, inputs];
        expect_error("target", step(right, wrong), shape("target", right, wrong));
    });
}

#[test]
fn a_cross_entropy_of_anything_but_logits_is_refused() {
    once_per_adapter(|rig| {
        let kernels = &rig.kernels;
        let Sizes { batch, inputs, hidden } = SMALL;
        let input = kernels.zeros("x", batch, inputs).unwrap();
        for activation in Activation::ALL {
            let options = TiedLinearOptions::new(inputs, hidden)
                .with_activations(Activation::Sigmoid, activation);
            let layer = TiedLinear::new(kernels, &options).unwrap();
            let settings = SgdSettings::new(0.1);
            let optimizer = Optimizer::new(kernels, &layer.parameters(), settings).unwrap();
            let gradients = Gradients::new(&layer).unwrap();
            let step = |loss| {
                let options = TrainingOptions::default().with_loss(loss);
                TrainingStep::new(&layer, &optimizer, &gradients, &input, &input, options)
            };
            step(Loss::SquaredError).expect("any activation");
            let result = step(Loss::BinaryCrossEntropy);
            if activation == Activation::Identity {
                result.expect("logits");
                continue;
            }
            let want = Error::Incompatible {
                what: "decoder_activation",
                reason: "the binary cross-entropy takes logits, so it must be the identity",
            };
            expect_error(activation.name(), result, want);
        }
    });
}

#[test]
fn settings_outside_their_range_are_refused() {
    let sgd = SgdSettings::new(0.1).with_momentum(0.9);
    let adam = AdamSettings::adamw(0.1);
    let not_negative = "a finite number of at least 0";
    let share = "in 0 … 1, without 1";
    let mut cases: Vec<(OptimizerSettings, _, _, f64)> = Vec::new();
    // The last is finite, but not as the f32 that the kernels read.
    for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39] {
        let sgd_cases = [
            (SgdSettings { learning_rate: bad, ..sgd }, "learning_rate"),
            (SgdSettings { momentum: bad, ..sgd }, "momentum"),
            (SgdSettings { weight_decay: bad, ..sgd }, "weight_decay"),
        ];
        let adam_cases = [
            (AdamSettings { learning_rate: bad, ..adam }, "learning_rate"),
            (AdamSettings { epsilon: bad, ..adam }, "epsilon"),
            (AdamSettings { weight_decay: bad, ..adam }, "weight_decay"),
        ];
        cases.extend(sgd_cases.map(|(settings, name)| (settings.into(), name, not_negative, bad)));
        cases.extend(adam_cases.map(|(settings, name)| (settings.into(), name, not_negative, bad)));
    }
    for bad in [-0.5, 1.0, 1.5, f64::NAN, f64::INFINITY] {
        for betas in [[bad, 0.9], [0.9, bad]] {
            cases.push((adam.with_betas(betas).into(), "betas", share, bad));
        }
    }
    let still = SgdSettings::new(0.1).with_nesterov(true);
    cases.push((still.into(), "momentum", "above 0 where nesterov is on", 0.0));

    once_per_adapter(|rig| {
        let parts = LayerParts::new(&rig.kernels);
        let parameters = parts.layer.parameters();
        for &(settings, name, expected, given) in &cases {
            let what = format!("{settings:?}");
            let want = Error::Setting { name, expected, given };
            let uniform = match settings {
                OptimizerSettings::Sgd(settings) => settings.to_uniform(),
                OptimizerSettings::Adam(settings) => settings.to_uniform(),
                _ => unreachable!("settings that the tests do not know"),
            };
            expect_error(&what, uniform, want.clone());
            let result = Optimizer::new(&rig.kernels, &parameters, settings);
            expect_error(&what, result, want);
        }
    });
}

#[test]
fn a_learning_rate_that_is_refused_changes_nothing() {
    once_per_adapter(|rig| {
        let kernels = &rig.kernels;
        let Gpu { device, queue, .. } = &rig.gpu;
        let value = kernels.matrix("value", 1, 1, &[8.0]).unwrap();
        let gradient = kernels.matrix("gradient", 1, 1, &[1.0]).unwrap();
        let parameter = tied_linear::Parameter::new("value", value.clone());
        let parameters = [parameter].into_iter().collect();
        let mut optimizer = Optimizer::new(kernels, &parameters, SgdSettings::new(0.5)).unwrap();
        for given in [-1.0, f64::NAN, f64::INFINITY] {
            let want = Error::Setting {
                name: "learning_rate",
                expected: "a finite number of at least 0",
                given,
            };
            let result = optimizer.set_learning_rate(device, queue, given);
            expect_error("set_learning_rate", result, want);
        }
        let other = twin(rig).gpu;
        let result = optimizer.set_learning_rate(&other.device, &other.queue, 0.25);
        let what = "optimizer";
        expect_error("another device", result, Error::DeviceMismatch { what });
        assert_eq!(optimizer.settings(), SgdSettings::new(0.5).into());
        rig.run(&optimizer.update(&[(&value, &gradient)]).unwrap());
        assert_eq!(rig.get(&value), [7.5]);
        optimizer.set_learning_rate(device, queue, 0.25).unwrap();
        rig.run(&optimizer.update(&[(&value, &gradient)]).unwrap());
        assert_eq!(rig.get(&value), [7.25]);
    });
}

// Devices.

#[test]
fn handles_of_another_device_are_refused() {
    once_per_adapter(|rig| {
        let twin = twin(rig);
        let [here, there] = [&rig.kernels, &twin.kernels];
        let weight = |kernels: &Kernels| {
            Weight::new(kernels, kernels.zeros("weight", 2, 2).unwrap()).unwrap()
        };
        let matrix = || here.zeros("m", 2, 2).unwrap();
        let foreign = weight(there);
        let what = "weight";
        let mismatch = Error::DeviceMismatch { what };
        let [input, output] = [matrix(), matrix()];
        let call = Linear::new(&input, &output);
        expect_error("encode", here.encode(&foreign, &call), mismatch.clone());
        expect_error("decode", here.decode(&foreign, &call), mismatch.clone());
        let call = tied_linear::kernels::Gradient::new(&input, &output);
        let result = here.code_gradient(&foreign, &call);
        expect_error("code_gradient", result, mismatch.clone());
        let result = here.input_gradient(&foreign, &call);
        expect_error("input_gradient", result, mismatch.clone());

        let encoder = Encoder::new(here, &foreign, None, Activation::Relu);
        expect_error("encoder", encoder, mismatch.clone());
        let decoder = Decoder::new(here, &foreign, None, Activation::Relu);
        expect_error("decoder", decoder, mismatch);

        let [value, gradient] = [matrix(), matrix()];
        let there_value = there.zeros("value", 2, 2).unwrap();
        let settings = &settings(&rig.gpu.device, wgpu::BufferUsages::empty());
        let parameters = &[ParameterUpdate { value: &value, gradient: &gradient }];
        let state = SgdState::new(there, &[&there_value]).unwrap();
        let result =
            here.sgd(&SgdUpdate { parameters, state: Some(&state), settings, loss_scale: None });
        expect_refused("sgd", result);
        let state = AdamState::new(there, &[&there_value]).unwrap();
        let result =
            here.adam(&AdamUpdate { parameters, state: &state, settings, loss_scale: None });
        expect_refused("adam", result);
        let layer = TiedLinear::new(here, &TiedLinearOptions::new(2, 2)).unwrap();
        let settings = SgdSettings::new(0.1);
        let optimizer = Optimizer::new(there, &layer.parameters(), settings).unwrap();
        let gradients = Gradients::new(&layer).unwrap();
        expect_refused("optimizer", optimizer.update(&gradients.pairs(&layer)));
    });
}

#[test]
fn a_lost_device_is_an_error_of_every_call() {
    once_per_adapter(|rig| {
        let rig = twin(rig);
        let Rig { gpu, kernels, .. } = &rig;
        let Gpu { device, queue, .. } = gpu;
        let matrix = kernels.matrix("m", 2, 2, &[1.0; 4]).unwrap();
        let parts = LayerParts::new(kernels);
        let settings = SgdSettings::new(0.1);
        let parameters = parts.layer.parameters();
        let mut optimizer = Optimizer::new(kernels, &parameters, settings).unwrap();
        let readback = Readback::new(device, &matrix).unwrap();
        let calls: Vec<_> =
            CALLS.iter().map(|call| (call, Operands::new(&rig, call, SMALL))).collect();

        device.destroy();
        for (call, operands) in &calls {
            let result = (call.make)(kernels, operands);
            expect_error(call.name, result, Error::DeviceLost);
        }
        let results = [
            ("Kernels::new", Kernels::new(device, KernelOptions::default()).map(drop)),
            ("zeros", kernels.zeros("m", 2, 2).map(drop)),
            ("matrix", kernels.matrix("m", 2, 2, &[0.0; 4]).map(drop)),
            ("Weight::new", Weight::new(kernels, matrix.clone()).map(drop)),
            ("TiedLinear::new", TiedLinear::new(kernels, &TiedLinearOptions::new(2, 2)).map(drop)),
            ("forward", parts.forward()),
            ("backward", parts.backward()),
            ("Tape::new", Tape::new(&parts.layer, 2).map(drop)),
            ("Gradients::new", Gradients::new(&parts.layer).map(drop)),
            ("Optimizer::new", Optimizer::new(kernels, &parameters, settings).map(drop)),
            ("update", optimizer.update(&parts.gradients.pairs(&parts.layer)).map(drop)),
            ("set_learning_rate", optimizer.set_learning_rate(device, queue, 0.2)),
            ("write", matrix.write(device, queue, &[2.0; 4])),
            ("read", pollster::block_on(matrix.read(device, queue)).map(drop)),
            ("read_blocking", matrix.read_blocking(device, queue).map(drop)),
            ("Readback::new", Readback::new(device, &matrix).map(drop)),
            ("Readback::read_blocking", readback.read_blocking().map(drop)),
        ];
        let wrong: Vec<_> =
            results.into_iter().filter(|(_, result)| *result != Err(Error::DeviceLost)).collect();
        assert!(wrong.is_empty(), "not DeviceLost: {wrong:#?}");
    });
}

#[test]
fn a_device_lost_while_a_readback_is_under_way_ends_it() {
    once_per_adapter(|rig| {
        let rig = twin(rig);
        let Gpu { device, queue, .. } = &rig.gpu;
        let matrix = rig.kernels.zeros("m", 2, 2).unwrap();
        let readback = Readback::new(device, &matrix).unwrap();
        let mut encoder = device.create_command_encoder(&Default::default());
        readback.record(&mut encoder);
        queue.submit([encoder.finish()]);
        let values = readback.read().unwrap();
        device.destroy();
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let result = pollster::block_on(values);
        expect_error("the future", result, Error::DeviceLost);
    });
}

/// Set in the processes that tests start for themselves.
const CHILD: &str = "TIED_LINEAR_TEST_CHILD";

/// Runs the test of this name alone, in a process of its own, which `start` makes of the path of
/// this program; fails if it fails.
fn in_a_child(test: &str, start: impl FnOnce(&std::path::Path) -> Command) {
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = start(&program);
    child.args(["--exact", test, "--nocapture"]).env(CHILD, "1");
    let output = child.output().expect("a child process");
    let [out, err] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        output.status.success() && out.contains("1 passed"),
        "the child process failed ({}):\n{out}\n{err}",
        output.status
    );
    print!("{out}");
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
fn no_adapter_is_an_error_that_tells_what_was_looked_for() {
    let name = "an adapter of no such name";
    if !is_child() {
        // The environment is the process's, so other tests must not share it.
        in_a_child("no_adapter_is_an_error_that_tells_what_was_looked_for", |program| {
            let mut child = Command::new(program);
            child.env("WGPU_ADAPTER_NAME", name);
            child
        });
        return;
    }
    let Err(error) = Gpu::request_blocking() else {
        panic!("an adapter with the name \"{name}\"");
    };
    assert!(matches!(error, Error::NoAdapter { .. }), "{error:?}");
    expect_message("no adapter", &error);
    let message = error.to_string();
    for part in ["Vulkan", "Metal", "DX12", "OpenGL", "WGPU_BACKEND", name] {
        assert!(message.contains(part), "\"{part}\" is not in \"{message}\"");
    }
}

/// On a device whose memory counts as exhausted long before it is, where the driver tells how much
/// there is. Software adapters take memory from the process, whose limit can be set without harm to
/// others. What is left are real devices that tell nothing, whose limit of a buffer is checked.
#[test]
fn exhausted_memory_is_an_error_and_the_device_goes_on() {
    const NAME: &str = "exhausted_memory_is_an_error_and_the_device_goes_on";
    if is_child() {
        once_per_adapter(exhaust);
        return;
    }
    once_per_adapter(|rig| {
        let small = rig.with_limits(|limits| limits.max_buffer_size = 1 << 20);
        let over = limit("m", "max_buffer_size", (1 << 20) + 4, 1 << 20);
        expect_error("zeros", small.kernels.zeros("m", 1, (1 << 18) + 1), over);

        let info = rig.gpu.adapter.get_info();
        if let Some(rig) = with_memory_budget(rig) {
            println!("by a budget");
            exhaust(&rig);
        } else if info.backend == wgpu::Backend::Gl {
            println!(
                "by a limit of buffers alone: wgpu hears nothing of exhausted memory from OpenGL"
            );
        } else if cfg!(target_os = "linux") && info.device_type == wgpu::DeviceType::Cpu {
            println!("by a limit of the process");
            in_a_child(NAME, |program| {
                let mut shell = Command::new("sh");
                // 8 GiB of addresses; nothing writes to the memory, so little of it is ever used.
                shell.args(["-c", "ulimit -v 8388608 && exec \"$0\" \"$@\""]);
                shell.arg(program).env("WGPU_ADAPTER_NAME", &info.name);
                shell
            });
        } else {
            println!("by a limit of buffers alone: exhausting this device harms other programs");
        }
    });
}

/// A device on which memory is exhausted beyond a share of what the driver says there is, a little
/// more than is in use. `None` where the driver says nothing, so that a share of nothing is enough.
fn with_memory_budget(rig: &Rig) -> Option<Rig> {
    let with_share = |percent| {
        let thresholds = wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(percent),
            for_device_loss: None,
        };
        rig.of_own_instance(|descriptor| descriptor.memory_budget_thresholds = thresholds)
    };
    match with_share(0) {
        Ok(_) => None,
        Err(error) => {
            assert!(matches!(error, Error::NoAdapter { .. }), "{error:?}");
            let enough = (5..=100).step_by(5).find_map(|percent| with_share(percent).ok());
            Some(enough.expect("a device within its memory").1)
        }
    }
}

/// Takes memory until there is no more, and gives it back.
fn exhaust(rig: &Rig) {
    let Gpu { device, .. } = &rig.gpu;
    let most = (rig.kernels.device().limits().max_buffer_size / 4).min((1 << 31) - 1) as u32;
    let mut held = Vec::new();
    let error = loop {
        match rig.kernels.zeros("held", 1, most) {
            Ok(matrix) => held.push(matrix),
            Err(error) => break error,
        }
        assert!(held.len() < 64, "64 buffers of {most} values");
    };
    assert_eq!(error, Error::OutOfMemory { what: "held" });
    expect_message("zeros", &error);
    if let Some(first) = held.first() {
        let want = Error::OutOfMemory { what: "a readback" };
        expect_error("readback", Readback::new(device, first), want);
    }
    drop(held);
    device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
    let matrix = rig.kernels.matrix("m", 1, 2, &[1.0, 2.0]).unwrap();
    assert_eq!(rig.get(&matrix), [1.0, 2.0]);
}

#[test]
fn errors_can_be_sent_compared_and_chained() {
    fn check<T: std::error::Error + Clone + PartialEq + Send + Sync + 'static>(error: &T) {
        assert_eq!(error, &error.clone());
    }
    check(&Error::NotTied);
    check(&shape("output", [1, 2], [3, 4]));
}

// What the tests share.

/// Another device like this one.
fn twin(rig: &Rig) -> Rig {
    rig.with_limits(|_| {})
}

/// Hands each operand of each call to `check`, with valid operands to spoil; fails if `check` or
/// something in it wrote to them.
fn for_each_operand(rig: &Rig, check: impl Fn(&str, &Call, &Operand, &Operands)) {
    for call in CALLS {
        let operands = Operands::new(rig, call, SMALL);
        let before = operands.bits(rig);
        for operand in call.operands {
            let what = format!("{} of {}", operand.name, call.name);
            check(&what, call, operand, &operands);
        }
        assert_eq!(operands.bits(rig), before, "{} wrote something", call.name);
    }
}

/// As [`for_each_operand`], without the shapes of optimizer states.
fn for_each_bound_operand(rig: &Rig, check: impl Fn(&str, &Call, &Operand, &Operands)) {
    for_each_operand(rig, |what, call, operand, operands| {
        if operand.role != Role::State {
            check(what, call, operand, operands);
        }
    });
}

/// The calls that take settings.
fn updates() -> impl Iterator<Item = &'static Call> {
    let updates = ["sgd", "adam"];
    CALLS.iter().filter(move |call| updates.contains(&call.name))
}

fn matrix_with(rig: &Rig, [rows, columns]: [u32; 2], usage: wgpu::BufferUsages) -> Matrix {
    let size = u64::from(rows) * u64::from(columns) * 4;
    Matrix::new(&buffer(&rig.gpu.device, size, usage), rows, columns).expect("fits")
}

fn view_at(buffer: &wgpu::Buffer, offset: u64, rows: u32, columns: u32) -> Matrix {
    let layout = Layout::contiguous(rows, columns);
    Matrix::view(buffer, Layout { offset, ..layout }).expect("fits")
}

fn shape(operand: &'static str, expected: [u32; 2], given: [u32; 2]) -> Error {
    Error::Shape { operand, expected, given }
}

fn too_many(operand: &'static str, given: u64) -> Error {
    Error::TooManyElements { operand, given, most: (1 << 31) - 1 }
}

fn limit(what: &'static str, limit: &'static str, needed: u64, available: u64) -> Error {
    Error::Limit { what, limit, needed, available }
}

fn usage(operand: &'static str, needed: wgpu::BufferUsages, given: wgpu::BufferUsages) -> Error {
    Error::Usage { operand, needed, given }
}

/// Fails unless `result` is the error `want` and its message tells all that its fields do.
fn expect_error<T>(what: &str, result: Result<T>, want: Error) {
    let error = expect_any_error(what, result);
    // As text, because a setting may be NaN, which equals nothing.
    assert_eq!(format!("{error:?}"), format!("{want:?}"), "{what}");
}

/// Fails unless `result` is an error that wgpu raised and that tells why.
fn expect_refused<T>(what: &str, result: Result<T>) {
    let error = expect_any_error(what, result);
    assert!(matches!(error, Error::Refused { .. }), "{what}: {error:?}");
}

/// Fails unless `result` is an error whose message tells all that its fields do.
fn expect_any_error<T>(what: &str, result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("{what}: no error"),
        Err(error) => {
            expect_message(what, &error);
            error
        }
    }
}

/// Fails unless the message tells all that the error's fields do.
fn expect_message(what: &str, error: &Error) {
    let size = |[rows, columns]: &[u32; 2]| format!("{rows}x{columns}");
    let told: Vec<String> = match error {
        Error::Shape { operand, expected, given } => {
            vec![operand.to_string(), size(expected), size(given)]
        }
        Error::RowStride { columns, row_stride } => {
            vec![columns.to_string(), row_stride.to_string()]
        }
        Error::RowRange { start, end, rows } => vec![format!("{start}..{end}"), rows.to_string()],
        Error::DoesNotFit { operand, needed, given } => {
            vec![operand.to_string(), needed.to_string(), given.to_string()]
        }
        Error::TooManyElements { operand, given, most } => {
            vec![operand.to_string(), given.to_string(), most.to_string()]
        }
        Error::Incompatible { what, reason } => vec![what.to_string(), reason.to_string()],
        Error::Usage { operand, needed, given } => {
            vec![operand.to_string(), format!("{needed:?}"), format!("{given:?}")]
        }
        Error::ElementType { operand, given, reason } => {
            vec![operand.to_string(), given.to_string(), reason.to_string()]
        }
        Error::Limit { what, limit, needed, available } => {
            vec![what.to_string(), limit.to_string(), needed.to_string(), available.to_string()]
        }
        Error::DeviceMismatch { what } => vec![what.to_string(), "another device".to_string()],
        Error::Aliased { output, other } => vec![output.to_string(), other.to_string()],
        Error::Missing { operand, reason } => vec![operand.to_string(), reason.to_string()],
        Error::Setting { name, expected, given } => {
            vec![name.to_string(), expected.to_string(), given.to_string()]
        }
        Error::Length { expected, given } => vec![expected.to_string(), given.to_string()],
        Error::TooManyParameters { given, most } => vec![given.to_string(), most.to_string()],
        Error::NotTied => vec!["not tied".to_string()],
        Error::NoGradient { parameter } => vec![parameter.to_string()],
        Error::In { place, error } => {
            expect_message(what, error);
            vec![place.clone(), error.to_string()]
        }
        Error::Unfitting { outer, inner, hidden, inputs } => {
            vec![
                format!("layer {outer}"),
                format!("layer {inner}"),
                hidden.to_string(),
                inputs.to_string(),
            ]
        }
        Error::Unequal { row, column, encoder, decoder } => vec![
            row.to_string(),
            column.to_string(),
            format!("{encoder:?}"),
            format!("{decoder:?}"),
        ],
        Error::ReadPending => vec!["earlier read".to_string()],
        Error::DeviceLost => vec!["device is lost".to_string()],
        Error::OutOfMemory { what } => vec!["out of device memory".to_string(), what.to_string()],
        Error::Refused { what, description } => vec![what.to_string(), description.clone()],
        Error::NoAdapter { description } => vec![description.clone()],
        _ => panic!("{what}: an error that the tests do not know: {error:?}"),
    };
    let message = error.to_string();
    for part in told {
        assert!(
            !part.is_empty() && message.contains(&part),
            "{what}: \"{part}\" is not in \"{message}\""
        );
    }
}
