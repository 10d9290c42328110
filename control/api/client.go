package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"syscall"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/signing"
	"anechoic/watch/tracking"
)

// ErrNotRunning says that nobody answers on the control socket.
var ErrNotRunning = errors.New("no relay is running on this data directory")

// ErrNotAllowed says that somebody answers, but not to this user.
var ErrNotAllowed = errors.New("only the relay's own user and root may steer it")

// maxLogLine bounds one line of a stream: a fact with a thousand recipients fits.
const maxLogLine = 4 << 20

// Client asks a running relay through its control socket. Errors of the relay
// are *Problem; ErrNotRunning says that there is none.
type Client struct {
	http   http.Client
	socket string
}

// NewClient speaks to the relay of a data directory. It connects at the first
// request.
func NewClient(dataDir string) *Client {
	socket := filepath.Join(dataDir, SocketName)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{http: http.Client{Transport: &http.Transport{DialContext: dial}}, socket: socket}
}

// Status asks how the relay stands; org limits it to one organisation.
func (c *Client) Status(ctx context.Context, org string) (Status, error) {
	return get[Status](ctx, c, "/api/v1/status", url.Values{"org": {org}})
}

// Ready asks whether mail is taken now.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	return get[Readiness](ctx, c, "/api/v1/ready", nil)
}

// Keys lists signing keys, of one organisation or domain if they are not empty.
func (c *Client) Keys(ctx context.Context, org, domain string) ([]signing.KeyInfo, error) {
	list, err := get[KeyList](ctx, c, "/api/v1/keys", url.Values{"org": {org}, "domain": {domain}})
	return list.Keys, err
}

// Key asks for one key with its zone line.
func (c *Client) Key(ctx context.Context, org, domain, selector string) (KeyRecord, error) {
	return get[KeyRecord](ctx, c, "/api/v1/keys/"+url.PathEscape(org)+"/"+url.PathEscape(domain)+"/"+url.PathEscape(selector), nil)
}

// Queue lists a page of what is in custody.
func (c *Client) Queue(ctx context.Context, query url.Values) (QueuePage, error) {
	return get[QueuePage](ctx, c, "/api/v1/queue", query)
}

// Queued asks for one message in custody.
func (c *Client) Queued(ctx context.Context, id mail.ID) (Queued, error) {
	return get[Queued](ctx, c, "/api/v1/queue/"+url.PathEscape(string(id)), nil)
}

// Steer does something to what is in custody. progress, which may be nil, is told how
// far it came. After an error the Steered says what was reached before.
func (c *Client) Steer(ctx context.Context, verb Verb, chosen Selection, progress func(Steered)) (done Steered, err error) {
	body, err := c.do(ctx, http.MethodPost, "/api/v1/queue/"+string(verb), url.Values{"progress": {"true"}}, chosen)
	if err != nil {
		return done, err
	}
	defer body.Close()
	lines := json.NewDecoder(body)
	for {
		var line SteerLine
		if err := lines.Decode(&line); err != nil {
			return done, errors.Join(ctx.Err(), fmt.Errorf("%s: the relay stopped in the middle: %w", verb, err))
		}
		done = line.Steered
		switch {
		case line.Problem != nil:
			return done, line.Problem
		case line.Done:
			return done, nil
		case progress != nil:
			progress(done)
		}
	}
}

// Suspensions lists what is suspended.
func (c *Client) Suspensions(ctx context.Context) ([]Suspended, error) {
	list, err := get[SuspensionList](ctx, c, "/api/v1/suspensions", nil)
	return list.Suspensions, err
}

// ChangeSuspensions suspends or resumes.
func (c *Client) ChangeSuspensions(ctx context.Context, verb Verb, wish SuspensionWish) (Suspended, error) {
	return ask[Suspended](ctx, c, http.MethodPost, "/api/v1/suspensions/"+string(verb), nil, wish)
}

// Top asks what flows, and what does not.
func (c *Client) Top(ctx context.Context) (Top, error) {
	return get[Top](ctx, c, "/api/v1/top", nil)
}

// Quarantine lists a page of what is detained.
func (c *Client) Quarantine(ctx context.Context, query url.Values) (DetainedPage, error) {
	return get[DetainedPage](ctx, c, "/api/v1/quarantine", query)
}

// Detained asks for one detained message, without its content.
func (c *Client) Detained(ctx context.Context, id mail.ID) (DetainedMessage, error) {
	return get[DetainedMessage](ctx, c, "/api/v1/quarantine/"+url.PathEscape(string(id)), nil)
}

// DetainedContent is Detained with the message as safe text.
func (c *Client) DetainedContent(ctx context.Context, id mail.ID) (DetainedMessage, error) {
	return get[DetainedMessage](ctx, c, "/api/v1/quarantine/"+url.PathEscape(string(id)), url.Values{"content": {"true"}})
}

// JudgeTelling is Judge for many messages: progress is told how far it came. After
// an error the Judgement says what was done before.
func (c *Client) JudgeTelling(ctx context.Context, verb Verb, chosen DetainedSelection, progress func(reached, of int)) (told Judgement, err error) {
	body, err := c.do(ctx, http.MethodPost, "/api/v1/quarantine/"+string(verb), url.Values{"progress": {"true"}}, chosen)
	if err != nil {
		return told, err
	}
	defer body.Close()
	for lines := json.NewDecoder(body); ; {
		var line JudgeLine
		if err := lines.Decode(&line); err != nil {
			return told, errors.Join(ctx.Err(), fmt.Errorf("%s: the relay stopped in the middle: %w", verb, err))
		}
		if line.Judgement != nil {
			told = *line.Judgement
		}
		switch {
		case line.Problem != nil:
			return told, line.Problem
		case line.Judgement != nil:
			return told, nil
		}
		progress(line.Reached, line.Of)
	}
}

// Copy gives a detained message as it would be sent, with a warning. The caller
// closes it.
func (c *Client) Copy(ctx context.Context, id mail.ID, by string) (io.ReadCloser, error) {
	return c.do(ctx, http.MethodGet, "/api/v1/quarantine/"+url.PathEscape(string(id))+"/copy", url.Values{"by": {by}}, nil)
}

// Approvals lists the releases that wait for a second person.
func (c *Client) Approvals(ctx context.Context) (ProposalList, error) {
	return get[ProposalList](ctx, c, "/api/v1/quarantine/approvals", nil)
}

// SteerApproval approves or refuses one.
func (c *Client) SteerApproval(ctx context.Context, verb Verb, id mail.ID, wish ApprovalWish) (ApprovalDone, error) {
	return ask[ApprovalDone](ctx, c, http.MethodPost, "/api/v1/quarantine/approvals/"+url.PathEscape(string(id))+"/"+string(verb), nil, wish)
}

// Digest sends an organisation's digest of held mail now, or shows it.
func (c *Client) Digest(ctx context.Context, wish DigestWish) (DigestSent, error) {
	return ask[DigestSent](ctx, c, http.MethodPost, "/api/v1/quarantine/digest", nil, wish)
}

// Judge releases or drops detained messages.
func (c *Client) Judge(ctx context.Context, verb Verb, chosen DetainedSelection) (Judgement, error) {
	return ask[Judgement](ctx, c, http.MethodPost, "/api/v1/quarantine/"+string(verb), nil, chosen)
}

// Limits lists how much sources may send.
func (c *Client) Limits(ctx context.Context, query url.Values) ([]SourceLimits, error) {
	list, err := get[LimitList](ctx, c, "/api/v1/limits", query)
	return list.Sources, err
}

// LimitsOf tells how much one source may send.
func (c *Client) LimitsOf(ctx context.Context, org, source string) (SourceLimits, error) {
	return get[SourceLimits](ctx, c, "/api/v1/limits/"+url.PathEscape(org)+"/"+url.PathEscape(source), nil)
}

// ChangeLimits grants a source a tier, takes it back, or forgets what it spent.
func (c *Client) ChangeLimits(ctx context.Context, org, source string, verb Verb, wish LimitWish) (SourceLimits, error) {
	return ask[SourceLimits](ctx, c, http.MethodPost, "/api/v1/limits/"+url.PathEscape(org)+"/"+url.PathEscape(source)+"/"+string(verb), nil, wish)
}

// Suppressed lists a page of an organisation's suppression list.
func (c *Client) Suppressed(ctx context.Context, org string, query url.Values) (SuppressionPage, error) {
	return get[SuppressionPage](ctx, c, "/api/v1/suppression/"+url.PathEscape(org), query)
}

// ChangeSuppression puts an address on a list, or takes it off.
func (c *Client) ChangeSuppression(ctx context.Context, org string, verb Verb, wish SuppressionWish) (SuppressionChange, error) {
	return ask[SuppressionChange](ctx, c, http.MethodPost, "/api/v1/suppression/"+url.PathEscape(org)+"/"+string(verb), nil, wish)
}

// Seen lists tenants that are nobody's source.
func (c *Client) Seen(ctx context.Context, query url.Values) (SeenPage, error) {
	return get[SeenPage](ctx, c, "/api/v1/seen", query)
}

// Organisations lists the ids there ever were.
func (c *Client) Organisations(ctx context.Context) ([]OrganisationRecord, error) {
	list, err := get[OrganisationList](ctx, c, "/api/v1/organisations", nil)
	return list.Organisations, err
}

// SteerOrganisation closes or reopens an organisation.
func (c *Client) SteerOrganisation(ctx context.Context, verb Verb, id string, wish OrganisationWish) (OrganisationRecord, error) {
	return ask[OrganisationRecord](ctx, c, http.MethodPost, "/api/v1/organisations/"+url.PathEscape(id)+"/"+string(verb), nil, wish)
}

// CheckInbound tries the ways that mail for a domain can take.
func (c *Client) CheckInbound(ctx context.Context, domain string) (InboundCheck, error) {
	return get[InboundCheck](ctx, c, "/api/v1/inbound/"+url.PathEscape(domain)+"/check", nil)
}

// EchoProfile asks what was learned of a From domain.
func (c *Client) EchoProfile(ctx context.Context, domain string) (EchoProfile, error) {
	return get[EchoProfile](ctx, c, "/api/v1/echo/"+url.PathEscape(domain), nil)
}

// ForgetEcho has it forgotten.
func (c *Client) ForgetEcho(ctx context.Context, domain string) (EchoForgotten, error) {
	return ask[EchoForgotten](ctx, c, http.MethodPost, "/api/v1/echo/"+url.PathEscape(domain)+"/forget", nil, nil)
}

// InForce asks what the relay goes by now, with its registry if that is wanted.
func (c *Client) InForce(ctx context.Context, registry bool) (InForce, error) {
	return get[InForce](ctx, c, "/api/v1/configuration", url.Values{"registry": {strconv.FormatBool(registry)}})
}

// Reload has the relay read its files again.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	return ask[Reloaded](ctx, c, http.MethodPost, "/api/v1/reload", nil, nil)
}

// Message asks what happened to one message.
func (c *Client) Message(ctx context.Context, id mail.ID) (Message, error) {
	return get[Message](ctx, c, "/api/v1/messages/"+url.PathEscape(string(id)), nil)
}

// Search asks for a page of facts, of the index.
func (c *Client) Search(ctx context.Context, query url.Values) (tracking.Answer, error) {
	return get[tracking.Answer](ctx, c, "/api/v1/messages", query)
}

// Searches lists an organisation's saved searches; empty: the operator's.
func (c *Client) Searches(ctx context.Context, org string) ([]tracking.Saved, error) {
	list, err := get[SearchList](ctx, c, "/api/v1/searches", url.Values{"org": {org}})
	return list.Searches, err
}

// SaveSearch keeps a search under its name.
func (c *Client) SaveSearch(ctx context.Context, one tracking.Saved) (tracking.Saved, error) {
	return ask[tracking.Saved](ctx, c, http.MethodPost, "/api/v1/searches/save", nil, one)
}

// DeleteSearch drops one.
func (c *Client) DeleteSearch(ctx context.Context, name SavedName) (SavedName, error) {
	return ask[SavedName](ctx, c, http.MethodPost, "/api/v1/searches/delete", nil, name)
}

// Log calls visit for each fact of a query, in order, until it says false, the
// stream ends or ctx does.
func (c *Client) Log(ctx context.Context, query url.Values, visit func(ledger.Fact) bool) error {
	return c.stream(ctx, "/api/v1/log", query, visit)
}

// Tail is Log for the facts of a query of the index: the last ones, then new ones.
func (c *Client) Tail(ctx context.Context, query url.Values, visit func(ledger.Fact) bool) error {
	return c.stream(ctx, "/api/v1/messages/tail", query, visit)
}

func (c *Client) stream(ctx context.Context, path string, query url.Values, visit func(ledger.Fact) bool) error {
	body, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		var line LogLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("log: a line of the relay cannot be read: %w", err)
		}
		if line.Problem != nil {
			return line.Problem
		}
		if !visit(line.Fact) {
			return nil
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("log: the relay stopped in the middle: %w", err)
	}
	return ctx.Err()
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return ask[T](ctx, c, http.MethodGet, path, query, nil)
}

// ask makes a request and reads one JSON value.
func ask[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (value T, err error) {
	answer, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return value, err
	}
	defer answer.Close()
	if err := json.NewDecoder(answer).Decode(&value); err != nil {
		return value, fmt.Errorf("%s: the relay's answer cannot be read: %w", path, err)
	}
	return value, nil
}

// do makes a request; empty parameters are left out. The caller closes the body.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body any) (io.ReadCloser, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://control"+path+encode(query), content)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%s: %w (start it with: anechoic serve)", c.socket, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: %w (run it as that user: sudo -u anechoic, or with sudo)", c.socket, ErrNotAllowed)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return nil, fmt.Errorf("%s: the relay closed the connection before it answered: it is stopping, or it does not let this user in; its log says which", c.socket)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", c.socket, err)
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusAccepted:
		defer answer.Body.Close()
		return nil, readProblem(answer)
	}
	return answer.Body, nil
}

func encode(query url.Values) string {
	for name, values := range query {
		if len(values) == 0 || values[0] == "" {
			query.Del(name)
		}
	}
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}

// readProblem reads an answer that is no success.
func readProblem(answer *http.Response) error {
	var p Problem
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxLogLine)).Decode(&p); err != nil || p.Code == "" {
		return fmt.Errorf("the relay answered %s", answer.Status)
	}
	return &p
}
