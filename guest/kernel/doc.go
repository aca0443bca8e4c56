// Package kernel is the server of the code interpreter: it runs code that
// clients send over HTTP in Jupyter kernels, which it starts itself and speaks
// to in their own protocol.
//
// A context is a kernel with a language and a working directory; code in it
// runs one piece after another and keeps its variables. Each language has a
// default context, made when it is first asked for or when the machine starts.
//
// The way of one execution: a handler takes the context's turn, sends the code
// on the kernel's shell socket and writes to the client what the kernel
// publishes. The goroutine that reads the kernel's iopub socket turns messages
// into lines of JSON and leaves them in the execution's output, from where the
// handler takes whatever is there; so lines go out at once when little comes,
// and in large writes when much does. A client that reads slowly fills the
// output, and then the kernel is stopped until there is room again: publishing
// sockets throw away what nobody takes, so nothing else would hold a kernel back.
//
// Every byte from a kernel is hostile, since the code that runs in it is.
package kernel
