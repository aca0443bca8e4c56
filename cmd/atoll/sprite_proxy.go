package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// forwarding is one port here and where it leads.
type forwarding struct {
	local  int
	host   string // as the sprite sees it; empty is the sprite itself
	remote int
}

// parseForwarding reads 8080, 3000:8080 or 5432:db.example.com:5432.
func parseForwarding(text string) (forwarding, error) {
	parts := strings.Split(text, ":")
	wrong := usage("%q must look like PORT, LOCAL:REMOTE or LOCAL:HOST:REMOTE", text)
	if len(parts) > 3 {
		return forwarding{}, wrong
	}
	local, err1 := strconv.ParseUint(parts[0], 10, 16)
	remote, err2 := strconv.ParseUint(parts[len(parts)-1], 10, 16)
	if err1 != nil || err2 != nil || remote == 0 {
		return forwarding{}, wrong
	}
	f := forwarding{local: int(local), remote: int(remote)}
	if len(parts) == 3 {
		if f.host = parts[1]; f.host == "" {
			return forwarding{}, wrong
		}
	}
	return f, nil
}

func (f forwarding) target(name string) string {
	return fmt.Sprintf("port %d of %s", f.remote, first(f.host, name))
}

func newSpriteProxy(s *sprites) *cobra.Command {
	var through, bind string
	cmd := &cobra.Command{
		Use:   "proxy PORT|LOCAL:REMOTE|LOCAL:HOST:REMOTE…",
		Short: "Forward ports of this host to a sprite",
		Long: `Forward ports of this host to a sprite, until Ctrl-C. With a HOST they lead to a
port of that host as the sprite reaches it. LOCAL 0 takes any free port.

With -W standard input and output are joined to one port instead, as ssh -W does.`,
		Example: `  atoll sprite proxy 8080
  atoll sprite proxy 3000:8080 5432
  atoll sprite proxy -s web 5433:db.internal:5432
  ssh -o ProxyCommand='atoll sprite proxy -s web -W 22' sprite@web`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && through == "" {
				return usage("missing argument: PORT")
			}
			if len(args) > 0 && through != "" {
				return usage("-W takes the only port")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if through != "" {
				return s.pipe(cmd.Context(), through)
			}
			var all []forwarding
			for _, arg := range args {
				f, err := parseForwarding(arg)
				if err != nil {
					return err
				}
				all = append(all, f)
			}
			return s.proxy(cmd.Context(), bind, all)
		},
	}
	cmd.Flags().StringVarP(&through, "stdio", "W", "", "join standard input and output to PORT or HOST:PORT")
	cmd.Flags().StringVar(&bind, "bind", "127.0.0.1", "address to listen at")
	return cmd
}

// proxy forwards until ctx ends.
func (s *sprites) proxy(ctx context.Context, bind string, all []forwarding) error {
	c, g, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	// That there is no such sprite is better told now than at the first use.
	if _, err := c.Sprite(ctx, g.Name()); err != nil {
		return fmt.Errorf("forward to %s: %w", g.Name(), err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, f := range all {
		l, err := net.Listen("tcp", net.JoinHostPort(bind, strconv.Itoa(f.local)))
		if err != nil {
			return (&failure{err: err, code: codeFailed}).hinted(fmt.Sprintf("choose another port: atoll sprite proxy 0:%d", f.remote))
		}
		fmt.Fprintf(s.out, "%s is %s\n", l.Addr(), f.target(g.Name()))
		wg.Go(func() { serveForwarding(ctx, l, g, f, func(err error) { s.note("%v", err) }) })
	}
	<-ctx.Done() // Ctrl-C is how it ends
	return nil
}

// serveForwarding takes connections and joins each to the sprite, until ctx
// ends. It closes the listener.
func serveForwarding(ctx context.Context, l net.Listener, g *client.SpriteGuest, f forwarding, failed func(error)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				failed(err)
			}
			return
		}
		wg.Go(func() {
			if err := joinConnections(ctx, conn, g, f); err != nil && ctx.Err() == nil {
				failed(err)
			}
		})
	}
}

// joinConnections passes bytes on between a connection here and one to the
// sprite until one of them ends.
func joinConnections(ctx context.Context, here net.Conn, g *client.SpriteGuest, f forwarding) error {
	defer here.Close()
	there, err := g.Dial(ctx, f.host, f.remote)
	if err != nil {
		return err
	}
	// Closed at once on both sides, so that neither direction waits for the other.
	end := sync.OnceFunc(func() { go there.Close(); here.Close() })
	defer end()
	defer context.AfterFunc(ctx, end)()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyBytes(here, there)
		end()
	}()
	copyBytes(there, here)
	// Whoever sends no more may still wait for an answer; the other side, which
	// cannot be told so, has a moment for it.
	select {
	case <-done:
	case <-time.After(answerWithin):
	}
	return nil
}

// answerWithin is how long a connection stays open for what comes back after
// one side has ended its own half.
const answerWithin = 2 * time.Second

// copyBytes copies in pieces that make good use of a WebSocket's messages.
func copyBytes(to io.Writer, from io.Reader) {
	// Wrapped, so that copying does not choose a way of its own with small pieces.
	io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 256<<10))
}

// pipe joins the standard streams to one port.
func (s *sprites) pipe(ctx context.Context, to string) error {
	host, port, ok := strings.Cut(to, ":")
	if !ok {
		host, port = "", to
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return usage("-W %q must look like PORT or HOST:PORT", to)
	}
	_, g, err := s.chosen(ctx)
	if err != nil {
		return err
	}
	there, err := g.Dial(ctx, host, int(n))
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyBytes(s.out, there)
	}()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		copyBytes(there, s.in)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	case <-sent:
		select {
		case <-done:
		case <-ctx.Done():
		case <-time.After(answerWithin):
		}
	}
	go there.Close() // it waits for the other side, and this process ends now
	return nil
}

// portForward forwards ports that a program in a sprite opens to the same ports
// here, for as long as they are open.
type portForward struct {
	s     *sprites
	g     *client.SpriteGuest
	quiet bool // forward nothing

	mu   sync.Mutex
	held map[int]func() // ends one
}

// event takes word of a port.
func (p *portForward) event(e client.PortEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if end := p.held[e.Port]; end != nil && e.Type == "port_closed" {
		end()
		delete(p.held, e.Port)
		return
	}
	if p.quiet || e.Type != "port_opened" || p.held[e.Port] != nil || e.Port <= 0 || e.Port > 65535 {
		return
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(e.Port)))
	if err != nil {
		return // something here has it; "atoll sprite proxy" takes another
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		serveForwarding(ctx, l, p.g, forwarding{local: e.Port, remote: e.Port}, func(error) {})
	}()
	p.held[e.Port] = func() { cancel(); <-done }
	fmt.Fprintf(p.s.err, "\r\n%s\r\n", p.s.paint(p.s.err, dim, fmt.Sprintf("http://localhost:%d leads to port %d of %s", e.Port, e.Port, oneLine(p.g.Name()))))
}

// close ends all forwarding.
func (p *portForward) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for port, end := range p.held {
		end()
		delete(p.held, port)
	}
}
