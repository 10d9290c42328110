package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/docs"
	"anechoic/mail"
)

func (sh *shell) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain {ID|REASON|EVENT|OPTION|METRIC}",
		Short: "Say in plain words why something happened to a message, or what a word means",
		Long: `Of the id of a message: one plain sentence that says what became of it and why, and
what to do next. The id is the one in our reply, and in the Received field of what
was sent. This asks the running relay.

Of a reason, an event of the ledger, a key of the configuration or a metric: its page
of the manual, which is in the program.`,
		Example: `  anechoic explain 2al274bqphlahvjvb252eqy6ao
  anechoic explain TENANT_NOT_AUTHORIZED
  anechoic explain smtp.max_hops
  anechoic explain anechoic_refused_total --json`,
		Args: arguments("NAME"),
		RunE: func(c *cobra.Command, args []string) error { return sh.explain(c.Context(), args[0]) },
	}
}

func (sh *shell) explain(ctx context.Context, name string) error {
	name = idIn(name)
	if id := mail.ID(name); id.Valid() {
		return sh.explainMessage(ctx, id)
	}
	return sh.explainWord(name)
}

// idIn takes an id out of what people paste: a whole reply, or id=….
func idIn(text string) string {
	if _, after, found := strings.Cut(text, "id="); found {
		id, _, _ := strings.Cut(after, "]")
		return strings.TrimSpace(id)
	}
	return text
}

// explainedMessage is what `explain ID --json` prints.
type explainedMessage struct {
	ID      mail.ID     `json:"id"`
	Verdict string      `json:"verdict"`
	Reason  mail.Reason `json:"reason,omitempty"`
	Next    []string    `json:"next"`
	Story   []string    `json:"story"`
}

func (sh *shell) explainMessage(ctx context.Context, id mail.ID) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	told, err := client.Message(ctx, id)
	if err != nil {
		return err
	}
	v := told.Verdict
	e := explainedMessage{ID: id, Verdict: v.Sentence, Reason: v.Reason, Next: v.Next, Story: told.Story}
	if sh.asJSON {
		return sh.printJSON(e)
	}
	fmt.Fprintf(sh.out, "%s\n", sh.paint(sh.out, styleOf(v.Disposition), e.Verdict))
	for _, next := range e.Next {
		sh.printf("  %s\n", next)
	}
	sh.printf("\n%s\n", strings.Join(e.Story, "\n"))
	return nil
}

// styleOf is how a verdict is painted; the sentence says it too.
func styleOf(disposition string) style {
	switch disposition {
	case "refused", "bounced":
		return danger
	case "held", "deferred":
		return doubt
	}
	return good
}

// explainedWord is what `explain WORD --json` prints, an entry for each thing that
// the word names.
type explainedWord struct {
	Kind docs.Kind `json:"kind"`
	Name string    `json:"name"`
	Text string    `json:"text"` // Markdown
	Page string    `json:"page"` // of the manual
}

func (sh *shell) explainWord(name string) error {
	found := docs.Find(name)
	if len(found) == 0 {
		return unknownWord(name)
	}
	words := make([]explainedWord, len(found))
	for i, e := range found {
		words[i] = explainedWord{Kind: e.Kind, Name: e.Name, Text: e.Text, Page: "docs/" + e.Page}
	}
	if sh.asJSON {
		return sh.printJSON(words)
	}
	for i, w := range words {
		if i > 0 {
			sh.printf("\n")
		}
		fmt.Fprintf(sh.out, "%s (%s)\n\n", sh.emphasis(w.Name), w.Kind)
		sh.printf("%s\n", docs.Plain(withoutRemarks(w.Text)))
	}
	return nil
}

// withoutRemarks leaves out the remark at the head of a generated page.
func withoutRemarks(text string) string {
	if rest, ok := strings.CutPrefix(text, "<!--"); ok {
		_, rest, _ = strings.Cut(rest, "-->")
		return strings.TrimSpace(rest)
	}
	return text
}

// unknownWord says what was perhaps meant.
func unknownWord(name string) error {
	var near []string
	for _, e := range docs.Entries() {
		if distance(strings.ToLower(e.Name), strings.ToLower(name)) <= 2 {
			near = append(near, e.Name)
		}
	}
	fix := "anechoic log search finds ids; docs/reference lists reasons, events, options and metrics"
	if len(near) > 0 {
		fix = "did you mean " + strings.Join(near[:min(len(near), 3)], " or ") + "?"
	}
	return &api.Problem{Code: api.CodeNotFound, Detail: fmt.Sprintf("%q is no id of a message, reason, event, option or metric", name), Fix: fix}
}

// maxWord bounds the words that are compared.
const maxWord = 100

// distance is how many letters have to be added, left out or changed.
func distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := above
			if a[i] != b[j] {
				change++
			}
			above = row[j+1]
			row[j+1] = min(change, above+1, row[j]+1)
		}
	}
	return row[len(b)]
}
