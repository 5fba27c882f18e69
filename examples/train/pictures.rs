//! What a training run looks like, as PNG files: reconstructions below their originals, the rows of
//! the weight, and the loss curve.

use std::path::{Path, PathBuf};
use std::{fs, io};

use image::{ImageError, ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::{
    BitMapBackend, ChartBuilder, Circle, Color, DrawingArea, DrawingBackend, IntoDrawingArea,
    PathElement, RGBColor, Rectangle,
};
use thiserror::Error;

/// Why a picture could not be made. Each message is one line and names the picture.
#[derive(Debug, Error)]
pub enum PictureError {
    /// There is nothing to draw.
    #[error("{}: expected at least one {what} to draw, found none", .path.display())]
    Empty { path: PathBuf, what: &'static str },

    /// The values are not those of so many tiles of this size.
    #[error(
        "{}: expected {count} x {width} x {height} values, found {found}",
        .path.display()
    )]
    Size { path: PathBuf, count: usize, width: usize, height: usize, found: usize },

    /// The picture would have too many pixels.
    #[error(
        "{}: expected tiles that fit in {LARGEST}x{LARGEST} pixels, found {count} of {width}x{height}",
        .path.display()
    )]
    TooLarge { path: PathBuf, count: usize, width: usize, height: usize },

    /// The loss curve could not be drawn.
    #[error("{}: cannot be drawn: {cause}", .path.display())]
    Draw { path: PathBuf, cause: String },

    /// The folder of the picture could not be created.
    #[error("{}: its folder cannot be created: {cause}", .path.display())]
    Folder { path: PathBuf, cause: io::Error },

    /// The file could not be written.
    #[error("{}: cannot be written: {cause}", .path.display())]
    Save { path: PathBuf, cause: ImageError },
}

/// Columns and rows of a picture, at most.
const LARGEST: u32 = 1 << 14;
/// What lies behind tiles.
const BACKGROUND: Rgb<u8> = Rgb([84, 92, 104]);
/// The most negative weight of a tile.
const NEGATIVE: [f32; 3] = [33.0, 84.0, 172.0];
/// The most positive weight of a tile.
const POSITIVE: [f32; 3] = [188.0, 24.0, 43.0];
/// A weight that is not finite.
const NOT_FINITE: Rgb<u8> = Rgb([0, 0, 0]);

/// Draws `count` originals, twelve to a row, and below each its reconstruction.
///
/// Both are row-major `[count, width * height]`; black is 0 and below, white is 1 and above.
pub fn reconstructions(
    path: &Path,
    originals: &[f32],
    reconstructed: &[f32],
    count: usize,
    width: usize,
    height: usize,
) -> Result<(), PictureError> {
    let both = [originals, reconstructed];
    let size = tile_size(path, &both, count, width, height)?;
    let columns = count.min(12);
    let grid = Grid { width, height, columns, rows: 2 * count.div_ceil(columns), group: 2 };
    let mut picture = grid.picture(path, count)?;
    for (below, tiles) in both.iter().enumerate() {
        for (index, tile) in tiles.chunks_exact(size).enumerate() {
            let (column, row) = (index % columns, index / columns * 2 + below);
            grid.draw(&mut picture, column, row, tile, |value| {
                Rgb([(value.clamp(0.0, 1.0) * 255.0).round() as u8; 3])
            });
        }
    }
    save(path, &picture)
}

/// Draws the rows of the `[hidden, width * height]` weight as tiles, the first hundred of them.
///
/// Blue is negative, white is zero and red is positive; the strongest colour is the largest
/// absolute value of the tile. A weight that is not finite is black.
pub fn weight_rows(
    path: &Path,
    weight: &[f32],
    hidden: usize,
    width: usize,
    height: usize,
) -> Result<(), PictureError> {
    let size = tile_size(path, &[weight], hidden, width, height)?;
    let shown = hidden.min(100);
    let columns = (1..=shown).find(|columns| columns * columns >= shown).unwrap_or(shown);
    let rows = shown.div_ceil(columns);
    let grid = Grid { width, height, columns, rows, group: rows };
    let mut picture = grid.picture(path, shown)?;
    for (index, tile) in weight.chunks_exact(size).take(shown).enumerate() {
        let finite = tile.iter().filter(|value| value.is_finite());
        let largest = finite.fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        grid.draw(&mut picture, index % columns, index / columns, tile, |value| {
            diverging(value / largest)
        });
    }
    save(path, &picture)
}

/// Draws the loss of each step, and `floor`, the known optimum, as a horizontal line.
///
/// The axis of the loss is logarithmic where all losses are positive. There, an optimum below a
/// thousandth of the lowest loss is only named: its line would leave the curve no room.
/// A loss that is not finite is left out.
pub fn loss_curve(path: &Path, losses: &[f32], floor: Option<f64>) -> Result<(), PictureError> {
    let steps = losses.iter().map(|&loss| f64::from(loss)).enumerate();
    let points: Vec<(f64, f64)> = steps
        .filter(|(_, loss)| loss.is_finite())
        .map(|(step, loss)| (step as f64, loss))
        .collect();
    if points.is_empty() {
        return Err(PictureError::Empty { path: path.to_owned(), what: "finite loss" });
    }
    let mut picture = RgbImage::new(1200, 720);
    let size = picture.dimensions();
    let area = BitMapBackend::with_buffer(&mut picture, size).into_drawing_area();
    let drawn =
        draw_curve(&area, &points, floor.filter(|floor| floor.abs() <= f64::from(f32::MAX)));
    drop(area);
    drawn
        .map_err(|cause| PictureError::Draw { path: path.to_owned(), cause: cause.to_string() })?;
    save(path, &picture)
}

/// The number of values of a tile, where there are tiles and `count` of them in each of `values`.
fn tile_size(
    path: &Path,
    values: &[&[f32]],
    count: usize,
    width: usize,
    height: usize,
) -> Result<usize, PictureError> {
    let path = path.to_owned();
    if count == 0 || width == 0 || height == 0 {
        return Err(PictureError::Empty { path, what: "pixel" });
    }
    let expected = width.checked_mul(height).and_then(|size| size.checked_mul(count));
    match values.iter().find(|values| Some(values.len()) != expected) {
        Some(found) => Err(PictureError::Size { path, count, width, height, found: found.len() }),
        None => Ok(width * height),
    }
}

/// Tiles in columns and rows, magnified so that each value is a square of pixels.
struct Grid {
    /// Values in a row of a tile.
    width: usize,
    /// Rows of values in a tile.
    height: usize,
    columns: usize,
    rows: usize,
    /// How many rows belong together; a wider gap parts them from the next ones.
    group: usize,
}

impl Grid {
    /// Pixels between tiles.
    const SEPARATOR: usize = 2;
    /// Pixels between groups of rows, and around all tiles.
    const GAP: usize = 8;

    /// Pixels to each side of a value: 8 for small tiles, less where a tile would get large.
    fn magnified(&self) -> usize {
        (84 / self.width.max(self.height)).clamp(1, 8)
    }

    /// Where the tiles of a column start.
    fn left(&self, column: usize) -> usize {
        Self::GAP + column * (self.width * self.magnified() + Self::SEPARATOR)
    }

    /// Where the tiles of a row start.
    fn top(&self, row: usize) -> usize {
        let groups = row / self.group * (Self::GAP - Self::SEPARATOR);
        Self::GAP + row * (self.height * self.magnified() + Self::SEPARATOR) + groups
    }

    /// A picture of the grid's size, without any tile.
    fn picture(&self, path: &Path, count: usize) -> Result<RgbImage, PictureError> {
        // The values exist, so that these sums cannot overflow.
        let width = self.left(self.columns) + Self::GAP - Self::SEPARATOR;
        let sizes = [width, self.top(self.rows)].map(u32::try_from);
        match sizes {
            [Ok(width), Ok(height)] if width.max(height) <= LARGEST => {
                Ok(RgbImage::from_pixel(width, height, BACKGROUND))
            }
            _ => Err(PictureError::TooLarge {
                path: path.to_owned(),
                count,
                width: self.width,
                height: self.height,
            }),
        }
    }

    /// Draws a tile, each value in its `colour`.
    fn draw(
        &self,
        picture: &mut RgbImage,
        column: usize,
        row: usize,
        tile: &[f32],
        colour: impl Fn(f32) -> Rgb<u8>,
    ) {
        let side = self.magnified();
        for (index, &value) in tile.iter().enumerate() {
            let left = self.left(column) + index % self.width * side;
            let top = self.top(row) + index / self.width * side;
            let colour = colour(value);
            for y in top..top + side {
                for x in left..left + side {
                    picture.put_pixel(x as u32, y as u32, colour);
                }
            }
        }
    }
}

/// The colour of a value from -1 over 0 to 1.
fn diverging(value: f32) -> Rgb<u8> {
    if !value.is_finite() {
        return NOT_FINITE;
    }
    let strongest = if value < 0.0 { NEGATIVE } else { POSITIVE };
    Rgb(strongest.map(|channel| (255.0 + (channel - 255.0) * value.abs()).round() as u8))
}

/// Writes the picture, and creates the folder that it lies in.
fn save(path: &Path, picture: &RgbImage) -> Result<(), PictureError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .map_err(|cause| PictureError::Folder { path: path.to_owned(), cause })?;
    }
    picture
        .save_with_format(path, ImageFormat::Png)
        .map_err(|cause| PictureError::Save { path: path.to_owned(), cause })
}

/// The paper of the loss curve.
const PAPER: RGBColor = RGBColor(255, 255, 255);
/// Its grid.
const GRID: RGBColor = RGBColor(226, 229, 233);
/// Its frame and text.
const INK: RGBColor = RGBColor(72, 78, 88);
/// The loss.
const LOSS: RGBColor = RGBColor(33, 84, 172);
/// The known optimum.
const FLOOR: RGBColor = RGBColor(208, 84, 24);

/// An area of a picture, in pixels.
type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
/// Whether drawing on an [`Area`] worked.
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>>;

/// Draws the loss curve through at least one point.
fn draw_curve<'a>(area: &Area<'a>, points: &[(f64, f64)], floor: Option<f64>) -> Drawn<'a> {
    let losses = points.iter().map(|point| point.1);
    let lowest = losses.clone().fold(f64::INFINITY, f64::min);
    let logarithmic = lowest > 0.0;
    let line = floor.filter(|&floor| !logarithmic || floor >= lowest / 1000.0);
    let (first, last) = (points[0], points[points.len() - 1]);
    let x = Axis::new([first.0, last.0], Scale::Steps);
    let y =
        Axis::new(losses.chain(line), if logarithmic { Scale::Logarithmic } else { Scale::Linear });

    area.fill(&PAPER)?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(56)
        .margin_bottom(72)
        .margin_left(104)
        .margin_right(28)
        .build_cartesian_2d(x.low..x.high, y.low..y.high)?;
    let (left, bottom) = chart.backend_coord(&(x.low, y.low));
    let (right, top) = chart.backend_coord(&(x.high, y.high));

    for (at, label) in &x.ticks {
        chart.draw_series([PathElement::new([(*at, y.low), (*at, y.high)], GRID)])?;
        let (at, _) = chart.backend_coord(&(*at, y.low));
        write(area, label, (at - text_width(label) / 2, bottom + 10), INK)?;
    }
    for (at, label) in &y.ticks {
        chart.draw_series([PathElement::new([(x.low, *at), (x.high, *at)], GRID)])?;
        let (_, at) = chart.backend_coord(&(x.low, *at));
        write(area, label, (left - text_width(label) - 10, at - 7), INK)?;
    }
    area.draw(&Rectangle::new([(left, top), (right, bottom)], INK))?;

    if let Some(line) = line.map(|line| y.place(line)) {
        let ends = [(x.low, line), (x.high, line)];
        chart.draw_series([PathElement::new(ends, FLOOR.stroke_width(2))])?;
    }
    let curve: Vec<(f64, f64)> = points.iter().map(|&(step, loss)| (step, y.place(loss))).collect();
    if let [point] = curve[..] {
        chart.draw_series([Circle::new(point, 4, LOSS.filled())])?;
    }
    // One line a step: the sharp corners of a single path would be drawn as long spikes.
    let lines = curve.windows(2);
    chart.draw_series(lines.map(|ends| PathElement::new(ends, LOSS.stroke_width(2))))?;

    let caption = format!("loss (last: {})", significant(last.1));
    write(area, &caption, (left, top - 28), LOSS)?;
    if let Some(floor) = floor {
        let caption = format!("optimum: {}", significant(floor));
        write(area, &caption, (right - text_width(&caption), top - 28), FLOOR)?;
    }
    let middle = (left + right - text_width("step")) / 2;
    write(area, "step", (middle, bottom + 40), INK)
}

/// How values lie along an axis.
#[derive(Clone, Copy, PartialEq)]
enum Scale {
    /// Whole numbers from end to end.
    Steps,
    /// Evenly, with room at the ends.
    Linear,
    /// By their logarithms, with room at the ends.
    Logarithmic,
}

/// One axis of the loss curve.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Where grid lines are, and the values that they stand for.
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis with room for all values.
    fn new(values: impl IntoIterator<Item = f64>, scale: Scale) -> Self {
        let mut axis =
            Self { scale, low: f64::INFINITY, high: f64::NEG_INFINITY, ticks: Vec::new() };
        for value in values {
            let place = axis.place(value);
            axis.low = axis.low.min(place);
            axis.high = axis.high.max(place);
        }
        // Equal values still need an axis of some length.
        let (span, size) = (axis.high - axis.low, axis.low.abs().max(axis.high.abs()));
        let room = match scale {
            Scale::Steps => 0.0,
            Scale::Linear if size < f64::from(f32::MIN_POSITIVE) => 1.0,
            Scale::Linear => (0.05 * span).max(0.01 * size),
            Scale::Logarithmic => (0.05 * span).max(0.005),
        };
        axis.low -= room;
        axis.high += room;
        if scale == Scale::Steps {
            axis.high = axis.high.max(axis.low + 1.0);
        }

        let (low, high) = (axis.low, axis.high);
        let ticks = match scale {
            Scale::Steps => even_ticks(low, high, 1.0),
            Scale::Linear => even_ticks(low, high, 0.0),
            Scale::Logarithmic if high - low < 0.8 => {
                even_ticks(10_f64.powf(low), 10_f64.powf(high), 0.0)
            }
            Scale::Logarithmic => decade_ticks(low, high),
        };
        axis.ticks = ticks.into_iter().map(|(value, label)| (axis.place(value), label)).collect();
        axis
    }

    /// Where a value lies.
    fn place(&self, value: f64) -> f64 {
        if self.scale == Scale::Logarithmic { value.log10() } else { value }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten: at most nine, and at least `least` apart.
fn even_ticks(low: f64, high: f64, least: f64) -> Vec<(f64, String)> {
    let wanted = ((high - low) / 8.0).max(least);
    let exponent = wanted.log10().floor() as i32;
    let unit = 10_f64.powi(exponent);
    let (step, exponent) = match wanted / unit {
        times if times <= 1.0 => (unit, exponent),
        times if times <= 2.0 => (2.0 * unit, exponent),
        times if times <= 5.0 => (5.0 * unit, exponent),
        _ => (10.0 * unit, exponent + 1),
    };
    let multiples = (low / step).ceil() as i64..=(high / step).floor() as i64;
    multiples.map(|times| times as f64 * step).map(|at| (at, label(at, exponent))).collect()
}

/// Powers of ten between powers of ten, and where few some of their multiples.
fn decade_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let factors: &[f64] = match high - low {
        ..2.0 => &[1.0, 2.0, 3.0, 5.0, 7.0],
        ..3.5 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let apart = ((high - low) / 8.0).ceil() as usize;
    let mut ticks = Vec::new();
    for exponent in (low.floor() as i32..=high.floor() as i32).step_by(apart) {
        for value in factors.iter().map(|factor| factor * 10_f64.powi(exponent)) {
            if (low..=high).contains(&value.log10()) {
                ticks.push((value, label(value, exponent)));
            }
        }
    }
    ticks
}

/// A number with digits down to that of the power of ten `exponent`.
fn label(value: f64, exponent: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let leading = value.abs().log10().floor() as i32;
    if (-4..7).contains(&leading) {
        format!("{value:.*}", usize::try_from(-exponent).unwrap_or(0))
    } else {
        format!("{value:.*e}", usize::try_from(leading - exponent).unwrap_or(0))
    }
}

/// A number with five significant digits.
fn significant(value: f64) -> String {
    label(value, (value.abs().log10().floor() as i32).saturating_sub(4))
}

/// Pixels to each side of a dot of a glyph.
const DOT: i32 = 2;
/// Pixels from one glyph to the next.
const ADVANCE: i32 = 6 * DOT;

/// How wide a text is, in pixels.
fn text_width(text: &str) -> i32 {
    text.chars().count() as i32 * ADVANCE - DOT
}

/// Writes a text whose upper left corner is `at`.
fn write<'a>(area: &Area<'a>, text: &str, at: (i32, i32), colour: RGBColor) -> Drawn<'a> {
    for (index, letter) in (0..).zip(text.chars()) {
        for (row, dots) in (0..).zip(glyph(letter)) {
            for column in (0..5).filter(|column| dots & (0b10000 >> column) != 0) {
                let (x, y) = (at.0 + index * ADVANCE + column * DOT, at.1 + row * DOT);
                let dot = [(x, y), (x + DOT, y + DOT)];
                area.draw(&Rectangle::new(dot, colour.filled()))?;
            }
        }
    }
    Ok(())
}

/// The dots of a letter, row by row. Only what the loss curve says has a glyph.
#[rustfmt::skip]
fn glyph(letter: char) -> [u8; 7] {
    match letter {
        '0' => [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
        '1' => [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        '2' => [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
        '3' => [0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110],
        '4' => [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
        '5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        '6' => [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
        '7' => [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
        '8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        '9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
        '-' => [0b00000, 0b00000, 0b00000, 0b11111, 0b00000, 0b00000, 0b00000],
        '.' => [0b00000, 0b00000, 0b00000, 0b00000, 0b00000, 0b01100, 0b01100],
        ':' => [0b00000, 0b01100, 0b01100, 0b00000, 0b01100, 0b01100, 0b00000],
        '(' => [0b00010, 0b00100, 0b01000, 0b01000, 0b01000, 0b00100, 0b00010],
        ')' => [0b01000, 0b00100, 0b00010, 0b00010, 0b00010, 0b00100, 0b01000],
        'a' => [0b00000, 0b00000, 0b01110, 0b00001, 0b01111, 0b10001, 0b01111],
        'e' => [0b00000, 0b00000, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110],
        'i' => [0b00100, 0b00000, 0b01100, 0b00100, 0b00100, 0b00100, 0b01110],
        'l' => [0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        'm' => [0b00000, 0b00000, 0b11010, 0b10101, 0b10101, 0b10101, 0b10101],
        'o' => [0b00000, 0b00000, 0b01110, 0b10001, 0b10001, 0b10001, 0b01110],
        'p' => [0b00000, 0b00000, 0b11110, 0b10001, 0b11110, 0b10000, 0b10000],
        's' => [0b00000, 0b00000, 0b01111, 0b10000, 0b01110, 0b00001, 0b11110],
        't' => [0b01000, 0b01000, 0b11100, 0b01000, 0b01000, 0b01001, 0b00110],
        'u' => [0b00000, 0b00000, 0b10001, 0b10001, 0b10001, 0b10011, 0b01101],
        _ => [0; 7],
    }
}
