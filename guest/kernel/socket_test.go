package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"
)

// kernelGreeting is what libzmq sends first: greeting, and READY for a socket of a type.
func kernelGreeting(kind string) []byte {
	b := make([]byte, greeting)
	b[0], b[8], b[9], b[10] = 0xff, 1, 0x7f, 3
	copy(b[12:], "NULL")
	ready := append([]byte("\x05READY\x0bSocket-Type\x00\x00\x00"), byte(len(kind)))
	ready = append(ready, kind...)
	return append(append(b, frameCommand, byte(len(ready))), ready...)
}

// hear returns a socket that hears bytes and then the end.
func hear(sent []byte) (*socket, error) {
	ours, theirs := net.Pipe()
	go func() {
		go io.Copy(io.Discard, theirs)
		theirs.SetWriteDeadline(time.Now().Add(10 * time.Second))
		theirs.Write(sent)
		theirs.Close()
	}()
	s, err := open(ours, zmq4.Sub, 64)
	if err != nil {
		ours.Close()
	}
	return s, err
}

func long(flags byte, size uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{flags | frameLong}, size)
}

func TestFramesThatAreTooLargeComeOutEmpty(t *testing.T) {
	sent := kernelGreeting("PUB")
	sent = append(sent, "\x01\x01a"...)
	sent = append(sent, long(0, maxMessage)...) // one byte too many, with the first frame
	sent = append(sent, make([]byte, maxMessage)...)
	sent = append(sent, "\x00\x02ok"...)
	s, err := hear(sent)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	frames, lost, err := s.receive()
	if err != nil || len(frames) != 2 || len(frames[1]) != 0 || lost != maxMessage {
		t.Fatalf("got %d frames, lost %d, %v", len(frames), lost, err)
	}
	if frames, lost, err = s.receive(); err != nil || lost != 0 || string(frames[0]) != "ok" {
		t.Fatalf("got %q, %v", frames, err)
	}
	if _, _, err := s.receive(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNotZeroMQEndsTheConnection(t *testing.T) {
	for name, sent := range map[string][]byte{
		"nothing":           {},
		"another greeting":  bytes.Repeat([]byte("HTTP"), 100),
		"a cut property":    append(kernelGreeting("")[:greeting], "\x04\x07\x05READY\x20"...),
		"a long property":   append(kernelGreeting("")[:greeting], "\x04\x0c\x05READY\x01a\xff\xff\xff\xff"...),
		"another socket":    kernelGreeting("REQ"),
		"unknown flags":     append(kernelGreeting("PUB"), "\x80\x01a"...),
		"the largest frame": append(kernelGreeting("PUB"), long(0, 1<<64-1)...),
		"too many frames":   append(kernelGreeting("PUB"), bytes.Repeat([]byte("\x01\x00"), maxFrames+1)...),
	} {
		s, err := hear(sent)
		if err == nil {
			_, _, err = s.receive()
			s.close()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSignaturesAreChecked(t *testing.T) {
	sign := newSigner([]byte("key"))
	requests := &session{id: "s"}
	frames := requests.encode(sign, "1", "status", nil, []byte(`{}`))
	if m, err := sign.decode(append([][]byte{[]byte("topic")}, frames...)); err != nil || m.kind != "status" {
		t.Fatalf("got %+v, %v", m, err)
	}
	if _, err := newSigner([]byte("other")).decode(frames); err == nil {
		t.Error("a wrong signature is taken")
	}
	if _, err := sign.decode(frames[:5]); err == nil {
		t.Error("a message without content is taken")
	}
}

// FuzzSocket feeds the bytes of a connection to all that reads them.
func FuzzSocket(f *testing.F) {
	f.Add(append(kernelGreeting("PUB"), "\x01\x01a\x00\x02ok\x04\x05\x04PING"...))
	f.Add(append(kernelGreeting("PUB"), long(1, 3)...))
	f.Add(append(kernelGreeting("PUB"), "\x04\x01\x09\x05\x00\x06\x00"...))
	f.Add([]byte{})
	sign := newSigner([]byte("key"))
	for _, frame := range (&session{id: "s"}).encode(sign, "1", "status", nil, []byte(`{}`)) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		for _, whole := range [][]byte{sent, append(kernelGreeting("PUB"), sent...)} {
			s, err := hear(whole)
			if err != nil {
				continue
			}
			for {
				frames, _, err := s.receive()
				if err != nil {
					break
				}
				_, _ = sign.decode(frames)
			}
			s.close()
		}
	})
}

// FuzzMessage feeds the parts of a message.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"msg_type":"status"}`), []byte(`{"msg_id":"1"}`), []byte(`{}`))
	sign := newSigner([]byte("key"))
	f.Fuzz(func(t *testing.T, header, parent, content []byte) {
		empty := []byte("{}")
		_, _ = sign.decode([][]byte{[]byte(delimiter), sign.sign(header, parent, empty, content), header, parent, empty, content})
	})
}
