//! Where the labels of crowded points go.

/// Pixels to the right and down; or a width and a height.
pub type Pixels = (i32, i32);

/// A point, and the size of its label.
pub type Label = (Pixels, Pixels);

/// A rectangle of pixels, y growing downwards.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    /// The left and the upper edge.
    pub corner: Pixels,
    /// Width and height.
    pub size: Pixels,
}

/// Pixels between a label and a point, line or label that is not its own.
const GAP: i32 = 2;

/// Directions that are tried, from the right on, clockwise.
const DIRECTIONS: u32 = 32;

/// Pixels from a point to its label: at first, and more with each attempt.
const NEAREST: f64 = 7.0;
const STEP: f64 = 6.0;
const ATTEMPTS: u32 = 60;

impl Area {
    /// A square around a point.
    pub fn around((x, y): Pixels, radius: i32) -> Self {
        Self { corner: (x - radius, y - radius), size: (2 * radius, 2 * radius) }
    }

    /// Small areas that cover a line.
    pub fn along(
        (x, y): Pixels,
        (end_x, end_y): Pixels,
        radius: i32,
    ) -> impl Iterator<Item = Self> {
        let steps = ((end_x - x).abs().max((end_y - y).abs()) / 3).max(1);
        (0..=steps).map(move |step| {
            let part = |from: i32, to: i32| from + (to - from) * step / steps;
            Self::around((part(x, end_x), part(y, end_y)), radius)
        })
    }

    /// The point of the area that is nearest to `point`.
    pub fn nearest(&self, point: Pixels) -> Pixels {
        let ((x, y), (width, height)) = (self.corner, self.size);
        (point.0.clamp(x, x + width), point.1.clamp(y, y + height))
    }

    fn touches(&self, other: &Self) -> bool {
        let apart = |a: i32, a_size: i32, b: i32, b_size: i32| {
            a + a_size + GAP <= b || b + b_size + GAP <= a
        };
        let ((x, y), (width, height)) = (self.corner, self.size);
        let ((other_x, other_y), (other_width, other_height)) = (other.corner, other.size);
        !apart(x, width, other_x, other_width) && !apart(y, height, other_y, other_height)
    }

    fn contains(&self, other: &Self) -> bool {
        let ((x, y), (width, height)) = (self.corner, self.size);
        let ((other_x, other_y), (other_width, other_height)) = (other.corner, other.size);
        x <= other_x
            && y <= other_y
            && other_x + other_width <= x + width
            && other_y + other_height <= y + height
    }
}

/// A place for each label, the largest first, as near to its point as possible: inside `bounds`, and
/// where neither it nor the line to its point touches another label or anything that is `taken`.
pub fn place(labels: &[Label], bounds: Area, taken: &[Area]) -> Vec<Area> {
    let mut order: Vec<_> = (0..labels.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(labels[index].1.1));
    let mut placed = vec![Area { corner: (0, 0), size: (0, 0) }; labels.len()];
    let mut taken = taken.to_vec();
    let mut others: Vec<Area> = Vec::new();
    for index in order {
        let (point, size) = labels[index];
        let places = (0..ATTEMPTS).flat_map(|attempt| {
            let distance = NEAREST + STEP * f64::from(attempt);
            (0..DIRECTIONS).map(move |direction| beside(point, size, distance, direction))
        });
        let line = |place: &Area| Area::along(point, place.nearest(point), 0);
        let mut free = places.filter(|place| {
            bounds.contains(place)
                && !taken.iter().any(|other| place.touches(other))
                && !line(place).any(|part| others.iter().any(|other| part.touches(other)))
        });
        let place = free.next().unwrap_or_else(|| beside(point, size, NEAREST, 0));
        taken.extend(line(&place));
        taken.push(place);
        others.push(place);
        placed[index] = place;
    }
    placed
}

/// A label at this distance from its point.
fn beside(point: Pixels, size: Pixels, distance: f64, direction: u32) -> Area {
    let angle = f64::from(direction) / f64::from(DIRECTIONS) * std::f64::consts::TAU;
    let centre = |at: i32, size: i32, part: f64| {
        (f64::from(at) + part * (distance + f64::from(size) / 2.0)).round() as i32
    };
    let (x, y) = (centre(point.0, size.0, angle.cos()), centre(point.1, size.1, angle.sin()));
    Area { corner: (x - size.0 / 2, y - size.1 / 2), size }
}
