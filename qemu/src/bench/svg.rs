//! The picture: bars of requests per second, and the latency distribution at the most connections.

use std::fmt::Write;

use super::LoadResult;
use super::wrk::PERCENTILES;

const WIDTH: f64 = 960.0;
const BAR_PANEL: f64 = 300.0;
const LINE_PANEL: f64 = 260.0;
const MARGIN: f64 = 56.0;
const OURS: &str = "#d9480f";
const LINUX: &str = "#868e96";

/// Draws all results.
pub(super) fn draw(loads: &[LoadResult]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n",
        height = BAR_PANEL + LINE_PANEL,
    );
    legend(&mut svg);
    bars(&mut svg, loads);
    lines(&mut svg, loads);
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
}

fn rectangle(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), color: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"/>"
    );
}

fn legend(svg: &mut String) {
    for (x, color, name) in [(WIDTH - 200.0, OURS, "this kernel"), (WIDTH - 100.0, LINUX, "Linux guest")] {
        rectangle(svg, (x, 10.0), (12.0, 12.0), color);
        text(svg, x + 16.0, 20.0, "start", name);
    }
}

/// A pair of bars for each app and number of connections.
fn bars(svg: &mut String, loads: &[LoadResult]) {
    let highest = loads
        .iter()
        .map(|load| load.ours.requests_per_second.max(load.linux.requests_per_second))
        .fold(1.0, f64::max);
    let (base, height) = (BAR_PANEL - 50.0, BAR_PANEL - 100.0);
    let slot = (WIDTH - 2.0 * MARGIN) / loads.len() as f64;
    text(svg, MARGIN, 20.0, "start", "requests per second");
    for (index, load) in loads.iter().enumerate() {
        let x = MARGIN + slot * index as f64;
        for (offset, value, color) in
            [(0.1, load.ours.requests_per_second, OURS), (0.5, load.linux.requests_per_second, LINUX)]
        {
            let bar = value / highest * height;
            rectangle(svg, (x + slot * offset, base - bar), (slot * 0.38, bar), color);
            text(
                svg,
                x + slot * (offset + 0.19),
                base - bar - 4.0,
                "middle",
                &format!("{:.1}k", value / 1000.0),
            );
        }
        text(svg, x + slot * 0.5, base + 16.0, "middle", &format!("{} c", load.connections));
        if index == 0 || loads[index - 1].app != load.app {
            text(svg, x + slot * 0.1, base + 34.0, "start", &load.app);
        }
    }
}

/// Latency by percentile on a logarithmic scale, for each app at its most connections.
fn lines(svg: &mut String, loads: &[LoadResult]) {
    let most = loads.iter().map(|load| load.connections).max().unwrap_or(0);
    let chosen: Vec<&LoadResult> = loads.iter().filter(|load| load.connections == most).collect();
    let panel = (WIDTH - 2.0 * MARGIN) / chosen.len().max(1) as f64;
    let log = |us: u64| (us.max(1) as f64).log10();
    let highest = chosen
        .iter()
        .flat_map(|load| [&load.ours, &load.linux])
        .map(|load| log(load.latency_us[4]))
        .fold(1.0, f64::max);
    let (top, base) = (BAR_PANEL + 40.0, BAR_PANEL + LINE_PANEL - 40.0);
    let y = |us: u64| base - log(us) / highest * (base - top);
    text(
        svg,
        MARGIN,
        BAR_PANEL + 20.0,
        "start",
        &format!("latency at {most} connections, by percentile (logarithmic)"),
    );
    for (index, load) in chosen.iter().enumerate() {
        let left = MARGIN + panel * index as f64;
        let x = |point: usize| left + (panel - 70.0) * point as f64 / (PERCENTILES.len() - 1) as f64;
        for (system, color) in [(&load.ours, OURS), (&load.linux, LINUX)] {
            let points: Vec<String> = system
                .latency_us
                .iter()
                .enumerate()
                .map(|(point, &us)| format!("{:.1},{:.1}", x(point), y(us)))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                points.join(" ")
            );
            let last = system.latency_us[4];
            text(svg, x(4) + 4.0, y(last) + 4.0, "start", &format!("{:.1} ms", last as f64 / 1000.0));
        }
        for (point, name) in PERCENTILES.iter().enumerate() {
            text(svg, x(point), base + 16.0, "middle", name);
        }
        text(svg, left, base + 32.0, "start", &load.app);
    }
}
