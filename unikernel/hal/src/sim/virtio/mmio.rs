//! The same device behind registers in memory (Virtio 1.2, section 4.2), as machines without PCI have it. What it is told there is what
//! it is told on PCI, at other offsets.

use std::boxed::Box;

use super::{CONFIG, Context, Device, Model, Pci, number_at};
use crate::sim::bus;

/// "virt".
const MAGIC: u64 = 0x7472_6976;
const BYTES: u64 = 0x200;
/// Where the device's own configuration begins.
const OWN_CONFIG: u64 = 0x100;
/// Rings of legacy devices are in pages (section 4.2.4).
const PAGE_BYTES: u64 = 4096;

struct Mmio {
    pci: Pci,
    is_legacy: bool,
}

/// Plugs a device in.
pub(super) fn add(model: Box<dyn Model>, base: u64, line: u32, is_legacy: bool) {
    let pci = Pci { line: Some(line), ..Pci::new(model, 0) };
    bus::add(Box::new(Mmio { pci, is_legacy }), [(base..base + BYTES, 0)]);
}

impl Mmio {
    /// A legacy driver tells one page for all parts of a queue.
    fn set_queue_page(&mut self, page: u64) {
        let Some(queue) = self.pci.queue() else { return };
        let size = u64::from(queue.size);
        queue.descriptors = page * PAGE_BYTES;
        queue.driver = queue.descriptors + size * 16;
        queue.device = (queue.driver + 6 + size * 2).next_multiple_of(PAGE_BYTES);
        queue.is_enabled = page != 0;
    }
}

impl Device for Mmio {
    fn read(&mut self, offset: u64, bytes: usize, _: &mut Context<'_>) -> u64 {
        let pci = &mut self.pci;
        match offset {
            0x00 => MAGIC,
            0x04 => {
                if self.is_legacy {
                    1
                } else {
                    2
                }
            }
            0x08 => pci.model.device_type().into(),
            // A legacy device knows of no feature in the higher half.
            0x10 if self.is_legacy && pci.device_features != 0 => 0,
            0x10 => pci.common(0x04),
            0x34 => pci.common(0x18),
            0x40 => pci.queue().map_or(0, |queue| queue.descriptors / PAGE_BYTES),
            0x44 => pci.common(0x1c),
            0x60 => pci.isr.into(),
            0x70 => pci.common(0x14),
            OWN_CONFIG.. => number_at(&pci.model.config(), (offset - OWN_CONFIG) as usize, bytes),
            _ => 0,
        }
    }

    fn write(&mut self, offset: u64, bytes: usize, value: u64, context: &mut Context<'_>) {
        let common = match offset {
            0x14 => 0x00,
            0x20 => 0x0c,
            0x24 => 0x08,
            0x30 => 0x16,
            0x38 => 0x18,
            0x44 => 0x1c,
            0x70 => 0x14,
            0x80 | 0x84 => offset - 0x60,
            0x90 | 0x94 => offset - 0x68,
            0xa0 | 0xa4 => offset - 0x70,
            0x40 => return self.set_queue_page(value),
            0x50 => return self.pci.notified(value as u16, context),
            0x64 => {
                self.pci.isr &= !(value as u8);
                return;
            }
            OWN_CONFIG.. => CONFIG,
            _ => return,
        };
        if common == CONFIG {
            let at = (offset - OWN_CONFIG) as usize;
            return self.pci.model.write_config(at, &value.to_le_bytes()[..bytes]);
        }
        self.pci.set_common(common, value);
    }

    fn run(&mut self, tag: u64, context: &mut Context<'_>) {
        self.pci.run(tag, context);
    }
}
