//! Text or Markdown that grows line by line, and numbers for people.

/// How the output looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Text,
    Markdown,
}

impl Style {
    /// Prints a fact with its name; further lines belong to it.
    pub fn fact(self, name: &str, lines: &[String]) {
        match self {
            Self::Markdown => println!("* {name}: {}", lines.join(" ")),
            Self::Text => {
                for (index, line) in lines.iter().enumerate() {
                    let name = if index == 0 { format!("{name}:") } else { String::new() };
                    println!("{name:<12} {line}");
                }
            }
        }
    }

    /// Prints a heading, and below it lines of text.
    pub fn section(self, heading: &str, lines: &[&str]) {
        match self {
            Self::Markdown => println!("\n## {heading}\n"),
            Self::Text => println!("\n{heading}\n"),
        }
        for line in lines {
            println!("{line}");
        }
    }

    /// Prints text.
    pub fn text(self, lines: &[String]) {
        println!();
        for line in lines {
            println!("{line}");
        }
    }
}

/// A table whose columns have fixed widths.
pub struct Table<const N: usize> {
    style: Style,
    /// Left-aligned columns, from the first on; the others are right-aligned.
    left: usize,
    widths: [usize; N],
}

impl<const N: usize> Table<N> {
    /// Prints the head. A column's width is that of its text, with what keeps it from the next.
    pub fn start(style: Style, left: usize, columns: [(&str, usize); N]) -> Self {
        let table = Self { style, left, widths: columns.map(|(_, width)| width) };
        println!();
        table.row(columns.map(|(name, _)| name.to_owned()));
        if style == Style::Markdown {
            let rule = |index| if index < left { "---" } else { "---:" }.to_owned();
            table.row(std::array::from_fn(rule));
        }
        table
    }

    /// Prints a line.
    pub fn row(&self, cells: [String; N]) {
        let mut line = String::new();
        for (index, (cell, &width)) in cells.iter().zip(&self.widths).enumerate() {
            if self.style == Style::Markdown {
                line += "| ";
            }
            line += &if index < self.left {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            };
            if self.style == Style::Markdown {
                line += " ";
            }
        }
        match self.style {
            Style::Markdown => println!("{line}|"),
            Style::Text => println!("{}", line.trim_end()),
        }
    }
}

/// With three significant digits and a unit that fits.
pub fn seconds(seconds: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")];
    let fits = units.into_iter().find(|(unit, _)| seconds >= 0.9995 * unit);
    let (unit, name) = fits.unwrap_or((1e-9, "ns"));
    format!("{} {name}", digits(seconds / unit))
}

/// In 10⁶ bytes or less.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", digits(bytes as f64 / 1e3)),
        _ => format!("{} MB", digits(bytes as f64 / 1e6)),
    }
}

/// With three significant digits, and all of those before the point; two for very small values.
pub fn digits(value: f64) -> String {
    let places = match value {
        ..0.00995 => return format!("{value:.1e}"),
        ..0.9995 => 3,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.places$}")
}

/// In hundredths.
pub fn percent(share: f64) -> String {
    let places = usize::from(share < 0.0995);
    format!("{:.places$} %", 100.0 * share)
}

/// How many times another value: with two places, or three significant digits.
pub fn ratio(ratio: f64) -> String {
    if ratio < 9.995 { format!("{ratio:.2}") } else { digits(ratio) }
}

/// A whole number, its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
