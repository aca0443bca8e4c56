package wire

// protoc, protoc-gen-go and protoc-gen-connect-go (at the versions of go.mod's
// google.golang.org/protobuf and connectrpc.com/connect) must be on PATH.
//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative --connect-go_out=. --connect-go_opt=paths=source_relative process/process.proto filesystem/filesystem.proto
