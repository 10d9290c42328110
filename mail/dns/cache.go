package dns

import (
	"container/list"
	"time"
)

// Bounds of the cache: cacheBytes counts messages on the wire, of which the
// records in memory are a few times as large.
const (
	defaultEntries = 10000
	cacheBytes     = 16 << 20
	entryBytes     = 256 // what an entry takes beside its records, about
)

// cache keeps what was found until its time is over, the most recently used
// within the bounds. Time is a parameter. It is not safe for concurrent use.
type cache struct {
	maxEntries int
	bytes      int
	entries    map[question]*list.Element // of *cached
	recent     *list.List                 // front: used last
}

type cached struct {
	q       question
	found   found
	expires time.Time
}

func newCache(maxEntries int) *cache {
	return &cache{maxEntries: maxEntries, entries: make(map[question]*list.Element), recent: list.New()}
}

// get gives what is known about q at that time.
func (c *cache) get(q question, now time.Time) (found, bool) {
	e, ok := c.entries[q]
	if !ok {
		return found{}, false
	}
	if entry := e.Value.(*cached); now.Before(entry.expires) {
		c.recent.MoveToFront(e)
		return entry.found, true
	}
	c.drop(e)
	return found{}, false
}

// put keeps f, which was asked for at that time; not at all if its TTL is zero.
func (c *cache) put(q question, f found, now time.Time) {
	if e, ok := c.entries[q]; ok {
		c.drop(e)
	}
	if f.ttl <= 0 || f.size+entryBytes > cacheBytes {
		return
	}
	c.entries[q] = c.recent.PushFront(&cached{q: q, found: f, expires: now.Add(f.ttl)})
	c.bytes += f.size + entryBytes
	for len(c.entries) > c.maxEntries || c.bytes > cacheBytes {
		c.drop(c.recent.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	entry := c.recent.Remove(e).(*cached)
	delete(c.entries, entry.q)
	c.bytes -= entry.found.size + entryBytes
}
