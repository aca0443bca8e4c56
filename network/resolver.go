package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Resolver answers a guest's question. It is asked once the question has been
// found well-formed and the guest allowed to ask.
type Resolver interface {
	// Resolve returns the answer to a message with one question. An error
	// becomes SERVFAIL. The query must not be changed; the answer will be.
	Resolve(ctx context.Context, guest netip.Addr, query *dns.Msg) (*dns.Msg, error)
}

const (
	// upstreamTimeout is what one server gets for one question.
	upstreamTimeout = 1500 * time.Millisecond
	// upstreamSize is the largest UDP answer asked for: it fits any path whole.
	upstreamSize = 1232
)

// systemResolvers reads the name servers from a resolv.conf file.
func systemResolvers(path string) ([]netip.AddrPort, error) {
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, err
	}
	var servers []netip.AddrPort
	for _, text := range conf.Servers {
		if addr, err := netip.ParseAddr(text); err == nil {
			servers = append(servers, netip.AddrPortFrom(addr, 53))
		}
	}
	return servers, nil
}

// forwarder asks the host's DNS servers in turn, from the host's namespace.
type forwarder struct {
	upstream []netip.AddrPort
	cache    *answerCache
}

// Resolve implements Resolver.
func (f *forwarder) Resolve(ctx context.Context, _ netip.Addr, query *dns.Msg) (*dns.Msg, error) {
	key := cacheKey(query)
	if answer := f.cache.get(key, time.Now()); answer != nil {
		return answer, nil
	}
	answer, err := f.ask(ctx, query)
	if err != nil {
		return nil, err
	}
	f.cache.put(key, answer, time.Now())
	return answer, nil
}

// ask puts the question anew, so that nothing else of the guest's message
// leaves the host.
func (f *forwarder) ask(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	question := query.Question[0]
	fresh := new(dns.Msg)
	fresh.SetQuestion(question.Name, question.Qtype)
	fresh.CheckingDisabled = query.CheckingDisabled
	fresh.SetEdns0(upstreamSize, wantsDNSSEC(query))
	errs := []error{errors.New("no DNS server answered")}
	for _, server := range f.upstream {
		answer, err := exchange(ctx, server, fresh)
		if err == nil {
			return answer, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", server, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// exchange asks one server over UDP, and over TCP if the answer was cut short.
func exchange(ctx context.Context, server netip.AddrPort, query *dns.Msg) (*dns.Msg, error) {
	for _, transport := range []string{"udp", "tcp"} {
		client := dns.Client{Net: transport, Timeout: upstreamTimeout, UDPSize: upstreamSize}
		limited, cancel := context.WithTimeout(ctx, upstreamTimeout)
		answer, _, err := client.ExchangeContext(limited, query, server.String())
		cancel()
		if err != nil {
			return nil, err
		}
		if len(answer.Question) != 1 || answer.Question[0] != query.Question[0] {
			return nil, errors.New("the answer is to another question")
		}
		if !answer.Truncated || transport == "tcp" {
			return answer, nil
		}
	}
	return nil, errors.New("no answer")
}

func wantsDNSSEC(m *dns.Msg) bool {
	opt := m.IsEdns0()
	return opt != nil && opt.Do()
}
