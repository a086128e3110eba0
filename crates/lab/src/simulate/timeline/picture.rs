//! The timeline as a picture: arrivals on top, then the accelerators of each policy as rows with
//! batches as boxes, and a time line below.

use super::shown::{ShownBatch, ShownModel, ShownRun, Timeline};
use std::fmt::Write as _;
use symphony_core::{Objective, Time};

const LEFT: f64 = 104.0;
const WIDTH: f64 = 776.0;
const RIGHT: f64 = LEFT + WIDTH;
const TOP: f64 = 12.0;
/// Of arrivals, of drops, and of an accelerator.
const ROW: f64 = 24.0;
const BOX: f64 = 19.0;
const HEADING: f64 = 30.0;
const AXIS: f64 = 40.0;
const LEGEND: f64 = 24.0;
/// About how wide a letter is.
const LETTER: f64 = 6.5;
/// At most so many marks on the time line.
const MARKS_MAX: f64 = 12.0;

/// Light enough for dark text.
const COLOURS: [&str; 10] = [
    "#8ecae6", "#ffb703", "#95d5b2", "#cdb4db", "#f4a261", "#a3b18a", "#e5989b", "#90dbf4",
    "#d4a373", "#bde0fe",
];
/// Of texts, of the ground and of lines on it: those that change where the page is dark.
const INK: &str = "#000000";
const PAPER: &str = "#FFFFFF";
const RULE: &str = "#DDDDDD";
/// Readable on both.
const IN_BOX: &str = "#111111";
const SLACK: &str = "#888888";
const ALARM: &str = "#E5484D";

/// Draws a timeline.
pub(super) fn svg(timeline: &Timeline) -> String {
    let mut canvas = Canvas { svg: String::new(), y: TOP, timeline };
    canvas.arrivals();
    for run in &timeline.runs {
        canvas.run(run);
    }
    canvas.axis();
    canvas.legend();
    canvas.finish()
}

/// A picture that grows downwards.
struct Canvas<'a> {
    svg: String,
    /// Where the next row begins.
    y: f64,
    timeline: &'a Timeline,
}

impl Canvas<'_> {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.svg, "{element}").expect("a string takes any text");
    }

    /// Where a moment is, which may be outside of the picture.
    fn x(&self, time: Time) -> f64 {
        let Timeline { from, to, .. } = self.timeline;
        let ms = |later: Time, earlier: Time| later.since(earlier).as_millis_f64();
        LEFT + (ms(time, *from) - ms(*from, time)) * WIDTH / ms(*to, *from)
    }

    fn x_inside(&self, time: Time) -> f64 {
        self.x(time).clamp(LEFT, RIGHT)
    }

    /// The name of a row, with the line that its boxes stand on.
    fn row(&mut self, name: &str) {
        let (text, line) = (self.y + BOX * 0.7, self.y + BOX + 2.0);
        self.add(format_args!("<text x=\"8\" y=\"{text:.1}\" fill=\"{INK}\">{name}</text>"));
        self.add(format_args!(
            "<path d=\"M{LEFT} {line:.1}H{RIGHT}\" stroke=\"{RULE}\" fill=\"none\"/>"
        ));
    }

    /// One path of strokes for each model, each stroke a request.
    fn arrivals(&mut self) {
        self.row("arrivals");
        let (top, low) = (self.y + 4.0, self.y + BOX);
        for model in 0..self.timeline.models.len() {
            let mut strokes = String::new();
            for arrival in self.timeline.arrivals.iter().filter(|one| one.model == model) {
                write!(strokes, "M{:.1} {top:.1}V{low:.1}", self.x(arrival.at))
                    .expect("a string takes any text");
            }
            let colour = colour(model);
            self.add(format_args!(
                "<path d=\"{strokes}\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"/>"
            ));
        }
        self.y += ROW;
    }

    fn run(&mut self, run: &ShownRun) {
        let text = self.y + HEADING - 9.0;
        self.add(format_args!(
            "<text x=\"8\" y=\"{text:.1}\" font-size=\"14\" font-weight=\"bold\" \
             fill=\"{INK}\">{}</text>",
            run.policy
        ));
        self.y += HEADING;
        let first = self.y;
        for number in 0..self.timeline.accelerators {
            self.row(&format!("accelerator {number}"));
            self.y += ROW;
        }
        let top = |batch: &ShownBatch| first + batch.accelerator as f64 * ROW;
        // Below the boxes, since the time that a batch has left may be the next one's.
        for batch in &run.batches {
            self.slack(batch, top(batch));
        }
        for batch in &run.batches {
            self.batch(batch, top(batch));
        }
        self.drops(run);
    }

    /// The time from the end of a batch to its earliest deadline.
    fn slack(&mut self, batch: &ShownBatch, top: f64) {
        let (end, due) = (self.x_inside(batch.end), self.x_inside(batch.deadline));
        if due <= end {
            return;
        }
        let (middle, high, low) = (top + BOX / 2.0, top + 4.0, top + BOX - 4.0);
        self.add(format_args!(
            "<path d=\"M{end:.1} {middle:.1}H{due:.1}M{due:.1} {high:.1}V{low:.1}\" \
             stroke=\"{SLACK}\" fill=\"none\"/>"
        ));
    }

    fn batch(&mut self, batch: &ShownBatch, top: f64) {
        let (begin, end) = (self.x_inside(batch.begin), self.x_inside(batch.end));
        let (width, size) = (end - begin, batch.size.to_string());
        let name = escaped(&self.timeline.models[batch.model].name);
        let colour = colour(batch.model);
        self.add(format_args!(
            "<rect x=\"{begin:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BOX}\" rx=\"2\" \
             fill=\"{colour}\" stroke=\"{PAPER}\"><title>{name}: {size} requests, {} to {}, due \
             {}</title></rect>",
            batch.begin, batch.end, batch.deadline
        ));
        if width > (size.len() as f64 + 0.5) * LETTER {
            let (middle, base) = (begin + width / 2.0, top + BOX * 0.72);
            self.add(format_args!(
                "<text x=\"{middle:.1}\" y=\"{base:.1}\" text-anchor=\"middle\" \
                 fill=\"{IN_BOX}\">{size}</text>"
            ));
        }
        if batch.deadline < batch.end {
            let (due, low) = (self.x_inside(batch.deadline), top + BOX);
            self.add(format_args!(
                "<path d=\"M{due:.1} {top:.1}V{low:.1}\" stroke=\"{ALARM}\" stroke-width=\"2\"/>"
            ));
        }
    }

    /// A row of crosses, where anything was dropped.
    fn drops(&mut self, run: &ShownRun) {
        if run.drops.is_empty() {
            return;
        }
        self.row(&format!("dropped: {}", run.drops.len()));
        let y = self.y + BOX / 2.0;
        for drop in &run.drops {
            let x = self.x(drop.at);
            let (left, right, high, low) = (x - 3.0, x + 3.0, y - 3.0, y + 3.0);
            let name = escaped(&self.timeline.models[drop.model].name);
            self.add(format_args!(
                "<path d=\"M{left:.1} {high:.1}L{right:.1} {low:.1}M{left:.1} {low:.1}L{right:.1} \
                 {high:.1}\" stroke=\"{ALARM}\" stroke-width=\"1.5\"><title>{name}: {}</title>\
                 </path>",
                drop.reason
            ));
        }
        self.y += ROW;
    }

    fn axis(&mut self) {
        let (y, text) = (self.y + 8.0, self.y + 26.0);
        self.add(format_args!("<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"{SLACK}\"/>"));
        self.add(format_args!("<text x=\"8\" y=\"{text:.1}\" fill=\"{INK}\">time, ms</text>"));
        let Timeline { from, to, from_ms, .. } = self.timeline;
        let span = to.since(*from).as_millis_f64();
        let step = step(span);
        let first = (from_ms / step).ceil();
        let marks = std::iter::successors(Some(first), |mark| Some(mark + 1.0));
        for ms in marks.map(|mark| mark * step).take_while(|ms| *ms <= from_ms + span) {
            let (x, low) = (LEFT + (ms - from_ms) * WIDTH / span, y + 5.0);
            let ms = (ms * 1e6).round() / 1e6;
            self.add(format_args!("<path d=\"M{x:.1} {y:.1}V{low:.1}\" stroke=\"{SLACK}\"/>"));
            self.add(format_args!(
                "<text x=\"{x:.1}\" y=\"{text:.1}\" text-anchor=\"middle\" fill=\"{INK}\">{ms}\
                 </text>"
            ));
        }
        self.y += AXIS;
    }

    /// The models' colours; as many as fit stand beside each other.
    fn legend(&mut self) {
        let mut left = LEFT;
        for (number, model) in self.timeline.models.iter().enumerate() {
            let text = caption(model);
            let width = (text.chars().count() as f64 + 4.0) * LETTER;
            if left > LEFT && left + width > RIGHT {
                self.y += LEGEND;
                left = LEFT;
            }
            let (y, x, base) = (self.y, left + 18.0, self.y + 11.0);
            let (colour, text) = (colour(number), escaped(&text));
            self.add(format_args!(
                "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"12\" height=\"12\" rx=\"2\" \
                 fill=\"{colour}\"/><text x=\"{x:.1}\" y=\"{base:.1}\" fill=\"{INK}\">{text}</text>"
            ));
            left += width;
        }
        self.y += LEGEND;
    }

    fn finish(self) -> String {
        let (width, height) = (RIGHT + 20.0, self.y);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>\n{}</svg>\n",
            self.svg
        )
    }
}

fn colour(model: usize) -> &'static str {
    COLOURS[model % COLOURS.len()]
}

/// The distance of marks on a time line of so many milliseconds: 1, 2 or 5 times a power of ten.
fn step(span: f64) -> f64 {
    let steps = (-6..).flat_map(|power| [1.0, 2.0, 5.0].map(|times| times * 10f64.powi(power)));
    steps.into_iter().find(|step| step * MARKS_MAX >= span).unwrap_or(span)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A model's name and objective.
fn caption(model: &ShownModel) -> String {
    let ms = model.objective.span().as_millis_f64();
    match model.objective {
        Objective::Slo(_) => format!("{}, SLO {ms} ms", model.name),
        Objective::Soft(_) => format!("{}, best effort, {ms} ms", model.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_few() {
        for (span, expected) in [(100.0, 10.0), (120.0, 10.0), (121.0, 20.0), (0.5, 0.05)] {
            assert!((step(span) - expected).abs() < 1e-9, "{span}: {}", step(span));
        }
    }
}
