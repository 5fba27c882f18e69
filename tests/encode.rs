//! `encode.wgsl` against the reference.

mod common;

use common::reference::{Dense, tolerance};
use common::{Place, Rig, expect_close, on_every_adapter, random};
use tied_linear::Weight;
use tied_linear::kernels::Linear;

fn check(rig: &Rig, batch: u32, inputs: u32, hidden: u32, place: Place) {
    let what = format!("encode {batch}x{inputs}x{hidden} {place:?}");
    let (x, w) = (random(batch, inputs, 1), random(hidden, inputs, 2));
    let weight = Weight::new(&rig.kernels, rig.put(&w, place)).unwrap();
    let (input, output) = (rig.put(&x, place), rig.poisoned(batch, hidden, place));
    let commands = rig
        .kernels
        .encode(&weight, &Linear::new(&input, &output))
        .unwrap();
    rig.run(&commands);
    let want = x.times(&w.transposed());
    let magnitude: Dense = x.map(f64::abs).times(&w.map(f64::abs).transposed());
    expect_close(
        &what,
        &rig.get(&output),
        &want,
        &tolerance(inputs, &magnitude),
    );
    rig.expect_surroundings_untouched(&what, &output);
}

#[test]
fn odd_shapes_in_every_place() {
    on_every_adapter(|rig| {
        for place in Place::ALL {
            for [batch, inputs, hidden] in [[1, 1, 1], [63, 2, 10], [65, 130, 67], [64, 64, 64]] {
                check(rig, batch, inputs, hidden, place);
            }
        }
    });
}
