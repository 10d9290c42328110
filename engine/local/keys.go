package local

import (
	"encoding/binary"
	"fmt"
	"strings"

	"anechoic/relay/custody"
)

// The first octet of a Pebble key says what is stored there.
const (
	recordSpace   = 'r' // r<key>: a record, of the ledger too
	bodySpace     = 'b' // b<name>: a small body
	manifestSpace = 'm' // m<name>: a large body's size and tag
	chunkSpace    = 'c' // c<name>/<tag, 8 octets><number, 4 octets>: a piece of a large body
)

func spaceKey(space byte, name string) []byte {
	return append(append(make([]byte, 0, 1+len(name)), space), name...)
}

// after is the first key that does not begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// manifest says of what chunks a large body is made. The tag is random: chunks
// of a write that a crash cut short are never taken for those of another.
type manifest struct {
	size int64
	tag  uint64
}

const manifestBytes = 16

func (m manifest) bytes() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, manifestBytes), uint64(m.size))
	return binary.BigEndian.AppendUint64(b, m.tag)
}

func parseManifest(b []byte) (manifest, error) {
	if len(b) != manifestBytes {
		return manifest{}, fmt.Errorf("a body's manifest has %d octets, not %d", len(b), manifestBytes)
	}
	return manifest{size: int64(binary.BigEndian.Uint64(b)), tag: binary.BigEndian.Uint64(b[8:])}, nil
}

func (m manifest) chunks() uint32 {
	return uint32((m.size + custody.ChunkThreshold - 1) / custody.ChunkThreshold)
}

func chunkPrefix(name string, tag uint64) []byte {
	return binary.BigEndian.AppendUint64(append(spaceKey(chunkSpace, name), '/'), tag)
}

func chunkKey(name string, tag uint64, n uint32) []byte {
	return binary.BigEndian.AppendUint32(chunkPrefix(name, tag), n)
}

// parseChunkKey gives name and tag of a chunk.
func parseChunkKey(key []byte) (name string, tag uint64, ok bool) {
	slash := strings.IndexByte(string(key), '/')
	if slash < 1 || len(key) != slash+1+12 {
		return "", 0, false
	}
	return string(key[1:slash]), binary.BigEndian.Uint64(key[slash+1:]), true
}
