//! `decode.wgsl` forward, Y = g(H·W + c), against the reference, and as the adjoint of
//! `encode.wgsl`.

mod common;

use common::products::Product;
use common::reference::{Dense, tolerance};
use common::{Place, on_every_adapter, random};
use tied_linear::Weight;
use tied_linear::kernels::Linear;

product_tests!(
    Product::Decode,
    [
        sizes_around_tile_and_step_in_every_place,
        odd_and_thin_shapes_in_every_place,
        drawn_shapes_strides_and_offsets,
        an_empty_output_needs_no_commands,
        without_a_reduction_the_rest_remains,
        every_activation_with_and_without_the_rest,
        one_operand_off_a_multiple_of_four_is_respected,
        both_widths_give_the_same_bits,
        runs_repeat_bit_by_bit,
        a_reduction_of_200_000_loses_nothing,
        more_tiles_than_one_dimension_holds,
    ]
);

/// ⟨encode(x), z⟩ = ⟨x, decode(z)⟩, with no reference for either: the two use one weight, and each
/// the other's transpose of it.
#[test]
fn decode_is_the_adjoint_of_encode() {
    for [batch, inputs, hidden] in [[3, 5, 2], [65, 130, 67], [64, 128, 64]] {
        let x = random(batch, inputs, 1);
        let w = random(hidden, inputs, 2);
        let z = random(batch, hidden, 3);
        let tolerance = adjoint_tolerance(&x, &w, &z);
        on_every_adapter(|rig| {
            for place in Place::ALL {
                let weight = Weight::new(&rig.kernels, rig.put(&w, place)).unwrap();
                let [x_there, z_there] = [&x, &z].map(|values| rig.put(values, place));
                let code = rig.poisoned(batch, hidden, place);
                let output = rig.poisoned(batch, inputs, place);
                let encode = rig.kernels.encode(&weight, &Linear::new(&x_there, &code));
                let decode = rig.kernels.decode(&weight, &Linear::new(&z_there, &output));
                rig.run(&encode.unwrap().then(decode.unwrap()));
                let left = inner_product(&rig.get(&code), &z);
                let right = inner_product(&rig.get(&output), &x);
                assert!(
                    (left - right).abs() <= tolerance,
                    "{batch}x{inputs}x{hidden} {place:?}: {left} and {right} differ by {:e}, \
                     tolerance {tolerance:e}",
                    (left - right).abs()
                );
            }
        });
    }
}

/// Both sides are sums over batch, inputs and hidden of x·w·z: the tolerance of the longer of the
/// reductions that were done in f32, for Σ|x·w·z|.
fn adjoint_tolerance(x: &Dense, w: &Dense, z: &Dense) -> f64 {
    let [x, w, z] = [x, w, z].map(|values| values.map(f64::abs));
    let magnitude = x.times(&w.transposed()).zip(&z, |h, z| h * z);
    let depth = w.rows.max(w.columns);
    tolerance(depth, &magnitude).values.iter().sum()
}

fn inner_product(got: &[f32], with: &Dense) -> f64 {
    assert_eq!(got.len(), with.values.len());
    let products = std::iter::zip(got, &with.values).map(|(a, b)| f64::from(*a) * b);
    products.sum()
}
