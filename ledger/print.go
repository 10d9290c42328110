package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Print is what makes messages alike without showing what they say: sums of the
// text, the hosts its links lead to. It is personal, as an address is: two messages
// with the same one are related.
type Print struct {
	Text      uint64   // similarity sum of the visible text: alike texts differ in few bits; 0: too little text
	Shape     uint32   // of the subject, with letters and digits made alike; 0: none
	Signature uint64   // of the first DKIM signature the message came with: the same for a replayed one; 0: none
	Hosts     []string // that links lead to, sorted, at most MaxPrintHosts
	IDHost    string   // what stands behind the @ in Message-ID
}

// MaxPrintHosts is how many hosts a Print holds, maxPrintHost how long they are:
// as names are (RFC 1035 section 2.3.4).
const (
	MaxPrintHosts = 4
	maxPrintHost  = 253
)

// IsZero says that nothing is known.
func (p Print) IsZero() bool {
	return p.Text == 0 && p.Shape == 0 && p.Signature == 0 && len(p.Hosts) == 0 && p.IDHost == ""
}

// String is the form in which it is stored: words of key=value; empty for the zero
// Print. Hosts that are no names of letters, digits, hyphens and dots are left out.
func (p Print) String() string {
	var words []string
	if p.Text != 0 {
		words = append(words, fmt.Sprintf("text=%016x", p.Text))
	}
	if p.Shape != 0 {
		words = append(words, fmt.Sprintf("shape=%08x", p.Shape))
	}
	if p.Signature != 0 {
		words = append(words, fmt.Sprintf("signature=%016x", p.Signature))
	}
	if hosts := printHosts(p.Hosts); len(hosts) > 0 {
		words = append(words, "hosts="+strings.Join(hosts, ","))
	}
	if isPrintHost(p.IDHost) {
		words = append(words, "id_host="+p.IDHost)
	}
	return strings.Join(words, " ")
}

// ParsePrint reads what String wrote. Words it does not know are passed over, so that
// a newer ledger can be read; what has not its form is an error.
func ParsePrint(s string) (p Print, err error) {
	for word := range strings.SplitSeq(s, " ") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "text":
			p.Text, err = strconv.ParseUint(value, 16, 64)
		case "shape":
			var n uint64
			n, err = strconv.ParseUint(value, 16, 32)
			p.Shape = uint32(n)
		case "signature":
			p.Signature, err = strconv.ParseUint(value, 16, 64)
		case "hosts":
			p.Hosts = strings.Split(value, ",")
			if !slices.Equal(p.Hosts, printHosts(p.Hosts)) {
				err = fmt.Errorf("hosts %.40q", value)
			}
		case "id_host":
			if p.IDHost = value; !isPrintHost(value) {
				err = fmt.Errorf("host %.40q", value)
			}
		}
		if err != nil {
			return Print{}, fmt.Errorf("ledger: a print that is none: %w", err)
		}
	}
	return p, nil
}

// MarshalText implements encoding.TextMarshaler.
func (p Print) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Print) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePrint(string(text))
	return err
}

// printHosts is hosts sorted, each once, without what is no name.
func printHosts(hosts []string) []string {
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return !isPrintHost(h) })
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	return hosts[:min(len(hosts), MaxPrintHosts)]
}

func isPrintHost(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.') {
			return false
		}
	}
	return s != "" && len(s) <= maxPrintHost
}
