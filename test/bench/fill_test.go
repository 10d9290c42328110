package main

import (
	"path/filepath"
	"testing"
	"time"

	"anechoic/engine/local"
	"anechoic/relay/custody"
)

// TestAQueueIsFilledWithMailThatTheRelayMaySend: what -queued measures is a queue as
// the relay itself would have made it.
func TestAQueueIsFilledWithMailThatTheRelayMaySend(t *testing.T) {
	g := testGround(t)
	if err := g.use(node{organisations: 3, domains: 2}); err != nil {
		t.Fatal(err)
	}
	file, err := writeNode(g, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := fillQueue(t.Context(), file, 50, g.sinkPort); err != nil {
		t.Fatal(err)
	}
	q, engine, err := openQueue(t.Context(), filepath.Join(filepath.Dir(file), "data"), func(e *local.Engine) custody.Engine { return e })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { q.Close(); _ = engine.Close() }()
	if err := q.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if depth := q.Depth(); depth.Messages != 50 || depth.Queued != 50 || len(q.MessagesOf()) != 3 {
		t.Errorf("%+v of %v", depth, q.MessagesOf())
	}
	if !q.SuspendedSite(portText(g.sinkPort)) {
		t.Error("the next hop is not suspended")
	}
	leases, err := q.Lease(t.Context(), time.Now().Add(time.Minute), 1, nil)
	if err != nil || len(leases) != 1 {
		t.Fatalf("%v, %v", leases, err)
	}
	if _, warrant, err := q.Load(t.Context(), leases[0]); err != nil || warrant.Kind() != custody.KindProven {
		t.Errorf("%v, %v", warrant, err)
	}
}
