"""A TLS server, and a client that keeps one connection to it open."""

import socket
import ssl
import subprocess
import threading

from answer import expect, serve

subprocess.run(
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /root/key.pem "
    "-out /root/cert.pem -days 3650 -subj /CN=localhost -addext subjectAltName=DNS:localhost",
    shell=True, check=True, capture_output=True,
)
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain("/root/cert.pem", "/root/key.pem")
client = ssl.create_default_context(cafile="/root/cert.pem")
listener = socket.create_server(("127.0.0.1", 8443))


def echo(raw):
    with server.wrap_socket(raw, server_side=True) as s:
        while data := s.recv(65536):
            s.sendall(data.upper())


def accept():
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=echo, args=(raw,), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()


def connect():
    return client.wrap_socket(socket.create_connection(("127.0.0.1", 8443), 20), server_hostname="localhost")


def talk(s, n):
    message = f"message {n} ".encode() * 1000
    s.sendall(message)
    got = b""
    while len(got) < len(message):
        part = s.recv(65536)
        expect("end of the connection", part == b"", False)
        got += part
    expect("answer", got, message.upper())


kept = connect()
name = kept.getsockname()
count = 0


def check():
    global count
    for _ in range(5):
        count += 1
        talk(kept, count)
    expect("connection", kept.getsockname(), name)
    with connect() as fresh:
        talk(fresh, 0)


serve(check)
