package custody

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"anechoic/mail"
)

// Store is what of an Engine only reads.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Scan(ctx context.Context, prefix, from string, visit func(key string, value []byte) bool) error
	OpenBody(ctx context.Context, name string) (StoredBody, error)
}

// Surveyed is what a store holds of a queue.
type Surveyed struct {
	Messages    int `json:"messages"`
	Queued      int `json:"queued"` // recipients that are attempted when they are due, or were being attempted
	Held        int `json:"held"`   // recipients
	Detained    int `json:"detained"`
	SetAside    int `json:"set_aside"` // records
	Suspensions int `json:"suspensions"`
	Damaged     int `json:"damaged"` // records and bodies that do not read as what was kept
	// FirstDamage says what is wrong with the first of them.
	FirstDamage string `json:"first_damage,omitempty"`
}

// Survey reads what is in custody, without a Queue and without a change: every record
// is decoded and held against the seal key, as it is when the queue is read back.
// With bodies also every message is read and held against the hash it was kept
// under. ErrSealKey: the key is of another store. Damage is counted; an error says that
// the store could not be read.
func Survey(ctx context.Context, store Store, sealKey []byte, bodies bool) (Surveyed, error) {
	s := surveyor{ctx: ctx, store: store, seals: newSealer(sealKey), bodies: bodies}
	steps := []func() error{
		func() error { return s.key(sealKey) },
		func() error { return s.scan(messagePrefix, s.message) },
		func() error { return s.scan(recipientPrefix, s.recipient) },
		func() error { return s.scan(detainedPrefix, s.detainedMessage) },
		func() error { return s.scan(suspensionPrefix, s.suspension) },
		func() error {
			return s.scan(asidePrefix, func(string, []byte) error { s.found.SetAside++; return nil })
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return s.found, fmt.Errorf("custody: survey: %w", err)
		}
	}
	return s.found, nil
}

// surveyor is how far a survey came.
type surveyor struct {
	ctx    context.Context
	store  Store
	seals  sealer
	bodies bool
	found  Surveyed
	last   mail.ID // of the recipients: its message was looked for
}

func (s *surveyor) key(sealKey []byte) error {
	stored, err := s.store.Get(s.ctx, keyCheck)
	if errors.Is(err, ErrNotFound) {
		return nil // nothing was ever kept
	}
	if err == nil && !hmac.Equal(stored, authenticate(sealKey, []byte("anechoic custody key check"))) {
		err = ErrSealKey
	}
	return err
}

// scan visits records; what a visit finds is damage of the record. Where the store
// itself is damaged the scan ends, and says so.
func (s *surveyor) scan(prefix string, visit func(key string, value []byte) error) error {
	var failed error
	err := s.store.Scan(s.ctx, prefix, "", func(key string, value []byte) bool {
		if err := visit(key, value); err != nil && !s.damage(key, err) {
			failed = fmt.Errorf("%s: %w", key, err)
		}
		return failed == nil
	})
	if errors.Is(err, ErrDamaged) && s.damage(prefix+"…", err) {
		err = nil
	}
	return errors.Join(failed, err)
}

// damage counts what is wrong with the store; false: the error is none of that.
func (s *surveyor) damage(key string, err error) bool {
	if !unreadable(err) && !errors.Is(err, ErrNotFound) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	if s.found.Damaged++; s.found.FirstDamage == "" {
		s.found.FirstDamage = key + ": " + err.Error()
	}
	return true
}

func (s *surveyor) message(key string, value []byte) error {
	id, err := parseMessageKey(key)
	if err != nil {
		return err
	}
	m, err := decodeMessage(value)
	if err != nil {
		return err
	}
	s.found.Messages++
	if _, err := s.seals.open(id, m); err != nil {
		return fmt.Errorf("%w: its warrant does not open: %v", errRecord, err)
	}
	if !s.bodies {
		return nil
	}
	return s.body(string(id), m.Size, m.Hash)
}

// body reads a whole message.
func (s *surveyor) body(name string, size int64, hash []byte) error {
	body, err := s.store.OpenBody(s.ctx, name)
	if err != nil {
		return fmt.Errorf("its content: %w", err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(body, 0, body.Size())); err != nil {
		return fmt.Errorf("its content: %w", err)
	}
	if body.Size() != size || !bytes.Equal(sum.Sum(nil), hash) {
		return fmt.Errorf("%w: its content is not what was kept", errRecord)
	}
	return s.ctx.Err()
}

func (s *surveyor) recipient(key string, value []byte) error {
	id, number, err := parseRecipientKey(key)
	if err != nil {
		return err
	}
	r, err := decodeRecipient(value)
	if err != nil {
		return err
	}
	if !s.seals.isAccepted(id, number, r) {
		return fmt.Errorf("%w: it is not the one that was accepted", errRecord)
	}
	switch r.State {
	case recipientQueued:
		s.found.Queued++
	case recipientHeld:
		s.found.Held++
	}
	if id == s.last {
		return nil
	}
	s.last = id
	if _, err := s.store.Get(s.ctx, messageKey(id)); errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: %w", errRecord, errNoMessage)
	} else if err != nil {
		return err
	}
	return nil
}

func (s *surveyor) detainedMessage(key string, value []byte) error {
	id, d, err := s.seals.openDetained(key, value)
	if err != nil {
		return err
	}
	s.found.Detained++
	if !s.bodies {
		return nil
	}
	return s.body(detainedBody(id), d.Size, d.Hash)
}

func (s *surveyor) suspension(key string, value []byte) error {
	_, err := decodeSuspension(key, value)
	s.found.Suspensions++
	return err
}
