package local

import (
	"testing"

	"anechoic/engine/enginetest"
)

func TestLocalKeepsThePromisesOfAnEngine(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) (enginetest.Engine, func() enginetest.Engine) {
		dir := t.TempDir()
		open := func() enginetest.Engine {
			e, err := Open(Options{Dir: dir, Reserve: 1})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		return open(), open
	})
}
