package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/quarantine"
)

// Judged is what became of one message, or would.
type Judged struct {
	ID     mail.ID     `json:"id"`
	Done   bool        `json:"done"`             // released or dropped; on a dry run: it would be
	Reason mail.Reason `json:"reason,omitempty"` // why it stays
	Detail string      `json:"detail,omitempty"`
}

// Judgement is what POST /api/v1/quarantine/{verb} did, or would do, message by
// message. With an Approval nothing was released yet (status 202): Waiting
// messages are once another person approves it.
type Judgement struct {
	Verb     Verb                 `json:"verb"` // release, drop
	DryRun   bool                 `json:"dry_run,omitempty"`
	Messages []Judged             `json:"messages"`
	Done     int                  `json:"done"`
	Stay     int                  `json:"stay"`
	Waiting  int                  `json:"waiting,omitempty"`
	Approval *quarantine.Proposal `json:"approval,omitempty"`
}

// httpStatus says that what was asked for waits.
func (j Judgement) httpStatus() int {
	if j.Approval != nil {
		return http.StatusAccepted
	}
	return http.StatusOK
}

// JudgeLine is one line of a judgement that tells how far it came; the last has the
// Judgement, and a Problem if something ended it early.
type JudgeLine struct {
	Reached   int        `json:"reached"`
	Of        int        `json:"of"`
	Judgement *Judgement `json:"judgement,omitempty"`
	Problem   *Problem   `json:"problem,omitempty"`
}

// ProposalList is GET /api/v1/quarantine/approvals.
type ProposalList struct {
	Above     int                   `json:"second_person_above"` // 0: never
	Approvals []quarantine.Proposal `json:"approvals"`
}

// ApprovalWish is the body of POST /api/v1/quarantine/approvals/{id}/{verb}.
type ApprovalWish struct {
	By string `json:"by,omitempty"`
}

// ApprovalDone is what came of it. Released is nil for a refusal.
type ApprovalDone struct {
	Approval quarantine.Proposal `json:"approval"`
	Verb     Verb                `json:"verb"`
	Released *Judgement          `json:"released,omitempty"`
}

// The verbs of approvals.
const (
	Approve Verb = "approve"
	Refuse  Verb = "refuse"
)

// person is who asks, as two people are told apart: by the name that the request
// claims, and without one by the user of the connection. Whoever may use the socket
// may claim any name; the ledger has the user beside it.
func person(r *http.Request, claim string) quarantine.Person {
	told := asker(r, claim)
	name := claimed(claim)
	if name == "" && told != anOperator {
		name, _, _ = strings.Cut(told, " (uid ")
	}
	return quarantine.Person{Name: name, Told: told}
}

// judging is POST /api/v1/quarantine/{verb}: one answer when it is over, or with
// ?progress=true lines that tell how far it came.
func (s *Server) judging(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("progress") == "true" {
		s.judgeTelling(w, r)
		return
	}
	s.within(verifyTimeout, func(ctx context.Context, r *http.Request) (any, error) {
		told, err := s.judge(ctx, r, func(int, int) {})
		return told, err
	})(w, r)
}

// tellJudged is how often long judging says how far it came.
const tellJudged = 250 * time.Millisecond

func (s *Server) judgeTelling(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), verifyTimeout)
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	send := func(line JudgeLine) {
		_ = control.SetWriteDeadline(time.Now().Add(answerTimeout)) // a recorder in a test has none
		_ = json.NewEncoder(w).Encode(line)                         // an error here is a peer that went away: ctx ends
		_ = control.Flush()
	}
	_ = control.SetWriteDeadline(time.Now().Add(verifyTimeout))
	var last time.Time
	told, err := s.judge(ctx, r, func(reached, of int) {
		if now := time.Now(); now.Sub(last) >= tellJudged {
			last = now
			send(JudgeLine{Reached: reached, Of: of})
		}
	})
	line := JudgeLine{Reached: len(told.Messages), Of: len(told.Messages), Judgement: &told}
	if err != nil {
		line.Problem = problemOf(err)
	}
	send(line)
}

// judge releases or drops what a request selects.
func (s *Server) judge(ctx context.Context, r *http.Request, progress func(reached, of int)) (told Judgement, err error) {
	told = Judgement{Verb: Verb(r.PathValue("verb")), Messages: []Judged{}}
	if told.Verb != Release && told.Verb != Drop {
		return told, notFound(fmt.Sprintf("%q is nothing that can be done to detained mail", told.Verb), "release or drop")
	}
	var chosen DetainedSelection
	if err := readJSON(r, &chosen); err != nil {
		return told, err
	}
	by := person(r, chosen.By)
	ids, err := s.chooseDetained(ctx, &chosen)
	if err != nil {
		return told, err
	}
	told.DryRun = chosen.DryRun
	if told.Verb == Release && !chosen.DryRun && s.Approvals.Needs(by, len(ids), time.Now()) {
		if waits, err := s.propose(ctx, by, &chosen, ids, progress); err != nil || waits.Approval != nil {
			return waits, err
		}
	}
	err = s.judgeEach(ctx, &told, ids, by, progress)
	if told.Verb == Release && !told.DryRun {
		s.Approvals.Released(by, told.Done, time.Now())
	}
	s.Log.Info("detained mail judged", "verb", told.Verb, "by", by.Told, "dry_run", told.DryRun, "done", told.Done, "stay", told.Stay)
	return told, err
}

// propose rehearses a release. If what would leave needs a second person, it is
// asked for; else there is no Approval and the release may go on.
func (s *Server) propose(ctx context.Context, by quarantine.Person, chosen *DetainedSelection, ids []mail.ID, progress func(reached, of int)) (told Judgement, err error) {
	rehearsed := Judgement{Verb: Release, DryRun: true}
	if err := s.judgeEach(ctx, &rehearsed, ids, by, progress); err != nil {
		return rehearsed, err
	}
	told = Judgement{Verb: Release, Messages: []Judged{}}
	var leaving []mail.ID
	for _, m := range rehearsed.Messages {
		if m.Done {
			leaving = append(leaving, m.ID)
		} else {
			told.add(m)
		}
	}
	now := time.Now()
	if !s.Approvals.Needs(by, len(leaving), now) {
		return told, nil
	}
	proposal, err := quarantine.Propose(by, chosen.words(), leaving, now)
	if err == nil {
		err = s.Approvals.Ask(ctx, proposal)
	}
	if err != nil {
		return told, approvalProblem(err)
	}
	s.Log.Info("a release of detained mail waits for a second person", "approval", proposal.ID, "by", by.Told, "messages", len(leaving))
	told.Waiting, told.Approval = len(leaving), &proposal
	return told, nil
}

// words tell what was selected, for whoever has to agree.
func (c *DetainedSelection) words() string {
	if len(c.IDs) > 0 {
		return fmt.Sprintf("%d messages named by id", len(c.IDs))
	}
	f, err := c.filter()
	if err != nil {
		return "" // it was read before
	}
	return f.String()
}

// judgeEach does what a verb does, message by message. One that left meanwhile, or
// that somebody else judges now, stays and is told of.
func (s *Server) judgeEach(ctx context.Context, told *Judgement, ids []mail.ID, by quarantine.Person, progress func(reached, of int)) error {
	apply := s.release
	if told.Verb == Drop {
		apply = s.drop
	}
	for i, id := range ids {
		judged, err := apply(ctx, id, by.Told, told.DryRun)
		var gone *Problem
		if errors.As(err, &gone) {
			judged, err = Judged{ID: id, Detail: gone.Detail}, nil
		}
		if err != nil {
			return fmt.Errorf("%s: after %d messages: %w", told.Verb, len(told.Messages), err)
		}
		told.add(judged)
		progress(i+1, len(ids))
	}
	return nil
}

func (j *Judgement) add(one Judged) {
	j.Messages = append(j.Messages, one)
	if one.Done {
		j.Done++
	} else {
		j.Stay++
	}
}

// release judges one message again.
func (s *Server) release(ctx context.Context, id mail.ID, by string, dryRun bool) (Judged, error) {
	refusal, err := s.Release(ctx, id, by, dryRun)
	switch {
	case err != nil:
		return Judged{}, detentionProblem(id, err)
	case refusal != nil:
		return Judged{ID: id, Reason: refusal.Reason(), Detail: strings.TrimSuffix(refusal.Text()+": "+refusal.Detail(), ": ")}, nil
	}
	return Judged{ID: id, Done: true}, nil
}

// drop gives one message up.
func (s *Server) drop(ctx context.Context, id mail.ID, by string, dryRun bool) (Judged, error) {
	if !dryRun {
		if err := s.Queue.DropDetained(ctx, id, by, time.Now()); err != nil {
			return Judged{}, detentionProblem(id, err)
		}
	}
	return Judged{ID: id, Done: true}, nil
}

// chooseDetained gives the ids of a selection. Every id that is named must be
// there before anything is done.
func (s *Server) chooseDetained(ctx context.Context, chosen *DetainedSelection) (ids []mail.ID, err error) {
	filter, err := chosen.filter()
	if err != nil {
		return nil, err
	}
	filtered := !filter.IsZero()
	switch {
	case len(chosen.IDs) > 0 && (chosen.All || filtered), chosen.All && filtered:
		return nil, badRequest("ids, a filter and all do not go together", "name one of them")
	case len(chosen.IDs) == 0 && !chosen.All && !filtered:
		return nil, badRequest("nothing is selected", "name ids, or select by org, reason, direction, source, sender, from, recipient, domain, id, since, until or text, or say all")
	case len(chosen.IDs) == 0:
		return s.detainedIDs(ctx, filter)
	}
	named := map[mail.ID]bool{}
	for _, text := range chosen.IDs {
		id, err := validID(string(text))
		if err != nil {
			return nil, err
		}
		if _, err := s.Queue.LookDetained(ctx, id); err != nil {
			return nil, detentionProblem(id, err)
		}
		if !named[id] {
			ids = append(ids, id)
		}
		named[id] = true
	}
	return ids, nil
}

func (s *Server) detainedIDs(ctx context.Context, selects quarantine.Filter) (ids []mail.ID, err error) {
	filter := custodyFilter(selects)
	filter.Limit = custody.MaxList
	for {
		list, next, err := s.Queue.ListDetained(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			ids = append(ids, d.ID)
		}
		if filter.After = next; next == "" {
			return ids, nil
		}
	}
}

// approvals is GET /api/v1/quarantine/approvals.
func (s *Server) approvals(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	list, err := s.Approvals.Waiting(ctx, time.Now())
	return ProposalList{Above: s.Approvals.Above(), Approvals: append([]quarantine.Proposal{}, list...)}, err
}

// steerApproval is POST /api/v1/quarantine/approvals/{id}/{verb}.
func (s *Server) steerApproval(ctx context.Context, r *http.Request) (any, error) {
	id, err := validID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	var wish ApprovalWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	by, done := person(r, wish.By), ApprovalDone{Verb: Verb(r.PathValue("verb"))}
	switch done.Verb {
	case Refuse:
		done.Approval, err = s.Approvals.Refuse(ctx, id, by, time.Now())
		return done, approvalProblem(err)
	case Approve:
		if done.Approval, err = s.Approvals.Approve(ctx, id, by, time.Now()); err != nil {
			return nil, approvalProblem(err)
		}
	default:
		return nil, notFound(fmt.Sprintf("%q is nothing that can be done to an approval", done.Verb), "approve or refuse")
	}
	released := Judgement{Verb: Release, Messages: []Judged{}}
	both := quarantine.Person{Name: by.Name, Told: done.Approval.By.Told + ", approved by " + by.Told}
	err = s.judgeEach(ctx, &released, done.Approval.Messages, both, func(int, int) {})
	s.Log.Info("detained mail judged", "verb", Release, "by", both.Told, "approval", id, "done", released.Done, "stay", released.Stay)
	done.Released = &released
	return done, err
}

// approvalProblem says what to do about an approval that is none.
func approvalProblem(err error) error {
	conflict := func(fix string) error { return problem(http.StatusConflict, CodeConflict, err.Error(), fix) }
	switch {
	case err == nil:
		return nil
	case errors.Is(err, quarantine.ErrNoProposal):
		return notFound(err.Error(), "quarantine approvals lists what waits; ask again with quarantine release")
	case errors.Is(err, quarantine.ErrSamePerson):
		return conflict("somebody else has to approve it")
	case errors.Is(err, quarantine.ErrNobody):
		return conflict("say who you are, with --by")
	case errors.Is(err, quarantine.ErrManyWaiting):
		return conflict("approve or refuse what waits: quarantine approvals")
	case errors.Is(err, quarantine.ErrManyMessages):
		return conflict("select fewer at a time, for example by org, reason or since")
	}
	return err
}

// DigestWish is the body of POST /api/v1/quarantine/digest.
type DigestWish struct {
	Org    string `json:"org"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// DigestSent is what it did, or would do.
type DigestSent struct {
	Org    string  `json:"org"`
	DryRun bool    `json:"dry_run,omitempty"`
	To     string  `json:"to"`
	ID     mail.ID `json:"id,omitempty"` // of the mail, in the queue
	Text   string  `json:"text"`
}

// digest is POST /api/v1/quarantine/digest.
func (s *Server) digest(ctx context.Context, r *http.Request) (any, error) {
	var wish DigestWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	sent, err := s.Digest(ctx, wish)
	switch {
	case errors.Is(err, quarantine.ErrNothingNew):
		return nil, problem(http.StatusConflict, CodeConflict, err.Error(), "quarantine list shows what is held; a digest tells of each message once")
	case err == nil:
		s.Log.Info("a digest of detained mail was asked for", "org", wish.Org, "by", asker(r, ""), "dry_run", wish.DryRun)
	}
	return sent, err
}
