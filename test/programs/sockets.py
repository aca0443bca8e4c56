"""Two thousand sockets on loopback, in connected pairs."""

import resource
import socket

from answer import expect, serve

resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
listener = socket.create_server(("127.0.0.1", 8100), backlog=1024)
pairs = []
for i in range(1000):
    a = socket.create_connection(("127.0.0.1", 8100), 20)
    b, _ = listener.accept()
    b.settimeout(20)
    a.sendall(f"in flight {i}".encode())
    pairs.append((a, b, f"in flight {i}".encode()))
datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for d in datagrams:
    d.bind(("127.0.0.1", 0))
    d.settimeout(20)
six = socket.create_server(("::1", 8100), family=socket.AF_INET6)
over_six = (socket.create_connection(("::1", 8100), 20), six.accept()[0])
rounds = 0


def receive(s, size):
    got = b""
    while len(got) < size:
        part = s.recv(size - len(got))
        expect("end of a connection", part == b"", False)
        got += part
    return got


def check():
    global rounds
    rounds += 1
    for i, (a, b, waiting) in enumerate(pairs):
        expect(f"what was in flight in pair {i}", receive(b, len(waiting)), waiting)
        b.sendall(f"back {rounds}".encode())
        expect(f"pair {i}", receive(a, len(f"back {rounds}")), f"back {rounds}".encode())
        message = f"in flight {i} of round {rounds}".encode()
        a.sendall(message)
        pairs[i] = (a, b, message)
    datagrams[0].sendto(b"datagram", datagrams[1].getsockname())
    expect("a datagram", datagrams[1].recv(100), b"datagram")
    over_six[0].sendall(b"six")
    expect("over IPv6", receive(over_six[1], 3), b"six")
    fresh = socket.create_connection(("127.0.0.1", 8100), 20)
    other, _ = listener.accept()
    fresh.sendall(b"fresh")
    expect("a new connection", receive(other, 5), b"fresh")


serve(check)
