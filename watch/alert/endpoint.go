package alert

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EventType is what a webhook's payload is about; it names the payload's schema, so
// a schema that changes gets another name.
type EventType string

// The event types.
const (
	EventOpened  EventType = "alert.opened.v1"
	EventUpdated EventType = "alert.updated.v1"
	EventEnded   EventType = "alert.ended.v1"
	EventTest    EventType = "alert.test.v1"
)

// EventTypes are all of them.
func EventTypes() []EventType { return []EventType{EventOpened, EventUpdated, EventEnded, EventTest} }

// event is the type that tells of a change.
func (c Change) event() EventType { return EventType("alert." + string(c) + ".v1") }

// Endpoint is where one webhook leads.
type Endpoint struct {
	Org         string // empty: the operator's, which is told of everything
	ID          string
	URL         string
	SecretFiles []string // the current one first; two while they are exchanged
	Events      []EventType
}

// Name is what people call it: "acme/siem", "/siem" for the operator's.
func (e Endpoint) Name() string { return e.Org + "/" + e.ID }

// wants says that the endpoint is to be told of an event of an incident. A test is
// for whom it is asked for.
func (e Endpoint) wants(i *Incident, event EventType) bool {
	if e.Org != "" && e.Org != i.Org {
		return false
	}
	if i.Kind == KindWebhook && slices.Contains(i.Fields, [2]string{"webhook", e.Name()}) {
		return false // it would be told of itself
	}
	return len(e.Events) == 0 || slices.Contains(e.Events, event)
}

// CheckURL says what is wrong with the URL of a webhook. Where its host leads is
// looked at again whenever it is called.
func CheckURL(text string, loopback bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("it is no URL") // the cause would repeat it
	case u.Host == "" || u.Hostname() == "":
		return errors.New("it has no host")
	case u.User != nil:
		return errors.New("a user name or password in a URL is seen by everybody who logs it: the signature proves who sends")
	case u.Fragment != "":
		return errors.New("a fragment is never sent")
	case len(text) > 1000:
		return errors.New("it has more than 1000 octets")
	}
	a, notAddress := netip.ParseAddr(u.Hostname())
	onLoopback := notAddress == nil && a.Unmap().IsLoopback() || u.Hostname() == "localhost"
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback && onLoopback) {
		return errors.New("it is not https")
	}
	if notAddress == nil && !public(a) && !(loopback && onLoopback) {
		return fmt.Errorf("%s is no address of the internet", a)
	}
	return nil
}

// The form of secrets (Standard Webhooks, "Signature scheme").
const (
	secretPrefix         = "whsec_"
	minSecret, maxSecret = 24, 64 // octets
)

// ReadSecret reads a file with one secret.
func ReadSecret(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseSecret(strings.TrimSpace(string(text)))
}

// parseSecret reads a secret as it is written down. Its errors do not repeat it.
func parseSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return nil, errors.New("the secret does not begin with " + secretPrefix)
	}
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("what follows " + secretPrefix + " is no base64")
	}
	if len(secret) < minSecret || len(secret) > maxSecret {
		return nil, fmt.Errorf("the secret has %d octets, not %d to %d", len(secret), minSecret, maxSecret)
	}
	return secret, nil
}

// secrets reads those of an endpoint.
func (e Endpoint) secrets() (list [][]byte, err error) {
	for _, file := range e.SecretFiles {
		secret, err := ReadSecret(file)
		if err != nil {
			return nil, fmt.Errorf("secret of webhook %s: %w", e.Name(), err)
		}
		list = append(list, secret)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("webhook %s has no secret", e.Name())
	}
	return list, nil
}

// sign gives the value of webhook-signature: one signature for each secret, over
// id, time of the attempt and payload.
func sign(secrets [][]byte, id string, at time.Time, body []byte) string {
	var signatures []string
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, " ")
}

// Payload is the JSON of a webhook, in the structure of Standard Webhooks. docs/alerts.md
// has it for users.
type Payload struct {
	Type      EventType   `json:"type"`
	Timestamp time.Time   `json:"timestamp"` // of what happened
	Data      PayloadData `json:"data"`
}

// PayloadData is an incident as programs outside see it.
type PayloadData struct {
	Incident     string         `json:"incident"`     // the same for all events of an incident
	Organisation string         `json:"organisation"` // empty: it is about the relay
	Kind         string         `json:"kind"`
	Severity     string         `json:"severity"`
	Title        string         `json:"title"`
	Text         string         `json:"text"`
	Campaign     string         `json:"campaign,omitempty"`
	Finding      string         `json:"finding,omitempty"`
	Count        int            `json:"count"`
	Opened       time.Time      `json:"opened"`
	Updated      time.Time      `json:"updated"`
	Ended        time.Time      `json:"ended,omitzero"`
	Fields       []PayloadField `json:"fields"`
	Relay        string         `json:"relay"` // its host name
}

// PayloadField is one more thing with its name.
type PayloadField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// payload writes an incident for an event.
func payload(event EventType, i *Incident, hostname string) []byte {
	p := Payload{Type: event, Timestamp: i.Updated, Data: PayloadData{
		Incident: i.ID, Organisation: i.Org, Kind: i.Kind, Severity: i.Severity, Title: i.Title, Text: i.Text, Campaign: i.Campaign, Finding: i.Finding,
		Count: i.Count, Opened: i.Opened, Updated: i.Updated, Ended: i.Ended, Fields: []PayloadField{}, Relay: hostname,
	}}
	for _, f := range i.Fields {
		p.Data.Fields = append(p.Data.Fields, PayloadField{Name: f[0], Value: f[1]})
	}
	text, err := json.Marshal(p)
	if err != nil {
		panic(err) // every field has a JSON form
	}
	return text
}
