package arc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
)

// maxLookUps is how many keys of one message are asked for at once. Ours: real
// chains have one to six sealers.
const maxLookUps = 8

// Validate judges the chain of a header (RFC 8617 section 5.2). hashes are those of
// the body, from a dkim.BodyHasher made for the same header; the same hashes serve
// dkim.Verify. A header without ARC fields costs next to nothing.
//
// Every signature is judged, also where the chain is lost already: see Instance. A
// body that differs is told without a look-up, and each key is looked up once. An
// error of the resolver, ctx's end included, is a TempError of the signatures that
// need the key.
func Validate(ctx context.Context, resolver mail.Resolver, header mail.Header, hashes dkim.BodyHashes, now time.Time) Chain {
	s := readSets(header)
	if s.fields == 0 {
		return Chain{}
	}
	v := validation{sets: s, index: dkim.NewIndex(header), hashes: hashes, now: now}
	v.instances = make([]Instance, len(s.list))
	v.read()
	v.prepareMessages()
	v.prepareSeals()
	v.check(ctx, resolver)
	return v.conclude(fingerprint(header))
}

// validation is one message on its way through Validate.
type validation struct {
	sets      sets
	index     dkim.Index
	hashes    dkim.BodyHashes
	now       time.Time
	instances []Instance
	pending   []pending
}

// pending is a signature of which only the key has to be asked.
type pending struct {
	result    *dkim.Result
	signature dkim.Signature
	digest    [sha256.Size]byte
}

// read fills in what the handlers say they saw.
func (v *validation) read() {
	for n := range v.instances {
		i, p := &v.instances[n], v.sets.list[n].results
		i.Number = n + 1
		if p.count != 1 {
			i.ResultsErr = misplaced(p.count)
			continue
		}
		i.Text = unfold(p.text)
		i.Results, i.ResultsErr = authres.Parse(p.text)
	}
}

// misplaced says why there is no single field.
func misplaced(count int) error {
	if count == 0 {
		return errors.New("the field is missing")
	}
	return errors.New("the field stands more than once in its set")
}

// prepareMessages judges what each message signature says without its key.
func (v *validation) prepareMessages() {
	for n := range v.instances {
		p, result := v.sets.list[n].message, &v.instances[n].Message
		if p.count != 1 {
			*result = dkim.Result{Status: absent(p.count), Err: misplaced(p.count)}
			continue
		}
		signature, err := dkim.ParseMessageSignature(p.tags)
		*result = signature.Claims()
		if err != nil {
			result.Status, result.Err = dkim.PermError, err
			continue
		}
		if result.Status, result.Err = v.acceptable(signature); result.Err == nil {
			v.await(result, signature, v.index.Digest(signature.SignedFields, p.field, signature.Header))
		}
	}
}

// acceptable asks what can be asked without the key.
func (v *validation) acceptable(s dkim.Signature) (dkim.Status, error) {
	if slices.Contains(s.SignedFields, strings.ToLower(SealField)) { // RFC 8617 section 4.1.2
		return dkim.PermError, errors.New("it signs seals, which it may not")
	}
	if status, err := s.Acceptable(v.index, v.now); err != nil {
		return status, err
	}
	return v.hashes.Check(s)
}

// absent is the status of a field that stands count times, and not once.
func absent(count int) dkim.Status {
	if count == 0 {
		return dkim.None
	}
	return dkim.PermError
}

// prepareSeals judges what each seal says without its key. Seals cover all sets up
// to their own, oldest first, so one hash runs along (RFC 8617 section 5.1.1).
func (v *validation) prepareSeals() {
	running, whole := newScope(), true
	for n := range v.sets.list {
		set, i := &v.sets.list[n], &v.instances[n]
		signature, err := i.readSeal(set.seal)
		if err != nil {
			v.sets.fail(fmt.Errorf("set %d: %s: %w", i.Number, SealField, err))
		}
		if whole = whole && set.whole(); whole {
			running.addOthers(set)
		}
		switch {
		case err != nil:
		case i.Claimed == Fail && set.whole(): // RFC 8617 section 5.1.2: it covers its own set
			own := newScope()
			own.addOthers(set)
			v.await(&i.Seal, signature, own.digest(set.seal.field))
		case whole:
			v.await(&i.Seal, signature, running.digest(set.seal.field))
		default:
			i.Seal.Status, i.Seal.Err = dkim.PermError, errors.New("it covers a set that is not whole")
		}
		if whole {
			running.add(set.seal.field)
		}
	}
}

// readSeal reads a seal into its place (RFC 8617 section 4.1.3).
func (i *Instance) readSeal(p part) (dkim.Signature, error) {
	if p.count != 1 {
		i.Seal.Status, i.Seal.Err = absent(p.count), misplaced(p.count)
		return dkim.Signature{}, i.Seal.Err
	}
	signature, err := dkim.ParseSeal(p.tags)
	i.Seal = signature.Claims()
	if err == nil {
		i.Claimed, err = readClaim(p.tags)
	}
	if err != nil {
		i.Seal.Status, i.Seal.Err = dkim.PermError, err
	}
	return signature, err
}

// readClaim reads the tags that only seals have.
func readClaim(tags dkim.Tags) (Status, error) {
	if _, ok := tags.Get("h"); ok { // RFC 8617 section 4.1.3
		return None, errors.New("tag h= is not allowed in a seal")
	}
	cv, ok := tags.Get("cv")
	if !ok {
		return None, errors.New("tag cv= is missing")
	}
	claimed, ok := parseStatus(cv)
	if !ok {
		return None, fmt.Errorf("tag cv=: %.20q is none of none, pass and fail", cv)
	}
	return claimed, nil
}

// parseStatus reads cv=, in any case (RFC 8617 section 3.9, as ABNF compares).
func parseStatus(v string) (Status, bool) {
	for _, s := range []Status{None, Pass, Fail} {
		if strings.EqualFold(v, s.String()) {
			return s, true
		}
	}
	return None, false
}

// await leaves a signature to its key.
func (v *validation) await(result *dkim.Result, s dkim.Signature, digest [sha256.Size]byte) {
	v.pending = append(v.pending, pending{result, s, digest})
}

// check looks the keys up and judges what is pending.
func (v *validation) check(ctx context.Context, resolver mail.Resolver) {
	keys := lookUp(ctx, resolver, v.keyNames())
	for _, p := range v.pending {
		if err := ctx.Err(); err != nil { // bounds the work that many long keys cause
			p.result.Status, p.result.Err = dkim.TempError, fmt.Errorf("not judged in time: %w", err)
			continue
		}
		k := keys[p.signature.KeyName()].Check(p.signature, p.digest)
		p.result.Status, p.result.Err = k.Status, k.Err
		p.result.KeyBits, p.result.Testing = k.Record.Bits(), k.Record.Testing
	}
}

// keyNames is where the keys of all that is pending are, each once.
func (v *validation) keyNames() []string {
	names := make([]string, len(v.pending))
	for i, p := range v.pending {
		names[i] = p.signature.KeyName()
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// lookUp asks for keys, several at once.
func lookUp(ctx context.Context, resolver mail.Resolver, names []string) map[string]dkim.Keys {
	found := make([]dkim.Keys, len(names))
	if len(names) == 1 { // most chains: one sealer
		return map[string]dkim.Keys{names[0]: dkim.LookUpKeys(ctx, resolver, names[0])}
	}
	wg := background.Limit(maxLookUps)
	for i, name := range names {
		wg.Go(func() { found[i] = dkim.LookUpKeys(ctx, resolver, name) })
	}
	wg.Wait()
	keys := make(map[string]dkim.Keys, len(names))
	for i, name := range names {
		keys[name] = found[i]
	}
	return keys
}

// conclude is RFC 8617 section 5.2 over what was judged.
func (v *validation) conclude(fields [sha256.Size]byte) Chain {
	c := Chain{Instances: v.instances, Status: Pass, SealStatus: Pass, fields: fields}
	if err := v.structure(); err != nil { // steps 1, 2 and 3
		c.Status, c.SealStatus, c.Err = Fail, Fail, err
		return c
	}
	permanent := false
	newest := c.Instances[len(c.Instances)-1]
	if newest.Message.Status != dkim.Pass { // step 4
		c.Status, c.Err = Fail, fmt.Errorf("set %d: %s: %w", newest.Number, MessageField, newest.Message.Err)
		permanent = newest.Message.Status != dkim.TempError
	}
	c.OldestPass = oldestPass(c.Instances) // step 5
	for _, i := range slices.Backward(c.Instances) {
		if i.Seal.Status == dkim.Pass {
			continue
		}
		c.Status, c.SealStatus = Fail, Fail // step 6
		if c.Err == nil {
			c.Err = fmt.Errorf("set %d: %s: %w", i.Number, SealField, i.Seal.Err)
		}
		permanent = permanent || i.Seal.Status != dkim.TempError
	}
	c.Temporary = c.Status == Fail && !permanent
	return c
}

// structure is RFC 8617 section 5.2 steps 1 to 3.
func (v *validation) structure() error {
	if v.sets.err != nil {
		return v.sets.err
	}
	for _, i := range slices.Backward(v.instances) {
		switch {
		case i.Claimed == Fail && i.Number == len(v.instances):
			return fmt.Errorf("set %d says cv=fail: the chain was broken before it", i.Number)
		case i.Number == 1 && i.Claimed != None, i.Number > 1 && i.Claimed != Pass:
			return fmt.Errorf("set %d says cv=%s, which cannot be", i.Number, i.Claimed)
		}
	}
	return nil
}

// oldestPass is RFC 8617 section 5.2 step 5.
func oldestPass(instances []Instance) int {
	for _, i := range slices.Backward(instances) {
		if i.Message.Status != dkim.Pass {
			return (i.Number + 1) % (len(instances) + 1)
		}
	}
	return 0
}
