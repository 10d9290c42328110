package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"anechoic/control/metrics"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/signing"
)

// Node is what only the running program knows of itself.
type Node struct {
	Version   string     `json:"version"`
	PID       int        `json:"pid"`
	Started   time.Time  `json:"started"`
	Hostname  string     `json:"hostname"`
	DataDir   string     `json:"data_dir"`
	Files     []string   `json:"config_files"` // configuration and registry
	Listeners []Listener `json:"listeners"`
	Draining  bool       `json:"draining"`
	RSA       string     `json:"rsa"`                // what makes RSA signatures: "Go", or a library and its version
	Transport string     `json:"transport_security"` // whether DANE is on, and why; how many MTA-STS policies are in force
}

// Listener is one address the relay answers on.
type Listener struct {
	Name    string `json:"name"` // smtp, smtp_tls, submission, proxy, operations
	Address string `json:"address"`
}

// Status is GET /api/v1/status.
type Status struct {
	Node
	UptimeSeconds int64  `json:"uptime_seconds"`
	Generation    uint64 `json:"generation"`

	// Answer says for the whole relay, or for the organisation of ?org=, whether
	// anybody but an organisation gets mail signed as its domains: "No", or "Yes,
	// because …".
	Answer             string         `json:"answer"`
	Organisations      []Organisation `json:"organisations"`       // at most MaxPage, those of ?org= only
	OrganisationsTotal int            `json:"organisations_total"` // in the registry
	Findings           []Finding      `json:"findings"`
	Queue              QueueDepth     `json:"queue"`
	Suspensions        []Suspended    `json:"suspensions"`
	Sites              SiteCounts     `json:"sites"`
	Scanners           []Scanner      `json:"scanners"` // our own checks among them
	Ledger             LedgerExtent   `json:"ledger"`
}

// Scanner is how one that sees messages stands.
type Scanner struct {
	Name    string            `json:"name"`
	Answers bool              `json:"answers"`          // it did, in the last seconds
	Detail  string            `json:"detail,omitempty"` // why not
	Circuit string            `json:"circuit"`          // closed: it is asked; open: it rests after losses in a row; half_open: one message shows whether it is back
	Counts  map[string]uint64 `json:"counts"`           // what it said about messages since the start, by action
}

// Organisation is how one stands.
type Organisation struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Answer  string   `json:"answer"`
	But     []string `json:"but"` // what the answer rests on, and somebody should know
	Sources []Source `json:"sources"`
	Domains []Domain `json:"domains"`
}

// Source is one way in.
type Source struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
	Role string `json:"role,omitempty"`
}

// Domain is how one domain stands in DNS.
type Domain struct {
	Name     string `json:"name"`
	Standing string `json:"standing"`
	Detail   string `json:"detail,omitempty"`
	Keys     []Key  `json:"keys"`
}

// Key says whether receivers can find one signing key.
type Key struct {
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
	Published bool   `json:"published"`
	Detail    string `json:"detail,omitempty"`
}

// Finding is a risk that loads but should end.
type Finding struct {
	Organisation string     `json:"org"`
	Source       string     `json:"source,omitempty"`
	Text         string     `json:"text"`
	Until        *time.Time `json:"until,omitempty"`
}

// String is the finding on one line.
func (f Finding) String() string {
	switch {
	case f.Organisation == "":
		return f.Text
	case f.Source == "":
		return f.Organisation + ": " + f.Text
	}
	return f.Organisation + "/" + f.Source + ": " + f.Text
}

// SiteCounts is how many sites do not take what there is for them.
type SiteCounts struct {
	Paused    int `json:"paused"` // they asked for less
	Dead      int `json:"dead"`   // they did not answer
	Suspended int `json:"suspended"`
}

func (s *Server) siteCounts(now time.Time) (n SiteCounts) {
	for _, status := range s.Delivery.Sites() {
		switch stateOf(status, now) {
		case SitePaused:
			n.Paused++
		case SiteDead:
			n.Dead++
		}
	}
	for _, one := range s.Queue.Suspensions() {
		if one.Scope == custody.ScopeSite {
			n.Suspended++
		}
	}
	return n
}

// QueueDepth is how much waits.
type QueueDepth struct {
	Reading          bool          `json:"reading,omitempty"` // the queue is still being read back: there is more
	Messages         int           `json:"messages"`
	Queued           int           `json:"queued"`
	Suspended        int           `json:"suspended"` // of those; but for those of a suspended site
	Leased           int           `json:"leased"`
	Held             int           `json:"held"`
	OldestDue        *time.Time    `json:"oldest_due,omitempty"`
	OldestAgeSeconds int64         `json:"oldest_age_seconds"`
	Domains          []DomainDepth `json:"domains"` // those with most
}

// DomainDepth is how much waits for one recipient domain.
type DomainDepth struct {
	Domain    string     `json:"domain"`
	Queued    int        `json:"queued"`
	OldestDue *time.Time `json:"oldest_due,omitempty"`
}

// LedgerExtent is how far the ledger reaches.
type LedgerExtent struct {
	Facts    uint64 `json:"facts"`
	Segments uint64 `json:"segments"`
}

// statusLookups bounds the DNS look-ups one status has under way.
const statusLookups = 16

// status is GET /api/v1/status.
func (s *Server) status(ctx context.Context, r *http.Request) (any, error) {
	now := time.Now().UTC()
	dir, findings := s.Directory()
	node := s.Node()
	only := org.ID(r.URL.Query().Get("org"))
	if _, ok := dir.Organisation(only); only != "" && !ok {
		return nil, notFound(fmt.Sprintf("there is no organisation %q", only), "status without --org lists them all")
	}
	extent, err := extentOf(ctx, s.Ledger)
	if err != nil {
		return nil, err
	}
	status := Status{
		Node: node, UptimeSeconds: int64(now.Sub(node.Started).Seconds()), Generation: dir.Generation(),
		Findings: Findings(findings), Queue: depthOf(s.Queue.Depth(), now), Ledger: extent,
		Suspensions: s.keptBackBy(s.Queue.Suspensions()...), Sites: s.siteCounts(now), Scanners: []Scanner{},
	}
	if s.Scanners != nil {
		status.Scanners = s.Scanners(ctx)
	}
	status.Organisations, status.OrganisationsTotal, status.Answer = s.organisations(ctx, dir, findings, only, now)
	return status, nil
}

// organisations describes a page of organisations, and answers for all of them.
func (s *Server) organisations(ctx context.Context, dir *org.Directory, findings []org.Finding, only org.ID, now time.Time) (list []Organisation, total int, answer string) {
	work := background.Limit(statusLookups)
	list, because := []Organisation{}, ""
	for o := range dir.Organisations() {
		total++
		if only != "" && o.ID != only {
			continue
		}
		why := Posture(o, findings, now)
		if why != "" && because == "" {
			because = string(o.ID) + ": " + why
		}
		if len(list) == MaxPage {
			continue
		}
		list = append(list, s.organisation(ctx, work, o, why, now))
	}
	work.Wait()
	for i := range list {
		o, _ := dir.Organisation(org.ID(list[i].ID))
		list[i].But = Reservations(o, list[i].Domains, findings, now)
	}
	return list, total, Answer(because)
}

// organisation describes one; its look-ups go on in work.
func (s *Server) organisation(ctx context.Context, work *background.Group, o *org.Organisation, why string, now time.Time) Organisation {
	told := Organisation{ID: string(o.ID), Name: o.Name, Answer: Answer(why), Sources: []Source{}, Domains: make([]Domain, len(o.Domains)), But: []string{}}
	for _, source := range o.Sources {
		told.Sources = append(told.Sources, Source{ID: source.ID, Kind: string(source.Kind), Role: string(source.Role)})
	}
	for i, d := range o.Domains {
		told.Domains[i] = Domain{Name: d.Name.String(), Keys: []Key{}}
		work.Go(func() {
			standing, detail := s.Standing(ctx, d)
			if detail == "" && standing != org.Verified.String() {
				detail = wantedRecord(d)
			}
			told.Domains[i].Standing, told.Domains[i].Detail = standing, detail
		})
		work.Go(func() {
			for _, info := range s.Keys.ListDomain(ctx, d, now) {
				if info.Stage != signing.StageRevoked {
					told.Domains[i].Keys = append(told.Domains[i].Keys, Key{Selector: info.Selector, Algorithm: info.Algorithm, Published: info.Published, Detail: info.Detail})
				}
			}
		})
	}
	return told
}

// wantedRecord is what to do about a domain that does not stand.
func wantedRecord(d *org.Domain) string {
	record := "v=anechoic1; org=" + string(d.Organisation)
	if d.Subdomains {
		record += "; sub=yes"
	}
	return fmt.Sprintf("nothing is sent as this domain before DNS has: %s%s TXT %q", org.ProofPrefix, d.Name, record)
}

// Posture answers whether anybody but the organisation gets mail signed as its
// domains: empty for no, else why. What makes it so are sources that are believed on a
// single proof for a time, a secret that somebody else was seen to have, which leaves
// a single proof too, and a spoof that a probe found not to be refused.
func Posture(o *org.Organisation, findings []org.Finding, now time.Time) (because string) {
	for _, source := range o.Sources {
		if source.Kind != org.Microsoft365 || source.Secret != nil || source.RequireDKIM || !source.SingleProof(now) {
			continue
		}
		return fmt.Sprintf("source %s is believed %s", source.ID, findingText(findings, source))
	}
	for _, f := range findings {
		if f.Organisation == o.ID && f.Opens {
			return fmt.Sprintf("of source %s: %s", f.Source, f.Text)
		}
	}
	return ""
}

// Resting says that a source is believed on one thing alone, which somebody else may
// come to have; empty: it is not.
func Resting(s *org.Source, now time.Time) string {
	switch {
	case s.Secret != nil:
		return ""
	case s.Kind == org.Microsoft365 && !s.RequireDKIM && s.SingleProof(now):
		return "it is believed with one proof until " + s.SingleProofUntil.Format(time.DateOnly)
	case s.Kind != org.Address:
		return ""
	}
	for _, p := range s.Addresses {
		switch {
		case p.Addr().IsLoopback():
			return fmt.Sprintf("it rests on %s alone: every program on this machine is believed", p)
		case !p.IsSingleIP():
			return fmt.Sprintf("it rests on %s alone: every machine there is believed", p)
		}
	}
	return "it rests on its address alone: whoever comes to have it is believed"
}

// Reservations are what stands beside the answer for an organisation: nobody else gets
// mail signed by these, but they are what somebody would turn to next, or what keeps
// its own mail from being signed.
func Reservations(o *org.Organisation, domains []Domain, findings []org.Finding, now time.Time) []string {
	list := []string{}
	for _, d := range domains {
		if d.Standing != org.Verified.String() {
			list = append(list, fmt.Sprintf("DNS does not prove %s (%s): nobody, its owner included, gets mail signed as it", d.Name, d.Standing))
		}
	}
	for _, s := range o.Sources {
		if why := Resting(s, now); why != "" && s.Kind == org.Address {
			list = append(list, "source "+s.ID+": "+why)
		}
	}
	for _, f := range findings {
		if f.Organisation == o.ID && f.Source == "" && !f.Opens {
			list = append(list, f.Text)
		}
	}
	return list
}

// findingText repeats what the finding about a source says.
func findingText(findings []org.Finding, source *org.Source) string {
	for _, f := range findings {
		if f.Organisation == source.Organisation && f.Source == source.ID && f.Until.Equal(source.SingleProofUntil) {
			return "with one proof: " + f.Text
		}
	}
	return "with one proof until " + source.SingleProofUntil.Format(time.DateOnly)
}

// Answer is the sentence for what Posture gives.
func Answer(because string) string {
	if because == "" {
		return "No"
	}
	return "Yes, because " + because
}

// Findings gives findings their JSON form.
func Findings(findings []org.Finding) []Finding {
	list := []Finding{}
	for _, f := range findings {
		list = append(list, Finding{Organisation: string(f.Organisation), Source: f.Source, Text: f.Text, Until: timeOrNil(f.Until)})
	}
	return list
}

func depthOf(d custody.Depth, now time.Time) QueueDepth {
	depth := QueueDepth{
		Reading: d.Reading, Messages: d.Messages, Queued: d.Queued, Suspended: d.Suspended, Leased: d.Leased, Held: d.Held, OldestDue: timeOrNil(d.Oldest),
		OldestAgeSeconds: int64(metrics.Age(d.Oldest, now).Seconds()), Domains: []DomainDepth{},
	}
	for _, domain := range d.Domains {
		depth.Domains = append(depth.Domains, DomainDepth{Domain: domain.Domain.String(), Queued: domain.Queued, OldestDue: timeOrNil(domain.Oldest)})
	}
	return depth
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// extentOf finds how many facts and segments there are by bisection: offsets
// have no gaps.
func extentOf(ctx context.Context, source ledger.Scanner) (LedgerExtent, error) {
	facts, err := count(ctx, source, ledger.FactPrefix, ledger.FactKey, 0)
	if err != nil {
		return LedgerExtent{}, err
	}
	segments, err := count(ctx, source, ledger.SegmentPrefix, ledger.SegmentKey, 1)
	return LedgerExtent{Facts: facts, Segments: segments}, err
}

// count gives how many numbers from first on have a record: it doubles a step
// until nothing stands at or after it, then halves.
func count(ctx context.Context, source ledger.Scanner, prefix string, key func(uint64) string, first uint64) (uint64, error) {
	reaches := func(n uint64) (found bool, err error) {
		err = source.Scan(ctx, prefix, key(first+n), func(string, []byte) bool { found = true; return false })
		return found, err
	}
	var low, high uint64 = 0, 1 // low records there are at least; high: not so many
	for {
		found, err := reaches(high - 1)
		if err != nil {
			return 0, fmt.Errorf("ledger: count %s: %w", prefix, err)
		}
		if !found {
			break
		}
		low, high = high, high*2
	}
	for low+1 < high {
		middle := low + (high-low)/2
		found, err := reaches(middle - 1)
		if err != nil {
			return 0, fmt.Errorf("ledger: count %s: %w", prefix, err)
		}
		if found {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}

// domainParameter reads a domain, which may be absent.
func domainParameter(name, text string) (mail.Domain, error) {
	if text == "" {
		return mail.Domain{}, nil
	}
	d, err := mail.ParseDomain(text)
	if err != nil {
		return d, badRequest(fmt.Sprintf("%s: %v", name, err), "a domain such as example.org")
	}
	return d, nil
}
