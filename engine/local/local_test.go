package local

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"anechoic/engine/enginetest"
)

func TestLocalKeepsThePromisesOfAnEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) (enginetest.Engine, func() enginetest.Engine) {
		disk := vfs.NewMem()
		open := func() enginetest.Engine {
			e, err := Open(Options{Dir: "data", FS: disk})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		return open(), open
	})
}
