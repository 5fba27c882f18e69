//! `encode.wgsl` forward, H = f(X·Wᵀ + b), against the reference.

mod common;

use common::products::Product;

product_tests!(
    Product::Encode,
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
