//! The picture: every kernel and shape under the roofline, as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::ceiling::Ceiling;
use crate::cost::Kernel;
use crate::labels::{Area, Pixels, place};
use crate::options::cannot;
use crate::results::Measurement;
use crate::rig::Rig;
use crate::shape::Shape;
use crate::table::digits;

/// Pixels of the picture.
const SIZE: (u32, u32) = (1500, 960);
const MARGIN: i32 = 20;
/// The name under which plotters knows the font; a viewer takes its own.
const FONT: &str = "sans-serif";
const PAPER: RGBColor = WHITE;
const GRID: RGBColor = RGBColor(226, 229, 233);
const INK: RGBColor = RGBColor(52, 58, 68);
const LEADER: RGBColor = RGBColor(170, 176, 186);

/// Pixels within which points of one shape share a label.
const NEAR: i32 = 16;

/// The height of a label.
const LINE: i32 = 15;

/// The space that the legend is left, and its distance from the axes.
const LEGEND: Pixels = (200, 180);
const LEGEND_MARGIN: u32 = 12;

/// Pixels from a point's centre to its edge: different ones, so that points in one place show like
/// the rings of a target.
const fn radius(kernel: Kernel) -> i32 {
    match kernel {
        Kernel::Encode => 10,
        Kernel::Decode => 8,
        Kernel::CodeGradient | Kernel::Backward | Kernel::Step => 6,
        Kernel::InputGradient => 4,
    }
}

/// The colours of Okabe and Ito, which the colour-blind can tell apart.
const fn colour(kernel: Kernel) -> RGBColor {
    match kernel {
        Kernel::Encode => RGBColor(0, 114, 178),
        Kernel::Decode => RGBColor(213, 94, 0),
        Kernel::CodeGradient => RGBColor(86, 180, 233),
        Kernel::Backward => RGBColor(0, 158, 115),
        Kernel::InputGradient => RGBColor(230, 159, 0),
        Kernel::Step => RGBColor(204, 121, 167),
    }
}

/// Draws the file.
pub fn draw(
    path: &Path,
    rig: &Rig,
    ceiling: Ceiling,
    results: &[Measurement],
) -> Result<(), String> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the font of the picture cannot be read")?;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let adapter = rig.gpu.adapter.get_info().name;
    let title = format!("{adapter}, {}: batch x inputs x hidden", rig.driver());
    draw_chart(&area, &title, ceiling, results)
        .and_then(|()| area.present())
        .map_err(|error| cannot(path, &error))
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

fn draw_chart<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    title: &str,
    ceiling: Ceiling,
    results: &[Measurement],
) -> Drawn<DB> {
    let ink = |size: i32| (FONT, size).into_font().color(&INK);
    let (low_x, high_x) = range(results.iter().map(Measurement::intensity));
    let (low_y, _) = range(results.iter().map(Measurement::gflops));
    let ridge = ceiling.gflops / ceiling.gbytes;
    let (low_x, high_x) = (low_x.min(ridge) / 2.0, high_x.max(ridge) * 3.0);
    let (low_y, high_y) = (low_y / 3.0, ceiling.gflops * 2.0);

    area.fill(&PAPER)?;
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .caption(title, ink(22))
        .x_label_area_size(50)
        .y_label_area_size(80)
        .build_cartesian_2d((low_x..high_x).log_scale(), (low_y..high_y).log_scale())?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(ink(16))
        .x_desc("floating-point operations for each byte that has to be moved")
        .y_desc("GFLOP/s")
        .x_label_formatter(&|value| tick(*value))
        .y_label_formatter(&|value| tick(*value))
        .draw()?;

    let roof = [low_x, ridge, high_x].map(|x| (x, ceiling.gflops_at(x)));
    chart.draw_series([PathElement::new(roof, INK.stroke_width(2))])?;
    for kernel in Kernel::ALL {
        let (radius, fill) = (radius(kernel), colour(kernel).filled());
        // The points themselves come last, over the lines to their labels.
        chart
            .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?
            .label(kernel.name())
            .legend(move |(x, y)| Circle::new((x + 10, y), radius, fill));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(PAPER)
        .border_style(GRID)
        .label_font(ink(16))
        .legend_area_size(30)
        .margin(LEGEND_MARGIN)
        .draw()?;

    // From here on in pixels.
    let at = |x: f64, y: f64| chart.backend_coord(&(x, y));
    let bounds = between(at(low_x, high_y), at(high_x, low_y));
    let roof = roof.map(|(x, y)| at(x, y));
    let compute = format!("{} GFLOP/s", digits(ceiling.gflops));
    let anchor = ink(16).pos(Pos::new(HPos::Right, VPos::Bottom));
    area.draw(&Text::new(compute, (roof[2].0 - 8, roof[2].1 - 4), anchor.clone()))?;
    let bandwidth = format!("{} GB/s", digits(ceiling.gbytes));
    let middle = ((roof[0].0 + roof[1].0) / 2, (roof[0].1 + roof[1].1) / 2);
    area.draw(&Text::new(bandwidth, (middle.0 - 8, middle.1 - 4), anchor))?;

    let points = results.iter().map(|result| at(result.intensity(), result.gflops()));
    let clusters = clusters(results, points.collect());
    let mut taken: Vec<_> = clusters.iter().flat_map(Cluster::areas).collect();
    taken.push(Area { corner: bounds.corner, size: LEGEND });
    taken.extend(roof.windows(2).flat_map(|ends| Area::along(ends[0], ends[1], 2)));
    let mut labels = Vec::new();
    for cluster in &clusters {
        // Colours tell the kernels apart.
        let (width, _) = area.estimate_text_size(&cluster.shape.to_string(), &ink(13))?;
        labels.push((cluster.points[0].1, (width as i32, LINE)));
    }
    for (cluster, place) in clusters.iter().zip(place(&labels, bounds, &taken)) {
        let point = cluster.points[0].1;
        area.draw(&PathElement::new([point, place.nearest(point)], LEADER))?;
        area.draw(&Text::new(cluster.shape.to_string(), place.corner, ink(13)))?;
    }
    for (kernel, point) in clusters.iter().flat_map(|cluster| &cluster.points) {
        area.draw(&Circle::new(*point, radius(*kernel), colour(*kernel).filled()))?;
    }
    Ok(())
}

/// Points of one shape that lie close together.
struct Cluster {
    shape: Shape,
    points: Vec<(Kernel, Pixels)>,
}

impl Cluster {
    fn is_near(&self, shape: Shape, (x, y): Pixels) -> bool {
        let (_, first) = self.points[0];
        self.shape == shape && (x - first.0).abs() <= NEAR && (y - first.1).abs() <= NEAR
    }

    fn areas(&self) -> impl Iterator<Item = Area> {
        self.points.iter().map(|(kernel, point)| Area::around(*point, radius(*kernel)))
    }
}

fn clusters(results: &[Measurement], points: Vec<Pixels>) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for (result, point) in results.iter().zip(points) {
        let (kernel, shape) = (result.kernel, result.shape);
        match clusters.iter_mut().find(|cluster| cluster.is_near(shape, point)) {
            Some(cluster) => cluster.points.push((kernel, point)),
            None => clusters.push(Cluster { shape, points: vec![(kernel, point)] }),
        }
    }
    clusters
}

/// The smallest and the largest.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(value), high.max(value)))
}

/// The pixels between two corners, without the axes.
fn between((left, top): Pixels, (right, bottom): Pixels) -> Area {
    Area { corner: (left + 2, top + 2), size: (right - left - 4, bottom - top - 4) }
}

/// A power of ten as a plain number.
fn tick(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}
