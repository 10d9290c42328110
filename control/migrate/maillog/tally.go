package maillog

import (
	"cmp"
	"maps"
	"slices"

	"anechoic/mail"
	"anechoic/org"
)

// Tally counts verdicts.
type Tally struct {
	Messages int `json:"messages"`
	Relayed  int `json:"relayed"`
	Inbound  int `json:"inbound"`
	Refused  int `json:"refused"`
	Unknown  int `json:"cannot_be_told"`
	Again    int `json:"handed_in_again"` // by a filter: not counted otherwise

	Sources []SourceCount `json:"sources"`
	Reasons []ReasonCount `json:"reasons"`
	Senders []SenderCount `json:"refused_senders"` // most first, at most as many as were asked for
	Doubts  []DoubtCount  `json:"doubts"`
	Others  int           `json:"refused_of_uncounted_senders"` // past the bound of names

	bySource map[sourceKey]int
	byReason map[mail.Reason]int
	byDoubt  map[string]int
	bySender map[senderKey]*SenderCount
}

// SourceCount is what one source would have sent.
type SourceCount struct {
	Organisation org.ID `json:"organisation"`
	Source       string `json:"source"`
	Messages     int    `json:"messages"`
}

// ReasonCount is what would have been refused for one reason.
type ReasonCount struct {
	Reason   mail.Reason `json:"reason"`
	Messages int         `json:"messages"`
}

// DoubtCount is what a log cannot tell.
type DoubtCount struct {
	Why      string `json:"why"`
	Messages int    `json:"messages"`
}

// SenderCount is one sender whose mail would have been refused. What it is called is a
// stranger's text.
type SenderCount struct {
	Client       string      `json:"client"` // user, or address
	From         string      `json:"mail_from"`
	Organisation org.ID      `json:"claimed_org,omitempty"` // whose domain MAIL FROM is
	Reason       mail.Reason `json:"reason"`
	Messages     int         `json:"messages"`
	Delivered    int         `json:"delivered"` // of them, taken by the next server
	Why          string      `json:"why"`
	Do           string      `json:"do"`
}

type sourceKey struct {
	organisation org.ID
	source       string
}

type senderKey struct {
	client, from string
	reason       mail.Reason
}

// maxSenders bounds the names that are counted apart.
const maxSenders = 20_000

// NewTally counts nothing yet.
func NewTally() *Tally {
	return &Tally{bySource: make(map[sourceKey]int), byReason: make(map[mail.Reason]int), byDoubt: make(map[string]int), bySender: make(map[senderKey]*SenderCount)}
}

// Add counts a message with its verdict.
func (t *Tally) Add(m *Message, v Verdict) {
	if m.Again {
		t.Again++
		return
	}
	t.Messages++
	switch v.Outcome {
	case Relayed:
		t.Relayed++
		t.bySource[sourceKey{v.Organisation, v.Source}]++
	case Inbound:
		t.Inbound++
	case Refused:
		t.Refused++
		t.byReason[v.Reason]++
		t.sender(m, v)
	default:
		t.Unknown++
		t.byDoubt[v.Why]++
	}
}

func (t *Tally) sender(m *Message, v Verdict) {
	key := senderKey{client: m.User, from: m.From, reason: v.Reason}
	if key.client == "" && m.Address.IsValid() {
		key.client = m.Address.String()
	}
	c := t.bySender[key]
	if c == nil && len(t.bySender) >= maxSenders {
		t.Others++
		return
	}
	if c == nil {
		c = &SenderCount{Client: cmp.Or(key.client, "this machine"), From: m.From, Organisation: v.Organisation, Reason: v.Reason, Why: v.Why, Do: v.Do}
		t.bySender[key] = c
	}
	c.Messages++
	if m.Sent {
		c.Delivered++
	}
}

// Settle makes the lists, with at most so many senders. Senders in an organisation's name
// come before others: those may be its own.
func (t *Tally) Settle(senders int) {
	t.Sources, t.Reasons, t.Doubts, t.Senders = []SourceCount{}, []ReasonCount{}, []DoubtCount{}, []SenderCount{}
	for k, n := range t.bySource {
		t.Sources = append(t.Sources, SourceCount{k.organisation, k.source, n})
	}
	for k, n := range t.byReason {
		t.Reasons = append(t.Reasons, ReasonCount{k, n})
	}
	for k, n := range t.byDoubt {
		t.Doubts = append(t.Doubts, DoubtCount{k, n})
	}
	for c := range maps.Values(t.bySender) {
		t.Senders = append(t.Senders, *c)
	}
	slices.SortFunc(t.Sources, func(a, b SourceCount) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Organisation, b.Organisation), cmp.Compare(a.Source, b.Source))
	})
	slices.SortFunc(t.Reasons, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Reason, b.Reason))
	})
	slices.SortFunc(t.Doubts, func(a, b DoubtCount) int {
		return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Why, b.Why))
	})
	slices.SortFunc(t.Senders, bySeriousness)
	t.Senders = t.Senders[:min(senders, len(t.Senders))]
}

// bySeriousness puts first what is most likely an organisation's own.
func bySeriousness(a, b SenderCount) int {
	own := func(c SenderCount) int {
		if c.Organisation != "" {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(own(a), own(b)), cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Client, b.Client), cmp.Compare(a.From, b.From), cmp.Compare(a.Reason, b.Reason))
}

// Own is how many senders in an organisation's name, whose mail the next server took,
// would have been refused.
func (t *Tally) Own() (n int) {
	for c := range maps.Values(t.bySender) {
		if c.Organisation != "" && c.Delivered > 0 {
			n++
		}
	}
	return n
}
