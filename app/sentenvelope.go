package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// sentEnvelope is what the sender of a message said for reports about it, and what a
// report that comes back weeks later is to repeat (RFC 3461 sections 4.4 and 4.2) and
// to heed (RFC 8689 section 5). It is written with the message, only where there is
// something to remember and reports come back here, and outlives it in custody.
type sentEnvelope struct {
	EnvID      string            `json:"envid,omitempty"`      // ENVID, in xtext
	RequireTLS bool              `json:"requiretls,omitempty"` // REQUIRETLS
	ORcpt      map[string]string `json:"orcpt,omitempty"`      // ORCPT, by the name of the recipient (bounce.Returns.Name)
}

// sentName is the last part of its key: return/<message>/envelope. returns.sweep
// forgets it with the rest of that message.
const sentName = "/envelope"

// remember is the records to be kept with a message of an organisation.
func (s *returns) remember(dir *org.Directory, of org.ID, id mail.ID, e mail.Envelope) []custody.Record {
	if o, ok := dir.Organisation(of); !ok || o.ReturnPath.IsZero() || e.From.IsZero() {
		return nil
	}
	sent := sentEnvelope{EnvID: e.EnvID, RequireTLS: e.RequireTLS}
	for _, r := range e.Recipients {
		if r.ORcpt == "" {
			continue
		}
		if sent.ORcpt == nil {
			sent.ORcpt = map[string]string{}
		}
		sent.ORcpt[s.addresses.Name(id, r.Address.String())] = r.ORcpt
	}
	if sent.EnvID == "" && !sent.RequireTLS && sent.ORcpt == nil {
		return nil
	}
	value, err := json.Marshal(sent)
	if err != nil {
		return nil // strings and a bool can be written
	}
	return []custody.Record{{Key: toldPrefix + string(id) + sentName, Value: value}}
}

// sent is what is remembered of a message's envelope: all zero if there was nothing to.
// What cannot be read is as if it had not been said: a report without it is better
// than none.
func (s *returns) sent(ctx context.Context, id mail.ID) (e sentEnvelope, err error) {
	value, err := s.store.Get(ctx, toldPrefix+string(id)+sentName)
	if errors.Is(err, custody.ErrNotFound) {
		return e, nil
	}
	if err != nil {
		return e, fmt.Errorf("the envelope of %s: %w", id, err)
	}
	if err := json.Unmarshal(value, &e); err != nil {
		s.log.Warn("the envelope of a message cannot be read: reports about it do not repeat ENVID and ORCPT", "id", id, "error", err)
		return sentEnvelope{RequireTLS: true}, nil // TLS may have been asked for
	}
	return e, nil
}
