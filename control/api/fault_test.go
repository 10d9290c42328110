package api

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"anechoic/mail/background"
)

func TestAFaultOfAnHTTPServerIsToldWithoutItsText(t *testing.T) {
	var log bytes.Buffer
	server := NewHTTPServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("careless: anx1_secret") }), slog.New(slog.NewTextHandler(&log, nil)))
	before := background.Faults()
	w := httptest.NewRecorder()
	server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusInternalServerError || background.Faults() != before+1 {
		t.Errorf("%d, and %d faults counted", w.Code, background.Faults()-before)
	}
	if text := log.String() + w.Body.String(); strings.Contains(text, "secret") || !strings.Contains(text, "/metrics") {
		t.Errorf("told: %s", text)
	}
}
