package org

import "anechoic/org/document"

// Webhook is where an organisation is told of alerts by HTTPS. What it is called with
// is the business of watch/alert.
type Webhook struct {
	ID          string
	URL         string
	SecretFiles []string // absolute; the current one first
	Events      []string // empty: all
}

// WebhookEntry is one [[organisation.webhook]].
type WebhookEntry struct {
	ID          string   `toml:"id"`
	URL         string   `toml:"url"`
	SecretFiles []string `toml:"secret_files"`
	Events      []string `toml:"events"`
}

// Bounds of ours on webhooks.
const (
	maxWebhooks       = 5
	maxWebhookSecrets = 2 // the one that counts, and the one before while they are exchanged
)

// webhooks checks the form of an organisation's webhooks. What URLs and events may be
// is checked with relay.toml.
func (b *builder) webhooks(i int) {
	entries, o := b.reg.Organisations[i].Webhooks, b.dir.organisations[i]
	if len(entries) > maxWebhooks {
		b.refuse(b.below("organisation", i)+".webhook", "let one endpoint tell the others", "%d webhooks, the limit is %d", len(entries), maxWebhooks)
	}
	first := map[string]string{}
	for j := range entries {
		e, where := &entries[j], b.path(entry{i, j}, "webhook")
		b.checkID(where+".id", e.ID)
		if taken, again := first[e.ID]; again {
			b.second(where+".id", taken, "webhook %q is there twice", e.ID)
		}
		first[e.ID] = where + ".id"
		if n := len(e.SecretFiles); n < 1 || n > maxWebhookSecrets {
			b.refuse(where+".secret_files", `secret_files = ["siem.secret"]; two while they are exchanged`, "%d secrets of a webhook", n)
		}
		w := Webhook{ID: e.ID, URL: e.URL, Events: e.Events}
		for _, file := range e.SecretFiles {
			w.SecretFiles = append(w.SecretFiles, document.Path(b.reg.folder, file))
		}
		o.Webhooks = append(o.Webhooks, w)
	}
}
