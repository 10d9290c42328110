package signing

import (
	"context"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"anechoic/org"
	"anechoic/standard/dkim"
)

// KeyInfo is one line of `key list`; its JSON names are part of the outside
// contract.
type KeyInfo struct {
	Organisation string `json:"org"`
	Domain       string `json:"domain"`
	Selector     string `json:"selector"`
	Algorithm    string `json:"algorithm"`
	RecordName   string `json:"record_name"`
	RecordValue  string `json:"record_value"` // one logical string; see ZoneLine
	Published    bool   `json:"published"`
	Detail       string `json:"detail,omitempty"` // why not, or what else is worth knowing
}

// listFresh is how old an answer of DNS may be that a person is shown: who just
// published a record wants to see it.
const listFresh = 5 * time.Second

// lookupsAtOnce bounds the look-ups List has under way, for each processor.
const lookupsAtOnce = 8

// List describes every key of the Directory, in its order, after asking DNS.
func (s *Signer) List(ctx context.Context, dir *org.Directory, now time.Time) []KeyInfo {
	var refs []KeyRef
	for ref := range keysOf(dir) {
		refs = append(refs, ref)
	}
	list := make([]KeyInfo, len(refs))
	var work errgroup.Group
	work.SetLimit(lookupsAtOnce * runtime.GOMAXPROCS(0))
	for i, ref := range refs {
		work.Go(func() error {
			list[i] = s.Describe(ctx, ref, now)
			return nil
		})
	}
	_ = work.Wait() // the functions return no error
	return list
}

// Describe is List for one key. A name that is no key here has an empty
// RecordValue and says so in Detail.
func (s *Signer) Describe(ctx context.Context, ref KeyRef, now time.Time) KeyInfo {
	info := KeyInfo{
		Organisation: string(ref.Organisation),
		Domain:       ref.Domain.String(),
		Selector:     ref.Selector,
		Algorithm:    string(ref.Algorithm),
		RecordName:   ref.RecordName(),
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
