package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/control/metrics"
)

func page(t *testing.T, o Operations, method, path string) (int, Readiness) {
	t.Helper()
	w := httptest.NewRecorder()
	o.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	var r Readiness
	if path == "/readyz" {
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
			t.Fatalf("%s answers %q: %v", path, w.Body, err)
		}
	}
	return w.Code, r
}

func TestReadyzNamesWhatFails(t *testing.T) {
	draining, broken := false, error(nil)
	o := Operations{
		Checks: []Check{
			{"keys", func(context.Context) error { return nil }},
			{"storage", func(context.Context) error { return broken }},
		},
		Draining: func() bool { return draining },
		Metrics:  metrics.New("v1").Handler(),
	}
	if code, r := page(t, o, "GET", "/readyz"); code != 200 || !r.Ready {
		t.Errorf("a relay that is well answers %d %+v", code, r)
	}
	broken = errors.New("out of storage")
	want := Readiness{Failed: []FailedCheck{{"storage", "out of storage"}}}
	if code, r := page(t, o, "GET", "/readyz"); code != 503 || !cmp.Equal(r, want) {
		t.Errorf("a full disk answers %d %+v", code, r)
	}
	broken, draining = nil, true
	if code, r := page(t, o, "GET", "/readyz"); code != 503 || !r.Draining || r.Ready {
		t.Errorf("a relay that stops answers %d %+v", code, r)
	}
	if code, _ := page(t, o, "GET", "/livez"); code != 200 {
		t.Errorf("/livez answers %d while it drains", code)
	}
	if code, _ := page(t, o, "GET", "/metrics"); code != 200 {
		t.Errorf("/metrics answers %d", code)
	}
	for path, want := range map[string]int{"/": 404, "/api/v1/status": 404} {
		if code, _ := page(t, o, "GET", path); code != want {
			t.Errorf("%s answers %d, want %d", path, code, want)
		}
	}
	if code, _ := page(t, o, http.MethodPost, "/livez"); code != 405 {
		t.Errorf("POST /livez answers %d", code)
	}
}
