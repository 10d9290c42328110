package config

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"anechoic/org"
)

// Export writes a Directory as a registry that builds to the same one: what is in
// force, whatever became of the file since. It holds no secret, only hashes of them.
// Remarks and the order of keys in the file it was read from are not kept.
func Export(dir *org.Directory) string {
	var w registryWriter
	for o := range dir.Organisations() {
		w.table("", "organisation", reflect.ValueOf(organisationEntry(o)))
	}
	return w.text.String()
}

func organisationEntry(o *org.Organisation) org.OrganisationEntry {
	e := org.OrganisationEntry{
		ID: string(o.ID), Name: o.Name, SecurityContact: o.SecurityContact.String(), ReturnPath: o.ReturnPath.String(), Egress: o.Egress,
		Screening: screeningEntry(o.Screening), Learning: o.Learning, Trust: o.Trust, Limits: o.Limits.Entry(),
	}
	if o.Response.Automatic != org.DefaultResponse {
		e.Response = &org.ResponseEntry{Automatic: o.Response.Automatic}
	}
	if !o.Digest {
		e.Digest = "off"
	}
	if s := o.Suppression; s != nil {
		e.Suppression = &org.SuppressionEntry{HardBounces: s.HardBounces, BounceDays: days(s.BounceFor), ComplaintDays: days(s.ComplaintFor)}
	}
	for _, w := range o.Webhooks {
		e.Webhooks = append(e.Webhooks, org.WebhookEntry(w))
	}
	for _, d := range o.Domains {
		entry := org.DomainEntry{Name: d.Name.String(), Subdomains: d.Subdomains, Limits: d.Limits.Entry()}
		for _, k := range d.Keys {
			entry.DKIM = append(entry.DKIM, org.KeyEntry{Selector: k.Selector, Algorithm: string(k.Algorithm), KeyFile: k.File})
		}
		e.Domains = append(e.Domains, entry)
	}
	for _, s := range o.Sources {
		e.Sources = append(e.Sources, sourceEntry(s))
	}
	for _, in := range o.Inbound {
		e.Inbound = append(e.Inbound, inboundEntry(in))
	}
	return e
}

func days(d time.Duration) int { return int(d / (24 * time.Hour)) }

// screeningEntry is nil for who wants nothing of their own.
func screeningEntry(s org.Screening) *org.ScreeningEntry {
	e := org.ScreeningEntry{Inbound: wayEntry(s.Inbound, org.ScreeningHold), Outbound: wayEntry(s.Outbound, org.ScreeningMark), ProtectedPeople: s.People, ProtectedDomains: texts(s.Domains)}
	if len(s.Domains) == 0 {
		e.ProtectedDomains = nil
	}
	if reflect.ValueOf(e).IsZero() {
		return nil
	}
	return &e
}

// wayEntry is what differs from what counts where nothing is written.
func wayEntry(w org.ScreeningWay, usual string) org.ScreeningWayEntry {
	if w.Off {
		return org.ScreeningWayEntry{Off: true}
	}
	e := org.ScreeningWayEntry{OnLoss: w.OnLoss, HoldAt: w.HoldAt, RefuseAt: w.RefuseAt, Blocked: w.Blocked}
	if w.Checks != usual {
		e.Checks = w.Checks
	}
	return e
}

func sourceEntry(s *org.Source) org.SourceEntry {
	e := org.SourceEntry{
		ID: s.ID, Kind: string(s.Kind), Role: string(s.Role), Forwarded: string(s.Forwarded), From: patterns(s.From), Internal: orNil(s.Internal), Addresses: orNil(s.Addresses),
		TenantIDs: s.TenantIDs, OriginatorOrgs: orNil(s.OriginatorOrgs), ProviderDomains: orNil(s.ProviderDomains), HybridAddresses: orNil(s.HybridAddresses),
		RequireDKIM: s.RequireDKIM, Username: s.Username, SPKI: digests(s.SPKI), Trust: s.Trust,
	}
	if s.Limits != (org.Limits{}) {
		limits := org.LimitsEntry(s.Limits)
		e.Limits = &limits
	}
	if !s.SingleProofUntil.IsZero() {
		year, month, day := s.SingleProofUntil.Date()
		e.SingleProofUntil = &toml.LocalDate{Year: year, Month: int(month), Day: day}
	}
	if s.Secret != nil {
		e.SecretHeader = &org.SecretHeaderEntry{Name: s.Secret.Name, SHA256: digests(s.Secret.SHA256)}
	}
	if s.Password != "" {
		e.Password = &org.PasswordEntry{Argon2id: s.Password}
	}
	for _, i := range s.DKIM {
		e.DKIM = append(e.DKIM, org.IdentityEntry{Domain: i.Domain.String(), Selectors: i.Selectors})
	}
	return e
}

func inboundEntry(in *org.Inbound) org.InboundEntry {
	e := org.InboundEntry{Domains: texts(in.Domains), DeliverTo: in.DeliverTo, DMARC: in.DMARC, Echo: in.Echo, Bounces: in.Bounces, RecipientsFile: in.RecipientsFile}
	if in.LMTP {
		e.DeliverTo = "lmtp:" + in.DeliverTo
	}
	if in.AskServer {
		e.Recipients = "ask"
	}
	if in.TLSRequired || in.TLSName != "" || len(in.TLSSPKI) > 0 {
		e.TLS = &org.InboundTLSEntry{Required: in.TLSRequired, Name: in.TLSName, SPKI: digests(in.TLSSPKI)}
	}
	for _, v := range in.Vouched {
		e.Vouched = append(e.Vouched, org.VouchEntry{From: v.From.String(), Tenant: v.Tenant})
	}
	return e
}

func patterns(list []org.Pattern) (written []string) {
	for _, p := range list {
		written = append(written, p.Local+"@"+p.Domain.String())
	}
	return written
}

// orNil is texts, with nothing for nothing: an empty list would be written.
func orNil[T fmt.Stringer](values []T) []string {
	if len(values) == 0 {
		return nil
	}
	return texts(values)
}

func digests(list [][32]byte) (written []string) {
	for _, d := range list {
		written = append(written, hex.EncodeToString(d[:]))
	}
	return written
}

// registryWriter writes entries as people do: keys in the order of the struct, what
// is zero left out, tables that repeat below the rest.
type registryWriter struct{ text strings.Builder }

// repeated are the keys of tables with headings of their own; others stand in a line.
var repeated = []string{"organisation", "domain", "source", "inbound"}

// table writes one [[table]].
func (w *registryWriter) table(prefix, name string, v reflect.Value) {
	path := strings.TrimPrefix(prefix+"."+name, ".")
	if w.text.Len() > 0 {
		w.text.WriteString("\n")
	}
	fmt.Fprintf(&w.text, "[[%s]]\n", path)
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("toml")
		if !slices.Contains(repeated, key) && !v.Field(i).IsZero() {
			fmt.Fprintf(&w.text, "%s = %s\n", key, inline(v.Field(i)))
		}
	}
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("toml"); slices.Contains(repeated, key) {
			for j := range v.Field(i).Len() {
				w.table(path, key, v.Field(i).Index(j))
			}
		}
	}
}

// inline is a value on one line.
func inline(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		return inline(v.Elem())
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.String:
		return quoted(v.String())
	case reflect.Slice:
		elements := make([]string, v.Len())
		for i := range elements {
			elements[i] = inline(v.Index(i))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	}
	if date, ok := v.Interface().(toml.LocalDate); ok {
		return date.String()
	}
	var fields []string
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			fields = append(fields, v.Type().Field(i).Tag.Get("toml")+" = "+inline(v.Field(i)))
		}
	}
	return "{ " + strings.Join(fields, ", ") + " }"
}

// quoted is a basic string of TOML. What JSON writes is one, but for DEL.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""` // a string can always be written
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}

// Difference is one key that has another value in one configuration than in another.
type Difference struct {
	File   string `json:"file"` // relay.toml or registry.toml
	Key    string `json:"key"`  // organisation[acme].source[office].from
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"` // empty: it is not there
}

// Differences holds two texts of TOML against each other, by keys. Tables that repeat
// are known by their id, name or selector.
func Differences(file, before, after string) ([]Difference, error) {
	old, err := flat(before)
	if err != nil {
		return nil, fmt.Errorf("%s as it is in force: %w", file, err)
	}
	new, err := flat(after)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var list []Difference
	for key, value := range old {
		if new[key] != value {
			list = append(list, Difference{file, key, value, new[key]})
		}
	}
	for key, value := range new {
		if _, known := old[key]; !known {
			list = append(list, Difference{file, key, "", value})
		}
	}
	slices.SortFunc(list, func(a, b Difference) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}

func flat(text string) (map[string]string, error) {
	var all map[string]any
	if err := toml.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	into := make(map[string]string)
	flatten("", all, into)
	return into, nil
}

// flatten gives each key of a value with its text.
func flatten(path string, value any, into map[string]string) {
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			flatten(strings.TrimPrefix(path+"."+key, "."), below, into)
		}
	case []any:
		if len(v) == 0 || !isTable(v[0]) {
			into[path] = written(v)
			return
		}
		seen := map[string]int{}
		for _, element := range v {
			name := nameOf(element)
			seen[name]++
			if n := seen[name]; n > 1 || name == "" {
				name += "#" + strconv.Itoa(n)
			}
			flatten(path+"["+name+"]", element, into)
		}
	default:
		into[path] = written(v)
	}
}

func isTable(v any) bool { _, ok := v.(map[string]any); return ok }

// nameOf is what a table that repeats is known by.
func nameOf(table any) string {
	t, ok := table.(map[string]any)
	if !ok {
		return ""
	}
	for _, key := range []string{"id", "name", "selector", "domain", "deliver_to", "address", "tenant"} {
		if text, ok := t[key].(string); ok {
			return text
		}
	}
	return ""
}

func written(v any) string {
	switch v := v.(type) {
	case string:
		return quoted(v)
	case []any:
		elements := make([]string, len(v))
		for i, element := range v {
			elements[i] = written(element)
		}
		return "[" + strings.Join(elements, ", ") + "]"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

// Origin says where the value of a key comes from.
type Origin struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Place string `json:"place"` // file:line, or "default"
}

// Origins gives every key of a configuration file, with defaults, and where each
// value comes from.
func Origins(path string) ([]Origin, []org.Problem) {
	data, problems := read(path)
	if len(problems) > 0 {
		return nil, problems
	}
	c, text, problems := parse(path, data)
	if len(problems) > 0 {
		return nil, problems
	}
	said, err := flat(string(data))
	if err != nil {
		return nil, []org.Problem{{File: path, Message: err.Error()}}
	}
	all, err := flat(c.Show())
	if err != nil {
		return nil, []org.Problem{{File: path, Message: err.Error()}}
	}
	places := make(map[string]string)
	wanted := make([]org.Problem, 0, len(said))
	for key := range said {
		wanted = append(wanted, org.Problem{Where: untilList(key), Message: key})
	}
	for _, p := range text.Place(wanted) {
		places[p.Message] = path + ":" + strconv.Itoa(p.Line)
	}
	list := make([]Origin, 0, len(all))
	for key, value := range all {
		o := Origin{Key: key, Value: value, Place: "default"}
		if place, ok := places[key]; ok {
			o.Place = place
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b Origin) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}

// untilList is the part of a key before the first table that repeats: that has a place.
func untilList(key string) string {
	before, _, _ := strings.Cut(key, "[")
	return before
}
