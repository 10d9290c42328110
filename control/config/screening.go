package config

import (
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/screen"
)

// Screening is which scanners are asked about messages, and what becomes of mail
// while one does not answer.
type Screening struct {
	Rspamd  screen.Endpoint // zero: none
	Clamd   screen.Endpoint
	Milters []screen.Endpoint

	OnLoss  string // OnLossDefer or OnLossHold
	Timeout time.Duration

	MarkField      string                      // the name of the field that marked messages get; empty: none
	MilterFields   []string                    // names of fields that milters may add
	RspamdSettings map[screen.Direction]string // a Settings-ID; none: rspamd's own choice
}

// The values of Screening.OnLoss.
const (
	OnLossDefer = "defer"
	OnLossHold  = "hold"
)

// Any says that there is a scanner.
func (s Screening) Any() bool {
	return !s.Rspamd.IsZero() || !s.Clamd.IsZero() || len(s.Milters) > 0
}

type screeningTable struct {
	Rspamd           string   `toml:"rspamd"`
	Clamd            string   `toml:"clamd"`
	Milters          []string `toml:"milters"`
	OnLoss           string   `toml:"on_loss"`
	Timeout          string   `toml:"timeout"`
	MarkField        string   `toml:"mark_field"`
	MilterFields     []string `toml:"milter_fields"`
	SettingsInbound  string   `toml:"rspamd_settings_inbound"`
	SettingsOutbound string   `toml:"rspamd_settings_outbound"`
}

// Bounds of ours: a client waits ten minutes for the answer to its message (RFC 5321
// section 4.5.3.2.6), in which every scanner is asked once.
const (
	minScreening, maxScreening = time.Second, 5 * time.Minute
	maxMilters                 = 10
)

func (c *checker) screening(t *screeningTable) Screening {
	s := Screening{
		Rspamd:  c.scanner("screening.rspamd", t.Rspamd, `"http://127.0.0.1:11333" or "unix:/path"`, screen.ParseRspamd),
		Clamd:   c.scanner("screening.clamd", t.Clamd, `"127.0.0.1:3310" or "unix:/path"`, screen.ParseClamd),
		OnLoss:  c.choice("screening.on_loss", t.OnLoss, OnLossDefer, OnLossHold),
		Timeout: c.duration("screening.timeout", t.Timeout, minScreening, maxScreening),
	}
	if len(t.Milters) > maxMilters {
		c.refuse("screening.milters", "each is asked about each message", "%d milters, the limit is %d", len(t.Milters), maxMilters)
	}
	seen := make(map[string]bool)
	for i, text := range t.Milters {
		if seen[text] {
			c.refuse(element("screening.milters", i), "take it out", "%q is there twice", text)
		}
		seen[text] = true
		s.Milters = append(s.Milters, c.scanner(element("screening.milters", i), text, `"inet:127.0.0.1:8891" or "unix:/path"`, screen.ParseMilter))
	}
	if t.MarkField != "" {
		s.MarkField = c.addedField("screening.mark_field", t.MarkField)
	}
	for i, name := range t.MilterFields {
		s.MilterFields = append(s.MilterFields, c.addedField(element("screening.milter_fields", i), name))
	}
	for direction, key := range map[screen.Direction]string{screen.Inbound: t.SettingsInbound, screen.Outbound: t.SettingsOutbound} {
		if key == "" {
			continue
		}
		if s.RspamdSettings == nil {
			s.RspamdSettings = make(map[screen.Direction]string)
		}
		s.RspamdSettings[direction] = c.settingsID("screening.rspamd_settings_"+string(direction), key)
	}
	return s
}

// scanner reads where one listens; empty is none, but not within a list.
func (c *checker) scanner(where, text, hint string, parse func(string) (screen.Endpoint, error)) screen.Endpoint {
	if text == "" && !strings.HasSuffix(where, "]") {
		return screen.Endpoint{}
	}
	e, err := parse(text)
	if err != nil {
		c.refuse(where, hint, "%v", err)
	}
	return e
}

// addedField is the name of a field that messages may get on the way: one that
// says nothing about who sent them, and that is not taken off again.
func (c *checker) addedField(where, name string) string {
	h, err := mail.ParseHeader([]byte(name+": x\r\n"), mail.HeaderLimits{})
	ours := err == nil && len(name) <= 64 && len(h.Fields) == 1 && h.Fields[0].Name() == name && h.Fields[0].HasPrefix("X-")
	for _, reserved := range []string{"X-Anechoic-", "X-MS-", "X-OriginatorOrg", "X-Google-", "X-Gm-"} {
		ours = ours && !h.Fields[0].HasPrefix(reserved)
	}
	if !ours {
		c.refuse(where, `a name as "X-Spam": it begins with "X-", and belongs to no provider and not to this relay`, "%q is no field that messages may get", name)
	}
	return name
}

// settingsID checks the name of a set of rspamd's settings.
func (c *checker) settingsID(where, id string) string {
	ok := len(id) <= 64
	for _, r := range id {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	if !ok {
		c.refuse(where, "the id of one of rspamd's settings: letters, digits, - and _", "%q is no settings id", id)
	}
	return id
}

// table is how it would be written.
func (s Screening) table() screeningTable {
	t := screeningTable{
		Rspamd: s.Rspamd.RspamdText(), Clamd: s.Clamd.ClamdText(), Milters: []string{}, OnLoss: s.OnLoss, Timeout: span(s.Timeout),
		MarkField: s.MarkField, MilterFields: list(s.MilterFields), SettingsInbound: s.RspamdSettings[screen.Inbound], SettingsOutbound: s.RspamdSettings[screen.Outbound],
	}
	for _, e := range s.Milters {
		t.Milters = append(t.Milters, e.MilterText())
	}
	return t
}

// Screen makes what asks the scanners, with the host name they are told. Our own
// checks are always there; organisations say whether they are asked.
func (c Config) Screen() screen.Options {
	o := screen.Options{Timeout: c.Screening.Timeout, MarkField: c.Screening.MarkField}
	if !c.Screening.Rspamd.IsZero() {
		o.Scanners = append(o.Scanners, screen.NewRspamd(c.Screening.Rspamd, c.Hostname.String(), c.Screening.RspamdSettings))
	}
	if !c.Screening.Clamd.IsZero() {
		o.Scanners = append(o.Scanners, &screen.Clamd{Endpoint: c.Screening.Clamd})
	}
	for _, e := range c.Screening.Milters {
		o.Scanners = append(o.Scanners, &screen.Milter{Endpoint: e, Hostname: c.Hostname.String(), Headers: c.Screening.MilterFields})
	}
	o.Scanners = append(o.Scanners, new(screen.Checks))
	return o
}
