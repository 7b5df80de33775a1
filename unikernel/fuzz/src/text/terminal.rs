//! Keys, settings and output of a terminal: what can be read is what was typed, in bounded memory.

use unikernel_fs::terminal::{MAX_INPUT_BYTES, MAX_LINE_BYTES, Screen, Settings, Terminal};

use crate::input::Input;

#[derive(Default)]
struct Shown(usize);

impl Screen for Shown {
    fn put(&mut self, _byte: u8) {
        self.0 += 1;
    }

    fn clear(&mut self) {
        self.0 = 0;
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut terminal, mut screen) = (Terminal::new(), Shown::default());
    while !input.is_over() {
        match input.below(8) {
            0 => {
                let mut settings = *terminal.settings();
                (settings.input, settings.output) = (input.half().into(), input.half().into());
                settings.local = u32::from(input.half()) | u32::from(input.flag()) << 15;
                let at = input.below(settings.characters.len());
                settings.characters[at] = input.byte();
                terminal.set(settings, &mut screen);
            }
            1 => terminal.set(Settings::INITIAL, &mut screen),
            2 => {
                let wanted = input.byte().into();
                let found = terminal.content(wanted).map(|parts| parts[0].len() + parts[1].len());
                assert!(found.is_none_or(|found| found <= wanted && found <= terminal.len()));
                terminal.consume(found.unwrap_or_default());
            }
            3 => {
                let byte = input.byte();
                let before = screen.0;
                terminal.write(byte, &mut screen);
                assert!(screen.0 - before <= Terminal::MAX_EXPANSION);
            }
            4 => {
                terminal.hold(input.flag(), &mut screen);
            }
            5 if input.byte() == 0 => terminal.clear_input(),
            _ => {
                for _ in 0..=usize::from(input.byte() & 31) * usize::from(input.byte() & 15) {
                    if !terminal.has_room(MAX_INPUT_BYTES) {
                        break;
                    }
                    terminal.key(input.byte(), &mut screen);
                }
            }
        }
        assert!(terminal.len() <= MAX_INPUT_BYTES + MAX_LINE_BYTES);
        assert!(!terminal.is_readable() || terminal.content(1).is_some());
    }
}
