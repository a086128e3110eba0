//! Line charts as SVG files, and as PNG where a program cannot show SVG.

use anyhow::{Context, Result, bail};
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use resvg::{tiny_skia, usvg};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A chart: what the axes mean and the lines in it.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) lines: Vec<Line<'a>>,
    /// The name of the line `y = x`, where one helps to compare.
    pub(crate) diagonal: Option<&'a str>,
}

/// One line: its name in the legend and its points.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (800, 500);
/// Of lines, readable on light and dark pages and told apart by most people.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x2f, 0x81, 0xf7),
    RGBColor(0xe8, 0x71, 0x0a),
    RGBColor(0x2d, 0xa4, 0x4e),
    RGBColor(0xa3, 0x71, 0xf7),
    RGBColor(0xdb, 0x61, 0xa2),
    RGBColor(0x1b, 0x9a, 0xaa),
    RGBColor(0xa0, 0x64, 0x3c),
    RGBColor(0xc9, 0x3c, 0x37),
];
const DIAGONAL: RGBColor = RGBColor(0x88, 0x88, 0x88);

impl Chart<'_> {
    /// Draws the chart into `path`, replacing what was there only when all went well. A name that
    /// ends in `.png` makes it a bitmap.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|error| anyhow::anyhow!("drawing {:?}: {error}", self.title))?;
        write_picture(path, &svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), DrawError> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x_max = points().map(|point| point.0).fold(1e-9, f64::max);
        let y_max = points().map(|point| point.1).fold(1e-9, f64::max);
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut plane = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..x_max * 1.02, 0.0..y_max * 1.05)?;
        plane
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .max_light_lines(0)
            .x_label_formatter(&label)
            .y_label_formatter(&label)
            .draw()?;
        if let Some(name) = self.diagonal {
            draw_diagonal(&mut plane, name, f64::min(x_max, y_max * 1.05))?;
        }
        self.draw_lines(&mut plane)?;
        area.present()
    }

    /// The lines, and the legend.
    fn draw_lines<'a, 'svg: 'a>(&self, plane: &mut Plane<'a, 'svg>) -> Result<(), DrawError> {
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            plane
                .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            let dots = line.points.iter().map(|&point| Circle::new(point, 3, colour.filled()));
            plane.draw_series(dots)?;
        }
        plane
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .position(SeriesLabelPosition::UpperLeft)
            .draw()
    }
}

/// What charts are drawn in.
type Plane<'a, 'svg> =
    ChartContext<'a, SVGBackend<'svg>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

type DrawError = DrawingAreaErrorKind<std::io::Error>;

/// The line `y = x` up to `end`.
fn draw_diagonal(plane: &mut Plane<'_, '_>, name: &str, end: f64) -> Result<(), DrawError> {
    let style = DIAGONAL.stroke_width(1);
    plane
        .draw_series(DashedLineSeries::new([(0.0, 0.0), (end, end)], 6, 5, style))?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    Ok(())
}

/// A number at an axis, without zeros that say nothing.
fn label(number: &f64) -> String {
    // Sums of steps such as 0.1 are a little off.
    ((number * 1e6).round() / 1e6).to_string()
}

/// Writes a drawing as SVG, or as PNG where the path ends in `.png`. An SVG follows the page that it
/// is on: white ground, black text and light rules change where that is dark.
///
/// # Errors
/// The file cannot be written, or there is no font to draw the texts of a PNG with.
pub(crate) fn write_picture(path: &Path, svg: &str) -> Result<()> {
    if path.extension().is_some_and(|ending| ending == "png") {
        replace(path, &png(svg)?)
    } else {
        replace(path, themed(svg).as_bytes())
    }
}

/// The drawing with colours for dark pages.
fn themed(svg: &str) -> String {
    let begin = svg.find("<svg").unwrap_or(0);
    let inside = svg[begin..].find('>').map_or(0, |end| begin + end + 1);
    let (head, drawing) = svg.split_at(inside);
    let mut style = "<style>@media (prefers-color-scheme: dark) {".to_owned();
    for (light, dark) in DARK {
        for property in ["fill", "stroke"] {
            let _ = write!(style, " [{property}=\"{light}\"] {{ {property}: {dark} }}");
        }
    }
    format!("{head}\n{style} }}</style>{drawing}")
}

/// Colours of light pages, and those that take their place on dark ones.
const DARK: [(&str, &str); 3] =
    [("#FFFFFF", "#0d1117"), ("#000000", "#e6edf3"), ("#DDDDDD", "#30363d")];

/// Bitmaps have twice the pixels, for dense screens and print.
const PNG_SCALE: f32 = 2.0;

/// Fonts that machines have; any other will do where none of them is there.
const SANS_SERIF: [&str; 4] = ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial"];

fn png(svg: &str) -> Result<Vec<u8>> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let family = |face: &usvg::fontdb::FaceInfo| Some(face.families.first()?.0.clone());
    let families: Vec<String> = fonts.faces().filter_map(family).collect();
    let usual = families.iter().find(|family| SANS_SERIF.contains(&family.as_str()));
    let Some(family) = usual.or(families.first()) else {
        bail!("no font found to draw a PNG with: install one, such as DejaVu Sans, or write SVG");
    };
    fonts.set_sans_serif_family(family);
    let tree = usvg::Tree::from_str(svg, &options).context("drawing the PNG")?;
    let size = tree.size().to_int_size().scale_by(PNG_SCALE);
    let size = size.context("the drawing is empty")?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height())
        .context("the drawing is too large for a PNG: write SVG")?;
    let scale = tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    pixels.encode_png().context("drawing the PNG")
}

/// Writes a file beside `path`, then renames it: nobody sees half a file, and where writing fails
/// the old one is still there.
///
/// # Errors
/// The folder does not exist or cannot be written to.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(failed)?;
    file.write_all(contents).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_lines() {
        let line = Line { name: "eager", points: vec![(0.0, 1.0), (2.0, 3.0)] };
        let chart =
            Chart { title: "goodput", x: "offered", y: "good", lines: vec![line], diagonal: None };
        let mut svg = String::new();
        chart.draw(&mut svg).unwrap();
        assert!(svg.contains("eager") && svg.contains("goodput") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_picture_is_written_as_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let line = Line { name: "eager", points: vec![(0.0, 1.0), (2.0, 3.0)] };
        let chart =
            Chart { title: "goodput", x: "offered", y: "good", lines: vec![line], diagonal: None };
        for (name, start) in [("a.svg", &b"<svg"[..]), ("a.png", &b"\x89PNG"[..])] {
            let path = folder.path().join(name);
            chart.write(&path).unwrap();
            assert!(std::fs::read(path).unwrap().starts_with(start), "{name}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(chart.write(&folder.path().join("missing/a.svg")).is_err());
    }
}
