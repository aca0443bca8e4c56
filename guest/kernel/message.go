package kernel

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"sync"
	"time"
)

const (
	// delimiter stands between the addresses of a message and the message.
	delimiter = "<IDS|MSG>"
	// maxHeader bounds the headers of a message, in bytes.
	maxHeader = 64 << 10
	// protocolVersion is the version of Jupyter's messaging protocol we speak.
	protocolVersion = "5.3"
)

// errMessage is reported for messages that are not as Jupyter's protocol says.
var errMessage = errors.New("a message is malformed")

// message is what we need of a message from a kernel.
type message struct {
	kind string
	// parent is the id of the request that the message belongs to.
	parent  string
	content []byte
}

// signer signs and checks messages with the key of one kernel.
type signer struct {
	mu  sync.Mutex
	mac hash.Hash
}

func newSigner(key []byte) *signer { return &signer{mac: hmac.New(sha256.New, key)} }

func (s *signer) sign(parts ...[]byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mac.Reset()
	for _, part := range parts {
		s.mac.Write(part)
	}
	return hex.AppendEncode(make([]byte, 0, 2*sha256.Size), s.mac.Sum(nil))
}

// decode reads a message; signatures are checked.
func (s *signer) decode(frames [][]byte) (*message, error) {
	start := 0
	for start < len(frames) && string(frames[start]) != delimiter {
		start++
	}
	if len(frames) < start+6 {
		return nil, errMessage
	}
	signature, parts := frames[start+1], frames[start+2:start+6]
	if len(parts[0]) > maxHeader || len(parts[1]) > maxHeader {
		return nil, fmt.Errorf("%w: a header is too large", errMessage)
	}
	if subtle.ConstantTimeCompare(signature, s.sign(parts...)) != 1 {
		return nil, fmt.Errorf("%w: the signature is wrong", errMessage)
	}
	var header struct {
		Kind string `json:"msg_type"`
	}
	var parent struct {
		ID string `json:"msg_id"`
	}
	if err := json.Unmarshal(parts[0], &header); err != nil {
		return nil, fmt.Errorf("%w: %v", errMessage, err)
	}
	if err := json.Unmarshal(parts[1], &parent); err != nil {
		return nil, fmt.Errorf("%w: %v", errMessage, err)
	}
	return &message{kind: header.Kind, parent: parent.ID, content: parts[3]}, nil
}

// session numbers the requests to one kernel.
type session struct {
	id    string
	mu    sync.Mutex
	count uint64
}

func (s *session) next() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return s.id + "_" + strconv.FormatUint(s.count, 10)
}

// encode returns the frames of a request; metadata is JSON, or nil.
func (s *session) encode(sign *signer, id, kind string, metadata, content []byte) [][]byte {
	header := fmt.Appendf(nil, `{"msg_id":%q,"session":%q,"username":"user","date":%q,"msg_type":%q,"version":%q}`,
		id, s.id, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), kind, protocolVersion)
	empty := []byte("{}")
	if metadata == nil {
		metadata = empty
	}
	return [][]byte{[]byte(delimiter), sign.sign(header, empty, metadata, content), header, empty, metadata, content}
}

// executeContent returns the content of an execute_request.
func executeContent(code string, silent bool) ([]byte, error) {
	return json.Marshal(struct {
		Code         string   `json:"code"`
		Silent       bool     `json:"silent"`
		StoreHistory bool     `json:"store_history"`
		Expressions  struct{} `json:"user_expressions"`
		AllowStdin   bool     `json:"allow_stdin"`
		// False, since a kernel that aborts what follows an error may take with
		// it the next client's code, which has nothing to do with it.
		StopOnError bool `json:"stop_on_error"`
	}{Code: code, Silent: silent, StoreHistory: !silent})
}
