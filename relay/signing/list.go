package signing

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/standard/dkim"
)

// KeyInfo is one line of `key list`; its JSON names are part of the outside
// contract.
type KeyInfo struct {
	Organisation string    `json:"org"`
	Domain       string    `json:"domain"`
	Selector     string    `json:"selector"`
	Algorithm    string    `json:"algorithm"`
	RecordName   string    `json:"record_name"`
	RecordValue  string    `json:"record_value"` // one logical string; see ZoneLine. Of a revoked key the one with an empty p=
	Published    bool      `json:"published"`    // DNS has this key
	Stage        Stage     `json:"stage"`
	Signs        bool      `json:"signs"`            // the one of its algorithm that signs now
	ManagedBy    string    `json:"managed_by"`       // see below
	Detail       string    `json:"detail,omitempty"` // why not published, or what else is worth knowing
	Added        time.Time `json:"added,omitzero"`   // by a command
	ActiveSince  time.Time `json:"active_since,omitzero"`
	Successor    string    `json:"successor,omitempty"`
	RetiresAt    time.Time `json:"retires_at,omitzero"` // from then on record and registry line may go
	RevokedAt    time.Time `json:"revoked_at,omitzero"`
}

// The values of KeyInfo.ManagedBy.
const (
	ByFile          = "file"          // the registry names the key
	ByCommand       = "command"       // only the data directory does
	ByConfiguration = "configuration" // the relay's own, for a domain that relay.toml names
)

// listFresh is how old an answer of DNS may be that a person is shown: who just
// published a record wants to see it.
const listFresh = 5 * time.Second

// lookupsAtOnce bounds the look-ups List has under way, for each processor.
const lookupsAtOnce = 8

// List describes every key of the Directory's domains, in its order, then the relay's
// own, after asking DNS.
func (s *Signer) List(ctx context.Context, dir *org.Directory, now time.Time) []KeyInfo {
	domains := slices.Collect(dir.Domains())
	lists := make([][]KeyInfo, len(domains))
	work := background.Limit(lookupsAtOnce * runtime.GOMAXPROCS(0))
	for i, d := range domains {
		work.Go(func() { lists[i] = s.ListDomain(ctx, d, now) })
	}
	own := make([]KeyInfo, len(s.RelayKeys))
	for i, ref := range s.RelayKeys {
		work.Go(func() { own[i] = s.describeOwn(ctx, ref, now) })
	}
	work.Wait()
	return append(slices.Concat(lists...), own...)
}

// ListDomain is List for one domain: the registry's keys in its order, then those
// of commands and those that were revoked.
func (s *Signer) ListDomain(ctx context.Context, d *org.Domain, now time.Time) []KeyInfo {
	keys := keysOfDomain(d, s.Lives.ofDomain(d.Name))
	list := make([]KeyInfo, len(keys))
	for i, k := range keys {
		list[i] = s.describe(ctx, k.ref(d), k.life, now)
	}
	for _, algorithm := range algorithmsOf(keys) {
		ordered := newestFirst(keys, algorithm)
		for i, k := range ordered {
			if info := infoOf(list, k.Selector); info.Published {
				info.Signs = true
				s.saw(ctx, d, ordered[i:], now)
				break
			}
		}
	}
	tellStages(list, keysOfDomain(d, s.Lives.ofDomain(d.Name)), now)
	return list
}

// describe asks DNS about one key. A key that cannot be used has an empty
// RecordValue and says why in Detail.
func (s *Signer) describe(ctx context.Context, ref KeyRef, life Life, now time.Time) KeyInfo {
	info := KeyInfo{
		Organisation: string(ref.Organisation),
		Domain:       ref.Domain.String(),
		Selector:     ref.Selector,
		Algorithm:    string(ref.Algorithm),
		RecordName:   ref.RecordName(),
	}
	if !life.Revoked.IsZero() {
		info.RecordValue = revokedRecord(ref.Algorithm)
		info.Detail = observeRevoked(ctx, s.Resolver, ref)
		return info
	}
	c := s.candidate(ctx, ref, now, listFresh)
	if c.err != nil {
		info.Detail = c.err.Error()
		return info
	}
	info.RecordValue = dkim.RecordValue(c.public)
	info.Published = c.publication.State == Published
	info.Detail = c.publication.Detail
	return info
}

// tellStages fills in what is remembered of the keys of a domain.
func tellStages(list []KeyInfo, keys []heldKey, now time.Time) {
	for _, k := range keys {
		info := infoOf(list, k.Selector)
		if info == nil {
			continue // added meanwhile
		}
		var superseded time.Time
		ordered := newestFirst(keys, k.Algorithm)
		if i := slices.IndexFunc(ordered, func(o heldKey) bool { return o.Selector == k.Selector }); i >= 0 {
			superseded = supersededAt(ordered, i)
		}
		info.ManagedBy = ByCommand
		if k.byFile {
			info.ManagedBy = ByFile
		}
		info.Stage = k.life.stage(superseded, info.Published, now)
		info.Added, info.ActiveSince, info.Successor, info.RevokedAt = k.life.Added, k.life.Seen, k.life.Successor, k.life.Revoked
		if info.Stage == StageRetiring || info.Stage == StageRetired {
			info.RetiresAt = k.life.retiresAt(superseded)
		}
	}
}

func infoOf(list []KeyInfo, selector string) *KeyInfo {
	i := slices.IndexFunc(list, func(k KeyInfo) bool { return k.Selector == selector })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// revokedRecord is the record of a key that was taken back: an empty p= (RFC 6376
// section 3.6.1).
func revokedRecord(a org.Algorithm) string {
	if a == org.Ed25519 {
		return "v=DKIM1; k=ed25519; p="
	}
	return "v=DKIM1; k=rsa; p="
}

// observeRevoked says what DNS has where the record of a revoked key stood.
func observeRevoked(ctx context.Context, resolver mail.Resolver, ref KeyRef) string {
	answer, err := resolver.TXT(ctx, ref.RecordName())
	switch {
	case errors.Is(err, mail.ErrNoDomain), err == nil && len(answer.Records) == 0:
		return "revoked; DNS has no record of it"
	case err != nil:
		return "revoked; the look-up failed: " + err.Error()
	}
	for _, txt := range answer.Records {
		if record, err := dkim.ParseRecord(txt); err == nil && !record.Revoked() {
			return "revoked, but DNS still publishes a key here: replace its record by this one"
		}
	}
	return "revoked, and DNS says so"
}

// maxString is the longest character-string of a TXT record (RFC 1035 section
// 3.3.14).
const maxString = 255

// SplitTXT cuts a TXT value into strings of at most 255 octets. Receivers join
// them again without anything between (RFC 6376 section 3.6.2.2).
func SplitTXT(value string) []string {
	var parts []string
	for len(value) > maxString {
		parts, value = append(parts, value[:maxString]), value[maxString:]
	}
	return append(parts, value)
}

// ZoneLine writes a TXT record as a line of a zone file (RFC 1035 section 5.1).
// The value is one of ours: letters, digits and punctuation.
func ZoneLine(name, value string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var b strings.Builder
	b.WriteString(name + ". IN TXT (")
	for _, part := range SplitTXT(value) {
		b.WriteString(` "` + escape.Replace(part) + `"`)
	}
	b.WriteString(" )")
	return b.String()
}
