package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"anechoic/org"
	"anechoic/watch/response"
)

// Schema is a JSON Schema (draft 2020-12), as far as a configuration needs it.
type Schema struct {
	Dialect     string             `json:"$schema,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type"`
	Format      string             `json:"format,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Default     any                `json:"default,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Closed      *bool              `json:"additionalProperties,omitempty"` // false: no other properties
	Items       *Schema            `json:"items,omitempty"`
}

// dialect is the version of JSON Schema (json-schema.org).
const dialect = "https://json-schema.org/draft/2020-12/schema"

// Describe gives what the manual says of a key: its path with dots, without places in
// lists, as organisation.source.from. Empty: nothing.
type Describe func(key string) string

// RelaySchema is what relay.toml may hold: the same keys and types that Load takes,
// with defaults and choices. What a text must look like (sizes, spans, addresses) is
// Load's to check.
func RelaySchema(describe Describe) *Schema {
	m := schemaMaker{describe: describe, choices: relayChoices, required: []string{"hostname", "registry", "delivery.domain.name", "delivery.domain.tls", "delivery.egress.name", "delivery.egress.source", "delivery.egress.source.address", "tracking.organisation.id"}}
	f := defaults()
	f.defaultLists()
	s := m.object(reflect.ValueOf(f), "")
	s.Dialect, s.Title = dialect, "Anechoic: relay.toml"
	return s
}

// RegistrySchema is RelaySchema for the registry.
func RegistrySchema(describe Describe) *Schema {
	m := schemaMaker{describe: describe, choices: registryChoices, required: []string{
		"organisation.id", "organisation.domain.name", "organisation.domain.dkim.selector", "organisation.domain.dkim.algorithm",
		"organisation.source.id", "organisation.source.kind", "organisation.source.secret_header.name", "organisation.source.secret_header.sha256",
		"organisation.source.dkim.domain", "organisation.source.dkim.selectors", "organisation.source.password.argon2id",
		"organisation.inbound.domains", "organisation.inbound.deliver_to", "organisation.inbound.vouched.from", "organisation.inbound.vouched.tenant",
	}}
	s := m.object(reflect.ValueOf(org.Registry{}), "")
	s.Dialect, s.Title = dialect, "Anechoic: registry.toml"
	return s
}

// relayChoices are the keys of relay.toml that take one of a few words.
var relayChoices = map[string][]string{
	"smtp.client_certificates":            {CertificatesNone, CertificatesRequest},
	"dns.dnssec":                          {DNSSECAuto, DNSSECTrust, DNSSECOff},
	"delivery.tls":                        tlsLevels,
	"delivery.domain.tls":                 tlsLevels,
	"delivery.ip":                         families,
	"response.ceiling":                    response.Names(),
	"tracking.personal_data":              personalData,
	"tracking.organisation.personal_data": personalData,
	"screening.on_loss":                   {OnLossDefer, OnLossHold},
	"limits.first_sources":                {FirstTrusted, FirstNew},
	"alerts.summary":                      {SummaryWeekly, SummaryAlways, SummaryOff},
	"alerts.syslog.format":                syslogFormats,
	"log.level":                           {"debug", "info", "warn", "error"},
	"log.format":                          {FormatJSON, FormatText},
}

// registryChoices are those of the registry.
var registryChoices = map[string][]string{
	"organisation.domain.dkim.algorithm":      {string(org.RSA2048), string(org.Ed25519)},
	"organisation.source.kind":                {string(org.Microsoft365), string(org.Google), string(org.Credential), string(org.Certificate), string(org.Address)},
	"organisation.source.role":                {string(org.Application), string(org.Server)},
	"organisation.source.forwarded":           {string(org.Reject), string(org.Hold), string(org.Seal)},
	"organisation.source.limits.preset":       org.LimitPresets,
	"organisation.source.trust":               org.TrustTiers,
	"organisation.trust":                      org.TrustTiers,
	"organisation.inbound.dmarc":              {org.DMARCEnforce, org.DMARCObserve},
	"organisation.inbound.echo":               {org.EchoMark, org.EchoHold, org.EchoRefuse},
	"organisation.inbound.bounces":            {org.BouncesOurs, org.BouncesAny},
	"organisation.inbound.recipients":         {"any", "ask"},
	"organisation.response.automatic":         org.ResponseSteps,
	"organisation.screening.inbound.on_loss":  {org.ScreeningDefer, org.ScreeningHold},
	"organisation.screening.outbound.on_loss": {org.ScreeningDefer, org.ScreeningHold},
	"organisation.screening.inbound.checks":   {org.ScreeningOff, org.ScreeningMark, org.ScreeningHold, org.ScreeningRefuse},
	"organisation.screening.outbound.checks":  {org.ScreeningOff, org.ScreeningMark, org.ScreeningHold, org.ScreeningRefuse},
}

// schemaMaker makes a schema of the structs that are decoded into.
type schemaMaker struct {
	describe Describe
	choices  map[string][]string
	required []string // keys without which nothing loads
}

// object is the schema of a struct; its values are the defaults.
func (m *schemaMaker) object(v reflect.Value, path string) *Schema {
	closed := false
	s := &Schema{Type: "object", Description: m.describe(path), Properties: make(map[string]*Schema), Closed: &closed}
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("toml")
		if name == "" {
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		s.Properties[name] = m.value(v.Field(i), at)
		if slices.Contains(m.required, at) {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

// value is the schema of one key.
func (m *schemaMaker) value(v reflect.Value, at string) *Schema {
	if v.Kind() == reflect.Pointer {
		v = reflect.Zero(v.Type().Elem())
	}
	s := &Schema{Enum: m.choices[at]}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() != reflect.TypeFor[toml.LocalDate]() {
			return m.object(v, at)
		}
		s.Type, s.Format = "string", "date"
	case reflect.Slice:
		s.Type = "array"
		s.Items = m.value(reflect.Zero(v.Type().Elem()), at)
		s.Items.Description = ""
		if v.Len() > 0 {
			s.Default = v.Interface()
		}
	case reflect.Bool:
		s.Type, s.Default = "boolean", v.Bool()
	case reflect.Int, reflect.Int64:
		s.Type = "integer"
		if v.Int() != 0 {
			s.Default = v.Int()
		}
	default:
		s.Type = "string"
		if v.String() != "" {
			s.Default = v.String()
		}
	}
	s.Description = m.describe(at)
	return s
}

// Keys gives the path of every key below, with dots, in order.
func (s *Schema) Keys() (keys []string) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		below := s.Properties[name]
		if below.Items != nil {
			below = below.Items
		}
		if len(below.Properties) == 0 {
			keys = append(keys, name)
		}
		for _, key := range below.Keys() {
			keys = append(keys, name+"."+key)
		}
	}
	return keys
}

// At is the schema of a key; nil if there is no such key.
func (s *Schema) At(key string) *Schema {
	for part := range strings.SplitSeq(key, ".") {
		if s.Items != nil {
			s = s.Items
		}
		if s = s.Properties[part]; s == nil {
			return nil
		}
	}
	return s
}
