package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"anechoic/control/metrics"
	"anechoic/control/probe"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/relay/inbound/echo"
	"anechoic/relay/quarantine"
	"anechoic/relay/signing"
	"anechoic/relay/suppression"
	"anechoic/watch/alert"
	"anechoic/watch/seen"
	"anechoic/watch/tracking"
)

// Limits of one request. They are ours: a command line needs no more.
const (
	maxRequestBody = 1 << 20
	maxHeaderBytes = 16 << 10
	readTimeout    = 15 * time.Second
	answerTimeout  = 60 * time.Second // and for each next piece of a stream
	verifyTimeout  = time.Hour        // log verify reads every fact
	idleTimeout    = 2 * time.Minute
)

// MaxPage is the most entries one page of a list has.
const MaxPage = 1000

// Keys tells of signing keys; *signing.Signer does.
type Keys interface {
	List(ctx context.Context, dir *org.Directory, now time.Time) []signing.KeyInfo
	ListDomain(ctx context.Context, d *org.Domain, now time.Time) []signing.KeyInfo
}

// Server is the parts of a relay that /api/v1 steers. All fields are needed.
type Server struct {
	Queue     *custody.Queue
	Delivery  *delivery.Dispatcher
	Traffic   *metrics.Metrics
	Ledger    ledger.Scanner
	Keys      Keys
	Locksmith *signing.Locksmith
	Directory func() (*org.Directory, []org.Finding) // the one in force, and what is a risk in it
	Node      func() Node
	Relay     func() string               // relay.toml as it is in force, with every default
	Reload    func(context.Context) error // all or nothing; see Problem for the errors it tells apart
	// Standing says how a domain stands in DNS, in the words of org.Standing, and
	// what is to be known about that beside them.
	Standing func(context.Context, *org.Domain) (standing, detail string)
	// Release judges a detained message again, and keeps it as proven where that
	// is what it is now; the refusal says why it stays. With dryRun it only judges.
	Release       func(ctx context.Context, id mail.ID, by string, dryRun bool) (*mail.Refusal, error)
	Approvals     *quarantine.Approvals                                 // of releases of many messages
	Digest        func(context.Context, DigestWish) (DigestSent, error) // quarantine.ErrNothingNew: there is none
	Seen          *seen.Table
	Tracking      *tracking.Index // nil: the relay keeps none
	Searches      tracking.SavedSearches
	Suppression   *suppression.List
	Organisations Organisations
	Limits        Limits
	CheckInbound  CheckInbound
	Echoes        *echo.Table
	// ForgetEcho drops what was learned of a domain, for somebody; false: nothing was.
	ForgetEcho func(ctx context.Context, domain mail.Domain, by string) (bool, error)
	Checkpoint MakeCheckpoint
	Scanners   func(context.Context) []Scanner // nil: there are none to tell of
	Ready      func(context.Context) Readiness // what /readyz answers too
	Probes     Probing
	Examine    func(context.Context) []probe.Check // nil: there is nothing to tell
	Responding Responding
	Alerts     *alert.Dispatcher
	Log        *slog.Logger
}

// Handler answers /api/v1.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", s.answer(s.status))
	mux.HandleFunc("GET /api/v1/ready", s.answer(func(ctx context.Context, _ *http.Request) (any, error) { return s.Ready(ctx), nil }))
	mux.HandleFunc("GET /api/v1/keys", s.answer(s.keys))
	mux.HandleFunc("GET /api/v1/keys/{org}/{domain}/{selector}", s.answer(s.key))
	mux.HandleFunc("POST /api/v1/keys/{org}/{domain}/{verb}", s.answer(s.steerKeys))
	mux.HandleFunc("GET /api/v1/queue", s.answer(s.queue))
	mux.HandleFunc("GET /api/v1/queue/{id}", s.answer(s.queued))
	mux.HandleFunc("POST /api/v1/queue/{verb}", s.steering)
	mux.HandleFunc("GET /api/v1/suspensions", s.answer(s.suspensions))
	mux.HandleFunc("POST /api/v1/suspensions/{verb}", s.answer(s.steerSuspensions))
	mux.HandleFunc("GET /api/v1/top", s.answer(s.top))
	mux.HandleFunc("GET /api/v1/log", s.log)
	mux.HandleFunc("GET /api/v1/log/verify", s.verify)
	mux.HandleFunc("GET /api/v1/messages/{id}", s.answer(s.message))
	mux.HandleFunc("GET /api/v1/messages", s.answer(s.search))
	mux.HandleFunc("GET /api/v1/messages/export", s.exportMessages)
	mux.HandleFunc("GET /api/v1/messages/tail", s.tail)
	mux.HandleFunc("GET /api/v1/tracking", s.answer(s.indexed))
	mux.HandleFunc("GET /api/v1/searches", s.answer(s.searches))
	mux.HandleFunc("POST /api/v1/searches/{verb}", s.answer(s.steerSearches))
	mux.HandleFunc("GET /api/v1/quarantine", s.answer(s.quarantine))
	mux.HandleFunc("GET /api/v1/quarantine/{id}", s.answer(s.detained))
	mux.HandleFunc("GET /api/v1/quarantine/{id}/copy", s.exported)
	mux.HandleFunc("POST /api/v1/quarantine/{verb}", s.judging)
	mux.HandleFunc("POST /api/v1/quarantine/digest", s.answer(s.digest))
	mux.HandleFunc("GET /api/v1/quarantine/approvals", s.answer(s.approvals))
	mux.HandleFunc("POST /api/v1/quarantine/approvals/{id}/{verb}", s.within(verifyTimeout, s.steerApproval))
	mux.HandleFunc("GET /api/v1/suppression/{org}", s.answer(s.suppressed))
	mux.HandleFunc("POST /api/v1/suppression/{org}/{verb}", s.answer(s.steerSuppression))
	mux.HandleFunc("GET /api/v1/limits", s.answer(s.limits))
	mux.HandleFunc("GET /api/v1/limits/{org}/{source}", s.answer(s.limit))
	mux.HandleFunc("POST /api/v1/limits/{org}/{source}/{verb}", s.answer(s.steerLimits))
	mux.HandleFunc("GET /api/v1/seen", s.answer(s.seen))
	mux.HandleFunc("GET /api/v1/organisations", s.answer(s.organisationRecords))
	mux.HandleFunc("POST /api/v1/organisations/{id}/{verb}", s.answer(s.steerOrganisation))
	mux.HandleFunc("GET /api/v1/echo/{domain}", s.answer(s.echoProfile))
	mux.HandleFunc("POST /api/v1/echo/{domain}/forget", s.answer(s.forgetEcho))
	mux.HandleFunc("GET /api/v1/inbound/{domain}/check", s.answer(s.checkInbound))
	mux.HandleFunc("GET /api/v1/checks", s.answer(s.checks))
	mux.HandleFunc("POST /api/v1/probes", s.answer(s.beginProbe))
	mux.HandleFunc("GET /api/v1/probes/{token}", s.answer(s.probe))
	mux.HandleFunc("GET /api/v1/alerts", s.answer(s.incidents))
	mux.HandleFunc("GET /api/v1/alerts/requests", s.answer(s.alertRequests))
	mux.HandleFunc("POST /api/v1/alerts/requests/{id}/replay", s.answer(s.replayAlert))
	mux.HandleFunc("POST /api/v1/alerts/test", s.answer(s.testAlerts))
	mux.HandleFunc("GET /api/v1/findings", s.answer(s.findings))
	mux.HandleFunc("GET /api/v1/campaigns", s.answer(s.campaigns))
	mux.HandleFunc("GET /api/v1/campaigns/{id}", s.answer(s.campaign))
	mux.HandleFunc("GET /api/v1/responses", s.answer(s.responses))
	mux.HandleFunc("POST /api/v1/responses", s.answer(s.applyResponse))
	mux.HandleFunc("GET /api/v1/responses/{id}", s.answer(s.response))
	mux.HandleFunc("POST /api/v1/responses/{id}/apply", s.answer(s.applyResponse))
	mux.HandleFunc("POST /api/v1/responses/{id}/end", s.answer(s.endResponse))
	mux.HandleFunc("POST /api/v1/checkpoint", s.checkpoint)
	mux.HandleFunc("GET /api/v1/configuration", s.answer(s.inForce))
	mux.HandleFunc("POST /api/v1/reload", s.answer(s.reload))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		write(w, notFound("there is nothing at "+r.URL.Path, "see the list of paths in the manual, or use the command line"))
	})
	return s.guard(mux)
}

// NewHTTPServer is an http.Server with the limits of this package, for the
// control socket and the operations listener.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: contained(h, log), ReadHeaderTimeout: readTimeout, WriteTimeout: answerTimeout + readTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// contained tells of a panic of a handler in net/http's place, which would log all
// of its text.
func contained(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if fault := recover(); fault == http.ErrAbortHandler {
				panic(fault)
			} else if fault != nil {
				background.Tell(log, "http: "+r.URL.Path, "the request has no answer", fault)
				http.Error(w, "a fault in this server, its log has the cause", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// guard reads the body within its limits, and turns a panic of a handler into a
// problem.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if fault := recover(); fault != nil && fault != http.ErrAbortHandler {
				background.Tell(s.Log, "control socket: "+r.URL.Path, "the request has no answer", fault)
				write(w, problem(http.StatusInternalServerError, CodeInternal, "a fault in this server", "the server's log has the cause").because(mail.ReasonInternal))
			}
		}()
		w.Header().Set("Cache-Control", "no-store")
		if err := readBody(w, r); err != nil {
			write(w, problemOf(err))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readBody replaces the body by its octets, read within limits of size and time.
func readBody(w http.ResponseWriter, r *http.Request) error {
	deadline := http.NewResponseController(w)
	_ = deadline.SetReadDeadline(time.Now().Add(readTimeout)) // a recorder in a test has none
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	_ = deadline.SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(body))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return problem(http.StatusRequestEntityTooLarge, CodeBadRequest, "the request is larger than 1 MiB", "name fewer messages at a time, or use a filter").because(mail.ReasonSyntax)
	case err != nil:
		return badRequest("the request did not arrive whole: "+err.Error(), "send it again")
	}
	return nil
}

// answer makes a handler of a function that gives a value or an error.
func (s *Server) answer(ask asked) http.HandlerFunc { return s.within(answerTimeout, ask) }

// asked answers one request.
type asked func(ctx context.Context, r *http.Request) (any, error)

// within is answer with a time of its own.
func (s *Server) within(limit time.Duration, ask asked) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit + readTimeout))
		value, err := ask(ctx, r)
		if err != nil {
			p := problemOf(err)
			s.Log.Log(ctx, levelOf(p), "control request refused", "method", r.Method, "path", r.URL.Path, "code", p.Code, "error", err)
			write(w, p)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if other, ok := value.(interface{ httpStatus() int }); ok {
			w.WriteHeader(other.httpStatus())
		}
		_ = json.NewEncoder(w).Encode(value) // an error here is a peer that went away
	}
}

func levelOf(p *Problem) slog.Level {
	if p.Status >= http.StatusInternalServerError {
		return slog.LevelError
	}
	return slog.LevelDebug
}

// readJSON reads one JSON value of known fields from the request.
func readJSON(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badRequest("the request is no JSON this path takes: "+err.Error(), "send the documented fields")
	}
	if _, err := d.Token(); err != io.EOF {
		return badRequest("something follows the JSON value", "send one JSON object")
	}
	return nil
}

// reload is POST /api/v1/reload.
func (s *Server) reload(ctx context.Context, r *http.Request) (any, error) {
	s.Log.Info("a reload is asked for", "by", asker(r, ""))
	if err := s.Reload(ctx); err != nil {
		return nil, err
	}
	dir, findings := s.Directory()
	count := 0
	for range dir.Organisations() {
		count++
	}
	return Reloaded{Generation: dir.Generation(), Organisations: count, Findings: Findings(findings)}, nil
}

// Reloaded is what a reload brought into force.
type Reloaded struct {
	Generation    uint64    `json:"generation"`
	Organisations int       `json:"organisations"`
	Findings      []Finding `json:"findings"`
}
