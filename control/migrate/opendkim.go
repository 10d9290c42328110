package migrate

import (
	"path/filepath"
	"strings"
)

// OpenDKIM is what of opendkim.conf decides who is signed as whom.
type OpenDKIM struct {
	File     string
	settings map[string]Setting // by the name in lower case
	order    []string

	Keys     []DKIMKey
	Signing  []Entry // of SigningTable: a pattern or name, and the key's name
	Wildcard bool    // SigningTable is read as patterns
	Internal []Entry // of InternalHosts
	External []Entry // of ExternalIgnoreList
	Peers    []Entry // of PeerList
}

// DKIMKey is a key and what it signs as.
type DKIMKey struct {
	Name             string
	Domain, Selector string // Domain may be %, the domain of From
	File             string // named by its path; or
	Material         string // the key itself, which is never shown
	At               Place
}

// maxIncludes is how deep OpenDKIM lets files include each other (opendkim.conf(5)).
const maxIncludes = 5

// openDKIM reads opendkim.conf and what it names.
func (f *files) openDKIM(at Place, file string) *OpenDKIM {
	d := &OpenDKIM{File: file, settings: make(map[string]Setting)}
	if !f.conf(d, at, file, 0) {
		return nil
	}
	for _, e := range f.dataset(d, "KeyTable") {
		d.Keys = append(d.Keys, parseKey(e))
	}
	if len(d.Keys) == 0 {
		d.single(f)
	}
	d.Signing = f.dataset(d, "SigningTable")
	d.Wildcard = strings.HasPrefix(d.get("SigningTable").Text, "refile:")
	d.Internal, d.External, d.Peers = f.dataset(d, "InternalHosts"), f.dataset(d, "ExternalIgnoreList"), f.dataset(d, "PeerList")
	return d
}

func (d *OpenDKIM) get(name string) Setting { return d.settings[strings.ToLower(name)] }

// conf reads one file of settings: a name and a value in each line.
func (f *files) conf(d *OpenDKIM, at Place, file string, depth int) bool {
	text, ok := f.read(at, file)
	if !ok {
		return false
	}
	number := 0
	for raw := range strings.Lines(text) {
		number++
		l, _, _ := strings.Cut(raw, "#")
		name, value := cutSpace(strings.TrimSpace(l))
		here := Place{file, number}
		switch {
		case name == "":
		case strings.EqualFold(name, "Include") && depth < maxIncludes:
			f.conf(d, here, value, depth+1)
		case strings.EqualFold(name, "Include"):
			f.unread = append(f.unread, Unread{At: here, What: printable(value), Why: "included more than 5 deep, or by itself"})
		default:
			key := strings.ToLower(name)
			if _, again := d.settings[key]; !again {
				d.order = append(d.order, key)
			}
			d.settings[key] = Setting{Name: name, Text: value, At: here}
		}
	}
	return true
}

// single is the one key of Domain, Selector and KeyFile. Domain may list several.
func (d *OpenDKIM) single(f *files) {
	selector, key := d.get("Selector"), d.get("KeyFile")
	if key.Text == "" || selector.Text == "" {
		return
	}
	for _, e := range f.dataset(d, "Domain") {
		d.Keys = append(d.Keys, DKIMKey{Name: e.Key, Domain: e.Key, Selector: selector.Text, File: key.Text, At: e.At})
	}
}

// dataset reads a set of data: a file of entries, or a list (opendkim(8)).
func (f *files) dataset(d *OpenDKIM, name string) []Entry {
	v := d.get(name)
	kind, rest, typed := strings.Cut(v.Text, ":")
	switch {
	case v.Text == "":
		return nil
	case typed && (kind == "file" || kind == "refile"):
	case strings.HasPrefix(v.Text, "/") || strings.HasPrefix(v.Text, "./") || strings.HasPrefix(v.Text, "../"):
		rest = v.Text
	case typed && kind == "csl":
		return commaList(rest, v.At)
	case typed && !strings.Contains(kind, ".") && strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz") == "":
		f.unread = append(f.unread, Unread{At: v.At, What: v.Name + " " + printable(kind) + ":…", Why: "a data set of this kind is not a text"})
		return nil
	default:
		return commaList(v.Text, v.At)
	}
	if !filepath.IsAbs(rest) {
		base := d.get("BaseDirectory").Text
		if base == "" {
			base = filepath.Dir(d.File)
		}
		rest = filepath.Join(base, rest)
	}
	text, ok := f.read(v.At, rest)
	if !ok {
		return nil
	}
	return datasetLines(rest, text)
}

func commaList(s string, at Place) (entries []Entry) {
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			key, value, _ := strings.Cut(item, "=")
			entries = append(entries, Entry{Key: key, Value: value, At: at})
		}
	}
	return entries
}

func datasetLines(file, text string) (entries []Entry) {
	number := 0
	for raw := range strings.Lines(text) {
		number++
		l, _, _ := strings.Cut(raw, "#")
		if l = strings.TrimSpace(l); l != "" {
			key, value := cutSpace(l)
			entries = append(entries, Entry{Key: key, Value: value, At: Place{file, number}})
		}
	}
	return entries
}

// parseKey reads name domain:selector:key of KeyTable.
func parseKey(e Entry) DKIMKey {
	k := DKIMKey{Name: e.Key, At: e.At}
	parts := strings.SplitN(e.Value, ":", 3)
	for i, to := range []*string{&k.Domain, &k.Selector, &k.Material} {
		if i < len(parts) {
			*to = strings.TrimSpace(parts[i])
		}
	}
	if strings.HasPrefix(k.Material, "/") || strings.HasPrefix(k.Material, "./") || strings.HasPrefix(k.Material, "../") {
		k.File, k.Material = k.Material, ""
	}
	return k
}

// signed is the domain that an entry of SigningTable signs for: empty, if it signs for
// more than one.
func signed(e Entry, wildcard bool) string {
	key := strings.ToLower(e.Key)
	if at := strings.LastIndexByte(key, '@'); at >= 0 {
		key = key[at+1:]
	}
	key = strings.TrimPrefix(key, ".")
	if wildcard {
		key = strings.TrimPrefix(key, "*.")
	}
	if key == "" || strings.ContainsAny(key, "*%") {
		return ""
	}
	return key
}
