package network

import (
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	cacheEntries = 4096
	cacheBytes   = 4096             // a larger answer is not kept
	cacheLongest = 60 * time.Second // whatever the answer's own time to live
)

type answerKey struct {
	name        string
	kind        uint16
	dnssec, raw bool
}

type cachedAnswer struct {
	answer *dns.Msg
	stored time.Time
	until  time.Time
}

// answerCache keeps answers for a short time, bounded in number and size.
type answerCache struct {
	mu      sync.Mutex
	answers map[answerKey]cachedAnswer
}

func newAnswerCache() *answerCache {
	return &answerCache{answers: make(map[answerKey]cachedAnswer)}
}

func cacheKey(query *dns.Msg) answerKey {
	q := query.Question[0]
	return answerKey{strings.ToLower(q.Name), q.Qtype, wantsDNSSEC(query), query.CheckingDisabled}
}

// get returns a copy of a kept answer, its times to live counted down, or nil.
func (c *answerCache) get(key answerKey, now time.Time) *dns.Msg {
	c.mu.Lock()
	kept, ok := c.answers[key]
	c.mu.Unlock()
	if !ok || !now.Before(kept.until) {
		return nil
	}
	answer := kept.answer.Copy()
	age := uint32(now.Sub(kept.stored) / time.Second)
	for _, section := range [][]dns.RR{answer.Answer, answer.Ns, answer.Extra} {
		for _, record := range section {
			if h := record.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(h.Ttl, age)
			}
		}
	}
	return answer
}

// put keeps an answer for as long as its records allow.
func (c *answerCache) put(key answerKey, answer *dns.Msg, now time.Time) {
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError || answer.Truncated || answer.Len() > cacheBytes {
		return
	}
	life, records := cacheLongest, 0
	for _, section := range [][]dns.RR{answer.Answer, answer.Ns} {
		for _, record := range section {
			life = min(life, time.Duration(record.Header().Ttl)*time.Second)
			records++
		}
	}
	if records == 0 || life <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) >= cacheEntries {
		c.makeRoom(now)
	}
	c.answers[key] = cachedAnswer{answer.Copy(), now, now.Add(life)}
}

// makeRoom drops what has expired, or else whatever the map yields first.
func (c *answerCache) makeRoom(now time.Time) {
	for key, kept := range c.answers {
		if !now.Before(kept.until) {
			delete(c.answers, key)
		}
	}
	for key := range c.answers {
		if len(c.answers) < cacheEntries*3/4 {
			return
		}
		delete(c.answers, key)
	}
}
