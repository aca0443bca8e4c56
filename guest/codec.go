package guest

import (
	"encoding/base64"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	processpb "github.com/atoll-cloud/atoll/wire/process"
)

// jsonCodec is Connect's JSON codec with a short way for process output: SDKs
// speak JSON, and reflection would cost more than the process that is read.
type jsonCodec struct{}

func (jsonCodec) Name() string { return "json" }

func (c jsonCodec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

// MarshalAppend appends to Connect's pooled buffers.
func (jsonCodec) MarshalAppend(dst []byte, message any) ([]byte, error) {
	if field, data, ok := outputOf(message); ok {
		dst = append(dst, `{"event":{"data":{"`...)
		dst = append(append(dst, field...), `":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, data)
		return append(dst, `"}}}`...), nil
	}
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("encode: %T is not a message", message)
	}
	return protojson.MarshalOptions{}.MarshalAppend(dst, m)
}

func (jsonCodec) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("decode: %T is not a message", message)
	}
	if len(data) == 0 {
		return fmt.Errorf("decode: zero-length payload is not a valid JSON object")
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
}

// outputOf returns the output that a message carries, if that is all it does.
func outputOf(message any) (field string, data []byte, ok bool) {
	var event *processpb.ProcessEvent
	switch m := message.(type) {
	case *processpb.StartResponse:
		event = m.GetEvent()
	case *processpb.ConnectResponse:
		event = m.GetEvent()
	}
	switch o := event.GetData().GetOutput().(type) {
	case *processpb.ProcessEvent_DataEvent_Stdout:
		return "stdout", o.Stdout, true
	case *processpb.ProcessEvent_DataEvent_Stderr:
		return "stderr", o.Stderr, true
	case *processpb.ProcessEvent_DataEvent_Pty:
		return "pty", o.Pty, true
	}
	return "", nil, false
}
