//! The picture: bars of requests per second, and the latency distribution at the most connections.

use std::fmt::Write;

use super::LoadResult;
use super::measure::Load;
use super::wrk::PERCENTILES;

const WIDTH: f64 = 960.0;
const BAR_PANEL: f64 = 300.0;
const LINE_PANEL: f64 = 300.0;
const MARGIN: f64 = 56.0;
/// Space right of a distribution's curves, for their last values and the next one's scale.
const LABEL_SPACE: f64 = 100.0;
/// The height of a line of text.
const LINE: f64 = 14.0;
const OURS: &str = "#d9480f";
const LINUX: &str = "#868e96";
const GRID: &str = "#e9ecef";

/// Draws all results.
pub(super) fn draw(loads: &[LoadResult]) -> String {
    let height = BAR_PANEL + LINE_PANEL;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n",
    );
    legend(&mut svg);
    bars(&mut svg, loads);
    distributions(&mut svg, loads);
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
}

/// A number over a bar, which is about as wide as that.
fn small_text(svg: &mut String, x: f64, y: f64, content: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" font-size=\"9\">{content}</text>"
    );
}

fn rectangle(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), color: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>"
    );
}

fn legend(svg: &mut String) {
    for (x, color, name) in [(WIDTH - 200.0, OURS, "unikernel"), (WIDTH - 110.0, LINUX, "Linux guest")] {
        rectangle(svg, (x, 10.0), (12.0, 12.0), color);
        text(svg, x + 16.0, 20.0, "start", name);
    }
}

/// Both systems' loads with their colours, where they were measured.
fn colored(result: &LoadResult) -> impl Iterator<Item = (&Load, &'static str)> {
    let ours = result.load.ours.as_ref().map(|load| (load, OURS));
    ours.into_iter().chain(result.load.linux.as_ref().map(|load| (load, LINUX)))
}

/// A pair of bars for each app and number of connections.
fn bars(svg: &mut String, loads: &[LoadResult]) {
    let rates = loads.iter().flat_map(colored).map(|(load, _)| load.requests_per_second);
    let highest = rates.fold(1.0, f64::max);
    let (base, height) = (BAR_PANEL - 50.0, BAR_PANEL - 100.0);
    let slot = (WIDTH - 2.0 * MARGIN) / loads.len().max(1) as f64;
    text(svg, MARGIN, 20.0, "start", "requests per second, by connections");
    let mut apps = 0;
    for (index, result) in loads.iter().enumerate() {
        let x = MARGIN + slot * index as f64;
        for (load, color) in colored(result) {
            let offset = if color == OURS { 0.08 } else { 0.5 };
            let bar = load.requests_per_second / highest * height;
            rectangle(svg, (x + slot * offset, base - bar), (slot * 0.38, bar), color);
            let label = format!("{:.1}k", load.requests_per_second / 1000.0);
            small_text(svg, x + slot * (offset + 0.19), base - bar - 4.0, &label);
        }
        text(svg, x + slot * 0.5, base + 16.0, "middle", &result.connections.to_string());
        if index == 0 || loads[index - 1].app != result.app {
            // An app with one pair of bars has no room beside its neighbour's name: every other stands lower.
            let row = apps % 2;
            apps += 1;
            text(svg, x + slot * 0.08, base + 32.0 + LINE * f64::from(row), "start", &result.app);
        }
    }
}

/// Latency by percentile for each app at its most connections.
fn distributions(svg: &mut String, loads: &[LoadResult]) {
    let most = loads.iter().map(|load| load.connections).max().unwrap_or(0);
    let chosen: Vec<&LoadResult> = loads.iter().filter(|load| load.connections == most).collect();
    let width = (WIDTH - 2.0 * MARGIN) / chosen.len().max(1) as f64;
    let title = format!("latency at {most} connections by percentile (both axes logarithmic)");
    text(svg, MARGIN, BAR_PANEL + 20.0, "start", &title);
    let scale = LatencyScale::covering(&chosen);
    for (index, result) in chosen.into_iter().enumerate() {
        distribution(svg, result, MARGIN + width * index as f64, width - LABEL_SPACE, &scale);
    }
}

/// Microseconds to heights, by powers of ten.
struct LatencyScale {
    lowest: f64,
    highest: f64,
}

impl LatencyScale {
    const TOP: f64 = BAR_PANEL + 40.0;
    const BASE: f64 = BAR_PANEL + LINE_PANEL - 44.0;

    fn covering(results: &[&LoadResult]) -> Self {
        let values = results.iter().flat_map(|result| colored(result)).flat_map(|(load, _)| load.latency_us);
        let logarithms: Vec<f64> = values.map(|us| (us.max(1) as f64).log10()).collect();
        let lowest = logarithms.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let highest = logarithms.iter().copied().fold(1.0, f64::max).ceil();
        Self { lowest: lowest.min(highest - 1.0), highest }
    }

    fn y(&self, us: f64) -> f64 {
        let part = (us.max(1.0).log10() - self.lowest) / (self.highest - self.lowest);
        Self::BASE - part * (Self::BASE - Self::TOP)
    }

    /// The powers of ten on the scale.
    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.lowest as i32..=self.highest as i32).map(|exponent| 10_f64.powi(exponent))
    }
}

fn distribution(svg: &mut String, result: &LoadResult, left: f64, width: f64, scale: &LatencyScale) {
    // Each further nine takes as much room as the one before.
    let nines = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let x = |percentile: f64| left + width * nines(percentile) / nines(PERCENTILES[PERCENTILES.len() - 1]);
    for decade in scale.decades() {
        let y = scale.y(decade);
        let _ = writeln!(svg, "<path d=\"M{left:.1} {y:.1}h{width:.1}\" stroke=\"{GRID}\"/>");
        let label =
            if decade >= 1e6 { format!("{} s", decade / 1e6) } else { format!("{} ms", decade / 1e3) };
        text(svg, left - 4.0, y + 4.0, "end", &label);
    }
    let mut labelled = f64::INFINITY;
    for (load, color) in colored(result) {
        let points = PERCENTILES.iter().zip(load.latency_us);
        let points: Vec<String> = points
            .map(|(&percentile, us)| format!("{:.1},{:.1}", x(percentile), scale.y(us as f64)))
            .collect();
        let points = points.join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
        let last = load.latency_us[PERCENTILES.len() - 1] as f64;
        let mut y = scale.y(last) + 4.0;
        // The second curve may end where the first did; its label goes beside its neighbour then.
        if (y - labelled).abs() < LINE {
            y = if y < labelled { labelled - LINE } else { labelled + LINE };
        }
        labelled = y;
        text(svg, left + width + 4.0, y, "start", &format!("{:.1} ms", last / 1000.0));
    }
    for percentile in [50.0, 90.0, 99.0, 99.9, 99.99] {
        text(svg, x(percentile), LatencyScale::BASE + 16.0, "middle", &percentile.to_string());
    }
    text(svg, left, LatencyScale::BASE + 34.0, "start", &result.app);
}
