package screen

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"anechoic/mail"
)

// Bounds of what counts as an answer. A score past a million is nonsense: rspamd's
// own are in the tens.
const (
	maxScore    = 1e6
	maxSymbols  = 2000
	maxFindings = 12 // symbols of rspamd that are told, the weightiest
	maxRule     = 64
)

// The actions of rspamd (rspamd.com/doc/configuration/metrics.html), and what
// they mean here. "greylist" says only that the score is past a threshold: where
// rspamd itself puts mail off, it says "soft reject".
var rspamdActions = map[string]Action{
	"no action":       Pass,
	"greylist":        Pass,
	"add header":      Mark,
	"rewrite subject": Mark,
	"soft reject":     Defer,
	"reject":          Refuse,
	"quarantine":      Hold,
	"discard":         Hold, // nothing is taken with 250 and thrown away
}

// rspamdReply is what counts of an answer.
type rspamdReply struct {
	action  string
	score   float64
	skipped bool
	symbols []symbol
}

type symbol struct {
	name  string
	score float64
}

// parseRspamdReply reads a whole answer of /checkv2. It is strict: one JSON object
// and nothing after it, no member twice (two readers would see two answers), the
// members that count there and of their type, names in their exact case. What it
// does not know it passes over.
func parseRspamdReply(b []byte) (rspamdReply, error) {
	var r rspamdReply
	seen := make(map[string]bool)
	err := members(b, func(name string, value json.RawMessage) error {
		if seen[name] {
			return fmt.Errorf("it has %q twice", safe(name, maxRule))
		}
		seen[name] = true
		if err := r.take(name, value); err != nil {
			return fmt.Errorf("%q: %w", safe(name, maxRule), err)
		}
		return nil
	})
	switch {
	case err != nil:
		return rspamdReply{}, err
	case seen["error"]:
		return rspamdReply{}, fmt.Errorf("%w: rspamd reports an error", errNotScanned)
	case !seen["action"] || !seen["score"]:
		return rspamdReply{}, errors.New("it has no action or no score")
	}
	return r, nil
}

// take reads one member of the answer.
func (r *rspamdReply) take(name string, value json.RawMessage) (err error) {
	switch name {
	case "action":
		if err = strictly(value, &r.action); err == nil {
			if _, known := rspamdActions[r.action]; !known {
				err = fmt.Errorf("%q is no action this relay knows", safe(r.action, maxRule))
			}
		}
	case "score":
		r.score, err = scoreOf(value)
	case "is_skipped":
		err = strictly(value, &r.skipped)
	case "symbols":
		r.symbols, err = symbolsOf(value)
	}
	return err
}

// strictly reads a value of one type; null is none.
func strictly[T any](value json.RawMessage, to *T) error {
	if string(value) == "null" {
		return errors.New("it is null")
	}
	return json.Unmarshal(value, to)
}

func scoreOf(value json.RawMessage) (score float64, err error) {
	if err = strictly(value, &score); err != nil {
		return 0, err
	}
	if math.IsNaN(score) || math.Abs(score) > maxScore {
		return 0, errors.New("it is no score")
	}
	return score, nil
}

// symbolsOf reads the symbols, the weightiest first.
func symbolsOf(value json.RawMessage) (symbols []symbol, err error) {
	err = members(value, func(name string, value json.RawMessage) error {
		s := symbol{name: name}
		if len(symbols) == maxSymbols {
			return fmt.Errorf("more than %d symbols", maxSymbols)
		}
		err := members(value, func(name string, value json.RawMessage) (err error) {
			if name == "score" {
				s.score, err = scoreOf(value)
			}
			return err
		})
		symbols = append(symbols, s)
		return err
	})
	slices.SortStableFunc(symbols, func(a, b symbol) int { return cmp.Compare(math.Abs(b.score), math.Abs(a.score)) })
	return symbols, err
}

// members calls f for each member of the one JSON object that b is, in order.
func members(b []byte, f func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return errors.New("it is no JSON object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fmt.Errorf("it is not JSON: %w", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("it is not JSON: %w", err)
		}
		if err := f(name.(string), value); err != nil { // within an object, the token before a value is its name
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// opinion is what the answer means. Rules only make it stricter.
func (r rspamdReply) opinion(rules Rules) Opinion {
	o := Opinion{Action: rspamdActions[r.action], Reason: mail.ReasonContentRefused, Findings: r.findings()}
	switch {
	case rules.RefuseAt > 0 && r.score >= rules.RefuseAt:
		o.Action = Refuse
	case rules.HoldAt > 0 && r.score >= rules.HoldAt && o.Action.rank() < Hold.rank():
		o.Action = Hold
	}
	for _, s := range r.symbols {
		switch {
		case o.Action == Refuse && isVirus(s):
			o.Reason = mail.ReasonMalware
		case strings.HasSuffix(s.name, "_VIRUS_FAIL") && o.Action.rank() < Lost.rank():
			o.Action = Lost // rspamd's own scanner did not look at it
		}
	}
	return o
}

// isVirus says that a symbol is one of rspamd's antivirus module, and of a virus
// found rather than of a scanner's other word (rspamd.com/doc/modules/antivirus.html).
func isVirus(s symbol) bool { return strings.HasSuffix(s.name, "_VIRUS") && s.score >= 0 }

// findings tells the sum, and the symbols that count.
func (r rspamdReply) findings() []Finding {
	all := []Finding{{Scanner: "rspamd", Rule: r.action, Score: r.score}}
	if r.skipped {
		all[0].Text = "rspamd is configured not to scan this message"
	}
	for _, s := range r.symbols {
		if s.score != 0 || isVirus(s) || strings.HasSuffix(s.name, "_FAIL") {
			all = append(all, Finding{Scanner: "rspamd", Rule: safe(s.name, maxRule), Score: s.score})
		}
	}
	return clip(all, maxFindings)
}
