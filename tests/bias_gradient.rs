//! `bias_gradient.wgsl` against the reference: the sum of a delta over the batch.

mod common;

use common::reference::{Dense, tolerance};
use common::{
    Place, Rig, expect_close, expect_same_bits, on_every_adapter, property_config, random,
    whole_numbers,
};
use proptest::prelude::*;
use tied_linear::kernels::BiasGradient;
use tied_linear::{Accumulate, Matrix};

const MODES: [Accumulate; 2] = [Accumulate::Overwrite, Accumulate::Add];

fn run(rig: &Rig, delta: &Matrix, gradient: &Matrix, accumulate: Accumulate) {
    let commands = rig.kernels.bias_gradient(&BiasGradient { delta, gradient, accumulate });
    rig.run(&commands.expect("a valid call"));
}

/// The bits of the overwritten gradient.
fn bits(rig: &Rig, delta: &Matrix, place: Place) -> Vec<u32> {
    let gradient = rig.poisoned(1, delta.columns(), place);
    run(rig, delta, &gradient, Accumulate::Overwrite);
    rig.bits(&gradient)
}

/// One call against the reference: in the mode `Overwrite` over NaN, in the mode `Add` on top of
/// random values.
fn check(rig: &Rig, delta: &Dense, places: [Place; 2], accumulate: Accumulate) {
    let shape = [delta.rows, delta.columns];
    let what = format!("bias gradient {shape:?} {places:?} {accumulate:?}");
    let (old, gradient) = match accumulate {
        Accumulate::Overwrite => {
            (Dense::zeros(1, delta.columns), rig.poisoned(1, delta.columns, places[1]))
        }
        Accumulate::Add => {
            let old = random(1, delta.columns, 2);
            let gradient = rig.put(&old, places[1]);
            (old, gradient)
        }
    };
    run(rig, &rig.put(delta, places[0]), &gradient, accumulate);
    let want = delta.column_sums().zip(&old, |new, old| new + old);
    let magnitude = delta.map(f64::abs).column_sums();
    let magnitude = magnitude.zip(&old, |new, old| new + old.abs());
    expect_close(&what, &rig.get(&gradient), &want, &tolerance(delta.rows, &magnitude));
    rig.expect_surroundings_untouched(&what, &gradient);
}

/// Sums of whole numbers are exact, so a single lost or doubled value shows.
fn check_exactly(delta: &Dense) {
    let shape = [delta.rows, delta.columns];
    let what = format!("bias gradient {shape:?} of whole numbers");
    let want = delta.column_sums();
    let exactly = Dense::zeros(1, delta.columns);
    on_every_adapter(|rig| {
        let gradient = rig.poisoned(1, delta.columns, Place::Tight);
        let delta = rig.put(delta, Place::Tight);
        run(rig, &delta, &gradient, Accumulate::Overwrite);
        expect_close(&what, &rig.get(&gradient), &want, &exactly);
        rig.expect_surroundings_untouched(&what, &gradient);
    });
}

#[test]
fn it_is_the_sum_over_the_batch_in_every_place() {
    let shapes = [
        [1, 1],
        [3, 5],
        // Around 64 columns a workgroup and around 16 and 128 rows an iteration.
        [15, 63],
        [16, 64],
        [17, 65],
        [127, 7],
        [128, 8],
        [129, 67],
        // Long and thin.
        [1009, 3],
        [3, 1009],
        // Several workgroups and iterations, in whole words.
        [300, 260],
    ];
    on_every_adapter(|rig| {
        for [batch, columns] in shapes {
            let delta = random(batch, columns, 1);
            // The gradient at an odd offset and the delta in whole words, and the other way round.
            for delta_place in Place::ALL {
                for gradient_place in Place::ALL {
                    for accumulate in MODES {
                        check(rig, &delta, [delta_place, gradient_place], accumulate);
                    }
                }
            }
        }
    });
}

#[test]
fn two_sums_in_add_mode_are_exactly_twice_one() {
    on_every_adapter(|rig| {
        for [batch, columns] in [[200, 67], [200, 68]] {
            let delta = rig.put(&random(batch, columns, 1), Place::Tight);
            let gradient = rig.put(&Dense::zeros(1, columns), Place::Odd);
            run(rig, &delta, &gradient, Accumulate::Add);
            let once = rig.get(&gradient);
            run(rig, &delta, &gradient, Accumulate::Add);
            let twice: Vec<u32> = once.iter().map(|value| (2.0 * value).to_bits()).collect();
            let what = format!("bias gradient {batch}x{columns}");
            expect_same_bits(&format!("{what}, added twice"), &rig.bits(&gradient), &twice);
            let once: Vec<u32> = once.into_iter().map(f32::to_bits).collect();
            let overwritten = bits(rig, &delta, Place::Tight);
            expect_same_bits(&format!("{what}, added to zero"), &once, &overwritten);
        }
    });
}

#[test]
fn an_empty_batch_overwrites_with_zeros_and_adds_nothing() {
    on_every_adapter(|rig| {
        for columns in [1, 67, 128] {
            for place in Place::ALL {
                let delta = rig.put(&Dense::zeros(0, columns), place);
                let what = format!("bias gradient 0x{columns} {place:?}");
                let overwritten = bits(rig, &delta, place);
                let zeros = vec![0; overwritten.len()];
                expect_same_bits(&format!("{what}, overwritten"), &overwritten, &zeros);

                let gradient = rig.put(&random(1, columns, 2), place);
                let before = rig.bits(&gradient);
                run(rig, &delta, &gradient, Accumulate::Add);
                expect_same_bits(&format!("{what}, added"), &rig.bits(&gradient), &before);
                rig.expect_surroundings_untouched(&what, &gradient);
            }
        }
    });
}

#[test]
fn a_delta_without_columns_is_left_alone() {
    on_every_adapter(|rig| {
        for batch in [0, 5] {
            for accumulate in MODES {
                check(rig, &Dense::zeros(batch, 0), [Place::Odd; 2], accumulate);
            }
        }
    });
}

#[test]
fn a_batch_of_200_000_loses_no_row() {
    check_exactly(&whole_numbers(200_000, 3, 1));
}

#[test]
fn more_than_65_535_workgroups_leave_no_column_out() {
    // Neighbouring workgroups differ, and so do lines of workgroups.
    let columns = 65_537 * 64;
    check_exactly(&Dense::new(1, columns, |_, column| f64::from(column % 251)));
}

#[test]
fn scalar_and_vector_access_agree_bit_for_bit() {
    on_every_adapter(|rig| {
        for [batch, columns] in [[1, 4], [300, 132], [1000, 64]] {
            let delta = random(batch, columns, 1);
            let [scalar, tight, even] = [Place::Odd, Place::Tight, Place::Even]
                .map(|place| bits(rig, &rig.put(&delta, place), Place::Tight));
            let what = format!("bias gradient {batch}x{columns}, vector access");
            expect_same_bits(&format!("{what}, without gaps"), &tight, &scalar);
            expect_same_bits(&format!("{what}, with gaps"), &even, &scalar);
        }
    });
}

#[test]
fn repeated_runs_agree_bit_for_bit() {
    on_every_adapter(|rig| {
        let delta = rig.put(&random(1000, 130, 1), Place::Tight);
        let first = bits(rig, &delta, Place::Tight);
        for _ in 0..5 {
            let again = bits(rig, &delta, Place::Tight);
            expect_same_bits("bias gradient, repeated", &again, &first);
        }
    });
}

proptest! {
    #![proptest_config(property_config(16))]

    #[test]
    fn any_shape_place_and_mode_follows_the_formula(
        batch in 0..400_u32,
        columns in 0..200_u32,
        places in prop::array::uniform2(prop::sample::select(&Place::ALL[..])),
        accumulate in prop::sample::select(&MODES[..]),
    ) {
        let delta = random(batch, columns, 1);
        on_every_adapter(|rig| check(rig, &delta, places, accumulate));
    }
}
