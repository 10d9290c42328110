package app

import (
	"context"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/signing"
)

// openKeys opens the signing keys and what is remembered of them: what was
// revoked is refused from here on.
func (a *App) openKeys() (err error) {
	if a.lives, err = signing.OpenLives(context.Background(), a.engine); err != nil {
		return err
	}
	if a.keys, err = signing.OpenKeys(a.config.DataDir); err != nil {
		return err
	}
	a.onStop("keys", func(context.Context) error { return a.keys.Close() })
	if name, err := signing.RSA(); err != nil {
		a.log.Warn("RSA signatures are not made by the library this program was built for", "made_by", name, "error", err)
	}
	a.signer = &signing.Signer{Keys: a.keys, Lives: a.lives, Resolver: a.resolver}
	return a.keys.Follow(a.lives)
}

// locksmith is what the key commands ask.
func (a *App) locksmith() *signing.Locksmith {
	return &signing.Locksmith{Keys: a.keys, Lives: a.lives, Signer: a.signer, Facts: keyFacts}
}

// keyFacts tell the ledger of a change of keys.
func keyFacts(o signing.Order, ref signing.KeyRef, now time.Time) []ledger.Fact {
	detail := string(o.Verb) + " " + ref.RecordName() + " (" + string(ref.Algorithm) + ")"
	if o.By != "" {
		detail += " by " + o.By
	}
	return []ledger.Fact{{Time: now.UTC(), Event: ledger.KeyChanged, Org: string(ref.Organisation), Detail: detail}}
}

// signedByRevoked holds what a key signed that was revoked since: receivers would
// find an empty p=. It cannot be signed anew, its content being what was kept; it
// stays held whenever it is released, until it is dropped.
func (a *App) signedByRevoked(id mail.ID, content custody.Content, signAs mail.Domain) *mail.Refusal {
	if !a.lives.AnyRevoked(signAs) {
		return nil
	}
	header, err := mail.ParseHeader(content.Header(), mail.HeaderLimits{})
	if err != nil {
		return mail.Internal.Because("the stored header of %s: %v", id, err)
	}
	if selector, revoked := a.lives.RevokedSignature(signAs, header); revoked {
		return mail.KeyRevoked.Because("selector %s of %s was revoked after it signed this: drop the message and have it sent again", selector, signAs)
	}
	return nil
}
