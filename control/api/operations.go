package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"anechoic/mail/background"
)

// readyTimeout bounds all checks of one /readyz together.
const readyTimeout = 5 * time.Second

// Check is one thing the relay cannot take mail without. Ask gives nil while it
// is there; its error is shown to whoever asks, so it holds no secret.
type Check struct {
	Name string // stable: storage, keys, listeners, …
	Ask  func(context.Context) error
}

// Operations is what the operations listener answers: /livez while the process
// runs, /readyz while it takes mail, /metrics. It shows no mail and no names of
// customers but organisation ids in metrics; it belongs on a private address all
// the same.
type Operations struct {
	Checks   []Check
	Draining func() bool // nil: never
	Metrics  http.Handler
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready    bool          `json:"ready"`
	Draining bool          `json:"draining,omitempty"`
	Failed   []FailedCheck `json:"failed,omitempty"`
}

// FailedCheck is one check that did not pass.
type FailedCheck struct {
	Check string `json:"check"`
	Error string `json:"error"`
}

// Handler answers GET and HEAD.
func (o Operations) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.Handle("GET /metrics", o.Metrics)
	return http.MaxBytesHandler(mux, 0)
}

// Ready asks every check, at the same time.
func (o Operations) Ready(ctx context.Context) Readiness {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	errs := make([]error, len(o.Checks))
	var asked background.Group
	for i, check := range o.Checks {
		asked.Go(func() { errs[i] = check.Ask(ctx) })
	}
	asked.Wait()
	r := Readiness{Draining: o.Draining != nil && o.Draining()}
	for i, err := range errs {
		if err != nil {
			r.Failed = append(r.Failed, FailedCheck{Check: o.Checks[i].Name, Error: err.Error()})
		}
	}
	r.Ready = !r.Draining && len(r.Failed) == 0
	return r
}

func (o Operations) readyz(w http.ResponseWriter, r *http.Request) {
	ready := o.Ready(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !ready.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(ready) // an error here is a peer that went away
}
