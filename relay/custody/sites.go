package custody

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"anechoic/mail"
)

// Which site a recipient domain led to lately, over restarts. Delivery names sites and
// learns them by asking DNS; the queue knows domains alone. So that commands, lists and
// suspensions by site mean the same right after a start, what was learned is stored: a small
// record a domain, written when its site is new or another, and once a week as long as
// mail goes there. Nothing rests on them but which mail is selected: what is lost or damaged
// is learned again at the domain's next attempt.

// sitePrefix begins the records: site/<hash of the domain>. A domain can be longer than a key.
const sitePrefix = "site/"

// Bounds of what is remembered.
const (
	maxSites    = 20_000              // domains, about 200 octets of memory each
	siteStands  = 30 * 24 * time.Hour // after the last mail for it a domain is forgotten, and asked about again where some still waits
	siteRenewed = 7 * 24 * time.Hour  // how old the stored time of the last mail may be
)

// How records are written.
const (
	sitesPause   = time.Second // what is learned within it is one batch
	sitesAgain   = time.Minute // after an error of the engine
	sitesLook    = time.Hour   // between looks at what is too old
	sitesAtATime = 1000        // records of a batch
)

// Sites is where recipient domains led lately. The zero Sites remembers until the
// process ends. Store and Log are set before use; Run reads what is stored and writes what is
// learned. It is safe for concurrent use, and quick: the queue asks it while it is
// locked. It calls nobody while it is locked itself.
type Sites struct {
	Store Engine       // where records are; nil: nowhere
	Log   *slog.Logger // nil: no log

	once   sync.Once
	read   chan struct{} // closed when what was stored was read, or cannot be
	change chan struct{} // receives when there is something to write

	mu    sync.Mutex // guards what follows
	known map[mail.Domain]knownSite
	dirty map[mail.Domain]bool // differs from its record
	full  int                  // how many domains there may be; 0: maxSites
}

// knownSite is where one domain led.
type knownSite struct {
	name   string
	last   time.Time // when it led there, last
	stored time.Time // last, as its record has it; zero: there is none
}

func (s *Sites) open() {
	s.once.Do(func() {
		s.read, s.change = make(chan struct{}), make(chan struct{}, 1)
		s.known, s.dirty = map[mail.Domain]knownSite{}, map[mail.Domain]bool{}
		s.full = cmp.Or(s.full, maxSites)
		if s.Store == nil {
			close(s.read)
		}
	})
}

// Learn notes that a domain leads to a site.
func (s *Sites) Learn(d mail.Domain, site string, now time.Time) {
	s.open()
	s.mu.Lock()
	defer s.mu.Unlock()
	before, there := s.known[d]
	if !there && len(s.known) >= s.full {
		s.forget(s.oldest(s.full/10 + 1))
	}
	learned := knownSite{name: site, last: now, stored: before.stored}
	s.known[d] = learned
	if before.name != site || learned.renews() {
		s.mark(d)
	}
}

// renews says that the record is too old to stand for what is known.
func (k knownSite) renews() bool { return k.last.Sub(k.stored).Abs() >= siteRenewed }

// Site is where a domain led lately; not ok: that is not known.
func (s *Sites) Site(d mail.Domain) (name string, ok bool) {
	s.open()
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.known[d]
	return found.name, ok
}

// Read waits until what was stored is known. ErrReading: the context ended before.
func (s *Sites) Read(ctx context.Context) error {
	s.open()
	select {
	case <-s.read:
		return nil
	default:
	}
	select {
	case <-s.read:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: which domain belongs to which site is not known before: ask again", ErrReading)
	}
}

// mark notes that a record is to be written or deleted; mu is held.
func (s *Sites) mark(d mail.Domain) {
	s.dirty[d] = true
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// oldest are so many domains, those that nothing went to for longest; mu is held.
func (s *Sites) oldest(n int) []mail.Domain {
	type went struct {
		to   mail.Domain
		last int64
	}
	all := make([]went, 0, len(s.known))
	for d, k := range s.known {
		all = append(all, went{d, k.last.UnixNano()})
	}
	slices.SortFunc(all, func(a, b went) int { return cmp.Compare(a.last, b.last) })
	domains := make([]mail.Domain, min(n, len(all)))
	for i := range domains {
		domains[i] = all[i].to
	}
	return domains
}

// expired are the domains that nothing went to for too long; mu is held.
func (s *Sites) expired(now time.Time) (domains []mail.Domain) {
	for d, k := range s.known {
		if now.Sub(k.last) > siteStands {
			domains = append(domains, d)
		}
	}
	return domains
}

// forget forgets domains, with their records; mu is held.
func (s *Sites) forget(domains []mail.Domain) {
	for _, d := range domains {
		delete(s.known, d)
		s.mark(d)
	}
}

// Run reads what is stored, then writes what changes until the context ends, and what is
// left then. One runs at a time.
func (s *Sites) Run(ctx context.Context) {
	if s.open(); s.Store == nil {
		return
	}
	s.load(ctx, time.Now())
	look := time.NewTicker(sitesLook)
	defer look.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-look.C:
			s.mu.Lock()
			s.forget(s.expired(time.Now()))
			s.mu.Unlock()
		case <-s.change:
			if err := s.writeSoon(ctx); err != nil {
				s.logger().Error("which domain belongs to which site could not be stored: it is known until the relay stops", "cause", err)
				sleep(ctx, sitesAgain)
			}
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), sitesPause)
	defer cancel()
	if err := s.write(last); err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrBroken) {
		s.logger().Error("which domain belongs to which site could not be stored: some of it is learned again", "cause", err)
	}
}

// writeSoon waits for what else is learned, and writes.
func (s *Sites) writeSoon(ctx context.Context) error {
	sleep(ctx, sitesPause)
	if ctx.Err() != nil {
		return nil // Run writes what is left
	}
	return s.write(ctx)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// write makes records of what changed, without a sync of its own. What could not be
// written is written the next time.
func (s *Sites) write(ctx context.Context) error {
	for {
		b, domains, err := s.batch()
		if err == nil && len(domains) == 0 {
			return nil
		}
		if err == nil {
			err = s.Store.Commit(ctx, b)
		}
		if err != nil {
			s.mu.Lock()
			for _, d := range domains {
				s.mark(d)
			}
			s.mu.Unlock()
			return err
		}
	}
}

// batch takes some of what changed.
func (s *Sites) batch() (b *Batch, domains []mail.Domain, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b = &Batch{Lazy: true}
	for d := range s.dirty {
		if len(domains) == sitesAtATime {
			break
		}
		domains = append(domains, d)
		delete(s.dirty, d)
		k, there := s.known[d]
		if !there {
			b.Delete = append(b.Delete, siteKey(d))
			continue
		}
		k.stored = k.last
		s.known[d] = k
		value, bad := encodeRecord(&siteRecord{Domain: d, Site: k.name, Last: k.last})
		err = errors.Join(err, bad)
		b.Put = append(b.Put, Record{Key: siteKey(d), Value: value})
	}
	return b, domains, err
}

// load reads what is stored. What was learned meanwhile is newer. Records that are damaged
// are passed over and deleted: one line of the log tells of them.
func (s *Sites) load(ctx context.Context, now time.Time) {
	defer func() {
		select {
		case <-s.read: // by a run before
		default:
			close(s.read)
		}
	}()
	var broken Batch
	var first error
	var found []siteRecord
	err := s.Store.Scan(ctx, sitePrefix, "", func(key string, value []byte) bool {
		r, err := decodeSite(key, value)
		if err != nil {
			first = cmp.Or(first, fmt.Errorf("%s: %w", key, err))
			broken.Delete = append(broken.Delete, key)
			return true
		}
		found = append(found, r)
		return true
	})
	s.enter(found, now)
	if n := len(broken.Delete); n > 0 {
		s.logger().Warn("records of which site a domain belongs to are damaged: they are passed over, and learned again at the next attempt", "records", n, "first", first)
		broken.Lazy = true
		err = errors.Join(err, s.Store.Commit(ctx, &broken))
	}
	if err != nil && ctx.Err() == nil {
		s.logger().Warn("which domain belongs to which site could not all be read: the rest is learned again at the next attempts", "cause", err)
	}
}

// enter makes known what was stored, the latest first where that is too much.
func (s *Sites) enter(found []siteRecord, now time.Time) {
	slices.SortStableFunc(found, func(a, b siteRecord) int { return b.Last.Compare(a.Last) })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range found {
		last := r.Last
		if last.After(now) { // the clock was put back
			last = now
		}
		k, there := s.known[r.Domain]
		switch {
		case there: // learned since
			k.stored = r.Last
			s.known[r.Domain] = k
			if k.name == r.Site && !k.renews() {
				delete(s.dirty, r.Domain)
			}
		case now.Sub(last) > siteStands, len(s.known) >= s.full:
			s.mark(r.Domain) // to be deleted
		default:
			s.known[r.Domain] = knownSite{name: r.Site, last: last, stored: r.Last}
		}
	}
}

func (s *Sites) logger() *slog.Logger { return cmp.Or(s.Log, slog.New(slog.DiscardHandler)) }

// siteRecord is what is stored of one domain.
type siteRecord struct {
	Domain mail.Domain `json:"domain"`
	Site   string      `json:"site"`
	Last   time.Time   `json:"last"` // when it led there, give or take siteRenewed
}

func (r *siteRecord) summary(c canonical) canonical { return c }

func (r *siteRecord) appendJSON(b []byte) ([]byte, error) {
	text, err := json.Marshal(r)
	return append(b, text...), err
}

func siteKey(d mail.Domain) string {
	sum := sha256.Sum256([]byte(d.String()))
	return sitePrefix + hex.EncodeToString(sum[:16])
}

func decodeSite(key string, value []byte) (r siteRecord, err error) {
	if err := decodeRecord(value, &r); err != nil {
		return r, err
	}
	if r.Domain.IsZero() || r.Site == "" || r.Last.IsZero() || siteKey(r.Domain) != key {
		return r, fmt.Errorf("%w: it is not where a domain leads, or another's", errRecord)
	}
	return r, nil
}
