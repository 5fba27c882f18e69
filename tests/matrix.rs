//! `Matrix` and `Layout`, and host data written to them and read back.

mod common;

use common::{Place, Rig, USAGES, buffer, once_per_adapter, property_config};
use proptest::prelude::*;
use tied_linear::headless::Gpu;
use tied_linear::kernels::BiasGradient;
use tied_linear::{Accumulate, ElementType, Layout, Matrix, Readback, wgpu};

#[test]
fn element_types_know_their_size_and_name() {
    let known = [
        (ElementType::F32, 4, "f32"),
        (ElementType::F16, 2, "f16"),
        (ElementType::Bf16, 2, "bf16"),
    ];
    for (element, size, name) in known {
        assert_eq!(element.size(), size, "{name}");
        assert_eq!(element.to_string(), name);
    }
    assert_eq!(ElementType::default(), ElementType::F32);
}

#[test]
fn a_contiguous_layout_has_no_offset_and_no_gaps() {
    let want = Layout { offset: 0, rows: 3, columns: 5, row_stride: 5, element: ElementType::F32 };
    assert_eq!(Layout::contiguous(3, 5), want);
}

#[test]
fn a_view_tells_its_shape_its_length_and_its_bytes() {
    let [single, half] = [ElementType::F32, ElementType::F16];
    // Offset, rows, columns, row stride and element; length and bytes.
    let cases = [
        ([0, 3, 5, 5], single, 15, 0..60),
        ([7, 3, 5, 5], single, 15, 28..88),
        ([7, 3, 5, 9], single, 15, 28..120),
        ([7, 3, 5, 9], half, 15, 14..60),
        ([7, 1, 5, 9], single, 5, 28..48),
        ([7, 3, 1, 9], single, 3, 28..104),
        ([7, 0, 5, 9], single, 0, 28..28),
        ([7, 3, 0, 9], single, 0, 28..28),
        ([7, 3, 0, 0], half, 0, 14..14),
        ([0, 0, 0, 0], single, 0, 0..0),
        // Empty views take no bytes, however many rows they have.
        ([0, u32::MAX, 0, u32::MAX], single, 0, 0..0),
        ([0, 0, u32::MAX, u32::MAX], single, 0, 0..0),
    ];
    once_per_adapter(|rig| {
        let buffer = buffer(&rig.gpu.device, 120, USAGES);
        for ([offset, rows, columns, row_stride], element, length, bytes) in cases.clone() {
            let layout = Layout { offset: offset.into(), rows, columns, row_stride, element };
            let matrix = Matrix::view(&buffer, layout).expect("fits");
            let what = format!("{layout:?}");
            assert_eq!(matrix.layout(), layout);
            assert_eq!(*matrix.buffer(), buffer, "{what}");
            assert_eq!([matrix.rows(), matrix.columns()], [rows, columns], "{what}");
            assert_eq!(matrix.shape(), [rows, columns], "{what}");
            assert_eq!(matrix.len(), length, "{what}");
            assert_eq!(matrix.is_empty(), length == 0, "{what}");
            assert_eq!(matrix.byte_range(), bytes, "{what}");
        }
        let tight = Matrix::new(&buffer, 5, 6).expect("fits");
        assert_eq!(tight.layout(), Layout::contiguous(5, 6));
    });
}

#[test]
fn matrices_are_equal_where_buffer_and_layout_are() {
    once_per_adapter(|rig| {
        let [one, other] = [(); 2].map(|()| buffer(&rig.gpu.device, 64, USAGES));
        let matrix = Matrix::new(&one, 2, 4).unwrap();
        assert_eq!(matrix, matrix.clone());
        assert_eq!(matrix, Matrix::new(&one, 2, 4).unwrap());
        assert_eq!(matrix, matrix.row_range(0..2).unwrap());
        assert_ne!(matrix, Matrix::new(&other, 2, 4).unwrap());
        assert_ne!(matrix, Matrix::new(&one, 4, 2).unwrap());
        assert_ne!(matrix, matrix.row_range(0..1).unwrap());
    });
}

#[test]
fn a_row_range_is_a_view_of_these_rows() {
    once_per_adapter(|rig| {
        for place in PLACES {
            let values: Vec<f32> = (0..15_u8).map(f32::from).collect();
            let matrix = rig.put_f32(5, 3, &values, place);
            let layout = matrix.layout();
            for [start, end] in [[0, 5], [0, 1], [1, 3], [4, 5], [0, 0], [2, 2], [5, 5]] {
                let what = format!("{start}..{end} in {place:?}");
                let rows = matrix.row_range(start..end).expect(&what);
                let want = Layout {
                    offset: layout.offset + u64::from(start * layout.row_stride),
                    rows: end - start,
                    ..layout
                };
                assert_eq!(rows.layout(), want, "{what}");
                let within = [start, end].map(|row| row as usize * 3);
                assert_eq!(rig.get(&rows), values[within[0]..within[1]], "{what}");
            }
            let nested = matrix.row_range(1..4).unwrap().row_range(1..2).unwrap();
            assert_eq!(nested, matrix.row_range(2..3).unwrap(), "{place:?}");
            let written = matrix.row_range(1..3).unwrap();
            write(rig, &written, &[-1.0; 6]);
            let mut want = values.clone();
            want[3..9].fill(-1.0);
            assert_eq!(rig.get(&matrix), want, "{place:?}");
        }
    });
}

#[test]
fn a_row_range_of_an_empty_matrix_is_empty_wherever_it_would_lie() {
    once_per_adapter(|rig| {
        let layout = Layout { row_stride: u32::MAX, ..Layout::contiguous(u32::MAX, 0) };
        let buffer = buffer(&rig.gpu.device, 16, USAGES);
        let matrix = Matrix::view(&buffer, layout).unwrap();
        for [start, end] in [[0, 1], [1, 2], [0, u32::MAX], [u32::MAX - 1, u32::MAX]] {
            let rows = matrix.row_range(start..end).unwrap();
            assert_eq!(rows.shape(), [end - start, 0]);
            assert!(rows.byte_range().is_empty(), "{:?}", rows.byte_range());
            write(rig, &rows, &[]);
            assert!(rig.get(&rows).is_empty());
        }
    });
}

#[test]
fn values_lie_row_by_row_and_new_ones_are_zero() {
    once_per_adapter(|rig| {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let matrix = rig.kernels.matrix("m", 2, 3, &values).unwrap();
        assert_eq!(matrix.layout(), Layout::contiguous(2, 3));
        assert_eq!(rig.get(&matrix), values);
        assert_eq!(rig.get(&matrix.row_range(1..2).unwrap()), [4.0, 5.0, 6.0]);
        let zeros = rig.kernels.zeros("m", 2, 3).unwrap();
        assert_eq!(zeros.layout(), Layout::contiguous(2, 3));
        assert_eq!(rig.bits(&zeros), [0; 6]);
        for [rows, columns] in [[0, 3], [3, 0], [0, 0]] {
            let empty = rig.kernels.matrix("m", rows, columns, &[]).unwrap();
            assert_eq!(empty.shape(), [rows, columns]);
            assert!(empty.is_empty());
            let empty = rig.kernels.zeros("m", rows, columns).unwrap();
            assert_eq!(empty.shape(), [rows, columns]);
            assert!(empty.is_empty());
        }
    });
}

#[test]
fn a_write_leaves_what_lies_around_and_between_its_rows() {
    once_per_adapter(|rig| {
        let values: Vec<f32> = (0..35_u8).map(f32::from).collect();
        for place in PLACES {
            for [rows, columns] in [[5, 7], [7, 5], [35, 1], [1, 35]] {
                let what = format!("{rows}x{columns} in {place:?}");
                let matrix = rig.poisoned(rows, columns, place);
                write(rig, &matrix, &values);
                assert_eq!(rig.get(&matrix), values, "{what}");
                rig.expect_surroundings_untouched(&what, &matrix);
            }
        }
    });
}

#[test]
fn a_read_leaves_out_what_lies_between_the_rows() {
    once_per_adapter(|rig| {
        let all: Vec<f32> = (0..20_u8).map(f32::from).collect();
        let whole = rig.kernels.matrix("m", 1, 20, &all).unwrap();
        let layout =
            Layout { offset: 3, rows: 3, columns: 2, row_stride: 7, element: ElementType::F32 };
        let view = Matrix::view(whole.buffer(), layout).unwrap();
        assert_eq!(rig.get(&view), [3.0, 4.0, 10.0, 11.0, 17.0, 18.0]);
        let Gpu { device, .. } = &rig.gpu;
        let readback = Readback::new(device, &view).unwrap();
        let mut encoder = device.create_command_encoder(&Default::default());
        readback.record(&mut encoder);
        rig.gpu.queue.submit([encoder.finish()]);
        assert_eq!(readback.read_blocking().unwrap(), rig.get(&view));
    });
}

#[test]
fn an_empty_matrix_is_written_and_read_without_touching_anything() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        for place in PLACES {
            for [rows, columns] in [[0, 3], [3, 0], [0, 0]] {
                let what = format!("{rows}x{columns} in {place:?}");
                let matrix = rig.poisoned(rows, columns, place);
                write(rig, &matrix, &[]);
                assert!(rig.get(&matrix).is_empty(), "{what}");
                let values = pollster::block_on(matrix.read(device, queue));
                assert_eq!(values, Ok(vec![]), "{what}");
                let readback = Readback::new(device, &matrix).unwrap();
                let mut encoder = device.create_command_encoder(&Default::default());
                readback.record(&mut encoder);
                queue.submit([encoder.finish()]);
                assert_eq!(readback.read_blocking(), Ok(vec![]), "{what}");
                rig.expect_surroundings_untouched(&what, &matrix);
            }
        }
    });
}

#[test]
fn every_bit_of_a_value_survives() {
    once_per_adapter(|rig| {
        let bits = [
            f32::MAX.to_bits(),
            f32::MIN_POSITIVE.to_bits(),
            f32::INFINITY.to_bits(),
            f32::NEG_INFINITY.to_bits(),
            (-0.0_f32).to_bits(),
            // Subnormal numbers, and NaNs that carry something.
            1,
            0x807f_ffff,
            0x7fc0_1234,
            0xff80_0001,
        ];
        let values = bits.map(f32::from_bits);
        let matrix = rig.kernels.matrix("m", 3, 3, &values).unwrap();
        assert_eq!(rig.bits(&matrix), bits);
        for place in PLACES {
            let matrix = rig.poisoned(3, 3, place);
            write(rig, &matrix, &values);
            assert_eq!(rig.bits(&matrix), bits, "{place:?}");
        }
    });
}

#[test]
fn a_write_comes_after_what_was_submitted_before_it_and_before_what_is_submitted_next() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        let delta = rig.kernels.matrix("delta", 2, 1, &[1.0, 2.0]).unwrap();
        let sum = rig.kernels.matrix("sum", 1, 1, &[0.0]).unwrap();
        let add = rig.kernels.bias_gradient(&BiasGradient {
            delta: &delta,
            gradient: &sum,
            accumulate: Accumulate::Add,
        });
        let add = add.unwrap();
        let submit = || {
            let mut encoder = device.create_command_encoder(&Default::default());
            add.record(&mut encoder.begin_compute_pass(&Default::default()));
            queue.submit([encoder.finish()]);
        };
        submit();
        delta.write(device, queue, &[10.0, 20.0]).unwrap();
        submit();
        delta.write(device, queue, &[100.0, 200.0]).unwrap();
        delta.write(device, queue, &[1000.0, 2000.0]).unwrap();
        submit();
        assert_eq!(rig.get(&sum), [3033.0]);
    });
}

#[test]
fn the_last_row_needs_no_room_for_a_gap() {
    once_per_adapter(|rig| {
        let buffer = buffer(&rig.gpu.device, 4 * 8, USAGES);
        let layout = Layout { row_stride: 6, ..Layout::contiguous(2, 2) };
        let matrix = Matrix::view(&buffer, layout).expect("eight values");
        write(rig, &matrix, &[1.0, 2.0, 3.0, 4.0]);
        let whole = Matrix::new(&buffer, 1, 8).unwrap();
        assert_eq!(rig.get(&whole), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0]);
        assert_eq!(rig.get(&matrix), [1.0, 2.0, 3.0, 4.0]);
    });
}

#[test]
fn a_buffer_needs_only_the_usages_of_what_is_done_with_it() {
    once_per_adapter(|rig| {
        let Gpu { device, queue, .. } = &rig.gpu;
        let [source, target] = [wgpu::BufferUsages::COPY_SRC, wgpu::BufferUsages::COPY_DST];
        let written = Matrix::new(&buffer(device, 4, target), 1, 1).unwrap();
        assert_eq!(written.write(device, queue, &[1.0]), Ok(()));
        let read = Matrix::new(&buffer(device, 4, source), 1, 1).unwrap();
        assert_eq!(read.read_blocking(device, queue), Ok(vec![0.0]));
    });
}

proptest! {
    #![proptest_config(property_config(64))]

    #[test]
    fn any_view_is_read_as_it_was_written(
        rows in 0..20_u32,
        columns in 0..20_u32,
        offset in 0..70_u64,
        gap in 0..10_u32,
    ) {
        once_per_adapter(|rig| {
            let count = rows * columns;
            let values: Vec<f32> = (0..count).map(|value| value as f32).collect();
            let matrix = rig.poisoned(rows, columns, Place::At { offset, gap });
            write(rig, &matrix, &values);
            assert_eq!(rig.get(&matrix), values);
            rig.expect_surroundings_untouched("written", &matrix);
        });
    }
}

const PLACES: [Place; 5] = [
    Place::Tight,
    Place::Odd,
    Place::Even,
    Place::At { offset: 3, gap: 0 },
    Place::At { offset: 0, gap: 1 },
];

fn write(rig: &Rig, matrix: &Matrix, values: &[f32]) {
    let Gpu { device, queue, .. } = &rig.gpu;
    matrix.write(device, queue, values).expect("writable");
}
