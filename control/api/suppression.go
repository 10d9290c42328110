package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/suppression"
)

// Suppressed is one address of an organisation's suppression list.
type Suppressed struct {
	Address    string             `json:"address"`
	Suppressed bool               `json:"suppressed"` // false: it has marks, but fewer than the rule wants
	Reason     suppression.Reason `json:"reason"`
	Since      time.Time          `json:"since"`
	Until      time.Time          `json:"until"`
	Marks      []suppression.Mark `json:"marks"`
}

// SuppressionPage is GET /api/v1/suppression/{org}.
type SuppressionPage struct {
	Organisation  string       `json:"org"`
	On            bool         `json:"on"` // the registry gives the organisation a list
	Addresses     []Suppressed `json:"addresses"`
	NextPageToken string       `json:"next_page_token,omitempty"`
}

// SuppressionWish is the body of POST /api/v1/suppression/{org}/{verb}.
type SuppressionWish struct {
	Address string    `json:"address"`
	Until   time.Time `json:"until,omitzero"` // add: when it ends; as for a complaint where it is not said
	Note    string    `json:"note,omitempty"` // add: why
}

// SuppressionChange is what came of it.
type SuppressionChange struct {
	Organisation string `json:"org"`
	Address      string `json:"address"`
	Verb         Verb   `json:"verb"`
	Marks        int    `json:"marks"` // that were made or removed; 0: there were none
}

// The verbs of suppression lists.
const (
	AddSuppression    Verb = "add"
	RemoveSuppression Verb = "remove"
)

// maxNote bounds what a person writes beside an address.
const maxNote = 200

// suppressed is GET /api/v1/suppression/{org}.
func (s *Server) suppressed(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "address", "pending", "page_token", "limit")
	if err != nil {
		return nil, err
	}
	id, rule, on, err := s.suppressionOf(r)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	page := SuppressionPage{Organisation: string(id), On: on, Addresses: []Suppressed{}}
	if text := q.Get("address"); text != "" {
		address, err := suppressedAddress(text)
		if err != nil {
			return nil, err
		}
		e, err := s.Suppression.Look(ctx, id, rule, address.String(), now)
		if err == nil && len(e.Marks) > 0 {
			page.Addresses = append(page.Addresses, suppressedOf(e))
		}
		return page, err
	}
	limit, err := limitParameter(q.Get("limit"), 100)
	if err != nil {
		return nil, err
	}
	entries, next, err := s.Suppression.Entries(ctx, id, rule, q.Get("pending") == "true", q.Get("page_token"), limit, now)
	for _, e := range entries {
		page.Addresses = append(page.Addresses, suppressedOf(e))
	}
	page.NextPageToken = next
	return page, err
}

// steerSuppression is POST /api/v1/suppression/{org}/{verb}.
func (s *Server) steerSuppression(ctx context.Context, r *http.Request) (any, error) {
	id, rule, on, err := s.suppressionOf(r)
	if err != nil {
		return nil, err
	}
	var wish SuppressionWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	address, err := suppressedAddress(wish.Address)
	if err != nil {
		return nil, err
	}
	by := asker(r, "")
	done := SuppressionChange{Organisation: string(id), Address: address.String(), Verb: Verb(r.PathValue("verb"))}
	switch done.Verb {
	case AddSuppression:
		if !on {
			return nil, problem(http.StatusConflict, CodeConflict, fmt.Sprintf("organisation %s has no suppression list", id), "write suppression = {} under the organisation in the registry, and apply")
		}
		done.Marks = 1
		err = s.addSuppression(ctx, id, rule, done.Address, by, wish)
	case RemoveSuppression:
		done.Marks, err = s.Suppression.Remove(ctx, id, done.Address, func(int) custody.Batch {
			return custody.Batch{Facts: []ledger.Fact{suppressionFact(id, done.Address, "taken off by "+by)}}
		})
	default:
		return nil, notFound(fmt.Sprintf("%q is nothing that can be done to a suppression list", done.Verb), "add or remove")
	}
	return done, err
}

func (s *Server) addSuppression(ctx context.Context, id org.ID, rule org.Suppression, address, by string, wish SuppressionWish) error {
	now := time.Now().UTC()
	until := wish.Until
	if until.IsZero() {
		until = now.Add(rule.ComplaintFor)
	}
	if !until.After(now) {
		return badRequest("until is over already", "a time to come, as 2027-12-31T00:00:00Z")
	}
	if len(wish.Note) > maxNote {
		return badRequest(fmt.Sprintf("the note has %d octets", len(wish.Note)), fmt.Sprintf("at most %d", maxNote))
	}
	record, err := s.Suppression.Record(id, suppression.Mark{Address: address, Reason: suppression.Manual, Since: now, Until: until.UTC(), Note: wish.Note})
	if err != nil {
		return err
	}
	fact := suppressionFact(id, address, "put there by "+by+" until "+until.UTC().Format(time.DateOnly))
	return s.Suppression.Put(ctx, &custody.Batch{Put: []custody.Record{record}, Facts: []ledger.Fact{fact}})
}

func suppressionFact(id org.ID, address, detail string) ledger.Fact {
	return ledger.Fact{Time: time.Now().UTC(), Event: ledger.SuppressionChanged, Org: string(id), Rcpt: []string{address}, Detail: detail}
}

// suppressionOf reads which organisation's list is asked for. One that left the
// registry, or has no list any more, can still be read and emptied.
func (s *Server) suppressionOf(r *http.Request) (id org.ID, rule org.Suppression, on bool, err error) {
	id = org.ID(r.PathValue("org"))
	dir, _ := s.Directory()
	o, ok := dir.Organisation(id)
	switch {
	case !ok:
		return id, rule, false, notFound(fmt.Sprintf("there is no organisation %q", id), "org list names them all")
	case o.Suppression == nil:
		return id, org.DefaultSuppression, false, nil
	}
	return id, *o.Suppression, true, nil
}

func suppressedAddress(text string) (mail.Address, error) {
	a, err := mail.ParseAddressUTF8(text)
	if err != nil {
		return a, badRequest("the address cannot be read: "+err.Error(), "write it as bob@example.org")
	}
	return a, nil
}

func suppressedOf(e suppression.Entry) Suppressed {
	return Suppressed{Address: e.Address, Suppressed: e.Suppressed, Reason: e.Reason, Since: e.Since, Until: e.Until, Marks: e.Marks}
}
