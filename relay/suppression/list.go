package suppression

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"anechoic/org"
	"anechoic/relay/custody"
)

// Entries lists an organisation's addresses in the order of their hashes, from
// after on: those that are suppressed and, with pending, those that have marks but
// not enough. next names the place to go on from; empty: that is all.
func (l *List) Entries(ctx context.Context, o org.ID, rule org.Suppression, pending bool, after string, limit int, now time.Time) (list []Entry, next string, err error) {
	below := organisationPrefix(o)
	from := ""
	if after != "" {
		from = below + after + "0" // behind every record of that hash: '0' follows '/'
	}
	current, marks := "", []Mark(nil)
	full := false
	flush := func() {
		e := Judge(rule, marks, now)
		if len(e.Marks) == 0 || !e.Suppressed && !pending {
			return
		}
		list = append(list, e)
		full = limit > 0 && len(list) >= limit
	}
	err = l.records.Scan(ctx, below, from, func(key string, value []byte) bool {
		hash, _, _ := strings.Cut(strings.TrimPrefix(key, below), "/")
		if hash != current {
			if flush(); full {
				next = current
				return false
			}
			current, marks = hash, nil
		}
		var m Mark
		if json.Unmarshal(value, &m) == nil {
			marks = append(marks, m)
		}
		return true
	})
	if err != nil {
		return nil, "", fmt.Errorf("suppression list of %s: %w", o, err)
	}
	if !full {
		flush()
	}
	return list, next, nil
}

// sweepBatch is how many records one commit of Sweep deletes.
const sweepBatch = 1000

// Sweep deletes the marks that are over, of every organisation. Those of
// organisations that gone names go whole.
func (l *List) Sweep(ctx context.Context, gone func(org.ID) bool, now time.Time) (swept int, err error) {
	for from := ""; ; {
		var b custody.Batch
		err := l.records.Scan(ctx, prefix, from, func(key string, value []byte) bool {
			from = key
			of, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
			var m Mark
			if json.Unmarshal(value, &m) != nil || !now.Before(m.Until) || gone != nil && gone(org.ID(of)) {
				b.Delete = append(b.Delete, key)
			}
			return len(b.Delete) < sweepBatch
		})
		if err != nil || len(b.Delete) == 0 {
			return swept, err
		}
		if err := l.records.Commit(ctx, &b); err != nil {
			return swept, fmt.Errorf("suppression lists: %w", err)
		}
		swept += len(b.Delete)
	}
}
