//! What a program writes, as lines, through the queue, as messages: no message is larger than a server takes, and none has a
//! character that would end it.

use unikernel_syslog::{Lines, MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, Message, Origin, Queue, Record};

use crate::input::Input;

const QUEUE_BYTES: usize = 4096;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut lines = Lines::new().expect("there is memory");
    let mut queue = Queue::new(QUEUE_BYTES).expect("there is memory");
    let (mut sequence, mut buffer, mut message) = (input.word(), Vec::new(), Vec::new());
    while !input.is_over() {
        let bytes = input.chunk().repeat(1 + usize::from(input.byte() & 15));
        let at_ns = input.long();
        let mut tell = |severity, text: &[u8]| {
            assert!(!text.is_empty() && text.len() <= MAX_TEXT_BYTES);
            queue.push(&Record { at_ns, origin: Origin::App, severity, topic: "topic", text });
        };
        lines.write(&bytes, &mut tell);
        if input.flag() {
            lines.end(&mut tell);
        }
        while !input.flag()
            && let Some(record) = queue.pop(&mut buffer)
        {
            let wall_ns = input.flag().then_some(at_ns);
            Message { record, wall_ns, host: "host", app: "app", sequence }.write(&mut message);
            assert!(message.len() <= MAX_MESSAGE_BYTES && !message.contains(&b'\n') && !message.contains(&0));
            sequence = sequence.wrapping_add(1);
        }
    }
}
