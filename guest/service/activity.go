package service

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

const (
	// touchLasts is how long a machine counts as in use after a touch.
	touchLasts = 30 * time.Second
	// reportPause is between two reports to the host.
	reportPause = time.Second
	// reportTime bounds one report.
	reportTime = 10 * time.Second
)

// activity tells the host until when the machine is in use: by what tasks hold,
// and by what touched it last.
type activity struct {
	calls *calls
	tasks *tasks
	pause time.Duration

	mu      sync.Mutex
	touched time.Time // until when the last touch lasts
	sent    time.Time
	planned bool
	// told is set once the host was told of a time that may not have come.
	told bool
	// sending is held during a report, so that they arrive in their order.
	sending sync.Mutex
}

// touch says that the machine is in use now.
func (a *activity) touch() {
	a.mu.Lock()
	// Wall clock: what was before a sleep is over after it.
	a.touched = time.Now().Round(0).Add(touchLasts)
	a.mu.Unlock()
	a.report()
}

// report sends what holds to the host, soon, and not too often.
func (a *activity) report() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.planned {
		return
	}
	a.planned = true
	time.AfterFunc(max(0, a.pause-time.Since(a.sent)), a.send)
}

// send reports until when the machine is in use. With no host there is nobody
// to tell; it hears when it connects.
func (a *activity) send() {
	a.sending.Lock()
	defer a.sending.Unlock()
	a.mu.Lock()
	a.planned = false
	now, until, told := time.Now().Round(0), a.touched, a.told
	a.mu.Unlock()
	if held := a.tasks.until(); held.After(until) {
		until = held
	}
	if !until.After(now) {
		until = now // a task was deleted
	}
	if until == now && !told || !a.calls.isConnected() {
		return
	}
	a.mu.Lock()
	a.sent = time.Now() // what told nobody anything holds no other up
	a.mu.Unlock()
	body, err := json.Marshal(wire.Activity{Until: until.UTC().Format(time.RFC3339Nano)})
	if err != nil {
		return // no such time
	}
	ctx, cancel := context.WithTimeout(context.Background(), reportTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://host"+wire.CallActivity, bytes.NewReader(body))
	if err != nil {
		return // the address is a constant
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := a.calls.RoundTrip(r)
	if err != nil {
		return // told again when it connects anew
	}
	io.Copy(io.Discard, io.LimitReader(answer.Body, 4<<10))
	answer.Body.Close()
	a.mu.Lock()
	a.told = until != now
	a.mu.Unlock()
}
