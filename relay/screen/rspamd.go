package screen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"

	"anechoic/mail"
)

// Bounds of what rspamd may answer, and of what it is told. A reply to a message
// with a thousand symbols has some 200 KiB.
const (
	maxRspamdReply  = 1 << 20
	maxRspamdHeader = 16 << 10
	maxRspamdRcpt   = 32 << 10 // octets of recipients: its parser takes 80 KiB of header
)

// Rspamd asks rspamd's normal worker, by POST of the message to /checkv2
// (rspamd.com/doc/developers/protocol.html). It keeps connections, to which
// nothing of a message clings: each request says everything.
type Rspamd struct {
	Endpoint Endpoint
	Hostname string               // ours, as MTA-Name
	Settings map[Direction]string // Settings-ID to ask with; none: rspamd's own choice

	client *http.Client
	host   string
}

// NewRspamd makes a client; Close gives up its connections.
func NewRspamd(e Endpoint, hostname string, settings map[Direction]string) *Rspamd {
	r := &Rspamd{Endpoint: e, Hostname: hostname, Settings: settings, host: e.Address}
	if e.Network == "unix" {
		r.host = "localhost"
	}
	r.client = &http.Client{
		Transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return r.connect(ctx) },
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxRspamdHeader,
			MaxIdleConns:           DefaultPlaces,
			MaxIdleConnsPerHost:    DefaultPlaces,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r
}

// connect dials without a deadline of the first message's: the connection is kept,
// and each request has its own.
func (r *Rspamd) connect(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Control: refuseFar}
	return dialer.DialContext(ctx, r.Endpoint.Network, r.Endpoint.Address)
}

// Name implements Scanner.
func (r *Rspamd) Name() string { return "rspamd" }

// Close gives up idle connections.
func (r *Rspamd) Close() { r.client.CloseIdleConnections() }

// Ping implements Scanner.
func (r *Rspamd) Ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.host+"/ping", nil)
	if err != nil {
		return err
	}
	answer, err := r.do(req)
	if err != nil {
		return err
	}
	if strings.TrimRight(string(answer), "\r\n") != "pong" {
		return fmt.Errorf("rspamd at %s answers %q to a ping", r.Endpoint.RspamdText(), safe(string(answer), maxText))
	}
	return nil
}

// Ask implements Scanner.
func (r *Rspamd) Ask(ctx context.Context, q *Question) (Opinion, error) {
	body := q.content()
	defer body.shut()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.host+"/checkv2", body)
	if err != nil {
		return Opinion{}, err
	}
	req.ContentLength = q.size()
	req.Header = r.header(q)
	answer, err := r.do(req)
	if err != nil {
		return Opinion{}, err
	}
	reply, err := parseRspamdReply(answer)
	if err != nil {
		return Opinion{}, fmt.Errorf("rspamd's answer: %w", err)
	}
	return reply.opinion(q.Rules), nil
}

// header is what rspamd is told beside the message.
func (r *Rspamd) header(q *Question) http.Header {
	h := http.Header{}
	set := func(name, value string) {
		if value != "" {
			h.Set(name, oneLine(value))
		}
	}
	set("Queue-Id", string(q.ID))
	set("MTA-Name", r.Hostname)
	set("From", q.Envelope.From.String())
	set("Helo", q.Helo)
	set("Hostname", q.PeerName)
	set("User", q.Principal)
	set("TLS-Version", q.TLS)
	set("Settings-ID", r.Settings[q.Direction])
	set("Anechoic-Direction", string(q.Direction))
	set("Anechoic-Organisation", string(q.Organisation))
	if q.Peer.IsValid() {
		set("IP", q.Peer.Unmap().String())
	}
	for room := maxRspamdRcpt; len(h["Rcpt"]) < len(q.Envelope.Recipients); {
		to := oneLine(q.Envelope.Recipients[len(h["Rcpt"])].Address.String())
		if room -= len(to); room < 0 {
			break
		}
		h.Add("Rcpt", to)
	}
	return h
}

// do sends a request and reads a bounded answer.
func (r *Rspamd) do(req *http.Request) ([]byte, error) {
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("rspamd at %s does not answer: %w", r.Endpoint.RspamdText(), unwrapURL(err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxRspamdReply+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("rspamd's answer breaks off: %w", err)
	case len(answer) > maxRspamdReply:
		return nil, fmt.Errorf("rspamd's answer has more than %d octets", maxRspamdReply)
	case resp.StatusCode == http.StatusRequestEntityTooLarge:
		return nil, fmt.Errorf("%w: rspamd says that it is too big: raise its max_message", errNotScanned)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("rspamd answers with HTTP status %d: %s", resp.StatusCode, safe(resp.Status, maxText))
	case req.Method == http.MethodPost && !isJSON(resp.Header.Get("Content-Type")):
		return nil, fmt.Errorf("rspamd's answer is of type %q, which is not JSON", safe(resp.Header.Get("Content-Type"), maxText))
	}
	return answer, nil
}

func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "application/json"
}

// unwrapURL drops the URL that net/http writes before each error.
func unwrapURL(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

var _ Scanner = (*Rspamd)(nil)

// refused is an Opinion of one finding that refuses.
func refused(reason mail.Reason, f Finding) Opinion {
	return Opinion{Action: Refuse, Reason: reason, Findings: []Finding{f}}
}
