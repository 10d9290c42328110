package edit

import (
	"fmt"
	"strconv"
	"strings"

	"anechoic/org"
)

// Value is a value as TOML writes it.
type Value string

// Text is a text between double quotes.
func Text(s string) Value {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return Value(b.String())
}

// Texts is a list of texts.
func Texts(list []string) Value {
	written := make([]string, len(list))
	for i, s := range list {
		written[i] = string(Text(s))
	}
	return Value("[" + strings.Join(written, ", ") + "]")
}

// Number is a whole number.
func Number(n int) Value { return Value(strconv.Itoa(n)) }

// Bool is true or false.
func Bool(b bool) Value { return Value(strconv.FormatBool(b)) }

// line is a key with its value, and what is remarked behind it.
type line struct {
	key    string
	value  Value
	remark string
}

// inlineTable writes lines as one value.
func inlineTable(lines []line) Value {
	if len(lines) == 0 {
		return "{}"
	}
	written := make([]string, len(lines))
	for i, l := range lines {
		written[i] = l.key + " = " + string(l.value)
	}
	return Value("{ " + strings.Join(written, ", ") + " }")
}

func inlineTables[T any](list []T, lines func(T) []line) Value {
	written := make([]string, len(list))
	for i, t := range list {
		written[i] = string(inlineTable(lines(t)))
	}
	return Value("[ " + strings.Join(written, ", ") + " ]")
}

// lineWriter collects the keys that say something.
type lineWriter struct{ lines []line }

func (w *lineWriter) text(key, value string) {
	if value != "" {
		w.lines = append(w.lines, line{key: key, value: Text(value)})
	}
}

func (w *lineWriter) texts(key string, value []string) {
	if value != nil {
		w.lines = append(w.lines, line{key: key, value: Texts(value)})
	}
}

func (w *lineWriter) truth(key string, value bool) {
	if value {
		w.lines = append(w.lines, line{key: key, value: "true"})
	}
}

func (w *lineWriter) number(key string, value int) {
	if value != 0 {
		w.lines = append(w.lines, line{key: key, value: Number(value)})
	}
}

func organisationLines(o org.OrganisationEntry) []line {
	var w lineWriter
	w.text("id", o.ID)
	w.text("name", o.Name)
	w.text("security_contact", o.SecurityContact)
	return w.lines
}

func domainLines(d org.DomainEntry) []line {
	var w lineWriter
	w.text("name", d.Name)
	w.truth("subdomains", d.Subdomains)
	if len(d.DKIM) > 0 {
		w.lines = append(w.lines, line{key: "dkim", value: inlineTables(d.DKIM, keyLines)})
	}
	return w.lines
}

func keyLines(k org.KeyEntry) []line {
	var w lineWriter
	w.text("selector", k.Selector)
	w.text("algorithm", k.Algorithm)
	w.text("key_file", k.KeyFile)
	return w.lines
}

// sourceLines writes a source as the examples do: who it is, how it proves that,
// what it may do.
func sourceLines(s org.SourceEntry) []line {
	var w lineWriter
	w.text("id", s.ID)
	w.text("kind", s.Kind)
	w.text("role", s.Role)
	w.text("username", s.Username)
	if s.Password != nil {
		w.lines = append(w.lines, line{key: "password", value: Password(s.Password.Argon2id)})
	}
	w.texts("tenant_ids", s.TenantIDs)
	w.texts("originator_orgs", s.OriginatorOrgs)
	w.texts("provider_domains", s.ProviderDomains)
	w.texts("hybrid_addresses", s.HybridAddresses)
	w.texts("internal", s.Internal)
	w.texts("addresses", s.Addresses)
	w.texts("spki_sha256", s.SPKI)
	if len(s.DKIM) > 0 {
		w.lines = append(w.lines, line{key: "dkim", value: inlineTables(s.DKIM, identityLines)})
	}
	if h := s.SecretHeader; h != nil {
		w.lines = append(w.lines, line{key: "secret_header", value: SecretHeader(h.Name, h.SHA256)})
	}
	w.truth("require_dkim", s.RequireDKIM)
	if s.SingleProofUntil != nil {
		w.lines = append(w.lines, line{key: "single_proof_until", value: Value(s.SingleProofUntil.String())})
	}
	w.texts("from", s.From)
	w.text("forwarded", s.Forwarded)
	w.text("trust", s.Trust)
	if s.Limits != nil {
		w.lines = append(w.lines, line{key: "limits", value: inlineTable(limitLines(*s.Limits))})
	}
	return w.lines
}

func identityLines(i org.IdentityEntry) []line {
	return []line{{key: "domain", value: Text(i.Domain)}, {key: "selectors", value: Texts(i.Selectors)}}
}

func limitLines(l org.LimitsEntry) []line {
	var w lineWriter
	w.text("preset", l.Preset)
	w.number("licences", l.Licences)
	w.number("messages_per_minute", l.MessagesPerMinute)
	w.number("messages_per_hour", l.MessagesPerHour)
	w.number("messages_per_day", l.MessagesPerDay)
	w.number("recipients_per_minute", l.RecipientsPerMinute)
	w.number("recipients_per_hour", l.RecipientsPerHour)
	w.number("recipients_per_day", l.RecipientsPerDay)
	w.number("unique_recipients_per_day", l.UniqueRecipientsPerDay)
	w.number("recipients_per_domain_per_day", l.RecipientsPerDomainPerDay)
	w.number("megabytes_per_hour", l.MegabytesPerHour)
	w.number("megabytes_per_day", l.MegabytesPerDay)
	return w.lines
}

// SecretHeader is a source's secret_header as a value.
func SecretHeader(name string, hashes []string) Value {
	return inlineTable([]line{{key: "name", value: Text(name)}, {key: "sha256", value: Texts(hashes)}})
}

// Password is a source's password as a value.
func Password(argon2id string) Value {
	return inlineTable([]line{{key: "argon2id", value: Text(argon2id)}})
}
