// product.wgsl — put in front: what encode, decode and backward are made of.
//
//   sum[row][column] = Σ_k left[row][k]·right[k][column]
//
// All three kernels are this product with other operands and another epilogue. A kernel's file
// defines the operands, in blocks of four by four, and what becomes of the sums:
//
//   REDUCTIONS                 how many products are added up: 1, or 2 for backward; `which` of them
//   depth_of(which)            the length of its reduction
//   left_line(row)             what of left's rows row…row+3 does not depend on k (matrix.wgsl)
//   left_quads(line, k, which, order)
//                              left's four rows at k…k+3, as four quads as they lie in the buffer;
//                              where that is a quad for each k, beginning at the `order`-th
//   left_block(quads, k, which, order)
//                              the same as a quad of rows for each of the four k
//   right_line(column), right_quads(…), right_block(…)
//                              the same for four columns of the right operand
//   left_quad(start, k)        the row of left that starts there, one of a line's, at k…k+3 (encode and
//                              decode, for skinny.wgsl)
//   LEFT_ACROSS, RIGHT_ACROSS  whether the operand is contiguous along k in its buffer
//   DEPTH_IN_FOURS             whether the reduction's length is always a multiple of four
//   Terms, terms_of(column)    what `finish` needs that is the same for all rows: the views it writes,
//                              and what four columns add to every row's sums, such as a bias
//   finish(row, column, sum, terms)
//                              four neighbouring sums of a row, each delivered once
//   close(invocation)          after an invocation's last `finish`
//
// Blocks are zero beyond the reduction's end; beyond the output's edge they hold anything, for sums
// that nobody takes. A transposed access is a block that is not turned: nothing else. How the sums are
// computed is a matter of the strategy, one file each, which defines `multiply(group, local)`:
//
//   tile.wgsl     register tiles from slices in workgroup memory: GPUs
//   lanes.wgsl    a tile in each subgroup's registers, no barrier: CPU drivers
//   skinny.wgsl   few rows: every right block is read once and meets all rows
//   combine.wgsl  the second pass of a split reduction
//
// and says what blocks it asks for:
//
//   BLOCKS_INSIDE              whether each of them begins at a multiple of four before the reduction's end
//
// A long reduction with few outputs can be split: PASS PARTIAL leaves the sums of a part of k in
// `scratch`, [part][row][column quad], and a second dispatch, combine.wgsl, adds the parts in order
// and goes on to `finish`. No atomics: the order of additions depends on the shapes alone.
//
// Tests: encode.rs, decode.rs, backward.rs, with every strategy; strategy.rs for the numbers of the tiles.

// The output's dimensions, the length of the reduction, and the workgroups: `groups` in all,
// `tiles` for each part of the reduction, which is `span` long; spread over two dimensions,
// `groups_wide` in a line.
struct Product {
    rows: u32,
    columns: u32,
    depth: u32,
    span: u32,
    tiles: u32,
    groups: u32,
    groups_wide: u32,
    parts: u32,
}

const WHOLE: u32 = 0u;
const PARTIAL: u32 = 1u;

// One of the two above.
override PASS: u32 = 0u;

// Whether a block may reach over the reduction's end, where its values must be zero.
const MAY_HANG_OVER: bool = !(DEPTH_IN_FOURS && BLOCKS_INSIDE);

// Four by four values: one quad for each of four k.
struct Block {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// A block of an operand that is contiguous along k, from its four rows' quads; `k` is the first of
// them, `end` the reduction's.
fn turned(block: Block, k: u32, end: u32) -> Block {
    let turned = transposed(block);
    if !MAY_HANG_OVER {
        return turned;
    }
    if WIDTH == 4u {
        let keep = vec4<bool>(k < end);
        return Block(
            select(vec4<f32>(), turned.a, keep),
            select(vec4<f32>(), turned.b, keep),
            select(vec4<f32>(), turned.c, keep),
            select(vec4<f32>(), turned.d, keep),
        );
    }
    return unturned(turned, k, end, 0u);
}

// A block of an operand that is contiguous along its rows or columns, from the quads of four k, in
// the same order.
fn unturned(block: Block, k: u32, end: u32, order: u32) -> Block {
    if !MAY_HANG_OVER {
        return block;
    }
    let keep = ordered(k, order) < vec4<u32>(end);
    return Block(
        select(vec4<f32>(), block.a, vec4<bool>(keep.x)),
        select(vec4<f32>(), block.b, vec4<bool>(keep.y)),
        select(vec4<f32>(), block.c, vec4<bool>(keep.z)),
        select(vec4<f32>(), block.d, vec4<bool>(keep.w)),
    );
}

fn transposed(block: Block) -> Block {
    return Block(
        vec4<f32>(block.a.x, block.b.x, block.c.x, block.d.x),
        vec4<f32>(block.a.y, block.b.y, block.c.y, block.d.y),
        vec4<f32>(block.a.z, block.b.z, block.c.z, block.d.z),
        vec4<f32>(block.a.w, block.b.w, block.c.w, block.d.w),
    );
}

// What a workgroup computes: the tile at (row, column) of an output of `rows` by `columns`, over k from
// `begin` to below `end`, where no reduction is over before.
struct Task {
    index: u32,
    rows: u32,
    columns: u32,
    row: u32,
    column: u32,
    part: u32,
    begin: u32,
    end: u32,
}

// Tiles are numbered in bands of BAND rows of tiles, column by column within a band, so that those which
// follow each other share a right operand, and the band's left operands stay in a cache. Every other band
// goes backwards: it begins with the right operands that the one before has read last.
fn task_of(group: vec3<u32>) -> Task {
    let product = parameters.product;
    let index = group.y * product.groups_wide + group.x;
    let part = index / product.tiles;
    let tile = index - part * product.tiles;
    let tiles_wide = (product.columns + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    let tiles_high = (product.rows + TILE_ROWS - 1u) / TILE_ROWS;
    let band = tile / (BAND * tiles_wide);
    let in_band = tile - band * BAND * tiles_wide;
    let height = min(BAND, tiles_high - band * BAND);
    let line = in_band / height;
    let tile_column = select(line, tiles_wide - 1u - line, (band & 1u) != 0u);
    let place = vec2<u32>(band * BAND + in_band - line * height, tile_column);
    let begin = part * product.span;
    return Task(
        index,
        product.rows,
        product.columns,
        place.x * TILE_ROWS,
        place.y * TILE_COLUMNS,
        part,
        begin,
        begin + product.span,
    );
}

// Where a part's sum of the quad at (row, column) lies in `scratch`.
fn scratch_place(part: u32, rows: u32, columns: u32, row: u32, column: u32) -> u32 {
    let quads_wide = (columns + 3u) / 4u;
    return (part * rows + row) * quads_wide + column / 4u;
}

// Hands four sums over, to `finish` or to the second pass; those outside the output go nowhere. What
// does not depend on the row comes by value: a CPU driver gathers every field of a uniform lane by
// lane, each time that it is named.
fn deliver(task: Task, row: u32, column: u32, sum: vec4<f32>, terms: Terms) {
    if row >= task.rows || column >= task.columns {
        return;
    }
    if PASS == PARTIAL {
        scratch[scratch_place(task.part, task.rows, task.columns, row, column)] = sum;
    } else {
        finish(row, column, sum, terms);
    }
}

// Adds one row's products of four k to its four sums, in the order of k.
fn added(sum: vec4<f32>, row: vec4<f32>, right: Block) -> vec4<f32> {
    let a = fma(vec4<f32>(row.x), right.a, sum);
    let b = fma(vec4<f32>(row.y), right.b, a);
    let c = fma(vec4<f32>(row.z), right.c, b);
    return fma(vec4<f32>(row.w), right.d, c);
}
