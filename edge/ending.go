package edge

import (
	"io"
	"net/http"
	"sync/atomic"
)

// ending is the client's side of an answer whose body is being copied. When the
// last of the body has been read there is nothing to flush: the server sends it
// together with the end of the answer, in one packet instead of two.
type ending struct {
	http.ResponseWriter
	over atomic.Bool // the body has been read to its end
}

// FlushError sends what was written.
func (w *ending) FlushError() error {
	if w.over.Load() {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *ending) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// follow has the client's side told when the body has been read to its end. An
// answer with a trailer, which shows at the end, is flushed as always: it must
// not be sent with a length.
func (w *ending) follow(res *http.Response) { res.Body = endingBody{res.Body, res, w} }

type endingBody struct {
	io.ReadCloser
	res *http.Response
	to  *ending
}

func (b endingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && len(b.res.Trailer) == 0 {
		b.to.over.Store(true)
	}
	return n, err
}
