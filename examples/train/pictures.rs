//! What a training run looks like, as PNG files: reconstructions below their originals, the rows of
//! the weight, and the loss curve.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::{fs, io};

use image::{ImageError, ImageFormat, Rgb, RgbImage};
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::register_font;
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

/// Draws `count` originals, twelve to a row, and below each its reconstructions: `kinds` are the
/// originals and then each kind of reconstruction.
///
/// All are row-major `[count, width * height]`; black is 0 and below, white is 1 and above.
pub fn reconstructions(
    path: &Path,
    kinds: &[&[f32]],
    count: usize,
    width: usize,
    height: usize,
) -> Result<(), PictureError> {
    let size = tile_size(path, kinds, count, width, height)?;
    let (columns, group) = (count.min(12), kinds.len());
    let grid = Grid { width, height, columns, rows: group * count.div_ceil(columns), group };
    let mut picture = grid.picture(path, count)?;
    for (below, tiles) in kinds.iter().enumerate() {
        for (index, tile) in tiles.chunks_exact(size).enumerate() {
            let (column, row) = (index % columns, index / columns * group + below);
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

/// Draws the loss of each step, and `floor`, the optimum of a linear code, as a horizontal line.
///
/// The axis of the loss is logarithmic where all losses are positive. There, an optimum below a
/// thousandth of the lowest loss is only named: its line would leave the curve no room.
/// A loss that is not finite is left out.
pub fn loss_curve(path: &Path, losses: &[f32], floor: Option<f64>) -> Result<(), PictureError> {
    let steps = losses.iter().map(|&loss| f64::from(loss)).enumerate();
    let points: Vec<(usize, f64)> = steps.filter(|(_, loss)| loss.is_finite()).collect();
    if points.is_empty() {
        return Err(PictureError::Empty { path: path.to_owned(), what: "finite loss" });
    }
    let failed = |cause: &dyn Display| PictureError::Draw {
        path: path.to_owned(),
        cause: cause.to_string(),
    };
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| failed(&"its font cannot be read"))?;
    let mut picture = RgbImage::new(1200, 720);
    let size = picture.dimensions();
    let area = BitMapBackend::with_buffer(&mut picture, size).into_drawing_area();
    let floor = floor.filter(|floor| floor.abs() <= f64::from(f32::MAX));
    draw_curve(&area, &points, floor).map_err(|cause| failed(&cause))?;
    drop(area);
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
/// Its axes and text.
const INK: RGBColor = RGBColor(72, 78, 88);
/// The loss.
const LOSS: RGBColor = RGBColor(33, 84, 172);
/// The known optimum.
const FLOOR: RGBColor = RGBColor(208, 84, 24);
/// The name under which plotters knows the font.
const FONT: &str = "sans-serif";

/// Draws the loss curve through at least one point.
fn draw_curve<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    points: &[(usize, f64)],
    floor: Option<f64>,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let losses = points.iter().map(|point| point.1);
    let lowest = losses.clone().fold(f64::INFINITY, f64::min);
    let logarithmic = lowest > 0.0;
    let line = floor.filter(|&floor| !logarithmic || floor >= lowest / 1000.0);
    let low = line.map_or(lowest, |line| line.min(lowest));
    let high = losses.chain(line).fold(low, f64::max);
    // There is room at the ends, and equal values still get an axis of some length.
    if logarithmic {
        let room = (high / low).powf(0.05).max(1.01);
        let (low, high) = (low / room, high * room);
        let axis = (low..high).log_scale().with_key_points(logarithmic_ticks(low, high));
        draw_chart(area, axis, 0.0, points, floor, line)
    } else {
        let size = low.abs().max(high.abs());
        let room = if size == 0.0 { 1.0 } else { (0.05 * (high - low)).max(0.01 * size) };
        // What plotters says in place of 0 may be a little off, such as -3e-17.
        let least = 1e-9 * (high - low + room);
        draw_chart(area, low - room..high + room, least, points, floor, line)
    }
}

/// Draws the loss curve on an axis whose ticks below `least` are zero.
///
/// The optimum `floor` is named, and drawn if there is a `line`.
fn draw_chart<DB: DrawingBackend, Y: AsRangedCoord<Value = f64>>(
    area: &DrawingArea<DB, Shift>,
    losses: Y,
    least: f64,
    points: &[(usize, f64)],
    floor: Option<f64>,
    line: Option<f64>,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>
where
    Y::CoordDescType: ValueFormatter<f64>,
{
    let text = (FONT, 22).into_font().color(&INK);
    let last = points[points.len() - 1];
    let end = last.0.max(1);

    area.fill(&PAPER)?;
    let mut chart = ChartBuilder::on(area)
        .margin(24)
        .caption("Loss of each step", (FONT, 28).into_font().color(&INK))
        .x_label_area_size(64)
        .y_label_area_size(120)
        .build_cartesian_2d(0..end, losses)?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(text.clone())
        .x_desc("step")
        .y_desc("loss")
        .y_label_offset(3) // Or else the text is a little above its line.
        .y_label_formatter(&|&loss| label(if loss.abs() < least { 0.0 } else { loss }))
        .draw()?;

    let swatch = |colour: RGBColor| {
        move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(2))
    };
    // One line a step: the sharp corners of a single path would be drawn as long spikes.
    let lines = points.windows(2);
    chart
        .draw_series(lines.map(|ends| PathElement::new(ends, LOSS.stroke_width(2))))?
        .label(format!("loss, {} at the end", label(last.1)))
        .legend(swatch(LOSS));
    chart.draw_series([Circle::new(last, 4, LOSS.filled())])?;
    if let Some(floor) = floor {
        let place = if line.is_some() { "" } else { " (far below)" };
        let line = line.map(|line| [(0, line), (end, line)]);
        chart
            .draw_series(line.map(|ends| PathElement::new(ends, FLOOR.stroke_width(2))))?
            .label(format!("linear optimum, {}{place}", label(floor)))
            .legend(swatch(FLOOR));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(PAPER.mix(0.85))
        .border_style(GRID)
        .label_font(text)
        .legend_area_size(32)
        .margin(12)
        .draw()
}

/// Labelled values of a logarithmic axis. By itself, plotters labels powers of ten alone.
fn logarithmic_ticks(low: f64, high: f64) -> Vec<f64> {
    // In this unit, no value is so small that plotters takes it for zero.
    let unit = 10_f64.powf(low.log10().floor());
    let (low, high) = (low / unit, high / unit);
    let factors: &[f64] = match high / low {
        ..7.0 => {
            let even = RangedCoordf64::from(low..high).key_points(9);
            return even.into_iter().map(|tick| tick * unit).collect();
        }
        ..50.0 => &[1.0, 2.0, 3.0, 5.0, 7.0],
        ..1000.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let multiples = factors.iter().flat_map(|factor| {
        let powers = LogCoord::from((low / factor..high / factor).log_scale()).key_points(9);
        powers.into_iter().map(move |power| power * factor * unit)
    });
    multiples.collect()
}

/// A number with at most six significant digits.
fn label(value: f64) -> String {
    let rounded = format!("{value:.5e}").parse().unwrap_or(value);
    if rounded == 0.0 || (1e-4..1e7).contains(&rounded.abs()) {
        rounded.to_string()
    } else {
        format!("{rounded:e}")
    }
}
