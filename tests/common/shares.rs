//! What a workgroup takes: numbers that the WGSL and the Rust that counts workgroups each have for
//! themselves. `shaders.rs` holds these against the WGSL, `errors.rs` against the Rust.

/// Rows and columns of an output tile of the products.
pub const TILE: u32 = 64;
/// How far a product's reduction goes in a loop iteration.
pub const STEP: u32 = 4;
/// Columns of a bias's gradient.
pub const BIAS_COLUMNS: u32 = 64;
/// Quads of an elementwise kernel.
pub const QUADS: u32 = 256;
