//! Line charts as SVG files.

use anyhow::{Context, Result};
use plotters::prelude::*;
use std::path::Path;

/// A chart: what the axes mean and the lines in it.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) lines: Vec<Line<'a>>,
}

/// One line: its name in the legend and its points.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (800, 500);

impl Chart<'_> {
    /// Draws the chart into `path`, replacing what was there only when all went well.
    pub(crate) fn write_svg(&self, path: &Path) -> Result<()> {
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|error| anyhow::anyhow!("drawing {:?}: {error}", self.title))?;
        let unfinished = path.with_extension("svg.part");
        std::fs::write(&unfinished, svg)
            .and_then(|()| std::fs::rename(&unfinished, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x_max = points().map(|point| point.0).fold(1e-9, f64::max);
        let y_max = points().map(|point| point.1).fold(1e-9, f64::max);
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..x_max * 1.02, 0.0..y_max * 1.05)?;
        chart.configure_mesh().x_desc(self.x).y_desc(self.y).light_line_style(WHITE).draw()?;
        for (number, line) in self.lines.iter().enumerate() {
            let colour = Palette99::pick(number).to_rgba();
            let style = colour.stroke_width(2);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            let dots = line.points.iter().map(|&point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .position(SeriesLabelPosition::UpperLeft)
            .draw()?;
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_lines() {
        let line = Line { name: "eager", points: vec![(0.0, 1.0), (2.0, 3.0)] };
        let chart = Chart { title: "goodput", x: "offered", y: "good", lines: vec![line] };
        let mut svg = String::new();
        chart.draw(&mut svg).unwrap();
        assert!(svg.contains("eager") && svg.contains("goodput") && svg.ends_with("</svg>\n"));
    }
}
