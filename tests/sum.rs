//! `sum.wgsl` against the reference.

mod common;

use common::reference::Dense;
use common::{Place, Rig, expect_same_bits, on_every_adapter, random, whole_numbers};
use tied_linear::kernels::Sum;

/// scale·Σ partials, with NaN before and behind both operands.
fn total(rig: &Rig, partials: &Dense, scale: f32) -> f32 {
    let what = format!("{} partials, scale {scale}", partials.columns);
    let total = rig.poisoned(1, 1, Place::Odd);
    let partials = &rig.put(partials, Place::Odd);
    let call = Sum { partials, scale, total: &total };
    rig.run(&rig.kernels.sum(&call).unwrap());
    rig.expect_surroundings_untouched(&what, &total);
    rig.get(&total)[0]
}

#[test]
fn every_partial_counts_once() {
    on_every_adapter(|rig| {
        for count in [0, 1, 2, 255, 256, 257, 1024, 2047, 2048, 2049, 100_003] {
            let partials = whole_numbers(1, count, u64::from(count));
            let sum: f64 = partials.values.iter().sum();
            for scale in [1.0, -0.25, 0.0] {
                let want = sum as f32 * scale;
                assert_eq!(total(rig, &partials, scale), want, "{count} partials, scale {scale}");
            }
        }
    });
}

/// More than Mesa's software driver up to 22.3 would add if a loop took one at a time.
#[test]
fn seventeen_million_partials_count_once_each() {
    on_every_adapter(|rig| {
        let count = 17_000_000;
        let ones: Vec<f32> = (0..count).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
        let total = rig.poisoned(1, 1, Place::Tight);
        let partials = &rig.put_f32(1, count, &ones, Place::Tight);
        let call = Sum { partials, scale: 1.0, total: &total };
        rig.run(&rig.kernels.sum(&call).unwrap());
        assert_eq!(rig.get(&total), [count.div_ceil(3) as f32]);
    });
}

#[test]
fn real_numbers_are_added_in_a_tree() {
    on_every_adapter(|rig| {
        for count in [3, 300, 1024, 100_003] {
            let partials = random(1, count, 5);
            let scale = 1.0 / 3.0;
            let want = partials.values.iter().sum::<f64>() / 3.0;
            let magnitude = partials.values.iter().map(|value| value.abs()).sum::<f64>() / 3.0;
            // An invocation adds every 256th value, the tree has eight levels.
            let additions = f64::from(count.div_ceil(256) + 8);
            let tolerance = 2.0 * f64::from(f32::EPSILON) * magnitude * additions.sqrt();
            let got = total(rig, &partials, scale);
            let error = (f64::from(got) - want).abs();
            assert!(error <= tolerance, "{count} partials: {got}, not {want}: {error:e}");
        }
    });
}

#[test]
fn runs_repeat_bit_by_bit() {
    on_every_adapter(|rig| {
        let partials = random(1, 100_003, 6);
        let first = total(rig, &partials, 0.3).to_bits();
        for _ in 0..3 {
            let again = total(rig, &partials, 0.3).to_bits();
            expect_same_bits("total", &[again], &[first]);
        }
    });
}
