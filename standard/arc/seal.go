package arc

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"anechoic/mail"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
)

// ErrEnded, ErrTooLong and ErrTemporary say why a chain gets no further set. The
// message may go on as it is after ErrEnded and ErrTooLong, and should be tried
// again later after ErrTemporary.
var (
	ErrEnded     = errors.New("the newest set says cv=fail: nothing follows it")         // RFC 8617 section 5.1 step 2
	ErrTooLong   = errors.New("the chain has no room for another set")                   // RFC 8617 section 4.2.1
	ErrTemporary = errors.New("the chain could not be validated now: validate it again") // a cv=fail would be for ever
)

// Seal makes the next set of a chain: ARC-Seal, ARC-Message-Signature and
// ARC-Authentication-Results, to be put on top of the header in this order. Nothing
// of the message may be changed after it (RFC 8617 section 5.1).
//
// chain is what Validate gave for this header's ARC fields; its Status becomes cv=.
// Over a chain that failed, the seal covers its own set alone (section 5.1.2).
// results is what this server saw when the message came, the arc result included.
// The message signature covers what dkim.Sign covers, with the DKIM-Signature fields,
// and the whole body in relaxed form.
//
// It refuses a chain that is not that of the header, a header without exactly one
// From field, hashes of no body, results without authserv-id and a key that is too
// weak or does not fit. RSA keys are the ones that every validator knows.
func Seal(header mail.Header, hashes dkim.BodyHashes, chain Chain, results authres.Results, signer dkim.Signer, now time.Time) ([]mail.Field, error) {
	s := readSets(header)
	if err := checkSealable(s, header, hashes, chain, results); err != nil {
		return nil, fmt.Errorf("arc: seal: %w", err)
	}
	w := writing{signer: signer, number: len(s.list) + 1, chain: chain.Status, now: now}
	var own set
	own.results.field = w.results(results)
	var err error
	if own.message.field, err = w.message(header, hashes); err == nil {
		own.seal.field, err = w.seal(s, &own)
	}
	if err != nil {
		return nil, fmt.Errorf("arc: seal set %d for %s with selector %q: %w", w.number, signer.Domain, signer.Selector, err)
	}
	return []mail.Field{own.seal.field, own.message.field, own.results.field}, nil
}

// checkSealable says why there can be no further set.
func checkSealable(s sets, header mail.Header, hashes dkim.BodyHashes, chain Chain, results authres.Results) error {
	froms := header.Count("From")
	switch {
	case fingerprint(header) != chain.fields:
		return errors.New("the chain given is not that of this header: validate the header that is to be sealed")
	case len(chain.Instances) > 0 && chain.Instances[len(chain.Instances)-1].Claimed == Fail:
		return ErrEnded
	case len(s.list) >= MaxInstances || s.fields > maxFields:
		return ErrTooLong
	case chain.Temporary:
		return ErrTemporary
	case froms != 1:
		return fmt.Errorf("the header has %d From fields, exactly one can be signed", froms)
	case hashes.Relaxed == [sha256.Size]byte{}:
		return errors.New("the body was not hashed")
	case results.ID == "":
		return errors.New("the results do not say whose they are")
	}
	return nil
}

// writing is one set in the making.
type writing struct {
	signer dkim.Signer
	number int
	chain  Status // of the older sets
	now    time.Time
}

// results is the field that says what was seen (RFC 8617 section 4.1.1).
func (w *writing) results(r authres.Results) mail.Field {
	value := "i=" + strconv.Itoa(w.number) + "; "
	return mail.NewField(ResultsField, string(r.Append([]byte(value), len(ResultsField)+len(": ")+len(value))))
}

// message signs header and body (RFC 8617 section 4.1.2). ARC fields and
// Authentication-Results may not be signed, DKIM-Signature fields should be.
func (w *writing) message(header mail.Header, hashes dkim.BodyHashes) (mail.Field, error) {
	index := dkim.NewIndex(header)
	names := dkim.FieldsToSign(index)
	for range index.Count("dkim-signature") {
		names = append(names, "dkim-signature")
	}
	canonical := index.AppendFields(make([]byte, 0, 4096), names, mail.Field{}, dkim.Relaxed)
	t, err := w.tags(MessageField)
	if err != nil {
		return mail.Field{}, err
	}
	t.Tag("c", "relaxed/relaxed")
	t.List("h", names)
	t.Tag("bh", base64.StdEncoding.EncodeToString(hashes.Relaxed[:]))
	return w.signer.Complete(t, canonical, dkim.Relaxed)
}

// seal signs the sets (RFC 8617 sections 4.1.3, 5.1.1 and 5.1.2).
func (w *writing) seal(older sets, own *set) (mail.Field, error) {
	t, err := w.tags(SealField)
	if err != nil {
		return mail.Field{}, err
	}
	t.Tag("cv", w.chain.String())
	return w.signer.Complete(t, w.covered(older, own), dkim.Relaxed)
}

// covered is what the seal signs besides itself.
func (w *writing) covered(older sets, own *set) []byte {
	b := make([]byte, 0, 4096)
	if w.chain == Pass {
		for i := range older.list {
			b = older.list[i].appendOthers(b)
			b = dkim.AppendField(b, older.list[i].seal.field, dkim.Relaxed)
		}
	}
	return own.appendOthers(b)
}

// tags starts a field with what both signatures say.
func (w *writing) tags(field string) (*dkim.TagWriter, error) {
	algorithm, err := w.signer.Uses()
	if err != nil {
		return nil, err
	}
	t := dkim.NewTagWriter(field)
	t.Tag("i", strconv.Itoa(w.number))
	t.Tag("a", algorithm.String())
	t.Tag("d", w.signer.Domain.String())
	t.Tag("s", w.signer.Selector)
	t.Tag("t", strconv.FormatInt(w.now.Unix(), 10))
	return t, nil
}
