package ledger_test

import (
	"crypto/sha256"

	"anechoic/ledger"
)

// merkle is MTH of RFC 6962 section 2.1 over hashed leaves.
func merkle(leaves []ledger.Hash) ledger.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	left, right := merkle(leaves[:k]), merkle(leaves[k:])
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}
