package edit

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"anechoic/org"
)

// author writes registries as all sorts of people do. Comments are marked: %name%
// behind a key of that object, %% where it stands alone and is nobody's.
type author struct {
	t     *rapid.T
	text  strings.Builder
	eol   string
	marks int
}

func (a *author) flip(what string) bool        { return rapid.Bool().Draw(a.t, what) }
func (a *author) pick(list ...string) string   { return rapid.SampledFrom(list).Draw(a.t, "word") }
func (a *author) number(from, to int) int      { return rapid.IntRange(from, to).Draw(a.t, "number") }
func (a *author) line(format string, v ...any) { fmt.Fprintf(&a.text, format+a.eol, v...) }
func (a *author) blanks(most int)              { a.text.WriteString(strings.Repeat(a.eol, a.number(0, most))) }
func (a *author) mark(owner, object string) string {
	a.marks++
	return fmt.Sprintf("# %%%s/%s%% %d [[organisation]] = \"", owner, object, a.marks)
}

// alone writes a comment that stands alone, with blank lines around.
func (a *author) alone(owner string) {
	if a.flip("comment") {
		a.line("")
		a.line("%s", a.mark(owner, ""))
		a.line("")
	}
}

// key writes a key with its value.
func (a *author) key(indent, owner, object, key, value string) {
	text := indent + key + a.pick("=", " = ", "   =\t", "  = ") + value
	if a.flip("remark") {
		text += a.pick(" ", "", "\t") + a.mark(owner, object)
	}
	a.line("%s", text)
}

func (a *author) quoted(s string) string {
	switch a.number(0, 3) {
	case 0:
		return "'" + s + "'"
	case 1:
		return `"""` + a.eol + s + `"""`
	}
	return `"` + s + `"`
}

func (a *author) list(values ...string) string {
	for i, v := range values {
		values[i] = `"` + v + `"`
	}
	switch a.number(0, 4) {
	case 0:
		return "[" + strings.Join(values, ",") + "]"
	case 1:
		return "[ " + strings.Join(values, " , ") + ", ]"
	case 2:
		return "[" + a.eol + "    " + strings.Join(values, ", # ]"+a.eol+"    ") + a.eol + "  ]"
	case 3:
		return "[" + a.eol + strings.Join(values, ","+a.eol) + ", # }" + a.eol + "]"
	}
	return "[" + strings.Join(values, ", ") + "]"
}

// registry writes a whole one.
func registryOf(t *rapid.T) []byte {
	a := &author{t: t, eol: rapid.SampledFrom([]string{"\n", "\n", "\r\n"}).Draw(t, "eol")}
	if a.flip("head") {
		a.line("# the top")
		a.blanks(2)
	}
	n := a.number(0, 3)
	if n > 0 && a.number(0, 5) == 0 {
		var all []string
		for i := range n {
			all = append(all, a.inlineOrganisation(fmt.Sprintf("o%d", i)))
		}
		a.line("organisation = [ %s ]", strings.Join(all, ", "))
		return a.done()
	}
	for i := range n {
		a.organisation(fmt.Sprintf("o%d", i))
		a.alone("")
	}
	a.blanks(2)
	return a.done()
}

func (a *author) done() []byte {
	text := a.text.String()
	if a.flip("open") {
		text = strings.TrimRight(text, "\r\n")
	}
	return []byte(text)
}

func (a *author) inlineOrganisation(id string) string {
	text := fmt.Sprintf("{ id = '%s'", id)
	if a.flip("domains") {
		text += fmt.Sprintf(", domain = [{name=\"a.%s.test\"}, { name = 'b.%s.test' } ]", id, id)
	}
	if a.flip("sources") {
		text += ", source=[ { id = \"s0\", kind = \"address\", limits = { messages_per_hour = 3 } } ]"
	}
	return text + " }"
}

func (a *author) organisation(id string) {
	indent := a.pick("", "  ", "\t")
	a.blanks(2)
	a.line("%s", a.pick("[[organisation]]", "[[ organisation ]]", `[["organisation"]]`, "  [[organisation]]"))
	a.key("", id, "", "id", a.quoted(id)[0:0]+`"`+id+`"`)
	if a.flip("name") {
		a.key("", id, "", "name", a.quoted("# Name "+id))
	}
	if a.flip("screening") {
		a.key("", id, "", "screening.inbound.off", "true")
	}
	inlineDomains := a.number(0, 3) == 0
	if inlineDomains {
		a.key("", id, fmt.Sprintf("a.%s.test", id), "domain", fmt.Sprintf("[ { name = \"a.%s.test\" }%s ]", id, a.pick("", fmt.Sprintf(", {name='b.%s.test'}", id))))
	}
	for i := range a.number(0, 2) {
		if !inlineDomains {
			a.blanks(2)
			a.domain(indent, id, fmt.Sprintf("d%d.%s.test", i, id))
		}
	}
	a.alone(id)
	if a.flip("suppression") {
		a.line("%s[organisation.suppression]", indent)
		a.key(indent, id, "", "hard_bounces", "3")
	}
	for i := range a.number(0, 3) {
		a.blanks(2)
		a.source(indent, id, fmt.Sprintf("s%d", i))
	}
}

func (a *author) domain(indent, id, name string) {
	a.line("%s[[organisation.domain]]", indent)
	a.key(indent, id, name, "name", `"`+name+`"`)
	switch a.number(0, 2) {
	case 0:
		a.key(indent, id, name, "dkim", `[ { selector = "an1", algorithm = "ed25519" } ]`)
	case 1:
		a.line("%s  [[organisation.domain.dkim]]", indent)
		a.key(indent+"  ", id, name, "selector", `"an1"`)
		a.key(indent+"  ", id, name, "algorithm", `"ed25519"`)
	}
}

func (a *author) source(indent, id, name string) {
	a.line("%s[[organisation.source]]", indent)
	a.key(indent, id, name, a.pick("id", `"id"`, "'id'"), `"`+name+`"`)
	a.key(indent, id, name, a.pick("kind", "kind    "), a.quoted("credential"))
	if a.flip("from") {
		a.key(indent, id, name, "from", a.list("x@a.test", "y@a.test", "*@b.test"))
	}
	switch a.number(0, 4) {
	case 0:
		a.key(indent, id, name, "limits", "{messages_per_hour=1}")
	case 1:
		a.key(indent, id, name, "limits.messages_per_hour", "1")
	case 2:
		a.line("%s[organisation.source.limits]", indent)
		a.key(indent, id, name, "messages_per_hour", "1")
	}
}

// read is what a text says; false if it does not load.
func read(text []byte) ([]org.OrganisationEntry, bool) {
	reg, problems := org.ParseRegistry("registry.toml", text)
	return reg.Organisations, len(problems) == 0
}

// fataler is a test of either kind.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// says fails unless a text loads and says just this.
func says(t fataler, text []byte, want []org.OrganisationEntry) {
	t.Helper()
	got, ok := read(text)
	if !ok {
		t.Fatalf("it does not load:\n%s", text)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("it says something else (-want +got):\n%s\n%s", diff, text)
	}
}

func must(t fataler, what string) func([]byte, error) []byte {
	return func(text []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return text
	}
}

var marked = regexp.MustCompile(`%([^/%\n]*)/([^%\n]*)% \d+`)

// kept fails if a comment is gone that is not of what went.
func kept(t fataler, before, after []byte, organisation, object string) {
	t.Helper()
	for _, m := range marked.FindAllSubmatch(before, -1) {
		gone := organisation == string(m[1]) && (object == "" || object == string(m[2]))
		if !gone && !bytes.Contains(after, m[0]) {
			t.Fatalf("the comment %s is gone:\n%s\nwas:\n%s", m[0], after, before)
		}
	}
}

func TestOfAnyRegistryAnythingIsAddedAndTakenOutAgainWithoutATrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := registryOf(t)
		before, ok := read(text)
		if !ok {
			t.Fatalf("the author wrote no registry:\n%s", text)
		}
		wide := must(t, "add an organisation")(AddOrganisation(text, org.OrganisationEntry{ID: "new", Name: "A \"b\"\n\\"}))
		says(t, wide, append(before, org.OrganisationEntry{ID: "new", Name: "A \"b\"\n\\"}))
		same(t, text, must(t, "remove it")(RemoveOrganisation(wide, "new")))
		if len(before) == 0 {
			return
		}
		roundTrips(t, text, rapid.IntRange(0, len(before)-1).Draw(t, "organisation"))
	})
}

func same(t fataler, want, got []byte) {
	t.Helper()
	if !bytes.Equal(want, got) {
		t.Fatalf("the old text did not come back:\n%s", cmp.Diff(string(want), string(got)))
	}
}

// roundTrips adds to an organisation, and takes what was there.
func roundTrips(t fataler, text []byte, at int) {
	before, _ := read(text)
	id := org.ID(before[at].ID)

	d := org.DomainEntry{Name: "new.test", DKIM: []org.KeyEntry{{Selector: "an1", Algorithm: "ed25519"}}}
	more := must(t, "add a domain")(AddDomain(text, id, d))
	want, _ := read(text)
	want[at].Domains = append(want[at].Domains, d)
	says(t, more, want)
	same(t, text, must(t, "remove it")(RemoveDomain(more, id, "NEW.test")))

	s := org.SourceEntry{ID: "new", Kind: "credential", From: []string{"a@new.test"}, Password: &org.PasswordEntry{Argon2id: "x"}, Limits: &org.LimitsEntry{MessagesPerHour: 2}}
	more = must(t, "add a source")(AddSource(text, id, s, ""))
	want, _ = read(text)
	want[at].Sources = append(want[at].Sources, s)
	says(t, more, want)
	same(t, text, must(t, "remove it")(RemoveSource(more, id, "new")))

	for i := range before[at].Sources {
		setsKeys(t, text, at, i)
		fewer := must(t, "remove a source")(RemoveSource(text, id, before[at].Sources[i].ID))
		want, _ = read(text)
		want[at].Sources = append(want[at].Sources[:i], want[at].Sources[i+1:]...)
		says(t, fewer, want)
		kept(t, text, fewer, string(id), before[at].Sources[i].ID)
	}
	for i := range before[at].Domains {
		fewer := must(t, "remove a domain")(RemoveDomain(text, id, before[at].Domains[i].Name))
		want, _ = read(text)
		want[at].Domains = append(want[at].Domains[:i], want[at].Domains[i+1:]...)
		says(t, fewer, want)
		kept(t, text, fewer, string(id), before[at].Domains[i].Name)
	}
	fewer := must(t, "remove the organisation")(RemoveOrganisation(text, id))
	want, _ = read(text)
	says(t, fewer, append(want[:at], want[at+1:]...))
	kept(t, text, fewer, string(id), "")
}

// setsKeys changes keys of one source.
func setsKeys(t fataler, text []byte, at, i int) {
	before, _ := read(text)
	id, source := org.ID(before[at].ID), before[at].Sources[i].ID

	changed := must(t, "set a key in a table")(Set(text, id, source, "limits.recipients_per_day", "7", ""))
	want, _ := read(text)
	limits := org.LimitsEntry{}
	if l := want[at].Sources[i].Limits; l != nil {
		limits = *l
	}
	limits.RecipientsPerDay = 7
	want[at].Sources[i].Limits = &limits
	says(t, changed, want)
	if l := before[at].Sources[i].Limits; l == nil || l.RecipientsPerDay == 0 {
		same(t, text, must(t, "unset it")(Unset(changed, id, source, "limits.recipients_per_day")))
	}
	if before[at].Sources[i].Limits != nil {
		without := must(t, "unset the table")(Unset(text, id, source, "limits"))
		want[at].Sources[i].Limits = nil
		says(t, without, want)
	}

	changed = must(t, "set a key")(Set(text, id, source, "role", Text("server"), "why"))
	want, _ = read(text)
	want[at].Sources[i].Role = "server"
	says(t, changed, want)
	if before[at].Sources[i].Role == "" {
		same(t, text, must(t, "unset it")(Unset(changed, id, source, "role")))
	}

	if from := before[at].Sources[i].From; len(from) > 0 {
		changed = must(t, "append")(Append(text, id, source, "from", Text("new@a.test")))
		want, _ = read(text)
		want[at].Sources[i].From = append(from, "new@a.test")
		says(t, changed, want)
		same(t, text, must(t, "take it")(Take(changed, id, source, "from", func(s string) bool { return s == "new@a.test" })))
		fewer := must(t, "take the first")(Take(text, id, source, "from", func(s string) bool { return s == from[0] }))
		want[at].Sources[i].From = without(from, from[0])
		says(t, fewer, want)
	}
}

func without(list []string, gone string) (rest []string) {
	for _, s := range list {
		if s != gone {
			rest = append(rest, s)
		}
	}
	return rest
}
