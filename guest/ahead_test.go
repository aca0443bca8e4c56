package guest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// aheadPair returns both ends of a connection, of which the second reads ahead.
func aheadPair(t *testing.T) (net.Conn, *aheadConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := aheadListener{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close(); near.Close() })
	return far, near.(*aheadConn)
}

// send writes data in pieces of random sizes, and ends.
func send(to net.Conn, data []byte, random *rand.Rand) {
	defer to.Close()
	for len(data) > 0 {
		n := min(len(data), 1+random.IntN(64<<10))
		if _, err := to.Write(data[:n]); err != nil {
			return
		}
		data = data[n:]
	}
}

func TestReadingAheadLosesNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{3}).Read(data)
	for _, most := range []int{1, 16, 4 << 10, 40 << 10, 2 * copyBuffer} {
		part := data[:min(len(data), most<<10)]
		far, near := aheadPair(t)
		go send(far, part, rand.New(rand.NewPCG(4, 5)))
		var got bytes.Buffer
		for {
			p := make([]byte, 1+random.IntN(most))
			n, err := near.Read(p)
			got.Write(p[:n])
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got.Bytes(), part) {
			t.Errorf("with reads of at most %d bytes, %d of %d came, or others", most, got.Len(), len(part))
		}
		if near.buffer != nil {
			t.Errorf("with reads of at most %d bytes, a buffer is held after the end", most)
		}
	}
}

// What was read ahead comes first, whoever copies the connection on.
func TestWhatWasReadAheadIsCopiedOn(t *testing.T) {
	data := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{6}).Read(data)
	far, near := aheadPair(t)
	go send(far, data, rand.New(rand.NewPCG(7, 8)))
	head := make([]byte, leastAhead)
	for !near.eager || len(near.rest) == 0 {
		if _, err := io.ReadFull(near, head); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(head, data[:len(head)]) {
			t.Fatal("other bytes came")
		}
		data = data[len(head):]
	}
	var rest bytes.Buffer
	if n, err := io.Copy(&rest, near); err != nil || n != int64(len(data)) || !bytes.Equal(rest.Bytes(), data) {
		t.Errorf("%d of %d bytes, %v", n, len(data), err)
	}
}

// A connection on which little comes is read as it is asked to.
func TestSmallReadsHoldNoBuffer(t *testing.T) {
	far, near := aheadPair(t)
	for range 3 {
		if _, err := far.Write(bytes.Repeat([]byte("x"), 100)); err != nil {
			t.Fatal(err)
		}
		if n, err := near.Read(make([]byte, 4<<10)); n != 100 || err != nil {
			t.Fatal(n, err)
		}
		if near.eager || near.buffer != nil {
			t.Fatal("it reads ahead")
		}
	}
}
