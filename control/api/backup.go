package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Checkpoint is a copy of the store that the relay made to be read by somebody else on
// the same machine. It is there as long as the request that asked for it.
type Checkpoint struct {
	Store   string    `json:"store"` // folder, absolute
	Version string    `json:"version"`
	Started time.Time `json:"started"` // when the relay was
}

// CheckpointLine is the answer of POST /api/v1/checkpoint, after which the relay says
// nothing more until the peer goes away. Then, however that came, the copy is removed.
type CheckpointLine struct {
	*Checkpoint
	Problem *Problem `json:"problem,omitempty"`
}

// ErrCheckpointBusy says that somebody else is at it: one copy at a time holds on to
// what was deleted.
var ErrCheckpointBusy = errors.New("a checkpoint is in use")

// MakeCheckpoint makes a Checkpoint, and gives the function that removes it.
type MakeCheckpoint func(context.Context) (Checkpoint, func(), error)

// checkpoint is POST /api/v1/checkpoint.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) {
	by := asker(r, "")
	made, remove, err := s.Checkpoint(r.Context())
	if errors.Is(err, ErrCheckpointBusy) {
		write(w, problem(http.StatusConflict, CodeConflict, "a backup or an upgrade check is being made", "wait until it is done"))
		return
	}
	if err != nil {
		s.Log.Error("a checkpoint could not be made", "by", by, "error", err)
		write(w, problemOf(err))
		return
	}
	defer func() {
		remove()
		s.Log.Info("a checkpoint was removed", "by", by, "store", made.Store)
	}()
	s.Log.Info("a checkpoint was made: somebody reads the whole store", "by", by, "store", made.Store)
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(answerTimeout)) // a recorder in a test has none
	if json.NewEncoder(w).Encode(CheckpointLine{Checkpoint: &made}) != nil || control.Flush() != nil {
		return // the peer went away
	}
	<-r.Context().Done()
}

// UseCheckpoint has the relay copy its store, and calls use with the copy. The relay
// removes it when use is over, and when this process ends before that. ErrNotRunning:
// there is no relay.
func (c *Client) UseCheckpoint(ctx context.Context, use func(Checkpoint) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := c.do(ctx, http.MethodPost, "/api/v1/checkpoint", nil, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	line := CheckpointLine{Checkpoint: new(Checkpoint)}
	if err := json.NewDecoder(body).Decode(&line); err != nil {
		return fmt.Errorf("checkpoint: the relay's answer cannot be read: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	if line.Problem != nil {
		return line.Problem
	}
	return use(*line.Checkpoint)
}
