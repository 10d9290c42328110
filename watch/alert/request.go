package alert

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// State says how a webhook request stands.
type State string

// The states of requests.
const (
	Pending   State = "pending"
	Delivered State = "delivered" // answered with 2yz
	Failed    State = "failed"    // every attempt failed
	Dropped   State = "dropped"   // its webhook is gone, or switched itself off, or too many waited
)

// Attempt is one call of a webhook.
type Attempt struct {
	At     time.Time     `json:"at"`
	Took   time.Duration `json:"took"`
	Status int           `json:"status,omitempty"` // of HTTP; 0: there was no answer
	Answer string        `json:"answer,omitempty"` // its beginning
	Error  string        `json:"error,omitempty"`
}

// Request is one event on its way to one endpoint.
type Request struct {
	ID       string    `json:"id"` // the webhook-id, the same in each attempt
	Endpoint string    `json:"endpoint"`
	Event    EventType `json:"event"`
	Incident string    `json:"incident,omitempty"`
	Created  time.Time `json:"created"`
	State    State     `json:"state"`
	Next     time.Time `json:"next,omitzero"`
	Attempts []Attempt `json:"attempts"`
	Note     string    `json:"note,omitempty"` // why it was dropped
	Tries    int       `json:"tries"`          // since it was made, or since a person asked for it again
	Body     string    `json:"body"`
}

// retryAfter is the time between attempts: the schedule that Standard Webhooks
// recommends, over three days.
var retryAfter = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// Bounds of one call: Standard Webhooks wants between 15 and 30 seconds.
const (
	callTime     = 20 * time.Second
	maxAnswer    = 4 << 10 // octets read of an answer
	maxTold      = 200     // octets of it that are kept
	maxAttempts  = 20      // that a request remembers
	maxRetryWait = 24 * time.Hour
)

// verdict is what an attempt means for its request and its endpoint.
type verdict struct {
	attempt Attempt
	wait    time.Duration // that the answer asks for
}

// After is the request after an attempt. jitter is between 0 and 1.
func (r Request) After(v verdict, jitter float64) Request {
	r.Attempts = append(slices.Clone(r.Attempts[max(0, len(r.Attempts)-maxAttempts+1):]), v.attempt)
	r.Tries++
	r.Next = time.Time{}
	switch {
	case v.attempt.Status/100 == 2:
		r.State = Delivered
	case v.attempt.Status == http.StatusGone:
		r.State, r.Note = Dropped, "the endpoint answers 410: it wants no more"
	case r.Event == EventTest, r.Tries > len(retryAfter):
		r.State = Failed // a test is looked at by a person, who asks again
	default:
		wait := retryAfter[r.Tries-1]
		wait += time.Duration(jitter * float64(wait) / 10)
		r.Next = v.attempt.At.Add(max(wait, v.wait))
	}
	return r
}

// caller calls endpoints.
type caller struct {
	web   http.RoundTripper
	agent string
}

func newCaller(g *Guard, roots *x509.CertPool, version string) *caller {
	return &caller{web: transport(g, roots), agent: strings.TrimSuffix("Anechoic/"+version, "/")}
}

// call makes one attempt.
func (c *caller) call(ctx context.Context, e Endpoint, r *Request, now time.Time) verdict {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	v := verdict{attempt: Attempt{At: now}}
	began := time.Now()
	response, err := c.send(ctx, e, r, now)
	if err == nil {
		defer response.Body.Close()
		text, readErr := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		v.attempt.Status, v.attempt.Answer = response.StatusCode, Printable(strings.ToValidUTF8(string(text), "?"), maxTold)
		v.wait = waitOf(response.Header.Get("Retry-After"), now)
		err = readErr
		if v.attempt.Status/100 == 2 {
			err = nil // the answer was given, whatever became of its text
		}
	}
	v.attempt.Took = time.Since(began).Round(time.Millisecond)
	if err != nil {
		v.attempt.Error = Printable(err.Error(), maxTold)
	} else if v.attempt.Status/100 == 3 {
		v.attempt.Error = "redirects are not followed: write the new URL into the configuration"
	}
	return v
}

// send writes the request and signs it.
func (c *caller) send(ctx context.Context, e Endpoint, r *Request, now time.Time) (*http.Response, error) {
	secrets, err := e.secrets()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader([]byte(r.Body)))
	if err != nil {
		return nil, fmt.Errorf("the URL of webhook %s cannot be used", e.Name())
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", c.agent)
	request.Header.Set("Webhook-Id", r.ID)
	request.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	request.Header.Set("Webhook-Signature", sign(secrets, r.ID, now, []byte(r.Body)))
	return c.web.RoundTrip(request) // no redirect is followed, no cookie kept
}

// waitOf reads Retry-After (RFC 9110 section 10.2.3), within bounds.
func waitOf(text string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryWait)
}

// jitter spreads what would come back together.
func jitter() float64 { return rand.Float64() }
