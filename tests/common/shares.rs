//! What a workgroup takes: numbers that the WGSL and the Rust that counts workgroups each have for
//! themselves. `shaders.rs` holds these against the WGSL, `errors.rs` against the Rust.

/// Columns of a bias's gradient.
pub const BIAS_COLUMNS: u32 = 64;
/// Quads of an elementwise kernel.
pub const QUADS: u32 = 256;

/// What a workgroup takes of a product.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The strategy's name.
    pub strategy: &'static str,
    /// Rows of a tile. Of several, the fewest that take all of the output's rows, or the most.
    pub rows: &'static [u32],
    /// Columns of a tile.
    pub columns: u32,
    /// Of what a part of a split reduction is a multiple, unless it is the last.
    pub step: u32,
}

/// Of every strategy.
pub const SHARES: &[Share] = &[
    Share { strategy: "tile_32", rows: &[32], columns: 32, step: 16 },
    Share { strategy: "tile_64", rows: &[64], columns: 64, step: 16 },
    Share { strategy: "tile_128", rows: &[128], columns: 128, step: 16 },
    Share { strategy: "lanes_subgroup", rows: &[32], columns: 32, step: 4 },
    Share { strategy: "lanes_tall", rows: &[64], columns: 32, step: 4 },
    Share { strategy: "lanes_alone", rows: &[16], columns: 32, step: 4 },
    Share { strategy: "skinny_group", rows: &[1, 4, 16], columns: 32, step: 128 },
    Share { strategy: "skinny_lanes", rows: &[1, 4], columns: 64, step: 4 },
    Share { strategy: "skinny_subgroup", rows: &[1, 4], columns: 512, step: 64 },
    Share { strategy: "cooperative", rows: &[64], columns: 64, step: 16 },
];

impl Share {
    pub fn of(strategy: &str) -> &'static Self {
        let found = SHARES.iter().find(|share| share.strategy == strategy);
        found.unwrap_or_else(|| panic!("a strategy without a share: {strategy}"))
    }

    /// Rows of a tile of an output that has enough.
    pub fn most_rows(&self) -> u32 {
        self.rows[self.rows.len() - 1]
    }
}
