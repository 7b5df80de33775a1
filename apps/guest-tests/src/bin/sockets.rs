//! Sockets through `std::net` over loopback, blocking and not: what a program may rely on.
//! It passes on Linux first.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

fn main() {
    let checks: &[(&str, fn() -> io::Result<()>)] = &[
        ("echo", echo),
        ("bulk data in both directions", bulk),
        ("end of stream and half-close", half_close),
        ("reset by unread data", reset),
        ("refused connection", refused),
        ("read time-out", time_out),
        ("non-blocking accept, read, connect", non_blocking),
        ("peek", peek),
        ("names", names),
        ("dual-stack listener", dual_stack),
        ("address in use", in_use),
        ("options", options),
        ("vectored write and read", vectored),
        ("datagrams", datagrams),
        ("connected datagrams", connected_datagrams),
        ("datagram cut to its buffer", cut_datagram),
        ("socket pair", pair),
        ("many connections", many),
        ("close wakes nobody, shutdown does", shutdown_wakes),
    ];
    for (name, check) in checks {
        if let Err(error) = check() {
            eprintln!("{name}: {error}");
            std::process::exit(1);
        }
        println!("{name}: ok");
    }
}

fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, peer) = listener.accept()?;
    assert_eq!(peer, client.local_addr()?);
    Ok((server, client))
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn echo() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> io::Result<()> {
        for stream in listener.incoming().take(3) {
            let mut stream = stream?;
            let mut buffer = [0; 64];
            loop {
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                stream.write_all(&buffer[..count])?;
            }
        }
        Ok(())
    });
    for round in 0..3u8 {
        let mut client = TcpStream::connect(address)?;
        for word in 0..20u8 {
            client.write_all(&[round, word])?;
            let mut answer = [0; 2];
            client.read_exact(&mut answer)?;
            assert_eq!(answer, [round, word]);
        }
    }
    server.join().expect("the server thread")
}

fn bulk() -> io::Result<()> {
    const BYTES: usize = 3_000_000;
    let (mut server, mut client) = connected()?;
    let byte = |index: usize| (index % 253) as u8;
    let sent: Vec<u8> = (0..BYTES).map(byte).collect();
    let copy = sent.clone();
    let mut writing = server.try_clone()?;
    let sender = thread::spawn(move || writing.write_all(&copy));
    let mut other = client.try_clone()?;
    let back = thread::spawn(move || other.write_all(&[9; BYTES / 2]));
    let received = thread::spawn(move || {
        let mut all = vec![0; BYTES / 2];
        server.read_exact(&mut all).map(|()| all)
    });
    let mut all = vec![0; BYTES];
    client.read_exact(&mut all)?;
    assert!(all == sent);
    sender.join().expect("the sender")?;
    back.join().expect("the other sender")?;
    assert!(received.join().expect("the receiver")?.iter().all(|&byte| byte == 9));
    Ok(())
}

fn half_close() -> io::Result<()> {
    let (mut server, mut client) = connected()?;
    client.write_all(b"question")?;
    client.shutdown(Shutdown::Write)?;
    let mut question = String::new();
    server.read_to_string(&mut question)?;
    assert_eq!(question, "question");
    server.write_all(b"answer")?;
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert_eq!(answer, "answer");
    assert_eq!(kind(client.write(b"x")), Some(ErrorKind::BrokenPipe));
    Ok(())
}

fn reset() -> io::Result<()> {
    let (server, mut client) = connected()?;
    client.write_all(b"unread")?;
    let mut look = [0; 1];
    while server.peek(&mut look)? == 0 {}
    drop(server);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(kind(client.read(&mut look)), Some(ErrorKind::ConnectionReset));
    Ok(())
}

fn refused() -> io::Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    assert_eq!(kind(TcpStream::connect(("127.0.0.1", port))), Some(ErrorKind::ConnectionRefused));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let result = TcpStream::connect_timeout(&address, Duration::from_secs(2));
    assert_eq!(kind(result), Some(ErrorKind::ConnectionRefused));
    Ok(())
}

fn time_out() -> io::Result<()> {
    let (_server, mut client) = connected()?;
    client.set_read_timeout(Some(Duration::from_millis(60)))?;
    assert_eq!(client.read_timeout()?, Some(Duration::from_millis(60)));
    let start = Instant::now();
    assert_eq!(kind(client.read(&mut [0; 8])), Some(ErrorKind::WouldBlock));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(59) && took < Duration::from_secs(2), "{took:?}");
    Ok(())
}

fn non_blocking() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    assert_eq!(kind(listener.accept()), Some(ErrorKind::WouldBlock));
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            accepted => break accepted?,
        }
    };
    server.set_nonblocking(true)?;
    assert_eq!(kind(server.read(&mut [0; 8])), Some(ErrorKind::WouldBlock));
    let mut sent = 0;
    let chunk = [5; 4096];
    loop {
        match server.write(&chunk) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let mut all = vec![0; sent];
    client.read_exact(&mut all)?;
    assert!(all.iter().all(|&byte| byte == 5));
    Ok(())
}

fn peek() -> io::Result<()> {
    let (mut server, mut client) = connected()?;
    client.write_all(b"abc")?;
    let mut buffer = [0; 8];
    assert_eq!(server.peek(&mut buffer)?, 3);
    assert_eq!(server.read(&mut buffer)?, 3);
    assert_eq!(&buffer[..3], b"abc");
    Ok(())
}

fn names() -> io::Result<()> {
    let (server, client) = connected()?;
    assert_eq!(server.peer_addr()?, client.local_addr()?);
    assert_eq!(client.peer_addr()?, server.local_addr()?);
    assert!(client.peer_addr()?.ip().is_loopback());
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    assert_eq!(kind(socket.peer_addr()), Some(ErrorKind::NotConnected));
    Ok(())
}

fn dual_stack() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let _by_v4 = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (_, peer) = listener.accept()?;
    assert_eq!(peer.ip(), Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    let _by_v6 = TcpStream::connect((Ipv6Addr::LOCALHOST, port))?;
    let (_, peer) = listener.accept()?;
    assert_eq!(peer.ip(), Ipv6Addr::LOCALHOST);
    Ok(())
}

fn in_use() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    assert_eq!(kind(TcpListener::bind(listener.local_addr()?)), Some(ErrorKind::AddrInUse));
    assert_eq!(kind(TcpListener::bind("203.0.113.7:0")), Some(ErrorKind::AddrNotAvailable));
    let address = listener.local_addr()?;
    drop(listener);
    TcpListener::bind(address)?;
    Ok(())
}

fn options() -> io::Result<()> {
    let (server, _client) = connected()?;
    assert!(!server.nodelay()?);
    server.set_nodelay(true)?;
    assert!(server.nodelay()?);
    server.set_ttl(33)?;
    assert_eq!(server.ttl()?, 33);
    assert!(server.take_error()?.is_none());
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    assert!(!socket.broadcast()?);
    socket.set_broadcast(true)?;
    assert!(socket.broadcast()?);
    Ok(())
}

fn vectored() -> io::Result<()> {
    let (mut server, mut client) = connected()?;
    let parts = [io::IoSlice::new(b"one"), io::IoSlice::new(b""), io::IoSlice::new(b"two")];
    assert_eq!(client.write_vectored(&parts)?, 6);
    let (mut first, mut second) = ([0; 2], [0; 10]);
    let count =
        server.read_vectored(&mut [io::IoSliceMut::new(&mut first), io::IoSliceMut::new(&mut second)])?;
    assert_eq!((count, &first, &second[..4]), (6, b"on", &b"etwo"[..]));
    Ok(())
}

fn datagrams() -> io::Result<()> {
    let one = UdpSocket::bind("127.0.0.1:0")?;
    let two = UdpSocket::bind("127.0.0.1:0")?;
    one.send_to(b"ping", two.local_addr()?)?;
    one.send_to(b"", two.local_addr()?)?;
    let mut buffer = [0; 32];
    assert_eq!(two.recv_from(&mut buffer)?, (4, one.local_addr()?));
    assert_eq!(two.recv_from(&mut buffer)?.0, 0);
    two.set_read_timeout(Some(Duration::from_millis(30)))?;
    assert_eq!(kind(two.recv_from(&mut buffer)), Some(ErrorKind::WouldBlock));
    one.set_nonblocking(true)?;
    assert_eq!(kind(one.recv_from(&mut buffer)), Some(ErrorKind::WouldBlock));
    Ok(())
}

fn connected_datagrams() -> io::Result<()> {
    let closed = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(closed)?;
    socket.send(b"anybody?")?;
    thread::sleep(Duration::from_millis(30));
    assert_eq!(kind(socket.recv(&mut [0; 8])), Some(ErrorKind::ConnectionRefused));
    let peer = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(peer.local_addr()?)?;
    assert_eq!(socket.peer_addr()?, peer.local_addr()?);
    socket.send(b"hello")?;
    let mut buffer = [0; 8];
    assert_eq!(peer.recv_from(&mut buffer)?, (5, socket.local_addr()?));
    Ok(())
}

fn cut_datagram() -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(&[7; 100], socket.local_addr()?)?;
    socket.send_to(&[8; 10], socket.local_addr()?)?;
    let mut buffer = [0; 50];
    assert_eq!(socket.peek_from(&mut buffer)?.0, 50);
    assert_eq!(socket.recv(&mut buffer)?, 50);
    assert_eq!(socket.recv(&mut buffer)?, 10);
    assert_eq!(buffer[..10], [8; 10]);
    Ok(())
}

fn pair() -> io::Result<()> {
    let (mut one, mut two) = UnixStream::pair()?;
    one.write_all(b"across")?;
    let mut buffer = [0; 6];
    two.read_exact(&mut buffer)?;
    assert_eq!(&buffer, b"across");
    let echo = thread::spawn(move || {
        let mut all = Vec::new();
        two.read_to_end(&mut all).map(|_| all.len())
    });
    one.write_all(&vec![1; 300_000])?;
    drop(one);
    assert_eq!(echo.join().expect("the reader")?, 300_000);
    Ok(())
}

fn many() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut pairs = Vec::new();
    for _ in 0..100 {
        let client = TcpStream::connect(address)?;
        pairs.push((listener.accept()?.0, client));
    }
    for (index, (server, client)) in pairs.iter_mut().enumerate() {
        client.write_all(&[index as u8])?;
        let mut byte = [0];
        server.read_exact(&mut byte)?;
        assert_eq!(byte, [index as u8]);
    }
    drop(pairs);
    for _ in 0..1000 {
        let mut client = TcpStream::connect(address)?;
        let (mut server, _) = listener.accept()?;
        server.write_all(b"bye")?;
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text)?;
        assert_eq!(text, "bye");
    }
    Ok(())
}

fn shutdown_wakes() -> io::Result<()> {
    let (_server, client) = connected()?;
    let mut waiting = client.try_clone()?;
    let reader = thread::spawn(move || waiting.read(&mut [0; 8]));
    thread::sleep(Duration::from_millis(30));
    client.shutdown(Shutdown::Read)?;
    assert_eq!(reader.join().expect("the reader")?, 0);
    Ok(())
}
