// lanes_rows.wgsl — put in front of lanes.wgsl: each lane loads four of 32 rows and hands them to the
// others.
//
// Needs subgroups of exactly eight invocations, so that a workgroup is one of them, and
// lanes_subgroup.wgsl or lanes_tall.wgsl.
// Tests: encode.rs, decode.rs, backward.rs, with every strategy.

// The left block of the rows of lane `lane`, from the one that each lane has loaded; a constant order
// costs nothing to undo.
fn rows_of_lane_0(mine: Block) -> Block {
    let block = Block(
        subgroupBroadcast(mine.a, 0u),
        subgroupBroadcast(mine.b, 0u),
        subgroupBroadcast(mine.c, 0u),
        subgroupBroadcast(mine.d, 0u),
    );
    return straightened(block, order_of_left(0u));
}

fn rows_of_lane_1(mine: Block) -> Block {
    let block = Block(
        subgroupBroadcast(mine.a, 1u),
        subgroupBroadcast(mine.b, 1u),
        subgroupBroadcast(mine.c, 1u),
        subgroupBroadcast(mine.d, 1u),
    );
    return straightened(block, order_of_left(1u));
}

fn rows_of_lane_2(mine: Block) -> Block {
    let block = Block(
        subgroupBroadcast(mine.a, 2u),
        subgroupBroadcast(mine.b, 2u),
        subgroupBroadcast(mine.c, 2u),
        subgroupBroadcast(mine.d, 2u),
    );
    return straightened(block, order_of_left(2u));
}

fn rows_of_lane_3(mine: Block) -> Block {
    let block = Block(
        subgroupBroadcast(mine.a, 3u),
        subgroupBroadcast(mine.b, 3u),
        subgroupBroadcast(mine.c, 3u),
        subgroupBroadcast(mine.d, 3u),
    );
    return straightened(block, order_of_left(3u));
}

fn rows_of_lane_4(mine: Block) -> Block {
    let block = Block(
        subgroupBroadcast(mine.a, 4u),
        subgroupBroadcast(mine.b, 4u),
        subgroupBroadcast(mine.c, 4u),
        subgroupBroadcast(mine.d, 4u),
    );
    return straightened(block, order_of_left(4u));
}

fn rows_of_lane_5(mine: Block) -> Block {
    let block = Block(
        subgroupBroadcast(mine.a, 5u),
        subgroupBroadcast(mine.b, 5u),
        subgroupBroadcast(mine.c, 5u),
        subgroupBroadcast(mine.d, 5u),
    );
    return straightened(block, order_of_left(5u));
}

fn rows_of_lane_6(mine: Block) -> Block {
    let block = Block(
        subgroupBroadcast(mine.a, 6u),
        subgroupBroadcast(mine.b, 6u),
        subgroupBroadcast(mine.c, 6u),
        subgroupBroadcast(mine.d, 6u),
    );
    return straightened(block, order_of_left(6u));
}

fn rows_of_lane_7(mine: Block) -> Block {
    let block = Block(
        subgroupBroadcast(mine.a, 7u),
        subgroupBroadcast(mine.b, 7u),
        subgroupBroadcast(mine.c, 7u),
        subgroupBroadcast(mine.d, 7u),
    );
    return straightened(block, order_of_left(7u));
}

// The lines of the rows that the lane loads.
fn row_lines(row: u32, local: u32) -> Line {
    return left_line(row + 4u * local);
}

fn multiply_rows(at: u32, line: Line, local: u32, k: u32, which: u32, right: Block) {
    let order = order_of_left(local);
    let mine = left_block(left_quads(line, k, which, order), k, which, order);
    multiply_four_rows(at + 0u, rows_of_lane_0(mine), right);
    multiply_four_rows(at + 4u, rows_of_lane_1(mine), right);
    multiply_four_rows(at + 8u, rows_of_lane_2(mine), right);
    multiply_four_rows(at + 12u, rows_of_lane_3(mine), right);
    multiply_four_rows(at + 16u, rows_of_lane_4(mine), right);
    multiply_four_rows(at + 20u, rows_of_lane_5(mine), right);
    multiply_four_rows(at + 24u, rows_of_lane_6(mine), right);
    multiply_four_rows(at + 28u, rows_of_lane_7(mine), right);
}
