//! The layers as a picture (`docs/layers.svg`): drawn from the table that is checked, so that it shows nothing else.

use std::fmt::Write;

use crate::references::LAYERS;

const WIDTH: usize = 960;
/// What a row takes, and how much of it is its box.
const ROW: usize = 56;
const BOX: usize = 46;
/// Where the rooms of a row begin.
const ROOMS_AT: usize = 400;
const ROOM_WIDTH: usize = 100;

/// Dark on a ground of its own, so that it can be read on pages of any colour.
pub(crate) fn picture() -> String {
    let height = (LAYERS.len() + 2) * ROW + 40;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>The layers of the kernel: a room uses rooms of the layers below, and of its own without a circle</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    row(&mut svg, 0, "#ffe8cc", "ring 3: the app", &[]);
    for (index, layer) in LAYERS.iter().rev().enumerate() {
        row(&mut svg, index + 1, "#e7f5ff", layer.purpose, layer.rooms);
    }
    row(&mut svg, LAYERS.len() + 1, "#f1f3f5", "the virtual machine: processors, memory, devices", &[]);
    let end = height - 12;
    let _ = writeln!(
        svg,
        "<text x=\"20\" y=\"{end}\">A room uses rooms of the layers below, and of its own without a circle. What calls up is set at boot \
         (register_callbacks in lib.rs).</text>\n</svg>"
    );
    svg
}

fn row(svg: &mut String, index: usize, colour: &str, purpose: &str, rooms: &[&str]) {
    let top = index * ROW + 10;
    let baseline = top + BOX / 2 + 5;
    let _ = writeln!(
        svg,
        "<rect x=\"10\" y=\"{top}\" width=\"{}\" height=\"{BOX}\" rx=\"4\" fill=\"{colour}\" stroke=\"#495057\"/>\n\
         <text x=\"20\" y=\"{baseline}\">{purpose}</text>",
        WIDTH - 20,
    );
    for (place, room) in rooms.iter().enumerate() {
        let left = ROOMS_AT + place * (ROOM_WIDTH + 10);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{}\" width=\"{ROOM_WIDTH}\" height=\"{}\" rx=\"4\" fill=\"white\" stroke=\"#868e96\"/>\n\
             <text x=\"{}\" y=\"{baseline}\" text-anchor=\"middle\" font-family=\"monospace\">{room}</text>",
            top + 8,
            BOX - 16,
            left + ROOM_WIDTH / 2,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_room_has_a_box_within_the_picture() {
        let picture = picture();
        for room in LAYERS.iter().flat_map(|layer| layer.rooms) {
            assert_eq!(picture.matches(&format!(">{room}</text>")).count(), 1, "{room}");
        }
        let most = LAYERS.iter().map(|layer| layer.rooms.len()).max().unwrap_or_default();
        assert!(ROOMS_AT + most * (ROOM_WIDTH + 10) <= WIDTH, "a layer has {most} rooms");
    }
}
