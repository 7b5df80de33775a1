//! Credit, and hosts that say what is not so.

use alloc::vec::Vec;

use linux_raw_sys::errno::*;
use linux_raw_sys::net::{AF_VSOCK, MSG_WAITALL};

use super::{
    CREDIT_REQUEST, CREDIT_UPDATE, DATA, DEVICE, EVENTS, HOST, IN, OUT, Packet, REQUEST, RESET, RESPONSE, RX,
    address, connected, expect, heard, listener, run_on, run_with_host, stream, tell, wait_for,
};
use crate::workbench::app::files::{read, write};
use crate::workbench::app::net::{NONBLOCK, STREAM, accept, connect, name, recv, send, socket};
use crate::workbench::app::wait::poll;
use crate::workbench::app::{Machine, join, spawn};

#[test]
fn sender_waits_for_credit() {
    run_with_host(|| {
        let client = socket(AF_VSOCK, STREAM | NONBLOCK);
        assert_eq!(connect(client, &address(HOST as u32, 80)), Err(EINPROGRESS));
        let request = expect(REQUEST);
        tell(&Packet { room: 1000, ..request.back(RESPONSE) });
        let bytes: Vec<u8> = (0..200_000u32).map(|at| (at / 3) as u8).collect();
        let mut taken = write(client, &bytes).unwrap();
        assert!((1000..200_000).contains(&taken), "{taken}");
        assert_eq!((write(client, b"x"), poll(client, OUT, 0)), (Err(EAGAIN), 0));
        let mut got = expect(DATA).data;
        assert_eq!((got.len(), heard()), (1000, None));
        // The host takes the bytes, and says so.
        while got.len() < bytes.len() {
            let credit = Packet { room: 1000, taken: got.len() as u32, ..request.back(CREDIT_UPDATE) };
            tell(&credit);
            while let Some(packet) = heard() {
                assert_eq!(packet.operation, DATA);
                got.extend(packet.data);
            }
            if taken < bytes.len() {
                taken += write(client, &bytes[taken..]).unwrap_or(0);
                core::iter::from_fn(heard).for_each(|packet| got.extend(packet.data));
            }
        }
        assert!(got == bytes, "bytes in their order");
    });
}

#[test]
fn receiver_tells_of_its_room() {
    run_with_host(|| {
        let (client, port) = connected(80);
        tell(&Packet::new(CREDIT_REQUEST, 80, port));
        let credit = expect(CREDIT_UPDATE);
        assert_eq!(credit.taken, 0);
        let room = credit.room as usize;
        let chunk = [7; 4000];
        let mut given = 0;
        while given + chunk.len() <= room {
            tell(&Packet::data(80, port, &chunk));
            given += chunk.len();
        }
        assert_eq!(heard(), None);
        let mut taken = 0;
        while taken < given {
            taken += read(client, 10_000).unwrap().len();
        }
        // Without being asked, once the host knows of little room only.
        let last = core::iter::from_fn(heard).last().expect("an update");
        assert_eq!((last.operation, last.room as usize), (CREDIT_UPDATE, room));
        assert!(last.taken as usize >= room / 2 && last.taken as usize <= taken);
    });
}

#[test]
fn host_that_sends_more_than_it_may_is_reset() {
    run_with_host(|| {
        let (client, port) = connected(80);
        let chunk = [1; 4000];
        for _ in 0..17 {
            tell(&Packet::data(80, port, &chunk));
        }
        assert_eq!(expect(RESET).to, (HOST, 80));
        // What came before can be read; then that is all.
        let mut total = 0;
        while let Ok(bytes) = read(client, 100_000)
            && !bytes.is_empty()
        {
            total += bytes.len();
        }
        assert_eq!(total, 16 * 4000);
        assert_eq!(send(client, b"x", linux_raw_sys::net::MSG_NOSIGNAL), Err(EPIPE));
    });
}

#[test]
fn nonsense_is_refused_or_passed_over() {
    run_with_host(|| {
        let (client, port) = connected(80);
        // Of no kind that is known here: refused, and the connection is none of its business.
        tell(&Packet { kind: 2, ..Packet::data(80, port, b"seqpacket") });
        expect(RESET);
        // To another machine, or cut short, or with a length that is none: for nobody.
        tell(&Packet { to: (77, port), ..Packet::data(80, port, b"elsewhere") });
        let mut cut = Packet::data(80, port, b"12345678").encode();
        cut.truncate(48);
        DEVICE.give(RX, &cut);
        DEVICE.give(RX, &cut[..20]);
        DEVICE.give(RX, &[]);
        let mut long = Packet::data(80, port, b"").encode();
        long[24..28].fill(0xff);
        DEVICE.give(RX, &long);
        assert_eq!((heard(), poll(client, IN, 0)), (None, 0));
        // Operations that are none tell of credit, and no more.
        tell(&Packet::new(99, 80, port));
        tell(&Packet::new(0, 80, port));
        assert_eq!((heard(), poll(client, IN | OUT, 0)), (None, OUT));
        tell(&Packet::data(80, port, b"fine"));
        assert_eq!(read(client, 16), Ok(b"fine".to_vec()));
        // From who has no connection.
        tell(&Packet::data(4444, port, b"stranger"));
        assert_eq!(expect(RESET).to, (HOST, 4444));
        tell(&Packet::new(RESPONSE, 4444, port));
        expect(RESET);
        // A second request on a connection ends it.
        tell(&Packet::new(REQUEST, 80, port));
        assert_eq!(read(client, 16), Ok(Vec::new()));
    });
}

#[test]
fn machine_that_was_moved_has_another_number_and_no_connections() {
    run_with_host(|| {
        let (client, _) = connected(80);
        let server = listener(5000, 1);
        DEVICE.set_config(0, &9u64.to_le_bytes());
        DEVICE.give(EVENTS, &0u32.to_le_bytes());
        assert_eq!(read(client, 16), Ok(Vec::new()));
        tell(&Packet::new(REQUEST, 7, 5000));
        assert_eq!(heard(), None, "a packet for the number of before");
        tell(&Packet { to: (9, 5000), ..Packet::new(REQUEST, 7, 5000) });
        assert_eq!(expect(RESPONSE).from, (9, 5000));
        let accepted = accept(server).unwrap();
        assert_eq!(name(accepted), address(9, 5000));
    });
}

#[test]
fn bytes_are_the_same_whatever_the_order_of_cores() {
    for seed in 0..6 {
        run_on(Machine { seed, cores: 2, ..Machine::default() }, || {
            let host = spawn(|| {
                let request = wait_for(REQUEST);
                tell(&Packet { room: 3000, ..request.back(RESPONSE) });
                let mut taken = 0;
                while taken < 20_000 {
                    let data = wait_for(DATA);
                    taken += data.data.len() as u32;
                    tell(&Packet { room: 3000, taken, ..request.back(CREDIT_UPDATE) });
                    tell(&Packet { room: 3000, taken, data: data.data, ..request.back(DATA) });
                }
            });
            let client = stream();
            assert_eq!(connect(client, &address(HOST as u32, 80)), Ok(0));
            let bytes: Vec<u8> = (0..20_000u32).map(|at| (at / 7) as u8).collect();
            let sent = bytes.clone();
            let writer = spawn(move || crate::workbench::app::files::write_all(client, &sent).unwrap());
            assert!(recv(client, 20_000, MSG_WAITALL) == Ok(bytes), "what was sent comes back");
            join(writer.unwrap());
            join(host.unwrap());
        });
    }
}
