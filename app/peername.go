package app

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/relay/attribution"
)

// eopSuffix ends the names of the hosts that Microsoft 365 sends from.
const eopSuffix = ".outbound.protection.outlook.com"

// maxPeerNames bounds how many PTR records of a peer are confirmed: an honest
// address has one.
const maxPeerNames = 4

// confirmPeer looks up whether a peer's address has a name of Microsoft 365 and
// that name the address (forward-confirmed reverse DNS).
func confirmPeer(ctx context.Context, resolver mail.Resolver, peer netip.Addr) attribution.PeerName {
	names, err := resolver.PTR(ctx, peer)
	if errors.Is(err, mail.ErrNoDomain) {
		return attribution.PeerNameUnconfirmed
	}
	if err != nil {
		return attribution.PeerNameFailed
	}
	outcome := attribution.PeerNameUnconfirmed
	for _, name := range names.Records[:min(len(names.Records), maxPeerNames)] {
		if !strings.HasSuffix(strings.ToLower(name), eopSuffix) {
			continue
		}
		addresses, err := resolver.Addresses(ctx, name)
		switch {
		case err == nil && slices.Contains(addresses.Records, peer):
			return attribution.PeerNameConfirmed
		case err != nil && !errors.Is(err, mail.ErrNoDomain):
			outcome = attribution.PeerNameFailed
		}
	}
	return outcome
}
